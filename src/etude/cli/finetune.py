"""`etude finetune`: the whole run, from a recipe or a data file to a model folder and its report."""

from typing import Annotated

import typer


def finetune(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RECIPE | DATA | RUN] [KEY=VALUE …]", help="What to start from, and keys that change it."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and train nothing.")] = False,
    smoke: Annotated[bool, typer.Option("--smoke", help="Go through every phase in 10 updates.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with RUN, or with the newest run.")] = False,
    on_mismatch: Annotated[
        str | None, typer.Option(metavar="checkpoint|recipe", help="Whose plan to go by if they differ.")
    ] = None,
) -> None:
    """Fine-tune a pretrained model, and measure baselines beside it.

    Without anything else: the default model on the default data.

    RECIPE is a YAML file; `etude init` writes one with every key.

    DATA is a CSV, TSV, JSONL or Parquet file with the columns text and label.
    """
    from etude.train.finetuning import run
    from etude.train.settings import parted

    source, changes = parted(what or [], "recipe, data file or run")
    done = run(
        source,
        changes,
        dry_run=dry_run,
        smoke=smoke,
        resume=resume,
        on_mismatch=on_mismatch,
    )
    if done is not None and done.interrupted:
        raise typer.Exit(130)
