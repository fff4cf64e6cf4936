//! Forward and backward of the objectives: batch 256, 128 numbers a row, as a contrastive method
//! has them (queue 4096); DINO with two teacher views of six. On the GPU where there is one.
//!
//! `cargo bench -p portolan-benches --bench losses`

use criterion::{Criterion, criterion_group, criterion_main};
use portolan_losses as losses;
use portolan_tensor::{Device, Kind, Tensor, device, seed};

const BATCH: i64 = 256;
const DIM: i64 = 128;
const QUEUE: i64 = 4096;

fn random(device: Device, shape: &[i64]) -> Tensor {
    Tensor::randn(shape, (Kind::Float, device))
}

/// Times forward and backward of `loss` with respect to an input of this shape. Reading the loss
/// makes a GPU finish.
fn bench(
    c: &mut Criterion,
    name: &str,
    device: Device,
    shape: &[i64],
    loss: impl Fn(&Tensor) -> losses::Result<Tensor>,
) {
    let input = random(device, shape).set_requires_grad(true);
    c.bench_function(&format!("losses/{name} on {}", device::name(device)), |b| {
        b.iter(|| {
            let value = loss(&input).expect("the shapes above fit");
            value.backward();
            value.double_value(&[])
        });
    });
}

fn all(c: &mut Criterion) {
    let device = Device::cuda_if_available();
    seed(0);
    let rows = [BATCH, DIM];
    let other = random(device, &rows);
    let queue = random(device, &[QUEUE, DIM]);
    let teacher = random(device, &[2, BATCH, DIM]);
    let center = random(device, &[DIM]);
    let sharpness = portolan_tensor::scalar(0.04, device);

    bench(c, "nt_xent", device, &rows, |z| losses::nt_xent(z, &other, 0.5));
    bench(c, "info_nce_queue", device, &rows, |q| losses::info_nce_queue(q, &other, &queue, 0.2));
    bench(c, "moco_v3", device, &rows, |q| losses::moco_v3(q, &other, 0.2));
    bench(c, "negative_cosine", device, &rows, |p| losses::negative_cosine(p, &other));
    bench(c, "byol", device, &rows, |p| losses::byol(p, &other));
    bench(c, "barlow_twins", device, &rows, |z| losses::barlow_twins(z, &other, 0.005));
    bench(c, "vicreg", device, &rows, |z| {
        Ok(losses::vicreg(z, &other, &losses::vicreg::Weights::default())?.total)
    });
    bench(c, "dino", device, &[6, BATCH, DIM], |student| {
        losses::dino(student, &teacher, &center, 0.1, &sharpness)
    });
    bench(c, "koleo", device, &rows, |x| losses::koleo(x, 1e-8));
}

criterion_group!(benches, all);
criterion_main!(benches);
