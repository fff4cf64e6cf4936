//! Draws a contact sheet of the built-in data: ten images of each kind, one kind a column.
//!
//! `cargo run --release -p portolan-shapes --example render -- sheet.png`

use anyhow::{Context, Result};
use image::{RgbImage, imageops};
use portolan_shapes::{CLASSES, Shapes, Split};

const SIZE: u32 = 96;
const ROWS: u32 = 10;

fn main() -> Result<()> {
    let path = std::env::args().nth(1).context("say where the sheet goes: render sheet.png")?;
    let columns = CLASSES.len() as u32;
    let shapes = Shapes::new(Split::Train, (ROWS * columns) as usize, SIZE, 0)?;
    let mut sheet = RgbImage::new(columns * SIZE, ROWS * SIZE);
    for index in 0..ROWS * columns {
        let (row, column) = (index / columns, index % columns);
        let image = shapes.render(index as usize).image;
        imageops::replace(&mut sheet, &image, i64::from(column * SIZE), i64::from(row * SIZE));
    }
    sheet.save(&path).with_context(|| format!("cannot write the contact sheet {path}"))
}
