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


def test_of_the_first_epoch_it_is_what_it_has_taken_so_far(monkeypatch):
    """Nobody knows how long it takes: Ctrl-C in a ResNet's first epoch took effect half a minute later."""
    now = 0.0
    monkeypatch.setattr("hpsearch.worker.stopping.time.monotonic", lambda: now)
    stop = Stop()
    with stop.epoch():
        now = DRAIN_SECONDS / 2
    assert stop.epoch_seconds == DRAIN_SECONDS / 2
    now = 10 * DRAIN_SECONDS  # between two epochs
    assert not stop.takes_long

    def train():
        nonlocal now
        with stop.epoch():
            now += 2 * DRAIN_SECONDS
            signal.raise_signal(signal.SIGINT)

    with stop.on_signals(), pytest.raises(Stopped):
        train()
    assert not stop.takes_long  # how long that one takes is still not known


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
