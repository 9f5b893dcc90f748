"""pairjax's side of populations of heads."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.benchmarks.shared.constants import CHECKED_STEPS, HEADS
from experiments.benchmarks.shared.head_population import Heads, heads_cost
from experiments.benchmarks.workload.heads import make_head_members
from pairjax.population.engine import MemberProgram, Trained, train_population
from pairjax.step.compilation import use_compilation_cache


class Populations:
    """Times heads on cached vectors: all seeds and learning rates as one program."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings, self.work = settings, Path(settings["work"])
        use_compilation_cache(str(self.work / "xla"))

    def open(self) -> dict[str, Any]:
        self.heads = Heads.read(self.work / f"{HEADS}.npz")
        self.program, self.members, self.dev = make_head_members(self.work, steps=self.settings["steps"])
        self._train(self.program)
        return {}

    def _train(self, program: MemberProgram) -> Trained:
        """Trains all heads and evaluates them on dev."""
        return train_population(program, self.members, evaluate={"dev": self.dev})

    def check(self) -> dict[str, Any]:
        """Returns the losses of the first steps of the first and the last head."""
        loss = self._train(self.program).loss
        return {"losses": [float(x) for x in (*loss[0, 0, :CHECKED_STEPS], *loss[-1, -1, :CHECKED_STEPS])]}

    def round(self, turn: int) -> dict[str, Any]:
        began = time.perf_counter()
        self._train(self.program)
        seconds = time.perf_counter() - began
        # A new program is traced again; its compiled form comes from the cache.
        began = time.perf_counter()
        self._train(replace(self.program))
        count = self.heads.count
        whole = count / (time.perf_counter() - began)
        return {"seconds": seconds, "count": count, "whole": whole} | heads_cost(self.heads, count)
