"""Configuration of the server (`pairjax serve`). Imports no JAX."""

import ipaddress
import math
from dataclasses import dataclass

from pairjax.base.errors import UserError
from pairjax.base.fields import CheckedConfig
from pairjax.base.optim_config import at_least


@dataclass(frozen=True)
class ServeConfig(CheckedConfig):
    """How to serve models over HTTP."""

    host: str = "127.0.0.1"
    """Address to listen on. An address that other machines can reach needs --api-key."""
    port: int = 8080
    """Port to listen on; 0 takes a free one."""
    api_key: str | None = None
    """Key that clients must send as `Authorization: Bearer KEY`. By default the environment variable
    PAIRJAX_API_KEY, which other users of the machine cannot see."""
    require_key: bool = False
    """Refuse to start without a key on an address that other machines can reach; by default that is a warning."""
    cors_origins: tuple[str, ...] = ()
    """Origins (https://example.org) whose pages may call the server; * for all."""
    batch_size: int = 16
    """Largest number of rows in a compiled batch. Shapes up to this size are compiled at the start."""
    max_batch_tokens: int = 4096
    """Largest number of tokens that are taken from the queue at once."""
    max_wait_ms: float = 2.0
    """Time that a request waits for others to share its batch, in milliseconds."""
    max_concurrent_requests: int = 512
    """Requests that are worked on or wait; further ones are answered with 429."""
    max_queue: int = 4096
    """Pairs that may wait for the device; requests that exceed it are answered with 429."""
    max_client_batch_size: int = 1000
    """Largest number of pairs or texts in a request; more are answered with 413."""
    max_explained: int = 8
    """Largest number of pairs in a request to /v1/explain; 0 turns the route off, and the start is faster."""
    max_body_bytes: int = 2_000_000
    """Largest body of a request; larger ones are answered with 413."""
    body_timeout: float = 10.0
    """Seconds within which a request's body must arrive."""
    timeout: float = 30.0
    """Seconds after which a request is answered with 503."""
    drain_timeout: float = 30.0
    """Seconds that accepted requests may take after SIGTERM."""
    min_confidence: float = 0.0
    """/v1/classify abstains if the largest probability is below this."""
    log_texts: bool = False
    """Also write the texts of requests to the log."""
    access_log: bool = True
    """Write a JSON line to standard error for each request."""

    def check(self) -> None:
        if not 0 <= self.port <= 65535:
            raise UserError("--port is out of range", got=self.port, expected="0 to 65535")
        names = ("batch_size", "max_batch_tokens", "max_concurrent_requests", "max_queue", "max_client_batch_size")
        for name in (*names, "max_body_bytes"):
            at_least(name.replace("_", "-"), getattr(self, name), 1)
        at_least("max-explained", self.max_explained, 0)
        for name in ("body_timeout", "timeout", "drain_timeout"):
            if getattr(self, name) <= 0:
                raise UserError(f"--{name.replace('_', '-')} is too small", got=getattr(self, name), expected="above 0")
        if not (math.isfinite(self.max_wait_ms) and 0 <= self.max_wait_ms <= 1000):
            raise UserError("--max-wait-ms is out of range", got=self.max_wait_ms, expected="0 to 1000")
        if not 0 <= self.min_confidence <= 1:
            raise UserError("--min-confidence is not a probability", got=self.min_confidence, expected="0 to 1")
        if self.api_key is not None and (not self.api_key.strip() or not self.api_key.isascii()):
            raise UserError("--api-key is empty or not ASCII", fix="choose a key of letters and digits")

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the address."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
