"""Device and precision are what was asked for, or an error."""

import keras
import pytest

from sweeper_digits import device
from sweeper_digits.errors import UserError


def test_cpu_is_cpu() -> None:
    assert device.choose_device("cpu") == "cpu:0"


@pytest.mark.skipif(bool(keras.distribution.list_devices("gpu")), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_an_error() -> None:
    assert device.choose_device("auto") == "cpu:0"
    with pytest.raises(UserError, match=r"device=gpu: .* sees no GPU; use device=cpu"):
        device.choose_device("gpu")


@pytest.mark.parametrize(
    ("flags", "precision"), [("fma avx512_bf16", "bfloat16"), ("amx_bf16", "bfloat16"), ("fma avx512f", "float32")]
)
def test_auto_is_bfloat16_only_where_the_cpu_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, flags: str, precision: str
) -> None:
    monkeypatch.setattr(device, "_cpu_info", lambda key: flags)
    assert device.choose_precision("auto", "cpu:0") == precision
    assert device.choose_precision("float16", "cpu:0") == "float16"
