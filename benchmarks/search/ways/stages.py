"""hpsearch's stages by its own code: draws, narrowing, and the mirror in which samplers and pruners see them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.search.problem import Run, Trial
from benchmarks.search.ways.halved import HalvedStage
from benchmarks.staged import waiting
from hpsearch.analysis.called_again import Called
from hpsearch.analysis.repeats import Repeats, in_order_of_means
from hpsearch.config import Choice, Range, StageConfig
from hpsearch.config.ranges import Limits
from hpsearch.config.schema import LEARNING_SAMPLERS
from hpsearch.space import Narrowing, Observation, narrow
from hpsearch.stages.confirming import candidates, first_number, to_call_again
from hpsearch.stages.drawn import drawn_params
from hpsearch.stages.earlier_trials import MOST_OF_GP, EarlierTrial, bounded, comparable, is_inside
from hpsearch.stages.expected_values import ExpectedValues, Tried
from hpsearch.stages.mirrors import needs_mirror
from hpsearch.stages.proposals import Mirror
from hpsearch.stages.sampler_knowledge import NUM_NEWEST
from hpsearch.stages.unexplained import MOST as MOST_UNEXPLAINED
from hpsearch.stages.unexplained import explain

COARSE_EPOCHS = 1 / 4  # of a fine trial's: 5 of 20, as the study file's defaults are
COARSE_BUDGET = {True: 1 / 3, False: 2 / 3}  # of all epochs, with and without curves: 100 x 5 and 50 x 20; 100 and 50


@dataclass(frozen=True)
class Staged:
    """A coarse stage, then fine ones, each in the ranges to which the one before narrowed.

    Attributes:
        sampler: of the fine stages.
        first: the sampler of the coarse one.
        pruner: of the fine stages.
        fine_stages: that share the epochs which coarse leaves.
        forget: whether samplers begin without the trials of the stages before.
        coarse_share: epochs of a coarse trial, as a share of a whole one.
        tell_all: whether samplers are told of trials of other epochs where choices are searched, too.
        halving: of the coarse stage, whose trials then have the epochs of whole ones to go through.
        drops_choices: whether narrowing drops choices after a stage whose sampler learned, too.
        confirm: calls of the leader again in the fine stages, as over an [objective]; none where trials have curves.
        by_value: whether the leader that is called again is that of the best value before a Gaussian process, too.
        stays: whether ranges move only outwards, as before a Gaussian process that knows all trials: "always", or
            where it explains them.
    """

    sampler: str = "tpe"
    first: str = "random"
    pruner: str = "none"
    fine_stages: int = 1
    forget: bool = False
    coarse_share: float = COARSE_EPOCHS
    tell_all: bool = False
    halving: Literal["none", "stop", "promote"] = "none"
    drops_choices: bool = False
    confirm: int = 0
    by_value: bool = False
    stays: Literal["never", "explained", "always"] = "never"

    def __call__(self, run: Run) -> None:
        problem = run.problem
        has_curves = problem.epochs > 1
        epochs = max(1, round(problem.epochs * self.coarse_share))
        num_coarse = max(1, round(run.budget * COARSE_BUDGET[has_curves] / epochs))
        space = dict(problem.space)
        settings = StageConfig(trials=num_coarse, epochs=epochs, sampler=self.first, seed=run.seed)
        if self.halving == "none":
            seen = _stage(run, space, settings, (), run.budget)
            earlier = _earlier("coarse", epochs, seen)
        else:
            epochs, num_epochs = problem.epochs, round(run.budget * COARSE_BUDGET[has_curves])
            settings = StageConfig(trials=num_epochs, epochs=epochs, sampler=self.first, seed=run.seed)
            draws = list(drawn_params(space, settings, problem.conditions))
            stage = HalvedStage(run, self.halving, num_epochs, lambda number: draws[number] or {})
            seen, earlier = stage.search(), stage.earlier("coarse")
        last, sampler = run.left, self.first
        for number in range(self.fine_stages):
            stays_as = "all is known" if self._stays(space, seen) else ""
            narrowed = narrow(space, seen, "maximize", _limits_in(problem.space), stays_as)
            space = {change.param: self._new(change, sampler) for change in narrowed}
            budget = last // self.fine_stages if number < self.fine_stages - 1 else run.left
            settings = StageConfig(
                trials=max(1, budget),
                epochs=problem.epochs,
                sampler=self.sampler,
                pruner=self.pruner,
                confirm=0 if has_curves else self.confirm,
                seed=run.seed + number + 1,
            )
            inside = [] if self.forget else [trial for trial in earlier if _fits(trial, space)]
            if not self.tell_all:
                inside = comparable(inside, space, problem.epochs if has_curves else None, self.sampler)
            inside = bounded(inside, "maximize", MOST_OF_GP if self.sampler == "gp" else NUM_NEWEST)
            seen = _stage(run, space, settings, inside, budget, by_value=self.by_value)
            sampler = self.sampler
            earlier += _earlier(f"fine-{number}", problem.epochs, seen)

    def _stays(self, space: Mapping[str, Range], seen: Sequence[Observation]) -> bool:
        if self.stays == "explained":  # where not all trials have all, they are not known
            has_all = not any(range_.when for range_ in space.values())
            return has_all and explain(space, seen, "maximize").left <= MOST_UNEXPLAINED
        return self.stays == "always"

    def _new(self, change: Narrowing, sampler: str) -> Range:
        stays = isinstance(change.old, Choice) and sampler in LEARNING_SAMPLERS and not self.drops_choices
        return change.old if stays else change.new


def _limits_in(space: Mapping[str, Range]) -> Callable[[str], Limits]:
    """As the study file says them, beyond which a parameter has no value."""
    return lambda name: (None, None) if isinstance(space[name], Choice) else space[name].limits


@dataclass(frozen=True)
class Alone:
    """One stage over the whole ranges, whose sampler proposes all trials."""

    sampler: str

    def __call__(self, run: Run) -> None:
        settings = StageConfig(trials=run.budget, epochs=run.problem.epochs, sampler=self.sampler, seed=run.seed)
        _stage(run, run.problem.space, settings, (), run.budget)


def _stage(
    run: Run,
    space: Mapping[str, Range],
    settings: StageConfig,
    earlier: Sequence[EarlierTrial],
    budget: int,
    *,
    by_value: bool = False,
) -> list[Observation]:
    """Its trials, as many as the epochs suffice for; those that explode cost fewer. The last one may be cut short."""
    conditions = run.problem.conditions
    mirror = None
    drawn = drawn_params(space, settings, conditions)
    if needs_mirror(settings):
        mirror = Mirror(
            "stage",
            space,
            settings,
            waiting(settings.trials),
            conditions=conditions,
            earlier=earlier,
        )
    end = run.spent + budget
    seen: list[Observation] = []
    begun: dict[int, Trial] = {}
    expected = ExpectedValues(space, "maximize") if settings.sampler == "gp" and not by_value else None
    for number, params in enumerate(drawn):
        if run.spent >= end:
            break
        if settings.confirm and number >= first_number(settings.trials):
            calls = [_called(each, trial) for each, trial in begun.items()]
            calls = candidates(calls, earlier, [each.params for each in seen], settings.epochs)
            if expected is not None:
                expected.learn(_tried(begun, earlier))

            def expect(best: Sequence[Called]) -> list[float] | None:
                params = [
                    (earlier[-1 - each.number] if each.number < 0 else begun[each.number]).params for each in best
                ]
                return expected.of(params) if expected is not None else None

            of = to_call_again(calls, settings.confirm, "maximize", expect)
            if of is not None and of < 0:
                params = dict(earlier[-1 - of].params)
            elif of is not None:
                assert mirror is not None
                mirror.adopt(number, begun[of].params)
                mirror.call_again(number, of)
                mirror.finish(number, run.call_again(begun[of]))
                continue
        if params is None:
            assert mirror is not None
            params = mirror.propose(number)
        elif mirror is not None:
            mirror.adopt(number, params)
        begun[number] = run.begin(params)
        seen.append(_trial(begun[number], number, settings.epochs, mirror))
        if begun[number].best is None:
            del begun[number]
    return _in_order_of_means(seen, begun)


def _called(number: int, trial: Trial) -> Called:
    assert trial.best is not None, "only trials with a value are called again"
    return Called(number, trial.best, dict(enumerate(trial.again)))


def _tried(begun: Mapping[int, Trial], earlier: Sequence[EarlierTrial]) -> list[Tried]:
    """As a worker knows them."""
    before = [Tried(trial.params, [trial.value]) for trial in earlier if trial.value is not None]
    return [*before, *(Tried(trial.params, _called(0, trial).known) for trial in begun.values())]


def _in_order_of_means(seen: list[Observation], begun: Mapping[int, Trial]) -> list[Observation]:
    """As narrowing sees a stage of which trials were called again."""
    again = {number: trial for number, trial in begun.items() if trial.again}
    if not again:
        return seen
    repeats = Repeats(
        1,
        {number: trial.best or 0.0 for number, trial in again.items()},
        {number: dict(enumerate(trial.again)) for number, trial in again.items()},
        among_trials=True,
    )
    return in_order_of_means(seen, repeats, "maximize")


def _trial(trial: Trial, number: int, epochs: int, mirror: Mirror | None) -> Observation:
    """Trained, told to the mirror, and stopped where its pruner says so."""
    pruned = False
    for epoch in range(1, epochs + 1):
        value = trial.step()
        if value is None:
            break
        if mirror is not None and mirror.report(number, epoch, value) and epoch < epochs:
            pruned = True
            break
    if mirror is not None:
        if trial.exploded and trial.epoch == 0:
            mirror.report(number, 1, trial.run.problem.exploded_value)
        mirror.finish(number, None if pruned else trial.best, exploded=trial.exploded)
    outcome: Any = "exploded" if trial.exploded else "pruned" if pruned else "complete"
    return Observation(number, dict(trial.params), trial.best, outcome)


def _earlier(study: str, epochs: int, seen: Sequence[Observation]) -> list[EarlierTrial]:
    return [EarlierTrial(study, epochs, trial.params, trial.value) for trial in seen if trial.outcome != "pruned"]


def _fits(trial: EarlierTrial, space: Mapping[str, Range]) -> bool:
    """With all that it has inside the ranges; one of a conditional range may be missing."""
    return all(
        is_inside(range_, trial.params[name]) if name in trial.params else bool(range_.when)
        for name, range_ in space.items()
    )
