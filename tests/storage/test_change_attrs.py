from concurrent.futures import ThreadPoolExecutor

from hpsearch.storage import create_stage, find_study
from hpsearch.storage.system_attributes import AttrChange, change_attrs, read_system_attrs


def test_no_change_is_lost_between_reading_and_writing(db):
    study = create_stage(db, "s", "maximize", {}, {}, [])

    def add_one(_):
        return change_attrs(db, study, "n", lambda n: AttrChange({"n": (n or 0) + 1}, {"seen": n}))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(add_one, range(40)))
    assert find_study(db, "s").attrs == {"n": 40}
    assert read_system_attrs(db, study) == {"seen": 39}


def test_a_decision_against_a_change_writes_nothing(db):
    study = create_stage(db, "s", "maximize", {"n": 1}, {}, [])
    assert not change_attrs(db, study, "n", lambda n: None)
    assert find_study(db, "s").attrs == {"n": 1}
