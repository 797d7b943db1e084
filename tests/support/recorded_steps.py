"""What records steps where there is no CUDA: it does again what it was shown, and sees that the order is kept."""

from contextlib import contextmanager

import pytest

from hpsearch.training import graph


class Rehearsed:
    """Replays are the work itself. On lanes between `part` and `meet` only, and on that for which it was recorded."""

    def __init__(self):
        self.num_recorded = self.num_replayed = 0
        self.apart, self.lane = False, None

    def record(self, work, lane=None):
        self.num_recorded += 1

        def replay():
            assert self.lane == lane
            self.num_replayed += 1
            work()

        return replay

    def part(self):
        assert not self.apart
        self.apart = True

    @contextmanager
    def on(self, lane):
        assert self.apart
        assert self.lane is None
        self.lane = lane
        yield
        self.lane = None

    def meet(self):
        assert self.apart
        self.apart = False


@pytest.fixture(autouse=True)
def rehearsed(monkeypatch):
    """The recorders that were made."""
    made = []
    real = graph.recorder_for

    def recorder_for(device):
        if device.type == "cuda":
            return real(device)
        made.append(Rehearsed())
        return made[-1]

    monkeypatch.setattr(graph, "recorder_for", recorder_for)
    return made
