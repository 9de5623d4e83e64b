"""What a pattern hits: a regular expression on the names of parameters, or a function of a leaf."""

import re
from collections.abc import Callable, Iterable, Sequence

from etude.errors import PlanError, near
from etude.model.leaf import Leaf

Pattern = str | Callable[[Leaf], bool]


def checked(what: str, pattern: object) -> Pattern:
    """The pattern, if it is one; `what` begins the message of a `PlanError`."""
    if callable(pattern):
        return pattern
    if not isinstance(pattern, str):
        raise PlanError(f"{what} takes a regular expression or a function of a leaf, got {pattern!r}")
    try:
        re.compile(pattern)
    except re.error as error:
        raise PlanError(f"{what}, {pattern!r}: not a regular expression, {error}") from None
    return pattern


def shown(pattern: Pattern) -> str:
    """A pattern as messages quote it.

    >>> shown("bias"), shown(len)
    ("'bias'", 'the function len')
    """
    if isinstance(pattern, str):
        return repr(pattern)
    return f"the function {getattr(pattern, '__name__', type(pattern).__name__)}"


def found(pattern: Pattern, leaves: Iterable[Leaf]) -> set[str]:
    """The owners of the tensors that a pattern hits.

    An expression may hit any name of a tensor that has several. A function is asked once for each tensor,
    with its first name, so that `not` of it hits exactly the others.
    """
    if isinstance(pattern, str):
        expression = re.compile(pattern)
        return {leaf.owner for leaf in leaves if expression.search(leaf.name)}
    return {leaf.name for leaf in leaves if leaf.tied_to is None and pattern(leaf)}


def hits(what: str, pattern: Pattern, leaves: Sequence[Leaf]) -> set[str]:
    """What `found` finds; raises `PlanError` for a pattern that hits nothing."""
    if hit := found(pattern, leaves):
        return hit
    names = [leaf.name for leaf in leaves]
    close = near(pattern, names) if isinstance(pattern, str) else ""
    if "did you mean" not in close:
        close = f"; the model's first is {names[0]}, its last {names[-1]}"
    raise PlanError(f"{what}, {shown(pattern)} matches no parameter{close}")


def named(what: str, names: Iterable[str], leaves: Sequence[Leaf], others: Iterable[str] = ()) -> set[str]:
    """The owners of the tensors that names mean: a full name, its end, or else a regular expression.

    Names among `others` (buffers, which no optimizer holds) are passed over.
    """
    passed, known = {*others}, {leaf.name: leaf.owner for leaf in leaves}
    hit: set[str] = set()
    for name in names:
        ends = {owner for full, owner in known.items() if isinstance(name, str) and full.endswith(f".{name}")}
        if name in known:
            hit.add(known[name])
        elif name not in passed:
            hit |= ends or hits(what, checked(what, name), leaves)
    return hit
