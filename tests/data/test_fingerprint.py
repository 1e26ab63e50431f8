"""What a run keeps of its images tells every change of them, and says in words which it is."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sweeper_digits.config import KFold
from sweeper_digits.data.dataset import Dataset
from sweeper_digits.data.fingerprint import LOCKED, TRAINS, Content
from sweeper_digits.data.split import Subsets, splits
from sweeper_digits.runs.folder import RunFolder
from tests.tables import unlike

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 8, 9, 1), np.uint8)
LABELS = np.arange(40, dtype=np.int32) % 4
SET = Dataset(IMAGES, LABELS, "set", ("a", "b", "c", "d"))
ORDER = np.random.default_rng(1).permutation(40)


def test_every_change_has_another_fingerprint_and_its_words() -> None:
    two_labels = LABELS.copy()
    two_labels[:2] = LABELS[1::-1]
    others = {
        "the same images in another order": SET.part(ORDER),
        "3 images fewer": SET.part(np.arange(37)),
        "1 image more": SET.part(np.append(np.arange(40), 5)),  # a copy
        "2 images more, 3 images fewer": SET.part(np.array([0, 0, 0, *range(4, 40)])),
        "2 images with another label": replace(SET, labels=two_labels),
        "10 images with another label": replace(SET, classes=("a", "b", "c", "e")),
        "the same images with other names of classes": replace(SET, classes=("a", "b", "c", "d", "e")),
        "40 images more, 40 images fewer": replace(SET, images=255 - IMAGES),
    }
    own = Content.of(SET)
    assert own.changes(Content.of(replace(SET, source="elsewhere", ids=tuple("x" * 40)))) == ""
    for words, other in others.items():
        assert own.changes(Content.of(other)) == words
    assert len({own.fingerprint, *(Content.of(other).fingerprint for other in others.values())}) == 9


def test_a_class_by_another_number_is_the_same_class() -> None:
    shifted = replace(SET, labels=LABELS + 1, classes=("0", *SET.classes))
    assert Content.of(SET).changes(Content.of(shifted)) == "the same images with other names of classes"
    names = [SET.classes[label] for label in LABELS]
    assert not Content.of(shifted).other_labels(SET.hashes, names).any()
    assert Content.of(SET).other_labels(SET.hashes, ["b"] * 40).sum() == 30
    assert not Content.of(SET.part(np.arange(10, 40))).other_labels(SET.hashes[:10], ["b"] * 10).any()


def test_what_a_run_does_with_each_image_is_found_again(tmp_path: Path) -> None:
    parts = list(splits(KFold(test_size=0.2, seed=0, folds=4, fold=None), LABELS, SET.groups))
    run = RunFolder(tmp_path)
    run.write_images(Content.of(SET, parts))
    kept = run.read_images()
    assert kept.division == Content.of(SET, parts).division and (kept.parts == LOCKED).sum() == len(kept.locked) == 8
    for number, part in enumerate(parts):
        assert sorted(kept.validated(number)) == sorted(SET.hashes[part.validation])
        assert sorted(kept.trained(number)) == sorted(SET.hashes[part.train])
        alone = Content.of(SET, [part])  # a run with this fold alone
        assert sorted(alone.validated(None)) == sorted(kept.validated(number)) and TRAINS in alone.parts
        assert alone.validation_fingerprint() == kept.validation_fingerprint(number)
    assert len({kept.validation_fingerprint(number) for number in range(4)}) == 4
    moved = Subsets(np.flatnonzero(np.isin(ORDER, parts[0].train)), np.flatnonzero(np.isin(ORDER, parts[0].validation)))
    there = Content.of(SET.part(ORDER), [moved])
    assert there.validation_fingerprint() == kept.validation_fingerprint(0) and there.division != kept.division
    assert Content.of(SET, [Subsets(np.arange(40), np.arange(0))]).validation_fingerprint() == ""


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.read_images() is None
    everything = vars(Content.of(SET)) | {"classes": '["a", "b", "c", "d"]'}
    arrays = {name: everything[name] for name in ("hashes", "labels", "parts", "classes")}
    wrong: dict[str, Any] = {
        "labels": LABELS + 1, "parts": np.zeros(3, np.int8), "hashes": np.zeros(40), "classes": "[",
    }  # fmt: skip

    def read(changed: str) -> None:
        if changed == "text":
            run.images.write_text("no archive")
        else:
            changes = {changed: wrong[changed]} if changed in wrong else {}
            np.savez(run.images, **({"hashes": SET.hashes} if changed == "gone" else arrays | changes))
        run.read_images()

    read("")
    said = r"images\.npz: not readable \(.*; delete it, then nothing is known"
    assert unlike([(changed, said) for changed in (*wrong, "gone", "text")], read) == []
