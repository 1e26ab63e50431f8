"""Pictures: one file, or folders with a folder for each class, as pixels of the model's size."""

import functools
import io
import os
import shlex
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from sweeper_digits.data.checks import SIDES, resized
from sweeper_digits.data.contents import Member, check_size, file_member
from sweeper_digits.data.dataset import IMAGE_SHAPE
from sweeper_digits.data.kinds import REFUSED, kind_of
from sweeper_digits.data.photographs import LEAST_RANGE, as_mnist, on_dark
from sweeper_digits.data.pieces import PARTS, DataPiece, Piece, Requested, words_of
from sweeper_digits.errors import UserError

# Pillow starts a program for EPS and calls the system for WMF; what is not in this list stays off.
FORMATS = (
    "AVIF BMP DDS DIB GIF ICNS ICO JPEG JPEG2000 MSP PCX PNG PPM PSD QOI SGI SUN TGA TIFF WEBP XBM XPM".split()  # noqa: SIM905
)
PAGED = ("AVIF", "GIF", "PNG", "TIFF", "WEBP")  # a file of several equal pages or frames
DEPTHS = (8, 10, 12, 14, 16, 24, 32)  # bits of a pixel that cameras and scanners give
MOST_PIXELS = 89_000_000  # of one picture: 13,000 by 6,800
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
        UserError: As `opened`; also one of several pages.
    """
    if not path.is_file():
        raise UserError("not a file" if path.exists() else "no such file")
    with opened(file_member(path)) as picture:
        pages = getattr(picture, "n_frames", 1) if picture.format in PAGED else 1
        if pages > 1:
            raise UserError(f"{pages} pages or frames; save the one to be read as a picture of its own")
        return pixels_of(ImageOps.exif_transpose(picture), channels, white)


def is_picture(path: Path) -> bool:
    """Return whether a file begins as a picture does, or is called one: a damaged picture counts too."""
    if not path.is_file():
        return False
    member = file_member(path)
    if member.kind == "picture":
        return True
    try:
        with opened(member):  # of a format without a mark of its own
            return True
    except UserError:
        return False


@functools.cache
def known_formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)  # an older Pillow has fewer


@contextmanager
def opened(member: Member) -> Iterator[Image.Image]:
    """Open a picture, whose pixels are unpacked inside the block.

    Raises:
        UserError: No picture, a damaged one, or one of too many pixels, which are not unpacked; without its path.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of many pixels; they are refused below
            with Image.open(io.BytesIO(member.read()), formats=known_formats()) as picture:
                if picture.width * picture.height > MOST_PIXELS:
                    raise Image.DecompressionBombError
                yield picture
    except UserError:
        raise
    except Image.DecompressionBombError as error:
        raise UserError(f"a picture of more than {MOST_PIXELS:,} pixels; no larger ones are read") from error
    except UnidentifiedImageError as error:
        found = REFUSED.get(kind_of(member.head), "no format that is known; save it as PNG or JPEG")
        raise UserError(f"not a readable picture ({found.replace('FILE', shlex.quote(member.where))})") from error
    except Exception as error:  # Pillow's readers raise almost anything for a damaged file
        cause = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"not a readable picture ({cause})") from error


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


SAMPLE = 1000  # pictures whose size is looked at


def find_folders(members: Sequence[Member]) -> list[Piece]:
    """Return a piece for each part of each set of pictures.

    The folder that a picture is in is its class. Above it can be the folder of a part, and above that a name.
    Pictures in one folder, or in the folder of a part, have no labels.
    """
    pictures = [(PurePosixPath(member.name).parent.parts, member) for member in members if member.kind == "picture"]
    sets: dict[str, dict[str, list[tuple[str, Member]]]] = {}
    for folders, member in pictures:
        *above, last = folders or ("",)
        label = last if last and _part_of(last) is None else ""
        above = above if label else list(folders)
        part = next((one for folder in reversed(above) if (one := _part_of(folder))), "")
        name = "/".join(folder for folder in above if _part_of(folder) is None)
        sets.setdefault(name, {}).setdefault(part, []).append((label, member))
    pieces = []
    for name, parts in sets.items():
        every = parts.get("train") or [one for some in parts.values() for one in some]
        for which, found in parts.items():
            labels = [label for label, _ in found]
            files = (found[0][1].name,)
            alone = len(set(labels)) < 2
            read = partial(_read, [m for _, m in found], None if alone else labels, [m for _, m in every])
            where = found[0][1].where if len(found) == 1 else os.path.commonpath([m.where for _, m in found])
            pieces.append(Piece(name, which, files, where, read))
    return pieces


def without_level(member: Member, level: str) -> Member:
    """Return a picture with the folder of a level, from 1, as its group and out of its name; other files as they are.

    A picture in the folder of its class, or in none, is returned as it is where it has no such level.

    Raises:
        UserError: There is no such level, and what the folders above that of the class are is not known.
    """
    folders = PurePosixPath(member.name).parent.parts
    if member.kind != "picture":
        return member
    if level.isdecimal() and 1 <= (place := int(level)) <= len(folders):
        kept = (*folders[: place - 1], *folders[place:], PurePosixPath(member.name).name)
        return replace(member, name="/".join(kept), group=folders[place - 1])
    if sum(_part_of(folder) is None for folder in folders) > 1:
        raise UserError(f"{member.where}: data.group={level}: {_no_level(member)}")
    return member


def _no_level(member: Member) -> str:
    levels = ", ".join(f"{n} is {name}" for n, name in enumerate(PurePosixPath(member.name).parent.parts, 1))
    return f"no such level of folders; of {member.name}, {levels or 'there is none'}"


def _part_of(folder: str) -> str | None:
    words = [word for word in words_of(folder) if word not in ("set", "data", "images", "img")]
    return PARTS.get(words[0]) if len(words) == 1 else None


def _read(members: Sequence[Member], labels: list[str] | None, every: Sequence[Member], wish: Requested) -> DataPiece:
    if labels is not None and "" in labels:
        loose = members[labels.index("")].where
        raise UserError(f"{loose}: a picture beside the folders of classes; move it into the folder of its class")
    found = read_sized(members, every, wish)
    ids = tuple(PurePosixPath(member.name).name for member in members)
    if len(set(ids)) < len(ids):
        ids = tuple(str(PurePosixPath(member.group, member.name)) for member in members)
    found = replace(found, labels=None if labels is None else np.array(labels), ids=ids)
    if odd := [member for member in members if not member.group]:
        return replace(found, lacks=_no_level(odd[0]))
    return replace(found, groups=np.array([member.group for member in members]))


def read_sized(members: Sequence[Member], every: Sequence[Member], wish: Requested) -> DataPiece:
    """Read pictures, and bring them to one size.

    Args:
        members: The pictures.
        every: Pictures that decide the size, where the user does not: the training part's.
        wish: What the user says of the size.

    Raises:
        UserError: One that is not readable, or a size that no model takes.
    """
    chosen = every[:: max(1, len(every) // SAMPLE)]
    sizes = Counter(map(_size, chosen))
    size = (wish.size, wish.size) if wish.size else sizes.most_common(1)[0][0]
    if not all(SIDES[0] <= side <= SIDES[1] for side in size):
        raise UserError(
            f"{members[0].where}: pictures of {size[0]}x{size[1]} pixels; sides of {SIDES[0]} to {SIDES[1]} are "
            "expected; add data.size=64"
        )
    check_size(len(members) * size[0] * size[1] * 3, f"{members[0].where}: {len(members):,} pictures")
    images = np.empty((len(members), size[1], size[0], 3), np.uint8)
    resized, scale = 0, _Scale(every, wish.white)
    for place, member in enumerate(members):
        images[place], changed = _pixels(member, size, scale)
        resized += changed
    notes = scale.notes(len(members))
    if resized:
        notes.append(f"{resized:,} of {len(members):,} pictures were brought to {size[0]}x{size[1]} pixels")
    if (images[..., 0] == images[..., 1]).all() and (images[..., 0] == images[..., 2]).all():
        images = images[..., :1]
    return DataPiece(images, None, notes=tuple(notes), white=max(scale.whites, default=None))


class _Scale:
    """The value that becomes 255 in grey pictures of more than 8 bits: the same for all of one depth.

    Args:
        every: Pictures that decide it, where the depth of one does not say it.
        wished: What the user says that it is, or None.
    """

    def __init__(self, every: Sequence[Member], wished: float | None) -> None:
        self.every, self.wished = every, wished
        self.whites: list[float] = []
        self.brightest = 0.0

    def white_of(self, picture: Image.Image) -> float | None:
        """Return what becomes 255 in a picture; None: it has 8 bits."""
        if not is_deep(picture):
            return None
        self.brightest = max(self.brightest, float(np.asarray(picture).max()))
        self.whites.append(self.wished or said_white(picture) or self._in_use)
        return self.whites[-1]

    @cached_property
    def _in_use(self) -> float:
        """Return what holds all values of pictures that do not say their depth."""
        largest = self.brightest  # for the case that no picture that decides is such a one
        for member in self.every:
            with _of_a_set(member) as picture:
                if is_deep(picture) and said_white(picture) is None:
                    largest = max(largest, float(np.asarray(picture).max()))
        return white_in_use(largest)

    def notes(self, pictures: int) -> list[str]:
        """Return the line that says the scale; none where all pictures have 8 bits."""
        if not self.whites:
            return []
        became = " and ".join(f"{white:,.10g}" for white in sorted(set(self.whites)))
        text = f"{len(self.whites):,} of {pictures:,} pictures have more than 8 bits: {became} became 255"
        fewer = white_in_use(self.brightest)
        if self.brightest > max(self.whites):
            text += f", and so did all up to {self.brightest:,.10g}"
        elif fewer < min(self.whites):
            text += f"; they reach {self.brightest:,.10g}, and data.white={fewer:.10g} makes them brighter"
        return [text]


@contextmanager
def _of_a_set(member: Member) -> Iterator[Image.Image]:
    """Open a picture of a set; what is raised says which one it is."""
    try:
        with opened(member) as picture:
            yield picture
    except UserError as error:
        raise UserError(f"{member.where}: {error}") from error


def _size(member: Member) -> tuple[int, int]:
    with _of_a_set(member) as picture:
        return picture.size


def _pixels(member: Member, size: tuple[int, int], scale: _Scale) -> tuple[np.ndarray, bool]:
    """Return uint8 (height, width, 3), upright, and whether the size was changed."""
    with _of_a_set(member) as picture:
        white = scale.white_of(picture)
        pixels = pixels_of(ImageOps.exif_transpose(picture), 3, white)
    if pixels.shape[1::-1] == size:
        return pixels, False
    return resized(pixels, *size), True
