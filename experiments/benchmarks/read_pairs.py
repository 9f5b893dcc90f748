"""How fast are a million pairs read, and in how much memory: pairjax beside pandas and Hugging Face's datasets.

    python experiments/benchmarks/read_pairs.py --folder /some/disk --other-python PYTHON

Pairs are drawn from a fixed generator: SNLI-like texts of 5 to 20 words, three classes. They are written as one
`.jsonl.gz` and as 8 Parquet shards. Each reader runs in a process of its own, which reports seconds and its peak of
resident memory. PYTHON is an interpreter with pandas and datasets, which pairjax does not need.

- `pairjax load`: `load_pairs`, as `pairjax train` calls it: texts normalised, rows located, labels encoded, and
  repeats, leaks and contradictions counted.
- `pairjax rows`: the rows alone, as Python strings.
- `pairjax stream`: `iter_pairs`, as `pairjax predict` reads: no row is kept, so memory must not grow with the file.
- `pandas`, `datasets`: the same three columns as Python lists.
"""

import argparse
import gzip
import json
import random
import subprocess
import sys
from pathlib import Path

SHARDS = 8
WORDS = 5000
WORKER = """
import json, resource, sys, time
reader, form, folder = sys.argv[1:]
paths = [f"{folder}/train.jsonl.gz"] if form == "jsonl.gz" else [
    f"{folder}/train-{i:05}-of-00008.parquet" for i in range(8)
]

def read():
    if reader == "pairjax load":
        from pairjax.base.data_config import DataConfig
        from pairjax.data.sources import load_pairs
        config = DataConfig(path=folder, dev_fraction=0.001, group_texts=False, format=form.split(".")[0])
        return sum(map(len, load_pairs(config).splits.values()))
    if reader == "pairjax rows":
        from pathlib import Path
        from pairjax.data.columns import Columns
        from pairjax.data.readers import open_table, read_rows
        from pairjax.data.table import join_splits
        columns = Columns("sentence1", "sentence2", "label")
        return len(join_splits([read_rows(open_table(Path(p)), columns, skip=False) for p in paths]).first)
    if reader == "pairjax stream":
        from pairjax.data.stream import iter_pairs
        return sum(1 for path in paths for _ in iter_pairs(path))
    if reader == "pandas":
        import pandas
        read_one = (lambda p: pandas.read_json(p, lines=True)) if form == "jsonl.gz" else pandas.read_parquet
        frame = pandas.concat(map(read_one, paths))
        return len([frame[name].tolist() for name in ("sentence1", "sentence2", "label")][0])
    import datasets, tempfile
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        kind = "json" if form == "jsonl.gz" else "parquet"
        data = datasets.load_dataset(kind, data_files=paths, split="train", cache_dir=cache)
        return len([list(data[name]) for name in ("sentence1", "sentence2", "label")][0])

start, cpu = time.perf_counter(), time.process_time()
rows = read()
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({
    "rows": rows, "seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu,
    "peak_mib": usage.ru_maxrss / 1024,
}))
"""


def write_pairs(folder: Path, rows: int) -> None:
    """Writes the pairs in both forms, unless they are there."""
    import pyarrow
    import pyarrow.parquet

    if (folder / f"rows-{rows}").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyzãé", k=rng.randint(2, 9))) for _ in range(WORDS)]

    def text() -> str:
        return " ".join(rng.choices(words, k=rng.randint(5, 20)))

    size = -(-rows // SHARDS)
    with gzip.open(folder / "train.jsonl.gz", "wt", encoding="utf-8", compresslevel=6) as file:
        for shard in range(SHARDS):
            labels = rng.choices(["entailment", "neutral", "contradiction"], k=min(size, rows - shard * size))
            table = [{"sentence1": text(), "sentence2": text(), "label": label} for label in labels]
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in table)
            path = folder / f"train-{shard:05}-of-{SHARDS:05}.parquet"
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table), path)
    (folder / f"rows-{rows}").touch()


def main() -> None:
    """Writes the pairs, runs each reader, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="Folder for the pairs; needs about 1 GB.")
    parser.add_argument("--other-python", help="Interpreter with pandas and datasets.")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--readers", nargs="*", help="Only these readers.")
    parser.add_argument("--forms", nargs="*", default=["jsonl.gz", "parquet"], help="Only these forms.")
    options = parser.parse_args()
    write_pairs(options.folder, options.rows)
    readers = dict.fromkeys(("pairjax load", "pairjax rows", "pairjax stream"), sys.executable)
    if options.other_python:
        readers |= dict.fromkeys(("pandas", "datasets"), options.other_python)
    print("| form | reader | rows/s | rows per CPU second | peak MiB |\n|---|---|---|---|---|")
    for form in options.forms:
        for reader, python in readers.items():
            if options.readers and reader not in options.readers:
                continue
            words = [python, "-c", WORKER, reader, form, str(options.folder)]
            done = subprocess.run(words, capture_output=True, text=True)
            if done.returncode:
                reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
                print(f"| {form} | {reader} | failed: {reason:.100} | | |", flush=True)
                continue
            result = json.loads(done.stdout.strip().splitlines()[-1])
            rate, cpu_rate = (result["rows"] / result[name] for name in ("seconds", "cpu_seconds"))
            print(f"| {form} | {reader} | {rate:,.0f} | {cpu_rate:,.0f} | {result['peak_mib']:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
