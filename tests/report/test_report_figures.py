import math

import numpy as np
import optuna
import pytest
from planted import EDGE, plant

from hpsearch.report import style
from hpsearch.report.center import VERDICT_ORDER, center_data
from hpsearch.report.figures.curves import Curve, CurvesInfo, _curves_info, plot_curves
from hpsearch.report.figures.explosions import _explosions_info, plot_explosions
from hpsearch.report.figures.gap import _gap_info, plot_gap
from hpsearch.report.figures.importance import ImportanceInfo, _importance_info, importance_text, plot_importance
from hpsearch.report.figures.inside import _filters_info, _sparsity_info, plot_filters, plot_sparsity
from hpsearch.report.figures.landscape import _landscape_info, plot_landscape
from hpsearch.report.figures.parallel import _parallel_info, plot_parallel
from hpsearch.report.figures.ranges import _ranges_info, choices_rows, plot_ranges
from hpsearch.report.figures.updates import UpdatePoint, UpdatesInfo, _updates_info, plot_updates
from hpsearch.report.stage import read_stage
from hpsearch.storage import open_database
from hpsearch.worker.best_weights import Portrait


@pytest.fixture(scope="module")
def db(tmp_path_factory):
    db = open_database(f"sqlite:///{tmp_path_factory.mktemp('planted')}/studies.db", create=True)
    plant(db, num_trials=80)
    reasons = {"lr": "the top 10 of 70 <b>lie</b> there", "reg": "narrowed"}
    edge = {"lr": 1.99e-2, "reg": 1e-3}  # the best, and on the upper end
    ranges = {"lr": (1e-3, 2e-2), "reg": (1e-5, 1e-1)}
    plant(db, "fine", source="coarse", num_trials=30, **ranges, reasons=reasons, seed=1, first=edge)
    plant(db, "few", num_trials=5, seed=3)
    return db


@pytest.fixture(scope="module")
def coarse(db):
    return read_stage(db, "coarse")


@pytest.fixture(scope="module")
def fine(db):
    return read_stage(db, "fine")


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """A study that Optuna alone made: minimized, with a choice, an int and intermediate values."""
    url = f"sqlite:///{tmp_path_factory.mktemp('foreign')}/optuna.db"
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(storage=url, study_name="theirs", sampler=optuna.samplers.RandomSampler(seed=0))

    def objective(trial):
        x = trial.suggest_float("x", 1e-4, 1.0, log=True)
        value = math.log10(x / 1e-2) ** 2 + trial.suggest_int("n", 1, 3) + (trial.suggest_categorical("c", "ab") == "a")
        for step in range(3):
            trial.report(value + 1 / (step + 1), step)
        return value

    study.optimize(objective, n_trials=20)
    return read_stage(open_database(url), "theirs")


class TestRanges:
    def test_intervals_follow_the_stages_with_their_reasons(self, coarse, fine):
        lr, reg = _ranges_info([coarse, fine])
        assert (lr.param, reg.param) == ("lr", "reg")
        assert [(i.stage, i.low, i.high, i.source) for i in lr.intervals] == [
            ("coarse", 1e-5, 1.0, None),
            ("fine", 1e-3, 2e-2, 0),
        ]
        assert lr.intervals[1].reason.startswith("the top 10")
        assert lr.intervals[1].text == "[1e-03, 2e-02]"
        assert lr.log

    def test_the_best_on_an_end_is_red(self, coarse, fine):
        [lr, _] = _ranges_info([coarse, fine])
        assert [i.verdict for i in lr.intervals] == ["inside", "upper"]
        stars = plot_ranges(lr).data[-1]
        assert list(stars.marker.color) == [style.LIGHT.best, style.LIGHT.bad]
        assert "boundary" in stars.text[1]

    def test_hover_has_the_reason_as_text(self, coarse, fine):
        [lr, _] = _ranges_info([coarse, fine])
        texts = [trace.text[0] for trace in plot_ranges(lr).data if trace.text]
        assert any("&lt;b&gt;lie&lt;/b&gt;" in text for text in texts)

    def test_choices_are_a_table(self, foreign):
        [(param, stage, searched, best)] = choices_rows([foreign])
        assert (param, stage, searched, best) == ("c", "theirs", "{a, b}", "b")


class TestLandscape:
    def test_every_trial_that_ended_is_there_once(self, coarse):
        info = _landscape_info(coarse)
        assert sorted(point.number for point in info.points) == list(range(80))
        exploded = [point for point in info.points if point.kind == "exploded"]
        assert {point.number for point in exploded} == {t.number for t in coarse.trials if t.params["lr"] > EDGE}
        assert all(point.value is None for point in exploded)

    def test_the_flagged_end_has_a_red_line(self, coarse, fine):
        assert _landscape_info(coarse).x.flagged is None
        info = _landscape_info(fine)
        assert (info.x.param, info.x.flagged) == ("lr", "upper")
        [line] = plot_landscape(info).layout.shapes
        assert line.line.color == style.LIGHT.bad
        assert line.x0 == 2e-2

    def test_exploded_are_crosses_and_the_best_a_star(self, coarse):
        traces = {trace.name: trace for trace in plot_landscape(_landscape_info(coarse)).data}
        assert traces["exploded"].marker.symbol == "x-thin"
        assert traces["best"].marker.symbol == "star"
        assert len(traces["best"].x) == 1

    def test_less_is_better_in_a_minimized_study(self, foreign):
        info = _landscape_info(foreign)
        assert not info.maximize
        [finished] = [trace for trace in plot_landscape(info).data if trace.name == "finished"]
        assert finished.marker.colorscale[0][1] == style.LIGHT.sequence_5
        assert finished.marker.color[-1] == min(finished.marker.color)  # the best on top


def test_importance_is_shares_of_one(coarse, foreign):
    info = _importance_info(coarse)
    assert sum(info.shares.values()) == pytest.approx(1)
    assert set(info.shares) == {"lr", "reg"}
    assert next(iter(_importance_info(foreign).shares)) in ("x", "n")
    bars, marks = plot_importance(info).data
    assert len(bars.x) == len(marks.x) == 2


def test_what_is_not_shown_to_matter_is_named():
    info = ImportanceInfo({"lr": 0.9, "reg": 0.06, "momentum": 0.04}, chance={"lr": 0.1, "reg": 0.1, "momentum": 0.1})
    assert importance_text(info).endswith("These trials do not show that reg and momentum matter.")
    assert list(plot_importance(info).data[1].x) == [0.1, 0.1, 0.1]
    alone = ImportanceInfo({"lr": 0.9, "reg": 0.1}, chance={"lr": 0.1, "reg": 0.2})
    assert importance_text(alone).endswith("that reg matters.")
    sure = ImportanceInfo({"lr": 0.6, "reg": 0.4}, chance={"lr": 0.1, "reg": 0.2})
    assert "do not show" not in importance_text(sure)


def test_a_value_from_beyond_its_range_says_nothing_of_importance(tmp_path):
    """As Optuna takes it where somebody enqueues it; the report ended with `This should not happen`."""
    url = f"sqlite:///{tmp_path}/optuna.db"
    study = optuna.create_study(storage=url, study_name="theirs", sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial({"x": 5.0})

    def objective(trial):
        return trial.suggest_float("x", 1e-4, 1.0, log=True) + trial.suggest_float("y", 0, 0.1)

    with pytest.warns(UserWarning, match="out of range"):
        study.optimize(objective, n_trials=20)
    stage = read_stage(open_database(url), "theirs")
    assert set(stage.importances) == {"x", "y"}
    assert set(stage.chance_shares) == {"x", "y"}


def test_importance_of_few_trials_is_a_sentence(db):
    info = _importance_info(read_stage(db, "few"))
    assert info.shares == {}
    assert "12" in info.note


def test_parallel_lines_go_from_best_to_worst(coarse, foreign):
    info = _parallel_info(coarse)
    assert info.lines[0].number == coarse.best.number
    assert info.lines[0].places[-1] == 1.0
    assert all(0 <= place <= 1 for line in info.lines for place in line.places)
    assert info.axes[-1].name == "val_acc"
    theirs = _parallel_info(foreign)
    assert theirs.lines[0].places[-1] == 0.0  # the least value
    assert {axis.name for axis in theirs.axes} == {"x", "n", "c", "value"}
    assert plot_parallel(info).data[-1].name == "best"


def test_explosions_are_counted_by_rate(coarse, foreign):
    info = _explosions_info(coarse)
    assert sum(each.num_trials for each in info.bins) == 80
    assert sum(each.num_exploded for each in info.bins) == coarse.evidence.num_exploded
    assert info.bins[-1].share > 0.9
    assert all(each.share == 0 for each in info.bins if each.high < EDGE)
    assert _explosions_info(foreign) is None
    assert plot_explosions(info).layout.xaxis.type == "log"


def test_updates_of_a_trial_whose_metric_gave_no_number_are_grey():
    points = (UpdatePoint(0, 1e-2, 1e-3, 0.5, "a"), UpdatePoint(1, 1e-3, 2e-3, None, "b"))
    colored, best, grey = plot_updates(UpdatesInfo(points, 0, "val_acc")).data
    assert (list(colored.x), list(best.x), list(grey.x)) == ([1e-2], [1e-2], [1e-3])


def test_gap_and_updates_leave_explosions_out(coarse, foreign):
    num = 80 - coarse.evidence.num_exploded
    gap, updates = _gap_info(coarse), _updates_info(coarse)
    assert len(gap.points) == len(updates.points) == num
    point = next(point for point in gap.points if point.number == coarse.best.number)
    assert point.val_acc == coarse.best.value
    assert plot_updates(updates).layout.shapes[0].y0 == 1e-3
    assert sum(len(trace.x) for trace in plot_gap(gap).data if trace.name != "best" and trace.mode == "markers") == num
    assert _gap_info(foreign) is None
    assert _updates_info(foreign) is None


@pytest.mark.parametrize(("num_epochs", "dtick"), [(1, 1), (3, 1), (8, 1), (9, None), (100, None)])
def test_few_epochs_have_a_tick_each_and_none_between_them(num_epochs, dtick):
    epochs = tuple(range(1, num_epochs + 1))
    axis = plot_curves(CurvesInfo(0, "val_acc", (Curve("val_acc", epochs, epochs),))).layout.xaxis
    assert (axis.dtick, axis.nticks) == (dtick, None if dtick else 8)
    assert style.whole_axis(1, num_epochs + 0.1).get("dtick") == dtick


def test_curves_of_the_best(coarse, foreign):
    accuracy, loss = _curves_info(coarse)
    assert [curve.name for curve in accuracy.curves] == ["training", "validation"]
    assert max(accuracy.curves[1].values) == coarse.best.value
    assert loss.number == coarse.best.number
    [theirs] = _curves_info(foreign)
    assert theirs.curves[0].steps == (0, 1, 2)
    assert len(plot_curves(accuracy).data) == 2


class TestInside:
    def portrait(self, filters, sparsity, tmp_path):
        return Portrait(3, 0.9, tmp_path, filters, sparsity)

    @pytest.mark.parametrize("shape", [(70, 3, 5, 5), (6, 1, 28, 28), (1, 1, 2, 2)])
    def test_filters_become_a_mosaic(self, shape, tmp_path):
        filters = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        info = _filters_info(self.portrait(filters, {}, tmp_path))
        assert (info.num_shown, info.num_units) == (min(64, shape[0]), shape[0])
        assert info.mosaic.dtype == np.uint8
        assert info.mosaic.shape[2] == 4
        assert plot_filters(info).data[0].source.startswith("data:image/png;base64,")

    @pytest.mark.parametrize("shape", [(4, 16, 3, 3), (4, 3, 1, 1)])
    def test_what_is_no_picture_is_left_out(self, shape, tmp_path):
        assert _filters_info(self.portrait(np.ones(shape, np.float32), {}, tmp_path)) is None
        assert _filters_info(self.portrait(None, {}, tmp_path)) is None

    def test_silent_units_are_sorted_and_dead_ones_counted(self, tmp_path):
        info = _sparsity_info(self.portrait(None, {"fc1": np.array([0.2, 1.0, 0.5, 1.0])}, tmp_path))
        assert info.layers["fc1"] == (1.0, 1.0, 0.5, 0.2)
        assert info.num_dead == {"fc1": 2}
        assert len(plot_sparsity(info).data) == 1
        assert _sparsity_info(self.portrait(None, {}, tmp_path)) is None


def test_the_command_center_has_every_trial_with_its_verdict(coarse, foreign):
    data = center_data(coarse)
    assert [trial["n"] for trial in data["trials"]] == list(range(80))
    for trial in data["trials"]:
        exploded = coarse.trials[trial["n"]].params["lr"] > EDGE
        assert (VERDICT_ORDER[trial["verdict"]] == "exploded") == exploded
        assert exploded or [len(curve) for curve in trial["curves"]["acc"]] == [4, 4]
    theirs = center_data(foreign)
    assert {VERDICT_ORDER[trial["verdict"]] for trial in theirs["trials"]} == {"finished"}
    assert all(len(trial["curves"]["val"][1]) == 3 for trial in theirs["trials"])


@pytest.mark.parametrize(
    ("low", "high", "texts"),
    [
        (1e-5, 1.0, ["1e-5", "1e-4", "0.001", "0.01", "0.1", "1"]),
        (1e-5, 1e5, ["1e-4", "0.01", "1", "100", "1e4"]),
        (0.018, 0.63, ["0.03", "0.1", "0.3"]),
        (0.1, 0.4, ["0.1", "0.2", "0.3"]),
    ],
)
def test_log_axes_have_round_labels(low, high, texts):
    axis = style.log_axis(low, high)
    assert axis["ticktext"] == texts
    assert axis["range"] == [math.log10(low), math.log10(high)]


def test_each_colour_of_the_light_theme_has_one_role():
    assert len(style.dark_colours()) == len(style.Palette.__dataclass_fields__)
