//! MAE's decoder (section 3, "MAE decoder"), which is dropped after training.

use portolan_encoders::layers::{LayerNorm, Linear};
use portolan_encoders::positions::sine_cosine;
use portolan_encoders::{Block, BlockConfig, Init, VitConfig};
use portolan_tensor::{Kind, Tensor, Vars};

use crate::MaeConfig;

/// A small transformer over all patches: the encoded visible patches at their positions, and a mask
/// token at each hidden one. The tensors are named as in the authors' code.
#[derive(Debug)]
pub(crate) struct Decoder {
    embed: Linear,
    mask_token: Tensor,
    /// `[1, 1 + patches, width]`, the class token's first.
    pos_embed: Tensor,
    blocks: Vec<Block>,
    norm: LayerNorm,
    pred: Linear,
}

impl Decoder {
    pub(crate) fn new(vars: &Vars, encoder: &VitConfig, config: &MaeConfig) -> Self {
        let width = config.decoder_width;
        let float = (Kind::Float, vars.device());
        let grid = encoder.image / encoder.patch;
        let places = sine_cosine(grid, grid, width, vars.device());
        let places = Tensor::cat(&[Tensor::zeros([1, 1, width], float), places], 1);
        let blocks = vars / "decoder_blocks";
        let init = Init::XavierFused; // models_mae.py: the encoder's and the decoder's alike
        let block = BlockConfig::plain(width, config.decoder_heads, init);
        let block = |i| Block::new(&(&blocks / i), &block);
        let numbers = 3 * encoder.patch * encoder.patch;
        Decoder {
            embed: init.linear(&(vars / "decoder_embed"), encoder.width, width),
            mask_token: vars.parameter("mask_token", Tensor::randn([1, 1, width], float) * 0.02),
            pos_embed: vars.buffer("decoder_pos_embed", places),
            blocks: (0..config.decoder_depth).map(block).collect(),
            norm: LayerNorm::new(&(vars / "decoder_norm"), width),
            pred: init.linear(&(vars / "decoder_pred"), width, numbers),
        }
    }

    /// The pixels of every patch, `[batch, patches, patch · patch · 3]`, from the encoded tokens
    /// `[batch, 1 + visible, width]`. `restore`, `[batch, patches]`, is the index of each patch in
    /// the list of visible patches followed by hidden ones.
    pub(crate) fn forward(&self, tokens: &Tensor, restore: &Tensor, train: bool) -> Tensor {
        let x = self.embed.forward(tokens);
        let (batch, seen) = (x.size()[0], x.size()[1] - 1);
        let hidden = restore.size()[1] - seen;
        let width = x.size()[2];
        let masks = self.mask_token.to_kind(x.kind()).expand([batch, hidden, width], false);
        let shuffled = Tensor::cat(&[x.narrow(1, 1, seen), masks], 1);
        let index = restore.unsqueeze(-1).expand([-1, -1, width], false);
        let patches = shuffled.gather(1, &index, false);
        let mut x = Tensor::cat(&[x.narrow(1, 0, 1), patches], 1) + &self.pos_embed;
        for block in &self.blocks {
            x = block.forward(&x, train);
        }
        let patches = x.size()[1] - 1;
        self.pred.forward(&self.norm.forward(&x)).narrow(1, 1, patches)
    }
}
