"""Rows of the fault matrix about commands that start at the same time."""

import pytest

from hpsearch.storage import list_studies, open_database


def begun_at_once(fleet, *commands):
    processes = [fleet.coarse(*arguments) for arguments in commands]
    ended = []
    for process in processes:
        out, err = process.communicate(timeout=880)
        ended.append((process.returncode, out, err))
    return ended


@pytest.mark.slow
def test_eight_first_starts_at_once_on_a_fresh_database(fleet, undisturbed):
    ended = begun_at_once(fleet, *[()] * 8)
    assert [code for code, *_ in ended] == [0] * 8, ended
    fleet.assert_invariants()
    assert fleet.values() == undisturbed
    db = open_database(fleet.url)
    assert [study.name for study in list_studies(db)] == ["coarse"]
    db.close()


@pytest.mark.slow
def test_the_same_study_name_with_another_space_or_other_data(fleet):
    """Of three at once, one makes the study, and the others are refused with the differences."""
    other_space = ("--space", "lr=log(1e-3,1e-2)")
    other_data = ("--set", "data.synthetic.noise=0.75")
    ended = begun_at_once(fleet, (), other_space, other_data)
    assert sorted(code for code, *_ in ended) == [0, 3, 3]
    refused = [err for code, _, err in ended if code == 3]
    assert all("another search" in err or "other" in err for err in refused), refused
    assert any("lr" in err or "noise" in err or "images" in err for err in refused)
    fleet.assert_invariants()
