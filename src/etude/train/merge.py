"""Several sources of settings to one: what a later one says replaces what an earlier one said.

Within one source two keys that say the same thing contradict each other; across sources the later one wins,
also with another key (`updates` over the file's `epochs`), unless it changes one half of a whole. Only
controllers that are said as a mapping, as in `control.plateau.patience=2`, change those of the same names.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from etude.errors import RecipeError
from etude.train import names
from etude.train.control import changed
from etude.train.kinds import FIND, number
from etude.train.names import Renamed


class Merged:
    """The settings in native words (`values`), the schedule's old names (`said`), the renamings in force."""

    def __init__(self, sources: Iterable[Mapping[str, Any]]):
        self.values: dict[str, Any] = {}
        self.said: dict[str, Any] = {}
        self.renamed: dict[str, Renamed] = {}
        for source in sources:
            self._add(source)

    def _add(self, source: Mapping[str, Any]) -> None:
        own, records = names.translate(source)
        said = {key: source[key] for key in names.SCHEDULE if key in source}
        old = {record.native: record.old for record in records}
        if isinstance(own.get("control"), Mapping) and self.values.get("control"):
            own["control"] = changed(self.values["control"], own["control"])
        if own.get("lr") == FIND and is_schedule(self.values.get("lr")) and own.get("schedule") is None:
            own["schedule"] = _path(self.values["lr"])
        self._refuse(own, said, old)
        older = _superseded(own, said) | own.keys() | said.keys()
        for settings in (self.values, self.said, self.renamed):
            for key in older & settings.keys():
                del settings[key]
        self.values |= own
        self.said |= said
        self.renamed |= {record.native: record for record in records}

    def _refuse(self, own: Mapping[str, Any], said: Mapping[str, Any], old: Mapping[str, str]) -> None:
        """Refuse a source that says one thing twice, or one half of what was said as a whole."""
        if own.get("epochs") is not None and own.get("updates") is not None:
            both = " and ".join(old.get(key, key) for key in ("epochs", "updates"))
            raise RecipeError(f"{both} both say the length of the run; write one of them")
        lr, path, before = own.get("lr"), own.get("schedule"), self.values.get("lr")
        part = "/".join(said)
        if said and path is not None:
            raise RecipeError(f"{part} and schedule: {path} both say the schedule; write one of them")
        if said and is_schedule(lr):
            raise RecipeError(f"{part} and lr: {lr} both say the schedule; write one of them")
        if "lr_scheduler_type" in said:
            return
        if said and self.values.get("schedule") is not None:
            raise RecipeError(
                f"{part} says a part of the schedule, and the recipe has all of it, "
                f"{self.values['schedule']}; write schedule"
            )
        if is_schedule(before) and lr is not None and not is_schedule(lr) and path is None:
            raise RecipeError(
                f"lr: {lr} is a peak, and the recipe's lr is a whole schedule: {before}; "
                f"write a whole schedule, or schedule beside the peak"
            )


def _superseded(own: Mapping[str, Any], said: Mapping[str, Any]) -> set[str]:
    """Keys of earlier sources that a later one replaces by saying the same with other keys."""
    older: set[str] = set()
    if own.get("epochs") is not None or own.get("updates") is not None:
        older |= {"epochs", "updates"}
    if is_schedule(own.get("lr")):
        older |= {"schedule", *names.SCHEDULE}
    if own.get("schedule") is not None:
        older |= set(names.SCHEDULE)
    if "lr_scheduler_type" in said:
        older |= {"schedule", "lr_scheduler_kwargs"}
    if "warmup_ratio" in said or "warmup_steps" in said:
        older |= {"warmup_ratio", "warmup_steps"}
    return older


def _path(lr: Any) -> str:
    """A whole schedule without its peak, which is yet to be found."""
    from etude.core.path import as_schedule

    return str(dataclasses.replace(as_schedule(lr), peak=1))


def is_schedule(lr: Any) -> bool:
    """Whether what is written as lr is a whole schedule, perhaps a misspelt one, and not a number."""
    if isinstance(lr, str):
        try:
            number(lr)
        except ValueError:
            return "(" in lr
    return hasattr(lr, "over")
