"""The table of interactions: which settings there are, on which pairs, and the effects that Lemmas 2 and 2.1 read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int, Int8, Shaped

from pairjax.base.config import DataConfig
from pairjax.base.types import PairData, Pairs
from pairjax.data.folds import stratified_folds, text_clusters
from pairjax.data.sources import load_pairs
from pairjax.data.subsets import take_pairs
from pairjax.evaluation import metrics
from pairjax.evaluation.intervals import Sampled, two_way_bootstrap
from pairjax.evaluation.metrics import Statistic
from pairjax.population.features import Features
from pairjax.population.projection import fit_projection
from pairjax.population.tokens import TokenTask, token_counts, token_task
from pairjax.studies.attention.nested_cv import TOKEN_KINDS, AttentionSetting, NestedDesign, SettingResult
from pairjax.studies.attention.relations import SLICES, Slice, rule_slices, word_slices
from pairjax.studies.claim import RESAMPLES, ClaimRun
from pairjax.studies.sets import data_folder, real_pairs

WIDTH = 64
"""Numbers a token: its leading principal components. Of MiniLM's 384, so that a layer costs a 36th."""
LENGTH = 32
"""Token slots of a row; longer pairs are left out."""
OF_SLICE = 800
"""Pairs of a slice, at most; of the rest, as many as make `POOL`."""
POOL = 3200
COMPLEX: Mapping[str, tuple[Slice, ...]] = {
    "sick": ("negation", "quantifiers"),
    "rules": ("negation", "quantifiers", "roles"),
}
"""The slices of a task that count as complex; SICK has too few swaps of roles for a score."""
LAYERS, HEADS = (1, 2, 3), (1, 2, 4, 8)
MIDDLE = 4
"""Heads while layers vary; one layer while heads vary."""


def grid(kind: str) -> list[AttentionSetting]:
    """All settings of a kind: layers at 4 heads, heads at one layer; a full grid would cost 2.5 times this."""
    if kind == "sized":
        return [AttentionSetting(kind, layers) for layers in LAYERS]
    if kind in ("none", "gate"):
        return [AttentionSetting(kind)]
    return [AttentionSetting(kind, layers, MIDDLE) for layers in LAYERS] + [
        AttentionSetting(kind, 1, heads) for heads in HEADS if heads != MIDDLE
    ]


KINDS = ("none", "sized", "gate", "vectors", *TOKEN_KINDS)


def sick_pairs() -> tuple[Pairs, PairData]:
    """All of SICK, official splits together."""
    data = real_pairs("sick")
    return _joined(list(data.splits.values())), data


def rule_made_pairs(*, size: int = 24_000) -> tuple[Pairs, PairData]:
    """Rule-made entailment; many, since who did it to whom is one rule of 27 pairs."""
    data = load_pairs(DataConfig(rules="entailment", sizes=(size, 1, 0), held_out="none", seed=21))
    return data.splits["train"], data


def _joined(parts: Sequence[Pairs]) -> Pairs:
    return Pairs(
        first=tuple(text for part in parts for text in part.first),
        second=tuple(text for part in parts for text in part.second),
        label=np.concatenate([part.label for part in parts if part.label is not None]),
        where=tuple(place for part in parts for place in part.where),
    )


def drawn(slices: Shaped[np.ndarray, " pairs"], *, of_slice: int, pool: int, seed: int = 0) -> Int[np.ndarray, " _"]:
    """Rows of a pool: of each complex slice at most `of_slice`, of the rest what is lacking; in ascending order."""
    generator = np.random.default_rng(seed)
    chosen: list[np.ndarray] = []
    for name in SLICES:
        limit = of_slice if name != "rest" else pool - sum(map(len, chosen))
        chosen.append(generator.permutation(np.flatnonzero(slices == name))[: max(limit, 0)])
    return np.sort(np.concatenate(chosen))


@dataclass(frozen=True)
class Pool:
    """A task's pairs, ready for a nested cross-validation.

    Attributes:
        source: Their tokens; all pairs stand in `train`.
        slices: Each pair's.
        fold: Each pair's, stratified by label.
        notes: What was left out.
    """

    source: TokenTask
    slices: Shaped[np.ndarray, " pairs"]
    fold: Int[np.ndarray, " pairs"]
    notes: tuple[str, ...]

    @cached_property
    def clusters(self) -> Int[np.ndarray, " pairs"]:
        """Of each pair (`text_clusters`)."""
        return text_clusters(self.source.heads.splits["train"])

    def where(self, names: Sequence[str]) -> Bool[np.ndarray, "slices pairs"]:
        """Which pairs are of each slice."""
        return np.stack([self.slices == name for name in names])


def build_pool(
    name: str,
    pairs: Pairs,
    data: PairData,
    slices: Shaped[np.ndarray, " pairs"],
    *,
    features: Callable[[PairData], Features],
    folds: int,
    of_slice: int = OF_SLICE,
    pool: int = POOL,
    width: int = WIDTH,
) -> Pool:
    """Draw a pool, leave out what is longer than a row, project the tokens and deal out the folds."""
    rows = drawn(slices, of_slice=of_slice, pool=pool)
    found = features(PairData(data.task, {"train": take_pairs(pairs, rows)}, data.source))
    short = token_counts(found, take_pairs(pairs, rows)).sum(axis=1) <= LENGTH
    kept = rows[short]
    whole = PairData(data.task, {"train": take_pairs(pairs, kept)}, data.source)
    assert found.tokens is not None
    projection = fit_projection(found.tokens, width)
    source = token_task(whole, found, projection=projection, length=LENGTH)
    sizes = ", ".join(f"{int((slices[kept] == one).sum())} {one}" for one in SLICES)
    notes = (
        f"{name}: {len(kept)} pairs ({sizes}); {int((~short).sum())} longer than {LENGTH} tokens left out",
        f"{name}: {width} principal components keep {projection.kept:.0%} of the tokens' variance",
    )
    fold = stratified_folds(whole.task, whole.splits["train"], folds=folds, seed=0)
    return Pool(source, slices[kept], fold, notes)


@dataclass(frozen=True)
class Search:
    """Finished settings and the pools that they are of.

    Attributes:
        pools: By task.
        results: By task, of every setting.
        design: Of the settings.
    """

    pools: Mapping[str, Pool]
    results: Mapping[str, Mapping[AttentionSetting, SettingResult]]
    design: NestedDesign

    def of(self, task: str, *kinds: str) -> dict[AttentionSetting, SettingResult]:
        """A task's settings of some kinds, in the order of the grid."""
        return {setting: found for setting, found in self.results[task].items() if setting.kind in kinds}

    def right(self, task: str, predicted: Int8[np.ndarray, "seeds pairs"]) -> np.ndarray:
        """float64 [seeds, N], 1 where right; NaN where a seed diverged, which leaves an effect undefined."""
        return np.where(predicted < 0, np.nan, predicted == self.pools[task].source.heads.label("train"))

    def difference(
        self,
        task: str,
        one: Int8[np.ndarray, "seeds pairs"] | Sequence[Int8[np.ndarray, "seeds pairs"]],
        other: Int8[np.ndarray, "seeds pairs"] | Sequence[Int8[np.ndarray, "seeds pairs"]],
        names: Sequence[str],
    ) -> Sampled:
        """Accuracy of one less that of the other in points, mean over slices, over pairs and seeds, paired.

        Several predictions on a side stand for the mean of their accuracies.
        """

        def mean_right(side: object) -> np.ndarray:
            several = [side] if isinstance(side, np.ndarray) else list(side)  # type: ignore[call-overload]
            return np.mean([self.right(task, predicted) for predicted in several], axis=0)

        gained = mean_right(one) - mean_right(other)
        masks = self.pools[task].where(names)
        runs = [_slice_means(row, masks) for row in gained]
        # Pairs and seeds of a task are drawn alike for all effects, those of other tasks by another seed.
        seed = list(self.pools).index(task)
        clusters = self.pools[task].clusters
        return two_way_bootstrap(runs, len(masks[0]), resamples=RESAMPLES, seed=seed, clusters=clusters)["value"]

    def notes(self) -> list[str]:
        """What a reader should know of pools and settings."""
        lines = [note for pool in self.pools.values() for note in pool.notes]
        for task, results in self.results.items():
            lines += [f"{task} {setting.name}: {note}" for setting, found in results.items() for note in found.notes]
            for kind in KINDS:
                last = [
                    found.rates.max() >= max(self.design.rates(setting))
                    for setting, found in self.of(task, kind).items()
                    if len(self.design.rates(setting)) > 1
                ]
                if last and all(last):
                    lines.append(f"{task} {kind}: every setting chose its highest rate in some fold")
        return lines

    def table(self, task: str) -> list[list[str]]:
        """Accuracy of each setting by slice, mean over seeds ± deviation; the best of a column in bold."""
        pool = self.pools[task]
        columns = [name for name in SLICES if (pool.slices == name).any()]
        masks = np.concatenate([pool.where(columns), np.ones((1, len(pool.slices)), bool)])
        scores = np.array(
            [
                [100 * self.right(task, found.predicted)[:, mask].mean(axis=1) for mask in masks]
                for found in self.results[task].values()
            ]
        )
        mean, deviation = scores.mean(axis=2), scores.std(axis=2, ddof=1)
        lines = [["setting", "parameters", "inner", *columns, "all"]]
        for row, (setting, found) in enumerate(self.results[task].items()):
            cells = [
                f"**{m:.2f}** ± {d:.2f}" if m == mean[:, column].max() else f"{m:.2f} ± {d:.2f}"
                for column, (m, d) in enumerate(zip(mean[row], deviation[row], strict=True))
            ]
            lines.append([setting.name, f"{found.parameters:,}", f"{100 * found.judged.mean():.2f}", *cells])
        return lines


def _slice_means(gained: np.ndarray, masks: np.ndarray) -> Statistic:
    def statistic(counts: np.ndarray) -> dict[str, np.ndarray]:
        parts = [metrics.mean(gained[mask], counts[:, mask]) for mask in masks]
        return {"value": 100.0 * np.mean(parts, axis=0)}

    return statistic


def run_search(run: ClaimRun) -> Search:
    """All settings on all tasks, cheap ones first; a quick run takes few rule-made pairs and few settings."""
    design, pools = run.nested, {}
    if not run.quick:
        data_folder()
        pairs, data = sick_pairs()
        pools["sick"] = build_pool(
            "sick", pairs, data, word_slices(pairs), features=_features(run, "sick"), folds=design.folds
        )
    pairs, data = rule_made_pairs(size=2000 if run.quick else 24_000)
    small = {"of_slice": 40, "pool": 160, "width": 16} if run.quick else {}
    pools["rules"] = build_pool(
        "rules", pairs, data, rule_slices(pairs), features=_features(run, "rules"), folds=design.folds, **small
    )
    settings = [setting for kind in KINDS for setting in grid(kind) if not run.quick or _smoke(setting)]
    results: dict[str, dict[AttentionSetting, SettingResult]] = {task: {} for task in pools}
    for setting in settings:
        for task, pool in pools.items():
            results[task][setting] = run.setting(task, pool.source, pool.fold, setting)
    return Search(pools, results, design)


def _features(run: ClaimRun, name: str) -> Callable[[PairData], Features]:
    return lambda data: run.features(f"{name}-tokens", data, tokens=True)


def _smoke(setting: AttentionSetting) -> bool:
    """Whether a quick run has the setting: of each kind one layer with 1 or 4 heads, and two of the kind cross."""
    deep = setting.layers == 2 and setting.kind in ("sized", "cross")
    return setting.heads in (0, 1, MIDDLE) and (setting.layers < 2 or deep)
