//! From a JPEG to a batch's views, in images per second on one core where nothing else is said: the
//! rows of `cpu_augment.py`, which measures the Python libraries on the same photographs.
//!
//! `PORTOLAN_PHOTOS=DATA cargo bench -p portolan-benches --bench pipeline`; without the variable,
//! the photographs beside the workspace (`../shared/datasets/photos`).

use anyhow::{Context, Result, bail};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use image::RgbImage;
use image::imageops::{FilterType, resize};
use portolan_augment::{Draws, Interpolation, Op, ViewSpec, cpu, device, presets};
use portolan_data::{ImageData, Options, decode, decode_region};
use portolan_random::{Purpose, Stream, stream};
use portolan_tensor::{Tensor, tch};
use rayon::prelude::*;

type Group<'a> = BenchmarkGroup<'a, WallTime>;

fn main() -> Result<()> {
    let files = encoded_images()?;
    let images: Vec<RgbImage> =
        files.iter().map(|file| Ok(decode(file)?)).collect::<Result<_>>()?;
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
        ("decode, SimCLR 224, two views", vec![as_lightly_has_it(); 2]),
        ("decode, SimCLR 224, two views, bicubic", vec![presets::simclr(224); 2]),
        ("decode, DINO 2×224 and 8×96", presets::dino(224, 96, 8)),
        ("decode, MAE 224", vec![presets::mae(224)]),
    ];
    for (name, views) in jobs {
        let mut job = Job::new(views);
        group.bench_function(name, |bencher| {
            bencher.iter(|| job.run_on(&files[job.item % files.len()]));
        });
    }
    let jobs = [
        ("SimCLR 224, two views, decoded", vec![as_lightly_has_it(); 2], &images),
        ("SimCLR 32, two views, decoded", vec![presets::small_images(32); 2], &small),
    ];
    for (name, views, images) in jobs {
        let mut job = Job::new(views);
        group.bench_function(name, |bencher| {
            bencher.iter(|| job.run(&images[job.item % images.len()]));
        });
    }
    for threads in [1, 2] {
        on_threads(&mut group, &files, threads)?;
    }
    on_the_device(&mut group, &small);
    group.finish();
    criterion.final_summary();
    Ok(())
}

/// SimCLR's view as lightly's `SimCLRTransform` makes it: its authors' operations, but resized
/// bilinearly.
fn as_lightly_has_it() -> ViewSpec {
    let mut spec = presets::simclr(224);
    if let Some(Op::RandomResizedCrop { interpolation, .. }) = spec.ops.first_mut() {
        *interpolation = Interpolation::Bilinear;
    }
    spec
}

/// All photographs once, by so many threads.
fn on_threads(group: &mut Group, files: &[Vec<u8>], threads: usize) -> Result<()> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    group.throughput(Throughput::Elements(files.len() as u64)).sample_size(10);
    let name = format!("decode, SimCLR 224, two views, {threads} threads");
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            let job = || Job::new(vec![as_lightly_has_it(); 2]);
            let each = files.par_iter().map_init(job, |job, file| job.run_on(file));
            pool.install(|| each.collect::<Result<()>>())
        });
    });
    Ok(())
}

/// The device engine on one thread of the CPU, two views of 256 small images that lie there.
fn on_the_device(group: &mut Group, small: &[RgbImage]) {
    const BATCH: usize = 256;
    tch::set_num_threads(1);
    let spec = presets::small_images(32);
    let bytes: Vec<u8> =
        small.iter().cycle().take(BATCH).flat_map(|image| image.as_raw().clone()).collect();
    let images = Tensor::from_slice(&bytes).view([BATCH as i64, 32, 32, 3]);
    let mut step = 0;
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("SimCLR 32, two views, decoded, device engine", |bencher| {
        bencher.iter(|| {
            step += 1;
            [0, 1].map(|view| {
                let mut rng = stream(0, Purpose::BatchViews, &[step, 0, view]);
                device::views(&images, &Draws::new(&spec, &[(32, 32); BATCH], &mut rng))
            })
        });
    });
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

    /// Decodes what the views look at, as the loader does, and makes them.
    fn run_on(&mut self, file: &[u8]) -> Result<()> {
        let item = self.item;
        let image = decode_region(file, |width, height| {
            let views = self.views.iter().enumerate();
            cpu::needed_area((width, height), views.map(|(v, (spec, _))| (spec, rng(item, v))))
        })?;
        self.run(&image);
        Ok(())
    }

    fn run(&mut self, image: &RgbImage) {
        for (view, (spec, out)) in self.views.iter_mut().enumerate() {
            cpu::view(spec, image, &mut rng(self.item, view), out);
        }
        self.item += 1;
    }
}

fn rng(item: usize, view: usize) -> Stream {
    stream(0, Purpose::View, &[0, item as u64, view as u64])
}

/// The encoded pictures of the data set, the first 200.
fn encoded_images() -> Result<Vec<Vec<u8>>> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/datasets/photos");
    let data = std::env::var("PORTOLAN_PHOTOS").unwrap_or(beside.to_owned());
    let source = portolan_data::open(&data, &Options::default())
        .context("set PORTOLAN_PHOTOS to photographs, in any form that --data takes")?
        .train;
    let encoded = |i| match source.image(i)? {
        ImageData::Encoded(bytes) => Ok(bytes),
        ImageData::Decoded(_) => bail!("{data} holds no encoded images"),
    };
    (0..source.len().min(200)).map(encoded).collect()
}
