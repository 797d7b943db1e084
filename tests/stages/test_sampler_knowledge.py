import json
from collections import Counter
from contextlib import nullcontext

import pytest

from hpsearch.analysis import attributes
from hpsearch.analysis.summary import stage_summary
from hpsearch.cli.plan_lines import outlook_lines
from hpsearch.config import StageConfig
from hpsearch.fleet.ray import cluster, launcher
from hpsearch.fleet.stage_follower import StageFollower
from hpsearch.search import stage_run
from hpsearch.search.listener import SearchListener
from hpsearch.search.stage_run import preview_stage, run_stage
from hpsearch.stages.planning import plan_coarse
from hpsearch.stages.sampler_knowledge import knowledge_of, stored_knowledge
from hpsearch.storage import find_study


@pytest.mark.parametrize(
    ("sampler", "trials", "width", "workers", "words"),
    [
        ("tpe", 100, 17, 2, "tpe proposes 17 at a time, up to 33 not yet finished; it learns from all that are"),
        ("tpe", 5000, 17, 1, "up to 16 not yet finished; it learns from the best 25 and the newest 500"),
        ("tpe", 100, 17, None, "17 at a time, more in other workers; it learns"),
        ("tpe", 100, 1, 1, "tpe proposes 1 at a time; it learns from all that have ended"),
        ("gp", 20, 17, 2, "gp proposes 17 at a time, up to 19 not yet finished"),  # there are no more
        ("cmaes", 100, 5, 1, "it learns from its last generation"),
    ],
)
def test_what_a_sampler_knows_is_said_in_a_line(sampler, trials, width, workers, words):
    learning = knowledge_of(StageConfig(sampler=sampler, trials=trials), width, workers)
    assert words in str(learning)
    assert stored_knowledge(json.loads(json.dumps(learning.as_dict()))) == learning


@pytest.mark.parametrize("sampler", ["random", "qmc", "grid"])
def test_samplers_that_learn_nothing_say_nothing(sampler):
    assert knowledge_of(StageConfig(sampler=sampler), 17, 2) is None


class Started(SearchListener):
    def stage_started(self, event):
        self.event = event


def test_a_stage_says_at_its_start_what_it_does_and_keeps_it(db, tiny):
    """The dry run, the worker, the study's attributes and whoever follows it say the same; the worker keeps to it."""
    settings = tiny(coarse__sampler="tpe", coarse__trials=30)
    plan = plan_coarse(settings)
    outlook = preview_stage(plan, settings.run)
    listener = Started()
    evidence = run_stage(db, plan, settings.run, listener=listener, checks=False)
    learning = listener.event.learning
    assert (learning.batch, learning.lag) == (5, 4)
    assert learning == outlook.knowledge
    assert ("sampler", str(learning)) in outlook_lines(outlook)
    assert outlook.as_dict()["learning"] == learning.as_dict() == stage_summary(evidence).as_dict()["learning"]
    followed = Started()
    StageFollower(db, find_study(db, "coarse"), followed).begin()
    assert followed.event.learning == learning
    assert list(Counter(trial.started for trial in evidence.trials).values()) == [5] * 6  # taken at one moment


def test_a_random_stage_says_nothing(db, tiny):
    settings = tiny()
    plan = plan_coarse(settings)
    listener = Started()
    evidence = run_stage(db, plan, settings.run, listener=listener, checks=False)
    assert listener.event.learning is None
    assert attributes.LEARNING not in evidence.study.attrs
    assert preview_stage(plan, settings.run).as_dict()["learning"] is None


@pytest.mark.parametrize(("gpus", "batch", "lag"), [(0, 30, 59), (1, 50, 99)])
def test_a_ray_fleet_says_it_before_its_workers_begin(db, tiny, monkeypatch, gpus, batch, lag):
    """The width is that of the workers' devices, which this machine need not have."""
    told = []

    class NoFleet:
        def __init__(self, _db, study, *_rest):
            told.append(stored_knowledge(study.attrs[attributes.LEARNING]))

        def run(self):
            pass

    monkeypatch.setattr(cluster, "connected", lambda _address: nullcontext())
    monkeypatch.setattr(cluster, "nodes", lambda: [{"CPU": 2, "GPU": gpus}, {"CPU": 2, "GPU": gpus}])
    monkeypatch.setattr(launcher, "RayLauncher", lambda *_: None)
    monkeypatch.setattr(stage_run, "Fleet", NoFleet)
    settings = tiny(coarse__sampler="tpe", coarse__trials=300, run__fleet="ray", run__device="auto", run__workers=2)
    plan = plan_coarse(settings)
    run_stage(db, plan, settings.run, checks=False)
    assert [(learning.batch, learning.lag) for learning in told] == [(batch, lag)]
    assert stored_knowledge(find_study(db, "coarse").attrs[attributes.LEARNING]) == told[0]
