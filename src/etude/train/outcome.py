"""What a run leaves when it has come to its end: the model, its result beside the baselines, the report."""

import json
import os
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from etude.errors import CheckpointError, EtudeWarning, MissingExtra
from etude.train import checkpoint
from etude.train.checkpoint import OPTIMIZER, RNG, STATE
from etude.train.folder import RunFolder
from etude.train.manifest import MANIFEST

if TYPE_CHECKING:
    from rich.console import Console

    from etude.train.session import Session


def finish(session: "Session", console: "Console") -> dict[str, Any]:
    """Test the best checkpoint, measure the baselines, write the model folder and the result, show both."""
    from etude.report.terminal import result_table
    from etude.train.evaluation import baselines, logits, result

    prepared, folder = session.prepared, session.folder
    accelerator, task = prepared.accelerator, prepared.task
    best, chosen = _chosen(session)
    tuned = task.build(str(best), prepared.data.labels).model.to(accelerator.device)
    found = logits(accelerator, tuned, task, prepared.tokenizer, prepared.encoded["test"])
    metrics = task.score(found, np.asarray(prepared.data.test.labels))
    loop = session.loop
    where = {"t": loop.t, "k": loop.clock.updates, "split": "test"}
    session.write({"type": "eval", **where, "metrics": metrics, "seconds": round(loop.seconds, 3)})
    frozen = task.build(prepared.recipe.model, prepared.data.labels).model.to(accelerator.device)
    rivals = baselines(
        accelerator, frozen, task, prepared.tokenizer, prepared.encoded, prepared.data, prepared.metric
    )
    outcome = result(task, prepared.metric, chosen, found, prepared.data, rivals)
    if accelerator.is_main_process:
        _copy_model(best, folder.model)
        folder.best.write_text(json.dumps(outcome, indent=1, allow_nan=False), encoding="utf-8")
        console.print(result_table(outcome))
        if prepared.smoke:
            console.print("a smoke run shows that every phase works; its numbers mean nothing", style="dim")
        console.print(f"model:  {folder.model}", soft_wrap=True)
    return outcome


def _chosen(session: "Session") -> tuple[Path, dict[str, Any] | None]:
    """The best checkpoint, every byte of it verified, and what `best.json` says of it.

    Where it is broken, the newest good one, with a warning: training is done, and its result is worth having.
    """
    from accelerate.utils import broadcast_object_list

    folder, best = session.folder.checkpoints, session.best
    path = folder / (best["checkpoint"] if best else f"{session.loop.clock.updates:08d}")
    if session.prepared.accelerator.is_main_process:
        try:
            checkpoint.read(path)
        except CheckpointError as error:
            path, good = None, checkpoint.newest(folder)
            if good is not None:
                warnings.warn(EtudeWarning(f"{error}; the result is that of {good.path}"), stacklevel=3)
                path, metric = good.path, session.prepared.metric
                best = {"metric": metric, "value": None, "checkpoint": good.name, "k": good.updates}
    path, best = broadcast_object_list([path, best])
    if path is None:
        raise CheckpointError(f"{folder} has no good checkpoint to test")
    return path, best


def _copy_model(saved: Path, model: Path) -> None:
    """The files of a checkpoint that make a plain Hugging Face folder, in one move."""
    partial = model.with_name(".model.tmp")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(saved, partial, ignore=shutil.ignore_patterns(OPTIMIZER, RNG, STATE, MANIFEST))
    shutil.rmtree(model, ignore_errors=True)
    os.replace(partial, model)


def write_report(folder: RunFolder, console: "Console") -> None:
    """Build the report from the log and print its path, or which extra it needs."""
    from etude.report.html import build

    try:
        path = build(folder.path)
    except MissingExtra as missing:
        console.print(f"report: {missing}")
    except KeyboardInterrupt:
        console.print(f"report: not written; etude report {folder.path}", soft_wrap=True)
    else:
        console.print(f"report: {path}", soft_wrap=True)
