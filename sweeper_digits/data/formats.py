"""The readers of binary formats: MNIST's IDX files, MATLAB's .mat, HDF5, Parquet."""

import io
import json
import math
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import h5py
import numpy as np
from scipy import io as scipy_io

from sweeper_digits.data.arrays import UNREADABLE, Named
from sweeper_digits.data.contents import Member, check_size
from sweeper_digits.data.pictures import read_sized
from sweeper_digits.data.pieces import DataPiece, Piece, Requested, is_emnist, name_and_part
from sweeper_digits.data.tables import LABEL_NAMES, column_named, label_by_name, no_column
from sweeper_digits.errors import UserError

# The third byte, and the type of the numbers: http://yann.lecun.com/exdb/mnist/, "the IDX file format".
TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


@dataclass(frozen=True)
class _Half:
    """A file with the images, or the labels, of a part."""

    name: str
    part: str
    folder: str
    member: Member
    images: bool


def find_idx(members: Sequence[Member]) -> list[Piece]:
    """Return a piece for each file of images; its labels are in the file of the same data set, part and folder."""
    halves = [_half(member) for member in members if member.kind == "idx"]
    images, labels = ([half for half in halves if half.images is wanted] for wanted in (True, False))
    pieces: dict[tuple[str, str, bytes], Piece] = {}
    for one in images:
        own = [half for half in labels if (half.name, half.part, half.folder) == (one.name, one.part, one.folder)]
        if not own and len(images) == len(labels) == 1:
            own = labels
        files = tuple(half.member.name for half in (one, *own[:1]))
        read = partial(_read, one.member, own[0].member if own else None)
        # Some archives hold the same file a second time, in a folder with the name of the file.
        key = (one.name, one.part, one.member.head)
        pieces.setdefault(key, Piece(one.name, one.part, files, one.member.where, read, is_emnist(one.member.name)))
    return list(pieces.values())


def read_idx(raw: bytes, where: str) -> np.ndarray:
    """Return the array of an IDX file.

    Raises:
        UserError: Another type, or cut short.
    """
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in TYPES or not 1 <= raw[3] <= 4:
        raise UserError(f"{where}: not an IDX file of numbers with 1 to 4 dimensions")
    kind, dimensions = np.dtype(TYPES[raw[2]]), raw[3]
    header = 4 + 4 * dimensions
    shape = tuple(int.from_bytes(raw[i : i + 4], "big") for i in range(4, header, 4))
    if len(raw) - header != math.prod(shape) * kind.itemsize:
        raise UserError(f"{where}: cut short: {max(len(raw) - header, 0)} bytes of data, the header says {shape}")
    return np.frombuffer(raw, kind, offset=header).reshape(shape).astype(kind.newbyteorder("="), copy=False)


def read_mapping(text: str) -> list[str]:
    """Return what EMNIST's labels 0, 1, 2, ... mean, of lines such as `10 65`: the label, and an ASCII code."""
    codes = {int(label): int(code) for label, code, *_ in (line.split() for line in text.splitlines() if line.strip())}
    return [chr(codes[label]) if label in codes else str(label) for label in range(max(codes) + 1)]


def _half(member: Member) -> _Half:
    path = PurePosixPath(member.name)
    if path.stem == path.parent.name or path.name == path.parent.name:  # unpacked by a tool into a folder of its name
        path = path.parent
    name, part = name_and_part(str(path))
    return _Half(name, part, str(path.parent), member, images=member.head[3] >= 3)


def _read(images: Member, labels: Member | None, wish: Requested) -> DataPiece:
    pixels = read_idx(images.read(), images.where)
    if labels is None:
        return DataPiece(pixels, None)
    numbers = read_idx(labels.read(), labels.where)
    if numbers.ndim == 2:  # QMNIST: the label, and seven columns of where the digit comes from
        numbers = numbers[:, 0]
    return DataPiece(pixels, numbers)


MAT_HEADER = 128  # bytes, before the first element: "MAT-File Format", MathWorks
COMPRESSED = 15  # type of an element that is deflated


def list_mat(member: Member) -> list[Named]:
    """Return the arrays of a .mat file; of a structure, its fields, as `dataset.train.images`.

    MATLAB writes the images last: (height, width, channels, n) becomes (n, height, width, channels).

    Raises:
        UserError: Not readable, or too large.
    """
    raw = member.read()
    _check_size(raw, member.where)
    try:
        content = scipy_io.loadmat(io.BytesIO(raw), simplify_cells=True)
    except UNREADABLE as error:
        raise UserError(f"{member.where}: not a readable .mat file ({error})") from error
    arrays = dict(_mat_arrays(content))
    number = max((max(array.shape) for array in arrays.values() if array.ndim == 1), default=0)
    named = []
    for name, array in arrays.items():
        note = ""
        if name == "y" and set(arrays) == {"X", "y"} and np.array_equal(np.unique(array), range(1, 11)):
            array, note = np.where(array == 10, 0, array), "SVHN's label 10 is the digit 0, and was read as 0"
        if array.ndim > 1 and array.shape[-1] == number and array.shape[0] != number:
            array = np.moveaxis(array, -1, 0)
        read = partial(np.asarray, array)
        named.append(Named(name, member.name, member.where, array.shape, array.dtype.kind, read, note))
    return named


def _mat_arrays(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    for name, value in content.items():
        if name.startswith("__"):
            continue
        if isinstance(value, dict):
            yield from _mat_arrays(value, f"{prefix}{name}.")
        elif isinstance(value, np.ndarray) and value.ndim > 0 and value.dtype.kind in "buifUS":
            yield f"{prefix}{name}", value


def _check_size(raw: bytes, where: str) -> None:
    """Refuse a file whose elements are too large when they are inflated."""
    order = "little" if raw[126:128] == b"IM" else "big"
    place, total = MAT_HEADER, 0
    while place + 8 <= len(raw):
        kind, size = (int.from_bytes(raw[start : start + 4], order) for start in (place, place + 4))  # type: ignore[arg-type]
        if kind == COMPRESSED:
            inflate, packed = zlib.decompressobj(), raw[place + 8 : place + 8 + size]
            while packed and not inflate.eof:
                try:
                    total += len(inflate.decompress(packed, 2**20))
                except zlib.error:
                    return  # scipy says that it is not readable
                packed = inflate.unconsumed_tail
                check_size(total, where)
        place += 8 + size


def list_hdf5(member: Member) -> list[Named]:
    """Return the arrays of an HDF5 file by their paths, as `train.images`; links to other files are not followed.

    Raises:
        UserError: Not readable, or too large.
    """
    raw = member.read()
    found: list[Named] = []
    total = 0

    def visit(path: str, node: Any) -> None:
        nonlocal total
        # A link to another file is not followed: this file may be a stranger's.
        if not isinstance(node, h5py.Dataset) or node.is_virtual or node.external or not node.shape:
            return
        text = h5py.check_string_dtype(node.dtype) is not None
        if node.dtype.kind not in "buif" and not text:
            return
        total += 0 if text else node.nbytes
        shape = node.shape[::-1] if reverse else node.shape
        read = partial(_read_hdf5, raw, path, reverse, text, member.where)
        found.append(
            Named(path.replace("/", "."), member.name, member.where, shape, "U" if text else node.dtype.kind, read)
        )

    reverse = raw.startswith(b"MATLAB")  # which writes the last axis first
    try:
        with _open_hdf5(raw) as file:
            file.visititems(visit)
    except UNREADABLE as error:
        raise UserError(f"{member.where}: not a readable HDF5 file ({error})") from error
    check_size(total, member.where)
    return found


def _open_hdf5(raw: bytes) -> h5py.File:
    """Return an open file; HDF5 reads the bytes itself, for it ends the process where a Python stream fails."""
    return h5py.File(h5py.h5f.open_file_image(raw))


def _read_hdf5(raw: bytes, path: str, reverse: bool, text: bool, where: str) -> np.ndarray:
    try:
        with _open_hdf5(raw) as file:
            array = np.asarray(file[path].asstr()[()] if text else file[path][()])
    except UNREADABLE as error:
        raise UserError(f"{where}: not a readable HDF5 file ({error})") from error
    return array.T if reverse else array


MISSING = "Parquet needs one more package: pip install 'sweeper_digits[parquet]', or pip install pyarrow"
SHARD = re.compile(r"[-_]?\d{5}-of-\d{5}.*|\.parquet$")


def find_parquet(members: Sequence[Member]) -> list[Piece]:
    """Return a piece for each part; `train-00000-of-00002.parquet` and the like are one."""
    parts: dict[tuple[str, str], list[Member]] = {}
    for member in members:
        if member.kind == "parquet":
            parts.setdefault(name_and_part(SHARD.sub("", member.name)), []).append(member)
    return [
        Piece(name, part, tuple(member.name for member in found), found[0].where, partial(_read_parquet, found))
        for (name, part), found in parts.items()
    ]


def _read_parquet(members: Sequence[Member], wish: Requested) -> DataPiece:
    where = members[0].where
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UserError(f"{where}: {MISSING}") from error
    try:
        files = [parquet.ParquetFile(io.BytesIO(member.read())) for member in members]
        row_groups = [file.metadata.row_group(place) for file in files for place in range(file.num_row_groups)]
        check_size(sum(one.total_byte_size for one in row_groups), where)
        table = pyarrow.concat_tables([file.read() for file in files])
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{where}: not a readable Parquet file ({' '.join(str(error).split())})") from error
    image = next((name for name in table.column_names if _is_pictures(table.schema.field(name).type, pyarrow)), None)
    label = _parquet_label(table.column_names, wish.label, where)
    place = column_named({n: name.strip().lower() for n, name in enumerate(table.column_names)}, wish.group)
    group = None if place is None else table.column_names[place]
    names = _parquet_names(table.schema.metadata or {}, label)
    labels = None if label is None else _parquet_labels(table[label], label, where)
    table, labels, notes = _without_hidden(table, labels, names)
    groups = None if group is None else np.array([str(value) for value in table[group].to_pylist()])
    lacks = no_column(wish.group or "", table.column_names)
    if image is None:
        pixels = [name for name in table.column_names if name not in (label, group)]
        numbers = _numbers(table, pixels, where)
        return DataPiece(numbers, labels, names=names, notes=notes, groups=groups, lacks=lacks)
    values = table[image].to_pylist()
    raws = [value["bytes"] if isinstance(value, dict) else value for value in values]
    if missing := [place for place, raw in enumerate(raws) if raw is None]:
        raise UserError(f"{where}: image {missing[0]} is only a path, not the bytes of a picture")
    pictures = [
        Member(f"{image}[{place}]", f"{where}/{image}[{place}]", partial(io.BytesIO, raw))
        for place, raw in enumerate(raws)
    ]
    found = read_sized(pictures, pictures, wish)
    return replace(found, labels=labels, names=names, notes=(*notes, *found.notes), groups=groups, lacks=lacks)


def _is_pictures(kind: Any, pyarrow: Any) -> bool:
    """Return whether a column has the bytes of pictures, or structures with a field `bytes`."""
    types = pyarrow.types
    if types.is_struct(kind):
        return any(kind.field(place).name == "bytes" for place in range(kind.num_fields))
    return types.is_binary(kind) or types.is_large_binary(kind)


def _parquet_label(columns: Sequence[str], wished: str | None, where: str) -> str | None:
    plain = {place: name.strip().lower() for place, name in enumerate(columns)}
    found = label_by_name(plain, wished, where, labels=(*LABEL_NAMES, "fine_label"))
    return None if found is None else columns[found]


def _parquet_names(metadata: dict[bytes, bytes], label: str | None) -> list[str] | None:
    """Return what Hugging Face's metadata call the labels 0, 1, 2, ..."""
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"][label]["names"]
    except (KeyError, ValueError, TypeError):
        return None
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def _parquet_labels(column: Any, name: str, where: str) -> np.ndarray | None:
    """Return a column of labels, one for each image; None where all are null.

    Raises:
        UserError: Some are null, or they are structures, or lists of other lengths than the first.
    """
    values = column.to_pylist()
    missing = [place for place, value in enumerate(values) if value is None]
    if missing and len(missing) < len(values):
        raise UserError(f"{where}: column {name}: no label at image {missing[0]} (null); names or numbers are expected")
    lengths = [len(value) if isinstance(value, list) else 0 for value in values]
    odd = [place for place, length in enumerate(lengths) if length != lengths[0] or isinstance(values[place], dict)]
    if odd:
        raise UserError(f"{where}: column {name}: {values[odd[0]]} at image {odd[0]}; one label is expected")
    return None if missing else np.array(values)


def _without_hidden(
    table: Any, labels: np.ndarray | None, names: list[str] | None
) -> tuple[Any, np.ndarray | None, tuple[str, ...]]:
    """Return a table, its labels and a note without the rows whose label is hidden; all rows where all labels are.

    Hugging Face writes -1 for a label that is not given away, as of a test part. Without names, -1 is hidden where it
    is the only label, or the others count from 0.
    """
    if labels is None or labels.ndim > 1 or labels.dtype.kind not in "if":
        return table, labels, ()
    shown = labels != -1
    others = np.unique(labels[shown])
    if shown.all() or not (names or len(others) == 0 or (len(others) > 1 and (others == np.arange(len(others))).all())):
        return table, labels, ()
    if not shown.any():
        return table, None, ("all labels are hidden (-1)",)
    note = f"{(~shown).sum():,} of {len(labels):,} images have a hidden label (-1), and were left out"
    return table.filter(shown), labels[shown], (note,)


def _numbers(table: Any, columns: Sequence[str], where: str) -> np.ndarray:
    """Return (n, p) of a column for each pixel, or the arrays of the one column of lists."""
    try:
        if len(columns) == 1:
            return np.array(table[columns[0]].to_pylist())
        return np.stack([table[name].to_numpy() for name in columns], axis=1)
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{where}: columns {', '.join(table.column_names[:8])}; expected are image and label, or pixels"
        ) from error
