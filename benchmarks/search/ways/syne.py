"""Syne Tune's schedulers, asked and told in this process. They know no conditions: all values are proposed."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from benchmarks.search.problem import Run
from hpsearch.config import Choice, IntRange, Range


@dataclass(frozen=True)
class Syne:
    """One of `syne_tune.optimizer.baselines`. Those that are `whole` learn from whole trials, the others stop some."""

    name: str
    whole: bool = False

    def __call__(self, run: Run) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            from syne_tune.backend.trial_status import Trial
            from syne_tune.optimizer import baselines

        problem = run.problem
        options = {} if self.whole else {"time_attr": "epoch", "max_t": problem.epochs}
        scheduler: Any = getattr(baselines, self.name)(
            _config_space(problem.space), metric="value", do_minimize=False, random_seed=run.seed, **options
        )
        number = 0
        while run.left:
            proposed = scheduler.suggest()
            known = Trial(number, proposed.config, datetime.now())
            number += 1
            scheduler.on_trial_add(known)
            trial = run.begin({name: proposed.config[name] for name in problem.space})
            if self.whole:
                value = trial.train()
                result = {"value": problem.exploded_value if value is None else value}
            else:
                decision = "CONTINUE"
                while decision == "CONTINUE" and trial.epoch < problem.epochs:
                    value = trial.step()
                    epoch = trial.epoch + (value is None)
                    result = {"value": problem.exploded_value if value is None else value, "epoch": epoch}
                    if value is None or epoch == problem.epochs:
                        break
                    decision = scheduler.on_trial_result(known, result)
            if self.whole or decision == "CONTINUE":
                scheduler.on_trial_complete(known, result)
            else:
                scheduler.on_trial_remove(known)


def _config_space(space: Mapping[str, Range]) -> dict[str, Any]:
    from syne_tune import config_space as cs

    found: dict[str, Any] = {}
    for name, range_ in space.items():
        if isinstance(range_, Choice):
            found[name] = cs.choice(list(range_.values))
        elif isinstance(range_, IntRange):
            found[name] = (cs.lograndint if range_.log else cs.randint)(range_.low, range_.high)
        else:
            found[name] = (cs.loguniform if range_.log else cs.uniform)(range_.low, range_.high)
    return found
