"""`etude.find(model, batches, …)`: the range test, and what it suggests; the training is left as it was."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, closing
from itertools import islice
from pathlib import Path
from typing import Any

from etude.core.plan import Plan
from etude.core.rates import Rates
from etude.errors import EtudeError, MissingExtra

try:
    import torch

    from etude.finder.batches import Windows, check, once
    from etude.finder.epochs import epochs_of
    from etude.finder.finding import Finding
    from etude.finder.interrupt import Interrupt
    from etude.finder.losses import count_function, loss_function
    from etude.finder.processes import Processes
    from etude.finder.progress import Progress, teller
    from etude.finder.randomness import seed_all
    from etude.finder.scan import Scan, line_scan
    from etude.finder.setup import check_owner, is_optimizer, new_optimizer, plan_of, precision
    from etude.finder.snapshot import Snapshot, bare
    from etude.finder.sweep import Curve, grid, sweep, sweep_rates
    from etude.finder.trainers import parts_of
    from etude.finder.updates import Trainee
    from etude.torch.wrappers import core
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise MissingExtra("torch", "train") from error

SEEN = 4  # windows or held-out batches whose loss a scan follows
LEAST = 10  # points; a shorter curve shows nothing
EXPECTED = {
    "autocast": 'write a context, as in torch.autocast("cpu", torch.bfloat16)',
    "progress": "write a function that takes each point, as in print",
}
FEWEST = 3  # held-out losses
SEED = 0x657464  # of the second sweep; a seed that people take, such as 1, may be that of the first


def find(
    model: Any,
    batches: Any = None,
    *,
    optimizer: Any = None,
    loss: Any = None,
    plan: Plan | Rates | None = None,
    start: float = 1e-7,
    to: float = 1.0,
    points: int = 100,
    accumulate: int = 1,
    held_out: Any = None,
    held_out_every: int = 1,
    seeds: int | Sequence[int] = 3,
    accelerator: Any = None,
    scaler: Any = None,
    autocast: AbstractContextManager[Any] | None = None,
    clip: float | None = None,
    count: Callable[[Any], float] | None = None,
    keep: Iterable[Any] = (),
    snapshot: str | Path = "memory",
    scan: bool = False,
    epochs: float | None = None,
    progress: Progress | None = None,
) -> Finding:
    """Find the peak learning rate by a range test on the real training path; it leaves no trace.

    The model trains for `points` updates while the rate rises from `start` to `to` by equal ratios, or until
    the loss diverges; the curve of their losses tells which rates work. Then weights, buffers, moments,
    scaler, gradients, modes, the order of the data and every random generator are put back, bit for bit, also
    when the test raises or is interrupted.

    `batches` is the training's loader, a list of batches (mappings or tuples), or a function that gives an
    iterator. `loss` is None for the model's own, a loss of torch such as `nn.CrossEntropyLoss()` for batches
    of (inputs, labels), or a function `loss(model, batch)` that gives a mean; `count(batch)` says of how many
    examples or tokens, if that is not to be read from the batch. `accumulate` batches make an update.

    `plan` is that of the training: the sweep keeps its ratios of rates, its weight decay and its gates, and
    finds its peak; bound to its run (`plan.over(…)`), it keeps the gates' lengths. Without one, all train
    alike, or as the groups of `optimizer` do, and the rate is that of the fastest group. `optimizer` is the
    training's own, a function that makes one from parameter groups, or None for AdamW. `scaler`, `autocast`
    (a context) and `clip` (the norm of gradients) are those of the training too; an `accelerator` brings its
    scaler. A model wrapped for several processes is tested by all of them, with one result.

    `held_out` are batches whose mean loss is taken before every `held_out_every`-th update; the suggestion
    then goes by it. `seeds` repeats the sweep, because a single one may be off by a factor of 2, and the mean
    of what they say is suggested: so many sweeps, the first from the generators as they stand, or one from
    each of the seeds listed; `seeds=1` is a quick look. `keep` are further objects that the training changes,
    such as an EMA of the weights. `snapshot` is where the state is kept: "memory" (one copy), "disk" or a
    folder (nearly no memory). `scan` adds a `line_scan` along the first update, a second opinion.

    `epochs` says how often the run will go through its examples: its best peak may be the lower for it. A
    plan that is bound to its run with the updates of an epoch, or with a DataLoader here, knows it.
    `progress` is called with each point that is made; `progress=print` prints them.

    `find(trainer)` does it for a transformers Trainer, with the loader, loss, optimizer, accumulation,
    clipping, precision and epochs that it would train with, and the plan of `etude.attach`; only the grid,
    `held_out`, `seeds`, `keep`, `snapshot`, `scan` and `progress` are to be said.

    Raises `EtudeError` or `PlanError` for whatever cannot work, before the first update.
    """
    if batches is None:
        theirs = {"optimizer": optimizer, "loss": loss, "plan": plan, "accelerator": accelerator}
        theirs |= {"scaler": scaler, "autocast": autocast, "clip": clip, "count": count}
        theirs |= {"accumulate": None if accumulate == 1 else accumulate}
        if twice := [name for name, value in theirs.items() if value is not None]:
            raise EtudeError(
                f"find({type(model).__name__}, {twice[0]}=…) has no batches; a trainer has its own"
            )
        with parts_of(model) as parts:
            parts["keep"] += keep
            parts["epochs"] = parts["epochs"] if epochs is None else epochs
            return find(
                **parts,
                start=start,
                to=to,
                points=points,
                held_out=held_out,
                held_out_every=held_out_every,
                seeds=seeds,
                snapshot=snapshot,
                scan=scan,
                progress=progress,
            )
    _check_grid(start, to, points, accumulate, held_out_every)
    check(batches, "batches")
    if held_out is not None:
        check(held_out, "held_out")
    if not isinstance(model, torch.nn.Module):
        raise EtudeError(f"find takes a model first, as in find(model, loader); got a {type(model).__name__}")
    if clip is not None and not clip > 0:
        raise EtudeError(f"clip={clip!r} is no norm to clip to: write 1.0, or None for no clipping")
    for name, value, right in (
        ("autocast", autocast, isinstance(autocast, AbstractContextManager)),
        ("progress", progress, callable(progress)),
    ):
        if value is not None and not right:
            raise EtudeError(f"{name}={value!r}: {EXPECTED[name]}")
    inner = bare(model)
    if not any(parameter.requires_grad for parameter in inner.parameters()):
        raise EtudeError(f"{type(inner).__name__} has no parameter that trains: all have requires_grad=False")
    settled = plan_of(plan, optimizer, inner)
    rates = sweep_rates(settled, start, to, points)
    epochs = epochs_of(epochs, settled, batches, accumulate)
    device = next(parameter.device for parameter in inner.parameters() if parameter.requires_grad)
    processes = Processes(model, device)
    scaler, context = precision(model, accelerator, processes, scaler, autocast)
    losses, counts = loss_function(loss), count_function(count, loss, model)
    given = core(optimizer) if is_optimizer(optimizer) else None
    if given is not None:
        check_owner(given, inner)

    def trainee() -> Trainee:
        made = given if given is not None else new_optimizer(optimizer, settled, inner, device)
        return Trainee(model, made, losses, counts, device, processes, scaler, context, clip)

    validation = None if held_out is None else lambda: once(held_out, "held_out")
    curves: list[Curve] = []
    line: Scan | None = None
    with (
        Interrupt() as interrupt,
        Snapshot(
            model,
            optimizer if given is not None else None,
            scaler=scaler,
            batches=[one for one in (batches, held_out) if one is not None],
            keep=keep,
            snapshot=snapshot,
        ) as kept,
    ):
        listed = _seeds(seeds)
        for i, seed in enumerate(listed, 1):
            if curves:
                kept.put_back()
            if seed is not None:
                seed_all(seed + processes.rank)
            with closing(Windows(batches, accumulate, seed)) as windows:
                tell = teller(progress, i, len(listed), grid(rates))
                curves.append(sweep(trainee(), rates, windows, validation, held_out_every, interrupt, tell))
        if scan:
            kept.put_back()
            with closing(Windows(batches, accumulate)) as windows:
                window = windows.next()
                unseen = (batch for _ in range(SEEN) for batch in windows.next())
                few = unseen if validation is None else islice(validation(), SEEN)
                line = line_scan(trainee(), kept, settled, window, few, start=start, to=to)
    return Finding.of(
        grid(rates),
        [curve.losses for curve in curves],
        held_out=[_filled(curve, held_out_every) for curve in curves] if held_out is not None else (),
        stopped=next((curve.stopped for curve in curves if curve.stopped), ""),
        scan=line,
        epochs=epochs,
    )


def _check_grid(start: float, to: float, points: int, accumulate: int, every: int) -> None:
    numbers = isinstance(start, int | float) and isinstance(to, int | float)
    if not (numbers and 0 < start < to < float("inf")):
        raise EtudeError(
            f"start={start!r}, to={to!r}: the rate rises, so write 0 < start < to, as in 1e-7 and 1"
        )
    for name, value in (("points", points), ("accumulate", accumulate), ("held_out_every", every)):
        if not isinstance(value, int) or value < 1:
            raise EtudeError(f"{name}={value!r} is no whole number of 1 or more")
    if points < LEAST:
        raise EtudeError(f"points={points} show no curve; write at least {LEAST}, better 100")
    if (taken := -(-points // every)) < FEWEST:
        raise EtudeError(
            f"held_out_every={every} leaves {taken} held-out losses of {points} points, which show no curve; "
            f"write 1, or at most {points // FEWEST}"
        )


def _is_seed(one: Any) -> bool:
    return isinstance(one, int) and not isinstance(one, bool) and one >= 0


def _seeds(seeds: int | Sequence[int]) -> list[int | None]:
    if not isinstance(seeds, int | Sequence) or not (isinstance(seeds, int) or all(map(_is_seed, seeds))):
        raise EtudeError(f"seeds={seeds!r}: write how often to sweep, or a list of seeds, as in [0, 1, 2]")
    if isinstance(seeds, int):
        if seeds < 1:
            raise EtudeError(f"seeds={seeds}: write how often to sweep, 1 or more, or a list of seeds")
        return [None, *range(SEED, SEED + seeds - 1)]
    if not seeds:
        raise EtudeError("seeds is empty: write how often to sweep, or a list of seeds")
    return list(seeds)


def _filled(curve: Curve, every: int) -> list[float]:
    """One held-out loss for each point: between two that were taken, on the straight line."""
    taken, count = curve.held_out, len(curve.losses)
    filled = []
    for k in range(count):
        i, part = divmod(k, every)
        after = taken[min(i + 1, len(taken) - 1)]
        filled.append(taken[i] + (after - taken[i]) * part / every)
    return filled
