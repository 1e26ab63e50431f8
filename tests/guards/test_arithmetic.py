"""Numbers that the program says, against the same numbers computed from its files in another way."""

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from tests.conftest import TINY, WHOLE
from tests.guards.conftest import Program, write_npz

# Of what only the images are looked at: the optimizer that is built fastest.
AGAIN = ("model=small", "epochs=1", "batch_size=16", "augmentation=none", "optimizer=sgd")


def sides(number: int, wrong: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Bright on the left or on the right, with noise; of so many the label is the other one."""
    random = np.random.default_rng(0)
    labels = np.arange(number) % 2
    images = random.integers(0, 60, (number, 28, 28, 1), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[:, 14 * label : 14 * label + 14] += 180
    labels[:wrong] = 1 - labels[:wrong]
    return images, labels


def error(values: np.ndarray) -> float:
    """Standard error of a mean; of shares that are all 0 or all 1, as if two more of each kind had been seen."""
    if values.dtype == bool and len(set(values.tolist())) == 1:
        values = np.array([*values.tolist(), True, True, False, False])
    return float(values.std(ddof=1) / len(values) ** 0.5)


@pytest.mark.parametrize("wrong", [0, 2])
def test_the_error_over_folds_is_that_of_all_their_images(program: Program, wrong: int) -> None:
    data = write_npz(program.folder / "sides.npz", *sides(90, wrong))
    options = ("split=kfold", "split.folds=3", "epochs=6", "optimizer.learning_rate=0.02")
    text = program.train(*TINY, *data, *options, "hydra.run.dir=run")
    right, losses, clean = [], [], 0
    for file in sorted((program.folder / "run").glob("fold_*/validation.npz")):
        saved = np.load(file)
        logs, labels = saved["log_probabilities"].astype(float), saved["labels"]
        right.append(logs.argmax(axis=1) == labels)
        losses.append(-logs[np.arange(len(labels)), labels])
        clean += bool(right[-1].all())
    said = program.metrics("run")
    assert len(right) == 3 and clean >= 1  # a fold without a mistake
    assert (~np.concatenate(right)).sum() == wrong
    assert said["val_accuracy_se"] == pytest.approx(error(np.concatenate(right)), rel=1e-9)
    assert said["val_loss_se"] == pytest.approx(error(np.concatenate(losses)), rel=1e-3)  # the file has float16
    assert f"± {error(np.concatenate(right)):.4f} over 90 images" in text
    if not wrong:  # each fold has its own, of its own 30 images
        assert all(fold["val_accuracy_se"] == pytest.approx(error(np.ones(30, bool))) for fold in said["folds"])


@pytest.mark.parametrize("precision", ["float16", "float32"])
def test_averaged_weights_are_validated_in_each_precision(program: Program, digits: Any, precision: str) -> None:
    data = write_npz(program.folder / "digits.npz", digits.images, digits.labels)
    options = ("optimizer.use_ema=true", "optimizer.ema_momentum=0.9999", "optimizer.learning_rate=0.01", "epochs=8")
    program.train(*TINY, *WHOLE, *data, *options, f"precision={precision}", "hydra.run.dir=run")
    *_, last = csv.DictReader((program.folder / "run" / "history.csv").read_text().splitlines())
    # The average of some 50 steps is nearly the first weights, which know nothing of ten classes.
    assert float(last["loss"]) < 1.8 and abs(float(last["val_loss"]) - np.log(10)) < 0.4


def pictures(folder: Path, named: dict[str, tuple[float, type]], suffix: str) -> None:
    """Write pictures of one grey, each with another row of half of it, in a folder for each class; 8 of the first."""
    for number, (name, (value, kind)) in zip((8, 16), named.items(), strict=False):
        (folder / name).mkdir(parents=True)
        for place in range(number):
            pixels = np.full((16, 16), value)
            pixels[place] = value / 2
            Image.fromarray(pixels.astype(kind)).save(folder / name / f"{place}.{suffix}")


@pytest.mark.parametrize(
    ("named", "suffix", "white"),
    [
        ({"dim": (3000, np.uint16), "lit": (60000, np.uint16)}, "png", 65535),
        ({"dim": (3000, np.uint16), "lit": (60000, np.uint16)}, "tif", 65535),
        ({"dim": (0.05, np.float32), "lit": (0.8, np.float32)}, "tif", 1),
        ({"dim": (100, np.float32), "lit": (4000, np.float32)}, "tif", 4095),
        ({"dim": (500, np.int32), "lit": (30000, np.int32)}, "tif", 65535),  # of 14 bits it is too bright
    ],
)
def test_deep_pictures_have_one_scale_which_is_said(
    program: Program, named: dict[str, tuple[float, type]], suffix: str, white: float
) -> None:
    pictures(program.folder / "set", named, suffix)
    learns = ("optimizer=adamw", "epochs=12")
    text = program.train(*TINY, *AGAIN, *learns, "data=file", "data.path=set", "hydra.run.dir=run")
    low, high = named["dim"][0] / 2, named["lit"][0]
    looked = program.metrics("run")["pixels"]
    assert (looked["least"], looked["most"]) == (round(low / white * 255), round(high / white * 255))
    assert re.search(rf"note +24 of 24 pictures have more than 8 bits: {white:,} became 255", text)
    # A later set of dim pictures alone, and one picture alone, are scaled as the training's were.
    pictures(program.folder / "later", {"": named["dim"]}, suffix)
    said = json.loads(program.verb("predict", "run", "--data", "later", "--json"))["data"]
    assert said["trained_on"] + said["validated_on"] == said["images"] == 8 and not said["notes"][1:]
    one = f"later/3.{suffix}"
    (row,) = json.loads(program.verb("predict", "run", one, "--json"))["pictures"]
    assert row["label"] == "dim"


def test_depths_can_be_mixed_and_white_can_be_said(program: Program) -> None:
    pictures(program.folder / "mixed", {"eight": (100, np.uint8), "sixteen": (200 * 257, np.uint16)}, "png")
    text = program.train(*TINY, *AGAIN, "data=file", "data.path=mixed", "hydra.run.dir=mixed_run")
    looked = program.metrics("mixed_run")["pixels"]
    assert (looked["least"], looked["most"]) == (50, 200) and "16 of 24 pictures have more than 8 bits" in text
    # 12 bits in files of 16: so that a set is read as the next one, it is dark until the user says so.
    pictures(program.folder / "twelve", {"dim": (500, np.uint16), "lit": (4000, np.uint16)}, "png")
    text = program.train(*TINY, *AGAIN, "data=file", "data.path=twelve", "hydra.run.dir=dark")
    assert program.metrics("dark")["pixels"]["most"] == round(4000 / 65535 * 255) and "data.white=4095" in text
    program.train(*TINY, *AGAIN, "data=file", "data.path=twelve", "data.white=4095", "hydra.run.dir=bright")
    looked = program.metrics("bright")["pixels"]
    assert (looked["least"], looked["most"]) == (round(250 / 4095 * 255), round(4000 / 4095 * 255))


def test_dark_pictures_are_scaled_once(program: Program) -> None:
    pixels = np.zeros((24, 16, 16), np.uint16)
    pixels[:, 4:8] = 4000
    for number, one in enumerate(pixels):
        (program.folder / "set" / str(number % 2)).mkdir(parents=True, exist_ok=True)
        one[number % 16, number % 5] = 1000
        Image.fromarray(one).save(program.folder / "set" / str(number % 2) / f"{number}.tif")
    program.train(*TINY, *AGAIN, "data=file", "data.path=set", "hydra.run.dir=run")
    looked = program.metrics("run")["pixels"]
    assert (looked["least"], looked["most"]) == (0, round(4000 / 65535 * 255)) == (0, 16)


def test_arrays_of_16_bits_have_one_scale(program: Program) -> None:
    images, labels = sides(48)
    deep = images.astype(np.uint16) * 257
    np.savez(program.folder / "deep.npz", x_train=deep, y_train=labels, x_test=deep // 200, y_test=labels)
    for part, least, most in (("train", 0, images.max()), ("all", 0, images.max())):
        text = program.train(
            *TINY, *AGAIN, "data=file", "data.path=deep.npz", f"data.part={part}", f"hydra.run.dir={part}"
        )
        looked = program.metrics(part)["pixels"]
        assert (looked["least"], looked["most"]) == (least, most) and "65,535 became 255" in text
    worst = np.load(program.folder / "all" / "validation.npz")
    dark = {int(i) for i in worst["images"] if i >= 48}  # of the test part, read with the scale of the training part
    shown = {int(worst["images"][w]): p.max() for w, p in zip(worst["worst"], worst["pictures"], strict=True)}
    assert all(shown[place] <= 255 // 200 + 1 for place in dark & shown.keys())
    np.savez(program.folder / "small.npz", images=images.astype(np.uint16), labels=labels)  # 8 bits in a wide type
    program.train(*TINY, *AGAIN, "data=npz", "data.path=small.npz", "hydra.run.dir=small")
    assert program.metrics("small")["pixels"]["most"] == images.max()


@pytest.mark.parametrize("value", [np.nan, np.inf, -5.0])
def test_a_picture_of_no_light_is_refused(program: Program, value: float) -> None:
    pictures(program.folder / "set", {"dim": (0.1, np.float32), "lit": (0.9, np.float32)}, "tif")
    pixels = np.full((16, 16), 0.5, np.float32)
    pixels[3, 3] = value
    Image.fromarray(pixels).save(program.folder / "set" / "dim" / "bad.tif")
    done = program.tries_to_train(*TINY, "data=file", "data.path=set")
    assert done.status == 1 and "bad.tif" in done.text and f"a pixel of {value:g}" in done.text
    assert "Traceback" not in done.text


NAMES = ["cat", "dog", "owl"]


def parquet(file: Path, labels: list[Any], names: list[str] | None = NAMES) -> None:
    """Write pictures as Hugging Face does."""
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet as pq

    random, values = np.random.default_rng(0), []
    for _ in labels:
        stream = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (16, 16), np.uint8)).save(stream, "PNG")
        values.append({"bytes": stream.getvalue(), "path": None})
    table = arrow.table({"image": values, "label": labels})
    if names is not None:
        features = {"features": {"label": {"names": names, "_type": "ClassLabel"}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": features})})
    pq.write_table(table, file)


def test_hidden_labels_are_no_class(program: Program) -> None:
    parquet(program.folder / "train.parquet", [0, 1, 2, -1] * 12)
    text = program.train(*TINY, *AGAIN, "data=file", "data.path=train.parquet", "hydra.run.dir=run")
    looked = program.metrics("run")
    assert looked["classes"] == NAMES and looked["pixels"]["images_per_class"] == [12, 12, 12]
    assert "12 of 48 images have a hidden label (-1), and were left out" in text
    parquet(program.folder / "test.parquet", [-1] * 9)
    text = program.verb("predict", "run", "--data", "test.parquet", "--out", "submission.csv")
    assert "accuracy" not in text
    rows = list(csv.reader((program.folder / "submission.csv").read_text().splitlines()))
    assert len(rows) == 1 + 9 and {row[1] for row in rows[1:]} <= set(NAMES)
    done = program.tries_to_train(*TINY, "data=file", "data.path=test.parquet")
    assert done.status == 1 and "9 images without labels" in done.text
    parquet(program.folder / "nameless.parquet", [0, 1, -1] * 12, names=None)
    program.train(*TINY, *AGAIN, "data=file", "data.path=nameless.parquet", "hydra.run.dir=nameless")
    assert program.metrics("nameless")["classes"] == ["0", "1"]
    parquet(program.folder / "signs.parquet", [1, -1] * 12, names=None)  # two classes that are called so
    program.train(*TINY, *AGAIN, "data=file", "data.path=signs.parquet", "hydra.run.dir=signs")
    assert program.metrics("signs")["classes"] == ["-1", "1"]


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([0, 1, None, 2] * 6, "no label at image 2 (null)"),
        ([0, 1, 7, 2] * 6, "label 7 at image 2; the file names 3 classes: numbers from 0 to 2 are expected"),
        ([0, 1, -2, 2] * 6, "label -2 at image 2"),
        ([[0], [1], [1, 2], [2]] * 6, "[1, 2] at image 2; one label is expected"),
        ([[0, 1], [1, 2]] * 12, "labels [1, 2] at image 1; one label is expected"),
        ([{"a": 1}] * 24, "at image 0; one label is expected"),
        (["cat", "dog", "emu"] * 8, "label cat at image 0; the file names 3 classes"),
    ],
)
def test_labels_that_are_none_are_refused_in_one_line(program: Program, labels: list[Any], said: str) -> None:
    parquet(program.folder / "bad.parquet", labels)
    done = program.tries_to_train(*TINY, "data=file", "data.path=bad.parquet")
    assert done.status == 1 and said in done.text and "Traceback" not in done.text
    assert len(done.text.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ([0, 0, 0], int),
        ([1, 1, 0], int),
        ([0, np.nan, 1], float),
        ([0, -1, 2], int),
        ([0, 0, 3], int),
        ([0.5, 0.5, 0], float),
    ],
)
def test_a_row_that_is_not_one_hot_is_refused(program: Program, row: list[float], kind: type) -> None:
    images, _ = sides(24)
    labels: np.ndarray = np.eye(3, dtype=kind)[np.arange(24) % 3]
    labels[5] = row
    done = program.tries_to_train(*TINY, *write_npz(program.folder / "hot.npz", images, labels))
    assert done.status == 1 and "at image 5; one label is expected" in done.text
    assert "Traceback" not in done.text and len(done.text.strip().splitlines()) == 1


OBJECTIVES = """
from sweeper_digits import register

def add(name, value):
    @register("objective", name=name, direction="minimize")
    def objective(probabilities, labels):
        return float(value)

for place, name in enumerate(("number", "folder", "batch_size", "trial_seconds"), 1):
    add(name, place / 8)
"""


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, digits: Any) -> Program:
    """Two trials of objectives that are called as columns are."""
    program = Program(tmp_path_factory.mktemp("swept"))
    (program.folder / "named.py").write_text(OBJECTIVES)
    data = write_npz(program.folder / "digits.npz", digits.images, digits.labels)
    objective = "objective=[val_loss,seconds,number,folder,batch_size,trial_seconds]"
    options = (*TINY, *data, "epochs=1", "study=named", objective, "batch_size=32,50")
    program.sweep(*options, SWEEPER_DIGITS_PLUGINS="named")
    return program


def test_no_table_has_two_columns_of_one_name(swept: Program) -> None:
    folder = swept.folder / "multirun" / "named"
    said = {number: json.loads((folder / str(number) / "metrics.json").read_text()) for number in (0, 1)}
    header, *rows = csv.reader((folder / "trials.csv").read_text().splitlines())
    assert len(set(header)) == len(header)
    for row in rows:
        cells = dict(zip(header, row, strict=True))
        run = said[int(cells["number"])]
        assert float(cells["seconds"]) == pytest.approx(run["seconds"])  # the objective, not the time of the trial
        assert float(cells["objective_number"]) == 1 / 8 and float(cells["batch_size"]) == 3 / 8
        assert cells["params_batch_size"] in ("32", "50") and float(cells["trial_seconds"]) == 4 / 8
        assert float(cells["trial_trial_seconds"]) > 0
    table = swept.apart("-m", "sweeper_digits", "compare", "multirun/named", "--csv", SWEEPER_DIGITS_PLUGINS="named")
    header, *rows = csv.reader(table.text[table.text.index("rank,") :].splitlines())
    assert len(set(header)) == len(header)
    cells = dict(zip(header, rows[0], strict=True))
    assert Path(cells["folder"]).name in ("0", "1") and float(cells["objective_folder"]) == 2 / 8
    assert {dict(zip(header, row, strict=True))["params_batch_size"] for row in rows} == {"32", "50"}
    for path in folder.glob("*/history.csv"):
        names = path.read_text().splitlines()[0].split(",")
        assert len(set(names)) == len(names)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory, digits: Any) -> Program:
    """Two optimizers on two seeds each, of precision=auto."""
    program = Program(tmp_path_factory.mktemp("compared"))
    data = write_npz(program.folder / "digits.npz", digits.images, digits.labels)
    for optimizer in ("adam", "sgd"):
        for seed in (1, 2):
            options = (f"optimizer={optimizer}", f"seed={seed}", f"hydra.run.dir=runs/{optimizer}{seed}")
            program.train(*TINY, *data, *options, "precision=auto")
    return program


def ends(text: str) -> tuple[float, float]:
    """The ends of the interval of a line."""
    found = re.search(r"95 %: (-?[\d.]+) to (-?[\d.]+)", text)
    assert found, text
    return float(found[1]), float(found[2])


def test_an_error_is_behind_plus_minus_and_an_interval_is_called_so(compared: Program) -> None:
    losses = {name: compared.metrics(f"runs/{name}")["val_loss"] for name in ("adam1", "adam2", "sgd1", "sgd2")}
    pairs = {optimizer: np.array([losses[f"{optimizer}{seed}"] for seed in (1, 2)]) for optimizer in ("adam", "sgd")}
    first, second = sorted(pairs.values(), key=np.mean)
    factor = stats.t.ppf(0.975, 1) / 2**0.5
    text = compared.verb("compare", "runs", "--no-report")
    (best,) = [line for line in text.splitlines() if line.startswith("best ")]
    (differs,) = [line for line in text.splitlines() if "differs by" in line]
    assert "±" not in best + differs
    for line, values in ((best, first), (differs, second - first)):
        half = factor * values.std(ddof=1)
        expected = (values.mean() - half, values.mean() + half)
        assert ends(line) == pytest.approx(expected, abs=0.06 * half)  # two digits of the half
    # Of single runs, the difference is over the images.
    one = compared.verb("compare", "runs/adam1", "runs/sgd1", "--no-report")
    values = []
    for name in ("adam1", "sgd1"):
        saved = np.load(compared.folder / "runs" / name / "validation.npz")
        order = np.argsort(saved["images"])
        chosen = -saved["log_probabilities"].astype(float)[np.arange(len(order)), saved["labels"]]
        values.append(chosen[order])
    gap = values[1] - values[0] if losses["adam1"] < losses["sgd1"] else values[0] - values[1]
    half = 1.96 * error(gap)
    for line in [line for line in one.splitlines() if "differs by" in line]:
        assert ends(line) == pytest.approx((gap.mean() - half, gap.mean() + half), abs=0.06 * half)
    assert all("95 %" not in line for line in one.splitlines() if "±" in line)
    saved = compared.metrics("runs/adam1")["val_loss_se"]
    assert f" ± {saved:.2g}" in one and "± is one standard error over a run's validation images" in one
    compared.verb("compare", "runs")
    page = re.sub(r"<script.*?</script>", "", (compared.folder / "runs" / "report.html").read_text(), flags=re.S)
    assert ends(page[page.index("Configurations, over their seeds") :]) == ends(best)
    assert not re.search(r"95 %[^<]*±|±[^<]*95 %", page)


def test_runs_of_another_precision_or_backend_are_no_seeds_of_one_configuration(compared: Program) -> None:
    def configurations() -> int:
        return int(json.loads(compared.verb("compare", "runs", "--verdict", "--json"))["configurations"])

    def change(run: str, **values: Any) -> Callable[[], int]:
        file = compared.folder / "runs" / run / "metrics.json"
        before = file.read_text()
        file.write_text(json.dumps(json.loads(before) | values))

        def back() -> int:
            return file.write_text(before)

        return back

    used = compared.metrics("runs/adam1")
    assert configurations() == 2
    other = "bfloat16" if used["precision"] == "float32" else "float32"
    back = change("adam2", precision=other)
    assert configurations() == 3 and "precision" in compared.verb("compare", "runs", "--csv").splitlines()[0]
    back()
    versions = used["versions"]
    back = change("adam2", versions={k: v for k, v in versions.items() if k != "tensorflow"} | {"jax": "0.9"})
    assert configurations() == 3
    back()
    # The same precision, named or come to: one configuration.
    data = ("data=npz", "data.path=digits.npz", "optimizer=adam", "seed=3")
    compared.train(*TINY, *data, f"precision={used['precision']}", "hydra.run.dir=runs/adam3")
    assert configurations() == 2


def test_one_process_reads_a_file_again_that_was_written_again(program: Program) -> None:
    images, labels = sides(24)

    def write(most: int) -> None:
        rows = np.column_stack([labels, np.minimum(images.reshape(24, -1), most)])
        names = ",".join(["label", *(f"pixel{place}" for place in range(784))])
        (program.folder / "mine" / "inner").mkdir(parents=True, exist_ok=True)
        np.savetxt(program.folder / "mine" / "inner" / "train.csv", rows, "%03d", ",", header=names, comments="")

    for most in (220, 190, 200):  # all of one size
        write(most)
        program.train(*TINY, *AGAIN, "data=file", "data.path=mine", f"hydra.run.dir=run{most}")
        assert program.metrics(f"run{most}")["pixels"]["most"] == most


def test_a_run_says_from_which_epoch_its_patience_counts(program: Program) -> None:
    data = write_npz(program.folder / "sides.npz", *sides(24))
    steep = ("optimizer=sgd", "optimizer.learning_rate=1", "schedule=constant", "augmentation=light", "epochs=12")

    def ended(name: str, first: int, patience: int, *options: str) -> str:
        """Train; the run must end as its losses say when the patience counts from that epoch, from 1 on."""
        text = program.train(*TINY, *data, *steep, f"patience={patience}", *options, f"hydra.run.dir={name}")
        rows = list(csv.DictReader((program.folder / name / "history.csv").read_text().splitlines()))
        losses = [float(row["val_loss"]) for row in rows]
        without = [epoch - max(int(np.argmin(losses[:epoch])) + 1, first - 1) for epoch in range(1, len(losses) + 1)]
        assert max(without[:-1]) < patience and (len(losses) == 12 or without[-1] == patience)
        return text

    text = ended("clean", 7, 2, "clean_fraction=0.5")
    assert re.search(r"patience +2 epochs: counts from epoch 7, the first of 6 clean epochs\n", text)
    text = ended("vain", 12, 5, "clean_fraction=0.1")
    assert "counts from epoch 12, the first of 1 clean epoch; too many to end this run early" in text
    assert "patience  " not in ended("plain", 1, 2)
