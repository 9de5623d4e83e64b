"""What all tests share: the doctests of a room without its framework are left out, and keras runs on jax."""

import os
from importlib.util import find_spec

FRAMEWORKS = ("lightning", "keras", "optax", "mlx")
collect_ignore = [f"src/etude/{room}" for room in FRAMEWORKS if find_spec(room) is None]

os.environ.setdefault("KERAS_BACKEND", "jax")
