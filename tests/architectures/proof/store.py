"""What models say about themselves and what feeds what in them, kept so that étude can be judged again.

A file for each model type of transformers and each module of timm, in `build/architectures`.
"""

import gzip
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from proof import models, timm_models
from proof.facts import Facts, Module, facts
from proof.flow import Pass

FOLDER = Path(__file__).parents[3] / "build" / "architectures"


class Kept(NamedTuple):
    """A class: what it says, and its passes if it is the one of its type that was run."""

    facts: Facts
    passes: tuple[Pass, ...]


def transformers(model_type: str, make: bool = False) -> dict[str, Kept | str]:
    """The classes of a model type, built if they are not kept; a text says why one could not be built."""
    file = FOLDER / "transformers" / f"{model_type}.pkl"
    if file.exists() and not make:
        return {name: kept if isinstance(kept, str) else _read(kept) for name, kept in _load(file).items()}
    old = transformers(model_type) if file.exists() else {}
    found = _built(model_type, old)
    _save(file, {name: kept if isinstance(kept, str) else _plain(kept) for name, kept in found.items()})
    return found


def _built(model_type: str, old: dict[str, Kept | str]) -> dict[str, Kept | str]:
    """Every class that can be built here; one that needs timm stays as it was kept where timm is not."""
    from proof.execution import passes

    found: dict[str, Kept | str] = {}
    for name in models.classes(model_type):
        try:
            said = facts(models.build(model_type, name))
        except Exception as error:
            missing = "timm library" in str(error)
            found[name] = old.get(name, "needs timm") if missing else f"{type(error).__name__}: {error}"
            continue
        if said.rows:
            found[name] = Kept(said, ())
    built = {
        name: kept for name, kept in found.items() if isinstance(kept, Kept) and kept is not old.get(name)
    }
    if built:
        largest = max(built, key=lambda name: len(built[name].facts.rows))
        with models.quiet():
            model = models.build(model_type, largest)
            ran, _ = passes(model, lambda: models.build(model_type, largest, "cpu"))
        found[largest] = built[largest]._replace(passes=tuple(ran))
    return found


def timm(module: str, make: bool = False) -> dict[str, timm_models.Kept]:
    """The architectures of a module of timm, built if they are not kept."""
    file = FOLDER / "timm" / f"{module}.pkl"
    if file.exists() and not make:
        return {name: timm_models.Kept.read(kept) for name, kept in _load(file).items()}
    found = {name: timm_models.build(name) for name in timm_models.names()[module]}
    _save(file, {name: tuple(kept) for name, kept in found.items()})
    return found


def kept(folder: str) -> Iterator[str]:
    """The names of the files of a folder."""
    return (file.stem for file in sorted((FOLDER / folder).glob("*.pkl")))


def _plain(one: Kept) -> tuple[Any, ...]:
    modules = [tuple(module) for module in one.facts.modules]
    return tuple(one.facts._replace(modules=modules)), [tuple(found) for found in one.passes]


def _read(plain: tuple[Any, ...]) -> Kept:
    said, passes = plain
    found = Facts(*said)
    found = found._replace(modules=[Module(*module) for module in found.modules])
    return Kept(found, tuple(Pass(*one) for one in passes))


def _load(file: Path) -> dict[str, Any]:
    with gzip.open(file) as stream:
        return pickle.load(stream)


def _save(file: Path, found: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(file, "wb", compresslevel=1) as stream:
        pickle.dump(found, stream)
