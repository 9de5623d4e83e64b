"""Python source, read and never run: the calls in it, with their arguments where these are literal.

Literal is a number, a text, a list or mapping of such, arithmetic on them (`int(0.1 * 1000)`, `1/3`), and a
name that the file assigns once to such a value. A call is a value too, so that `SequentialLR(opt, [a, b])`
holds the calls that made `a` and `b`.
"""

import ast
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from etude.errors import RecipeError


class Unknown(NamedTuple):
    """What is not literal: its text and the line it stands in."""

    text: str
    line: int


@dataclass(frozen=True)
class Call:
    """A call: the last part of its name, its line and column, its values by position and by keyword."""

    name: str
    place: tuple[int, int]
    args: tuple[Any, ...] = ()
    keywords: Mapping[str, Any] = field(default_factory=dict)

    @property
    def line(self) -> int:
        """The line it begins in, from 1."""
        return self.place[0]

    def bound(self, names: Iterable[str]) -> dict[str, Any]:
        """The arguments by name, those by position named in the order of `names`.

        Raises `RecipeError` for more arguments than names, and for `*` or `**`, which hide what they bring.
        """
        names = tuple(names)
        if len(self.args) > len(names) or None in self.keywords:
            raise RecipeError(
                f"line {self.line}: {self.name}(…) is not called as it is known: {', '.join(names)}"
            )
        return dict(zip(names, self.args, strict=False)) | dict(self.keywords)


_ARITHMETIC: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: math.pow,
    ast.USub: operator.neg, ast.UAdd: operator.pos,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "int": int, "float": float, "round": round, "max": max, "min": min, "abs": abs,
    "ceil": math.ceil, "floor": math.floor,
}  # fmt: skip


class Source:
    """A parsed source text. `known` gives values to names without a literal (`total`, also `args.total`).

    Raises `RecipeError` for text that is not Python.

    >>> source = Source("steps = 10 * 100; rate = optax.cosine_decay_schedule(3e-4, steps, args.floor)")
    >>> [call] = source.calls(["cosine_decay_schedule"])
    >>> call.args
    (0.0003, 1000, Unknown(text='args.floor', line=1))
    """

    def __init__(self, text: str, known: Mapping[str, Any] | None = None):
        try:
            self.tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise RecipeError(f"this is no Python source: {error}") from None
        self.known = dict(known or {})
        self._assigned: dict[str, list[ast.expr]] = {}
        self._read: dict[str, Any] = {}
        for node in ast.walk(self.tree):
            for name, value in _assignments(node):
                self._assigned.setdefault(name, []).append(value)

    def calls(self, names: Iterable[str]) -> list[Call]:
        """Every call of one of these names (the last part, `AdamW` of `torch.optim.AdamW`), in order."""
        wanted = set(names)
        found = [n for n in ast.walk(self.tree) if isinstance(n, ast.Call) and _last(n.func) in wanted]
        try:
            return [self.value(node) for node in sorted(found, key=lambda n: (n.lineno, n.col_offset))]
        except RecursionError:
            raise RecipeError("this source is nested too deeply to be read") from None

    def value(self, node: ast.expr) -> Any:
        """What an expression says: a literal, a `Call`, a list or mapping with them, or `Unknown`."""
        match node:
            case ast.Constant(value=value):
                return value
            case ast.List(elts=elements) | ast.Tuple(elts=elements):
                return [self.value(element) for element in elements]
            case ast.Dict(keys=keys, values=values) if all(isinstance(key, ast.Constant) for key in keys):
                return {key.value: self.value(v) for key, v in zip(keys, values, strict=True)}  # type: ignore[union-attr]
            case ast.UnaryOp(op=op, operand=operand):
                return self._computed(node, _ARITHMETIC.get(type(op)), [operand])
            case ast.BinOp(left=left, op=op, right=right):
                return self._computed(node, _ARITHMETIC.get(type(op)), [left, right])
            case ast.Call(func=func, args=args, keywords=keywords):
                return self._call(node, _last(func), args, keywords)
            case ast.Attribute(value=ast.Name(id="SchedulerType"), attr=member):
                return member.lower()
            case ast.Name() | ast.Attribute():
                return self._assigned_value(node)
        return Unknown(ast.unparse(node), node.lineno)

    def _call(self, node: ast.Call, name: str, args: list[ast.expr], keywords: list[ast.keyword]) -> Any:
        if name in _FUNCTIONS and not keywords:
            return self._computed(node, _FUNCTIONS[name], args)
        values = {keyword.arg: self.value(keyword.value) for keyword in keywords}
        if name == "dict" and not args and None not in values:
            return values
        place = (node.lineno, node.col_offset)
        return Call(name, place, tuple(map(self.value, args)), values)  # type: ignore[arg-type]

    def _computed(self, node: ast.expr, function: Callable[..., Any] | None, operands: list[ast.expr]) -> Any:
        values = [self.value(operand) for operand in operands]
        if function and all(isinstance(value, int | float) for value in values):
            try:
                return function(*values)
            except (ArithmeticError, ValueError, TypeError):
                pass
        return Unknown(ast.unparse(node), node.lineno)

    def _assigned_value(self, node: ast.Name | ast.Attribute) -> Any:
        name = ast.unparse(node)
        if name not in self._read:
            unknown = self.known.get(_last(node), Unknown(name, node.lineno))
            self._read[name] = unknown  # also what a name says that is assigned to itself
            values = [self.value(value) for value in self._assigned.get(name, [])]
            if values and all(value == values[0] for value in values[1:]):
                literal = not isinstance(values[0], Unknown)
                self._read[name] = values[0] if literal or _last(node) not in self.known else unknown
        return self._read[name]


def _assignments(node: ast.AST) -> list[tuple[str, ast.expr]]:
    """What a node assigns: names with their expressions, or to themselves where these are not to be read."""
    if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        whole = [(ast.unparse(t), node.value) for t in targets if isinstance(t, ast.Name | ast.Attribute)]
        return whole + [
            (n.id, n) for t in targets for n in ast.walk(t) if isinstance(n, ast.Name) and t is not n
        ]
    if isinstance(node, ast.AugAssign | ast.For | ast.NamedExpr):
        return [(n.id, n) for n in ast.walk(node.target) if isinstance(n, ast.Name)]
    if isinstance(node, ast.arg):
        return [(node.arg, ast.Name(node.arg, lineno=node.lineno))]
    return []


def _last(func: ast.expr) -> str:
    return func.attr if isinstance(func, ast.Attribute) else func.id if isinstance(func, ast.Name) else ""


def called(text: Any) -> set[str]:
    """The names that a Python source calls; empty for what is no Python source.

    >>> sorted(called("opt = torch.optim.AdamW(model.parameters(), lr=2e-5)"))
    ['AdamW', 'parameters']
    """
    if not isinstance(text, str):
        return set()
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    return {_last(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
