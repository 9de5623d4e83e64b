"""`etude convert`: a configuration or a script of another framework, as the text of a plan."""

import io
import json
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from etude.errors import RecipeError


def convert(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE", help="A YAML, JSON or TOML file, Python source, a notebook, a script."
        ),
    ] = None,
    format: Annotated[
        str | None, typer.Option("--format", metavar="NAME", help="What it is, if that cannot be told.")
    ] = None,
    total: Annotated[
        float | None,
        typer.Option(metavar="N", help="Length of the run in updates, if the file leaves it open."),
    ] = None,
    lr: Annotated[
        float | None, typer.Option(metavar="X", help="The peak, if the file leaves it open.")
    ] = None,
    list: Annotated[bool, typer.Option("--list", help="Print the formats that can be read.")] = False,
) -> None:
    """Print what a configuration of another framework says as YAML for a recipe, and where its words trap."""
    from etude.convert import formats, read
    from etude.core.plan import Plan

    if list:
        known = formats()
        for name, one in known.items():
            print(f"{name:{max(map(len, known))}}  {one.line}")
        return
    if file is None:
        raise RecipeError(
            "write the file to convert, as in etude convert train.py, or --list for the formats"
        )
    converted = read(parsed(file), format, total, lr)
    plan = Plan(converted.hypers, tick=converted.tick)
    if converted.total is not None:
        plan.over(converted.total)
        print(f"# {file.name}, over {converted.total:g} updates")
    print("\n".join(lines(converted.text)))
    for trap in [*converted.warnings, *_beside(converted.text)]:
        typer.echo(f"- {trap}", err=True)


def parsed(file: Path) -> dict[str, Any] | str:
    """What a file holds: a mapping (YAML, JSON, TOML), or its text; of a notebook the text of its code.

    Raises `RecipeError` for a file that cannot be read, or that is not what its ending says.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise RecipeError(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise RecipeError(f"{file} is no text (byte {error.start} is not UTF-8)") from None
    try:
        match file.suffix.lower():
            case ".json":
                found = json.loads(text)
            case ".toml":
                found = tomllib.loads(text)
            case ".ipynb":
                found = _code(json.loads(text))
            case ".yaml" | ".yml":
                found = _yaml(text)
            case _:
                return text
    except (ValueError, KeyError, TypeError) as error:
        raise RecipeError(f"{file} is no {file.suffix[1:].upper()}: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict | str):
        raise RecipeError(f"{file} holds no settings: key: value lines are read")
    return found


def _yaml(text: str) -> Any:
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return OmegaConf.to_container(OmegaConf.load(io.StringIO(text)))
    except (yaml.YAMLError, OmegaConfBaseException, OSError) as error:
        raise ValueError(str(error)) from None


def _code(notebook: dict[str, Any]) -> str:
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    # The commands of IPython are not Python.
    return "\n".join(
        line for cell in cells for line in cell.splitlines() if not line.lstrip().startswith(("%", "!"))
    )


def lines(text: dict[str, Any]) -> list[str]:
    """A plan's text as lines of YAML; what reads as a number is written as one.

    >>> lines({"lr": "2e-05 * cosine()", "weight_decay": "0.01", "tick": 0})
    ['lr: 2e-05 * cosine()', 'weight_decay: 0.01', 'tick: 0']
    """
    import yaml

    from etude.train.settings import scalar

    written = []
    for key, value in text.items():
        if isinstance(value, str) and _is_number(value):
            written.append(f"{key}: {value}")
        elif isinstance(value, str | int | float):
            written.append(f"{key}: {scalar(value)}")
        else:
            written.append(yaml.safe_dump({key: value}, width=float("inf"), sort_keys=False).rstrip())
    return written


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _beside(text: dict[str, Any]) -> list[str]:
    from etude.train.recipe import FIELDS

    return [
        f"{key} is for etude.Plan or etude.plan: a recipe of etude finetune has no such key."
        for key in text
        if key not in FIELDS
    ]
