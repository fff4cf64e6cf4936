//! Everything that fuzzing kept is read again.

use std::path::Path;

#[test]
fn nothing_in_the_corpora_panics() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, target) in portolan_fuzz::TARGETS {
        let folder = std::fs::read_dir(corpora.join(name)).expect("every target has a corpus");
        let files: Vec<_> = folder.map(|entry| entry.expect("an entry").path()).collect();
        assert!(!files.is_empty(), "{name} has no corpus");
        for file in files {
            println!("{}", file.display()); // shown if this one fails
            target(&std::fs::read(&file).expect("a file of the corpus"));
        }
    }
}
