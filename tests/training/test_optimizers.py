"""Every optimizer learns, and the schedule has the shape that it says."""

import keras
import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from sweeper_digits import schema
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


@pytest.mark.parametrize("name", ["rmsprop", "sgd", "adam", "adamw", "nadam", "muon"])
@pytest.mark.parametrize(
    "extra", [[], ["optimizer.use_ema=true", "optimizer.global_clipnorm=1", "optimizer.weight_decay=0.1"]]
)
def test_optimizer_lowers_a_loss(name: str, extra: list[str]) -> None:
    with initialize_config_dir(str(ROOT / "conf")):
        cfg = compose("config", [f"optimizer={name}", "schedule=constant", *extra])
    config = schema.parse(cfg)
    optimizer = build_optimizer(config.optimizer, config.schedule, steps_per_epoch=10, epochs=3)
    assert optimizer.use_ema == bool(extra)
    assert optimizer.global_clipnorm == (1 if extra else None)
    kept = 0.1 if extra else (config.optimizer.weight_decay or None)
    assert optimizer.weight_decay == kept
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(1)])
    model.compile(optimizer, "mse")
    random = np.random.default_rng(0)
    x = random.normal(size=(64, 4)).astype(np.float32)
    losses = model.fit(x, x.sum(axis=1, keepdims=True), epochs=3, batch_size=8, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


def test_biases_and_normalization_do_not_decay() -> None:
    with initialize_config_dir(str(ROOT / "conf")):
        config = schema.parse(compose("config", ["optimizer=adamw", "optimizer.weight_decay=0.5"]))
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.BatchNormalization()])
    optimizer = build_optimizer(config.optimizer, config.schedule, 1, 1)
    optimizer.build(model.trainable_variables)
    decayed = {v.name for v in model.trainable_variables if optimizer._use_weight_decay(v)}
    assert decayed == {"kernel"}
