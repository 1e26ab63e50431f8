"""Change the budget or the number of workers of a sweep while it runs: `change`."""

import argparse

from sweeper_digits.errors import UserError, closest
from sweeper_digits.results.studies import find_queue
from sweeper_digits.screen import counted, printable
from sweeper_digits.sweep.budget import KEYS, is_supervised
from sweeper_digits.sweep.trials import trials_of

WHOLE = ("n_trials", "n_epochs", "n_jobs")


def main(arguments: argparse.Namespace) -> None:
    """Change the keys, and say what holds now."""
    queue = find_queue(arguments.storage, arguments.study)
    values = dict(_parse(text) for text in arguments.values)
    name, runs = printable(queue.study.study_name), is_supervised(queue.study.user_attrs)
    enumerated = queue.helm.space().is_enumerated
    if "n_trials" in values and enumerated:
        raise UserError(
            "n_trials: this sweep tries each point of its space once; if they are not all, its command with a larger "
            "hydra.sweeper.n_trials tries more of them"
        )
    jobs = values.pop("n_jobs", None)
    if jobs is not None and not runs:
        raise UserError(f"n_jobs: no sweep of {name} runs; give hydra.sweeper.n_jobs={jobs:g} with its command")
    if values:
        queue.helm.change_budget(values, may_be_open=enumerated)
    if jobs is not None:
        queue.helm.change_jobs(int(jobs))
    workers = f"; {counted(int(jobs), 'worker')} from now on" if jobs is not None else ""
    when = "" if runs else "; no sweep runs: the command of the sweep, given again, has this budget"
    budget = queue.helm.budget()
    parts = ", or ".join(filter(None, ("each point once" if enumerated else "", budget.describe())))
    if runs and (used_up := budget.used_up(queue.study, trials_of(queue.study))):
        when = f"; hydra.sweeper.{used_up} is used up: the sweep ends with the trials that run"
    print(f"{name}: {parts}{workers}{when}")


def _parse(text: str) -> tuple[str, float | None]:
    """Return the key and the value of `KEY=VALUE`."""
    key, equals, value = text.strip().partition("=")
    key = key.removeprefix("hydra.sweeper.")
    known = (*KEYS, "n_jobs")
    if key in known and not equals:
        raise UserError(f"{printable(text)}: a value is needed, for example {key}=100")
    if key not in known:
        hint = closest(key, known)
        raise UserError(f"{printable(text)}: not one of {', '.join(known)}{hint}; for example n_trials=100")
    if value == "null" and key != "n_jobs":
        return key, None
    try:
        number = int(value) if key in WHOLE else float(value)
    except ValueError as error:
        kind = "a whole number" if key in WHOLE else "a number of seconds"
        raise UserError(f"{key}={printable(value)}: {kind} is needed") from error
    if not 0 < number < float("inf"):
        raise UserError(f"{key}={printable(value)}: must be above 0; null is no limit")
    return key, number
