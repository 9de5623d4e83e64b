"""The metrics that a trainer's evaluations will have, where that can be known before the first one."""

from collections.abc import Mapping
from typing import Any

# What every evaluation of a trainer gives, whatever it computes.
ALWAYS = ("loss", "runtime", "samples_per_second", "steps_per_second")


def known_metrics(trainer: Any) -> list[str] | None:
    """The names, or None where `compute_metrics` or a trainer of another make may add any."""
    own = type(trainer).__module__.startswith("transformers.")
    if not own or trainer.compute_metrics is not None:
        return None
    several = trainer.eval_dataset if isinstance(trainer.eval_dataset, Mapping) else {}
    prefixes = [f"eval_{name}_" for name in several] or ["eval_"]
    return [f"{prefix}{name}" for prefix in prefixes for name in ALWAYS]
