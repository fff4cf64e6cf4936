//! `gallery.html`: one page to browse the images, which loads nothing.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html as markup};
use portolan_report::{compass, counted, head};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::embeddings::Neighbor;
use crate::error::Result;
use crate::groups::Groups;

/// The groups of a page contain about this many thumbnails, 30 MB, which browsers still open. For
/// larger folders each group shows the same share, its most typical members, and at least one.
const MAX_THUMBNAILS: usize = 10_000;
/// Members of a group that are shown before the reader asks for all.
const SHOWN_FIRST: usize = 48;
/// Sets of duplicates that are shown. A folder that was copied would fill the page with them.
const DUPLICATE_SETS: usize = 200;
/// Members of such a set that are shown.
const DUPLICATES: usize = 6;

const GALLERY_STYLE: &str = include_str!("gallery.css");
const SCRIPT: &str = include_str!("gallery.js");

/// An image on the page.
#[derive(Clone, Debug)]
pub struct GalleryImage {
    /// Its path, as users know it.
    pub name: String,
    /// A JPEG in base64.
    pub thumbnail: String,
}

/// The content of the page. The lists have one entry per image, in the same order.
#[derive(Clone, Copy, Debug)]
pub struct Gallery<'a> {
    /// The title: the folder's name.
    pub title: &'a str,
    /// The images.
    pub images: &'a [GalleryImage],
    /// Their groups.
    pub groups: &'a Groups,
    /// The images most similar to each. The page shows all that are given.
    pub nearest: &'a [Vec<Neighbor>],
    /// The first image that each one duplicates, if any.
    pub duplicate_of: &'a [Option<usize>],
    /// The files that could not be read, each as `path: reason`.
    pub unreadable: &'a [String],
}

/// The data of the script. Images without a thumbnail are in no list.
#[derive(Serialize)]
struct Data<'a> {
    names: Vec<&'a str>,
    /// Thumbnails that no element of the page shows initially; the script takes the others from
    /// their elements.
    thumbnails: Vec<Option<&'a str>>,
    nearest: Vec<Vec<(usize, f32)>>,
    /// The members of each group that the page does not show initially.
    hidden: Vec<&'a [usize]>,
}

/// The page as one HTML file. Its content security policy allows its own script by hash, and no
/// loads.
///
/// # Errors
/// When the script's data cannot be written as JSON.
pub fn html(gallery: &Gallery) -> Result<String> {
    let mut members = gallery.groups.members();
    let share = MAX_THUMBNAILS as f64 / gallery.images.len().max(MAX_THUMBNAILS) as f64;
    let sizes: Vec<usize> = members.iter().map(Vec::len).collect();
    for group in &mut members {
        group.truncate((group.len() as f64 * share).ceil() as usize);
    }
    let data = data(gallery, &members)?;
    let duplicates = duplicate_sets(gallery.duplicate_of);
    let title = format!("{} · gallery", gallery.title);
    let script_hash = STANDARD.encode(Sha256::digest(SCRIPT));
    let page = markup! {
        (DOCTYPE)
        html lang="en" {
            (head(&title, GALLERY_STYLE, Some(&script_hash)))
            body {
                (header(gallery, &sizes, duplicates.len()))
                main {
                    @for (group, shown) in members.iter().enumerate() {
                        (group_section(gallery, group, shown, sizes[group]))
                    }
                    @if !duplicates.is_empty() { (duplicates_section(gallery, &duplicates)) }
                    @if !gallery.unreadable.is_empty() { (unreadable_section(gallery.unreadable)) }
                }
                dialog id="similar" aria-labelledby="similar-title" {
                    form method="dialog" { button.close { "Close" } }
                    h2 id="similar-title" { "Most similar images" }
                    div id="example" {}
                    ul.images id="found" {}
                }
                footer { p {
                    "Portolan " (env!("CARGO_PKG_VERSION"))
                    ". This page is one file and loads nothing."
                } }
                script id="data" type="application/json" { (PreEscaped(data)) }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    Ok(page.into_string())
}

fn data(gallery: &Gallery, members: &[Vec<usize>]) -> Result<String> {
    let mut thumbnails = vec![None; gallery.images.len()];
    let hidden: Vec<&[usize]> =
        members.iter().map(|group| &group[group.len().min(SHOWN_FIRST)..]).collect();
    for &index in hidden.iter().copied().flatten() {
        thumbnails[index] = Some(gallery.images[index].thumbnail.as_str());
    }
    let mut on_page = vec![false; gallery.images.len()];
    members.iter().flatten().for_each(|&index| on_page[index] = true);
    let rounded = |n: &Neighbor| (n.index, (n.similarity * 100.0).round() / 100.0);
    let nearest = gallery
        .nearest
        .iter()
        .map(|near| near.iter().filter(|n| on_page[n.index]).map(rounded).collect())
        .collect();
    let names = gallery.images.iter().map(|image| image.name.as_str()).collect();
    let json = serde_json::to_string(&Data { names, thumbnails, nearest, hidden })?;
    // A file's name must not end the script element.
    Ok(json.replace('<', "\\u003c"))
}

fn header(gallery: &Gallery, sizes: &[usize], duplicates: usize) -> Markup {
    markup! {
        header {
            p.brand { (compass()) "Portolan" }
            h1 { (gallery.title) }
            p.lead {
                (counted(gallery.images.len(), "image", "images")) " in "
                (counted(sizes.len(), "group", "groups"))
                ", found without labels. The most typical of a group come first. "
                "Choose an image to see those most similar to it."
            }
            @if gallery.images.len() > MAX_THUMBNAILS {
                p.lead {
                    "The page shows the " (MAX_THUMBNAILS)
                    " most typical ones; groups.parquet lists all."
                }
            }
            nav aria-label="Groups" {
                @for (group, size) in sizes.iter().enumerate() {
                    a href=(format!("#group-{}", group + 1)) {
                        "Group " (group + 1) " (" (size) ")"
                    }
                }
                @if duplicates > 0 { a href="#duplicates" { "Duplicates (" (duplicates) ")" } }
                @if !gallery.unreadable.is_empty() {
                    a href="#unreadable" { "Unreadable (" (gallery.unreadable.len()) ")" }
                }
            }
        }
    }
}

fn group_section(gallery: &Gallery, group: usize, members: &[usize], size: usize) -> Markup {
    let title = format!("Group {}", group + 1);
    let first = members.len().min(SHOWN_FIRST);
    markup! {
        section id=(format!("group-{}", group + 1)) {
            h2 { (title) " " small { (counted(size, "image", "images")) } }
            ul.images {
                @for &index in &members[..first] {
                    li { (image(gallery, index, /* in_group */ true)) }
                }
            }
            @if members.len() > first {
                button.more data-group=(group) {
                    "Show " (members.len() - first) " more of group " (group + 1)
                }
            }
        }
    }
}

/// An image as a button. `in_group` if it stands in its group, where the script finds its
/// thumbnail.
fn image(gallery: &Gallery, index: usize, in_group: bool) -> Markup {
    let GalleryImage { name, thumbnail } = &gallery.images[index];
    let id = in_group.then(|| format!("image-{index}"));
    markup! {
        button.image id=[id] data-image=(index) title=(name) {
            img src=(format!("data:image/jpeg;base64,{thumbnail}")) alt=(name) loading="lazy";
        }
    }
}

/// Each image that has duplicates, followed by them.
fn duplicate_sets(duplicate_of: &[Option<usize>]) -> Vec<Vec<usize>> {
    let mut sets = std::collections::BTreeMap::<usize, Vec<usize>>::new();
    for (index, first) in duplicate_of.iter().enumerate() {
        if let Some(first) = *first {
            sets.entry(first).or_insert_with(|| vec![first]).push(index);
        }
    }
    sets.into_values().collect()
}

fn duplicates_section(gallery: &Gallery, sets: &[Vec<usize>]) -> Markup {
    markup! {
        section id="duplicates" {
            h2 { "Near-duplicates" }
            p.lead {
                "The same image more than once, perhaps scaled or recompressed. "
                "Nothing was moved or deleted."
            }
            @if sets.len() > DUPLICATE_SETS {
                p.lead {
                    "The first " (DUPLICATE_SETS) " of " (sets.len())
                    " sets; groups.parquet has all."
                }
            }
            @for set in sets.iter().take(DUPLICATE_SETS) {
                ul.images.set {
                    @for &index in set.iter().take(DUPLICATES) {
                        li { (image(gallery, index, false)) small { (gallery.images[index].name) } }
                    }
                    @if set.len() > DUPLICATES {
                        li { small {
                            "and " (set.len() - DUPLICATES) " more (groups.parquet has all)"
                        } }
                    }
                }
            }
        }
    }
}

fn unreadable_section(unreadable: &[String]) -> Markup {
    markup! {
        section id="unreadable" {
            h2 { "Unreadable" }
            p.lead {
                (counted(unreadable.len(), "file", "files")) " could not be read and "
                @if unreadable.len() == 1 { "is" } @else { "are" } " in no group."
            }
            ul.notes { @for file in unreadable { li { (file) } } }
        }
    }
}
