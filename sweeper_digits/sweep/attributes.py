"""What the program keeps with a study and its trials that no person reads.

It is kept in Optuna's system attributes, because Optuna's dashboard shows all user attributes. Earlier versions kept it
in user attributes; both are read, so that their studies go on.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # `compare` reads owners without Optuna
    import optuna


def of_study(study: "optuna.Study") -> dict[str, Any]:
    """Return all attributes of a study, as the storage has them now."""
    return study.user_attrs | study._storage.get_study_system_attrs(study._study_id)


def of_trial(trial: "optuna.trial.FrozenTrial") -> dict[str, Any]:
    """Return all attributes of a trial."""
    return trial.user_attrs | trial.system_attrs


def keep_with_study(study: "optuna.Study", name: str, value: Any) -> None:
    """Keep a value, which JSON can hold, with a study."""
    study._storage.set_study_system_attr(study._study_id, name, value)


def keep_with_trial(trial: "optuna.Trial", name: str, value: Any) -> None:
    """Keep a value, which JSON can hold, with a trial that runs."""
    trial.storage.set_trial_system_attr(trial._trial_id, name, value)
