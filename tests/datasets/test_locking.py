"""A lock that leaves nothing behind."""

import threading

from hpsearch.datasets.locking import locked


def test_folders_that_were_made_for_it_go_with_it(tmp_path):
    with locked(tmp_path / "data" / "cache" / ".lock") as alone:
        assert alone
        assert (tmp_path / "data" / "cache" / ".lock").is_file()
    assert list(tmp_path.iterdir()) == []


def test_folders_that_were_there_or_hold_something_stay(tmp_path):
    (tmp_path / "data").mkdir()
    with locked(tmp_path / "data" / "cache" / ".lock"):
        pass
    assert list((tmp_path / "data").iterdir()) == []
    with locked(tmp_path / "data" / "cache" / ".lock"):
        (tmp_path / "data" / "cache" / "kept").touch()
    assert [path.name for path in (tmp_path / "data" / "cache").iterdir()] == ["kept"]


def test_who_waits_gets_it_though_its_folder_went_away(tmp_path):
    path, waits, held = tmp_path / "data" / ".lock", threading.Event(), []

    def wait():
        with locked(path, waits.set) as alone:
            held.append((alone, path.is_file()))

    thread = threading.Thread(target=wait)
    with locked(path):
        thread.start()
        assert waits.wait(600)
    thread.join()
    assert held == [(True, True)]


def test_who_made_a_folder_anew_removes_it_in_turn(tmp_path):
    path, waits, may_go, held = tmp_path / "data" / ".lock", threading.Event(), threading.Event(), []

    def wait():
        def waiting():
            waits.set()
            assert may_go.wait(600)  # until the folder is gone

        with locked(path, waiting) as alone:
            held.append(alone)

    thread = threading.Thread(target=wait)
    with locked(path):
        thread.start()
        assert waits.wait(600)
    assert list(tmp_path.iterdir()) == []
    may_go.set()
    thread.join()
    assert held == [True]
    assert list(tmp_path.iterdir()) == []
