"""What a sweep keeps from its first day: its conf/, its code's hash, and what may not change in it."""

import hashlib
import json
import logging
import os
import shutil
import socket
import warnings
from pathlib import Path
from typing import Any

import optuna
from hydra.core.hydra_config import HydraConfig

from sweeper_digits import screen
from sweeper_digits.errors import UserError
from sweeper_digits.sweep import queue
from sweeper_digits.sweep.space import Sweep

log = logging.getLogger(__name__)


def check_same(study: optuna.Study, sweep: Sweep, pruner: dict[str, Any]) -> None:
    """Refuse to mix trials that cannot be compared."""
    ours = json.loads(json.dumps(sweep.fingerprint()))
    theirs = study.user_attrs.get("sweep")
    if theirs is None:
        if queue.trials_of(study):
            raise UserError(
                f"study={study.study_name}: the database has a study of this name that is no sweep of ours; "
                "choose another name"
            )
        study.set_user_attr("sweep", ours)
        study.set_user_attr("pruner", pruner)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(sweep.objectives)  # for optuna-dashboard
        return
    differences = [
        f"{part}: was {_short(theirs.get(part), ours[part])}, is {_short(ours[part], theirs.get(part))}"
        for part in ours
        if ours[part] != theirs.get(part)
    ]
    if differences:
        raise UserError(
            f"study={study.study_name}: it was begun with another {'; '.join(differences)}. "
            "Choose another name with study=..., or give the same command again"
        )


def _short(value: Any, other: Any) -> str:
    """Write only what differs from the other."""
    if isinstance(value, dict) and isinstance(other, dict):
        return ", ".join(f"{k}={v}" for k, v in value.items() if other.get(k) != v) or "nothing of it"
    if isinstance(value, list) and isinstance(other, list):
        return ", ".join(str(item) for item in value if item not in other) or "nothing of it"
    return str(value)


def freeze_conf(sweep: Sweep) -> Path:
    """Copy conf/ into the sweep's folder, from where the workers compose, once for the whole sweep."""
    source = Path(next(s.path for s in HydraConfig.get().runtime.config_sources if s.provider == "main"))
    frozen = sweep.folder / "conf"
    if not frozen.exists():
        copy = frozen.with_name(f".conf-{socket.gethostname()}-{os.getpid()}")
        shutil.rmtree(copy, ignore_errors=True)  # of a container that was killed while it copied
        shutil.copytree(source, copy)
        try:
            copy.rename(frozen)
        except OSError:  # another supervisor of the same study was faster
            shutil.rmtree(copy)
    elif changed := _differences(source, frozen):
        log.info(
            "warning: %s changed since the sweep began; it goes on with its own copy in %s",
            ", ".join(changed),
            screen.relative(frozen),
        )
    return frozen


def warn_of_changed_code(study: optuna.Study) -> None:
    """Say so if the package is another than when the sweep began: its trials may not compare."""
    files = sorted(Path(__file__).parents[1].rglob("*.py"))
    code = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    began = study.user_attrs.get("code")
    if began is None:
        study.set_user_attr("code", code)
    elif began != code:
        log.info("warning: the code changed since the sweep began; its earlier trials may not compare with new ones")


def _differences(a: Path, b: Path) -> list[str]:
    files = {path.relative_to(root) for root in (a, b) for path in root.rglob("*.yaml")}
    return sorted(
        str(file)
        for file in files
        if not ((a / file).is_file() and (b / file).is_file() and (a / file).read_bytes() == (b / file).read_bytes())
    )
