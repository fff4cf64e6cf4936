//! Every rule on signals made up for it.

use super::*;
use portolan_metrics::MetricsRow;

/// A run of twenty rows in which these signals keep still.
fn diagnosis(method: &str, batch_size: usize, signals: &[(&str, f64)]) -> Option<&'static str> {
    let rows: Vec<MetricsRow> =
        (1..=20).map(|n| MetricsRow::new(10 * n, n as f64, signals)).collect();
    examine(&Run { method, batch_size, rows: &rows }).map(|finding| finding.name)
}

const WELL: [(&str, f64); 5] = [
    ("loss", 2.0),
    ("output_deviation", 0.9),
    ("output_rank", 30.0),
    ("feature_rank", 30.0),
    ("alignment", 0.2),
];

fn but(name: &'static str, value: f64) -> Vec<(&'static str, f64)> {
    WELL.into_iter().filter(|signal| signal.0 != name).chain([(name, value)]).collect()
}

#[test]
fn a_healthy_run_is_left_alone() {
    for method in JOINT.into_iter().chain(["mae", "rotation"]) {
        assert_eq!(diagnosis(method, 128, &WELL), None, "{method}");
    }
    assert_eq!(diagnosis("jigsaw", 8, &[("loss", 0.1), ("feature_rank", 6.0)]), None);
}

#[test]
fn every_illness_has_its_name() {
    assert_eq!(diagnosis("moco", 128, &but("loss", f64::NAN)), Some("divergence"));
    assert_eq!(diagnosis("byol", 64, &but("output_deviation", 0.02)), Some("collapse"));
    assert_eq!(diagnosis("barlow", 64, &but("output_rank", 2.0)), Some("collapse"));
    assert_eq!(diagnosis("vicreg", 64, &but("variance", 0.99)), Some("collapse"));
    assert_eq!(diagnosis("moco", 64, &but("output_deviation", 0.02)), Some("learning rate"));
    let thrown_off = [but("feature_rank", 6.0), vec![("output_rank", 2.0)]].concat();
    assert_eq!(diagnosis("byol", 64, &thrown_off[..]), Some("learning rate"));
    assert_eq!(diagnosis("simclr", 8, &WELL), Some("batch"));
    assert_eq!(diagnosis("byol", 8, &WELL), None, "without negatives a batch may be small");
    assert_eq!(diagnosis("vicreg", 64, &but("alignment", 0.05)), Some("views"));
    assert_eq!(diagnosis("mae", 64, &[("loss", 1.0), ("explained", 0.02)]), Some("reconstruction"));
}

#[test]
fn a_narrow_vit_is_left_alone_while_its_outputs_are_wide() {
    assert_eq!(diagnosis("moco-v3", 64, &but("feature_rank", 8.0)), None);
    let narrow = [("feature_rank", 8.0), ("output_rank", 6.0), ("output_deviation", 0.9)];
    assert_eq!(diagnosis("moco-v3", 64, &narrow), Some("learning rate"));
}

#[test]
fn negatives_that_let_features_draw_together_mean_too_long_steps() {
    let ends_at = |uniformity: f64| {
        let row = |n: u64, value| MetricsRow::new(n, n as f64, &[("uniformity", value)]);
        let rows = [row(1, -0.7), row(2, -0.7), row(3, uniformity), row(4, uniformity)];
        examine(&Run { method: "simclr", batch_size: 128, rows: &rows }).map(|it| it.name)
    };
    assert_eq!(ends_at(-0.65), None);
    assert_eq!(ends_at(-0.4), Some("learning rate"));
}

#[test]
fn dino_collapses_in_two_ways() {
    let teacher = |entropy, divergence| {
        let mut signals = WELL.to_vec();
        signals.extend([("teacher_entropy", entropy), ("teacher_student_divergence", divergence)]);
        diagnosis("dino", 64, &signals)
    };
    assert_eq!(teacher(0.6, 0.5), None);
    assert_eq!(teacher(0.999, 0.002), Some("collapse"));
    assert_eq!(teacher(0.03, 0.3), Some("collapse"));
}

#[test]
fn views_are_not_too_weak_where_all_images_are_near() {
    let at = |uniformity| {
        let mut signals = but("alignment", 0.1);
        signals.push(("uniformity", uniformity));
        diagnosis("moco-v3", 64, &signals)
    };
    assert_eq!((at(-0.9), at(-0.3)), (Some("views"), None));
}

#[test]
fn what_simclr_finds_late_was_not_there_from_the_start() {
    let found = |top1| {
        let mut signals = but("alignment", 0.05);
        signals.push(("contrastive_top1", top1));
        diagnosis("simclr", 128, &signals)
    };
    assert_eq!((found(0.5), found(0.95)), (None, Some("views")));
}

#[test]
fn the_last_checkpoint_is_chosen_unless_features_narrow() {
    let best = |ranks: &[f64]| {
        let row =
            |(n, rank): (usize, &f64)| MetricsRow::new(1, n as f64, &[("feature_rank", *rank)]);
        let rows: Vec<MetricsRow> = ranks.iter().enumerate().map(row).collect();
        best_epoch(&Run { method: "moco", batch_size: 64, rows: &rows })
    };
    assert_eq!(best(&[30.0, 40.0, 38.0]), Some(2.0));
    assert_eq!(best(&[30.0, 29.0, 8.0]), Some(1.0));
    assert_eq!(best(&[]), None);
}
