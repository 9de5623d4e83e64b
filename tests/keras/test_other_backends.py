"""The room's tests once more on Keras's other back ends: one back end a process."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

pytest.importorskip("keras", reason="needs keras")

HERE = pathlib.Path(__file__)
TENSORFLOW = os.environ.get(
    "ETUDE_TENSORFLOW", ""
)  # a folder made by pip install --target DIR tensorflow-cpu


def passes(backend, *paths):
    files = [str(file) for file in sorted(HERE.parent.glob("test_*.py")) if file != HERE]
    outcome = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files],
        env=os.environ
        | {"KERAS_BACKEND": backend, "PYTHONPATH": os.pathsep.join(paths), "TF_CPP_MIN_LOG_LEVEL": "3"},
        cwd=HERE.parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stdout[-4000:]
    assert " passed" in outcome.stdout


@pytest.mark.slow
def test_torch():
    pytest.importorskip("torch", reason="needs torch")
    passes("torch")


@pytest.mark.all
def test_tensorflow():
    if not (TENSORFLOW or importlib.util.find_spec("tensorflow")):
        pytest.skip("needs tensorflow, here or in the folder that ETUDE_TENSORFLOW names")
    passes("tensorflow", *filter(None, [TENSORFLOW]))
