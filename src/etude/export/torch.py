"""torch: a scheduler for any loop that calls one."""

from etude.export import scheduler
from etude.export.layout import comment
from etude.export.tables import Tables
from etude.export.target import Script, target


@target("torch")
def torch(tables: Tables) -> Script:
    """A subclass of `LRScheduler`, and how it is used."""
    usage = [f"optimizer = {scheduler.optimizer(tables)}", "scheduler = Schedule(optimizer)"]
    return scheduler.script(tables, comment(usage))
