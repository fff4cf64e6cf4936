//! Heaps that anyone would see, pictures kept twice, and names that would break a page.
#![allow(clippy::unwrap_used)]

use image::{Rgb, RgbImage};
use portolan_organize::{
    Embeddings, Gallery, Photo, Thumbnail, dense_clusters, duplicates, groups, html, nearest,
};

/// `sizes` heaps around as many axes, and at the end one direction far from all.
fn heaps(sizes: &[usize]) -> Embeddings {
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
fn heaps_become_groups_the_largest_first_and_the_stray_is_in_no_cluster() {
    let x = heaps(&[12, 20, 15]);
    let found = groups(&x, Some(4)).unwrap();
    assert_eq!(found.members().iter().map(Vec::len).collect::<Vec<_>>(), [20, 15, 12, 1]);
    assert!((12..32).all(|i| found.of[i] == 0));
    let typical = &found.members()[0];
    assert!((20..24).contains(&typical[0]), "the middle of the heap is typical: {typical:?}");
    assert!(groups(&x, None).unwrap().count >= 3);
    let clusters = dense_clusters(&x).unwrap();
    assert_eq!(clusters[47], -1);
    assert!(clusters[0] != clusters[12] && clusters[12] != clusters[32]);
}

#[test]
fn impossible_requests_are_refused() {
    let x = heaps(&[3]);
    assert!(groups(&x, Some(0)).unwrap_err().to_string().contains("0 groups"));
    assert!(groups(&x, Some(9)).unwrap_err().to_string().contains("ask for fewer"));
    assert!(Embeddings::new(vec![1.0, f32::NAN], 2).is_err());
    assert!(Embeddings::new(vec![1.0, 2.0, 3.0], 2).is_err());
}

#[test]
fn a_scaled_copy_is_a_duplicate_and_another_picture_with_a_like_embedding_is_not() {
    let scene = |shift: u32, side: u32| {
        RgbImage::from_fn(side, side, |x, y| {
            let bright = ((x * 8 / side + shift) / 2 + y * 8 / side / 2).is_multiple_of(2);
            if bright { Rgb([220, 200, 180]) } else { Rgb([30, 60, 40]) }
        })
    };
    let prints: Vec<_> = [scene(0, 200), scene(0, 80), scene(2, 200)]
        .iter()
        .map(|picture| Thumbnail::of(picture).unwrap().fingerprint)
        .collect();
    let x = Embeddings::new(vec![1.0, 0.0, 1.0, 0.001, 1.0, 0.002], 2).unwrap();
    assert_eq!(duplicates(&nearest(&x, 2), &prints), [None, Some(0), None]);
}

#[test]
fn a_name_cannot_break_out_of_the_page() {
    let x = heaps(&[5]);
    let name = "</script><img src=x onerror=alert(1)>.jpg";
    let photos: Vec<Photo> =
        (0..6).map(|_| Photo { name: name.into(), thumbnail: "AAAA".into() }).collect();
    let page = html(&Gallery {
        title: "holiday",
        photos: &photos,
        groups: &groups(&x, Some(2)).unwrap(),
        nearest: &nearest(&x, 3),
        duplicate_of: &[None, Some(0), None, None, None, None],
        unreadable: &["torn.jpg: cut short".into()],
    })
    .unwrap();
    assert!(page.contains("script-src 'sha256-") && page.contains("torn.jpg"));
    assert!(!page.contains("<img src=x") && page.matches("</script>").count() == 2);
}
