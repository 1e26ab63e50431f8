"""Which images are equal, pixel for pixel."""

import hashlib
import struct

import numpy as np


def hash_images(images: np.ndarray) -> np.ndarray:
    """Return uint64 (n,), equal numbers for equal images, on every machine and in every process.

    They are BLAKE2b of the pixels and the shape, cut to 64 bits: of 70,000 images, two different ones have one number
    with a probability of 1 in 10^10.

    Args:
        images: uint8 (n, height, width, channels).
    """
    shape = struct.pack("<3I", *images.shape[1:])
    pixels, size = np.ascontiguousarray(images).reshape(-1).data, int(np.prod(images.shape[1:]))
    starts = range(0, len(pixels), size)
    digests = [hashlib.blake2b(pixels[at : at + size], digest_size=8, person=shape).digest() for at in starts]
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


def divided_groups(groups: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the groups whose members differ in a value, int (m,), in ascending order.

    Args:
        groups: int (n,), from 0, equal numbers for members of one group.
        values: int (n,), from 0.
    """
    if np.bincount(groups).max() == 1:
        return groups[:0]
    pairs = np.unique(groups * (values.max() + 1) + values) // (values.max() + 1)
    return np.unique(pairs[1:][pairs[1:] == pairs[:-1]])
