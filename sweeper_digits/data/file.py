"""`data=file`: any file, folder or zip with labelled images, read for what is in it, not for what it is called."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from sweeper_digits.data.arrays import Named, describe, find_arrays, list_npz
from sweeper_digits.data.checks import depth_white
from sweeper_digits.data.contents import Member, list_members
from sweeper_digits.data.dataset import Dataset, as_dataset, existing_path
from sweeper_digits.data.formats import find_idx, find_parquet, list_hdf5, list_mat, read_mapping
from sweeper_digits.data.kinds import REFUSED, refusal
from sweeper_digits.data.pictures import find_folders, without_level
from sweeper_digits.data.pieces import DataPiece, Piece, Requested, choose, name_and_part
from sweeper_digits.data.tables import find_tables
from sweeper_digits.errors import UserError

EXPECTED = "expected are CSV, IDX, .npz, .npy, .mat, .h5, Parquet, or a folder of pictures for each class"


def load_file(
    path: str,
    part: str = "train",
    size: int | None = None,
    label: str | None = None,
    member: str | None = None,
    white: float | None = None,
    group: str | None = None,
) -> Dataset:
    """Load images from a file, a folder or a zip of any layout that docs/data.md lists.

    Args:
        path: The path of the file, folder or zip.
        part: `train`, `test`, or `all` parts.
        size: Side in pixels that pictures are brought to; None: the commonest.
        label: The column of the labels in a table: its name, or `first` or `last`.
        member: The data set, or the file, among several.
        white: What becomes 255 in images of more than 8 bits; None: the most that their depth has.
        group: What names the group of an image: a column, an array, or the level of a folder, from 1.

    Raises:
        UserError: Nothing that is read, several data sets, no such part, or bad content.
    """
    wish, found_at = Requested(label, size, white, group), existing_path(path)
    chosen = choose(find_pieces(found_at, group), path, part, member, alone=found_at.is_file())
    found = [_as_emnist(piece, piece.read(wish), path) if piece.transposed else piece.read(wish) for piece in chosen]
    source = chosen[0].where if len(chosen) == 1 else path
    # One scale for all parts: one of them may be dark throughout.
    known = (one.white if one.images.dtype == np.uint8 else wish.white or depth_white(one.images) for one in found)
    white = max(filter(None, known), default=None)
    groups, lacks = (None, "") if group is None else _groups_of(found, group, source)
    if len(found) == 1:
        (one,) = found
        dataset = as_dataset(
            one.images,
            one.labels,
            source,
            names=one.names,
            ids=one.ids,
            notes=one.notes,
            size=wish.size,
            white=white,
        )
        return replace(dataset, named_groups=groups, lacks=lacks)
    unlabelled = [piece.part for piece, one in zip(chosen, found, strict=True) if one.labels is None]
    if 0 < len(unlabelled) < len(found):
        raise UserError(f"{path}: its {unlabelled[0]} part has no labels, others have; leave out data.part=all")
    parts = [
        as_dataset(one.images, None, source, ids=one.ids, notes=one.notes, size=wish.size, white=white) for one in found
    ]
    if len(shapes := {one.image_shape for one in parts}) > 1:
        raise UserError(f"{path}: its parts have images of shapes {' and '.join(map(str, shapes))}; add data.size=28")
    dataset = as_dataset(
        np.concatenate([one.images for one in parts]),
        None if unlabelled else np.concatenate([one.labels for one in found]),
        source,
        names=found[0].names,
        ids=[name for one in parts for name in one.ids or ()] or None,
        notes=tuple(dict.fromkeys(note for one in parts for note in one.notes)),
        white=white,
    )
    return replace(dataset, named_groups=groups, lacks=lacks)


def find_pieces(path: Path, group: str | None = None) -> list[Piece]:
    """Return what a path holds, unread, by all formats.

    Args:
        path: The path of the file, folder or zip.
        group: If it is the level of a folder, this folder does not count where folders name classes and parts.

    Raises:
        UserError: Nothing that is read; the message says what is there instead.
    """
    members = list_members(path)
    if group is not None:
        members = [without_level(member, group) for member in members]
    return _some([piece for find in FINDERS for piece in find(members)], str(path), members)


def _groups_of(found: Sequence[DataPiece], group: str, source: str) -> tuple[np.ndarray | None, str]:
    """Return what names the group of each image, str (n,); if something is amiss, None and what it is."""
    every = []
    for one in found:
        if one.groups is None:
            return None, f"{source}: data.group={group}: {one.lacks}"
        if one.groups.size != len(one.images) or one.groups.shape[0] not in (1, len(one.images)):
            return None, f"{source}: data.group={group}: shape {one.groups.shape} for {len(one.images):,} images"
        values = one.groups.reshape(-1)
        if values.dtype.kind == "f" and (values == np.round(values)).all():
            values = values.astype(np.int64)
        texts = np.char.decode(values, "utf-8", "replace") if values.dtype.kind == "S" else values.astype(str)
        every.append(np.char.strip(texts))
    names = np.concatenate(every)
    if (missing := np.isin(names, UNNAMED)).any():
        place = int(np.argmax(missing))
        return None, f"{source}: data.group={group}: {str(names[place])!r} at image {place}; a name is expected"
    return names, ""


def default_part(path: Path, member: str | None = None) -> str:
    """Return the part that is predicted where the user names none: the test part if there is one, else all."""
    parts = {piece.part for piece in find_pieces(path) if member is None or piece.answers(member)}
    return "test" if "test" in parts and not (path.is_file() and len(parts) == 1) else "all"


def _list_arrays(members: Sequence[Member]) -> list[Named]:
    return [array for member in members if member.kind in ARRAYS for array in ARRAYS[member.kind](member)]


def _find_arrays(members: Sequence[Member]) -> list[Piece]:
    return find_arrays(_list_arrays(members))


UNNAMED = ("", "nan", "NaN", "None", "null", "NULL")  # of a group
ARRAYS = {"npz": list_npz, "npy": list_npz, "mat": list_mat, "hdf5": list_hdf5}
FINDERS = (find_tables, find_idx, _find_arrays, find_parquet, find_folders)


def _as_emnist(piece: Piece, found: DataPiece, path: str) -> DataPiece:
    """Return EMNIST's images upright, with the letters' names if its mapping is there.

    Its files hold images with rows and columns exchanged.
    """
    images = found.images
    if images.ndim == 2:
        side = math.isqrt(images.shape[1])
        images = images.reshape(-1, side, side)
    note = "EMNIST's files hold its images with rows and columns exchanged; they were turned"
    found = replace(found, images=images.swapaxes(1, 2), notes=(*found.notes, note))
    for member in list_members(existing_path(path)):
        if name_and_part(member.name)[0] == f"{piece.name}-mapping" and member.kind == "text":
            return replace(found, names=read_mapping(member.read().decode("ascii", errors="replace")))
    return found


def _some(pieces: list[Piece], path: str, members: Sequence[Member]) -> list[Piece]:
    """Return the pieces.

    Raises:
        UserError: There are none; the message says what is there instead.
    """
    if pieces:
        return pieces
    if not members:
        raise UserError(f"{path}: no file in it; {EXPECTED}")
    for member in members:
        if (kind := member.kind) in REFUSED:
            raise UserError(refusal(kind, member.where))
    if arrays := _list_arrays(members):
        raise UserError(f"{path}: no array of images, (n, height, width) numbers: {describe(arrays)}")
    names = ", ".join(member.name for member in members[:5]) + (" ..." if len(members) > 5 else "")
    if len(members) == 1:
        found = "a file of an unknown kind"
        if members[0].kind == "text":
            begin = members[0].head.decode("utf-8", errors="replace").strip().partition("\n")[0].strip()[:60]
            found = f"text that begins {begin!r}" if begin else "blank lines only"
        raise UserError(f"{path}: {found}; {EXPECTED}")
    raise UserError(f"{path}: nothing in it is read as images: {names}; {EXPECTED}")
