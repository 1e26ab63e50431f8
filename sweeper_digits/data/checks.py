"""Arrays from any source, as pixels and labels of one form; what cannot be brought into it is refused."""

import math

import numpy as np
from PIL import Image

from sweeper_digits.errors import UserError

SIDES = (8, 128)  # pixels, least and most
CHANNELS = (1, 3)
MOST_CLASSES = 1000


def as_pixels(
    images: np.ndarray, source: str, size: int | None = None, white: float | None = None
) -> tuple[np.ndarray, list[str]]:
    """Return images as uint8 (n, height, width, channels), contiguous, and what was changed, a line for each change.

    Args:
        images: (n, p) where p or p / 3 is a square, (n, height, width), (n, height, width, channels) or
            (n, channels, height, width). Whole numbers from 0 to 255 of any type, uint16, bool, decimals from 0 to 1 or
            from -1 to 1, or, in images of 8x8, whole numbers from 0 to 16, as scikit-learn's digits have them.
        source: What was read, for messages.
        size: Side in pixels that the images are brought to, or None.
        white: What becomes 255 in images of another type than uint8; None: what type and range say.

    Raises:
        UserError: Another shape, type or range.
    """
    if len(images) == 0:
        raise UserError(f"{source}: no images")
    images, notes = _as_four_axes(images, source)
    pixels, scaled = _as_bytes(images, source, white)
    notes += scaled
    if size is not None and pixels.shape[1:3] != (size, size):
        notes.append(f"images of {pixels.shape[1]}x{pixels.shape[2]} pixels were brought to {size}x{size}")
        pixels = np.stack([resized(image, size, size) for image in pixels])
    if not all(SIDES[0] <= side <= SIDES[1] for side in pixels.shape[1:3]):
        text = f"images of {pixels.shape[1]}x{pixels.shape[2]} pixels; sides of {SIDES[0]} to {SIDES[1]} are expected"
        raise UserError(f"{source}: {text}; data=file brings them there with data.size=64")
    return np.ascontiguousarray(pixels), notes


def resized(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return a picture of another size, uint8 (height, width, channels) in and out, whatever its proportions."""
    smaller = height < pixels.shape[0] and width < pixels.shape[1]
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    how = Image.Resampling.BOX if smaller else Image.Resampling.BICUBIC
    return np.asarray(picture.resize((width, height), how)).reshape(height, width, -1)


def _as_four_axes(images: np.ndarray, source: str) -> tuple[np.ndarray, list[str]]:
    shape, notes = images.shape, []
    if images.ndim == 2 and (side := math.isqrt(shape[1])) ** 2 == shape[1]:
        images = images.reshape(-1, side, side)
    elif images.ndim == 2 and shape[1] % 3 == 0 and (side := math.isqrt(shape[1] // 3)) ** 2 * 3 == shape[1]:
        images, order = _as_colours(images, side)
        notes.append(f"{shape[1]} values an image were taken for {side}x{side} pixels in colour, {order}")
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.ndim == 4 and images.shape[3] not in CHANNELS and images.shape[1] in CHANNELS:
        images = images.transpose(0, 2, 3, 1)
        notes.append("the channels came first; they were moved to the end")
    if images.ndim != 4 or images.shape[3] not in CHANNELS:
        text = f"{shape[1]} pixels an image" if len(shape) == 2 else f"images of shape {shape[1:]}"
        raise UserError(f"{source}: {text}; expected a square number of pixels, (height, width) or (height, width, 3)")
    return images, notes


def _as_colours(images: np.ndarray, side: int) -> tuple[np.ndarray, str]:
    """Return (n, side, side, 3) of (n, p), and the order of the values: that in which neighbours differ less."""
    orders = {
        "red, green, blue of each pixel": images.reshape(-1, side, side, 3),
        "all red, all green, all blue": images.reshape(-1, 3, side, side).transpose(0, 2, 3, 1),
    }
    rough = {name: np.abs(np.diff(found[:100].astype(np.float32), axis=2)).mean() for name, found in orders.items()}
    smoothest = min(rough, key=lambda name: rough[name])
    return orders[smoothest], smoothest


def depth_white(images: np.ndarray) -> float | None:
    """Return the largest value of 16 bits for images of that type; None for others, and where 8 bits hold them."""
    return 65535.0 if images.dtype == np.uint16 and images.size and images.max() > 255 else None


def _as_bytes(images: np.ndarray, source: str, white: float | None) -> tuple[np.ndarray, list[str]]:
    if images.dtype.kind not in "buif":
        raise UserError(f"{source}: pixels of type {images.dtype}; whole numbers from 0 to 255 are expected")
    least, most = images.min(), images.max()
    found = f"pixels from {least:g} to {most:g}"
    if not (math.isfinite(least) and math.isfinite(most)):
        raise UserError(f"{source}: a pixel that is not a number; whole numbers from 0 to 255 are expected")
    if (white := white or depth_white(images)) and least >= 0 and images.dtype != np.uint8:
        cut = np.clip(np.round(images * np.float32(255 / white)), 0, 255).astype(np.uint8)
        more = f"; data=file with data.white={most:g} makes them brighter" if 4 * float(most) < white else ""
        more = ", and so did all above" if most > white else more
        return cut, [f"{found} were scaled: {white:,.10g} became 255{more}"]
    if least >= 0 and 0 < most <= 1:
        return np.round(images * np.float32(255)).astype(np.uint8), [f"{found} were scaled to 0 to 255"]
    if -1 <= least < 0 and most <= 1:
        scaled = (images.astype(np.float32) + 1) * 127.5
        return np.round(scaled).astype(np.uint8), [f"{found} were scaled: -1 is 0 now, 1 is 255"]
    eights = images.shape[1:3] == (8, 8)  # scikit-learn's digits; larger pictures may be dark
    if eights and most == 16 and least == 0 and np.array_equal(images, np.round(images)):
        return np.round(images * np.float32(255 / 16)).astype(np.uint8), [f"{found} were scaled to 0 to 255"]
    if images.dtype == np.uint8:
        return images, []
    if not (least >= 0 and most <= 255):
        raise UserError(f"{source}: {found}; whole numbers from 0 to 255, or decimals from 0 to 1, are expected")
    if images.dtype.kind == "f" and not np.array_equal(images, np.round(images)):
        raise UserError(f"{source}: {found}, not whole; whole numbers from 0 to 255 are expected")
    return images.astype(np.uint8), []


def as_labels(labels: np.ndarray, images: int, source: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return labels as int32 (n,), places in the names of the classes, and these names.

    Numbers are in numeric order, text that is a number too; other text is in alphabetical order.

    Args:
        labels: (n,), (n, 1) or one-hot (n, classes); whole numbers, text or bool.
        images: n.
        source: What was read, for messages.

    Raises:
        UserError: Another shape, an empty label, numbers that are not whole, or more than 1,000.
    """
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    elif labels.ndim == 2 and labels.dtype.kind in "buif" and len(labels) == images:
        labels = _from_one_hot(labels, source)
    if labels.shape != (images,):
        raise UserError(f"{source}: {images:,} images but labels of shape {labels.shape}")
    labels = _as_integers_or_text(labels, source)
    values, places = np.unique(labels, return_inverse=True)
    if len(values) > MOST_CLASSES:
        raise UserError(f"{source}: {len(values):,} different labels; at most {MOST_CLASSES:,} classes are expected")
    names = [str(value) for value in values]
    if labels.dtype.kind == "U" and all(name.isdecimal() for name in names):
        order = sorted(range(len(names)), key=lambda place: (int(names[place]), names[place]))
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        names, places = [names[place] for place in order], rank[places]
    return places.astype(np.int32), tuple(names)


def _from_one_hot(rows: np.ndarray, source: str) -> np.ndarray:
    """Return the place of the 1 in each row; raise a UserError for a row that has not one 1 and else 0."""
    one_hot = ((rows == 0) | (rows == 1)).all(axis=1) & (rows.sum(axis=1) == 1)
    if not one_hot.all():
        place = int(np.argmin(one_hot))
        found = np.array2string(rows[place], separator=", ", threshold=12, max_line_width=1000)
        raise UserError(
            f"{source}: labels {found} at image {place}; one label is expected, or a row with one 1 and else 0"
        )
    return rows.argmax(axis=1)


def _as_integers_or_text(labels: np.ndarray, source: str) -> np.ndarray:
    if labels.dtype.kind == "f":
        whole = np.isfinite(labels) & (labels == np.round(labels))
        if not whole.all():
            place = int(np.argmin(whole))
            raise UserError(f"{source}: label {labels[place]:g} at image {place}; whole numbers or names are expected")
        labels = labels.astype(np.int64)
    if labels.dtype.kind not in "bui":
        labels = np.array([_as_text(label).strip() for label in labels.tolist()])
        bad = [place for place, label in enumerate(labels) if not (label and label.isprintable())]
        if bad:
            found = str(labels[bad[0]])
            raise UserError(f"{source}: label {found!r} at image {bad[0]}; names or numbers are expected")
    return labels


def _as_text(label: object) -> str:
    return label.decode("utf-8", errors="replace") if isinstance(label, bytes) else str(label)
