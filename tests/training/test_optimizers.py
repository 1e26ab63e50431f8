"""Every optimizer learns, and the schedule has the shape that it says."""

import keras
import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from sweeper_digits.config import parse
from sweeper_digits.training.optimizers import WarmupDecay, build_optimizer
from tests.conftest import ROOT

EXTRA = ["optimizer.use_ema=true", "optimizer.global_clipnorm=1", "optimizer.weight_decay=0.1"]


def rates(shape: str, final_fraction: float, steps: int = 100, warmup: int = 10) -> list[float]:
    schedule = WarmupDecay(0.5, steps, warmup, shape, final_fraction)
    return [float(schedule(step)) for step in range(steps + 1)]


def test_constant_warms_up_and_stays() -> None:
    values = rates("constant", 1.0)
    np.testing.assert_allclose(values[:10], np.arange(1, 11) * 0.05, rtol=1e-6)
    np.testing.assert_allclose(values[10:], 0.5)


def test_cosine_is_keras_own_after_the_warmup() -> None:
    keras_own = keras.optimizers.schedules.CosineDecay(0.5, 90, alpha=0.1)
    np.testing.assert_allclose(rates("cosine", 0.1)[10:], [float(keras_own(s)) for s in range(91)], rtol=1e-5)


def test_exponential_ends_at_its_fraction() -> None:
    values = rates("exponential", 0.01)
    assert values[-1] == pytest.approx(0.005, rel=1e-4)
    ratios = np.array(values[11:]) / np.array(values[10:-1])
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "learning_rate"),
    [("rmsprop", 0.01), ("sgd", 0.01), ("adam", 0.01), ("adamw", 0.01), ("nadam", 0.01), ("muon", 0.1)],
)
def test_optimizer_solves_a_linear_problem(name: str, learning_rate: float) -> None:
    options = [f"optimizer={name}", f"optimizer.learning_rate={learning_rate}", "schedule=constant"]
    for extra in ([], EXTRA):
        with initialize_config_dir(str(ROOT / "conf")):
            config = parse(compose("config", [*options, *extra]))
        optimizer = build_optimizer(config.optimizer, config.schedule, 8, 20, output_layer="dense_1")
        assert optimizer.use_ema == bool(extra)
        assert optimizer.global_clipnorm == (1 if extra else None)
        assert optimizer.weight_decay == (0.1 if extra else (config.optimizer.weight_decay or None))
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(1)])
    model.compile(optimizer, "mse")
    x = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    y = x.sum(axis=1, keepdims=True)
    losses = model.fit(x, y, epochs=20, batch_size=8, verbose=0).history["loss"]
    assert losses[-1] < 0.1 * y.var()  # a constant leaves the variance


def test_biases_and_normalization_do_not_decay() -> None:
    with initialize_config_dir(str(ROOT / "conf")):
        config = parse(compose("config", ["optimizer=adamw", "optimizer.weight_decay=0.5"]))
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.BatchNormalization()])
    optimizer = build_optimizer(config.optimizer, config.schedule, 1, 1, "")
    optimizer.build(model.trainable_variables)
    decayed = {v.name for v in model.trainable_variables if optimizer._use_weight_decay(v)}
    assert decayed == {"kernel"}
