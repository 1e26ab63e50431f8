"""data.group: images of one patient, writer or session are in one part, in every format that can say whose they are."""

import itertools
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io

from sweeper_digits.config import All, Holdout, KFold
from sweeper_digits.data.dataset import Dataset
from sweeper_digits.data.file import load_file
from sweeper_digits.data.split import note_groups, split_test, splits
from sweeper_digits.errors import UserError
from sweeper_digits.runs.folder import RunFolder
from tests.conftest import TINY
from tests.data.layouts import DIGITS, GREY, LABELS, LETTERS, many, png, table
from tests.tables import unlike

OWN = [f"p{place % 5}" for place in range(12)]  # whose each image is
HOLDOUT = Holdout(test_size=0.1, seed=0, validation_size=0.2)


def people(count: int, images: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels, of which each person has some more often; and the person, from 0."""
    rng = np.random.default_rng(seed)
    own = np.sort(rng.choice(count, images, p=rng.dirichlet(np.full(count, 3.0))))
    labels = np.where(rng.random(images) < 0.5, own % 4, rng.integers(0, 4, images))
    return labels, np.unique(own, return_inverse=True)[1]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "split",
    [
        lambda seed: Holdout(test_size=0.1, seed=seed, validation_size=0.2),
        lambda seed: KFold(test_size=0.2, seed=seed, folds=4, fold=None),
        lambda seed: All(test_size=0.2, seed=seed),
    ],
)
def test_no_group_is_on_both_sides_and_each_part_has_its_share(split: Callable[[int], Holdout], seed: int) -> None:
    labels, own = people(60, 3000, seed)
    option = split(seed)
    usable, locked = split_test(option, labels, own, named=True)
    found = list(splits(option, labels, own, named=True))
    for parts in found:
        sides = [set(own[places].tolist()) for places in (parts.train, parts.validation, locked)]
        assert all(not one & other for one, other in itertools.combinations(sides, 2))
        assert sorted([*parts.train, *parts.validation, *locked]) == list(range(3000))
    shares = {"Holdout": 0.2, "KFold": 0.25, "All": 0.0}[type(option).__name__]
    cases = [(locked, np.arange(3000), option.test_size), *((one.validation, usable, shares) for one in found)]
    for chosen, among, share in cases:
        assert abs(len(chosen) / len(among) - share) < 0.02
        for label in range(4):
            assert abs((labels[chosen] == label).sum() - share * (labels[among] == label).sum()) < 0.05 * len(among) / 4
    assert note_groups(option, Dataset(_all_different(3000), labels, "", tuple("abcd"), named_groups=own), found) == []


def _all_different(count: int) -> np.ndarray:
    return np.arange(count * 64, dtype=np.uint32).view(np.uint8).reshape(count, 8, 8, 4)[..., :3].copy()


def test_seeds_draw_other_groups_and_a_fold_alone_is_as_among_all() -> None:
    labels, own = people(60, 3000)
    drawn = [next(iter(splits(Holdout(0, seed, 0.2), labels, own, named=True))).validation for seed in (0, 0, 1)]
    assert np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawn[2])
    folds = list(splits(KFold(0.1, 3, 5, None), labels, own, named=True))
    (second,) = splits(KFold(0.1, 3, 5, 1), labels, own, named=True)
    np.testing.assert_array_equal(second.validation, folds[1].validation)


def test_groups_that_share_an_image_are_one() -> None:
    rng = np.random.default_rng(0)
    kinds, named = rng.integers(0, 60, 80), rng.integers(0, 30, 80)
    dataset = Dataset(_all_different(60)[kinds], rng.integers(0, 2, 80), "", ("a", "b"), named_groups=named.astype(str))
    together = np.arange(80)  # by hand: the least place of all that can be reached
    for _ in range(80):
        for one, other in itertools.product(range(80), repeat=2):
            if kinds[one] == kinds[other] or named[one] == named[other]:
                together[one] = together[other] = min(together[one], together[other])
    assert [(dataset.groups == group).tolist() for group in dataset.groups] == [
        (together == group).tolist() for group in together
    ]
    assert dataset.groups.max() + 1 == len(set(together.tolist())) and len(set(dataset.copies.tolist())) > 40
    part = dataset.part(np.arange(0, 80, 2))
    assert part.named_groups.tolist() == named[::2].astype(str).tolist()


def test_groups_too_large_or_too_few_are_said() -> None:
    own = np.repeat(["ann", "bob", "cid"], [80, 15, 5])
    labels = np.repeat([0, 1, 0, 1, 1], [60, 20, 10, 5, 5])
    dataset = Dataset(_all_different(100), labels, "", ("x", "y"), named_groups=own)
    split = Holdout(test_size=0, seed=0, validation_size=0.5)
    parts = list(splits(split, labels, dataset.groups, named=True))
    assert note_groups(split, dataset, parts) == [
        "80% of the images are for training, and 50% were asked for: groups stay whole, and that of 'ann' has 80%",
        "20% of the images are for validation, and 50% were asked for: groups stay whole, and that of 'ann' has 80%",
    ]
    folds = KFold(test_size=0, seed=0, folds=3, fold=None)
    notes = note_groups(folds, dataset, list(splits(folds, labels, dataset.groups, named=True)))
    assert len([note for note in notes if note.startswith("no group with class x is for validation in fold ")]) == 1
    copied = Dataset(_all_different(100)[[*range(95), *[0] * 5]], labels, "", ("x", "y"), named_groups=own)
    parts = list(splits(Holdout(0, 0, 0.5), labels, copied.groups, named=True))
    assert note_groups(Holdout(0, 0, 0.5), copied, parts)[0] == "equal images join 3 groups into 2"

    def call(option: Holdout | KFold) -> None:
        list(splits(option, labels, copied.groups, named=True))

    few = r"2 groups for 3 parts, so nothing is left for one of them; data\.group=NAME keeps"
    assert unlike([(folds, rf"^split\.folds=3: {few}")], call) == []
    with pytest.raises(UserError, match=r"split\.validation_size=0\.2: 1 group for 2 parts"):
        list(splits(HOLDOUT, labels, copied.groups, named=True))


def columns(at: int, name: str = "Writer") -> bytes:
    """A table with a column more."""
    lines = [line.split(",") for line in table().decode().splitlines()]
    return "\n".join(
        ",".join([*line[:at], cell, *line[at:]]) for line, cell in zip(lines, [name, *OWN], strict=True)
    ).encode()


def in_folders(form: str) -> dict[str, bytes]:
    """Pictures in folders."""
    every = enumerate(zip(GREY, LETTERS, OWN, strict=True))
    return {form.format(letter=letter, own=own, place=place): png(image) for place, (image, letter, own) in every}


def write_parquet(folder: Path, pictures: bool) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    images: dict[str, Any] = {f"pixel{place}": GREY.reshape(12, -1)[:, place] for place in range(784)}
    if pictures:
        images = {"image": [{"bytes": png(image), "path": ""} for image in GREY]}
    parquet.write_table(pyarrow.table({**images, "label": LABELS, "writer": OWN}), folder / "m.parquet")


def write_h5(folder: Path) -> None:
    with h5py.File(folder / "m.h5", "w") as file:
        for name, values in {"train/data": GREY, "train/writer": OWN, "train/target": LABELS}.items():
            file[name] = values


ARRAYS: dict[str, Any] = {"x_train": GREY, "writer_train": np.array(OWN), "labels_train": LABELS}
ARRAYS |= {name.replace("train", "test"): array[:6] for name, array in ARRAYS.items()}
NUMBERS = np.array([float(own[1:]) for own in OWN])
FORMATS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "table": (many({"m.csv": columns(1)}), "m.csv", "writer"),
    "last column, other case": (many({"m.csv": columns(785, "wRITER")}), "m.csv", "Writer"),
    "index": (many({"m.csv": columns(0, "id")}), "m.csv", "id"),
    "parquet": (lambda folder: write_parquet(folder, False), "m.parquet", "writer"),
    "parquet of pictures": (lambda folder: write_parquet(folder, True), "m.parquet", "Writer"),
    "npz": (lambda folder: np.savez(folder / "m.npz", **ARRAYS), "m.npz", "writer"),
    "npz, whole name": (lambda folder: np.savez(folder / "m.npz", **ARRAYS), "m.npz", "writer_train"),
    "npz without names": (lambda folder: np.savez(folder / "m.npz", GREY, LABELS, np.array(OWN)), "m.npz", "arr_2"),
    "npz, labels of another name": (
        lambda folder: np.savez(folder / "m.npz", who=np.array(OWN), digit=LABELS, x=GREY),
        "m.npz",
        "who",
    ),
    "mat": (
        lambda folder: scipy.io.savemat(folder / "m.mat", {"X": GREY, "who": NUMBERS, "y": LABELS}),
        "m.mat",
        "who",
    ),
    "h5": (write_h5, "m.h5", "writer"),
    "folders above": (many(in_folders("m/{own}/{letter}/{place}.png")), "m", "1"),
    "folders below": (many(in_folders("m/{letter}/{own}/{place}.png")), "m", "2"),
    "folders of a part": (many(in_folders("m/train/{letter}/{own}/{place}.png")), "m", "3"),
}


def test_each_format_says_whose_an_image_is(tmp_path: Path) -> None:
    for number, (name, (write, path, group)) in enumerate(FORMATS.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        write(folder)
        found = load_file(str(folder / path), group=group)
        order = [next(place for place in range(12) if np.array_equal(GREY[place], one[..., 0])) for one in found.images]
        assert sorted(order) == list(range(12)) and found.image_shape == (28, 28, 1), name
        kinds = LETTERS if name.startswith("folders") else DIGITS
        assert [found.classes[label] for label in found.labels] == [kinds[place] for place in order], name
        said = [str(one).removeprefix("p") for one in found.named_groups]
        assert said == [OWN[place][1:] for place in order] and found.lacks == "", name
        assert found.groups.tolist() == list(map(list(dict.fromkeys(said)).index, said)), name
        assert found.ids is None or len(set(found.ids)) == 12


def test_parts_of_a_file_and_zips_have_groups(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", **ARRAYS)
    both = load_file(str(tmp_path / "m.npz"), part="all", group="writer")
    assert both.named_groups.tolist() == [*OWN, *OWN[:6]]
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        for name, raw in in_folders("top/{own}/{letter}/{place}.png").items():
            archive.writestr(name, raw)
    found = load_file(str(tmp_path / "m.zip"), group="2")
    assert sorted(found.named_groups.tolist()) == sorted(OWN) and found.classes == ("A", "B", "C")


def test_a_group_that_is_not_there_is_answered_with_what_is_there(tmp_path: Path) -> None:
    many({"a.csv": columns(1), "plain.csv": table(), "bare.csv": table(name=None)})(tmp_path)
    many({"gaps.csv": columns(1).replace(b",p3,", b",,", 1)} | in_folders("m/{own}/{letter}/{place}.png"))(tmp_path)
    np.savez(tmp_path / "a.npz", images=GREY, labels=LABELS, writer=np.array(OWN), short=LABELS[:5])
    cases = [
        (
            ("a.csv", "writr"),
            r"a\.csv: data\.group=writr: no such column \(did you mean 'writer'\?\); it has label, writer, ",
        ),
        (("plain.csv", "writer"), r"plain\.csv: data\.group=writer: no such column; it has label, pixel0, .* \.\.\.$"),
        (("bare.csv", "writer"), r"bare\.csv: data\.group=writer: no such column; it has no names$"),
        (("gaps.csv", "writer"), r"gaps\.csv: data\.group=writer: '' at image 3; a name is expected$"),
        (
            ("a.npz", "who"),
            r"data\.group=who: no such array; it has images \(12, 28, 28\) integer, .*writer \(12,\) text",
        ),
        (("a.npz", "short"), r"data\.group=short: shape \(5,\) for 12 images"),
        (("m", "3"), r"data\.group=3: no such level of folders; of p0/A/0\.png, 1 is p0, 2 is A$"),
        (("m/p0", "own"), r"data\.group=own: no such level of folders; of A/0\.png, 1 is A$"),
    ]
    assert unlike(cases, lambda case: load_file(str(tmp_path / case[0]), group=case[1]).groups) == []


def test_a_run_keeps_people_apart_and_says_so(
    train: Callable[..., RunFolder], capsys: pytest.CaptureFixture[str], tmp_path: Path, digits: Dataset
) -> None:
    who = np.array([f"w{place * place % 23}" for place in range(len(digits.images))])
    rows = np.column_stack([who, digits.labels.astype(str), digits.images.reshape(len(who), -1).astype(str)])
    header = ",".join(["writer", "label", *(f"pixel{place}" for place in range(784))])
    (tmp_path / "w.csv").write_text("\n".join([header, *map(",".join, rows)]))
    data = ["data=kaggle", "data.path=w.csv", "data.group=writer", "split.test_size=0.2"]
    run = train(*data, "split=kfold", "split.folds=3", defaults=[*TINY, "epochs=1"])
    assert ", by group: " in (printed := capsys.readouterr().out), printed
    kept = run.read_images()
    used = dict(zip(kept.hashes.tolist(), kept.parts.tolist(), strict=True))
    sides = [{used[value] for value in digits.hashes[who == one].tolist()} for one in np.unique(who)]
    assert all(len(side) == 1 for side in sides) and set().union(*sides) == {-2, 0, 1, 2}
    assert json.loads(run.metrics.read_text())["pixels"]["copies"] == 0
