"""What calls of trials again gave, as a sampler is told of it: the mean of all calls, as no place has two values.

The first value of a trial that was called again for having led is partly luck, and a Gaussian process that is told it
alone stays near that place.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from hpsearch.analysis.called_again import MAX_FAILED
from hpsearch.analysis.repeats import mean_of_calls


class ToldCalls:
    """Trials that call others again, by number, and what they gave."""

    def __init__(self) -> None:
        self._of: dict[int, int] = {}
        self._values: defaultdict[int, list[float | None]] = defaultdict(list)
        self._num_failed: Counter[int] = Counter()

    def begin(self, number: int, of: int) -> None:
        """A trial calls that of number `of` again."""
        self._of[number] = of

    def __contains__(self, number: float) -> bool:
        return number in self._of

    def end(self, number: int, value: float | None) -> None:
        """A call has ended, without a value where it exploded."""
        self._values[self._of[number]].append(value)

    def fail(self, number: int) -> None:
        """A call has failed, which says nothing yet where it is the first one."""
        of = self._of[number]
        self._num_failed[of] += 1
        if self._num_failed[of] == MAX_FAILED:
            self._values[of].append(None)

    def mean(self, number: int, first: float | None) -> float | None:
        """Of all calls of a trial, its own, `first`, as well; None where one of them has no value."""
        known = [value for value in self._values.get(number, ()) if value is not None]
        if first is None or len(known) < len(self._values.get(number, ())):
            return None
        return mean_of_calls(first, known)
