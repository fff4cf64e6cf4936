//! Runs that learn from text, as a new user starts them.
#![allow(clippy::unwrap_used)]

#[path = "common/program.rs"]
mod common;

use common::{portolan, refused, succeeded_printed};
use portolan_tensor::io;
use std::path::Path;

/// Settings of all runs here: an encoder of a few thousand parameters.
const TINY: &str = "--data notes --set positions=16 --set width=16 --set depth=1 --set heads=2 \
    --batch-size 8 --device cpu --threads 1";

/// A folder of notes in two classes, one of them in Latin-1 and one empty.
fn write_notes(root: &Path) {
    for (class, words) in [("home", "milk eggs bread and butter"), ("work", "plan mail meet call")]
    {
        std::fs::create_dir_all(root.join(class)).unwrap();
        for i in 0..3 {
            let text =
                format!("# Note {i}\n{}", format!("Remember: {words}, number {i}.\n").repeat(40));
            std::fs::write(root.join(class).join(format!("{i}.md")), text).unwrap();
        }
    }
    std::fs::write(root.join("home/latin.txt"), b"caf\xe9 au lait").unwrap();
    std::fs::write(root.join("home/empty.txt"), b"").unwrap();
}

fn report(run: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(run.join("report.json")).unwrap()).unwrap()
}

#[test]
fn gpt_learns_from_notes_and_goes_on_after_a_stop_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_notes(&at.join("notes"));
    let command = format!("pretrain gpt {TINY} --set tokenizer.size=300 --epochs 3");
    let printed = succeeded_printed(&portolan(at, &format!("{command} --out whole")));
    for part in
        ["latin.txt: byte 3 is not UTF-8", "empty.txt: it has no text", "bits per character"]
    {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    let found = report(&at.join("whole"));
    let bits = found["held_out"]["bits_per_character"].as_f64().unwrap();
    let unigrams = found["held_out"]["baselines"]["unigram"].as_f64().unwrap();
    assert!(bits > 0.0 && bits < unigrams, "{bits} {unigrams}");
    assert!(found["probes"]["class"]["trained"].as_f64().unwrap() >= 0.5, "{found}");
    let page = std::fs::read_to_string(at.join("whole/report.html")).unwrap();
    for part in
        ["epoch 3, temperature 0.8", "epoch 1, temperature 0.5", "GPT on notes", "Attention"]
    {
        assert!(page.contains(part), "{part}");
    }

    // The same run from its earliest checkpoint on.
    std::fs::create_dir_all(at.join("half/checkpoints")).unwrap();
    let checkpoints = at.join("whole/checkpoints");
    let mut names: Vec<_> =
        std::fs::read_dir(&checkpoints).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert!(names.len() > 1, "one before the last: {names:?}");
    std::fs::copy(checkpoints.join(&names[0]), at.join("half/checkpoints").join(&names[0]))
        .unwrap();
    for file in ["config.toml", "tokenizer.json", "metrics.jsonl"] {
        std::fs::copy(at.join("whole").join(file), at.join("half").join(file)).unwrap();
    }
    succeeded_printed(&portolan(at, "pretrain --resume half --threads 1"));
    let model = |run: &str| io::load(&at.join(run).join("model.safetensors")).unwrap().0;
    assert!(model("whole") == model("half"), "to the bit");

    let text = succeeded_printed(&portolan(at, "generate whole --prompt Remember --tokens 8"));
    assert!(text.starts_with("Remember"), "{text}");
    refused(&portolan(at, "fill whole Remember"), &["has a GPT"]);

    let printed = succeeded_printed(&portolan(at, "doctor whole"));
    assert!(printed.contains("memorized"), "{printed}");
    let protocols = "knn,linear,finetune,scratch";
    let command = format!("evaluate whole --protocol {protocols} --finetune-epochs 1 --device cpu");
    let printed = succeeded_printed(&portolan(at, &command));
    for part in
        ["class (2 classes)", "kNN, k = 20", "linear probe", "fine-tuned, 1 epoch, rate 0.0015"]
    {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    assert!(printed.contains("from scratch") && at.join("whole/evaluation-class.html").exists());
    let json = std::fs::read_to_string(at.join("whole/evaluation.json")).unwrap();
    let all: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(all[0]["labels"], "class", "a list, as for images: {all}");
    refused(
        &portolan(at, "evaluate whole --protocol lost"),
        &["knn, linear, finetune and scratch"],
    );
    refused(&portolan(at, "evaluate whole --data notes/home --device cpu"), &["no labels"]);

    let printed =
        succeeded_printed(&portolan(at, "embed whole --data notes --out x.csv --device cpu"));
    assert!(printed.contains("of 6 documents, 16 features each"), "{printed}");
    let rows = std::fs::read_to_string(at.join("x.csv")).unwrap();
    assert!(rows.starts_with("path,f0,") && rows.lines().count() > 6, "{rows}");
    refused(&portolan(at, "embed whole --patches --out x.npy"), &["--patches is for images"]);
}

#[test]
fn a_run_starts_from_another_with_its_tokenizer_and_sizes() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_notes(&at.join("notes"));
    let first = format!("pretrain gpt {TINY} --set tokenizer.size=300 --epochs 2 --out first");
    succeeded_printed(&portolan(at, &first));
    let more = "pretrain gpt --data notes/home --init first --set learning_rate=1e-9 --set schedule.last=0.0 \
                --epochs 1 --batch-size 8 --device cpu --threads 1 --out second";
    let printed = succeeded_printed(&portolan(at, more));
    assert!(printed.contains("starts from the network in first"), "{printed}");
    // Steps this small change nothing that can be seen.
    let model = |run: &str| io::load(&at.join(run).join("model.safetensors")).unwrap().0;
    let (first, second) = (model("first"), model("second"));
    assert!(first.iter().all(|(name, x)| x.allclose(&second[name], 1e-4, 1e-6, false)));
    let bert = "pretrain bert --data notes --init first --device cpu";
    refused(&portolan(at, bert), &["another network than BERT"]);
    refused(&portolan(at, "pretrain gpt --data notes --init none"), &["none cannot be used"]);
}

#[test]
fn bert_fills_the_blanks_of_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_notes(&at.join("notes"));
    let command = format!("pretrain bert {TINY} --set tokenizer.size=120 --epochs 2 --out run");
    let printed = succeeded_printed(&portolan(at, &command));
    assert!(printed.contains("the most common token"), "{printed}");
    let blanks = common::portolan_with(
        at,
        &["fill", "run", "The [MASK] is mightier than the sword", "--device", "cpu"],
    );
    let printed = succeeded_printed(&blanks);
    assert!(printed.contains("blank 1") && !printed.contains("blank 2"), "{printed}");
    assert_eq!(printed.lines().count(), 6, "five guesses: {printed}");
    refused(&portolan(at, "fill run nothing"), &["[MASK]"]);
    refused(&portolan(at, "generate run"), &["fills blanks"]);
    let command = "evaluate run --protocol finetune --finetune-epochs 2 --device cpu";
    let printed = succeeded_printed(&portolan(at, command));
    assert!(printed.contains("fine-tuned, 2 epochs, rate 0.0005"), "{printed}");
    refused(&portolan(at, "factors run"), &["learned from text", "encoders of images"]);
    let found = report(&at.join("run"));
    assert!(found["held_out"]["accuracy"].as_f64().is_some(), "{found}");
}

#[test]
fn text_that_cannot_be_used_is_refused_in_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    std::fs::create_dir_all(at.join("notes")).unwrap();
    let gpt = |more: &str, word| refused(&portolan(at, &format!("pretrain gpt {more}")), &[word]);
    gpt("", "--data");
    gpt("--data notes", "has no text");
    gpt("--data missing.txt", "missing.txt cannot be read");
    std::fs::write(at.join("short.txt"), "too short").unwrap();
    gpt("--data short.txt", "too little text");
    gpt("--data notes --encoder resnet18", "--encoder is for methods of images");
    refused(&portolan(at, "pretrain gtp --data notes"), &["bert, gpt"]);
}

#[test]
fn reproduce_all_shows_text_beside_images_and_runs_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_notes(&at.join("notes"));
    let command = format!("pretrain gpt {TINY} --set tokenizer.size=300 --epochs 1 --out all/gpt");
    succeeded_printed(&portolan(at, &command));
    std::fs::create_dir(at.join("all/bert")).unwrap();
    std::fs::copy(at.join("all/gpt/report.json"), at.join("all/bert/report.json")).unwrap();
    let images = "reproduce simclr --encoder resnet18-w4 --limit 64 --limit-test 32 --epochs 1 \
                  --batch-size 16 --set k=5 --device cpu --threads 1 --out all/simclr";
    succeeded_printed(&portolan(at, images));
    for method in portolan::METHODS {
        std::fs::create_dir_all(at.join("all").join(method.name)).unwrap();
        let report = at.join("all").join(method.name).join("report.json");
        if !report.exists() {
            std::fs::copy(at.join("all/simclr/report.json"), report).unwrap();
        }
    }
    let printed = succeeded_printed(&portolan(at, "reproduce --all --out all --threads 1"));
    assert!(!printed.contains("== "), "no method is run: {printed}");
    assert_eq!(printed.matches("bits per character").count(), 2, "{printed}");
    let page = std::fs::read_to_string(at.join("all/comparison.html")).unwrap();
    assert!(page.contains("gpt/report.html") && page.contains("simclr/report.html"));
    // Data and recipes name images.
    let printed = succeeded_printed(&portolan(at, "reproduce --all --recipe shapes --out all"));
    assert!(printed.contains("bert and gpt are left out"), "{printed}");
}
