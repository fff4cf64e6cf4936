//! `evaluate` and `factors` on a tiny run.
#![allow(clippy::unwrap_used)]

#[path = "common/program.rs"]
mod common;

use common::{portolan, refused, succeeded};

#[test]
fn a_run_is_evaluated_with_every_protocol() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let tiny = "--limit 120 --limit-test 100 --epochs 1 --batch-size 20 --encoder resnet18-w4 \
                --set k=5 --device cpu --threads 1";
    succeeded(&portolan(here, &format!("reproduce simclr {tiny} --out run")));

    let protocols = "knn,linear,linear-sgd,low-shot,finetune --linear-epochs 2 --finetune-epochs 1";
    let printed =
        succeeded(&portolan(here, &format!("evaluate run --device cpu --protocol {protocols}")));
    let lines = [
        "kNN, k = 5",
        "kNN, k = 100",
        "L-BFGS",
        "with crops and flips",
        "1 % of the labels (10 images)",
        "top-5",
        "fine-tuned, 1 epoch ",
        "from scratch",
        "the linear probe",
    ];
    for line in lines {
        assert!(printed.contains(line), "`{line}` is not in {printed}");
    }
    let json = std::fs::read_to_string(here.join("run/evaluation.json")).unwrap();
    let results: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    let knn = &results[0];
    let confusion = knn["scores"]["confusion"].as_array().unwrap();
    let images: u64 =
        confusion.iter().flat_map(|row| row.as_array().unwrap()).map(|n| n.as_u64().unwrap()).sum();
    assert_eq!((confusion.len(), images), (10, 100));
    let interval = &knn["scores"]["interval"];
    let top1 = knn["top1"].as_f64().unwrap();
    assert!(interval[0].as_f64().unwrap() <= top1 && top1 <= interval[1].as_f64().unwrap());

    let printed = succeeded(&portolan(here, "factors run --out table.html --device cpu"));
    assert!(
        printed.contains("hue within the kind") && printed.contains("disentanglement"),
        "{printed}"
    );
    let tables = std::fs::read_to_string(here.join("table.json")).unwrap();
    let tables: serde_json::Value = serde_json::from_str(&tables).unwrap();
    assert!(tables[0]["head"]["rows"][0]["read"].as_f64().is_some(), "SimCLR has a head");
    assert!(std::fs::read_to_string(here.join("table.html")).unwrap().contains("run, encoder"));

    let few = "evaluate run --device cpu --protocol finetune --labels 0.2,1 --finetune-epochs 1";
    let printed = succeeded(&portolan(here, &format!("{few} --out few.json")));
    for line in ["fine-tuned, 1 epoch, 20 % of the labels (20 images)", "from scratch, 1 epoch "] {
        assert!(printed.contains(line), "`{line}` is not in {printed}");
    }
    let few_labels = std::fs::read_to_string(here.join("few.json")).unwrap();
    let results: Vec<serde_json::Value> = serde_json::from_str(&few_labels).unwrap();
    assert_eq!(results.len(), 4, "fine-tuned and from scratch, with each share");
    assert!(here.join("few.html").exists());
    assert_eq!(std::fs::read_to_string(here.join("run/evaluation.json")).unwrap(), json);
    refused(&portolan(here, &format!("{few} --save-finetuned saved")), &["several shares"]);
    refused(&portolan(here, "evaluate run --labels 10"), &["--labels", "0.01 is 1 %"]);
}

#[test]
fn what_changes_of_an_image_do_to_features_is_measured_before_and_after_the_head() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let tiny = "--limit 60 --limit-test 40 --epochs 1 --batch-size 20 --encoder resnet18-w4 \
                --set k=5 --device cpu --threads 1";
    succeeded(&portolan(here, &format!("reproduce simclr {tiny} --out run")));
    let printed = succeeded(&portolan(here, "invariance run --images 30 --device cpu --threads 1"));
    for line in ["on 30 test images", "rotation by 45°", "hue turned by 25 %", "head"] {
        assert!(printed.contains(line), "`{line}` is not in {printed}");
    }
    let json = std::fs::read_to_string(here.join("run/invariance.json")).unwrap();
    let rows: serde_json::Value = serde_json::from_str(&json).unwrap();
    for of in ["features", "head"] {
        let rows = rows[of].as_array().unwrap();
        assert_eq!(rows.len(), 16);
        let number = |row: &serde_json::Value, key: &str| row[key].as_f64().unwrap();
        assert!(rows.iter().all(|row| number(row, "moved") > 0.0 && number(row, "read") >= 0.3));
    }
    refused(&portolan(here, "invariance run --images 3 --device cpu"), &["10 images", "3 and 3"]);
}

#[test]
fn dinov2s_classifiers_are_chosen_on_training_images_and_supervised_encoders_are_evaluated() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let tiny = "--limit 120 --limit-test 60 --epochs 1 --batch-size 20 --set k=5 --device cpu \
                --threads 1 --set warmup_epochs=0";
    let run = "reproduce mae --encoder vit_w16d2h2_patch8_32 --out run";
    succeeded(&portolan(here, &format!("{run} {tiny}")));

    let printed = succeeded(&portolan(
        here,
        "evaluate run --device cpu --protocol linear-dinov2,scratch --linear-epochs 2 \
         --finetune-epochs 1 --save-finetuned saved",
    ));
    for line in ["linear-dinov2, ", "  2 blocks + mean patch", "from scratch, 1 epoch"] {
        assert!(printed.contains(line), "`{line}` is not in {printed}");
    }
    let json = std::fs::read_to_string(here.join("run/evaluation.json")).unwrap();
    let results: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    let selection = &results[0]["linear_dinov2"];
    let candidates = selection["candidates"].as_array().unwrap();
    // Two inputs of each of two numbers of blocks, thirteen rates.
    assert_eq!((candidates.len(), selection["epochs"].as_u64()), (52, Some(2)));
    let top1 = |candidate: &serde_json::Value| candidate["validation_top1"].as_f64().unwrap();
    assert!(candidates.iter().all(|candidate| top1(candidate) <= top1(selection)));

    for (split, class, n) in (0..60).map(|n| (["train", "test"][n / 40], ["a", "b"][n % 2], n)) {
        let images = here.join("labeled").join(split).join(class);
        std::fs::create_dir_all(&images).unwrap();
        let pixel = |x, y| image::Rgb([x as u8, y as u8, (100 * (n % 2) + n) as u8]);
        image::RgbImage::from_fn(32, 32, pixel).save(images.join(format!("{n}.png"))).unwrap();
    }
    let saved = "evaluate saved/scratch.safetensors --device cpu --data labeled";
    let printed = succeeded(&portolan(here, &format!("{saved} --protocol knn")));
    assert!(printed.contains("kNN, k = 20"), "{printed}");
    assert!(here.join("saved/scratch-evaluation.json").exists());
    refused(&portolan(here, "evaluate run --save-finetuned saved"), &["--protocol finetune"]);
}
