"""Dataset in CSV tables: Kaggle's zip, a folder with its files, or one file."""

import io
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pandas as pd

from sweeper_digits.data.dataset import Dataset, as_dataset, existing_path
from sweeper_digits.data.limits import check_archive, read_member
from sweeper_digits.errors import UserError


def load_kaggle(path: str, part: str = "train") -> Dataset:
    """Load train.csv or test.csv of Kaggle's Digit Recognizer.

    Args:
        path: The zip as downloaded, a folder with the files, or one CSV file.
        part: `train` (labelled) or `test` (to be labelled).

    Raises:
        UserError: A missing or malformed file; the message names the row and column of the first bad cell.
    """
    name, raw = read_kaggle_file(existing_path(path), f"{part}.csv")
    try:
        table = pd.read_csv(io.BytesIO(raw), dtype=np.uint8)  # raises where a cell is no integer in 0-255
    except (ValueError, OverflowError) as error:
        raise UserError(f"{name}: {_first_bad_cell(raw) or error}") from error
    labelled = part == "train"
    if labelled and "label" not in table.columns:
        raise UserError(f"{name}: no column 'label' in the header; Kaggle's train.csv begins label,pixel0")
    pixels = table.drop(columns="label") if labelled else table
    labels = table["label"].to_numpy() if labelled else None
    return as_dataset(pixels.to_numpy(), labels, name)


def read_kaggle_file(path: Path, member: str) -> tuple[str, bytes]:
    """Read one of Kaggle's files.

    Args:
        path: The zip, a folder, or one CSV file, which is read whatever its name.
        member: The file's name in the zip or folder.

    Returns:
        A name for messages, and the bytes.

    Raises:
        UserError: No such member, an unreadable zip, or one that holds too much.
    """
    if path.is_dir():
        if not (path / member).is_file():
            raise UserError(f"{path}: no {member} in this folder")
        return str(path / member), (path / member).read_bytes()
    if path.suffix.lower() == ".csv":
        return str(path), path.read_bytes()
    try:
        check_archive(path)
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if Path(name).name == member]
            if not names:
                raise UserError(f"{path}: no {member} in this zip")
            return f"{path}/{names[0]}", read_member(archive, names[0])
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:  # RuntimeError: encrypted
        raise UserError(f"{path}: not a readable zip ({error}); download it again") from error


def _first_bad_cell(raw: bytes) -> str:
    """Say which cell of a CSV is not a whole number from 0 to 255, or return an empty string."""
    try:
        cells = pd.read_csv(io.BytesIO(raw), dtype=str, keep_default_na=False)
    except ValueError as error:  # includes pandas' ParserError: rows of different lengths
        return str(error)
    for name in cells.columns:
        numbers = pd.to_numeric(cells[name], errors="coerce")
        good = numbers.between(0, 255) & (numbers % 1 == 0)
        if not good.all():
            row = int(np.argmin(good.to_numpy()))
            value = cells[name].iloc[row]
            found = f"{value!r}" if value else "an empty cell"
            return f"row {row + 2}, column {name!r}: {found}; expected a whole number from 0 to 255"
    return ""
