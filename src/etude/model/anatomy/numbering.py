"""Names that hold the number of a block, spelt as the names of a list's members are."""

import re
from collections.abc import Sequence

_NUMBERED = re.compile(r"(.+)_(\d+)")


def numbered(paths: Sequence[Sequence[str]]) -> list[str]:
    """The dotted names of parameters; neighbours that differ only in a number become members of a list.

    Flax calls blocks `block_0`, `block_1`, …; Keras calls them `block`, `block_1`, …. Both become `block.0`,
    `block.1`, …, the spelling by which `chain` finds a chain.

    >>> numbered([("embed", "kernel"), ("block", "kernel"), ("block_1", "kernel"), ("res_2", "bias")])
    ['embed.kernel', 'block.0.kernel', 'block.1.kernel', 'res_2.bias']
    """
    parts: dict[tuple[str, ...], set[str]] = {}
    for path in paths:
        for i, part in enumerate(path):
            parts.setdefault(tuple(path[:i]), set()).add(part)
    spelt: dict[tuple[str, ...], str] = {
        (*prefix, part): new for prefix, members in parts.items() for part, new in _members(members).items()
    }
    return [".".join(spelt[(*path[: i + 1],)] for i in range(len(path))) for path in paths]


def _members(names: set[str]) -> dict[str, str]:
    """How each of the parts of one module is spelt."""
    found = {name: match.groups() for name in names if (match := _NUMBERED.fullmatch(name))}
    bases = [base for base, _ in found.values()]
    spelt = {name: name for name in names}
    for name, (base, number) in found.items():
        if bases.count(base) > 1 or base in names:
            spelt[name] = f"{base}.{number}"
    for base in {base for base in bases if base in names and f"{base}_0" not in names}:
        spelt[base] = f"{base}.0"
    return spelt
