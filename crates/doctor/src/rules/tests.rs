//! Every rule on metrics made up for it.

use portolan_metrics::{MethodTraits, MetricsRow};

use super::*;

const fn method(family: Family, has_queue: bool, has_momentum_encoder: bool) -> Run<'static> {
    let method = MethodTraits { family, has_queue, has_momentum_encoder };
    Run { method, batch_size: 64, rows: &[] }
}

const SIMCLR: Run = method(Family::Contrastive, false, false);
const MOCO: Run = method(Family::Contrastive, true, true);
const MOCO_V3: Run = method(Family::Contrastive, false, true);
const BYOL: Run = method(Family::SelfDistillation, false, true);
const SIMSIAM: Run = method(Family::SelfDistillation, false, false);
const DINO: Run = method(Family::SelfDistillation, false, true);
const BARLOW: Run = method(Family::RedundancyReduction, false, false);
const VICREG: Run = BARLOW;
const MAE: Run = method(Family::Reconstruction, false, false);
const JIGSAW: Run = method(Family::Pretext, false, false);

/// The problem of a run of twenty rows with these constant metrics.
fn diagnosis(method: Run, batch_size: usize, metrics: &[(&str, f64)]) -> Option<Problem> {
    finding(method, batch_size, metrics).map(|finding| finding.problem)
}

fn finding(method: Run, batch_size: usize, metrics: &[(&str, f64)]) -> Option<Finding> {
    let rows: Vec<MetricsRow> =
        (1..=20).map(|n| MetricsRow::new(10 * n, n as f64, metrics)).collect();
    examine(&Run { batch_size, rows: &rows, ..method })
}

const HEALTHY: [(&str, f64); 5] = [
    ("loss", 2.0),
    ("output_deviation", 0.9),
    ("output_rank", 30.0),
    ("feature_rank", 30.0),
    ("alignment", 0.2),
];

fn but(name: &'static str, value: f64) -> Vec<(&'static str, f64)> {
    HEALTHY.into_iter().filter(|metric| metric.0 != name).chain([(name, value)]).collect()
}

#[test]
fn a_healthy_run_is_left_alone() {
    for method in [SIMCLR, MOCO, MOCO_V3, BYOL, SIMSIAM, DINO, BARLOW, VICREG, MAE, JIGSAW] {
        assert_eq!(diagnosis(method, 128, &HEALTHY), None, "{method:?}");
    }
    assert_eq!(diagnosis(JIGSAW, 8, &[("loss", 0.1), ("feature_rank", 6.0)]), None);
}

#[test]
fn every_problem_is_found() {
    assert_eq!(diagnosis(MOCO, 128, &but("loss", f64::NAN)), Some(Problem::Divergence));
    assert_eq!(diagnosis(BYOL, 64, &but("output_deviation", 0.02)), Some(Problem::Collapse));
    assert_eq!(diagnosis(BARLOW, 64, &but("output_rank", 2.0)), Some(Problem::Collapse));
    assert_eq!(diagnosis(VICREG, 64, &but("variance", 0.99)), Some(Problem::Collapse));
    assert_eq!(diagnosis(MOCO, 64, &but("output_deviation", 0.02)), Some(Problem::LearningRate));
    let narrow = [but("feature_rank", 6.0), vec![("output_rank", 2.0)]].concat();
    assert_eq!(diagnosis(BYOL, 64, &narrow), Some(Problem::LearningRate));
    assert_eq!(diagnosis(SIMCLR, 8, &HEALTHY), Some(Problem::Batch));
    assert_eq!(diagnosis(BYOL, 8, &HEALTHY), None, "without negatives a batch may be small");
    assert_eq!(diagnosis(VICREG, 64, &but("alignment", 0.05)), Some(Problem::Views));
    assert_eq!(
        diagnosis(MAE, 64, &[("loss", 1.0), ("explained", 0.02)]),
        Some(Problem::Reconstruction)
    );
}

#[test]
fn a_narrow_vit_is_left_alone_while_its_outputs_are_wide() {
    assert_eq!(diagnosis(MOCO_V3, 64, &but("feature_rank", 8.0)), None);
    let narrow = [("feature_rank", 8.0), ("output_rank", 6.0), ("output_deviation", 0.9)];
    assert_eq!(diagnosis(MOCO_V3, 64, &narrow), Some(Problem::LearningRate));
}

#[test]
fn negatives_with_rising_uniformity_mean_a_high_learning_rate() {
    let ends_at = |uniformity: f64| {
        let row = |n: u64, value| MetricsRow::new(n, n as f64, &[("uniformity", value)]);
        let rows = [row(1, -0.7), row(2, -0.7), row(3, uniformity), row(4, uniformity)];
        examine(&Run { rows: &rows, ..SIMCLR }).map(|finding| finding.problem)
    };
    assert_eq!(ends_at(-0.65), None);
    assert_eq!(ends_at(-0.4), Some(Problem::LearningRate));
}

#[test]
fn the_remedy_of_a_collapse_fits_the_method() {
    let remedy = |method, metric: (&'static str, f64)| {
        let metrics = [but("output_deviation", 0.02), vec![metric]].concat();
        finding(method, 64, &metrics).map_or(String::new(), |finding| finding.remedy)
    };
    let none = ("koleo", 0.0);
    assert!(remedy(BYOL, none).contains("`predictor`"));
    assert!(remedy(SIMSIAM, none).contains("`stop_gradient`"));
    assert!(remedy(DINO, ("teacher_entropy", 0.6)).contains("`center_momentum`"));
    assert!(remedy(BARLOW, none).contains("`lambda`"));
    assert!(remedy(VICREG, ("variance", 0.5)).contains("`variance`"));
    assert!(remedy(MOCO, none).contains("tenth of the learning rate"));
    assert!(remedy(MAE, none).contains("warm-up"));
}

#[test]
fn dino_collapses_in_two_ways() {
    let teacher = |entropy, divergence| {
        let mut metrics = HEALTHY.to_vec();
        metrics.extend([("teacher_entropy", entropy), ("teacher_student_divergence", divergence)]);
        diagnosis(DINO, 64, &metrics)
    };
    assert_eq!(teacher(0.6, 0.5), None);
    assert_eq!(teacher(0.999, 0.002), Some(Problem::Collapse));
    assert_eq!(teacher(0.03, 0.3), Some(Problem::Collapse));
}

#[test]
fn views_are_not_too_weak_if_all_images_are_near() {
    let at = |uniformity| {
        let mut metrics = but("alignment", 0.1);
        metrics.push(("uniformity", uniformity));
        diagnosis(MOCO_V3, 64, &metrics)
    };
    assert_eq!((at(-0.9), at(-0.3)), (Some(Problem::Views), None));
}

#[test]
fn views_that_simclr_aligns_late_are_not_too_weak() {
    let found = |top1| {
        let mut metrics = but("alignment", 0.05);
        metrics.push(("contrastive_top1", top1));
        diagnosis(SIMCLR, 128, &metrics)
    };
    assert_eq!((found(0.5), found(0.95)), (None, Some(Problem::Views)));
}

/// The ends of docs/results/dinov2-ablations.sh, whose features are of few dimensions in all runs.
#[test]
fn dinov2_without_koleo_crowds_and_does_not_learn_too_fast() {
    let run = |metrics: &[(&str, f64)]| {
        let logged = [("dino_loss", 5.4), ("ibot_loss", 4.6), ("output_rank", 7.1)];
        let all: Vec<(&str, f64)> = logged.iter().chain(metrics).copied().collect();
        diagnosis(DINO, 32, &all)
    };
    let narrow = ("feature_rank", 8.6);
    assert_eq!(run(&[narrow, ("koleo", 2.27)]), Some(Problem::Crowding));
    let with_koleo = [narrow, ("koleo", 2.27), ("koleo_loss", 0.3)];
    assert_eq!(run(&with_koleo), Some(Problem::LearningRate), "KoLeo is not what is missing");
}
