"""A run knows its images by what they are: another path does not matter, and other rows under one name are noticed."""

import contextlib
import csv
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tests.conftest import ROOT, TINY, WHOLE
from tests.guards.conftest import Done, Program, write_npz

RNG = np.random.default_rng(0)
ORDER = RNG.permutation(300)
# Images that are not among the 300 digits, and their labels.
FOREIGN = RNG.integers(0, 256, (40, 28, 28, 1), dtype=np.uint8), np.arange(40) % 10


def line(text: str, name: str) -> str:
    """The one line that begins with a word."""
    (found,) = [one for one in text.splitlines() if one.startswith(name)]
    return found


def refusal(done: Done) -> str:
    """The one line of a command that ends for bad input."""
    assert done.status == 1 and "Traceback" not in done.text, done.text
    return line(done.text, "error: ")


def wrong(labels: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The labels, of which those at some places are another one."""
    changed = labels.copy()
    changed[places] = (changed[places] + 1) % 10
    return changed


@contextlib.contextmanager
def killed_at(number: int) -> Iterator[None]:
    """Interrupt the run when it writes its weights for this time, counted from 1: after its last checkpoint."""
    count, save = iter(range(1, 100)), keras.Model.save

    def interrupt(*arguments: object, **named: object) -> None:
        if next(count) == number:
            raise KeyboardInterrupt
        save(*arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.Model, "save", interrupt)
        yield


def rows_of(file: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    return list(csv.DictReader(file.read_text().splitlines()))


def files_of(folder: Path) -> dict[str, bytes]:
    """The content of each file of a folder, apart from its logs and what Hydra writes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".hydra" not in path.parts and path.suffix != ".log"
    }


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory, digits: Any) -> Path:
    """A folder with a file of 300 digits and a run that locked 90 of them away; not to be changed."""
    folder = tmp_path_factory.mktemp("locked")
    data = write_npz(folder / "small.npz", digits.images, digits.labels)
    Program(folder).train(*data, *TINY, "epochs=6", "split.test_size=0.3", "hydra.run.dir=run")
    return folder


@pytest.fixture
def scored(locked: Path, program: Program) -> Program:
    """The same, in a folder that a test may change."""
    shutil.copytree(locked, program.folder, dirs_exist_ok=True)
    return program


def test_a_score_is_of_the_images_that_were_locked_away_wherever_they_are_now(scored: Program, digits: Any) -> None:
    """A1: by their places, 2 of 90 were wrong in another order; most of these had been trained on."""
    images, labels = digits.images, digits.labels
    before = {part: scored.verb("predict", "run", "--part", part) for part in ("test", "validation")}
    assert "changed" not in before["test"] and "90 images (test), " not in before["test"]
    # What the run has validated, and trained on, is scored as such by whatever file has it.
    metrics, mixed = scored.metrics("run"), RNG.permutation(340)
    states: dict[str, tuple[np.ndarray, np.ndarray, str]] = {
        "in another order": (images[ORDER], labels[ORDER], "the same images in another order"),
        "with more": (np.concatenate([FOREIGN[0], images]), np.append(FOREIGN[1], labels), "40 images more"),
        "more, sorted anew": (
            np.concatenate([images, FOREIGN[0]])[mixed],
            np.append(labels, FOREIGN[1])[mixed],
            "40 images more",
        ),
    }
    for now, named, said in states.values():
        write_npz(scored.folder / "small.npz", now, named)
        for part, earlier in before.items():
            after = scored.verb("predict", "run", "--part", part)
            for name in ("accuracy", "log loss"):
                assert line(after, name) == line(earlier, name)
            assert "0 of them occur in the training data" in after
            assert f"the data changed since run read it: {said}" in line(after, "note ")
        # A2: the file has more images than the run has seen.
        whole = json.loads(scored.verb("predict", "run", "--data", "small.npz", "--json"))["data"]
        assert whole["images"] == len(now) and whole["trained_on"] == metrics["train_images"]
        assert whole["validated_on"] == metrics["validation_images"] and whole["locked_for_testing"] == 90
    every = scored.verb("predict", "run", "--part", "all")
    assert f"{metrics['train_images']} of them were trained on" in line(every, "accuracy")


def test_a_score_that_would_be_of_other_images_is_not_printed(scored: Program, digits: Any) -> None:
    images, labels = digits.images, digits.labels
    right = json.loads(scored.verb("predict", "run", "--json"))["scores"]
    # The labels of 30 of 300 changed: the score says of how many of its own 90.
    write_npz(scored.folder / "small.npz", images, wrong(labels, ORDER[:30]))
    with np.load(scored.folder / "small.npz") as file:
        changed = file["labels"] != labels
    out = scored.verb("predict", "run")
    (number,) = re.findall(r"; (\d+) labels? changed since training", line(out, "accuracy"))
    assert f"; {number} label" not in line(out, "note ") and "30 images with another label" in line(out, "note ")
    scored.verb("predict", "run", "--part", "all", "--out", "all.npz")
    everything = json.loads(scored.verb("predict", "run", "--part", "all", "--json"))
    assert everything["data"]["relabelled"] == changed.sum() == 30 and 0 < int(number) < 30
    # Half of the images are gone, then all of them, then each is inverted: the file is there, the images are not.
    for now in (images[ORDER[:150]], FOREIGN[0], 255 - images):
        write_npz(scored.folder / "small.npz", now, np.arange(len(now)) % 10)
        looks = (scored.folder / "run/tests.csv").read_text()
        for part in ("test", "validation"):
            text = refusal(scored.tries_verb("predict", "run", "--part", part))
            assert re.search(r"small\.npz.*: \d+ of the \d+ images that the runs (locked|validated)", text), text
            assert "put the file back as it was, or score other images with --data FILE" in text
        assert (scored.folder / "run/tests.csv").read_text() == looks
    # The option reads something else from the same file.
    write_npz(scored.folder / "small.npz", images, labels)
    config = scored.folder / "run/.hydra/config.yaml"
    config.write_text(config.read_text().replace("invert: false", "invert: true"))
    refusal(scored.tries_verb("predict", "run"))
    config.write_text(config.read_text().replace("invert: true", "invert: false"))
    # Without its own file at all, a run still knows which images it has seen; without images.npz it does not.
    write_npz(scored.folder / "elsewhere.npz", images[ORDER], labels[ORDER])
    (scored.folder / "small.npz").unlink()
    known = json.loads(scored.verb("predict", "run", "--data", "elsewhere.npz", "--json"))
    assert known["data"]["trained_on"] == scored.metrics("run")["train_images"]
    (scored.folder / "elsewhere.npz").rename(scored.folder / "small.npz")
    (scored.folder / "run/images.npz").unlink()
    unknown = scored.verb("predict", "run")
    assert "not known how many of them were trained on" in line(unknown, "accuracy")
    assert "occur in the training data" not in unknown
    assert right["wrong"] > 0


def test_each_model_of_an_average_is_checked_against_its_own_images(program: Program, digits: Any) -> None:
    """A4: one run trained on the file's training part, the other on all of it."""
    images, labels = digits.images, digits.labels
    parts = {"x_train": images[::2], "y_train": labels[::2], "x_test": images[1::2], "y_test": labels[1::2]}
    np.savez(program.folder / "k.npz", **parts)
    for name, epochs in (("train", 8), ("all", 1)):  # the better one comes first in an average
        own = ("data=npz", "data.path=k.npz", f"data.part={name}", f"hydra.run.dir={name}")
        program.train(*own, *TINY, f"epochs={epochs}")
    assert program.metrics("train")["val_loss"] < program.metrics("all")["val_loss"]
    # In the order of `all`, the test part's images are the last 150.
    with np.load(program.folder / "all/validation.npz") as file:
        trained = 150 - int((file["images"] >= 150).sum())
    for runs in (["all"], ["train", "all", "--top", "2"]):
        out = program.verb("predict", *runs, "--data", "k.npz", "part=test")
        assert f"{trained} of them occur in the training data" in out
        assert f"{trained} of them were trained on" in line(out, "accuracy")
    assert "0 of them occur" in program.verb("predict", "train", "--data", "k.npz", "part=test")
    # Their validation images differ, though both count them from 0; so do those of one file in two orders.
    greedy = ("--top", "2", "--weights", "greedy")
    assert "was validated on other images" in refusal(program.tries_verb("predict", "train", "all", *greedy))


def test_a_killed_run_goes_on_with_its_own_images_alone(program: Program, digits: Any) -> None:
    """A3: with the file in another order, the validation images had been trained on."""
    images, labels = digits.images, digits.labels
    data = write_npz(program.folder / "small.npz", images, labels)
    program.train(*data, *TINY, *WHOLE, "hydra.run.dir=whole")
    with killed_at(1):
        assert program.tries_to_train(*data, *TINY, *WHOLE, "hydra.run.dir=killed").status == 130
    before = files_of(program.folder / "killed")
    for now, named, said in (
        (images[ORDER], labels[ORDER], "the same images in another order"),
        (np.concatenate([images, FOREIGN[0]]), np.append(labels, FOREIGN[1]), "40 images more"),
        (images[:290], labels[:290], "10 images fewer"),
        (images, wrong(labels, ORDER[:3]), "3 images with another label"),
    ):
        write_npz(program.folder / "small.npz", now, named)
        for folder in ("killed", "new"):
            text = refusal(program.tries_to_train("resume=killed", f"hydra.run.dir={folder}"))
            assert f"resume=killed: its data changed since it began: {said}" in text
            assert files_of(program.folder / "killed") == before
            assert not files_of(program.folder / "new") if folder == "new" else True
    # Without images.npz the checkpoint itself knows it.
    kept = program.folder / "killed/images.npz"
    kept.rename(program.folder / "kept.npz")
    assert "checkpoint is of other images" in refusal(program.tries_to_train("resume=killed", "hydra.run.dir=killed"))
    (program.folder / "kept.npz").rename(kept)
    # At another path, written in another way, it is the same content. Of a run that no longer has its list of images,
    # nothing is claimed, also when it has gone on.
    np.savez_compressed(program.folder / "moved.npz", images=images[..., 0], labels=labels.astype(np.int64))
    old = program.folder / "old"
    shutil.copytree(program.folder / "killed", old)
    (old / "images.npz").unlink()
    with np.load(old / "checkpoint.npz") as state:
        np.savez(old / "checkpoint.npz", **{name: state[name] for name in state.files if name != "division"})
    said = program.train("resume=old", "data.path=moved.npz", "hydra.run.dir=old")
    assert "not known whether it began with the same images" in said
    assert "not known how many" in line(program.verb("predict", "old"), "accuracy")
    program.train("resume=killed", "data.path=moved.npz", "hydra.run.dir=killed")
    whole, resumed = (rows_of(program.folder / run / "history.csv") for run in ("whole", "killed"))
    for name in ("epoch", "loss", "accuracy", "val_loss", "val_accuracy"):
        assert [row[name] for row in whole] == [row[name] for row in resumed] and len(whole) == 2


def test_folds_go_on_with_their_own_images_alone(program: Program, digits: Any) -> None:
    images, labels = digits.images, digits.labels
    folds = (*TINY, "split=kfold", "split.folds=2")
    data = write_npz(program.folder / "small.npz", images, labels)
    other = write_npz(program.folder / "other.npz", images[ORDER], labels[ORDER])
    for given, name in ((data, "killed"), (other, "stranger")):
        with killed_at(2):  # the first fold has finished, the second has a checkpoint
            assert program.tries_to_train(*given, *folds, f"hydra.run.dir={name}").status == 130
    write_npz(program.folder / "small.npz", images[ORDER], labels[ORDER])
    assert "in another order" in refusal(program.tries_to_train("resume=killed"))
    write_npz(program.folder / "small.npz", images, labels)
    # A fold's folder from elsewhere, or under another number: the one that has finished, and the one that was begun.
    for source, place in (("stranger/fold_0", "fold_0"), ("stranger/fold_1", "fold_1"), ("killed/fold_1", "fold_0")):
        shutil.rmtree(program.folder / "mixed", ignore_errors=True)
        shutil.copytree(program.folder / "killed", program.folder / "mixed")
        shutil.rmtree(program.folder / "mixed" / place)
        shutil.copytree(program.folder / source, program.folder / "mixed" / place)
        text = refusal(program.tries_to_train("resume=mixed", "hydra.run.dir=resumed"))
        assert f"resume=mixed/{place}: " in text and "of other images, or of another fold" in text
        shutil.rmtree(program.folder / "resumed")
    program.train("resume=killed", "hydra.run.dir=resumed")
    # Each fold's model is judged by the other half.
    out = program.verb("predict", "resumed")
    assert "300 images (validation), each predicted by the 1 of 2 models" in out and "0 of them occur" in out
    shown = float(line(out, "log loss").split()[2])
    assert shown == pytest.approx(program.metrics("resumed")["val_loss"], abs=1e-4)


def test_runs_compare_by_content_and_not_by_path(program: Program, digits: Any) -> None:
    images, labels = digits.images, digits.labels
    one = write_npz(program.folder / "one.npz", images, labels)
    np.savez_compressed(program.folder / "two.npz", images=images, labels=labels)
    program.train(*one, *TINY, "hydra.run.dir=a/0")
    program.train("data=file", "data.path=two.npz", *TINY, "model.filters=5", "hydra.run.dir=b/0")
    program.train("data=npz", "data.path=two.npz", *TINY, "seed=1", "hydra.run.dir=b/1")
    verdict = json.loads(program.verb("compare", "a", "b", "--verdict", "--json"))
    assert verdict["warnings"] == [] and verdict["configurations"] == 2
    (repeated,) = [found for found in (verdict["best"], verdict["second"]) if len(found["values"]) == 2]
    images_validated = program.metrics("a/0")["validation_images"]
    assert repeated["covers"] == f"over 2 seeds, on the same {images_validated} images"
    single = json.loads(program.verb("compare", "a", "b/0", "--verdict", "--json"))
    assert f"over {images_validated} validation images, one run each" in single["lines"][0]
    program.verb("predict", "a", "b/0", "--top", "2", "--weights", "greedy")  # which needs the same images
    # The same path, and another content: with the same settings it is another configuration.
    for now, named in ((images[ORDER], labels[ORDER]), (images, wrong(labels, ORDER[:60]))):
        write_npz(program.folder / "one.npz", now, named)
        said = program.train("from_run=a/0", "seed=1", "figures=false", "hydra.run.dir=c/0")
        assert re.search(r"^as +a/0, but on other data: .*; no repetition of it$", said, re.MULTILINE), said
        verdict = json.loads(program.verb("compare", "a", "c", "--verdict", "--json"))
        assert verdict["configurations"] == 2 and "the ranks mix values of different images" in verdict["warnings"][0]
        assert "same" not in verdict["lines"][0] and "unpaired" in verdict["lines"][0]
        text = refusal(program.tries_verb("predict", "a", "c", "--top", "2", "--weights", "greedy"))
        assert "was validated on other images" in text
        # What the warning names can be chosen by.
        (content,) = {content for content in re.findall(r"content=(\w+)", verdict["warnings"][0])} - {
            program.metrics("a/0")["fingerprint"][:8]
        }
        chosen = program.verb("compare", "a", "c", "--filter", f"content == '{content}'")
        assert "different images" not in chosen and "c/0" in chosen
        shutil.rmtree(program.folder / "c")
    # Of runs that kept nothing, nothing is claimed.
    for run in ("a/0", "b/0"):
        (program.folder / run / "images.npz").unlink()
        kept = {k: v for k, v in program.metrics(run).items() if "fingerprint" not in k}
        (program.folder / run / "metrics.json").write_text(json.dumps(kept))
    old = json.loads(program.verb("compare", "a", "b/0", "--verdict", "--json"))
    assert "unpaired: not known to be over the same images" in old["lines"][0]
    said = program.train("from_run=a/0", "figures=false", "hydra.run.dir=c/0")
    assert "; not known whether on the same data" in said


def test_the_report_asks_the_runs_that_validated_an_image_wherever_it_was(program: Program, digits: Any) -> None:
    """Wrong labels among right ones are found by runs on two orders of one file, and no other place is accused."""
    images, spoilt = digits.images, wrong(digits.labels, np.arange(0, 300, 30))  # one of each class
    write_npz(program.folder / "small.npz", images, spoilt)
    small = ("model=small", "model.filters=6", "augmentation=none")
    long = (*small, "epochs=25", "batch_size=32", "split=kfold", "split.folds=2")
    data = ("data=npz", "data.path=small.npz", "optimizer.learning_rate=0.003", *TINY[-2:])
    program.train(*data, *long, "hydra.run.dir=runs/0")
    write_npz(program.folder / "small.npz", images[ORDER], spoilt[ORDER])
    program.train(*data, *long, "seed=1", "hydra.run.dir=runs/1")
    program.verb("compare", "runs", "--report", "report.html")
    captions = re.findall(r"<figcaption>image (\d+): (.*?)<", (program.folder / "report.html").read_text())
    best = min(("runs/0", "runs/1"), key=lambda run: program.metrics(run)["val_loss"])
    place_of = np.arange(300) if best == "runs/0" else ORDER
    right = [caption for place, caption in captions if place_of[int(place)] % 30 == 0]
    assert len(right) >= 3 and len(right) > len(captions) / 2, captions
    assert all("2 models" in caption for caption in right)


PLUGIN = """
import os
import keras
from sweeper_digits import register

@register("callback")
def swap(word: str = "x"):
    class Swap(keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            if os.path.exists("swap.npz"):
                os.replace("swap.npz", "small.npz")
    return Swap()
"""


# Python looks in the current folder, the program's, for a module that is named so.
PLUGINS = {"SWEEPER_DIGITS_PLUGINS": "swapping", "PYTHONPATH": f".:{ROOT}"}


@pytest.fixture(scope="module")
def replaced(tmp_path_factory: pytest.TempPathFactory, digits: Any) -> tuple[Program, Done, Callable[..., Done]]:
    """A sweep whose file is replaced when its first trial ends: its folder, its end, and the same command again."""
    program = Program(tmp_path_factory.mktemp("replaced"))
    images, labels = digits.images, digits.labels
    (program.folder / "swapping.py").write_text(PLUGIN)
    data = write_npz(program.folder / "small.npz", images, labels)
    write_npz(program.folder / "swap.npz", images[ORDER], labels[ORDER])

    def again(*more: str) -> Done:
        space = ("study=s", "optimizer.learning_rate=0.001,0.002,0.003", "callbacks=[swap]")
        return program.tries_to_sweep(*data, *TINY, *space, *more, **PLUGINS)

    return program, again(), again


def test_a_trial_that_reads_other_images_than_the_study_ends_it(
    replaced: tuple[Program, Done, Callable[..., Done]], digits: Any
) -> None:
    """A5, and what comes after it: nothing is mixed, and with the images in place the same command goes on."""
    program, done, again = replaced
    text = refusal(done)
    assert "data.path=small.npz: its images, their labels or their order changed since study=s began" in text
    assert "lie within noise" not in done.text
    first, second = (program.metrics(f"multirun/s/{number}") for number in (0, 1))
    assert first["state"] == "finished" and second["state"] == "failed" and "small.npz: its images" in second["error"]
    trials = sorted(path.name for path in (program.folder / "multirun/s").iterdir() if path.name.isdigit())
    # The same command with the wrong file still there: said before any trial.
    assert "changed since study=s began" in refusal(again())
    assert sorted(path.name for path in (program.folder / "multirun/s").iterdir() if path.name.isdigit()) == trials
    # With the same content, whatever wrote it, all points are tried, also the one that failed.
    np.savez_compressed(program.folder / "small.npz", images=digits.images, labels=digits.labels)
    last = again()
    assert last.status == 0, last.text
    complete = [row for row in rows_of(program.folder / "multirun/s/trials.csv") if row["state"] == "COMPLETE"]
    assert sorted(row["optimizer.learning_rate"] for row in complete) == ["0.001", "0.002", "0.003"]
    assert len({program.metrics(f"multirun/s/{row['number']}")["fingerprint"] for row in complete}) == 1
    # More images in the file of a sweep that has ended.
    more = np.concatenate([digits.images, FOREIGN[0]])
    write_npz(program.folder / "small.npz", more, np.append(digits.labels, FOREIGN[1]))
    assert "(300 images then, 340 now)" in refusal(again())
    # Its finalist is trained again on them, which is allowed, and is no other seed of what the search had.
    confirmed = program.apart(
        "-m", "sweeper_digits", "confirm", "multirun/s", "callbacks=[]", "--top", "1", "--seeds", "1", **PLUGINS
    )
    assert "the data changed since multirun/s/" in confirmed.text and ": 40 images more; " in confirmed.text
    assert "warning    the data changed since the search: its values are of other images" in confirmed.text
