"""Counts what is wrong with pairs as data: repeats, leaks from train, one pair with two labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pairjax.base.types import Pairs, TaskSpec

Pair = tuple[str, str]


@dataclass(frozen=True)
class Quality:
    """Counts over splits.

    Attributes:
        repeated: By split, the number of pairs that an earlier row of the same split has.
        reversed: As `repeated`, for pairs that an earlier row has with its sides swapped and none has unswapped.
        shared: By (earlier split, later split), the number of the later split's pairs that the earlier one has.
        swapped: As `shared`, for pairs whose sides are swapped; a pair that is also shared unswapped does not count.
        contradictory: Number of pairs with two labels or more, over all splits.
        example: Where the first of those pairs is ("train.tsv:5 says yes, test.tsv:9 says no"); empty if there is none.
    """

    repeated: Mapping[str, int]
    reversed: Mapping[str, int]
    shared: Mapping[Pair, int]
    swapped: Mapping[Pair, int]
    contradictory: int
    example: str = ""

    def notes(self) -> list[str]:
        """Returns one line for each count that is not zero."""
        lines = []
        for split, count in self.repeated.items():
            swapped = self.reversed[split]
            if count or swapped:
                lines.append(f"{split}: {_count_repeats(count + swapped)} a pair of an earlier row{_swapped(swapped)}")
        for (early, late), count in self.shared.items():
            swapped = self.swapped[early, late]
            if count or swapped:
                lines.append(f"{late}: {_count_repeats(count + swapped)} a pair of {early}{_swapped(swapped)}")
        if self.contradictory:
            subject = "pairs carry labels" if self.contradictory > 1 else "pair carries labels"
            lines.append(f"{self.contradictory:,} {subject} that differ ({self.example})")
        return lines


def _count_repeats(count: int) -> str:
    """Returns the subject and verb of a note."""
    return f"{count:,} row repeats" if count == 1 else f"{count:,} rows repeat"


def _swapped(count: int) -> str:
    """Returns the end of a note on repeats."""
    return f", {count:,} of them with its sides swapped" if count else ""


def _count_reversed(pairs: Sequence[Pair]) -> int:
    """Returns how many pairs an earlier one repeats with its sides swapped, while no earlier one is equal."""
    known: set[Pair] = set()
    count = 0
    for pair in pairs:
        count += pair not in known and pair[::-1] in known
        known.add(pair)
    return count


def _name_of(task: TaskSpec, label: Any) -> str:
    """Returns a label as messages name it."""
    if isinstance(label, list):
        return " and ".join(name for name, value in zip(task.labels, label, strict=True) if value) or "no label"
    return task.labels[int(label)] if task.labels else f"{label:g}"


def _contradictions(task: TaskSpec, splits: Mapping[str, Pairs]) -> tuple[int, str]:
    """Returns the number of pairs with more than one label, and where the first of them is."""
    labels: dict[Pair, tuple[Any, str]] = {}
    examples: dict[Pair, str] = {}
    for split, pairs in splits.items():
        if pairs.label is None:
            continue
        for index, (pair, label) in enumerate(
            zip(zip(pairs.first, pairs.second, strict=True), pairs.label.tolist(), strict=True)
        ):
            current = (label, f"{pairs.where[index] if pairs.where else f'{split} {index + 1}'}")
            earlier = labels.setdefault(pair, current)
            if earlier[0] != label and pair not in examples:
                names = [_name_of(task, value[0]) for value in (earlier, current)]
                examples[pair] = f"{earlier[1]} says {names[0]}, {current[1]} says {names[1]}"
    return len(examples), next(iter(examples.values()), "")


def measure_quality(task: TaskSpec, splits: Mapping[str, Pairs]) -> Quality:
    """Counts repeats, leaks and contradictions; texts are compared as they are (NFC, case kept)."""
    pairs_of = {split: list(zip(pairs.first, pairs.second, strict=True)) for split, pairs in splits.items()}
    unique = {split: set(pairs) for split, pairs in pairs_of.items()}
    shared: dict[Pair, int] = {}
    swapped: dict[Pair, int] = {}
    order = list(splits)
    for position, late in enumerate(order):
        for early in order[:position]:
            known = unique[early]
            shared[early, late] = sum(pair in known for pair in pairs_of[late])
            swapped[early, late] = sum(pair not in known and pair[::-1] in known for pair in pairs_of[late])
    contradictory, example = _contradictions(task, splits)
    return Quality(
        repeated={split: len(pairs_of[split]) - len(unique[split]) for split in order},
        reversed={split: _count_reversed(pairs_of[split]) for split in order},
        shared=shared,
        swapped=swapped,
        contradictory=contradictory,
        example=example,
    )
