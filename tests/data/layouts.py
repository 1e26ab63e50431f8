"""Writes each layout of docs/data.md into a folder: the same 12 images and labels, but where the layout says else."""

import gzip
import io
import json
import struct
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
import scipy.io
from PIL import Image

GREY = np.random.default_rng(0).integers(0, 256, (12, 28, 28), dtype=np.uint8)
GREY[:, [0, -1]] = 0  # as in MNIST, the first and the last pixel of each image are background
GREY[0, 5, 5:7] = 0, 255
SMALL = np.random.default_rng(1).integers(0, 17, (12, 8, 8), dtype=np.uint8)
SMALL[:, 0, 0], SMALL[0, 3, 3:5] = 0, (0, 16)
COLOUR = np.add.outer(np.arange(12), np.add.outer(np.arange(32), np.add.outer(np.arange(32) * 2, [0, 60, 120])))
COLOUR = COLOUR.astype(np.uint8)
LABELS = np.arange(12) % 3 + 4
DIGITS = [str(label) for label in LABELS]
LETTERS = ["ABC"[label - 4] for label in LABELS]
TEST = slice(0, 6)  # what a test part holds


@dataclass(frozen=True)
class Layout:
    """What to write, and what must be read."""

    write: Callable[[Path], None]
    images: np.ndarray = field(default_factory=lambda: GREY)
    names: list[str] | None = field(default_factory=lambda: DIGITS)
    note: str = ""
    ids: list[str] | None = None


def table(
    images: np.ndarray = GREY,
    labels: Iterable[object] | None = DIGITS,
    *,
    name: str | None = "label",
    pixels: str = "pixel{}",
    last: bool = False,
    mark: str = ",",
    end: str = "\n",
    quote: str = "",
) -> bytes:
    """A CSV; without a name of the label, it has no header."""
    flat = images.reshape(len(images), -1)
    rows: list[list[object]] = [[pixels.format(place) for place in range(flat.shape[1])], *flat.tolist()]
    if labels is not None:
        rows = [[*row, label] if last else [label, *row] for label, row in zip([name, *labels], rows, strict=True)]
    lines = [mark.join(f"{quote}{cell}{quote}" for cell in row) for row in rows]
    return (end.join(lines if name else lines[1:]) + end).encode()


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    """MNIST's format."""
    return struct.pack(f">4B{array.ndim}I", 0, 0, kind, array.ndim, *array.shape) + array.tobytes()


def png(image: np.ndarray, form: str = "png") -> bytes:
    """A picture's file."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, form)
    return stream.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    """An archive."""
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def npy(array: np.ndarray) -> bytes:
    """One array."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def files(**content: bytes) -> Callable[[Path], None]:
    """Write files; in a name, `__` is a folder's end and `_dot_` a dot."""
    return many({name.replace("__", "/").replace("_dot_", "."): raw for name, raw in content.items()})


def many(content: dict[str, bytes]) -> Callable[[Path], None]:
    """Write files with these names."""

    def write(folder: Path) -> None:
        for name, raw in content.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(raw)

    return write


def zipped(name: str, content: dict[str, bytes]) -> Callable[[Path], None]:
    """Write a zip with these members."""

    def write(folder: Path) -> None:
        with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, raw in content.items():
                archive.writestr(member, raw)

    return write


def mnist(prefix: str = "", dot: str = "-", pack: bool = True, images: np.ndarray = GREY) -> dict[str, bytes]:
    """MNIST's four files."""
    suffix, packed = (".gz", gzip.compress) if pack else ("", bytes)
    content = {}
    for part, chosen in {"train": slice(None), "t10k": TEST}.items():
        content[f"{prefix}{part}-images{dot}idx3-ubyte{suffix}"] = packed(idx(images[chosen]))
        content[f"{prefix}{part}-labels{dot}idx1-ubyte{suffix}"] = packed(idx(LABELS[chosen].astype(np.uint8)))
    return content


def in_own_folders(content: dict[str, bytes]) -> dict[str, bytes]:
    """As some tools unpack: each file in a folder of its name."""
    return {f"{name}/{name}": raw for name, raw in content.items()}


def emnist(name: str) -> dict[str, bytes]:
    """EMNIST's files: labels from 1, transposed images, and what the labels mean."""
    labels = (LABELS - 3).astype(np.uint8)
    return {
        f"{name}-train-images-idx3-ubyte.gz": gzip.compress(idx(np.ascontiguousarray(GREY.swapaxes(1, 2)))),
        f"{name}-train-labels-idx1-ubyte.gz": gzip.compress(idx(labels)),
        f"{name}-mapping.txt": b"1 65 97\n2 66 98\n3 67 99\n",
    }


def pictures(top: str, images: np.ndarray = GREY, form: str = "png", chosen: slice = slice(None)) -> dict[str, bytes]:
    """A folder for each class."""
    return {
        f"{top}{name}/{place:02}.{form}": png(image, form)
        for place, (image, name) in enumerate(zip(images[chosen], LETTERS[chosen], strict=True))
    }


def by_class(values: list[str]) -> list[int]:
    """The order in which folders of classes are read."""
    return sorted(range(len(values)), key=lambda place: (values[place], place))


ORDER = by_class(LETTERS)
TEST_ORDER = by_class(LETTERS[TEST])


def write_mat(name: str, content: dict[str, object]) -> Callable[[Path], None]:
    """Write a MATLAB file."""
    return lambda folder: scipy.io.savemat(folder / name, content, do_compression=True)


def write_h5(name: str, content: dict[str, np.ndarray], user_block: bytes = b"") -> Callable[[Path], None]:
    """Write an HDF5 file."""

    def write(folder: Path) -> None:
        with h5py.File(folder / name, "w", userblock_size=512 if user_block else 0) as file:
            for path, array in content.items():
                file[path] = array
        if user_block:
            with (folder / name).open("r+b") as stream:
                stream.write(user_block)

    return write


def write_parquet(names: Iterable[str], kinds: list[str] | None) -> Callable[[Path], None]:
    """Write Parquet files as Hugging Face does, with the same images in each."""

    def write(folder: Path) -> None:
        import pyarrow
        from pyarrow import parquet

        images = [{"bytes": png(image), "path": None} for image in GREY]
        labels = LABELS - 4 if kinds else LABELS
        rows = pyarrow.table({"image": images, "label": labels.tolist()})
        if kinds:
            info = {"info": {"features": {"label": {"names": kinds, "_type": "ClassLabel"}}}}
            rows = rows.replace_schema_metadata({"huggingface": json.dumps(info)})
        (folder / "data").mkdir()
        for name in names:
            parquet.write_table(rows, folder / "data" / name)

    return write
