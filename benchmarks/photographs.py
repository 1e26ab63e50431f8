"""How many photographs of digits a model reads: each kind of flaw, made from images that the model did not train on.

python benchmarks/photographs.py RUN [--count 20] [--seed 0] [--save FOLDER]
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from sweeper_digits.quiet import quiet_import

with quiet_import():
    from sweeper_digits.predict.predict import average_probabilities
from sweeper_digits.data.dataset import load
from sweeper_digits.data.pictures import read_pictures
from sweeper_digits.predict.ensemble import choose_members, models_of
from sweeper_digits.runs.record import saved_option

HEIGHT, WIDTH = 300, 400
PAPER = 0.92  # of white
Photograph = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def drawn(digit: np.ndarray, random: np.random.Generator, contrast: float = 0.8) -> np.ndarray:
    """Return a digit, uint8 (28, 28), in ink on paper: reflectance 0-1, float (300, 400).

    The digit is 130-220 pixels high, anywhere on the paper, with smooth edges.
    """
    side = int(random.uniform(130, 220) * 28 / 20)
    large = np.asarray(Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC), float) / 255
    large = ndimage.gaussian_filter(large, side / 28 * 0.35)
    ink = np.clip((large - 0.25) / 0.4, 0, 1)
    rows, columns = np.nonzero(ink > 0.1)
    ink = ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    canvas = np.zeros((HEIGHT, WIDTH))
    top = random.integers(10, HEIGHT - ink.shape[0] - 10)
    left = random.integers(10, WIDTH - ink.shape[1] - 10)
    canvas[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
    return PAPER * (1 - contrast * canvas)


def turned_grid(random: np.random.Generator, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of all pixels from the middle, turned by up to some degrees, float (300, 400) each."""
    angle = np.deg2rad(random.uniform(-degrees, degrees))
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] - np.array([HEIGHT / 2, WIDTH / 2])[:, None, None]
    return rows * np.cos(angle) + columns * np.sin(angle), columns * np.cos(angle) - rows * np.sin(angle)


def clean(digit: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Even light, white paper, dark ink."""
    return drawn(digit, random)


def uneven_light(digit: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Light that falls off to a third from one side to the other."""
    rows, _ = turned_grid(random, 180)
    slope = rows / np.ptp(rows) + 0.5
    return drawn(digit, random) * (1 - 0.67 * slope)


def corner_shadow(digit: np.ndarray, random: np.random.Generator, contrast: float = 0.8) -> np.ndarray:
    """A shadow with a soft edge over one corner, at times over the digit too."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] / np.array([HEIGHT, WIDTH])[:, None, None]
    if random.random() < 0.5:
        columns = 1 - columns
    if random.random() < 0.5:
        rows = 1 - rows
    shadow = rows * random.uniform(0.7, 1.4) + columns < random.uniform(0.5, 0.9)
    light = drawn(digit, random, contrast)
    return light * (1 - 0.6 * ndimage.gaussian_filter(shadow.astype(float), random.uniform(2, 12)))


def ruled_paper(digit: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Lines across the whole paper, at times squares, turned by up to 3 degrees."""
    rows, columns = turned_grid(random, 3)
    distance = random.uniform(25, 45)
    lines = (rows + random.uniform(0, distance)) % distance < random.uniform(1.5, 3)
    if random.random() < 0.3:
        lines |= (columns + random.uniform(0, distance)) % distance < random.uniform(1.5, 3)
    paper = 1 - random.uniform(0.25, 0.6) * ndimage.gaussian_filter(lines.astype(float), 0.7)
    return np.minimum(drawn(digit, random), PAPER * paper)


def dark_frame(digit: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A dark table around the sheet, which is turned by up to 4 degrees."""
    rows, columns = turned_grid(random, 4)
    digit_on_sheet = drawn(digit, random)
    margin = random.uniform(0.05, 0.15)
    scale = 1 - 2 * margin
    small = ndimage.zoom(digit_on_sheet, scale, order=1)
    canvas = np.full((HEIGHT, WIDTH), PAPER)
    top, left = (HEIGHT - small.shape[0]) // 2, (WIDTH - small.shape[1]) // 2
    canvas[top : top + small.shape[0], left : left + small.shape[1]] = small
    sheet = (np.abs(rows) < HEIGHT / 2 * scale) & (np.abs(columns) < WIDTH / 2 * scale)
    return np.where(sheet, canvas, random.uniform(0.05, 0.35))


def specks(digit: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Eighty dark specks of up to 7 pixels."""
    paper = np.ones((HEIGHT, WIDTH))
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    for _ in range(80):
        row, column, radius = random.uniform(0, HEIGHT), random.uniform(0, WIDTH), random.uniform(0.8, 3.5)
        paper[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = random.uniform(0.1, 0.6)
    return np.minimum(drawn(digit, random), PAPER * ndimage.gaussian_filter(paper, 0.7))


def grey_ink(digit: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Ink that takes only a sixth to a quarter of the light."""
    return drawn(digit, random, random.uniform(0.16, 0.25)) * random.uniform(0.7, 1)


def small_in_corner(digit: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A digit of 9 to 12 pixels in a corner of 28x28, dark on light or light on dark."""
    rows, columns = np.nonzero(digit > 30)
    cropped = Image.fromarray(digit[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1])
    scale = random.uniform(9, 12) / max(cropped.size)
    size = [max(1, round(side * scale)) for side in cropped.size]
    small = np.asarray(cropped.resize(size, Image.Resampling.BOX), float) / 255
    canvas = np.zeros((28, 28))
    top, left = (int(c * (28 - side - 2)) + 1 for c, side in zip(random.integers(0, 2, 2), small.shape, strict=True))
    canvas[top : top + small.shape[0], left : left + small.shape[1]] = small
    return canvas if random.random() < 0.5 else 1 - canvas


def two_digits(digit: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The digit twice, side by side."""
    half = np.asarray(Image.fromarray(drawn(digit, random)).resize((WIDTH // 2, HEIGHT // 2), Image.Resampling.BOX))
    paper = np.full((HEIGHT // 4, WIDTH), PAPER)
    return np.concatenate([paper, np.concatenate([half, half], axis=1), paper])


def no_digit(digit: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Empty paper with a shadow at a corner."""
    return corner_shadow(digit, random, contrast=0)


KINDS: dict[str, Photograph] = {
    "clean": clean,
    "uneven light": uneven_light,
    "shadow at a corner": corner_shadow,
    "ruled paper": ruled_paper,
    "dark frame": dark_frame,
    "specks": specks,
    "grey ink": grey_ink,
    "small, in a corner of 28x28": small_in_corner,
}
REFUSED: dict[str, Photograph] = {"two digits": two_digits, "no digit": no_digit}


def photograph(make: Photograph, digit: np.ndarray, path: Path, random: np.random.Generator) -> Path:
    """Write a picture with a camera's noise as JPEG, or as PNG if it is 28x28; return its path."""
    light = make(digit, random)
    small = light.shape == digit.shape
    noise = 0 if small else random.normal(0, 0.012, light.shape)
    picture = Image.fromarray((np.clip(light + noise, 0, 1) * 255).round().astype(np.uint8))
    path = path.with_suffix(".png" if small else ".jpg")
    picture.save(path, quality=85)
    return path


def main() -> None:
    """Make the pictures, read them, and print how many are right."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", metavar="RUN", help="a run with data of MNIST's digits, split=holdout")
    parser.add_argument("--count", type=int, default=20, help="pictures of each kind (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="keep the pictures here")
    arguments = parser.parse_args()
    chosen, _ = choose_members([arguments.run], 1)
    members = models_of(chosen, np.ones(1))
    digits = load(saved_option(chosen[0], "data"))
    unseen = chosen[0].run.read_validation().images
    with tempfile.TemporaryDirectory() as temporary:
        for kind, make in (KINDS | REFUSED).items():
            random = np.random.default_rng(arguments.seed)
            places = random.choice(unseen, arguments.count, replace=arguments.count > len(unseen))
            folder = (arguments.save or Path(temporary)) / kind
            folder.mkdir(parents=True, exist_ok=True)
            paths = [
                photograph(make, digits.images[place, ..., 0], folder / f"{number}-{digits.labels[place]}", random)
                for number, place in enumerate(places)
            ]
            started = time.perf_counter()
            images, refused = read_pictures(paths, digits.image_shape, digits=True)
            milliseconds = (time.perf_counter() - started) / len(paths) * 1000
            labels = digits.labels[[place for place, path in zip(places, paths, strict=True) if path not in refused]]
            right = (average_probabilities(members, images, 0).argmax(axis=1) == labels).sum() if len(images) else 0
            print(
                f"{kind:28s} right {right:3d}  refused {len(refused):3d}  of {len(paths)}  {milliseconds:4.0f} ms each"
            )


if __name__ == "__main__":
    main()
