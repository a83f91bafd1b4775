"""Next baskets on Ta-Feng: `headrace-train evaluate --format baskets` with its defaults beside the three frequencies.

All are measured in one run by the same code, over everybody with a future basket. Run as
``python benchmarks/bench_baskets.py``; the data is looked for in HEADRACE_DATA or ../shared/data.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

K = 10
WANTED_RATIO = 1.08
WANTED_SECONDS = 300.0


def main() -> None:
    """Print the table; exit code 1 when the model is not that much above GP-TopFreq."""
    root = Path(os.environ.get("HEADRACE_DATA", Path(__file__).parents[2] / "shared" / "data"))
    folder = root / "tafeng-nbr"
    if not folder.is_dir():
        raise SystemExit(f"skipped: no Ta-Feng data in {root}; set HEADRACE_DATA")
    command = [sys.executable, "-c", "from headrace_training.cli import main; main()", "evaluate", "--json"]
    command += ["--format", "baskets", "--k", str(K), "--train", str(folder / "tafeng_history.json.gz")]
    command += ["--test", str(folder / "tafeng_future.json.gz")]
    report = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    print(f"| model | recall@{K} | 95 % interval | ndcg@{K} |\n|---|---|---|---|")
    for name, row in report["baselines"].items():
        print(f"| {name} | {row[f'recall@{K}']:.4f} | | {row[f'ndcg@{K}']:.4f} |")
    low, high = report["intervals"][f"recall@{K}"]
    recall, ndcg = report[f"recall@{K}"], report[f"ndcg@{K}"]
    print(f"| {report['model']} (auto) | {recall:.4f} | {low:.4f} to {high:.4f} | {ndcg:.4f} |")
    ratio = recall / report["baselines"]["gp-topfreq"][f"recall@{K}"]
    kept = ratio >= WANTED_RATIO and report["fit_seconds"] < WANTED_SECONDS
    seconds = f"select {report['select_seconds']:.1f} s, fit {report['fit_seconds']:.1f} s"
    print(f"{report['users']} people, {report['items']} items; {seconds}, peak {report['peak_rss_bytes'] / 1e9:.2f} GB")
    print(f"{ratio:.3f} × GP-TopFreq, wanted {WANTED_RATIO}: {'yes' if kept else 'NO'}")
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
