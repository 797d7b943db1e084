"""Tuning: the choice as arithmetic, the time that it takes by a clock of its own, the cache, and a real stage."""

import json
import math
import os
import time
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hpsearch.cli.output import outlook_lines
from hpsearch.search.session import Outlook, look_ahead, run_stage
from hpsearch.stages.plan import plan_coarse
from hpsearch.training.fused.engine import FusedEngine
from hpsearch.training.images import load_images
from hpsearch.training.update_ratio import UpdateRatio
from hpsearch.tuning import timing_cache, tuning
from hpsearch.tuning.choosing import LEAST_GAIN, LOOP_MARGIN, REPEATS, Workload, candidates, choose, compare
from hpsearch.tuning.timing import Candidate, TimedPack, Timing, estimate, harmless
from hpsearch.tuning.timing_cache import Measured
from hpsearch.tuning.workload import balanced
from hpsearch.worker.worker import Worker

WORK = Workload(num_trials=100, epochs=5, num_batches=10, num_evaluated=0)
FUSED, VMAP, LOOP = (Timing(engine, 25, 0.1, 0.0) for engine in ("fused", "vmap", "loop"))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "hpsearch" / "tuning.json"


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
    assert chosen.seconds <= LEAST_GAIN * min(seconds)
    if seconds[0] <= LEAST_GAIN * min(seconds) and seconds[0] <= LOOP_MARGIN * min(loops, default=math.inf):
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


class FakeClock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class FakePack:
    def __init__(self, clock, timing, seconds, building):
        clock.now += building
        self.clock, self.result, self.seconds, self.num_epochs = clock, timing, seconds, 0

    def run_epoch(self):
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


ABOUT = {"device": "cpu: one", "torch": "2", "hpsearch": "1"}
MEASURED = Measured((FUSED, LOOP), 1.5, 1.2)


def test_timings_are_found_again_for_the_same_device_and_version_alone(cache):
    assert timing_cache.read(ABOUT) is None
    timing_cache.write(ABOUT, MEASURED)
    assert timing_cache.read(ABOUT) == MEASURED
    for name in ABOUT:
        assert timing_cache.read({**ABOUT, name: "other"}) is None
    timing_cache.write({**ABOUT, "torch": "3"}, replace(MEASURED, bfloat16=None))
    assert timing_cache.read(ABOUT) == MEASURED
    assert [path.name for path in cache.parent.iterdir()] == ["tuning.json"]


def test_the_cache_does_not_grow_for_ever(monkeypatch):
    monkeypatch.setattr(timing_cache, "MOST_ENTRIES", 2)
    for number in range(3):
        timing_cache.write({"number": number}, MEASURED)
    assert [timing_cache.read({"number": number}) for number in range(3)] == [None, MEASURED, MEASURED]


@pytest.mark.parametrize("text", ["", "{", "[]", "nan", "\x00"])
def test_a_broken_cache_is_ignored_with_a_word(cache, caplog, text):
    cache.parent.mkdir(parents=True)
    cache.write_text(text)
    assert timing_cache.read(ABOUT) is None
    assert "ignored" in caplog.text
    timing_cache.write(ABOUT, MEASURED)
    assert timing_cache.read(ABOUT) == MEASURED


@pytest.mark.parametrize(
    "change",
    [{"timings": []}, {"timings": [{}]}, {"timings": 3}, {"seconds": "1"}, {"timings": [["fused", 25, 1, 0]]}]
    + [{"timings": [{"engine": "fused", "width": 2, "step": step, "evaluation": 0}]} for step in (0, -1, math.nan)],
)
def test_a_broken_entry_is_ignored_with_a_word(cache, caplog, change):
    timing_cache.write(ABOUT, MEASURED)
    [(name, entry)] = json.loads(cache.read_text()).items()
    cache.write_text(json.dumps({name: {**entry, **change}}))
    assert timing_cache.read(ABOUT) is None
    assert "cannot be used" in caplog.text


def test_a_cache_that_cannot_be_written_ends_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    timing_cache.write(ABOUT, MEASURED)
    assert timing_cache.read(ABOUT) is None


def test_the_cache_is_in_the_folder_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for unset in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", unset)
        assert timing_cache.cache_file() == tmp_path / ".cache" / "hpsearch" / "tuning.json"


@pytest.fixture
def no_search_is_small(monkeypatch):
    """Tiny nets are tuned, too, as if their searches took hours, and on slow machines as on others."""
    monkeypatch.setattr(tuning, "WORTH_ON_CPU", 0.0)
    monkeypatch.setattr(tuning, "MOST_SHARE", 1e6)
    monkeypatch.setattr(tuning, "MOST_SECONDS", 600.0)


def prepared(tiny, **other):
    settings = tiny(**other)
    plan = plan_coarse(settings)
    return plan, load_images(plan.trial_config, settings.run), settings.run


def refuse(*_arguments, **_options):
    raise AssertionError("something was measured")


def test_a_small_search_is_not_tuned(tiny, monkeypatch):
    plan, data, run = prepared(tiny)
    monkeypatch.setattr(tuning, "TimedPack", refuse)
    assert tuning.why_not(plan, data, run) == "the search is small"
    assert tuning.settle(plan, data, run) is run
    large, _, _ = prepared(tiny, coarse__trials=100_000, coarse__epochs=20_000)
    assert tuning.why_not(large, data, run) is None
    assert tuning.why_not(large, data, run, workers=1000) == "the search is small"
    assert tuning.why_not(large, data, run, share=1e-4) == "the search is small"


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"run__tune": False}, "run.tune"),
        ({"run__engine": "loop", "run__width": 3}, "given"),
        ({"run__engine": "vmap", "coarse__sampler": "tpe"}, "given"),
        ({"space": ["model.hidden=choice([4],[6])"]}, "several kinds"),
    ],
)
@pytest.mark.usefixtures("no_search_is_small")
def test_what_is_given_or_not_alike_is_not_tuned(tiny, monkeypatch, other, why):
    plan, data, run = prepared(tiny, **other)
    monkeypatch.setattr(tuning, "TimedPack", refuse)
    assert why in tuning.why_not(plan, data, run)
    assert tuning.settle(plan, data, run) is run


@pytest.fixture
def tried(monkeypatch):
    """The (engine, width) of each pack that is timed; loop seems to be a hundred times as fast as the others."""
    seen = []
    original = TimedPack.timing

    def timing(self):
        found = original(self)
        seen.append((found.engine, found.width))
        return times(found, 0.01) if found.engine == "loop" else found

    monkeypatch.setattr(TimedPack, "timing", timing)
    return seen


@pytest.mark.usefixtures("no_search_is_small")
def test_an_engine_or_a_width_that_is_given_is_kept(tiny, tried):
    plan, data, run = prepared(tiny, run__engine="vmap")
    settled = tuning.settle(plan, data, run)
    assert settled.engine == "vmap"
    assert {engine for engine, _ in tried} == {"vmap"}
    tried.clear()
    plan, data, run = prepared(tiny, run__width=5)
    assert (tuning.settle(plan, data, run).engine, tuning.settle(plan, data, run).width) == ("loop", 5)
    assert {width for _, width in tried} == {5}


@pytest.mark.usefixtures("no_search_is_small")
def test_what_learns_from_finished_packs_keeps_its_width(tiny, tried):
    plan, data, run = prepared(tiny, coarse__sampler="tpe")
    settled = tuning.settle(plan, data, run)
    assert (settled.engine, settled.width) == ("loop", 2)
    assert {width for _, width in tried} == {2}


@pytest.mark.usefixtures("no_search_is_small")
def test_a_stage_trains_with_what_won_and_gives_the_same_numbers(db, tiny, tried, tmp_path, monkeypatch):
    from hpsearch.storage import open_database

    runs = []
    original = Worker.__init__

    def spy(self, db, study, plan, data, run, *rest, **options):
        runs.append(run)
        original(self, db, study, plan, data, run, *rest, **options)

    monkeypatch.setattr(Worker, "__init__", spy)
    plan, data, run = prepared(tiny, train__precision="float64")
    tuned = run_stage(db, plan, run, data)
    assert runs[0].engine == "loop"
    assert {engine for engine, _ in tried} == {"fused", "vmap", "loop"}
    other = open_database(f"sqlite:///{tmp_path}/other.db", create=True)
    plain = run_stage(other, plan, run.model_copy(update={"tune": False}), data)
    assert runs[1].engine == "auto"
    assert [trial.value for trial in tuned.trials] == [trial.value for trial in plain.trials]


@pytest.mark.usefixtures("no_search_is_small")
def test_kernels_are_compiled_before_anything_is_timed(tiny, monkeypatch):
    done = []
    monkeypatch.setattr(tuning, "compile_kernels", lambda optimizer: done.append(optimizer))
    original = tuning.TimedPack
    monkeypatch.setattr(tuning, "TimedPack", lambda *given, **more: (done.append("timed"), original(*given, **more))[1])
    tuning.tune(*prepared(tiny, train__optimizer="nesterov"))
    assert done[:2] == ["nesterov", "timed"]
    assert "nesterov" not in done[1:]


def test_what_was_timed_in_float32_is_told_in_bfloat16():
    tuned = replace(choose([FUSED], WORK, threads=1), bfloat16=1.6)
    told = tuned.in_bfloat16()
    assert (told.engine, told.width, told.bfloat16) == (tuned.engine, tuned.width, None)
    assert told.seconds == pytest.approx(tuned.seconds / 1.6)
    assert told.step == pytest.approx(tuned.step / 1.6)
    assert replace(tuned, bfloat16=None).in_bfloat16() == replace(tuned, bfloat16=None)


@pytest.mark.parametrize(("of_the_search", "granted"), [(10, 1.0), (100, 2.0), (10_000, 4.0)])
def test_a_long_search_takes_longer_to_time_bfloat16(tiny, monkeypatch, of_the_search, granted):
    seen = []
    monkeypatch.setattr(tuning, "compare", lambda _makes, _predicted, seconds, *_: seen.append(seconds) or [])
    plan, data, _ = prepared(tiny)
    tuned = replace(choose([FUSED], WORK, threads=1), seconds=of_the_search)
    assert tuning._bfloat16(plan, data, tuned, time.perf_counter) is None
    assert seen == [granted]


def test_numba_s_version_is_one_that_timings_depend_on(monkeypatch):
    from importlib import metadata

    described = timing_cache.describe(torch.device("cpu"), "", ())
    assert described["numba"] == metadata.version("numba")
    assert timing_cache._version("no-package-of-this-name") is None


@pytest.mark.usefixtures("no_search_is_small")
def test_the_second_search_measures_nothing(tiny, tried, monkeypatch, cache):
    plan, data, run = prepared(tiny)
    first = tuning.tune(plan, data, run)
    assert (first.engine, first.is_default, first.cached) == ("loop", False, False)
    assert first.num_compared == 9
    monkeypatch.setattr(tuning, "TimedPack", refuse)
    assert tuning.tune(plan, data, run) == replace(first, cached=True)
    assert next(iter(json.loads(cache.read_text()).values()))["about"]["shape"] == [1, 4, 4]
    monkeypatch.setattr(tuning, "_bfloat16", lambda *_: None)  # as on a machine that was too busy
    assert tuning.tune(plan, data, run, bfloat16=True) == replace(first, cached=True)
    monkeypatch.setattr(tuning, "_bfloat16", lambda *_: 1.5)
    assert tuning.tune(plan, data, run, bfloat16=True) == replace(first, cached=True, bfloat16=1.5)
    monkeypatch.setattr(tuning, "_bfloat16", refuse)
    assert tuning.tune(plan, data, run, bfloat16=True).bfloat16 == 1.5
    elsewhere = plan.config.data.model_copy(update={"seed": 7})  # other images of the same shape
    same_steps = replace(plan, config=plan.config.model_copy(update={"data": elsewhere}))
    assert tuning.tune(same_steps, data, run).cached
    turned = plan.config.data.model_copy(update={"augment": ("hflip",)})
    with pytest.raises(AssertionError, match="measured"):
        tuning.tune(replace(plan, config=plan.config.model_copy(update={"data": turned})), data, run)
    with pytest.raises(AssertionError, match="measured"):  # two workers do other work
        tuning.tune(plan, data, run, workers=2)
    for owner, name in ((timing_cache, "MEANING"), (timing_cache.hpsearch, "__version__")):
        with monkeypatch.context() as other:
            other.setattr(owner, name, "another")
            with pytest.raises(AssertionError, match="measured"):
                tuning.tune(plan, data, run)


def test_a_search_that_is_much_larger_looks_again(tiny, monkeypatch):
    monkeypatch.setattr(tuning, "WORTH_ON_CPU", 0.0)
    plan, data, run = prepared(tiny)
    monkeypatch.setattr(timing_cache, "read", lambda _about: Measured((FUSED, LOOP), 0.01, 1.0))
    monkeypatch.setattr(tuning, "TimedPack", refuse)
    with pytest.raises(AssertionError, match="measured"):
        tuning.tune(plan, data, run)
    monkeypatch.setattr(timing_cache, "read", lambda _about: Measured((FUSED, LOOP), 2.0, 1.0))
    assert tuning.tune(plan, data, run).cached


@pytest.mark.usefixtures("no_search_is_small")
def test_a_measurement_that_fails_ends_no_search(tiny, monkeypatch, caplog):
    plan, data, run = prepared(tiny)
    monkeypatch.setattr(tuning, "TimedPack", refuse)
    assert tuning.settle(plan, data, run) is run
    assert "could not be tuned: something was measured" in caplog.text


def test_timed_packs_do_the_arithmetic_of_the_search(tiny):
    config = plan_coarse(tiny(space=["lr=log(1e-5,1)", "reg=log(1e-5,1e5)", "dropout=uniform(0,0.5)"])).trial_config
    still = harmless(config)
    assert (still.train.lr, still.train.reg, still.model.dropout) == (1e-12, 1e-9, 0.5)
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

    found = estimate(SlowPack, Candidate("loop", 10), 100, 0.5, 10)
    assert made == [(1, 4)]
    assert (found.width, found.step, found.evaluation) == (10, pytest.approx(100.0), pytest.approx(0.1))


def test_what_the_last_step_of_an_epoch_does_beside_training_is_none_of_a_step_s_time(tiny, monkeypatch):
    """It copies all weights to measure itself: a tenth of a timed epoch's steps would count it as if each did."""
    plan, data, _ = prepared(tiny)
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
    assert tuning.affordable_width(Timing("loop", 25, 0.25, 0.0), 1.2, 3) == 3  # 12 epochs of 3 steps, 10 ms a trial
    assert tuning.affordable_width(FUSED, -0.1, 3) == 0
    assert Timing("vmap", 3, 0.06, 0.003).scaled(8) == Timing("vmap", 24, pytest.approx(0.48), pytest.approx(0.024))


@pytest.mark.usefixtures("no_search_is_small")
def test_engines_of_a_slow_net_are_compared_for_its_whole_width(tiny, tried, monkeypatch):
    monkeypatch.setattr(tuning, "affordable_width", lambda *_: 4)
    plan, data, run = prepared(tiny)
    found = tuning.tune(plan, data, run)
    assert (found.engine, found.width, found.num_compared) == ("loop", 12, 3)
    assert set(tried) == {("fused", 4), ("loop", 4), ("vmap", 4)}
    monkeypatch.setattr(tuning, "affordable_width", lambda *_: 3)
    assert tuning.tune(plan, data, run.model_copy(update={"width": 11})).num_compared == 1


def test_a_dry_run_takes_the_workers_into_account(tiny):
    settings = tiny(run__width=3)
    alone = look_ahead(plan_coarse(settings), settings.run)
    together = look_ahead(plan_coarse(settings), settings.run, 4)
    assert (alone.workers, together.workers) == (1, 4)
    for outlook, rounds in ((alone, 4), (together, 1)):
        tuned = outlook.tuning
        assert outlook.num_packs == 4
        assert outlook.seconds == pytest.approx(rounds * 2 * 3 * tuned.seconds_per_trial_epoch)
    assert {"engine": "fused", "threads": 1, "workers": 4, "cached": False}.items() <= together.as_dict().items()
    assert look_ahead(plan_coarse(settings), settings.run, devices=["cpu", "cpu"]).workers == 2


@pytest.mark.parametrize(
    ("num_trials", "workers", "width"),
    [(20, 1, 20), (20, 2, 10), (17, 2, 9), (70, 1, 24), (70, 2, 18), (100, 2, 25), (3, 8, 1), (1, 1, 1)],
)
def test_each_worker_gets_as_many_packs(num_trials, workers, width):
    assert balanced(num_trials, 32, workers) == width


def test_a_small_search_of_several_workers_has_packs_for_all(tiny):
    plan, data, run = prepared(tiny)
    assert tuning.settle(plan, data, run, workers=2).width == 6
    assert tuning.settle(plan, data, run, workers=2, share=0.5).width == 3
    assert look_ahead(plan, run, 2).num_packs == 2
    own = run.model_copy(update={"width": 8})
    assert tuning.settle(plan, data, own, workers=2) is own
    learning, _, _ = prepared(tiny, coarse__sampler="tpe")
    assert tuning.settle(learning, data, run, workers=2) is run


def test_a_dry_run_says_what_was_measured():
    tuned = replace(choose([FUSED, VMAP], WORK, threads=2), cached=True)
    lines = dict(outlook_lines(Outlook(100, "cpu", 1, tuned, "float32")))
    assert lines == {
        "packs": "4 of 25 trials on cpu, engine fused, float32, 1 worker with 2 threads",
        "time": "about 20 s",
        "measured": "100 ms a step for 25 trials, engine fused, the best of 2 ways; cached",
    }
    tuned = replace(choose([FUSED], replace(WORK, workers=2), threads=1), bfloat16=1.73)
    lines = dict(outlook_lines(Outlook(100, "cpu", 2, tuned, "float32")))
    assert lines["packs"].endswith("2 workers, each with 1 thread")
    assert lines["time"] == "about 10 s"
    assert lines["measured"] == "100 ms a step for 25 trials, engine fused"
    assert "1.7 x as fast" in lines["bfloat16"]
    assert "--set train.precision=bfloat16" in lines["bfloat16"]
    assert "bfloat16" not in dict(outlook_lines(Outlook(100, "cpu", 1, replace(tuned, bfloat16=1.05))))
    assert outlook_lines(Outlook(100, unknown="no images")) == [("time", "not known: no images")]


@pytest.mark.usefixtures("no_search_is_small")
def test_a_fleet_is_tuned_once_and_its_workers_are_told(db, tiny, tried, monkeypatch):
    from hpsearch.fleet.supervisor import _environment
    from hpsearch.search import stage_run as fleet
    from hpsearch.stages.listener import Listener
    from hpsearch.worker.stopping import Stop

    told = {}

    class Supervisor:
        def __init__(self, _db, url, _study, run, devices, *_rest, threads, **_options):
            told.update(_environment(run, url, threads))

        def run(self):
            pass

    monkeypatch.setattr(fleet, "Supervisor", Supervisor)
    plan, data, run = prepared(tiny)
    fleet.run_fleet(db, plan, run, data, 2, (), Listener(), Stop())
    assert told["HPSEARCH_RUN__ENGINE"] == "loop"
    assert int(told["HPSEARCH_RUN__WIDTH"]) in {width for engine, width in tried if engine == "loop"}
    assert "fused" in {engine for engine, _ in tried}


@pytest.mark.skipif(os.name != "posix", reason="reads /proc")
def test_a_device_has_a_name_with_its_cores():
    import torch

    name = timing_cache.device_name(torch.device("cpu"))
    assert name.startswith("cpu: ")
    assert name.endswith(" cores")
