"""The imports of a command that trains: most of its start."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from hpsearch.phases import phase


@contextmanager
def importing() -> Iterator[None]:
    """The block imports what a command needs: timed, and without the garbage collector.

    What is imported stays to the end; to look through it again and again is a tenth of such a command's start.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        with phase("imports"):
            yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()
