import math

import pytest

from hpsearch.config import Choice, FloatRange, IntRange, StageConfig
from hpsearch.config.metric import Metric
from hpsearch.errors import ConfigError
from hpsearch.stages.drawn import drawn_params, num_trials
from hpsearch.stages.proposals import Mirror
from hpsearch.stages.pruners import make_pruner
from hpsearch.storage import TrialRow

SPACE = {
    "lr": FloatRange(1e-6, 1.0, log=True),
    "train.batch_size": IntRange(8, 64),
    "model.hidden": Choice(((50,), (100, 20))),
}


def waiting(number):
    return [TrialRow(trial_id=i, number=i, state="WAITING") for i in range(number)]


@pytest.mark.parametrize("sampler", ["random", "qmc", "grid"])
def test_drawn_parameters_come_from_the_seed_alone_and_lie_in_their_ranges(sampler):
    settings = StageConfig(trials=40, sampler=sampler, seed=3)
    drawn = drawn_params(SPACE, settings)
    assert drawn == drawn_params(SPACE, settings)
    assert drawn != drawn_params(SPACE, StageConfig(trials=40, sampler=sampler, seed=4))
    assert len(drawn) == num_trials(SPACE, settings)
    for params in drawn:
        assert 1e-6 <= params["lr"] <= 1
        assert 8 <= params["train.batch_size"] <= 64
        assert params["model.hidden"] in ((50,), (100, 20))


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes"])
def test_samplers_propose_inside_the_space_and_tuples_stay_tuples(sampler):
    settings = StageConfig(trials=16, sampler=sampler)
    assert drawn_params(SPACE, settings) == [None] * 16
    mirror = Mirror("s", SPACE, settings, waiting(16))
    for number in range(16):
        params = mirror.propose(number)
        assert 1e-6 <= params["lr"] <= 1
        assert isinstance(params["train.batch_size"], int)
        assert params["model.hidden"] in ((50,), (100, 20))
        mirror.report(number, 1, 0.5)
        mirror.finish(number, 0.5)


def explodes(params):
    return params["lr"] > 1e-2


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_the_sampler_learns_to_leave_the_exploding_region(sampler):
    """Two of six decades explode; the higher the rate, the better, up to there. A sampler that never learns of the
    explosions would see nothing that speaks against going on."""
    settings = StageConfig(trials=40, sampler=sampler, seed=1)
    mirror = Mirror("s", {"lr": SPACE["lr"]}, settings, waiting(40))
    exploded = []
    for number in range(40):
        params = mirror.propose(number)
        exploded.append(explodes(params))
        if exploded[-1]:
            mirror.report(number, 1, 0.0)
            mirror.finish(number, None, exploded=True)
        else:
            mirror.finish(number, 7 + math.log10(params["lr"]))
    assert any(exploded[:10])
    assert sum(exploded[20:]) <= 10  # all 20 by a sampler that cannot see them


def test_a_restarted_mirror_knows_what_the_first_one_knew_and_proposes_something_new():
    settings = StageConfig(trials=20, sampler="tpe")
    space = {"lr": SPACE["lr"]}
    first = Mirror("s", space, settings, waiting(20))
    rows = []
    for number in range(10):
        params = first.propose(number)
        ranges = {"lr": space["lr"]}
        rows.append(TrialRow(number, number, "COMPLETE", 0.5, params, ranges, {1: 0.5}))
        first.finish(number, 0.5)
    second = Mirror("s", space, settings, [*rows, *waiting(20)[10:]])
    known = [trial.params for trial in second.study.get_trials() if trial.state.is_finished()]
    assert known == [row.params for row in rows]
    assert second.propose(10) not in known


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes"])
def test_two_workers_that_begin_at_the_same_moment_propose_different_trials(sampler):
    settings = StageConfig(trials=8, sampler=sampler)
    one, other = (Mirror("s", SPACE, settings, waiting(8)) for _ in range(2))
    proposed = [one.propose(number)["lr"] for number in range(4)] + [
        other.propose(number)["lr"] for number in range(4, 8)
    ]
    assert len(set(proposed)) == 8


def test_the_median_pruner_stops_the_worse_half_and_replays_from_the_database():
    settings = StageConfig(trials=8, pruner="median", pruner_options={"n_startup_trials": 2, "n_warmup_steps": 0})
    ranges = {"lr": SPACE["lr"]}
    rows = [
        TrialRow(i, i, "COMPLETE", value, {"lr": 0.1}, ranges, {1: value, 2: value})
        for i, value in enumerate([0.5, 0.6, 0.7])
    ]
    mirror = Mirror("s", ranges, settings, [*rows, *waiting(8)[3:]])
    mirror.adopt(3, {"lr": 0.1})
    mirror.adopt(4, {"lr": 0.1})
    assert mirror.report(3, 1, 0.1)
    assert not mirror.report(4, 1, 0.9)


@pytest.mark.parametrize("name", ["median", "MedianPruner", "successive-halving", "hyperband", "nop", "none"])
def test_pruners_by_name(name):
    assert make_pruner(StageConfig(pruner=name)) is not None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (StageConfig(pruner="best"), ["pruner = 'best'", "hyperband", "median"]),
        (StageConfig(pruner="median", pruner_options={"warmup": 3}), ["median", "warmup"]),
        (StageConfig(pruner="percentile"), ["percentile"]),
    ],
)
def test_wrong_pruners_are_named(settings, words):
    with pytest.raises(ConfigError) as caught:
        make_pruner(settings)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes"])
def test_less_of_a_loss_is_as_much_of_its_negative(sampler):
    """Two searches for the same optimum, one to minimize and one to maximize, propose the same; explosions included."""
    space, proposed = {"lr": SPACE["lr"]}, []
    for metric, sign in ((Metric("loss", "minimize"), 1.0), (Metric("own:negative", "maximize"), -1.0)):
        settings = StageConfig(trials=14, sampler=sampler, seed=3)
        mirror = Mirror("s", space, settings, waiting(14), metric=metric)
        values, found = [], []
        for number in range(14):
            found.append(mirror.propose(number)["lr"])
            loss = abs(math.log10(found[-1]) + 2)
            mirror.report(number, 1, sign * loss)
            exploded = found[-1] > 0.3
            values += [] if exploded else [sign * loss]
            mirror.finish(number, None if exploded else sign * loss, exploded=exploded)
        assert mirror.best_value == (min if sign > 0 else max)(values)
        proposed.append(found)
    assert proposed[0] == pytest.approx(proposed[1])


def test_a_pruner_stops_the_trial_with_the_higher_loss():
    settings = StageConfig(trials=8, pruner="median", pruner_options={"n_startup_trials": 4})
    mirror = Mirror("s", SPACE, settings, waiting(8), metric=Metric("loss", "minimize"))
    for number in range(8):
        mirror.adopt(number, {})
    for number in range(4):
        mirror.report(number, 1, 1.0)
        mirror.finish(number, 1.0)
    assert mirror.report(4, 1, 2.0)
    assert not mirror.report(5, 1, 0.5)
