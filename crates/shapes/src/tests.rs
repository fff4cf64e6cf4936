#![allow(clippy::unwrap_used)]

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::silhouette::distance;
use super::*;

fn shapes(size: u32) -> Shapes {
    Shapes::new(Split::Train, 1_000, size, 0).unwrap()
}

/// SHA-256 of the ten images from index 20 on, one of each kind, and of their masks.
fn checksum(size: u32) -> String {
    let mut digest = Sha256::new();
    for index in 20..30 {
        let rendered = shapes(size).render(index);
        digest.update(rendered.image.as_raw());
        digest.update(rendered.mask.as_raw());
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn pixels_never_change_within_a_version() {
    // A change here changes every result anyone has recorded: it needs a new VERSION.
    assert_eq!(VERSION, "shapes-1");
    assert_eq!(checksum(32), "1283a16bbdbabe7da18ecb9383540b1e7ebca3fe7602619b60d7c2d2cfec4bcf");
    assert_eq!(checksum(96), "c5e9e50447915ac3bffd11656d35cec861527bdb73b0239c79906ed61542e14a");
}

#[test]
fn an_image_depends_on_seed_split_and_index_alone() {
    let all = |shapes: Shapes| (0..40).map(|i| shapes.render(i).image).collect::<Vec<_>>();
    let one_by_one = all(shapes(32));
    let in_parallel: Vec<_> = (0..40).into_par_iter().map(|i| shapes(32).render(i).image).collect();
    assert_eq!(one_by_one, in_parallel);
    assert_eq!(one_by_one, all(Shapes::new(Split::Train, 40, 32, 0).unwrap()));
    for other in [Shapes::new(Split::Test, 40, 32, 0), Shapes::new(Split::Train, 40, 32, 1)] {
        assert!(one_by_one.iter().zip(all(other.unwrap())).all(|(a, b)| *a != b));
    }
}

#[test]
fn another_palette_changes_the_paint_alone() {
    let (standard, shifted) = (shapes(32), shapes(32).with_palette(Palette::Shifted));
    for index in 0..20 {
        let (a, b) = (standard.render(index), shifted.render(index));
        assert_eq!(a.mask, b.mask);
        assert_ne!(a.image, b.image);
        let turn = (b.factors.hue - a.factors.hue).rem_euclid(1.0);
        assert!((turn - [0.5, 0.1][index % 2]).abs() < 1e-5, "{turn}");
        assert_eq!(Factors { hue: a.factors.hue, ..b.factors }, a.factors);
    }
    // As in the standard palette, each hue belongs to two kinds, whose patterns differ.
    let hue = |kind: Kind| ((kind.surface().1 + Palette::Shifted.turn(kind)) * 10.0).round() % 10.0;
    for kind in Kind::ALL {
        let same: Vec<Kind> =
            Kind::ALL.into_iter().filter(|other| hue(*other) == hue(kind)).collect();
        assert!(same.len() == 2 && same[0].surface().0 != same[1].surface().0, "{same:?}");
        assert_ne!(same[0].surface().1, same[1].surface().1, "they had different hues before");
    }
}

#[test]
fn labels_are_balanced_and_named() {
    let shapes = shapes(32);
    for index in 0..shapes.len() {
        assert_eq!(shapes.kind(index).label(), (index % 10) as u32);
    }
    assert_eq!(Kind::ALL.map(Kind::name), CLASSES);
}

#[test]
fn sizes_are_checked() {
    for size in [32, 224] {
        assert_eq!(shapes(size).render(0).image.dimensions(), (size, size));
    }
    for size in [0, 31, 225] {
        let error = Shapes::new(Split::Train, 1, size, 0).unwrap_err().to_string();
        assert!(error.contains(&size.to_string()) && error.contains("32 to 224"), "{error}");
    }
}

#[test]
fn a_larger_size_shows_the_same_scene() {
    for index in 0..20 {
        let (small, large) = (shapes(32).render(index), shapes(96).render(index));
        let mut difference = 0.0;
        for (x, y, pixel) in small.image.enumerate_pixels() {
            for channel in 0..3 {
                let block =
                    (0..9).map(|i| large.image.get_pixel(3 * x + i % 3, 3 * y + i / 3)[channel]);
                let mean = block.map(f32::from).sum::<f32>() / 9.0;
                difference += (mean - f32::from(pixel[channel])).abs() / (3.0 * 32.0 * 32.0);
            }
        }
        assert!(difference < 2.0, "image {index} differs by {difference} gray levels");
    }
}

#[test]
fn colors_and_light_leave_the_mask_alone_and_the_mask_follows_the_object() {
    let before = shapes(64).render(15);
    let same_mask: [fn(&mut Factors); 4] = [
        |f| f.hue += 0.3,
        |f| f.light += 1.0,
        |f| f.phase[1] += 0.5,
        |f| f.background_value -= 0.2,
    ];
    for change in same_mask {
        let after = redraw(&before, change);
        assert_ne!(after.image, before.image);
        assert_eq!(after.mask, before.mask);
    }
    let other_mask: [fn(&mut Factors); 5] = [
        |f| f.x += 0.2,
        |f| f.y -= 0.2,
        |f| f.size *= 0.8,
        |f| f.aspect *= 1.2,
        |f| f.rotation += 0.3,
    ];
    for change in other_mask {
        assert_ne!(redraw(&before, change).mask, before.mask);
    }
}

fn redraw(rendered: &Rendered, change: fn(&mut Factors)) -> Rendered {
    let mut factors = rendered.factors.clone();
    change(&mut factors);
    draw(rendered.kind, &factors, rendered.image.width())
}

#[test]
fn no_kind_is_another_one_mirrored_or_recolored() {
    // On a grid over the upright objects: what two outlines share, of what either covers.
    let grid: Vec<[f32; 2]> = (0..2_500)
        .map(|i| [(i % 50) as f32 / 25.0 - 0.98, (i / 50) as f32 / 25.0 - 0.98])
        .collect();
    let overlap = |a: Kind, b: Kind, mirror: f32| {
        let inside =
            |&[x, y]: &[f32; 2]| (distance(a, x, y) < 0.0, distance(b, mirror * x, y) < 0.0);
        let both = grid.iter().map(inside).filter(|&(a, b)| a && b).count();
        let either = grid.iter().map(inside).filter(|&(a, b)| a || b).count();
        both as f32 / either as f32
    };
    for a in Kind::ALL {
        assert_eq!(overlap(a, a, 1.0), 1.0);
        for b in Kind::ALL.into_iter().filter(|&b| b != a) {
            for mirror in [1.0, -1.0] {
                let share = overlap(a, b, mirror);
                assert!(share < 0.85, "{} and {} share {share}", a.name(), b.name());
            }
        }
    }
}

#[test]
fn neither_pattern_nor_palette_tells_the_kind() {
    for kind in Kind::ALL {
        let (pattern, hue) = kind.surface();
        let others = Kind::ALL.into_iter().filter(|&other| other != kind).map(Kind::surface);
        assert_eq!(others.clone().filter(|other| other.0 == pattern).count(), 1);
        assert_eq!(others.clone().filter(|other| other.1 == hue).count(), 1);
        assert_eq!(others.clone().filter(|&other| other == (pattern, hue)).count(), 0);
    }
}

#[test]
fn distances_are_true_outside_and_never_jump() {
    // A small step changes a distance by at most its length; far outside, by exactly its length.
    for kind in Kind::ALL {
        for i in 0..400 {
            let (x, y) = ((i % 20) as f32 / 5.0 - 1.9, (i / 20) as f32 / 5.0 - 1.9);
            let here = distance(kind, x, y);
            for (dx, dy) in [(0.01, 0.0), (0.0, 0.01)] {
                let change = (distance(kind, x + dx, y + dy) - here).abs();
                assert!(change < 0.0101, "{} at {x}, {y}: {change}", kind.name());
            }
        }
        assert!((distance(kind, 0.0, -8.0) - distance(kind, 0.0, -7.0) - 1.0).abs() < 0.01);
    }
}
