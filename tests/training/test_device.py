"""Device and precision are what was asked for, or an error."""

import os
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


def python(code: str, **environment: str) -> None:
    """Run code in a process whose backend has not started, as a run does."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_tensorflow_takes_the_memory_of_a_gpu_as_it_needs_it_unless_it_is_in_use() -> None:
    """GPUs are pretended. Looking for one starts nothing: its memory could not be told to grow any more."""
    python("""
import tensorflow as tf
from tensorflow.python.eager import context
from sweeper_digits.training import device

def pretend(number):
    return context.PhysicalDevice(f"/physical_device:GPU:{number}", "GPU")

device.choose_device("auto")
ours = context.context()
assert not ours._initialized
# Training on the CPU too: TensorFlow starts all GPUs, and would take their whole memory.
tf.config.list_physical_devices()
gpus = [pretend(number) for number in range(2)]
ours._physical_devices += gpus
for asked, chosen in [("cpu", "cpu:0"), ("auto", "gpu:0"), ("gpu", "gpu:0")]:
    ours._memory_growth_map |= dict.fromkeys(gpus)
    for _ in range(2):  # a process trains often
        assert device.choose_device(asked) == chosen
    assert [tf.config.experimental.get_memory_growth(gpu) for gpu in gpus] == [True, True], asked
for gpu in gpus:
    ours._physical_devices.remove(gpu)
    del ours._memory_growth_map[gpu]
# In a notebook: TensorFlow refuses to let the memory of a GPU grow that was limited.
gpu = pretend(0)
ours._physical_devices.append(gpu)
ours._memory_growth_map[gpu] = None
limit = tf.config.LogicalDeviceConfiguration(memory_limit=100)
tf.config.set_logical_device_configuration(gpu, [limit])
assert device.choose_device("auto") == "gpu:0"
assert tf.config.get_logical_device_configuration(gpu) == [limit]
ours._physical_devices.remove(gpu)
del ours._memory_growth_map[gpu], ours._virtual_device_map[gpu]
# In a notebook, TensorFlow may have started: then it refuses to change anything.
tf.constant(1)
assert ours._initialized
gpu = pretend(0)
ours._physical_devices.append(gpu)
ours._memory_growth_map[gpu] = None
assert device.choose_device("auto") == "gpu:0"
""")


def test_jax_takes_the_memory_of_a_gpu_as_it_needs_it() -> None:
    """Unless the user says how much of it JAX is to take."""
    pytest.importorskip("jax", reason="jax is not installed")
    python(
        """
import os
from jax._src import xla_bridge
from jaxlib import xla_client
from sweeper_digits.training import device

def preallocates(**said):
    for name in device.JAX_MEMORY:
        os.environ.pop(name, None)
    os.environ.update(said)
    assert not xla_bridge._backends, "JAX has started"
    device.choose_device("cpu")
    return xla_client.generate_pjrt_gpu_plugin_options().get("preallocate")

assert preallocates(XLA_PYTHON_CLIENT_PREALLOCATE="true") is True
assert preallocates(XLA_PYTHON_CLIENT_MEM_FRACTION=".4") is None  # JAX's default: of this share
assert preallocates(XLA_CLIENT_MEM_FRACTION=".4") is None
assert preallocates() is False
""",
        KERAS_BACKEND="jax",
    )


def test_auto_is_bfloat16_only_where_the_cpu_gains_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for maker, flags, precision in (
        ("AuthenticAMD", "fma avx512_bf16", "bfloat16"),
        ("GenuineIntel", "avx512_bf16 amx_bf16", "bfloat16"),
        ("GenuineIntel", "fma avx512_bf16", "float32"),  # it multiplies it, at half the speed of float32
        ("AuthenticAMD", "fma avx512f", "float32"),
    ):
        monkeypatch.setattr(device, "_cpu_info", {"vendor_id": maker, "flags": flags}.get)
        assert device.choose_precision("auto", "cpu:0") == precision, (maker, flags)
        assert device.choose_precision("float16", "cpu:0") == "float16"
