"""Makes similarity pairs: two descriptions of an event, scored 0 to 5 by the number of slots that they share."""

from pairjax.data.rules.words import Draws, Frames, Grammar, RulePair

SLOTS = 5
SCORES = tuple(float(score) for score in range(SLOTS + 1))


def slots(grammar: Grammar, draws: Draws, frames: Frames, score: float) -> RulePair:
    """Makes a pair whose score is the number of equal slots: agent, action, thing, place and time.

    A synonym, the voice and the position of the time do not change the score.
    """
    lexicon = grammar.lexicon
    people, things = draws.several(lexicon.people, 2), draws.several(lexicon.things, 2)
    places, times = draws.several(lexicon.places, 2), draws.several(lexicon.times, 2)
    verbs = draws.several(lexicon.thing_verbs, 2)
    shared = set(draws.several(range(SLOTS), int(score)))
    voice, fronted = draws.coin(0.3), draws.coin()

    def describe(second: int, passive: bool, front: bool) -> tuple[str, tuple[str, ...]]:
        """Returns a clause and its content words; `second` (0 or 1) chooses the words of slots that are not shared."""
        agent, action, thing, place, time = (0 if slot in shared else second for slot in range(SLOTS))
        verb = draws.pick(verbs[action])
        tail = f" {places[place][0]}" + ("" if front else f" {times[time]}")
        clause = grammar.event(people[agent], verb, things[thing], passive=passive, tail=tail)
        if front:
            clause = grammar.phrase("fronted", {"time": times[time], "clause": clause})
        words = people[agent].singular, verbs[action][0].base, things[thing].singular, places[place][1], times[time]
        return clause, words

    # The two always differ in form; otherwise the most similar pairs would be the same text twice.
    change_voice = draws.coin()
    first, first_words = describe(0, voice ^ change_voice, fronted ^ (not change_voice))
    second, second_words = describe(1, voice, fronted)
    return RulePair(
        grammar.sentence(draws.pick(frames.single), first),
        grammar.sentence(draws.pick(frames.second), second),
        first_words,
        second_words,
    )
