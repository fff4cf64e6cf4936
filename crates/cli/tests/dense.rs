//! The commands on pixels: `evaluate --protocol linear-dense,lost`, `dense` and `embed --patches`.
#![allow(clippy::unwrap_used)]

#[path = "common/program.rs"]
mod common;

use common::{portolan, printed, refused, succeeded};
use std::path::Path;

fn train(folder: &Path, method: &str, encoder: &str) {
    let tiny = "--limit 64 --limit-test 30 --epochs 1 --batch-size 32 --set k=5 \
                --set warmup_epochs=0 --device cpu --threads 1";
    let args = format!("reproduce {method} --encoder {encoder} {tiny} --out {method}");
    succeeded(&portolan(folder, &args));
}

/// Five images of 40 × 32 pixels with a square, and their masks.
fn write_masked_images(root: &Path) {
    for name in ["images", "masks"] {
        std::fs::create_dir_all(root.join(name)).unwrap();
    }
    for i in 0..5u32 {
        let inside = |x: u32, y: u32| (8 + i..24 + i).contains(&x) && (8..24).contains(&y);
        image::RgbImage::from_fn(40, 32, |x, y| {
            image::Rgb(if inside(x, y) { [220, 30, 30] } else { [20, 90, 20] })
        })
        .save(root.join(format!("images/{i}.png")))
        .unwrap();
        image::GrayImage::from_fn(40, 32, |x, y| image::Luma([u8::from(inside(x, y))]))
            .save(root.join(format!("masks/{i}.png")))
            .unwrap();
    }
}

fn json(path: &Path) -> Vec<serde_json::Value> {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn a_vision_transformer_is_scored_and_drawn_on_pixels() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    train(here, "mae", "vit_w8d1h2_patch4_32");
    let evaluate = "evaluate mae --device cpu --dense-steps 8 --protocol";
    let output = portolan(here, &format!("{evaluate} knn,linear-dense,lost"));
    let text = succeeded(&output);
    for part in
        ["mean IoU", "untrained", "RMSE", "δ1", "per class: ", "background", "CorLoc", "kNN"]
    {
        assert!(text.contains(part), "`{part}` is not in {text}");
    }
    let results = json(&here.join("mae/evaluation.json"));
    let of = |key: &str| results.iter().find_map(|result| result.get(key)).unwrap().clone();
    let dense = of("linear_dense");
    assert!(dense["mean_iou"].as_f64().unwrap() > 0.0 && dense["rmse"].as_f64().unwrap() > 0.0);
    assert!(dense["untrained"]["delta1"].as_f64().is_some());
    assert_eq!(dense["per_class"].as_array().unwrap().len(), 11);
    assert_eq!((dense["trained_on"].as_u64(), dense["scored"].as_u64()), (Some(64), Some(30)));
    assert!((0.0..=1.0).contains(&of("lost")["corloc"].as_f64().unwrap()));
    assert!(results.iter().any(|result| result.get("top1").is_some()));

    write_masked_images(&here.join("squares"));
    let output = portolan(here, &format!("{evaluate} linear-dense --data squares"));
    assert!(printed(&output).contains("every fifth image"), "{}", printed(&output));
    assert!(json(&here.join("mae/evaluation.json"))[0]["linear_dense"]["rmse"].is_null());
    refused(&portolan(here, &format!("{evaluate} lost --data squares")), &["squares", "boxes"]);
    refused(
        &portolan(here, &format!("{evaluate} linear-dense --data mae")),
        &["images/", "masks/"],
    );

    let drawn = succeeded(&portolan(here, "dense mae --data squares --out drawn --steps 3"));
    assert!(
        drawn.contains("segmentation  mean IoU") && drawn.contains("bottom: classes"),
        "{drawn}"
    );
    // The image, patches, attention and object above; predicted and true classes below.
    let size = image::image_dimensions(here.join("drawn/0-4-dense.png")).unwrap();
    assert_eq!(size, (4 * 198 - 6, 2 * 198 - 6));
    let plain = portolan(here, "dense mae --data squares/images --out plain --images 2");
    assert!(printed(&plain).contains("no dense probe"), "{}", printed(&plain));
    assert_eq!(std::fs::read_dir(here.join("plain")).unwrap().count(), 2);

    let embedded =
        succeeded(&portolan(here, "embed mae --data squares/images --patches --out p.npy"));
    assert!(embedded.contains("5 images, 64 patches each (8 rows of 8), 8 features"), "{embedded}");
    let npy = std::fs::read(here.join("p.npy")).unwrap();
    assert!(String::from_utf8_lossy(&npy[..100]).contains("(5, 64, 8)"));
    refused(&portolan(here, "embed mae --patches --out p.csv"), &[".csv", "--patches"]);
}

#[test]
fn a_convolutional_network_has_a_dense_probe_but_no_keys() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    train(here, "simclr", "resnet18-w4");
    let evaluate = "evaluate simclr --device cpu --dense-steps 4 --protocol";
    let text = succeeded(&portolan(here, &format!("{evaluate} linear-dense")));
    assert!(text.contains("mean IoU"), "{text}");
    refused(&portolan(here, &format!("{evaluate} lost")), &["resnet18-w4", "vision transformer"]);
    succeeded(&portolan(here, "dense simclr --out drawn --steps 3 --images 1"));
    assert_eq!(std::fs::read_dir(here.join("drawn")).unwrap().count(), 1);
}
