"""Open Bandit sample: what uniform showing would have earned, told from the logs of a Thompson-sampling policy.

The truth beside it is the rate that the uniform policy's own log has, on the same campaign. Run as
``python benchmarks/bench_offpolicy.py``; the data is looked for in HEADRACE_DATA or ../shared/data.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from headrace_training.offpolicy import estimate_files

CAMPAIGNS = ("all", "men", "women")
KINDS = {"ips": "IPS", "snips": "SNIPS", "dr": "doubly robust"}
CLIP = 50.0


def measure(folder: Path, logged_by: str, campaign: str, clip: float = 0.0) -> dict[str, Any]:
    """Estimates for the uniform policy from the log of another one."""
    place = folder / logged_by / campaign
    return estimate_files(
        place / f"{campaign}.csv.gz",
        "uniform",
        context=("user_feature_*",),
        catalogue=place / "item_context.csv.gz",
        clip=clip,
    )


def cell(found: dict[str, Any]) -> str:
    low, high = found["interval"]
    return f"{found['estimate']:.5f} ({low:.5f} to {high:.5f})"


def main() -> None:
    """Print the table; exit code 1 when an unclipped 95 % interval does not hold the uniform log's own rate."""
    root = Path(os.environ.get("HEADRACE_DATA", Path(__file__).parents[2] / "shared" / "data"))
    folder = root / "open-bandit-dataset-small"
    if not folder.is_dir():
        raise SystemExit(f"skipped: no Open Bandit data in {root}; set HEADRACE_DATA")
    titles = ["campaign", "clip", "Thompson's rate", *KINDS.values(), "uniform log's rate", "effective rows"]
    print("| " + " | ".join(titles) + " |\n" + "|---" * len(titles) + "|")
    kept = True
    for campaign in CAMPAIGNS:
        truth = measure(folder, "random", campaign)["logged"]
        for clip in (0.0, CLIP):
            found = measure(folder, "bts", campaign, clip)
            cells = [campaign, f"{clip:g}" if clip else "none", cell(found["logged"])]
            cells += [cell(found[kind]) for kind in KINDS]
            cells += [cell(truth), f"{found['effective_sample_size']:.0f}"]
            print("| " + " | ".join(cells) + " |")
            for kind in KINDS if not clip else ():
                low, high = found[kind]["interval"]
                kept &= low <= truth["estimate"] <= high
    print(f"every unclipped interval holds the uniform log's own rate: {'yes' if kept else 'NO'}")
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
