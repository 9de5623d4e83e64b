"""YAML and `key=value` texts to plain mappings, through OmegaConf, and single values back to YAML."""

import io
import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from etude.errors import RecipeError

QUOTES = '"'


def from_file(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; raises `RecipeError` for a file that cannot be read or holds none."""
    try:
        source = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise RecipeError(f"{path}: the recipe cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path} is not UTF-8 (byte {error.start}); a recipe is a YAML text") from None
    return _mapping(str(path), lambda: OmegaConf.load(io.StringIO(source)))


def from_texts(overrides: Iterable[str]) -> dict[str, Any]:
    """The mapping that `key=value` texts say, each value read as YAML; raises `RecipeError`.

    >>> from_texts(["lr=1e-4", "lr_scheduler_kwargs.num_cycles=2"])
    {'lr': 0.0001, 'lr_scheduler_kwargs': {'num_cycles': 2}}
    """
    given = list(overrides)
    for one in given:
        key, equals, _ = one.partition("=")
        if not equals or not key.strip():
            raise RecipeError(f"{one!r} is no setting; write key=value, as in lr=2e-5")
        if key.startswith("-"):
            raise RecipeError(f"{one!r}: settings have no dashes; write {one.lstrip('-')}")
    return _mapping("the command line", lambda: OmegaConf.from_dotlist(given))


def parted(words: Iterable[str], kinds: str) -> tuple[str | None, list[str]]:
    """What a command starts from, if it is named, and its `key=value` texts; raises `RecipeError` for two.

    >>> parted(["reviews.csv", "lr=1e-4"], "recipe or data file")
    ('reviews.csv', ['lr=1e-4'])
    """
    given = list(words)
    sources = [word for word in given if "=" not in word]
    if len(sources) > 1:
        raise RecipeError(f"one {kinds} can be named, got {' and '.join(sources)}")
    return next(iter(sources), None), [word for word in given if "=" in word]


def _mapping(where: str, load: Callable[[], Any]) -> dict[str, Any]:
    try:
        found = load()
        plain = OmegaConf.to_container(found, resolve=True)
        if isinstance(plain, dict):
            return {str(key): value for key, value in plain.items()}
    except (yaml.YAMLError, OmegaConfBaseException, OSError) as error:
        raise RecipeError(f"{where} cannot be read as YAML: {' '.join(str(error).split())}") from None
    raise RecipeError(f"{where} is no recipe: write key: value lines, as etude init does")


def scalar(value: Any) -> str:
    """One value as YAML on one line that OmegaConf reads back equal.

    >>> scalar(0.0002), scalar("2e-4"), scalar(None), scalar([{"match": "pooler", "lr": 1e-5}])
    ('2e-4', '"2e-4"', 'null', '[{"match": "pooler", "lr": 1e-5}]')
    """
    if value is None:
        return "null"
    if isinstance(value, Mapping):
        # OmegaConf reads no interpolation in a key.
        return (
            f"{{{', '.join(f'{_dumped(str(key), QUOTES)}: {_within(one)}' for key, one in value.items())}}}"
        )
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_within, value))}]"
    if isinstance(value, float) and 0 < value < 1e-3:
        return f"{Decimal(repr(value)).normalize():e}"  # 2e-4 where repr writes 0.0002
    if not isinstance(value, str):
        return repr(value)
    escaped = _escaped(value)
    plain = _dumped(escaped, None)
    return plain if _read_plainly(plain) == escaped else _dumped(escaped, QUOTES)


def _within(value: Any) -> str:
    """A value inside a list or a mapping, where a text needs its quotes."""
    return _dumped(_escaped(value), QUOTES) if isinstance(value, str) else scalar(value)


def _dumped(value: str, style: str | None) -> str:
    written = yaml.safe_dump(value, default_style=style, width=float("inf"), allow_unicode=True)
    return written.removesuffix("\n").removesuffix("...").rstrip()


def _escaped(value: str) -> str:
    """With OmegaConf's own escape of an interpolation."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value)


def _read_plainly(written: str) -> Any:
    plain = OmegaConf.to_container(OmegaConf.create(f"key: {written}"))
    return plain["key"] if isinstance(plain, dict) else None
