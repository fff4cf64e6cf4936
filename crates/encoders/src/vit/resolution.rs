//! A transformer's position embeddings for another side of the images.

use portolan_tensor::{Tensor, no_grad};

use super::positions::interpolate;
use super::{Positions, VitConfig};
use crate::{Error, Result};

impl VitConfig {
    /// Interpolates trained position embeddings of this transformer,
    /// `[1, prefix + patches, width]`, for one whose images have the side `image` in pixels, as
    /// [`Vit`](crate::Vit) does for images of another size (see
    /// [`PositionScaling`](crate::PositionScaling)). A longer training at a higher resolution
    /// starts from the result.
    ///
    /// # Errors
    /// When the embeddings are not trained ones of this transformer, or the patch does not divide
    /// `image`.
    pub fn positions_for(&self, embeddings: &Tensor, image: i64) -> Result<Tensor> {
        let VitConfig { patch, width, .. } = *self;
        let (from, prefix) = (self.image / patch, i64::from(self.class_position));
        let shape = embeddings.size();
        let fits = shape == [1, prefix + from * from, width];
        if !fits || self.positions != Positions::Learned || image < patch || image % patch != 0 {
            return Err(Error::Setting(format!(
                "position embeddings of the shape {shape:?} cannot be interpolated from images of \
                 {} pixels to {image}, with patches of {patch}",
                self.image
            )));
        }
        let to = image / patch;
        Ok(no_grad(|| {
            let class = embeddings.narrow(1, 0, prefix);
            let places = embeddings.narrow(1, prefix, from * from);
            let places = interpolate(&places, (from, from), (to, to), self.position_scaling);
            Tensor::cat(&[class, places], 1)
        }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{Encoder, PositionScaling, Vit};
    use portolan_tensor::{Device, Kind, Vars};

    /// A transformer whose positions are drawn, and those.
    fn vit(config: &VitConfig) -> (Vit, Tensor) {
        let vars = Vars::new(Device::Cpu);
        let vit = Vit::new(config, &vars).unwrap();
        let state = vars.state();
        (vit, state.into_iter().find(|(name, _)| name == "pos_embed").unwrap().1)
    }

    #[test]
    fn a_finer_transformer_adds_the_positions_that_the_coarser_interpolates() {
        portolan_tensor::seed(1);
        for (class_position, position_scaling) in
            [(true, PositionScaling::ScaleFactor), (false, PositionScaling::Size)]
        {
            let plain = VitConfig::named("vit_w8d1h1_patch4_16").unwrap();
            let coarse = VitConfig { class_position, position_scaling, ..plain };
            let (small, trained) = vit(&coarse);
            let images = Tensor::zeros([1, 3, 24, 24], (Kind::Float, Device::Cpu));
            let expected = small.patches(&images).unwrap();
            let (large, positions) = vit(&VitConfig { image: 24, ..coarse.clone() });
            let resized = coarse.positions_for(&trained, 24).unwrap();
            no_grad(|| positions.shallow_clone().copy_(&resized));
            for ((_, to), (_, from)) in
                patch_projection(&large).iter().zip(patch_projection(&small))
            {
                no_grad(|| to.shallow_clone().copy_(&from));
            }
            assert!(large.patches(&images).unwrap().allclose(&expected, 1e-6, 1e-6, false));
            assert_eq!(coarse.positions_for(&trained, 16).unwrap(), trained);
        }
    }

    fn patch_projection(vit: &Vit) -> Vec<(String, Tensor)> {
        let all = vit.vars().state().into_iter();
        all.filter(|(name, _)| name.starts_with("patch_embed.")).collect()
    }

    #[test]
    fn what_cannot_be_interpolated_is_refused() {
        let config = VitConfig::named("vit_w8d1h1_patch4_16").unwrap();
        let (_, trained) = vit(&config);
        assert!(config.positions_for(&trained, 18).unwrap_err().to_string().contains("18"));
        assert!(config.positions_for(&trained.narrow(1, 0, 5), 24).is_err());
        let fixed = VitConfig { positions: Positions::SineCosine, ..config };
        assert!(fixed.positions_for(&trained, 24).is_err());
    }
}
