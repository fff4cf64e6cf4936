//! SimCLR's steps, against what the paper says of them.
#![allow(clippy::unwrap_used)]

#[path = "../examples/own_loop.rs"]
mod own_loop;

use portolan_augment::presets;
use portolan_encoders::{EncoderConfig, HeadNorm};
use portolan_losses::nt_xent;
use portolan_method::{ImageMethod, Method};
use portolan_simclr::{Objective, Simclr, SimclrConfig};
use portolan_tensor::{Device, Kind, Tensor, no_grad, seed, tch};
use portolan_testing::trial::{self, Trial};

const CPU: Device = Device::Cpu;

fn simclr(change: impl Fn(&mut SimclrConfig)) -> Simclr {
    let mut config = SimclrConfig { hidden: 16, dim: 8, ..SimclrConfig::default() };
    change(&mut config);
    Simclr::new(config, &trial::small(), vec![presets::simclr(16); 2], CPU).unwrap()
}

#[test]
fn both_views_go_through_the_network_in_one_pass() {
    seed(1);
    let mut method = simclr(|_| ());
    let batch = trial::noise(&method, 6);
    let loss = method.loss(&batch, &trial::step(0, 1)).unwrap().loss.double_value(&[]);
    // The batch norms' statistics then span both views; a pass a view gives another loss.
    let rebuilt = || {
        seed(1);
        simclr(|_| ())
    };
    let head = |method: &Simclr, x: &Tensor| {
        let features = method.encoder().forward(x, true);
        let state = trial::state(method);
        let weight = |name: &str| &state[&format!("network.head.{name}")];
        let norm = |x: &Tensor, affine: Option<(&Tensor, &Tensor)>| {
            let none = None::<&Tensor>;
            x.batch_norm(
                affine.map(|a| a.0),
                affine.map(|a| a.1),
                none,
                none,
                true,
                0.1,
                1e-5,
                true,
            )
        };
        let hidden = features.linear(weight("0.weight"), None::<Tensor>);
        let hidden = norm(&hidden, Some((weight("1.weight"), weight("1.bias")))).relu();
        norm(&hidden.linear(weight("3.weight"), None::<Tensor>), None)
    };
    let (a, b) = (&batch.inputs[0], &batch.inputs[1]);
    let together = no_grad(|| head(&rebuilt(), &Tensor::cat(&[a, b], 0)));
    // The default is the authors' scale: the means over either view's queries, added.
    let by_hand =
        |z_i: &Tensor, z_j: &Tensor| 2.0 * nt_xent(z_i, z_j, 0.1).unwrap().double_value(&[]);
    let expected = by_hand(&together.narrow(0, 0, 6), &together.narrow(0, 6, 6));
    assert!((loss - expected).abs() < 1e-4, "{loss} is not {expected}");
    let apart = no_grad(|| by_hand(&head(&rebuilt(), a), &head(&rebuilt(), b)));
    assert!((loss - apart).abs() > 1e-3, "a pass a view would not be told apart");
}

#[test]
fn alignment_and_uniformity_are_weighted_and_added() {
    let of = |alignment: f64, uniformity: f64| {
        seed(1);
        let mut method = simclr(|config| {
            config.loss_scale = 1.0;
            config.objective = Objective::AlignmentUniformity { alignment, uniformity };
        });
        let batch = trial::noise(&method, 6);
        method.loss(&batch, &trial::step(0, 1)).unwrap().loss.double_value(&[])
    };
    let (near, apart) = (of(1.0, 0.0), of(0.0, 1.0));
    // Squared distances are positive, and their negative exponentials have a negative logarithm.
    assert!(near > 0.0 && apart < 0.0, "{near} {apart}");
    assert!((of(2.0, 3.0) - (2.0 * near + 3.0 * apart)).abs() < 1e-4);
    let refused = |alignment, uniformity| {
        let objective = Objective::AlignmentUniformity { alignment, uniformity };
        SimclrConfig { objective, ..SimclrConfig::default() }.validate().unwrap_err().to_string()
    };
    assert!(refused(-1.0, 1.0).contains("alignment and uniformity are -1 and 1"));
    assert!(refused(0.0, 0.0).contains("not both 0"));
}

/// `objective.py`, add_contrastive_loss: cross-entropies over [ab | aa] and [ba | bb], either
/// averaged over its rows.
#[test]
fn twice_the_mean_is_the_authors_sum() {
    let z = |shift: f64| {
        let z = (Tensor::arange(12, (Kind::Float, CPU)) * 0.7 + shift).sin().view([4, 3]);
        &z / z.norm_scalaropt_dim(2.0, [1i64].as_slice(), true)
    };
    let (a, b, temperature) = (z(0.0), z(0.4), 0.1);
    let large = Tensor::eye(4, (Kind::Float, CPU)) * 1e9; // LARGE_NUM takes a view itself out
    let mean = |a: &Tensor, b: &Tensor| {
        let (ab, aa) = (a.matmul(&b.tr()) / temperature, a.matmul(&a.tr()) / temperature - &large);
        let log_p = Tensor::cat(&[ab, aa], 1).log_softmax(1, None::<Kind>);
        -log_p.narrow(1, 0, 4).diagonal(0, 0, 1).mean(None::<Kind>).double_value(&[])
    };
    let authors = mean(&a, &b) + mean(&b, &a);
    let ours = SimclrConfig::default().loss_scale
        * nt_xent(&a, &b, temperature).unwrap().double_value(&[]);
    assert!((ours - authors).abs() < 1e-5 * authors, "{ours} is not {authors}");
}

#[test]
fn the_loss_grows_with_its_scale() {
    let loss = |loss_scale| {
        seed(3);
        let mut method = simclr(|config| config.loss_scale = loss_scale);
        let batch = trial::noise(&method, 6);
        method.loss(&batch, &trial::step(0, 1)).unwrap().loss.double_value(&[])
    };
    assert!((loss(2.0) / loss(1.0) - 2.0).abs() < 1e-5);
}

#[test]
fn a_few_steps_learn_to_find_the_other_view_and_outputs_stay_apart() {
    seed(2);
    for layers in [2, 3] {
        let shown = Trial::new(60, 0.05).run(&mut simclr(|config| config.layers = layers));
        assert!(shown.loss < shown.first_loss - 0.5, "{shown:?}");
        assert!(shown.metrics["contrastive_top1"] > 0.5, "{shown:?}");
        assert!(shown.collapse.unwrap().deviation > 0.5, "{shown:?}");
    }
}

#[test]
fn the_head_is_as_deep_and_as_normed_as_it_is_set() {
    let names = |change: fn(&mut SimclrConfig)| {
        let state = simclr(change).state().into_iter().map(|(name, _)| name);
        state.filter(|name| name.contains("head.") && name.ends_with("weight")).count()
    };
    assert_eq!(names(|config| config.layers = 1), 1, "a layer, and a norm without scale");
    assert_eq!(names(|_| ()), 3);
    assert_eq!(names(|config| config.layers = 3), 5);
    assert_eq!(names(|config| (config.layers, config.norm) = (3, HeadNorm::None)), 3);
}

#[test]
fn the_example_runs() {
    tch::set_num_threads(1);
    own_loop::main().unwrap();
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let refused = |config: SimclrConfig, views| {
        let views = vec![presets::simclr(16); views];
        Simclr::new(config, &trial::small(), views, CPU).err().unwrap().to_string()
    };
    let default = SimclrConfig::default;
    assert!(refused(SimclrConfig { temperature: 0.0, ..default() }, 2).contains("temperature"));
    assert!(refused(SimclrConfig { layers: 0, ..default() }, 2).contains("layers"));
    assert!(refused(SimclrConfig { loss_scale: 0.0, ..default() }, 2).contains("loss_scale"));
    assert!(refused(default(), 3).contains("2 views"));
    let vit = EncoderConfig::named("vit_tiny_patch5_15").unwrap();
    let views = vec![presets::simclr(16); 2];
    let error = Simclr::new(default(), &vit, views, CPU).err().unwrap().to_string();
    assert!(error.contains("patches of 5 pixels"), "{error}");
    let mut method = simclr(|_| ());
    let one = trial::noise(&method, 1);
    let error = method.loss(&one, &trial::step(0, 1)).unwrap_err().to_string();
    assert!(error.contains("a batch of 1"), "{error}");
}
