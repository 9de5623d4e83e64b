"""What a rule says of a curve: a rate with its range, or none with the reason."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from etude.errors import EtudeError
from etude.report.finding_view import written


@dataclass(frozen=True)
class Suggestion:
    """A learning rate, the range it may lie in, and how far to trust it; falsy without a rate.

    `rate`, `low` and `high` are peaks of the plan that was swept (None together); `confidence` is 0 … 1 and 0
    without a rate; `reason` says in words what the rate rests on, or why there is none.

    >>> print(Suggestion(3.2e-4, 1e-4, 8e-4, "consensus", 0.7, "three rules agree"))
    lr=3.2e-4 (1e-4 … 8e-4, consensus, confidence 0.7): three rules agree
    >>> print(no_suggestion("valley", "the curve is flat"))
    no suggestion (valley): the curve is flat
    """

    rate: float | None
    low: float | None
    high: float | None
    rule: str
    confidence: float
    reason: str

    def __post_init__(self) -> None:
        values = (self.rate, self.low, self.high)
        if self.rate is None or self.low is None or self.high is None:
            if values != (None, None, None) or self.confidence != 0:
                raise EtudeError(f"no rate means no range and confidence 0; got {values}, {self.confidence}")
        elif not 0 < self.low <= self.rate <= self.high < float("inf") or not 0 <= self.confidence <= 1:
            raise EtudeError(
                f"a suggestion needs 0 < low <= rate <= high and 0 <= confidence <= 1; "
                f"got low={self.low}, rate={self.rate}, high={self.high}, confidence={self.confidence}"
            )

    def __bool__(self) -> bool:
        return self.rate is not None

    def __str__(self) -> str:
        return f"{self.title}: {self.reason}"

    @property
    def title(self) -> str:
        """What to write, and how sure that is, without the reason."""
        if self.rate is None:
            return f"no suggestion ({self.rule})"
        span = f"{written(self.low)} … {written(self.high)}"
        return f"lr={written(self.rate)} ({span}, {self.rule}, confidence {self.confidence:.1f})"

    def to_dict(self) -> dict[str, Any]:
        """The fields as strict JSON holds them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Suggestion":
        """What `to_dict` gave."""
        return cls(**values)


def no_suggestion(rule: str, reason: str) -> Suggestion:
    """The suggestion of a rule that found no rate, and why."""
    return Suggestion(None, None, None, rule, 0.0, reason)
