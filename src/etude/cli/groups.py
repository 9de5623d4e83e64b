"""`etude groups`: how deep every layer of a model lies, and what rate it gets."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from etude.errors import MissingExtra, ModelError

if TYPE_CHECKING:
    from etude.model.groups import Layout


def groups(
    model: Annotated[str, typer.Argument(help="A Hugging Face id, a local folder, or package:NAME.")],
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
    from etude.train.recipe import Recipe

    usual = Recipe()
    peak = as_schedule(usual.lr if lr is None else lr).peak
    decay = as_schedule(usual.weight_decay if weight_decay is None else weight_decay)
    outline = skeleton(model)
    tables = {}
    for factor in layer_decay or [usual.layer_decay]:
        ratio = usual.head if head is None else head
        settled = layout(outline, peak, layer_decay=factor, head=ratio, weight_decay=decay)
        tables[f"layer_decay = {factor:g}"] = rows(settled, peak, decay.peak)
    console = Console()
    for title, table in tables.items():
        console.print(group_table(table, title))
    if png is not None:
        from etude.cli.show import save
        from etude.report.figures import layer_rates

        save(
            layer_rates(
                {title: [row for row in table if row["lr"] is not None] for title, table in tables.items()}
            ),
            png,
        )
        console.print(f"wrote {png}", soft_wrap=True, highlight=False)


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
            "reason": _reason(row.reasons),
        }
        for row in settled.rows()
    ]


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
