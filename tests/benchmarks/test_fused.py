"""Members that JAX trains together are those that Keras' `fit` trains alone. JAX needs a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

NETWORK = ["model=small", "model.filters=2", "model.stages=1", "model.dense_units=8"]
# Prints what differs between members trained together and alone.
SCRIPT = f"""
import json

pytestmark = pytest.mark.slow
from benchmarks import fused

print(json.dumps(fused.differences({NETWORK}, "xla")))
"""
# Prints by how much convolutions over patches, and their gradients, differ from XLA's, relative to the largest value.
CONVOLUTIONS = """
from functools import partial
import jax
import numpy as np
from keras import ops
from benchmarks.fused_step import _by_patches

rng = np.random.default_rng(0)
for side, channels, padding in ((5, 1, "same"), (3, 4, "same"), (2, 3, "same"), (3, 4, "valid"), (2, 3, "valid")):
    images, kernel = (rng.normal(size=s).astype("float32") for s in ((2, 9, 8, channels), (side, side, channels, 6)))
    before = ops.conv(images, kernel, padding=padding)
    weights = rng.normal(size=before.shape).astype("float32")
    for patches in (False, True):
        way = partial(_by_patches if patches else ops.conv, padding=padding)
        value = way(images, kernel)
        gradients = jax.grad(lambda x, k: (way(x, k) * weights).sum(), (0, 1))(images, kernel)
        found = [value, *gradients]
        if patches:
            pairs = zip(found, before)
            print(max(float(abs(one - other).max() / abs(other).max()) for one, other in pairs))
        before = found
"""


def on_jax(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("jax", reason="jax is not installed")
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_fused_members_equal_single_ones(tmp_path: Path) -> None:
    done = on_jax(SCRIPT, tmp_path)
    assert done.returncode == 0, done.stderr
    losses, weights = json.loads(done.stdout)
    assert losses < 1e-4 and weights < 1e-2  # two steps in float32, from other roundings


def test_convolutions_over_patches_are_convolutions(tmp_path: Path) -> None:
    done = on_jax(CONVOLUTIONS, tmp_path)
    assert done.returncode == 0, done.stderr
    found = [float(line) for line in done.stdout.splitlines()]
    assert len(found) == 5 and max(found) < 1e-5  # sums of up to 72 x 2 products, in another order


def test_another_backend_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "fused.py")],
        cwd=tmp_path,
        env=os.environ | {"KERAS_BACKEND": "tensorflow"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("error: KERAS_BACKEND=tensorflow: only JAX fuses")
