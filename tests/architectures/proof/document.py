"""`docs/architectures.md` read back: the row of every family, and the classes that are refused."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "architectures.md"


def rows(section: str) -> dict[str, str]:
    """The row of every family of a section, by its name."""
    found = {line.split(" | ")[0][2:]: line for line in _section(section) if re.match(r"\| [a-z]", line)}
    return {name: line for name, line in found.items() if name not in ("model type", "module")}


def cell(row: str, number: int) -> str:
    """One of the cells of a row."""
    return row.strip("| ").split(" | ")[number]


def refused() -> set[tuple[str, str]]:
    """The classes of transformers that étude refuses."""
    found = (re.match(r"- `(\S+)` (\w+): ", line) for line in _section("transformers"))
    return {(match[1], match[2]) for match in found if match}


def settled_classes() -> set[tuple[str, str]]:
    """The refused classes that a live plan settles by the model's own inputs."""
    lines = (line for line in _section("transformers") if line.endswith("(settled by its own inputs)"))
    found = (re.match(r"- `(\S+)` (\w+): ", line) for line in lines)
    return {(match[1], match[2]) for match in found if match}


def settled() -> set[str]:
    """The model types of which every refused class is settled so."""
    left = {family for family, _ in refused() - settled_classes()}
    return {family for family, _ in settled_classes()} - left


def _section(title: str) -> list[str]:
    text = PAGE.read_text(encoding="utf-8")
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0].splitlines()
