"""`etude groups`: how deep every layer of a model lies, and what rate it gets."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from etude.errors import MissingExtra, ModelError, RecipeError

if TYPE_CHECKING:
    from etude.model.groups import Layout
    from etude.train.recipe import Recipe


def groups(
    model: Annotated[str, typer.Argument(help="A Hugging Face id, a local folder, or package:NAME.")],
    keys: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE …]",
            help="As in a recipe: lr, layer_decay, convention, head, embeddings, min_scale, weight_decay, "
            "no_decay, freeze, stages, new, groups.",
        ),
    ] = None,
    lr: Annotated[str | None, typer.Option(help="Peak rate of the top layer, or a whole schedule.")] = None,
    layer_decay: Annotated[
        list[float] | None,
        typer.Option(help="Rate of a layer / rate of the one above; repeat it to compare."),
    ] = None,
    head: Annotated[float | None, typer.Option(help="Rate of the head / rate of the top layer.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Weight decay of what is decayed.")] = None,
    png: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write rate per layer to a PNG or SVG file.")
    ] = None,
) -> None:
    """Print the groups of a model: depth, parameters, multiplier, peak rate, and why they stand there.

    Only the model's configuration is read, never its weights. What is not given is as in a new recipe.
    """
    from rich.console import Console

    from etude.core.path import as_schedule
    from etude.planning import layout
    from etude.report.terminal import group_table

    options = {"lr": lr, "head": head, "weight_decay": weight_decay}
    said = {key: value for key, value in options.items() if value is not None}
    outline = skeleton(model)
    tables = {}
    for factor in layer_decay or [None]:
        recipe = _recipe(keys or (), said if factor is None else {**said, "layer_decay": factor})
        peak, decay = as_schedule(recipe.lr).peak, as_schedule(recipe.weight_decay).peak
        settled = layout(outline, peak, **recipe.plan_options)
        tables[_title(recipe)] = rows(settled, peak, decay)
    console = Console()
    for title, table in tables.items():
        console.print(group_table(table, title, _width(table, console.width)))
    if png is not None:
        from etude.cli.show import save
        from etude.report.figures import layer_rates

        save(layer_rates({title: _drawn(table) for title, table in tables.items()}), png)
        console.print(f"wrote {png}", soft_wrap=True, highlight=False)


def _recipe(keys: Iterable[str], options: Mapping[str, Any]) -> "Recipe":
    """A recipe that says nothing but rates; raises `RecipeError` for other keys and for a key said twice."""
    from etude.planning import Options
    from etude.train.recipe import FIELDS, read
    from etude.train.settings import from_texts

    given = from_texts(keys)
    if twice := given.keys() & options.keys():
        raise RecipeError(f"{', '.join(sorted(twice))} is said twice: as key=value, and as an option")
    recipe, renamed = read(overrides={**given, **options})
    known = {"lr", "schedule", *Options.__annotations__} & FIELDS.keys()
    native = {one.old: one.native for one in renamed}
    if other := [key for key in given if native.get(key, key) not in known]:
        raise RecipeError(f"{other[0]} does not change the groups; known: {', '.join(sorted(known))}")
    return recipe


def _title(recipe: "Recipe") -> str:
    decay = recipe.layer_decay
    said = f"layer_decay = {decay:g}" if isinstance(decay, float) else decay and f"layer_decay = {decay}"
    return ", ".join(filter(None, ("" if recipe.convention == "bert" else recipe.convention, said)))


def rows(settled: "Layout", peak: float, decay: float) -> list[dict[str, Any]]:
    """The rungs of a layout as rows of a table, from the bottom of the model up; frozen ones have no rate."""
    return [
        {
            "depth": row.depth,
            "layer": row.rung,
            "group": row.group or "frozen",
            "tensors": len(row.placements),
            "count": row.size,
            "scale": row.setting.lr if row.setting else None,
            "lr": peak * row.setting.lr if row.setting else None,
            "weight_decay": decay * row.setting.weight_decay if row.setting else None,
            "gate": str(row.setting.gate) if row.setting and row.setting.gate else None,
            "reason": _reason(row.reasons),
        }
        for row in settled.rows()
    ]


def _width(table: list[dict[str, Any]], width: int) -> int:
    """The terminal's width, or less where the names of groups would leave no room for the reasons."""
    longest = max(len(row["layer"]) for row in table) + max(len(row["group"]) for row in table)
    return width if longest + 95 <= width else 80


def _drawn(table: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that have a rate, one tower above the other."""
    layers = list(dict.fromkeys(row["layer"] for row in table))
    return [{**row, "depth": layers.index(row["layer"])} for row in table if row["lr"] is not None]


def _reason(reasons: tuple[str, ...]) -> str:
    more = len(reasons) - 3
    return ", ".join(reasons[:3]) + (f" and {more} more" if more > 0 else "")


def skeleton(source: str) -> Any:
    """A model without weights, built from its configuration, with a classification head if it can have one.

    Raises `ModelError` with what to write when there is no such model.
    """
    try:
        import torch
        from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING as CLASSIFIERS
        from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification
    except ImportError:
        raise MissingExtra("torch and transformers", "train") from None
    from etude.train.packages import model_folder

    folder = model_folder(source)
    if folder.startswith((".", "/", "~")) and not (Path(folder).expanduser() / "config.json").is_file():
        raise ModelError(f"model {source!r}: there is no such folder with a config.json")
    try:
        config = AutoConfig.from_pretrained(Path(folder).expanduser() if folder[0] == "~" else folder)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"model {source!r} has no configuration to read: {_first_line(error)}; write a Hugging Face id "
            f"such as distilbert-base-uncased, package:NAME, or a folder with config.json"
        ) from None
    make = AutoModelForSequenceClassification if type(config) in CLASSIFIERS else AutoModel
    try:
        with torch.device("meta"):
            return make.from_config(config)
    except (ValueError, ImportError) as error:
        raise ModelError(
            f"model {source!r} cannot be built from its configuration: {_first_line(error)}"
        ) from None
    except (RuntimeError, NotImplementedError):
        # A few models compute while they are built, which needs real numbers.
        return make.from_config(config)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__
