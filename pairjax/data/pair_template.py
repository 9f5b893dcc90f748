"""Reads from a tokeniser's post-processor how it puts special tokens around one text and between two."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pairjax.base.errors import UserError
from pairjax.base.families import find_family

PROBE = "a 1 ."
"""A text of which every vocabulary makes at least one token."""


@dataclass(frozen=True)
class PairTemplate:
    """How two texts become `[CLS] A [SEP] B [SEP]` or `[CLS] A [SEP] [SEP] B [SEP]`; one becomes `[CLS] A [SEP]`.

    Attributes:
        double_separator: Whether a joint row has two separators between its texts instead of one.
        segments: Whether B's tokens of a joint row have segment id 1; otherwise all tokens have 0.
    """

    double_separator: bool
    segments: bool


def family_template(family: str) -> PairTemplate:
    """Returns the usual template of a family, for a tokeniser whose post-processor adds no special tokens."""
    record = find_family(family)
    return PairTemplate(record.double_separator, record.segments)


def read_template(backend: Any, *, family: str, place: object) -> PairTemplate | None:
    """Returns the template of a tokeniser; None if its post-processor adds no special tokens.

    Segment ids are used only if the family has them. DistilBERT, for example, has BERT's tokeniser but no segments.

    Args:
        backend: A `tokenizers.Tokenizer` that neither truncates nor pads.
        family: As `EncoderSpec.family`.
        place: The tokeniser's folder, for the message.

    Raises:
        UserError: The special tokens are placed in another way, such as at the end only.
    """
    text, pair = backend.encode(PROBE), backend.encode(PROBE, PROBE)
    sides = list(pair.sequence_ids)
    if 0 not in sides or 1 not in sides or None not in sides:
        return None
    runs = [sides[0]] + [side for before, side in pairwise(sides) if side != before]
    first, second = sides.index(0), sides.index(1)
    between = [i for i in range(first, second) if sides[i] is None]
    closing = {pair.ids[i] for i in (*between, len(sides) - 1)}
    known = (
        runs == [None, 0, None, 1, None]
        and first == 1
        and len(between) <= 2
        and sides[-2] == 1
        and len(closing) == 1
        and [text.ids[0], *text.ids[-1:]] == [pair.ids[0], pair.ids[-1]]
        and len(text.ids) == between[0] + 1
        and set(pair.type_ids[: between[0] + 1]) == {0}
        and len(set(pair.type_ids[second:])) == 1
        and pair.type_ids[-1] in (0, 1)
    )
    if not known:
        form = ["AB"[side] if side is not None else pair.tokens[i] for i, side in enumerate(sides)]
        shown = [name for i, name in enumerate(form) if i == 0 or sides[i] is None or name != form[i - 1]]
        raise UserError(
            f"{place}: the tokeniser joins two texts in a way that pairjax does not know",
            got=" ".join(shown),
            expected="[CLS] A [SEP] B [SEP] or <s> A </s> </s> B </s>",
            fix="correct the post_processor of tokenizer.json, or remove it to join texts as the family does",
        )
    segments = find_family(family).segments and pair.type_ids[-1] == 1
    return PairTemplate(len(between) == 2, segments)
