"""The private names of other packages that this package uses, in one place.

Each name is looked up at import: a new version without it ends the program with one error, instead of a sweep whose
heartbeats or locks silently do nothing.
"""

from pathlib import PurePath
from typing import Any

from hydra.core.utils import JobReturn
from omegaconf import DictConfig, OmegaConf
from optuna.storages._cached_storage import _CachedStorage as CachedStorage  # what Optuna puts before a database
from optuna.storages._heartbeat import BaseHeartbeat  # what Optuna takes for a storage with heartbeats
from optuna.storages._rdb.models import TrialModel
from optuna.study import Study
from optuna.trial import Trial

__all__ = ["BaseHeartbeat", "CachedStorage", "share_folder_of_jobs", "start_ray"]

USED = {
    # `fail_stale_trials` asks the storage in front for it.
    "BaseHeartbeat._get_stale_trial_ids": hasattr(BaseHeartbeat, "_get_stale_trial_ids"),
    # The write that takes SQLite's lock, before a waiting trial is begun, names the table and two columns.
    "trials.trial_id, trials.state": {"trials.trial_id", "trials.state"} <= {*map(str, TrialModel.__table__.columns)},
    # Attributes of a study and a trial that the dashboard hides have no public way in.
    "Study._storage, Study._study_id": {"_storage", "_study_id"} <= {*Study.__init__.__code__.co_names},
    "Trial._trial_id": "_trial_id" in Trial.__init__.__code__.co_names,
    # The public `return_value` of a failed job prints to stderr and raises.
    "JobReturn._return_value": hasattr(JobReturn, "_return_value"),
}
if missing := [name for name, found in USED.items() if not found]:
    raise ImportError(f"the installed optuna or hydra-core lacks {', '.join(missing)}; see constraints.txt")


def start_ray(options: DictConfig) -> None:
    """Start or join a Ray cluster as Hydra's launcher does, which has no public function for it.

    Raises:
        ImportError: The installed launcher does it in another way.
    """
    from hydra_plugins.hydra_ray_launcher._launcher_util import start_ray as start  # only here: it imports Ray

    start(OmegaConf.create(OmegaConf.to_container(options, resolve=True)))


def share_folder_of_jobs(launcher: Any) -> None:
    """Let the jobs of submitit on this machine share one folder, which is there before the first of them starts.

    Submitit starts a job and then makes the job's own folder, named by the job's process. On a busy machine the job is
    faster, does not find the folder and dies: "has not produced any output". Its files are named by the process too.
    """
    if getattr(launcher, "_EXECUTOR", None) == "local":
        parts = PurePath(launcher.params["submitit_folder"]).parts
        own = next((place for place, part in enumerate(parts) if "%" in part), len(parts))
        launcher.params["submitit_folder"] = str(PurePath(*parts[:own]))
