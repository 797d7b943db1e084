import pytest

from hpsearch.storage import StorageAwayError
from hpsearch.worker import database_waits as patience
from hpsearch.worker.stopping import Stop


class Away:
    """A database that answers at the fourth try."""

    num_tries = 0

    def __call__(self):
        self.num_tries += 1
        if self.num_tries < 4:
            raise StorageAwayError("connection\nrefused")
        return "here"


@pytest.fixture
def pauses(monkeypatch):
    seen = []
    monkeypatch.setattr(patience.time, "sleep", seen.append)
    return seen


def test_a_database_that_is_away_is_tried_until_it_answers_and_spoken_of_once(pauses, monkeypatch):
    notes = []
    monkeypatch.setattr(patience, "TOLD_SECONDS", 600.0)
    monkeypatch.setattr(patience, "LONGEST_PAUSE", 0.3)
    assert patience.insist(Away(), notes.append, Stop()) == "here"
    assert notes == ["database away, waiting: connection refused"]
    assert pauses == [0.1, 0.2, 0.3]


def test_it_is_spoken_of_again_as_time_goes_by(pauses, monkeypatch):
    notes = []
    monkeypatch.setattr(patience, "TOLD_SECONDS", -1.0)
    assert patience.insist(Away(), notes.append, Stop()) == "here"
    assert len(notes) == len(pauses) == 3
