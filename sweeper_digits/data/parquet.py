"""Parquet: a column of pictures as Hugging Face writes it, or a column for each pixel."""

import io
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from sweeper_digits.data.columns import LABELS, label_by_name
from sweeper_digits.data.contents import Member
from sweeper_digits.data.folders import read_sized
from sweeper_digits.data.limits import check_size
from sweeper_digits.data.pieces import Found, Piece, Wish, name_and_part
from sweeper_digits.errors import UserError

MISSING = "Parquet needs one more package: pip install 'sweeper_digits[parquet]', or pip install pyarrow"
SHARD = re.compile(r"[-_]?\d{5}-of-\d{5}.*|\.parquet$")


def find_parquet(members: Sequence[Member]) -> list[Piece]:
    """Return a piece for each part; `train-00000-of-00002.parquet` and the like are one."""
    parts: dict[tuple[str, str], list[Member]] = {}
    for member in members:
        if member.kind == "parquet":
            parts.setdefault(name_and_part(SHARD.sub("", member.name)), []).append(member)
    return [
        Piece(name, part, tuple(member.name for member in found), found[0].where, partial(_read, found))
        for (name, part), found in parts.items()
    ]


def _read(members: Sequence[Member], wish: Wish) -> Found:
    where = members[0].where
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UserError(f"{where}: {MISSING}") from error
    try:
        files = [parquet.ParquetFile(io.BytesIO(member.read())) for member in members]
        groups = [file.metadata.row_group(place) for file in files for place in range(file.num_row_groups)]
        check_size(sum(group.total_byte_size for group in groups), where)
        table = pyarrow.concat_tables([file.read() for file in files])
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{where}: not a readable Parquet file ({' '.join(str(error).split())})") from error
    image = next((name for name in table.column_names if _is_pictures(table.schema.field(name).type, pyarrow)), None)
    label = _label(table.column_names, wish.label, where)
    names = _names(table.schema.metadata or {}, label)
    labels = None if label is None else _labels(table[label], label, where)
    table, labels, notes = _without_hidden(table, labels, names)
    if image is None:
        pixels = [name for name in table.column_names if name != label]
        return Found(_numbers(table, pixels, where), labels, names=names, notes=notes)
    values = table[image].to_pylist()
    raws = [value["bytes"] if isinstance(value, dict) else value for value in values]
    if missing := [place for place, raw in enumerate(raws) if raw is None]:
        raise UserError(f"{where}: image {missing[0]} is only a path, not the bytes of a picture")
    pictures = [
        Member(f"{image}[{place}]", f"{where}/{image}[{place}]", partial(io.BytesIO, raw))
        for place, raw in enumerate(raws)
    ]
    found = read_sized(pictures, pictures, wish)
    return replace(found, labels=labels, names=names, notes=(*notes, *found.notes))


def _is_pictures(kind: Any, pyarrow: Any) -> bool:
    """Return whether a column has the bytes of pictures, or structures with a field `bytes`."""
    types = pyarrow.types
    if types.is_struct(kind):
        return any(kind.field(place).name == "bytes" for place in range(kind.num_fields))
    return types.is_binary(kind) or types.is_large_binary(kind)


def _label(columns: Sequence[str], wished: str | None, where: str) -> str | None:
    plain = {place: name.strip().lower() for place, name in enumerate(columns)}
    found = label_by_name(plain, wished, where, labels=(*LABELS, "fine_label"))
    return None if found is None else columns[found]


def _names(metadata: dict[bytes, bytes], label: str | None) -> list[str] | None:
    """Return what Hugging Face's metadata call the labels 0, 1, 2, ..."""
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"][label]["names"]
    except (KeyError, ValueError, TypeError):
        return None
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def _labels(column: Any, name: str, where: str) -> np.ndarray | None:
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
