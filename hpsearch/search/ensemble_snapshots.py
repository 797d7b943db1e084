"""Snapshots: the states of one training at the ends of the cycles of its rate (Huang et al. 2017).

Nothing keeps them while a search runs, where most are of trials that nobody looks at again. A trial whose snapshots are
wanted is trained once more by its own recipe, and they are kept from then on. A pack of one may add in another order
than the search's did, so they are its states up to rounding; with the engine loop, exactly.
"""

from __future__ import annotations

from collections.abc import Iterable

from hpsearch.config import TrainConfig
from hpsearch.errors import ConfigError
from hpsearch.search.stored_trials import StoredTrial
from hpsearch.training.schedules import cycle_ends
from hpsearch.wording import count_text

FEWEST = 2  # one state is no average
EXAMPLE_CYCLES = 5  # of a search that is to have snapshots


def snapshot_epochs(stored: StoredTrial) -> list[int]:
    """Those of a trial's epochs with which a cycle ended."""
    return cycle_ends(stored.config.train, _epochs_of(stored))


def refuse_without_cycles(stored: StoredTrial, others: Iterable[StoredTrial]) -> None:
    """Say no to a trial that has fewer than two snapshots.

    Args:
        stored: the trial.
        others: of its study, the best one first; the first one that has snapshots is named.

    Raises:
        ConfigError: with what would have them.
    """
    num = len(snapshot_epochs(stored))
    if num >= FEWEST:
        return
    train, epochs = stored.config.train, _epochs_of(stored)
    whose = f"trial {stored.trial.number} of {stored.study.name}"
    if train.lr_schedule == "sgdr":
        said = f"{whose} has {epochs} epochs, in which {count_text(num, 'cycle')} of its rate ended ({_cycles(train)})"
    else:
        said = f"{whose} has train.lr_schedule = {train.lr_schedule!r}, whose rate does not restart: no cycle ended"
    named = next((each for each in others if len(snapshot_epochs(each)) >= FEWEST), None)
    there = f"--trial {named.trial.number}, the best one with snapshots; or " if named is not None else ""
    period = max(1, epochs // EXAMPLE_CYCLES)
    raise ConfigError(
        f"{said}.\nAllowed: {there}trials in which two cycles or more end, as of a search with --set "
        f"train.lr_schedule=sgdr --set train.lr_period={period} --set train.lr_period_factor=1."
    )


def cut_short(stored: StoredTrial) -> str | None:
    """What to say of epochs after the last end of a cycle; None where there are none."""
    ends, epochs = snapshot_epochs(stored), _epochs_of(stored)
    if not ends or ends[-1] == epochs:
        return None
    return f"the last cycle began after epoch {ends[-1]} and did not end in {epochs} epochs: there is no snapshot of it"


def _epochs_of(stored: StoredTrial) -> int:
    return stored.config.train.epochs if stored.last_epoch is None else stored.last_epoch


def _cycles(train: TrainConfig) -> str:
    return f"train.lr_period = {train.lr_period}, train.lr_period_factor = {train.lr_period_factor}"
