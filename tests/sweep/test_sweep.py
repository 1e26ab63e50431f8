"""Real sweeps on 300 digits: budget, pruning, failures, kills, resumption."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import optuna
import psutil
import pytest
import yaml
from optuna.trial import TrialState

from sweeper_digits.runs.folder import Run
from tests.conftest import ROOT

PRUNERS = ["none", "median", "percentile", "hyperband", "successive_halving", "patient", "wilcoxon"]
COMPLETE, PRUNED, FAIL, WAITING, RUNNING = (
    TrialState.COMPLETE,
    TrialState.PRUNED,
    TrialState.FAIL,
    TrialState.WAITING,
    TrialState.RUNNING,
)
# Trials that run to their last epoch, two at a time.
STEADY = ("patience=null", "hydra/sweeper/pruner=none", "hydra.sweeper.n_jobs=2")
LEARNING_RATE = "optimizer.learning_rate=tag(log,interval(1e-4,1e-1))"


class Sweeps:
    """Starts sweeps in a folder, and reads what they left."""

    def __init__(self, folder: Path, tiny: list[str]) -> None:
        self.folder, self.tiny = folder, tiny

    def command(self, *overrides: str) -> list[str]:
        return [sys.executable, str(ROOT / "train.py"), "-m", *self.tiny, *overrides]

    def run(self, *overrides: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(*overrides), cwd=self.folder, capture_output=True, text=True, timeout=240)

    def ok(self, *overrides: str) -> str:
        done = self.run(*overrides)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""
        return done.stdout

    def start(self, *overrides: str) -> subprocess.Popen[str]:
        return subprocess.Popen(self.command(*overrides), cwd=self.folder, stdout=subprocess.PIPE, text=True)

    def study(self, name: str = "sweep") -> optuna.Study:
        return optuna.load_study(study_name=name, storage=f"sqlite:///{self.folder}/multirun/optuna.db")

    def states(self, name: str = "sweep") -> dict[TrialState, int]:
        return dict(Counter(trial.state for trial in self.study(name).trials))

    def trial_folder(self, number: int, name: str = "sweep") -> Run:
        return Run(self.folder / "multirun" / name / str(number))

    def wait_for(self, happened: Callable[[], bool], seconds: float = 90) -> None:
        end = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < end, "waited too long"
            time.sleep(0.1)

    def checkpoints(self) -> list[Path]:
        return list(self.folder.glob("multirun/sweep/*/checkpoint.npz"))


@pytest.fixture
def sweeps(tmp_path: Path, tiny: list[str]) -> Iterator[Sweeps]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield Sweeps(tmp_path, tiny)
    for process in psutil.process_iter(["cmdline"]):  # a failed test must not leave workers behind
        if str(tmp_path) in " ".join(process.info["cmdline"] or []):
            process.kill()


@pytest.fixture
def in_process(
    train: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny: list[str]
) -> Callable[..., Sweeps]:
    """Run a worker in this process, without a supervisor: fast, for what needs no queue and no kill."""

    def call(*overrides: str) -> Sweeps:
        monkeypatch.setenv("SWEEPER_DIGITS_WORKER", "0")
        train("--multirun", *overrides)
        return Sweeps(tmp_path, tiny)

    return call


def test_a_finite_space_is_enumerated_by_two_workers_and_leaves_its_files(sweeps: Sweeps) -> None:
    out = sweeps.ok("optimizer=adam,sgd", "model.dropout=0.1,0.3", "hydra.sweeper.n_jobs=2")
    study = sweeps.study()
    points = sorted((t.params["optimizer"], t.params["model.dropout"]) for t in study.trials)
    assert points == [("adam", 0.1), ("adam", 0.3), ("sgd", 0.1), ("sgd", 0.3)]
    assert {t.state for t in study.trials} == {COMPLETE}
    assert len({t.user_attrs["worker"] for t in study.trials}) == 2
    for trial in study.trials:
        assert sweeps.trial_folder(trial.number).read_metrics()["objective"] == trial.value
    folder = sweeps.folder / "multirun" / "sweep"
    results = yaml.safe_load((folder / "optimization_results.yaml").read_text())
    assert results["best_params"] == study.best_params and results["best_value"] == study.best_value
    assert results["best_trial"]["number"] == study.best_trial.number
    assert len((folder / "trials.csv").read_text().splitlines()) == 5
    assert len(re.findall(r"^#\d+ +val_loss", out, re.MULTILINE)) == 4
    assert results["best_trial"]["command"] in out
    # A finished study prints its result and trains nothing.
    again = sweeps.ok("optimizer=adam,sgd", "model.dropout=0.1,0.3", "hydra.sweeper.n_jobs=2")
    assert f"best       #{study.best_trial.number}" in again and len(sweeps.study().trials) == 4


def test_bad_trials_are_pruned_and_cost_nothing_more(sweeps: Sweeps) -> None:
    points = "[" + ",".join(f"{{optimizer.learning_rate:{rate}}}" for rate in (0.01, 0.012, 0.000101, 0.000102)) + "]"
    sweeps.ok(
        LEARNING_RATE,
        f"search.points={points}",
        "epochs=8",
        "schedule=constant",
        "hydra.sweeper.n_trials=4",
        "hydra.sweeper.pruner.n_startup_trials=2",
        "hydra.sweeper.pruner.n_warmup_steps=2",
    )
    trials = sweeps.study().trials
    assert [t.params["optimizer.learning_rate"] for t in trials] == [0.01, 0.012, 0.000101, 0.000102]
    assert [t.state for t in trials] == [COMPLETE, COMPLETE, PRUNED, PRUNED]
    for trial in trials[2:]:
        run = sweeps.trial_folder(trial.number)
        metrics = run.read_metrics()
        assert metrics["state"] == "pruned" and metrics["epochs"] == len(run.read_history()) < 8
        assert len(trial.intermediate_values) == metrics["epochs"]
        assert not run.model.exists() and not run.checkpoint.exists()


@pytest.mark.parametrize(("pruner", "startup"), [("median", "n_startup_trials=1"), ("wilcoxon", "n_startup_steps=2")])
def test_folds_are_pruned_too(sweeps: Sweeps, pruner: str, startup: str) -> None:
    points = "[{optimizer.learning_rate:0.01},{optimizer.learning_rate:0.000101}]"
    sweeps.ok(
        LEARNING_RATE,
        f"search.points={points}",
        f"hydra/sweeper/pruner={pruner}",
        f"hydra.sweeper.pruner.{startup}",
        "split=kfold",
        "split.folds=5",
        "epochs=2",
        "schedule=constant",
        "hydra.sweeper.n_trials=2",
    )
    good, bad = sweeps.study().trials
    assert (good.state, bad.state) == (COMPLETE, PRUNED)
    # One value per epoch, counted over the folds, or one per fold.
    assert list(good.intermediate_values) == (list(range(10)) if pruner == "median" else list(range(5)))
    metrics = sweeps.trial_folder(1).read_metrics()
    assert metrics["state"] == "pruned" and len(metrics["folds"]) < 5
    assert len(bad.intermediate_values) < len(good.intermediate_values)


def test_killed_worker_loses_nothing_and_its_trial_continues(sweeps: Sweeps) -> None:
    arguments = (
        LEARNING_RATE,
        "epochs=40",
        "patience=null",
        "hydra.sweeper.n_trials=3",
        "hydra.sweeper.n_jobs=2",
        "hydra/sweeper/pruner=none",
    )
    with sweeps.start(*arguments) as process:
        sweeps.wait_for(lambda: len(sweeps.checkpoints()) == 2)
        workers = psutil.Process(process.pid).children()
        assert len(workers) == 2
        os.kill(workers[0].pid, signal.SIGKILL)
        out, _ = process.communicate(timeout=200)
    assert process.returncode == 0, out
    trials = sweeps.study().trials
    assert sweeps.states() == {COMPLETE: 3, FAIL: 1}
    (dead,) = [t for t in trials if t.state == FAIL]
    (retried,) = [t for t in trials if t.system_attrs.get("retry_history")]
    assert retried.system_attrs["retry_history"] == [dead.number] and retried.params == dead.params
    continued = sweeps.trial_folder(retried.number)
    log = (continued.folder / "train.log").read_text()
    assert f"resumed    {sweeps.trial_folder(dead.number).folder}" in log
    assert [row["epoch"] for row in continued.read_history()] == list(range(1, 41))


def test_everything_killed_then_the_same_command_finishes_the_rest(sweeps: Sweeps) -> None:
    arguments = (
        LEARNING_RATE,
        "epochs=100",
        "patience=null",
        "hydra.sweeper.n_trials=3",
        "hydra.sweeper.n_jobs=2",
        "hydra/sweeper/pruner=none",
    )
    with sweeps.start(*arguments) as process:
        sweeps.wait_for(
            lambda: sweeps.checkpoints() and {COMPLETE, RUNNING} <= sweeps.states().keys()  # the third is running
        )
        workers = psutil.Process(process.pid).children()
        process.kill()
        for worker in workers:
            worker.kill()
        psutil.wait_procs(workers, timeout=10)
    before = {t.number: t.value for t in sweeps.study().trials if t.state == COMPLETE}
    assert sweeps.states()[RUNNING] >= 1
    sweeps.ok(*arguments)
    states = sweeps.states()
    assert states[COMPLETE] == 3 and RUNNING not in states and WAITING not in states
    assert {t.number: t.value for t in sweeps.study().trials if t.number in before} == before
    points = [t.params["optimizer.learning_rate"] for t in sweeps.study().trials if t.state == COMPLETE]
    assert len(set(points)) == 3


def test_workers_end_when_their_supervisor_is_killed(sweeps: Sweeps) -> None:
    with sweeps.start(LEARNING_RATE, "epochs=1000", "patience=null", "hydra.sweeper.n_jobs=2") as process:
        sweeps.wait_for(lambda: len(sweeps.checkpoints()) == 2)
        workers = psutil.Process(process.pid).children()
        process.kill()
        _, alive = psutil.wait_procs(workers, timeout=5)
    assert not alive


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_stopping_leaves_no_process_and_no_running_trial(sweeps: Sweeps, how: signal.Signals) -> None:
    arguments = (
        LEARNING_RATE,
        "epochs=100",
        "patience=null",
        "hydra.sweeper.n_trials=2",
        "hydra.sweeper.n_jobs=2",
        "hydra/sweeper/pruner=none",
    )
    with sweeps.start(*arguments) as process:
        sweeps.wait_for(lambda: len(sweeps.checkpoints()) == 2)
        workers = psutil.Process(process.pid).children()
        started = time.monotonic()
        process.send_signal(how)
        out, _ = process.communicate(timeout=20)
    assert time.monotonic() - started < 5
    assert process.returncode == 130
    assert not [worker for worker in workers if worker.is_running()]
    assert sweeps.states() == {FAIL: 2, WAITING: 2}
    assert "the same command continues" in out and "train.py -m" in out
    assert out.count("failed  stopped with the sweep; queued again") == 2
    sweeps.ok(*arguments)
    assert sweeps.states() == {FAIL: 2, COMPLETE: 2}


def test_a_failing_trial_does_not_end_the_sweep(sweeps: Sweeps) -> None:
    out = sweeps.ok("epochs=1,0,2")
    assert [t.state for t in sweeps.study().trials] == [COMPLETE, FAIL, COMPLETE]
    assert "#1    failed  UserError: epochs=0: must be in [1, inf)" in out
    assert sweeps.trial_folder(1).read_metrics()["state"] == "failed"


def test_failures_in_a_row_end_it_with_the_first_cause(sweeps: Sweeps) -> None:
    done = sweeps.run("epochs=0,-1,-2,-3,-4,-5,-6,-7,-8,-9", "hydra.sweeper.max_failures=2")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert re.match(r"error: \d+ trials in a row failed, the first was #0: UserError: epochs=0: must be", done.stderr)


def test_a_diverging_trial_is_pruned(sweeps: Sweeps) -> None:
    sweeps.ok("optimizer=sgd", "schedule=constant", "optimizer.learning_rate=1e37,0.01")
    assert [t.state for t in sweeps.study().trials] == [PRUNED, COMPLETE]
    assert sweeps.trial_folder(0).read_metrics()["state"] == "diverged"


def test_two_objectives_give_a_pareto_front(sweeps: Sweeps) -> None:
    out = sweeps.ok("objective=[val_loss,params]", "model.filters=2,4,8")
    study = sweeps.study()
    assert [d.name for d in study.directions] == ["MINIMIZE", "MINIMIZE"]
    for trial in study.trials:
        metrics = sweeps.trial_folder(trial.number).read_metrics()
        assert trial.values == [metrics["val_loss"], metrics["parameters"]]
    assert out.count("no pruning") == 1 and "Pareto front of" in out
    results = yaml.safe_load((sweeps.folder / "multirun/sweep/optimization_results.yaml").read_text())
    assert len(results["solutions"]) == len(study.best_trials)


def test_a_changed_sweep_is_refused_with_the_difference(sweeps: Sweeps) -> None:
    sweeps.ok("model.dropout=0.1,0.2", "epochs=1")
    other = shutil.copy(
        next(o for o in sweeps.tiny if o.startswith("data.path=")).split("=")[1], sweeps.folder / "other.npz"
    )
    same = ["model.dropout=0.1,0.2", "epochs=1"]
    for changed, message in (
        (["model.dropout=0.1,0.3", "epochs=1"], r"space: was model.dropout=.*0\.2.*, is model.dropout=.*0\.3"),
        (["model.dropout=0.1,0.2", "epochs=2"], "fixed overrides: was epochs=1, is epochs=2"),
        ([*same, "objective=val_accuracy"], "objective: was val_loss=minimize, is val_accuracy=maximize"),
        ([*same, "split.validation_size=0.2"], "split: was validation_size=0.15, is validation_size=0.2"),
        ([*same, f"data.path={other}"], "data: was path=.*digits.npz, is path=.*other.npz"),
    ):
        done = sweeps.run(*changed)
        assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
        assert re.search(message, done.stderr), done.stderr
    assert len(sweeps.study().trials) == 2


@pytest.mark.parametrize("sampler", ["optuna", "tpe", "random", "cmaes", "gp", "nsgaii", "qmc"])
def test_samplers(in_process: Callable[..., Sweeps], sampler: str) -> None:
    if sampler == "gp":
        pytest.importorskip("torch", reason="Optuna's GP sampler needs PyTorch: pip install '.[gp]'")
    sweeps = in_process(
        f"hydra/sweeper/sampler={sampler}",
        LEARNING_RATE,
        "model.dropout=interval(0,0.5)",
        "epochs=1",
        "hydra.sweeper.n_trials=4",
    )
    trials = sweeps.study().trials
    assert sweeps.states() == {COMPLETE: 4}
    assert len({t.params["optimizer.learning_rate"] for t in trials}) == 4
    assert all(1e-4 <= t.params["optimizer.learning_rate"] <= 1e-1 for t in trials)


def test_grid_sampler_takes_each_point_once(sweeps: Sweeps) -> None:
    sweeps.ok("hydra/sweeper/sampler=grid", "seed=range(1,4)", "epochs=1", "hydra.sweeper.n_trials=2")
    assert [t.params["seed"] for t in sweeps.study().trials] == [1, 2]
    done = sweeps.run("hydra/sweeper/sampler=grid", LEARNING_RATE, "study=other")
    assert done.returncode == 1 and "a parameter is continuous" in done.stderr


@pytest.mark.parametrize(
    "pruner", ["none", "median", "percentile", "hyperband", "successive_halving", "patient", "wilcoxon"]
)
def test_pruners_run(in_process: Callable[..., Sweeps], pruner: str) -> None:
    sweeps = in_process(f"hydra/sweeper/pruner={pruner}", LEARNING_RATE, "hydra.sweeper.n_trials=2", "epochs=2")
    states = sweeps.states()
    assert states.get(COMPLETE, 0) + states.get(PRUNED, 0) == 2 and states.get(COMPLETE, 0) >= 1


def test_one_worker_and_one_seed_repeat_a_study(in_process: Callable[..., Sweeps]) -> None:
    for name in ("a", "b"):
        sweeps = in_process(
            f"study={name}",
            LEARNING_RATE,
            "model.dropout=interval(0,0.5)",
            "epochs=1",
            "hydra.sweeper.n_trials=4",
            "+hydra.sweeper.sampler.n_startup_trials=2",
        )
    first, second = ([(t.params, t.value) for t in sweeps.study(name).trials] for name in ("a", "b"))
    assert first == second


def test_raising_n_trials_goes_on_without_repeating_a_point(in_process: Callable[..., Sweeps]) -> None:
    for n_trials in (2, 4):
        sweeps = in_process(LEARNING_RATE, f"hydra.sweeper.n_trials={n_trials}", "epochs=1")
    points = [t.params["optimizer.learning_rate"] for t in sweeps.study().trials]
    assert len(points) == len(set(points)) == 4


def test_a_parameter_is_drawn_only_where_the_chosen_option_has_it(in_process: Callable[..., Sweeps]) -> None:
    sweeps = in_process(
        "optimizer=adam,sgd",
        "optimizer.momentum=interval(0.5,0.9)",
        "hydra.sweeper.n_trials=5",
        "epochs=1",
        "hydra/sweeper/sampler=random",
        "hydra.sweeper.sampler.seed=0",  # without it, one time in sixteen all five are of one kind
    )
    drawn = {t.params["optimizer"]: "optimizer.momentum" in t.params for t in sweeps.study().trials}
    assert drawn == {"adam": False, "sgd": True}


def test_weights_are_kept_for_the_best_only(in_process: Callable[..., Sweeps]) -> None:
    sweeps = in_process(LEARNING_RATE, "hydra.sweeper.n_trials=3", "hydra.sweeper.keep_models=1", "epochs=1")
    best = sorted((t for t in sweeps.study().trials if t.state == COMPLETE), key=lambda t: t.value)[:1]
    kept = {int(path.parent.name) for path in sweeps.folder.glob("multirun/sweep/*/model.keras")}
    assert kept == {t.number for t in best}


def test_two_supervisors_share_one_budget(sweeps: Sweeps) -> None:
    arguments = (LEARNING_RATE, "epochs=1", "hydra.sweeper.n_trials=6")
    with sweeps.start(*arguments) as first, sweeps.start(*arguments) as second:
        for process in (first, second):
            out, _ = process.communicate(timeout=200)
            assert process.returncode == 0, out
    assert sweeps.states()[COMPLETE] + sweeps.states().get(PRUNED, 0) == 6
    assert set(sweeps.states()) <= {COMPLETE, PRUNED, WAITING}


def test_the_reported_metric_is_the_objective(in_process: Callable[..., Sweeps]) -> None:
    sweeps = in_process("objective=val_accuracy", LEARNING_RATE, "hydra.sweeper.n_trials=1")
    (trial,) = sweeps.study().trials
    history = [row["val_accuracy"] for row in sweeps.trial_folder(0).read_history()]
    assert list(trial.intermediate_values.values()) == history


def test_a_space_that_was_sampled_is_completed_not_repeated(sweeps: Sweeps) -> None:
    space = ["model.dropout=0.1,0.2,0.3", "epochs=1"]
    sweeps.ok(*space, "hydra.sweeper.n_trials=1")
    sweeps.ok(*space, "hydra.sweeper.n_trials=5")
    points = [t.params["model.dropout"] for t in sweeps.study().trials if t.state == COMPLETE]
    assert sorted(points) == [0.1, 0.2, 0.3]


def test_a_running_sweep_does_not_see_edited_config(tmp_path: Path, tiny: list[str]) -> None:
    for name in ("conf", "sweeper_digits"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "train.py", tmp_path)
    command = [
        sys.executable,
        "train.py",
        "-m",
        *tiny,
        "epochs=12",
        "model.dropout=0.1,0.2,0.3",
    ]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        while not list(tmp_path.glob("multirun/sweep/0/history.csv")):
            time.sleep(0.1)
        edited = tmp_path / "conf" / "schedule" / "cosine.yaml"
        edited.write_text(edited.read_text().replace("warmup_epochs: 1.0", "warmup_epochs: 5.0"))
        assert process.wait(timeout=200) == 0
    for number in range(3):
        saved = yaml.safe_load((tmp_path / f"multirun/sweep/{number}/.hydra/config.yaml").read_text())
        assert saved["schedule"]["warmup_epochs"] == 1.0
    (tmp_path / "sweeper_digits" / "training" / "figures.py").write_text("# other code")
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert again.returncode == 0 and "warning: schedule/cosine.yaml changed since the sweep began" in again.stdout
    assert "warning: the code changed since the sweep began" in again.stdout


def test_hydras_own_grid_still_works(sweeps: Sweeps) -> None:
    done = sweeps.run("hydra/sweeper=basic", "seed=1,2", "epochs=1")
    assert done.returncode == 0, done.stderr
    assert {sweeps.trial_folder(n).read_metrics()["seed"] for n in (0, 1)} == {1, 2}


@pytest.mark.parametrize("by_file", [True, False])
def test_listed_runs_are_made(sweeps: Sweeps, by_file: bool) -> None:
    points = "[{seed: 3, optimizer: sgd}, {seed: 4, model.dropout: 0.5}]"
    (sweeps.folder / "points.yaml").write_text(points)
    out = sweeps.ok(f"search.points={'points.yaml' if by_file else points}", "epochs=1")
    assert "space      listed runs\n" in out and sweeps.states() == {COMPLETE: 2}
    files = [sweeps.trial_folder(number).folder / ".hydra/config.yaml" for number in (0, 1)]
    first, second = (yaml.safe_load(file.read_text()) for file in files)
    assert (first["seed"], first["optimizer"]["_target_"]) == (3, "keras.optimizers.SGD")
    assert (second["seed"], second["model"]["dropout"]) == (4, 0.5)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.dropuot=interval(0,1)"], r"model.dropuot: no option .* has this key \(did you mean 'model.dropout'"),
        (["optimizer=adam,rmspropp"], r"optimizer=rmspropp: no such option \(did you mean 'rmsprop'\?\)"),
        ([LEARNING_RATE, "search.points=[{optimizer.learning_rate: 5}]"], r"learning_rate=5 is outside"),
        ([LEARNING_RATE, "search.points=[{learning_rate: 0.01}]"], r"learning_rate is not searched \(did you mean"),
        ([LEARNING_RATE, "search.points=[1]"], r"search.points=\[1\]: not a list of points; for example"),
        (["search.points=nowhere.yaml"], r"nowhere\.yaml: No such file"),
        (["search.points=5"], r"search\.points=5: not a list of points; for example \[\{optimizer"),
        (["search.points=[5]"], r"search\.points=\[5\]: not a list of points"),
        (["seed=1,2", "study=.."], r"study=\.\.: it names a folder"),
        (["seed=1,2", "hydra.sweeper.heartbeat_seconds=0"], "heartbeat_seconds=0: must be at least 1"),
        (["split=all", "seed=1,2"], "split=all: a sweep needs a validation part"),
        (["seed=1,2", "hydra.sweeper.n_jobs=0"], "n_jobs=0: must be at least 1"),
        (["seed=1,2", "study=a/b"], "study=a/b: it names a folder"),
        (["seed=1,2", "hydra.sweeper.direction=maximize"], "objective=val_loss is to minimize; leave it out"),
        (["seed=1,2", "hydra.sweeper.storage=sqlite:////dev/null/x.db"], "study cannot be opened: .*/dev/null"),
    ],
)  # fmt: skip
def test_bad_sweeps_are_one_line(train: Callable[..., Run], overrides: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as caught:
        train("--multirun", *overrides)
    text = str(caught.value)
    assert re.search(message, text) and "\n" not in text and text.startswith("error: ")


@pytest.mark.parametrize("name", ["quick", "optimizer", "architecture", "full"])
def test_shipped_spaces_draw_points_that_train(in_process: Callable[..., Sweeps], name: str) -> None:
    sampler = ["hydra/sweeper/sampler=random", "hydra.sweeper.sampler.seed=0"]
    sweeps = in_process(f"search={name}", "hydra.sweeper.n_trials=2", "epochs=1", *sampler)
    assert sweeps.states(name) == {COMPLETE: 2}
    for trial in sweeps.study(name).trials:
        config = yaml.safe_load((sweeps.trial_folder(trial.number, name).folder / ".hydra/config.yaml").read_text())
        assert config["study"] == name
        assert json.dumps(trial.params) and np.isfinite(trial.value)
