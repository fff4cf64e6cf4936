//! A network of DINOv2: student or teacher.

use portolan_encoders::{Vit, VitConfig};
use portolan_method::{DinoHead, Result};
use portolan_tensor::{Device, Tensor, Vars};

use crate::{Dinov2Config, Masks};

/// An encoder and its heads.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) vars: Vars,
    pub(crate) encoder: Vit,
    /// The head of the class tokens.
    pub(crate) head: DinoHead,
    /// The head of the patches, where it is not the same.
    ibot_head: Option<DinoHead>,
}

impl Network {
    pub(crate) fn new(config: &Dinov2Config, vit: &VitConfig, device: Device) -> Result<Self> {
        let vars = Vars::new(device);
        let encoder = Vit::new(vit, &(&vars / "encoder"))?;
        let head = DinoHead::new(&(&vars / "head"), vit.width, &config.head.sizes());
        let ibot_head = config
            .own_ibot_head()
            .map(|head| DinoHead::new(&(&vars / "ibot_head"), vit.width, &head.sizes()));
        Ok(Network { vars, encoder, head, ibot_head })
    }

    /// The class tokens, `[images, width]`, and the patch tokens, `[images · patches, width]`.
    pub(crate) fn tokens(
        &self,
        images: &Tensor,
        mask: Option<&Tensor>,
        train: bool,
    ) -> Result<[Tensor; 2]> {
        let tokens = self.encoder.tokens(images, mask, train)?;
        let prefix = self.encoder.prefix_tokens();
        let patches = tokens.narrow(1, prefix, tokens.size()[1] - prefix);
        Ok([tokens.select(1, 0), patches.flatten(0, 1)])
    }

    /// The class tokens of views, `[views · batch, width]` in all. Consecutive views of one size
    /// share a forward pass.
    pub(crate) fn class_tokens(&self, views: &[Tensor], train: bool) -> Result<Vec<Tensor>> {
        let groups = views.chunk_by(|a, b| a.size() == b.size());
        let class =
            |group| self.tokens(&Tensor::cat(group, 0), None, train).map(|[class, _]| class);
        groups.map(class).collect()
    }

    /// The head's outputs for the masked patches among all patch tokens, `[rows, K]`.
    pub(crate) fn masked_patches(&self, patches: &Tensor, masks: &Masks) -> Tensor {
        let head = self.ibot_head.as_ref().unwrap_or(&self.head);
        head.forward(&patches.index_select(0, &masks.rows), true)
    }
}
