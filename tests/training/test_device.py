"""Device and precision are what was asked for, or an error."""

import subprocess
import sys

import pytest
import tensorflow as tf

from sweeper_digits.errors import UserError
from sweeper_digits.training import device
from tests.conftest import ROOT


def test_cpu_is_cpu() -> None:
    assert device.choose_device("cpu") == "cpu:0"


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_an_error() -> None:
    assert device.choose_device("auto") == "cpu:0"
    with pytest.raises(UserError, match=r"device=gpu: .* sees no GPU; use device=cpu"):
        device.choose_device("gpu")


def test_looking_for_a_gpu_does_not_start_tensorflows_devices() -> None:
    """Once they are started, the memory of a GPU cannot be told to grow any more."""
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from tensorflow.python.eager import context
from sweeper_digits.training import device
device.choose_device("auto")
assert not context.context()._initialized
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("flags", "precision"), [("fma avx512_bf16", "bfloat16"), ("amx_bf16", "bfloat16"), ("fma avx512f", "float32")]
)
def test_auto_is_bfloat16_only_where_the_cpu_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, flags: str, precision: str
) -> None:
    monkeypatch.setattr(device, "_cpu_info", lambda key: flags)
    assert device.choose_precision("auto", "cpu:0") == precision
    assert device.choose_precision("float16", "cpu:0") == "float16"
