"""Each row of the tables in docs/data.md, with files that are written here."""

import gzip
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml

from sweeper_digits import components
from sweeper_digits.data.dataset import Dataset, load
from sweeper_digits.data.file import default_part, load_file
from sweeper_digits.errors import UserError
from tests.conftest import ROOT
from tests.data import layouts as made
from tests.data.layouts import COLOUR, DIGITS, GREY, LABELS, LETTERS, SMALL, TEST, Layout, files, many, table, zipped

BYTES = GREY.astype(np.float64) / 255
HEADLESS = table(name=None)
LINES = HEADLESS.splitlines(keepends=True)
USPS = table(np.round(GREY[:, 6:22, 6:22] / 127.5 - 1, 4), [f"{x}.0000" for x in DIGITS], name=None, mark=" ")
SHUFFLED = np.random.default_rng(2).permutation(784)
KAGGLE = {"train.csv": table(), "test.csv": table(labels=None), "sample_submission.csv": b"ImageId,Label\n1,0\n"}
KERAS: dict[str, np.ndarray] = {"x_train": GREY, "y_train": LABELS, "x_test": GREY[TEST], "y_test": LABELS[TEST]}
PARTS = made.pictures("train/") | made.pictures("test/", chosen=TEST)
MIXED = made.pictures("", COLOUR) | {"A/00.png": made.png(np.zeros((50, 40), np.uint8))}
ONLY_TEST = {"images": GREY[TEST], "names": DIGITS[TEST]}
IN_ORDER = {"images": GREY[made.ORDER], "names": sorted(LETTERS), "ids": [f"{place:02}.png" for place in made.ORDER]}
TURNED = {"names": LETTERS, "note": "they were turned"}
SCALED = "were scaled to 0 to 255"


def indexed(columns: dict[str, list[object]]) -> bytes:
    """A CSV with further columns before the others."""
    rows = table().decode().splitlines()
    before = zip(*([name, *map(str, values)] for name, values in columns.items()), strict=True)
    return "\n".join(",".join([*cells, row]) for cells, row in zip(before, rows, strict=True)).encode()


CASES = {
    # CSV
    "Kaggle's zip with train.csv, test.csv, sample_submission.csv": Layout(zipped("digits.zip", KAGGLE)),
    "its folder": Layout(many({f"digits/{name}": raw for name, raw in KAGGLE.items()})),
    "its test part": Layout(zipped("digits.zip", KAGGLE), names=None),
    "a header, the label first": Layout(files(mine_dot_csv=table())),
    "no header, the label first": Layout(files(mine_dot_csv=HEADLESS)),
    "no header, the label last": Layout(files(mine_dot_csv=table(name=None, last=True))),
    "no header, a text label": Layout(files(mine_dot_csv=table(labels=LETTERS, name=None)), names=LETTERS),
    "semicolons": Layout(files(mine_dot_csv=table(mark=";"))),
    "tabs": Layout(files(mine_dot_tsv=table(mark="\t"))),
    "gzip, whatever its name": Layout(files(mine_dot_csv=gzip.compress(table()))),
    "byte-order mark, CRLF": Layout(files(mine_dot_csv=b"\xef\xbb\xbf" + table(end="\r\n"))),
    "each cell in quotes": Layout(files(mine_dot_csv=table(quote='"'))),
    "a label column `Target`, last": Layout(files(mine_dot_csv=table(name="Target", last=True))),
    "a label column of any other name": Layout(
        files(mine_dot_csv=table(name="kind")), note="column 'kind' was taken for the label"
    ),
    "two label columns": Layout(files(mine_dot_csv=indexed({"class": list(LETTERS)})), names=LETTERS),
    "an index from pandas, and an `id` column": Layout(
        files(mine_dot_csv=indexed({"": list(range(12)), "id": [f"img{place}" for place in range(12)]})),
        ids=[str(place) for place in range(12)],
    ),
    "pixel columns in any order": Layout(
        files(
            mine_dot_csv=b"\n".join(
                b",".join([row.split(b",")[0], *(row.split(b",")[1 + place] for place in SHUFFLED)])
                for row in table().splitlines()
            )
        )
    ),
    "pixel columns 0x0 to 27x27": Layout(
        files(
            mine_dot_csv=re.sub(rb"pixel(\d+)", lambda m: b"%dx%d" % (int(m[1]) // 28 + 1, int(m[1]) % 28 + 1), table())
        )
    ),
    "pixel columns 0, 1, 2, ...": Layout(files(mine_dot_csv=table(pixels="{}"))),
    "a comma at the end of each row": Layout(files(mine_dot_csv=table(end=",\n"))),
    "decimals from 0 to 1": Layout(files(mine_dot_csv=table(BYTES)), note=SCALED),
    "letters or words as labels": Layout(files(letters_dot_csv=table(labels=LETTERS)), names=LETTERS),
    "colours, three columns a pixel": Layout(files(mine_dot_csv=table(COLOUR)), images=COLOUR, note="in colour"),
    "two files, mnist_train.csv and mnist_test.csv": Layout(
        zipped(
            "mnist.zip",
            {"in/mnist_train.csv": HEADLESS, "in/mnist_test.csv": table(GREY[TEST], DIGITS[TEST], name=None)},
        ),
        **ONLY_TEST,  # type: ignore[arg-type]
    ),
    "two train.csv in one zip": Layout(zipped("both.zip", {"one/train.csv": table(COLOUR), "two/train.csv": table()})),
    "UCI's optdigits.tra: 8x8 in 0-16, the label last": Layout(
        files(optdigits_dot_tra=table(SMALL, name=None, last=True)),
        images=np.round(SMALL * (255 / 16)).astype(np.uint8),
        note=SCALED,
    ),
    "USPS' zip.train.gz: blanks, -1 to 1": Layout(
        many({"zip.train.gz": gzip.compress(USPS)}),
        images=GREY[:, 6:22, 6:22],
        note="-1 is 0 now",
    ),
    "EMNIST's CSV": Layout(
        many({"emnist-letters-train.csv": table(GREY.swapaxes(1, 2), LABELS - 3, name=None)}),
        names=["123"["ABC".index(name)] for name in LETTERS],
        note="they were turned",
    ),
    "no labels, no header": Layout(files(test_dot_csv=table(labels=None).partition(b"\n")[2]), names=None),
    # IDX
    "MNIST's four .gz files": Layout(many(made.mnist("mnist/"))),
    "MNIST's test part": Layout(many(made.mnist("mnist/")), **ONLY_TEST),  # type: ignore[arg-type]
    "unpacked, with dots": Layout(many(made.mnist("mnist/", ".", pack=False))),
    "files in folders of their own names": Layout(
        many({f"mnist/{name}": raw for name, raw in made.in_own_folders(made.mnist(pack=False)).items()})
    ),
    "twice, with dots and with dashes": Layout(
        zipped(
            "archive.zip", made.mnist(dot=".", pack=False) | {f"{n}/{n}": r for n, r in made.mnist(pack=False).items()}
        )
    ),
    "in a zip": Layout(zipped("mnist.zip", made.mnist("raw/"))),
    "any prefix: Fashion-MNIST, KMNIST": Layout(many(made.mnist("data/fashion-"))),
    "several sets in one folder": Layout(
        zipped("gzip.zip", made.emnist("gzip/emnist-letters") | made.emnist("gzip/emnist-balanced")),
        **TURNED,  # type: ignore[arg-type]
    ),
    "EMNIST": Layout(many({f"emnist/{n}": raw for n, raw in made.emnist("emnist-letters").items()}), **TURNED),  # type: ignore[arg-type]
    "QMNIST, labels of eight columns": Layout(
        many(
            {
                "qmnist/qmnist-train-images-idx3-ubyte.gz": gzip.compress(made.idx(GREY)),
                "qmnist/qmnist-train-labels-idx2-int.gz": gzip.compress(
                    made.idx(np.stack([LABELS] * 8, axis=1).astype(">i4"), 12)
                ),
            }
        )
    ),
    # NumPy
    "`images`, `labels`": Layout(files(mine_dot_npz=made.npz(images=GREY, labels=LABELS))),
    "Keras' mnist.npz": Layout(files(mnist_dot_npz=made.npz(**KERAS))),
    "Keras' test part": Layout(files(mnist_dot_npz=made.npz(**KERAS)), **ONLY_TEST),  # type: ignore[arg-type]
    "both parts together": Layout(
        files(mnist_dot_npz=made.npz(**KERAS)), np.concatenate([GREY, GREY[TEST]]), DIGITS + DIGITS[TEST]
    ),
    "arr_0, arr_1": Layout(files(mine_dot_npz=made.npz(arr_0=GREY, arr_1=LABELS))),
    "arr_0 to arr_3: training, test": Layout(
        files(mine_dot_npz=made.npz(arr_0=GREY, arr_1=LABELS, arr_2=GREY[TEST], arr_3=LABELS[TEST])),
        **ONLY_TEST,  # type: ignore[arg-type]
    ),
    "X, y; rows of pixels": Layout(files(mine_dot_npz=made.npz(X=GREY.reshape(12, -1), y=LABELS))),
    "data, target; decimals from -1 to 1": Layout(
        files(mine_dot_npz=made.npz(data=GREY / 127.5 - 1, target=LABELS)), note="-1 is 0 now"
    ),
    "MedMNIST's train_images, train_labels (n, 1), val_images, ...": Layout(
        files(
            mine_dot_npz=made.npz(
                train_images=GREY, train_labels=LABELS[:, None], val_images=GREY[TEST], val_labels=LABELS[TEST, None]
            )
        )
    ),
    "KMNIST's kmnist-train-imgs.npz, kmnist-train-labels.npz": Layout(
        many(
            {
                "kmnist/kmnist-train-imgs.npz": made.npz(arr_0=GREY),
                "kmnist/kmnist-train-labels.npz": made.npz(arr_0=LABELS),
            }
        )
    ),
    "a folder of .npy files": Layout(many({"mine/X_train.npy": made.npy(GREY), "mine/y_train.npy": made.npy(LABELS)})),
    "channels first, one-hot labels": Layout(
        files(mine_dot_npz=made.npz(images=COLOUR.transpose(0, 3, 1, 2), labels=np.eye(3)[LABELS - 4])),
        images=COLOUR,
        names=[str(label - 4) for label in LABELS],
        note="channels came first",
    ),
    "text labels": Layout(files(mine_dot_npz=made.npz(images=GREY, labels=np.array(LETTERS))), names=LETTERS),
    "scikit-learn's digits: 8x8 in 0-16": Layout(
        files(mine_dot_npz=made.npz(data=SMALL.reshape(12, 64) * 1.0, images=SMALL * 1.0, target=LABELS)),
        images=np.round(SMALL * (255 / 16)).astype(np.uint8),
        note=SCALED,
    ),
    # Pictures
    "a folder for each class": Layout(many(made.pictures("mine/")), **IN_ORDER),  # type: ignore[arg-type]
    "folders train/ and test/ above": Layout(
        many({f"mine/{name}": raw for name, raw in PARTS.items()}),
        GREY[TEST][made.TEST_ORDER],
        sorted(LETTERS[TEST]),
    ),
    "the folders in a zip": Layout(zipped("mine.zip", made.pictures("mine/training/")), **IN_ORDER),  # type: ignore[arg-type]
    "BMP, TIFF, WebP, GIF, ...": Layout(many(made.pictures("mine/", form="bmp")), GREY[made.ORDER], sorted(LETTERS)),
    "pictures of several sizes": Layout(
        many({f"mine/{name}": raw for name, raw in MIXED.items()}),
        np.concatenate([np.zeros((1, 32, 32, 3), np.uint8), COLOUR[made.ORDER][1:]]),
        sorted(LETTERS),
        note="1 of 12 pictures were brought to 32x32",
    ),
    "large pictures": Layout(
        many(made.pictures("mine/", GREY.repeat(20, axis=1).repeat(20, axis=2))),
        GREY[made.ORDER],
        sorted(LETTERS),
        note="12 of 12 pictures were brought to 28x28",
    ),
    "pictures without classes": Layout(
        many({f"new/{place:02}.png": made.png(image) for place, image in enumerate(GREY)}), names=None
    ),
    # Other formats
    "Hugging Face's Parquet, `image` and `label`": Layout(
        made.write_parquet(["train-00000-of-00001.parquet"], ["A", "B", "C"]), names=LETTERS
    ),
    "in several files, train and test": Layout(
        made.write_parquet([f"test-0000{n}-of-00002.parquet" for n in (0, 1)] + ["train-00000-of-00001.parquet"], None),
        np.concatenate([GREY, GREY]),
        DIGITS * 2,
    ),
    "SVHN's train_32x32.mat": Layout(
        made.write_mat("train_32x32.mat", {"X": COLOUR.transpose(1, 2, 3, 0), "y": (np.arange(12) % 10 + 1)[:, None]}),
        images=COLOUR,
        names=[str((place % 10 + 1) % 10) for place in range(12)],
        note="label 10 is the digit 0",
    ),
    "EMNIST's .mat": Layout(
        made.write_mat(
            "emnist-letters.mat",
            {"dataset": {"train": {"images": GREY.swapaxes(1, 2).reshape(12, -1), "labels": LABELS[:, None]}}},
        ),
        note="they were turned",
    ),
    "mnist-original.mat: data (784, n), label (1, n)": Layout(
        made.write_mat("mnist-original.mat", {"data": GREY.reshape(12, -1).T, "label": LABELS[None] * 1.0})
    ),
    "a .mat of version 7.3": Layout(
        made.write_h5("mine.mat", {"images": GREY.T, "labels": LABELS[None]}, b"MATLAB 7.3 MAT-file")
    ),
    "USPS' usps.h5: train/data, train/target": Layout(
        made.write_h5("usps.h5", {"train/data": BYTES.reshape(12, -1).astype("f4"), "train/target": LABELS}),
        note=SCALED,
    ),
}
ROWS = re.findall(r"^\| (.+?) \| `((?:data=|python ).+?)` \|$", (ROOT / "docs" / "data.md").read_text(), re.MULTILINE)


def read(command: str, folder: Path) -> Dataset:
    """Do what a command does with its data."""
    words = shlex.split(command)
    if "--data" in words:
        path = folder / words[words.index("--data") + 1]
        keyed = {"path": str(path), "part": default_part(path)}
        option = "file"
    else:
        keyed = dict(word.removeprefix("data.").split("=", 1) for word in words)
        option = keyed.pop("data")
        keyed["path"] = str(folder / keyed["path"])
    values = {key: yaml.safe_load(value) for key, value in keyed.items()}
    return load(components.options_of("data")[option].judged(values))


def check(case: Layout, command: str, folder: Path) -> None:
    """Write a layout, and read it as its command does."""
    folder.mkdir()
    case.write(folder)
    dataset = read(command, folder)
    images = case.images if case.images.ndim == 4 else case.images[..., np.newaxis]
    np.testing.assert_array_equal(dataset.images, images)
    assert case.note in " ".join(dataset.notes) and bool(case.note) == bool(dataset.notes)
    if case.names is None:
        assert dataset.labels is None
    else:
        assert [dataset.classes[label] for label in dataset.labels] == case.names
        assert dataset.classes == tuple(sorted(set(case.names)))
    if case.ids is not None:
        assert list(dataset.ids) == case.ids


def test_each_layout_of_the_docs_is_read_by_its_command(tmp_path: Path) -> None:
    assert sorted(layout for layout, _ in ROWS) == sorted(CASES) and len(ROWS) >= 40
    wrong = {}
    for number, (layout, command) in enumerate(ROWS):
        try:
            check(CASES[layout], command, tmp_path / str(number))
        except (AssertionError, UserError) as error:
            wrong[layout] = str(error)
    assert wrong == {}


@pytest.mark.parametrize("ids", [[f"im{place}" for place in range(48)], [str(place) for place in range(48)]])
def test_ids_without_a_header_are_no_labels(ids: list[str], tmp_path: Path) -> None:
    images = np.concatenate([GREY, 255 - GREY, GREY // 2, GREY // 3])  # their last pixels could be labels
    files(mine_dot_csv=table(images, ids, name=None))(tmp_path)
    dataset = load_file(str(tmp_path / "mine.csv"))
    assert dataset.labels is None and list(dataset.ids) == ids
    np.testing.assert_array_equal(dataset.images[..., 0], images)


def test_pictures_of_one_name_in_several_folders_keep_their_folders(tmp_path: Path) -> None:
    many({f"mine/{name}/0.png": made.png(image) for name, image in zip("AB", GREY, strict=False)})(tmp_path)
    dataset = load_file(str(tmp_path / "mine"))
    assert dataset.ids == ("A/0.png", "B/0.png") and dataset.source == str(tmp_path / "mine")
