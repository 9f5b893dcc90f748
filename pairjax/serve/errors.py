"""Errors of requests, in the form of Hugging Face's text-embeddings-inference (TEI).

`{"error": MESSAGE, "error_type": KIND}`
(https://github.com/huggingface/text-embeddings-inference/blob/main/docs/openapi.json).
"""

from typing import Any

STATUS = {
    "Empty": 400,
    "Syntax": 400,
    "Unauthorized": 401,
    "NotFound": 404,
    "Method": 405,
    "Timeout": 408,
    "TooLarge": 413,
    "Validation": 422,
    "Tokenizer": 422,
    "Backend": 424,
    "Overloaded": 429,
    "Unhealthy": 503,
}
"""The HTTP status of each kind of error."""
TEI_NAMES = {"Syntax": "Validation", "TooLarge": "Validation", "NotFound": "Validation", "Method": "Validation"}
"""Kinds that TEI does not have, and the name of the kind that its clients know."""


class RequestError(Exception):
    """An error that a request is answered with.

    Args:
        kind: A key of `STATUS`.
        message: One line that names the field and the remedy.
        retry_after: Seconds after which the client may try again; None if that is of no use.
    """

    def __init__(self, kind: str, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.kind, self.message, self.retry_after = kind, message, retry_after

    @property
    def status(self) -> int:
        """The HTTP status."""
        return STATUS[self.kind]

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer."""
        headers = {} if self.retry_after is None else {"retry-after": str(self.retry_after)}
        return headers | ({"www-authenticate": "Bearer"} if self.kind == "Unauthorized" else {})

    def to_json(self) -> dict[str, Any]:
        """Returns the body of the answer."""
        return {"error": self.message, "error_type": TEI_NAMES.get(self.kind, self.kind)}
