"""What users of Hydra's own sweeper and of Optuna type by habit works, or is answered with what to type."""

import re

import pytest

from sweeper_digits import components
from sweeper_digits.command_line import KEYS
from sweeper_digits.errors import UserError
from sweeper_digits.habits import understood


@pytest.fixture(autouse=True)
def _loaded() -> None:
    components.load()


def test_parameters_of_hydras_sweeper_are_parameters() -> None:
    cases = {
        "hydra.sweeper.params.seed=1,2": "seed=1,2",
        '+hydra.sweeper.params.model.dropout="interval(0, 0.5)"': "model.dropout=interval(0, 0.5)",
        "hydra.sweeper.n_trials=3": "hydra.sweeper.n_trials=3",
        "hydra.sweeper.study_name=mine": "study=mine",
    }
    assert understood(list(cases), KEYS, in_sweep=True) == list(cases.values())
    assert understood(list(cases), KEYS, in_sweep=False) == list(cases), "another sweeper has them"


def test_a_fixed_key_of_searched_options_is_searched_with_one_value() -> None:
    given = ["optimizer=adamw,sgd", "optimizer.momentum=0.5", "optimizer.learning_rate=0.1", "batch_size=8", "-m"]
    expected = [*given[:1], "optimizer.momentum=choice(0.5)", *given[2:]]
    assert understood(given, KEYS, in_sweep=True) == expected, "all optimizers have a learning rate"
    assert understood(["optimizer=sgd", *given[1:]], KEYS, in_sweep=True) == ["optimizer=sgd", *given[1:]]
    of_values = ["data=npz", "data.path=a.npz", "data={transpose:true},{transpose:false}"]
    assert understood(of_values, KEYS, in_sweep=True) == of_values, "no option is searched"


@pytest.mark.parametrize(
    ("argument", "answer"),
    [
        ("lr=0.1", "lr: no such key; type optimizer.learning_rate=0.1"),
        ("bs=8,16", "bs: no such key; type batch_size=8,16"),
        ("dropout=interval(0,0.5)", "dropout: no such key; type model.dropout=interval(0,0.5)"),
        ("hydra.sweeper.custom_search_space=a.b", "custom_search_space: a sweep calls no function for its space; name"),
    ],
)
def test_other_words_are_answered_with_ours(argument: str, answer: str) -> None:
    with pytest.raises(UserError, match=re.escape(answer)):
        understood([argument], KEYS, in_sweep=True)
    for known in ("seed=1", "model=small", "nonsense=1", "experiment=a,b", "+lr=1", "--cfg=job"):
        assert understood([known], KEYS, in_sweep=True) == [known]
