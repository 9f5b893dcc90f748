"""Makes coherence pairs: a short text A, and a continuation B that follows from it or that A makes false.

B is drawn first. A names the same people, things and places under both labels; only who, what or when differs. B
describes the state right after A, so nothing can have happened in between.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Literal

from pairjax.data.rules.words import Draws, Frames, Grammar, RulePair

Label = Literal["coherent", "incoherent"]
LABELS: tuple[Label, ...] = ("coherent", "incoherent")
Rule = Callable[[Grammar, Draws, Frames, Label], RulePair]
"""Makes a pair with the given label."""


def _text(grammar: Grammar, draws: Draws, frames: Frames, *clauses: str) -> str:
    """Makes a text of clauses, the later ones linked to the first."""
    sentences = [grammar.sentence("{0}.", clauses[0])]
    sentences += [grammar.sentence(draws.pick(frames.linked), clause) for clause in clauses[1:]]
    return " ".join(sentences)


def possession(grammar: Grammar, draws: Draws, frames: Frames, label: Label) -> RulePair:
    """Makes a pair about who owns a thing: the last buyer does, and no seller of it does."""
    lexicon = grammar.lexicon
    a, b, c = draws.several(lexicon.people, 3)
    thing = draws.pick(lexicon.things)
    owner = c
    others = [a, b] if label == "coherent" else draws.several((a, b), 2)
    chain = [*others, owner] if label == "coherent" else draws.pick(([owner, *others], [others[0], owner, others[1]]))
    steps = [grammar.phrase("sold", a=seller, b=buyer, x=thing) for seller, buyer in pairwise(chain)]
    second = grammar.sentence(draws.pick(frames.next), grammar.phrase("owns", x=thing, b=owner))
    words = (a.singular, b.singular, c.singular, thing.singular)
    return RulePair(_text(grammar, draws, frames, *steps), second, words, (owner.singular, thing.singular))


def places(grammar: Grammar, draws: Draws, frames: Frames, label: Label) -> RulePair:
    """Makes a pair about where somebody is: in the last of three places, and in neither of the others."""
    lexicon = grammar.lexicon
    agent = draws.pick(lexicon.people)
    here, start_place, middle_place = draws.several(lexicon.places, 3)
    path = (
        [start_place, middle_place, here]
        if label == "coherent"
        else draws.pick(([here, start_place, middle_place], [start_place, here, middle_place]))
    )
    steps = [grammar.went(agent, start, end, on=index > 0) for index, (start, end) in enumerate(pairwise(path))]
    second = grammar.sentence(draws.pick(frames.next), grammar.phrase("is_in", {"at": here[0]}, a=agent))
    words = (agent.singular, here[1], start_place[1], middle_place[1])
    return RulePair(_text(grammar, draws, frames, *steps), second, words, (agent.singular, here[1]))


def arrivals(grammar: Grammar, draws: Draws, frames: Frames, label: Label) -> RulePair:
    """Makes a pair about who of three people was the first or the last to arrive."""
    lexicon = grammar.lexicon
    subject, a, b = draws.several(lexicon.people, 3)
    rank = draws.below(2) * 2
    position = rank if label == "coherent" else draws.pick([index for index in range(3) if index != rank])
    people = [a, b]
    people.insert(position, subject)
    clause = grammar.phrase("arrived", a=people[0], b=people[1], c=people[2])
    first = grammar.sentence(draws.pick(frames.single), clause)
    second = grammar.sentence(draws.pick(frames.next), grammar.phrase("last" if rank else "first", a=subject))
    words = (subject.singular, a.singular, b.singular)
    return RulePair(first, second, words, (subject.singular, "last" if rank else "first"))


def states(grammar: Grammar, draws: Draws, frames: Frames, label: Label) -> RulePair:
    """Makes a pair about the state of a thing: opened and then closed, for example, it is closed."""
    lexicon = grammar.lexicon
    change = draws.pick(lexicon.changes)
    a, b = draws.several(lexicon.people, 2)
    x, y = draws.several(change.things, 2)
    side = draws.below(2)
    verbs = (change.first, change.second)
    state = side if label == "coherent" else 1 - side
    if draws.coin():
        steps = [grammar.event(a, verbs[1 - state], x), grammar.event(b, verbs[state], x)]
    else:
        steps = [grammar.event(a, verbs[state], x), grammar.event(b, verbs[1 - state], y)]
        if draws.coin():
            steps.reverse()
    adjective = change.opposites.side(side)[0]
    second = grammar.sentence(draws.pick(frames.next), grammar.state(x, adjective))
    words = (a.singular, b.singular, x.singular, y.singular, change.opposites.name)
    return RulePair(_text(grammar, draws, frames, *steps), second, words, (x.singular, change.opposites.name))


def protagonist(grammar: Grammar, draws: Draws, frames: Frames, label: Label) -> RulePair:
    """Makes a pair about two people with one action each; B attributes an action to the right or the wrong person."""
    lexicon = grammar.lexicon
    a, b = draws.several(lexicon.people, 2)
    x, y = draws.several(lexicon.things, 2)
    deeds = draws.several(lexicon.thing_verbs, 2)
    agents = (a, b) if label == "coherent" else (b, a)
    clauses = [grammar.event(agents[0], deeds[0][0], x), grammar.event(agents[1], deeds[1][0], y)]
    if draws.coin():
        clauses.reverse()
    first = grammar.sentence(draws.pick(frames.joined), *clauses)
    verb = draws.pick(deeds[0])
    phrase = grammar.phrase("after", {"base": verb.base, "participle": verb.participle}, a=a, x=x)
    second = grammar.sentence(draws.pick(frames.second), phrase)
    words = (a.singular, b.singular, x.singular, y.singular, deeds[0][0].base, deeds[1][0].base)
    return RulePair(first, second, words, (a.singular, x.singular, deeds[0][0].base))


def negation(grammar: Grammar, draws: Draws, frames: Frames, label: Label) -> RulePair:
    """Makes a pair about somebody who meant to act on two things and forgot one, so acted on the other only."""
    lexicon = grammar.lexicon
    agent, verbs = draws.pick(lexicon.people), draws.pick(lexicon.thing_verbs)
    done, other = draws.several(lexicon.things, 2)
    x, y = (done, other) if label == "coherent" else (other, done)
    left, right = (x, y) if draws.coin() else (y, x)
    clause = grammar.phrase("forgot", {"base": verbs[0].base}, a=agent, x=left, y=right, z=y)
    participle = grammar.agreeing(draws.pick(verbs).participle, done)
    second = grammar.phrase("only", {"participle": participle}, x=done)
    words = (agent.singular, done.singular, other.singular, verbs[0].base)
    return RulePair(
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
