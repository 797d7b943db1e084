"""Everything that a worker needs, imported by the server of workers before the first of them is forked."""

from __future__ import annotations

import contextlib
import gc

gc.disable()  # until all is here, which stays

import hpsearch.training.images  # noqa: E402
import hpsearch.worker.joining  # noqa: E402, F401

with contextlib.suppress(ImportError):
    import psycopg  # noqa: F401

gc.enable()
gc.collect()
gc.freeze()  # or collections in workers would touch, and so copy, all that they share with it
