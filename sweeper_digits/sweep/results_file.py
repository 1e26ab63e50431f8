"""The result files of a sweep: optimization_results.yaml and trials.csv."""

from typing import Any

import optuna
from omegaconf import OmegaConf
from optuna.trial import FrozenTrial

from sweeper_digits import text
from sweeper_digits.config import distinct
from sweeper_digits.runs.folder import replacing
from sweeper_digits.sweep.record import counts
from sweeper_digits.sweep.space import Sweep


def write_results(study: optuna.Study, sweep: Sweep, best: list[FrozenTrial]) -> None:
    """Write optimization_results.yaml, with the stock plugin's keys and ours, and trials.csv."""

    def about(trial: FrozenTrial) -> dict[str, Any]:
        return {
            "number": trial.number,
            "folder": str(sweep.folder / str(trial.number)),
            "command": sweep.command(trial),
        }

    results: dict[str, Any] = {"name": "optuna"}
    if len(sweep.objectives) > 1 and best:
        results["solutions"] = [{"params": t.params, "values": t.values, **about(t)} for t in study.best_trials]
    elif best:
        results |= {"best_params": best[0].params, "best_value": best[0].value, "best_trial": about(best[0])}
    results |= {
        "study_name": study.study_name,
        "objectives": sweep.objectives,
        "directions": sweep.directions,
        "trials": {state.name.lower(): count for state, count in counts(study).items()},
    }
    with replacing(sweep.folder / "optimization_results.yaml") as temporary:
        OmegaConf.save(OmegaConf.create(results), temporary)
    write_table(study, sweep)


def write_table(study: optuna.Study, sweep: Sweep) -> None:
    every = {"number": "number", "state": "state", "datetime_start": "started", "user_attrs_error": "error"}
    objectives = distinct(sweep.objectives, every.values(), "objective_")
    parameters = distinct(sweep.distributions, {*every.values(), *objectives.values()}, "params_")
    time = distinct(["seconds"], {*every.values(), *objectives.values(), *parameters.values()}, "trial_")
    titles = {"number": "number", "state": "state"}
    titles |= {f"values_{name}": title for name, title in objectives.items()}
    titles |= {"duration": time["seconds"], "datetime_start": "started"}
    titles |= {f"params_{name}": title for name, title in parameters.items()}
    titles |= {"user_attrs_error": "error"}
    attributes = ("number", "state", "values", "duration", "datetime_start", "params", "user_attrs")
    table = study.trials_dataframe(attributes).reindex(columns=list(titles))
    table["duration"] = table["duration"].astype("timedelta64[ns]").dt.total_seconds()
    # An integer stays one where other trials do not have its parameter.
    table = table.convert_dtypes().map(text.no_formula)
    with replacing(sweep.folder / "trials.csv") as temporary:
        table.to_csv(temporary, header=list(titles.values()), index=False, errors="replace")
