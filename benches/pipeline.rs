//! From a JPEG to a batch's views on one core, in images per second: the rows of `cpu_augment.py`, which measures the
//! Python libraries on the same photographs.
//!
//! `PORTOLAN_PHOTOS=DATA cargo bench -p portolan-benches --bench pipeline`; without the variable, the photographs
//! beside the workspace (`../shared/datasets/photos`).

use anyhow::{Context, Result, bail};
use criterion::{Criterion, Throughput};
use image::RgbImage;
use image::imageops::{FilterType, resize};
use portolan_augment::{ViewSpec, cpu, presets};
use portolan_data::{Options, Picture, decode};
use portolan_random::{Purpose, stream};

fn main() -> Result<()> {
    let files = photographs()?;
    let images: Vec<RgbImage> = files.iter().map(|file| decode(file)).collect::<Result<_>>()?;
    let small: Vec<RgbImage> =
        images.iter().map(|image| resize(image, 32, 32, FilterType::Triangle)).collect();
    let mut criterion = Criterion::default().configure_from_args();

    let mut group = criterion.benchmark_group("pipeline");
    group.throughput(Throughput::Elements(1)).sample_size(20);
    let mut n = 0;
    group.bench_function("decode", |bencher| {
        bencher.iter(|| {
            n += 1;
            decode(&files[n % files.len()])
        });
    });
    let jobs = [
        ("decode, SimCLR 224, two views", vec![presets::simclr(224); 2]),
        ("decode, DINO 2×224 and 8×96", presets::dino(224, 96, 8)),
        ("decode, MAE 224", vec![presets::mae(224)]),
    ];
    for (name, views) in jobs {
        let mut job = Job::new(views);
        group.bench_function(name, |bencher| {
            bencher.iter(|| decode(&files[job.item % files.len()]).map(|image| job.run(&image)));
        });
    }
    let jobs = [
        ("SimCLR 224, two views, decoded", vec![presets::simclr(224); 2], &images),
        ("SimCLR 32, two views, decoded", vec![presets::small_images(32); 2], &small),
    ];
    for (name, views, images) in jobs {
        let mut job = Job::new(views);
        group.bench_function(name, |bencher| {
            bencher.iter(|| job.run(&images[job.item % images.len()]));
        });
    }
    group.finish();
    criterion.final_summary();
    Ok(())
}

/// Views of one image after the other, written where a batch's would be.
struct Job {
    views: Vec<(ViewSpec, Vec<f32>)>,
    item: usize,
}

impl Job {
    fn new(views: Vec<ViewSpec>) -> Self {
        let room = |spec: &ViewSpec| vec![0.0; 3 * (spec.size() as usize).pow(2)];
        let views = views.into_iter().map(|spec| (spec.clone(), room(&spec))).collect();
        Job { views, item: 0 }
    }

    fn run(&mut self, image: &RgbImage) {
        self.item += 1;
        for (view, (spec, out)) in self.views.iter_mut().enumerate() {
            let mut rng = stream(0, Purpose::View, &[0, self.item as u64, view as u64]);
            cpu::view(spec, image, &mut rng, out);
        }
    }
}

/// The encoded pictures of the data set, the first 200.
fn photographs() -> Result<Vec<Vec<u8>>> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/datasets/photos");
    let data = std::env::var("PORTOLAN_PHOTOS").unwrap_or(beside.to_owned());
    let source = portolan_data::open(&data, &Options::default())
        .context("set PORTOLAN_PHOTOS to photographs, in any form that --data takes")?
        .train;
    let encoded = |i| match source.picture(i)? {
        Picture::Encoded(bytes) => Ok(bytes),
        Picture::Decoded(_) => bail!("{data} holds no encoded pictures"),
    };
    (0..source.len().min(200)).map(encoded).collect()
}
