"""A plan of some of a model's parameters, for one of several optimizers."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from etude.core.plan import Group, Plan


class PartialPlan(Plan):
    """A plan that leaves parameters to another one: `left_out` are their names."""

    def __init__(
        self, hypers: Mapping[str, Any], groups: Iterable[Group], tick: float, left_out: Iterable[str]
    ):
        super().__init__(hypers, groups, tick)
        self.left_out = frozenset(left_out)

    def torch_groups(self, model: Any) -> list[dict[str, Any]]:
        """The groups of this plan; see `Plan.torch_groups`."""
        return super().torch_groups(_Part(model, self.left_out))


class _Part:
    """A model without the parameters that another plan drives."""

    def __init__(self, model: Any, left_out: frozenset[str]):
        self.model, self.left_out = model, left_out

    def named_parameters(self) -> Iterator[tuple[str, Any]]:
        return ((name, p) for name, p in self.model.named_parameters() if name not in self.left_out)
