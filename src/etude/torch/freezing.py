"""What freezing means for torch: no gradient, no running statistics, and wrappers that can follow.

A parameter that is frozen has `requires_grad` False and no gradient, so the backward pass ends above it and
optimizers pass over it: neither momentum nor weight decay moves it. Two things go beyond the parameters, and
an optimizer knows only these. BatchNorm takes its statistics from every batch whether it trains or not, and
wrappers for several processes count on the parameters that they saw when they wrapped the model. So the
modules are looked up among the objects that Python's garbage collector knows, when a group first freezes.
"""

import gc
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from etude.errors import PlanError
from etude.torch.statistics import has_statistics

Groups = Sequence[tuple[str, Sequence[torch.Tensor]]]
"""Every group's name and parameters."""

FIND_UNUSED = (
    "DistributedDataParallel(model, find_unused_parameters=True), with Accelerate "
    "kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)], with transformers "
    'ddp_find_unused_parameters=True, with Lightning strategy="ddp_find_unused_parameters_true"'
)


class Freezing:
    """Freezes and thaws the groups of one optimizer; `statistics` says whether running ones freeze too."""

    def __init__(self, statistics: bool = True):
        self.statistics = statistics
        self._watched = 0  # how many groups' modules have their hooks

    def set(self, groups: Groups, flags: Sequence[bool]) -> None:
        """Let each group train or not.

        Raises `PlanError`, before anything changes, if a wrapper for several processes could not follow.
        """
        changes = [
            (name or f"group {i}", parameters, flag)
            for i, ((name, parameters), flag) in enumerate(zip(groups, flags, strict=True))
            if any(parameter.requires_grad != flag for parameter in parameters)
        ]
        watch = self.statistics and self._watched < len(groups) and not all(flags)
        together = bool(changes) and torch.distributed.is_available() and torch.distributed.is_initialized()
        if watch or together:
            known = list(modules())
            if together:
                check_wrappers(known, changes)
            if watch:
                _check_seen(known, groups[self._watched :])
                watch_statistics(known, [p for _, parameters in groups[self._watched :] for p in parameters])
                self._watched = len(groups)
        for (_, parameters), flag in zip(groups, flags, strict=True):
            for parameter in parameters:
                if parameter.requires_grad != flag:
                    parameter.requires_grad_(flag)
                if not flag:
                    parameter.grad = None


def modules() -> Iterator[nn.Module]:
    """Every module that is alive in this process."""
    for one in gc.get_objects():
        # Not isinstance: it would wake up lazy modules and proxies, which answer for their class themselves.
        if issubclass(type(one), nn.Module) and "_parameters" in vars(one):
            yield one


def _own(module: nn.Module) -> list[torch.Tensor]:
    return [parameter for parameter in module._parameters.values() if parameter is not None]


def _check_seen(known: Iterable[nn.Module], groups: Groups) -> None:
    """Raise if some parameters' modules cannot be seen because `gc.freeze()` hides them."""
    if not gc.get_freeze_count():
        return
    held = {id(parameter) for module in known for parameter in _own(module)}
    if hidden := [name for name, parameters in groups if any(id(p) not in held for p in parameters)]:
        raise PlanError(
            f"gc.freeze() hides the modules of {_listed(hidden)}, whose running statistics are to freeze: "
            f"call driver.apply(…) once before gc.freeze(), or write sink(optimizer, statistics=False)"
        )


# --- running statistics -------------------------------------------------------------------------------------


class Still:
    """Hooks that keep a module in inference mode for the length of a forward pass while its group is frozen.

    They ask the parameters each time, so `model.train()`, copies, resumed runs and thaws need nothing more.
    """

    def __init__(self, parameters: Sequence[torch.Tensor]):
        self.parameters = parameters
        self.training = False

    def begin(self, module: nn.Module, args: Any) -> None:
        """Remember the mode, and leave training mode if nothing trains here."""
        self.training = module.training
        if not any(parameter.requires_grad for parameter in self.parameters):
            module.training = False

    def end(self, module: nn.Module, args: Any, output: Any) -> None:
        """Go back to the mode that `model.train()` and `model.eval()` gave."""
        module.training = self.training


def watch_statistics(known: Sequence[nn.Module], parameters: Iterable[torch.Tensor]) -> None:
    """Give every module with running statistics that belongs to these parameters its hooks.

    A module without parameters of its own goes by those of the smallest module around it that has some.
    """
    planned = {id(parameter) for parameter in parameters}
    parents = {id(kid): module for module in known for kid in module._modules.values() if kid is not None}
    for module in known:
        if not has_statistics(module):
            continue
        around: nn.Module | None = module
        while around is not None:
            found = [parameter for parameter in around.parameters() if id(parameter) in planned]
            if found:
                still = Still(found)
                # First of all hooks: spectral norm has one of its own that looks at the mode.
                module.register_forward_pre_hook(still.begin, prepend=True)
                module.register_forward_hook(still.end, always_call=True)
            around = None if found or _own(around) else parents.get(id(around))


# --- several processes --------------------------------------------------------------------------------------


def check_wrappers(
    known: Iterable[nn.Module], changes: Sequence[tuple[str, Sequence[torch.Tensor], bool]]
) -> None:
    """Raise `PlanError` if a wrapper around these parameters cannot follow the change.

    torch's reducer waits for every parameter that trained when DDP wrapped the model, and never sees another:
    a step later it raises, or the processes drift apart without a word. `fully_shard` follows.
    """
    for wrapper in known:
        if type(wrapper).__name__ == "FullyShardedDataParallel":
            held = {id(parameter) for parameter in wrapper.parameters()}
            if named := [name for name, parameters, _ in changes if any(id(p) in held for p in parameters)]:
                raise PlanError(
                    f"FullyShardedDataParallel trains whole units or not at all, so {_listed(named)} can "
                    f"neither freeze nor thaw during the run: write torch.distributed.fsdp.fully_shard(model)"
                )
        if isinstance(wrapper, DistributedDataParallel):
            _check_ddp(wrapper, changes)


def _check_ddp(
    wrapper: DistributedDataParallel, changes: Sequence[tuple[str, Sequence[torch.Tensor], bool]]
) -> None:
    held = {id(parameter) for parameter in wrapper.module.parameters()}
    inside = [(name, [p for p in parameters if id(p) in held], flag) for name, parameters, flag in changes]
    freezing = [name for name, parameters, flag in inside if parameters and not flag]
    thawing = [(name, parameters) for name, parameters, flag in inside if parameters and flag]
    if freezing and (wrapper.static_graph or not wrapper.find_unused_parameters):
        raise PlanError(
            f"DistributedDataParallel waits for all gradients, also those of groups that freeze "
            f"({_listed(freezing)}): write {FIND_UNUSED}"
            f"{'; and leave out static_graph' if wrapper.static_graph else ''}"
        )
    if thawing:
        buckets = wrapper.reducer._get_zeros_like_grad_buckets()
        seen = {id(parameter) for bucket in buckets for parameter in bucket.parameters()}
        if lost := [name for name, parameters in thawing if any(id(p) not in seen for p in parameters)]:
            raise PlanError(
                f"DistributedDataParallel wrapped the model while {_listed(lost)} was frozen and would never "
                f"synchronise it: wrap first, and let the first apply(…), or LRScheduler(…), come after"
            )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
