"""A torch scheduler over a driver, for code that insists on one."""

import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from etude.control.agreement import Gather
from etude.control.controller import Action, Controller
from etude.control.driver import Driver
from etude.control.reading import READINGS, SHARE
from etude.core.edit import Edit
from etude.core.rates import Rates
from etude.errors import EtudeWarning, PlanError, PlanMismatch, ScheduleError
from etude.torch.sink import sink
from etude.torch.wrappers import core

OnMismatch = str | Callable[[float, float], Edit] | None


class LRScheduler(torch.optim.lr_scheduler.LRScheduler):
    """A driver with the face of a torch scheduler; it computes nothing itself.

    `rates` is a plan bound to its run, `plan.over(total)`, or a `Driver` of this optimizer; `controllers`,
    `reduce`, `gather` and `foreign` are those of `Driver`. `step()` after an update writes the rates of the
    next one, which begins at `last_epoch`; `step(k)` goes to update k. In a loop that steps once an epoch,
    `total` is a number of epochs. `on_mismatch` is for hosts that load a state without a word: "checkpoint"
    or "recipe", as in `Driver.load_state_dict`, or what goes on the checkpoint's plan, as in
    `lambda t, total: Stretch(t, total)`, where `total` is this run's.

    The clock belongs to the weights. Once the optimizer has been seen to make updates, a `step()` with none
    since the last one leaves the rate where it is, and the first time an `EtudeWarning` says so: gradients
    were being accumulated, GradScaler skipped the update, or accelerate calls once per process. When the
    optimizer's state is loaded its rates are written anew, so that build, load and load may come in any
    order. After the end the rate stays. Raises `PlanError` for rates that are not bound to a run, or that
    are another optimizer's.

    >>> import etude
    >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    >>> scheduler = LRScheduler(optimizer, etude.Plan({"lr": "0.1 * linear()"}, tick=0).over(4))
    >>> for _ in range(3):
    ...     optimizer.step()
    ...     scheduler.step()
    >>> scheduler
    LRScheduler(0.1 * linear(), update 3 of 4, lr 0.025)
    """

    # torch's own constructor would write `initial_lr` into the groups and replace `optimizer.step`.
    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        rates: Rates | Driver,
        controllers: Sequence[Controller] = (),
        *,
        reduce: Callable[[dict[str, float]], dict[str, float]] | None = None,
        gather: Gather | None = None,
        foreign: str = "raise",
        on_mismatch: OnMismatch = None,
    ):
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise PlanError(
                f"LRScheduler takes an optimizer first, got {type(optimizer).__name__}: "
                f"write LRScheduler(optimizer, plan.over(total))"
            )
        if isinstance(rates, Rates):
            rates = Driver(rates, sink(optimizer), controllers, reduce=reduce, gather=gather, foreign=foreign)
        elif not isinstance(rates, Driver):
            raise PlanError(
                f"LRScheduler needs to know the run, got {type(rates).__name__} {rates}: "
                f"write LRScheduler(optimizer, plan.over(total)), with plan = etude.plan(model, …)"
            )
        elif controllers or reduce is not None or gather is not None or foreign != "raise":
            raise PlanError(
                "a driver has its own controllers, reduce, gather and foreign: give them to Driver(…)"
            )
        self._attach(optimizer, rates)
        self.on_mismatch = on_mismatch
        self.last_epoch = 0
        self._step_count = 1
        self.driver.apply(0)

    def _attach(self, optimizer: torch.optim.Optimizer, driver: Driver) -> None:
        held, inner = getattr(driver.sink, "optimizer", None), core(optimizer)
        if held is None or core(held) is not inner:
            raise PlanError(
                "this driver writes into another optimizer: write Driver(rates, etude.torch.sink(optimizer))"
            )
        self.optimizer = optimizer
        self.driver = driver
        self._said: set[str] = set()
        self._begun = False  # the optimizer has been seen to update
        # Whether all calls of optimizer.step() since the last step() were skipped; None without a call.
        self._skipped: Any = None
        self._dropped = False
        this = weakref.ref(self)  # an optimizer that is scheduled anew lets go of the scheduler before

        def updated(inner: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
            if (scheduler := this()) is not None:
                scheduler._begun = True
                # A fused optimizer skips an update by itself, when GradScaler has put a 1 here.
                before = 1 if scheduler._skipped is None else scheduler._skipped
                scheduler._skipped = before * getattr(inner, "found_inf", 0)

        def loaded(inner: torch.optim.Optimizer) -> None:
            if (scheduler := this()) is not None:
                scheduler.driver.apply(scheduler.last_epoch)

        inner.register_step_post_hook(updated)
        inner.register_load_state_dict_post_hook(loaded)

    def step(self, epoch: int | None = None) -> None:
        """Write the rates of the next update, or of the update that begins at `epoch`."""
        skipped, self._skipped = self._skipped, None
        if self._dropped:
            skipped, self._dropped = True, False
        if epoch is not None:
            if not epoch >= 0:
                raise ScheduleError(f"step({epoch}) takes the number of an update, 0 or more")
            self.last_epoch = epoch
        elif not self._begun or (skipped is not None and not skipped):
            self.last_epoch += 1
        elif skipped is None:
            self._say(
                "step() was called without an update of the optimizer since the last call; the rate waits "
                "for the update. Call it after each real update, outside accelerator.prepare; step(k) goes "
                "to update k"
            )
        if self.last_epoch >= self.driver.total + 1:
            self._say(
                "the run goes on after the end of its plan, and the rates stay where they ended: bind the "
                "plan to all updates, plan.over(total), or extend it: edit(Redraw(at, path, total))"
            )
        self._step_count += 1
        self.driver.apply(self.last_epoch)

    def drop(self, dropped: bool = True) -> None:
        """Say that the update under way will change nothing, though the optimizer may be called for it.

        The call of `step` that follows leaves the clock, and readings of the update may be made anew. Where
        that call never came, because GradScaler skipped the update as well, `drop(False)` takes it back.
        """
        self._dropped = dropped
        if dropped:
            self.driver.forget([*READINGS, SHARE])

    def _say(self, message: str) -> None:
        if message not in self._said:
            self._said.add(message)
            warnings.warn(message, EtudeWarning, stacklevel=3)

    def observe(self, reading: Mapping[str, float], *, alike: bool = False) -> tuple[Action, ...]:
        """Hand a reading of the present weights to the controllers, and write the rates that follow."""
        actions = self.driver.observe(self.last_epoch, reading, alike=alike)
        self.driver.apply(self.last_epoch)
        return actions

    def edit(self, one: Edit) -> None:
        """Change the rates from `one.at` on, and write them if that is now."""
        self.driver.edit(one)
        self.driver.apply(self.last_epoch)

    @property
    def base_lrs(self) -> list[float]:  # type: ignore[override]  # torch keeps a list
        """The peak of every group."""
        return [row["lr"] for row in self.driver.rates.plan.table()]

    @property
    def _last_lr(self) -> list[float]:  # type: ignore[override]
        return self.get_last_lr()

    def get_last_lr(self) -> list[float]:  # type: ignore[override]  # never a tensor
        """What the optimizer will use, read from its groups, as plain numbers."""
        return self.driver.read("lr")

    def get_lr(self) -> list[float]:  # type: ignore[override]
        """What the plan says for the update that begins at `last_epoch`."""
        return self.driver.at(self.last_epoch)["lr"]

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts, which `torch.load(weights_only=True)` reads."""
        return {
            "last_epoch": self.last_epoch,
            "_step_count": self._step_count,
            "_last_lr": self.get_last_lr(),
            "driver": self.driver.state_dict(),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any], on_mismatch: OnMismatch = None) -> None:
        """Go on from what `state_dict` gave, and write its rates at once."""
        if "driver" not in state_dict:
            raise PlanMismatch(
                f"this is the state of another scheduler, with {', '.join(state_dict)}; to go on from its "
                f"place write scheduler.step({state_dict.get('last_epoch', 'k')})"
            )
        self._settle(state_dict["driver"], state_dict["last_epoch"], on_mismatch or self.on_mismatch)
        self.last_epoch = state_dict["last_epoch"]
        self._step_count = state_dict["_step_count"]
        self.driver.apply(self.last_epoch)

    def _settle(self, state: Mapping[str, Any], t: float, choice: OnMismatch) -> None:
        if not callable(choice):
            return self.driver.load_state_dict(state, choice)
        total = self.driver.total
        try:
            self.driver.load_state_dict(state)
        except PlanMismatch:
            self.driver.load_state_dict(state, "checkpoint")
            self.driver.edit(choice(t, total))

    def __getstate__(self) -> dict[str, Any]:
        kept = ("optimizer", "driver", "on_mismatch", "last_epoch", "_step_count")
        return {name: getattr(self, name) for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._attach(state["optimizer"], state["driver"])  # hooks on the copy's own optimizer
        self.__dict__.update(state)
        self.driver.apply(self.last_epoch)

    def __repr__(self) -> str:
        low, high = min(self.get_last_lr()), max(self.get_last_lr())
        lr = f"{low:.6g}" if low == high else f"{low:.6g} to {high:.6g}"
        where = f"update {self.last_epoch:g} of {self.driver.total:g}"
        return f"LRScheduler({self.driver.rates.plan.text['lr']}, {where}, lr {lr})"
