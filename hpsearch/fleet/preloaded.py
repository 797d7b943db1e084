"""Everything that a worker needs, imported by the server of workers before the first of them is forked."""

from __future__ import annotations

import contextlib
import gc

import hpsearch.training.images
import hpsearch.worker.joining  # noqa: F401

with contextlib.suppress(ImportError):
    import psycopg  # noqa: F401

gc.collect()
gc.freeze()  # or collections in workers would touch, and so copy, all that they share with it
