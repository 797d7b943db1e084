"""Signals: the first one drains, the same one again stops at once."""

import signal

import pytest

from hpsearch.worker.stopping import DRAIN_SECONDS, Stop, Stopped


def send(*signals, epoch_seconds=0.0):
    """The stop after these signals."""
    stop = Stop()
    stop.epoch_seconds = epoch_seconds
    with stop.on_signals():
        for signum in signals:
            signal.raise_signal(signum)
    return stop


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_first_lets_the_epoch_end_and_the_same_again_does_not(signum):
    assert send(signum).requested.exit_code == 128 + signum
    with pytest.raises(Stopped) as stopped:
        send(signum, signum)
    assert stopped.value.exit_code == 128 + signum


def test_a_supervisor_s_sigterm_after_the_terminal_s_ctrl_c_is_no_second_one():
    assert send(signal.SIGINT, signal.SIGTERM).requested.exit_code == 130
    with pytest.raises(Stopped) as stopped:
        send(signal.SIGINT, signal.SIGTERM, signal.SIGINT)
    assert stopped.value.exit_code == 130


def test_a_long_epoch_is_not_waited_for():
    with pytest.raises(Stopped) as stopped:
        send(signal.SIGTERM, epoch_seconds=2 * DRAIN_SECONDS)
    assert stopped.value.exit_code == 143


def test_what_a_long_epoch_leaves_to_save_is_not_cut_by_the_supervisor():
    stop = Stop()
    stop.epoch_seconds = 2 * DRAIN_SECONDS
    with stop.on_signals():
        with pytest.raises(Stopped):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)


def test_a_signal_after_hpsearch_stop_stops_at_once():
    stop = Stop()
    stop.request()
    with stop.on_signals(), pytest.raises(Stopped) as stopped:
        signal.raise_signal(signal.SIGTERM)
    assert stopped.value.exit_code == 143
