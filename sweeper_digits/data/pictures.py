"""Picture files of any format that Pillow reads by itself, as arrays in the form that a model takes."""

import functools
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from sweeper_digits.data.checks import resized
from sweeper_digits.data.mnist import IMAGE_SHAPE
from sweeper_digits.data.photographs import LEAST_RANGE, as_mnist, on_dark
from sweeper_digits.errors import UserError

# Pillow starts a program for EPS and calls the system for WMF; what is not in this list stays off.
FORMATS = (
    "AVIF BMP DDS DIB GIF ICNS ICO JPEG JPEG2000 MSP PCX PNG PPM PSD QOI SGI SUN TGA TIFF WEBP XBM XPM".split()  # noqa: SIM905
)
PAGED = ("AVIF", "GIF", "PNG", "TIFF", "WEBP")  # a file of several equal pages or frames
# First bytes of what people take for a picture, and what it is.
STRANGERS = {
    b"%PDF": "a PDF",
    b"%!PS": "PostScript",
    b"\xc5\xd0\xd3\xc6": "PostScript",
    b"<svg": "an SVG drawing",
    b"<?xml": "an SVG drawing or another XML file",
    b"PK\x03\x04": "a zip file",
}
HEIC = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
DEPTHS = (8, 10, 12, 14, 16, 24, 32)  # bits of a pixel that cameras and scanners give
BITS = 258  # TIFF's tag for the bits of a value


def read_pictures(
    paths: Sequence[Path], image_shape: tuple[int, int, int], digits: bool, white: float | None = None
) -> tuple[np.ndarray, dict[Path, str]]:
    """Read picture files in the form that a model takes.

    A picture of the model's own size keeps its pixels. Any other picture is scaled to that size, whatever its
    proportions; of digits, it is first brought into the form that MNIST's digits have.

    Args:
        paths: The files.
        image_shape: Height, width and channels, 1 (grey) or 3 (RGB), of the model's images.
        digits: Whether the model knows MNIST's digits, bright on dark: a picture with a light ground is inverted.
        white: What became 255 in the model's images; None: they had 8 bits, and of a picture with more, the most of
            the bits in use becomes 255.

    Returns:
        uint8 (n, height, width, channels), of the files that could be read, in their order; and of the others, why not.
    """
    images, refused = [], {}
    for path in paths:
        try:
            images.append(_in_form(read_picture(path, image_shape[2], white), image_shape, digits))
        except UserError as error:
            refused[path] = str(error)
    return np.array(images, np.uint8).reshape(-1, *image_shape), refused


def read_picture(path: Path, channels: int, white: float | None = None) -> np.ndarray:
    """Return the pixels of a picture file, upright, uint8 (height, width, channels).

    What is transparent is white, or black if nothing is to be seen on white.

    Args:
        path: The file.
        channels: 1 for grey, 3 for RGB.
        white: What becomes 255 in a picture of more than 8 bits; None: the most of the bits in use.

    Raises:
        UserError: No picture, a damaged one, one of more than 89 million pixels, or one of several pages.
    """
    if not path.is_file():
        raise UserError("not a file" if path.exists() else "no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Pillow warns of more than MAX_IMAGE_PIXELS, 89 million, before it unpacks them.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=known_formats()) as picture:
                pages = getattr(picture, "n_frames", 1) if picture.format in PAGED else 1
                upright = ImageOps.exif_transpose(picture)
                pixels = pixels_of(upright, channels, white) if pages == 1 else np.zeros(0)
    except Exception as error:  # Pillow's readers raise almost anything for a damaged file
        raise UserError(f"not a readable picture ({_reason(path, error)})") from error
    if pages > 1:
        raise UserError(f"{pages} pages or frames; save the one to be read as a picture of its own")
    return pixels


def is_picture(path: Path) -> bool:
    """Return whether a file begins as a picture does, or is called one: a damaged picture counts too."""
    if path.suffix.lower() in _suffixes():
        return True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=known_formats()):
                return True
    except Image.DecompressionBombError:
        return True
    except Exception:  # see above
        return False


@functools.cache
def known_formats() -> tuple[str, ...]:
    """Return the formats of `FORMATS` that the installed Pillow reads."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)  # an older Pillow has fewer


@functools.cache
def _suffixes() -> set[str]:
    known = {suffix for suffix, name in Image.registered_extensions().items() if name in known_formats()}
    return known | {".heic", ".heif"}  # refused by name


def _reason(path: Path, error: Exception) -> str:
    """Return what a file is that is no picture."""
    if isinstance(error, UnidentifiedImageError):
        with path.open("rb") as file:
            start = file.read(16)
        if not start:
            return "an empty file"
        if start[4:8] == b"ftyp" and start[8:12] in HEIC:
            return "HEIC, which Pillow cannot read; save it as JPEG or PNG"
        if names := [name for magic, name in STRANGERS.items() if start.startswith(magic)]:
            return f"{names[0]}; save it as PNG or JPEG"
        return "no format that is known; save it as PNG or JPEG"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def is_deep(picture: Image.Image) -> bool:
    """Return whether a picture is grey and has more than 8 bits; of colours, Pillow reads the first 8 bits alone."""
    return picture.mode.startswith(("I", "F"))


def said_white(picture: Image.Image) -> float | None:
    """Return the largest value that the depth of a deep picture has; None: its file does not say it.

    So a picture is read alike in every set. The depth of decimals, and of whole numbers of 32 bits, says nothing.
    """
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format in ("PNG", "PPM")):
        return float(2 ** getattr(picture, "tag_v2", {}).get(BITS, (16,))[0] - 1)
    return None


def white_in_use(largest: float) -> float:
    """Return the largest value of the fewest bits that hold a value; 1 for decimals up to 1."""
    return 1.0 if largest <= 1 else next((2.0**bits - 1 for bits in DEPTHS if largest < 2**bits), largest)


def pixels_of(picture: Image.Image, channels: int, white: float | None) -> np.ndarray:
    """Return uint8 (height, width, channels), white or black where a picture is transparent.

    Args:
        picture: The picture.
        channels: 1 for grey, 3 for RGB.
        white: What becomes 255 in a deep picture; None: the most of the bits in use.

    Raises:
        ValueError: A value that is no number, or below 0.
    """
    if is_deep(picture):
        values = np.asarray(picture).astype(np.float64)
        if not (np.isfinite(values).all() and values.min() >= 0):
            raise ValueError(
                f"a pixel of {values[~(values >= 0) | np.isinf(values)][0]:g}; numbers from 0 up are expected"
            )
        grey = np.clip(values * (255 / (white or white_in_use(values.max()))), 0, 255).round().astype(np.uint8)
        return np.repeat(grey[..., np.newaxis], channels, axis=2)
    mode = "L" if channels == 1 else "RGB"
    if not picture.has_transparency_data:
        pixels = np.asarray(picture.convert("RGB").convert(mode), np.uint8)
    else:
        for ground in ("white", "black"):
            flat = Image.new("RGBA", picture.size, ground)
            flat.alpha_composite(picture.convert("RGBA"))
            pixels = np.asarray(flat.convert(mode), np.uint8)
            if np.ptp(pixels) >= LEAST_RANGE:
                break
    return pixels.reshape(*pixels.shape[:2], channels)


def _in_form(pixels: np.ndarray, image_shape: tuple[int, int, int], digits: bool) -> np.ndarray:
    if digits and image_shape[2] == 1:
        # Only of MNIST's own size is it known where in the picture a digit belongs.
        own = pixels.shape == image_shape != IMAGE_SHAPE
        pixels = (on_dark if own else as_mnist)(pixels[..., 0])[..., np.newaxis]
    if pixels.shape == image_shape:
        return pixels
    return resized(pixels, image_shape[1], image_shape[0])
