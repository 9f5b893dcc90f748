"""Similarity: two tellings of a deed that differ in a known number of places, scored 0 to 5 by those they share."""

from pairjax.data.rules.words import Draws, Frames, Grammar, Made

SLOTS = 5
SCORES = tuple(float(score) for score in range(SLOTS + 1))


def slots(grammar: Grammar, draws: Draws, frames: Frames, score: float) -> Made:
    """Doer, deed, thing, place and time: one point for each that is the same; a synonym, the voice and where the time
    stands change nothing."""
    lexicon = grammar.lexicon
    people, things = draws.several(lexicon.people, 2), draws.several(lexicon.things, 2)
    places, times = draws.several(lexicon.places, 2), draws.several(lexicon.times, 2)
    verbs = draws.several(lexicon.thing_verbs, 2)
    kept = set(draws.several(range(SLOTS), int(score)))
    voice, fronted = draws.coin(0.3), draws.coin()

    def told(second: int, passive: bool, front: bool) -> tuple[str, tuple[str, ...]]:
        who, deed, what, where, when = (0 if slot in kept else second for slot in range(SLOTS))
        verb = draws.pick(verbs[deed])
        tail = f" {places[where][0]}" + ("" if front else f" {times[when]}")
        clause = grammar.event(people[who], verb, things[what], passive=passive, tail=tail)
        if front:
            clause = grammar.phrase("fronted", {"time": times[when], "clause": clause})
        words = people[who].singular, verbs[deed][0].base, things[what].singular, places[where][1], times[when]
        return clause, words

    # The two always differ in form, or the most similar pairs would be one text twice.
    change_voice = draws.coin()
    first, first_words = told(0, voice ^ change_voice, fronted ^ (not change_voice))
    second, second_words = told(1, voice, fronted)
    return Made(
        grammar.sentence(draws.pick(frames.single), first),
        grammar.sentence(draws.pick(frames.second), second),
        first_words,
        second_words,
    )
