"""What makes any Keras optimizer follow a plan: every variable's rate and decay are those of its group."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
from keras import ops

from etude.errors import EtudeError, PlanError
from etude.keras.source import Computed, Row, Share, Table


class Work:
    """What a planned optimizer knows beside Keras's own: a plain object, which Keras does not track.

    `owner` maps the path of a variable to the number of its group, `given` is the optimizer that it was as
    Keras saves it. `row` is what the update under way uses
    and `share` what the group in hand does; both are None between updates.
    """

    def __init__(self, source: Computed | Table, owner: Mapping[str, int], given: Mapping[str, Any]):
        self.source, self.owner, self.given = source, owner, given
        self.numbers: list[int] = []
        self.row: Row | None = None
        self.share: Share | None = None
        plan = source.plan
        decay = plan.hypers.get("weight_decay")
        self.decays = [decay is None or decay.peak * x != 0 for x in plan.scale("weight_decay")]


def _decay(name: str) -> property:
    """That of the group in hand if the plan has a weight decay, else what the optimizer was given."""

    def get(self: Any) -> Any:
        share = self._work and self._work.share
        return self.__dict__.get(name) if share is None or share.weight_decay is None else share.weight_decay

    def put(self: Any, value: Any) -> None:
        self.__dict__[name] = value

    return property(get, put)


class Planned(keras.optimizers.Optimizer):
    """Stands before an optimizer's class, and hands each group of variables to it with what they use.

    Keras has its optimizers change variables by `assign`, `assign_add` and `assign_sub` only; that is where a
    group that does not train is held still, moments and all.
    """

    _work: Any = None

    @classmethod
    def bare(cls, config: Any) -> Any:
        """An optimizer of this class as its kind is made, without a plan."""
        return super().from_config(dict(config))

    def build(self, variables: Sequence[Any]) -> None:
        """Make the optimizer's variables. Raises `PlanError` for a variable that is in no group."""
        if self.built:
            return
        work = self._work
        if loose := [one.path for one in variables if one.path not in work.owner]:
            raise PlanError(
                f"in no group of the plan: {', '.join(loose[:8])}; make the optimizer from a plan of this "
                f"model, once all that is to train is trainable"
            )
        work.numbers = [work.owner[one.path] for one in variables]
        work.source.build(self)
        super().build(variables)

    def _backend_apply_gradients(self, grads: Any, trainable_variables: Any) -> None:
        self._work.row = self._work.source.row(ops.convert_to_tensor(self.iterations))
        try:
            super()._backend_apply_gradients(grads, trainable_variables)
        finally:
            self._work.row = None

    @contextmanager
    def _group(self, number: int) -> Iterator[Share]:
        self._work.share = self._work.row.shares[number]
        try:
            yield self._work.share
        finally:
            self._work.share = None

    def _members(self, variables: Sequence[Any]) -> dict[int, list[int]]:
        """Which of these variables are in each group."""
        found: dict[int, list[int]] = {}
        for i, variable in enumerate(variables):
            found.setdefault(self._work.numbers[self._get_variable_index(variable)], []).append(i)
        return found

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable at the rate of its group."""
        with self._group(self._work.numbers[self._get_variable_index(variable)]) as share:
            super().update_step(gradient, variable, share.lr)

    def _parallel_update_step(self, grads: Any, variables: Any, learning_rate: Any) -> None:
        """On the torch back end most optimizers update many variables at once: here those of a group.

        What they keep for all variables together (Nadam's product) advances once, not once a group.
        """
        shared = [one for one in self.variables if one.shape == () and one is not self._iterations]
        held = [ops.copy(one) for one in shared]
        for number, members in self._members(variables).items():
            with self._group(number) as share:
                if not share.open:
                    continue
                for one, value in zip(shared, held, strict=True):
                    one.assign(value)
                super()._parallel_update_step(
                    [grads[i] for i in members], [variables[i] for i in members], share.lr
                )

    def _apply_weight_decay(self, variables: Any) -> None:
        for number, members in self._members(variables).items():
            if self._work.decays[number]:
                with self._group(number):
                    super()._apply_weight_decay([variables[i] for i in members])

    def assign(self, variable: Any, value: Any) -> None:
        """Assign, where the variable's group trains."""
        super().assign(variable, self._if_open(value, variable))

    def assign_add(self, variable: Any, value: Any) -> None:
        """Add, where the variable's group trains."""
        super().assign_add(variable, self._if_open(value, 0))

    def assign_sub(self, variable: Any, value: Any) -> None:
        """Subtract, where the variable's group trains."""
        super().assign_sub(variable, self._if_open(value, 0))

    def _if_open(self, value: Any, otherwise: Any) -> Any:
        share = self._work and self._work.share
        if share is None or share.open is True:
            return value
        return ops.where(share.open, value, otherwise)

    def _get_current_learning_rate(self) -> Any:
        """The rate of the group in hand; between updates the peak × shape that all groups share."""
        if self._work.share is not None:
            return self._work.share.lr
        row = self._work.row or self._work.source.row(ops.convert_to_tensor(self.iterations))
        return row.level

    @property
    def rates(self) -> dict[str, float]:
        """The rate of every group in the next update; a callback gets it from its `self.model`."""
        shares = self._work.source.row(ops.convert_to_tensor(self.iterations)).shares
        names = [group.name for group in self._work.source.plan.groups]
        return {
            name: float(ops.convert_to_numpy(share.lr)) for name, share in zip(names, shares, strict=True)
        }

    @property
    def learning_rate(self) -> Any:
        """The peak × shape that all groups share, of the next update."""
        return self._get_current_learning_rate()

    @learning_rate.setter
    def learning_rate(self, learning_rate: Any) -> None:
        raise EtudeError(
            f"learning_rate = {learning_rate!r}: this optimizer's rates are those of its plan; give it a "
            f"bare plan and a driver, and write driver.edit(Scale(t, by))"
        )

    weight_decay = _decay("weight_decay")
    adam_weight_decay = _decay("adam_weight_decay")  # Muon's, for what it leaves to Adam

    @property
    def iterations(self) -> Any:
        """How many updates were made; while a group that thawed is in hand, how many it has made itself.

        Adam corrects the bias of its moments by this number, and those of such a group are new.
        """
        share = self._work and self._work.share
        return super().iterations if share is None or share.made is None else share.made

    def load_own_variables(self, store: Any) -> None:
        """Load what was saved, but for the rates that a driver wrote."""
        super().load_own_variables(store)
        if isinstance(self._work.source, Table) and self.built:
            self._work.source.clear()
