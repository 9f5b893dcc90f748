"""Entailment: from a second text B drawn first, a first text A that entails, contradicts or leaves it open.

B is drawn before the label, so B alone tells nothing. That overlap of words tells nothing either is the rules'
affair: A denies by a verb (refused to) where B denies by "not", so a negation in B, in A or in one of them alone is
as frequent under each label; and where one label needs an unrelated word in A, the others get a synonym in its stead.
"A contradicts B" means that both cannot be true of the same people, things and occasion.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from pairjax.data.rules.words import (
    Bound,
    Draws,
    Frames,
    Grammar,
    Made,
    Noun,
    Quantifier,
    Verb,
)

Label = Literal["contradiction", "entailment", "neutral"]
LABELS: tuple[Label, ...] = ("contradiction", "entailment", "neutral")
Rule = Callable[[Grammar, Draws, Frames, Label], Made]
Told = Literal["done", "undone", "open"]


def told(label: Label, *, denied: bool) -> Told:
    """What A must tell of the deed that B affirms or denies."""
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
) -> Made:
    """The pair of clauses in frames; B's content words are `words`, and A's too unless given."""
    return Made(
        grammar.sentence(draws.pick(frames.single), first),
        grammar.sentence(draws.pick(frames.second), second),
        tuple(first_words or words),
        tuple(words),
    )


class _Deed(NamedTuple):
    """What A tells of a deed; B's verb and A's, and what each names (the first of its synonyms); who did A's."""

    tells: Told
    verb: Verb
    first_verb: Verb
    name: str
    first_name: str
    first_agent: Noun


def _deed(grammar: Grammar, draws: Draws, label: Label, agent: Noun, *, denied: bool) -> _Deed:
    """A has a synonym of B's verb, or else (half of neutral) an unrelated verb or, seldom as it shares fewer words,
    another doer; of either it may tell anything, since two people may have done it together."""
    verbs, unrelated = draws.several(grammar.lexicon.renamed_verbs, 2)
    same, synonym = draws.several(verbs, 2)
    name = verbs[0].base
    if label != "neutral" or draws.coin():
        return _Deed(told(label, denied=denied), same, synonym, name, name, agent)
    tells: Told = draws.pick(("done", "undone"))
    if draws.coin(0.75):
        return _Deed(tells, same, draws.pick(unrelated), name, unrelated[0].base, agent)
    return _Deed(tells, same, same, name, name, draws.another(grammar.lexicon.people, agent))


def negation(grammar: Grammar, draws: Draws, frames: Frames, label: Label) -> Made:
    """Implicatives, affirmed or denied: who managed to do it did it, who failed to did not, and the other way round
    when denied (two-way implicatives); who promised to, or did not, may have done it or not."""
    lexicon = grammar.lexicon
    agent, thing = draws.pick(lexicon.people), draws.pick(lexicon.things)
    denied, outer = draws.coin(), draws.coin(0.15)
    deed = _deed(grammar, draws, label, agent, denied=denied)
    group = (
        lexicon.intend if deed.tells == "open" else lexicon.achieve if (deed.tells == "done") != outer else lexicon.miss
    )
    phrase = draws.pick(group)
    wording = phrase.denied if outer else phrase.affirmed
    first = grammar.implied(deed.first_agent, wording, deed.first_verb, grammar.the(thing))
    second = grammar.event(agent, deed.verb, thing, negative=denied, passive=draws.coin(0.2))
    words = (agent.singular, deed.name, thing.singular)
    first_words = (deed.first_agent.singular, deed.first_name, thing.singular)
    return _finish(grammar, draws, frames, first, second, words, first_words)


def factives(grammar: Grammar, draws: Draws, frames: Frames, label: Label) -> Made:
    """What somebody knew was so, what somebody wrongly believed was not, and what somebody claimed may be either."""
    lexicon = grammar.lexicon
    thinker, agent = draws.several(lexicon.people, 2)
    thing, denied = draws.pick(lexicon.things), draws.coin()
    deed = _deed(grammar, draws, label, agent, denied=denied)
    group = lexicon.claims if deed.tells == "open" else lexicon.knows if deed.tells == "done" else lexicon.errs
    embedded = grammar.earlier(deed.first_agent, deed.first_verb, thing)
    first = f"{grammar.the(thinker)} {draws.pick(group)} {embedded}"
    second = grammar.event(agent, deed.verb, thing, negative=denied, passive=draws.coin(0.2))
    words = (agent.singular, deed.name, thing.singular)
    first_words = (deed.first_agent.singular, deed.first_name, thing.singular, thinker.singular)
    return _finish(grammar, draws, frames, first, second, words, first_words)


def antonyms(grammar: Grammar, draws: Draws, frames: Frames, label: Label) -> Made:
    """Complementary adjectives: not open is closed, and open is not closed. Neutral: A has the property of another
    thing, or another property of the thing."""
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
        # B's own adjective, for as many shared words as under the other labels.
        repeated = adjective if draws.coin(0.8) else draws.pick(opposites.side(1 - side))
        first = grammar.state(other, repeated, negative=negative)
        return _finish(grammar, draws, frames, first, second, words, (other.singular, opposites.name))
    first = grammar.state(noun, draws.pick(another.side(draws.below(2))), negative=negative)
    return _finish(grammar, draws, frames, first, second, words, (noun.singular, another.name))


QUANTIFIERS: tuple[Quantifier, ...] = ("all", "some", "none", "not_all")
# The shares of a definite plural, which is not empty, that a quantifier allows to have a property ...
SHARES = {"all": {"all"}, "some": {"all", "part"}, "none": {"none"}, "not_all": {"none", "part"}}
# ... and the quantifier that says the same of the opposite property.
MIRROR: dict[Quantifier, Quantifier] = {"all": "none", "none": "all", "some": "not_all", "not_all": "some"}


def relation(first: set[int] | set[str], second: set[int] | set[str]) -> Label:
    """How a claim that allows the cases `first` stands to one that allows `second`."""
    if first <= second:
        return "entailment"
    return "neutral" if first & second else "contradiction"


def quantifiers(grammar: Grammar, draws: Draws, frames: Frames, label: Label) -> Made:
    """The square of opposition over a definite plural: all, none, at least one, not all, of either of two
    complementary adjectives (none open is all closed); compared as sets of possible shares (all, part, none)."""
    field = draws.pick(grammar.lexicon.fields)
    noun, opposites, place = draws.pick(field.nouns), draws.pick(field.opposites), draws.pick(grammar.lexicon.places)
    quantifier, side = draws.pick(QUANTIFIERS), draws.below(2)
    found = draws.pick([other for other in QUANTIFIERS if relation(SHARES[other], SHARES[quantifier]) == label])
    adjective = draws.pick(opposites.side(side))
    second = grammar.quantified(quantifier, noun, adjective, place[0])
    # Neutral needs another quantifier; so that the others share as few words with B, they get another adjective: the
    # opposite, of which the mirrored quantifier says the same, or a synonym, where there is one.
    if label == "neutral":
        first = grammar.quantified(found, noun, adjective, place[0])
    elif draws.coin(0.15):
        first = grammar.quantified(MIRROR[found], noun, draws.pick(opposites.side(1 - side)), place[0])
    else:
        synonyms = [one for one in opposites.side(side) if one != adjective]
        first = grammar.quantified(found, noun, draws.pick(synonyms or [adjective]), place[0])
    return _finish(grammar, draws, frames, first, second, (noun.singular, opposites.name, place[1]))


FIRST_BOUNDS: tuple[Bound, ...] = ("exactly", "at_least", "at_most")
SECOND_BOUNDS: tuple[Bound, ...] = ("exactly", "more_than", "fewer_than")


def possible(bound: Bound, number: int) -> set[int]:
    """Counts from 0 to 20 that the bound allows."""
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
    """For every claim B, the claims A of numbers near it, by label."""
    table: dict[tuple[Bound, int], dict[Label, list[tuple[Bound, int]]]] = {}
    for second in ((bound, number) for bound in SECOND_BOUNDS for number in range(3, 10)):
        table[second] = {label: [] for label in LABELS}
        for first in ((bound, number) for bound in FIRST_BOUNDS for number in range(2, 11)):
            near = abs(first[1] - second[1])
            if near in ((0, 2, 3) if second[0] == "exactly" else (1, 2, 3)):
                table[second][relation(possible(*first), possible(*second))].append(first)
    return {second: found for second, found in table.items() if all(found.values())}


NUMBERS = _number_table()
NUMBER_CLAIMS = tuple(NUMBERS)


def numbers(grammar: Grammar, draws: Draws, frames: Frames, label: Label) -> Made:
    """Exactly, at least, at most, more than, fewer than: compared as sets of possible counts."""
    lexicon = grammar.lexicon
    agent, noun, verbs = draws.pick(lexicon.people), draws.pick(lexicon.counted), draws.pick(lexicon.count_verbs)
    bound, number = draws.pick(NUMBER_CLAIMS)
    which, count = draws.pick(NUMBERS[bound, number][label])
    first = grammar.counted(agent, draws.pick(verbs), which, grammar.number(count, noun), noun)
    second = grammar.counted(agent, draws.pick(verbs), bound, grammar.number(number, noun), noun)
    return _finish(grammar, draws, frames, first, second, (agent.singular, verbs[0].base, noun.singular))


def _hypernym_source(draws: Draws, label: Label, *, denied: bool, upper: bool) -> tuple[str, bool]:
    """Which noun A has (sub, sibling or kind) and whether A denies, for a B of a kind or a sub, affirmed or denied."""
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


def hypernyms(grammar: Grammar, draws: Draws, frames: Frames, label: Label) -> Made:
    """A dog is an animal: up in an affirmed clause and down in a denied one entails, the other way is open, and a dog
    tells nothing of cats; what one bought (any of) and what one refused to buy exclude each other."""
    lexicon = grammar.lexicon
    agent, kind, verbs = draws.pick(lexicon.people), draws.pick(lexicon.kinds), draws.pick(lexicon.choice_verbs)
    sub, sibling = draws.several(kind.members, 2)
    denied, upper = draws.coin(), draws.coin()
    name, undone = _hypernym_source(draws, label, denied=denied, upper=upper)
    noun, source = kind.name if upper else sub, {"sub": sub, "sibling": sibling, "kind": kind.name}[name]
    # A shared noun goes with another verb, another noun with the same.
    one, two = draws.several(verbs, 2)
    first_verb = one if noun == source else two
    first = (
        grammar.implied(agent, draws.pick(lexicon.decline), first_verb, grammar.any_of(source, under_not=False))
        if undone
        else grammar.active(agent, first_verb, grammar.some(source))
    )
    second = grammar.active(
        agent, two, grammar.any_of(noun, under_not=True) if denied else grammar.some(noun), negative=denied
    )
    words = (agent.singular, verbs[0].base, noun.singular)
    return _finish(grammar, draws, frames, first, second, words, (agent.singular, verbs[0].base, source.singular))


def roles(grammar: Grammar, draws: Draws, frames: Frames, label: Label) -> Made:
    """Who did it to whom, in either voice. The swap is neutral: none of the verbs is symmetric or tells of the
    converse; refusing to do it to somebody is not doing it to them."""
    lexicon = grammar.lexicon
    a, b = draws.several(lexicon.people, 2)
    verbs, denied = draws.pick(lexicon.person_verbs), draws.coin()
    tells = told(label, denied=denied)
    agent, patient, undone = (b, a, draws.coin()) if tells == "open" else (a, b, tells == "undone")
    first = (
        grammar.implied(agent, draws.pick(lexicon.decline), draws.pick(verbs), grammar.the(patient))
        if undone
        else grammar.event(agent, draws.pick(verbs), patient, passive=draws.coin(0.2))
    )
    second = grammar.event(a, draws.pick(verbs), b, negative=denied, passive=draws.coin(0.2))
    return _finish(grammar, draws, frames, first, second, (a.singular, verbs[0].base, b.singular))


def adjuncts(grammar: Grammar, draws: Draws, frames: Frames, label: Label) -> Made:
    """Where it was done: A tells it with the place, or a refusal of it. Neutral: A tells the time and not the place,
    or of a promise, or of another deed or doer."""
    lexicon = grammar.lexicon
    agent, thing = draws.pick(lexicon.people), draws.pick(lexicon.things)
    verbs, unrelated = draws.several(lexicon.renamed_verbs, 2)
    same, synonym = draws.several(verbs, 2)
    place, denied = draws.pick(lexicon.places), draws.coin()
    there = f"{grammar.the(thing)} {place[0]}"
    words = first_words = (agent.singular, verbs[0].base, thing.singular, place[1])
    match told(label, denied=denied), draws.below(5):
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
            doer = draws.another(lexicon.people, agent)
            first = grammar.active(doer, same, there)
            first_words = (doer.singular, *words[1:])
        case _:
            first = grammar.active(agent, draws.pick(unrelated), there)
            first_words = (agent.singular, unrelated[0].base, thing.singular, place[1])
    second = grammar.event(agent, same, thing, negative=denied, passive=draws.coin(0.2), tail=f" {place[0]}")
    return _finish(grammar, draws, frames, first, second, words, first_words)


def comparison(grammar: Grammar, draws: Draws, frames: Frames, label: Label) -> Made:
    """Strict orders: older than reversed is younger than, and excludes younger than; another scale, or a third
    person in the place of one of the two, tells nothing."""
    lexicon = grammar.lexicon
    a, b = draws.several(lexicon.people, 2)
    dimension, another = draws.several(lexicon.dimensions, 2)
    less = draws.coin(0.3)
    phrases = dimension.less if less else dimension.more
    phrase = draws.pick(phrases)
    second = grammar.compared(a, phrase, b)
    # A never repeats B's word: where it has no synonym, A says the same the other way round, the contrary this way.
    swapped = label == "entailment" if len(phrases) == 1 and label != "neutral" else draws.coin(0.15)
    words = (a.singular, b.singular, dimension.name)
    one, two = (b, a) if swapped else (a, b)
    if label == "neutral" and draws.coin():
        third = draws.another(lexicon.people, b)
        first = grammar.compared(a, phrase, third)
        return _finish(grammar, draws, frames, first, second, words, (a.singular, third.singular, dimension.name))
    if label == "neutral":
        first = grammar.compared(one, draws.pick(another.less if draws.coin() else another.more), two)
        return _finish(grammar, draws, frames, first, second, words, (a.singular, b.singular, another.name))
    direction = less ^ swapped ^ (label == "contradiction")
    fitting = [other for other in (dimension.less if direction else dimension.more) if other != phrase]
    first = grammar.compared(one, draws.pick(fitting), two)
    return _finish(grammar, draws, frames, first, second, words)


# The share of each rule: what takes an encoder longest (who did it to whom, counts, scales) is rarest.
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
