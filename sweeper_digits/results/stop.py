"""End a trial, or the sweep, from anywhere: `stop`."""

import argparse

import optuna
from optuna.trial import TrialState

from sweeper_digits.errors import UserError
from sweeper_digits.results.studies import find_queue
from sweeper_digits.screen import counted, printable
from sweeper_digits.sweep.budget import is_supervised
from sweeper_digits.sweep.following import STOP
from sweeper_digits.sweep.queue import Queue
from sweeper_digits.sweep.trials import trials_of


def main(arguments: argparse.Namespace) -> None:
    """Stop a trial or the sweep, and say what happens next."""
    queue = find_queue(arguments.storage, arguments.study)
    name = printable(queue.study.study_name)
    if arguments.trial is not None:
        print(f"{name} #{arguments.trial}: {stop_trial(queue, arguments.trial)}")
        return
    if not is_supervised(queue.study.user_attrs):
        raise UserError(f"{name}: no sweep runs")
    queue.helm.stop()
    print(f"{name}: the sweep stops, as at Ctrl-C; its command, given again, goes on")


def stop_trial(queue: Queue, number: int) -> str:
    """Let a trial be pruned; return when.

    Args:
        queue: The queue of the study.
        number: Of the trial.

    Raises:
        UserError: No such trial, or it has ended.
    """
    trials = trials_of(queue.study)
    if not 0 <= number < len(trials):
        raise UserError(f"#{number}: no such trial; the study has {counted(len(trials), 'trial')}")
    trial = queue.read(number)
    try:
        if trial.state == TrialState.WAITING:
            queue.set_state(number, TrialState.PRUNED)
            return "pruned before it began"
        queue.set_system_attr(number, STOP, True)
        runs = is_supervised(queue.study.user_attrs)
        return "is pruned when its epoch ends" if runs else "no sweep runs; once one does, its next epoch is its last"
    except optuna.exceptions.UpdateFinishedTrialError as error:
        raise UserError(f"#{number}: it has ended already ({queue.read(number).state.name.lower()})") from error
