"""What pretraining brings to pairs: encoders pretrained alike but for the objective, fine-tuned alike, compared.

Run s of every arm has the same seed, training rows and order, so that differences are paired. Each pretraining is a
folder of its own and each fine-tuning a file, by a hash of all that decides it: what was done is read, and a run that
was stopped goes on.
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
from pairjax.studies.transfer.design import TransferDesign, Work, choose_design, quick
from pairjax.studies.transfer.encoders import Encoders, Origin, Texts, write_stories
from pairjax.studies.transfer.targets import Target, load_target
from pairjax.studies.transfer.tuner import Tuned, Tuner

FORMAT = 2


def corpus_of(run: ClaimRun) -> Texts:
    """The English corpus of PAIRJAX_DATA; of a quick run, stories made by rules."""
    if run.quick:
        return write_stories(run.root / "transfer" / "stories", documents=60)
    folder = data_folder() / "corpus-en"
    return Texts(str(folder / "*.train.txt"), str(folder / "*.heldout.txt"))


def run_transfer(run: ClaimRun, levels: Sequence[TransferDesign]) -> TransferBoard:
    """Make what is missing, and read the rest.

    Args:
        run: Its budget chooses the design, and its seeds are the runs of each arm; fewer where the budget does not hold
            them, and then so in `run`.
        levels: Designs, from the largest.

    Raises:
        BudgetSpentError: The time is up; what is done is kept.
        UserError: There is no data.
    """
    notes: list[str] = []
    if run.quick:
        design = quick(levels[0])
    else:
        choice = choose_design(levels, seeds=run.seeds, minutes=run.budget)
        design, run.seeds = choice.design, choice.seeds
        notes += choice.notes
        for note in notes:
            run.say(note)
    root = run.root / "transfer"
    encoders = Encoders(design.pretrain, corpus_of(run), source=run.claim.encoder, folder=root / "encoders")
    _pretrain_all(run, design, encoders)
    like = encoders.path("start", 0) / "model" / "encoder"
    targets: dict[str, Target] = {}
    runs: dict[Work, list[Tuned]] = {}
    for name in dict.fromkeys(one.task for one in design.work()):
        target = load_target(
            name,
            held_out=encoders.held_out,
            like=like,
            cache=root / "encoders" / "indexes",
            sizes=(design.dev, design.test),
            rules=run.quick,
            lean=bool(design.skews),
        )
        tuner = Tuner(target.data, like, design.tune)
        runs |= _tune_all(run, design, encoders, tuner, target)
        targets[name] = target
        notes += [note for note in target.data.notes if note.startswith("coherence")]
    facts: dict[Origin, list[Mapping[str, float]]] = {
        origin: [encoders.result(origin, seed)["metrics"]["dev"]["segment_accuracy"] for seed in range(run.seeds)]
        for origin in design.origins()
        if origin != "none"
    }
    return TransferBoard(design, targets, runs, tuner.steps, facts, notes)


def _pretrain_all(run: ClaimRun, design: TransferDesign, encoders: Encoders) -> None:
    """The start, and an encoder of each objective and seed."""
    for seed, origin in [(0, "start"), *((seed, origin) for seed in range(run.seeds) for origin in design.origins())]:
        if encoders.made(origin, seed):
            continue
        run.check_time()
        began = time.monotonic()
        folder = encoders.make(origin, seed)
        run.cells_run += 1
        run.say(f"{run.cells_run:4d} pretrained {origin}, seed {seed}: {folder} ({time.monotonic() - began:.0f} s)")


def _tune_all(
    run: ClaimRun, design: TransferDesign, encoders: Encoders, tuner: Tuner, target: Target
) -> dict[Work, list[Tuned]]:
    """All runs of a task; those from one encoder follow one another, so that it is read once."""
    todo = [one for one in design.work() if one.task == target.name]
    found: dict[Work, list[Tuned]] = {one: [] for one in todo}
    content = hash_pairs(target.data).hexdigest()
    read = lru_cache(maxsize=1)(lambda folder: tuner.read(folder / "model" / "encoder"))
    for seed in range(run.seeds):
        for one in sorted(todo, key=lambda one: one.arm.origin):
            folder = encoders.path(one.arm.origin, seed)
            described = [FORMAT, folder.name, content, one.arm.pooler, asdict(one.variant), design.rows, seed]
            identity = hashlib.sha256(json.dumps([described, asdict(design.tune)]).encode()).hexdigest()
            path = run.root / "transfer" / "runs" / f"{identity[:20]}.npz"
            kept = read_arrays(path, identity)
            if kept is None:
                run.check_time()
                began = time.monotonic()
                rows, label = target.draw(one.variant, rows=design.rows, seed=seed)
                made = tuner.run(read(folder), pooler=one.arm.pooler, seed=seed, rows=rows, label=label)
                kept = {"curve": made.curve, "outputs": made.outputs, "score": np.asarray(made.score)}
                write_arrays(path, identity, kept)
                run.cells_run += 1
                run.say(
                    f"{run.cells_run:4d} {target.name:10s} {one.variant.name:18s} {one.arm.name:24s} seed {seed}: "
                    f"{made.score:6.2f} ({time.monotonic() - began:.0f} s)"
                )
            found[one].append(Tuned(kept["curve"], kept["outputs"], float(kept["score"])))
    return found
