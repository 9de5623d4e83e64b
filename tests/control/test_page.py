"""The code of docs/control.md runs as it is printed, and the page knows every controller and its defaults."""

import ast
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import etude.control
from etude.control.controller import CONTROLLERS

for _, name, _ in pkgutil.iter_modules(etude.control.__path__):
    importlib.import_module(f"etude.control.{name}")

PAGE = (Path(__file__).parents[2] / "docs/control.md").read_text(encoding="utf-8")


def test_the_page(capsys):
    names = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(block, names)
    printed = capsys.readouterr().out
    assert printed
    assert "".join(f"    {line}\n" for line in printed.splitlines()) in PAGE
    assert names["driver"].memory["plateau"]["best"] == 0.62


@pytest.mark.parametrize("name", sorted(set(CONTROLLERS) - {"spike"}))
def test_every_default_on_the_page_is_the_one_in_force(name):
    said = re.search(rf"^\*\*`{name}`\*\* `\((.*?)\)`", PAGE, re.DOTALL | re.MULTILINE)
    assert said is not None, "it has no paragraph"
    options = inspect.signature(CONTROLLERS[name]).parameters
    for option, value in re.findall(r"(\w+)=([^,\s]+)", said[1]):
        assert options[option].default == ast.literal_eval(value), option
    assert f"| `{name}` |" in PAGE
