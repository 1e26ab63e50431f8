"""Predictions of a real sweep: scores, averages, pictures."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from sweeper_digits import __main__
from sweeper_digits.data.dataset import Dataset
from sweeper_digits.data.split import split_test
from sweeper_digits.runs.folder import RunFolder
from sweeper_digits.runs.predictions import accuracy
from sweeper_digits.runs.record import best_first, find_runs, read_run, saved_option
from tests.refusals import not_refused

Tool = Callable[..., str]
SWEEP = "multirun/first"


def test_scores_of_the_locked_part_and_the_note_of_it(tool: Tool, digits: Dataset) -> None:
    out = tool("predict", SWEEP, "--top", "2")
    assert "60 images (test)" in out and "0 of them occur in the training data" in out
    first, second = best_first(find_runs([SWEEP]), "val_loss")[:2]
    _, test = split_test(saved_option(first, "split"), digits.labels, digits.groups)
    both = [keras.saving.load_model(r.run.model).predict(digits.images[test], verbose=0) for r in (first, second)]
    expected = accuracy(np.mean(both, axis=0), digits.labels[test])
    assert f"accuracy   {expected:.5f}" in out
    (look,) = first.run.read_tests()
    assert float(look["accuracy"]) == pytest.approx(expected, abs=1e-6) and look["models"] == "2"
    validation = tool("predict", SWEEP, "--part", "validation")
    assert f"log loss   {first.value('val_loss'):.3f}"[:-1] in validation and len(first.run.read_tests()) == 1


def line_of(out: str, name: str) -> str:
    (line,) = [line for line in out.splitlines() if line.startswith(name)]
    return line


def test_a_score_says_in_its_line_what_was_trained_on(tool: Tool, digits: Dataset) -> None:
    (best, *_) = best_first(find_runs([SWEEP]), "val_loss")
    trained = 300 - 60 - len(best.run.read_validation().labels)
    out = tool("predict", SWEEP, "--part", "all")
    assert f"{trained} of them occur in the training data" in out
    validation = tool("predict", SWEEP, "--part", "validation")
    for name in ("accuracy", "log loss"):
        assert f"not a score of new images: {trained} of them were trained on" in line_of(out, name)
        assert "trained on" not in line_of(validation, name)
    # Weights that were chosen on the images that are scored.
    out = tool("predict", SWEEP, "--top", "2", "--weights", "greedy", "--part", "validation")
    assert "in sample: the weights were chosen on 36 of them" in line_of(out, "accuracy")
    assert "in sample" not in tool("predict", SWEEP, "--top", "2", "--weights", "greedy")
    # Runs that were chosen by their scores on these images, of four, of which three have weights.
    optimistic = "optimistic: chosen from 4 runs by their scores on 36 of them"
    for top, part, said in (("1", "validation", True), ("3", "all", True), ("2", "test", False)):
        out = tool("predict", SWEEP, "--top", top, "--part", part)
        assert all((optimistic in line_of(out, name)) == said for name in ("accuracy", "log loss"))
    assert "optimistic" not in tool("predict", str(best.run.folder), "--part", "validation"), "nothing was chosen"
    # Without the run's own data it is known too; of a run that kept nothing, nobody knows.
    np.savez("some.npz", images=digits.images[:20], labels=digits.labels[:20] + np.arange(20) % 2)
    for config in Path(SWEEP).glob("*/.hydra/config.yaml"):
        config.write_text(config.read_text().replace("digits.npz", "gone.npz"))
    out = tool("predict", SWEEP, "--data", "some.npz")
    for name in ("accuracy", "log loss"):
        assert "10 labels changed since training" in line_of(out, name)
    for kept in Path(SWEEP).glob("*/images.npz"):
        kept.unlink()
    out = tool("predict", SWEEP, "--data", "some.npz")
    for name in ("accuracy", "log loss"):
        assert "not known how many of them were trained on" in line_of(out, name)


def test_each_look_at_a_locked_image_is_noted_whatever_the_option(tool: Tool, npz: Path, digits: Dataset) -> None:
    (best, *_) = best_first(find_runs([SWEEP]), "val_loss")
    _, locked = split_test(saved_option(best, "split"), digits.labels, digits.groups)
    chosen = np.append(locked[:5], np.flatnonzero(~np.isin(np.arange(300), locked))[::9])
    np.savez("some.npz", images=digits.images[chosen], labels=digits.labels[chosen])
    np.savez("inverted.npz", images=255 - digits.images[chosen], labels=digits.labels[chosen])
    np.savez("others.npz", images=np.roll(digits.images[:20], 3, axis=1), labels=np.arange(20) % 10)
    arguments = [["--part", "all"], ["--data", str(npz)], ["--data", "some.npz"], ["--data", "inverted.npz"]]
    for number, (given, images) in enumerate(zip(arguments, (60, 60, 5, 5), strict=True), 1):
        assert f"noted      {images} of the images are locked" in tool("predict", SWEEP, *given)
        looks = best.run.read_tests()
        assert len(looks) == number and looks[-1]["images"] == str(images)
    for given in (["--part", "validation"], ["--data", "others.npz"]):
        tool("predict", SWEEP, *given)
    assert len(best.run.read_tests()) == 4


def test_a_whole_data_set_on_a_light_background_is_inverted_and_said(tool: Tool, npz: Path, digits: Dataset) -> None:
    np.savez("light.npz", images=255 - digits.images, labels=digits.labels)
    plain, light = (tool("predict", SWEEP, "--data", data) for data in (str(npz), "light.npz"))
    assert line_of(light, "accuracy") == line_of(plain, "accuracy") and "note  " not in plain
    assert (
        line_of(light, "note  ") == "note       inverted: the background is light, that of the training data was dark"
    )
    np.savez("turned.npz", images=digits.images.swapaxes(1, 2), labels=digits.labels)
    with pytest.raises(SystemExit, match=r"the digits look transposed, .* add transpose=true after --data"):
        tool("predict", SWEEP, "--data", "turned.npz")
    turned = tool("predict", SWEEP, "--data", "turned.npz", "transpose=true")
    assert line_of(turned, "accuracy") == line_of(plain, "accuracy")


def test_runs_that_locked_other_images_away_are_not_scored_together(
    tool: Tool, train: Callable[..., RunFolder]
) -> None:
    train("split.test_size=0.2", "split.seed=5", "epochs=1", folder="other")
    with pytest.raises(SystemExit, match="locked different images away"):
        tool("predict", SWEEP, "other", "--top", "4")
    # An image that validates one of them is not predicted by those that trained on it.
    out = tool("predict", SWEEP, "other", "--top", "4", "--part", "validation")
    assert "0 of them occur" in out and re.search(r"predicted by the 1 to \d of 4 models that did not train on it", out)


def test_test_time_augmentation_averages_changed_copies(tool: Tool) -> None:
    plain = tool("predict", SWEEP, "--part", "validation", "--out", "plain.npz")
    tool("predict", SWEEP, "--part", "validation", "--tta", "2", "--out", "tta.npz")
    tool("predict", SWEEP, "--part", "validation", "--tta", "2", "--out", "again.npz")
    one, two, again = (np.load(f"{name}.npz")["probabilities"] for name in ("plain", "tta", "again"))
    assert "accuracy" in plain and np.array_equal(two, again)
    assert 1e-3 < np.abs(one - two).max() < 0.9 and np.allclose(two.sum(axis=1), 1, atol=1e-4)


def test_folds_are_scored_on_images_that_they_did_not_train_on_and_count_as_their_mean(
    train: Callable[..., RunFolder], tool: Tool, digits: Dataset
) -> None:
    whole = train("split=kfold", "split.folds=2", "epochs=1", folder="folds")
    for fold in (0, 1):
        train("split=kfold", "split.folds=2", f"split.fold={fold}", "epochs=1", folder=f"apart/{fold}")
    measured = read_run(whole.folder)
    for arguments in (["folds"], ["apart", "--top", "2"]):
        out = tool("predict", *arguments)
        assert f"accuracy   {measured.value('val_accuracy'):.5f} ± " in out
        assert float(line_of(out, "log loss").split()[2]) == pytest.approx(measured.value("val_loss"), abs=1e-4)
        assert "300 images (validation), each predicted by the 1 of 2 models that did not train on it" in out
        assert "0 of them occur in the training data" in out
    out = tool("predict", "folds", "--part", "all", "--out", "all.npz")
    assert "300 of them were trained on" in line_of(out, "accuracy")
    both = [keras.saving.load_model(fold.model).predict(digits.images, verbose=0) for fold in whole.folds()]
    assert np.allclose(np.load("all.npz")["probabilities"], np.mean(both, axis=0), atol=1e-4)
    saved = whole.read_validation()
    assert sorted(saved.images.tolist()) == list(range(300))
    assert all(accuracy(saved.probabilities[[w]], saved.labels[[w]]) == 0 for w in saved.worst)


def test_a_run_is_used_after_its_option_has_left_conf(tool: Tool) -> None:
    for config in Path(SWEEP).glob("*/.hydra/hydra.yaml"):
        config.write_text(config.read_text().replace("augmentation: medium", "augmentation: gone"))
    assert "60 images (test)" in tool("predict", SWEEP, "--tta", "1")


def test_pictures_are_labelled(tool: Tool, digits: Dataset) -> None:
    Path("photos/more").mkdir(parents=True)
    for name in ("photos/10.webp", "photos/9.png", "photos/more/1.bmp"):
        Image.fromarray(digits.images[0, ..., 0]).save(name, lossless=True)
    Path("photos/notes.txt").write_text("not a picture")
    Image.fromarray(digits.images[0, ..., 0]).save("alone", format="PNG")
    line = r"^{}  +\d  +[\d.]+%$"
    for given in (["photos"], ["photos/*.webp", "photos/9.png", "photos/*/*.bmp"], ["alone"]):
        out = tool("predict", SWEEP, *given)
        named = ["alone"] if given == ["alone"] else ["photos/9.png", "photos/10.webp", "photos/more/1.bmp"]
        for name in named:
            assert re.search(line.format(re.escape(name)), out, re.MULTILINE), out
        assert "accuracy" not in out and len({len(found) for found in out.splitlines() if "%" in found}) == 1
    assert "left out   1 of 4 files in photos" in tool("predict", SWEEP, "photos")


def test_a_bad_picture_is_said_in_its_line_and_the_others_are_answered(
    tool: Tool, digits: Dataset, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(digits.images[0, ..., 0]).save("0.png")
    spoil("picture")
    monkeypatch.setattr("sys.argv", ["sweeper_digits", "predict", SWEEP, "0.png", "7.png"])
    with pytest.raises(SystemExit) as caught:
        __main__.main()
    out = capsys.readouterr().out
    assert re.search(r"^0\.png  \d  +[\d.]+%$", out, re.MULTILINE)
    assert re.search(r"^7\.png  -  not a readable picture", out, re.MULTILINE)
    assert str(caught.value) == "error: 1 of 2 pictures have no label; their lines say why"


def test_a_picture_of_a_locked_image_is_noted_as_a_look(tool: Tool, digits: Dataset) -> None:
    (best, *_) = best_first(find_runs([SWEEP]), "val_loss")
    parts = dict(
        zip(("trained", "locked"), split_test(saved_option(best, "split"), digits.labels, digits.groups), strict=True)
    )
    for name, places in parts.items():
        Image.fromarray(255 - digits.images[places[0], ..., 0]).save(f"{name}.png")
    assert "noted" not in tool("predict", SWEEP, "trained.png") and not best.run.read_tests()
    assert "noted      1 of the images are locked" in tool("predict", SWEEP, "trained.png", "locked.png")
    (look,) = best.run.read_tests()
    assert look["images"] == "1"


def spoil(name: str) -> None:
    if name == "model":
        for model in Path(SWEEP).glob("*/model.keras"):
            model.write_bytes(model.read_bytes()[:1000])
    if name == "data":
        shutil.copytree(f"{SWEEP}/0", "other/0")
        config = Path("other/0/.hydra/config.yaml")
        config.write_text(config.read_text().replace("digits.npz", "more.npz"))
        metrics = Path("other/0/metrics.json")
        metrics.write_text(re.sub(r'("fingerprint": ")\w+', r"\1other", metrics.read_text()))
        for model in Path(SWEEP).glob("*/model.keras"):
            shutil.copy(model, "other/0/model.keras")
    if name == "weights":
        for model in Path(SWEEP).glob("*/model.keras"):
            model.unlink()
    if name == "data":
        Path("digits.csv").write_text("label,pixel0\n1,0\n")
    if name == "folder":
        Path("empty").mkdir()
        shutil.copytree(f"{SWEEP}/0", "both/0")
        Path("both/7.png").write_bytes(b"no picture")
    if name == "picture":
        Path("7.png").write_bytes(b"no picture")


def test_what_is_no_model_of_this_program_and_no_file_is_one_line(tool: Tool) -> None:
    models = list(Path(SWEEP).glob("*/model.keras"))
    for model in models:
        keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)]).save(model)
    with pytest.raises(SystemExit, match=r"model\.keras: a model from \(None, 5\) to \(None, 3\); not one of this"):
        tool("predict", SWEEP)
    for path in (*models, Path("7.png")):
        path.unlink(missing_ok=True)
        os.mkfifo(path)  # which would be waited on
    with pytest.raises(SystemExit, match=r"model\.keras: not a file"):
        tool("predict", SWEEP)
    with pytest.raises(SystemExit, match=r"7\.png: not a file"):
        tool("predict", SWEEP, "7.png")


REFUSED = [
    ("", ["nowhere"], "nowhere: no such folder"),
    ("model", [SWEEP], r"model.keras: no readable model"),
    ("data", [SWEEP, "other", "--top", "4"], r"trained on .*more.npz.*, but .* on .*digits.npz"),
    ("weights", [SWEEP], "no finished run with a model.keras"),
    ("picture", [SWEEP, "7.png"], "7.png: not a readable picture"),
    ("picture", ["7.png"], "name a run or a sweep"),
    ("", [SWEEP, "7.webp"], "7.webp: no such folder, no such picture"),
    ("", [SWEEP, "*.webp"], r"\*.webp: no file or folder matches"),
    ("data", [SWEEP, "digits.csv"], "digits.csv: not a readable picture; .*--data digits.csv"),
    ("folder", [SWEEP, "empty"], "empty: neither a run .* nor a picture"),
    ("folder", [SWEEP, "both"], "both: both runs and pictures are in it"),
    ("", [SWEEP, "--out", "x.txt"], "the suffix must be .csv"),
    ("", [SWEEP, "--data", "kagle"], "kagle"),
    ("", [SWEEP, "--data", "kaggle", "--part", "all"], "--part is a part of the run's own data"),
    ("picture", [SWEEP, "7.png", "--out", "x.csv"], "leave out --data, --part and --out"),
    ("", [SWEEP, "--data", "npz", "path=none.npz"], "none.npz: no such file"),
]


def test_bad_input_is_one_line(tool: Tool) -> None:
    shutil.copytree("multirun", "whole")

    def call(spoilt: str, arguments: list[str]) -> None:
        spoil(spoilt)
        try:
            tool("predict", *arguments)
        finally:
            if spoilt in ("model", "weights", "data"):
                shutil.rmtree("multirun")
                shutil.copytree("whole", "multirun")
            for folder in ("other", "both", "empty"):
                shutil.rmtree(folder, ignore_errors=True)

    table = [((spoilt, arguments), f"^error: .*{message}") for spoilt, arguments, message in REFUSED]
    assert not_refused(lambda given: call(*given), table) == []
