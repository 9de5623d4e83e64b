"""The closed list of accepted differences: what `docs/semantics.md` says is what the tests assert."""

import ast
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
DOCUMENT = HERE.parents[1] / "docs" / "semantics.md"

# A difference -> the libraries whose exact formula a test `test_accepted_…` of their file asserts.
ACCEPTED = {
    "zero-first-rate": ("torch",),
    "floor-not-reached": ("torch",),
    "one-early": ("transformers",),
    "zero-start": ("torch",),
    "zero-length": ("torch", "optax"),
    "longer-than-the-run": ("transformers",),
    "cosine-climbs": ("torch", "transformers"),
    "after-the-end": ("torch", "lrsched"),
    "absolute-floor": ("torch", "keras", "timm", "pytorch_scheduler"),
    "groups-flattened": ("torch", "pytorch_scheduler"),
    "ratio-rounding": ("transformers", "optax", "lrsched", "pytorch_scheduler"),
    "ratio-of-one": ("transformers",),
    "decay-steps": ("keras",),
    "warmup-inside": ("timm",),
    "timescale": ("transformers",),
    "warmup-from-the-floor": ("transformers",),
    "sqrt-warmup": ("transformers",),
    "milestones": ("keras", "timm"),
    "one-cycle-phases": ("torch",),
    "one-cycle-end": ("lrsched",),
    "slanted-triangle": ("pytorch_scheduler",),
    "tanh-ends": ("timm", "pytorch_scheduler"),
    "rex-curve": ("pytorch_scheduler",),
    "polynomial-cycle": ("keras",),
    "restart-floor": ("keras", "timm"),
    "restart-starts-low": ("pytorch_scheduler",),
    "restart-rounding": ("transformers", "timm"),
    "wrapped-recursion": ("pytorch_scheduler",),
    "plateau-patience": ("plateau",),
    "plateau-negative": ("plateau",),
    "plateau-nan": ("plateau",),
    "plateau-after-a-spike": ("plateau",),
    "plateau-cooldown": ("plateau",),
    "plateau-small-rates": ("plateau",),
    "greedy-bounds": ("plateau",),
    "greedy-small-rates": ("plateau",),
    "single-precision": ("optax", "keras"),
}


def test_the_document_lists_these_and_no_others():
    assert re.findall(r"^### `([^`]*)`", DOCUMENT.read_text("utf-8"), flags=re.MULTILINE) == list(ACCEPTED)


def test_each_is_asserted_for_these_libraries_and_no_others():
    asserted = {
        (node.name.removeprefix("test_accepted_").replace("_", "-"), path.stem.removeprefix("test_"))
        for path in HERE.glob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_accepted_")
    }
    assert asserted == {(name, library) for name, libraries in ACCEPTED.items() for library in libraries}


@pytest.mark.parametrize("name", ACCEPTED)
def test_an_entry_says_what_they_do_what_we_do_why_and_how_to_have_theirs(name):
    entries = re.split(r"^### ", DOCUMENT.read_text("utf-8"), flags=re.MULTILINE)
    (entry,) = [entry for entry in entries if entry.startswith(f"`{name}`")]
    for part in ("**Theirs.**", "**Ours.**", "**Right.**", "**Theirs in étude.**"):
        assert entry.count(part) == 1, part
    libraries = entry.partition("**Ours.**")[0]
    for library in ACCEPTED[name]:
        assert library.replace("_", "-") in libraries.lower(), library
