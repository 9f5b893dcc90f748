"""What is wrong with the pairs as pairs: repeats, leaks from train, the same pair under two labels."""

from collections.abc import Mapping
from dataclasses import dataclass

from pairjax.base.types import Pairs, TaskSpec

Pair = tuple[str, str]


@dataclass(frozen=True)
class Quality:
    """Counts over splits.

    Attributes:
        repeated: By split, rows whose pair stands in an earlier row of it.
        shared: By two splits in order, rows of the later one whose pair is in the earlier one.
        swapped: The same where the sides are swapped; a pair that is shared as it is does not count.
        contradictory: Pairs that carry two labels or more, over all splits.
        example: Where one of those pairs stands ("train.tsv:5 and test.tsv:9"); empty where there is none.
    """

    repeated: Mapping[str, int]
    shared: Mapping[Pair, int]
    swapped: Mapping[Pair, int]
    contradictory: int
    example: str = ""

    def notes(self) -> list[str]:
        """A line for each count that is not zero."""
        lines = [
            f"{split}: {_rows(count)} a pair that stands earlier there"
            for split, count in self.repeated.items()
            if count
        ]
        for (early, late), count in self.shared.items():
            turned = self.swapped[early, late]
            if count or turned:
                also = f", {turned:,} of them with its sides swapped" if turned else ""
                lines.append(f"{late}: {_rows(count + turned)} a pair of {early}{also}")
        if self.contradictory:
            many = "pairs carry labels" if self.contradictory > 1 else "pair carries labels"
            lines.append(f"{self.contradictory:,} {many} that differ ({self.example})")
        return lines


def _rows(count: int) -> str:
    return f"{count:,} row repeats" if count == 1 else f"{count:,} rows repeat"


def _contradictions(task: TaskSpec, splits: Mapping[str, Pairs]) -> tuple[int, str]:
    """Pairs with more than one label, and where the first of them stands."""
    seen: dict[Pair, tuple[float, str]] = {}
    odd: dict[Pair, str] = {}
    for split, pairs in splits.items():
        if pairs.label is None:
            continue
        for row, (pair, label) in enumerate(
            zip(zip(pairs.first, pairs.second, strict=True), pairs.label.tolist(), strict=True)
        ):
            here = (label, f"{pairs.where[row] if pairs.where else f'{split} {row + 1}'}")
            before = seen.setdefault(pair, here)
            if before[0] != label and pair not in odd:
                name = [task.labels[int(value[0])] if task.labels else f"{value[0]:g}" for value in (before, here)]
                odd[pair] = f"{before[1]} says {name[0]}, {here[1]} says {name[1]}"
    return len(odd), next(iter(odd.values()), "")


def measure(task: TaskSpec, splits: Mapping[str, Pairs]) -> Quality:
    """Count repeats, leaks and contradictions; texts are compared as they are (NFC, case kept)."""
    rows = {split: list(zip(pairs.first, pairs.second, strict=True)) for split, pairs in splits.items()}
    unique = {split: set(pairs) for split, pairs in rows.items()}
    shared: dict[Pair, int] = {}
    swapped: dict[Pair, int] = {}
    order = list(splits)
    for later, late in enumerate(order):
        for early in order[:later]:
            known = unique[early]
            shared[early, late] = sum(pair in known for pair in rows[late])
            swapped[early, late] = sum(pair not in known and pair[::-1] in known for pair in rows[late])
    contradictory, example = _contradictions(task, splits)
    return Quality(
        repeated={split: len(rows[split]) - len(unique[split]) for split in order},
        shared=shared,
        swapped=swapped,
        contradictory=contradictory,
        example=example,
    )
