"""What `attach` gives back: the hooks that it puts into a trainer, and the run's driver."""

from collections.abc import Callable, Mapping
from typing import Any

from transformers.trainer_utils import has_length

from etude.control.controller import Action, Controller, Restore
from etude.control.driver import FOREIGN, Driver
from etude.core.edit import Edit
from etude.core.plan import Plan
from etude.errors import EtudeError
from etude.torch.guard import refuse_restoring
from etude.torch.processes import gather
from etude.torch.scheduler import LRScheduler, OnMismatch
from etude.trainer.callback import Watch
from etude.trainer.guard import Guard
from etude.trainer.optimizer import refuse_other_groups, regroup

HOOKS = ("create_optimizer", "create_scheduler", "set_initial_training_values", "log")


class TrainerScheduler(LRScheduler):
    """What a trainer holds as its scheduler: it knows where a checkpoint let it go on."""

    resumed: float | None = None

    def load_state_dict(self, state_dict: Mapping[str, Any], on_mismatch: OnMismatch = None) -> None:
        """Go on from a checkpoint's state as `on_mismatch` says, by default as `attach` was told."""
        super().load_state_dict(state_dict, on_mismatch)
        self.resumed = self.last_epoch


class Attachment:
    """A trainer whose rates étude sets; `attach` makes it.

    `plan` is how the trainer's model is planned: as it stands now, and anew when the trainer makes its
    optimizer. From then on there are `driver`, `scheduler` (what the trainer holds as its scheduler) and the
    clock `t`; `used` maps each group to the rate that the last update used, and `guard.asked` has what
    controllers have asked for, as (time, action).
    """

    def __init__(
        self,
        trainer: Any,
        make: Callable[[Any], Plan],
        controllers: tuple[Controller, ...],
        foreign: str,
        on_mismatch: OnMismatch,
    ):
        _check_choices(foreign, on_mismatch)
        self.trainer = trainer
        self.controllers = controllers
        self.plan = make(trainer.model)
        self.epoch: int | None = None
        self.used: dict[str, float] = {}
        self._make, self._foreign, self._on_mismatch = make, foreign, on_mismatch
        self._scheduler: TrainerScheduler | None = None
        refuse_restoring(controllers, "a trainer's loop")
        self.guard = Guard(self)
        self._watch = Watch(self)
        self._take_over()

    def _take_over(self) -> None:
        trainer = self.trainer
        former = getattr(trainer.create_optimizer, "__self__", None)
        if isinstance(former, Attachment):
            former._let_go()
        if trainer.optimizer is not None or trainer.lr_scheduler is not None:
            raise EtudeError(
                "this trainer has an optimizer already, from optimizers= or from an earlier train(): leave "
                "optimizers= out and say which one with optim=, and attach before the first train(); to "
                "start anew with this trainer set trainer.optimizer = trainer.lr_scheduler = None first"
            )
        self._theirs = {name: getattr(trainer, name) for name in HOOKS}
        for name in HOOKS:
            setattr(trainer, name, getattr(self, name))
        self.guard.take_over()
        trainer.add_callback(self._watch)

    def _let_go(self) -> None:
        for name, theirs in self._theirs.items():
            setattr(self.trainer, name, theirs)
        self.guard.let_go()
        self.trainer.remove_callback(self._watch)
        self.trainer.optimizer = self.trainer.lr_scheduler = None

    def __repr__(self) -> str:
        at = "" if self._scheduler is None else f", update {self.t:g} of {self.driver.total:g}"
        return f"Attachment({self.plan.hypers['lr']}, {len(self.plan.groups)} groups{at})"

    @property
    def scheduler(self) -> TrainerScheduler:
        """The trainer's scheduler; raises `EtudeError` before `train()` has made it."""
        if self._scheduler is None:
            raise EtudeError(
                "the plan is bound to its run when trainer.train() starts; there is no driver yet"
            )
        return self._scheduler

    @property
    def driver(self) -> Driver:
        """The one owner of the rates; raises `EtudeError` before `train()` has made it."""
        return self.scheduler.driver

    @property
    def t(self) -> float:
        """Where the clock stands, in planned updates: the next update begins there."""
        return self.scheduler.last_epoch

    def edit(self, one: Edit) -> None:
        """Change the rates from `one.at` on, as in `edit(Scale(attached.t, 0.5))`; on every process.

        Raises `ScheduleError` where that makes no sense.
        """
        self.scheduler.edit(one)
        self.stop_at_the_end()

    def stop_at_the_end(self) -> None:
        """Tell the trainer to stop when an edit has ended the run."""
        if self.left <= 0:
            self._watch.stop(self.trainer)

    def do(self, asked: tuple[Action, ...]) -> None:
        """Note what controllers asked for, and refuse what a trainer's loop cannot do."""
        if back := [type(one).__name__ for one in asked if isinstance(one, Restore)]:
            raise EtudeError(
                f"a controller asks for {', '.join(back)}, which a trainer's loop cannot do; use it in "
                f"a loop of your own or in etude finetune"
            )
        self.guard.asked += [(self.t, one) for one in asked]
        self.stop_at_the_end()

    @property
    def planned(self) -> dict[str, float]:
        """The rate of every group for the update that begins at `t`."""
        names = [group.name for group in self.driver.rates.plan.groups]
        return dict(zip(names, self.driver.at(self.t)["lr"], strict=True))

    @property
    def left(self) -> float:
        """How far the clock is from the end of the run; a rounding error is no update."""
        left = self.driver.total - self.t
        return left if left > 1e-9 else 0.0

    def create_optimizer(self, model: Any = None) -> Any:
        """The trainer's own optimizer, its parameters sorted into the plan's groups."""
        trainer = self.trainer
        if trainer.optimizer is None:
            planned = trainer.model if model is None else model
            self.plan = self._make(planned)
            made = self._theirs["create_optimizer"](*([] if model is None else [model]))
            regroup(made, self.plan.torch_groups(planned))
            refuse_other_groups(made)
        return trainer.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> TrainerScheduler:
        """The face of a new driver, for a run of so many updates.

        The trainer's own keeps a scheduler that is there. This one never does: it is called for every
        `train()`, and with another number of updates where `auto_find_batch_size` starts over.
        """
        trainer = self.trainer
        batch = trainer.get_total_train_batch_size(trainer.args)
        rates = self.plan.over(num_training_steps, epoch=self.epoch, batch=batch)
        self._scheduler = TrainerScheduler(
            optimizer or trainer.optimizer,
            rates,
            self.controllers,
            gather=gather,
            foreign=self._foreign,
            on_mismatch=self._on_mismatch,
        )
        self.used = {}
        trainer.lr_scheduler = self._scheduler
        return self._scheduler

    def set_initial_training_values(self, args: Any, dataloader: Any, *rest: Any) -> Any:
        """What the trainer finds for itself; the updates of an epoch are kept, for lengths in epochs."""
        values = self._theirs["set_initial_training_values"](args, dataloader, *rest)
        self.epoch = values[1] if has_length(dataloader) else None
        return values

    def log(self, logs: dict[str, float], *rest: Any, **more: Any) -> None:
        """The trainer's log, with the rates of the update that is logged: `lr/<group>` for every group.

        Its `learning_rate` would be that of the first group, by the order of the groups alone; it becomes the
        highest. The part of a group that has no weight decay is left out while its rate is that group's.
        """
        if "learning_rate" in logs and self.used:
            logs["learning_rate"] = max(self.used.values())
            for name, rate in self.used.items():
                if rate != self.used.get(name.removesuffix(".no_decay")) or not name.endswith(".no_decay"):
                    logs[f"lr/{name}"] = rate
        self._theirs["log"](logs, *rest, **more)


def _check_choices(foreign: str, on_mismatch: Any) -> None:
    if foreign not in FOREIGN:
        raise EtudeError(f"foreign={foreign!r} is not known; write one of {', '.join(map(repr, FOREIGN))}")
    if not (on_mismatch in (None, "checkpoint", "recipe") or callable(on_mismatch)):
        raise EtudeError(
            f'on_mismatch={on_mismatch!r} is not known; write "checkpoint", "recipe" or a function of '
            f"(t, total) that gives an edit"
        )
