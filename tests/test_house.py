"""The house: who may import whom, what `import etude` loads, and what every public name carries."""

import ast
import builtins
import doctest
import importlib
import pathlib
import pkgutil
import subprocess
import sys
import typing
from graphlib import CycleError, TopologicalSorter

import pytest

import etude
import etude.control
from etude.control.controller import CONTROLLERS
from etude.core.named import NAMED
from etude.core.shapes import SHAPES

SOURCE = pathlib.Path(etude.__file__).parent

# Room -> its layer; DESIGN §4.
LAYERS = {
    "errors": 0,
    "core": 1,
    "control": 2, "model": 2, "convert": 2, "export": 2,
    "torch": 3, "keras": 3, "optax": 3, "mlx": 3, "trainer": 3, "lightning": 3,
    "planning": 4, "report": 4,
    "finder": 5, "advise": 5,
    "train": 6,
    "search": 7, "studio": 7, "cli": 7,
}  # fmt: skip
HOSTS = ("trainer", "lightning")  # they stand on torch/, and plan the model that they are given
FRAMEWORKS = {
    "torch": {"torch"},
    "keras": {"keras"},
    "optax": {"optax", "jax"},
    "mlx": {"mlx"},
    "trainer": {"torch", "transformers"},
    "lightning": {"torch", "lightning"},
}

# The one step upwards: a value shows itself in a notebook, which is asked for by a notebook alone.
SEAM = ("core", "report", "_repr_html_")


def may_import(room: str, other: str) -> bool:
    if room == other:
        return True
    if room == "report":
        return LAYERS[other] <= 2
    if room in HOSTS and other in ("torch", "planning"):
        return True
    return LAYERS[other] < LAYERS[room]


def files():
    for path in sorted(SOURCE.rglob("*.py")):
        dots = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        yield path, dots.removesuffix(".__init__")


class Imports(ast.NodeVisitor):
    """Every import of a file: (module, the function it stands in or None, whether only for types)."""

    def __init__(self, path):
        self.found, self.function, self.types = [], None, False
        self.visit(ast.parse(path.read_text(encoding="utf-8")))

    def visit_FunctionDef(self, node):
        outer, self.function = self.function, node.name
        self.generic_visit(node)
        self.function = outer

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    def visit_If(self, node):
        outer = self.types
        self.types = outer or "TYPE_CHECKING" in ast.dump(node.test)
        for child in node.body:
            self.visit(child)
        self.types = outer
        for child in node.orelse:
            self.visit(child)

    def visit_Import(self, node):
        self.found += [(a.name, self.function, self.types) for a in node.names if a.name != "etude"]

    def visit_Attribute(self, node):
        if isinstance(node.value, ast.Name) and node.value.id == "etude":
            self.found.append((through_the_front_door(node.attr), self.function, self.types))
        self.generic_visit(node)

    def visit_ImportFrom(self, node):
        assert node.level == 0, "imports are absolute"
        for alias in node.names:
            module = f"{node.module}.{alias.name}"
            place = SOURCE.parent / module.replace(".", "/")
            if not (place.is_dir() or place.with_suffix(".py").exists()):
                module = through_the_front_door(alias.name) if node.module == "etude" else node.module
            self.found.append((module, self.function, self.types))


def through_the_front_door(name):
    """Where a name of `etude` really lives; the version lives at the very bottom."""
    return "etude.errors" if name == "__version__" else etude._MODULE.get(name, f"etude.{name}")


IMPORTS = {name: Imports(path).found for path, name in files()}
OWN = {name: found for name, found in IMPORTS.items() if name not in ("__init__", "__main__")}


def room_of(module):
    return module.removeprefix("etude.").partition(".")[0]


def test_every_room_stands_in_the_table():
    assert {room_of(name) for name in OWN} <= set(LAYERS)
    assert len(OWN) > 20


@pytest.mark.parametrize("name", OWN)
def test_a_room_imports_only_what_lies_below(name):
    room = room_of(name)
    for module, function, _ in OWN[name]:
        if module.partition(".")[0] != "etude":
            continue
        other = room_of(module)
        assert other in LAYERS, f"{name} imports {module}"
        assert may_import(room, other) or (room, other, function) == SEAM, f"{name} imports {module}"


@pytest.mark.parametrize("name", [name for name in OWN if LAYERS[room_of(name)] <= 2])
def test_the_lower_rooms_stand_on_the_standard_library(name):
    for module, _, _ in OWN[name]:
        top = module.partition(".")[0]
        assert top == "etude" or top in sys.stdlib_module_names, f"{name} imports {module}"


@pytest.mark.parametrize("name", [name for name in OWN if LAYERS[room_of(name)] == 3])
def test_frameworks_never_import_each_other(name):
    every = set().union(*FRAMEWORKS.values())
    asked = {module.partition(".")[0] for module, _, _ in OWN[name]}
    assert asked & every <= FRAMEWORKS[room_of(name)]


def test_the_command_line_and_the_plan_load_a_framework_only_when_they_need_it():
    heavy = {"torch", "transformers", "accelerate", "datasets", "matplotlib", "sklearn", "jax", "keras"}
    for name, found in OWN.items():
        if room_of(name) in ("cli", "planning", "report"):
            at_once = {
                module.partition(".")[0] for module, function, types in found if not (function or types)
            }
            assert not at_once & heavy, name


def test_files_of_a_room_have_no_cycle():
    graph = {
        name: {
            module.removeprefix("etude.")
            for module, function, types in found
            if not function and not types and module.startswith("etude.")
        }
        - {name}
        for name, found in OWN.items()
    }
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))
    assert len(order) >= len(OWN)


def test_the_front_door_is_lazy():
    eager = [module for module, function, types in IMPORTS["__init__"] if not function and not types]
    assert all(not module.startswith("etude") or LAYERS[room_of(module)] <= 2 for module in eager)


def loaded_by(code):
    """The top-level modules that a fresh interpreter loads for this code."""
    watched = f"import sys; before = set(sys.modules)\n{code}\nprint(*(set(sys.modules) - before))"
    run = subprocess.run([sys.executable, "-c", watched], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in run.stdout.splitlines()[-1].split()}


def test_import_etude_loads_the_standard_library_only():
    loaded = loaded_by("import etude")
    assert "etude" in loaded
    assert loaded - {"etude"} <= set(sys.stdlib_module_names)
    assert not loaded & {"torch", "jax", "numpy", "transformers", "typer", "rich", "omegaconf", "pydantic"}


LANGUAGE = """
from etude import Driver, Group, Plan, Scale, cosine, early_stop, parse, warmup
lr = 2e-5 * (warmup(0.1) >> cosine(to=0.01))
plan = Plan({"lr": lr}, [Group("a", gate="frozen(0.3) >> hold()")])
driver = Driver(plan.over(1000), controllers=[early_stop("loss")])
driver.observe(5, {"loss": 1.0})
driver.edit(Scale(10, 0.5))
driver.load_state_dict(driver.state_dict())
assert driver.rates.matrix()
assert parse("2e-5 * cosine()").over(10)(5) == 1e-5
"""


def test_the_language_and_the_driver_work_on_the_standard_library():
    assert loaded_by(LANGUAGE) - {"etude"} <= set(sys.stdlib_module_names)


def test_a_star_import_hides_nothing():
    others = {*pathlib.__all__, *typing.__all__, *dir(builtins)}
    assert not set(etude.__all__) & others
    assert not {"Path", "Curve", "Rates", "Schedule"} & set(etude.__all__)


def test_no_module_has_the_name_of_a_public_function():
    modules = {module.name for module in pkgutil.iter_modules(etude.__path__)}
    assert modules
    assert not modules & set(etude.__all__)


@pytest.mark.parametrize("name", etude.__all__)
def test_every_public_name_is_there_and_says_what_it_is(name):
    value = getattr(etude, name)
    assert name in dir(etude)
    first, *_ = (value.__doc__ or "").strip().splitlines() or [""]
    assert first.endswith("."), first
    assert value.__module__.startswith("etude.")


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="no attribute 'cosin'"):
        _ = etude.cosin


for _, module, _ in pkgutil.iter_modules(etude.control.__path__):
    importlib.import_module(f"etude.control.{module}")


MEMBERS = {**SHAPES, **NAMED, **CONTROLLERS}


@pytest.mark.parametrize("member", MEMBERS.values(), ids=MEMBERS)
def test_every_member_of_a_registry_has_a_doctest(member):
    made = getattr(importlib.import_module("etude.core.shapes"), getattr(member, "name", ""), member)
    examples = doctest.DocTestParser().get_examples(made.__doc__ or "")
    assert any(example.want for example in examples)
    found = doctest.DocTestFinder().find(sys.modules[made.__module__])
    assert any(test.examples and test.name.endswith(f".{made.__name__}") for test in found)


def test_every_word_is_public():
    assert set(SHAPES) <= set(etude.__all__)
