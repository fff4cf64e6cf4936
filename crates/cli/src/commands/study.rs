//! `portolan study`: tests a claim with a few small trainings.

mod runs;

use anyhow::{Context, Result, ensure};
use image::GrayImage;
use portolan_report::{
    Plot, StudyPage, claims_markdown, counted, findings_text, now, plots, write_study,
};
use portolan_study::{Error, Findings, Run, Study, judge};
use portolan_tensor::io;
use rayon::prelude::*;
use std::path::Path;
use std::process::ExitCode;

use self::runs::{Outcome, Runs};
use crate::args::StudyArgs;
use crate::run::machine::machine_name;
use crate::run::signals::{listen_for_stop, stopped, stopping};

/// Conducts studies, or lists them.
pub(crate) fn study(args: &StudyArgs) -> Result<ExitCode> {
    if args.list {
        list()?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut studies = if args.all {
        portolan_study::all()?
    } else {
        args.studies.iter().map(|name| named(name)).collect::<Result<_>>()?
    };
    if !args.seeds.is_empty() {
        studies.iter_mut().for_each(|study| study.seeds.clone_from(&args.seeds));
    }
    listen_for_stop()?;
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    for study in &studies {
        match conduct(study, args) {
            _ if stopping() => return Ok(stopped()),
            Ok(findings) => found.push(findings),
            Err(error) if studies.len() > 1 => {
                eprintln!("error: {error:#}");
                failed.push(&*study.name);
            }
            Err(error) => return Err(error),
        }
    }
    if studies.len() > 1 {
        let claims = args.out.join("claims.md");
        write_claims(&found, &claims)?;
        println!("claims  {}", claims.display());
    }
    ensure!(failed.is_empty(), "incomplete (see the errors above): {}", failed.join(", "));
    Ok(ExitCode::SUCCESS)
}

/// The study with this name, or in this file.
fn named(name: &str) -> Result<Study> {
    if !name.ends_with(".toml") {
        return Ok(portolan_study::find(name)?);
    }
    let text = std::fs::read_to_string(name).with_context(|| format!("cannot read {name}"))?;
    let stem = Path::new(name).file_stem().and_then(|stem| stem.to_str()).unwrap_or(name);
    Ok(Study::parse(stem, &text)?)
}

fn list() -> Result<()> {
    let studies = portolan_study::all()?;
    let width = studies.iter().map(|study| study.name.len()).max().unwrap_or(0);
    for study in &studies {
        let runs = counted(study.runs().len(), "run", "runs");
        let (name, minutes) = (&study.name, study.minutes);
        println!("{name:width$}  {}", study.claim);
        println!("{:width$}  {runs}, about {minutes} minutes on one core", "");
    }
    Ok(())
}

/// A study with what it found.
struct Conducted<'a> {
    study: &'a Study,
    findings: Findings,
    correlations: Vec<(String, Vec<(u64, GrayImage)>)>,
    seconds: f64,
}

impl Conducted<'_> {
    fn page(&self) -> StudyPage<'_> {
        StudyPage {
            study: self.study,
            findings: &self.findings,
            correlations: &self.correlations,
            command: std::env::args().collect::<Vec<_>>().join(" "),
            machine: machine_name(),
            seconds: self.seconds,
            finished: now(),
        }
    }
}

/// Makes the runs of a study that are missing, judges it, and writes its page and its numbers.
fn conduct<'a>(study: &'a Study, args: &StudyArgs) -> Result<Conducted<'a>> {
    let all = study.runs();
    let runs = counted(all.len(), "run", "runs");
    let minutes = counted(study.minutes as usize, "minute", "minutes");
    eprintln!("\n== {}: {}", study.name, study.claim);
    eprintln!("{runs}; with the usual settings and seeds about {minutes} on one core");
    let at_once = rayon::ThreadPoolBuilder::new().num_threads(args.jobs.into()).build()?;
    let one = |(i, run)| {
        ensure!(!stopping(), "the study {} was stopped", study.name);
        finish(&Runs { study, args }, run, &format!("{:3} of {}", i + 1, all.len()))
    };
    let measured = at_once
        .install(|| all.par_iter().enumerate().map(one).collect::<Result<Vec<Outcome>>>())?;
    let of = |run: &Run| {
        all.iter()
            .position(|it| (it.series, it.point, it.seed) == (run.series, run.point, run.seed))
    };
    let findings = judge(study, |run, metric| measured.get(of(run)?)?.value(study, metric))?;
    let seconds = measured.iter().map(|outcome| outcome.seconds(study)).sum();
    let named = all.iter().zip(&measured).filter(|(_, one)| matches!(one, Outcome::Diverged));
    let diverged = named.map(|(run, _)| study.name_of(run)).collect();
    let findings = Findings { diverged, ..findings };
    let shown = all.iter().zip(&measured).filter(|(run, _)| study.shows_correlation(run));
    let correlations = shown
        .map(|(run, one)| (study.name_of_point(run).to_owned(), one.correlations().to_vec()))
        .collect();
    let conducted = Conducted { study, findings, correlations, seconds };
    let folder = args.out.join(&study.name);
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot create the folder {}", folder.display()))?;
    let json = serde_json::to_string_pretty(&conducted.findings)?;
    io::write_atomic(&folder.join("study.json"), json.as_bytes())?;
    let page = write_study(&conducted.page(), &folder.join("study.html"))?;
    print!("{}", findings_text(study, &conducted.findings));
    println!("study  {}", page.display());
    Ok(conducted)
}

/// Makes a run unless it is finished, and checks that it has what the rules compare: the other runs
/// would take their time in vain.
fn finish(runs: &Runs, run: &Run, place: &str) -> Result<Outcome> {
    let study = runs.study;
    let name = study.name_of(run);
    let outcome = runs
        .finished(run)
        .with_context(|| format!("the study {} is incomplete: {name}", study.name))?;
    eprintln!("{place}  {name}{}", outcome.summary(study));
    if let Some(metric) = study.compared(run).find(|it| outcome.value(study, it).is_none()) {
        let metric = metric.to_owned();
        return Err(Error::Missing { run: name, metric }.into());
    }
    Ok(outcome)
}

/// Writes all claims as one document, with its plots beside it.
fn write_claims(found: &[Conducted], path: &Path) -> Result<()> {
    let folder = path.with_file_name("plots");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot create the folder {}", folder.display()))?;
    let file = |study: &str, plot: &Plot| format!("{study}-{}.svg", plot.name);
    let pages: Vec<StudyPage> = found.iter().map(Conducted::page).collect();
    for page in &pages {
        for plot in plots(page)? {
            io::write_atomic(&folder.join(file(&page.study.name, &plot)), plot.svg.as_bytes())?;
        }
    }
    let text = claims_markdown(&pages, |study, plot| format!("plots/{}", file(study, plot)))?;
    Ok(io::write_atomic(path, text.as_bytes())?)
}
