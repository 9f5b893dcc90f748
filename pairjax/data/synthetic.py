"""Makes pairs by rules: any number by seed, in English and Portuguese, with labels that follow from the rule.

A rule of the task (`pairjax.data.rules`) draws a pair for a label that is chosen before, so classes and rules have
equal shares. What dev and test may not share with train is decided by a checksum of a text's content words and by the
set of templates, not by comparing pairs, so the work is linear in the number of pairs.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from pairjax.base.data_config import DataConfig, RuleTask
from pairjax.base.errors import UserError
from pairjax.base.types import PairData, Pairs, TaskSpec, default_positive
from pairjax.data.rules import coherence, entailment, paraphrase, similarity
from pairjax.data.rules.english import English
from pairjax.data.rules.portuguese import Portuguese
from pairjax.data.rules.words import Draws, Frames, Grammar, RulePair

SPLITS = ("train", "dev", "test")
TRAIN_SHARE = 0.7
"""Share of the sets of content words that are train's."""
PATIENCE = 3000
"""Most draws for one pair."""


class LabelledRule(NamedTuple):
    """A rule with the label that its pairs get.

    Attributes:
        rule: The rule's name, for `where`.
        label: A class name, or the score of a regression.
        make: Draws a pair with the given frames.
    """

    rule: str
    label: str | float
    make: Callable[[Grammar, Draws, Frames], RulePair]


def _bind_label(name: str, rule: Callable[..., RulePair], label: str | float) -> LabelledRule:
    """Returns the rule with a fixed label."""

    def make(grammar: Grammar, draws: Draws, frames: Frames) -> RulePair:
        return rule(grammar, draws, frames, label)

    return LabelledRule(name, label, make)


def _labelled_rules(task: RuleTask) -> tuple[tuple[str, ...], list[LabelledRule]]:
    """Returns the task's classes (none for a regression), and its labelled rules, each repeated by its share."""
    rules: Mapping[str, tuple[Callable[..., RulePair], int]]
    labels: tuple[str, ...]
    match task:
        case "entailment":
            rules, labels = entailment.RULES, entailment.LABELS
        case "paraphrase":
            rules, labels = paraphrase.RULES, paraphrase.LABELS
        case "coherence":
            rules, labels = coherence.RULES, coherence.LABELS
        case "similarity":
            return (), [_bind_label("slots", similarity.slots, score) for score in similarity.SCORES]
    return labels, [
        _bind_label(name, rule, label)
        for name, (rule, share) in rules.items()
        for _ in range(share)
        for label in labels
    ]


def belongs_to_train(words: Sequence[str]) -> bool:
    """Returns whether texts with these content words, in any order, are train's; the same in every process."""
    key = "\x1f".join(sorted(set(words)))
    return zlib.crc32(key.encode()) % 1000 < 1000 * TRAIN_SHARE


def _draw_pairs(
    rules: Sequence[LabelledRule],
    size: int,
    *,
    grammar: Grammar,
    draws: Draws,
    frames: Frames,
    for_train: bool | None,
    seen: set[tuple[str, str]],
) -> list[tuple[RulePair, LabelledRule]]:
    """Draws `size` new pairs, rule by rule in turn, or fewer if a rule has no more; adds them to `seen`.

    Args:
        rules: The labelled rules.
        size: Number of pairs.
        grammar: The language.
        draws: The random draws.
        frames: The sentence templates.
        for_train: Whether both texts must have content words of train (True) or of the other splits (False); None
            accepts all.
        seen: Pairs of all splits so far.
    """
    drawn_pairs: list[tuple[RulePair, LabelledRule]] = []
    for index in range(size):
        rule = rules[index % len(rules)]
        for _ in range(PATIENCE):
            pair = rule.make(grammar, draws, frames)
            if for_train is not None and not (
                belongs_to_train(pair.first_words) == belongs_to_train(pair.second_words) == for_train
            ):
                continue
            texts = pair.first, pair.second
            if texts not in seen and texts[0] != texts[1]:
                seen.add(texts)
                drawn_pairs.append((pair, rule))
                break
        else:
            return drawn_pairs
    return drawn_pairs


def _to_pairs(
    drawn_pairs: Sequence[tuple[RulePair, LabelledRule]], order: Sequence[int], labels: tuple[str, ...]
) -> Pairs:
    """Returns a split with the drawn pairs in the given order."""
    shuffled = [drawn_pairs[index] for index in order]
    class_index = {label: index for index, label in enumerate(labels)}
    names = [rule.label for _, rule in shuffled]
    label = [class_index[str(name)] for name in names] if labels else names
    return Pairs(
        first=tuple(pair.first for pair, _ in shuffled),
        second=tuple(pair.second for pair, _ in shuffled),
        label=np.array(label, np.int32 if labels else np.float32),
        where=tuple(f"rule:{rule.rule}/{rule.label}" for _, rule in shuffled),
    )


def rule_pairs(config: DataConfig) -> PairData:
    """Makes pairs by rules: train, dev and test of the sizes in the config.

    Args:
        config: `rules` names the task; `language`, `sizes`, `seed` and `held_out` are read too. The same config gives
            the same pairs in every process.

    Returns:
        The splits, shuffled, with classes and rules in equal shares. `where` names the rule and the label
        ("rule:roles/neutral"). No pair is in two splits. If `held_out` is `combinations`, no text of dev or test has
        the same content words (synonyms and antonyms count as one word) as a text of train. If it is `templates`, dev
        and test also use other sentence templates than train.

    Raises:
        UserError: No task is named, a size is out of range, or the rules do not give that many different pairs.
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
    labels, rules = _labelled_rules(config.rules)
    grammar: Grammar = English() if config.language == "en" else Portuguese()
    lexicon = grammar.lexicon
    fresh = config.held_out == "templates"
    seen: set[tuple[str, str]] = set()
    splits: dict[str, Pairs] = {}
    for index, (name, size) in enumerate(zip(SPLITS, config.sizes, strict=True)):
        if size == 0:
            continue
        draws = Draws((config.seed, index))
        drawn_pairs = _draw_pairs(
            rules,
            size,
            grammar=grammar,
            draws=draws,
            frames=lexicon.fresh_frames if fresh and index else lexicon.train_frames,
            for_train=None if config.held_out == "none" else index == 0,
            seen=seen,
        )
        if len(drawn_pairs) < size:
            raise UserError(
                f"--data.sizes: the rules for {config.rules} ({config.language}) cannot make that many {name} pairs",
                got=size,
                expected=f"at most {len(drawn_pairs)} with these options",
                fix="ask for fewer pairs, or hold out less with --data.held-out",
            )
        splits[name] = _to_pairs(drawn_pairs, draws.order(size), labels)
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
