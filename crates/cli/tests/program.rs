//! The program with correct and incorrect arguments, on a handful of tiny images.
#![allow(clippy::unwrap_used)]

#[path = "common/program.rs"]
mod common;

use common::{portolan_with, refused, succeeded};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Settings for a run of a few seconds: 64 built-in images, a network of a few thousand parameters.
const TINY: &[&str] = &[
    "--recipe",
    "shapes",
    "--limit",
    "64",
    "--limit-test",
    "32",
    "--epochs",
    "2",
    "--batch-size",
    "16",
    "--encoder",
    "resnet18-w4",
    "--set",
    "queue=64",
    "--set",
    "k=5",
    "--device",
    "cpu",
    "--threads",
    "1",
];

fn tiny(folder: &Path, command: &str, more: &[&str]) -> Output {
    let args: Vec<&str> = [command, "moco"].iter().chain(TINY).chain(more).copied().collect();
    portolan_with(folder, &args)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Creates a folder with `n` small images of each of two classes in `root`.
fn write_images(root: &Path, n: u8) {
    for (class, base) in [("dark", 20u8), ("light", 180)] {
        let folder = root.join(class);
        std::fs::create_dir_all(&folder).unwrap();
        for i in 0..n {
            let pixel = |x, y| image::Rgb([base + i, base + x as u8, base + y as u8]);
            let image = image::RgbImage::from_fn(40, 36, pixel);
            image.save(folder.join(format!("{i:02}.jpg"))).unwrap();
        }
    }
}

#[test]
fn a_folder_with_too_many_unreadable_images_stops_the_run() {
    let folder = tempfile::tempdir().unwrap();
    write_images(&folder.path().join("photos"), 20);
    for i in 0..11 {
        std::fs::write(folder.path().join(format!("photos/dark/bad-{i}.jpg")), "no image").unwrap();
    }
    let train = |more: &[&str]| {
        let size = ["--data", "photos", "--batch-size", "8", "--limit", "0", "--epochs", "4"];
        let args: Vec<&str> =
            ["pretrain", "moco"].iter().chain(TINY).chain(&size).chain(more).copied().collect();
        // Clap refuses flags that are given twice.
        let args: Vec<&str> = dedup(args);
        portolan_with(folder.path(), &args)
    };
    let stopped = train(&["--out", "first"]);
    refused(&stopped, &["11 of 51 images", "--max-bad", "bad-"]);
    succeeded(&train(&["--out", "second", "--max-bad", "30%"]));
}

/// Flags and their values; of repeated flags only the last.
fn dedup(args: Vec<&str>) -> Vec<&str> {
    let mut kept: Vec<&str> = args[..2].to_vec();
    for (i, pair) in args[2..].chunks(2).enumerate() {
        let later =
            args[2..].chunks(2).skip(i + 1).any(|other| other[0] == pair[0] && pair[0] != "--set");
        if !later {
            kept.extend(pair);
        }
    }
    kept
}

#[test]
fn a_run_writes_its_files_and_commands_can_use_them() {
    let folder = tempfile::tempdir().unwrap();
    let printed = succeeded(&tiny(folder.path(), "reproduce", &["--out", "run"]));
    assert!(printed.contains("kNN (k = 5)") && printed.contains("not comparable"), "{printed}");
    let run = folder.path().join("run");
    for file in
        ["config.toml", "metrics.jsonl", "encoder.safetensors", "report.html", "report.json"]
    {
        assert!(run.join(file).exists(), "{file} is missing");
    }
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(run.join("report.json")).unwrap()).unwrap();
    assert_eq!(json["encoder"], "resnet18-w4");
    assert_eq!(json["dataset"]["train"], 64);
    assert_eq!(json["published"][0]["comparable"], false);

    let again = succeeded(&portolan_with(folder.path(), &["evaluate", "run"]));
    let percent = 100.0 * json["knn"]["top1"].as_f64().unwrap();
    assert!(again.contains(&format!("{percent:.1} %")), "{again} has not {percent}");
    for out in ["x.csv", "x.npy", "x.parquet", "x.safetensors"] {
        let args = ["embed", "run", "--split", "test", "--out", out];
        assert!(succeeded(&portolan_with(folder.path(), &args)).contains("32 images, 32 features"));
    }
    succeeded(&portolan_with(folder.path(), &["export", "run", "--out", "encoder.safetensors"]));
    let bytes = |path: PathBuf| std::fs::read(path).unwrap().len();
    assert_eq!(
        bytes(run.join("encoder.safetensors")),
        bytes(folder.path().join("encoder.safetensors"))
    );
    succeeded(&portolan_with(folder.path(), &["export", "run", "--out", "hub"]));
    let card = std::fs::read_to_string(folder.path().join("hub/README.md")).unwrap();
    assert!(card.contains("pretrained by moco") && card.contains("kNN, k = 5"), "{card}");
    let hub = std::fs::read_to_string(folder.path().join("hub/config.json")).unwrap();
    assert!(
        hub.contains("\"num_features\": 32")
            && folder.path().join("hub/model.safetensors").exists()
    );
    refused(
        &portolan_with(folder.path(), &["export", "run", "--out", "hub"]),
        &["hub", "not empty"],
    );
    assert!(succeeded(&portolan_with(folder.path(), &["inspect", "run"])).contains("moco"));
    assert!(
        succeeded(&portolan_with(folder.path(), &["inspect", "shapes"])).contains("10 classes")
    );
    let doctor = succeeded(&portolan_with(folder.path(), &["doctor", "run"]));
    assert!(doctor.contains("normal here") && doctor.contains("best checkpoint"), "{doctor}");

    refused(
        &tiny(folder.path(), "reproduce", &["--out", "run"]),
        &["run", "not empty", "--resume"],
    );

    // The config.toml of a run reproduces it bit for bit.
    let repeat =
        ["reproduce", "moco", "--config", "run/config.toml", "--threads", "1", "--out", "again"];
    succeeded(&portolan_with(folder.path(), &repeat));
    let encoder = |run: &str| {
        portolan_tensor::io::load(&folder.path().join(run).join("encoder.safetensors")).unwrap().0
    };
    assert!(encoder("run") == encoder("again"), "config.toml does not repeat the run");
}

#[test]
fn unreadable_images_are_skipped_and_reported() {
    let folder = tempfile::tempdir().unwrap();
    let photos = folder.path().join("photos");
    write_images(&photos, 12);
    let whole = std::fs::read(photos.join("dark/03.jpg")).unwrap();
    std::fs::write(photos.join("dark/03.jpg"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(photos.join("light/05.jpg"), "these are words").unwrap();
    let printed =
        succeeded(&tiny(folder.path(), "pretrain", &["--data", "photos", "--out", "run"]));
    assert!(printed.contains("2 images could not be read"), "{printed}");
    let report = std::fs::read_to_string(folder.path().join("run/report.json")).unwrap();
    assert!(report.contains("03.jpg") && report.contains("05.jpg"), "{report}");
    let embedded = succeeded(&portolan_with(folder.path(), &["embed", "run", "--out", "x.npy"]));
    assert!(embedded.contains("22 images"), "{embedded}");
    refused(&portolan_with(folder.path(), &["evaluate", "run"]), &["no labeled test split"]);
}

#[test]
fn images_without_a_recipe_train_within_the_time_limit() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    write_images(&here.join("photos"), 12);
    let small = ["--encoder", "resnet18-w4", "--device", "cpu", "--threads", "1"];
    let args = ["pretrain", "simclr", "--data", "photos", "--time", "8s", "--out", "run"];
    let started = Instant::now();
    let output = portolan_with(here, &[&args[..], &small].concat());
    succeeded(&output);
    // The limit is generous, because other tests may be running on the machine.
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    let printed = text(&output.stderr);
    for words in
        ["24 images, so that an epoch has", "ends within 8 s", "estimate about", "on disk", " left"]
    {
        assert!(printed.contains(words), "`{words}` is not in: {printed}");
    }
    let config = std::fs::read_to_string(here.join("run/config.toml")).unwrap();
    assert!(config.contains("recipe = \"auto\"") && config.contains("batch_size = 4"), "{config}");
    assert!(here.join("run/report.html").exists());

    // The config.toml of an automatic run reproduces it, regardless of the time measurement.
    let again =
        ["pretrain", "simclr", "--config", "run/config.toml", "--epochs", "2", "--threads", "1"];
    for out in ["again", "once-more"] {
        succeeded(&portolan_with(here, &[&again[..], &["--out", out]].concat()));
    }
    let encoder = |run: &str| {
        portolan_tensor::io::load(&here.join(run).join("encoder.safetensors")).unwrap().0
    };
    assert!(encoder("again") == encoder("once-more"), "the measurement shows in the run");
}

#[test]
fn incorrect_arguments_give_one_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    std::fs::create_dir(here.join("empty")).unwrap();
    std::fs::write(here.join("file"), "").unwrap();
    let pretrain = |more: &[&str]| tiny(here, "pretrain", more);
    refused(&pretrain(&["--data", "nowhere"]), &["nowhere"]);
    refused(&pretrain(&["--data", "empty"]), &["empty", "image"]);
    refused(&portolan_with(here, &["pretrain", "moco"]), &["--data"]);
    refused(&portolan_with(here, &["reproduce", "mocco"]), &["mocco", "moco"]);
    refused(
        &portolan_with(here, &["reproduce", "moco", "--recipe", "mnist"]),
        &["mnist", "shapes"],
    );
    let reproduce = |more: &[&str]| {
        let args: Vec<&str> = ["reproduce", "moco"].iter().chain(more).copied().collect();
        portolan_with(here, &args)
    };
    refused(&reproduce(&["--encoder", "resnet99"]), &["resnet99", "resnet18"]);
    refused(&reproduce(&["--set", "temprature=0.1"]), &["temprature", "temperature"]);
    refused(&reproduce(&["--set", "temperature=0"]), &["temperature", "above 0"]);
    refused(&reproduce(&["--limit", "100"]), &["128", "100", "--batch-size"]);
    refused(
        &reproduce(&["--batch-size", "6", "--set", "batch_norm_splits=4"]),
        &["6", "batch_norm_splits"],
    );
    refused(&reproduce(&["--epochs", "0"]), &["epochs"]);
    refused(&reproduce(&["--precision", "fp12"]), &["fp12"]);
    refused(&reproduce(&["--device", "tpu"]), &["tpu", "cuda"]);
    refused(&reproduce(&["--device", "cpu", "--cuda-graph"]), &["cuda_graph", "GPU"]);
    refused(&reproduce(&["--out", "file/run"]), &["file/run", "writable"]);
    refused(&reproduce(&["--config", "no.toml"]), &["no.toml"]);
    refused(&reproduce(&["--resume", "empty"]), &["empty", "not a run"]);
    refused(&portolan_with(here, &["pretrain", "--resume", "empty"]), &["empty", "not a run"]);
    refused(&portolan_with(here, &["embed", "empty", "--out", "x.xlsx"]), &["x.xlsx", ".csv"]);
    refused(&portolan_with(here, &["doctor", "empty"]), &["empty", "config.toml"]);
    assert!(!here.join("runs").exists(), "a refused run leaves nothing behind");
}

/// Starts `portolan` with `args` and sends it `signal` once the metrics file of the run has `lines`
/// lines.
#[cfg(unix)]
fn interrupted(folder: &Path, args: &[&str], lines: usize, signal: &str) -> Output {
    let child = Command::new(env!("CARGO_BIN_EXE_portolan"))
        .args(args)
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let metrics = folder.join("run/metrics.jsonl");
    let started = Instant::now();
    while std::fs::read_to_string(&metrics).unwrap_or_default().lines().count() < lines {
        assert!(started.elapsed() < Duration::from_secs(120), "training did not begin");
        std::thread::sleep(Duration::from_millis(20));
    }
    let id = child.id().to_string();
    assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    child.wait_with_output().unwrap()
}

#[cfg(unix)]
#[test]
fn a_signal_leaves_a_checkpoint_and_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let start = [&["reproduce", "moco"], TINY, &["--out", "run", "--set", "epochs=40"]].concat();
    let stopped = interrupted(folder.path(), &start, 2, "-INT");
    let printed = text(&stopped.stderr);
    assert_eq!(stopped.status.code(), Some(130), "{printed}");
    assert!(printed.contains("--resume run"), "{printed}");
    assert!(succeeded(&portolan_with(folder.path(), &["inspect", "run"])).contains("not finished"));
    let resume = ["pretrain", "--resume", "run"];
    let lines =
        std::fs::read_to_string(folder.path().join("run/metrics.jsonl")).unwrap().lines().count();
    let stopped = interrupted(folder.path(), &resume, lines + 1, "-TERM");
    assert_eq!(stopped.status.code(), Some(143), "{}", text(&stopped.stderr));
    succeeded(&portolan_with(folder.path(), &resume));
    assert!(folder.path().join("run/report.json").exists());
}

/// A tiny run of any method.
fn other(folder: &Path, method: &str, encoder: &str, more: &[&str]) -> Output {
    let tiny =
        "--limit 64 --limit-test 32 --epochs 2 --batch-size 16 --set k=5 --device cpu --threads 1";
    let args: Vec<&str> = ["reproduce", method, "--encoder", encoder]
        .into_iter()
        .chain(tiny.split(' '))
        .chain(more.iter().copied())
        .collect();
    portolan_with(folder, &args)
}

#[test]
fn unsupported_settings_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let resnet = "resnet18-w4";
    let other = |method, encoder, more: &[&str]| other(folder.path(), method, encoder, more);
    let short = ["--set", "warmup_epochs=0"];
    refused(&other("mae", resnet, &short), &["vision transformer", resnet]);
    let long = ["--set", "warmup_epochs=2"];
    refused(&other("mae", "vit_w8d1h1_patch4_32", &long), &["warmup_epochs", "2 epoch"]);
    let all_hidden = [&short[..], &["--set", "mask_ratio=1.0"]].concat();
    refused(&other("mae", "vit_w8d1h1_patch4_32", &all_hidden), &["mask_ratio is 1"]);
    refused(&other("simclr", "vit_w8d1h1_patch5_30", &[]), &["patches of 5 pixels", "32"]);
    refused(&other("byol", "vit_w8d1h1_patch5_32", &[]), &["patches of 5 pixels", "32"]);
    refused(&other("vicreg", resnet, &["--set", "batch_size=1"]), &["batch_size is 1"]);
    refused(&other("simclrr", resnet, &[]), &["no method `simclrr`", "simclr, moco"]);
    refused(
        &portolan_with(folder.path(), &["pretrain", "--all"]),
        &["unexpected argument '--all'"],
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn all_methods_end_in_one_table_and_only_those_without_a_report_are_run() {
    let folder = tempfile::tempdir().unwrap();
    succeeded(&other(folder.path(), "simclr", "resnet18-w4", &["--out", "all/simclr"]));
    let report = std::fs::read(folder.path().join("all/simclr/report.json")).unwrap();
    // As if the run of SimCLR had been stopped just before its end.
    std::fs::remove_file(folder.path().join("all/simclr/report.json")).unwrap();
    let names = "moco-v3 byol simsiam barlow vicreg dino dinov2 mae rotation jigsaw colorization";
    for name in names.split(' ') {
        let run = folder.path().join("all").join(name);
        std::fs::create_dir_all(&run).unwrap();
        std::fs::write(run.join("report.json"), &report).unwrap();
    }
    let args: Vec<&str> =
        ["reproduce", "--all", "--out", "all"].iter().chain(TINY).copied().collect();
    let output = portolan_with(folder.path(), &args);
    let printed = succeeded(&output);
    let run = text(&output.stderr);
    assert_eq!(run.matches("== ").count(), 2, "SimCLR goes on and MoCo is run: {run}");
    assert!(folder.path().join("all/simclr/report.json").exists());
    for title in ["SimCLR", "MoCo v3", "Barlow Twins", "MAE", "Colorization"] {
        assert!(
            printed.lines().any(|line| line.starts_with(title)),
            "{title} is not in: {printed}"
        );
    }
    let page = std::fs::read_to_string(folder.path().join("all/comparison.html")).unwrap();
    assert!(page.contains("13 runs on shapes") && page.contains("moco/report.html"));
}

#[test]
fn a_run_keeps_the_engine_that_makes_its_views() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let engine = |run: &str| {
        let config = std::fs::read_to_string(here.join(run).join("config.toml")).unwrap();
        config.lines().find(|line| line.starts_with("augment")).map(str::to_owned)
    };
    succeeded(&tiny(here, "reproduce", &["--out", "by-itself"]));
    assert_eq!(engine("by-itself").as_deref(), Some("augment = \"cpu\""));
    succeeded(&tiny(here, "reproduce", &["--augment", "device", "--out", "asked"]));
    assert_eq!(engine("asked").as_deref(), Some("augment = \"device\""));
    refused(&tiny(here, "reproduce", &["--augment", "gpu", "--out", "x"]), &["gpu", "device"]);
}

#[test]
fn the_benchmark_prints_its_rows_and_writes_them() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["bench", "moco-shapes", "simclr-224", "--steps", "1", "--device", "cpu"];
    let small = ["--set", "width=4", "--set", "training.batch_size=8", "--set", "data.limit=64"];
    let more = ["--set", "limit_test=32", "--set", "k=5", "--threads", "1", "--json", "rows.json"];
    let args: Vec<&str> = args.iter().chain(&small).chain(&more).copied().collect();
    let table = succeeded(&portolan_with(folder.path(), &args));
    assert!(table.contains("moco-shapes") && table.contains("simclr-224"), "{table}");
    let json = std::fs::read_to_string(folder.path().join("rows.json")).unwrap();
    let rows: serde_json::Value = serde_json::from_str(&json).unwrap();
    for row in rows.as_array().unwrap() {
        assert!(row["images_per_second"].as_f64().unwrap() > 0.0);
        assert_eq!(row["batch_size"].as_u64(), Some(8));
        let shares = row["shares"].as_object().unwrap().values();
        let sum: f64 = shares.map(|share| share.as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-9);
    }
    assert!(rows[0]["evaluation_seconds"].as_f64().unwrap() > 0.0);
    assert!(rows[1]["evaluation_seconds"].is_null());
    refused(&portolan_with(folder.path(), &["bench", "resnet"]), &["resnet", "simclr-32"]);
}
