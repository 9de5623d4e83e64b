"""Going on from a checkpoint: is its plan this one, and by which of the two does the run go on?"""

from collections.abc import Iterable, Mapping
from typing import Any

from etude.control.controller import Controller
from etude.core.plan import Plan
from etude.core.rates import Rates, rates_from_state
from etude.errors import EtudeError, PlanMismatch

FORMAT = 1


def resumed(state: Mapping[str, Any], rates: Rates, on_mismatch: str | None) -> Rates:
    """The rates with which a driver goes on from `state`; raises as `Driver.load_state_dict` says."""
    if state.get("etude") != FORMAT:
        raise PlanMismatch(f"this state has format {state.get('etude')!r}; this étude reads format {FORMAT}")
    if on_mismatch not in (None, "checkpoint", "recipe"):
        raise EtudeError(f'on_mismatch={on_mismatch!r} is not known; write "checkpoint" or "recipe"')
    rows = _differences(state, rates.state())
    if rows and on_mismatch is None:
        lines = "\n".join(
            f"  {field}: {theirs} in the checkpoint, {ours} here" for field, theirs, ours in rows
        )
        asked = 'write on_mismatch="checkpoint" or "recipe"'
        raise PlanMismatch(f"the checkpoint belongs to another plan\n{lines}\n{asked}", rows)
    if rows and on_mismatch == "recipe":
        return rates
    return _rates_from(state, rates.plan)


def kinds(controllers: Iterable[Controller]) -> dict[str, list[Any]]:
    """By name what each controller is and what it reads: what its memory is of."""
    return {one.name: [type(one).__name__, list(one.reads)] for one in controllers}


def remembered(state: Mapping[str, Any], controllers: Iterable[Controller]) -> dict[str, dict[str, Any]]:
    """The memories of `state`; a controller that was not there, or is another kind, or reads another metric
    under the same name, begins anew.
    """
    then = state["controllers"]
    now = {one.name: one for one in controllers}
    was = state.get("kinds", {})  # a checkpoint of before has none
    same = {
        name for name, kind in kinds(now.values()).items() if name in then and was.get(name, kind) == kind
    }
    return {name: dict(then[name]) if name in same else one.init() for name, one in now.items()}


def _rates_from(state: Mapping[str, Any], own: Plan) -> Rates:
    grouped = [(group["name"], tuple(group["params"])) for group in state["groups"]]
    if grouped != [(group.name, group.params) for group in own.groups]:
        raise PlanMismatch(
            "the checkpoint groups the parameters in another way, so its plan cannot drive this optimizer: "
            "plan the model as the checkpoint did, or go by the recipe"
        )
    return rates_from_state(state)


def _differences(state: Mapping[str, Any], own: Mapping[str, Any]) -> tuple[tuple[str, str, str], ...]:
    """(field, in the checkpoint, here) for each field of span, plan and groups that differs."""
    theirs, ours = _flat(state), _flat(own)
    fields = [*theirs, *(field for field in ours if field not in theirs)]
    return tuple(
        (field, _short(theirs.get(field)), _short(ours.get(field)))
        for field in fields
        if theirs.get(field) != ours.get(field)
    )


def _flat(state: Mapping[str, Any]) -> dict[str, Any]:
    groups = {g["name"]: g for g in state["groups"]}
    return {
        **{f"span {name}": value for name, value in state["span"].items()},
        **dict(state["plan"]),
        "groups": list(groups),
        **{f"{name} {key}": g[key] for name, g in groups.items() for key in ("scale", "gate", "params")},
    }


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 90 else text[:60] + "…" + text[-29:]
