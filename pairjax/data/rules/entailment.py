"""Makes entailment pairs: a second text B, and a first text A that entails it, contradicts it or leaves it open.

B is drawn before the label is used, so B alone says nothing about the label. The rules see to it that the overlap of
words says nothing either. A denies by a verb ("refused to") and B by "not", so a negation in B, in A or in only one of
them is equally frequent under each label. If one label needs an unrelated word in A, the other labels get a synonym
there. "A contradicts B" means that both cannot be true of the same people, things and occasion.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from pairjax.data.rules.words import (
    Bound,
    Draws,
    Frames,
    Grammar,
    Noun,
    Quantifier,
    RulePair,
    Verb,
)

Label = Literal["contradiction", "entailment", "neutral"]
LABELS: tuple[Label, ...] = ("contradiction", "entailment", "neutral")
Rule = Callable[[Grammar, Draws, Frames, Label], RulePair]
"""Makes a pair with the given label."""
Status = Literal["done", "undone", "open"]


def required_status(label: Label, *, denied: bool) -> Status:
    """Returns what A must say of the action that B affirms or denies: it was done, it was not, or neither."""
    if label == "neutral":
        return "open"
    return "done" if (label == "entailment") != denied else "undone"


def _finish(
    grammar: Grammar,
    draws: Draws,
    frames: Frames,
    first: str,
    second: str,
    words: Sequence[str],
    first_words: Sequence[str] = (),
) -> RulePair:
    """Makes the pair of two clauses; `words` are B's content words, and A's too unless `first_words` is given."""
    return RulePair(
        grammar.sentence(draws.pick(frames.single), first),
        grammar.sentence(draws.pick(frames.second), second),
        tuple(first_words or words),
        tuple(words),
    )


class _Deed(NamedTuple):
    """An action.

    Attributes:
        status: What A says of the action.
        verb: B's verb.
        first_verb: A's verb.
        name: The first synonym of B's verb.
        first_name: The first synonym of A's verb.
        first_agent: The agent in A.
    """

    status: Status
    verb: Verb
    first_verb: Verb
    name: str
    first_name: str
    first_agent: Noun


def _deed(grammar: Grammar, draws: Draws, label: Label, agent: Noun, *, denied: bool) -> _Deed:
    """Draws an action: A has a synonym of B's verb, except in half of the neutral pairs.

    There A has an unrelated verb or, more rarely because it shares fewer words, another agent. A may say anything about
    these, since two people may have done it together.
    """
    verbs, unrelated = draws.several(grammar.lexicon.renamed_verbs, 2)
    same, synonym = draws.several(verbs, 2)
    name = verbs[0].base
    if label != "neutral" or draws.coin():
        return _Deed(required_status(label, denied=denied), same, synonym, name, name, agent)
    status: Status = draws.pick(("done", "undone"))
    if draws.coin(0.75):
        return _Deed(status, same, draws.pick(unrelated), name, unrelated[0].base, agent)
    return _Deed(status, same, same, name, name, draws.another(grammar.lexicon.people, agent))


def negation(grammar: Grammar, draws: Draws, frames: Frames, label: Label) -> RulePair:
    """Makes a pair of implicatives, affirmed or denied.

    Two-way implicatives: who managed to do it did it, who failed to did not; denied, the reverse. Who promised to do
    it, or did not promise, may or may not have done it.
    """
    lexicon = grammar.lexicon
    agent, thing = draws.pick(lexicon.people), draws.pick(lexicon.things)
    denied, outer = draws.coin(), draws.coin(0.15)
    deed = _deed(grammar, draws, label, agent, denied=denied)
    two_way = lexicon.achieve if (deed.status == "done") != outer else lexicon.miss
    phrase = draws.pick(lexicon.intend if deed.status == "open" else two_way)
    wording = phrase.denied if outer else phrase.affirmed
    first = grammar.implied(deed.first_agent, wording, deed.first_verb, grammar.the(thing))
    second = grammar.event(agent, deed.verb, thing, negative=denied, passive=draws.coin(0.2))
    words = (agent.singular, deed.name, thing.singular)
    first_words = (deed.first_agent.singular, deed.first_name, thing.singular)
    return _finish(grammar, draws, frames, first, second, words, first_words)


def factives(grammar: Grammar, draws: Draws, frames: Frames, label: Label) -> RulePair:
    """Makes a pair of factives: what is known is true, what is wrongly believed is false, a claim may be either."""
    lexicon = grammar.lexicon
    thinker, agent = draws.several(lexicon.people, 2)
    thing, denied = draws.pick(lexicon.things), draws.coin()
    deed = _deed(grammar, draws, label, agent, denied=denied)
    group = lexicon.claims if deed.status == "open" else lexicon.knows if deed.status == "done" else lexicon.errs
    embedded = grammar.earlier(deed.first_agent, deed.first_verb, thing)
    first = f"{grammar.the(thinker)} {draws.pick(group)} {embedded}"
    second = grammar.event(agent, deed.verb, thing, negative=denied, passive=draws.coin(0.2))
    words = (agent.singular, deed.name, thing.singular)
    first_words = (deed.first_agent.singular, deed.first_name, thing.singular, thinker.singular)
    return _finish(grammar, draws, frames, first, second, words, first_words)


def antonyms(grammar: Grammar, draws: Draws, frames: Frames, label: Label) -> RulePair:
    """Makes a pair of complementary adjectives: not open is closed, and open is not closed.

    Neutral pairs: A says the same of another thing, or something else of the same thing.
    """
    field = draws.pick(grammar.lexicon.fields)
    noun = draws.pick(field.nouns)
    other = draws.another(field.nouns, noun)
    opposites, another = draws.several(field.opposites, 2)
    side, denied, negative = draws.below(2), draws.coin(0.35), draws.coin(0.1)
    adjective = draws.pick(opposites.side(side))
    second = grammar.state(noun, adjective, negative=denied)
    words = (noun.singular, opposites.name)
    if label != "neutral":
        holds = side ^ denied ^ (label == "contradiction") ^ negative
        first = grammar.state(noun, draws.pick(opposites.side(holds)), negative=negative)
        return _finish(grammar, draws, frames, first, second, words)
    if draws.coin(0.7):
        # Repeat B's adjective, so the texts share as many words as under the other labels.
        repeated = adjective if draws.coin(0.8) else draws.pick(opposites.side(1 - side))
        first = grammar.state(other, repeated, negative=negative)
        return _finish(grammar, draws, frames, first, second, words, (other.singular, opposites.name))
    first = grammar.state(noun, draws.pick(another.side(draws.below(2))), negative=negative)
    return _finish(grammar, draws, frames, first, second, words, (noun.singular, another.name))


QUANTIFIERS: tuple[Quantifier, ...] = ("all", "some", "none", "not_all")
SHARES = {"all": {"all"}, "some": {"all", "part"}, "none": {"none"}, "not_all": {"none", "part"}}
"""The shares of a non-empty definite plural that may have a property, by quantifier."""
MIRROR: dict[Quantifier, Quantifier] = {"all": "none", "none": "all", "some": "not_all", "not_all": "some"}
"""The quantifier that says the same of the opposite property, by quantifier."""


def relation(first: set[int] | set[str], second: set[int] | set[str]) -> Label:
    """Returns the relation of a claim that allows the cases `first` to a claim that allows the cases `second`."""
    if first <= second:
        return "entailment"
    return "neutral" if first & second else "contradiction"


def quantifiers(grammar: Grammar, draws: Draws, frames: Frames, label: Label) -> RulePair:
    """Makes a pair from the square of opposition over a definite plural: all, none, at least one, not all.

    Either of two complementary adjectives is used (none open is all closed). Claims are compared as sets of possible
    shares (all, part, none).
    """
    field = draws.pick(grammar.lexicon.fields)
    noun, opposites, place = draws.pick(field.nouns), draws.pick(field.opposites), draws.pick(grammar.lexicon.places)
    quantifier, side = draws.pick(QUANTIFIERS), draws.below(2)
    first_quantifier = draws.pick(
        [other for other in QUANTIFIERS if relation(SHARES[other], SHARES[quantifier]) == label]
    )
    adjective = draws.pick(opposites.side(side))
    second = grammar.quantified(quantifier, noun, adjective, place[0])
    # Neutral pairs differ in the quantifier. The other labels must share as few words with B, so A has another
    # adjective: the opposite with the mirrored quantifier, or a synonym if there is one.
    if label == "neutral":
        first = grammar.quantified(first_quantifier, noun, adjective, place[0])
    elif draws.coin(0.15):
        first = grammar.quantified(MIRROR[first_quantifier], noun, draws.pick(opposites.side(1 - side)), place[0])
    else:
        synonyms = [other for other in opposites.side(side) if other != adjective]
        first = grammar.quantified(first_quantifier, noun, draws.pick(synonyms or [adjective]), place[0])
    return _finish(grammar, draws, frames, first, second, (noun.singular, opposites.name, place[1]))


FIRST_BOUNDS: tuple[Bound, ...] = ("exactly", "at_least", "at_most")
SECOND_BOUNDS: tuple[Bound, ...] = ("exactly", "more_than", "fewer_than")


def possible(bound: Bound, number: int) -> set[int]:
    """Returns the counts from 0 to 20 that the bound allows."""
    match bound:
        case "exactly":
            return {number}
        case "at_least":
            return set(range(number, 21))
        case "at_most":
            return set(range(number + 1))
        case "more_than":
            return set(range(number + 1, 21))
        case "fewer_than":
            return set(range(number))


def _number_table() -> dict[tuple[Bound, int], dict[Label, list[tuple[Bound, int]]]]:
    """Returns the claims A, by label, with a number near B's, for every claim B."""
    table: dict[tuple[Bound, int], dict[Label, list[tuple[Bound, int]]]] = {}
    for second in ((bound, number) for bound in SECOND_BOUNDS for number in range(3, 10)):
        table[second] = {label: [] for label in LABELS}
        for first in ((bound, number) for bound in FIRST_BOUNDS for number in range(2, 11)):
            distance = abs(first[1] - second[1])
            if distance in ((0, 2, 3) if second[0] == "exactly" else (1, 2, 3)):
                table[second][relation(possible(*first), possible(*second))].append(first)
    return {second: claims for second, claims in table.items() if all(claims.values())}


NUMBERS = _number_table()
NUMBER_CLAIMS = tuple(NUMBERS)


def numbers(grammar: Grammar, draws: Draws, frames: Frames, label: Label) -> RulePair:
    """Makes a pair of counts (exactly, at least, more than, ...), compared as sets of possible counts."""
    lexicon = grammar.lexicon
    agent, noun, verbs = draws.pick(lexicon.people), draws.pick(lexicon.counted), draws.pick(lexicon.count_verbs)
    bound, number = draws.pick(NUMBER_CLAIMS)
    first_bound, first_number = draws.pick(NUMBERS[bound, number][label])
    first = grammar.counted(agent, draws.pick(verbs), first_bound, grammar.number(first_number, noun), noun)
    second = grammar.counted(agent, draws.pick(verbs), bound, grammar.number(number, noun), noun)
    return _finish(grammar, draws, frames, first, second, (agent.singular, verbs[0].base, noun.singular))


def _hypernym_source(draws: Draws, label: Label, *, denied: bool, upper: bool) -> tuple[str, bool]:
    """Draws A's noun (a hyponym, its sibling, or the hypernym) and whether A denies.

    Args:
        draws: The random draws.
        label: The pair's label.
        denied: Whether B is denied.
        upper: Whether B's noun is the hypernym.
    """
    match label, denied, upper:
        case "entailment", False, True:
            return draws.pick(("sub", "sibling")), False
        case "entailment", False, False:
            return "sub", False
        case "entailment", True, _:
            return "kind", True
        case "contradiction", False, True:
            return "kind", True
        case "contradiction", False, False:
            return draws.pick(("kind", "sub")), True
        case "contradiction", True, True:
            return draws.pick(("kind", "sub")), False
        case "contradiction", True, False:
            return "sub", False
        case _, _, True:
            return "sub", True
        case _:
            return draws.pick((("sibling", False), ("sibling", True), ("kind", False)))


def hypernyms(grammar: Grammar, draws: Draws, frames: Frames, label: Label) -> RulePair:
    """Makes a pair of a hyponym and its hypernym: a dog is an animal.

    An affirmed clause entails the one with the hypernym, a denied clause the one with the hyponym. The other direction
    is open, and a clause about dogs says nothing about cats. Buying some and refusing to buy any exclude each other.
    """
    lexicon = grammar.lexicon
    agent, kind, verbs = draws.pick(lexicon.people), draws.pick(lexicon.kinds), draws.pick(lexicon.choice_verbs)
    sub, sibling = draws.several(kind.members, 2)
    denied, upper = draws.coin(), draws.coin()
    name, undone = _hypernym_source(draws, label, denied=denied, upper=upper)
    noun, source = kind.name if upper else sub, {"sub": sub, "sibling": sibling, "kind": kind.name}[name]
    # If the texts share the noun, they have different verbs, and otherwise the same one.
    synonym, verb = draws.several(verbs, 2)
    first_verb = synonym if noun == source else verb
    first = (
        grammar.implied(agent, draws.pick(lexicon.decline), first_verb, grammar.any_of(source, under_not=False))
        if undone
        else grammar.active(agent, first_verb, grammar.some(source))
    )
    second = grammar.active(
        agent, verb, grammar.any_of(noun, under_not=True) if denied else grammar.some(noun), negative=denied
    )
    words = (agent.singular, verbs[0].base, noun.singular)
    return _finish(grammar, draws, frames, first, second, words, (agent.singular, verbs[0].base, source.singular))


def roles(grammar: Grammar, draws: Draws, frames: Frames, label: Label) -> RulePair:
    """Makes a pair about who did it to whom, in either voice.

    Swapped people are neutral: no verb is symmetric or implies its converse. Refusing to do it to somebody means not
    doing it to them.
    """
    lexicon = grammar.lexicon
    a, b = draws.several(lexicon.people, 2)
    verbs, denied = draws.pick(lexicon.person_verbs), draws.coin()
    status = required_status(label, denied=denied)
    agent, patient, undone = (b, a, draws.coin()) if status == "open" else (a, b, status == "undone")
    first = (
        grammar.implied(agent, draws.pick(lexicon.decline), draws.pick(verbs), grammar.the(patient))
        if undone
        else grammar.event(agent, draws.pick(verbs), patient, passive=draws.coin(0.2))
    )
    second = grammar.event(a, draws.pick(verbs), b, negative=denied, passive=draws.coin(0.2))
    return _finish(grammar, draws, frames, first, second, (a.singular, verbs[0].base, b.singular))


def adjuncts(grammar: Grammar, draws: Draws, frames: Frames, label: Label) -> RulePair:
    """Makes a pair about where it was done: A says so with the place, or says that it was refused.

    Neutral pairs: A gives the time and not the place, or a promise, another action, or another agent.
    """
    lexicon = grammar.lexicon
    agent, thing = draws.pick(lexicon.people), draws.pick(lexicon.things)
    verbs, unrelated = draws.several(lexicon.renamed_verbs, 2)
    same, synonym = draws.several(verbs, 2)
    place, denied = draws.pick(lexicon.places), draws.coin()
    there = f"{grammar.the(thing)} {place[0]}"
    words = first_words = (agent.singular, verbs[0].base, thing.singular, place[1])
    match required_status(label, denied=denied), draws.below(5):
        case "done", _:
            first = grammar.active(agent, synonym, there)
        case "undone", _:
            first = grammar.implied(agent, draws.pick(lexicon.decline), synonym, there)
        case _, 0:
            time = draws.pick(lexicon.times)
            first = grammar.active(agent, same, f"{grammar.the(thing)} {time}")
            first_words = (*words[:3], time)
        case _, 1 | 2:
            first = grammar.implied(agent, draws.pick(lexicon.intend).affirmed, synonym, there)
        case _, 3:
            other_agent = draws.another(lexicon.people, agent)
            first = grammar.active(other_agent, same, there)
            first_words = (other_agent.singular, *words[1:])
        case _:
            first = grammar.active(agent, draws.pick(unrelated), there)
            first_words = (agent.singular, unrelated[0].base, thing.singular, place[1])
    second = grammar.event(agent, same, thing, negative=denied, passive=draws.coin(0.2), tail=f" {place[0]}")
    return _finish(grammar, draws, frames, first, second, words, first_words)


def comparison(grammar: Grammar, draws: Draws, frames: Frames, label: Label) -> RulePair:
    """Makes a pair of strict orders: older than is the converse of younger than, and excludes it.

    Neutral pairs: another dimension, or a third person instead of one of the two.
    """
    lexicon = grammar.lexicon
    a, b = draws.several(lexicon.people, 2)
    dimension, another = draws.several(lexicon.dimensions, 2)
    less = draws.coin(0.3)
    phrases = dimension.less if less else dimension.more
    phrase = draws.pick(phrases)
    second = grammar.compared(a, phrase, b)
    # A never repeats B's phrase. If it has no synonym, A entails B by the swapped converse, or contradicts B unswapped.
    swapped = label == "entailment" if len(phrases) == 1 and label != "neutral" else draws.coin(0.15)
    words = (a.singular, b.singular, dimension.name)
    left, right = (b, a) if swapped else (a, b)
    if label == "neutral" and draws.coin():
        third = draws.another(lexicon.people, b)
        first = grammar.compared(a, phrase, third)
        return _finish(grammar, draws, frames, first, second, words, (a.singular, third.singular, dimension.name))
    if label == "neutral":
        first = grammar.compared(left, draws.pick(another.less if draws.coin() else another.more), right)
        return _finish(grammar, draws, frames, first, second, words, (a.singular, b.singular, another.name))
    direction = less ^ swapped ^ (label == "contradiction")
    candidates = [other for other in (dimension.less if direction else dimension.more) if other != phrase]
    first = grammar.compared(left, draws.pick(candidates), right)
    return _finish(grammar, draws, frames, first, second, words)


# Each rule with its share: those that an encoder learns most slowly (who did it to whom, counts, scales) are rarest.
RULES: dict[str, tuple[Rule, int]] = {
    "negation": (negation, 5),
    "factives": (factives, 5),
    "adjuncts": (adjuncts, 5),
    "hypernyms": (hypernyms, 5),
    "antonyms": (antonyms, 2),
    "quantifiers": (quantifiers, 2),
    "numbers": (numbers, 1),
    "comparison": (comparison, 1),
    "roles": (roles, 1),
}
