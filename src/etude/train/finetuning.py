"""A whole fine-tuning: from what the user wrote to a model, its result beside the baselines, a report."""

import dataclasses
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude.errors import CheckpointError, MissingExtra, RecipeError
from etude.train import folder as folders
from etude.train.data.files import READERS
from etude.train.folder import RunFolder
from etude.train.recipe import Recipe, read
from etude.train.running import Run, train, write_plan

if TYPE_CHECKING:
    from rich.console import Console

    from etude.train.setup import Setup

# A resumed run keeps these: with another seed or split it would be tested on texts that it was trained on.
KEPT = ("model", "data", "task", "text", "label", "split", "max_length", "metric", "seed", "name", "output")


def finetune(
    source: str | Path | None = None,
    *,
    dry_run: bool = False,
    smoke: bool = False,
    resume: bool = False,
    on_mismatch: str | None = None,
    **keys: Any,
) -> Run | None:
    """Fine-tune a pretrained model: what `etude finetune` does, from Python or a notebook.

    `source` is a recipe (YAML), a data file, or with `resume=True` a run folder; `keys` are those of a
    recipe and win over it. Returns the run, or None for a dry run. Raises an `EtudeError` for everything that
    cannot work, before the first update.
    """
    return run(source, keys, dry_run=dry_run, smoke=smoke, resume=resume, on_mismatch=on_mismatch)


def run(
    source: str | Path | None,
    changes: Iterable[str] | Mapping[str, Any],
    *,
    dry_run: bool = False,
    smoke: bool = False,
    resume: bool = False,
    on_mismatch: str | None = None,
) -> Run | None:
    """The same with the changes as `key=value` texts or a mapping."""
    if on_mismatch not in (None, "checkpoint", "recipe"):
        raise RecipeError(f"--on-mismatch {on_mismatch} is not known; write checkpoint or recipe")
    _need_packages()
    if resume:
        if dry_run or smoke:
            raise RecipeError(
                f"--resume goes on with a run as it is; leave {'--dry-run' if dry_run else '--smoke'} out"
            )
        return _resume(source, changes, on_mismatch)
    if on_mismatch is not None:
        raise RecipeError("--on-mismatch says whose plan a resumed run goes by; write it beside --resume")
    return _start(source, changes, dry_run, smoke)


def prepare(source: str | Path | None, changes: Iterable[str] | Mapping[str, Any]) -> "tuple[Console, Setup]":
    """A run that could begin, and where to print; raises an `EtudeError` for everything that cannot work."""
    _need_packages()
    console, recipe = _said(source, changes)
    return console, _prepared(console, recipe)


def _need_packages() -> None:
    try:
        import accelerate  # noqa: F401
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise MissingExtra("torch, transformers and accelerate", "train") from error


def _said(source: str | Path | None, changes: Iterable[str] | Mapping[str, Any]) -> "tuple[Console, Recipe]":
    recipe, renamed = _recipe(source, changes)
    console = _console()
    for record in renamed:
        console.print(str(record), style="dim")
    return console, recipe


def _prepared(console: "Console", recipe: Recipe, smoke: bool = False) -> "Setup":
    from etude.train.setup import setup

    prepared = setup(recipe, smoke=smoke)
    _announce(console, prepared)
    return prepared


def _start(
    source: str | Path | None, changes: Iterable[str] | Mapping[str, Any], dry_run: bool, smoke: bool
) -> Run | None:
    from etude.train import preview

    console, recipe = _said(source, changes)
    folders.refuse_occupied(recipe.output)
    prepared = _prepared(console, recipe, smoke)
    if recipe.finds and dry_run:
        console.print("lr: a range test will find the peak; the rates below are for a peak of 1")
    elif recipe.finds:
        prepared = _with_rate(console, prepared)
    if dry_run:
        preview.show(console, prepared)
        return None
    console.print(f"run:  {preview.length(prepared)}", soft_wrap=True)
    folder = _new_folder(prepared)
    console.print(f"      {folder.path}", style="dim", soft_wrap=True)
    return train(prepared, folder, console, None, None)


def _with_rate(console: "Console", prepared: "Setup") -> "Setup":
    """The run at the peak that a range test finds; a smoke run is too short for one."""
    from etude.report.finding_terminal import watching
    from etude.train.rate import range_test, taken, with_rate
    from etude.train.setup import replanned

    if prepared.smoke:
        console.print(f"lr: a smoke run looks for no rate and takes {Recipe.lr:g}")
        return replanned(prepared, dataclasses.replace(prepared.recipe, lr=Recipe.lr))
    console.print("lr: a range test looks for the peak, on the run's own model, data and plan", style="dim")
    with watching(console) as tell:
        finding = range_test(prepared, progress=tell)
    console.print(str(finding), soft_wrap=True)
    found = with_rate(prepared, finding)
    console.print(taken(prepared, finding), soft_wrap=True)
    return found


def _resume(
    source: str | Path | None, changes: Iterable[str] | Mapping[str, Any], on_mismatch: str | None
) -> Run:
    from etude.train import checkpoint
    from etude.train.setup import setup

    folder = folders.newest() if source is None else folders.find(source)
    before, _ = read(folder.recipe)
    recipe, renamed = read(folder.recipe, changes)
    for key in KEPT:
        old, new = getattr(before, key), getattr(recipe, key)
        if new != old:
            raise RecipeError(
                f"{key}: got {new!r}, and {folder.path} has {old!r}; a resumed run keeps its model, its data "
                f"and its metric: start a new run for another"
            )
    saved = checkpoint.newest(folder.checkpoints)
    if saved is None:
        there = checkpoint.count(folder.checkpoints)
        what = "no checkpoint yet" if not there else f"{there} checkpoint{'s' * (there != 1)}, all broken"
        elsewhere = " output=null" if recipe.output else ""  # its own folder is occupied by this run
        raise CheckpointError(
            f"{folder.path} has {what}: start again with etude finetune {folder.recipe}{elsewhere}"
        )
    console = _console()
    for record in renamed:
        console.print(str(record), style="dim")
    smoke = any(edit["author"] == "smoke" for edit in saved.state["driver"]["edits"])
    prepared = setup(recipe, smoke=smoke, weights=saved.path)
    console.print(f"resume {folder.path} after {saved.updates} updates", soft_wrap=True)
    return train(prepared, folder, console, saved, on_mismatch)


def _recipe(source: str | Path | None, changes: Iterable[str] | Mapping[str, Any]) -> tuple[Recipe, Any]:
    if source is None:
        return read(None, changes)
    path = Path(source)
    if path.suffix.lower() in READERS:
        if isinstance(changes, Mapping):
            return read(None, {"data": str(source), **changes})
        return read(None, [f"data={source}", *changes])
    if path.suffix not in (".yaml", ".yml"):
        run = folders.is_run(path)
        raise RecipeError(
            f"{source} is neither a recipe (.yaml) nor a data file ({', '.join(READERS)}); "
            + (f"to go on with a run write --resume {source}" if run else f"a data set is data={source}")
        )
    return read(path, changes)


def _console() -> "Console":
    from rich.console import Console

    rank = os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))
    return Console(quiet=rank != "0", markup=False, highlight=False)


def _announce(console: "Console", prepared: "Setup") -> None:
    data, recipe = prepared.data, prepared.recipe
    console.print(recipe.dump().rstrip(), style="dim", soft_wrap=True)
    labels = "one number" if data.labels is None else f"{len(data.labels)} classes: {', '.join(data.labels)}"
    console.print(
        f"data: {len(data.train)} train, {len(data.validation)} validation, {len(data.test)} test; {labels}"
    )
    console.print(f"      {data.note}", style="dim")
    for note in prepared.notes:
        console.print(f"model: {note}", style="dim")


def _new_folder(prepared: "Setup") -> RunFolder:
    from accelerate.utils import broadcast_object_list

    recipe = prepared.recipe
    made: list[Any] = [None]
    prepared.accelerator.wait_for_everyone()  # each process has seen by now that the folder was free
    if prepared.accelerator.is_main_process:
        name = recipe.name or Path(recipe.data.removeprefix("package:")).stem
        folder = folders.create(name, recipe.output)
        write_plan(prepared, folder)
        made = [str(folder.path)]
    return RunFolder(Path(broadcast_object_list(made)[0]))
