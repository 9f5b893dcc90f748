"""The table of interactions: the settings, the pairs, and the effects that Lemmas 2 and 2.1 use."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int, Int8, Shaped

from pairjax.base.data_config import DataConfig
from pairjax.base.types import PairData, Pairs
from pairjax.data.folds import describe_folds, stratified_folds
from pairjax.data.sources import load_pairs
from pairjax.data.subsets import take_pairs
from pairjax.evaluation.clusters import text_clusters
from pairjax.evaluation.counts import Statistic, mean
from pairjax.evaluation.intervals import Sampled, two_way_bootstrap
from pairjax.population.features import Features
from pairjax.population.projection import fit_projection
from pairjax.population.tokens import TokenTask, token_counts, token_task
from pairjax.studies.attention.nested_cv import (
    TOKEN_KINDS,
    AttentionSetting,
    NestedDesign,
    SettingResult,
    run_setting,
    setting_flops,
)
from pairjax.studies.attention.relations import SLICES, Slice, rule_slices, word_slices
from pairjax.studies.claim import RESAMPLES, ClaimRun
from pairjax.studies.sets import data_folder, real_pairs

WIDTH = 64
"""Numbers per token: its leading principal components. MiniLM has 384, so a layer costs a 36th."""
LENGTH = 32
"""Token slots of a row; longer pairs are excluded."""
OF_SLICE = 800
"""Most pairs of a complex slice; the rest fills the pool up to `POOL`."""
POOL = 3200
COMPLEX: Mapping[str, tuple[Slice, ...]] = {
    "sick": ("negation", "quantifiers"),
    "rules": ("negation", "quantifiers", "roles"),
}
"""The slices of a task that count as complex. SICK has too few swapped roles for a score."""
LAYERS, HEADS = (1, 2, 3), (1, 2, 4, 8)
MIDDLE = 4
"""The number of heads while layers vary; heads vary with one layer."""


def grid(kind: str) -> list[AttentionSetting]:
    """Returns all settings of a kind: layers with 4 heads, heads with one layer.

    A full grid would cost 2.5 times as much.
    """
    if kind == "sized":
        return [AttentionSetting(kind, layers) for layers in LAYERS]
    if kind in ("none", "gate"):
        return [AttentionSetting(kind)]
    return [AttentionSetting(kind, layers, MIDDLE) for layers in LAYERS] + [
        AttentionSetting(kind, 1, heads) for heads in HEADS if heads != MIDDLE
    ]


KINDS = ("none", "sized", "gate", "vectors", *TOKEN_KINDS)


def sick_pairs() -> tuple[Pairs, PairData]:
    """Reads SICK; returns the pairs of all official splits together, and the data set."""
    data = real_pairs("sick")
    return _joined(list(data.splits.values())), data


def rule_made_pairs(*, size: int = 24_000) -> tuple[Pairs, PairData]:
    """Makes entailment pairs by rules, many since swapped roles are one rule of 27; returns them and the data set."""
    data = load_pairs(DataConfig(rules="entailment", sizes=(size, 1, 0), held_out="none", seed=21))
    return data.splits["train"], data


def _joined(parts: Sequence[Pairs]) -> Pairs:
    """Returns the pairs of several splits, one after another."""
    return Pairs(
        first=tuple(text for part in parts for text in part.first),
        second=tuple(text for part in parts for text in part.second),
        label=np.concatenate([part.label for part in parts if part.label is not None]),
        where=tuple(origin for part in parts for origin in part.where),
    )


def sample_pool(
    slices: Shaped[np.ndarray, " pairs"], *, of_slice: int, pool: int, seed: int = 0
) -> Int[np.ndarray, " pool"]:
    """Draws the pairs of a pool.

    Args:
        slices: [N]; the slice of each pair.
        of_slice: Most pairs of each complex slice.
        pool: Size of the pool; the rest fills it up.
        seed: Seeds the draw.

    Returns:
        int [pool]; indices of the pairs in ascending order.
    """
    generator = np.random.default_rng(seed)
    chosen: list[np.ndarray] = []
    for name in SLICES:
        limit = of_slice if name != "rest" else pool - sum(map(len, chosen))
        chosen.append(generator.permutation(np.flatnonzero(slices == name))[: max(limit, 0)])
    return np.sort(np.concatenate(chosen))


@dataclass(frozen=True)
class Pool:
    """The pairs of a task, ready for a nested cross-validation.

    Attributes:
        source: Their tokens; all pairs are in the split `train`.
        slices: [N]; the slice of each pair.
        fold: int [N]; the fold of each pair, stratified by label; pairs that share texts are in one fold, unless
            `build_pool` was told otherwise.
        notes: The folds, the size of the pool, and the pairs that were excluded.
    """

    source: TokenTask
    slices: Shaped[np.ndarray, " pairs"]
    fold: Int[np.ndarray, " pairs"]
    notes: tuple[str, ...]

    @cached_property
    def clusters(self) -> Int[np.ndarray, " pairs"]:
        """int [N]; the cluster of each pair (`text_clusters`)."""
        return text_clusters(self.source.heads.splits["train"])

    def masks(self, names: Sequence[str]) -> Bool[np.ndarray, "slices pairs"]:
        """Returns for each slice which pairs belong to it."""
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
    group_texts: bool = True,
) -> Pool:
    """Draws a pool, excludes pairs longer than a row, projects the tokens and assigns the folds.

    Args:
        name: The name of the task, for notes.
        pairs: All pairs.
        data: The data set that they come from.
        slices: [N]; the slice of each pair.
        features: Returns the cached token features of pairs.
        folds: The number of folds.
        of_slice: Most pairs of each complex slice.
        pool: Size of the pool.
        width: Numbers per token after the projection.
        group_texts: Whether pairs that share a text are in one fold.
    """
    sample = sample_pool(slices, of_slice=of_slice, pool=pool)
    cache = features(PairData(data.task, {"train": take_pairs(pairs, sample)}, data.source))
    short = token_counts(cache, take_pairs(pairs, sample)).sum(axis=1) <= LENGTH
    index = sample[short]
    pool_data = PairData(data.task, {"train": take_pairs(pairs, index)}, data.source)
    assert cache.tokens is not None
    projection = fit_projection(cache.tokens, width)
    source = token_task(pool_data, cache, projection=projection, length=LENGTH)
    sizes = ", ".join(f"{int((slices[index] == slice_name).sum())} {slice_name}" for slice_name in SLICES)
    train = pool_data.splits["train"]
    fold = stratified_folds(pool_data.task, train, folds=folds, seed=0, group_texts=group_texts)
    notes = (
        describe_folds(train, fold, group_texts=group_texts, name=name),
        f"{name}: {len(index)} pairs ({sizes}); {int((~short).sum())} longer than {LENGTH} tokens are excluded",
        f"{name}: {width} principal components keep {projection.kept:.0%} of the tokens' variance",
    )
    return Pool(source, slices[index], fold, notes)


@dataclass(frozen=True)
class Search:
    """The finished settings and their pools.

    Attributes:
        pools: The pools by task.
        results: The results of all settings by task.
        design: The design of the settings.
    """

    pools: Mapping[str, Pool]
    results: Mapping[str, Mapping[AttentionSetting, SettingResult]]
    design: NestedDesign

    def results_of(self, task: str, *kinds: str) -> dict[AttentionSetting, SettingResult]:
        """Returns a task's results of some kinds, in the order of the grid."""
        return {setting: result for setting, result in self.results[task].items() if setting.kind in kinds}

    def hits(self, task: str, predicted: Int8[np.ndarray, "seeds pairs"]) -> np.ndarray:
        """Returns float64 [seeds, N]: 1 for a correct prediction, else 0; NaN if the seed diverged."""
        return np.where(predicted < 0, np.nan, predicted == self.pools[task].source.heads.label("train"))

    def difference(
        self,
        task: str,
        left: Int8[np.ndarray, "seeds pairs"] | Sequence[Int8[np.ndarray, "seeds pairs"]],
        right: Int8[np.ndarray, "seeds pairs"] | Sequence[Int8[np.ndarray, "seeds pairs"]],
        names: Sequence[str],
    ) -> Sampled:
        """Returns the accuracy of left minus that of right in points, paired by pair and seed.

        Args:
            task: The task.
            left: Predictions, or several predictions whose mean accuracy counts.
            right: Predictions, or several predictions whose mean accuracy counts.
            names: The slices; the accuracy is the mean over them.
        """

        def mean_hits(side: object) -> np.ndarray:
            several = [side] if isinstance(side, np.ndarray) else list(side)  # type: ignore[call-overload]
            return np.mean([self.hits(task, predicted) for predicted in several], axis=0)

        gains = mean_hits(left) - mean_hits(right)
        masks = self.pools[task].masks(names)
        runs = [_slice_means(gain, masks) for gain in gains]
        # All effects on a task use the same resamples; each task has its own bootstrap seed.
        seed = list(self.pools).index(task)
        clusters = self.pools[task].clusters
        return two_way_bootstrap(runs, len(masks[0]), resamples=RESAMPLES, seed=seed, clusters=clusters)["value"]

    def notes(self) -> list[str]:
        """Returns notes: excluded pairs, runs that diverged, and learning rates at the end of the grid."""
        lines = [note for pool in self.pools.values() for note in pool.notes]
        for task, results in self.results.items():
            lines += [f"{task} {setting.name}: {note}" for setting, result in results.items() for note in result.notes]
            for kind in KINDS:
                at_highest = [
                    result.rates.max() >= max(self.design.learning_rates(setting))
                    for setting, result in self.results_of(task, kind).items()
                    if len(self.design.learning_rates(setting)) > 1
                ]
                if at_highest and all(at_highest):
                    lines.append(f"{task} {kind}: every setting chose its highest rate in some fold")
        return lines

    def table(self, task: str) -> list[list[str]]:
        """Returns each setting's accuracy by slice, mean over seeds ± deviation; the best of a column in bold."""
        pool = self.pools[task]
        columns = [name for name in SLICES if (pool.slices == name).any()]
        masks = np.concatenate([pool.masks(columns), np.ones((1, len(pool.slices)), bool)])
        scores = np.array(
            [
                [100 * self.hits(task, result.predicted)[:, mask].mean(axis=1) for mask in masks]
                for result in self.results[task].values()
            ]
        )
        mean, deviation = scores.mean(axis=2), scores.std(axis=2, ddof=1)
        lines = [["setting", "parameters", "inner", *columns, "all"]]
        for row, (setting, result) in enumerate(self.results[task].items()):
            cells = [
                f"**{m:.2f}** ± {d:.2f}" if m == mean[:, column].max() else f"{m:.2f} ± {d:.2f}"
                for column, (m, d) in enumerate(zip(mean[row], deviation[row], strict=True))
            ]
            lines.append([setting.name, f"{result.parameters:,}", f"{100 * result.inner_accuracy.mean():.2f}", *cells])
        return lines


def _slice_means(gain: np.ndarray, masks: np.ndarray) -> Statistic:
    """Returns the mean gain over slices, in points, as a statistic over pairs."""

    def statistic(counts: np.ndarray) -> dict[str, np.ndarray]:
        parts = [mean(gain[mask], counts[:, mask]) for mask in masks]
        return {"value": 100.0 * np.mean(parts, axis=0)}

    return statistic


def nested_design(run: ClaimRun) -> NestedDesign:
    """Returns the design of all settings with the seeds of this run; a quick run has a small one."""
    if run.quick:
        return NestedDesign(folds=3, seeds=(0, 1), token_rates=(3e-3,), pooled_rates=(3e-3,), steps=20)
    return NestedDesign(seeds=tuple(range(run.seeds)))


def measure_setting(run: ClaimRun, task: str, pool: Pool, setting: AttentionSetting) -> SettingResult:
    """Runs a setting, or reads it if it was run before, and logs its scores and its speed."""
    run.check_time()
    began, design = time.monotonic(), nested_design(run)
    result = run_setting(pool.source, pool.fold, setting, design, folder=run.root / "settings")
    seconds = time.monotonic() - began
    run.cells_run += 1
    score = 100 * (result.predicted == pool.source.heads.label("train")).mean()
    work = setting_flops(pool.source, setting, design)
    speed = f"{work / 1e12:.2f} TFLOP, {seconds:.0f} s, {work / seconds / 1e9:.0f} GFLOP/s"
    run.log(
        f"{run.cells_run:4d} {task:10s} {setting.name:12s} {result.parameters:7,d} parameters, "
        f"inner {100 * result.inner_accuracy.mean():6.2f} outer {score:6.2f} ({'read' if result.reused else speed})"
    )
    return result


def run_search(run: ClaimRun) -> Search:
    """Runs all settings on all tasks, cheap kinds first; a quick run has few rule-made pairs and few settings."""
    design, pools = nested_design(run), {}
    if not run.quick:
        data_folder()
        pairs, data = sick_pairs()
        pools["sick"] = build_pool(
            "sick",
            pairs,
            data,
            word_slices(pairs),
            features=_features(run, "sick"),
            folds=design.folds,
            group_texts=run.group_texts,
        )
    pairs, data = rule_made_pairs(size=2000 if run.quick else 24_000)
    small_pool = {"of_slice": 40, "pool": 160, "width": 16} if run.quick else {}
    pools["rules"] = build_pool(
        "rules",
        pairs,
        data,
        rule_slices(pairs),
        features=_features(run, "rules"),
        folds=design.folds,
        group_texts=run.group_texts,
        **small_pool,
    )
    settings = [setting for kind in KINDS for setting in grid(kind) if not run.quick or in_quick_run(setting)]
    results: dict[str, dict[AttentionSetting, SettingResult]] = {task: {} for task in pools}
    for setting in settings:
        for task, pool in pools.items():
            results[task][setting] = measure_setting(run, task, pool, setting)
    return Search(pools, results, design)


def _features(run: ClaimRun, name: str) -> Callable[[PairData], Features]:
    """Builds a function from pairs to their cached token features."""
    return lambda data: run.features(f"{name}-tokens", data, tokens=True)


def in_quick_run(setting: AttentionSetting) -> bool:
    """Returns whether a quick run includes a setting: one layer, 1 or 4 heads; two layers for `sized` and `cross`."""
    deep = setting.layers == 2 and setting.kind in ("sized", "cross")
    return setting.heads in (0, 1, MIDDLE) and (setting.layers < 2 or deep)
