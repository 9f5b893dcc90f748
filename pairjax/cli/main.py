"""`pairjax COMMAND ...`: dispatch, and the one place where a `UserError` becomes a line and exit code 2.

Commands import what they need when they run, so that `--help` and a misspelt option answer at once.
"""

import difflib
import os
import sys
from collections.abc import Sequence

from pairjax.base.errors import UserError
from pairjax.cli.memory import restart_with_huge_pages

COMMANDS = {
    "train": "fine-tune an encoder on pairs: pairjax train [experiments/X.py] [options]",
    "evaluate": "score a model on labelled pairs: pairjax evaluate MODEL --data.path DIR",
    "predict": "label pairs: pairjax predict MODEL pairs.tsv --output out.jsonl",
    "pretrain": "pretrain an encoder on text: pairjax pretrain [experiments/pretrain_X.py] [options]",
    "data": "look at pairs: pairjax data inspect --data.path DIR; at text: pairjax data corpus --data.corpus GLOB",
    "sweep": "search any fields of a config: pairjax sweep experiments/X.py --grid optim.learning-rate=1e-5,3e-5",
    "claim": "test a claim of the chapter: pairjax claim experiments/claims/X.py",
    "report": "show runs and claims as one HTML file: pairjax report RUN... [--language pt]",
    "features": "encode each distinct text once: pairjax features --data.path DIR --output DIR",
    "plan": "what a run needs before anything is rented: pairjax plan experiments/X.py --tpu v5e:4x4",
    "bench": "time it beside the torch tools (in a checkout): pairjax bench --quick",
}


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "usage: pairjax COMMAND [options]   (pairjax COMMAND --help lists the options)",
            "",
            "Fine-tune pretrained text encoders to classify pairs of sequences, in JAX and Flax.",
            "",
            *lines,
            "",
            "  pairjax --version",
        ]
    )


def _dispatch(args: Sequence[str]) -> int:
    if not args or args[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0
    command, rest = args[0], list(args[1:])
    match command:
        case "--version":
            from importlib.metadata import version

            print(f"pairjax {version('pairjax')}")
            return 0
        case "train":
            from pairjax.cli.train import main as run_train

            return run_train(rest)
        case "evaluate":
            from pairjax.cli.evaluate import main as run_evaluate

            return run_evaluate(rest)
        case "predict":
            from pairjax.cli.predict import main as run_predict

            return run_predict(rest)
        case "pretrain":
            from pairjax.cli.pretrain import main as run_pretrain

            return run_pretrain(rest)
        case "data":
            from pairjax.cli.data import main as run_data

            return run_data(rest)
        case "sweep":
            from pairjax.cli.sweep import main as run_sweep

            return run_sweep(rest)
        case "claim":
            from pairjax.cli.claim import main as run_claim

            return run_claim(rest)
        case "report":
            from pairjax.cli.report import main as run_report

            return run_report(rest)
        case "features":
            from pairjax.cli.features import main as run_features

            return run_features(rest)
        case "plan":
            from pairjax.cli.plan import main as run_plan

            return run_plan(rest)
        case "bench":
            from pairjax.cli.bench import main as run_bench

            return run_bench(rest)
        case _:
            near = difflib.get_close_matches(command, COMMANDS, n=1, cutoff=0.5)
            raise UserError(
                "no such command",
                got=command,
                expected=f"one of {', '.join(COMMANDS)}",
                fix=f"perhaps you meant {near[0]}" if near else None,
            )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (0 done, 2 bad input, 130 or 143 stopped by a signal)."""
    if argv is None and sys.argv[1:2] and sys.argv[1] in COMMANDS:
        restart_with_huge_pages()
    try:
        return _dispatch(sys.argv[1:] if argv is None else argv)
    except UserError as error:
        print(f"pairjax: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("pairjax: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output went away (`pairjax predict ... | head`): not an error, and nothing left to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())
