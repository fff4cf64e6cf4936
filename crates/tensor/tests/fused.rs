//! Fused layers against the same computed by libtorch's own operations.
#![allow(clippy::unwrap_used)]

use portolan_tensor::distributed::RunningStats;
use portolan_tensor::fused::{Epilogue, batch_norm, convolution, gelu_tanh, linear, pack_weight};
use portolan_tensor::{Device, Kind, Tensor, channels_last, seed};

const EPS: f64 = 1e-5;

fn random(shape: &[i64], kind: Kind) -> Tensor {
    Tensor::randn(shape, (Kind::Float, Device::Cpu)).to_kind(kind)
}

/// The output, the gradients of x, weight, bias and add, and the running statistics.
type Made = Vec<Tensor>;

/// [`batch_norm`] of these tensors in their precision.
fn fused(inputs: &[Tensor; 5], groups: i64, with_add: bool, relu: bool) -> Made {
    let [x, weight, bias, add, dy] = inputs.each_ref().map(|t| leaf(t, t.kind()));
    let (mean, var) = (bias.detach().zeros_like(), bias.detach().ones_like());
    let running = RunningStats { mean: &mean, var: &var, momentum: 0.1 };
    let then = Epilogue { add: with_add.then_some(&add), relu };
    let y = batch_norm(&x, Some((&weight, &bias)), &running, groups, EPS, then).unwrap();
    gradients(y, &dy, [x, weight, bias, add], mean, var, with_add)
}

/// The same by libtorch's own operations, one group at a time and in float64.
fn by_parts(inputs: &[Tensor; 5], groups: i64, with_add: bool, relu: bool) -> Made {
    let [x, weight, bias, add, dy] = inputs.each_ref().map(|t| leaf(t, Kind::Double));
    let (mut y, mut means, mut vars) = (vec![], vec![], vec![]);
    for group in x.chunk(groups, 0) {
        let (mean, var) = (bias.detach().zeros_like(), bias.detach().ones_like());
        let (weight, bias) = (Some(&weight), Some(&bias));
        y.push(group.batch_norm(weight, bias, Some(&mean), Some(&var), true, 0.1, EPS, true));
        means.push(mean);
        vars.push(var);
    }
    let mut y = Tensor::cat(&y, 0);
    if with_add {
        y += &add;
    }
    let y = if relu { y.relu() } else { y };
    let mean = |all: &[Tensor]| Tensor::stack(all, 0).mean_dim(0, false, Kind::Double);
    gradients(y, &dy, [x, weight, bias, add], mean(&means), mean(&vars), with_add)
}

fn leaf(t: &Tensor, kind: Kind) -> Tensor {
    t.detach().to_kind(kind).set_requires_grad(true)
}

fn gradients(
    y: Tensor,
    dy: &Tensor,
    leaves: [Tensor; 4],
    mean: Tensor,
    var: Tensor,
    with_add: bool,
) -> Made {
    (&y * dy.detach()).sum(y.kind()).backward();
    let reached = leaves.iter().take(if with_add { 4 } else { 3 });
    let mut made = vec![y.detach()];
    made.extend(reached.map(Tensor::grad));
    made.extend([mean, var]);
    made
}

#[test]
fn batch_norm_with_what_follows_is_that_of_its_parts() {
    seed(0);
    // Channels that fill registers of sixteen and that do not, rows that fill blocks and that do
    // not, and inputs without height and width. Groups have at least six rows: three numbers may be
    // so close that float32 loses their variance.
    let shapes: [&[i64]; 4] = [&[12, 16, 5, 5], &[4, 21, 9, 8], &[24, 3, 1, 1], &[24, 37]];
    for (shape, kind) in shapes.iter().flat_map(|s| [(s, Kind::Float), (s, Kind::Double)]) {
        for (groups, last, with_add, relu) in [
            (1, true, false, true),
            (1, true, true, true),
            (1, true, true, false),
            (4, true, false, false),
            (4, false, true, true),
            (2, true, true, true),
        ] {
            let laid_out = |t: Tensor| {
                if last && shape.len() == 4 { channels_last(&t) } else { t }
            };
            let channels = &shape[1..2];
            let inputs = [
                // Far from zero, where sums of squares are not precise enough.
                laid_out(random(shape, kind) * 2.0 + 30.0),
                random(channels, kind),
                random(channels, kind),
                laid_out(random(shape, kind)),
                random(shape, kind),
            ];
            let got = fused(&inputs, groups, with_add, relu);
            let expected = by_parts(&inputs, groups, with_add, relu);
            assert_eq!(got.len(), expected.len());
            for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
                assert_eq!(got.size(), expected.size());
                let off = (got.to_kind(Kind::Double) - expected).norm() / (expected.norm() + 1e-3);
                let off = off.double_value(&[]);
                assert!(off < 2e-5, "{shape:?} {kind:?}, {groups} groups, value {i}: {off:.1e}");
            }
        }
    }
}

#[test]
fn batch_norm_keeps_a_nan_and_refuses_single_values() {
    seed(2);
    let affine = random(&[16], Kind::Float);
    let (mean, var) = (affine.zeros_like(), affine.ones_like());
    let running = || RunningStats { mean: &mean, var: &var, momentum: 0.1 };
    let relu = Epilogue { add: None, relu: true };
    let norm = |x: &Tensor| batch_norm(x, Some((&affine, &affine)), &running(), 1, EPS, relu);
    let y = norm(&Tensor::full([4, 16], f64::NAN, (Kind::Float, Device::Cpu))).unwrap();
    assert!(bool::try_from(y.isnan().all()).unwrap(), "a ReLU must not hide a diverged run");
    assert!(norm(&random(&[1, 16], Kind::Float)).is_err());
}

#[test]
fn a_packed_convolution_is_one_by_its_parts() {
    seed(1);
    for (inputs, outputs, kernel, stride) in [(3, 16, 7, 2), (16, 24, 1, 2), (8, 5, 3, 1)] {
        let padding = kernel / 2;
        let weight = random(&[outputs, inputs, kernel, kernel], Kind::Float);
        let bias = random(&[outputs], Kind::Float);
        let mut kept = None;
        for (batch, size) in [(3, 14), (2, 10)] {
            let x = channels_last(&random(&[batch, inputs, size, size], Kind::Float));
            let kept =
                kept.get_or_insert_with(|| pack_weight(&weight, &x, stride, padding).unwrap());
            let plain = x.conv2d(&weight, Some(&bias), [stride; 2], [padding; 2], [1, 1], 1);
            for (with_add, relu) in [(false, false), (false, true), (true, true), (true, false)] {
                let add = channels_last(&plain.randn_like());
                let mut expected = if with_add { &plain + &add } else { plain.shallow_clone() };
                if relu {
                    expected = expected.relu();
                }
                let then = Epilogue { add: with_add.then_some(&add), relu };
                let y = convolution(&x, kept, &bias, stride, padding, then).unwrap();
                assert!(
                    y.allclose(&expected, 1e-5, 1e-5, false),
                    "{inputs} to {outputs}, add {with_add}"
                );
            }
        }
    }
}

#[test]
fn gelu_and_its_derivative_are_libtorchs() {
    // Over the whole range, with a length that no register divides.
    let x = Tensor::linspace(-15.0, 15.0, 4_003, (Kind::Float, Device::Cpu));
    let x =
        Tensor::cat(&[x, Tensor::from_slice(&[0.0f32, -0.0, 1e-30, -90.0, 90.0, 1e10, -1e10])], 0);
    let [ours, theirs] = [leaf(&x, Kind::Float), leaf(&x, Kind::Double)];
    let (y, exact) = (gelu_tanh(&ours), theirs.gelu("tanh"));
    assert!(gelu_tanh(&x).equal(&y), "the same without gradients");
    y.sum(Kind::Float).backward();
    exact.sum(Kind::Double).backward();
    for (found, wanted) in [(&y, &exact), (&ours.grad(), &theirs.grad())] {
        let off = (found.detach().to_kind(Kind::Double) - wanted.detach()).abs();
        let most = (off / (wanted.detach().abs() + 1.0)).max().double_value(&[]);
        assert!(most < 4e-7, "{most}");
    }
    let broken = leaf(&Tensor::from_slice(&[f32::NAN, 1.0]), Kind::Float);
    assert!(gelu_tanh(&broken).isnan().get(0).int64_value(&[]) == 1);
}

/// [`linear`] and its gradients, or libtorch's in float64: of x, weight and, unless it is left out,
/// bias.
fn linear_and_gradients(inputs: &[Tensor; 3], with_bias: bool, dy: &Tensor, own: bool) -> Made {
    let kind = if own { Kind::Float } else { Kind::Double };
    let [x, weight, bias] = inputs.each_ref().map(|t| leaf(t, kind));
    let plus = with_bias.then_some(&bias);
    let y = if own { linear(&x, &weight, plus) } else { x.linear(&weight, plus) };
    (&y * dy.to_kind(kind)).sum(kind).backward();
    let mut made = vec![y.detach(), x.grad(), weight.grad()];
    made.extend(with_bias.then(|| bias.grad()));
    made
}

#[test]
fn a_linear_layer_is_libtorchs() {
    seed(7);
    // Large enough for oneDNN, and a small one; tokens of passages, and rows.
    for shape in [[8, 32, 96, 64], [1, 128, 64, 256], [2, 3, 4, 5]] {
        let [batch, tokens, inputs, outputs] = shape;
        let random = |shape: &[i64]| random(shape, Kind::Float);
        let tensors =
            [random(&[batch, tokens, inputs]), random(&[outputs, inputs]), random(&[outputs])];
        let dy = random(&[batch, tokens, outputs]);
        for with_bias in [true, false] {
            let own = linear_and_gradients(&tensors, with_bias, &dy, true);
            let expected = linear_and_gradients(&tensors, with_bias, &dy, false);
            for (i, (own, expected)) in own.iter().zip(&expected).enumerate() {
                assert_eq!(own.size(), expected.size(), "{shape:?}, {i}");
                let distance = (own - expected).abs().max().double_value(&[]);
                let size = expected.abs().max().double_value(&[]);
                assert!(distance <= 2e-6 * size, "{shape:?}, {i}: {distance} of {size}");
            }
            let [x, weight, bias] = &tensors;
            let without_gradients = linear(x, weight, with_bias.then_some(bias));
            assert!(without_gradients == own[0], "to the bit");
        }
        // A weight that is stored transposed, as GPT-2's are.
        let [x, weight, bias] = &tensors;
        let stored = weight.tr().contiguous();
        let distance = linear(x, &stored.tr(), Some(bias)) - linear(x, weight, Some(bias));
        assert!(distance.abs().max().double_value(&[]) < 1e-4, "{shape:?}");
    }
}
