//! The built-in `shapes`, with the class and depth of each pixel.

use image::Luma;
use portolan_shapes::{CLASSES, Shapes, VERSION};

use super::item::{ClassMap, DenseItem, DenseSource};
use crate::error::Result;

/// The classes: the background, then the kinds of object.
pub(super) fn classes() -> Vec<String> {
    std::iter::once("background").chain(CLASSES).map(str::to_owned).collect()
}

/// A split of `shapes`.
pub(super) struct DenseShapes(pub(super) Shapes);

impl DenseSource for DenseShapes {
    fn len(&self) -> usize {
        self.0.len()
    }

    /// A pixel is the object's if at least half of it is.
    fn item(&self, index: usize) -> Result<DenseItem> {
        let rendered = self.0.render(index);
        let class = rendered.kind.label() as u16 + 1;
        let mask = &rendered.mask;
        let classes = ClassMap::from_fn(mask.width(), mask.height(), |x, y| {
            Luma([if mask.get_pixel(x, y)[0] >= 128 { class } else { 0 }])
        });
        let depth = Some(self.0.depth(index));
        Ok(DenseItem { image: rendered.image, classes: Some(classes), depth })
    }

    fn describe(&self, index: usize) -> String {
        format!("{} {index} of {VERSION}", self.0.kind(index).name())
    }
}
