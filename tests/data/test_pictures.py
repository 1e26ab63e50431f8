"""Picture files of many formats are read in the form that a model takes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, features

from sweeper_digits.data.dataset import Dataset
from sweeper_digits.data.pictures import is_picture, read_picture, read_pictures

MNIST = (28, 28, 1)
FORMATS = ["bmp", "gif", "ico", "pcx", "png", "ppm", "tga", "tiff", "webp"] + ["avif"] * features.check("avif")


def bar(size: tuple[int, int], box: tuple[int, int, int, int], paper: int = 255, ink: int = 0) -> Image.Image:
    picture = Image.new("L", size, paper)
    ImageDraw.Draw(picture).rectangle(box, fill=ink)
    return picture


def read(path: Path, shape: tuple[int, int, int] = MNIST, digits: bool = True) -> np.ndarray:
    (image,), refused = read_pictures([path], shape, digits)
    assert not refused
    return image


def refusal(path: Path) -> str:
    images, refused = read_pictures([path], MNIST, True)
    assert images.shape == (0, *MNIST) and list(refused) == [path]
    return refused[path]


def test_pictures_are_brought_into_mnists_form(digits: Dataset, tmp_path: Path) -> None:
    # A digit drawn large and black on white, off centre; and MNIST's own image, which stays as it is.
    bar((300, 200), (30, 20, 50, 180)).save(tmp_path / "one.jpg")
    Image.fromarray(digits.images[0, ..., 0]).save(tmp_path / "own.png")
    Image.fromarray(255 - digits.images[0, ..., 0]).save(tmp_path / "inverted.png")
    paths = [tmp_path / name for name in ("one.jpg", "own.png", "inverted.png")]
    (one, own, inverted), refused = read_pictures(paths, MNIST, True)
    assert np.array_equal(own, digits.images[0]) and np.array_equal(inverted, own) and not refused
    rows, columns = np.nonzero(one[..., 0] > 128)
    assert np.ptp(rows) + 1 == 20 and 2 <= np.ptp(columns) + 1 <= 4
    assert abs(rows.mean() - 13.5) < 1 and abs(columns.mean() - 13.5) < 1


def test_a_photograph_held_upright_is_turned(tmp_path: Path) -> None:
    dim, exif = bar((200, 300), (90, 20, 110, 280), paper=100, ink=20), Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    dim.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "dim.jpg", exif=exif)
    rows, columns = np.nonzero(read(tmp_path / "dim.jpg")[..., 0] > 128)
    assert np.ptp(rows) + 1 >= 19 and np.ptp(columns) + 1 <= 4


def test_every_format_gives_the_same_pixels(digits: Dataset, tmp_path: Path) -> None:
    exact: dict[str, dict[str, Any]] = {
        "webp": {"lossless": True}, "avif": {"quality": 100}, "ico": {"sizes": [(28, 28)]},
    }  # fmt: skip
    off = {}
    for suffix in FORMATS:
        path = tmp_path / f"own.{suffix}"
        Image.fromarray(digits.images[0, ..., 0]).save(path, **exact.get(suffix, {}))
        off[suffix] = np.abs(read(path).astype(int) - digits.images[0]).max()
        assert is_picture(path.rename(tmp_path / "no suffix")), suffix
    assert off.pop("avif", 0) <= 3 and set(off.values()) == {0}, off


def form(picture: Image.Image, name: str) -> Image.Image:
    pixels = np.asarray(picture)
    if name == "palette":
        return picture.convert("RGB").convert("P", palette=Image.Palette.ADAPTIVE)
    if name == "16 bit":
        return Image.fromarray(pixels.astype(np.uint16) * 257)
    if name == "float":
        return Image.fromarray(pixels.astype(np.float32) / 255)
    if name == "ink on nothing":
        return Image.merge("RGBA", [Image.new("L", picture.size, 0)] * 3 + [picture])
    if name == "white ink on nothing":
        return Image.merge("LA", [Image.new("L", picture.size, 255), picture])
    return picture.convert(name)


def test_every_form_of_a_pixel_is_read(digits: Dataset, tmp_path: Path) -> None:
    in_png = ("RGB", "RGBA", "LA", "palette", "16 bit", "ink on nothing", "white ink on nothing")
    off = {}
    for name, suffix in [
        *((name, "png") for name in in_png),
        *((name, "tiff") for name in ("16 bit", "float", "CMYK")),
    ]:
        path = tmp_path / f"own.{suffix}"
        form(Image.fromarray(digits.images[0, ..., 0]), name).save(path)
        off[name, suffix] = np.abs(read(path).astype(int) - digits.images[0]).max()
    assert max(off.values()) <= 1, off


def test_other_models_get_their_own_shape_and_colours(tmp_path: Path) -> None:
    Image.new("RGB", (64, 48), (200, 30, 90)).save(tmp_path / "red.png")
    image = read(tmp_path / "red.png", (32, 16, 3), digits=False)
    assert image.shape == (32, 16, 3) and (image == [200, 30, 90]).all()
    assert read(tmp_path / "red.png", (8, 8, 1), digits=False).shape == (8, 8, 1)


def test_what_is_no_picture_is_named_and_the_others_are_read(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = tmp_path / "good.png"
    Image.fromarray(digits.images[0, ..., 0]).save(good)
    contents = {
        "none.png": None,
        "empty.png": b"",
        "photo.heic": b"\0\0\0\x18ftypheic\0\0\0\0",
        "page.pdf": b"%PDF-1.7",
        "drawing.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
        "cut.png": good.read_bytes()[:200],
    }
    said = ["no such file", "an empty file", "HEIC, which Pillow cannot read", "a PDF", "PostScript", "truncated"]
    for (name, content), expected in zip(contents.items(), said, strict=True):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        assert expected in refusal(tmp_path / name)
    images, refused = read_pictures([tmp_path / "empty.png", good], MNIST, True)
    assert len(images) == 1 and list(refused) == [tmp_path / "empty.png"]
    frames = [Image.new("L", (28, 28), grey) for grey in (0, 255)]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    assert "2 pages or frames" in refusal(tmp_path / "film.gif")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert "more than 89,000,000 pixels" in refusal(good)


def test_dim_pictures_of_many_bits_are_scaled_by_the_bits_in_use(tmp_path: Path) -> None:
    values = np.zeros((28, 28), np.uint16)
    values[4:24, 12:16] = 4095  # 12 bits in 16
    Image.fromarray(values).save(tmp_path / "scan.png")
    assert read_picture(tmp_path / "scan.png", 1).max() == 255
