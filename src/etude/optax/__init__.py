"""Optax: schedules inside jit, one optimizer a group, and rates put into an optimizer's state."""

from etude.errors import MissingExtra

try:
    from etude.optax.leaves import leaves
    from etude.optax.partition import partition
    from etude.optax.schedule import schedule
    from etude.optax.state import put
except ModuleNotFoundError as error:
    if error.name not in ("jax", "jaxlib", "optax"):
        raise
    raise MissingExtra("optax", "optax") from error

__all__ = ["leaves", "partition", "put", "schedule"]
