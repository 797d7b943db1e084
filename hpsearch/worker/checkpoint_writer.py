"""Checkpoints written beside the training: a thread of their own, always with the newest state of each trial."""

from __future__ import annotations

import threading
from collections.abc import Callable

from hpsearch.training.checkpoints import Checkpoint, CheckpointError, Checkpoints


class Checkpointer:
    """Saves and removes checkpoints in a thread.

    Training waits for it only where it has to know: before trials are given back. A trial whose checkpoint waits to be
    written when a newer one comes has that one written instead. What goes wrong is told to `note`: it costs repeated
    work if the worker dies, not results.
    """

    def __init__(self, checkpoints: Checkpoints, note: Callable[[str], None]) -> None:
        self._checkpoints, self._note = checkpoints, note
        self._waiting: dict[int, Checkpoint | None] = {}  # by number of the trial; None: remove what there is
        self._changed = threading.Condition()
        self._busy = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="hpsearch-checkpoints", daemon=True)
        self._thread.start()

    def save(self, number: int, checkpoint: Checkpoint) -> None:
        """Write a trial's state, later."""
        self._put(number, checkpoint)

    def remove(self, number: int) -> None:
        """Drop all checkpoints of a trial that has ended, later."""
        self._put(number, None)

    def flush(self) -> None:
        """Wait until everything is written."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting and not self._busy)

    def close(self) -> None:
        """Write what waits, and end the thread."""
        self.flush()
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _put(self, number: int, checkpoint: Checkpoint | None) -> None:
        with self._changed:
            self._waiting[number] = checkpoint
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: bool(self._waiting) or self._closed)
                if not self._waiting:
                    return
                number = next(iter(self._waiting))
                checkpoint = self._waiting.pop(number)
                self._busy = True
            try:
                if checkpoint is None:
                    self._checkpoints.remove(number)
                else:
                    self._checkpoints.save(number, checkpoint)
            except CheckpointError as error:
                self._note(str(error).replace("\n", " "))
