"""What the log says of a run as a whole: its groups, and the record with which a process begins."""

import dataclasses
import os
import platform
import time
from typing import TYPE_CHECKING, Any

import etude
from etude.train.checkpoint import Checkpoint

if TYPE_CHECKING:
    from etude.train.session import Session
    from etude.train.setup import Setup


def group_records(prepared: "Setup") -> list[dict[str, Any]]:
    """The groups as the log holds them; `depth` is that of the lowest rung, `count` is of parameters."""
    rows = [row for row in prepared.layout.rows() if row.group is not None]
    return [
        {
            **group.as_json(),
            "depth": min(row.depth for row in rows if row.group == group.name),
            "count": sum(row.size for row in rows if row.group == group.name),
        }
        for group in prepared.plan.groups
    ]


def start_record(session: "Session", saved: Checkpoint | None) -> dict[str, Any]:
    """The first record of a process: what it runs, on what, and from which checkpoint it goes on.

    `edits` is how many of the driver's list that checkpoint has: the log may know of more.
    """
    import torch
    import transformers

    prepared, loop = session.prepared, session.loop
    accelerator, resumed = prepared.accelerator, None
    if saved is not None:
        resumed = {"checkpoint": saved.name, "t": loop.t, "updates": loop.clock.updates}
        resumed["edits"] = len(loop.driver.edits)
    return {
        "type": "start",
        "time": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "etude": etude.__version__,
        "run": session.folder.name,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "machine": {
            "device": str(accelerator.device),
            "threads": torch.get_num_threads(),
            "processes": accelerator.num_processes,
            "cores": os.cpu_count(),
        },
        "recipe": dataclasses.asdict(prepared.recipe),
        "plan": loop.driver.rates.plan.text,
        "span": loop.driver.rates.state()["span"],
        "groups": group_records(prepared),
        "data": prepared.data.record(),
        "found": prepared.found and {**prepared.found.to_dict(), "page": prepared.found.page()},
        "resumed": resumed,
    }
