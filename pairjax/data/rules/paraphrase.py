"""Makes paraphrase pairs: two texts that are true of the same occasions, or not.

The rules change the same words under both labels. If a paraphrase needs two changes that cancel out (another adjective
and a negation), the other class gets both changes too, but in different clauses. If it needs a swap, the other class
gets the swap with the wrong word.
"""

from collections.abc import Callable
from typing import Literal

from pairjax.data.rules.entailment import MIRROR, QUANTIFIERS, possible
from pairjax.data.rules.words import Bound, Draws, Frames, Grammar, Quantifier, RulePair

Label = Literal["not_paraphrase", "paraphrase"]
LABELS: tuple[Label, ...] = ("not_paraphrase", "paraphrase")
Rule = Callable[[Grammar, Draws, Frames, Label], RulePair]
"""Makes a pair with the given label."""


def _joined(grammar: Grammar, draws: Draws, frames: Frames, *clauses: str) -> str:
    """Makes one sentence of two clauses."""
    return grammar.sentence(draws.pick(frames.joined), *clauses)


def _pair(
    grammar: Grammar, draws: Draws, frames: Frames, *, first: str, second: str, words: tuple[str, ...]
) -> RulePair:
    """Makes the pair of two clauses with the same content words."""
    return RulePair(
        grammar.sentence(draws.pick(frames.single), first),
        grammar.sentence(draws.pick(frames.second), second),
        words,
        words,
    )


def roles(grammar: Grammar, draws: Draws, frames: Frames, label: Label) -> RulePair:
    """Makes a pair about who did it to whom: only a swap of the two people changes the meaning.

    Voice, a synonym and the position of the time do not.
    """
    lexicon = grammar.lexicon
    a, b = draws.several(lexicon.people, 2)
    verbs, time = draws.pick(lexicon.person_verbs), draws.pick(lexicon.times)
    denied, passive, front, change_voice = draws.coin(0.3), draws.coin(0.4), draws.coin(), draws.coin(0.6)

    def clause(swapped: bool, voice: bool, fronted: bool) -> str:
        agent, patient = (b, a) if swapped else (a, b)
        tail = "" if fronted else f" {time}"
        event = grammar.event(agent, draws.pick(verbs), patient, negative=denied, passive=voice, tail=tail)
        return grammar.phrase("fronted", {"time": time, "clause": event}) if fronted else event

    first = clause(label == "not_paraphrase", passive ^ change_voice, front ^ (not change_voice))
    second = clause(False, passive, front)
    return _pair(
        grammar, draws, frames, first=first, second=second, words=(a.singular, verbs[0].base, b.singular, time)
    )


def comparison(grammar: Grammar, draws: Draws, frames: Frames, label: Label) -> RulePair:
    """Makes a pair of converses: a is older than b if b is younger than a; a is younger than b is the contrary."""
    lexicon = grammar.lexicon
    a, b = draws.several(lexicon.people, 2)
    dimension, less = draws.pick(lexicon.dimensions), draws.coin()
    left, right = (b, a) if label == "paraphrase" else (a, b)
    first = grammar.compared(left, draws.pick(dimension.more if less else dimension.less), right)
    second = grammar.compared(a, draws.pick(dimension.less if less else dimension.more), b)
    return _pair(grammar, draws, frames, first=first, second=second, words=(a.singular, b.singular, dimension.name))


def order(grammar: Grammar, draws: Draws, frames: Frames, label: Label) -> RulePair:
    """Makes a pair of two clauses in two orders, which mean the same unless their agents are exchanged too."""
    lexicon = grammar.lexicon
    a, b = draws.several(lexicon.people, 2)
    x, y = draws.several(lexicon.things, 2)
    deeds = draws.several(lexicon.thing_verbs, 2)
    # B has the clauses in the order drawn, A in the other order. In non-paraphrases, A's agents are exchanged.
    second = (grammar.event(a, draws.pick(deeds[0]), x), grammar.event(b, draws.pick(deeds[1]), y))
    x_agent, y_agent = (a, b) if label == "paraphrase" else (b, a)
    first = (grammar.event(y_agent, draws.pick(deeds[1]), y), grammar.event(x_agent, draws.pick(deeds[0]), x))
    words = (a.singular, b.singular, x.singular, y.singular, deeds[0][0].base, deeds[1][0].base)
    return RulePair(_joined(grammar, draws, frames, *first), _joined(grammar, draws, frames, *second), words, words)


def antonyms(grammar: Grammar, draws: Draws, frames: Frames, label: Label) -> RulePair:
    """Makes a pair of complementary adjectives: not open is closed.

    A paraphrase has both changes in one clause, where they cancel out. The other class has one change in each clause,
    and each makes its clause false.
    """
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
    return RulePair(first, _joined(grammar, draws, frames, *clauses(-1, -1)), words, words)


def negation(grammar: Grammar, draws: Draws, frames: Frames, label: Label) -> RulePair:
    """Makes a pair of implicatives: forgetting is not remembering.

    Two changes in one clause cancel out; one change in each clause makes both false.
    """
    lexicon = grammar.lexicon
    a, b = draws.several(lexicon.people, 2)
    x, y = draws.several(lexicon.things, 2)
    deeds = draws.several(lexicon.thing_verbs, 2)
    forgot, denied = (draws.coin(), draws.coin()), (draws.coin(), draws.coin())
    turned = draws.below(2)
    negated = turned if label == "paraphrase" else 1 - turned

    def clauses(turn: int, negate: int) -> list[str]:
        texts = []
        for at, (agent, thing) in enumerate(((a, x), (b, y))):
            phrase = lexicon.forget if forgot[at] ^ (turn == at) else lexicon.remember
            wording = phrase.denied if denied[at] ^ (negate == at) else phrase.affirmed
            texts.append(grammar.implied(agent, wording, draws.pick(deeds[at]), grammar.the(thing)))
        return texts

    words = (a.singular, b.singular, x.singular, y.singular, deeds[0][0].base, deeds[1][0].base)
    first = _joined(grammar, draws, frames, *clauses(turned, negated))
    return RulePair(first, _joined(grammar, draws, frames, *clauses(-1, -1)), words, words)


OTHER_NEGATION: dict[Quantifier, Quantifier] = {"all": "not_all", "not_all": "all", "some": "none", "none": "some"}


def quantifiers(grammar: Grammar, draws: Draws, frames: Frames, label: Label) -> RulePair:
    """Makes a pair of quantifiers: all open is none closed, and at least one open is not all closed.

    The other class has the other quantifier with (or without) the negation: all open is compatible with not all closed,
    but does not mean the same.
    """
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


def numbers(grammar: Grammar, draws: Draws, frames: Frames, label: Label) -> RulePair:
    """Makes a pair of counts: at least four is more than three, and at most three is fewer than four."""
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
