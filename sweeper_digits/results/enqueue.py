"""Add a point to a study while its sweep runs: `enqueue`."""

import argparse
from typing import Any

import optuna
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from optuna.trial import FrozenTrial, TrialState

from sweeper_digits.errors import UserError
from sweeper_digits.results.studies import find_queue
from sweeper_digits.screen import counted, printable
from sweeper_digits.sweep.budget import is_supervised
from sweeper_digits.sweep.finite import Point
from sweeper_digits.sweep.listed import KEY, in_space
from sweeper_digits.sweep.queue import Queue
from sweeper_digits.sweep.scouts import POINT_FROM
from sweeper_digits.sweep.trials import LISTED, QUEUED_WITH, trials_of, tried_points

BY_HAND = "enqueued by hand"


def main(arguments: argparse.Namespace) -> None:
    """Queue the point, and say when it is tried."""
    queue = find_queue(arguments.storage, arguments.study)
    number = enqueue(queue, parse_point(arguments.point))
    name, study = printable(queue.study.study_name), queue.study
    trials = trials_of(study)
    used_up = queue.helm.budget().used_up(study, trials)
    waiting = sum(trial.state == TrialState.WAITING for trial in trials) - 1
    when = f"after {counted(waiting, 'other point')} that {'wait' if waiting > 1 else 'waits'}" if waiting else ""
    if is_supervised(study.user_attrs):
        print(f"{name} #{number}: queued; it is tried {when or 'next'}")
    else:
        again = f"given again{f' with a larger hydra.sweeper.{used_up}' if used_up else ''}"
        print(f"{name} #{number}: queued; no sweep runs: its command, {again}, tries this point {when or 'first'}")


def parse_point(texts: list[str]) -> Point:
    """Return the values of `KEY=VALUE`, as Hydra reads them.

    Raises:
        UserError: Not of this form, or a sweep of several values.
    """
    point: Point = {}
    for text in texts:
        try:
            override = OverridesParser.create().parse_override(text)
        except HydraException as error:
            raise UserError(f"{printable(text)}: not of the form KEY=VALUE") from error
        key = str(override.key_or_group)
        if override.is_sweep_override() or override.is_delete() or not KEY.fullmatch(key):
            raise UserError(f"{printable(text)}: a point has one value for each key, for example batch_size=64")
        point[key] = override.value()
    return point


def enqueue(queue: Queue, point: Point) -> int:
    """Queue a point of the search space, or a run of a study that lists its runs; return the number of its trial.

    Raises:
        UserError: The point is not in the space, or a trial has it already.
    """
    space = queue.helm.space()
    if space.distributions:
        point = in_space(point, space)
        if space.is_enumerated:
            queued = tried_points(trials_of(queue.study))
            more = f"; {queued} of its {space.size} are queued, and all with hydra.sweeper.n_trials={space.size}"
            cut = space.size is not None and queued < space.size
            raise UserError(f"this sweep tries each point of its space once, without being told{more if cut else ''}")
    for trial in trials_of(queue.study):
        if trial.state != TrialState.FAIL and point in (_queued_point(trial), trial.params):
            raise UserError(f"#{trial.number} has this point already ({trial.state.name.lower()})")
    attributes: dict[str, Any] = {POINT_FROM: BY_HAND}
    fixed = point if space.distributions else {}
    attributes |= {} if space.distributions else {LISTED: point}
    queue.study.add_trial(
        optuna.create_trial(state=TrialState.WAITING, user_attrs=attributes, system_attrs={QUEUED_WITH: fixed})
    )
    return max(trial.number for trial in trials_of(queue.study) if _queued_point(trial) == point)


def _queued_point(trial: FrozenTrial) -> Point:
    return dict(trial.user_attrs.get(LISTED) or trial.system_attrs.get(QUEUED_WITH) or {})
