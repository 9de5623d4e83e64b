"""What all tests share: absent frameworks are left out, keras runs on jax, and tests that fork come first."""

import os
from importlib.util import find_spec

import pytest

FRAMEWORKS = ("lightning", "keras", "optax", "mlx")
collect_ignore = [f"src/etude/{room}" for room in FRAMEWORKS if find_spec(room) is None]

os.environ.setdefault("KERAS_BACKEND", "jax")

# Here jax computes, and from then on its threads run.
THREADED = {
    "convert",
    "differential",
    "export",
    "keras",
    "mlx",
    "optax",
    "test_backends.py",
    "test_sampling.py",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that fork a process come before those that start jax's threads, which a fork does not survive."""
    items.sort(key=lambda item: not THREADED.isdisjoint(item.path.parts))
