"""The program as a user starts it: these tests know commands and files, and no module of the package."""

import contextlib
import io
import json
import os
import runpy
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra

from tests import warm
from tests.conftest import ROOT

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)  # which a search handles


@dataclass
class Done:
    """What a command printed, standard error included, and its exit status."""

    text: str
    status: int


class Program:
    """Starts `python train.py` and `python -m sweeper_digits` in a folder.

    Args:
        folder: The working folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def train(self, *arguments: str) -> str:
        """Call train.py in this process, which must succeed; return what it printed."""
        return self._ok(self.tries_to_train(*arguments))

    def tries_to_train(self, *arguments: str) -> Done:
        """Call train.py in this process."""
        return self._here(arguments, lambda: runpy.run_path(str(ROOT / "train.py"), run_name="__main__"))

    def verb(self, *arguments: str) -> str:
        """Call `python -m sweeper_digits` in this process, which must succeed; return what it printed."""
        return self._ok(self.tries_verb(*arguments))

    def tries_verb(self, *arguments: str) -> Done:
        """Call `python -m sweeper_digits` in this process."""
        sys.modules.pop("sweeper_digits.__main__", None)  # runpy warns of a module that another test has imported
        return self._here(arguments, lambda: runpy.run_module("sweeper_digits", run_name="__main__"))

    def apart(self, *arguments: str, **environment: str) -> Done:
        """Run Python with these arguments in a process of its own: sweeps, plug-ins, another environment."""
        known = os.environ | {"PYTHONPATH": str(ROOT), "HYDRA_FULL_ERROR": "0"}
        text, status = warm.python([*arguments], self.folder, known | environment)
        return Done(text.decode(errors="surrogateescape"), status)

    def sweep(self, *arguments: str, **environment: str) -> str:
        """Run `python train.py -m`, which must succeed; return what it printed."""
        return self._ok(self.tries_to_sweep(*arguments, **environment))

    def tries_to_sweep(self, *arguments: str, **environment: str) -> Done:
        """Run `python train.py -m`, its trials in this process too unless the launcher or an environment is named."""
        if environment or any(one.startswith("hydra/launcher=") for one in arguments):
            return self.apart(str(ROOT / "train.py"), "-m", *arguments, **environment)
        return self.tries_to_train("-m", "hydra/launcher=basic", *arguments)

    def metrics(self, run: str) -> dict[str, Any]:
        """What metrics.json of a run says."""
        found = json.loads((self.folder / run / "metrics.json").read_text())
        assert isinstance(found, dict)
        return found

    def _here(self, arguments: tuple[str, ...], call: Callable[[], object]) -> Done:
        text, status, argv = io.StringIO(), 0, sys.argv
        handlers = {number: signal.getsignal(number) for number in SIGNALS}
        storage = os.environ.pop("OPTUNA_STORAGE", None)
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
            sys.argv = ["program", *arguments]
            try:
                call()
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else int(end.code is not None)
                text.write("" if isinstance(end.code, int | None) else f"{end.code}\n")
            finally:
                sys.argv = argv
                for number, handler in handlers.items():
                    signal.signal(number, handler)
                GlobalHydra.instance().clear()
                os.environ.pop("OPTUNA_STORAGE", None)
                if storage is not None:
                    os.environ["OPTUNA_STORAGE"] = storage
        return Done(text.getvalue(), status)

    @staticmethod
    def _ok(done: Done) -> str:
        assert done.status == 0, done.text
        return done.text


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """The program, in an empty folder."""
    return Program(tmp_path)


def write_npz(file: Path, images: np.ndarray, labels: np.ndarray) -> list[str]:
    """Write images and labels into a file; return the overrides that read it."""
    np.savez(file, images=images, labels=labels)
    return ["data=npz", f"data.path={file.name}"]
