"""The machine that trains: its device, its precision, and giving its memory back."""

import contextlib
import functools
import gc
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras

from sweeper_digits.errors import UserError
from sweeper_digits.quiet import quiet_import

# Instructions that multiply bfloat16 faster than float32, and whose processors do; without them it is emulated.
AMX, AVX512, AVX512_MAKER = "amx_bf16", "avx512_bf16", "AuthenticAMD"
# NVIDIA compute capability from which bfloat16 is native (Ampere).
BFLOAT16_CAPABILITY = (8, 0)
# With one of these, a user says how much of a GPU's memory JAX takes at its start.
JAX_MEMORY = {"XLA_PYTHON_CLIENT_PREALLOCATE", "XLA_PYTHON_CLIENT_MEM_FRACTION", "XLA_CLIENT_MEM_FRACTION"}

if keras.backend.backend() == "tensorflow":
    from tensorflow.python.framework import ops

    # Private, for TensorFlow has no public way to forget a gradient function. Without it this import fails.
    REGISTERED_GRADIENTS = ops.gradient_registry._registry


def choose_device(device: str) -> str:
    """Return `gpu:0` or `cpu:0`, and have this process take a GPU's memory only as it needs it.

    Raises:
        UserError: A GPU was asked for and Keras' backend sees none.
    """
    _let_memory_grow()
    if device == "cpu":
        return "cpu:0"
    if not _sees_gpu():
        if device == "gpu":
            raise UserError(
                f"device=gpu: Keras ({keras.backend.backend()}) sees no GPU; use device=cpu, "
                "or install the GPU libraries: pip install 'sweeper_digits[gpu]'"
            )
        return "cpu:0"
    return "gpu:0"


def choose_precision(precision: str, device: str) -> str:
    """Return `float32`, `bfloat16` or `float16`; `auto` is bfloat16 where it is faster than float32.

    Source: bfloat16 trains 3.1 x as many images per second as float32 on an Intel CPU with AMX, 1.8 x on an AMD CPU
    with AVX512-BF16, but 0.63 x on an Intel CPU with AVX512-BF16 alone (benchmarks/README.md).
    """
    if precision != "auto":
        return precision
    faster = _gpu_has_bfloat16() if device.startswith("gpu") else _cpu_gains_by_bfloat16()
    return "bfloat16" if faster else "float32"


@contextlib.contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """Let Keras build what is made in the block for a precision; its policy is one for the whole process."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32" if precision == "float32" else f"mixed_{precision}")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def forget_models() -> None:
    """Free the memory of the models that this process trained before and no longer uses.

    TensorFlow keeps each traced training step for ever, about 15 MiB per trained model: the all-reduce in Keras'
    optimizers registers a global gradient function that refers to it.

    Source: https://github.com/keras-team/tf-keras/pull/898
    """
    _freeze_imports()
    if keras.backend.backend() == "tensorflow":
        for name in [name for name in REGISTERED_GRADIENTS if name.startswith("CustomGradient-")]:
            del REGISTERED_GRADIENTS[name]
    policy = keras.config.dtype_policy()  # clear_session sets it back to its default
    keras.utils.clear_session()  # collects garbage too: a Keras model is full of cycles
    keras.config.set_dtype_policy(policy)


@functools.cache
def _freeze_imports() -> None:
    """Have later collections skip the objects that imports made: 0.4 s per collection.

    Once for a process: asking how many objects are frozen already counts all of them, 0.04 s.
    """
    gc.freeze()


def describe_device(device: str) -> str:
    if device.startswith("gpu"):
        return device
    return f"cpu ({_cpu_info('model name') or platform.processor() or platform.machine()}, {os.cpu_count()} cores)"


def _let_memory_grow() -> None:
    """Have Keras' backend leave the memory of the GPUs that it does not need to other processes.

    Otherwise the first process takes all of it (TensorFlow), or three quarters (JAX), and a second worker on the same
    GPU fails. It takes that with device=cpu too, for the backends start every GPU that they see.

    Source: https://docs.jax.dev/en/latest/gpu_memory_allocation.html
    """
    if keras.backend.backend() == "jax" and not JAX_MEMORY & set(os.environ):
        os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # read when JAX starts its devices
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        for gpu in _gpus_of_tensorflow():
            # A notebook has used the GPU before, so it is too late, or has limited its memory itself.
            with contextlib.suppress(RuntimeError, ValueError):
                tf.config.experimental.set_memory_growth(gpu, True)


def _gpus_of_tensorflow() -> list[Any]:
    import tensorflow as tf

    with quiet_import(keep_optional_imports=True):  # CUDA's libraries complain where there is no GPU
        return list(tf.config.list_physical_devices("GPU"))


def _sees_gpu() -> bool:
    """Return whether Keras' backend has a GPU.

    Keras' own list of devices cannot be used: on TensorFlow it starts the devices, after which their memory can no
    longer be told to grow; on JAX it raises where there is no GPU; for PyTorch Keras has no list.
    """
    if keras.backend.backend() == "tensorflow":
        return bool(_gpus_of_tensorflow())
    if keras.backend.backend() == "jax":
        import jax

        return bool(jax.default_backend() == "gpu")
    import torch

    return bool(torch.cuda.is_available())


def _gpu_has_bfloat16() -> bool:
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        details = tf.config.experimental.get_device_details(_gpus_of_tensorflow()[0])
        return tuple(details.get("compute_capability", (0, 0))) >= BFLOAT16_CAPABILITY
    if keras.backend.backend() == "jax":
        import jax

        capability = str(getattr(jax.devices("gpu")[0], "compute_capability", "0.0"))
        return tuple(int(part) for part in capability.split(".")) >= BFLOAT16_CAPABILITY
    import torch

    return bool(torch.cuda.is_bf16_supported())


def _cpu_gains_by_bfloat16() -> bool:
    flags = _cpu_info("flags").split()
    return AMX in flags or (AVX512 in flags and _cpu_info("vendor_id") == AVX512_MAKER)


def _cpu_info(key: str) -> str:
    """Return a value of the first processor in /proc/cpuinfo; empty where there is none."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.split(":")[0].strip() == key:
                return line.partition(":")[2].strip()
    return ""
