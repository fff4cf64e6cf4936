//! The built-in `shapes`.

use portolan_shapes::{Shapes, VERSION};

use crate::error::Result;
use crate::source::{ImageData, Source};

impl Source for Shapes {
    fn len(&self) -> usize {
        Shapes::len(self)
    }

    fn image(&self, index: usize) -> Result<ImageData> {
        Ok(ImageData::Decoded(self.render(index).image))
    }

    fn label(&self, index: usize) -> Option<u32> {
        Some(self.kind(index).label())
    }

    fn describe(&self, index: usize) -> String {
        format!("{} {index} of {VERSION}", self.kind(index).name())
    }
}

#[cfg(test)]
mod tests {
    use portolan_shapes::Split;

    use super::*;

    #[test]
    fn shapes_are_labeled_and_described() -> Result<()> {
        let source: &dyn Source = &Shapes::new(Split::Train, 20, 32, 0)?;
        assert_eq!((source.len(), source.label(13)), (20, Some(3)));
        assert_eq!(source.describe(13), "star 13 of shapes-1");
        Ok(())
    }
}
