"""The order of an epoch, and batches that fill their calls."""

import keras
import numpy as np
import pytest

from sweeper_digits.training.feed import PREDICT_BATCH, Feed, PixelsByIndex, plan_steps, prediction_batches


def test_each_epoch_is_a_shuffle_of_its_own_and_a_resumed_run_sees_the_same() -> None:
    images, labels = np.arange(5, 105), np.arange(200, dtype=np.int32) % 10
    feed = Feed.of(images, labels, batch_size=20, seed=7)
    assert (feed.steps, feed.batch_size) == (5, 20)
    seen = [(np.asarray(x), np.asarray(y)) for x, y in feed.epochs(0, 3)]
    assert len(seen) == 15 and seen[0][0].dtype == np.int32
    orders = [np.concatenate([x for x, _ in seen[5 * epoch : 5 * epoch + 5]]) for epoch in range(3)]
    for epoch, order in enumerate(orders):
        np.testing.assert_array_equal(np.sort(order), images)
        np.testing.assert_array_equal(order, np.random.default_rng([7, epoch]).permutation(images))
    assert all(np.array_equal(labels[x], y) for x, y in seen)
    resumed = [np.asarray(x) for x, _ in feed.epochs(2, 3)]
    np.testing.assert_array_equal(np.concatenate(resumed), orders[2])


def test_epochs_are_drawn_when_their_turn_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    draw = Feed.epoch

    def note(feed: Feed, number: int) -> object:
        drawn.append(number)
        return draw(feed, number)

    monkeypatch.setattr(Feed, "epoch", note)
    feed = Feed.of(np.arange(64), np.zeros(64, np.int32), batch_size=16, seed=0)
    next(iter(feed.epochs(0, 1000)))
    assert 1 <= len(drawn) < 10


def test_other_backends_are_fed_the_same_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    feed = Feed.of(np.arange(64), np.zeros(64, np.int32), batch_size=16, seed=0)
    ours = [np.asarray(x) for x, _ in feed.epochs(0, 2)]
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    np.testing.assert_array_equal([x for x, _ in feed.epochs(0, 2)], ours)


def test_calls_of_several_steps_fill_the_epoch() -> None:
    planned = {0: (1, 1), 1: (1, 1), 3: (3, 1), 4: (4, 4), 42: (42, 14), 43: (42, 14), 101: (100, 10)}
    assert {batches: plan_steps(batches) for batches in planned} == planned


def test_a_batch_is_no_larger_than_the_data() -> None:
    feed = Feed.of(np.arange(7), np.zeros(7, np.int32), batch_size=100, seed=0)
    assert (feed.batch_size, feed.steps) == (7, 1)


def test_prediction_batches_are_of_one_size_and_keep_the_order() -> None:
    images = np.arange(2 * PREDICT_BATCH + 1)
    batches, size = prediction_batches(images)
    found = [np.asarray(batch) for batch in batches]
    assert {len(batch) for batch in found} == {size} and len(found) == 3
    np.testing.assert_array_equal(np.concatenate(found)[: len(images)], images)


def test_pixels_are_exact() -> None:
    images = np.arange(4 * 784, dtype=np.uint32).astype(np.uint8).reshape(4, 28, 28, 1)
    found = keras.ops.convert_to_numpy(keras.ops.cast(PixelsByIndex(images)(np.array([2, 0])), "float32"))
    np.testing.assert_array_equal(found, images[[2, 0]])
