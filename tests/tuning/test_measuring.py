"""Engine, width and precision by measurement, with packs of a real search."""

import time
from dataclasses import replace

import pytest

from hpsearch.search.stage_run import run_stage
from hpsearch.stages.planning import plan_coarse
from hpsearch.storage import open_database
from hpsearch.training.images import load_images
from hpsearch.tuning import measuring, settling
from hpsearch.tuning.choosing import Workload, choose
from hpsearch.tuning.settling import settle
from hpsearch.tuning.timing import TimedPack, Timing
from hpsearch.worker.worker import Worker

FUSED = Timing("fused", 25, 0.1, 0.0)
WORK = Workload(num_trials=100, epochs=5, num_batches=10, num_evaluated=0)


@pytest.fixture
def no_search_is_small(monkeypatch):
    """Tiny nets are tuned, too, as if their searches took hours, and on slow machines as on others."""
    monkeypatch.setattr(settling, "WORTH_TIMING", 0.0)
    monkeypatch.setattr(measuring, "WORTH_COMPARING_ON_CPU", 0.0)
    monkeypatch.setattr(measuring, "MAX_SHARE", 1e6)
    monkeypatch.setattr(measuring, "MAX_SECONDS", 600.0)


@pytest.fixture
def tried(monkeypatch):
    """The (engine, width) of each pack that is timed; loop seems to be a hundred times as fast as the others."""
    seen = []
    original = TimedPack.timing

    def timing(self):
        found = original(self)
        seen.append((found.engine, found.width))
        if found.engine == "loop":
            return replace(found, step=0.01 * found.step, evaluation=0.01 * found.evaluation)
        return found

    monkeypatch.setattr(TimedPack, "timing", timing)
    return seen


def prepared(tiny, **other):
    settings = tiny(run__workers=1, **other)
    plan = plan_coarse(settings)
    return plan, load_images(plan.trial_config, settings.run), settings.run


def refuse(*_arguments, **_options):
    raise AssertionError("something was measured")


def compared(plan, data, run):
    """The default's timing, and those of the others behind it."""
    known = measuring.time_default(plan, data, run)
    return measuring.compare_ways(plan, data, run, known, measuring.workload(plan, data))


def test_a_small_search_is_not_timed(tiny, monkeypatch):
    plan, data, run = prepared(tiny)
    monkeypatch.setattr(measuring, "TimedPack", refuse)
    assert measuring.why_not_compared(plan, data, run) == "the search is small"
    settled = settle(plan, data, run)
    assert (settled.run, settled.tuning, settled.unknown) == (run, None, "the search is small")
    large, _, _ = prepared(tiny, coarse__trials=100_000, coarse__epochs=20_000)
    assert measuring.why_not_compared(large, data, run) is None
    assert measuring.why_not_compared(large, data, run, workers=1000) == "the search is small"
    assert measuring.why_not_compared(large, data, run, share=1e-4) == "the search is small"


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
def test_what_is_given_or_not_alike_is_not_compared(tiny, tried, other, why):
    plan, data, run = prepared(tiny, **other)
    assert why in measuring.why_not_compared(plan, data, run)
    assert settle(plan, data, run).run is run
    assert tried == []


@pytest.mark.usefixtures("no_search_is_small")
def test_an_engine_or_a_width_that_is_given_is_kept(tiny, tried):
    plan, data, run = prepared(tiny, run__engine="vmap")
    assert {timing.engine for timing in compared(plan, data, run)} == {"vmap"}
    tried.clear()
    plan, data, run = prepared(tiny, run__width=5)
    settled = settle(plan, data, run)
    assert (settled.run.engine, settled.run.width) == ("loop", 5)
    assert {width for _, width in tried} == {5}


@pytest.mark.usefixtures("no_search_is_small")
def test_what_learns_from_finished_packs_keeps_its_width(tiny, tried):
    plan, data, run = prepared(tiny, coarse__sampler="tpe")
    settled = settle(plan, data, run)
    assert (settled.run.engine, settled.run.width) == ("loop", 2)
    assert {width for _, width in tried} == {2}


@pytest.mark.slow
@pytest.mark.usefixtures("no_search_is_small")
def test_a_stage_trains_with_what_won_and_gives_the_same_numbers(db, tiny, tried, tmp_path, monkeypatch):
    runs = []
    original = Worker.__init__

    def spy(self, db, study, plan, data, run, *rest, **options):
        runs.append(run)
        original(self, db, study, plan, data, run, *rest, **options)

    monkeypatch.setattr(Worker, "__init__", spy)
    plan, data, run = prepared(tiny, train__precision="float64")
    tuned = run_stage(db, plan, run, images=data, checks=False)
    assert runs[0].engine == "loop"
    assert {engine for engine, _ in tried} == {"fused", "vmap", "loop"}
    other = open_database(f"sqlite:///{tmp_path}/other.db", create=True)
    plain = run_stage(other, plan, run.model_copy(update={"tune": False}), images=data, checks=False)
    assert runs[1].engine == "auto"
    assert [trial.value for trial in tuned.trials] == [trial.value for trial in plain.trials]


@pytest.mark.usefixtures("no_search_is_small")
def test_kernels_are_compiled_before_anything_is_timed(tiny, monkeypatch):
    done = []
    monkeypatch.setattr(measuring, "compile_kernels", lambda optimizer: done.append(optimizer))
    original = measuring.TimedPack

    def timed(*given, **more):
        done.append("timed")
        return original(*given, **more)

    monkeypatch.setattr(measuring, "TimedPack", timed)
    measuring.time_default(*prepared(tiny, train__optimizer="nesterov"))
    assert done[:2] == ["nesterov", "timed"]
    assert "nesterov" not in done[1:]


@pytest.mark.parametrize(("of_the_search", "granted"), [(10, 1.0), (100, 2.0), (10_000, 4.0)])
def test_a_long_search_takes_longer_to_time_bfloat16(tiny, monkeypatch, of_the_search, granted):
    seen = []
    monkeypatch.setattr(measuring, "compare", lambda _makes, _predicted, seconds, *_: seen.append(seconds) or [])
    plan, data, _ = prepared(tiny)
    tuned = replace(choose([FUSED], WORK, threads=1), seconds=of_the_search)
    assert measuring.time_bfloat16(plan, data, tuned, time.perf_counter) is None
    assert seen == [granted]


@pytest.mark.usefixtures("no_search_is_small")
@pytest.mark.parametrize("fails", ["time_default", "compare_ways"])
def test_a_measurement_that_fails_ends_no_search(tiny, monkeypatch, caplog, fails):
    plan, data, run = prepared(tiny)
    monkeypatch.setattr(settling, fails, refuse)
    assert settle(plan, data, run).run is run
    assert "by timing: something was measured" in caplog.text or "be timed: something was measured" in caplog.text


@pytest.mark.usefixtures("no_search_is_small")
def test_engines_of_a_slow_net_are_compared_for_its_whole_width(tiny, tried, monkeypatch):
    monkeypatch.setattr(measuring, "affordable_width", lambda *_: 4)
    plan, data, run = prepared(tiny)
    found = {timing.engine: timing.width for timing in compared(plan, data, run)}
    assert found == {"fused": 12, "loop": 12, "vmap": 12}
    assert {("fused", 4), ("loop", 4), ("vmap", 4)} <= set(tried)
    monkeypatch.setattr(measuring, "affordable_width", lambda *_: 3)
    assert len(compared(plan, data, run.model_copy(update={"width": 11}))) == 1


@pytest.mark.usefixtures("no_search_is_small")
@pytest.mark.parametrize(("free", "width"), [(10**6, 2), (10**8, 12), (1, 1)])
def test_engines_of_a_large_net_are_compared_in_packs_that_fit_beside_each_other(tiny, tried, monkeypatch, free, width):
    """A GPU is full with one pack of a large net: without narrow ones, the default would be all that is looked at."""
    plan, data, run = prepared(tiny)
    known = measuring.time_default(plan, data, run)
    tried.clear()
    monkeypatch.setattr(measuring, "free_bytes", lambda _device: free)
    monkeypatch.setattr(measuring, "trial_bytes", lambda *_: 100_000)  # of 70%, for three engines: two trials each
    found = measuring.compare_ways(plan, data, run, known, measuring.workload(plan, data))
    assert {each.engine for each in found} >= ({"fused", "loop", "vmap"} if free > 1 else {"fused"})
    assert all(each.width == 12 for each in found if free < 10**8)
    assert max(seen for _, seen in tried) == width if tried else free == 1
