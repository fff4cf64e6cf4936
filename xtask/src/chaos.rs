//! `cargo xtask chaos`: tests that a small run of two processes survives all kinds of faults.
//!
//! At random moments it kills, stops or suspends processes; once it fills the disk, and once it
//! truncates the newest checkpoint. The run is restarted each time. In the end its parameters and
//! the losses in its metrics file must be bitwise equal to those of an undisturbed run.
//! docs/results/faults.md has the results.

use anyhow::{Context, Result, ensure};
use clap::Args;
use safetensors::SafeTensors;
use serde_json::Value;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use crate::launch;

const PROCESSES: u16 = 2;
/// How long the other processes may run after one has ended.
const GRACE: Duration = Duration::from_secs(30);
/// How long a job may take to find out that the disk is full, or to finish.
const PATIENCE: Duration = Duration::from_secs(600);
/// Room for the run; the rest is filled to make the disk full.
const DISK: &str = "size=256m";

/// The run: small, with batch statistics, a momentum encoder and a queue to lose, and a checkpoint
/// about every second.
const RUN: &[&str] = &[
    "reproduce",
    "moco",
    "--encoder",
    "resnet18-w8",
    "--limit",
    "512",
    "--limit-test",
    "100",
    "--batch-size",
    "32",
    "--threads",
    "1",
    "--set",
    "checkpoint_minutes=0.01",
    "--set",
    "knn_every=0",
    "--set",
    "queue=512",
];

#[derive(Args)]
pub(crate) struct ChaosArgs {
    /// How often a process is killed, asked to stop, or held still.
    #[arg(long, value_name = "N", default_value_t = 50)]
    kills: u32,
    /// Epochs of the run; with too few it ends before all has happened, and that is an error.
    #[arg(long, value_name = "N", default_value_t = 80)]
    epochs: u32,
    /// What moments and faults are drawn from.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The folder to work in, made anew.
    #[arg(long, value_name = "FOLDER", default_value = "target/chaos")]
    out: PathBuf,
}

/// Runs the whole test; the error names what differs.
pub(crate) fn chaos(root: &Path, args: &ChaosArgs) -> Result<ExitCode> {
    launch::build(root)?;
    let _ = fs::remove_dir_all(&args.out);
    fs::create_dir_all(&args.out)?;
    let mut chaos = Chaos {
        root,
        epochs: args.epochs,
        log: args.out.join("log.txt"),
        random: fastrand::Rng::with_seed(args.seed),
        started: Instant::now(),
        began_at: 0,
    };
    let alone = args.out.join("alone");
    chaos.say("left alone");
    chaos.finish(&alone)?;

    let disk = Disk::mount(&args.out.join("disk"))?;
    let run = disk.folder.join("run");
    let mut job = Vec::new();
    for kill in 1..=args.kills {
        chaos.bring_up(&mut job, &run)?;
        std::thread::sleep(Duration::from_millis(chaos.random.u64(0..6_000)));
        chaos.hurt(&mut job, &run, kill)?;
        if kill == args.kills / 3 && disk.mounted {
            chaos.bring_up(&mut job, &run)?;
            chaos.fill(&mut job, &run, &disk)?;
        }
        if kill == 2 * args.kills / 3 {
            chaos.end(&mut job)?;
            chaos.cut_short(&run)?;
        }
    }
    chaos.end(&mut job)?;
    chaos.say("left alone from here");
    chaos.finish(&run)?;
    let (tensors, steps) = compare(&alone, &run)?;
    chaos.say(&format!(
        "{tensors} tensors and the losses of {steps} lines are those of the run left alone, to the bit"
    ));
    Ok(ExitCode::SUCCESS)
}

struct Chaos<'a> {
    root: &'a Path,
    epochs: u32,
    log: PathBuf,
    random: fastrand::Rng,
    started: Instant,
    /// How much was in the log when the job was last started.
    began_at: usize,
}

impl Chaos<'_> {
    fn say(&self, what: &str) {
        println!("{:6.1} s  {what}", self.started.elapsed().as_secs_f64());
    }

    /// Starts the run, or goes on with it, unless it is running.
    fn bring_up(&mut self, job: &mut Vec<Child>, run: &Path) -> Result<()> {
        ensure!(
            !run.join("report.json").exists(),
            "the run ended before all had happened to it: give more --epochs"
        );
        if job.is_empty() {
            self.began_at = fs::read_to_string(&self.log)?.len();
            *job = self.start(run)?;
        }
        Ok(())
    }

    fn start(&self, run: &Path) -> Result<Vec<Child>> {
        let command: Vec<OsString> = if run.join("config.toml").exists() {
            vec!["pretrain".into(), "--resume".into(), run.into(), "--threads".into(), "1".into()]
        } else {
            let epochs = self.epochs.to_string();
            let own = ["--epochs", &epochs, "--out"].map(OsString::from);
            RUN.iter().map(OsString::from).chain(own).chain([run.into()]).collect()
        };
        let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr())?.port();
        (0..PROCESSES)
            .map(|rank| {
                let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
                launch::command(self.root, rank, PROCESSES, port, &command)
                    .stdout(Stdio::null())
                    .stderr(log)
                    .spawn()
                    .context("cannot start portolan")
            })
            .collect()
    }

    /// Inflicts a random fault on a random process of the job.
    fn hurt(&mut self, job: &mut Vec<Child>, run: &Path, kill: u32) -> Result<()> {
        let victim = self.random.usize(0..job.len());
        let fault = self.random.u8(0..4);
        let at = newest(run).map_or("before the first checkpoint".to_owned(), |path| {
            format!("after {}", path.file_stem().unwrap_or_default().display())
        });
        // Processes that have printed their plan have joined the group.
        let met = fs::read_to_string(&self.log)?.split_off(self.began_at).contains("\njob ");
        let what = match fault {
            0 => "kill -9 of one",
            1 => "kill -9 of all",
            2 => "SIGTERM to one",
            _ => "SIGSTOP of one for some seconds",
        };
        self.say(&format!("{kill:3}  {what}, {at}"));
        match fault {
            0 => signal(&job[victim], "-KILL"),
            1 => job.iter().for_each(|child| signal(child, "-KILL")),
            2 => signal(&job[victim], "-TERM"),
            _ => {
                signal(&job[victim], "-STOP");
                std::thread::sleep(Duration::from_millis(self.random.u64(1_000..4_000)));
                signal(&job[victim], "-CONT");
                return Ok(()); // the job goes on
            }
        }
        self.follow(job, met)
    }

    /// Fills the disk under the running job, which must end by itself; then makes room again.
    fn fill(&self, job: &mut Vec<Child>, run: &Path, disk: &Disk) -> Result<()> {
        while newest(run).is_none() {
            std::thread::sleep(Duration::from_millis(50));
        }
        let before = fs::read_to_string(&self.log)?.len();
        self.say("     the disk is full");
        let ballast = disk.folder.join("ballast");
        let mut file = File::create(&ballast)?;
        while file.write_all(&[0; 4096]).is_ok() {}
        self.wait(job, PATIENCE)?;
        let said = fs::read_to_string(&self.log)?.split_off(before);
        let named = said.lines().find(|line| line.contains("No space left on device"));
        let named = named.context("no process said that the disk is full")?;
        self.say(&format!("     it ended: {named}"));
        fs::remove_file(ballast)?;
        Ok(())
    }

    /// Cuts the newest checkpoint short.
    fn cut_short(&self, run: &Path) -> Result<()> {
        let path = newest(run).context("there is no checkpoint to cut short")?;
        let file = OpenOptions::new().write(true).open(&path)?;
        file.set_len(file.metadata()?.len() / 2)?;
        self.say(&format!("     {} is cut short", path.file_name().unwrap_or_default().display()));
        Ok(())
    }

    /// Kills what is left of the job.
    fn end(&self, job: &mut Vec<Child>) -> Result<()> {
        job.iter().for_each(|child| signal(child, "-KILL"));
        self.wait(job, GRACE)
    }

    /// Waits until all processes have ended, for at most this long.
    fn wait(&self, job: &mut Vec<Child>, patience: Duration) -> Result<()> {
        let since = Instant::now();
        while !job.is_empty() {
            let mut still = Vec::new();
            for mut child in job.drain(..) {
                if child.try_wait()?.is_none() {
                    still.push(child);
                }
            }
            *job = still;
            ensure!(
                since.elapsed() < patience,
                "a process was still there after {} s; see {}",
                patience.as_secs(),
                self.log.display()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Waits until the others have ended too, when one has. One that has not met the others yet
    /// cannot miss them: it is killed, as torchrun and `cargo xtask launch` do.
    fn follow(&self, job: &mut Vec<Child>, met: bool) -> Result<()> {
        if self.wait(job, GRACE).is_err() {
            ensure!(
                !met,
                "a process outlived the others by {} s; see {}",
                GRACE.as_secs(),
                self.log.display()
            );
            self.say("     the other was still waiting to meet it, and is killed after 30 s");
            self.end(job)?;
        }
        Ok(())
    }

    /// Runs to the end without faults.
    fn finish(&self, run: &Path) -> Result<()> {
        if !run.join("report.json").exists() {
            let mut job = self.start(run)?;
            self.wait(&mut job, 3 * PATIENCE)?;
        }
        ensure!(
            run.join("report.json").exists(),
            "the run did not end; see {}",
            self.log.display()
        );
        Ok(())
    }
}

/// A small disk of its own for the run.
struct Disk {
    folder: PathBuf,
    /// Mounting takes the administrator's rights; without, the disk cannot be made full.
    mounted: bool,
}

impl Disk {
    fn mount(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", DISK, "chaos"]).arg(folder).status();
        let mounted = mount.is_ok_and(|status| status.success());
        if !mounted {
            println!("SKIPPED: a full disk, since mounting a small one takes root");
        }
        Ok(Self { folder: folder.to_owned(), mounted })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
        }
    }
}

fn signal(child: &Child, name: &str) {
    let _ =
        Command::new("kill").args([name, &child.id().to_string()]).stderr(Stdio::null()).status();
}

/// The run's newest checkpoint.
fn newest(run: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(run.join("checkpoints")).ok()?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.filter(|path| path.extension().is_some_and(|end| end == "safetensors")).max()
}

/// How many tensors and lines of the metrics file were compared; an error names the first that
/// differs.
fn compare(alone: &Path, run: &Path) -> Result<(usize, usize)> {
    let mut tensors = 0;
    let last = |run: &Path| newest(run).context("there is no checkpoint");
    let encoder = |run: &Path| run.join("encoder.safetensors");
    for (a, b) in [(last(alone)?, last(run)?), (encoder(alone), encoder(run))] {
        let (a, b) = (fs::read(&a)?, fs::read(&b)?);
        let (a, b) = (SafeTensors::deserialize(&a)?, SafeTensors::deserialize(&b)?);
        ensure!(a.len() == b.len(), "{} and {} tensors", a.len(), b.len());
        for (name, tensor) in a.tensors() {
            ensure!(tensor.data() == b.tensor(&name)?.data(), "{name} differs");
            tensors += 1;
        }
    }
    let (a, b) = (losses(alone)?, losses(run)?);
    ensure!(a == b, "the metrics differ");
    Ok((tensors, a.len()))
}

/// Step and loss of every line of the metrics file, as they are written.
fn losses(run: &Path) -> Result<Vec<(Value, Value)>> {
    let text = fs::read_to_string(run.join("metrics.jsonl"))?;
    let rows = text.lines().map(serde_json::from_str::<Value>);
    rows.map(|row| row.map(|row| (row["step"].clone(), row["loss"].clone())).map_err(Into::into))
        .collect()
}
