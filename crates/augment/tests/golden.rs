//! Every operation against torchvision's results (`shared/golden`, or the folder in `PORTOLAN_GOLDEN`).
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

use image::RgbImage;
use portolan_augment::{Interpolation, ops};
use portolan_random::{Purpose, stream};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

#[test]
fn golden_augment() {
    let Some(bytes) = read_golden() else { return };
    let golden = Golden::new(&bytes);
    let failed: Vec<_> =
        golden.cases.iter().filter_map(|case| golden.check(case, 0.0).err()).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn golden_augment_fails_on_values_moved_by_three_times_the_tolerance() {
    let Some(bytes) = read_golden() else { return };
    let golden = Golden::new(&bytes);
    for case in golden.cases.iter().filter(|case| kind(case) != "image") {
        assert!(golden.check(case, 3.0).is_err(), "{case} passes with its expected values moved");
    }
}

#[test]
#[should_panic(expected = "no test knows the golden case sharpness_0")]
fn golden_augment_fails_on_a_case_it_does_not_know() {
    let metadata = HashMap::from([("sharpness_0".to_string(), "{}".to_string())]);
    let no_tensors: [(&str, safetensors::tensor::TensorView<'_>); 0] = [];
    let bytes = safetensors::serialize(no_tensors, Some(metadata)).unwrap();
    let _ = Golden::new(&bytes).check("sharpness_0", 0.0);
}

/// The file's bytes; `None`, with a line that says so, where there is no such folder.
fn read_golden() -> Option<Vec<u8>> {
    let folder = std::env::var("PORTOLAN_GOLDEN")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/golden").into());
    if !PathBuf::from(&folder).is_dir() {
        assert!(std::env::var_os("PORTOLAN_GOLDEN").is_none(), "PORTOLAN_GOLDEN names no folder");
        println!(
            "skipped: there are no golden values in {folder}; set PORTOLAN_GOLDEN to their folder"
        );
        return None;
    }
    Some(std::fs::read(PathBuf::from(folder).join("augment.safetensors")).unwrap())
}

/// The case's name without its number: `hue_1` is of kind `hue`.
fn kind(case: &str) -> &str {
    case.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('_')
}

struct Golden<'a> {
    tensors: SafeTensors<'a>,
    settings: HashMap<String, Value>,
    cases: BTreeSet<String>,
}

impl<'a> Golden<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let tensors = SafeTensors::deserialize(bytes).unwrap();
        let (_, metadata) = SafeTensors::read_metadata(bytes).unwrap();
        let settings: HashMap<_, _> = metadata
            .metadata()
            .clone()
            .unwrap_or_default()
            .into_iter()
            .map(|(case, json)| (case, serde_json::from_str(&json).unwrap()))
            .collect();
        let with_tensors =
            tensors.names().into_iter().map(|name| name.split('.').next().unwrap().to_string());
        let cases = settings.keys().cloned().chain(with_tensors).collect();
        Golden { tensors, settings, cases }
    }

    /// Computes a case and compares, with the expected values moved by so many times the tolerance.
    fn check(&self, case: &str, moved: f64) -> Result<(), String> {
        let number = |key| self.number(case, key);
        let on_planes = |op: &dyn Fn(&mut [f32])| self.check_planes(case, op, 4, moved);
        match kind(case) {
            "image" => Ok(()), // read by the other cases
            "brightness" => on_planes(&|planes| ops::brightness(planes, number("factor") as f32)),
            "contrast" => on_planes(&|planes| ops::contrast(planes, number("factor") as f32)),
            "saturation" => on_planes(&|planes| ops::saturation(planes, number("factor") as f32)),
            "grayscale" => on_planes(&ops::grayscale),
            "hue" => self.check_planes(
                case,
                &|planes| ops::hue(planes, number("factor") as f32),
                6,
                moved,
            ),
            "solarize" => self.check_planes(
                case,
                &|planes| ops::solarize(planes, number("threshold") as u8),
                0,
                moved,
            ),
            "hflip" => {
                let width = self.source(case).width() as usize;
                self.check_planes(case, &|planes| ops::horizontal_flip(planes, width), 0, moved)
            }
            "gaussian_blur" => {
                assert_eq!(self.settings[case]["padding"], "reflect", "{case}");
                let width = self.source(case).width() as usize;
                let (sigma, kernel) = (number("sigma"), number("kernel") as u32);
                on_planes(&|planes| ops::gaussian_blur(planes, width, sigma, kernel))
            }
            "rotate90" => {
                let turned = ops::rotate90(&self.source(case), number("quarter_turns_ccw") as u32);
                self.check_image(case, &turned, 0, moved)
            }
            "resized_crop" => self.check_resized_crop(case, moved),
            "random_resized_crop" => self.check_random_regions(case, moved),
            "normalize" => self.check_normalize(case, moved),
            _ => panic!("no test knows the golden case {case}"),
        }
    }

    fn check_planes(
        &self,
        case: &str,
        op: &dyn Fn(&mut [f32]),
        most: u8,
        moved: f64,
    ) -> Result<(), String> {
        let image = self.source(case);
        let mut planes = vec![0.0; image.as_raw().len()];
        ops::to_planes(&image, &mut planes);
        op(&mut planes);
        self.check_image(case, &ops::to_image(&planes, image.width() as usize), most, moved)
    }

    fn check_resized_crop(&self, case: &str, moved: f64) -> Result<(), String> {
        let settings = &self.settings[case];
        assert_eq!(settings["antialias"], true, "{case}");
        let interpolation =
            serde_json::from_value::<Interpolation>(settings["interpolation"].clone()).unwrap();
        let pixels = |key| self.number(case, key) as u32;
        let size = pixels("size");
        let region = ops::Region {
            top: pixels("top"),
            left: pixels("left"),
            height: pixels("height"),
            width: pixels("width"),
        };
        let mut planes = vec![0.0; 3 * (size * size) as usize];
        ops::resized_crop(&self.source(case), region, size as usize, interpolation, &mut planes);
        self.check_image(case, &ops::to_image(&planes, size as usize), 4, moved)
    }

    /// Mean absolute difference at most 1 level, and none over `most`; all equal where that is 0.
    fn check_image(
        &self,
        case: &str,
        actual: &RgbImage,
        most: u8,
        moved: f64,
    ) -> Result<(), String> {
        let expected = self.image(&format!("{case}.out.rgb"));
        assert_eq!(actual.dimensions(), expected.dimensions(), "{case}: width and height");
        let away = |level: u8| if level < 128 { level + moved as u8 } else { level - moved as u8 };
        let differences =
            actual.as_raw().iter().zip(expected.as_raw()).map(|(a, e)| a.abs_diff(away(*e)));
        let worst = differences.clone().max().unwrap();
        let mean = differences.map(f64::from).sum::<f64>() / actual.as_raw().len() as f64;
        if worst <= most && mean <= 1.0 {
            return Ok(());
        }
        Err(format!(
            "{case}: differs by {mean:.3} levels on average and {worst} at most (allowed: 1 and {most})"
        ))
    }

    /// Quantiles of the regions that are drawn, each within 0.02 of what its quantity can range over.
    fn check_random_regions(&self, case: &str, moved: f64) -> Result<(), String> {
        let pair = |key| <[f64; 2]>::try_from(self.numbers(case, key)).unwrap();
        let (scale, ratio) = (pair("scale"), pair("ratio"));
        let (height, width) = (self.number(case, "height"), self.number(case, "width"));
        let mut rng = stream(0, Purpose::View, &[]);
        // Ten times the golden draws, so that what differs by chance is hardly more than their own share.
        let regions: Vec<_> = (0..10 * self.number(case, "draws") as usize)
            .map(|_| ops::random_region(width as u32, height as u32, scale, ratio, &mut rng))
            .collect();
        let compare = |name: &str, of: &dyn Fn(&ops::Region) -> f64, range: f64| {
            let mut drawn: Vec<f64> = regions.iter().map(of).collect();
            drawn.sort_by(f64::total_cmp);
            let expected = self.floats(&format!("{case}.out.{name}"));
            for (quantile, expected) in self.numbers(case, "quantiles").iter().zip(expected) {
                let actual = drawn[(quantile * (drawn.len() - 1) as f64).round() as usize];
                if (actual - expected - moved * 0.02 * range).abs() > 0.02 * range {
                    return Err(format!(
                        "{case}: quantile {quantile} of {name} is {actual}, expected {expected}"
                    ));
                }
            }
            Ok(())
        };
        compare(
            "area",
            &|r| f64::from(r.width * r.height) / (width * height),
            scale[1] - scale[0],
        )?;
        compare("aspect", &|r| f64::from(r.width) / f64::from(r.height), ratio[1] - ratio[0])?;
        compare("top", &|r| f64::from(r.top), height)?;
        compare("left", &|r| f64::from(r.left), width)
    }

    /// Relative to the largest value, 1e-5: nothing is rounded to levels here.
    fn check_normalize(&self, case: &str, moved: f64) -> Result<(), String> {
        let crop: Vec<u32> = self.numbers(case, "crop").into_iter().map(|n| n as u32).collect();
        let expected = self.floats(&format!("{case}.out.chw"));
        let shape = self.tensors.tensor(&format!("{case}.out.chw")).unwrap().shape().to_vec();
        let (left, top, width, height) = (crop[0], crop[1], crop[2], crop[3]);
        assert_eq!(
            shape,
            [3, height as usize, width as usize],
            "{case}: crop is left, top, width, height"
        );
        let image =
            image::imageops::crop_imm(&self.source(case), left, top, width, height).to_image();
        let mut planes = vec![0.0; expected.len()];
        ops::to_planes(&image, &mut planes);
        let triple = |key| <[f64; 3]>::try_from(self.numbers(case, key)).unwrap().map(|n| n as f32);
        ops::normalize(&mut planes, triple("mean"), triple("std"));
        let tolerance =
            1e-5 * expected.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
        for (i, (actual, expected)) in planes.iter().zip(expected).enumerate() {
            if (f64::from(*actual) - expected - moved * tolerance).abs() > tolerance {
                return Err(format!("{case}: value {i} is {actual}, expected {expected}"));
            }
        }
        Ok(())
    }

    fn source(&self, case: &str) -> RgbImage {
        self.image(&format!("image_{}.in.rgb", self.number(case, "image")))
    }

    /// A tensor `[height, width, 3]` of bytes as an image.
    fn image(&self, name: &str) -> RgbImage {
        let tensor = self.tensors.tensor(name).unwrap();
        let [height, width, 3] = *tensor.shape() else {
            panic!("{name} is not [height, width, 3]")
        };
        RgbImage::from_raw(width as u32, height as u32, tensor.data().to_vec()).unwrap()
    }

    /// The values of a tensor of floats.
    fn floats(&self, name: &str) -> Vec<f64> {
        let tensor = self.tensors.tensor(name).unwrap();
        match tensor.dtype() {
            Dtype::F32 => {
                tensor.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b).into()).collect()
            }
            Dtype::F64 => {
                tensor.data().as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect()
            }
            other => panic!("{name} is {other:?}, not floats"),
        }
    }

    fn number(&self, case: &str, key: &str) -> f64 {
        self.settings[case][key].as_f64().unwrap_or_else(|| panic!("{case} has no number {key}"))
    }

    fn numbers(&self, case: &str, key: &str) -> Vec<f64> {
        serde_json::from_value(self.settings[case][key].clone())
            .unwrap_or_else(|e| panic!("{case}, {key}: {e}"))
    }
}
