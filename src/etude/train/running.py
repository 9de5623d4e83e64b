"""A run from its first update, or from a checkpoint, to its end."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude.errors import PlanMismatch
from etude.train.folder import RunFolder

if TYPE_CHECKING:
    from rich.console import Console

    from etude.train.checkpoint import Checkpoint
    from etude.train.setup import Setup


@dataclass(frozen=True)
class Run:
    """A run at its end: its folder and, unless it was interrupted, its result as in `best.json`."""

    folder: Path
    result: dict[str, Any] | None

    @property
    def interrupted(self) -> bool:
        """Whether the run was ended by hand and can be resumed."""
        return self.result is None

    @property
    def model(self) -> Path:
        """The best checkpoint as a plain Hugging Face folder."""
        return self.folder / "model"

    @property
    def report(self) -> Path:
        """The page with everything about the run."""
        return self.folder / "report.html"


def write_plan(prepared: "Setup", folder: RunFolder) -> None:
    """Write the resolved recipe and the plan's table into the run folder."""
    from etude.train import preview

    texts = {folder.recipe: prepared.recipe.dump(), folder.plan: preview.text(prepared)}
    for path, text in texts.items():
        partial = path.with_name(f".{path.name}.tmp")
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)  # a kill leaves the old recipe, never half of the new one


def train(
    prepared: "Setup",
    folder: RunFolder,
    console: "Console",
    saved: "Checkpoint | None",
    on_mismatch: str | None,
) -> Run:
    """Train to the end or to an interrupt, from the beginning or from the checkpoint `saved`; then finish.

    Raises `PlanMismatch` if the checkpoint belongs to another plan and `on_mismatch` does not choose.
    """
    from etude.report.log import Log
    from etude.report.terminal import Progress
    from etude.train import checkpoint, control
    from etude.train.interrupt import Interrupt
    from etude.train.outcome import finish, write_report
    from etude.train.records import start_record
    from etude.train.session import Session, make_loop

    main = prepared.accelerator.is_main_process
    loop = make_loop(prepared)
    progress = Progress(console)
    session = Session(prepared, loop, folder, None, progress)
    if saved is not None:
        try:
            session.restore(saved, on_mismatch)
        except PlanMismatch as mismatch:
            raise _in_words(mismatch, folder) from None
        for line in control.since(saved.state["driver"]["controllers"], loop.driver):
            console.print(f"control: {line}", soft_wrap=True)
        if main:
            checkpoint.remove_after(folder.checkpoints, saved.updates)
            if on_mismatch != "checkpoint" and folder.recipe.read_text("utf-8") != prepared.recipe.dump():
                write_plan(prepared, folder)
    session.log = Log(folder.log) if main else None

    def notice() -> None:
        progress.message("stopping after this update; Ctrl-C again stops at once and saves nothing")

    try:
        session.write(start_record(session, saved))
        session.log_edits()
        with Interrupt(notice) as interrupt:
            loop.began = time.perf_counter()
            reason = session.train(interrupt)
        result = None
        if reason != "interrupted":
            try:
                result = finish(session, console)
            except KeyboardInterrupt:  # the weights are saved; to go on is to test them
                reason = "interrupted"
        end = {"type": "end", "reason": reason, "k": loop.clock.updates, "t": loop.t, "seconds": loop.seconds}
        session.write({**end, "result": result})
    finally:
        if session.log is not None:
            session.log.close()
    if main:
        write_report(folder, console)
        if result is None:
            console.print(f"interrupted; go on with: etude finetune --resume {folder.path}", soft_wrap=True)
    return Run(folder.path, result)


# What the parts of a span are called by those who write recipes.
SPAN = {
    "span total": "updates",
    "span epoch": "updates per epoch",
    "span batch": "examples per update",
    "span tokens": "tokens per update",
}


def _in_words(mismatch: PlanMismatch, folder: RunFolder) -> PlanMismatch:
    if not mismatch.rows:
        return mismatch
    lines = "\n".join(
        f"  {SPAN.get(field, field)}: {theirs} in the checkpoint, {ours} in the recipe"
        for field, theirs, ours in mismatch.rows
    )
    return PlanMismatch(
        f"the checkpoint in {folder.path} belongs to another plan:\n{lines}\n"
        f"choose: --on-mismatch checkpoint goes on as it was, --on-mismatch recipe as the recipe has it now",
        mismatch.rows,
    )
