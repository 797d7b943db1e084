"""A stage with rungs as those see it who watch: trials that wait are in nobody's hands, and epochs are counted."""

import optuna

from hpsearch.analysis import attributes
from hpsearch.analysis.lineage import advise
from hpsearch.analysis.snapshots import Watcher
from hpsearch.analysis.study_list import listed_studies
from hpsearch.analysis.study_trials import read_study
from hpsearch.analysis.summary import stage_summary
from hpsearch.cli.output import print_stage, spent_text
from hpsearch.cli.watch import snapshot_line
from hpsearch.config import FloatRange
from hpsearch.dashboard.note import study_note
from hpsearch.report.center import verdict_of
from hpsearch.report.stage import read_stage
from hpsearch.report.words import summarize
from hpsearch.results import EpochResult
from hpsearch.storage import RUNG, NewTrial, RungQueue, create_stage, find_study, open_database
from hpsearch.storage.activity import num_taken_again, read_activity, workers_of

SPACE = {"lr": FloatRange(1e-3, 1.0, log=True)}


def test_what_waits_at_a_rung_is_told_apart_from_what_runs(tmp_path, capsys):
    db = open_database(f"sqlite:///{tmp_path}/studies.db", create=True)
    config = {"coarse": {"epochs": 9, "halving": "promote", "epochs_budget": 20}}
    attrs = {attributes.STAGE: "coarse", attributes.CONFIG: config}
    study = create_stage(db, "coarse", "maximize", attrs, SPACE, [NewTrial({"lr": 0.1}) for _ in range(20)])
    queue = RungQueue(db, study, "host/1/x")
    leases = queue.take_chosen(lambda _standing: {0: 1, 1: 1, 2: 1})
    queue.record([(lease, EpochResult(lease.number, 1, 1, 1, 0.5, 1, 0.5, 1e-3, 0.1)) for lease in leases])
    queue.pause([(lease, 1, {}) for lease in leases[:2]])
    snapshot = Watcher(db, study).look()
    assert (snapshot.num_paused, snapshot.work, [t.number for t in snapshot.running]) == (2, (3, 20), [2])
    assert not snapshot.abandoned
    assert snapshot_line(snapshot) == "coarse: 3 of 20 epochs, 0 trials ended, 1 running, 2 waiting at rungs"
    summary = stage_summary(read_study(db, "coarse"))
    assert spent_text(summary) == "3 of 20 epochs, by 3 trials, 2 of them waiting at rungs"
    print_stage(summary)
    assert "3 trials of up to 9 epochs · 0 ended" in capsys.readouterr().out
    assert (summary.as_dict()["paused"], summary.num_running) == (2, 1)
    (listed,) = listed_studies(db)
    assert (listed.running, listed.paused, listed.as_dict()["paused"]) == (1, 2, 2)
    stage = read_stage(db, "coarse")
    assert [verdict_of(stage, trial) for trial in stage.trials[:3]] == ["waiting at a rung"] * 2 + ["running"]
    assert "(0 ended, 2 waiting at rungs)" in " ".join(summarize([stage]).sentences)
    assert "1 running, 2 waiting at rungs, 17 waiting" in study_note(stage.evidence, {}, advise(db, stage.evidence))
    queue.pause([(leases[2], 1, {})])
    assert Watcher(db, study).look().abandoned


def test_what_another_program_keeps_under_that_name_is_no_rung(tmp_path):
    db = open_database(f"sqlite:///{tmp_path}/studies.db", create=True)
    theirs = optuna.create_study(study_name="theirs", storage=db.optuna_storage())
    for kept in (3, "third", None, [1], {"paused": True}, {"until": "end", "paused": True}):
        theirs.ask().set_user_attr(RUNG, kept)
    snapshot = Watcher(db, find_study(db, "theirs")).look()
    assert (snapshot.num_paused, len(snapshot.running)) == (0, 6)
    assert [each.running for each in listed_studies(db)] == [6]
    assert stage_summary(read_study(db, "theirs")).num_paused == 0


def test_a_promotion_is_not_shown_as_another_attempt(tmp_path):
    db = open_database(f"sqlite:///{tmp_path}/studies.db", create=True)
    study = create_stage(db, "coarse", "maximize", {}, SPACE, [NewTrial({"lr": 0.1}) for _ in range(2)])
    queue = RungQueue(db, study, "host/1/x")
    leases = queue.take_chosen(lambda _standing: {0: 1, 1: 1})
    queue.pause([(lease, 1, {}) for lease in leases])
    queue.take_chosen(lambda _standing: {0: 3})
    assert num_taken_again(read_activity(db, study)) == 0
    assert workers_of(read_activity(db, study))[0].attempts == {0: 1}
    queue.release(queue.take_chosen(lambda _standing: {1: 3}))
    queue.take_chosen(lambda _standing: {1: 3})
    assert num_taken_again(read_activity(db, study)) == 1


def test_attempts_that_were_lost_count_on_at_further_rungs(tmp_path):
    db = open_database(f"sqlite:///{tmp_path}/studies.db", create=True)
    study = create_stage(db, "coarse", "maximize", {}, SPACE, [NewTrial({"lr": 0.1}) for _ in range(3)])
    queue = RungQueue(db, study, "host/1/x")

    def again():
        return num_taken_again(read_activity(db, study))

    queue.release(queue.take_chosen(lambda _standing: {0: 1, 1: 1}))
    leases = queue.take_chosen(lambda _standing: {0: 1, 1: 1, 2: 1})
    queue.pause([(lease, 1, {}) for lease in leases])
    assert again() == 2
    (lease,) = queue.take_chosen(lambda _standing: {0: 3})
    assert (again(), workers_of(read_activity(db, study))[0].attempts) == (2, {0: 1})
    queue.go_on([lease], lambda _standing: {0: 9}, "maximize")
    queue.pause([(lease, 9, {})])
    assert again() == 2
    queue.release(queue.take_chosen(lambda _standing: {2: 3}))
    queue.pause([(lease, 3, {}) for lease in queue.take_chosen(lambda _standing: {2: 3})])
    assert again() == 3
    assert queue.close(lambda _: {}, lambda _: None, "maximize", {}, lambda *_: None).is_over
    assert again() == 3
