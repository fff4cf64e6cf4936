//! The stages of `portolan gpu-check`, the most valuable first.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::args::{GpuCheckArgs, Plan};

/// The kNN accuracy of lightly's own code on the same images after 20 epochs, with k = 200 and t =
/// 0.1 on one H100 (gpu_lightly.py, `train`).
const LIGHTLY: [(&str, f64); 3] = [("simclr", 0.630), ("moco", 0.565), ("byol", 0.536)];

/// A program to run, its time limit, and where it writes its results.
pub(super) struct Stage {
    pub(super) name: String,
    pub(super) limit: Duration,
    pub(super) program: Program,
    pub(super) args: Vec<String>,
    pub(super) output: Output,
    pub(super) needs_gpu: bool,
}

pub(super) enum Program {
    /// This program.
    Portolan,
    /// `python3` with the images in this folder.
    Python(PathBuf),
}

/// Where a stage writes its results.
pub(super) enum Output {
    /// Lines of JSON on standard output.
    Lines,
    /// Any lines on standard output.
    Text,
    /// An array of JSON objects in a file.
    Table(PathBuf),
    /// A `report.json` of a run. `lightly` is the accuracy of lightly with the same settings, for
    /// comparison.
    Run { folder: PathBuf, lightly: Option<f64> },
}

/// All stages of a plan, in order.
pub(super) fn stages(args: &GpuCheckArgs) -> Vec<Stage> {
    let (first, later): (&[&str], &[&str]) = match args.plan {
        Plan::Full => {
            (&["simclr-32", "moco-32", "byol-32"], &["simclr-224", "mae-224", "dino-224"])
        }
        Plan::Toy => (&["simclr-shapes"], &[]),
    };
    let mut stages = vec![self_test(args)];
    stages.extend(first.iter().flat_map(|job| [bench(args, job, false), bench(args, job, true)]));
    stages.extend(LIGHTLY.map(|(method, lightly)| train(args, method, lightly)));
    stages.extend(later.iter().flat_map(|job| [bench(args, job, false), bench(args, job, true)]));
    stages.extend(args.peers.iter().flat_map(|peers| {
        ["step32", "step224", "mae", "dino"].map(|part| lightly(args, peers, part))
    }));
    stages
}

fn data(args: &GpuCheckArgs) -> String {
    args.data.as_ref().map_or("shapes".to_owned(), |folder| folder.display().to_string())
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn self_test(args: &GpuCheckArgs) -> Stage {
    Stage {
        name: "self-test".to_owned(),
        limit: Duration::from_secs(150),
        program: Program::Portolan,
        args: words(&format!("self-test --device {}", args.device)),
        output: Output::Lines,
        needs_gpu: false,
    }
}

fn bench(args: &GpuCheckArgs, job: &str, graph: bool) -> Stage {
    let name = format!("bench {job}{}", if graph { " graph" } else { "" });
    let table = args.out.join(format!("{}.json", name.replace(' ', "-")));
    let mut command = words(&format!("bench {job} --device {}", args.device));
    command.extend(["--data".to_owned(), data(args)]);
    command.extend(["--json".to_owned(), table.display().to_string()]);
    if graph {
        command.push("--cuda-graph".to_owned());
    }
    if args.plan == Plan::Toy {
        command.extend(words("--steps 1 --set width=4 --set batch_size=16 --set limit=64"));
        command.extend(words("--set limit_test=32 --set k=5 --threads 1"));
    }
    Stage {
        name,
        limit: Duration::from_secs(60),
        program: Program::Portolan,
        args: command,
        output: Output::Table(table),
        needs_gpu: graph,
    }
}

/// Trains 20 epochs with lightly's settings: the recipe `cifar10`, with lightly's values where the
/// MoCo recipe follows the authors instead.
fn train(args: &GpuCheckArgs, method: &str, lightly: f64) -> Stage {
    let folder = args.out.join(method);
    let recipe = if args.plan == Plan::Full { "cifar10" } else { "shapes" };
    let mut command =
        words(&format!("pretrain {method} --recipe {recipe} --device {}", args.device));
    command.extend(["--data".to_owned(), data(args)]);
    command.extend(["--out".to_owned(), folder.display().to_string()]);
    command.extend(words(match args.plan {
        Plan::Full => "--epochs 20 --batch-size 512 --precision bf16 --set knn_every=0",
        Plan::Toy => {
            "--epochs 1 --batch-size 16 --limit 64 --limit-test 32 --set width=4 --set k=5 \
             --set knn_every=0 --threads 1"
        }
    }));
    if method == "moco" && args.plan == Plan::Full {
        // gpu_lightly.py: MoCoProjectionHead, memory_bank_size=(8192, 128), lr=6e-2 * 4.
        command.extend(words("--set head=mlp --set queue=8192 --set learning_rate=0.24"));
    }
    Stage {
        name: format!("train {method}"),
        limit: Duration::from_secs(150),
        program: Program::Portolan,
        args: command,
        output: Output::Run { folder, lightly: (args.plan == Plan::Full).then_some(lightly) },
        needs_gpu: false,
    }
}

fn lightly(args: &GpuCheckArgs, peers: &Path, part: &str) -> Stage {
    Stage {
        name: format!("lightly {part}"),
        limit: Duration::from_secs(120),
        program: Program::Python(args.data.clone().unwrap_or_default()),
        args: vec![peers.join("gpu_lightly.py").display().to_string(), part.to_owned()],
        output: Output::Text,
        needs_gpu: true,
    }
}
