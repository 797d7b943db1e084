"""The choice between timed ways to train, as arithmetic, and what timing them takes, by a clock of its own."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpsearch.tuning.choosing import (
    FIRST_STEP,
    LOOP_MARGIN,
    MIN_GAIN,
    REPEATS,
    Workload,
    candidates,
    choose,
    compare,
)
from hpsearch.tuning.timing import Candidate, Timing, TooSlowError
from hpsearch.tuning.workload import balanced

WORK = Workload(num_trials=100, epochs=5, num_batches=10, num_evaluated=0)
FUSED, VMAP, LOOP = (Timing(engine, 25, 0.1, 0.0) for engine in ("fused", "vmap", "loop"))


def times(timing, factor):
    return replace(timing, step=timing.step * factor, evaluation=timing.evaluation * factor)


def timings_of_any_kind():
    each = st.builds(
        Timing,
        engine=st.sampled_from(["fused", "vmap", "loop"]),
        width=st.integers(1, 128),
        step=st.floats(1e-6, 10),
        evaluation=st.floats(0, 1e-3),
    )
    return st.lists(each, min_size=1, max_size=12)


works = st.builds(
    Workload,
    num_trials=st.integers(1, 300),
    epochs=st.integers(1, 50),
    num_batches=st.integers(1, 500),
    num_evaluated=st.integers(0, 11_000),
    workers=st.integers(1, 16),
)


@settings(deadline=None)
@given(timings_of_any_kind(), works)
def test_the_choice_is_never_much_slower_than_loop_and_keeps_a_default_that_is_about_as_fast(timings, work):
    chosen = choose(timings, work, threads=1)
    seconds = [work.seconds(timing) for timing in timings]
    loops = [work.seconds(timing) for timing in timings if timing.engine == "loop"]
    assert chosen.seconds <= LOOP_MARGIN * min(loops, default=math.inf)
    assert chosen.seconds <= MIN_GAIN * min(seconds)
    if seconds[0] <= MIN_GAIN * min(seconds) and seconds[0] <= LOOP_MARGIN * min(loops, default=math.inf):
        assert (chosen.engine, chosen.width) == (timings[0].engine, timings[0].width)
        assert chosen.is_default
    else:
        assert chosen.seconds == min(seconds)


@pytest.mark.parametrize(
    ("others", "engine", "is_default"),
    [
        ([], "fused", True),
        ([times(VMAP, 0.95)], "fused", True),
        ([times(VMAP, 0.89)], "vmap", False),
        ([times(LOOP, 0.97)], "fused", True),
        ([times(LOOP, 0.94)], "loop", False),
        ([times(LOOP, 0.94), times(VMAP, 0.93)], "vmap", False),
    ],
)
def test_noise_does_not_change_the_default(others, engine, is_default):
    chosen = choose([FUSED, *others], WORK, threads=2)
    assert (chosen.engine, chosen.is_default, chosen.num_compared) == (engine, is_default, 1 + len(others))


def test_a_narrow_pack_wins_where_wide_ones_leave_workers_idle():
    narrow = Timing("fused", 13, 0.06, 0.0)  # slower by the trial
    assert choose([FUSED, narrow], WORK, threads=1).width == 25
    many = replace(WORK, workers=8)
    chosen = choose([FUSED, narrow], many, threads=1)
    assert (chosen.width, chosen.workers) == (13, 8)
    assert chosen.seconds == pytest.approx(5 * 10 * 0.06)  # 8 packs at the same time
    assert chosen.seconds_per_trial_epoch == pytest.approx(10 * 0.06 / 13)


def test_the_default_and_loop_are_timed_first():
    every = candidates(Candidate("fused", 32), ("fused", "vmap", "loop"), 100, on_cpu=True)
    assert every[:2] == [("fused", 32), ("loop", 32)]
    assert {each.width for each in every} == {32, 15, 8}  # half and a quarter, in packs of one size
    assert len(every) == len(set(every)) == 9
    on_gpu = candidates(Candidate("vmap", 100), ("fused", "vmap", "loop"), 100, on_cpu=False)
    assert {each.width for each in on_gpu} == {100, 50, 25, 15, 8, 4, 2}
    assert ("fused", 13) in candidates(Candidate("fused", 32), ("fused",), 100, on_cpu=True, workers=8)
    assert ("fused", 18) in candidates(Candidate("fused", 24), ("fused",), 70, on_cpu=True, workers=2)  # not 3 packs
    settled = candidates(Candidate("vmap", 7), (), 100, on_cpu=True, any_width=False)
    assert settled == [("vmap", 7)]


def step(timing):
    return timing.step


STEPS = 3  # of the epoch of a fake pack


class FakeClock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class FakePack:
    def __init__(self, clock, timing, seconds, building):
        clock.now += building
        self.clock, self.result, self.seconds, self.num_epochs = clock, timing, seconds, 0

    def run_epoch(self, most_seconds=math.inf):
        if self.seconds > STEPS * most_seconds:  # the first of its steps takes longer
            self.clock.now += self.seconds / STEPS
            raise TooSlowError("as in an emulation")
        self.clock.now += self.seconds
        self.num_epochs += 1
        return self.seconds

    def timing(self):
        return self.result


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(1e-3, 3), st.floats(0, 0.5), st.floats(0.3, 3)), min_size=1, max_size=12))
def test_comparing_takes_no_longer_than_it_may(packs):
    clock = FakeClock()
    makes = [lambda s=s, b=b: FakePack(clock, times(FUSED, s), s, b) for s, b, _ in packs]
    predicted = [seconds * wrong for seconds, _, wrong in packs]
    found = compare(makes, predicted, 2.0, clock, step)
    longest = max(seconds + building for seconds, building, _ in packs)
    assert clock.now <= 2.0 + longest  # one first epoch that was predicted too short
    assert not found or found[0].step == times(FUSED, packs[0][0]).step


def test_what_is_too_slow_or_raises_is_left_out():
    clock = FakeClock()

    def fails():
        raise ValueError("no rule for this operator")

    makes = [lambda: FakePack(clock, FUSED, 0.1, 0.0), fails, lambda: FakePack(clock, LOOP, 0.9, 0.0),
             lambda: FakePack(clock, VMAP, 0.1, 0.0)]  # fmt: skip
    assert compare(makes, [0.1, 0.1, 0.4, 0.1], 2.0, clock, step) == [FUSED, VMAP]
    assert compare(makes[1:], [0.1, 0.1, 0.1], 2.0, clock, step) == []  # no default to compare with


def test_what_is_far_slower_is_timed_once():
    clock, packs = FakeClock(), []

    def make(timing):
        packs.append(FakePack(clock, timing, timing.step, 0.0))
        return packs[-1]

    timings = [FUSED, times(LOOP, 1.6), times(VMAP, 1.4)]
    assert compare([lambda t=t: make(t) for t in timings], [0.1] * 3, 9.0, clock, step) == timings
    assert [pack.num_epochs for pack in packs] == [1 + REPEATS, 2, 1 + REPEATS]


def test_what_is_far_slower_than_thought_is_left_at_its_first_step():
    """Products in bfloat16 take 17 times as long where the processor has none: to time that was 10 s of a minute."""
    clock = FakeClock()
    slow = 17 * 2.0
    makes = [lambda: FakePack(clock, FUSED, 2.0, 0.0), lambda: FakePack(clock, VMAP, slow, 0.0)]
    assert compare(makes, [2.0, 2.5], 100.0, clock, step) == [FUSED]
    assert clock.now == pytest.approx(2.0 * (1 + REPEATS) + slow / STEPS)
    assert slow / STEPS > FIRST_STEP * 2.5


def test_what_was_timed_in_float32_is_told_in_bfloat16():
    tuned = replace(choose([FUSED], WORK, threads=1), bfloat16=1.6)
    told = tuned.in_bfloat16()
    assert (told.engine, told.width, told.bfloat16) == (tuned.engine, tuned.width, None)
    assert told.seconds == pytest.approx(tuned.seconds / 1.6)
    assert told.step == pytest.approx(tuned.step / 1.6)
    assert replace(tuned, bfloat16=None).in_bfloat16() == replace(tuned, bfloat16=None)


@pytest.mark.parametrize(
    ("num_trials", "workers", "width"),
    [(20, 1, 20), (20, 2, 10), (17, 2, 9), (70, 1, 24), (70, 2, 18), (100, 2, 25), (3, 8, 1), (1, 1, 1)],
)
def test_each_worker_gets_as_many_packs(num_trials, workers, width):
    assert balanced(num_trials, 32, workers) == width
