//! Jigsaw puzzles: Noroozi, Favaro 2016, *Unsupervised Learning of Visual Representations by
//! Solving Jigsaw Puzzles*, arXiv 1603.09246.

use portolan_augment::ViewSpec;
use portolan_encoders::{Encoder, EncoderConfig, build, layers::Linear};
use portolan_method::{
    Batch, ImageMethod, Method, Result, StepContext, StepLoss, ensure_setting, validate_views,
};
use portolan_optim::ParamGroup;
use portolan_random::Purpose;
use portolan_tensor::{
    Device, Kind, Reduction, Tensor, Vars, at_least_f32, full_precision, no_grad, prefixed,
};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::permutations;

/// Tiles of a side.
const GRID: i64 = 3;
const TILES: usize = 9;

/// The settings of the jigsaw puzzle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JigsawConfig {
    /// Number of permutations, which are the classes: up to 1,000 (table 4); 100 in the authors'
    /// code.
    pub permutations: usize,
    /// Side of a tile in pixels: 64, in a cell of 75 (figure 3). The tile moves at random within
    /// its cell, and the rest of the cell is a gap between tiles, so that edges do not reveal the
    /// order.
    pub tile: i64,
    /// Dimensions of a tile's features: 512 (figure 3, fc6).
    pub tile_dim: i64,
    /// Width of the hidden layer over all tiles: 4,096 (figure 3, fc7).
    pub hidden: i64,
}

impl Default for JigsawConfig {
    fn default() -> Self {
        JigsawConfig { permutations: 1000, tile: 64, tile_dim: 512, hidden: 4096 }
    }
}

/// The jigsaw puzzle, ready to train. As in the paper's context-free network, each tile goes
/// through the encoder separately.
#[derive(Debug)]
pub struct Jigsaw {
    config: JigsawConfig,
    views: Vec<ViewSpec>,
    /// `[permutations, 9]`: which tile each position gets.
    orders: Tensor,
    encoder: Box<dyn Encoder>,
    head_vars: Vars,
    fc6: Linear,
    fc7: Linear,
    fc8: Linear,
}

impl Jigsaw {
    /// Chooses the permutations and builds the networks with initial values from libtorch's
    /// generator.
    ///
    /// # Errors
    /// When a setting is out of range or contradicts another; the message names it.
    pub fn new(
        config: JigsawConfig,
        encoder: &EncoderConfig,
        views: Vec<ViewSpec>,
        device: Device,
    ) -> Result<Self> {
        validate_views("the jigsaw puzzle", &views, 1, encoder)?;
        encoder.validate_size(config.tile)?;
        let cell = i64::from(views[0].size()) / GRID;
        ensure_setting(config.tile >= 1 && config.tile <= cell, || {
            format!(
                "a tile of {} pixels is larger than a cell of {cell}, a third of the view",
                config.tile
            )
        })?;
        ensure_setting((2..=2000).contains(&config.permutations), || {
            format!(
                "permutations is {}; it must be from 2 to 2000 (1000 in the paper)",
                config.permutations
            )
        })?;
        ensure_setting(config.tile_dim >= 1 && config.hidden >= 1, || {
            "tile_dim and hidden must be at least 1".to_owned()
        })?;
        let orders: Vec<i64> =
            permutations(config.permutations).iter().flatten().map(|&tile| tile.into()).collect();
        let orders = Tensor::from_slice(&orders).view([-1, TILES as i64]).to_device(device);
        let encoder = build(encoder, &Vars::new(device))?;
        let head_vars = Vars::new(device);
        let layer = |name, from, to| Linear::new(&(&head_vars / name), from, to, true);
        let (tile_dim, hidden) = (config.tile_dim, config.hidden);
        Ok(Jigsaw {
            fc6: layer("fc6", encoder.width(), tile_dim),
            fc7: layer("fc7", TILES as i64 * tile_dim, hidden),
            fc8: layer("fc8", hidden, config.permutations as i64),
            config,
            views,
            orders,
            encoder,
            head_vars,
        })
    }

    /// The tiles of every image in their original order, `[batch, 9, 3, tile, tile]`. Each has a
    /// random position in its cell and is normalized separately, so that neither adjacent edges nor
    /// a common brightness reveal its place (section 4.2).
    fn tiles(&self, images: &Tensor, cx: &StepContext) -> Tensor {
        let (batch, cell) = (images.size()[0], images.size()[2] / GRID);
        let tile = self.config.tile;
        // Row and column within the cell, for each tile and image.
        let whole = batch * cx.processes();
        let drawn = cx.tensor_input(move |cx| {
            let mut rng = cx.rng(Purpose::Tiles, 0);
            let draws = 0..TILES as i64 * 2 * whole;
            let drawn: Vec<i64> = draws.map(|_| rng.random_range(0..=cell - tile)).collect();
            cx.shard(&Tensor::from_slice(&drawn).view([-1, 2, whole, 1]), 2).contiguous()
        });
        let within = drawn + Tensor::arange(tile, (Kind::Int64, cx.device)); // […, tile]
        let side = images.size()[2];
        let planes = images.flatten(2, 3); // [batch, 3, side · side]
        let cut = |n: i64| {
            let places = within.get(n);
            let (rows, columns) =
                (places.get(0) + n / GRID * cell, places.get(1) + n % GRID * cell);
            let pixels = (rows.unsqueeze(2) * side + columns.unsqueeze(1)).view([batch, 1, -1]);
            let cut = planes.gather(2, &pixels.expand([-1, 3, -1], false), false);
            let mean = cut.mean_dim([2i64].as_slice(), true, None::<Kind>);
            let deviation = cut.std_dim([2i64].as_slice(), false, true);
            ((cut - mean) / (deviation + 1e-2)).view([batch, 3, tile, tile])
        };
        let tiles: Vec<Tensor> = (0..TILES as i64).map(cut).collect();
        Tensor::stack(&tiles, 1)
    }

    /// Which permutation each image gets, `[batch]`.
    fn drawn(&self, batch: i64, cx: &StepContext) -> Tensor {
        let (choices, whole) = (self.config.permutations as i64, batch * cx.processes());
        cx.tensor_input(move |cx| {
            let mut rng = cx.rng(Purpose::Tiles, 1);
            let drawn: Vec<i64> = (0..whole).map(|_| rng.random_range(0..choices)).collect();
            cx.shard(&Tensor::from_slice(&drawn), 0)
        })
    }
}

impl Method for Jigsaw {
    fn params(&self) -> Vec<ParamGroup> {
        let mut params = prefixed("encoder", self.encoder.vars().parameters());
        params.extend(prefixed("head", self.head_vars.parameters()));
        vec![ParamGroup::all("network", params)]
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = prefixed("encoder", self.encoder.vars().state());
        state.extend(prefixed("head", self.head_vars.state()));
        state
    }

    /// Figure 3: the encoder sees one tile at a time; the layers above see all tiles in their
    /// shuffled order.
    fn loss(&mut self, batch: &Batch, cx: &StepContext) -> Result<StepLoss> {
        let images = batch.single()?;
        let n = images.size()[0];
        let tiles = self.tiles(images, cx);
        let drawn = self.drawn(n, cx);
        let features = self.encoder.forward(&tiles.flatten(0, 1), true);
        let tiles = self.fc6.forward(&features).relu().view([n, TILES as i64, -1]);
        let order = self.orders.index_select(0, &drawn).unsqueeze(-1);
        let shuffled = tiles.gather(1, &order.expand([-1, -1, tiles.size()[2]], false), false);
        let logits = self.fc8.forward(&self.fc7.forward(&shuffled.flatten(1, 2)).relu());
        let logits = at_least_f32(&logits);
        let loss = full_precision(cx.device, || {
            logits.cross_entropy_loss(&drawn, None::<Tensor>, Reduction::Mean, -100, 0.0)
        })?;
        let right = no_grad(|| logits.argmax(1, false).eq_tensor(&drawn));
        Ok(StepLoss {
            loss,
            metrics: vec![("task_top1", StepLoss::fraction(&right))],
            outputs: None,
        })
    }
}

impl ImageMethod for Jigsaw {
    fn views(&self) -> &[ViewSpec] {
        &self.views
    }

    fn encoder(&self) -> &dyn Encoder {
        &*self.encoder
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use portolan_augment::presets;

    fn puzzle(tile: i64) -> Result<Jigsaw> {
        let encoder = EncoderConfig::named("resnet18-w4").unwrap();
        let config = JigsawConfig { permutations: 8, tile, tile_dim: 4, hidden: 8 };
        Jigsaw::new(config, &encoder, vec![presets::mae(24)], Device::Cpu)
    }

    const CX: StepContext = StepContext::new(0, 1, Device::Cpu).with_seed(1);

    #[test]
    fn tiles_lie_within_their_cells_at_drawn_places() {
        // Every pixel says its place: row in the first channel, column in the second.
        let side = 24;
        let ramp = Tensor::arange(side, (Kind::Float, Device::Cpu));
        let rows = ramp.view([-1, 1]).expand([side, side], false);
        let columns = ramp.view([1, -1]).expand([side, side], false);
        let noise = Tensor::randn([side, side], (Kind::Float, Device::Cpu));
        let image = Tensor::stack(&[rows, columns, noise], 0).unsqueeze(0).repeat([40, 1, 1, 1]);
        let tiles = puzzle(6).unwrap().tiles(&image, &CX);
        assert_eq!(tiles.size(), [40, 9, 3, 6, 6]);
        // Normalized by itself: a ramp of the tile's own size whatever its place.
        let first = tiles.get(0).get(0).get(0);
        assert!(first.allclose(&tiles.get(7).get(8).get(0), 1e-4, 1e-4, false));
        let mean = tiles.mean_dim([3i64, 4].as_slice(), false, Kind::Float).abs().max();
        assert!(mean.double_value(&[]) < 1e-5);
        // The noise differs where the place does.
        let noises = (1..40).filter(|&i| tiles.get(i).get(4).get(2) != tiles.get(0).get(4).get(2));
        assert!(noises.count() > 20, "places are drawn");
    }

    #[test]
    fn a_tile_larger_than_its_cell_is_refused() {
        assert!(puzzle(8).is_ok());
        assert!(puzzle(9).err().unwrap().to_string().contains("larger than a cell of 8"));
    }
}
