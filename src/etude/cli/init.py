"""`etude init`: write a commented recipe to start from."""

from pathlib import Path
from typing import Annotated

import typer

from etude.errors import RecipeError


def init(
    file: Annotated[Path, typer.Argument(help="The recipe to write.")] = Path("recipe.yaml"),
) -> None:
    """Write a recipe with every key, its default and its meaning."""
    from etude.train.recipe import template

    try:
        with file.open("x", encoding="utf-8") as out:
            out.write(template())
    except FileExistsError:
        raise RecipeError(f"{file} is there already; write another name, as in: etude init my.yaml") from None
    except OSError as error:
        raise RecipeError(f"{file} cannot be written: {error.strerror}") from None
    print(f"{file}: edit it, then: etude finetune {file} --dry-run")
