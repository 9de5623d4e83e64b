"""Runs to write code for, and an interpreter without étude in which the code runs."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

import etude
from etude import Advance, Group, Plan, Redraw, Rollback, Scale, Stop, Stretch, parse
from etude.core.shapes import SHAPES
from etude.export import code

TOTAL = 97

# Keeps étude away as if it had never been installed.
WITHOUT_ETUDE = """
import json, sys
sys.modules["etude"] = None
try:
    import etude
    raise SystemExit("étude is here")
except ImportError:
    pass
"""


def word_run(word, varied):
    """A run with one word, as its example has it or with every numeric option a tenth lower."""
    shape = SHAPES[word]
    (piece,) = parse(shape.example).pieces
    values = dict(piece.values)
    if varied:
        values |= {name: 0.9 * x for name, x in shape.options.items() if isinstance(x, float) and x}
    over = () if piece.over is None else (piece.over,)
    path = getattr(etude, word)(*over, **values)
    if shape.gate_only:
        return Plan({"lr": "1e-3 * linear()"}, [Group("all", gate=path >> parse("hold(start=1)"))]).over(
            TOTAL
        )
    return Plan({"lr": 1e-3 * (parse("warmup(0.1)") >> path >> parse("hold()"))}).over(TOTAL)


def plain(text, tick=0.5, total=TOTAL, **hypers):
    return Plan({"lr": text, **hypers}, tick=tick).over(total)


TRIANGLE = "1e-3 * (warmup(0.1) >> linear(to=0.01))"
MOMENTUM = "cosine(0.3, start=0.95, to=0.85) >> cosine(to=0.95)"

# Runs of one group, by name.
SIMPLE = {
    **{word: lambda word=word: word_run(word, varied=False) for word in SHAPES},
    **{f"{word} varied": lambda word=word: word_run(word, varied=True) for word in SHAPES},
    "golden": lambda: plain("2e-5 * (warmup(0.1) >> cosine(to=0.01))"),
    "constant": lambda: plain("2e-5 * hold()"),
    "tick 0": lambda: plain(TRIANGLE, tick=0),
    "tick 1": lambda: plain(TRIANGLE, tick=1),
    "tick 1 to the end": lambda: plain("1e-3 * (hold() >> linear(0, to=0.5))", tick=1),
    "cut last update": lambda: plain(TRIANGLE, total=96.3),
    "repeat": lambda: plain("1e-3 * (warmup(0.05) >> repeat(cosine(start=1), 3, stretch=2, fade=0.5))"),
    "product": lambda: plain("1e-3 * (warmup(0.1) >> cosine(to=0.1)) * wave(half=13, low=0.2)"),
    "waves": lambda: plain("1e-3 * wave(half=13, low=0.1)"),
    "stairs": lambda: plain("1e-3 * step(by=0.5, every=13)"),
    "milestones": lambda: plain("1e-3 * (warmup(9) >> multistep(at=(20, 0.5), by=0.3))"),
    "cycles": lambda: plain("1e-3 * cyclic(up=7, down=5, start=0.1, by=0.8, gamma=0.99)"),
    "decay and momentum": lambda: plain(TRIANGLE, weight_decay="0.01 * linear(to=0.5)", momentum=MOMENTUM),
    "constant decay": lambda: plain(TRIANGLE, weight_decay=0.02),
    "stretched": lambda: plain(TRIANGLE, weight_decay="0.1 * linear()").edit(Stretch(40, 80.5)),
    "advanced": lambda: plain("1e-3 * (warmup(5) >> hold(80) >> linear())").edit(Advance(30)),
    "redrawn": lambda: plain(TRIANGLE).edit(Redraw(60.5, "hold(0.5) >> cosine()", 110.3)),
    "stopped": lambda: plain(TRIANGLE).edit(Scale(20, 0.5)).edit(Stop(70)),
    "rolled back": lambda: (
        plain(TRIANGLE).edit(Scale(10, 0.5)).edit(Scale(30, 0.1)).edit(Rollback(45, 25, 1)).edit(Scale(50, 2))
    ),
    "open": lambda: plain("1e-3 * (warmup(20) >> inv_sqrt())", total=float("inf")),
}


def grouped(prefix, gate="frozen(0.3) >> warmup(0.05) >> hold()", tick=0.5, **hypers):
    scale = {"lr": 10, "weight_decay": 0} if "weight_decay" in hypers else {"lr": 10}
    groups = [
        Group("body", (f"{prefix}a", f"{prefix}b"), {"lr": 0.5}, gate=gate),
        Group('the "head"', (f"{prefix}c",), scale),
    ]
    return Plan({"lr": TRIANGLE, **hypers}, groups, tick).over(TOTAL)


# Runs of two groups; the names of their parameters begin with what a framework calls the model.
GROUPED = {
    "groups": lambda prefix: grouped(prefix, weight_decay=0.01),
    "groups, all scheduled": lambda prefix: grouped(
        prefix, weight_decay="0.01 * linear(to=0.5)", momentum=MOMENTUM
    ).edit(Scale(40, 0.5, groups="the*", reason='a "reason"\nof two lines')),
    "frozen for good": lambda prefix: grouped(prefix, gate="cosine(0.5) >> frozen()", tick=0),
    "a group alone": lambda prefix: Plan({"lr": TRIANGLE}, [Group("all", (f"{prefix}a",))]).over(TOTAL),
}


def pytest_generate_tests(metafunc):
    names = {"simple": list(SIMPLE), "grouped": list(GROUPED)}
    for fixture, known in names.items():
        if fixture in metafunc.fixturenames:
            metafunc.parametrize(fixture, known)


@pytest.fixture(scope="session")
def runs():
    """The rates of every run by its name, for a framework's prefix of parameter names."""

    def made(prefix=""):
        return {name: run() for name, run in SIMPLE.items()} | {
            name: run(prefix) for name, run in GROUPED.items()
        }

    return made


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory):
    """Runs a script in an interpreter without étude, and gives what it left in `results`.

    The codes of `rates` (by name) stand in `CODES`; `load(name)` makes a module of one.
    """

    def run(rates, to, script, **environment):
        folder = tmp_path_factory.mktemp(to)
        (folder / "codes.json").write_text(json.dumps({name: code(one, to) for name, one in rates.items()}))
        loader = """
        import types
        CODES = json.load(open("codes.json"))
        results = {}

        def load(name):
            module = types.ModuleType("pasted_" + str(list(CODES).index(name)))
            sys.modules[module.__name__] = module
            exec(compile(CODES[name], name, "exec"), module.__dict__)
            return module
        """
        text = "\n".join([WITHOUT_ETUDE, *map(textwrap.dedent, (loader, script))])
        text += "\njson.dump(results, open('results.json', 'w'))\n"
        asked = {**os.environ, "OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu", **environment}
        done = subprocess.run(
            [sys.executable, "-c", text], cwd=folder, env=asked, capture_output=True, text=True, timeout=280
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return json.loads((folder / "results.json").read_text())

    return run


@pytest.fixture(scope="session")
def same():
    """Asserts that values (per update, per group) are those of the plan, as a share of each group's peak."""

    def check(rates, hyper, found, tolerance):
        assert found, "nothing was recorded"
        planned = [rates.values(hyper, k) for k in range(len(found))]
        assert len(found) == (TOTAL if rates.total == float("inf") else -(-(rates.total - 1e-9) // 1))
        for i, group in enumerate(rates.plan.groups):
            peak = rates.plan.hypers[hyper].peak * group.scale.get(hyper, 1.0)
            for k, (used, meant) in enumerate(zip(found, planned, strict=True)):
                assert abs(used[i] - meant[i]) <= tolerance * peak, (group.name, k, used[i], meant[i])

    return check


@pytest.fixture(scope="session")
def updates():
    """How many updates every run makes, by its name; of one without an end the first ones."""

    def counted(rates):
        return {
            name: TOTAL if one.total == float("inf") else int(-(-(one.total - 1e-9) // 1))
            for name, one in rates.items()
        }

    return counted


@pytest.fixture(scope="session")
def every_value(same):
    """Asserts that every hyper-parameter of a run was recorded, in single precision."""

    def check(rates, used):
        assert set(used) == set(rates.plan.hypers)
        for hyper in rates.plan.hypers:
            same(rates, hyper, used[hyper], 1e-6)

    return check
