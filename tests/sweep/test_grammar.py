"""The search space: what the grammar of overrides means to Optuna, and what a trial gets of it."""

from typing import Any

import optuna
import pytest
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from sweeper_digits.components import options_of
from sweeper_digits.errors import UserError
from sweeper_digits.sweep import points
from sweeper_digits.sweep.frozen import check_same, record_settings
from sweeper_digits.sweep.grammar import contains
from sweeper_digits.sweep.points import values_of
from sweeper_digits.sweep.record import StudyRecord
from sweeper_digits.sweep.space import Sweep, check_values
from tests.refusals import not_refused
from tests.sweep.conftest import MakeSweep


def only(sweep: Sweep) -> Any:
    (distribution,) = sweep.distributions.values()
    return distribution


DISTRIBUTIONS = [
    ("model.dropout=0.1,0.3", CategoricalDistribution([0.1, 0.3])),
    ("model.normalization=true,false", CategoricalDistribution([True, False])),
    ("patience=null,3", CategoricalDistribution([None, 3])),
    ("seed=range(1,4)", IntDistribution(1, 3)),
    ("seed=range(1,9,3)", IntDistribution(1, 7, step=3)),
    ("seed=range(9,1,-3)", IntDistribution(3, 9, step=3)),
    ("seed=shuffle(range(1,4))", IntDistribution(1, 3)),
    ("model.dropout=range(0.1,0.5,0.1)", FloatDistribution(0.1, 0.4, step=0.1)),
    ("model.dropout=interval(0,1)", FloatDistribution(0, 1)),  # the key is a float, however the bounds are written
    ("clean_fraction=interval(0,1)", FloatDistribution(0, 1)),
    ("schedule.warmup_epochs=interval(0,2)", FloatDistribution(0, 2)),
    ("model.dropout=tag(int,interval(0,1))", IntDistribution(0, 1)),
    ("model.filters=interval(8,64)", IntDistribution(8, 64)),
    ("model.filters=tag(log,interval(8,64))", IntDistribution(8, 64, log=True)),
    ("model.filters=interval(8.0,64.0)", IntDistribution(8, 64)),
    ("optimizer.learning_rate=tag(log,interval(1e-4,1e-1))", FloatDistribution(1e-4, 1e-1, log=True)),
    ("model.dropout=interval(0.1,0.1)", FloatDistribution(0.1, 0.1)),
    ("optimizer=glob(ad*)", CategoricalDistribution(["adam", "adamw"])),
]


def test_a_sweep_is_a_distribution(make_sweep: MakeSweep) -> None:
    found = [(argument, only(make_sweep(argument))) for argument, _ in DISTRIBUTIONS]
    assert found == DISTRIBUTIONS


def test_a_glob_is_all_options_of_a_group(make_sweep: MakeSweep) -> None:
    assert set(only(make_sweep("optimizer=glob(*)")).choices) == set(options_of("optimizer"))


NOT_SEARCHED = [
    ("seed=1,1", "seed=1,1: 1 is listed twice; list each value once"),
    ("objective=val_loss,val_accuracy", "objective belongs to the study and cannot be searched"),
    ("study=a,b", "study belongs to the study"),
    ("seed=range(4,1)", "the range is empty"),
    ("model.dropout=range(0.5,0.1,0.1)", "the range is empty"),
    ("seed=range(1,4,0)", "seed=range.*zero"),
    ("model.dropout=interval(0.5,0.1)", "from its lower bound to its upper one"),
    ("optimizer.learning_rate=tag(log,interval(0,1))", "a logarithmic interval begins above 0"),
    ("model.filters=interval(0.5,2)", "model.filters is an integer, and so are its bounds"),
    ("model.dropout=glob(*)", "no option matches; glob"),
    ("optimizer=glob(zzz*)", "no option matches"),
    ("optimizer=interval(0,1)", "optimizer=.*no such option"),
    ("data.paht=a,b", r"data\.paht: no option of the search space has this key"),
]


def test_what_cannot_be_searched_is_refused_in_one_line(make_sweep: MakeSweep) -> None:
    assert not_refused(make_sweep, NOT_SEARCHED) == []


TYPED: list[tuple[str, str, list[Any]]] = [
    ("patience", "null,3", [None, 3]),
    ("optimizer.global_clipnorm", "null,1", [None, 1.0]),
    ("export", "[onnx],[onnx,tflite]", [["onnx"], ["onnx", "tflite"]]),
    ("model.normalization", "true,false", [True, False]),
    ("data.path", "a.npz,'a b.npz'", ["a.npz", "a b.npz"]),
    ("data.path", r"""'a, b.npz',"it's.npz",'null','[x]'""", ["a, b.npz", "it's.npz", "null", "[x]"]),
    ("data.path", r"a\,b.npz,c\ d.npz", ["a,b.npz", "c d.npz"]),
]


def test_a_job_gets_each_choice_as_it_was_typed(make_sweep: MakeSweep) -> None:
    for key, typed, values in TYPED:
        fixed = ["data=npz"] if key.startswith("data") else []
        sweep = make_sweep(*fixed, f"{key}={typed}")  # data.path is mandatory, and searched all the same
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        for point in points.points(sweep):
            study.enqueue_trial(point)
        composed = [sweep.compose(sweep.suggest(study.ask())) for _ in values]
        assert [OmegaConf.select(one, key) for one in composed] == values, typed


def test_a_job_gets_a_fixed_value_as_it_was_typed(make_sweep: MakeSweep) -> None:
    sweep = make_sweep("patience=null", "export=[onnx,tflite]", "from_run='a, \"b\" c'", "seed=1,2")
    composed = sweep.compose(sweep.overrides({"seed": 1}))
    found = [OmegaConf.select(composed, key) for key in ("patience", "export", "from_run")]
    assert found == [None, ["onnx", "tflite"], 'a, "b" c']


def test_the_command_line_overrides_a_search_file(make_sweep: MakeSweep) -> None:
    sweep = make_sweep("search=quick", "optimizer=adam,sgd", "augmentation=none")
    assert sweep.distributions["optimizer"] == CategoricalDistribution(["adam", "sgd"])
    assert "augmentation" not in sweep.distributions and "augmentation=none" in sweep.arguments.fixed


CONTAINED: list[tuple[Any, list[Any], list[Any]]] = [
    (CategoricalDistribution([None, "a", 1]), [None, "a", 1], ["b", 2]),
    (IntDistribution(1, 7, step=3), [1, 4, 7], [0, 2, 10, "4", None, float("nan")]),
    (FloatDistribution(0.1, 0.4, step=0.1), [0.1, 0.3, 0.4], [0.15, 0.5, None]),
    (FloatDistribution(0, 1), [0, 0.5, 1], [-0.1, 1.1, "0.5", float("nan")]),
]


def test_a_distribution_contains_what_it_can_draw() -> None:
    for distribution, inside, outside in CONTAINED:
        assert all(contains(distribution, value) for value in inside)
        assert not any(contains(distribution, value) for value in outside)
        assert all(contains(distribution, value) for value in values_of(distribution) or [])


def test_a_sweep_continues_where_what_differs_changes_no_trial(make_sweep: MakeSweep) -> None:
    study = optuna.create_study()
    begun = make_sweep("seed=1,2", "epochs=3", "export=[onnx]")
    assert not check_same(study, begun)
    record_settings(study, begun)
    again = make_sweep("seed=1,2", "epochs=3", "export=[tflite]")
    assert check_same(study, again)
    settings = StudyRecord(study).settings
    settings["data"]["_target_"] = "moved.load_mnist_5k"
    del settings["conf/"]["patience"]  # of another version
    StudyRecord(study).write(settings=settings)
    assert check_same(study, again)
    with pytest.raises(UserError, match=r"other settings \(fixed overrides: was epochs=3, is epochs=4\)"):
        check_same(study, make_sweep("seed=1,2", "epochs=4"))


def test_points_that_a_condition_leaves_out_are_not_counted(make_sweep: MakeSweep) -> None:
    sweep = make_sweep("optimizer=adam,sgd", "optimizer.momentum=choice(0,0.1,0.2,0.3,0.4)", "seed=range(0,1)")
    assert sweep.size == 6 and len(list(points.points(sweep))) == 6


def test_a_range_of_a_million_steps_is_not_listed(make_sweep: MakeSweep) -> None:
    sweep = make_sweep("model.dropout=range(0,0.5,0.0000005)")
    values: Any = values_of(only(sweep))
    assert not isinstance(values, list) and len(values) == sweep.size == 1_000_000
    assert [values[0], values[3], values[-1]] == [0, 0.0000015, 0.4999995]


def test_an_interval_without_length_is_one_point(make_sweep: MakeSweep) -> None:
    sweep = make_sweep("optimizer.learning_rate=interval(0.1,0.1)", "seed=1,2")
    assert sweep.is_enumerated and len(list(points.points(sweep))) == 2


IMPOSSIBLE = [
    (["epochs=0,3"], r"epochs=0: must be in \[1, 1000000000\]"),
    (["epochs=range(0,3)"], r"epochs=0: must be in"),
    (["model.dropout=interval(0,1.5)"], r"model\.dropout=1\.5: must be in"),
    (["precision=float32,float8"], r"precision=float8: no such value \(did you mean 'float32' or"),
    (["optimizer=adam,sgd", "optimizer.momentum=0.5,1"], r"optimizer\.momentum=1: must be in"),
    (["split=kfold", "split.folds=3,4", "split.fold=0,4"], r"split\.fold=4: must be in"),
    (["search.points=[{epochs: 0}]"], r"search\.points: run 0 can never work: epochs=0"),
    (["search.points=[{+hydra.job.env_set.X: 1}]"], r"'\+hydra\.job\.env_set\.X' is no key of a run"),
    (["search.points=[{hydra.job.chdir: true}]"], r"'hydra\.job\.chdir' is no key of a run"),
    (["search.points=[{study: x}]"], r"'study' is no key of a run"),
]


def test_values_that_no_run_can_have_are_refused(make_sweep: MakeSweep) -> None:
    assert not_refused(lambda arguments: check_values(make_sweep(*arguments)), IMPOSSIBLE) == []


def test_values_that_some_run_can_have_are_not_refused(make_sweep: MakeSweep) -> None:
    for arguments in (
        ["split=kfold", "split.folds=3,5", "split.fold=0,4"],
        ["data=npz", "data.path=a.npz,b.npz"],
        ["optimizer=adam,sgd", "optimizer.momentum=0.5,0.9", "export=[onnx],[tflite]", "patience=null,3"],
    ):
        check_values(make_sweep(*arguments))


def test_a_point_of_the_database_reaches_a_command_only_by_keys_of_a_run(make_sweep: MakeSweep) -> None:
    sweep = make_sweep("search.points=[{seed: 1}]")
    study = optuna.create_study()
    for point in (
        {"+hydra.job.env_set.GIT_CONFIG_COUNT": 1},
        {"--config-dir": "/tmp"},
        {"~seed": None},
        ["seed"],
        {"a=b": 1},
    ):
        study.add_trial(optuna.create_trial(state=optuna.trial.TrialState.WAITING, user_attrs={"point": point}))
        with pytest.raises(UserError, match="in the database"):
            sweep.suggest(study.ask())
