"""What a sweep runs: its budget, its space, its failures, and what it leaves. The trials sleep."""

import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from optuna.trial import TrialState

from tests.conftest import ROOT
from tests.refusals import not_refused
from tests.sweep.conftest import LEARNING_RATE, Sweeps, wait_for

COMPLETE, FAIL, WAITING = TrialState.COMPLETE, TrialState.FAIL, TrialState.WAITING


def test_a_failing_trial_does_not_end_the_sweep(sweeps: Sweeps) -> None:
    sweeps.environment["SLEEPER_FAILS"] = "1"
    out = sweeps.ok("seed=0,1,2", "epochs=1")
    assert [trial.state for trial in sweeps.trials()] == [COMPLETE, FAIL, COMPLETE]
    assert "#1    failed  ValueError: seed=1 fails" in out
    assert sweeps.trial_folder(1).read_metrics() == {"state": "failed", "error": "ValueError: seed=1 fails"}
    del sweeps.environment["SLEEPER_FAILS"]
    again = sweeps.ok("seed=0,1,2", "epochs=1")
    assert len(sweeps.trials()) == 3 and "1 of them failed; hydra.sweeper.retry_failed=true" in again
    sweeps.ok("seed=0,1,2", "epochs=1", "hydra.sweeper.retry_failed=true")
    assert sweeps.states() == {COMPLETE: 3, FAIL: 1}


def test_failures_in_a_row_end_it_with_the_first_cause(sweeps: Sweeps) -> None:
    sweeps.environment["SLEEPER_FAILS"] = "0"
    done = sweeps.run("model.dropout=range(0,0.9,0.002)", "epochs=1", "hydra.sweeper.max_failures=2")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert re.match(r"error: \d+ trials in a row failed, the first was #0: ValueError: seed=0 fails", done.stderr)


def test_a_sweep_without_a_complete_trial_fails(sweeps: Sweeps) -> None:
    sweeps.environment["SLEEPER_FAILS"] = "0"
    for _ in range(2):  # the second time no trial is left
        done = sweeps.run("model.dropout=0.1,0.2", "epochs=1")
        assert done.returncode == 1 and done.stderr.count("\n") == 1
        assert done.stderr.startswith("error: no trial is complete, the first that failed was #0: ValueError: seed=0")
    assert sweeps.states() == {FAIL: 2}


def test_a_sweep_that_is_refused_leaves_no_study(in_process: Callable[..., Sweeps]) -> None:
    wrong = [
        (["epochs=0,1"], r"^error: epochs=0: must be in \[1, 1000000000\]"),
        ([LEARNING_RATE, "search.from_sweep=nope"], "^error: nope: no such folder"),
        ([LEARNING_RATE, "search.prior=2"], r"^error: search\.prior=2"),
        ([LEARNING_RATE, "hydra.sweeper.pruner.scouts=-1"], r"^error: hydra\.sweeper\.pruner\.scouts=-1"),
    ]
    assert not_refused(lambda overrides: in_process(*overrides), wrong) == []
    assert not list(Path("multirun").glob("*"))


def test_a_parameter_that_the_default_option_lacks_is_searched(in_process: Callable[..., Sweeps]) -> None:
    sweeps = in_process("optimizer=sgd,rmsprop", "optimizer.momentum=0.1,0.8", "epochs=1")
    assert Counter(sweeps.points("optimizer.momentum")) == {0.1: 2, 0.8: 2}, "AdamW, the default, has none"
    saved = [yaml.safe_load((sweeps.trial_folder(n).folder / ".hydra/config.yaml").read_text()) for n in range(4)]
    assert [one["optimizer"]["momentum"] for one in saved] == sweeps.points("optimizer.momentum")
    fixed = in_process("study=fixed", "optimizer=sgd,rmsprop", "optimizer.momentum=0.5", "epochs=1")
    assert fixed.points("optimizer.momentum", "fixed") == [0.5, 0.5]


def test_values_that_belong_together_are_searched_beside_free_ones(
    in_process: Callable[..., Sweeps], tmp_path: Path
) -> None:
    (tmp_path / "mine/experiment").mkdir(parents=True)
    for name, batch, rate in (("first", 32, 0.01), ("second", 64, 0.02)):
        text = f"# @package _global_\nbatch_size: {batch}\noptimizer: {{learning_rate: {rate}}}\n"
        (tmp_path / "mine/experiment" / f"{name}.yaml").write_text(text)
    beside = ("model.dropout=interval(0,0.5)", "epochs=1", "hydra.sweeper.n_trials=8", "hydra/sweeper/sampler=random")
    in_process("--config-dir", "mine", "experiment=first,second", *beside, "study=files")
    mappings = "optimizer={learning_rate:0.01,beta_1:0.8},{learning_rate:0.02,beta_1:0.7}"
    sweeps = in_process(mappings, *beside, "study=mappings")
    for study, together in (("files", {(0.01, 32), (0.02, 64)}), ("mappings", {(0.01, 0.8), (0.02, 0.7)})):
        folders = [sweeps.trial_folder(number, study).folder for number in range(8)]
        saved = [yaml.safe_load((folder / ".hydra/config.yaml").read_text()) for folder in folders]
        other = [one["batch_size"] if study == "files" else one["optimizer"]["beta_1"] for one in saved]
        assert {(one["optimizer"]["learning_rate"], it) for one, it in zip(saved, other, strict=True)} == together
        assert len(set(sweeps.points("model.dropout", study))) == 8


def test_a_finite_space_is_sampled_without_repeating_a_point(in_process: Callable[..., Sweeps]) -> None:
    for sampler in ("tpe", "random"):
        sweeps = in_process(
            f"study={sampler}",
            "model.dropout=choice(0,0.1)",
            "optimizer=adam,sgd",
            "optimizer.momentum=range(0.5,0.8,0.1)",
            f"hydra/sweeper/sampler={sampler}",
            "hydra.sweeper.n_trials=7",  # of 8: Adam has no momentum
            "epochs=1",
            "hydra/sweeper/pruner=none",
        )
        points = [tuple(sorted(trial.params.items())) for trial in sweeps.trials(sampler) if trial.state == COMPLETE]
        assert len(points) == len(set(points)) == 7


def test_two_objectives_give_a_pareto_front(sweeps: Sweeps) -> None:
    out = sweeps.ok("objective=[val_loss,params]", "model.filters=2,4", "optimizer.learning_rate=0.01,0.02", "epochs=1")
    study = sweeps.study()
    assert [d.name for d in study.directions] == ["MINIMIZE", "MINIMIZE"]
    for trial in study.trials:
        metrics = sweeps.trial_folder(trial.number).read_metrics()
        assert trial.values == [metrics["val_loss"], metrics["parameters"]]
    assert [t.params for t in study.best_trials] == [{"model.filters": 2, "optimizer.learning_rate": 0.01}]
    assert out.count("no pruning") == 1 and "Pareto front of" in out
    results = yaml.safe_load((sweeps.folder / "multirun/sweep/optimization_results.yaml").read_text())
    assert len(results["solutions"]) == 1


def test_a_changed_sweep_is_refused_with_the_difference(
    sweeps: Sweeps, in_process: Callable[..., Sweeps], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        (sweeps.folder / f"{name}.npz").touch()
    same = ["model.dropout=0.1,0.2", "epochs=1", "data=npz", f"data.path={sweeps.folder}/a.npz"]
    sweeps.ok(*same)
    for changed, message in (
        (["model.dropout=0.1,0.3"], r"space: was model.dropout=.*0\.2.*, is model.dropout=.*0\.3"),
        (["epochs=2"], "fixed overrides: was epochs=1, is epochs=2"),
        (["objective=val_accuracy"], "objective: was val_loss=minimize, is val_accuracy=maximize"),
        (["split.validation_size=0.2"], "split: was validation_size=0.15, is validation_size=0.2"),
        ([f"data.path={sweeps.folder}/b.npz"], "data: was path=.*a.npz, is path=.*b.npz"),
    ):
        with pytest.raises(SystemExit, match=message) as caught:
            in_process(*same, *changed)
        assert "\n" not in str(caught.value)
    assert len(sweeps.trials()) == 2


def test_one_worker_and_one_seed_repeat_a_study(in_process: Callable[..., Sweeps]) -> None:
    startup = "hydra.sweeper.sampler.n_startup_trials=2"
    for name in ("a", "b"):
        sweeps = in_process(
            f"study={name}",
            LEARNING_RATE,
            "model.dropout=interval(0,0.5)",
            "hydra.sweeper.n_trials=4",
            startup,
            "epochs=1",
        )
    first, second = ([(trial.params, trial.value) for trial in sweeps.trials(name)] for name in ("a", "b"))
    assert first == second and len(first) == 4


def test_raising_n_trials_goes_on_without_repeating_a_point(in_process: Callable[..., Sweeps]) -> None:
    for n_trials in (2, 4):
        sweeps = in_process(LEARNING_RATE, "hydra/sweeper/pruner=none", f"hydra.sweeper.n_trials={n_trials}")
    points = sweeps.points("optimizer.learning_rate")
    assert len(points) == len(set(points)) == 4


def test_a_parameter_is_drawn_only_where_the_chosen_option_has_it(in_process: Callable[..., Sweeps]) -> None:
    sweeps = in_process(
        "optimizer=adam,sgd",
        "optimizer.momentum=interval(0.5,0.9)",
        "hydra.sweeper.n_trials=5",
        "hydra/sweeper/sampler=random",
        "hydra.sweeper.sampler.seed=0",  # without it, one time in sixteen all five are of one kind
    )
    drawn = {trial.params["optimizer"]: "optimizer.momentum" in trial.params for trial in sweeps.trials()}
    assert drawn == {"adam": False, "sgd": True}


def test_weights_are_kept_for_the_best_only(in_process: Callable[..., Sweeps], monkeypatch: pytest.MonkeyPatch) -> None:
    deleted, unlink = [], Path.unlink

    def noted(path: Path, missing_ok: bool = False) -> None:
        deleted.append(path)
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", noted)
    limits = ("hydra.sweeper.n_trials=5", "hydra.sweeper.keep_models=2")
    sweeps = in_process(LEARNING_RATE, "hydra/sweeper/pruner=none", *limits)
    best = sorted((trial for trial in sweeps.trials() if trial.state == COMPLETE), key=lambda trial: trial.value)
    kept = {int(path.parent.name) for path in sweeps.folder.glob("multirun/sweep/*/model.keras")}
    assert kept == {trial.number for trial in best[:2]}
    looked_at = [path for path in deleted if path.name == "model.keras"]
    assert len(looked_at) == len(set(looked_at)) == 3


def test_weights_that_the_last_worker_left_are_deleted_at_the_end(sweeps: Sweeps) -> None:
    """It is ended when the last trial has ended, which may be before it has deleted the weights of the worst."""
    sweep = ("optimizer.learning_rate=0.01,0.02", "hydra.sweeper.keep_models=1", "epochs=1")
    sweeps.ok(*sweep)
    best, worst = sorted(sweeps.trials(), key=lambda trial: trial.value)
    for trial in (best, worst):
        sweeps.trial_folder(trial.number).model.write_bytes(b"weights")
    sweeps.ok(*sweep)
    assert [sweeps.trial_folder(trial.number).model.exists() for trial in (best, worst)] == [True, False]


def test_a_pareto_front_keeps_its_weights(in_process: Callable[..., Sweeps]) -> None:
    # The smaller the network, the worse the rate: two are on the front, and the third is worse than the second.
    points = ["{model.filters: 2, optimizer.learning_rate: 0.05}", "{model.filters: 3, optimizer.learning_rate: 0.01}"]
    points += ["{model.filters: 4, optimizer.learning_rate: 0.02}"]
    sweeps = in_process(
        "objective=[val_loss,params]",
        "model.filters=2,3,4",
        "optimizer.learning_rate=0.05,0.02,0.01",
        f"search.points=[{','.join(points)}]",
        "hydra.sweeper.keep_models=1",
        "hydra.sweeper.n_trials=3",
        "epochs=1",
    )
    front = {trial.number for trial in sweeps.study().best_trials}
    kept = {int(path.parent.name) for path in sweeps.folder.glob("multirun/sweep/*/model.keras")}
    assert kept == front and len(front) > 1


def test_two_supervisors_share_one_budget(sweeps: Sweeps) -> None:
    sweeps.trials_last(0.5)
    arguments = (LEARNING_RATE, "hydra/sweeper/pruner=none", "hydra.sweeper.n_trials=4", "epochs=2")
    with sweeps.start(*arguments) as first, sweeps.start(*arguments) as second:
        outputs = [process.communicate(timeout=200) for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), outputs
    states = sweeps.states()
    assert states.pop(COMPLETE) == 4 and set(states) <= {WAITING}


def test_a_space_that_was_sampled_is_completed_not_repeated(in_process: Callable[..., Sweeps]) -> None:
    for n_trials in (1, 5):
        sweeps = in_process("model.dropout=0.1,0.2,0.3", "epochs=1", f"hydra.sweeper.n_trials={n_trials}")
    assert sorted(map(str, sweeps.points("model.dropout"))) == ["0.1", "0.2", "0.3"]


def test_grid_sampler_takes_each_point_once(in_process: Callable[..., Sweeps], monkeypatch: pytest.MonkeyPatch) -> None:
    grid = ("hydra/sweeper/sampler=grid", "seed=range(1,4)", "epochs=1")
    sweeps = in_process(*grid, "hydra.sweeper.n_trials=2")
    begun = sweeps.points("seed")
    in_process(*grid)
    assert sweeps.points("seed")[:2] == begun and sorted(map(str, sweeps.points("seed"))) == ["1", "2", "3"]
    with pytest.raises(SystemExit, match="a parameter is continuous"):
        in_process("hydra/sweeper/sampler=grid", LEARNING_RATE, "study=other")


@pytest.mark.slow
def test_a_running_sweep_does_not_see_edited_config(sweeps: Sweeps) -> None:
    sweeps.forks = False  # its own checkout
    checkout = sweeps.folder / "checkout"
    for name in ("conf", "sweeper_digits"):
        shutil.copytree(ROOT / name, checkout / name)
    sweeps.environment["PYTHONPATH"] = str(checkout)
    sweeps.trials_last(2)
    command = ("model.dropout=0.1,0.2", "augmentation=light", "hydra/sweeper/pruner=none")
    with sweeps.start(*command) as process:
        wait_for(sweeps.checkpoints)
        edited = checkout / "conf" / "augmentation" / "light.yaml"
        edited.write_text(re.sub("zoom_fraction: .*", "zoom_fraction: 0.5", edited.read_text()))
        out, error = process.communicate(timeout=200)
    assert process.returncode == 0, out + error
    for number in range(2):
        saved = yaml.safe_load((sweeps.trial_folder(number).folder / ".hydra/config.yaml").read_text())
        assert saved["augmentation"]["zoom_fraction"] == 0.05
    (checkout / "sweeper_digits" / "training" / "figures.py").write_text("# other code")
    again = sweeps.ok(*command)
    assert "warning: augmentation/light.yaml changed since the sweep began" in again
    assert "warning: the code changed since the sweep began" in again


def test_hydras_own_grid_still_works(in_process: Callable[..., Sweeps]) -> None:
    sweeps = in_process("hydra/sweeper=basic", "seed=1,2")
    assert [sweeps.trial_folder(number).read_metrics()["seed"] for number in (0, 1)] == [1, 2]


def test_listed_runs_are_made(sweeps: Sweeps) -> None:
    points = "[{seed: 3, optimizer: sgd}, {seed: 4, model.dropout: 0.5}]"
    out = sweeps.ok(f"search.points={points}", "epochs=1")  # from a file: test_folders.py
    assert "space      listed runs\n" in out and sweeps.states() == {COMPLETE: 2}
    files = [sweeps.trial_folder(number).folder / ".hydra/config.yaml" for number in (0, 1)]
    first, second = (yaml.safe_load(file.read_text()) for file in files)
    assert (first["seed"], first["optimizer"]["_target_"]) == (3, "sweeper_digits.training.registered.sgd")
    assert (second["seed"], second["model"]["dropout"]) == (4, 0.5)


REFUSED = [
    (["model.dropuot=interval(0,1)"], r"model.dropuot: no option .* has this key \(did you mean 'model.dropout'"),
    (["optimizer=adam,rmspropp"], r"optimizer=rmspropp: no such option \(did you mean 'rmsprop'\?\)"),
    ([LEARNING_RATE, "search.points=[{optimizer.learning_rate: 5}]"], "learning_rate=5 is not one of the numbers"),
    ([LEARNING_RATE, "search.points=[{learning_rate: 0.01}]"], r"learning_rate is not searched \(did you mean"),
    ([LEARNING_RATE, "search.points=[1]"], r"search.points=\[1\]: not a list of points; for example"),
    (["search.points=[{hydra.run.dir: x}]"], r"search\.points: 'hydra\.run\.dir' is no key of a run"),
    (["search.points=nowhere.yaml"], r"nowhere\.yaml: No such file"),
    (["search.points=5"], r"search\.points=5: not a list of points; for example \[\{optimizer"),
    (["search.points=[5]"], r"search\.points=\[5\]: not a list of points"),
    (["seed=1,2", "study=.."], r"study=\.\.: it names a folder"),
    (["seed=1,2", "hydra.sweeper.heartbeat_seconds=0"], r"heartbeat_seconds=0: must be in \[1, inf\)"),
    (["split=all", "seed=1,2"], "split=all: a sweep needs a validation part"),
    (["seed=1,2", "hydra.sweeper.n_jobs=0"], r"n_jobs=0: must be in \[1, inf\)"),
    (["seed=1,2", "hydra.sweeper.n_trials=many"], "n_trials=many: a whole number or null is expected"),
    (["seed=1,2", "hydra.sweeper.n_trial=3"], r"n_trial: no such key \(did you mean 'n_trials'"),
    (["seed=1,2", "study=a/b"], "study=a/b: it names a folder"),
    (["seed=1,2", "hydra.sweeper.direction=maximize"], "direction=maximize: val_loss is minimized; remove"),
    (["seed=1,2", "hydra.sweeper.storage=sqlite:////dev/null/x.db"], "/dev/null: a file is where a folder is"),
    (["seed=1,2", "hydra.sweeper.storage=sqlite:///."], r"storage=sqlite:///\.: it cannot be opened"),
    (["seed=1,2", "hydra.sweeper.sampler.seed=abc"], r"sampler\.seed=abc: must be an integer, or null"),
    (["seed=range(0,99)", "hydra.sweeper.pruner.percentile=x"], r"sweeper\.pruner: a value that Optuna does not"),
    (["seed=1,2", "hydra.sweeper.study_name=../x"], r"study=\.\./x: it names a folder"),
    (["seed=1,2", "hydra.launcher=null"], "launcher=null: a sweep needs a launcher"),
    (["seed=1,2", "hydra.sweeper=null"], "sweeper=null: a sweep needs a sweeper"),
    (["seed=1,2", "hydra.sweeper._target_=foo.Bar"], r"sweeper\._target_=foo\.Bar: no sweeper that is installed"),
    (["seed=1,2", "hydra.launcher._target_=foo.Bar"], r"launcher\._target_=foo\.Bar: no launcher that is"),
    (["seed=1,2", "hydra.sweeper.max_retries=-1"], r"max_retries=-1: must be in \[0, inf\)"),
]  # fmt: skip


def test_bad_sweeps_are_one_line(in_process: Callable[..., Sweeps]) -> None:
    assert not_refused(lambda overrides: in_process(*overrides), REFUSED) == []
