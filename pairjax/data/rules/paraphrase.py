"""Paraphrase: two texts that are true of the same occasions, or not, by rules that change the same words either way.

Where saying the same takes two changes that cancel out (another adjective and a negation), the other class gets both
changes as well, but in different clauses; where it takes a swap, the other class gets it with the wrong word.
"""

from collections.abc import Callable
from typing import Literal

from pairjax.data.rules.entailment import MIRROR, QUANTIFIERS, possible
from pairjax.data.rules.words import Bound, Draws, Frames, Grammar, Made, Quantifier

Label = Literal["not_paraphrase", "paraphrase"]
LABELS: tuple[Label, ...] = ("not_paraphrase", "paraphrase")
Rule = Callable[[Grammar, Draws, Frames, Label], Made]


def _joined(grammar: Grammar, draws: Draws, frames: Frames, one: str, two: str) -> str:
    return grammar.sentence(draws.pick(frames.joined), one, two)


def _pair(grammar: Grammar, draws: Draws, frames: Frames, *, first: str, second: str, words: tuple[str, ...]) -> Made:
    return Made(
        grammar.sentence(draws.pick(frames.single), first),
        grammar.sentence(draws.pick(frames.second), second),
        words,
        words,
    )


def roles(grammar: Grammar, draws: Draws, frames: Frames, label: Label) -> Made:
    """Who did it to whom: voice, a synonym and where the time stands change nothing; a swap of the two people does."""
    lexicon = grammar.lexicon
    a, b = draws.several(lexicon.people, 2)
    verbs, time = draws.pick(lexicon.person_verbs), draws.pick(lexicon.times)
    denied, passive, front, change_voice = draws.coin(0.3), draws.coin(0.4), draws.coin(), draws.coin(0.6)

    def clause(swapped: bool, voice: bool, fronted: bool) -> str:
        agent, patient = (b, a) if swapped else (a, b)
        tail = "" if fronted else f" {time}"
        told = grammar.event(agent, draws.pick(verbs), patient, negative=denied, passive=voice, tail=tail)
        return grammar.phrase("fronted", {"time": time, "clause": told}) if fronted else told

    first = clause(label == "not_paraphrase", passive ^ change_voice, front ^ (not change_voice))
    second = clause(False, passive, front)
    return _pair(
        grammar, draws, frames, first=first, second=second, words=(a.singular, verbs[0].base, b.singular, time)
    )


def comparison(grammar: Grammar, draws: Draws, frames: Frames, label: Label) -> Made:
    """Converses: older than reversed is younger than; younger than alone is the contrary."""
    lexicon = grammar.lexicon
    a, b = draws.several(lexicon.people, 2)
    dimension, less = draws.pick(lexicon.dimensions), draws.coin()
    one, two = (b, a) if label == "paraphrase" else (a, b)
    first = grammar.compared(one, draws.pick(dimension.more if less else dimension.less), two)
    second = grammar.compared(a, draws.pick(dimension.less if less else dimension.more), b)
    return _pair(grammar, draws, frames, first=first, second=second, words=(a.singular, b.singular, dimension.name))


def order(grammar: Grammar, draws: Draws, frames: Frames, label: Label) -> Made:
    """Two clauses in the other order say the same; with their doers exchanged as well they do not."""
    lexicon = grammar.lexicon
    a, b = draws.several(lexicon.people, 2)
    x, y = draws.several(lexicon.things, 2)
    deeds = draws.several(lexicon.thing_verbs, 2)
    # In B the clauses stand in the order drawn, in A in the other; A's doers are exchanged or not.
    second = (grammar.event(a, draws.pick(deeds[0]), x), grammar.event(b, draws.pick(deeds[1]), y))
    one, two = (a, b) if label == "paraphrase" else (b, a)
    first = (grammar.event(two, draws.pick(deeds[1]), y), grammar.event(one, draws.pick(deeds[0]), x))
    words = (a.singular, b.singular, x.singular, y.singular, deeds[0][0].base, deeds[1][0].base)
    return Made(_joined(grammar, draws, frames, *first), _joined(grammar, draws, frames, *second), words, words)


def antonyms(grammar: Grammar, draws: Draws, frames: Frames, label: Label) -> Made:
    """Complementary adjectives: not open is closed. Paraphrase: both changes in one clause, where they cancel out;
    otherwise one in each clause, where each makes it false."""
    field = draws.pick(grammar.lexicon.fields)
    x, y = draws.several(field.nouns, 2)
    opposites = draws.several(field.opposites, 2)
    sides, denied = (draws.below(2), draws.below(2)), (draws.coin(), draws.coin())
    turned = draws.below(2)
    negated = turned if label == "paraphrase" else 1 - turned

    def clauses(turn: int, negate: int) -> list[str]:
        return [
            grammar.state(noun, opposites[at].side(sides[at] ^ (turn == at))[0], negative=denied[at] ^ (negate == at))
            for at, noun in enumerate((x, y))
        ]

    words = (x.singular, y.singular, opposites[0].name, opposites[1].name)
    first = _joined(grammar, draws, frames, *clauses(turned, negated))
    return Made(first, _joined(grammar, draws, frames, *clauses(-1, -1)), words, words)


def negation(grammar: Grammar, draws: Draws, frames: Frames, label: Label) -> Made:
    """Forgetting is not remembering: the two changes in one clause cancel out, one in each clause makes both false."""
    lexicon = grammar.lexicon
    a, b = draws.several(lexicon.people, 2)
    x, y = draws.several(lexicon.things, 2)
    deeds = draws.several(lexicon.thing_verbs, 2)
    forgot, denied = (draws.coin(), draws.coin()), (draws.coin(), draws.coin())
    turned = draws.below(2)
    negated = turned if label == "paraphrase" else 1 - turned

    def clauses(turn: int, negate: int) -> list[str]:
        told = []
        for at, (agent, thing) in enumerate(((a, x), (b, y))):
            phrase = lexicon.forget if forgot[at] ^ (turn == at) else lexicon.remember
            wording = phrase.denied if denied[at] ^ (negate == at) else phrase.affirmed
            told.append(grammar.implied(agent, wording, draws.pick(deeds[at]), grammar.the(thing)))
        return told

    words = (a.singular, b.singular, x.singular, y.singular, deeds[0][0].base, deeds[1][0].base)
    first = _joined(grammar, draws, frames, *clauses(turned, negated))
    return Made(first, _joined(grammar, draws, frames, *clauses(-1, -1)), words, words)


OTHER_NEGATION: dict[Quantifier, Quantifier] = {"all": "not_all", "not_all": "all", "some": "none", "none": "some"}


def quantifiers(grammar: Grammar, draws: Draws, frames: Frames, label: Label) -> Made:
    """All open is none closed, at least one open is not all closed. Otherwise the other quantifier with (or without)
    a negation: all open is compatible with, but not the same as, not all closed."""
    field = draws.pick(grammar.lexicon.fields)
    noun, opposites, place = draws.pick(field.nouns), draws.pick(field.opposites), draws.pick(grammar.lexicon.places)
    quantifier, side = draws.pick(QUANTIFIERS), draws.below(2)
    other = MIRROR[quantifier] if label == "paraphrase" else OTHER_NEGATION[quantifier]
    first = grammar.quantified(other, noun, opposites.side(1 - side)[0], place[0])
    second = grammar.quantified(quantifier, noun, opposites.side(side)[0], place[0])
    return _pair(grammar, draws, frames, first=first, second=second, words=(noun.singular, opposites.name, place[1]))


BOUNDS: tuple[Bound, ...] = ("at_least", "at_most", "more_than", "fewer_than")
CLAIMS = tuple((bound, number) for bound in BOUNDS for number in range(2, 11))
PARTNERS = {
    claim: {
        "paraphrase": [other for other in CLAIMS if other != claim and possible(*other) == possible(*claim)],
        "not_paraphrase": [
            other
            for other in CLAIMS
            if other[0] != claim[0] and abs(other[1] - claim[1]) == 1 and possible(*other) != possible(*claim)
        ],
    }
    for claim in CLAIMS
}
SECOND_CLAIMS = tuple(claim for claim, partners in PARTNERS.items() if all(partners.values()))


def numbers(grammar: Grammar, draws: Draws, frames: Frames, label: Label) -> Made:
    """Over whole numbers at least four is more than three, and at most three is fewer than four; compared as sets."""
    lexicon = grammar.lexicon
    agent, noun, verbs = draws.pick(lexicon.people), draws.pick(lexicon.counted), draws.pick(lexicon.count_verbs)
    claim = draws.pick(SECOND_CLAIMS)
    other = draws.pick(PARTNERS[claim][label])
    first = grammar.counted(agent, draws.pick(verbs), other[0], grammar.number(other[1], noun), noun)
    second = grammar.counted(agent, draws.pick(verbs), claim[0], grammar.number(claim[1], noun), noun)
    return _pair(
        grammar, draws, frames, first=first, second=second, words=(agent.singular, verbs[0].base, noun.singular)
    )


RULES: dict[str, tuple[Rule, int]] = {
    "roles": (roles, 1),
    "comparison": (comparison, 1),
    "order": (order, 1),
    "antonyms": (antonyms, 1),
    "negation": (negation, 1),
    "quantifiers": (quantifiers, 1),
    "numbers": (numbers, 1),
}
