"""The gallery's entries: what each word and recipe says of itself in its docstring, and the curves it shows.

A docstring has a first line that says what it does (a word's with its formula), paragraphs that begin with
Source, For, Use or Avoid, and a doctest. Recipes are drawn as their doctests call them.
"""

import doctest
import inspect
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from etude.core import shapes
from etude.core.named import NAMED
from etude.core.path import as_schedule, repeat, words_of
from etude.core.plan import Group, Plan
from etude.core.shapes import SHAPES
from etude.core.text import parse
from etude.errors import EtudeError, ScheduleError, near

LABELS = ("Source", "For", "Use", "Avoid")
TOTALS = (1000, 10_000)  # planned updates: the shortest of these that holds all that is drawn together

# What shows a word better than its example alone; a word that is not named here is drawn as its example.
DRAWN = {
    "linear": ("linear()", "linear(to=0.2)"),
    "warmup": ("warmup(0.3) >> hold()", "warmup(0.3, start=0.2) >> hold()"),
    "exp_warmup": ("exp_warmup(0.5) >> hold()", "exp_warmup(0.5, timescale=50) >> hold()"),
    "cosine": ("cosine()", "cosine(exponent=2)", "cosine(k=2)"),
    "quarter_cosine": ("quarter_cosine()", "cosine()"),
    "wave": ("wave(half=200)", "wave(half=200, low=0.5)"),
    "poly": ("poly(power=2)", "poly(power=4)", "poly(power=0.5)"),
    "exp": ("exp(to=0.01)", "exp(to=0.1)"),
    "inv_time": ("warmup(0.1) >> inv_time()", "warmup(0.1) >> inv_time(timescale=400)"),
    "step": ("step(times=3)", "step(times=3, by=0.5)", "step(every=100, by=0.8)"),
    "multistep": ("multistep(at=(0.5, 0.75))", "multistep(at=(0.5, 0.75), by=0.5)"),
    "sqrt": ("sqrt()", "hold() >> sqrt(0.2)"),
    "square": ("square(0.3, start=0, to=1) >> hold()", "hold(0.5) >> square()"),
    "inv_sqrt": ("warmup(0.1) >> inv_sqrt()", "warmup(0.1) >> inv_sqrt(timescale=400)"),
    "rex": ("rex()", "rex(d=0.9)"),
    "tanh": ("tanh()", "tanh(lb=-3, ub=3)"),
    "cyclic": ("cyclic(up=100, start=0.1)", "cyclic(up=100, start=0.1, by=0.5)"),
    "repeat": ("repeat(cosine(start=1), 3, stretch=2)", "repeat(linear(start=1), 4, fade=0.6)"),
    "frozen": ("frozen(0.3) >> warmup(0.1) >> hold()", "cosine(0.5) >> frozen()"),
}
# Families of recipes in the order of the page; one that is not named here comes last.
FAMILIES = ("decays", "stairs", "plateaus", "cycles", "restarts", "warmups", "scaling", "presets")


class Entry(NamedTuple):
    """A word or a recipe as the gallery shows it.

    `formula` is a word's, "" for a recipe; `notes` are the paragraphs without a label; `labelled` maps
    Source, For, Use and Avoid to what they say; `example` is the doctest; `drawn` are the schedules of the
    picture, as they are written.
    """

    name: str
    family: str
    does: str
    formula: str
    signature: str
    notes: tuple[str, ...]
    labelled: dict[str, str]
    example: str
    drawn: tuple[str, ...]


def entries() -> dict[str, Entry]:
    """Every word in the order of its file, then every recipe, family by family.

    >>> found = entries()
    >>> found["linear"].formula, found["wsd"].family
    ('a + (b - a)·u', 'plateaus')
    """
    words = {name: _entry(name, "words", getattr(shapes, name)) for name in SHAPES}
    words["repeat"] = _entry("repeat", "words", repeat)
    recipes = [_entry(name, make.__module__.rpartition(".")[2], make) for name, make in NAMED.items()]
    last = len(FAMILIES)
    recipes.sort(key=lambda one: FAMILIES.index(one.family) if one.family in FAMILIES else last)
    return words | {one.name: one for one in recipes}


def chosen(names: Iterable[str]) -> dict[str, Entry]:
    """The entries of some names, all if none is said; raises `EtudeError` with the near ones for a slip."""
    found, names = entries(), list(names)
    for name in names:
        if name not in found:
            raise EtudeError(f"{name} is neither a word nor a recipe{near(name, found)}")
    return {name: found[name] for name in names} if names else found


def introduction(family: str) -> str:
    """The sentence that a family of recipes begins with, from its file."""
    text = inspect.getdoc(sys.modules[f"etude.core.named.{family}"]) or ""
    return text.partition("\n")[0]


def _entry(name: str, family: str, make: Callable[..., Any]) -> Entry:
    text = inspect.getdoc(make) or ""
    prose, mark, example = text.partition("\n>>> ")
    first, *rest = prose.split("\n")
    does, formula = _formula(first)
    notes: list[str] = []
    labelled: dict[str, str] = {}
    into: str | None = None  # the label that a line goes on with; "" inside a paragraph without one
    for line in rest:
        label, _, said = line.partition(": ")
        if label in LABELS:
            labelled[label], into = said, label
        elif not line:
            into = None
        elif into:
            labelled[into] += f" {line}"
        elif into == "":
            notes[-1] += f" {line}"
        else:
            notes.append(line)
            into = ""
    if not formula:  # it may need a line of its own
        formula = next(
            (note.removeprefix("f = ").rstrip(".") for note in notes if note.startswith("f = ")), ""
        )
        notes = [note for note in notes if not note.startswith("f = ")]
    drawn = _called(text) if family != "words" else DRAWN.get(name) or (SHAPES[name].example,)
    code = (mark + example).strip()
    return Entry(name, family, does, formula, _signature(name, make), tuple(notes), labelled, code, drawn)


def _formula(first: str) -> tuple[str, str]:
    """A first line as (what it does, its formula).

    >>> _formula("Stay where the pen is: f = a·(1 - u); a line. And more.")
    ('Stay where the pen is. A line. And more.', 'a·(1 - u)')
    """
    does, found, rest = first.partition(": f = ")
    if not found:
        return first, ""
    formula, *more = re.split(r"(?<=\S)[;.,](?:\s|$)", rest, maxsplit=1)
    more = [text for text in more if text]
    return " ".join([does + ".", *(text[0].upper() + text[1:] for text in more)]), formula


def _signature(name: str, make: Callable[..., Any]) -> str:
    bare = [p.replace(annotation=p.empty) for p in inspect.signature(make).parameters.values()]
    return name + str(inspect.Signature(bare))


def _called(text: str) -> tuple[str, ...]:
    """The schedules that a doctest writes as its lines."""
    found = []
    for example in doctest.DocTestParser().get_examples(text):
        source = example.source.strip()
        if not source.startswith("from "):
            parse(source)
            found.append(source)
    return tuple(found)


class Picture(NamedTuple):
    """Curves over `total` planned updates by what is written, as ratios of their highest peak."""

    total: int
    curves: dict[str, Callable[[float], float]]


def picture(entry: Entry) -> Picture:
    """What the picture of an entry shows; raises `ScheduleError` if no run of `TOTALS` holds it."""
    refused: list[ScheduleError] = []
    for total in TOTALS:
        try:
            levels = {text: _level(text, total) for text in entry.drawn}
        except ScheduleError as error:
            refused.append(error)
            continue
        highest = max(peak for peak, _ in levels.values())
        return Picture(total, {text: _scaled(level, highest) for text, (_, level) in levels.items()})
    raise refused[0]


def _scaled(level: Callable[[float], float], peak: float) -> Callable[[float], float]:
    return lambda t: level(t) / peak


def _level(text: str, total: int) -> tuple[float, Callable[[float], float]]:
    """The peak of a schedule and its curve; a path that freezes is drawn as the gate it is."""
    schedule = as_schedule(parse(text))
    if not any(SHAPES[word.name].gate_only for path in schedule.paths for word in words_of(path)):
        return schedule.peak, schedule.over(total)
    gated = Plan({"lr": 1}, [Group("gated", gate=schedule.paths[0])], tick=0).over(total)
    return 1.0, lambda t: gated.at(t)["lr"][0]
