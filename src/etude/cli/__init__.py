"""The command line: one file per command, in a function of the same name.

What a user did wrong is one message and exit code 2, without a traceback and before anything was written.
"""

import os
import pkgutil
import sys
import warnings
from importlib import import_module
from typing import Annotated, Any

import typer

import etude
from etude.errors import EtudeError, EtudeWarning, MissingExtra

# The extra that brings a package, for commands that import it on their way.
EXTRAS = dict.fromkeys(("matplotlib", "jinja2"), "report") | dict.fromkeys(
    ("torch", "transformers", "accelerate", "datasets", "safetensors", "sklearn", "xxhash"), "train"
)


def main(arguments: list[str] | None = None) -> int:
    """Run one command, as the console script `etude` does, and return its exit code."""
    # The tokenizer's threads and a forked process cannot live together; the warning about it helps nobody.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    show = warnings.showwarning

    def showwarning(message: Any, category: type[Warning], *where: Any, **options: Any) -> None:
        if issubclass(category, EtudeWarning):
            print(f"etude: {message}", file=sys.stderr)
        else:
            show(message, category, *where, **options)

    try:
        warnings.showwarning = showwarning
        application()(arguments, prog_name="etude")
    except SystemExit as done:  # how typer ends
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    except EtudeError as error:
        print(f"etude: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        print(f"etude: {MissingExtra(error.name, EXTRAS[error.name])}", file=sys.stderr)
        return 2
    finally:
        warnings.showwarning = show
    return 0


def application() -> typer.Typer:
    """The typer application with every command of this package."""
    app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    app.callback()(_etude)
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            app.command(module.name)(getattr(import_module(f"{__name__}.{module.name}"), module.name))
    return app


def _version(asked: bool) -> None:
    if asked:
        print(etude.__version__)
        raise typer.Exit


def _etude(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """The learning-rate system for fine-tuning pretrained models."""
