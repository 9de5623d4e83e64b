"""What a foreign configuration says in étude's language, and the formats that can be read."""

import math
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, NamedTuple

from etude.errors import RecipeError, near


@dataclass(frozen=True)
class Converted:
    """A foreign configuration in étude's words.

    `hypers` maps a hyper-parameter to its schedule's text, `settings` holds what else `etude.plan` takes
    (`layer_decay`, `head`, `groups`), `warnings` say where the foreign words trap, one sentence each. `tick`
    is 0 unless the format reads a schedule elsewhere in an update than at its beginning. `total` is the
    number of updates that the configuration itself names, None if it leaves that to the data.
    """

    hypers: Mapping[str, str]
    warnings: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    tick: float = 0
    total: float | None = None

    @property
    def text(self) -> dict[str, Any]:
        """The plan as recipes and checkpoints hold it: the hyper-parameters, their settings and the tick."""
        return {**self.hypers, **self.settings, "tick": self.tick}


class Format(NamedTuple):
    """A format: `knows` says whether what was parsed is of it, `read` converts it.

    Both get a mapping (of a YAML or JSON file) or a text (Python source, a shell script, whatever is
    neither); `knows` is asked about every file, so it raises nothing. `over` names formats that this one
    contains: where both know a file, this one reads it.
    """

    name: str
    knows: Callable[[Any], bool]
    read: Callable[..., Converted]
    over: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """What the format is, in one line: the first of its reader's description."""
        return (self.read.__doc__ or "").strip().partition("\n")[0]


FORMATS: dict[str, Format] = {}


def foreign(
    name: str, knows: Callable[[Any], bool], over: tuple[str, ...] = ()
) -> Callable[[Callable[..., Converted]], Callable[..., Converted]]:
    """Register a reader, `read(said, total=None, lr=None) -> Converted`, under the name of its format.

    `total` is the number of updates of the run and `lr` the peak where the configuration leaves them out (or
    where the user wants others); the reader raises `RecipeError` if it cannot do without.
    """

    def register(read: Callable[..., Converted]) -> Callable[..., Converted]:
        FORMATS[name] = Format(name, knows, read, over)
        return read

    return register


def formats() -> Mapping[str, Format]:
    """Every format that can be read, by name."""
    package = import_module(__name__.rpartition(".")[0])
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        import_module(module.name)
    return dict(sorted(FORMATS.items()))


def recognised(said: Mapping[str, Any] | str) -> list[str]:
    """The names of the formats that know what was parsed, without those that another of them contains."""
    found = {name: known for name, known in formats().items() if known.knows(said)}
    contained = {name for known in found.values() for name in known.over}
    return [name for name in found if name not in contained]


def read(
    said: Mapping[str, Any] | str,
    format: str | None = None,
    total: float | None = None,
    lr: float | None = None,
) -> Converted:
    """A parsed configuration (a mapping) or a source text in étude's words; `format` None: as it looks.

    `total` is the run's length in updates and `lr` the peak, where the configuration leaves them open. Raises
    `RecipeError` for an unknown format, and for what the format cannot say.
    """
    for name, value in (("total", total), ("lr", lr)):
        if value is not None and not 0 < value < math.inf:
            raise RecipeError(f"{name}: got {value!r}; must be a number above 0")
    known = formats()
    if format is None:
        found = recognised(said)
        if len(found) != 1:
            raise RecipeError(_undecided(said, found, known))
        format = found[0]
    if format not in known:
        raise RecipeError(f"{format!r} is no format that can be converted{near(format, known)}")
    return known[format].read(said, total=total, lr=lr)


def _undecided(said: Mapping[str, Any] | str, found: list[str], known: Mapping[str, Format]) -> str:
    if found:
        return f"this may be {' or '.join(found)}; say which with --format"
    if isinstance(said, str):
        first = next((line.strip() for line in said.splitlines() if line.strip()), "nothing")
        seen = f"a text that begins with {first[:60]!r}"
    else:
        seen = f"the keys {', '.join(list(map(str, said))[:8]) or '(none)'}"
    return f"no format is known for {seen}; name it with --format: {', '.join(known)}"
