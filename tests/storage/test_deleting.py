"""A study is deleted whole, and nothing else; not while a worker holds a trial of it."""

import optuna
import pytest
import sqlalchemy as sa

from hpsearch.config import FloatRange
from hpsearch.errors import RefusedError
from hpsearch.results import EpochResult
from hpsearch.storage import NewTrial, Outcome, Queue, create_stage, list_studies, read_trials
from hpsearch.storage.deleting import delete_study
from hpsearch.storage.optuna_schema import tables_of_studies
from hpsearch.storage.system_attributes import write_system_attrs
from hpsearch.storage.tables import hpsearch_epochs, hpsearch_leases

RANGES = {"lr": FloatRange(1e-5, 1.0, log=True)}


def make(db, name):
    """Four trials: one complete, one held, two that wait."""
    study = create_stage(db, name, "maximize", {"of": name}, RANGES, [NewTrial({"lr": 0.1}, {"of": name})] * 4)
    write_system_attrs(db, study, {"note": name})
    queue = Queue(db, study, f"worker of {name}")
    done, held = queue.take(2)
    queue.record([(done, EpochResult(done.number, 1, 1.0, 0.9, 0.6, 1.0, 0.5, 1e-3, 0.1))])
    queue.finish([Outcome(done, "COMPLETE", 0.5, {})])
    return study, queue, held


def counts(db):
    with db.read() as connection:
        tables = (*tables_of_studies(), hpsearch_leases, hpsearch_epochs)
        return {t.name: connection.scalar(sa.select(sa.func.count()).select_from(t)) for t in tables}


def test_a_study_goes_with_all_its_rows_and_others_stay(db):
    make(db, "stays")
    before = counts(db)
    assert len(before) == 13
    study, queue, held = make(db, "goes")
    assert all(after == 2 * before[name] for name, after in counts(db).items())
    with pytest.raises(RefusedError, match=r"'goes' is at work: 1 worker with 1 trial in hand\.\n.*hpsearch stop goes"):
        delete_study(db, study)
    assert all(after == 2 * before[name] for name, after in counts(db).items())
    queue.release([held])
    delete_study(db, study)
    assert counts(db) == before
    [stays] = list_studies(db)
    assert [trial.attrs["of"] for trial in read_trials(db, stays)] == ["stays"] * 4


def test_studies_of_optuna_are_deleted_as_well(db):
    for name in ("theirs", "other"):
        study = optuna.create_study(storage=db.optuna_storage(), study_name=name)
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
        study.set_user_attr("a", 1)
    delete_study(db, list_studies(db)[0])
    assert optuna.get_all_study_names(db.optuna_storage()) == ["other"]
    assert len(optuna.load_study(study_name="other", storage=db.optuna_storage()).trials) == 2
