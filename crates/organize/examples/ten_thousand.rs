//! How long ten thousand images take once they are embedded.
//!
//! `cargo run --example ten_thousand -p portolan-organize`
//!
//! The embeddings are 40 noisy directions in 512 dimensions, grouped along the first 32, as the
//! program does along 32 principal components.

use portolan_organize::{Embeddings, dense_clusters, groups, nearest};
use portolan_random::{Purpose, stream};
use rand::RngExt;
use std::time::Instant;

const IMAGES: usize = 10_000;

fn main() -> portolan_organize::Result<()> {
    let (wide, narrow) = (embeddings(512)?, embeddings(32)?);
    let start = Instant::now();
    let found = groups(&narrow, None)?;
    println!("{} groups: {:.1} s", found.count, start.elapsed().as_secs_f64());
    let start = Instant::now();
    let clusters = dense_clusters(&narrow)?;
    let count = clusters.iter().max().map_or(0, |last| last + 1);
    println!("{count} dense clusters: {:.1} s", start.elapsed().as_secs_f64());
    let start = Instant::now();
    std::hint::black_box(nearest(&wide, 8));
    println!("neighbors: {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

fn embeddings(width: usize) -> portolan_organize::Result<Embeddings> {
    let mut rng = stream(0, Purpose::Shapes, &[]);
    let mut draw = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.random_range(-1.0..1.0)).collect() };
    let centers: Vec<Vec<f32>> = (0..40).map(|_| draw(width)).collect();
    let values = (0..IMAGES)
        .flat_map(|i| {
            let center = &centers[i % centers.len()];
            draw(width)
                .into_iter()
                .zip(center)
                .map(|(noise, c)| c + 0.7 * noise)
                .collect::<Vec<_>>()
        })
        .collect();
    Embeddings::new(values, width)
}
