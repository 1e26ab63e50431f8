"""The points of search.points as a file gives them."""

from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from sweeper_digits.errors import UserError
from sweeper_digits.sweep.listed import given_points


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
