"""The pruner that extrapolates curves: what it stops, why, and that only curves decide."""

import math

import optuna
import pytest
from noisy_search import Interrupting, noisy, run

from hpsearch.config import StageConfig
from hpsearch.config.metric import Metric
from hpsearch.errors import ConfigError
from hpsearch.stages.proposals import Mirror
from hpsearch.stages.pruners import make_pruner
from hpsearch.storage import TrialRow

EPOCHS = 20
GOOD = [0.9 - 0.6 * math.exp(-epoch / 2) for epoch in range(1, EPOCHS + 1)]
POOR = [0.5 - 0.2 * math.exp(-epoch / 2) for epoch in range(1, EPOCHS + 1)]


def mirror(direction="maximize", **options):
    settings = StageConfig(trials=2, epochs=EPOCHS, pruner="extrapolation", pruner_options=options)
    rows = [TrialRow(number, number, "WAITING") for number in range(2)]
    return Mirror("s", {}, settings, rows, metric=Metric("m", direction, is_own=True))


def stopped_at(mirror, number, curve, sign=1.0):
    mirror.adopt(number, {})
    return next((e for e, value in enumerate(curve, 1) if mirror.report(number, e, sign * value)), None)


@pytest.mark.parametrize(("direction", "sign"), [("maximize", 1.0), ("minimize", -1.0)])
def test_a_poor_trial_is_stopped_alike_in_both_directions_and_told_why(direction, sign):
    seen = mirror(direction)
    assert stopped_at(seen, 0, GOOD, sign) is None
    seen.finish(0, sign * GOOD[-1])
    epoch = stopped_at(seen, 1, POOR, sign)
    assert 4 <= epoch <= 10
    why = seen.why_stopped(1, "extrapolation")
    assert why.startswith(f"extrapolation (reaches the best, {'-' if sign < 0 else ''}0.9000, with probability ")
    again = mirror(direction)
    stopped_at(again, 0, GOOD, sign)
    again.finish(0, sign * GOOD[-1])
    assert stopped_at(again, 1, POOR, sign) == epoch


@pytest.mark.parametrize("sharp", [2.0, 6.0])
def test_steps_that_count_from_0_are_decided_as_epochs_from_1(sharp):
    """As most Optuna objectives report: the first step was taken for the last epoch of all."""
    climbing = [0.88 - 0.6 * (epoch + 1) ** (-sharp / 4) for epoch in range(EPOCHS)]
    said = []
    for first in (0, 1):
        seen = mirror(probability=0.3)
        stopped_at(seen, 0, GOOD)
        seen.finish(0, GOOD[-1])
        seen.adopt(1, {})
        stops = [e for e, value in enumerate(climbing[:-1]) if seen.report(1, e + first, value)]
        said.append((stops, seen.why_stopped(1, "extrapolation")))
    assert said[0] == said[1]
    assert said[0][0]


def test_a_good_trial_goes_on_and_options_hold():
    seen = mirror()
    stopped_at(seen, 0, POOR)
    seen.finish(0, POOR[-1])
    assert stopped_at(seen, 1, GOOD) is None
    late = mirror(min_epochs=12)
    stopped_at(late, 0, GOOD)
    late.finish(0, GOOD[-1])
    assert stopped_at(late, 1, POOR) == 12
    few = mirror(n_startup_trials=2)
    stopped_at(few, 0, GOOD)
    few.finish(0, GOOD[-1])
    assert stopped_at(few, 1, POOR) is None


@pytest.mark.parametrize(
    ("options", "word"),
    [({"probability": 1.5}, "1.5"), ({"probability": "much"}, "much"), ({"probability": True}, "True"),
     ({"min_epochs": 3}, "min_epochs = 3"), ({"min_epochs": 4.5}, "4.5"), ({"epochs": 5}, "it has no epochs"),
     ({"patience": 5}, "it has no patience")],
)  # fmt: skip
def test_options_that_do_not_fit(options, word):
    with pytest.raises(ConfigError) as error:
        make_pruner(StageConfig(pruner="extrapolation", pruner_options=options))
    assert word in str(error.value)
    assert "Allowed: probability, min_epochs, n_startup_trials" in str(error.value)


def test_it_is_among_the_names_that_are_allowed():
    with pytest.raises(ConfigError, match="extrapolation"):
        make_pruner(StageConfig(pruner="extrapolate"))


def test_a_stage_keeps_the_probability_with_the_trials_it_stops(db):
    settings = noisy(coarse__pruner="extrapolation", coarse__pruner_options={"probability": 0.4})
    trials = run(db, settings).trials
    stopped = [t for t in trials if str(t.attrs.get("reason", "")).startswith("extrapolation (reaches the best, ")]
    assert stopped
    assert all(len(trial.intermediate) < 8 for trial in stopped)
    assert isinstance(make_pruner(settings.study.coarse), optuna.pruners.BasePruner)


def test_a_pack_that_was_cut_short_stops_the_same_trials_in_the_same_epochs(db):
    """All in one pack: else what trains beside what, and so the best value at that time, may be another afterwards."""
    keys = {"coarse__pruner": "extrapolation", "coarse__pruner_options": {"probability": 0.4}, "run__width": 12}
    settings = noisy(**keys, run__checkpoint_seconds=1e-6)
    whole = run(db, settings, name="whole").trials
    with pytest.raises(KeyboardInterrupt):
        run(db, settings, Interrupting(5), name="cut")
    cut = run(db, settings, name="cut").trials
    assert [trial.intermediate for trial in cut] == [trial.intermediate for trial in whole]
    assert [trial.attrs.get("reason") for trial in cut] == [trial.attrs.get("reason") for trial in whole]
    assert any(str(trial.attrs.get("reason")).startswith("extrapolation (") for trial in cut)
