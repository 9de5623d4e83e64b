"""The targets that code can be written for, and how their parts make one text."""

import pkgutil
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import NamedTuple

from etude.core.rates import Rates
from etude.core.shapes import SHAPES
from etude.errors import EtudeError, near
from etude.export import page
from etude.export.formulas import formulas
from etude.export.tables import Tables, tabulate


class Script(NamedTuple):
    """What a target adds to formulas and tables.

    `arrays` is the name of its array functions, None for Python's numbers; `lookup` the functions that read
    a table in that namespace; `body` what stands below them; `imports` the lines that they need.
    """

    arrays: str | None
    imports: Iterable[str]
    lookup: str
    body: str


Write = Callable[[Tables], Script]
TARGETS: dict[str, Write] = {}

# Other names under which a target is looked for.
MEANT = {"pytorch": "torch", "accelerate": "torch", "jax": "optax", "flax": "optax", "tensorflow": "keras"}
MEANT |= dict.fromkeys(("transformers", "huggingface", "trainer", "trl", "unsloth"), "hf")


def target(name: str) -> Callable[[Write], Write]:
    """Register what a target adds, under the name that `etude export --to` takes."""

    def register(write: Write) -> Write:
        TARGETS[name] = write
        return write

    return register


def targets() -> dict[str, Write]:
    """Every target by name: one file each in this room."""
    room = import_module("etude.export")
    for module in pkgutil.iter_modules(room.__path__):
        import_module(f"{room.__name__}.{module.name}")
    return TARGETS


def code(rates: Rates, to: str) -> str:
    """Python source that gives every rate of a run, to paste where étude is not installed.

    `to` is one of torch, hf, lightning, keras, optax, mlx. All edits so far are in it; the number of the
    update is all that it asks for. Raises `EtudeError` for an unknown target and for what no target has a
    place for, `ScheduleError` for an open run that waits to be told its end.

    >>> from etude import Plan
    >>> text = code(Plan({"lr": "2e-5 * (warmup(0.1) >> linear())"}).over(1000), to="torch")
    >>> print(text[text.index("LR_PATH = ") : text.index("def piece")].strip())
    LR_PATH = [
        (0, 0, 100, 0.0, 1.0, warmup),
        (100, 100, 900, 1.0, 0.0, linear),
    ]
    <BLANKLINE>
    LR = (2e-05, LR_PATH)
    """
    if to not in (known := targets()):
        meant = MEANT.get(str(to).lower())
        raise EtudeError(f"no code is written for {to!r}{f'; write {meant!r}' if meant else near(to, known)}")
    if not isinstance(rates, Rates):
        raise EtudeError(
            f"code takes the rates of a run, not a {type(rates).__name__}: plan.over(1000) or driver.rates"
        )
    tables = tabulate(rates)
    script = known[to](tables)
    used: dict[str, set[str]] = {name: set() for name in SHAPES if name in tables.words}
    for rows in tables.paths.values():
        for row in rows:
            used[row.shape].update(name for name, _ in row.options)
    words = formulas(used, script.arrays)
    parts = [*words.functions.values(), page.data(tables), script.lookup, script.body]
    text = "\n\n\n".join(part.strip("\n") for part in parts)
    lines = {*script.imports, *words.imports}
    lines |= {"import math"} if "math." in text else set()
    lines |= {"from functools import partial"} if "partial(" in text else set()
    apart = "\n\n\n" if words.functions else "\n\n"
    return f"{page.header(tables, to)}\n{page.imports(lines)}{apart}{text}\n"
