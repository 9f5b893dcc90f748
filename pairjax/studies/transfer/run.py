"""How pretraining objectives affect fine-tuning on pairs.

Encoders are pretrained alike except for the objective, then fine-tuned alike and compared. Run s of every arm has the
same seed, training pairs and order, so differences are paired. Each pretraining has its own folder and each fine-tuning
its own file, named by a hash of everything that determines it. Finished work is read, and an interrupted run continues.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache

import numpy as np

from pairjax.storage.arrays import read_arrays, write_arrays
from pairjax.storage.hashes import hash_pairs
from pairjax.studies.claim import ClaimRun
from pairjax.studies.sets import data_folder
from pairjax.studies.transfer.board import TransferBoard
from pairjax.studies.transfer.design import Condition, TransferDesign, choose_design, smoke_design
from pairjax.studies.transfer.encoders import Encoders, Origin, Texts, write_stories
from pairjax.studies.transfer.targets import Target, load_target
from pairjax.studies.transfer.tuner import TunedRun, Tuner

FORMAT = 2


def corpus_of(run: ClaimRun) -> Texts:
    """Returns the English corpus of PAIRJAX_DATA; for a quick run, rule-made stories."""
    if run.quick:
        return write_stories(run.root / "transfer" / "stories", documents=60)
    folder = data_folder() / "corpus-en"
    return Texts(str(folder / "*.train.txt"), str(folder / "*.heldout.txt"))


def run_transfer(run: ClaimRun, levels: Sequence[TransferDesign]) -> TransferBoard:
    """Runs what is missing, and reads the rest.

    Args:
        run: The claim's run. Its budget chooses the design. If not even the smallest design fits with all seeds,
            `run.seeds` is reduced.
        levels: The designs, largest first.

    Raises:
        BudgetSpentError: The time is up; finished work is kept.
        UserError: PAIRJAX_DATA is not set to the data.
    """
    notes: list[str] = []
    if run.quick:
        design = smoke_design(levels[0])
    else:
        choice = choose_design(levels, seeds=run.seeds, minutes=run.budget)
        design, run.seeds = choice.design, choice.seeds
        notes += choice.notes
        for note in notes:
            run.log(note)
    root = run.root / "transfer"
    encoders = Encoders(design.pretrain, corpus_of(run), source=run.claim.encoder, folder=root / "encoders")
    _pretrain_all(run, design, encoders)
    like = encoders.path("start", 0) / "model" / "encoder"
    targets: dict[str, Target] = {}
    runs: dict[Condition, list[TunedRun]] = {}
    for name in dict.fromkeys(condition.task for condition in design.conditions()):
        target = load_target(
            name,
            held_out=encoders.held_out,
            like=like,
            cache=root / "encoders" / "indexes",
            sizes=(design.dev, design.test),
            rules=run.quick,
            skewed=bool(design.skews),
        )
        tuner = Tuner(target.data, like, design.tune)
        runs |= _tune_all(run, design, encoders, tuner, target)
        targets[name] = target
        notes += [note for note in target.data.notes if note.startswith("coherence")]
    segment_accuracy: dict[Origin, list[Mapping[str, float]]] = {
        origin: [encoders.result(origin, seed)["metrics"]["dev"]["segment_accuracy"] for seed in range(run.seeds)]
        for origin in design.origins()
        if origin != "none"
    }
    return TransferBoard(design, targets, runs, tuner.steps, segment_accuracy, notes)


def _pretrain_all(run: ClaimRun, design: TransferDesign, encoders: Encoders) -> None:
    """Pretrains the start, and an encoder for each objective and seed."""
    for seed, origin in [(0, "start"), *((seed, origin) for seed in range(run.seeds) for origin in design.origins())]:
        if encoders.exists(origin, seed):
            continue
        run.check_time()
        began = time.monotonic()
        folder = encoders.make(origin, seed)
        run.cells_run += 1
        run.log(f"{run.cells_run:4d} pretrained {origin}, seed {seed}: {folder} ({time.monotonic() - began:.0f} s)")


def _tune_all(
    run: ClaimRun, design: TransferDesign, encoders: Encoders, tuner: Tuner, target: Target
) -> dict[Condition, list[TunedRun]]:
    """Fine-tunes all runs of a task. Runs from one encoder follow one another, so it is read once."""
    conditions = [condition for condition in design.conditions() if condition.task == target.name]
    runs: dict[Condition, list[TunedRun]] = {condition: [] for condition in conditions}
    content = hash_pairs(target.data).hexdigest()
    read = lru_cache(maxsize=1)(lambda folder: tuner.read(folder / "model" / "encoder"))
    for seed in range(run.seeds):
        for condition in sorted(conditions, key=lambda condition: condition.arm.origin):
            arm, variant = condition.arm, condition.variant
            folder = encoders.path(arm.origin, seed)
            described = [FORMAT, folder.name, content, arm.pooler, asdict(variant), design.rows, seed]
            identity = hashlib.sha256(json.dumps([described, asdict(design.tune)]).encode()).hexdigest()
            path = run.root / "transfer" / "runs" / f"{identity[:20]}.npz"
            arrays = read_arrays(path, identity)
            if arrays is None:
                run.check_time()
                began = time.monotonic()
                index, label = target.draw(variant, size=design.rows, seed=seed)
                tuned = tuner.run(read(folder), pooler=arm.pooler, seed=seed, index=index, label=label)
                arrays = {"curve": tuned.curve, "outputs": tuned.outputs, "score": np.asarray(tuned.score)}
                write_arrays(path, identity, arrays)
                run.cells_run += 1
                run.log(
                    f"{run.cells_run:4d} {target.name:10s} {variant.name:18s} {arm.name:24s} seed {seed}: "
                    f"{tuned.score:6.2f} ({time.monotonic() - began:.0f} s)"
                )
            runs[condition].append(TunedRun(arrays["curve"], arrays["outputs"], float(arrays["score"])))
    return runs
