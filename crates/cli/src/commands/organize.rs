//! `portolan organize`: groups a folder of images and finds near-duplicates, as a page and a table.

use anyhow::{Context, Result, bail, ensure};
use portolan_data::Source;
use portolan_evaluate::{features, pca};
use portolan_organize::{
    Embeddings, Fingerprint, Gallery, GalleryImage, Groups, Thumbnail, dense_clusters, duplicates,
    groups, html, nearest,
};
use portolan_report::counted;
use portolan_tensor::{Kind, Precision, Tensor, device, io};
use rayon::prelude::*;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::args::OrganizeArgs;
use crate::data::print_notes;
use crate::encoder_source::EncoderSource;
use crate::output::table::{self, Column};

/// The number of principal components used for grouping. With more, distances are less informative
/// and slower to compute.
const COMPONENTS: i64 = 32;
/// The number of similar images shown for each image.
const NEAREST: usize = 8;
const OUT: &str = "organized";
const GALLERY: &str = "gallery.html";
const TABLE: &str = "groups.parquet";

pub(crate) fn organize(args: &OrganizeArgs) -> Result<ExitCode> {
    let device = device::choose(&args.device.name)?;
    let trained = open_encoder(args)?;
    let (encoder, view) = (trained.build(&trained.config, device)?, trained.eval_view());
    let (source, notes) = portolan_data::unlabeled_folder(&args.folder)?;
    print_notes(&notes);
    let out = prepare_out(args)?;

    eprintln!("embedding {}", counted(source.len(), "file", "files"));
    let embedded = features(&*encoder, &*source, &view, device, Precision::Fp32)?;
    let (thumbnails, unreadable) = thumbnails(&*source, &embedded.ids);
    // A file may have been deleted since it was embedded.
    let kept: Vec<usize> =
        (0..embedded.ids.len()).filter(|&row| thumbnails[row].is_some()).collect();
    ensure!(!kept.is_empty(), "none of the images can be read any more");
    let rows: Vec<i64> = kept.iter().map(|&row| row as i64).collect();
    let x = embedded.x.index_select(0, &Tensor::from_slice(&rows));
    let name = |id: usize| {
        let path = source.describe(id);
        Path::new(&path)
            .strip_prefix(&args.folder)
            .map_or(path.clone(), |p| p.display().to_string())
    };
    let names: Vec<String> = kept.iter().map(|&row| name(embedded.ids[row])).collect();
    let (jpegs, fingerprints): (Vec<String>, Vec<Fingerprint>) =
        thumbnails.into_iter().flatten().map(|t| (t.jpeg, t.fingerprint)).unzip();
    let unreadable = [embedded.skipped, unreadable].concat();

    eprintln!("grouping {}", counted(names.len(), "image", "images"));
    let directions = to_rows(&x)?;
    let components = to_rows(&main_components(&x)?)?;
    let found = groups(&components, args.groups)?;
    let clusters = dense_clusters(&components)?;
    let nearest = nearest(&directions, NEAREST);
    let duplicate_of = duplicates(&nearest, &fingerprints);

    let images: Vec<GalleryImage> = names
        .iter()
        .zip(jpegs)
        .map(|(name, thumbnail)| GalleryImage { name: name.clone(), thumbnail })
        .collect();
    let title = args.folder.file_name().unwrap_or(args.folder.as_os_str()).to_string_lossy();
    let page = html(&Gallery {
        title: &title,
        images: &images,
        groups: &found,
        nearest: &nearest,
        duplicate_of: &duplicate_of,
        unreadable: &unreadable,
    })?;
    io::write_atomic(&out.join(TABLE), &table(&names, &found, &clusters, &duplicate_of)?)?;
    io::write_atomic(&out.join(GALLERY), page.as_bytes())?;

    let dense = clusters.iter().max().map_or(0, |last| last + 1);
    let outside = clusters.iter().filter(|&&cluster| cluster < 0).count();
    println!("groups      {} of {}", found.count, counted(names.len(), "image", "images"));
    println!("clusters    {dense}; {} in no cluster", counted(outside, "image", "images"));
    println!("duplicates  {}", duplicate_of.iter().flatten().count());
    println!("unreadable  {}", unreadable.len());
    for file in &unreadable {
        eprintln!("could not be read: {file}");
    }
    println!("gallery     {}", out.join(GALLERY).display());
    println!("table       {}", out.join(TABLE).display());
    Ok(ExitCode::SUCCESS)
}

/// Opens the encoder that embeds the images.
fn open_encoder(args: &OrganizeArgs) -> Result<EncoderSource> {
    let Some(path) = args.run.as_ref().or(args.encoder.as_ref()) else {
        bail!(
            "organize needs an encoder: give a run with --run RUN or an encoder file with \
             --encoder FILE; `portolan pretrain simclr --data {}` trains one on these images",
            args.folder.display()
        )
    };
    EncoderSource::open(path, None)
}

/// Creates the output folder. Refuses to overwrite files, or to write into the folder of images
/// unless --out says so.
fn prepare_out(args: &OrganizeArgs) -> Result<PathBuf> {
    if args.out.is_none() {
        let here = std::env::current_dir()?.canonicalize()?;
        ensure!(
            !here.starts_with(args.folder.canonicalize()?),
            "{OUT}/ would be inside the folder of images; choose a folder with --out"
        );
    }
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from(OUT));
    for file in [GALLERY, TABLE] {
        ensure!(
            !out.join(file).exists(),
            "{} already exists; remove it, or choose another folder with --out",
            out.join(file).display()
        );
    }
    std::fs::create_dir_all(&out).with_context(|| {
        format!("cannot create the folder {}; choose another with --out", out.display())
    })?;
    Ok(out)
}

/// The thumbnails of these images, and the files that could not be read.
fn thumbnails(source: &dyn Source, ids: &[usize]) -> (Vec<Option<Thumbnail>>, Vec<String>) {
    let made: Vec<Result<Thumbnail>> =
        ids.par_iter().map(|&id| Ok(Thumbnail::of(&source.image(id)?.decode()?)?)).collect();
    let failed = |(made, &id): (&Result<Thumbnail>, &usize)| {
        made.as_ref().err().map(|why| format!("{}: {why:#}", source.describe(id)))
    };
    let unreadable = made.iter().zip(ids).filter_map(failed).collect();
    (made.into_iter().map(Result::ok).collect(), unreadable)
}

/// The rows of `x` (`[n, width]`), normalized to length 1 and projected onto the principal
/// components.
fn main_components(x: &Tensor) -> Result<Tensor> {
    let lengths = x.norm_scalaropt_dim(2, [1i64], true).clamp_min(f64::from(f32::EPSILON));
    let x = x / lengths;
    Ok(pca(&x, COMPONENTS.min(x.size()[1]))?)
}

fn to_rows(x: &Tensor) -> Result<Embeddings> {
    let flat = Vec::try_from(x.to_kind(Kind::Float).contiguous().view([-1]))?;
    Ok(Embeddings::new(flat, x.size()[1] as usize)?)
}

/// One row per image: `path`, `group`, `cluster` (-1 for none), `duplicate_of` (a path or null),
/// `typicality`.
fn table(
    names: &[String],
    groups: &Groups,
    clusters: &[i32],
    duplicate_of: &[Option<usize>],
) -> Result<Vec<u8>> {
    let groups_of: Vec<i32> =
        groups.of.iter().map(|&group| i32::try_from(group)).collect::<Result<_, _>>()?;
    let path = |i: usize| names[i].as_str();
    let columns = [
        ("path", Column::Text((0..names.len()).map(|i| Some(path(i))).collect())),
        ("group", Column::Int32(&groups_of)),
        ("cluster", Column::Int32(clusters)),
        ("duplicate_of", Column::Text(duplicate_of.iter().map(|first| first.map(path)).collect())),
        ("typicality", Column::Float(&groups.typicality)),
    ];
    table::parquet("images", &columns)
}
