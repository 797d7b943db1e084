"""Numbers as people read them, the same in a terminal, on a page and in a note."""

from __future__ import annotations

from collections.abc import Sequence

FEW_SECONDS = 10.0  # below, tenths of a second are said
FEW_MINUTES = 600.0  # seconds; below, the seconds beside the minutes are said
DAY = 86400.0  # seconds
SMALL = 1e-3  # of values; a loss below it would have lost its digits


def duration_text(seconds: float) -> str:
    """A time in the units that fit it: `71 ms`, `4.2 s`, `39 s`, `2 min 30 s`, `54 min`, `6 h 40 min`, `3 d 4 h`."""
    if seconds < 0.9995:
        return f"{seconds * 1e3:.3g} ms" if seconds > 0 else "0 s"
    if seconds < FEW_SECONDS - 0.05:
        return f"{seconds:.1f} s"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if seconds < FEW_MINUTES - 0.5:
        return _pair(seconds, 60, "min", 1, "s")
    if seconds < 3600 - 30:
        return f"{seconds / 60:.0f} min"
    if seconds < DAY - 30:
        return _pair(seconds, 3600, "h", 60, "min")
    return _pair(seconds, DAY, "d", 3600, "h")


def count_text(number: int | None, noun: str) -> str:
    """`1 epoch`, `5 epochs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def listed_text(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def trials_text(num_trials: int, num_epochs: int | None) -> str:
    """`20 trials x 5 epochs`; the trials alone where they have no epochs."""
    each = f" x {count_text(num_epochs, 'epoch')}" if num_epochs is not None else ""
    return f"{count_text(num_trials, 'trial')}{each}"


def value_text(value: float | None) -> str:
    """The value of a trial with the digits that matter: `0.9757`, `1.235e+04`, `1.05e-06`; `-` for none."""
    if value is None:
        return "-"
    if 0 < abs(value) < SMALL:
        return f"{value:.3g}"
    return f"{value:.4g}" if abs(value) >= 1e4 else f"{value:.4f}"


def _pair(seconds: float, large: float, large_name: str, small: float, small_name: str) -> str:
    """`6 h 40 min`; rounded first, so that it is never `59 min 60 s`."""
    whole, rest = divmod(round(seconds / small), round(large / small))
    return f"{whole} {large_name} {rest} {small_name}" if rest else f"{whole} {large_name}"
