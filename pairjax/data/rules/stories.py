"""Makes connected texts for pretraining: short stories in which each sentence follows from the ones before it.

A story has a small cast of people, things and places, and consists of scenes. Every scene keeps to its people and
things, and the text itself fixes the order of its sentences (went on from where one was, sold what one had bought,
closed what was open). So a segment shares its cast with the segment before it, and swapped segments can be recognised.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

from pairjax.data.rules.words import Draws, Frames, Grammar, Noun

SHORTEST, LONGEST = 3, 7
"""Fewest and most scenes in a story; a scene has two to four sentences."""


class Cast(NamedTuple):
    """The people, things and places of a story."""

    people: list[Noun]
    things: list[Noun]
    places: list[tuple[str, str]]


Scene = Callable[[Grammar, Draws, Frames, Cast], list[str]]
"""Makes the sentences of a scene."""


def _sentences(grammar: Grammar, draws: Draws, frames: Frames, *clauses: str) -> list[str]:
    """Makes sentences of clauses, the later ones linked to the first."""
    first = grammar.sentence(draws.pick(frames.single), clauses[0])
    return [first, *(grammar.sentence(draws.pick(frames.linked), clause) for clause in clauses[1:])]


def _closing(grammar: Grammar, draws: Draws, frames: Frames, clause: str) -> str:
    """Makes the last sentence of a scene."""
    return grammar.sentence(draws.pick(frames.next), clause)


def journey(grammar: Grammar, draws: Draws, frames: Frames, cast: Cast) -> list[str]:
    """Tells of a journey whose legs each start where the last one ended, and where the traveller is now."""
    agent, stops = draws.pick(cast.people), draws.several(cast.places, 3)
    legs = list(pairwise(stops))
    clauses = [grammar.went(agent, start, end, on=index > 0) for index, (start, end) in enumerate(legs)]
    goal = grammar.phrase("is_in", {"at": stops[-1][0]}, a=agent)
    return [*_sentences(grammar, draws, frames, *clauses), _closing(grammar, draws, frames, goal)]


def trade(grammar: Grammar, draws: Draws, frames: Frames, cast: Cast) -> list[str]:
    """Tells of a thing that is sold and sold on by its buyer, and who owns it now."""
    a, b, c = draws.several(cast.people, 3)
    thing = draws.pick(cast.things)
    clauses = [grammar.phrase("sold", a=seller, b=buyer, x=thing) for seller, buyer in ((a, b), (b, c))]
    return [
        *_sentences(grammar, draws, frames, *clauses),
        _closing(grammar, draws, frames, grammar.phrase("owns", x=thing, b=c)),
    ]


def change(grammar: Grammar, draws: Draws, frames: Frames, cast: Cast) -> list[str]:
    """Tells of a thing that one person opened and another closed, for example, and its state now."""
    kind = draws.pick(grammar.lexicon.changes)
    thing, (a, b), side = draws.pick(kind.things), draws.several(cast.people, 2), draws.below(2)
    verbs = (kind.first, kind.second)
    clauses = [grammar.event(a, verbs[1 - side], thing), grammar.event(b, verbs[side], thing)]
    state = grammar.state(thing, kind.opposites.side(side)[0])
    return [*_sentences(grammar, draws, frames, *clauses), _closing(grammar, draws, frames, state)]


def deeds(grammar: Grammar, draws: Draws, frames: Frames, cast: Cast) -> list[str]:
    """Tells of the actions of two people, one of whom then goes home."""
    (a, b), (x, y) = draws.several(cast.people, 2), draws.several(cast.things, 2)
    first, second = draws.several(grammar.lexicon.thing_verbs, 2)
    clauses = [grammar.event(a, draws.pick(first), x), grammar.event(b, draws.pick(second), y, passive=draws.coin())]
    words = {"base": first[0].base, "participle": first[0].participle}
    home = grammar.phrase("after", words, a=a, x=x)
    return [*_sentences(grammar, draws, frames, *clauses), grammar.sentence(draws.pick(frames.second), home)]


def arrivals(grammar: Grammar, draws: Draws, frames: Frames, cast: Cast) -> list[str]:
    """Tells in which order three people arrived, and who was the first or the last."""
    people = draws.several(cast.people, 3)
    clause = grammar.phrase("arrived", a=people[0], b=people[1], c=people[2])
    is_last = draws.below(2)
    rank = grammar.phrase("last" if is_last else "first", a=people[2 * is_last])
    return [*_sentences(grammar, draws, frames, clause), _closing(grammar, draws, frames, rank)]


SCENES: tuple[Scene, ...] = (journey, trade, change, deeds, arrivals)


def story(grammar: Grammar, draws: Draws) -> list[str]:
    """Makes a document and returns its sentences in order."""
    lexicon = grammar.lexicon
    cast = Cast(
        draws.several(lexicon.people, 4),
        draws.several(lexicon.things, 3),
        [lexicon.places[index] for index in draws.order(len(lexicon.places))[:4]],
    )
    scenes = [draws.pick(SCENES) for _ in range(SHORTEST + draws.below(LONGEST - SHORTEST + 1))]
    return [sentence for scene in scenes for sentence in scene(grammar, draws, lexicon.train_frames, cast)]
