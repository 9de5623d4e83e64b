"""One golden table, made in double precision, against every array library that a schedule may be asked by."""

import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from etude.core.namespace import ARRAYS
from etude.core.shapes import SHAPES
from etude.core.text import parse


def _beside(name):
    spec = importlib.util.spec_from_file_location(name, pathlib.Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


golden = _beside("golden")
TABLE = json.loads(golden.FILE.read_text(encoding="utf-8"))
CURVES = [golden.curve(row["path"], row["total"]) for row in TABLE]
PATHS = [row["path"] for row in TABLE]
every = pytest.mark.parametrize("row", range(len(TABLE)), ids=PATHS)
SINGLE, DOUBLE = 1e-6, 5e-16


def agree(found, row, precision=SINGLE):
    """Double precision to 5e-16 of a level; single to 1e-6 of the highest, where it has 24 bits of u."""
    levels = np.array(TABLE[row]["levels"])
    top = np.abs(levels).max()
    found = np.asarray(found, float)
    assert found.shape == levels.shape
    slack = DOUBLE * np.maximum(np.abs(levels), top / 2) if precision == DOUBLE else SINGLE * top
    wrong = np.abs(found - levels) > slack
    assert not wrong.any(), [
        (TABLE[row]["times"][i], found[i], levels[i]) for i in np.flatnonzero(wrong | np.isnan(found))[:5]
    ]
    assert np.isfinite(found).all()


def times(row):
    return TABLE[row]["times"]


def test_every_word_and_every_option_of_it_has_a_golden_row():
    written = {}
    for path in PATHS:
        for name, shape in SHAPES.items():
            if f"{name}(" in path:
                written.setdefault(name, set()).update(
                    option for option in ("over", "start", "to", *shape.options) if f"{option}=" in path
                )
    assert set(written) == set(SHAPES)
    for name, shape in SHAPES.items():
        assert set(shape.options) <= written[name], name
    for part in ("repeat(", "stretch=", "fade=", ") * (", "hold(0)"):
        assert any(part in path for path in PATHS), part


def test_the_table_is_what_the_generator_makes():
    assert [(row["path"], row["total"], row["times"]) for row in golden.rows()] == [
        (row["path"], row["total"], row["times"]) for row in TABLE
    ]


def test_every_library_in_the_registry_is_tested_here():
    assert set(ARRAYS) == {"numpy", "torch", "jax", "jaxlib", "mlx", "keras", "tensorflow"}


@every
def test_python(row):
    agree([CURVES[row](t) for t in times(row)], row, DOUBLE)
    assert CURVES[row](0) == CURVES[row](0.0)


@every
@pytest.mark.parametrize("kind", ["int32", "int64", "float64", "float32"])
def test_numpy(row, kind):
    if kind == "float32" and TABLE[row]["total"] > 2**24:
        pytest.skip("float32 has no such times")
    at = np.array(times(row)).astype(kind)
    assert CURVES[row](at).dtype == np.float64
    agree(CURVES[row](at), row, DOUBLE)


@every
def test_numpy_of_any_shape_and_order(row):
    order = np.random.default_rng(row).permutation(len(times(row)))
    at = np.array(times(row))
    mixed = CURVES[row](at[order])
    back = np.empty_like(mixed)
    back[order] = mixed
    agree(back, row, DOUBLE)
    assert np.array_equal(
        CURVES[row](at[: len(at) // 2 * 2].reshape(2, -1)).reshape(-1), back[: len(at) // 2 * 2]
    )
    later = at[at >= 0].astype(np.uint64)
    assert np.array_equal(CURVES[row](later), back[at >= 0])
    scalars = [CURVES[row](np.int64(at[7])), CURVES[row](np.array(at[7])), CURVES[row](np.float64(at[7]))]
    assert scalars == [CURVES[row](int(at[7]))] * 3
    assert CURVES[row](np.array([], int)).shape == (0,)


@every
@pytest.mark.parametrize(("kind", "precision"), [("int64", SINGLE), ("float64", DOUBLE), ("int32", SINGLE)])
def test_torch(row, kind, precision):
    torch = pytest.importorskip("torch", reason="needs torch")
    agree(CURVES[row](torch.tensor(times(row), dtype=getattr(torch, kind))), row, precision)


@every
def test_torch_in_single_precision(row):
    """Times that are floats themselves are resolved to 2^24 only."""
    torch = pytest.importorskip("torch", reason="needs torch")
    if TABLE[row]["total"] < 2**23:
        agree(CURVES[row](torch.tensor(times(row), dtype=torch.float32)), row)


def test_torch_compile_makes_one_graph():
    torch = pytest.importorskip("torch", reason="needs torch")
    chosen = {}
    for row, path in enumerate(PATHS):
        chosen.setdefault(next(name for name in SHAPES if f"{name}(" in path), row)
    rows = list(chosen.values())
    compiled = torch.compile(
        lambda *at: [CURVES[row](t) for row, t in zip(rows, at, strict=True)], fullgraph=True, backend="eager"
    )
    for row, found in zip(rows, compiled(*(torch.tensor(times(row)) for row in rows)), strict=True):
        agree(found, row)


@pytest.fixture(scope="module")
def jax():
    return pytest.importorskip("jax", reason="needs jax")


@every
def test_jax(jax, row):
    agree(CURVES[row](jax.numpy.array(times(row))), row)


def test_jax_jit_of_a_vmap_of_a_scalar_function(jax):
    @jax.jit
    def everything(at):
        return [jax.vmap(lambda t, curve=curve: curve(t))(t) for curve, t in zip(CURVES, at, strict=True)]

    for row, found in enumerate(everything([jax.numpy.array(row["times"]) for row in TABLE])):
        agree(found, row)


def test_jax_takes_a_curve_itself(jax):
    assert float(jax.jit(CURVES[1])(jax.numpy.int32(50))) == pytest.approx(0.6)


def test_jax_gradients_are_finite_everywhere(jax):
    """Also at boundaries, past the end, and where a formula not in force has none."""

    @jax.jit
    def slopes(at):
        return [jax.vmap(jax.grad(curve))(t) for curve, t in zip(CURVES, at, strict=True)]

    at = [jax.numpy.array(row["times"], float) for row in TABLE]
    for path, t, slope in zip(PATHS, at, slopes(at), strict=True):
        assert not np.isnan(slope).any(), path
        if "sqrt(" not in path or "inv_sqrt(" in path:  # the slope of a root at its beginning is infinite
            assert np.isfinite(slope).all(), (path, t)
    assert float(jax.grad(CURVES[1])(50.0)) == pytest.approx(-0.008)


def test_jax_scan(jax):
    row = PATHS.index("warmup(0.07) >> cosine(to=0.01)")
    _, found = jax.lax.scan(lambda t, _: (t + 1, CURVES[row](t)), jax.numpy.int32(0), length=1000)
    assert np.asarray(found) == pytest.approx([CURVES[row](t) for t in range(1000)], abs=1e-6)


@pytest.fixture(scope="module")
def mx():
    return pytest.importorskip("mlx.core", reason="needs mlx")


@every
def test_mlx(mx, row):
    agree(CURVES[row](mx.array(times(row), mx.int64)).tolist(), row)


def test_mlx_counts_in_unsigned_integers(mx):
    for row, curve in enumerate(CURVES):
        levels = [curve(mx.array(max(t, 0), mx.uint64)).item() for t in times(row)[::5]]
        expected = [curve(max(t, 0)) for t in times(row)[::5]]
        assert levels == pytest.approx(expected, abs=SINGLE * max(TABLE[row]["levels"]))


@pytest.mark.slow
def test_mlx_compile(mx):
    if mx.default_device().type == mx.cpu and shutil.which("g++") is None:
        pytest.skip("mx.compile on a CPU needs g++")
    row = PATHS.index("warmup(0.07) >> cosine(to=0.01)")
    agree(mx.compile(CURVES[row])(mx.array(times(row), mx.int64)).tolist(), row)


@every
def test_keras_variables(row):
    keras = pytest.importorskip("keras", reason="needs keras")
    at = keras.Variable(np.array(times(row), np.int32), dtype="int32", trainable=False)
    agree(keras.ops.convert_to_numpy(CURVES[row](at)), row)


ELSEWHERE = """
import sys
import numpy as np
import test_backends as tests
from keras import Variable, backend, ops
for row, curve in enumerate(tests.CURVES):
    at = np.array(tests.times(row))
    for kind in ("int32", "int64"):
        tests.agree(ops.convert_to_numpy(curve(ops.convert_to_tensor(at, dtype=kind))), row)
    tests.agree(ops.convert_to_numpy(curve(Variable(at, dtype="int32", trainable=False))), row)
if backend.backend() == "tensorflow":
    import tensorflow as tf
    for row, curve in enumerate(tests.CURVES):
        tests.agree(tf.function(curve)(tf.constant(tests.times(row))).numpy(), row)
print(backend.backend(), len(tests.CURVES))
"""


@pytest.mark.parametrize("backend", ["torch", pytest.param("tensorflow", marks=pytest.mark.all)])
def test_keras_elsewhere(backend):
    pytest.importorskip("keras", reason="needs keras")
    folder = os.environ.get("ETUDE_TENSORFLOW", "") if backend == "tensorflow" else ""
    if not (folder or importlib.util.find_spec(backend)):
        pytest.skip(f"needs {backend}")
    paths = filter(None, [folder, str(pathlib.Path(__file__).parent)])
    outcome = subprocess.run(
        [sys.executable, "-c", ELSEWHERE],
        env=os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.stdout.split() == [backend, str(len(TABLE))], outcome.stderr[-3000:]


LARGE = parse("hold(19_999_000) >> linear()").over(20_000_000)
COUNTS = np.arange(19_999_000, 20_000_001)


@pytest.mark.parametrize("library", ["numpy", "torch", "jax", "mlx", "keras"])
def test_single_updates_differ_around_20_million(library):
    """Single precision counts to 2^24 = 16.8 million: integers are subtracted before they are cast."""
    make = {
        "numpy": lambda: COUNTS,
        "torch": lambda: pytest.importorskip("torch").tensor(COUNTS),
        "jax": lambda: pytest.importorskip("jax").numpy.array(COUNTS),
        "mlx": lambda: pytest.importorskip("mlx.core").array(COUNTS.astype(np.uint64)),
        "keras": lambda: pytest.importorskip("keras").Variable(COUNTS, dtype="int32", trainable=False),
    }
    found = LARGE(make[library]())
    found = found.tolist() if library == "mlx" else np.asarray(found)
    assert found == pytest.approx([(20_000_000 - int(k)) / 1000 for k in COUNTS], abs=1e-6)
    assert len(set(np.asarray(found).tolist())) == 1001
