"""MLX: schedules of its step count, one optimizer a group, and a sink for a driver."""

from etude.errors import MissingExtra

try:
    from etude.mlx.leaves import leaves
    from etude.mlx.optimizer import PlannedOptimizer, optimizer
    from etude.mlx.schedule import schedule
    from etude.mlx.sink import sink
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "mlx":
        raise
    raise MissingExtra("mlx", "mlx") from error

__all__ = ["PlannedOptimizer", "leaves", "optimizer", "schedule", "sink"]
