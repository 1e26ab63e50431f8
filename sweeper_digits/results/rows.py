"""What `--json` prints."""

from typing import Any

from sweeper_digits.results.table import describe_mixture
from sweeper_digits.runs.judge import Configuration, Difference, judge_winner, standard_error
from sweeper_digits.runs.record import Record, direction_of


def run_row(record: Record, objective: str) -> dict[str, Any]:
    """Return a run's folder and its value, with the standard error of the value over the validation images."""
    value, error = record.value(objective), standard_error(record, objective)
    return {"folder": record.run.folder, "value": value, "value_se": error}


def configuration_row(group: Configuration, objective: str) -> dict[str, Any]:
    """Return what is known of a configuration: its best run, and the mean over its seeds and folds.

    `interval` is half the width of a 95 % interval of the mean; null of one run, and of equal ones.
    """
    values = [{"seed": seed, "fold": fold, "value": value} for (seed, fold), value in group.samples.items()]
    return {
        **run_row(group.runs[0], objective),
        "mean": group.mean,
        "interval": group.interval,
        "covers": group.covers or None,
        "values": values,
    }


def difference_row(difference: Difference | None) -> dict[str, Any]:
    """Return how a configuration differs from the best: `apart` is null where nothing tells."""
    differ, text, worse, half = difference or (None, None, None, None)
    return {"apart": differ, "worse_by": worse, "worse_by_interval": half, "verdict": text}


def verdict_of(found: list[Record], groups: list[Configuration], objective: str) -> dict[str, Any]:
    """Return how sure it is that the best configuration is the best; `compare --verdict --json` prints it.

    Args:
        found: The runs.
        groups: Their configurations, best first.
        objective: What they are ranked by.
    """
    winner = judge_winner(groups, objective)
    first, second = (configuration_row(groups[n], objective) if len(groups) > n else None for n in (0, 1))
    return {
        "objective": objective,
        "direction": direction_of(found, objective),
        "runs": len(found),
        "finished": sum(record.finished for record in found),
        "configurations": len(groups),
        "best": first,
        "second": second and second | difference_row(winner.second),
        "others_within_noise": winner.within,
        "others_not_judged": winner.unknown,
        "validation_images_needed": winner.needed,
        "lines": winner.lines,
        "warnings": describe_mixture(found),
    }
