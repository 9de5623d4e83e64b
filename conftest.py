"""What is collected here: the doctests of a room whose framework is not installed are left out."""

from importlib.util import find_spec

collect_ignore = [f"src/etude/{room}" for room in ("lightning",) if find_spec(room) is None]
