"""What the two grammars and the rules share: word entries, drawing by seed, and the grammar's interface."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeVar

import numpy as np

Item = TypeVar("Item")
Quantifier = Literal["all", "some", "none", "not_all"]
Bound = Literal["exactly", "at_least", "at_most", "more_than", "fewer_than"]


class Draws:
    """Uniform draws by seed, in blocks: a scalar draw from a NumPy generator costs more than a sentence.

    Only PCG64's doubles are used, whose stream NumPy keeps stable; no `hash()`, no set order.
    """

    def __init__(self, seed: Sequence[int]) -> None:
        self._generator = np.random.Generator(np.random.PCG64(list(seed)))
        self._block: list[float] = []

    def uniform(self) -> float:
        """A number in [0, 1)."""
        if not self._block:
            self._block = self._generator.random(8192).tolist()
        return self._block.pop()

    def below(self, limit: int) -> int:
        """An integer in [0, limit)."""
        return int(self.uniform() * limit)

    def coin(self, chance: float = 0.5) -> bool:
        return self.uniform() < chance

    def pick(self, items: Sequence[Item]) -> Item:
        return items[int(self.uniform() * len(items))]

    def several(self, items: Sequence[Item], count: int) -> list[Item]:
        """`count` different items, in random order."""
        chosen: list[Item] = []
        while len(chosen) < count:
            item = items[int(self.uniform() * len(items))]
            if item not in chosen:
                chosen.append(item)
        return chosen

    def another(self, nouns: Sequence["Noun"], noun: "Noun") -> "Noun":
        """A different noun of the same gender, so that no article tells them apart."""
        return self.pick([one for one in nouns if one.gender == noun.gender and one != noun])

    def order(self, count: int) -> list[int]:
        """A permutation of range(count)."""
        return [int(index) for index in self._generator.permutation(count)]


class Noun(NamedTuple):
    """`gender` is grammatical, "m" or "f"; English has the one that its article does not show, and ignores it."""

    singular: str
    plural: str
    gender: str = "m"


class Verb(NamedTuple):
    """One past-tense transitive verb; Portuguese participles are masculine singular here."""

    base: str
    past: str
    participle: str


class Adjective(NamedTuple):
    """Masculine singular, and the form each gender and number takes (English: all alike)."""

    m: str
    f: str
    ms: str
    fs: str


class Opposites(NamedTuple):
    """Complementary adjectives: of the things named with them, each is exactly one of the two."""

    name: str
    first: tuple[Adjective, ...]
    second: tuple[Adjective, ...]

    def side(self, index: int) -> tuple[Adjective, ...]:
        """One of the two, in all its synonyms."""
        return self.first if index == 0 else self.second


class Dimension(NamedTuple):
    """A strict order in words: `more` and `less` stand between two noun phrases and are converses of each other.

    Each is a set of synonyms, in their masculine and feminine by the first noun phrase.
    """

    name: str
    more: tuple[tuple[str, str], ...]
    less: tuple[tuple[str, str], ...]


class Kind(NamedTuple):
    """A hypernym and some of its hyponyms, none of which covers another."""

    name: Noun
    members: tuple[Noun, ...]


class Field(NamedTuple):
    """Things of one kind with the opposites that each of them can be said to have, independently."""

    nouns: tuple[Noun, ...]
    opposites: tuple[Opposites, ...]


class Implicative(NamedTuple):
    """A verb phrase before an infinitive, affirmed and denied.

    Those of `Lexicon.achieve` and `miss` are two-way implicative (Karttunen 1971): managed to entails did, did not
    manage to entails did not; failed to the reverse. Of `intend`, neither form tells; of `decline` only this form.
    """

    affirmed: str
    denied: str


class Change(NamedTuple):
    """Two deeds that undo each other, and the states they leave: who opens it makes it open."""

    things: tuple[Noun, ...]
    opposites: Opposites
    first: Verb
    second: Verb


class Frames(NamedTuple):
    """Sentence templates by kind; `fresh` ones are for dev and test alone where templates are held out.

    {0} and {1} are clauses. `joined` takes a text of two clauses, `single` a first text of one clause, `second` a
    second text of one; `linked` and `next` lead the later sentences of a first text, and its continuation.
    """

    joined: tuple[str, ...]
    single: tuple[str, ...]
    second: tuple[str, ...]
    linked: tuple[str, ...]
    next: tuple[str, ...]


class Lexicon(NamedTuple):
    """All words of a language. A verb's entry is a set of synonyms, any of which may stand for the others.

    Every entry of `renamed_verbs` (things) and `choice_verbs` (indefinite things of any kind) has a synonym.
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
    """Clauses of one language, in lower case and without a full stop; `sentence` finishes them.

    Every clause is in the past tense unless it tells a state, and takes definite noun phrases, so that two clauses
    with the same words speak of the same people, things and occasion.
    """

    lexicon: Lexicon

    @abstractmethod
    def the(self, noun: Noun) -> str:
        """The definite noun phrase."""

    @abstractmethod
    def active(self, agent: Noun, verb: Verb, rest: str, *, negative: bool = False) -> str:
        """Agent did (not) verb `rest`, which is a noun phrase and perhaps adjuncts."""

    @abstractmethod
    def passive(self, agent: Noun, verb: Verb, patient: Noun, *, negative: bool = False) -> str:
        """Patient was (not) verbed by agent."""

    def event(
        self, agent: Noun, verb: Verb, patient: Noun, *, negative: bool = False, passive: bool = False, tail: str = ""
    ) -> str:
        """Agent did (not) verb patient, in either voice; `tail` (adjuncts, led by a blank) ends the clause."""
        if passive:
            return self.passive(agent, verb, patient, negative=negative) + tail
        return self.active(agent, verb, self.the(patient) + tail, negative=negative)

    @abstractmethod
    def state(self, noun: Noun, adjective: Adjective, *, negative: bool = False) -> str:
        """The noun is (not) adjective."""

    @abstractmethod
    def compared(self, noun: Noun, phrase: tuple[str, str], other: Noun) -> str:
        """Noun is older than (...) other."""

    @abstractmethod
    def implied(self, agent: Noun, phrase: str, verb: Verb, rest: str) -> str:
        """Agent managed to (failed to, promised to, did not forget to ...) verb `rest`, which is a noun phrase."""

    @abstractmethod
    def earlier(self, agent: Noun, verb: Verb, patient: Noun) -> str:
        """Agent had verbed patient."""

    @abstractmethod
    def quantified(self, quantifier: Quantifier, noun: Noun, adjective: Adjective, place: str) -> str:
        """All (at least one, none, not all) of the nouns in the place are adjective."""

    @abstractmethod
    def counted(self, agent: Noun, verb: Verb, bound: Bound, number: str, noun: Noun) -> str:
        """Agent verb at least (...) `number`, in words or figures, nouns."""

    @abstractmethod
    def number(self, number: int, noun: Noun) -> str:
        """The number (2 to 10) in words."""

    @abstractmethod
    def some(self, noun: Noun) -> str:
        """The indefinite noun phrase."""

    @abstractmethod
    def any_of(self, noun: Noun, *, under_not: bool) -> str:
        """The indefinite noun phrase under a denied verb, or else under a verb that denies (refused to)."""

    @abstractmethod
    def went(self, agent: Noun, start: tuple[str, str], end: tuple[str, str], *, on: bool) -> str:
        """Agent went (on) from one place to another."""

    @abstractmethod
    def forms(self, key: str, noun: Noun) -> dict[str, str]:
        """The noun's forms that a phrase may name: {key}, {to_key}, {of_key}, and its endings (Portuguese)."""

    @abstractmethod
    def agreeing(self, participle: str, noun: Noun) -> str:
        """The participle in the noun's gender, singular."""

    def phrase(self, name: str, words: Mapping[str, str] = MappingProxyType({}), **nouns: Noun) -> str:
        """A phrase of the lexicon filled with nouns in their forms and with words as they are."""
        forms = dict(words)
        for key, noun in nouns.items():
            forms |= self.forms(key, noun)
        return self.lexicon.phrases[name].format_map(forms)

    def sentence(self, frame: str, *clauses: str) -> str:
        """The frame with its clauses, capitalised."""
        text = frame.format(*clauses)
        return text[0].upper() + text[1:]


class Made(NamedTuple):
    """A pair as a rule makes it.

    Attributes:
        first: A's text.
        second: B's text.
        first_words: A's content words, as dictionary entries; synonyms and antonyms count as one.
        second_words: B's.
    """

    first: str
    second: str
    first_words: tuple[str, ...]
    second_words: tuple[str, ...]
