"""Flags of a command line or a launch script, as a mapping."""

import re
import shlex
from collections.abc import Collection
from typing import Any

from etude.errors import RecipeError

_ASSIGNED = re.compile(r"^\s*(?:export\s+)?(\w+)=([^\s()]+)\s*$", re.MULTILINE)
_USED = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_ARRAY = re.compile(r"^\s*\w+=\(|\)\s*$")
_FLAG = re.compile(r"--?[A-Za-z].*")


def flags(text: str, switches: Collection[str] = (), several: Collection[str] = ()) -> dict[str, Any]:
    """The flags of a command line, names with underscores and values as text.

    A flag takes the value that follows it, one of `switches` none and one of `several` all of them; without a
    value it is True. Variables that the script itself sets are put in their places. Of a flag that is
    repeated the last counts.

    >>> script = '''
    ... LR=1e-3
    ... ARGS=(--lr $LR --sched-on-updates --decay-milestones 30 60)
    ... python train.py /data "${ARGS[@]}" --min-lr=1e-5
    ... '''
    >>> flags(script, ["sched_on_updates"], ["decay_milestones"])
    {'lr': '1e-3', 'sched_on_updates': True, 'decay_milestones': ['30', '60'], 'min_lr': '1e-5'}
    """
    known = {name: value.strip("\"'") for name, value in _ASSIGNED.findall(text)}
    filled = _USED.sub(lambda use: known.get(use[1] or use[2], use[0]), text)
    found: dict[str, Any] = {}
    for line in filled.replace("\\\n", " ").splitlines():
        open_flag = ""
        for word in _words(line):
            if _FLAG.fullmatch(word):
                flag, given, value = word.lstrip("-").partition("=")
                name = flag.replace("-", "_")
                found[name] = value if given else [] if name in several else True
                open_flag = "" if given or name in switches else name
            elif open_flag in several:
                found[open_flag].append(word)
            elif open_flag:
                found[open_flag], open_flag = word, ""
    return found


def _words(line: str) -> list[str]:
    try:
        return shlex.split(_ARRAY.sub(" ", line), comments=True)
    except ValueError as error:
        raise RecipeError(f"{line.strip()!r} is no command line: {error}; close its quotes") from None
