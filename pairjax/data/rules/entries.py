"""Parses the word entries of both lexicons; each language passes its own inflection."""

from collections.abc import Callable

from pairjax.data.rules.words import Adjective, Dimension, Opposites, Verb


def parse_verbs(entries: str, parse_verb: Callable[[str], Verb]) -> tuple[tuple[Verb, ...], ...]:
    """Parses groups of verbs: a space separates groups, "/" the synonyms of a group.

    Args:
        entries: The groups.
        parse_verb: Parses one verb.
    """
    return tuple(tuple(parse_verb(entry) for entry in group.split("/")) for group in entries.split())


def parse_opposites(entries: str, inflect: Callable[[str], Adjective]) -> tuple[Opposites, ...]:
    """Parses opposites: "closed|shut" are synonyms, "open/closed" opposites, "_" is a space.

    Args:
        entries: The opposites, which a space separates.
        inflect: Returns the forms of an adjective.
    """
    sides = ([side.replace("_", " ").split("|") for side in entry.split("/")] for entry in entries.split())
    return tuple(
        Opposites(first[0], *(tuple(inflect(word) for word in side) for side in (first, second)))
        for first, second in sides
    )


def parse_dimensions(entries: str, inflect: Callable[[str], tuple[str, str]]) -> tuple[Dimension, ...]:
    """Parses dimensions: "more|synonym/less|synonym", which ";" separates.

    Args:
        entries: The dimensions.
        inflect: Returns the forms of a phrase for a masculine and a feminine first noun phrase.
    """
    split = ([side.split("|") for side in entry.strip().split("/")] for entry in entries.split(";"))
    return tuple(
        Dimension(more[0], *(tuple(inflect(text) for text in side) for side in (more, less))) for more, less in split
    )
