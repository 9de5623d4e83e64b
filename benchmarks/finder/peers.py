"""What Lightning, fastai and torch-lr-finder suggest on a recorded sweep: their own code, smoothing and stop.

Each is fed the recorded losses one by one, as its own loop would, and asked for its default suggestion; None
stands for none. Rates are those recorded, so that the peers' errors in their grids do not count.
"""

import contextlib
import io
import logging
import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import torch

Curve = Sequence[float]

# Where fastai is, torchvision is; without these schemas its CUDA build, all that pip has, fails on a CPU.
_SCHEMAS = torch.library.Library("torchvision", "DEF")
for _name in (
    "nms(Tensor dets, Tensor scores, float iou_threshold)",
    "qnms(Tensor dets, Tensor scores, float t)",
):
    _SCHEMAS.define(f"{_name} -> Tensor")


def lightning(rates: Curve, losses: Curve) -> float | None:
    """`Tuner.lr_find` of Lightning 2.6: exponential mean, β = 0.98, stop at 4 × best, steepest per rate."""
    from lightning.pytorch.tuner.lr_finder import _LRCallback, _LRFinder

    logging.getLogger("lightning.pytorch").setLevel(logging.CRITICAL)
    callback = _LRCallback(len(rates))
    trainer = SimpleNamespace(
        accumulate_grad_batches=1,
        fit_loop=SimpleNamespace(batch_idx=0),
        global_step=0,
        should_stop=False,
        strategy=SimpleNamespace(broadcast=lambda value: value),
        lr_scheduler_configs=[SimpleNamespace(scheduler=SimpleNamespace(lr=[0.0]))],
    )
    for rate, loss in zip(rates, losses, strict=True):
        trainer.lr_scheduler_configs[0].scheduler.lr = [rate]
        callback.on_train_batch_start(trainer, None, None, 0)
        trainer.global_step += 1
        callback.on_train_batch_end(trainer, None, torch.tensor(loss), None, 0)
        if trainer.should_stop:
            break
    finder = _LRFinder("exponential", rates[0], rates[-1], len(rates))
    finder.results = {"lr": callback.lrs, "loss": callback.losses}
    return finder.suggestion()


def _fastai(method: str) -> Callable[[Curve, Curve], float | None]:
    def suggest(rates: Curve, losses: Curve) -> float | None:
        from fastai.callback import schedule
        from fastai.learner import AvgSmoothLoss

        mean, smooth, best = AvgSmoothLoss(), [], math.inf
        for loss in losses:
            mean.accumulate(SimpleNamespace(loss=torch.tensor(loss)))
            smooth.append(float(mean.value))
            best = min(best, smooth[-1])
            if smooth[-1] > 4 * best:
                break
        lrs = torch.tensor(list(rates[: len(smooth)])[len(rates) // 10 : -5])
        values = torch.tensor(smooth[len(rates) // 10 : -5])
        finite = int(torch.isfinite(values).long().cumprod(0).sum())
        if not finite:
            return None
        return float(getattr(schedule, method)(lrs[:finite], values[:finite], len(rates))[0])

    suggest.__doc__ = (
        f"`Learner.lr_find(suggest_funcs={method})` of fastai 2.8, as `lr_find` prepares its curve."
    )
    return suggest


def torch_lr_finder(rates: Curve, losses: Curve) -> float | None:
    """`LRFinder.plot` of torch-lr-finder 0.2.2 after a replay of the losses: β = 0.95, stop at 5 × best."""
    import matplotlib as mpl
    from torch_lr_finder import LRFinder

    mpl.use("Agg")
    replayed = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(replayed.parameters(), lr=rates[0])
    finder = LRFinder(
        replayed, optimizer, lambda out, recorded: 0.0 * out.sum() + recorded.sum(), device="cpu"
    )
    data = [(torch.zeros(1), torch.tensor(loss)) for loss in losses]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        finder.range_test(
            torch.utils.data.DataLoader(data), end_lr=rates[-1], num_iter=len(data), smooth_f=0.05
        )
        finder.history["lr"] = list(rates[: len(finder.history["loss"])])
        try:
            return float(finder.plot()[1])
        except RuntimeError:  # fewer than 17 points
            return None


PEERS: dict[str, Callable[[Curve, Curve], float | None]] = {
    "Lightning": lightning,
    "torch-lr-finder": torch_lr_finder,
    "fastai valley (its default)": _fastai("valley"),
    "fastai slide": _fastai("slide"),
    "fastai minimum / 10": _fastai("minimum"),
    "fastai steep": _fastai("steep"),
}
