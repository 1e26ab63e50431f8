"""The trial of a job that one of Hydra's launchers runs elsewhere: on SLURM, on Ray, in a process pool."""

import contextlib
from collections.abc import Iterator

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from sweeper_digits.training import reporting as trials


@contextlib.contextmanager
def attached() -> Iterator[None]:
    """Connect this job to its trial in the study, by its number, unless its worker is this process.

    While it lasts the trial's heartbeats come from here.

    Raises:
        optuna.TrialPruned: At the end of a trial that was pruned, for the worker to see.
    """
    hydra = HydraConfig.get()
    ours = str(hydra.sweeper.get("_target_")).endswith("StudySweeper")
    if trials.running() is not None or hydra.mode != RunMode.MULTIRUN or not ours:
        yield
        return
    import optuna  # only here: most runs do without

    from sweeper_digits.sweep import study as studies
    from sweeper_digits.sweep.life import SignOfLife

    study = studies.load(hydra.sweeper)
    trial_id = study._storage.get_trial_id_from_study_id_trial_number(study._study_id, int(hydra.job.num))
    trial = optuna.Trial(study, trial_id)
    studies.heartbeat(study, trial)
    trial.set_user_attr(trials.ATTACHED, True)
    by_fold = isinstance(study.pruner, optuna.pruners.WilcoxonPruner)
    running = trials.RunningTrial(trial, by_fold=by_fold, prunes=len(study.directions) == 1)
    life = SignOfLife(study, hydra.sweeper.heartbeat_seconds)
    life.trial = trial
    trials.set_running(running)
    try:
        yield
    finally:
        life.stop()
        trials.set_running(None)
    if running.pruned:
        raise optuna.TrialPruned()
