"""The figure of rungs: what was stopped when, and what became of those that went on."""

import pytest

from hpsearch.analysis import attributes
from hpsearch.cli.output import spent_text
from hpsearch.config import FloatRange
from hpsearch.report.figures.importance import _importance_info, importance_text
from hpsearch.report.figures.landscape import _landscape_info, plot_landscape
from hpsearch.report.figures.rungs import _rungs_info, plot_rungs, rungs_note
from hpsearch.report.stage import read_stage
from hpsearch.report.stage_cards import landscape_words
from hpsearch.report.words import _budget as budget_text
from hpsearch.report.words import summarize
from hpsearch.results import EpochResult
from hpsearch.storage import NewTrial, Outcome, Queue, create_stage, open_database

CURVES = {  # by number: what was reported, and how it ended
    0: ([0.5, 0.4, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.9], "COMPLETE", None),
    1: ([0.7, 0.7, 0.5], "PRUNED", "halving"),
    2: ([0.1], "PRUNED", "halving"),
    3: ([0.3], "PRUNED", "halving"),
    4: ([0.6, 0.0], "PRUNED", attributes.EXPLODED),
}


def stage_of(tmp_path, curves=CURVES, every=1, takes=("epochs",), **coarse):
    db = open_database(f"sqlite:///{tmp_path}/studies.db", create=True)
    attrs = {
        attributes.STAGE: "coarse",
        attributes.CONFIG: {"coarse": {"epochs": 9, **coarse}},
        attributes.TAKES: list(takes),
    }
    trials = [NewTrial({"lr": 0.1}) for _ in curves]
    study = create_stage(db, "coarse", "maximize", attrs, {"lr": FloatRange(1e-3, 1.0, log=True)}, trials)
    queue = Queue(db, study, "host/1/x")
    for lease in queue.take(len(curves)):
        curve, state, reason = curves[lease.number]
        epochs = range(every, every * len(curve) + 1, every)
        results = [EpochResult(lease.number, e, 1, 1, v, 1, v, 1e-3, 0.1) for e, v in zip(epochs, curve, strict=True)]
        queue.record([(lease, result) for result in results])
        ended = {attributes.REASON: reason, attributes.EPOCH: epochs[-1]} if reason else {}
        queue.finish([Outcome(lease, state, max(curve), ended)])
    return read_stage(db, "coarse")


def test_each_trial_has_its_value_at_the_rungs_and_at_its_end(tmp_path):
    info = _rungs_info(stage_of(tmp_path, halving="promote"))
    lines = {line.number: line for line in info.lines}
    assert lines.keys() == {0, 1, 2, 3}  # one exploded
    assert (lines[0].epochs, lines[0].values, lines[0].stopped) == ((1, 3, 9), (0.5, 0.6, 0.9), False)
    assert (lines[1].epochs, lines[1].values, lines[1].stopped) == ((1, 3), (0.7, 0.7), True)
    assert lines[2].stopped
    assert lines[0].text.startswith("trial 0: 0.5000 after 1 epoch, 0.6000 after 3 epochs, 0.9000 after 9 epochs")


def test_one_that_reports_every_second_epoch_was_judged_and_stopped_by_the_next_one(tmp_path):
    curves = {0: ([0.5, 0.4, 0.6, 0.9], "COMPLETE", None), 1: ([0.3], "PRUNED", "halving"), 2: ([0.2], "FAIL", "so")}
    info = _rungs_info(stage_of(tmp_path, curves, every=2, halving="stop"))
    lines = {line.number: line for line in info.lines}
    assert (lines[0].epochs, lines[0].values, lines[0].stopped) == ((1, 3, 8), (0.5, 0.5, 0.9), False)
    assert (lines[1].epochs, lines[1].values, lines[1].stopped) == ((1, 2), (0.3, 0.3), True)
    assert not any(lines[number].stopped for number in lines.keys() - {1})
    assert info.rungs[0].num_come >= 2


def test_rungs_say_how_many_went_on_and_where_the_best_stood(tmp_path):
    info = _rungs_info(stage_of(tmp_path, halving="stop"))
    first, second = info.rungs
    assert (first.epoch, first.num_come, first.num_on, first.least, first.rank_of_best) == (1, 4, 2, 0.5, 2)
    assert (second.epoch, second.num_come, second.num_on, second.least, second.rank_of_best) == (3, 2, 1, 0.6, 2)
    note = rungs_note(info)
    assert note.startswith("After 1 epoch: 2 of 4 went on; after 3 epochs: 1 of 2 went on.")
    assert "Trial 0, the best in the end, was number 2 of 4 after 1 epoch, number 2 of 2 after 3 epochs." in note


def test_the_plane_shows_what_was_stopped_at_a_rung_by_its_best_value_until_then(tmp_path):
    stage = stage_of(tmp_path, {**CURVES, 5: ([0.2, 0.2], "PRUNED", "median")}, halving="stop")
    info = _landscape_info(stage)
    kinds = {point.number: (point.kind, point.value) for point in info.points}
    assert kinds[0] == ("complete", 0.9)
    assert [kinds[number] for number in (1, 2, 3)] == [("halved", 0.7), ("halved", 0.1), ("halved", 0.3)]
    assert (kinds[4][0], kinds[5][0]) == ("exploded", "pruned")
    text = next(point.text for point in info.points if point.number == 1)
    assert text.startswith("trial 1: 0.7000\nstopped at a rung after 3 epochs")
    traces = {trace.name: trace for trace in plot_landscape(info).data}
    hollow = traces["stopped at a rung"].marker
    assert (hollow.symbol, list(hollow.color)) == ("circle-open", [0.1, 0.3, 0.7])
    assert (hollow.cmin, hollow.cmax) == (traces["finished"].marker.cmin, traces["finished"].marker.cmax) == (0.1, 0.9)
    assert "Hollow ones were stopped at a rung" in landscape_words(info)[1]


def test_the_plane_says_what_ran_out_of_epochs_and_needs_no_finished_trial(tmp_path):
    curves = {0: ([0.5], "PRUNED", attributes.SPENT), 1: ([0.3], "PRUNED", "halving")}
    stage = stage_of(tmp_path, curves, halving="stop")
    info = _landscape_info(stage)
    assert {point.number: point.kind for point in info.points} == {0: "halved", 1: "halved"}
    assert info.points[0].text.split("\n")[1] == "out of epochs after 1 epoch"
    [hollow] = [trace for trace in plot_landscape(info).data if trace.showlegend]
    assert hollow.name == "stopped at a rung, or out of epochs"
    assert hollow.marker.showscale
    assert landscape_words(info)[1].startswith("Hollow ones were")  # no star, as none is the best
    said = "2 were stopped at a rung or out of epochs, the best of them, trial 0, at 0.5000 after 1 epoch"
    assert summarize([stage]).best == f"No trial came to its last epoch: {said}"


def test_the_best_has_its_star_where_it_ended_at_a_rung(tmp_path):
    curves = {0: ([0.5] * 9, "COMPLETE", None), 1: ([0.3, 0.7, 0.6], "COMPLETE", "halving")}
    info = _landscape_info(stage_of(tmp_path, curves, halving="promote"))
    assert info.best == 1
    [star] = [trace for trace in plot_landscape(info).data if trace.marker.symbol == "star"]
    assert [text.split("<br>")[0] for text in star.text] == ["trial 1: 0.7000"]
    assert "The star is the best" in landscape_words(info)[1]


def test_an_objective_that_is_told_no_epochs_has_rungs_in_steps(tmp_path):
    stage = stage_of(tmp_path, takes=(), halving="stop")
    info = _rungs_info(stage)
    assert rungs_note(info).startswith("After 1 step: 2 of 4 went on; after 3 steps: 1 of 2 went on.")
    assert plot_rungs(info).layout.xaxis.title.text == "steps"
    assert spent_text(stage.summary) == "spent: 16 steps, by 5 trials"


def test_the_page_says_that_trials_of_a_stage_with_rungs_have_few_epochs(tmp_path):
    assert (
        budget_text([stage_of(tmp_path, halving="stop")])
        == "coarse: 5 trials of up to 9 epochs, 16 in all, best 0.9000."
    )


def test_the_figure_has_a_cross_for_each_that_was_stopped(tmp_path):
    figure = plot_rungs(_rungs_info(stage_of(tmp_path, halving="stop")))
    (stopped,) = [trace for trace in figure.data if trace.name == "stopped"]
    assert stopped.marker.symbol == "x"
    assert list(zip(stopped.x, stopped.y, strict=True)) == [(3, 0.7), (1, 0.1), (1, 0.3)]
    assert [list(trace.x) for trace in figure.data if trace.mode == "lines"] == [[1, 3, 9], [1, 3]]
    assert list(figure.layout.xaxis.tickvals) == [1, 3, 9]


@pytest.mark.parametrize("coarse", [{}, {"epochs_budget": 30}])
def test_a_stage_without_rungs_has_no_figure(tmp_path, coarse):
    assert _rungs_info(stage_of(tmp_path, **coarse)) is None


@pytest.mark.parametrize(("num_whole", "told_at"), [(3, 1), (14, 1), (20, None)])
def test_what_matters_is_told_by_the_first_rung_where_few_come_to_their_end(tmp_path, num_whole, told_at):
    db = open_database(f"sqlite:///{tmp_path}/studies.db", create=True)
    attrs = {attributes.STAGE: "coarse", attributes.CONFIG: {"coarse": {"epochs": 2, "halving": "stop"}}}
    space = {name: FloatRange(1e-4, 1.0, log=True) for name in ("lr", "reg")}
    drawn = [{"lr": 10 ** (-k / 8), "reg": 10 ** -((7 * k) % 32 / 8)} for k in range(32)]  # good by lr alone
    queue = Queue(db, create_stage(db, "coarse", "maximize", attrs, space, map(NewTrial, drawn)), "host/1/x")
    for lease in queue.take(32):
        value, last = 1 - lease.number / 32, 2 if lease.number < num_whole else 1
        queue.record(
            [(lease, EpochResult(lease.number, e, 1, 1, value, 1, value, 1e-3, 0.1)) for e in range(1, last + 1)]
        )
        ended = {} if last == 2 else {attributes.REASON: attributes.HALVED, attributes.EPOCH: 1}
        queue.finish([Outcome(lease, "PRUNED" if ended else "COMPLETE", value, ended)])
    stage = read_stage(db, "coarse")
    info = _importance_info(stage)
    assert stage.told_at == told_at
    if told_at is None:
        assert "finished trial" in importance_text(info)
        return
    assert next(iter(info.shares)) == "lr"
    assert "best tenth after 1 epoch, the first rung, as few have finished" in importance_text(info)
    assert "reg" in info.by_chance
