import pytest

from hpsearch.errors import HpsearchError
from hpsearch.fleet.deaths import MAX_DEATHS, MAX_FRUITLESS, Deaths, resuming, resumption


def test_workers_that_cannot_even_begin_end_the_command():
    deaths = Deaths()
    for _ in range(MAX_DEATHS):
        deaths.add("signal 9")
        deaths.hear(None)
    with pytest.raises(HpsearchError, match=r"6 workers died without progress .* signal 9\.\n"):
        deaths.add("signal 9")


def test_a_trial_that_kills_whoever_trains_it_ends_the_command_later():
    """Its first epochs are reported again and again: a sign of life, but no progress."""
    deaths = Deaths()
    for _ in range(MAX_FRUITLESS):
        deaths.add("signal 11")
        deaths.hear("life")
    with pytest.raises(HpsearchError, match="31 workers died without progress"):
        deaths.add("signal 11")


def test_any_number_of_deaths_is_borne_with_progress_in_between():
    deaths = Deaths()
    for _ in range(1000):
        deaths.add("signal 9")
        deaths.hear("progress")


def test_where_trials_go_on():
    assert resumption({7: 3}) == "trial 7 resumes at epoch 3"
    assert resumption({7: 3, 8: 1, 9: 3}) == "trial 8 resumes at epoch 1, trials 7, 9 resume at epoch 3"
    assert resumption({}) == ""


def test_of_code_of_the_users_no_epoch_is_spoken_of():
    """What it goes on from, it keeps itself, or it begins anew; it may have no epochs."""
    assert resuming(None, [4]) == "trial 4 is taken up again by the next worker"
    assert resuming(None, [4, 6]) == "trials 4, 6 are taken up again by the next workers"
    assert resuming(None, []) == ""
