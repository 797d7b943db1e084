"""A comparison from plan to result, with real training on small synthetic images and a real SQLite database."""

import pytest

from hpsearch.analysis import attributes
from hpsearch.analysis.stored_comparisons import list_comparisons, read_comparison
from hpsearch.errors import ConfigError, RefusedError
from hpsearch.search.compare_samplers import plan_comparison, run_comparison
from hpsearch.search.listener import SearchListener
from hpsearch.stages.opening import stored_plan
from hpsearch.storage import find_study, list_studies, open_database, read_trials


def run(db, plan, settings, listener=None, finished=None):
    return run_comparison(db, plan, settings.run, listener, finished)


def trials(db, name):
    return read_trials(db, find_study(db, name))


class Count(SearchListener):
    def __init__(self, stop_after=None):
        self.num, self.stop_after = 0, stop_after

    def trial_finished(self, event):
        self.num += 1
        if self.num == self.stop_after:
            raise KeyboardInterrupt


def test_each_sampler_and_repeat_is_a_study_with_the_whole_budget(db, tiny):
    settings = tiny(coarse__trials=9)
    found = run(db, plan_comparison(settings, num_repeats=2), settings)
    names = [study.name for study in list_studies(db)]
    assert names == ["compare/random/0", "compare/grid/0", "compare/random/1", "compare/grid/1"]
    for name in names:
        study = find_study(db, name)
        assert study.attrs[attributes.STAGE] == "compare"
        assert [trial.number for trial in trials(db, name)] == list(range(9))
        assert all(trial.state in ("COMPLETE", "PRUNED") for trial in trials(db, name))
    assert found.samplers == ("random", "grid")
    assert found.repeats == (0, 1)
    assert found.distinct("random") == {"lr": 9, "reg": 9}
    assert found.distinct("grid") == {"lr": 3, "reg": 3}
    best = max(trial.value for trial in trials(db, "compare/random/1") if trial.state == "COMPLETE")
    assert found.finals["random"][1] == best
    assert list_comparisons(db) == ["compare"]


def test_seeds_are_equal_within_a_repeat_and_differ_between_repeats(db, tiny):
    settings = tiny(coarse__trials=4, coarse__seed=7, train__seed=7)
    run(db, plan_comparison(settings, ["random", "grid"], 2), settings)
    seeds = {
        study.name: (config["train"]["seed"], config["coarse"]["seed"], config["data"]["seed"])
        for study in list_studies(db)
        if (config := study.attrs[attributes.CONFIG])
    }
    assert seeds["compare/random/0"] == seeds["compare/grid/0"] == (7, 7, 0)
    assert seeds["compare/random/1"] == seeds["compare/grid/1"] == (8, 8, 0)
    grids = [{tuple(trial.params.values()) for trial in trials(db, f"compare/grid/{repeat}")} for repeat in (0, 1)]
    assert not grids[0] & grids[1]  # another offset


def test_training_follows_the_seed_of_the_repeat(db, tiny):
    """The same hyperparameters in two repeats give two curves, and in two samplers' studies of one repeat the same."""
    settings = tiny(coarse__trials=2, space=["lr=choice(0.01,0.02)", "reg=none"])
    run(db, plan_comparison(settings, ["grid", "qmc"], 2), settings)

    def curve(sampler, repeat, lr):
        rows = [row for row in trials(db, f"compare/{sampler}/{repeat}") if row.params["lr"] == lr]
        return rows[0].attrs[attributes.LAST_VALUE], tuple(rows[0].intermediate.values())

    assert curve("grid", 0, 0.01) == curve("qmc", 0, 0.01)
    assert curve("grid", 0, 0.01) != curve("grid", 1, 0.01)


def test_nobody_gets_more_trials_than_the_grid(db, tiny):
    settings = tiny(coarse__trials=11)
    plan = plan_comparison(settings, num_repeats=1)
    assert (plan.settings.trials, plan.num_asked) == (9, 11)
    found = run(db, plan, settings)
    assert (found.num_trials, found.num_asked) == (9, 11)
    assert {len(search.values) for runs in found.searches.values() for search in runs} == {9}
    assert plan_comparison(settings, ["random", "qmc"]).settings.trials == 11


def test_values_to_try_first_are_the_first_trials_of_each_search(db, tiny):
    settings = tiny(coarse__trials=7, coarse__enqueue=[{"lr": 0.03}, {"lr": 0.02, "reg": 0.5}])
    plan = plan_comparison(settings, num_repeats=1)
    assert (plan.settings.trials, plan.num_asked) == (2 + 4, 7)
    found = run(db, plan, settings)
    for name in ("compare/random/0", "compare/grid/0"):
        first, second, *others = trials(db, name)
        assert first.params["lr"] == 0.03
        assert second.params == {"lr": 0.02, "reg": 0.5}
        assert [trial.attrs.get("enqueued") for trial in (first, second)] == [{"lr": 0.03}, {"lr": 0.02, "reg": 0.5}]
        assert not [trial for trial in others if "enqueued" in trial.attrs]
    assert len({trial.params["lr"] for trial in others}) == 2  # a grid of 2 x 2
    assert found.num_trials == 6
    with pytest.raises(ConfigError, match=r"coarse.enqueue\[0\]: lr = 1000000000 is outside its range"):
        plan_comparison(tiny(coarse__enqueue=[{"lr": 10**9}]))


def test_the_same_command_goes_on_where_it_was_stopped_and_then_does_nothing(db, tiny):
    settings = tiny(coarse__trials=4, run__width=2)
    plan = plan_comparison(settings, num_repeats=2)
    with pytest.raises(KeyboardInterrupt):
        run(db, plan, settings, Count(stop_after=10))
    early = read_comparison(db)
    assert early.repeats == (0,)
    assert early.num_planned == 2
    rest = Count()
    whole = run(db, plan, settings, rest)
    assert 4 <= rest.num <= 6  # the pack that was interrupted runs again, unless all of it was written already
    assert whole.repeats == (0, 1)
    again, events = Count(), []
    assert run(db, plan, settings, again, events.append).as_dict() == whole.as_dict()
    assert again.num == 0
    assert [event.name for event in events] == [plan.name for plan in plan.searches()]


@pytest.mark.slow
def test_repeats_and_samplers_can_be_added_later(db, tiny):
    settings = tiny(coarse__trials=4)
    run(db, plan_comparison(settings, num_repeats=1), settings)
    more = Count()
    found = run(db, plan_comparison(settings, ["random", "grid", "tpe"], 2), settings, more)
    assert more.num == 4 * 4
    assert {sampler: len(runs) for sampler, runs in found.searches.items()} == {"random": 2, "grid": 2, "tpe": 2}
    assert read_comparison(db, samplers=["grid", "random"], num_repeats=1).as_dict()["samplers"].keys() == {
        "grid",
        "random",
    }


def test_another_search_under_the_same_name_is_refused_with_the_difference(db, tiny):
    settings = tiny(coarse__trials=4)
    run(db, plan_comparison(settings, num_repeats=1), settings)
    other = tiny(coarse__trials=4, train__batch_size=30)
    with pytest.raises(RefusedError, match=r"compare/random/0.*train\.batch_size: 20 -> 30"):
        run(db, plan_comparison(other, num_repeats=1), other)
    assert run(db, plan_comparison(other, num_repeats=1, name="again"), other).name == "again"
    assert list_comparisons(db) == ["compare", "again"]


def test_where_everything_explodes_all_found_a_guess_and_share_the_win(db, tiny):
    settings = tiny(coarse__trials=4, space=["lr=log(1e6,1e7)"])
    found = run(db, plan_comparison(settings, num_repeats=1), settings)
    assert found.finals == {"random": [1 / 3], "grid": [1 / 3]}
    assert found.wins == {"random": 0.5, "grid": 0.5}
    assert [search.values for runs in found.searches.values() for search in runs] == [(None,) * 4] * 2
    assert found.importances == {}


@pytest.mark.parametrize(
    ("samplers", "words"),
    [
        (["random"], "two or more"),
        (["random", "random"], "two or more"),
        (["random", "best"], "random,best.*\n.*cmaes"),
    ],
)
def test_what_cannot_be_compared_is_refused(tiny, samplers, words):
    with pytest.raises(ConfigError, match=words):
        plan_comparison(tiny(), samplers)


def test_wrong_plans_write_nothing(db, tiny):
    with pytest.raises(ConfigError, match=r"coarse\.pruner = 'best'"):  # before images are read, which are not there
        run(db, plan_comparison(missing := tiny(coarse__pruner="best", data__source="folder:nowhere")), missing)
    for settings in (tiny(coarse__pruner="best"), tiny(model__name="convnet", model__channels=[4, 4, 4, 4])):
        with pytest.raises(ConfigError):
            run(db, plan_comparison(settings), settings)
    with pytest.raises(ConfigError, match="too few for a grid"):
        plan_comparison(tiny(coarse__trials=2, space=["model.activation=choice(relu,tanh,gelu)"]))
    with pytest.raises(ConfigError, match="nothing to search"):
        plan_comparison(tiny(space=["lr=none", "reg=none"]))
    assert list_studies(db) == []


def test_a_comparison_that_is_not_there_is_said_plainly(db):
    with pytest.raises(RefusedError, match="no comparison 'compare'"):
        read_comparison(db)
    assert list_comparisons(db) == []


def test_a_search_in_the_storage_has_the_plan_that_made_it(db, tiny):
    """Workers that join it, and those of --workers, know it by nothing else."""
    settings = tiny(coarse__trials=4, coarse__epochs=1)
    plan = plan_comparison(settings, num_repeats=2, name="theirs")
    run(db, plan, settings)
    for search in plan.searches():
        study = find_study(db, search.name)
        assert stored_plan(study) == search
        assert stored_plan(study).fingerprint("x") == search.fingerprint("x")


@pytest.mark.slow  # workers of their own for each of two searches
def test_two_workers_find_what_one_finds(db, tiny, tmp_path):
    settings = tiny(coarse__trials=4, coarse__epochs=1, run__width=2, train__precision="float64")
    plan = plan_comparison(settings, num_repeats=1)
    alone = run(db, plan, settings)
    other = open_database(f"sqlite:///{tmp_path}/other.db", create=True)
    url = f"sqlite:///{tmp_path}/other.db"
    two = settings.run.model_copy(update={"workers": 2, "storage": url, "artifact_dir": str(tmp_path / "other")})
    found = run_comparison(other, plan, two)
    assert found.finals == alone.finals
