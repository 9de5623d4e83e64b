"""The code of docs/optax.md runs as it is printed."""

# ruff: noqa: E402  # what the tests are about may not be installed

import re
from pathlib import Path

import pytest

optax = pytest.importorskip("optax", reason="needs optax")

import functools

import jax
import jax.numpy as jnp

import etude

PAGE = (Path(__file__).parents[2] / "docs/optax.md").read_text(encoding="utf-8")


def test_the_page():
    def dense():
        return {"kernel": jnp.ones((2, 2)) * 0.1, "bias": jnp.zeros(2)}

    blocks = {f"block_{i}": {"up": dense(), "down": dense()} for i in range(2)}
    params = {"encoder": {"stem": dense(), **blocks}, "classifier": dense()}
    names = {
        "etude": etude, "functools": functools, "jax": jax, "optax": optax, "params": params,
        "batches": [jnp.ones(2)] * 12, "evaluate": lambda params: 1.0,
        "loss": lambda params, batch: sum(jnp.sum(w) for w in jax.tree.leaves(params)) * batch[0],
    }  # fmt: skip
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(block, names)
    assert names["k"] == 11
    assert names["state"].hypers["lr"].tolist() == pytest.approx(names["driver"].at(11)["lr"])
    assert names["params"]["classifier"]["kernel"][0, 0] < 0.1
