"""What is not read is called what it is, in one line of three terminal lines at most."""

import gzip
import pickle
import re
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sweeper_digits.data.file import load_file
from sweeper_digits.errors import UserError
from tests.data.layouts import COLOUR, GREY, LABELS, files, many, mnist, npz, pictures, png, table, write_h5, zipped
from tests.tables import unlike

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
PICKLE = pickle.dumps({"data": GREY})
LINES = table().splitlines(keepends=True)
LONGEST = 240 + 60  # three lines, and the path of a test's folder


def patched_zip(*changes: tuple[int, int]) -> Callable[[Path], None]:
    """A zip with bytes changed, counted from its directory: its flags are at 8, its method at 10."""

    def write(folder: Path) -> None:
        zipped("digits.zip", {"train.csv": table()})(folder)
        raw = bytearray((folder / "digits.zip").read_bytes())
        for place, value in changes:
            raw[raw.index(b"PK\x01\x02") + place] = value
        (folder / "digits.zip").write_bytes(raw)

    return write


def tar(folder: Path) -> None:
    (folder / "train.csv").write_bytes(table())
    with tarfile.open(folder / "digits.tar.gz", "w:gz") as archive:
        archive.add(folder / "train.csv", "train.csv")
    (folder / "train.csv").unlink()


def empty(folder: Path) -> None:
    (folder / "digits").mkdir()


CASES = [
    (patched_zip((8, 1)), "an encrypted zip: 7z x .*digits.zip -oFOLDER asks for its password"),
    (
        patched_zip((10, 9)),
        "packed with Deflate64, which is not read: 7z x .*digits.zip -oFOLDER",
    ),
    (patched_zip((10, 97)), "packed in a way that is not read"),
    (files(digits_dot_csv=LFS), "a git-LFS pointer, not data: run git lfs pull"),
    (many({"digits/A/0.png": LFS, "digits/B/1.png": LFS}), "a git-LFS pointer"),
    (files(digits_dot_zip=b"<!DOCTYPE html><html>"), "a web page, not data"),
    (files(digits_dot_csv=table().decode().encode("utf-16")), "UTF-16 text, and UTF-8 is expected: iconv"),
    (files(digits_dot_csv=table().decode().encode("utf-16-le")), "UTF-16 text, and UTF-8 is expected: iconv"),
    (files(data_batch_1=PICKLE), r"a Python pickle, which is never loaded.*np.savez\('digits.npz', images=\.\.\."),
    (files(mnist_dot_pkl_dot_gz=gzip.compress(PICKLE)), "a Python pickle"),
    (zipped("model.pt", {"archive/data.pkl": b"x", "archive/data/0": b"y"}), "a Python pickle"),
    (zipped("cifar.zip", {"cifar-10-batches-py/data_batch_1": PICKLE}), "data_batch_1: a Python pickle"),
    (files(digits_dot_npz=npz(images=np.array([{}, None]), labels=LABELS)), "array 'images' is a pickle"),
    (zipped("table.xlsx", {"[Content_Types].xml": b"<?xml", "xl/sheet1.xml": b"<?xml"}), "a file of Excel"),
    (tar, "a tar archive, which is not read: mkdir FOLDER && tar -xf"),
    (files(digits_dot_7z=b"7z\xbc\xaf\x27\x1c"), "a 7z archive"),
    (files(digits_dot_csv=b""), "an empty file: is the download complete"),
    (empty, "no file in it; expected are CSV, IDX"),
    (files(digits_dot_csv=b"emotion,pixels,Usage\n"), "text that begins 'emotion,pixels,Usage'; expected are CSV"),
    (files(digits_dot_pdf=b"%PDF-1.4\n\0"), "a PDF; save it as PNG or JPEG"),
    (files(digits_dot_bin=b"\1\2\0\3"), "a file of an unknown kind; expected are CSV"),
    (files(model_dot_h5=b""), "an empty file"),
    (
        write_h5("model.h5", {"layer/kernel": np.zeros((3, 3, 1, 8))}),
        r"layer.kernel \(3, 3, 1, 8\) float",
    ),
    (files(digits_dot_h5=b"\x89HDF\r\n\x1a\n" + bytes(99)), "not a readable HDF5 file"),
    (files(digits_dot_mat=b"MATLAB 5.0 MAT-file" + b" " * 107 + b"\0\1IM" + b"zz" * 99), "not a readable .mat file"),
    (files(digits_dot_parquet=b"PAR1xxxx"), "not a readable Parquet file"),
    (files(digits_dot_npz=npz(images=GREY, labels=LABELS[:5])), r"12 images but labels of shape \(5,\)"),
    (files(digits_dot_npz=npz(images=GREY - 300.0, labels=LABELS)), "pixels from -300 to -45"),
    (files(digits_dot_npz=npz(images=GREY * np.nan, labels=LABELS)), "a pixel that is not a number"),
    (files(digits_dot_npz=npz(images=GREY.repeat(9, axis=1), labels=LABELS)), "images of 252x28 pixels.*data.size=64"),
    (many(pictures("digits/", GREY.repeat(20, axis=1))), "pictures of 28x560 pixels.*add data.size=64"),
    (many(pictures("digits/") | {"digits/B/01.png": png(GREY[0])[:200]}), "B/01.png: not a readable picture"),
    (many(pictures("digits/") | {"digits/B/01.png": b"broken"}), "B/01.png: not a readable picture .no format that"),
    (
        zipped("both.zip", {"one/train.csv": table(), "two/train.csv": table()}),
        "2 data sets: one, two; choose one: data.member=one",
    ),
    (
        many({"digits/train.csv": table(), "digits/train.csv.gz": gzip.compress(table())}),
        "2 can be meant.*data.member=train.csv",
    ),
    (
        many({f"mnist/t10k{k[5:]}": raw for k, raw in mnist().items() if k.startswith("train")}),
        "no train part; it has test; add data.part=test",
    ),
    (files(digits_dot_csv=b"".join([*LINES[:3], b"4,1,2\n", *LINES[3:]])), "row 4, column 'pixel2': an empty cell"),
    (files(digits_dot_csv=table(GREY / 255).replace(b",1.0,", b",7,", 1)), "'7'; expected a number from 0 to 1"),
    (
        files(digits_dot_csv=table(name="label").replace(b"pixel0,pixel1,", b"width,height,")),
        "782|and 'width', 'height'",
    ),
    (
        files(digits_dot_csv=table(labels=["a", "", "b"] * 4)),
        "row 3, column 'label': an empty cell; a label is expected",
    ),
    (
        files(digits_dot_csv=b"class," + LINES[0] + b"".join(b"1," + line for line in LINES[1:])),
        "choose: data.label=class",
    ),
    (files(digits_dot_csv=LINES[0]), "no rows below the header"),
    (files(digits_dot_csv=table(GREY[:1], [5], name=None)), "785 columns can be the label; data.label=first or last"),
    (files(digits_dot_csv=b"\n \r\n"), "blank lines only; expected are CSV"),
    (
        files(digits_dot_csv=b"".join([*LINES[:3], LINES[3].rstrip() + b",1\n", *LINES[4:]])),
        "row 4 has 786 cells; 785 are expected",
    ),
    (
        files(digits_dot_csv=table(labels=["1", "NaN", "2"] * 4)),
        "row 3, column 'label': an empty cell; a label is expected",
    ),
    (
        many(pictures("digits/") | {"digits/loose.png": png(GREY[0])}),
        "loose.png: a picture beside the folders of classes; move it",
    ),
    (many(mnist("mnist/", pack=False) | {"mnist/train-images-idx3-ubyte": b"\0\0\x08\x03" + bytes(12)}), "no images"),
]


def test_what_is_not_read_is_called_what_it_is(tmp_path: Path) -> None:
    cases = []
    for number, (write, message) in enumerate(CASES):
        (tmp_path / str(number)).mkdir()
        write(tmp_path / str(number))
        (path,) = (tmp_path / str(number)).iterdir()
        # Its path is named, and the line is short.
        cases.append((str(path), f"^(?=.*{re.escape(str(path))})(?=.{{,{LONGEST}}}$).*({message})"))
    assert unlike(cases, load_file) == []


def test_what_is_not_there_is_named_with_what_is(tmp_path: Path) -> None:
    zipped("digits.zip", {"train.csv": table()})(tmp_path)
    cases = [
        ({"part": "test"}, "no test part; it has train; add data.part=train"),
        ({"member": "tain"}, "data.member=tain: not in .*it has train.csv"),
        (
            {"label": "labl"},
            r"data.label=labl: no such column \(did you mean 'label'\?\); it has label, pixel0, .*pixel4, \.\.\.$",
        ),
    ]
    assert unlike(cases, lambda options: load_file(str(tmp_path / "digits.zip"), **options)) == []


def test_parquet_without_its_package_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "digits.parquet").write_bytes(b"PAR1xxxx")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"digits\.parquet: Parquet needs one more package: pip install"):
        load_file(str(tmp_path / "digits.parquet"))


def test_a_pickle_is_not_loaded(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
            return Path.touch, (tmp_path / "trapped",)  # type: ignore[return-value]

    np.savez(tmp_path / "digits.npz", images=np.array([Trap()]), labels=LABELS)
    (tmp_path / "digits.pkl").write_bytes(pickle.dumps(Trap()))
    for name in ("digits.npz", "digits.pkl"):
        with pytest.raises(UserError, match="pickle"):
            load_file(str(tmp_path / name))
    assert not (tmp_path / "trapped").exists()


def test_a_zip_in_a_zip_and_what_macs_add(tmp_path: Path) -> None:
    zipped("digits.zip", {"__MACOSX/._train.csv": b"\0\5\x16\7", ".DS_Store": b"x", "train.csv": table()})(tmp_path)
    assert len(load_file(str(tmp_path / "digits.zip")).images) == 12
    inner = (tmp_path / "digits.zip").read_bytes()
    zipped("outer.zip", {"inner.zip": inner})(tmp_path)
    with pytest.raises(UserError, match=r"inner\.zip: a zip in a zip or folder: unpack it"):
        load_file(str(tmp_path / "outer.zip"))


def test_a_zip_holds_no_path_outside_of_it(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "digits.zip", "w") as archive:
        archive.writestr("../../train.csv", table())
    assert len(load_file(str(tmp_path / "digits.zip")).images) == 12  # read, and never written
    assert [path.name for path in tmp_path.iterdir()] == ["digits.zip"]


def test_colour_and_grey_parts_are_not_mixed(tmp_path: Path) -> None:
    many({f"mine/train/{n}": raw for n, raw in pictures("").items()})(tmp_path)
    many({f"mine/test/{n}": raw for n, raw in pictures("", COLOUR[:, :28, :28]).items()})(tmp_path)
    with pytest.raises(UserError, match=r"its parts have images of shapes \(28, 28, [13]\) and \(28, 28, [13]\)"):
        load_file(str(tmp_path / "mine"), "all")
