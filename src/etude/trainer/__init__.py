"""Hugging Face Trainer, and what builds on it (TRL, Unsloth): `attach` hands its rates to étude."""

from etude.errors import MissingExtra

try:
    from etude.trainer.attach import attach
except ModuleNotFoundError as error:
    if error.name not in ("transformers", "accelerate"):
        raise
    raise MissingExtra(error.name, "train") from error

__all__ = ["attach"]
