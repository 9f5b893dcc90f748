"""Connected texts for pretraining: short stories in which each sentence follows from the ones before it.

A story has a small cast of people, things and places of its own and is told in scenes; every scene keeps to its people
and things, and its sentences have an order that the text itself gives (went on from where one was, sold what one had
bought, closed what was open). So the next segment shares its cast with the one before, and two segments swapped can be
told from two in order.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

from pairjax.data.rules.words import Draws, Frames, Grammar, Noun

SHORTEST, LONGEST = 3, 7
"""Scenes of a story; each has two to four sentences."""


class Cast(NamedTuple):
    """Whom and what a story is about."""

    people: list[Noun]
    things: list[Noun]
    places: list[tuple[str, str]]


Scene = Callable[[Grammar, Draws, Frames, Cast], list[str]]


def _told(grammar: Grammar, draws: Draws, frames: Frames, *clauses: str) -> list[str]:
    """Clauses as sentences, the later ones linked to the first."""
    first = grammar.sentence(draws.pick(frames.single), clauses[0])
    return [first, *(grammar.sentence(draws.pick(frames.linked), clause) for clause in clauses[1:])]


def _closing(grammar: Grammar, draws: Draws, frames: Frames, clause: str) -> str:
    return grammar.sentence(draws.pick(frames.next), clause)


def journey(grammar: Grammar, draws: Draws, frames: Frames, cast: Cast) -> list[str]:
    """From place to place, each leg from where the last one ended; and where it ends."""
    agent, stops = draws.pick(cast.people), draws.several(cast.places, 3)
    legs = list(pairwise(stops))
    told = [grammar.went(agent, start, end, on=index > 0) for index, (start, end) in enumerate(legs)]
    there = grammar.phrase("is_in", {"at": stops[-1][0]}, a=agent)
    return [*_told(grammar, draws, frames, *told), _closing(grammar, draws, frames, there)]


def trade(grammar: Grammar, draws: Draws, frames: Frames, cast: Cast) -> list[str]:
    """A thing sold and sold on by its buyer; and whose it is."""
    a, b, c = draws.several(cast.people, 3)
    thing = draws.pick(cast.things)
    told = [grammar.phrase("sold", a=one, b=two, x=thing) for one, two in ((a, b), (b, c))]
    return [
        *_told(grammar, draws, frames, *told),
        _closing(grammar, draws, frames, grammar.phrase("owns", x=thing, b=c)),
    ]


def change(grammar: Grammar, draws: Draws, frames: Frames, cast: Cast) -> list[str]:
    """What one opened another closed; and how it is now."""
    kind = draws.pick(grammar.lexicon.changes)
    thing, (a, b), side = draws.pick(kind.things), draws.several(cast.people, 2), draws.below(2)
    verbs = (kind.first, kind.second)
    told = [grammar.event(a, verbs[1 - side], thing), grammar.event(b, verbs[side], thing)]
    state = grammar.state(thing, kind.opposites.side(side)[0])
    return [*_told(grammar, draws, frames, *told), _closing(grammar, draws, frames, state)]


def deeds(grammar: Grammar, draws: Draws, frames: Frames, cast: Cast) -> list[str]:
    """Two people's deeds; one of them then goes home."""
    (a, b), (x, y) = draws.several(cast.people, 2), draws.several(cast.things, 2)
    first, second = draws.several(grammar.lexicon.thing_verbs, 2)
    told = [grammar.event(a, draws.pick(first), x), grammar.event(b, draws.pick(second), y, passive=draws.coin())]
    words = {"base": first[0].base, "participle": first[0].participle}
    home = grammar.phrase("after", words, a=a, x=x)
    return [*_told(grammar, draws, frames, *told), grammar.sentence(draws.pick(frames.second), home)]


def arrivals(grammar: Grammar, draws: Draws, frames: Frames, cast: Cast) -> list[str]:
    """Who came when; and who was first, or last."""
    row = draws.several(cast.people, 3)
    told = grammar.phrase("arrived", a=row[0], b=row[1], c=row[2])
    which = draws.below(2)
    after = grammar.phrase("last" if which else "first", a=row[2 * which])
    return [*_told(grammar, draws, frames, told), _closing(grammar, draws, frames, after)]


SCENES: tuple[Scene, ...] = (journey, trade, change, deeds, arrivals)


def story(grammar: Grammar, draws: Draws) -> list[str]:
    """A document: its sentences in order."""
    lexicon = grammar.lexicon
    cast = Cast(
        draws.several(lexicon.people, 4),
        draws.several(lexicon.things, 3),
        [lexicon.places[index] for index in draws.order(len(lexicon.places))[:4]],
    )
    scenes = [draws.pick(SCENES) for _ in range(SHORTEST + draws.below(LONGEST - SHORTEST + 1))]
    return [sentence for scene in scenes for sentence in scene(grammar, draws, lexicon.train_frames, cast)]
