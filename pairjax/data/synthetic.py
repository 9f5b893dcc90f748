"""Rule-made pairs: any number by seed, in English and Portuguese, with labels that follow from a rule.

A pair is drawn by a task's rule (`pairjax.data.rules`) under a label given beforehand, so classes and rules come in
equal shares. What dev and test may not share with train is decided by a checksum of a text's content words and by
the set of templates, not by comparing pairs: the work grows with the number of pairs alone.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from pairjax.base.config import DataConfig, RuleTask
from pairjax.base.errors import UserError
from pairjax.base.types import PairData, Pairs, TaskSpec, default_positive
from pairjax.data.rules import coherence, entailment, paraphrase, similarity
from pairjax.data.rules.english import English
from pairjax.data.rules.portuguese import Portuguese
from pairjax.data.rules.words import Draws, Frames, Grammar, Made

SPLITS = ("train", "dev", "test")
TRAIN_SHARE = 0.7
PATIENCE = 3000


class Cell(NamedTuple):
    """A rule under one label.

    Attributes:
        rule: The rule's name, for `where`.
        label: Class name, or score for a regression.
        make: Draws a pair with the frames given.
    """

    rule: str
    label: str | float
    make: Callable[[Grammar, Draws, Frames], Made]


def _cell(name: str, rule: Callable[..., Made], label: str | float) -> Cell:
    def make(grammar: Grammar, draws: Draws, frames: Frames) -> Made:
        return rule(grammar, draws, frames, label)

    return Cell(name, label, make)


def _cells(task: RuleTask) -> tuple[tuple[str, ...], list[Cell]]:
    """The task's classes (none for a regression) and its cells in a fixed order, each as often as it is to be drawn."""
    rules: Mapping[str, tuple[Callable[..., Made], int]]
    labels: tuple[str, ...]
    match task:
        case "entailment":
            rules, labels = entailment.RULES, entailment.LABELS
        case "paraphrase":
            rules, labels = paraphrase.RULES, paraphrase.LABELS
        case "coherence":
            rules, labels = coherence.RULES, coherence.LABELS
        case "similarity":
            return (), [_cell("slots", similarity.slots, score) for score in similarity.SCORES]
    return labels, [
        _cell(name, rule, label) for name, (rule, share) in rules.items() for _ in range(share) for label in labels
    ]


def for_training(words: Sequence[str]) -> bool:
    """Whether a text with these content words, in whatever order, is train's; the same in every process."""
    key = "\x1f".join(sorted(set(words)))
    return zlib.crc32(key.encode()) % 1000 < 1000 * TRAIN_SHARE


def _draw(
    cells: Sequence[Cell],
    size: int,
    *,
    grammar: Grammar,
    draws: Draws,
    frames: Frames,
    for_train: bool | None,
    seen: set[tuple[str, str]],
) -> list[tuple[Made, Cell]]:
    """`size` new pairs, cell by cell in turn, or fewer where a cell has no more; adds them to `seen`.

    Args:
        for_train: Which side of the content words is wanted; None takes both.
        seen: Pairs of all splits so far.
    """
    rows: list[tuple[Made, Cell]] = []
    for index in range(size):
        cell = cells[index % len(cells)]
        for _ in range(PATIENCE):
            made = cell.make(grammar, draws, frames)
            if for_train is not None and not (
                for_training(made.first_words) == for_training(made.second_words) == for_train
            ):
                continue
            pair = made.first, made.second
            if pair not in seen and pair[0] != pair[1]:
                seen.add(pair)
                rows.append((made, cell))
                break
        else:
            return rows
    return rows


def _pairs(rows: Sequence[tuple[Made, Cell]], order: Sequence[int], labels: tuple[str, ...]) -> Pairs:
    shuffled = [rows[index] for index in order]
    places = {label: index for index, label in enumerate(labels)}
    given = [cell.label for _, cell in shuffled]
    return Pairs(
        first=tuple(made.first for made, _ in shuffled),
        second=tuple(made.second for made, _ in shuffled),
        label=np.array([places[str(label)] for label in given], np.int32) if labels else np.array(given, np.float32),
        where=tuple(f"rule:{cell.rule}/{cell.label}" for _, cell in shuffled),
    )


def rule_pairs(config: DataConfig) -> PairData:
    """Pairs made by rules, with train, dev and test of the sizes asked for.

    Args:
        config: `rules` names the task; `language`, `sizes`, `seed` and `held_out` are read too. The same config gives
            the same pairs in every process.

    Returns:
        The splits, shuffled, classes and rules in equal shares; `where` names the rule and the label
        ("rule:roles/neutral"). No pair stands in two splits. With `held_out` combinations, no text of dev or test has
        the content words (synonyms and antonyms counted as one) of a text of train; with templates, besides, none
        has a sentence template of train.

    Raises:
        UserError: If no task is named, a size is out of range, or the rules do not give as many different pairs.
    """
    if config.rules is None:
        raise UserError(
            "rule-made pairs need a task",
            expected="paraphrase, entailment, coherence or similarity",
            fix="add --data.rules TASK",
        )
    if config.sizes[0] < 1 or config.sizes[1] < 1 or config.sizes[2] < 0:
        raise UserError(
            "--data.sizes is out of range",
            got=" ".join(map(str, config.sizes)),
            expected="train and dev of at least 1 and test of at least 0",
        )
    labels, cells = _cells(config.rules)
    grammar: Grammar = English() if config.language == "en" else Portuguese()
    lexicon = grammar.lexicon
    fresh = config.held_out == "templates"
    seen: set[tuple[str, str]] = set()
    splits: dict[str, Pairs] = {}
    for index, (name, size) in enumerate(zip(SPLITS, config.sizes, strict=True)):
        if size == 0:
            continue
        draws = Draws((config.seed, index))
        rows = _draw(
            cells,
            size,
            grammar=grammar,
            draws=draws,
            frames=lexicon.fresh_frames if fresh and index else lexicon.train_frames,
            for_train=None if config.held_out == "none" else index == 0,
            seen=seen,
        )
        if len(rows) < size:
            raise UserError(
                f"--data.sizes: the rules for {config.rules} ({config.language}) do not give as many {name} pairs",
                got=size,
                expected=f"at most {len(rows)} with these options",
                fix="ask for fewer, or hold out less with --data.held-out",
            )
        splits[name] = _pairs(rows, draws.order(size), labels)
    kind = "classification" if labels else "regression"
    return PairData(
        task=TaskSpec(kind=kind, labels=labels, positive=default_positive(labels)),  # type: ignore[arg-type]
        splits=splits,
        source={
            "name": f"rules/{config.rules}",
            "language": config.language,
            "seed": config.seed,
            "sizes": list(config.sizes),
            "held_out": config.held_out,
            "licence": "Apache-2.0 (generated)",
        },
    )
