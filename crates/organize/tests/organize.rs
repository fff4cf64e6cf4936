//! Obvious clusters, duplicate images, and names that could break a page.
#![allow(clippy::unwrap_used)]

use image::{Rgb, RgbImage};
use portolan_organize::{
    Embeddings, Gallery, GalleryImage, Thumbnail, dense_clusters, duplicates, groups, html, nearest,
};

/// One cluster of each size around an axis of its own, and at the end one direction far from all.
fn clusters(sizes: &[usize]) -> Embeddings {
    let width = sizes.len() + 1;
    let mut values = Vec::new();
    for (axis, &size) in sizes.iter().enumerate() {
        for i in 0..size {
            let mut row = vec![0.0; width];
            row[axis] = 1.0;
            row[(axis + 1) % sizes.len()] = 0.004 * i as f32;
            values.extend(row);
        }
    }
    values.extend((0..width).map(|axis| if axis + 1 == width { -1.0 } else { 0.0 }));
    Embeddings::new(values, width).unwrap()
}

#[test]
fn clusters_become_groups_the_largest_first_and_an_outlier_is_in_none() {
    let x = clusters(&[12, 20, 15]);
    let found = groups(&x, Some(4)).unwrap();
    assert_eq!(found.members().iter().map(Vec::len).collect::<Vec<_>>(), [20, 15, 12, 1]);
    assert!((12..32).all(|i| found.of[i] == 0));
    let typical = &found.members()[0];
    assert!((20..24).contains(&typical[0]), "the middle of the cluster is typical: {typical:?}");
    assert!(groups(&x, None).unwrap().count >= 3);
    let dense = dense_clusters(&x).unwrap();
    assert_eq!(dense[47], -1);
    assert!(dense[0] != dense[12] && dense[12] != dense[32]);
}

#[test]
fn impossible_requests_are_errors() {
    let x = clusters(&[3]);
    assert!(groups(&x, Some(0)).unwrap_err().to_string().contains("0 groups"));
    assert!(groups(&x, Some(9)).unwrap_err().to_string().contains("ask for fewer"));
    assert!(Embeddings::new(vec![1.0, f32::NAN], 2).is_err());
    assert!(Embeddings::new(vec![1.0, 2.0, 3.0], 2).is_err());
}

#[test]
fn a_scaled_copy_is_a_duplicate_and_another_image_with_a_similar_embedding_is_not() {
    let scene = |shift: u32, side: u32| {
        RgbImage::from_fn(side, side, |x, y| {
            let bright = ((x * 8 / side + shift) / 2 + y * 8 / side / 2).is_multiple_of(2);
            if bright { Rgb([220, 200, 180]) } else { Rgb([30, 60, 40]) }
        })
    };
    let prints: Vec<_> = [scene(0, 200), scene(0, 80), scene(2, 200)]
        .iter()
        .map(|image| Thumbnail::of(image).unwrap().fingerprint)
        .collect();
    let x = Embeddings::new(vec![1.0, 0.0, 1.0, 0.001, 1.0, 0.002], 2).unwrap();
    assert_eq!(duplicates(&nearest(&x, 2), &prints), [None, Some(0), None]);
}

#[test]
fn a_name_cannot_break_out_of_the_page() {
    let x = clusters(&[5]);
    let name = "</script><img src=x onerror=alert(1)>.jpg";
    let image = || GalleryImage { name: name.into(), thumbnail: "AAAA".into() };
    let images: Vec<GalleryImage> = (0..6).map(|_| image()).collect();
    let page = html(&Gallery {
        title: "holiday",
        images: &images,
        groups: &groups(&x, Some(2)).unwrap(),
        nearest: &nearest(&x, 3),
        duplicate_of: &[None, Some(0), None, None, None, None],
        unreadable: &["torn.jpg: cut short".into()],
    })
    .unwrap();
    assert!(page.contains("script-src 'sha256-") && page.contains("torn.jpg"));
    assert!(!page.contains("<img src=x") && page.matches("</script>").count() == 2);
}
