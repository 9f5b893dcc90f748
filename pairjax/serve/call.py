"""One request to a route: its body, the model that it selects, and readers of its fields."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pairjax.base.serve_config import ServeConfig
from pairjax.serve.errors import RequestError
from pairjax.serve.models import Pair, ServedModel, Times

PAIR = 'a pair of texts, such as ["A man is asleep.", "Nobody is awake."] or {"text": ..., "text_pair": ...}'


@dataclass
class Call:
    """A request with a JSON body.

    Attributes:
        body: The JSON object.
        model: The model that answers.
        models: All models, by name.
        config: The server's configuration.
        times: What the answer takes.
        labels: The label and the confidence of each answer, for the metrics.
    """

    body: Mapping[str, Any]
    model: ServedModel
    models: Mapping[str, ServedModel]
    config: ServeConfig
    times: Times = field(default_factory=Times)
    labels: list[tuple[str, float]] = field(default_factory=list)

    def text(self, name: str) -> str:
        """Returns a field that must be a string."""
        value = self.body.get(name)
        if not isinstance(value, str):
            raise _wrong(name, value, "a string")
        return value

    def texts(self, name: str) -> list[str]:
        """Returns a field that must be a list of texts; one string is one text."""
        return self.read_texts(name, self.body.get(name))

    def read_texts(self, name: str, value: object) -> list[str]:
        """Returns a value as a list of texts.

        Args:
            name: Its field, for messages.
            value: One string, or a list of strings or of objects with `text`.
        """
        if isinstance(value, str):
            value = [value]
        if not isinstance(value, list):
            raise _wrong(name, value, "a list of strings")
        self.check_count(name, len(value))
        texts: list[str] = []
        for number, item in enumerate(value):
            text = item.get("text") if isinstance(item, Mapping) else item
            if not isinstance(text, str):
                raise _wrong(f"{name}[{number}]", item, "a string")
            texts.append(text)
        return texts

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Returns a field that must be true or false; null and a missing field are the default."""
        value = self.body.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise _wrong(name, value, "true or false")
        return value

    def count(self, name: str, values: Mapping[str, Any] | None = None) -> int | None:
        """Returns a field that must be a positive integer; None if it is null or missing."""
        value = (self.body if values is None else values).get(name)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise _wrong(name, value, "a positive integer")
        return value

    def choice(self, name: str, choices: Sequence[str], values: Mapping[str, Any] | None = None) -> str | None:
        """Returns a field that must be one of some strings; None if it is null or missing."""
        value = (self.body if values is None else values).get(name)
        if value is None:
            return None
        if value not in choices:
            raise _wrong(name, value, f"one of {', '.join(choices)}")
        return str(value)

    @property
    def truncate(self) -> bool | None:
        """TEI's fields `truncate` and `truncation_direction`; None if the client leaves it to the server."""
        if self.body.get("truncation_direction") is not None:
            direction = str(self.body["truncation_direction"]).lower()
            if direction != "right":
                raise _wrong("truncation_direction", direction, "right: the model cuts as it was trained")
        return None if self.body.get("truncate") is None else self.flag("truncate")

    def parameters(self) -> Mapping[str, Any]:
        """Returns the hub's field `parameters`, an object that may be missing."""
        value = self.body.get("parameters")
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise _wrong("parameters", value, "an object")
        return value

    def refuse(self, *names: str) -> None:
        """Refuses fields that would change the answer and that no model here supports."""
        for name in names:
            if self.body.get(name) is not None:
                raise RequestError("Validation", f"`{name}` is not supported; leave it out")

    def check_count(self, name: str, count: int) -> None:
        """Refuses an empty list, and one that is too long."""
        if count == 0:
            raise RequestError("Empty", f"`{name}` cannot be empty")
        if count > self.config.max_client_batch_size:
            limit = self.config.max_client_batch_size
            raise RequestError("TooLarge", f"`{name}`: batch size {count} > maximum allowed batch size {limit}")

    def pairs(self, name: str) -> tuple[list[Pair], bool]:
        """Returns a field's pairs, and whether it is one pair that is not in a list.

        A list of two strings is one pair, as in TEI.
        """
        value = self.body.get(name)
        if isinstance(value, Mapping) or _is_pair(value):
            return [_pair(name, value)], True
        if not isinstance(value, list):
            raise _wrong(name, value, PAIR)
        self.check_count(name, len(value))
        return [_pair(f"{name}[{number}]", item) for number, item in enumerate(value)], False

    def needs_vectors(self, route: str) -> None:
        """Refuses a model that has no vector for a single text.

        Args:
            route: The route, for the message.
        """
        if not self.model.model.can_embed:
            raise RequestError(
                "Backend",
                f"{route}: the model {self.model.name} reads both texts together and has no vector for one; it "
                "answers /predict, /rerank, /v1/classify",
            )


def _is_pair(value: object) -> bool:
    """Returns whether a value is a list of two strings."""
    return isinstance(value, list) and len(value) == 2 and all(isinstance(text, str) for text in value)


def _pair(name: str, value: object) -> Pair:
    """Returns a value as a pair of texts."""
    if isinstance(value, Mapping) and isinstance(value.get("text"), str) and isinstance(value.get("text_pair"), str):
        return value["text"], value["text_pair"]
    if isinstance(value, list) and _is_pair(value):
        return value[0], value[1]
    raise _wrong(name, value, PAIR)


def _wrong(name: str, value: object, expected: str) -> RequestError:
    """Returns the error for a field of the wrong type."""
    if value is None:
        return RequestError("Validation", f"`{name}` is missing; expected {expected}")
    shown = ascii(value)[:60] if isinstance(value, str | int | float) else f"{type(value).__name__}"
    return RequestError("Validation", f"`{name}`: got {shown}; expected {expected}")
