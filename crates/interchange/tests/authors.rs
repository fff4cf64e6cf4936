//! Checkpoints with the names and shapes of the authors' ones, written by `torch.save` in
//! interop/fixtures.py.
#![allow(clippy::unwrap_used)]

use portolan_encoders::{EncoderConfig, Family, PositionScaling, VitConfig};
use portolan_interchange::{LoadedEncoder, Preprocessing};
use portolan_tensor::{Device, Kind, Tensor, io, no_grad};
use std::path::{Path, PathBuf};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files").join(name)
}

fn open(name: &str) -> LoadedEncoder {
    LoadedEncoder::open(&file(name), None).unwrap()
}

fn refused(path: &Path) -> String {
    let error = LoadedEncoder::open(path, None).expect_err("a file to be refused");
    let error = format!("{:#}", anyhow::Error::from(error));
    assert!(!error.contains('\n') && error.contains(&*path.to_string_lossy()), "{error}");
    error
}

/// The number with which fixtures.py fills the tensor of this name.
fn mark(name: &str) -> f64 {
    let number = name.bytes().fold(7u64, |number, byte| (number * 31 + u64::from(byte)) % 65521);
    number as f64 / 65536.0
}

/// Asserts that every weight has the number of its own name throughout.
fn is_in_place(loaded: &LoadedEncoder) {
    for (name, tensor) in
        loaded.tensors.iter().filter(|(name, _)| !name.ends_with("num_batches_tracked"))
    {
        let (least, most) = (tensor.min().double_value(&[]), tensor.max().double_value(&[]));
        assert_eq!((least, most), (mark(name), mark(name)), "{name}");
    }
}

fn left(loaded: &LoadedEncoder) -> Vec<&str> {
    loaded.left_out.iter().map(|(part, _)| part.as_str()).collect()
}

#[test]
fn resnets_come_from_whatever_surrounds_them() {
    portolan_tensor::tch::set_num_threads(1);
    let cases: [(&str, &str, &[&str]); 5] = [
        (
            "moco_v2_800ep_pretrain.pth.tar", // a stream, as before PyTorch 1.6
            "state_dict.module.encoder_q.",
            &[
                "state_dict.module.encoder_k",
                "state_dict.module.encoder_q.fc",
                "state_dict.module.queue",
                "state_dict.module.queue_ptr",
            ],
        ),
        ("simclr_resnet50-1x.pth", "state_dict.", &["state_dict.fc"]),
        (
            "byol_sequence.pth",
            "online_network.encoder.",
            &["online_network.projection", "target_network"],
        ),
        (
            "barlow_checkpoint.pth",
            "model.module.backbone.",
            &["model.module.bn", "model.module.projector"],
        ),
        ("vicreg_resnet50.pth", "", &[]),
    ];
    for (name, taken, left_out) in cases {
        let loaded = open(name);
        assert_eq!(loaded.config, EncoderConfig::named("resnet50").unwrap(), "{name}");
        assert_eq!((loaded.prefix.as_str(), left(&loaded)), (taken, left_out.to_vec()), "{name}");
        assert_eq!(loaded.tensors.len(), 318, "{name}");
        assert_eq!(loaded.preprocessing, Preprocessing::imagenet(224));
        is_in_place(&loaded);
    }
}

#[test]
fn transformers_come_from_whatever_surrounds_them() {
    portolan_tensor::tch::set_num_threads(1);
    let cases = [
        (
            "moco_v3_vit-s-300ep.pth.tar",
            "state_dict.module.base_encoder.",
            "vit_w384d12h12_patch16_224",
        ),
        (
            "dino_deitsmall16_pretrain_full_checkpoint.pth",
            "teacher.backbone.",
            "vit_small_patch16_224",
        ),
        ("mae_pretrain_vit_base_full.pth", "model.", "vit_base_patch16_224"),
    ];
    for (name, taken, encoder) in cases {
        let loaded = open(name);
        assert_eq!(
            (loaded.prefix.as_str(), loaded.config.name().as_str()),
            (taken, encoder),
            "{name}"
        );
        assert!(loaded.notes[0].contains("heads"), "{name}");
        is_in_place(&loaded);
    }
    assert_eq!(
        left(&open("mae_pretrain_vit_base_full.pth")),
        ["model.decoder_pos_embed", "model.decoder_pred", "model.mask_token"]
    );
}

#[test]
fn transformers_of_dinov2_keep_their_scales_and_mask_tokens() {
    portolan_tensor::tch::set_num_threads(1);
    let vit = |name: &str| {
        let loaded = open(name);
        is_in_place(&loaded);
        assert_eq!((left(&loaded), loaded.preprocessing.size), (vec![], 224));
        // Images of 224 pixels have 16 × 16 patches, while the positions are for 37 × 37.
        let encoder = loaded.build(&loaded.config, Device::Cpu).unwrap();
        let images = Tensor::zeros([1, 3, 224, 140], (Kind::Float, Device::Cpu));
        assert_eq!(no_grad(|| encoder.forward(&images, false)).size(), [1, 384]);
        let EncoderConfig::Vit(vit) = loaded.config else { panic!("{name} is a transformer") };
        assert!(vit.layer_scale > 0.0 && vit.mask_token && vit.class_position);
        vit
    };
    let plain = vit("dinov2_vits14_pretrain.pth");
    assert_eq!(plain.name(), "vit_small_patch14_dinov2");
    assert_eq!(plain.position_scaling, PositionScaling::ScaleFactor);
    let registers = vit("dinov2_vits14_reg4_pretrain.pth");
    assert_eq!((registers.registers, registers.image), (4, 518));
    assert_eq!(registers.position_scaling, PositionScaling::Antialias);
}

#[test]
fn a_transformer_takes_the_form_of_the_run_that_starts_from_it() {
    portolan_tensor::tch::set_num_threads(1);
    // timm's: no place of the class token, and no mask token.
    let named = EncoderConfig::named("vit_small_patch14_reg4_dinov2").unwrap();
    let path = file("dinov2_vits14_reg4_pretrain.pth");
    let loaded = LoadedEncoder::open(&path, Some(&named)).unwrap();
    assert_eq!(loaded.tensors["pos_embed"].size(), [1, 37 * 37, 384]);
    let class = loaded.tensors["cls_token"].double_value(&[0, 0, 5]);
    assert!((class - mark("cls_token") - mark("pos_embed")).abs() < 1e-6);
    assert!(!loaded.tensors.contains_key("mask_token"));
    assert!(loaded.notes.iter().any(|note| note.contains("mask token")), "{:?}", loaded.notes);
    // And with both, where only the mask token is missing.
    let EncoderConfig::Vit(vit) = EncoderConfig::named("vit_small_patch16_224").unwrap() else {
        panic!("a transformer")
    };
    let named = VitConfig { mask_token: true, ..vit }.into();
    let path = file("dino_deitsmall16_pretrain_full_checkpoint.pth");
    let loaded = LoadedEncoder::open(&path, Some(&named)).unwrap();
    assert_eq!(loaded.tensors["mask_token"], Tensor::zeros([1, 384], (Kind::Float, Device::Cpu)));
}

#[test]
fn a_file_that_would_run_something_is_refused_by_what_it_would_run() {
    for name in ["harm.pth", "harm_old.pth"] {
        let error = refused(&file(name));
        assert!(
            error.contains("`posix.system`") && error.contains("nothing was executed"),
            "{error}"
        );
    }
}

#[test]
fn other_architectures_are_named() {
    assert!(refused(&file("resnext50_32x4d.pth")).contains("it is resnext50_32x4d"));
    let named = EncoderConfig::named("vit_tiny_patch16_224").unwrap();
    let error =
        LoadedEncoder::open(&file("moco_v3_vit-s-300ep.pth.tar"), Some(&named)).err().unwrap();
    let error = format!("{:#}", anyhow::Error::from(error));
    assert!(error.contains("vit_tiny_patch16_224") && error.contains("384"), "{error}");
}

#[test]
fn files_cut_short_and_other_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (name, kept) in
        [("dinov2_vits14_pretrain.pth", 0.6), ("moco_v2_800ep_pretrain.pth.tar", 0.5)]
    {
        let whole = std::fs::read(file(name)).unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, &whole[..(whole.len() as f64 * kept) as usize]).unwrap();
        assert!(refused(&path).contains("cut short"));
    }
    let text = folder.path().join("notes.pth");
    std::fs::write(&text, "not a checkpoint").unwrap();
    assert!(refused(&text).contains("neither"));
    assert!(refused(&folder.path().join("missing.pth")).contains("there is no"));
}

#[test]
fn hub_folders_are_read_and_those_without_a_config_are_not() {
    portolan_tensor::tch::set_num_threads(1);
    let folder = tempfile::tempdir().unwrap();
    assert!(refused(folder.path()).contains("config.json"));
    let config = r#"{"architecture": "resnet50", "num_classes": 0, "num_features": 2048,
        "pretrained_cfg": {"input_size": [3, 96, 96], "crop_pct": 0.75, "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25]}}"#;
    std::fs::write(folder.path().join("config.json"), config).unwrap();
    assert!(refused(folder.path()).contains("model.safetensors"));
    std::fs::copy(file("vicreg_resnet50.pth"), folder.path().join("pytorch_model.bin")).unwrap();
    let loaded = LoadedEncoder::open(folder.path(), None).unwrap();
    let expected = Preprocessing {
        resize: 128,
        mean: [0.5; 3],
        std: [0.25; 3],
        ..Preprocessing::imagenet(96)
    };
    assert_eq!((loaded.config.name().as_str(), loaded.preprocessing), ("resnet50", expected));
    is_in_place(&loaded);
}

#[test]
fn a_transformer_of_timm_has_the_heads_that_its_config_names() {
    portolan_tensor::tch::set_num_threads(1);
    let folder = tempfile::tempdir().unwrap();
    let config =
        r#"{"architecture": "vit_small_patch16_224.dino", "model_args": {"num_heads": 8}}"#;
    std::fs::write(folder.path().join("config.json"), config).unwrap();
    let weights = folder.path().join("pytorch_model.bin");
    std::fs::copy(file("dino_deitsmall16_pretrain_full_checkpoint.pth"), weights).unwrap();
    let loaded = LoadedEncoder::open(folder.path(), None).unwrap();
    assert_eq!(loaded.config.name(), "vit_w384d12h8_patch16_224");
    assert!(loaded.notes.is_empty(), "nothing was assumed: {:?}", loaded.notes);
}

#[test]
fn shapes_that_no_encoder_has_are_refused() {
    portolan_tensor::tch::set_num_threads(1);
    let zeros = |name: &str, shape: &[i64]| {
        (name.to_owned(), Tensor::zeros(shape, (Kind::Float, Device::Cpu)))
    };
    let vit =
        || vec![zeros("patch_embed.proj.weight", &[4, 3, 2, 2]), zeros("cls_token", &[1, 1, 4])];
    let resnet = || vec![zeros("conv1.weight", &[4, 3, 5, 5]), zeros("bn1.weight", &[4])];
    let positions = || zeros("pos_embed", &[1, 5, 4]);
    let with = |mut tensors: Vec<(String, Tensor)>, more: Vec<(String, Tensor)>| {
        tensors.extend(more);
        tensors
    };
    let cases = [
        (with(vit(), vec![zeros("conv1.weight", &[5])]), "one and the same"),
        (with(vit(), vec![positions(), zeros("blocks.0.mlp.fc1.weight", &[])]), "blocks.0.mlp.fc2"),
        (with(vit(), vec![zeros("pos_embed", &[5])]), "unusual shape"),
        (with(vit(), vec![positions(), zeros("blocks.0.norm1.weight", &[4])]), "blocks.0.mlp.fc1"),
        (resnet(), "ResNet with [0, 0, 0, 0]"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    for (tensors, expected) in cases {
        io::save(&path, &tensors, &Default::default()).unwrap();
        let error = refused(&path);
        assert!(error.contains(expected), "{error}");
    }
}
