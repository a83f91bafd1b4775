"""What comes next: `headrace-train evaluate` with its defaults on Diginetica's sessions and S3-Rec's sequences.

Every row is the whole command in a process of its own; the figures beside it are published ones on the same files, full
ranking. Run as ``python benchmarks/bench_sequences.py [NAME …]``; the data is looked for in HEADRACE_DATA or
../shared/data.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path


@dataclass(frozen=True)
class Task:
    """Files, metrics, what is promised and what others published, in the order of the metrics."""

    name: str
    arguments: tuple[str, ...]
    metrics: tuple[str, str]
    wanted: tuple[float, float]
    published: dict[str, tuple[float, float]]


def sequences(name: str, file: str, wanted: tuple[float, float], published: dict[str, tuple[float, float]]) -> Task:
    arguments = ("--format", "sequences", "--k", "10", "--train", f"s3rec-sequential/{file}.txt.gz")
    return Task(name, arguments, ("hit_rate@10", "ndcg@10"), wanted, published)


DIGINETICA = ("--format", "sessions", "--train", "diginetica-session/train_sessions.txt.gz")
TASKS = (
    Task(
        "diginetica",
        (*DIGINETICA, "--test", "diginetica-session/test_prefix_target.txt.gz"),
        ("precision@20", "mrr@20"),
        (0.542, 0.190),
        # Wu et al., AAAI 2019; Wang et al., SIGIR 2020
        {"item-kNN": (0.358, 0.116), "SR-GNN": (0.507, 0.176), "GCE-GNN": (0.542, 0.190)},
    ),
    # SASRec and S3-Rec: Rajput et al., NeurIPS 2023, table 1; on Yelp Hua et al., SIGIR-AP 2023, table 1
    sequences("beauty", "Beauty", (0.082, 0.050), {"SASRec": (0.0605, 0.0318), "S3-Rec": (0.0647, 0.0327)}),
    sequences("sports", "Sports_and_Outdoors", (0, 0), {"SASRec": (0.0350, 0.0192), "S3-Rec": (0.0385, 0.0204)}),
    sequences("toys", "Toys_and_Games", (0, 0), {"SASRec": (0.0675, 0.0374), "S3-Rec": (0.0700, 0.0376)}),
    sequences("yelp", "Yelp", (0, 0), {"SASRec": (0.0284, 0.0147), "S3-Rec": (0.0341, 0.0168)}),
)
WANTED_SECONDS = 600.0


def data_root() -> Path:
    """The folder of the data sets; SystemExit with one line when it is not there."""
    root = Path(os.environ.get("HEADRACE_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not root.is_dir():
        raise SystemExit(f"skipped: no data in {root}; set HEADRACE_DATA")
    return root


def measure(task: Task, root: Path) -> dict[str, float]:
    """The command's report."""
    arguments = [str(root / word) if word.endswith(".gz") else word for word in task.arguments]
    command = [sys.executable, "-c", "from headrace_training.cli import main; main()", "evaluate", "--json"]
    run = subprocess.run([*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    report: dict[str, float] = json.loads(run.stdout)
    return report


def main() -> None:
    """Print the tables; exit code 1 when a promise is not kept."""
    root = data_root()
    versions = ", ".join(f"{name} {version(name)}" for name in ("headrace", "numpy", "scipy", "numba"))
    print(f"{versions}, Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}")
    kept = True
    for task in TASKS:
        if sys.argv[1:] and task.name not in sys.argv[1:]:
            continue
        first, second = task.metrics
        print(f"\n{task.name:<24}{first:>14}{second:>10}{'select s':>10}{'fit s':>8}{'peak GB':>9}")
        for name, (one, other) in task.published.items():
            print(f"{name + ', published':<24}{one:>14.4f}{other:>10.4f}")
        found = measure(task, root)
        seconds, memory = (found["select_seconds"], found["fit_seconds"]), found["peak_rss_bytes"] / 1e9
        row = f"{'headrace, defaults':<24}{found[first]:>14.4f}{found[second]:>10.4f}"
        print(f"{row}{seconds[0]:>10.1f}{seconds[1]:>8.1f}{memory:>9.2f}")
        met = found[first] >= task.wanted[0] and found[second] >= task.wanted[1] and sum(seconds) < WANTED_SECONDS
        if any(task.wanted):
            wanted = f"{first} >= {task.wanted[0]}, {second} >= {task.wanted[1]}, {WANTED_SECONDS:.0f} s"
            print(f"{wanted}: {'yes' if met else 'NO'}")
        kept &= met
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
