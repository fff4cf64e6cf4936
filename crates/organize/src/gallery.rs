//! `gallery.html`: one page to look through the photographs, which loads nothing.

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html as markup};
use portolan_report::{STYLE, compass};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::embeddings::Neighbor;
use crate::groups::Groups;

/// The groups of a page hold about so many thumbnails, 30 MB of them: a browser still opens it. Of larger folders each group
/// shows the same share, its most typical members, and one at least.
const MAX_THUMBNAILS: usize = 10_000;
/// Members of a group that are shown before one asks for all.
const SHOWN_FIRST: usize = 48;
/// Sets of duplicates that are shown; a folder kept twice would show nothing else.
const DUPLICATE_SETS: usize = 200;
/// Members of such a set that are shown.
const DUPLICATES: usize = 6;

const GALLERY_STYLE: &str = include_str!("gallery.css");
const SCRIPT: &str = include_str!("gallery.js");

/// A photograph on the page.
#[derive(Clone, Debug)]
pub struct Photo {
    /// Its path, as people know it.
    pub name: String,
    /// A JPEG in base64.
    pub thumbnail: String,
}

/// All that the page shows. The lists have one entry a photograph, in the same order.
#[derive(Clone, Copy, Debug)]
pub struct Gallery<'a> {
    /// What the photographs are called together: their folder.
    pub title: &'a str,
    /// The photographs.
    pub photos: &'a [Photo],
    /// Their groups.
    pub groups: &'a Groups,
    /// Those most similar to each; the page shows as many as are given.
    pub nearest: &'a [Vec<Neighbor>],
    /// The first photograph that each repeats, if any.
    pub duplicate_of: &'a [Option<usize>],
    /// What could not be read, each as `path: why`.
    pub unreadable: &'a [String],
}

/// What the script reads. Photographs without a thumbnail are on no list.
#[derive(Serialize)]
struct Data<'a> {
    names: Vec<&'a str>,
    /// Thumbnails that no element of the page holds yet; the script takes the others from there.
    thumbnails: Vec<Option<&'a str>>,
    nearest: Vec<Vec<(usize, f32)>>,
    /// The members of each group that the page does not show at first.
    hidden: Vec<&'a [usize]>,
}

/// The page as one HTML file. Its content security policy allows its own script by hash, and no load at all.
///
/// # Errors
/// When the script's data cannot be written as JSON.
pub fn html(gallery: &Gallery) -> Result<String> {
    let mut members = gallery.groups.members();
    let share = MAX_THUMBNAILS as f64 / gallery.photos.len().max(MAX_THUMBNAILS) as f64;
    let sizes: Vec<usize> = members.iter().map(Vec::len).collect();
    for group in &mut members {
        group.truncate((group.len() as f64 * share).ceil() as usize);
    }
    let data = data(gallery, &members)?;
    let duplicates = duplicate_sets(gallery.duplicate_of);
    let policy = format!(
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{}'",
        STANDARD.encode(Sha256::digest(SCRIPT))
    );
    let page = markup! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (gallery.title) " · gallery" }
                style { (PreEscaped(STYLE)) (PreEscaped(GALLERY_STYLE)) }
            }
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
                    h2 id="similar-title" { "Most similar photographs" }
                    div id="example" {}
                    ul.photos id="found" {}
                }
                footer { p { "Portolan " (env!("CARGO_PKG_VERSION")) ". This page is one file and loads nothing." } }
                script id="data" type="application/json" { (PreEscaped(data)) }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    Ok(page.into_string())
}

fn data(gallery: &Gallery, members: &[Vec<usize>]) -> Result<String> {
    let mut thumbnails = vec![None; gallery.photos.len()];
    let hidden: Vec<&[usize]> =
        members.iter().map(|group| &group[group.len().min(SHOWN_FIRST)..]).collect();
    for &index in hidden.iter().copied().flatten() {
        thumbnails[index] = Some(gallery.photos[index].thumbnail.as_str());
    }
    let mut on_page = vec![false; gallery.photos.len()];
    members.iter().flatten().for_each(|&index| on_page[index] = true);
    let rounded = |n: &Neighbor| (n.index, (n.similarity * 100.0).round() / 100.0);
    let nearest = gallery
        .nearest
        .iter()
        .map(|near| near.iter().filter(|n| on_page[n.index]).map(rounded).collect())
        .collect();
    let names = gallery.photos.iter().map(|photo| photo.name.as_str()).collect();
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
                (gallery.photos.len()) " photographs in " (sizes.len()) " groups, found without labels. "
                "The most typical of a group come first. Choose a photograph to see those most similar to it."
            }
            @if gallery.photos.len() > MAX_THUMBNAILS {
                p.lead { "Of so many, the page shows the " (MAX_THUMBNAILS) " most typical; groups.parquet lists all." }
            }
            nav aria-label="Groups" {
                @for (group, size) in sizes.iter().enumerate() {
                    a href=(format!("#group-{}", group + 1)) { "Group " (group + 1) " (" (size) ")" }
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
            h2 { (title) " " small { (size) @if size == 1 { " photograph" } @else { " photographs" } } }
            ul.photos {
                @for &index in &members[..first] { li { (photo(gallery, index, /* first */ true)) } }
            }
            @if members.len() > first {
                button.more data-group=(group) { "Show " (members.len() - first) " more of group " (group + 1) }
            }
        }
    }
}

/// A photograph as a button; `first` where the script may fetch the thumbnail from here.
fn photo(gallery: &Gallery, index: usize, first: bool) -> Markup {
    let Photo { name, thumbnail } = &gallery.photos[index];
    let id = first.then(|| format!("photo-{index}"));
    markup! {
        button.photo id=[id] data-photo=(index) title=(name) {
            img src=(format!("data:image/jpeg;base64,{thumbnail}")) alt=(name) loading="lazy";
        }
    }
}

/// Each photograph that is repeated, followed by its repetitions.
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
            p.lead { "The same picture more than once, perhaps scaled or compressed anew. Nothing was moved or deleted." }
            @if sets.len() > DUPLICATE_SETS {
                p.lead { "The first " (DUPLICATE_SETS) " of " (sets.len()) " sets; groups.parquet has all." }
            }
            @for set in sets.iter().take(DUPLICATE_SETS) {
                ul.photos.set {
                    @for &index in set.iter().take(DUPLICATES) {
                        li { (photo(gallery, index, false)) small { (gallery.photos[index].name) } }
                    }
                    @if set.len() > DUPLICATES {
                        li { small { "and " (set.len() - DUPLICATES) " more (groups.parquet has all)" } }
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
            p.lead { (unreadable.len()) " files could not be read and are in no group." }
            ul.notes { @for file in unreadable { li { (file) } } }
        }
    }
}
