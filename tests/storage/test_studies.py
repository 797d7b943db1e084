import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import optuna
import pytest
import sqlalchemy as sa
import together

from hpsearch.config import Choice, FloatRange, IntRange
from hpsearch.errors import ConfigError, StudyNotFoundError
from hpsearch.results import EpochResult
from hpsearch.storage import (
    NewTrial,
    Outcome,
    Queue,
    StudyExistsError,
    StudyRow,
    add_trials,
    count_states,
    create_stage,
    find_study,
    list_studies,
    read_epochs,
    read_trials,
)
from hpsearch.storage.tables import hpsearch_epochs, hpsearch_leases, trial_values

RANGES = {
    "lr": FloatRange(1e-5, 1.0, log=True),
    "train.momentum": FloatRange(0.0, 0.9),
    "data.batch": IntRange(8, 64, log=True),
    "model.hidden": Choice(((50,), (100, 50))),
    "train.optimizer": Choice(("sgd", "adam", None, True, 3)),
}
PARAMS = {"lr": 0.125, "train.momentum": 0.5, "data.batch": 16, "model.hidden": (100, 50), "train.optimizer": None}


@pytest.fixture(autouse=True, scope="module")
def quiet_optuna():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def epoch(number, epoch=1, cost=1.0, val_acc=0.5):
    return EpochResult(number, epoch, cost, 0.9, 0.6, 1.0, val_acc, 1e-3, 0.1)


def num_queries(db, function):
    seen = []
    sa.event.listen(db._engine, "before_cursor_execute", lambda *args: seen.append(args[2]))
    function()
    return len(seen)


def test_a_stage_is_read_back_as_it_was_made(db):
    attrs = {"stage": "coarse", "config": {"a": [1, 2.5, None], "ü": "<img>"}}
    trials = [NewTrial(PARAMS, {"structure": "mlp"}), NewTrial(None), NewTrial({**PARAMS, "lr": 0.5})]
    made = create_stage(db, "first", "minimize", attrs, RANGES, trials)
    assert made == StudyRow(made.study_id, "first", ("minimize",), attrs)
    assert find_study(db, "first") == made
    assert list_studies(db) == [made]
    rows = read_trials(db, made)
    assert [row.number for row in rows] == [0, 1, 2]
    assert {row.state for row in rows} == {"WAITING"}
    assert rows[0].params == PARAMS
    assert rows[0].ranges == RANGES
    assert rows[0].attrs == {"structure": "mlp"}
    assert rows[1].params == {}
    assert rows[2].params["lr"] == 0.5
    assert rows[0].value is rows[0].started is rows[0].completed is None
    assert count_states(db, made) == {"WAITING": 3, "RUNNING": 0, "COMPLETE": 0, "PRUNED": 0, "FAIL": 0}
    assert [row.number for row in read_trials(db, made, since_trial_id=rows[0].trial_id)] == [1, 2]
    assert read_trials(db, made, states=["RUNNING", "FAIL"]) == []
    assert read_epochs(db, made) == {}


def test_a_name_is_taken_once(db):
    create_stage(db, "same", "maximize", {}, {}, [NewTrial()])
    with pytest.raises(StudyExistsError, match="'same'"):
        create_stage(db, "same", "maximize", {}, {}, [NewTrial()] * 5)
    assert len(read_trials(db, find_study(db, "same"))) == 1


def test_of_many_creators_one_wins(url, db, processes):
    outcomes = processes(together.create_same_stage, url)
    assert sorted(outcomes) == ["created"] + ["exists"] * (together.NUM_PROCESSES - 1)
    assert [row.number for row in read_trials(db, find_study(db, "one"))] == list(range(20))


@pytest.mark.parametrize("name", ["", "  ", "a\0b", "a\nb", "a\x1b[31mb", "x" * 513, "x" * 10_000, "\ud800"])
def test_hostile_names_are_refused(db, name):
    with pytest.raises(ConfigError, match="printable") as caught:
        create_stage(db, name, "maximize", {}, {}, [])
    assert len(str(caught.value)) < 300
    assert list_studies(db) == []


@pytest.mark.parametrize("name", ["../x", "<img onerror=1>", "'; DROP TABLE trials; --", "名前", "x" * 512, "%s {0}"])
def test_odd_names_are_only_names(db, name):
    create_stage(db, name, "maximize", {}, {}, [NewTrial()])
    assert find_study(db, name).name == name


def test_an_unknown_study_gets_the_nearest_and_the_list(db):
    with pytest.raises(StudyNotFoundError, match=r"'coarse' in .*\nThere are none yet"):
        find_study(db, "coarse")
    for i in range(12):
        create_stage(db, f"coarse-{i}", "maximize", {}, {}, [])
    with pytest.raises(StudyNotFoundError, match=r"Did you mean 'coarse-3'\?\nThere: .*'coarse-11' and 2 more\.$"):
        find_study(db, "coarse_3")


def test_a_thousand_trials_in_a_few_statements(db):
    trials = [NewTrial(PARAMS, {"structure": "a"})] * 1000
    made = []
    for_one = num_queries(db, lambda: made.append(create_stage(db, "small", "maximize", {}, RANGES, trials[:1])))
    for_all = num_queries(db, lambda: made.append(create_stage(db, "big", "maximize", {}, RANGES, trials)))
    small, study = made
    assert for_all <= for_one + 20
    assert len(read_trials(db, study)) == 1000
    assert num_queries(db, lambda: read_trials(db, study)) == num_queries(db, lambda: read_trials(db, small)) <= 5


def finished_stage(db):
    """Complete, pruned after an explosion, failed, waiting."""
    study = create_stage(db, "ours", "maximize", {"note": "x"}, RANGES, [NewTrial(PARAMS, {"structure": "a"})] * 4)
    queue = Queue(db, study, "w")
    leases = queue.take(3)
    queue.record([(lease, epoch(lease.number, 1, val_acc=0.25 * lease.number)) for lease in leases])
    queue.record([(leases[0], epoch(0, 2, val_acc=0.75))])
    queue.finish(
        [
            Outcome(leases[0], "COMPLETE", 0.75, {"best_epoch": 2}),
            Outcome(leases[1], "PRUNED", None, {"reason": "exploded"}, last=(2, math.inf)),
            Outcome(leases[2], "FAIL", None, {"traceback": "..."}, last=(1, math.nan)),
        ]
    )
    return study


def test_optuna_sees_what_we_write(db, url):
    row = finished_stage(db)
    study = optuna.load_study(study_name="ours", storage=db.optuna_storage())
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE
    assert study.user_attrs == {"note": "x"}
    assert study.best_trial.number == 0
    assert study.best_value == 0.75
    trials = study.get_trials()
    assert [trial.state.name for trial in trials] == ["COMPLETE", "PRUNED", "FAIL", "WAITING"]
    assert [trial.number for trial in trials] == [0, 1, 2, 3]
    assert trials[0].intermediate_values == {1: 0.0, 2: 0.75}
    assert trials[1].intermediate_values == {1: 0.25, 2: math.inf}
    assert trials[2].intermediate_values == {1: 0.5}  # the step had a value already
    assert trials[1].user_attrs == {"structure": "a", "reason": "exploded"}
    assert trials[1].value is None
    assert trials[0].duration < timedelta(minutes=1)
    assert trials[3].datetime_start is None
    for trial in trials:
        assert trial.params == {**PARAMS, "model.hidden": "[100, 50]"}
        for name, distribution in trial.distributions.items():
            assert distribution == optuna.distributions.json_to_distribution(
                optuna.distributions.distribution_to_json(distribution)
            ), name
    ours = read_trials(db, row)
    assert [trial.intermediate for trial in ours] == [trial.intermediate_values for trial in trials]
    assert [trial.attrs for trial in ours] == [trial.user_attrs for trial in trials]
    assert timedelta(0) <= ours[0].completed - ours[0].started < timedelta(minutes=20)
    assert abs(datetime.now(UTC) - ours[0].completed) < timedelta(minutes=20)


def test_optuna_takes_a_waiting_trial_with_its_params(db):
    row = create_stage(db, "shared", "maximize", {}, RANGES, [NewTrial(PARAMS)])
    study = optuna.load_study(study_name="shared", storage=db.optuna_storage())
    trial = study.ask()
    assert trial.number == 0
    assert trial.suggest_float("lr", 1e-5, 1.0, log=True) == PARAMS["lr"]
    assert trial.suggest_categorical("model.hidden", ["[50]", "[100, 50]"]) == "[100, 50]"
    assert trial.suggest_int("data.batch", 8, 64, log=True) == PARAMS["data.batch"]
    queue = Queue(db, row, "w")
    assert queue.take(1) == []
    study.tell(trial, 0.5)
    (read,) = read_trials(db, row)
    assert (read.state, read.value) == ("COMPLETE", 0.5)
    assert optuna.trial.Trial(study, read.trial_id).params["lr"] == PARAMS["lr"]


def test_studies_of_optuna_are_read_right(db):
    storage = db.optuna_storage()
    study = optuna.create_study(storage=storage, study_name="theirs", direction="minimize")
    study.set_user_attr("who", ["optuna", 5])

    def objective(trial):
        x = trial.suggest_float("x", 0.5, 2.0, step=0.5)
        trial.suggest_int("n", 1, 9, step=2)
        trial.suggest_categorical("kind", ["a", None, 1.5, False])
        if trial.number == 0:
            trial.report(x, 0)
            trial.report(math.nan, 3)
            trial.report(math.inf, 1)
            trial.report(-math.inf, 2)
            trial.set_user_attr("note", {"deep": [1]})
            return x
        if trial.number == 1:
            trial.report(7.0, 5)
            raise optuna.TrialPruned
        if trial.number == 2:
            return math.nan
        return {3: math.inf, 4: -math.inf}[trial.number]

    study.optimize(objective, n_trials=5)
    study.enqueue_trial({"x": 1.0})
    study.ask()
    study.enqueue_trial({"x": 1.0})

    row = find_study(db, "theirs")
    assert (row.directions, row.attrs) == (("minimize",), {"who": ["optuna", 5]})
    ours, theirs = read_trials(db, row), study.get_trials()
    assert [trial.state for trial in ours] == [
        "COMPLETE",
        "PRUNED",
        "FAIL",
        "COMPLETE",
        "COMPLETE",
        "RUNNING",
        "WAITING",
    ]
    assert list(ours[0].intermediate) == [0, 1, 2, 3]
    for trial, frozen in zip(ours, theirs, strict=True):
        assert (trial.number, trial.trial_id) == (frozen.number, frozen._trial_id)
        assert (trial.state, trial.value) == (frozen.state.name, frozen.value)
        assert (trial.params, trial.attrs) == (frozen.params, frozen.user_attrs)
        assert repr(sorted(trial.intermediate.items())) == repr(sorted(frozen.intermediate_values.items()))
        assert list(trial.params) == list(frozen.params)
    assert ours[0].ranges["x"] == FloatRange(0.5, 2.0, step=0.5)
    assert ours[0].ranges["n"] == IntRange(1, 9, step=2)
    assert ours[0].ranges["kind"] == Choice(("a", None, 1.5, False))
    assert count_states(db, row)["COMPLETE"] == 3


def test_several_objectives(db):
    study = optuna.create_study(storage=db.optuna_storage(), study_name="two", directions=["minimize", "maximize"])
    study.optimize(lambda trial: (trial.suggest_float("x", 0, 1), 5.0), n_trials=1)
    row = find_study(db, "two")
    assert row.directions == ("minimize", "maximize")
    (trial,) = read_trials(db, row)
    assert trial.value == trial.params["x"]


def test_a_nan_told_by_another_program_is_no_value(db):
    row = create_stage(db, "nan", "maximize", {}, {}, [NewTrial()])
    (trial,) = read_trials(db, row)
    with db.write() as connection:
        told = {"trial_id": trial.trial_id, "objective": 0, "value": None, "value_type": "FINITE"}
        connection.execute(sa.insert(trial_values).values(told))
    assert read_trials(db, row)[0].value is None


def test_epochs_are_read_back_by_number(db):
    study = create_stage(db, "epochs", "maximize", {}, {}, [NewTrial()] * 3)
    queue = Queue(db, study, "w")
    leases = queue.take(3)
    for number in (2, 1):
        queue.record([(lease, epoch(lease.number, number, cost=number)) for lease in leases])
    wild = EpochResult(1, 3, math.nan, math.inf, math.nan, -math.inf, math.nan, 0.0, 1e300)
    queue.record([(leases[1], wild)])
    found = read_epochs(db, study)
    assert list(found) == [0, 1, 2]
    assert found[0] == [epoch(0, 1, cost=1), epoch(0, 2, cost=2)]
    assert repr(found[1][2]) == repr(wild)
    assert list(read_epochs(db, study, numbers=[2])) == [2]
    assert math.isnan(read_trials(db, study)[1].intermediate[3])


@pytest.mark.parametrize("through", ["our connection", "bare optuna"])
def test_a_deleted_study_leaves_nothing_to_the_next(db, through):
    """SQLite gives the ids of deleted trials to the next ones, and most programs do not ask it to heed foreign keys."""
    finished_stage(db)
    storage = db.optuna_storage()
    if through == "bare optuna":
        storage = optuna.storages.RDBStorage(db._url.render_as_string(hide_password=False))
    optuna.delete_study(study_name="ours", storage=storage)
    if through == "bare optuna":
        storage.remove_session()
        storage.engine.dispose()
    with db.read() as connection:
        for table in (hpsearch_leases, hpsearch_epochs):
            assert connection.execute(sa.select(table)).all() == []
    study = create_stage(db, "next", "maximize", {}, {}, [NewTrial()] * 4)
    assert [lease.attempt for lease in Queue(db, study, "w").take(4)] == [1] * 4


def test_a_study_gets_the_trials_that_it_lacks(db):
    ranges = {"data.batch": IntRange(8, 64, log=True)}
    new = [NewTrial({"data.batch": size}, {"structure": str(size)}) for size in (8, 16, 32, 64)]
    study = create_stage(db, "grows", "maximize", {"a": 1, "b": 1}, ranges, new[:2])
    other = create_stage(db, "other", "maximize", {}, ranges, new[:3])
    [first] = Queue(db, study, "w").take(1)
    before = read_trials(db, study)
    assert add_trials(db, study, ranges, new, {"b": 2}) == 2
    assert add_trials(db, study, ranges, new, {"b": 3}) == 0
    assert add_trials(db, study, ranges, new[:1], {"b": 4}) == 0
    trials = read_trials(db, study)
    assert trials[:2] == before
    assert [(trial.number, trial.state, trial.params["data.batch"]) for trial in trials[2:]] == [
        (2, "WAITING", 32),
        (3, "WAITING", 64),
    ]
    assert find_study(db, "grows").attrs == {"a": 1, "b": 2}
    assert len(read_trials(db, other)) == 3
    assert [lease.number for lease in Queue(db, study, "v").take(9)] == [1]
    assert [lease.attrs["structure"] for lease in Queue(db, study, "v").take(1)] == ["32"]
    assert first.number == 0


def test_the_value_of_an_epoch_is_what_was_reported_and_of_older_studies_the_accuracy(db):
    study = create_stage(db, "by loss", "minimize", {}, {}, [NewTrial()] * 2)
    queue = Queue(db, study, "w")
    first, second = queue.take(2)
    scores = [0.25, math.nan, None]
    results = [replace(epoch(0, number), score=score) for number, score in enumerate(scores, start=1)]
    queue.record([(first, result) for result in results])
    queue.record([(second, epoch(1, 1))])
    found = read_epochs(db, study)
    assert found[1] == [epoch(1, 1)]
    assert repr(found[0]) == repr(results)
    assert found[0][2].val_score == results[2].val_acc
    with db.write() as connection:
        connection.execute(sa.text("DELETE FROM trial_intermediate_values"))
    assert read_epochs(db, study)[0][0].val_score == results[0].val_acc
