"""Defines what the two grammars and the rules share: word entries, seeded draws, and the grammar's interface."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeVar

import numpy as np

Item = TypeVar("Item")
Quantifier = Literal["all", "some", "none", "not_all"]
Bound = Literal["exactly", "at_least", "at_most", "more_than", "fewer_than"]


class Draws:
    """Seeded uniform draws, made in blocks because one scalar draw from a NumPy generator costs more than a sentence.

    Only PCG64's doubles are used, whose stream NumPy keeps stable. Nothing depends on `hash()` or the order of a set.
    """

    def __init__(self, seed: Sequence[int]) -> None:
        self._generator = np.random.Generator(np.random.PCG64(list(seed)))
        self._block: list[float] = []

    def uniform(self) -> float:
        """Draws a float in [0, 1)."""
        if not self._block:
            self._block = self._generator.random(8192).tolist()
        return self._block.pop()

    def below(self, limit: int) -> int:
        """Draws an integer in [0, limit)."""
        return int(self.uniform() * limit)

    def coin(self, chance: float = 0.5) -> bool:
        """Draws True with the given probability."""
        return self.uniform() < chance

    def pick(self, items: Sequence[Item]) -> Item:
        """Draws one item."""
        return items[int(self.uniform() * len(items))]

    def several(self, items: Sequence[Item], count: int) -> list[Item]:
        """Draws `count` different items, in random order."""
        chosen: list[Item] = []
        while len(chosen) < count:
            item = items[int(self.uniform() * len(items))]
            if item not in chosen:
                chosen.append(item)
        return chosen

    def another(self, nouns: Sequence["Noun"], noun: "Noun") -> "Noun":
        """Draws a different noun of the same gender, so articles do not distinguish the two."""
        return self.pick([other for other in nouns if other.gender == noun.gender and other != noun])

    def order(self, count: int) -> list[int]:
        """Draws a permutation of range(count)."""
        return [int(index) for index in self._generator.permutation(count)]


class Noun(NamedTuple):
    """A noun. `gender` is grammatical, "m" or "f"; English nouns are all "m", and English ignores it."""

    singular: str
    plural: str
    gender: str = "m"


class Verb(NamedTuple):
    """A transitive verb with its past tense; Portuguese participles are masculine singular."""

    base: str
    past: str
    participle: str


class Adjective(NamedTuple):
    """An adjective: masculine and feminine, singular (`m`, `f`) and plural (`ms`, `fs`); all are equal in English."""

    m: str
    f: str
    ms: str
    fs: str


class Opposites(NamedTuple):
    """Complementary adjectives: each thing of the field is exactly one of the two."""

    name: str
    first: tuple[Adjective, ...]
    second: tuple[Adjective, ...]

    def side(self, index: int) -> tuple[Adjective, ...]:
        """Returns all synonyms of one of the two."""
        return self.first if index == 0 else self.second


class Dimension(NamedTuple):
    """A strict order: `more` and `less` are phrases between two noun phrases, and converses of each other.

    Each is a tuple of synonyms, in their forms for a masculine and a feminine first noun phrase.
    """

    name: str
    more: tuple[tuple[str, str], ...]
    less: tuple[tuple[str, str], ...]


class Kind(NamedTuple):
    """A hypernym and some of its hyponyms, none of which covers another."""

    name: Noun
    members: tuple[Noun, ...]


class Field(NamedTuple):
    """Things of one kind, with pairs of opposites; each thing has one of each pair, independently of the others."""

    nouns: tuple[Noun, ...]
    opposites: tuple[Opposites, ...]


class Implicative(NamedTuple):
    """A verb phrase before an infinitive, affirmed and denied.

    The phrases of `Lexicon.achieve` and `miss` are two-way implicatives (Karttunen 1971): "managed to" entails that it
    was done and "did not manage to" that it was not; "failed to" is the reverse. Neither form of `intend` entails
    either. The phrases of `decline`, which are affirmed only, entail that it was not done.
    """

    affirmed: str
    denied: str


class Change(NamedTuple):
    """Two actions that undo each other, and the states that they cause: opening a thing makes it open."""

    things: tuple[Noun, ...]
    opposites: Opposites
    first: Verb
    second: Verb


class Frames(NamedTuple):
    """Sentence templates, in which {0} and {1} are clauses.

    Attributes:
        joined: Templates of a text of two clauses.
        single: Templates of a first text of one clause.
        second: Templates of a second text of one clause.
        linked: Templates of the later sentences of a first text.
        next: Templates of the continuation of a first text.
    """

    joined: tuple[str, ...]
    single: tuple[str, ...]
    second: tuple[str, ...]
    linked: tuple[str, ...]
    next: tuple[str, ...]


class Lexicon(NamedTuple):
    """All words of a language. An entry of verbs is a tuple of synonyms, which can replace each other.

    Every entry of `renamed_verbs` (for things) and `choice_verbs` (for indefinite things of any kind) has a synonym.
    Dev and test use `fresh_frames` if templates are held out.
    """

    people: tuple[Noun, ...]
    things: tuple[Noun, ...]
    places: tuple[tuple[str, str], ...]
    times: tuple[str, ...]
    person_verbs: tuple[tuple[Verb, ...], ...]
    thing_verbs: tuple[tuple[Verb, ...], ...]
    count_verbs: tuple[tuple[Verb, ...], ...]
    renamed_verbs: tuple[tuple[Verb, ...], ...]
    choice_verbs: tuple[tuple[Verb, ...], ...]
    counted: tuple[Noun, ...]
    kinds: tuple[Kind, ...]
    fields: tuple[Field, ...]
    dimensions: tuple[Dimension, ...]
    achieve: tuple[Implicative, ...]
    miss: tuple[Implicative, ...]
    intend: tuple[Implicative, ...]
    decline: tuple[str, ...]
    knows: tuple[str, ...]
    errs: tuple[str, ...]
    claims: tuple[str, ...]
    remember: Implicative
    forget: Implicative
    changes: tuple[Change, ...]
    phrases: Mapping[str, str]
    train_frames: Frames
    fresh_frames: Frames


class Grammar(ABC):
    """Builds the clauses of one language, in lower case and without a full stop; `sentence` completes them.

    Every clause is in the past tense, except descriptions of a state, and has definite noun phrases, so two clauses
    with the same words are about the same people, things and occasion.

    Attributes:
        lexicon: The words of the language.
        bounds: The words of each bound on a number.
    """

    lexicon: Lexicon
    bounds: Mapping[Bound, str]

    @abstractmethod
    def the(self, noun: Noun) -> str:
        """Returns the definite noun phrase."""

    @abstractmethod
    def active(self, agent: Noun, verb: Verb, rest: str, *, negative: bool = False) -> str:
        """Returns "agent (did not) verb rest"; `rest` is a noun phrase with optional adjuncts."""

    @abstractmethod
    def passive(self, agent: Noun, verb: Verb, patient: Noun, *, negative: bool = False) -> str:
        """Returns "patient was (not) verbed by agent"."""

    def event(
        self, agent: Noun, verb: Verb, patient: Noun, *, negative: bool = False, passive: bool = False, tail: str = ""
    ) -> str:
        """Returns "agent (did not) verb patient" in either voice; `tail` has adjuncts and starts with a space."""
        if passive:
            return self.passive(agent, verb, patient, negative=negative) + tail
        return self.active(agent, verb, self.the(patient) + tail, negative=negative)

    @abstractmethod
    def state(self, noun: Noun, adjective: Adjective, *, negative: bool = False) -> str:
        """Returns "noun is (not) adjective"."""

    @abstractmethod
    def compared(self, noun: Noun, phrase: tuple[str, str], other: Noun) -> str:
        """Returns "noun is older than other", for example."""

    def implied(self, agent: Noun, phrase: str, verb: Verb, rest: str) -> str:
        """Returns "agent managed to verb rest", for example; `rest` is a noun phrase."""
        return f"{self.the(agent)} {phrase} {verb.base} {rest}"

    @abstractmethod
    def earlier(self, agent: Noun, verb: Verb, patient: Noun) -> str:
        """Returns "agent had verbed patient"."""

    @abstractmethod
    def quantified(self, quantifier: Quantifier, noun: Noun, adjective: Adjective, place: str) -> str:
        """Returns "all (at least one, none, not all) of the nouns in the place are adjective"."""

    def counted(self, agent: Noun, verb: Verb, bound: Bound, number: str, noun: Noun) -> str:
        """Returns "agent verb at least number nouns", for example; `number` is in words."""
        return f"{self.the(agent)} {verb.past} {self.bounds[bound]} {number} {noun.plural}"

    @abstractmethod
    def number(self, number: int, noun: Noun) -> str:
        """Returns the number (2 to 10) in words."""

    @abstractmethod
    def some(self, noun: Noun) -> str:
        """Returns the indefinite noun phrase."""

    @abstractmethod
    def any_of(self, noun: Noun, *, under_not: bool) -> str:
        """Returns the indefinite noun phrase after a denied verb (`under_not`) or a verb that denies ("refused to")."""

    @abstractmethod
    def went(self, agent: Noun, start: tuple[str, str], end: tuple[str, str], *, on: bool) -> str:
        """Returns "agent went (on) from one place to another"."""

    @abstractmethod
    def forms(self, key: str, noun: Noun) -> dict[str, str]:
        """Returns the noun's forms for a phrase: {key}, and in Portuguese also {to_key}, {of_key}, {key_art}."""

    @abstractmethod
    def agreeing(self, participle: str, noun: Noun) -> str:
        """Returns the singular participle in the noun's gender."""

    def phrase(self, name: str, words: Mapping[str, str] = MappingProxyType({}), **nouns: Noun) -> str:
        """Fills a phrase of the lexicon with the forms of nouns and with words as they are."""
        forms = dict(words)
        for key, noun in nouns.items():
            forms |= self.forms(key, noun)
        return self.lexicon.phrases[name].format_map(forms)

    def sentence(self, frame: str, *clauses: str) -> str:
        """Fills the frame with clauses and capitalises the sentence."""
        text = frame.format(*clauses)
        return text[0].upper() + text[1:]


class RulePair(NamedTuple):
    """A pair made by a rule.

    Attributes:
        first: Text A.
        second: Text B.
        first_words: Content words of A as dictionary entries; synonyms and antonyms have one entry.
        second_words: Content words of B in the same form.
    """

    first: str
    second: str
    first_words: tuple[str, ...]
    second_words: tuple[str, ...]
