"""Dataset in a NumPy archive."""

import zipfile
import zlib

import numpy as np

from sweeper_digits.data.dataset import Dataset, as_dataset, existing_path
from sweeper_digits.data.limits import check_archive
from sweeper_digits.errors import UserError


def load_npz(path: str) -> Dataset:
    """Load a NumPy archive with arrays `images` (n, 28, 28) or (n, 28, 28, 1) and `labels` (n,).

    Raises:
        UserError: An unreadable or too large file, a missing array, or wrong shapes, types or values.
    """
    file = existing_path(path)
    try:
        check_archive(file)
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except TypeError as error:  # one array, as np.save writes it
        raise UserError(f"{file}: not a .npz file with arrays `images` and `labels`; np.savez writes one") from error
    except (ValueError, OSError, EOFError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{file}: not a readable .npz file ({error})") from error
    if missing := {"images", "labels"} - set(arrays):
        raise UserError(f"{file}: no array {sorted(missing)[0]!r}; it has {', '.join(arrays) or 'none'}")
    return as_dataset(arrays["images"], arrays["labels"], str(file))
