//! Checks of the source tree that neither rustfmt nor clippy makes.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::cycles::cycles;

/// A file that is longer has more than one topic.
const MOST_LINES: usize = 400;
/// The width of a comment; rustfmt sees to the code.
const COLUMNS: usize = 100;
/// Beginnings of words in British spelling; the code and the text are American.
const BRITISH: [&str; 10] = [
    "colour",
    "flavour",
    "neighbour",
    "behaviour",
    "normalis",
    "optimis",
    "organis",
    "quantis",
    "initialis",
    "labelled",
];
/// Words that begin so and are right: of HTML, and American ones.
const RIGHT: [&str; 2] = ["labelledby", "optimistic"];

/// Checks the length of every Rust file, the spelling of every Rust file and page, and that no
/// crate has import cycles.
///
/// # Errors
/// When there is a fault: all of them are named.
pub(crate) fn check(root: &Path) -> Result<()> {
    let mut found = Vec::new();
    for path in tracked(root)? {
        // A file that was deleted and not yet committed is still listed.
        let Ok(text) = std::fs::read_to_string(root.join(&path)) else { continue };
        found.extend(faults(&path, &text));
    }
    for (name, files) in crates(root)? {
        found.extend(cycles(&files).iter().map(|cycle| format!("{name}: import cycle {cycle}")));
    }
    ensure!(found.is_empty(), "{}", found.join("\n"));
    Ok(())
}

/// The source files of every crate: its name, and for each file the path below `src` and the text.
fn crates(root: &Path) -> Result<BTreeMap<String, Vec<(String, String)>>> {
    let mut crates: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for path in tracked(root)? {
        let Some((name, file)) = path.split_once("/src/") else { continue };
        if file.ends_with("tests.rs") {
            continue; // tests may use anything
        }
        if let (true, Ok(text)) = (file.ends_with(".rs"), std::fs::read_to_string(root.join(&path)))
        {
            crates.entry(name.to_owned()).or_default().push((file.to_owned(), text));
        }
    }
    Ok(crates)
}

/// The tracked Rust files and pages, but for those that name what they forbid or keep.
fn tracked(root: &Path) -> Result<Vec<String>> {
    let output = Command::new("git")
        .current_dir(root)
        .args(["ls-files", "*.rs", "*.md"])
        .output()
        .context("cannot start git")?;
    let files = String::from_utf8(output.stdout)?;
    let excepted = ["xtask/src/structure.rs", "CHANGELOG.md"];
    Ok(files.lines().filter(|path| !excepted.contains(path)).map(str::to_owned).collect())
}

/// What is wrong with a file, a line each.
fn faults(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let lines = text.lines().count();
    if path.ends_with(".rs") && lines > MOST_LINES {
        found.push(format!("{path} has {lines} lines, more than {MOST_LINES}: split it by topic"));
    }
    for (line, at) in text.lines().zip(1..) {
        // The old names of settings, which older files still have.
        let lower = line.to_lowercase().replace("normalise_patches", "");
        let lower = RIGHT.iter().fold(lower, |line, word| line.replace(word, ""));
        for stem in BRITISH.iter().filter(|stem| lower.contains(**stem)) {
            found.push(format!("{path}:{at}: `{stem}…` is British spelling"));
        }
        if path.ends_with(".rs") && is_long_comment(line) {
            found.push(format!("{path}:{at}: wrap the comment at {COLUMNS} columns"));
        }
    }
    if path.ends_with(".rs") && mixes_imports(text) {
        found.push(format!(
            "{path}: imports come in two blocks: other crates and std, then `crate`, `self` and \
             `super`"
        ));
    }
    found
}

/// rustfmt leaves comments as they are. Tables and addresses cannot be wrapped.
fn is_long_comment(line: &str) -> bool {
    let comment = line.trim_start().starts_with("//");
    comment && !line.contains("| ") && !line.contains("://") && line.chars().count() > COLUMNS
}

/// Whether an import from another crate follows one from this crate, at the top of a file.
fn mixes_imports(text: &str) -> bool {
    let local = |line: &&str| {
        ["use crate::", "use self::", "use super::"].iter().any(|start| line.starts_with(start))
    };
    let imports = text.lines().filter(|line| line.starts_with("use "));
    imports.skip_while(|line| !local(line)).any(|line| !local(&line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_files_and_british_words_are_found() {
        assert!(faults("a.rs", "let color = 1;\n<p aria-labelledby=x>").is_empty());
        let found = faults("a.rs", "\n/// Normalised colours.");
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("a.rs:2: `colour…`"), "{found:?}");
        assert_eq!(faults("a.rs", &"\n".repeat(401)).len(), 1);
        assert!(faults("a.md", &"\n".repeat(401)).is_empty());
    }

    #[test]
    fn long_comments_and_mixed_imports_are_found() {
        let long = format!("    // {}", "word ".repeat(20));
        assert_eq!(faults("a.rs", &long).len(), 1);
        assert!(faults("a.md", &long).is_empty());
        assert!(faults("a.rs", "use std::fs;\n\nuse crate::a;\nuse super::b;").is_empty());
        assert_eq!(faults("a.rs", "use crate::a;\nuse std::fs;").len(), 1);
    }
}
