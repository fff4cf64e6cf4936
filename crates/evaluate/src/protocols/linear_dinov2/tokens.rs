//! The frozen tokens that the classifiers read.

use portolan_encoders::Vit;
use portolan_tensor::{Kind, Tensor, channels_last, no_grad, upload};

use crate::error::{Error, Result};
use crate::images::LoadedImages;
use crate::labels;
use crate::protocols::finetune::Finetuning;

/// The frozen tokens of images.
pub(super) struct Tokens<'a> {
    pub(super) vit: &'a Vit,
    pub(super) on: &'a Finetuning<'a>,
}

impl Tokens<'_> {
    /// How many last blocks the wider inputs read: 4 (`n_last_blocks_list`).
    pub(super) fn blocks(&self) -> i64 {
        self.vit.config().depth.min(4)
    }

    /// The class tokens of the last blocks, side by side, then the mean patch token of the last
    /// block: `[batch, (blocks + 1) · width]`, float32. Every input of `create_linear_input` is a
    /// range of these columns.
    pub(super) fn of(&self, read: &LoadedImages) -> Result<Tensor> {
        let device = self.on.device;
        let x = channels_last(&upload(&read.x, device));
        let blocks = self
            .on
            .precision
            .run(device, || no_grad(|| self.vit.last_blocks(&x, self.blocks() as usize)))
            .map_err(Error::dependency)?
            .map_err(Error::dependency)?;
        let tokens = columns(&blocks, self.vit.prefix_tokens());
        if !bool::try_from(tokens.isfinite().all())? {
            return Err(Error::NotFinite);
        }
        Ok(tokens)
    }

    /// The labels of images of the test or training split, `[batch]`, on the device.
    pub(super) fn labels(&self, read: &LoadedImages, test: bool) -> Result<Tensor> {
        let source = if test { self.on.test } else { self.on.train };
        let labels: Option<Vec<i64>> =
            read.ids.iter().map(|&id| source.label(id).map(i64::from)).collect();
        let labels = labels.ok_or(Error::Unlabeled(
            "linear classifiers need labeled images; put each class's into a folder of its own",
        ))?;
        let labels = Tensor::from_slice(&labels);
        labels::check(&labels, &read.x, self.on.classes)?;
        Ok(upload(&labels, self.on.device))
    }
}

/// See [`Tokens::of`].
fn columns(blocks: &[Tensor], prefix: i64) -> Tensor {
    let mut columns: Vec<Tensor> =
        blocks.iter().map(|tokens| tokens.select(1, 0).to_kind(Kind::Float)).collect();
    let last = &blocks[blocks.len() - 1];
    let patches = last.narrow(1, prefix, last.size()[1] - prefix);
    columns.push(patches.mean_dim([1i64].as_slice(), false, Kind::Float));
    Tensor::cat(&columns, 1)
}

/// What a classifier reads of [`Tokens`].
pub(super) struct Input {
    pub(super) blocks: i64,
    pub(super) mean_patch: bool,
    /// The range of columns.
    first: i64,
    pub(super) width: i64,
}

impl Input {
    pub(super) fn of(&self, tokens: &Tensor) -> Tensor {
        tokens.narrow(1, self.first, self.width)
    }
}

/// The inputs of `setup_linear_classifiers`: one and `most` blocks, each without and with the mean
/// patch token.
pub(super) fn inputs(most: i64, width: i64) -> Vec<Input> {
    let mut blocks = vec![1, most];
    blocks.dedup();
    let both = blocks.into_iter().flat_map(|blocks| [(blocks, false), (blocks, true)]);
    let input = |(blocks, mean_patch)| Input {
        blocks,
        mean_patch,
        first: (most - blocks) * width,
        width: (blocks + i64::from(mean_patch)) * width,
    };
    both.map(input).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use portolan_encoders::VitConfig;
    use portolan_tensor::{Device, Vars, seed};

    #[test]
    fn inputs_are_those_of_create_linear_input() {
        seed(0);
        let config = VitConfig { registers: 2, ..VitConfig::plain([8, 5, 2], 4, 16) };
        let vit = Vit::new(&config, &Vars::new(Device::Cpu)).unwrap();
        let x = Tensor::randn([3, 3, 16, 16], (Kind::Float, Device::Cpu));
        let blocks = no_grad(|| vit.last_blocks(&x, 4)).unwrap();
        let class = |n: usize| blocks[n].select(1, 0);
        let patches = blocks[3].narrow(1, 3, 16).mean_dim([1i64].as_slice(), false, Kind::Float);
        let four = Tensor::cat(&[class(0), class(1), class(2), class(3)], 1);
        let expected = [
            class(3),
            Tensor::cat(&[&class(3), &patches], 1),
            four.shallow_clone(),
            Tensor::cat(&[&four, &patches], 1),
        ];
        let columns = columns(&blocks, vit.prefix_tokens());
        for (input, expected) in inputs(4, 8).iter().zip(expected) {
            assert!(input.of(&columns).equal(&expected));
        }
        let of_one: Vec<_> = inputs(1, 8).iter().map(|input| input.mean_patch).collect();
        assert_eq!(of_one, [false, true], "a transformer of one block has two inputs");
    }
}
