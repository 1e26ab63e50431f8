"""A training step stays on a GPU: neither an operation nor a large tensor of it goes to the host.

TensorFlow's package for CPUs lists its GPU kernels too, and JAX lowers for a GPU that is not there.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

import keras
import pytest
import tensorflow as tf
from tensorflow.python.framework import kernels

from sweeper_digits.training.device import computing_in
from sweeper_digits.training.feed import prediction_batches
from tests.conftest import ROOT
from tests.training.steps import BATCH, STEPS, of_the_trainer, prepared


@cache
def registered(operation: str) -> list[Any]:
    return [kernel for kernel in kernels.get_registered_kernels_for_op(operation).kernel if not kernel.label]


def gpu_kernel(operation: tf.Operation) -> Any:
    """The kernel that TensorFlow would take on a GPU, as its FindKernelRegistration does; None: it has none."""

    def types(name: str) -> set[int]:
        value = operation.get_attr(name)
        return {dtype.as_datatype_enum for dtype in (value if isinstance(value, list) else [value])}

    for device in ("GPU", "DEFAULT"):
        fitting = [
            kernel
            for kernel in registered(operation.type)
            if kernel.device_type == device
            and all(types(limit.name) <= set(limit.allowed_values.list.type) for limit in kernel.constraint)
        ]
        if fitting:
            return max(fitting, key=lambda kernel: kernel.priority)
    return None


def held_by_the_host(operation: tf.Operation, kernel: Any) -> Iterator[tf.Tensor]:
    """The inputs and outputs that a GPU's kernel wants in the host's memory."""
    definition = operation.op_def
    for arguments, tensors in ((definition.input_arg, operation.inputs), (definition.output_arg, operation.outputs)):
        rest = list(tensors)
        for argument in arguments:
            count = 1
            if argument.number_attr:
                count = operation.get_attr(argument.number_attr)
            elif argument.type_list_attr:
                count = len(operation.get_attr(argument.type_list_attr))
            if argument.name in kernel.host_memory_arg:
                yield from rest[:count]
            del rest[:count]


def with_functions(graph: tf.Graph) -> list[tf.Graph]:
    """A graph and those of all functions that it calls: bodies of loops, branches, gradients."""
    graphs = {"": graph}
    waiting = [graph]
    while waiting:
        for name, function in waiting.pop()._functions.items():
            if name not in graphs:
                graphs[name] = function.graph
                waiting.append(function.graph)
    return list(graphs.values())


def leaves_the_gpu(graph: tf.Graph) -> list[str]:
    """What a graph does that a GPU cannot do, or for which a large tensor travels to the host.

    TensorFlow keeps most int32 in the host's memory, beside a GPU too. That is right for shapes, and for the
    indices and labels of a batch, which come from there.
    """
    found = []
    for operation in (operation for graph in with_functions(graph) for operation in graph.get_operations()):
        dtypes = [tensor.dtype.name for tensor in operation.inputs]
        if (kernel := gpu_kernel(operation)) is None:
            found.append(f"{operation.name}: {operation.type} of {dtypes} has no kernel")
        elif operation.type == "Less" and operation.inputs[0].op.type == "BitwiseAnd":
            # The sign bits of the logits, BATCH x classes, in Keras' argmax for the accuracy: nothing waits for it.
            continue
        else:
            sizes = [tensor.shape.num_elements() for tensor in held_by_the_host(operation, kernel)]
            if any(size is None or size > BATCH for size in sizes):
                found.append(f"{operation.name}: {operation.type} of {dtypes} keeps {sizes} elements on the host")
    return found


def test_the_steps_use_each_option_of_conf() -> None:
    used = {override for step in STEPS for override in step.split()}
    for group in ("model", "augmentation", "optimizer", "schedule"):
        assert {f"{group}={path.stem}" for path in (ROOT / "conf" / group).glob("*.yaml")} <= used


@pytest.mark.parametrize("step", STEPS)
def test_tensorflow_runs_a_whole_training_step_on_a_gpu(step: str) -> None:
    with computing_in(step.rpartition("precision=")[2]):
        training = prepared(step)
        batches = iter(training.feed.epochs(0, 1))
        steps = of_the_trainer(training.trainee.train_function, "multi_step_on_iterator")
        graph = steps.get_concrete_function(batches).graph
        assert training.feed.steps_per_execution > 1
        kinds = {operation.type for one in with_functions(graph) for operation in one.get_operations()}
        assert {"While", "Conv2D", "Conv2DBackpropFilter", "GatherV2", "StatelessRandomUniformIntV2"} <= kinds
        assert leaves_the_gpu(graph) == []


def test_tensorflow_predicts_on_a_gpu() -> None:
    trainee = prepared(STEPS[0]).trainee
    predictor = keras.Model(trainee.inputs, trainee.outputs)
    predictor.make_predict_function()
    batches, _ = prediction_batches(tf.range(BATCH).numpy())
    graph = predictor.predict_function.get_concrete_function([next(iter(batches))]).graph
    assert leaves_the_gpu(graph) == []


@pytest.mark.parametrize(
    ("images", "places", "cause"),
    [
        ("uint8", "int64", r"GatherV2 of \['uint8', 'int64', 'int32'\] has no kernel"),  # all images at each step
        ("float32", "int32", r"AddV2 of \['int32', 'int32'\] keeps \[3136, 1, 3136\] elements on the host"),
    ],
)
def test_what_leaves_a_gpu_is_seen(images: str, places: str, cause: str) -> None:
    step = tf.function(lambda images, places: tf.gather(images, places + tf.ones((), places.dtype)))
    signature = tf.TensorSpec((300, 28), images), tf.TensorSpec((4, 28, 28), places)
    [left] = leaves_the_gpu(step.get_concrete_function(*signature).graph)
    assert re.search(cause, left), left


@pytest.mark.slow
def test_jax_lowers_a_whole_training_step_for_a_gpu() -> None:
    """The data set stays where it is: an input that the step gives back, and no constant of it."""
    pytest.importorskip("jax", reason="jax is not installed")
    done = subprocess.run(
        [sys.executable, "-c", "from tests.training import steps; steps.lower_for_cuda()"],
        cwd=ROOT,
        env=os.environ | {"KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    lowered = json.loads(done.stdout)
    assert list(lowered) == STEPS
    for step, found in lowered.items():
        assert set(found.pop("custom calls")) <= {"cu_threefry2x32_ffi"}, step  # random numbers, by JAX's CUDA plugin
        assert found.pop("largest constant") < 1000, step
        assert found == {
            "to or from the host": [],
            "effects": [],
            "inputs that are no device arrays": 0,
            "data sets among the inputs": 1,
            "new memory for the state": False,
        }, step
