//! SimCLR's and solo-learn's LARS against steps worked out by hand. The other two forms have golden
//! values.
#![allow(clippy::unwrap_used)]

use portolan_optim::{LarsForm, Optimizer, OptimizerConfig, ParamGroup};
use portolan_tensor::{Kind, Tensor};

/// A matrix `[1, 2]` with weight decay and adaptation, and a bias with neither, after steps with
/// these rates and gradients.
struct Hand {
    form: LarsForm,
    momentum: f64,
    trust_coefficient: f64,
}

impl Hand {
    fn after(&self, steps: &[(f64, [f64; 2], f64)]) -> ([f64; 2], f64) {
        let weight = Tensor::from_slice(&[3f64, 4.0]).view([1, 2]).set_requires_grad(true);
        let bias = Tensor::from_slice(&[1f64]).set_requires_grad(true);
        let named = |name: &str, x: &Tensor| (name.to_owned(), x.shallow_clone());
        let params = vec![named("weight", &weight), named("bias", &bias)];
        let &Hand { form, momentum, trust_coefficient } = self;
        let config = OptimizerConfig::Lars { momentum, weight_decay: 0.1, trust_coefficient, form };
        let groups = ParamGroup::split_decay("model", params);
        let mut optimizer = Optimizer::new(config, 1.0, groups).unwrap();
        for (lr, weight_gradient, bias_gradient) in steps {
            optimizer.zero_grad().unwrap();
            let loss = (&weight * Tensor::from_slice(weight_gradient)).sum(Kind::Double)
                + (&bias * *bias_gradient).sum(Kind::Double);
            loss.backward();
            optimizer.step(*lr, 0.0).unwrap();
        }
        let value = |x: &Tensor, i| x.detach().view([-1]).double_value(&[i]);
        ([value(&weight, 0), value(&weight, 1)], value(&bias, 0))
    }
}

fn close(found: ([f64; 2], f64), weight: [f64; 2], bias: f64) {
    let (w, b) = found;
    let worst = (w[0] - weight[0]).abs().max((w[1] - weight[1]).abs()).max((b - bias).abs());
    assert!(worst < 1e-6, "{found:?}, by hand {weight:?} and {bias}");
}

#[test]
fn simclrs_momentum_remembers_the_rates_of_earlier_steps() {
    let hand = |form| Hand { form, momentum: 0.9, trust_coefficient: 0.01 };
    // g + λp = (3, 4), ratio 0.01 · 5 / 5 = 0.01, v = 1 · 0.01 · (3, 4). Bias: v = 1 · 2.
    let first = (1.0, [2.7, 3.6], 2.0);
    close(hand(LarsForm::Simclr).after(&[first]), [2.97, 3.96], -1.0);
    // p = (2.97, 3.96), g + λp = (4, −3), ratio 0.01 · 4.95 / 5 = 0.0099. v = 0.9 · (0.03, 0.04) +
    // 0.5 · 0.0099 · (4, −3) = (0.0468, 0.02115). Bias: v = 0.9 · 2 + 0.5 · 2 = 2.8.
    let steps = [first, (0.5, [3.703, -3.396], 2.0)];
    close(hand(LarsForm::Simclr).after(&steps), [2.9232, 3.93885], -3.8);
    // With the rate outside, the whole buffer is halved: v = (0.0666, 0.0063), and 3.8 for the
    // bias.
    close(hand(LarsForm::Authors).after(&steps), [2.9367, 3.95685], -2.9);
}

#[test]
fn solo_learn_takes_the_smaller_of_the_local_and_the_scheduled_rate() {
    let hand = Hand { form: LarsForm::SoloLearn, momentum: 0.5, trust_coefficient: 0.02 };
    // ‖p‖ = 5, ‖g‖ = 0.5: the local rate is 0.02 · 5 / (0.5 + 0.1 · 5) = 0.1, the scheduled one
    // 0.05. The step is 0.05 · (g + λp) = 0.05 · (0.6, 0.8). Bias: 0.05 · 2.
    let first = (0.05, [0.3, 0.4], 2.0);
    close(hand.after(&[first]), [2.97, 3.96], 0.9);
    // ‖p‖ = 4.95, ‖g‖ = 0.495: 0.02 · 4.95 / (0.495 + 0.495) = 0.1, half of the scheduled 0.2.
    // v = 0.5 · (0.6, 0.8) + 0.5 · (0.594, 0.792) = (0.597, 0.796). Bias: v = 0.5 · 2 + 2 = 3.
    let steps = [first, (0.2, [0.297, 0.396], 2.0)];
    close(hand.after(&steps), [2.8506, 3.8008], 0.3);
}

#[test]
fn solo_learn_leaves_a_parameter_without_gradient_alone_even_at_rate_zero() {
    let hand = Hand { form: LarsForm::SoloLearn, momentum: 0.5, trust_coefficient: 0.02 };
    close(hand.after(&[(0.0, [0.3, 0.4], 2.0)]), [3.0, 4.0], 1.0);
    close(hand.after(&[(0.1, [0.0, 0.0], 0.0)]), [3.0, 4.0], 1.0);
}
