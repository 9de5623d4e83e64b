"""The words' formulas as source text in another namespace: taken from `core.shapes`, never written again."""

import ast
import builtins
import inspect
import math
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

from etude.core.namespace import Scalars
from etude.core.shapes import SHAPES
from etude.errors import EtudeError
from etude.export.layout import WIDTH


class Formulas(NamedTuple):
    """Functions by name, each after those that it calls, and the imports that they need."""

    functions: dict[str, str]
    imports: set[str]


def formulas(words: Mapping[str, Iterable[str]], arrays: str | None) -> Formulas:
    """The source of words, each given with the options that are really used.

    `arrays` is the name of the target's array functions ("jnp"); None writes for Python's own numbers. An
    option that no row uses is left out where the formula can do without it.
    """
    found = Formulas({}, set())
    for name, used in words.items():
        _add(found, SHAPES[name].formula, used, arrays)
    return found


def _add(found: Formulas, function: Callable[..., Any], used: Iterable[str], arrays: str | None) -> None:
    name = function.__name__
    text = _in_namespace(_definition(function, used), arrays)
    for outside in _free(text):
        value = function.__globals__.get(outside, getattr(Scalars, outside, None))
        if outside == "math" or isinstance(value, ModuleType):
            found.imports.add(f"import {outside}")
        elif inspect.isfunction(value):
            if outside not in found.functions:
                _add(found, value, (), arrays)
        elif isinstance(value, float) and getattr(math, outside, None) == value:
            found.imports.add(f"from math import {outside}")
        elif outside != arrays and not hasattr(builtins, outside):
            raise EtudeError(f"{name}(…) uses {outside}, which is not known where étude is not installed")
    found.functions[name] = text


def _definition(function: Callable[..., Any], used: Iterable[str]) -> str:
    """A function with the first line of its docstring, without decorator, types and options not needed."""
    source = textwrap.dedent(inspect.getsource(function))
    node = ast.parse(source).body[0]
    assert isinstance(node, ast.FunctionDef)
    doc = ast.get_docstring(node)
    start = node.body[0].end_lineno if doc else node.body[0].lineno - 1
    options = dict(zip((arg.arg for arg in node.args.kwonlyargs), node.args.kw_defaults, strict=True))
    unused = {
        name: ast.literal_eval(default) for name, default in options.items() if default and name not in used
    }
    body = _folded(textwrap.dedent("\n".join(source.splitlines()[start:])), unused)
    asked = {n.id for n in ast.walk(ast.parse(body)) if isinstance(n, ast.Name)}
    written = [
        name if default is None else f"{name}={ast.unparse(default)}"
        for name, default in options.items()
        if name in asked
    ]
    brackets = ", ".join([arg.arg for arg in node.args.args] + (["*", *written] if written else []))
    summary = textwrap.fill(f'"""{doc.splitlines()[0]}"""', WIDTH - 4) + "\n" if doc else ""
    return f"def {node.name}({brackets}):\n" + textwrap.indent(f"{summary}{body}\n", "    ")


def _folded(text: str, known: Mapping[str, Any]) -> str:
    """`x if option == c else y` written as the one that is taken, where the option's value is known."""
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.IfExp(test=ast.Compare(left=ast.Name(id=name), ops=[ast.Eq()], comparators=[value])):
                if name not in known:
                    continue
                taken = node.body if known[name] == ast.literal_eval(value) else node.orelse
                whole, chosen = (str(ast.get_source_segment(text, one)) for one in (node, taken))
                if isinstance(taken, ast.Name):
                    text = re.sub(rf"(?<!\w)\({re.escape(whole)}\)", chosen, text)
                return _folded(text.replace(whole, chosen), known)
    return text


def _in_namespace(text: str, arrays: str | None) -> str:
    """`xp.cos` as the target says it, and no `xp` among the parameters."""

    def said(match: re.Match[str]) -> str:
        if arrays is not None:
            return f"{arrays}.{match[1]}"
        return f"math.{match[1]}" if hasattr(math, match[1]) else match[1]

    return re.sub(r",\s*xp\b", "", re.sub(r"\bxp\.(\w+)", said, text))


def _free(text: str) -> list[str]:
    """The names that a function takes from outside, in the order of their use."""
    node = ast.parse(text).body[0]
    assert isinstance(node, ast.FunctionDef)
    names = [n for n in ast.walk(node) if isinstance(n, ast.Name)]
    own = {arg.arg for arg in [*node.args.args, *node.args.kwonlyargs]}
    own |= {n.id for n in names if isinstance(n.ctx, ast.Store)}
    return list(dict.fromkeys(n.id for n in names if n.id not in own))
