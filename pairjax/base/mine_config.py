"""Configuration of the mining of hard negatives."""

from dataclasses import dataclass
from typing import Literal

from pairjax.base.errors import UserError
from pairjax.base.fields import CheckedConfig
from pairjax.base.optim_config import at_least, check_seed


@dataclass(frozen=True)
class MineConfig(CheckedConfig):
    """Which candidates become negatives. Ranks and scores are those of the bi-encoder's cosine."""

    negatives: int = 3
    """Most negatives of a pair."""
    first_rank: int = 1
    """First rank that may be a negative, from 1. The nearest candidates are often matches that nobody labelled."""
    last_rank: int = 50
    """Last rank that may be a negative."""
    margin: float = 0.0
    """A negative's score must be lower than that of the match by this much."""
    relative_margin: float = 0.0
    """A negative's score must be lower than that of the match by this share of it."""
    max_score: float | None = None
    """Highest score of a negative."""
    sampling: Literal["top", "random"] = "top"
    """top: the highest ranks that are left; random: any of them."""
    seed: int = 0
    """Seeds the random choice."""

    def check(self) -> None:
        at_least("negatives", self.negatives, 1)
        at_least("first-rank", self.first_rank, 1)
        at_least("last-rank", self.last_rank, self.first_rank)
        at_least("margin", self.margin, 0)
        check_seed("seed", self.seed)
        if not 0.0 <= self.relative_margin < 1.0:
            raise UserError("--relative-margin is out of range", got=self.relative_margin, expected="0 <= value < 1")
