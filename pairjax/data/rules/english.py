"""The English lexicon and grammar of the rule-made pairs."""

from pairjax.data.rules.entries import parse_dimensions, parse_opposites, parse_verbs
from pairjax.data.rules.words import (
    Adjective,
    Bound,
    Change,
    Dimension,
    Field,
    Frames,
    Grammar,
    Implicative,
    Kind,
    Lexicon,
    Noun,
    Opposites,
    Quantifier,
    Verb,
)

VOWELS = "aeiou"
IRREGULAR_PLURALS = {"knife": "knives", "goose": "geese", "sheep": "sheep", "mouse": "mice"}
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
BOUNDS: dict[Bound, str] = {
    "exactly": "exactly",
    "at_least": "at least",
    "at_most": "at most",
    "more_than": "more than",
    "fewer_than": "fewer than",
}
QUANTIFIERS: dict[Quantifier, str] = {
    "all": "all of the",
    "some": "at least one of the",
    "none": "none of the",
    "not_all": "not all of the",
}


def _plural(word: str) -> str:
    """Returns the plural of a noun."""
    if word in IRREGULAR_PLURALS:
        return IRREGULAR_PLURALS[word]
    if word.endswith("y") and word[-2] not in VOWELS:
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "x", "ch", "sh")) else "s")


def _nouns(words: str) -> tuple[Noun, ...]:
    """Parses nouns; "_" is a space."""
    return tuple(Noun(word.replace("_", " "), _plural(word.replace("_", " "))) for word in words.split())


def _verb(entry: str) -> Verb:
    """Parses a verb: "fix" is regular, "draw:drew:drawn" is not, and neither is "hug:hugged:hugged"."""
    if ":" in entry:
        return Verb(*entry.split(":"))
    past = entry + "d" if entry.endswith("e") else entry + "ed"
    if entry.endswith("y") and entry[-2] not in VOWELS:
        past = entry[:-1] + "ied"
    return Verb(entry, past, past)


def _verbs(entries: str) -> tuple[tuple[Verb, ...], ...]:
    """Parses groups of synonyms."""
    return parse_verbs(entries, _verb)


def _opposites(entries: str) -> tuple[Opposites, ...]:
    """Parses opposites; adjectives do not inflect."""
    return parse_opposites(entries, lambda word: Adjective(word, word, word, word))


def _kinds(entries: str) -> tuple[Kind, ...]:
    """Parses "hypernym:hyponym,hyponym"."""
    split = (entry.split(":") for entry in entries.split())
    return tuple(Kind(_nouns(name)[0], _nouns(members.replace(",", " "))) for name, members in split)


def _dimensions(entries: str) -> tuple[Dimension, ...]:
    """Parses dimensions; phrases do not inflect."""
    return parse_dimensions(entries, lambda text: (text, text))


PEOPLE = _nouns(
    "nurse pilot doctor clerk teacher farmer baker lawyer singer waiter driver painter gardener guard judge sailor "
    "actor author banker barber butcher carpenter chemist coach dancer dentist diver drummer editor electrician "
    "engineer fisherman florist geologist hunter janitor jeweller journalist juggler librarian magician mayor mechanic "
    "miner monk novelist pharmacist philosopher photographer plumber poet potter priest professor prince queen "
    "reporter scientist sculptor secretary senator shepherd soldier student surgeon tailor translator violinist "
    "weaver widow witness wrestler".replace("fisherman ", "").replace("monk novelist painter", "monk novelist")
)
THING_VERBS = _verbs(
    "repair/fix buy:bought:bought/purchase hide:hid:hidden/conceal draw:drew:drawn/sketch examine/inspect "
    "choose:chose:chosen/select destroy/demolish clean paint carry photograph measure move wash describe "
    "sell:sold:sold steal:stole:stolen borrow wrap:wrapped:wrapped weigh lift film order return test cover polish "
    "touch copy:copied:copied decorate restore insure exhibit/display rent/hire"
)
COUNTED = _nouns(
    "apple pear orange lemon peach plum fig melon carrot onion potato cucumber pepper banana apricot mango turnip "
    "pumpkin tomato egg"
)
COUNTED = tuple(
    noun._replace(plural=noun.singular + "es") if noun.singular.endswith("ato") else noun for noun in COUNTED
)
KINDS = _kinds(
    "animal:dog,cat,horse,goat,rabbit,fox,donkey,wolf,cow,bear flower:rose,tulip,lily,daisy,orchid,violet,carnation "
    "vehicle:car,bus,truck,tractor,tram,motorcycle tool:hammer,saw,axe,spade,drill,wrench,chisel "
    "musical_instrument:guitar,violin,piano,flute,trumpet,harp,drum weapon:sword,dagger,rifle,pistol,spear,cannon "
    "boat:canoe,ferry,trawler,yacht,gondola bird:sparrow,eagle,owl,parrot,swan,duck,pigeon "
    "tree:oak,birch,willow,maple,cedar,poplar insect:bee,ant,wasp,beetle,butterfly,fly,cricket"
)
KINDS = tuple(
    kind._replace(members=tuple(n._replace(plural="wolves") if n.singular == "wolf" else n for n in kind.members))
    for kind in KINDS
)
REMEMBER = Implicative("remembered to", "did not remember to")
FORGET = Implicative("forgot to", "did not forget to")
LEXICON = Lexicon(
    people=PEOPLE,
    things=_nouns(
        "lamp clock chair table box guitar bicycle umbrella suitcase mirror radio basket blanket bench boat carpet "
        "camera candle coat drum flag hat kettle kite ladder map necklace oven piano pillow plate poster ring scarf "
        "shirt sofa telescope toy trumpet typewriter vase violin wheel"
    ),
    # No place is inside another: "no dog in the hotel" must say nothing about "a dog in the library".
    places=tuple(
        (f"in the {word}", word)
        for word in [
            "library",
            "museum",
            "harbour",
            "station",
            "hospital",
            "church",
            "hotel",
            "school",
            "theatre",
            "castle",
            "bakery",
            "prison",
            "barn",
            "tavern",
            "laboratory",
            "pharmacy",
            "factory",
            "mill",
            "stadium",
            "cinema",
            "embassy",
            "monastery",
            "airport",
            "lighthouse",
            "palace",
            "gallery",
            "bank",
            "circus",
        ]
    ),
    times=tuple(f"on {day}" for day in ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"])
    + tuple(f"in {month}" for month in ["January", "March", "April", "June", "July", "August", "October", "November"]),
    person_verbs=_verbs(
        "thank praise/commend follow help/assist invite call/phone push interview photograph greet/welcome "
        "warn/caution ignore criticise blame forgive:forgave:forgiven imitate interrupt hire/employ accuse protect "
        "watch/observe deceive/trick applaud rescue/save teach:taught:taught/instruct guide frighten/scare "
        "wake:woke:woken insult console/comfort defend mock/ridicule pay:paid:paid question surprise "
        "copy:copied:copied attack chase touch kick bribe punish reward cure/heal lift describe annoy/irritate"
    ),
    thing_verbs=THING_VERBS,
    count_verbs=_verbs(
        "buy:bought:bought/purchase sell:sold:sold eat:ate:eaten find:found:found pick/gather wash carry "
        "steal:stole:stolen weigh peel drop:dropped:dropped order"
    ),
    renamed_verbs=tuple(verbs for verbs in THING_VERBS if len(verbs) > 1),
    choice_verbs=_verbs(
        "buy:bought:bought/purchase draw:drew:drawn/sketch examine/inspect choose:chose:chosen/select film/record "
        "exhibit/display"
    ),
    counted=COUNTED,
    kinds=KINDS,
    fields=(
        Field(
            PEOPLE,
            _opposites(
                "awake/asleep|sleeping armed/unarmed married/unmarried|single insured/uninsured "
                "employed/unemployed|jobless vaccinated|immunised/unvaccinated"
            ),
        ),
        Field(
            _nouns("box suitcase drawer chest crate cupboard trunk parcel safe jar casket handbag"),
            _opposites("open/closed|shut damaged/undamaged|intact painted/unpainted insured/uninsured"),
        ),
        Field(
            _nouns("lamp radio heater oven computer television printer fan projector kettle scanner loudspeaker"),
            _opposites("switched_on|turned_on/switched_off|turned_off damaged/undamaged|intact insured/uninsured"),
        ),
        Field(
            _nouns("letter contract report poem script treaty will petition diary novel manuscript essay"),
            _opposites(
                "signed/unsigned finished|completed/unfinished|incomplete legible|readable/illegible|unreadable "
                "published/unpublished"
            ),
        ),
    ),
    dimensions=_dimensions(
        "is older than/is younger than; is taller than/is shorter than; is heavier than/is lighter than; arrived "
        "before/arrived after; earns more than/earns less than; woke up before/woke up after; is richer than|is "
        "wealthier than/is poorer than|is less wealthy than; is faster than|is quicker than/is slower than|is less "
        "quick than; is stronger than|is more powerful than/is weaker than|is less powerful than; is braver than|is "
        "more courageous than/is less brave than|is less courageous than; is cleverer than|is smarter than/is less "
        "clever than|is less smart than; is more polite than|is more courteous than/is less polite than|is less "
        "courteous than; is more famous than|is better known than/is less famous than|is less well known than; is "
        "lazier than|is more idle than/is less lazy than|is less idle than; is calmer than|is more relaxed than/is "
        "less calm than|is less relaxed than; is stricter than|is more severe than/is less strict than|is less severe "
        "than; left before|departed before/left after|departed after; spoke before|talked before/spoke after|talked "
        "after"
    ),
    achieve=(Implicative("managed to", "did not manage to"), REMEMBER),
    miss=(Implicative("failed to", "did not fail to"), FORGET, Implicative("neglected to", "did not neglect to")),
    intend=(
        Implicative("promised to", "did not promise to"),
        Implicative("planned to", "did not plan to"),
        Implicative("offered to", "did not offer to"),
    ),
    decline=(
        "failed to",
        "refused to",
        "declined to",
    ),
    knows=("knew that", "discovered that", "rightly believed that"),
    errs=("wrongly believed that", "falsely claimed that", "mistakenly thought that"),
    claims=("believed that", "claimed that", "thought that", "hoped that"),
    remember=REMEMBER,
    forget=FORGET,
    changes=(
        Change(
            _nouns("box suitcase drawer chest crate cupboard window door gate umbrella"),
            _opposites("open/closed")[0],
            _verb("open"),
            _verb("close"),
        ),
        Change(
            _nouns("door gate safe garage cellar cabin shop office"),
            _opposites("locked/unlocked")[0],
            _verb("lock"),
            _verb("unlock"),
        ),
        Change(
            _nouns("lamp radio heater oven computer television printer fan"),
            _opposites("switched_on/switched_off")[0],
            Verb("switch on", "switched on", "switched on"),
            Verb("switch off", "switched off", "switched off"),
        ),
        Change(
            _nouns("tank bucket bathtub barrel basket sack jug bottle"),
            _opposites("full/empty")[0],
            _verb("fill"),
            _verb("empty"),
        ),
    ),
    phrases={
        "sold": "{a} sold {x} to {b}",
        "owns": "{x} belongs to {b}",
        "is_in": "{a} is {at}",
        "arrived": "first {a} arrived, then {b}, and finally {c}",
        "first": "{a} was the first to arrive",
        "last": "{a} was the last to arrive",
        "after": "having {participle} {x}, {a} went home",
        "forgot": "{a} meant to {base} {x} and {y}, but forgot {z}",
        "only": "only {x} was {participle}",
        "fronted": "{time}, {clause}",
    },
    train_frames=Frames(
        joined=("{0}, but {1}.", "{0}, and {1}.", "{0}, while {1}."),
        single=("{0}.", "{0}.", "in fact, {0}."),
        second=("{0}.", "{0}.", "clearly, {0}."),
        linked=("then {0}.", "after that, {0}."),
        next=("now {0}.", "so {0}."),
    ),
    fresh_frames=Frames(
        joined=("{0}, whereas {1}.", "{0}; {1}."),
        single=("as we know, {0}.", "certainly, {0}."),
        second=("in short, {0}.", "of course, {0}."),
        linked=("later, {0}.", "soon afterwards, {0}."),
        next=("as a result, {0}.", "therefore, {0}."),
    ),
)


class English(Grammar):
    """Builds English clauses."""

    lexicon = LEXICON
    bounds = BOUNDS

    def the(self, noun: Noun) -> str:
        return f"the {noun.singular}"

    def some(self, noun: Noun) -> str:
        return f"{'an' if noun.singular[0] in VOWELS else 'a'} {noun.singular}"

    def any_of(self, noun: Noun, *, under_not: bool) -> str:
        return f"any {noun.singular}"

    def active(self, agent: Noun, verb: Verb, rest: str, *, negative: bool = False) -> str:
        return f"the {agent.singular} {f'did not {verb.base}' if negative else verb.past} {rest}"

    def passive(self, agent: Noun, verb: Verb, patient: Noun, *, negative: bool = False) -> str:
        return f"the {patient.singular} was {'not ' if negative else ''}{verb.participle} by the {agent.singular}"

    def state(self, noun: Noun, adjective: Adjective, *, negative: bool = False) -> str:
        return f"the {noun.singular} is {'not ' if negative else ''}{adjective.m}"

    def compared(self, noun: Noun, phrase: tuple[str, str], other: Noun) -> str:
        return f"the {noun.singular} {phrase[0]} the {other.singular}"

    def earlier(self, agent: Noun, verb: Verb, patient: Noun) -> str:
        return f"the {agent.singular} had {verb.participle} the {patient.singular}"

    def quantified(self, quantifier: Quantifier, noun: Noun, adjective: Adjective, place: str) -> str:
        copula = "is" if quantifier in ("none", "some") else "are"
        return f"{QUANTIFIERS[quantifier]} {noun.plural} {place} {copula} {adjective.m}"

    def number(self, number: int, noun: Noun) -> str:
        return NUMBERS[number]

    def went(self, agent: Noun, start: tuple[str, str], end: tuple[str, str], *, on: bool) -> str:
        return f"the {agent.singular} went {'on ' if on else ''}from the {start[1]} to the {end[1]}"

    def forms(self, key: str, noun: Noun) -> dict[str, str]:
        return {key: f"the {noun.singular}"}

    def agreeing(self, participle: str, noun: Noun) -> str:
        return participle
