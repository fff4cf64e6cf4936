//! Views on one core, from decoded images, in images per second. An image of a training preset is
//! both its views, as contrastive methods take them; of the evaluation preset, its one view.
//!
//! `cargo bench -p portolan-benches --bench views`

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use image::{Rgb, RgbImage};
use portolan_augment::{ViewSpec, cpu, presets};
use portolan_random::{Purpose, stream};

fn small(c: &mut Criterion) {
    let images: Vec<_> = (0..64).map(|i| picture(i, 32, 32)).collect();
    let presets = [
        ("small_images", presets::small_images(32), 2),
        ("moco_v2", presets::moco_v2(32), 2),
        ("simclr", presets::simclr(32), 2),
        ("evaluation", presets::evaluation(32, 32), 1),
    ];
    measure(c, "views at 32 px", &images, &presets);
}

fn large(c: &mut Criterion) {
    let images: Vec<_> = (0..16).map(|i| picture(i, 500, 375)).collect();
    let presets = [
        ("moco_v1", presets::moco_v1(224), 2),
        ("moco_v2", presets::moco_v2(224), 2),
        ("simclr", presets::simclr(224), 2),
        ("evaluation", presets::evaluation(256, 224), 1),
    ];
    measure(c, "views at 224 px from 500 × 375", &images, &presets);
}

/// Times each preset (its name, the specification, views an image) on one thread, going through the
/// images and their random streams in turn.
fn measure(c: &mut Criterion, name: &str, images: &[RgbImage], presets: &[(&str, ViewSpec, u64)]) {
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Elements(1));
    for (preset, spec, views) in presets {
        let mut out = vec![0.0; 3 * (spec.size() as usize).pow(2)];
        let mut item = 0;
        group.bench_function(*preset, |bencher| {
            bencher.iter(|| {
                item += 1;
                for view in 0..*views {
                    let mut rng = stream(0, Purpose::View, &[0, item, view]);
                    cpu::view(spec, &images[item as usize % images.len()], &mut rng, &mut out);
                }
            });
        });
    }
    group.finish();
}

/// A picture with smooth and busy parts of all colors, another one for each `i`.
fn picture(i: u32, width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([x * 255 / width + i, y * 255 / height, (x * (y + i)) % 251]
            .map(|level| level.min(255) as u8))
    })
}

criterion_group!(views, small, large);
criterion_main!(views);
