"""What the user's code keeps with a trial, beside what we keep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpsearch.analysis import attributes
from hpsearch.storage import RUNG, STRUCTURE

OURS = frozenset(
    {
        STRUCTURE,
        RUNG,
        attributes.REASON,
        attributes.EPOCH,
        attributes.STEP,
        attributes.COST,
        attributes.FIRST_COST,
        attributes.BEST_EPOCH,
        attributes.LAST_VALUE,
        attributes.LAST_SCORE,
        attributes.BEST_ACC,
        attributes.PLAIN_VALUE,
        attributes.FOLDS,
        attributes.MEASURES,
        attributes.TRACEBACK,
        attributes.TRIED_IN,
        attributes.AGAIN,
        attributes.PROPOSED,
        attributes.ENQUEUED,
        attributes.CONTINUED,
        attributes.WEIGHTS,
    }
)
"""Names that mean something to us."""


def of_user(noted: Mapping[str, Any]) -> dict[str, Any]:
    """The same by names that are not ours: its `epoch` is `user.epoch`."""
    return {f"user.{name}" if name in OURS else name: kept for name, kept in noted.items()}
