"""What to do once a search gains nothing any more: against what holds its best trial back, or the final test. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from hpsearch.analysis.advice_form import Advice
from hpsearch.analysis.chance import guessing
from hpsearch.analysis.commands import final_test_command, fine_command, rerun_command
from hpsearch.analysis.diagnosis import Diagnosis
from hpsearch.analysis.gain import ahead_of, may_be_luck
from hpsearch.analysis.remedies import Remedy, convolutions, larger_net, less_overfitting, other_rates
from hpsearch.analysis.search_anew import advised_anew, config_anew
from hpsearch.analysis.summary import StageSummary
from hpsearch.config.metric import Metric
from hpsearch.wording import value_text

GOOD = 0.9  # of the way from guessing to perfect: from there on, a search has done what it was begun for
FEW_EPOCHS, LONGER_EPOCHS = 3, 10  # of a stage that a time cut short: fewer say nothing of a net's limits; then what
RATES = {"lr too low": "higher", "lr too high": "lower", "dead": "lower", "exploded": "lower"}  # by verdict


def settled(
    stages: Sequence[StageSummary], found: StageSummary, diagnosis: Diagnosis | None, taken: Collection[str]
) -> Advice:
    """The search gains nothing any more: is the accuracy good, and if not, what holds it back?"""
    last = stages[-1]
    assert found.best is not None
    assert found.best.value is not None
    value, chance = found.best.value, guessing(found.metric, found.images)
    test = final_test(stages, found)
    config = config_anew(stages)
    if _is_good(found.metric, value, chance) or diagnosis is None or config is None:
        return test
    reached = f"training {_of(diagnosis.train_acc)}, validation {_of(value)}"
    if not found.metric.is_accuracy:
        reached = f"training accuracy {_of(diagnosis.train_acc)}, {found.metric.column} {_of(value)}"
    best = f"the best trial, {found.best.number} of {found.study},"
    shape = found.images.shape
    remedy: Remedy | None = None
    if way := RATES.get(diagnosis.verdict):
        text = f"{best} looks {diagnosis.verdict} ({reached}): search {way} rates"
        remedy = other_rates(config, way)
    elif found.epochs is not None and found.epochs < FEW_EPOCHS:
        text = f"{best} trained {found.epochs} epochs, too few to say what holds it back ({reached}): train longer"
        return _or_test(Advice(text, tuple(fine_command(last.study, last.code, epochs=LONGER_EPOCHS))), test, value)
    elif (remedy := convolutions(config, shape)) is not None:
        text = f"{best} is as good as a net without convolutions gets here ({reached})"
    elif diagnosis.verdict == "overfitting":
        text = f"{best} overfits ({reached})"
        remedy = less_overfitting(config, shape)
    elif diagnosis.still_rises and last.epochs is not None:
        text = f"{best} still rises at its end ({reached}): train longer"
        words = tuple(fine_command(last.study, last.code, epochs=2 * last.epochs))
        return _or_test(Advice(text, words), test, value)
    else:
        low = "both are low" if diagnosis.verdict == "underfitting" else "they lie close"
        text = f"{best} is as good as this net gets ({reached}: {low})"
        remedy = larger_net(config, shape)
    return _or_test(advised_anew(text, remedy, config, taken), test, value)


def _is_good(metric: Metric, value: float, chance: float | None) -> bool:
    """Whether it is most of the way from guessing to perfect; never of a user's measure, whose ends are theirs."""
    if metric.name == "loss":
        return chance is not None and value <= (1 - GOOD) * chance
    return metric.is_share and value >= (chance or 0.0) + GOOD * (1 - (chance or 0.0))


def final_test(stages: Sequence[StageSummary], found: StageSummary) -> Advice:
    """The one use of the test set, where there is one that nobody has looked at; other seeds of what is not ours."""
    if found.metric.is_own:
        assert found.best is not None
        for rival in stages:
            if rival.best is not None and may_be_luck(rival, found):
                words = rerun_command(rival.study, rival.best.number, rival.code)
                return Advice(f"see whether the best of {rival.study} was luck{_seeds(rival)}", tuple(words))
        if (ahead := ahead_of(found, stages)) is not None:
            stage, trial = ahead
            words = rerun_command(stage.study, trial.number, stage.code)
            return Advice(f"see whether trial {trial.number} of {stage.study} was luck{_seeds(stage)}", tuple(words))
        words = rerun_command(found.study, found.best.number, found.code)
        return Advice(f"see how much of the best was luck{_seeds(found)}", tuple(words))
    own = sum(stage.num_tests for stage in stages)
    uses = stages[-1].uses
    used = uses is not None and uses.num > 0
    if used and not own:
        return Advice("another search has used these test images: a look now chooses between the two")
    if used or own:
        return Advice("the test set has been used: what it said first is the answer, later looks have chosen among it")
    if found.images.has_test is False:
        return Advice("these images have no test split: keep some aside for the final measurement")
    return Advice("use the test set, once", tuple(final_test_command(found.study, found.code)))


def _seeds(stage: StageSummary) -> str:
    return ", with other seeds" if "seed" in (stage.takes or ()) else ": call it again"


def _or_test(advice: Advice, test: Advice, value: float) -> Advice:
    enough = f"if {value_text(value)} is enough, " if test.words is not None else ""
    return replace(advice, other_text=f"{enough}{test.text}", other_words=test.words)


def _of(accuracy: float | None) -> str:
    return "-" if accuracy is None else f"{accuracy:.2f}"
