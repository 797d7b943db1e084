import threading

from hpsearch.training.checkpoints import CheckpointError
from hpsearch.worker.checkpoint_writer import Checkpointer


class SlowDisk:
    """Checkpoints that are written when the test says so."""

    def __init__(self):
        self.go_on, self.begun = threading.Event(), threading.Event()
        self.done = []

    def save(self, number, checkpoint):
        self.begun.set()
        assert self.go_on.wait(60)
        self.done.append((number, checkpoint))

    def remove(self, number):
        self.done.append((number, None))


def test_training_does_not_wait_and_the_newest_state_is_written():
    disk = SlowDisk()
    checkpointer = Checkpointer(disk, lambda note: None)
    checkpointer.save(1, "epoch 1")
    assert disk.begun.wait(60)
    checkpointer.save(1, "epoch 2")
    checkpointer.save(2, "epoch 2")
    checkpointer.save(1, "epoch 3")
    assert disk.done == []
    disk.go_on.set()
    checkpointer.flush()
    assert disk.done == [(1, "epoch 1"), (1, "epoch 3"), (2, "epoch 2")]
    checkpointer.close()


def test_what_is_removed_does_not_come_back():
    disk = SlowDisk()
    checkpointer = Checkpointer(disk, lambda note: None)
    checkpointer.save(1, "epoch 1")
    assert disk.begun.wait(60)
    checkpointer.save(2, "epoch 1")
    checkpointer.remove(2)
    checkpointer.remove(1)
    disk.go_on.set()
    checkpointer.close()
    assert sorted(disk.done, key=str) == [(1, "epoch 1"), (1, None), (2, None)]
    assert disk.done[-1] == (1, None) or disk.done.index((1, None)) > disk.done.index((1, "epoch 1"))


def test_a_full_disk_is_told_and_ends_nothing():
    class FullDisk(SlowDisk):
        def save(self, number, checkpoint):
            raise CheckpointError("no room\nfree: 0 bytes")

    notes, disk = [], FullDisk()
    checkpointer = Checkpointer(disk, notes.append)
    checkpointer.save(1, "epoch 1")
    checkpointer.flush()
    assert notes == ["no room free: 0 bytes"]
    checkpointer.remove(1)
    checkpointer.close()
    assert disk.done == [(1, None)]
