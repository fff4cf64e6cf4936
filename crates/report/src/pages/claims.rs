//! The findings of several studies as a Markdown document.

use std::fmt::Write as _;

use super::study::{Plot, StudyPage, cell, diverged, plots, seeds, sentence};
use crate::error::Result;
use crate::format::duration;

/// How the document of all claims begins.
const CLAIMS: &str = "# Claims of the papers, tested

Each study tests one claim with a few small trainings: `portolan study NAME`. What is varied, what is
plotted and the rule for the verdict stand in one file of
[`crates/study/studies`](../crates/study/studies), and the rule was fixed before any run. A part of
a claim *holds* if it does with every seed, *holds weakly* if it does with their mean, and otherwise
*does not hold at this size*: the runs are small, and nothing here contradicts a paper. Values are
means over seeds, with the lowest and the highest. `portolan study --all` writes this document.
";

/// The findings of several studies as a Markdown document. `file` names the file of a plot by the
/// study's name.
///
/// # Errors
/// When a picture cannot be encoded.
pub fn claims_markdown(
    pages: &[StudyPage],
    file: impl Fn(&str, &Plot) -> String,
) -> Result<String> {
    let mut text = format!("{CLAIMS}\n| study | claim | verdict |\n|---|---|---|\n");
    for StudyPage { study, findings, .. } in pages {
        let _ = writeln!(
            text,
            "| [{0}](#{0}) | {1} | {2} |",
            study.name, study.claim, findings.verdict
        );
    }
    for page in pages {
        let StudyPage { study, findings, .. } = page;
        let _ = writeln!(
            text,
            "\n## {}\n\n**Claim:** {} ({})\n",
            study.name, study.claim, study.source
        );
        let _ = writeln!(text, "Measured there: {}.\n", study.published);
        let _ = writeln!(text, "**Here it {}**, with {}:\n", findings.verdict, seeds(findings));
        for rule in &findings.rules {
            let _ = writeln!(text, "- {}", sentence(study, rule));
        }
        if let Some(diverged) = diverged(findings) {
            let _ = writeln!(text, "\n{diverged}");
        }
        if !study.remark.is_empty() {
            let _ = writeln!(text, "\n{}", study.remark);
        }
        for plot in plots(page)? {
            let _ = writeln!(text, "\n![{}]({})", plot.title, file(&study.name, &plot));
        }
        let _ = writeln!(
            text,
            "\n| | {} | {} |",
            study.by,
            study.metrics.iter().map(|it| study.title(it)).collect::<Vec<_>>().join(" | ")
        );
        let _ = writeln!(text, "|---|---|{}", "---|".repeat(study.metrics.len()));
        for series in &findings.series {
            for point in &series.points {
                let cells: Vec<String> =
                    study.metrics.iter().map(|metric| cell(study, point, metric)).collect();
                let _ =
                    writeln!(text, "| {} | {} | {} |", series.name, point.name, cells.join(" | "));
            }
        }
        let _ = writeln!(
            text,
            "\n`{}` on {}, {}; training of all runs {}.",
            page.command,
            page.machine,
            page.finished.split('T').next().unwrap_or_default(),
            duration(page.seconds)
        );
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::study::tests::{TEXT, found, page};
    use super::*;
    use portolan_study::Study;

    #[test]
    fn the_document_has_the_verdict_the_plots_and_all_values() {
        let study = Study::parse("momentum", TEXT).unwrap();
        let findings = found(&study);
        let page = page(&study, &findings);
        let claims =
            claims_markdown(&[page], |study, plot| format!("plots/{study}-{}.svg", plot.name));
        let claims = claims.unwrap();
        for part in [
            "0.99 is above 0.9: kNN +15.0 points",
            "counted as 0: MoCo, 0.9",
            "(plots/momentum-knn.svg)",
            "**Here it holds**",
            "2026-11-30;",
        ] {
            assert!(claims.contains(part), "{part}: {claims}");
        }
        assert!(
            claims.contains("| MoCo | 0.99 | 65.0\u{202f}% (60.0 to 70.0) | −1.50 |"),
            "{claims}"
        );
    }
}
