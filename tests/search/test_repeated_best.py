"""coarse.repeat_best: the best trials trained again with other seeds before a winner is named."""

import pytest

from hpsearch.analysis import attributes
from hpsearch.analysis.records import stage_record
from hpsearch.analysis.study_trials import best_trial, read_study
from hpsearch.analysis.summary import stage_summary
from hpsearch.cli.output import print_stage
from hpsearch.cli.plan_lines import print_plan
from hpsearch.report.figures.repeats import _repeats_info, plot_repeats
from hpsearch.report.stage import read_stage
from hpsearch.search import repeated_best
from hpsearch.search.listener import SearchListener
from hpsearch.search.rerun import rerun
from hpsearch.search.stage_run import preview_stage, run_stage
from hpsearch.stages.fine_planning import plan_fine
from hpsearch.stages.planning import plan_coarse
from hpsearch.storage import find_study, open_database, write_attrs
from hpsearch.worker.stopping import Stop, Stopped

SETTINGS = {"coarse__trials": 8, "data__synthetic__noise": 3.0, "space": ["lr=log(1e-3,1e-1)", "reg=log(1e-4,1e-2)"]}
AGAIN = {**SETTINGS, "coarse__repeat_best": 3, "coarse__repeat_seeds": 2}


def search(db, settings, **options):
    return run_stage(db, plan_coarse(settings), settings.run, checks=False, **options)


class Notes(SearchListener):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


@pytest.fixture
def repeated(db, tiny):
    settings, listener = tiny(**AGAIN), Notes()
    return search(db, settings, listener=listener), settings, listener.notes


def by_first(evidence, num):
    complete = [trial for trial in evidence.trials if trial.state == "COMPLETE"]
    return [t.number for t in sorted(complete, key=lambda t: (-t.value, t.number))[:num]]


def test_the_best_are_trained_again_and_the_best_mean_wins(db, repeated):
    evidence, settings, notes = repeated
    assert len(evidence.trials) == 8  # the budget is what it was
    assert "the 3 best trials of coarse again, with 2 other seeds each: 6 trainings" in notes
    kept = evidence.record.repeats
    assert list(kept.first) == by_first(evidence, 3)
    assert {number: list(own) for number, own in kept.values.items()} == {number: [1, 2] for number in kept.first}
    # Each is what the rerun of that trial with that seed gives.
    number = by_first(evidence, 3)[1]
    again = rerun(db, settings.run, "coarse", number, num_seeds=3)
    assert again.values[1:] == pytest.approx(list(kept.values[number].values()))
    order = evidence.repeated
    assert [each.mean for each in order] == sorted((each.mean for each in order), reverse=True)
    assert evidence.best.number == order[0].number


def test_who_follows_uses_the_winner(db, repeated, capsys):
    """With means that make the third best the winner."""
    evidence, settings, _ = repeated
    first, second, third = by_first(evidence, 3)
    kept = evidence.record.repeats
    made_up = {first: {1: 0.1, 2: 0.2}, second: {1: 0.3, 2: 0.3}, third: {1: 0.8, 2: 0.9}}
    stored = {**kept.as_dict(), "values": {str(n): {str(s): v for s, v in own.items()} for n, own in made_up.items()}}
    write_attrs(db, evidence.study, {attributes.REPEATS: stored})
    evidence = read_study(db, "coarse")
    assert evidence.best.number == third
    summary = stage_summary(evidence)
    assert {verdict.param: verdict.best for verdict in summary.verdicts} == evidence.best.params
    print_stage(summary, None)
    printed = capsys.readouterr().out
    assert f"best     trial {third}" in printed
    assert f"again    trial {third}: " in printed
    assert "luck     the first scores of 3 trials were " in printed
    assert [row["trial"] for row in summary.as_dict()["repeated"]] == [third, second, first]
    for param, range_ in plan_fine(evidence, settings).config.space.items():
        assert range_.low <= evidence.best.params[param] <= range_.high
    info = _repeats_info(read_stage(db, "coarse"))
    assert [each.number for each in info.repeated] == [third, second, first]
    bars = next(trace for trace in plot_repeats(info).data if trace.name == "mean, 95%")
    assert list(bars.x) == pytest.approx([0.85, 0.3, 0.15])
    assert bars.error_x.array[0] == pytest.approx(12.71 * 0.05, rel=1e-3)


def test_the_weights_that_are_kept_are_the_winners(db, tiny, monkeypatch):
    """The first best has a bad mean: its weights make place for those of the winner, trained with its own seed."""
    settings = tiny(**SETTINGS)
    evidence = search(db, settings)
    first, second = by_first(evidence, 2)
    assert evidence.record.weights.number == first
    old = evidence.record.weights.path
    monkeypatch.setattr(repeated_best, "_train", lambda _config, _data, specs, *_: {
        spec.number: float(spec.number == second) for spec in specs
    })  # fmt: skip
    again = search(db, tiny(**{**AGAIN, "coarse__repeat_best": 2}))
    assert again.best.number == second
    kept = again.record.weights
    assert kept.number == second
    assert kept.value == pytest.approx(again.best.value)
    assert kept.measures["accuracy"] == pytest.approx(again.best.value)
    assert kept.path.exists()
    assert not old.exists()


def test_the_same_command_repeats_nothing_and_more_are_added(db, tiny, repeated):
    evidence, settings, _ = repeated
    listener = Notes()
    assert search(db, settings, listener=listener).record.repeats == evidence.record.repeats
    assert not [note for note in listener.notes if "again" in note]
    more = search(db, tiny(**{**AGAIN, "coarse__repeat_best": 4, "coarse__repeat_seeds": 3}), listener=listener)
    assert "the 4 best trials of coarse again, with 3 other seeds each: 6 trainings" in listener.notes
    for number, own in evidence.record.repeats.values.items():
        assert own.items() <= more.record.repeats.values[number].items()
    assert more.record.fingerprint == evidence.record.fingerprint


def test_what_was_stopped_goes_on(db, tiny, monkeypatch):
    settings, stop = tiny(**AGAIN, run__width=1), Stop()
    search(db, tiny(**SETTINGS))
    train, trained = repeated_best._train, []

    def counted(*arguments):
        trained.append(1)
        if len(trained) == 3:
            stop.request()
        return train(*arguments)

    monkeypatch.setattr(repeated_best, "_train", counted)
    with pytest.raises(Stopped):
        search(db, settings, stop=stop)
    half = stage_record(find_study(db, "coarse")).repeats
    assert sum(map(len, half.values.values())) == 2
    assert read_study(db, "coarse").best.number == by_first(read_study(db, "coarse"), 1)[0]
    whole = search(db, settings)
    assert len(trained) == 3 + 4
    assert whole.record.repeats.is_whole


def test_a_seed_that_explodes_is_no_winner(db, tiny, monkeypatch):
    evidence = search(db, tiny(**SETTINGS))
    first, second = by_first(evidence, 2)
    monkeypatch.setattr(
        repeated_best, "_train",
        lambda config, data, specs, run, stop: {
            s.number: (None if config.train.seed == 2 else 0.9) if s.number == first else 0.1 for s in specs
        },
    )  # fmt: skip
    again = search(db, tiny(**{**AGAIN, "coarse__repeat_best": 2}))
    assert again.best.number == second
    assert again.repeated[1].num_exploded == 1


def test_without_it_nothing_is_stored_and_the_search_is_the_same(db, tiny, tmp_path):
    other = open_database(f"sqlite:///{tmp_path}/other.db", create=True)
    plain, again = search(db, tiny(**SETTINGS)), search(other, tiny(**AGAIN))
    assert "repeat_best" not in plain.record.config["coarse"]
    assert attributes.REPEATS not in plain.study.attrs
    assert plain.record.fingerprint == again.record.fingerprint
    assert [t.value for t in plain.trials] == [t.value for t in again.trials]
    assert plain.best == best_trial(plain.trials, "maximize")


def test_a_dry_run_says_it(db, tiny, capsys):
    settings = tiny(**AGAIN)
    plan = plan_coarse(settings)
    print_plan(plan, preview_stage(plan, settings.run))
    assert "again    then the 3 best trials, with 2 other seeds each" in capsys.readouterr().out
