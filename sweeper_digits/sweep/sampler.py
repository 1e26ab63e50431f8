"""How a trial's point is drawn: by a sampler of Optuna's that is seeded for each trial, or near the best point."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from sweeper_digits.sweep.points import Point, values_of
from sweeper_digits.sweep.pruning import BEST_SCOUT, NEAR_BEST, PEERS, best_scout, best_so_far, sign_of
from sweeper_digits.sweep.record import TrialRecord, trials_of

# How often a sampler may draw a point that was tried before another value is taken.
LOCKED_DRAWS = 20


class SeededSampler(BaseSampler):
    """A sampler whose random numbers depend on the trial alone.

    Whichever worker or supervisor draws a trial, on whichever machine, before or after a restart: no two trials are
    drawn with the same random numbers, and a trial's own are always the same.

    Where points can be tried up, none is drawn twice: training it again would give the same value.

    Args:
        build: Makes the sampler that draws the trial of a number.
        scouts: How many of the first trials are scouts; the best of them begins anew.
        prior: Draws near the best point; None: the sampler draws all.
        is_exhausted: Says whether all points that have some values were tried; None: every option has a continuous
            parameter.
    """

    def __init__(
        self,
        build: Callable[[int], BaseSampler],
        scouts: int = 0,
        prior: "Prior | None" = None,
        is_exhausted: Callable[[list[FrozenTrial], Point], bool] | None = None,
    ) -> None:
        self.build, self.scouts, self.prior, self.is_exhausted = build, scouts, prior, is_exhausted
        # Of the trial of a number: its sampler, and the values that were chosen together for it.
        self.number, self.sampler, self.together = 0, build(0), Point()

    def __str__(self) -> str:
        return str(self.sampler)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._begin(trial).before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Choose a point, of which nothing is drawn; otherwise forward to the sampler of the trial."""
        sampler = self._of(trial)
        self.together = self._chosen(_whole(study), trial)
        return {} if self.together else sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Forward to the sampler of the trial; where that draws only what was tried, each is drawn alone."""
        sampler = self._of(trial)
        for _ in range(0 if self.together else LOCKED_DRAWS):
            drawn = sampler.sample_relative(study, trial, search_space)
            if not self._was_tried(study, trial, drawn):
                self.together = drawn
                return drawn
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return the value of the chosen point, or one of the trial's sampler that leads to a point not tried yet."""
        sampler = self._of(trial)
        if param_name in self.together:
            return self.together[param_name]
        for _ in range(LOCKED_DRAWS):
            drawn = sampler.sample_independent(study, trial, param_name, param_distribution)
            if not self._was_tried(study, trial, {param_name: drawn}):
                return drawn
        values = list(values_of(param_distribution) or [])
        random.Random(trial.number).shuffle(values)
        return next((one for one in values if not self._was_tried(study, trial, {param_name: one})), drawn)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Forward to a sampler of the trial, not to that of the trial that is drawn meanwhile."""
        self.build(trial.number).after_trial(study, trial, state, values)

    def _chosen(self, study: optuna.Study, trial: FrozenTrial) -> Point:
        """Return the point of the best scout, or one near the best; nothing where the sampler draws.

        A trial that has a point already keeps it.
        """
        record = TrialRecord(trial)
        if record.has_point and record.point_from != BEST_SCOUT:
            return {}
        if trial.number < self.scouts:
            _mark(study, trial, scout=True)
            return {}
        point = best_scout(trials_of(study), sign_of(study), trial) if self.scouts else None
        origin = BEST_SCOUT
        if point is None and self.prior:
            point, origin = self.prior.point(trial.number, study), NEAR_BEST
        if point is None:
            return {}
        # Before its values: whoever sees a value of this trial sees where they come from.
        _mark(study, trial, point_from=origin)
        return point

    def _was_tried(self, study: optuna.Study, trial: FrozenTrial, drawn: Point) -> bool:
        if self.is_exhausted is None or not drawn:
            return False
        others = [other for other in trials_of(_whole(study)) if other.number != trial.number]
        return self.is_exhausted(others, trial.params | self.together | drawn)

    def _of(self, trial: FrozenTrial) -> BaseSampler:
        return self.sampler if self.number == trial.number else self._begin(trial)

    def _begin(self, trial: FrozenTrial) -> BaseSampler:
        self.number, self.sampler, self.together = trial.number, self.build(trial.number), {}
        return self.sampler


def _whole(study: optuna.Study) -> optuna.Study:
    """Return a study with all trials: Optuna's Hyperband shows a sampler those of one of its brackets."""
    whole: optuna.Study = getattr(study, "_study", study)
    return whole


def _mark(study: optuna.Study, trial: FrozenTrial, **marks: Any) -> None:
    """Write attributes of a trial that is drawn, and let the copy of it that its process has show them."""
    TrialRecord.write_to(study._storage, trial._trial_id, **marks)
    trial.user_attrs.update(TrialRecord.of_new(**marks)["user_attrs"])


# Samplers that learn from the trials. A person who chooses another wants its draws alone.
LEARNING = ("TPESampler", "GPSampler", "CmaEsSampler")
# Standard deviation of a draw near a point, as a share of the range; how often it keeps a choice. The draw is cut to
# the range, so that the ends of the range are tried often: dropout 0 is a good guess, and no density reaches it.
SPREAD, KEPT = 0.3, 0.7
# In a space of one parameter or two, the ends would be drawn again and again: how often to draw another point.
NEAR_DRAWS = 20


@dataclass(frozen=True)
class Prior:
    """Draws near the best point so far, as PriorBand does (Mallik et al. 2023, https://arxiv.org/abs/2306.12370).

    PriorBand also draws near a point that a person believes in. On recorded curves that was worth nothing
    (benchmarks/README.md); such a point can be queued (`search.points`).

    Args:
        weight: Share of the draws that are near the best point, from 0 to 1.
        distributions: The search space, by parameter.
        seed: The seed of the draws; each trial has random numbers of its own. None: other ones each time.
        active: Returns the parameters that there are once the options of a point are chosen.
    """

    weight: float
    distributions: dict[str, BaseDistribution]
    seed: int | None
    active: Callable[[Point], set[str]]

    def point(self, number: int, study: optuna.Study) -> Point | None:
        """Return the point of a trial near the best point, or None: the sampler draws this one.

        Args:
            number: The number of the trial.
            study: With the trials so far.
        """
        generator = random.Random(None if self.seed is None else f"{self.seed} {number}")
        if generator.random() >= self.weight:
            return None
        best = best_points(study)
        tried = [TrialRecord(trial).point for trial in trials_of(study)]
        for _ in range(NEAR_DRAWS if best else 0):
            if (point := self._beside(generator.choice(best), generator)) not in tried:
                return point
        return None

    def _beside(self, center: Point, generator: random.Random) -> Point:
        drawn = {name: _near(value, self.distributions[name], generator) for name, value in center.items()}
        there = self.active(drawn)  # another option may lack a parameter; one that it has beside is the sampler's
        return {name: value for name, value in drawn.items() if name in there}


def best_points(study: optuna.Study) -> list[Point]:
    """Return the point of the best value so far, in whichever trial; with several objectives, those of the front."""
    if len(study.directions) > 1:  # Optuna keeps no values of the epochs
        return [trial.params for trial in study.best_trials if trial.params]
    peers = [trial for trial in trials_of(study) if trial.state in PEERS and trial.params]
    worths = [_worth(trial, sign_of(study)) for trial in peers]
    best = min(worths, default=math.inf)
    return [] if math.isinf(best) else [peers[worths.index(best)].params]


def _worth(trial: FrozenTrial, sign: float) -> float:
    """Return the least value, times the sign, of a trial so far."""
    if trial.state == TrialState.COMPLETE:
        return sign * trial.values[0]
    return best_so_far(trial, sign)


def _near(value: Any, distribution: BaseDistribution, generator: random.Random) -> Any:
    """Draw near a value, within the range; a choice is kept or drawn anew."""
    if isinstance(distribution, CategoricalDistribution):
        return value if generator.random() < KEPT else generator.choice(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)  # noqa: S101 - Optuna has these three
    low, high, step = distribution.low, distribution.high, distribution.step
    scale, back = (math.log, math.exp) if distribution.log else (float, float)
    spread = SPREAD * (scale(high) - scale(low))
    drawn = min(high, max(low, back(generator.gauss(scale(value), spread))))
    return min(high, low + round((drawn - low) / step) * step) if step else drawn
