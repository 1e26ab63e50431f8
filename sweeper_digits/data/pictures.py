"""Photographs and drawings of single digits, in the form that MNIST's digits have."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from scipy import ndimage

from sweeper_digits.errors import UserError

# MNIST's images have this side; its digits fill a box of 20x20, centred by mass (http://yann.lecun.com/exdb/mnist/).
SIDE, BOX = 28, 20
# What Pillow raises for bombs and damaged files; the last is for a PNG's checksums.
UNREADABLE = (OSError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning, SyntaxError)


def read_pictures(paths: Sequence[Path]) -> np.ndarray:
    """Read PNG or JPEG files of single digits as MNIST would have them, uint8 (n, 28, 28, 1).

    A light background is inverted. A picture of another size than 28x28 is cropped to the digit, scaled into a
    box of 20x20 and centred by its mass, which is how MNIST was made.

    Raises:
        UserError: A file that is not a readable picture, or a picture without a digit.
    """
    return np.stack([_read_picture(path) for path in paths])[..., np.newaxis]


def _read_picture(path: Path) -> np.ndarray:
    if not path.is_file():
        raise UserError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
    try:
        pixels = _read_grey(path)
    except UNREADABLE as error:
        raise UserError(f"{path}: not a readable picture ({error})") from error
    if _ground(pixels) > (float(pixels.min()) + float(pixels.max())) / 2:  # also dark ink on dim paper
        pixels = 255 - pixels
    if np.ptp(pixels) < 32:
        raise UserError(f"{path}: nothing but background in this picture")
    return pixels if pixels.shape == (SIDE, SIDE) else _centred(pixels)


def _read_grey(path: Path) -> np.ndarray:
    """Return uint8 (height, width), on white where the picture is transparent."""
    with warnings.catch_warnings():
        # Pillow warns of more than MAX_IMAGE_PIXELS, 89 million, before it unpacks them.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        # Pillow starts a program for some other formats.
        with Image.open(path, formats=("PNG", "JPEG")) as picture:
            upright = ImageOps.exif_transpose(picture).convert("RGBA")
    flat = Image.new("RGBA", upright.size, "white")
    flat.alpha_composite(upright)
    return np.asarray(flat.convert("L"), np.uint8)


def _ground(pixels: np.ndarray) -> float:
    """Return the median of the border, which is background."""
    return float(np.median(np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])))


def _centred(pixels: np.ndarray) -> np.ndarray:
    """Return uint8 (28, 28) of a bright digit on a dark ground, uint8 (height, width)."""
    ground = _ground(pixels)
    clean = np.clip((pixels - ground) * (255 / max(pixels.max() - ground, 1)), 0, 255)
    rows, columns = np.nonzero(clean > 64)
    digit = clean[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    scale = BOX / max(digit.shape)
    size = (max(1, round(digit.shape[1] * scale)), max(1, round(digit.shape[0] * scale)))
    small = np.asarray(Image.fromarray(digit.astype(np.uint8)).resize(size, Image.Resampling.BOX))
    margins = []
    for centre, length in zip(ndimage.center_of_mass(small), small.shape, strict=True):
        before = int(np.clip(round((SIDE - 1) / 2 - centre), 0, SIDE - length))
        margins.append((before, SIDE - length - before))
    return np.pad(small, margins)
