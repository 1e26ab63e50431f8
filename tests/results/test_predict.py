"""Predictions of a real sweep: scores, ensembles, submissions, pictures, exports."""

import csv
import io
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image, ImageDraw

from sweeper_digits.data.digits import Digits
from sweeper_digits.errors import UserError
from sweeper_digits.results import predict
from sweeper_digits.runs import predictions, recipe
from sweeper_digits.runs import record as records
from sweeper_digits.runs.folder import Run
from sweeper_digits.runs.predictions import Predictions

Tool = Callable[..., str]
SWEEP = "multirun/first"


@pytest.fixture
def kaggle(digits: Digits, tmp_path: Path) -> Path:
    """Kaggle's zip with the 300 digits to label."""
    header = ",".join(f"pixel{i}" for i in range(784))
    rows = [",".join(map(str, image.ravel())) for image in digits.images]
    path = tmp_path / "digits.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("test.csv", "\n".join([header, *rows]))
        archive.writestr("sample_submission.csv", "ImageId,Label\n" + "".join(f"{i + 1},0\n" for i in range(len(rows))))
    return path


def test_log_probabilities_keep_their_precision() -> None:
    rng = np.random.default_rng(0)
    logits = 8 * rng.standard_normal((500, 10))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = rng.integers(0, 10, 500)
    saved = Predictions(
        **Predictions.of(np.arange(500), labels, probabilities, np.zeros((500, 28, 28, 1), np.uint8)).arrays()
    )
    assert saved.losses.mean() == pytest.approx(predictions.log_loss(probabilities, labels), rel=1e-3)
    assert np.array_equal(saved.log_probabilities.argmax(axis=1), probabilities.argmax(axis=1))
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    assert set(saved.worst) <= set(wrong) and len(saved.worst) == 24
    assert saved.losses[saved.worst[0]] == saved.losses[wrong].max()


def test_greedy_selection_finds_the_models_that_complement_each_other() -> None:
    labels = np.zeros(100, int)

    def model(good: slice) -> np.ndarray:
        table = np.full((100, 10), 0.1)
        table[good] = [0.91, *[0.01] * 9]
        return table

    halves = np.stack([model(slice(0, 50)), model(slice(0, 40)), model(slice(50, 100))])
    weights = predictions.greedy_weights(halves, labels)
    assert weights[1] == 0 and weights[0] == pytest.approx(0.5, abs=0.02) and weights.sum() == pytest.approx(1)

    def loss(weights: np.ndarray) -> float:
        return predictions.log_loss(np.tensordot(weights, halves, 1), labels)

    assert loss(weights) < min(loss(np.eye(3)[i]) for i in range(3))
    assert predictions.weights_by_loss([0.1, 0.3]).tolist() == pytest.approx([0.75, 0.25])


def test_saved_validation_predictions_are_those_of_the_model(tool: Tool, digits: Digits) -> None:
    for record in records.find([SWEEP]):
        if record.run.models():
            saved = record.run.read_validation()
            model = keras.saving.load_model(record.run.model)
            found = model.predict(digits.images[saved.images], verbose=0)
            assert np.allclose(saved.probabilities, found, atol=2e-3)
            assert np.array_equal(saved.labels, digits.labels[saved.images])
            assert saved.losses.mean() == pytest.approx(record.value("val_loss"), rel=2e-3)


def test_scores_of_the_locked_part_and_the_note_of_it(tool: Tool, digits: Digits) -> None:
    out = tool("predict", SWEEP, "--top", "2")
    assert "60 images (test)" in out and "0 of them occur in the training data" in out
    first, second = records.best_first(records.find([SWEEP]), "val_loss")[:2]
    config = predict.config_of(first, recipe.composer(predict_conf()))
    test, _ = predict.images_of([config], "test")
    both = [keras.saving.load_model(r.run.model).predict(test.images, verbose=0) for r in (first, second)]
    accuracy = predictions.accuracy(np.mean(both, axis=0), test.labels)
    assert f"accuracy   {accuracy:.5f}" in out
    (look,) = first.run.read_tests()
    assert float(look["accuracy"]) == pytest.approx(accuracy, abs=1e-6) and look["models"] == "2"
    validation = tool("predict", SWEEP, "--part", "validation")
    assert f"log loss   {first.value('val_loss'):.3f}"[:-1] in validation and len(first.run.read_tests()) == 1
    trained = 300 - 60 - len(first.run.read_validation().labels)
    assert f"{trained} of them occur in the training data" in tool("predict", SWEEP, "--part", "all")


def predict_conf() -> Path:
    from sweeper_digits.command_line import CONF

    return CONF


def test_submission_and_probabilities(tool: Tool, kaggle: Path) -> None:
    out = tool(
        "predict", SWEEP, "--top", "3", "--weights", "greedy", "--data", str(kaggle), "--out", "probabilities.npz"
    )
    weights = [float(weight) for weight in re.findall(r"weight ([\d.]+)", out)]
    assert len(weights) == 3 and sum(weights) == pytest.approx(1, abs=2e-3)
    tool("predict", SWEEP, "--top", "3", "--weights", "greedy", "--data", "kaggle", f"path={kaggle}", "part=test")
    rows = list(csv.reader(io.StringIO(Path("submission.csv").read_text())))
    probabilities = np.load("probabilities.npz")["probabilities"]
    assert rows[0] == ["ImageId", "Label"] and [int(row[0]) for row in rows[1:]] == list(range(1, 301))
    assert [int(row[1]) for row in rows[1:]] == probabilities.argmax(axis=1).tolist()
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-4)
    assert "(all)" in out and not Path(SWEEP, "0", "tests.csv").exists()


def test_a_bare_csv_is_checked_against_the_sample_beside_it(tool: Tool, kaggle: Path) -> None:
    with zipfile.ZipFile(kaggle) as archive:
        archive.extractall("files")
    tool("predict", SWEEP, "--data", "files/test.csv")
    assert len(Path("submission.csv").read_text().splitlines()) == 301
    Path("files/sample_submission.csv").write_text("ImageId,Label\none,0\n")
    with pytest.raises(SystemExit, match="an ImageId that is no whole number"):
        tool("predict", SWEEP, "--data", "files/test.csv")
    Path("files/sample_submission.csv").unlink()
    tool("predict", SWEEP, "--data", "files/test.csv")


def test_runs_that_locked_other_images_away_are_not_scored_together(tool: Tool, train: Callable[..., Run]) -> None:
    train("split.test_size=0.2", "split.seed=5", "epochs=1", folder="other")
    with pytest.raises(SystemExit, match="locked different images away"):
        tool("predict", SWEEP, "other", "--top", "4")
    # What one of them trained on counts as seen, whichever comes first.
    out = tool("predict", SWEEP, "other", "--top", "4", "--part", "validation")
    assert "0 of them occur" not in out


def test_wrong_sample_leaves_the_earlier_submission(tool: Tool, kaggle: Path) -> None:
    Path("submission.csv").write_text("mine")
    with zipfile.ZipFile(kaggle) as archive:
        table = archive.read("test.csv")
    with zipfile.ZipFile(kaggle, "w") as archive:
        archive.writestr("test.csv", table)
        archive.writestr("sample_submission.csv", "ImageId,Label\n1,0\n")
    with pytest.raises(SystemExit, match="has 1 rows, the predictions 300"):
        tool("predict", SWEEP, "--data", str(kaggle))
    assert Path("submission.csv").read_text() == "mine"


def test_test_time_augmentation_averages_changed_copies(tool: Tool) -> None:
    plain = tool("predict", SWEEP, "--part", "validation", "--out", "plain.npz")
    tool("predict", SWEEP, "--part", "validation", "--tta", "2", "--out", "tta.npz")
    tool("predict", SWEEP, "--part", "validation", "--tta", "2", "--out", "again.npz")
    one, two, again = (np.load(f"{name}.npz")["probabilities"] for name in ("plain", "tta", "again"))
    assert "accuracy" in plain and np.array_equal(two, again)
    assert 1e-3 < np.abs(one - two).max() < 0.9 and np.allclose(two.sum(axis=1), 1, atol=1e-4)


def test_folds_count_as_their_mean(train: Callable[..., Run], tool: Tool, digits: Digits) -> None:
    run = train("split=kfold", "split.folds=2", "epochs=1", folder="folds")
    tool("predict", "folds", "--part", "all", "--out", "all.npz")
    both = [keras.saving.load_model(fold.model).predict(digits.images, verbose=0) for fold in run.folds()]
    assert np.allclose(np.load("all.npz")["probabilities"], np.mean(both, axis=0), atol=1e-4)
    saved = run.read_validation()
    assert sorted(saved.images.tolist()) == list(range(300))
    assert all(predictions.accuracy(saved.probabilities[[w]], saved.labels[[w]]) == 0 for w in saved.worst)


def test_pictures_are_brought_into_mnists_form(digits: Digits, tmp_path: Path) -> None:
    # A digit drawn large and black on white, off centre; and MNIST's own image, which stays as it is.
    big = Image.new("L", (300, 200), "white")
    ImageDraw.Draw(big).rectangle((30, 20, 50, 180), fill="black")
    big.save(tmp_path / "one.jpg")
    Image.fromarray(digits.images[0, ..., 0]).save(tmp_path / "own.png")
    Image.fromarray(255 - digits.images[0, ..., 0]).save(tmp_path / "inverted.png")
    bar, own, inverted = predict.read_pictures([tmp_path / name for name in ("one.jpg", "own.png", "inverted.png")])
    assert np.array_equal(own, digits.images[0]) and np.array_equal(inverted, own)
    rows, columns = np.nonzero(bar[..., 0] > 128)
    assert np.ptp(rows) + 1 == 20 and 2 <= np.ptp(columns) + 1 <= 4
    assert abs(rows.mean() - 13.5) < 1 and abs(columns.mean() - 13.5) < 1
    dim = Image.new("L", (200, 300), 100)  # a photograph of dark ink on dim paper, held upright
    ImageDraw.Draw(dim).rectangle((90, 20, 110, 280), fill=20)
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned by 90 degrees
    dim.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "dim.jpg", exif=turned)
    (ink,) = predict.read_pictures([tmp_path / "dim.jpg"])
    rows, columns = np.nonzero(ink[..., 0] > 128)
    assert np.ptp(rows) + 1 == 20 and np.ptp(columns) + 1 <= 3
    Image.new("L", (50, 50), "white").save(tmp_path / "blank.png")
    with pytest.raises(UserError, match="nothing but background"):
        predict.read_pictures([tmp_path / "blank.png"])


def test_pictures_are_labelled(tool: Tool, digits: Digits) -> None:
    Image.fromarray(digits.images[0, ..., 0]).save("0.png")
    out = tool("predict", SWEEP, "0.png")
    assert re.search(r"^0\.png  \d  [\d.]+%$", out, re.MULTILINE)


def spoil(name: str) -> None:
    if name == "model":
        for model in Path(SWEEP).glob("*/model.keras"):
            model.write_bytes(model.read_bytes()[:1000])
    if name == "data":
        shutil.copytree(f"{SWEEP}/0", "other/0")
        config = Path("other/0/.hydra/config.yaml")
        config.write_text(config.read_text().replace("digits.npz", "more.npz"))
        for model in Path(SWEEP).glob("*/model.keras"):
            shutil.copy(model, "other/0/model.keras")
    if name == "weights":
        for model in Path(SWEEP).glob("*/model.keras"):
            model.unlink()
    if name == "picture":
        Path("7.png").write_bytes(b"no picture")


@pytest.mark.parametrize(
    ("spoilt", "arguments", "message"),
    [
        ("", ["nowhere"], "nowhere: no such folder"),
        ("model", [SWEEP], r"model.keras: no readable model"),
        ("data", [SWEEP, "other", "--top", "4"], r"trained on .*more.npz.*, but .* on .*digits.npz"),
        ("weights", [SWEEP], "no finished run with a model.keras"),
        ("picture", [SWEEP, "7.png"], "7.png: no readable picture"),
        ("", ["7.png"], "name a run or a sweep"),
        ("", [SWEEP, "--out", "x.txt"], "the suffix must be .csv"),
        ("", [SWEEP, "--data", "kagle"], "kagle"),
        ("", [SWEEP, "--data", "kaggle", "--part", "all"], "--part is a part of the run's own data"),
        ("", [SWEEP, "7.png", "--out", "x.csv"], "leave out --data, --part and --out"),
        ("", [SWEEP, "--data", "npz", "path=none.npz"], "none.npz: no such file"),
    ],
)
def test_bad_input_is_one_line(tool: Tool, spoilt: str, arguments: list[str], message: str) -> None:
    spoil(spoilt)
    with pytest.raises(SystemExit) as caught:
        tool("predict", *arguments)
    text = str(caught.value)
    assert re.search(message, text) and "\n" not in text and text.startswith("error: "), text


@pytest.mark.parametrize("name", ["saved_model", "onnx", "tflite"])
def test_exports_predict_as_the_model_does(train: Callable[..., Run], name: str) -> None:
    if name == "onnx":
        pytest.importorskip("tf2onnx", reason="needs pip install '.[export]'")
        pytest.importorskip("onnxruntime", reason="needs pip install '.[export]'")
    run = train(f"export=[{name}]", "epochs=1", "precision=bfloat16")
    file = run.exports / {"saved_model": "saved_model", "onnx": "model.onnx", "tflite": "model.tflite"}[name]
    assert file.exists() and len(list(run.exports.iterdir())) == 1
    assert "probabilities within" in (run.folder / "train.log").read_text()


def test_a_wrong_export_does_not_count_as_written(train: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    from sweeper_digits.training import export as exporting

    monkeypatch.setattr(exporting, "_saved_model", lambda model, path: lambda images: np.full((len(images), 10), 0.1))
    with pytest.raises(SystemExit, match="its probabilities differ"):
        train("export=[saved_model]", "epochs=1")
    assert not Path("run/exports/saved_model").exists() and Run("run").read_metrics()["state"] == "finished"


def test_unknown_and_uninstalled_exports_are_said_before_training(
    train: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sweeper_digits import schema

    with pytest.raises(SystemExit, match=r"export=onx: no such format \(did you mean 'onnx'\?\)"):
        train("export=[onx]")
    monkeypatch.setitem(schema.EXPORTS, "onnx", ("no_such_package",))
    with pytest.raises(SystemExit, match=r"package no_such_package is missing; pip install '\.\[export\]'"):
        train("export=[onnx]")
    assert not Path("run/history.csv").exists()
