"""HDF5 files (.h5), and MATLAB's .mat files of version 7.3."""

from functools import partial
from typing import Any

import h5py
import numpy as np

from sweeper_digits.data.arrays import UNREADABLE, Named
from sweeper_digits.data.contents import Member
from sweeper_digits.data.limits import check_size
from sweeper_digits.errors import UserError


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
        # What another file holds is not read: this file may be someone else's.
        if not isinstance(node, h5py.Dataset) or node.is_virtual or node.external or not node.shape:
            return
        text = h5py.check_string_dtype(node.dtype) is not None
        if node.dtype.kind not in "buif" and not text:
            return
        total += 0 if text else node.nbytes
        shape = node.shape[::-1] if reverse else node.shape
        read = partial(_read, raw, path, reverse, text, member.where)
        found.append(
            Named(path.replace("/", "."), member.name, member.where, shape, "U" if text else node.dtype.kind, read)
        )

    reverse = raw.startswith(b"MATLAB")  # which writes the last axis first
    try:
        with _open(raw) as file:
            file.visititems(visit)
    except UNREADABLE as error:
        raise UserError(f"{member.where}: not a readable HDF5 file ({error})") from error
    check_size(total, member.where)
    return found


def _open(raw: bytes) -> h5py.File:
    """Return an open file; HDF5 reads the bytes itself, for it ends the process where a Python stream fails."""
    return h5py.File(h5py.h5f.open_file_image(raw))


def _read(raw: bytes, path: str, reverse: bool, text: bool, where: str) -> np.ndarray:
    try:
        with _open(raw) as file:
            array = np.asarray(file[path].asstr()[()] if text else file[path][()])
    except UNREADABLE as error:
        raise UserError(f"{where}: not a readable HDF5 file ({error})") from error
    return array.T if reverse else array
