"""What an exception out of a pack means for the worker that trains it."""

from __future__ import annotations

import traceback
from collections.abc import Mapping

from hpsearch.analysis.trial_records import TrialRecord
from hpsearch.config import Choice, Range, StudyConfig, is_vector
from hpsearch.config.usercode import UserCodeError
from hpsearch.errors import HpsearchError

MAX_EQUAL = 3  # the same error so many times running stops the stage


class PoisonedDeviceError(HpsearchError):
    """The device refuses further work in this process; another process can go on."""

    exit_code = 75  # EX_TEMPFAIL

    @classmethod
    def by(cls, error: Exception) -> PoisonedDeviceError:
        """What to raise for what the device said."""
        return cls(f"the device refuses further work in this process: {first_line(error)}\nThe same command goes on.")


class Failures:
    """Trials that failed one after the other: the same error several times running stops the stage.

    Where the structure is searched, what is wrong with one structure counts once, however many trials have it.
    """

    def __init__(self, space: Mapping[str, Range]) -> None:
        self.by_structure = any(
            not is_vector(name) and (len(r.values) > 1 if isinstance(r, Choice) else r.low < r.high)
            for name, r in space.items()
        )
        self.running: list[tuple[str, StudyConfig, int]] = []  # error, structure, number of trials

    def clear(self) -> None:
        """A pack went well."""
        self.running.clear()

    def add(self, reason: str, num_trials: int, config: StudyConfig, error: Exception) -> None:
        """So many trials of one structure failed.

        Raises:
            HpsearchError: it was the same error MAX_EQUAL times running.
        """
        if self.running and self.running[-1][0] != reason:
            self.clear()
        if self.by_structure and self.running and self.running[-1][1] == config:
            num_trials += self.running.pop()[2]
        self.running.append((reason, config, num_trials))
        if len(self.running) == MAX_EQUAL:
            num_failed = sum(num for *_, num in self.running)
            raise HpsearchError(
                f"{num_failed} trials failed with the same error, {MAX_EQUAL} times running; the stage stops."
                f"\n{reason}; mend it, and the same command goes on with the other trials."
            ) from error


def first_line(error: Exception) -> str:
    """An exception as one line: its type, and the first line of what it says; the user's own where it was theirs."""
    if isinstance(error, UserCodeError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__


def failure_of(error: Exception) -> TrialRecord:
    """What a trial keeps of the exception that ended it."""
    text = "".join(traceback.format_exception(error))
    return TrialRecord(first_line(error), traceback=text[-4000:])


def is_poisoned(error: Exception) -> bool:
    """Whether CUDA has failed in a way after which the process cannot use it any more, as an assert on the device."""
    import torch

    fatal = getattr(torch, "AcceleratorError", None)
    return (fatal is not None and isinstance(error, fatal)) or "device-side assert" in str(error)
