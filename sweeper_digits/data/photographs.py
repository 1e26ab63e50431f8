"""A photograph or drawing of one digit, in the form that MNIST's digits have.

Nothing here reads a file: `pictures` does. A picture is worked on with a longer side of `WORK` pixels. Lengths below
are pixels of that size.
"""

import numpy as np
from PIL import Image
from scipy import ndimage

from sweeper_digits.data.dataset import SIDE
from sweeper_digits.errors import UserError

# MNIST's digits fill a box of this side, centred by mass in 28x28 (http://yann.lecun.com/exdb/mnist/).
BOX = 20
# The smallest of 5,000 MNIST digits has 17 pixels; the one farthest off the middle lies 1 pixel off.
SMALL, OFF_CENTRE = 15, 2
LEAST_RANGE = 32  # grey levels; less is nothing but background
WORK = 320
LEAST_INK = 0.06  # of the light that the paper gives; a grey pencil takes 0.2
SHADOW = 70  # dark areas wider than this are no strokes
LEAST_SIDE = 16  # smaller things are specks
LINE = 8  # a ruled line is not thicker
BLOB = 0.3  # of the longer side, half of the thickest part; 1 of 1,000 MNIST digits has more than 0.27
WIDE = 1.8  # as wide as high; of 1,000 MNIST digits 1 is wider than 1.7
# Pixels of the box: of 20 MNIST digits 1 has strokes thinner than 1.8, the median is 2.5.
THIN, USUAL = 1.8, 2.3
NEIGHBOURS = np.ones((3, 3))


def as_mnist(grey: np.ndarray) -> np.ndarray:
    """Return a picture of one digit as MNIST would have it, uint8 (28, 28), bright on dark.

    A picture of 28x28 keeps its pixels, inverted if its ground is light, unless it holds a small digit off its middle.
    In any other picture the light is levelled and the main strokes are kept, without ruled lines, frame and specks.
    They are scaled into a box of 20x20 and centred by their mass, which is how MNIST was made.

    Args:
        grey: uint8 (height, width).

    Raises:
        UserError: Nothing that looks like a digit, or more than one digit.
    """
    if grey.shape == (SIDE, SIDE):
        own = on_dark(grey)
        if np.ptp(own) >= LEAST_RANGE and not _is_small_and_off(own):
            return own
    work = _sheet(_resized(grey, WORK / max(grey.shape)))
    if not _is_dark_on_light(work):
        work = 255 - work
    for ink in (_ink(work), _ink(255 - work)):
        strokes = _main_strokes(ink)
        if not strokes.any():
            break
        if not _is_blob(strokes):
            _check_width(strokes)
            return _in_box(ink, strokes)
    raise UserError("nothing but background, no strokes of a digit")


def on_dark(grey: np.ndarray) -> np.ndarray:
    """Return a picture, inverted if its border is rather light, uint8 (height, width)."""
    return grey if _ground(grey) <= (float(grey.min()) + float(grey.max())) / 2 else 255 - grey


def _ground(grey: np.ndarray) -> float:
    """Return the median of the border, which is background."""
    return float(np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])))


def _is_small_and_off(bright: np.ndarray) -> bool:
    rows, columns = np.nonzero(bright > bright.min() + np.ptp(bright) / 4)
    centre = ndimage.center_of_mass(np.maximum(bright - _ground(bright), 0))
    small = max(np.ptp(rows), np.ptp(columns)) + 1 < SMALL
    return bool(small and max(abs(middle - (SIDE - 1) / 2) for middle in centre) > OFF_CENTRE)


def _resized(grey: np.ndarray, factor: float) -> np.ndarray:
    size = (max(1, round(grey.shape[1] * factor)), max(1, round(grey.shape[0] * factor)))
    how = Image.Resampling.BICUBIC if factor > 1 else Image.Resampling.BOX
    return np.clip(np.asarray(Image.fromarray(grey.astype(np.float32)).resize(size, how), float), 0, 255)


def _sheet(grey: np.ndarray) -> np.ndarray:
    """Return the sheet of paper with the digit, cut out of its frame; the whole picture if it has no frame."""
    middle = (np.percentile(grey, 2) + np.percentile(grey, 98)) / 2
    inside = (grey > middle) != (_ground(grey) > middle)
    labels, count = ndimage.label(inside)
    if not count:
        return grey
    largest = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    ((rows, columns),) = ndimage.find_objects(largest.astype(int))
    filled = ndimage.binary_fill_holes(largest)
    box = (rows.stop - rows.start) * (columns.stop - columns.start)
    framed = all(side.mean() < 0.2 for side in (largest[0], largest[-1], largest[:, 0], largest[:, -1]))
    has_ink = filled.sum() - largest.sum() > 0.002 * grey.size
    if framed and has_ink and filled.sum() > max(0.8 * box, 0.3 * grey.size) and largest.sum() > 0.8 * filled.sum():
        # What is left of the frame beside a turned sheet takes the brightness of the sheet's edge.
        outside = ~ndimage.binary_erosion(filled, iterations=3)
        nearest = ndimage.distance_transform_edt(outside, return_distances=False, return_indices=True)
        return grey[tuple(nearest)][rows, columns]
    return grey


def _is_dark_on_light(grey: np.ndarray) -> bool:
    """Return whether what is rarer than its surroundings is darker than them."""
    small = _resized(grey, 48 / max(grey.shape))
    rest = small - ndimage.median_filter(small, size=25, mode="nearest")
    return bool((rest**3).sum() < 0)


def _ink(grey: np.ndarray) -> np.ndarray:
    """Return the share of the light that ink takes, 0-1, whatever the light: float (height, width)."""
    paper = ndimage.grey_closing(ndimage.gaussian_filter(grey, 2), (SHADOW, SHADOW), mode="nearest")
    return np.clip(1 - ndimage.gaussian_filter(grey, 1) / np.maximum(paper, 20), 0, 1)


def _main_strokes(ink: np.ndarray) -> np.ndarray:
    """Return where the strokes of the one digit are, bool (height, width), all False if there is nothing.

    Raises:
        UserError: More than one digit.
    """
    mask = ink > max(LEAST_INK, 0.3 * np.percentile(ink, 99.5))
    without = _without_lines(_without_lines(mask).T).T
    if without.sum() > 0.05 * mask.sum():  # else the one line is a long 1
        mask = without
    labels, count = ndimage.label(mask, NEIGHBOURS)
    if not count:
        return mask
    boxes = ndimage.find_objects(labels)
    masses = _without_frames(ndimage.sum(ink, labels, range(1, count + 1)), labels, boxes)
    main = int(masses.argmax())
    box = boxes[main]
    if not masses[main] or max(side.stop - side.start for side in box) < LEAST_SIDE:
        return np.zeros_like(mask)
    digit = labels == main + 1
    for other in np.flatnonzero(masses > 0.05 * masses[main]):
        if other != main and _belongs(boxes[other], box):
            digit |= labels == other + 1
    return digit & (ink > 0.3 * np.percentile(ink[digit], 80))


def _without_frames(masses: np.ndarray, labels: np.ndarray, boxes: list[tuple[slice, slice]]) -> np.ndarray:
    """Return the masses, nothing for what lies along the border: a frame, the edge of a shadow."""
    sides = (labels[0], labels[-1], labels[:, 0], labels[:, -1])
    contacts = np.array([np.bincount(side, minlength=len(masses) + 1)[1:] for side in sides])
    lengths = np.array([max(rows.stop - rows.start, columns.stop - columns.start) for rows, columns in boxes])
    # A digit that fills the picture touches three sides or four, but does not run along them.
    fills = ((contacts > 0).sum(axis=0) >= 3) & (contacts.sum(axis=0) < 0.5 * sum(map(len, sides)))
    return masses * np.maximum(1 - 2 * contacts.sum(axis=0) / lengths, np.where(fills, 0.01, 0))


def _belongs(other: tuple[slice, slice], main: tuple[slice, slice]) -> bool:
    """Return whether a stroke is another part of the digit.

    Raises:
        UserError: It is another digit.
    """
    (rows, columns), (main_rows, main_columns) = other, main
    height, main_height = rows.stop - rows.start, main_rows.stop - main_rows.start
    below = max(rows.start, main_rows.start) - min(rows.stop, main_rows.stop)
    beside = max(columns.start, main_columns.start) - min(columns.stop, main_columns.stop)
    gap = max(below, beside)
    if height > 0.5 * main_height and gap > 0.06 * main_height:
        raise UserError("more than one digit; cut the picture so that it shows one")
    return gap < 0.2 * main_height


def _check_width(strokes: np.ndarray) -> None:
    """Raise a UserError for strokes that are wider than a digit: digits that touch each other."""
    rows, columns = np.nonzero(strokes)
    if np.ptp(columns) + 1 > WIDE * (np.ptp(rows) + 1):
        raise UserError("wider than a digit; cut the picture so that it shows one digit")


def _is_blob(strokes: np.ndarray) -> bool:
    rows, columns = np.nonzero(strokes)
    side = max(np.ptp(rows), np.ptp(columns)) + 1
    return bool(ndimage.distance_transform_edt(np.pad(strokes, 1)).max() > BLOB * side)


def _without_lines(mask: np.ndarray) -> np.ndarray:
    """Return the mask without thin lines from left to right, at most 5 degrees off; what crosses them stays."""
    height, width = mask.shape
    rows, columns = np.nonzero(mask)
    profile, slope = np.zeros(height), 0.0
    for candidate in np.tan(np.deg2rad(np.linspace(-5, 5, 41))):
        places = np.round(rows - candidate * (columns - width / 2)).astype(int)
        covered = np.bincount(places[(places >= 0) & (places < height)], minlength=height) / width
        if (covered**2).sum() > (profile**2).sum():
            profile, slope = covered, candidate
    labels, _ = ndimage.label(profile > 0.6)
    on_line, thickest = np.zeros(height, bool), 0
    for (found,) in ndimage.find_objects(labels):
        if (thickness := found.stop - found.start) <= LINE:
            on_line[max(found.start - 2, 0) : found.stop + 2] = True
            thickest = max(thickest, thickness)
    if not thickest:
        return mask
    places = np.round(np.arange(height)[:, np.newaxis] - slope * (np.arange(width) - width / 2)).astype(int)
    thicker = ndimage.binary_opening(mask, np.ones((thickest + 5, 1)))
    return mask & (thicker | ~on_line[np.clip(places, 0, height - 1)])


def _in_box(ink: np.ndarray, strokes: np.ndarray) -> np.ndarray:
    """Return the strokes as MNIST would have them, uint8 (28, 28)."""
    edge = ndimage.binary_dilation(strokes, iterations=2)
    clean = np.where(edge, np.clip((ink / np.percentile(ink[strokes], 70) - 0.2) / 0.7, 0, 1), 0)
    clean, strokes = _thickened(clean, strokes)
    rows, columns = np.nonzero(strokes)
    digit = clean[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    small = _resized(digit * 255, BOX / max(digit.shape)).round().astype(np.uint8)
    margins = []
    for centre, length in zip(ndimage.center_of_mass(small), small.shape, strict=True):
        before = int(np.clip(round((SIDE - 1) / 2 - centre), 0, SIDE - length))
        margins.append((before, SIDE - length - before))
    return np.pad(small, margins)


def _thickened(clean: np.ndarray, strokes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return thin strokes as thick as MNIST's, with room for them at the border; others as they are."""
    rows, columns = np.nonzero(strokes)
    pixel = (max(np.ptp(rows), np.ptp(columns)) + 1) / BOX
    depth = ndimage.distance_transform_edt(np.pad(strokes, 1))
    ridge = (depth > 0) & (depth == ndimage.maximum_filter(depth, 3))
    thickness = 2 * float(np.median(depth[ridge]))
    if thickness >= THIN * pixel:
        return clean, strokes
    radius = round((USUAL * pixel - thickness) / 2)
    disk = np.hypot(*np.mgrid[-radius : radius + 1, -radius : radius + 1]) <= radius + 0.5
    return (
        ndimage.grey_dilation(np.pad(clean, radius), footprint=disk),
        ndimage.binary_dilation(np.pad(strokes, radius), disk),
    )
