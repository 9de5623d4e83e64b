"""The rates of a run as arrays in an optimizer's state, and how a driver's are put there."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from optax import InjectStatefulHyperparamsState

from etude.errors import EtudeError, near


class PlannedState(NamedTuple):
    """The state of `partition`: how many updates were made, and what they use.

    `hypers` holds one array a hyper-parameter, its values in group order; `open` whether each group trains,
    None if the plan freezes none. With a plan over a run they are those of the last update, with a bare plan
    those that `put` wrote for the next.
    """

    count: Any
    hypers: dict[str, Any]
    open: Any
    inner: Any


def put(opt_state: Any, values: Mapping[str, Any], open: Sequence[bool] | None = None) -> Any:
    """The state with the hyper-parameters of the next update: `put(opt_state, driver.at(k))`.

    The state is that of `partition` with a bare plan, or of `optax.inject_hyperparams` for a plan of one
    group, alone or inside a chain. Values are written into arrays that are there already, so a jitted update
    is not compiled again. `open` is `driver.rates.open(k)`; a plan whose gates freeze needs it. Raises
    `EtudeError` for a state that takes no rates or other ones.

    >>> import optax
    >>> optimizer = optax.inject_hyperparams(optax.sgd)(learning_rate=0.0)
    >>> state = put(optimizer.init({"w": jnp.ones(2)}), {"lr": [0.5]})
    >>> updates, state = optimizer.update({"w": jnp.ones(2)}, state, {"w": jnp.ones(2)})
    >>> updates["w"].tolist()
    [-0.5, -0.5]
    """
    found = 0

    def written(part: Any) -> Any:
        nonlocal found
        if isinstance(part, PlannedState):
            found += 1
            return _planned(part, values, open)
        if isinstance(part, InjectStatefulHyperparamsState):
            found += 1
            return _injected(part, values)
        return part

    kinds = (PlannedState, InjectStatefulHyperparamsState)
    new = jax.tree.map(written, opt_state, is_leaf=lambda part: isinstance(part, kinds))
    if not found:
        raise EtudeError(
            "this state takes no rates: make the optimizer with etude.optax.partition(plan, params), or with "
            "optax.inject_hyperparams(optax.adamw)(learning_rate=0.0)"
        )
    return new


def _planned(state: PlannedState, values: Mapping[str, Any], open: Sequence[bool] | None) -> PlannedState:
    _check_left_out(values, state.hypers)
    if state.open is not None and open is None:
        raise EtudeError("this plan freezes groups: write put(opt_state, driver.at(k), driver.rates.open(k))")
    hypers = {hyper: _like(values[hyper], held, hyper) for hyper, held in state.hypers.items()}
    flags = None if state.open is None else _like(open, state.open, "open")
    return state._replace(hypers=hypers, open=flags)


def _injected(state: InjectStatefulHyperparamsState, values: Mapping[str, Any]) -> Any:
    keys = {hyper: _key(hyper, state.hyperparams) for hyper in values}
    _check_left_out(values, [hyper for hyper, key in keys.items() if key in state.hyperparams])
    hyperparams = dict(state.hyperparams)
    for hyper, key in keys.items():
        if key in state.hyperparams_states:
            raise EtudeError(f"{key} follows a schedule in this optimizer: give it a number, {key}=0.0")
        if key in hyperparams:
            hyperparams[key] = _like(values[hyper], hyperparams[key], hyper)
    return state._replace(hyperparams=hyperparams)


def _key(hyper: str, held: Mapping[str, Any]) -> str:
    """What optax calls a hyper-parameter of a plan."""
    if hyper == "lr":
        return "learning_rate"
    return "b1" if hyper == "momentum" and "momentum" not in held else hyper


def _check_left_out(values: Mapping[str, Any], held: Any) -> None:
    """A hyper-parameter that the optimizer has not may be left out where it is 0 throughout."""
    for hyper, column in values.items():
        if hyper not in held and np.any(column):
            raise EtudeError(f"this optimizer's state has no {hyper!r}{near(hyper, held)}")


def _like(value: Any, held: Any, hyper: str) -> Any:
    """`value` as an array that jit takes for `held`: same shape, same type, same place."""
    traced = isinstance(held, jax.core.Tracer)
    if any(isinstance(one, jax.core.Tracer) for one in jax.tree.leaves(value)):
        array = jnp.asarray(value, held.dtype)
    elif traced:
        raise EtudeError(
            "put(…) inside jit would compile today's rates into it: call it outside, on the state that jit "
            "is given, or hand driver.at(k) to the jitted function as an argument"
        )
    else:
        array = np.asarray(value, held.dtype)
    if array.size != held.size:
        raise EtudeError(
            f"{array.size} values of {hyper!r} for {held.size} groups: the driver's plan is another one than "
            f"that of the optimizer; give each group its optimizer with etude.optax.partition(plan, params)"
        )
    array = array.reshape(held.shape)
    if not traced and isinstance(held, jax.Array) and held.committed:
        return jax.device_put(array, held.sharding)
    return jnp.asarray(array)
