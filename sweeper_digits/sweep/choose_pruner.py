"""Which pruner a sweep has: hydra.sweeper.pruner, made for its epochs, folds and objectives."""

import warnings
from typing import Any

import optuna
from hydra.utils import instantiate
from omegaconf import OmegaConf
from optuna.pruners import BasePruner

from sweeper_digits.errors import UserError
from sweeper_digits.sweep.pruning import BEST_OF_ALL_STEPS, PeerPruner, first_judged, number_of_scouts
from sweeper_digits.sweep.space import Sweep

FOLD_PRUNER = "sweeper_digits.sweep.pruning.FoldPruner"
FRONT_PRUNER = "sweeper_digits.sweep.pruning.FrontPruner"
PEER_PRUNER = f"{PeerPruner.__module__}.{PeerPruner.__name__}"
NO_PRUNER = "optuna.pruners.NopPruner"


def pruner_options(sweep: Sweep) -> dict[str, Any]:
    """Return what makes the pruner of a sweep; kept in the study, for jobs elsewhere."""
    options = OmegaConf.create(sweep.options.pruner)
    folds = 1
    if OmegaConf.select(sweep.config, "split.fold") is None:
        folds = OmegaConf.select(sweep.config, "split.folds") or 1
    spared = _spares(options, sweep)
    if not spared and sweep.has_front and folds == 1 and options._target_ == PEER_PRUNER:
        return {"_target_": FRONT_PRUNER}
    if spared or not sweep.prunes:
        return {"_target_": NO_PRUNER}
    return for_trainings(options, int(sweep.config.epochs), folds)


def _spares(options: Any, sweep: Sweep) -> bool:
    """Return whether a pruner leaves all trials alone: whoever asks for each point once wants to compare them."""
    return not options.get("grids", True) and sweep.is_enumerated


def why_unpruned(sweep: Sweep) -> str | None:
    """Return why a sweep does not prune though its pruner would; None: it prunes, or nobody wants it to."""
    chosen = OmegaConf.create(sweep.options.pruner)
    wanted = chosen._target_ != NO_PRUNER and not _spares(chosen, sweep)
    if not wanted or pruner_options(sweep)["_target_"] != NO_PRUNER:
        return None
    if sweep.other_images:
        return "the values are of other images"
    if not (sweep.prunes or sweep.has_front):
        return "an objective is known at the end of a training alone"
    if chosen._target_ == PEER_PRUNER:
        return "with several objectives, a trial that trains all folds is not pruned"
    return f"{chosen._target_.rpartition('.')[2]} compares one objective; hydra/sweeper/pruner=peers compares several"


def for_trainings(options: Any, epochs: int, folds: int = 1) -> dict[str, Any]:
    """Return what makes a pruner for trials of so many epochs and folds.

    Args:
        options: hydra.sweeper.pruner.
        epochs: The epochs of a training.
        folds: Trainings of a trial.
    """
    container = OmegaConf.to_container(OmegaConf.create(options))
    assert isinstance(container, dict)  # noqa: S101 - it is a config group
    for of_the_sweep in ("grids", "scouts"):
        container.pop(of_the_sweep, None)
    if container.get("max_resource") == "auto":
        # From the finished trials, as Optuna would take it, early stopping makes it too small.
        container["max_resource"] = epochs * folds
    if container["_target_"] == PEER_PRUNER:
        container["epochs"] = epochs
    if folds > 1 and str(container["_target_"]).endswith(BEST_OF_ALL_STEPS):
        warmup = container.get("n_warmup_steps", 0)
        container = {"wrapped_pruner": container, "epochs": epochs, "n_warmup_steps": warmup, "_target_": FOLD_PRUNER}
    return {str(name): value for name, value in container.items()}


def scouts_of(sweep: Sweep) -> int:
    """Return how many of the first trials are scouts: with the default pruner, unless it leaves the trials alone.

    Raises:
        UserError: hydra.sweeper.pruner.scouts is no number, or below 0.
    """
    options = OmegaConf.create(sweep.options.pruner)
    most = options.get("scouts", 0)  # a sweep that was begun earlier has a copy of conf/ without it
    if not isinstance(most, int) or most < 0:
        raise UserError(f"hydra.sweeper.pruner.scouts={most}: must be an integer, 0 or more")
    if not most or sweep.is_enumerated or pruner_options(sweep)["_target_"] != PEER_PRUNER:
        return 0
    epochs = int(sweep.config.epochs)
    return number_of_scouts(most, epochs, first_judged(options.first_fraction, epochs), sweep.budget.n_trials)


def make_pruner(options: dict[str, Any]) -> BasePruner:
    """Make a pruner; raise a UserError for values that it does not take."""
    pruner: BasePruner = made("pruner", options, ("optuna.pruners.*", FOLD_PRUNER, PEER_PRUNER, FRONT_PRUNER))
    return pruner


def made(what: str, options: Any, allowed: tuple[str, ...]) -> Any:
    """Make a sampler or a pruner; raise a UserError for values that Optuna does not take."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return instantiate(options, _execution_whitelist_=allowed)
    except (TypeError, ValueError) as error:
        raise UserError(f"hydra.sweeper.{what}: a value that Optuna does not take ({error})") from error
