"""Lightning: a plan for `configure_optimizers`; a callback that logs, reads evaluations and ends the fit."""

from etude.errors import MissingExtra

try:
    from etude.lightning.control import LearningRateControl
    from etude.lightning.optimizers import configure_optimizers
except ModuleNotFoundError as error:
    if error.name not in ("torch", "lightning"):
        raise
    raise MissingExtra(error.name, "lightning") from error

__all__ = ["LearningRateControl", "configure_optimizers"]
