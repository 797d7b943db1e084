"""What a comparison says in words, for the terminal and the page."""

from __future__ import annotations

from hpsearch.analysis.sampler_comparison import Band, Comparison
from hpsearch.wording import count_text, trials_text

TPE_RANDOM_TRIALS = 10  # Optuna's n_startup_trials


def band_text(found: Band, sign: str = "") -> str:
    """`0.9512 ± 0.0034`; `sign` is a format's sign, as + for differences."""
    return f"{found.mean:{sign}.4f}" + (f" ± {found.half_width:.4f}" if found.half_width is not None else "")


def budget_text(comparison: Comparison) -> str:
    """`5 repeats x 9 trials x 3 epochs for each sampler`."""
    num = len(comparison.repeats)
    return f"{count_text(num, 'repeat')} x {trials_text(comparison.num_trials, comparison.num_epochs)} for each sampler"


def wins_text(comparison: Comparison, sampler: str) -> str:
    """`3.5 of 5 (70%)`."""
    won, num = comparison.wins[sampler], len(comparison.repeats)
    return f"{won:.3g} of {num} ({won / num:.0%})"


def importance_text(comparison: Comparison) -> str:
    """`lr 82% · reg 18%`."""
    return " · ".join(f"{param} {share:.0%}" for param, share in comparison.importances.items())


def summary_sentences(comparison: Comparison) -> list[str]:
    """What came out, in plain words."""
    first, *others = comparison.samplers
    won = [f"{sampler} won {comparison.wins[sampler]:.3g}" for sampler in comparison.samplers]
    found = [
        f"Of {count_text(len(comparison.repeats), 'repeat')}, {', '.join(won[:-1])} and {won[-1]} (ties are split)."
    ]
    found += [difference_sentence(first, other, comparison.difference(first, other)) for other in others]
    if comparison.importances:
        param, share = next(iter(comparison.importances.items()))
        tried = ", ".join(f"{s} {comparison.distinct(s)[param]:.3g}" for s in comparison.samplers)
        found.append(f"{param} matters most ({share:.0%}). Values of it tried in one search: {tried}.")
    return found


def difference_sentence(one: str, other: str, difference: Band) -> str:
    """How much better one sampler is than the other, and whether that may be chance."""
    word = "better" if difference.mean >= 0 else "worse"
    text = f"With equal seeds, the best of {one} is {abs(difference.mean):.4f} {word} than that of {other} on average"
    if difference.low is None or difference.high is None:
        return f"{text}; one repeat cannot tell whether that is chance."
    clear = difference.low > 0 or difference.high < 0
    interval = f"95% interval {difference.low:+.4f} to {difference.high:+.4f}"
    return f"{text} ({interval}): {'more than chance' if clear else 'it may be chance'}."


def notes(comparison: Comparison) -> list[str]:
    """What to know before believing it."""
    found = []
    if comparison.num_asked > comparison.num_trials:
        found.append(
            f"{count_text(comparison.num_asked, 'trial')} were asked for; the largest balanced grid within them leaves "
            f"{comparison.num_trials}, so every sampler got {comparison.num_trials}."
        )
    if len(comparison.repeats) < comparison.num_planned:
        found.append(f"{len(comparison.repeats)} of {count_text(comparison.num_planned, 'repeat')} are finished.")
    if "tpe" in comparison.samplers and comparison.num_trials <= TPE_RANDOM_TRIALS:
        found.append(f"tpe draws its first {TPE_RANDOM_TRIALS} trials at random, so here it is random search.")
    return found
