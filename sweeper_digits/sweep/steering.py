"""How a person steers a sweep that runs, from any machine: through the study alone."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution

from sweeper_digits.errors import UserError
from sweeper_digits.sweep.budget import Budget
from sweeper_digits.sweep.comparable import Images, differing
from sweeper_digits.sweep.points import Owners
from sweeper_digits.sweep.record import StudyRecord
from sweeper_digits.sweep.storage import RetryingStorage, study_lock


@dataclass(frozen=True)
class Steering:
    """The settings of a study that a person can change while supervisors and workers run.

    Attributes:
        budget: What ends the sweep, by key of hydra.sweeper.
        command: The budget of the command that was given last. The same command leaves a change of the budget alone.
        n_jobs: Workers of each supervisor since the last change of this number; None: never changed.
        jobs_of_command: Workers that the command asked for which was given last. The same command leaves a change of
            n_jobs alone.
        changes: How often n_jobs was changed.
        stops: How often the sweep was stopped. A supervisor ends when it sees the number rise.
    """

    budget: dict[str, Any]
    command: dict[str, Any]
    n_jobs: int | None = None
    jobs_of_command: int | None = None
    changes: int = 0
    stops: int = 0


@dataclass(frozen=True)
class Space:
    """The search space of a study, as other machines know it.

    Attributes:
        distributions: By parameter; none where the study runs listed points.
        is_enumerated: Whether each point is tried once, however many trials the budget has.
        owners: Which options have the parameters that not all of them have.
        size: How many points there are; None: not known, or not finite.
        images: The settings of the images that trials validate on, each once.
    """

    distributions: dict[str, BaseDistribution]
    is_enumerated: bool
    owners: Owners = field(default_factory=dict)
    size: int | None = None
    images: list[Images] = field(default_factory=list)


class SharedSettings:
    """Reads and writes what steers a study.

    Args:
        study: The study.
        storage: The storage of the study.
    """

    def __init__(self, study: optuna.Study, storage: RetryingStorage) -> None:
        self.storage, self.name, self.record = storage, study.study_name, StudyRecord(study)

    def begin(self, budget: Budget, space: Space, n_jobs: int) -> None:
        """Write down the space, and the budget and the workers of a command unless the command before had the same."""
        command, found = asdict(budget), self._read() or Steering({}, {})
        if found.command != command:
            found = replace(found, budget=command, command=command)
        if found.jobs_of_command != n_jobs:
            found = replace(found, n_jobs=None, jobs_of_command=n_jobs)
        self._write(found)
        attribute: dict[str, Any] = {field.name: getattr(space, field.name) for field in fields(space)}
        attribute["distributions"] = {name: distribution_to_json(one) for name, one in space.distributions.items()}
        # An earlier command may have listed other runs.
        before = (self.record.space or {}).get("images", [])
        attribute["images"] = before + [one for one in space.images if one not in before]
        self.record.write(space=attribute)

    def steering(self) -> Steering:
        """Return what steers the study.

        Raises:
            UserError: Nothing does: another program began the study.
        """
        if (found := self._read()) is None:
            raise self._foreign()
        return found

    def budget(self) -> Budget:
        """Return what ends the sweep, as a person may have changed it; no limit where nothing is written."""
        found = self._read()
        return Budget(**found.budget) if found else Budget(None, None, None)

    def space(self) -> Space:
        """Return the search space.

        Raises:
            UserError: It is not known: another program began the study.
        """
        if (found := self.record.space) is None:
            raise self._foreign()
        distributions = {name: json_to_distribution(text) for name, text in found["distributions"].items()}
        return Space(**found | {"distributions": distributions})

    def other_images(self) -> list[str]:
        """Return the keys in which trials validate on other images."""
        return differing((self.record.space or {}).get("images", []))

    def stop(self) -> None:
        """Let the supervisors end, as at Ctrl-C."""
        self._change(lambda found: {"stops": found.stops + 1})

    def change_budget(self, values: Mapping[str, float | None], may_be_open: bool = False) -> None:
        """Change what ends the sweep.

        Args:
            values: By key of hydra.sweeper; None: no limit.
            may_be_open: Whether there may be no limit at all.

        Raises:
            UserError: No limit would be left.
        """

        def changed(found: Steering) -> dict[str, Any]:
            budget = {**found.budget, **values}
            if not may_be_open and all(value is None for value in budget.values()):
                raise UserError(
                    f"{self.name}: n_trials, timeout and n_epochs would all be null; a sweep needs one of them"
                )
            return {"budget": budget}

        self._change(changed)

    def change_jobs(self, n_jobs: int) -> None:
        """Change the number of workers of each supervisor that is there now."""
        self._change(lambda found: {"n_jobs": n_jobs, "changes": found.changes + 1})

    def _change(self, changed: Callable[[Steering], dict[str, Any]]) -> None:
        with study_lock(self.storage, self.name):  # two persons may steer at once
            found = self.steering()
            self._write(replace(found, **changed(found)))

    def _read(self) -> Steering | None:
        found = self.record.steering
        return None if found is None else Steering(**found)

    def _write(self, steering: Steering) -> None:
        self.record.write(steering=asdict(steering))

    def _foreign(self) -> UserError:
        return UserError(f"{self.name}: another program began this study, and this one cannot steer it")
