"""The "params" of a block of DeepSpeed's configuration, and what is drawn from them."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from etude.convert.parts import mapping
from etude.convert.pieces import Piece
from etude.convert.values import number, read, whole
from etude.errors import RecipeError


class Drawn(NamedTuple):
    """What a scheduler says: the peak, the pieces of the rate, its traps, its total, and of the momentum."""

    peak: float
    pieces: list[Piece]
    traps: list[str]
    total: float | None = None
    momentum: list[Piece] | None = None


class Params:
    """The "params" of a block. `lr` and `total` are those of the run, None where nobody said.

    What is "auto" Hugging Face fills in from its own arguments (transformers 5.23,
    `integrations/deepspeed.py`): the peak, the total, 0 for where the warm-up starts; the rest must be said.
    """

    def __init__(self, block: Any, lr: float | None, total: float | None):
        found = mapping("params", block.get("params") if isinstance(block, Mapping) else None)
        filled = {"lr": lr, "warmup_max_lr": lr, "warmup_min_lr": 0.0, "total_num_steps": total}
        said = {key: filled.get(key) if value == "auto" else value for key, value in found.items()}
        self.said = {key: value for key, value in said.items() if value is not None}
        self.open = {key for key, value in found.items() if value == "auto"} - self.said.keys()
        self.lr, self.total = lr, total

    def number(self, key: str, usual: float | None = None, kind: Callable[[Any], Any] = number) -> Any:
        """A number of 0 or more; raises `RecipeError` for a list, which has one for each group."""
        if isinstance(self.said.get(key), list):
            raise RecipeError(f"{key}: got {self.said[key]!r}, one for each group; write one for all")
        if key in self.open:
            raise RecipeError(f'{key} is "auto", which Hugging Face fills in; write its number')
        if key not in self.said and usual is None:
            raise RecipeError(f"{key} is not said; write its number")
        return read(key, self.said.get(key, usual), kind)

    def peak(self, key: str, usual: float | None = None) -> float:
        """A rate above 0, of which others are levels."""
        rate = self.number(key, usual)
        if not rate:
            raise RecipeError(f"{key}: got {rate!r}; a peak is above 0")
        return rate

    def updates(self, key: str, usual: int) -> int:
        """A number of updates of at least 1."""
        return read(key, self.number(key, usual, whole), whole, low=1)
