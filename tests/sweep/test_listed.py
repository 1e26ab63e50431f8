"""The points of search.points as a file gives them."""

from pathlib import Path

import pytest
import yaml
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution

from sweeper_digits.errors import UserError
from sweeper_digits.runs.record import best_first, find_runs
from sweeper_digits.sweep.points import given_points, points_of_sweep


def read(file: Path) -> list[dict[str, object]]:
    """What a config that names a file lists."""
    return given_points(OmegaConf.create({"search": {"points": str(file)}}))


def test_a_list_may_be_long(tmp_path: Path) -> None:
    file = tmp_path / "points.yaml"
    points = [{"seed": seed, "epochs": 1, "batch_size": 50, "optimizer": "sgd", "patience": 2} for seed in range(1500)]
    file.write_text(yaml.safe_dump(points))
    assert read(file) == points


def test_aliases_do_not_fill_the_memory(tmp_path: Path) -> None:
    file = tmp_path / "points.yaml"
    nested = "\n".join(f"- &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9))
    file.write_text(f"- &a0 [{', '.join('x' * 10)}]\n{nested}\n")
    with pytest.raises(UserError, match="exceeds the configured limit"):
        read(file)


def config_of(path: object) -> DictConfig:
    """A config that starts from the best points of a sweep."""
    return OmegaConf.create({"objective": ["val_loss"], "search": {"from_sweep": str(path)}})


def test_the_best_points_of_an_earlier_sweep_come_first(swept: Path) -> None:
    optimizers = CategoricalDistribution(["adam", "sgd"])
    found = points_of_sweep(config_of(swept / "multirun/first"), {"optimizer": optimizers})
    records = best_first(find_runs([swept / "multirun/first"]), "val_loss")
    assert found == [{"optimizer": name} for name in dict.fromkeys(one.settings["optimizer"] for one in records)]
    narrow = {"optimizer": CategoricalDistribution(["sgd", "muon"]), "model.dropout": FloatDistribution(0, 0.5)}
    dropout = records[0].settings["model.dropout"]
    assert points_of_sweep(config_of(swept / "multirun/first"), narrow) == [
        {"optimizer": "sgd", "model.dropout": dropout}
    ]


def test_an_earlier_sweep_that_has_no_point_in_the_space_is_refused(swept: Path) -> None:
    path = swept / "multirun/first"
    with pytest.raises(UserError, match=r"search\.from_sweep=.*first: none of its 4 finished runs lies in this"):
        points_of_sweep(config_of(path), {"optimizer": CategoricalDistribution(["muon"])})
    with pytest.raises(UserError, match=r"nothing"):
        points_of_sweep(config_of(swept / "nothing"), {"optimizer": CategoricalDistribution(["muon"])})


def test_no_earlier_sweep_gives_no_points() -> None:
    config = OmegaConf.create({"objective": ["val_loss"], "search": {"from_sweep": None}})
    assert points_of_sweep(config, {"optimizer": CategoricalDistribution(["muon"])}) == []
