"""Keras 3 on any of its back ends: a schedule, an optimizer with the rates of a plan, a callback."""

from etude.errors import MissingExtra

try:
    from etude.keras.callback import Callback
    from etude.keras.leaves import leaves
    from etude.keras.optimizer import optimizer
    from etude.keras.schedule import Schedule
    from etude.keras.sink import sink
except ModuleNotFoundError as error:
    if error.name != "keras":
        raise
    raise MissingExtra("keras", "keras") from error

__all__ = ["Callback", "Schedule", "leaves", "optimizer", "sink"]
