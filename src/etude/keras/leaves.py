"""A Keras model as a list of leaves."""

import re
from collections.abc import Iterable
from typing import Any

import keras

from etude.errors import PlanError
from etude.model.anatomy.numbering import numbered
from etude.model.leaf import Leaf

KINDS = {
    "Dense": "Linear",
    "EinsumDense": "Linear",
    "Embedding": "Embedding",
    "ReversibleEmbedding": "Embedding",
}
ENDS = re.compile(r"(Norm)(?:alization)?$|(Conv)(?:\dD)?(?:Transpose)?$|(Embedding)$")


def leaves(model: keras.Model) -> list[Leaf]:
    """Every parameter of a built model, in the order of its layers: `etude.plan(leaves(model), …)`.

    Names are the paths of the variables, with dots. The numbers that Keras gives to layers without a name of
    their own count all layers of the process; here they count the neighbours: `block`, `block_1` become
    `block.0`, `block.1`, and `dense_7` is `dense` where it stands alone. Moving statistics and seeds are no
    parameters; what `trainable = False` froze does not train. Raises `PlanError` for a model that is not
    built and for two parameters of one name.
    """
    layers = _layers(model)
    return [
        Leaf(name, tuple(variable.shape), bool(variable.trainable), _kind(layers[id(variable)]))
        for name, variable in parameters(model).items()
    ]


def parameters(model: keras.Model) -> dict[str, keras.Variable]:
    """Every parameter by the name that `leaves` gives it."""
    owned = _layers(model)
    found = [variable for variable in model.weights if id(variable) in owned]
    if not found:
        raise PlanError("this model has no parameters yet: build it, or call it on a batch")
    alone = {layer.name for layer in _walk(model) if _named_by_keras(layer)}
    names = numbered(_counted([tuple(variable.path.split("/")) for variable in found], alone))
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise PlanError(f"two parameters are called {twice}: give their layers names of their own")
    return dict(zip(names, found, strict=True))


def _walk(model: keras.Model) -> Iterable[keras.Layer]:
    return model._flatten_layers(include_self=True, recursive=True)


def _layers(model: keras.Model) -> dict[int, keras.Layer]:
    """The layer of each variable that was made to be trained, also of one that is frozen now."""
    return {id(variable): layer for layer in _walk(model) for variable in layer._trainable_variables}


def _named_by_keras(layer: keras.Layer) -> bool:
    base = re.sub(r"_\d+$", "", layer.name)
    return base.replace("_", "") == type(layer).__name__.lower()


def _counted(paths: list[tuple[str, ...]], by_keras: set[str]) -> list[tuple[str, ...]]:
    """Paths in which the numbers that Keras gave count neighbours of one kind, and fall away if alone."""
    kin: dict[tuple[Any, ...], list[int]] = {}
    steps = [[(path[:i], *_split(part)) for i, part in enumerate(path) if part in by_keras] for path in paths]
    for prefix, base, number in (step for path in steps for step in path):
        numbers = kin.setdefault((prefix, base), [])
        if number not in numbers:
            numbers.append(number)

    def spelt(prefix: tuple[str, ...], part: str) -> str:
        if part not in by_keras:
            return part
        base, number = _split(part)
        numbers = sorted(kin[prefix, base])
        return base if len(numbers) == 1 else f"{base}_{numbers.index(number)}"

    return [tuple(spelt(path[:i], part) for i, part in enumerate(path)) for path in paths]


def _split(part: str) -> tuple[str, int]:
    base, _, number = part.rpartition("_")
    return (base, int(number)) if base and number.isdecimal() else (part, 0)


def _kind(layer: keras.Layer) -> str:
    name = type(layer).__name__
    found = ENDS.search(name)
    return KINDS.get(name) or (next(filter(None, found.groups())) if found else name)
