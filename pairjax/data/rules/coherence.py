"""Coherence: a short text A and a continuation B that follows from it, or one that A makes false.

B is drawn first; A names the same people, things and places either way, and only who, what or when differs. B tells
of the state right after A, so that nothing can have come between.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Literal

from pairjax.data.rules.words import Draws, Frames, Grammar, Made

Label = Literal["coherent", "incoherent"]
LABELS: tuple[Label, ...] = ("coherent", "incoherent")
Rule = Callable[[Grammar, Draws, Frames, Label], Made]


def _text(grammar: Grammar, draws: Draws, frames: Frames, *clauses: str) -> str:
    """Clauses as sentences, the later ones linked to the first."""
    sentences = [grammar.sentence("{0}.", clauses[0])]
    sentences += [grammar.sentence(draws.pick(frames.linked), clause) for clause in clauses[1:]]
    return " ".join(sentences)


def possession(grammar: Grammar, draws: Draws, frames: Frames, label: Label) -> Made:
    """What somebody sold to another belongs to the buyer, until sold on; it belongs to no seller of it."""
    lexicon = grammar.lexicon
    a, b, c = draws.several(lexicon.people, 3)
    thing = draws.pick(lexicon.things)
    owner = c
    others = [a, b] if label == "coherent" else draws.several((a, b), 2)
    chain = [*others, owner] if label == "coherent" else draws.pick(([owner, *others], [others[0], owner, others[1]]))
    steps = [grammar.phrase("sold", a=one, b=two, x=thing) for one, two in pairwise(chain)]
    second = grammar.sentence(draws.pick(frames.next), grammar.phrase("owns", x=thing, b=owner))
    words = (a.singular, b.singular, c.singular, thing.singular)
    return Made(_text(grammar, draws, frames, *steps), second, words, (owner.singular, thing.singular))


def places(grammar: Grammar, draws: Draws, frames: Frames, label: Label) -> Made:
    """Who went from one place to another, and on to a third, is in the third and in neither of the others."""
    lexicon = grammar.lexicon
    agent = draws.pick(lexicon.people)
    here, one, two = draws.several(lexicon.places, 3)
    path = [one, two, here] if label == "coherent" else draws.pick(([here, one, two], [one, here, two]))
    steps = [grammar.went(agent, start, end, on=index > 0) for index, (start, end) in enumerate(pairwise(path))]
    second = grammar.sentence(draws.pick(frames.next), grammar.phrase("is_in", {"at": here[0]}, a=agent))
    words = (agent.singular, here[1], one[1], two[1])
    return Made(_text(grammar, draws, frames, *steps), second, words, (agent.singular, here[1]))


def arrivals(grammar: Grammar, draws: Draws, frames: Frames, label: Label) -> Made:
    """Of those who came first, then, and finally, the first to arrive is the one who came first, the last the one who
    came finally."""
    lexicon = grammar.lexicon
    named, one, two = draws.several(lexicon.people, 3)
    asked = draws.below(2) * 2
    place = asked if label == "coherent" else draws.pick([index for index in range(3) if index != asked])
    row = [one, two]
    row.insert(place, named)
    first = grammar.sentence(draws.pick(frames.single), grammar.phrase("arrived", a=row[0], b=row[1], c=row[2]))
    second = grammar.sentence(draws.pick(frames.next), grammar.phrase("last" if asked else "first", a=named))
    words = (named.singular, one.singular, two.singular)
    return Made(first, second, words, (named.singular, "last" if asked else "first"))


def states(grammar: Grammar, draws: Draws, frames: Frames, label: Label) -> Made:
    """What was opened and then closed is closed; a deed on another thing changes nothing."""
    lexicon = grammar.lexicon
    change = draws.pick(lexicon.changes)
    a, b = draws.several(lexicon.people, 2)
    x, y = draws.several(change.things, 2)
    side = draws.below(2)
    verbs = (change.first, change.second)
    told = side if label == "coherent" else 1 - side
    if draws.coin():
        steps = [grammar.event(a, verbs[1 - told], x), grammar.event(b, verbs[told], x)]
    else:
        steps = [grammar.event(a, verbs[told], x), grammar.event(b, verbs[1 - told], y)]
        if draws.coin():
            steps.reverse()
    adjective = change.opposites.side(side)[0]
    second = grammar.sentence(draws.pick(frames.next), grammar.state(x, adjective))
    words = (a.singular, b.singular, x.singular, y.singular, change.opposites.name)
    return Made(_text(grammar, draws, frames, *steps), second, words, (x.singular, change.opposites.name))


def protagonist(grammar: Grammar, draws: Draws, frames: Frames, label: Label) -> Made:
    """Of two people with a deed each, the continuation speaks of one's deed as done by that one, or by the other."""
    lexicon = grammar.lexicon
    a, b = draws.several(lexicon.people, 2)
    x, y = draws.several(lexicon.things, 2)
    deeds = draws.several(lexicon.thing_verbs, 2)
    doers = (a, b) if label == "coherent" else (b, a)
    clauses = [grammar.event(doers[0], deeds[0][0], x), grammar.event(doers[1], deeds[1][0], y)]
    if draws.coin():
        clauses.reverse()
    first = grammar.sentence(draws.pick(frames.joined), *clauses)
    verb = draws.pick(deeds[0])
    phrase = grammar.phrase("after", {"base": verb.base, "participle": verb.participle}, a=a, x=x)
    second = grammar.sentence(draws.pick(frames.second), phrase)
    words = (a.singular, b.singular, x.singular, y.singular, deeds[0][0].base, deeds[1][0].base)
    return Made(first, second, words, (a.singular, x.singular, deeds[0][0].base))


def negation(grammar: Grammar, draws: Draws, frames: Frames, label: Label) -> Made:
    """Who meant to do it to two things and forgot one did it to the other only."""
    lexicon = grammar.lexicon
    agent, verbs = draws.pick(lexicon.people), draws.pick(lexicon.thing_verbs)
    done, other = draws.several(lexicon.things, 2)
    x, y = (done, other) if label == "coherent" else (other, done)
    one, two = (x, y) if draws.coin() else (y, x)
    clause = grammar.phrase("forgot", {"base": verbs[0].base}, a=agent, x=one, y=two, z=y)
    participle = grammar.agreeing(draws.pick(verbs).participle, done)
    second = grammar.phrase("only", {"participle": participle}, x=done)
    words = (agent.singular, done.singular, other.singular, verbs[0].base)
    return Made(
        grammar.sentence(draws.pick(frames.single), clause),
        grammar.sentence(draws.pick(frames.next), second),
        words,
        (done.singular, verbs[0].base),
    )


RULES: dict[str, tuple[Rule, int]] = {
    "possession": (possession, 1),
    "places": (places, 1),
    "arrivals": (arrivals, 1),
    "states": (states, 1),
    "protagonist": (protagonist, 1),
    "negation": (negation, 1),
}
