"""What a pack takes: the packs that are timed, and what of their time is a step's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpsearch.stages.planning import plan_coarse
from hpsearch.training.fused.engine import FusedEngine
from hpsearch.training.images import load_images
from hpsearch.training.update_ratio import UpdateRatio
from hpsearch.tuning import measuring
from hpsearch.tuning.timing import Candidate, TimedPack, Timing, TooSlowError, estimate, harmless


def test_timed_packs_do_the_arithmetic_of_the_search(tiny):
    config = plan_coarse(
        tiny(space=["lr=log(1e-5,1)", "reg=log(1e-5,1e5)", "dropout=uniform(0,0.5)", "clip_norm=log(1,9)"])
    ).trial_config
    still = harmless(config)
    assert (still.train.lr, still.train.reg, still.model.dropout) == (1e-12, 1e-9, 0.5)
    assert (still.train.clip_norm, still.train.warmup) == (1.0, 0.0)
    assert still.train.l1 == 0.0  # not searched: no pass over the weights for it
    assert still.train.batch_size == config.train.batch_size


def test_a_large_net_is_known_as_such_by_a_crumb():
    made = []

    class SlowPack:
        def __init__(self, candidate, *, num_steps, batch_size):
            self.engine = candidate.engine
            made.append((candidate.width, batch_size))
            self.steps, self.evaluations = [0.1 * candidate.width * batch_size], [0.01 * candidate.width]

        def run_epoch(self):
            return 0.0

    found = estimate(SlowPack, Candidate("loop", 10), 100, lambda _: 0.5, 10)
    assert made == [(1, 4)]
    assert (found.width, found.step, found.evaluation) == (10, pytest.approx(100.0), pytest.approx(0.1))


@pytest.mark.parametrize("overhead", [1e-5, 1e-3, 1e-2, 0.05, 0.1])
def test_what_a_step_costs_whatever_its_size_is_not_scaled_up(overhead):
    """A busy machine's 10 ms for four images are no 2.25 s for nine trials of a hundred."""
    made = []

    class Pack:
        def __init__(self, candidate, *, num_steps, batch_size):
            self.engine, self.num_steps = candidate.engine, num_steps
            made.append((candidate.width, batch_size))
            self.steps = [overhead + 1e-6 * candidate.width * batch_size]
            self.evaluations = [1e-6 * candidate.width]

        def run_epoch(self):
            return 0.0

    found = estimate(Pack, Candidate("fused", 9), 100, lambda _: 0.5, 10)
    assert made[-1] == (9, 100)
    assert found.step == pytest.approx(overhead + 9e-4)


def test_where_a_crumb_says_that_the_search_is_long_more_images_are_worth_their_time():
    """0.36 s for four images are overhead on a loaded machine, and would have been 90 times as much for the whole."""
    made = []

    class Pack:
        def __init__(self, candidate, *, num_steps, batch_size):
            self.engine, self.num_steps = candidate.engine, num_steps
            made.append(num_steps * self.step(candidate.width * batch_size))
            self.steps, self.evaluations = [self.step(candidate.width * batch_size)], [0.0]

        @staticmethod
        def step(images):
            return 0.36 + 1e-3 * images

        def run_epoch(self):
            return 0.0

    whole = Pack.step(1000)
    hasty = estimate(Pack, Candidate("loop", 10), 100, lambda _: 0.5, 10)
    assert hasty.step > 50 * whole
    made.clear()
    found = estimate(Pack, Candidate("loop", 10), 100, lambda found: max(0.5, min(10.0, found.step / 10)), 10)
    assert whole < found.step < hasty.step / 10
    assert 3 * sum(made) < 20


@given(st.integers(1, 64), st.integers(1, 256), st.floats(1e-6, 1), st.floats(1e-7, 1e-1))
def test_an_estimate_is_no_less_than_the_truth_and_takes_its_time(width, batch_size, overhead, per_image):
    spent = 0.0

    class Pack:
        def __init__(self, candidate, *, num_steps, batch_size):
            self.engine, self.num_steps = candidate.engine, num_steps
            self.steps = [overhead + per_image * candidate.width * batch_size]
            self.evaluations = [0.0]

        def run_epoch(self):
            nonlocal spent
            spent += self.num_steps * self.steps[0]

    truth = overhead + per_image * width * batch_size
    found = estimate(Pack, Candidate("fused", width), batch_size, lambda _: 0.5, 10)
    assert found.step >= truth * (1 - 1e-9)
    crumb = 3 * (overhead + per_image * min(4, batch_size))
    assert spent <= crumb + 12 * 0.75


def test_what_the_last_step_of_an_epoch_does_beside_training_is_none_of_a_step_s_time(tiny, monkeypatch):
    """It copies all weights to measure itself: a tenth of a timed epoch's steps would count it as if each did."""
    plan = plan_coarse(tiny())
    data = load_images(plan.trial_config, tiny().run)
    now = 0.0
    step, begin = FusedEngine.step, UpdateRatio.begin

    def clocked(seconds, work):
        def call(*given):
            nonlocal now
            now += seconds
            work(*given)

        return call

    monkeypatch.setattr(FusedEngine, "step", clocked(2.0, step))
    monkeypatch.setattr(UpdateRatio, "begin", clocked(100.0, begin))
    pack = TimedPack(plan.trial_config, data, "fused", 2, num_steps=3, clock=lambda: now)
    assert [pack.run_epoch() for _ in range(3)] == [106.0] * 3
    assert pack.timing() == Timing("fused", 2, 2.0, 0.0)
    one = TimedPack(plan.trial_config, data, "fused", 2, num_steps=1, clock=lambda: now)
    one.run_epoch()
    one.run_epoch()
    assert one.timing().step == 102.0  # there is no other one


def test_engines_are_compared_in_narrow_packs_where_steps_are_long():
    assert measuring.affordable_width(Timing("loop", 25, 0.25, 0.0), 1.2, 3) == 3  # 12 epochs of 3 steps, 10 ms a trial
    assert measuring.affordable_width(Timing("fused", 25, 0.1, 0.0), -0.1, 3) == 0
    assert Timing("vmap", 3, 0.06, 0.003).scaled(8) == Timing("vmap", 24, pytest.approx(0.48), pytest.approx(0.024))


def test_an_epoch_whose_first_step_is_too_slow_ends_with_it(tiny, monkeypatch):
    plan = plan_coarse(tiny())
    data = load_images(plan.trial_config, tiny().run)
    num_steps, step = 0, FusedEngine.step

    def counted(*given):
        nonlocal num_steps
        num_steps += 1
        step(*given)

    monkeypatch.setattr(FusedEngine, "step", counted)
    pack = TimedPack(plan.trial_config, data, "fused", 2, num_steps=3, clock=lambda: float(num_steps))
    with pytest.raises(TooSlowError, match="first step"):
        pack.run_epoch(most_seconds=0.5)
    assert num_steps == 1
