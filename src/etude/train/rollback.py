"""Going back: the weights of the last good checkpoint, the data behind what went wrong, and the edits for it.

What was done since stays in the log and in the list of edits, marked by a `Rollback`.
"""

from typing import TYPE_CHECKING, Any

from etude.control.controller import Restore
from etude.core.edit import Rollback, Scale, Stop
from etude.errors import CheckpointError
from etude.train import checkpoint
from etude.train.checkpoint import Checkpoint
from etude.train.state import put_back

if TYPE_CHECKING:
    from etude.train.session import Session


def roll_back(session: "Session", asked: Restore) -> None:
    """Load the newest good checkpoint on every process, and say so in the driver and in the log.

    One that only an interrupt has made is passed over, as long as there is another: a run that was
    interrupted goes back to where the one that was not does.

    The place in the data stays or goes further ahead, so that what was drawn since the checkpoint is skipped.
    The memory of the controller that asked stays too. The checkpoint is written anew, with the edits: a run
    that is killed now goes on behind the rollback, and a second one knows of the first. Raises
    `CheckpointError` if there is none.
    """
    prepared, loop, driver = session.prepared, session.loop, session.loop.driver
    at, skipped = loop.t, loop.clock.skipped
    session.flush()
    saved = _agreed(session)
    _load_weights(session, saved)
    put_back(loop, saved)
    loop.clock.skipped = skipped  # they were skipped, whatever came of it
    session.best = saved.state["best"]
    then = saved.state["driver"]["controllers"]
    driver.memory |= {name: then[name] for name in driver.memory if name in then and name != asked.author}
    to, keep = loop.t, _known(saved, driver.edits)
    session.evaluated = min(session.evaluated, to)
    said = f"{asked.reason}; back to the checkpoint of update {saved.updates}"
    for _ in range(asked.ahead):
        loop.order.draw(loop.global_batch)
    driver.edit(Rollback(at, to, keep, author=asked.author, reason=said))
    if asked.by != 1:
        reason = f"the rate × {asked.by:g} after a rollback"
        driver.edit(Scale(to, asked.by, author=asked.author, reason=reason))
    if asked.end:
        driver.edit(Stop(to, author=asked.author, reason="too many rollbacks; the checkpoint is good"))
    session.log_edits()
    if prepared.accelerator.is_main_process:
        checkpoint.remove_after(session.folder.checkpoints, saved.updates)
    session.save()


def _agreed(session: "Session") -> Checkpoint:
    """The newest checkpoint whose every byte is right; all processes take the one that the main one found."""
    from accelerate.utils import broadcast_object_list

    accelerator, folder = session.prepared.accelerator, session.folder
    saved = checkpoint.newest(folder.checkpoints, planned=True) if accelerator.is_main_process else None
    (path,) = broadcast_object_list([saved and saved.path])
    if path is None:
        raise CheckpointError(f"{folder.path} has no good checkpoint to go back to")
    return saved or checkpoint.read(path)


def _load_weights(session: "Session", saved: Checkpoint) -> None:
    """Into the parameters that the optimizer holds, read as a resumed run would read them."""
    prepared, model = session.prepared, session.loop.model
    found = prepared.task.build(str(saved.path), prepared.data.labels).model
    prepared.accelerator.unwrap_model(model).load_state_dict(found.state_dict())


def _known(saved: Checkpoint, edits: tuple[Any, ...]) -> int:
    """How many of the edits are in the checkpoint; a run resumed with another plan has a list of its own."""
    then = saved.state["driver"]["edits"]
    same = [one == ours.as_json() for one, ours in zip(then, edits, strict=False)]
    return same.index(False) if False in same else len(same)
