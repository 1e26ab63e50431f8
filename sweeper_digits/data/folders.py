"""Pictures in folders, or in a zip: a folder for each class, or none for pictures that are to be labelled."""

import io
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from pathlib import PurePosixPath

import numpy as np
from PIL import Image, ImageOps

from sweeper_digits.data.checks import SIDES, resized
from sweeper_digits.data.contents import Member
from sweeper_digits.data.kinds import REFUSED, kind_of, refusal
from sweeper_digits.data.limits import check_size
from sweeper_digits.data.pictures import is_deep, known_formats, pixels_of, said_white, white_in_use
from sweeper_digits.data.pieces import PARTS, Found, Piece, Wish, words_of
from sweeper_digits.errors import UserError

MOST_PIXELS = 50_000_000  # of one picture
SAMPLE = 1000  # pictures whose size is looked at
UNREADABLE = (OSError, ValueError, SyntaxError)


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


def _part_of(folder: str) -> str | None:
    words = [word for word in words_of(folder) if word not in ("set", "data", "images", "img")]
    return PARTS.get(words[0]) if len(words) == 1 else None


def _read(members: Sequence[Member], labels: list[str] | None, every: Sequence[Member], wish: Wish) -> Found:
    if labels is not None and "" in labels:
        loose = members[labels.index("")].where
        raise UserError(f"{loose}: a picture beside the folders of classes; move it into the folder of its class")
    found = read_sized(members, every, wish)
    ids = tuple(PurePosixPath(member.name).name for member in members)
    if len(set(ids)) < len(ids):
        ids = tuple(member.name for member in members)
    return replace(found, labels=None if labels is None else np.array(labels), ids=ids)


def read_sized(members: Sequence[Member], every: Sequence[Member], wish: Wish) -> Found:
    """Read pictures, and bring them to one size.

    Args:
        members: The pictures.
        every: Pictures that decide the size, where the user does not: the training part's.
        wish: What the user says of the size.

    Raises:
        UserError: One that is not readable, or a size that no model takes.
    """
    chosen = every[:: max(1, len(every) // SAMPLE)]
    sizes = Counter(_open(member).size for member in chosen)
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
    return Found(images, None, notes=tuple(notes), white=max(scale.whites, default=None))


def _open(member: Member) -> Image.Image:
    """Return a picture whose pixels are not unpacked yet."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow's, for many pixels: refused below
            picture = Image.open(io.BytesIO(member.read()), formats=known_formats())
        size = picture.width * picture.height
    except Image.DecompressionBombError:
        size = MOST_PIXELS + 1
    except UNREADABLE as error:
        kind = kind_of(member.head)
        plain = f"{member.where}: not a picture of a format that is read"
        raise UserError(refusal(kind, member.where) if kind in REFUSED else plain) from error
    if size > MOST_PIXELS:
        raise UserError(f"{member.where}: a picture of more than {MOST_PIXELS:,} pixels; no larger ones are read")
    return picture


class _Scale:
    """What becomes 255 in grey pictures of more than 8 bits: the same for all of one depth.

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
            with _reading(member) as picture:
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
def _reading(member: Member) -> Iterator[Image.Image]:
    """Open a picture; raise a UserError for what goes wrong while its pixels are unpacked, inside the block."""
    try:
        with _open(member) as picture:
            yield picture
    except UNREADABLE as error:
        raise UserError(f"{member.where}: not a readable picture ({error})") from error


def _pixels(member: Member, size: tuple[int, int], scale: _Scale) -> tuple[np.ndarray, bool]:
    """Return uint8 (height, width, 3), upright, and whether the size was changed."""
    with _reading(member) as picture:
        white = scale.white_of(picture)
        pixels = pixels_of(ImageOps.exif_transpose(picture), 3, white)
    if pixels.shape[1::-1] == size:
        return pixels, False
    return resized(pixels, *size), True
