"""The last lines of a sweep: the winner with its error, and what it cannot be told from."""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from omegaconf import OmegaConf

from sweeper_digits.runs.folder import RunFolder
from sweeper_digits.sweep.queue import Queue
from sweeper_digits.sweep.show import Progress
from sweeper_digits.sweep.storage import open_storage


def test_the_winner_is_shown_with_its_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/studies.db", 60)
    study = optuna.create_study(storage=storage)
    for number, value in enumerate((0.0170, 0.0180, 0.9)):
        study.add_trial(optuna.create_trial(value=value))
        folder = tmp_path / str(number)
        folder.mkdir()
        RunFolder(folder).write_metrics({"state": "finished", "val_loss": value, "val_loss_se": 0.0031})
    (tmp_path / "2" / "metrics.json").write_text("[]")  # a damaged one costs no line
    options = SimpleNamespace(storage="", keep_models=5, max_retries=2)
    sweep: Any = SimpleNamespace(folder=tmp_path, objectives=["val_loss"], directions=["minimize"], options=options)
    sweep.distributions, sweep.is_enumerated, sweep.command = {}, False, lambda trial: f"repeats #{trial.number}"
    sweep.config = OmegaConf.create({"hydra": {"runtime": {"config_sources": []}, "job": {"config_name": "config"}}})
    with caplog.at_level(logging.INFO):
        Progress(Queue(study, storage), sweep).end()
    assert (
        "best       #0: val_loss 0.017 ± 0.0031 (one standard error over images; optimistic: best of 3)" in caplog.text
    )
    assert "1 of 1 other lies within noise of the best" in caplog.text
