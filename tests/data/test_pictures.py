"""Pictures of digits are brought into the form that MNIST's digits have."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from sweeper_digits.data.dataset import Dataset
from sweeper_digits.data.pictures import read_pictures
from sweeper_digits.errors import UserError


def test_pictures_are_brought_into_mnists_form(digits: Dataset, tmp_path: Path) -> None:
    # A digit drawn large and black on white, off centre; and MNIST's own image, which stays as it is.
    big = Image.new("L", (300, 200), "white")
    ImageDraw.Draw(big).rectangle((30, 20, 50, 180), fill="black")
    big.save(tmp_path / "one.jpg")
    Image.fromarray(digits.images[0, ..., 0]).save(tmp_path / "own.png")
    Image.fromarray(255 - digits.images[0, ..., 0]).save(tmp_path / "inverted.png")
    bar, own, inverted = read_pictures([tmp_path / name for name in ("one.jpg", "own.png", "inverted.png")])
    assert np.array_equal(own, digits.images[0]) and np.array_equal(inverted, own)
    rows, columns = np.nonzero(bar[..., 0] > 128)
    assert np.ptp(rows) + 1 == 20 and 2 <= np.ptp(columns) + 1 <= 4
    assert abs(rows.mean() - 13.5) < 1 and abs(columns.mean() - 13.5) < 1
    dim = Image.new("L", (200, 300), 100)  # a photograph of dark ink on dim paper, held upright
    ImageDraw.Draw(dim).rectangle((90, 20, 110, 280), fill=20)
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned by 90 degrees
    dim.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "dim.jpg", exif=turned)
    (ink,) = read_pictures([tmp_path / "dim.jpg"])
    rows, columns = np.nonzero(ink[..., 0] > 128)
    assert np.ptp(rows) + 1 == 20 and np.ptp(columns) + 1 <= 3
    Image.new("L", (50, 50), "white").save(tmp_path / "blank.png")
    with pytest.raises(UserError, match="nothing but background"):
        read_pictures([tmp_path / "blank.png"])
