"""Training steps that together use each option of conf/, traced as `fit` traces them, for a GPU that is not there."""

import inspect
import json
import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from hydra import compose, initialize_config_dir

from sweeper_digits.config import parse
from sweeper_digits.data.dataset import load_mnist_5k
from sweeper_digits.data.split import Subsets
from sweeper_digits.training.device import computing_in
from sweeper_digits.training.fit import Prepared, prepare
from tests.conftest import ROOT

BATCH = 32
IMAGES = 300
STEPS = [
    "model=batchnorm augmentation=light optimizer=adamw schedule=cosine precision=bfloat16",
    "model=batchnorm augmentation=none optimizer=adam schedule=cosine precision=float32",
    "model=notebook augmentation=strong optimizer=rmsprop schedule=exponential precision=float32",
    "model=residual augmentation=elastic optimizer=muon optimizer.use_ema=true optimizer.global_clipnorm=1 "
    "precision=bfloat16",
    "model=small augmentation=medium optimizer=sgd schedule=constant precision=float16",
    "model=small augmentation=none optimizer=nadam precision=bfloat16",
]


def prepared(step: str) -> Prepared:
    """Prepare the training of some overrides on a few digits, its optimizer built."""
    with initialize_config_dir(str(ROOT / "conf")):
        config = parse(compose("config", [*step.split(), f"batch_size={BATCH}"]))
    everything = load_mnist_5k()
    few = everything.part(np.linspace(0, len(everything.images) - 1, IMAGES).astype(int))
    made = prepare(config, few, Subsets(np.arange(IMAGES), np.arange(0)))
    made.trainee.optimizer.build(made.trainee.trainable_variables)
    made.trainee.make_train_function()
    return made


def of_the_trainer(function: Callable[..., Any], name: str) -> Any:
    """What Keras' trainer keeps under this name in a function that it has made."""
    return inspect.getclosurevars(function).nonlocals[name]


def lower_for_cuda() -> None:
    """Print, as JSON, what JAX would hand to XLA for an NVIDIA GPU: for each step, whatever leaves the device."""
    import jax

    found = {}
    for step in STEPS:
        with computing_in(step.rpartition("precision=")[2]):
            training = prepared(step)
            kinds = ("trainable", "non_trainable", "optimizer", "metrics")
            state = training.trainee._get_jax_state(**{f"{kind}_variables": True for kind in kinds})
            batch = jax.device_put(next(iter(training.feed.epochs(0, 1))))
            traced = of_the_trainer(training.trainee.train_function, "step_function").trace(state, batch)
            lowered = traced.lower(lowering_platforms=("cuda",))
        text = lowered.as_text()
        given = jax.tree.leaves((state, batch))
        found[step] = {
            "custom calls": sorted(set(re.findall(r"custom_call @(\w+)", text))),
            "to or from the host": sorted(set(re.findall(r"stablehlo\.(?:in|out)feed|stablehlo\.(?:send|recv)", text))),
            "effects": sorted(map(str, traced.jaxpr.effects)),
            "largest constant": max(np.size(constant) for constant in traced.jaxpr.consts),
            "inputs that are no device arrays": sum(not isinstance(leaf, jax.Array) for leaf in given),
            "data sets among the inputs": [leaf.shape for leaf in given].count((IMAGES, 28, 28, 1)),
            "new memory for the state": len(lowered.donate_argnums) < len(jax.tree.leaves(state)),
        }
        keras.utils.clear_session()
    print(json.dumps(found))
