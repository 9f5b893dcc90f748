"""Runs `pairjax COMMAND ...`, and turns a `UserError` into one line on standard error and exit code 2.

The module of a command is imported only when the command runs, so `--help` and a misspelt command answer at once.
"""

import difflib
import importlib
import io
import os
import sys
from collections.abc import Sequence

from pairjax.base.errors import UserError
from pairjax.cli.memory import restart_with_huge_pages

COMMANDS = {
    "train": "fine-tune an encoder on pairs: pairjax train [experiments/X.py] [options]",
    "evaluate": "score a model on labelled pairs: pairjax evaluate MODEL --data.path DIR",
    "predict": "label pairs with a model: pairjax predict MODEL pairs.tsv --output out.jsonl",
    "explain": "show what each token adds to an answer: pairjax explain MODEL pairs.tsv",
    "serve": "answer HTTP requests with models: pairjax serve MODEL --port 8080",
    "export": "write a model for other tools: pairjax export MODEL --to onnx --output DIR",
    "pretrain": "pretrain an encoder on text: pairjax pretrain [experiments/pretrain_X.py] [options]",
    "data": "inspect pairs or text: pairjax data inspect --data.path DIR, pairjax data corpus --data.corpus GLOB",
    "sweep": "search any config fields: pairjax sweep experiments/X.py --grid optim.learning-rate=1e-5,3e-5",
    "claim": "test a claim of the chapter: pairjax claim experiments/claims/X.py",
    "push": "upload a model to the Hugging Face hub: pairjax push MODEL ORG/NAME [--format FORMAT]",
    "import": "convert a model of transformers or sentence-transformers: pairjax import MODEL --output DIR",
    "report": "show runs and claims on one HTML page: pairjax report RUN... [--language pt]",
    "features": "encode each distinct text once: pairjax features --data.path DIR --output DIR",
    "plan": "estimate what a run needs before you rent it: pairjax plan experiments/X.py --tpu v5e:4x4",
    "bench": "compare speed with the torch tools (in a checkout): pairjax bench --quick",
}
"""One line per command; `pairjax.cli.COMMAND` has its `main(args)`, unless `MODULES` names another module."""
MODULES = {"import": "import_model"}
"""Commands that are words of Python, and their modules."""


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
    command, *rest = args
    if command == "--version":
        from importlib.metadata import version

        print(f"pairjax {version('pairjax')}")
        return 0
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=1, cutoff=0.5)
        raise UserError(
            "no such command",
            got=command,
            expected=f"one of {', '.join(COMMANDS)}",
            fix=f"perhaps you meant {near[0]}" if near else None,
        )
    code: int = importlib.import_module(f"pairjax.cli.{MODULES.get(command, command)}").main(rest)
    return code


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0 for success, 2 for bad input, 130 or 143 after a signal."""
    if argv is None and sys.argv[1:2] and sys.argv[1] in COMMANDS:
        restart_with_huge_pages()
    # A label in a language that the terminal's encoding lacks is escaped, which is better than ending the command.
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return _dispatch(sys.argv[1:] if argv is None else argv)
    except UserError as error:
        print(f"pairjax: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("pairjax: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output is gone (`pairjax predict ... | head`). That is no error; nothing is left to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
