"""What to do next, once a stage has ended or was left: one advice, whoever asks. Pure.

The order is that of a practitioner: finish what was begun; see that anything was learned at all; search on while that
gains; then, in `settled_advice`, by what the best trial's curves say, a larger net, more of what holds back
overfitting, or longer training. The test set comes last, when the accuracy is good, or good enough for whoever
needs it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from hpsearch.analysis import attributes
from hpsearch.analysis.advice_form import Advice
from hpsearch.analysis.commands import (
    fine_command,
    look_command,
    resume_command,
    train_command,
    whole,
    whole_of_code,
)
from hpsearch.analysis.decision import Limits, best_stage, decide
from hpsearch.analysis.diagnosis import Diagnosis
from hpsearch.analysis.few_images import few_images_text
from hpsearch.analysis.other_values import other_values
from hpsearch.analysis.remedies import num_swung, rates_below
from hpsearch.analysis.search_anew import advised_anew
from hpsearch.analysis.settled_advice import RATES, final_test, settled
from hpsearch.analysis.stage_names import next_name
from hpsearch.analysis.stopped_trials import StoppedTrials
from hpsearch.analysis.summary import StageSummary
from hpsearch.wording import count_text

SEARCHED = ("coarse", "fine")  # kinds of stages that are decided upon
ENDLESS = 1000  # stages: an advice is no loop that must end somewhere
NEARLY = 0.9  # of the trials ended: what all of them say will not change any more


def what_next(
    stages: Sequence[StageSummary],
    diagnosis: Diagnosis | None = None,
    *,
    taken: Collection[str] = (),
    again: Sequence[str] | None = None,
    gain: float | None = None,
    at_work: bool = False,
) -> Advice:
    """What to do after the last of the stages that led to it.

    Args:
        stages: first one first; see `search_so_far`.
        diagnosis: of the best trial of `search_so_far`.
        taken: names of studies that are there, which a new search does not take.
        again: the command that goes on with what is not finished; None: it is put together from what is kept.
        gain: see `Limits`.
        at_work: whether workers are at the last stage now.
    """
    last = stages[-1]
    if last.num_finished < last.num_trials and not _all_but_over(last):
        return _unfinished(stages, again, at_work)
    if last.stage == attributes.TRAIN and (last.best is not None or last.num_exploded):
        return _trained(last, diagnosis, taken)
    if last.stopped is not None and last.stage in SEARCHED:
        return _stopped(last, last.stopped)
    if last.best is None or last.best.value is None:
        return _nothing(last, taken)
    if last.stage == "check":
        words = ("hpsearch", "coarse", "--from", last.study, *_trusts(last))
        return Advice("search coarse, with the rates at which the loss goes down", words)
    if last.stage not in SEARCHED:
        return Advice("narrow the ranges to where trials did well, and search there", _fine(last))
    searched = search_so_far(stages)
    decision = decide(searched, last.images.num_val or 1, Limits(gain, ENDLESS))
    if decision.ending == "luck":
        return _luck(last, diagnosis, decision.reason)
    if decision.go_on:
        return Advice("", _fine(last), True, decision.reason)
    found = best_stage(searched)
    assert found is not None, "the last stage has a best trial"
    return replace(settled(searched, found, diagnosis, taken), go_on=False, reason=decision.reason)


def search_so_far(stages: Sequence[StageSummary]) -> list[StageSummary]:
    """The stages at the end that are decided upon together: coarse, and each fine one after it."""
    own: list[StageSummary] = []
    for stage in reversed(stages):
        if stage.stage not in SEARCHED or stage.metric != stages[-1].metric:
            break
        own.insert(0, stage)
    return own or [stages[-1]]


def _all_but_over(stage: StageSummary) -> bool:
    """Nothing has come to its end yet, and hardly anything is left."""
    return stage.best is None and stage.num_finished >= NEARLY * stage.num_trials


def _unfinished(stages: Sequence[StageSummary], again: Sequence[str] | None, at_work: bool) -> Advice:
    last = stages[-1]
    done = f"{last.num_finished} of {count_text(last.num_trials, 'trial')} ended"
    if last.spent is not None and (budget := last.spent[1]) is not None:
        done = f"{last.spent[0]} of {count_text(budget, 'epoch')} trained"
    text = f"the stage {last.study} is not finished: {done}"
    text += "" if last.num_complete or not last.num_finished else ", none of them to its end yet"
    if at_work:
        return Advice(f"{text}; workers are at it", ("hpsearch", "status", last.study, "--watch"))
    words = again
    wholly = whole if not last.metric.is_own else whole_of_code
    if words is None and last.stage is not None and (config := wholly(last.config)) is not None:
        source = wholly(stages[-2].config) if len(stages) > 1 and stages[-2].study == last.source else None
        words = resume_command(last.study, last.stage, last.source, last.with_asked_sampler(config), source, last.code)
    how = "the command that began it" if words is None else "the same command" if again else "this"
    return Advice(f"{text}; {how} goes on with it", tuple(words) if words is not None else None)


def _nothing(last: StageSummary, taken: Collection[str]) -> Advice:
    if last.num_exploded:
        all_of_them = (
            "every trial" if last.num_exploded == last.num_finished else count_text(last.num_exploded, "trial")
        )
        if last.metric.is_own and len(last.returned) == last.num_exploded:
            said = f"{all_of_them} of {last.study} gave {last.returned_text} and reported nothing"
            return Advice(f"{said}: look at why, or search other ranges")
        if last.metric.is_own:
            return Advice(f"{all_of_them} of {last.study} exploded and none finished: search other ranges")
        text = f"{all_of_them} of {last.study} exploded and none finished: search lower learning rates"
        config = last.asked_config
        if config is None:
            return Advice(text)
        if swung := num_swung(config, last.exploded):
            text += f", or lower train.reg: lr x train.reg was 1 or more in {swung}, and explodes by itself"
        if few := few_images_text(config, last.images.num_train):
            text += f"; but {few}"
        return advised_anew(text, rates_below(config, last.exploded), config, taken)
    if last.counts.get("FAIL", 0) == last.num_finished:
        return Advice(f"every trial of {last.study} failed: look at why", ("hpsearch", "trial", last.study, "0"))
    return Advice(f"no trial of {last.study} was trained to its end: look at why before searching on")


def _stopped(last: StageSummary, stopped: StoppedTrials) -> Advice:
    """No trial came to its last epoch, but rungs stopped some that had a value: these say where to search."""
    said = f"no trial of {last.study} came to its last epoch: narrow to where those that were stopped did well"
    epochs = last.epochs if last.fine_epochs != last.epochs else None
    advice = Advice(said, tuple(fine_command(last.study, last.code, epochs=epochs)))
    if last.epochs is None or stopped.first_explosion is None or stopped.first_explosion <= 1:
        return advice
    fewer = fine_command(last.study, last.code, epochs=stopped.first_explosion - 1)
    return replace(advice, other_text="or train no longer than until the others exploded", other_words=tuple(fewer))


def _trained(last: StageSummary, diagnosis: Diagnosis | None, taken: Collection[str]) -> Advice:
    """After a training with given values: other values where its curves ask for them, else a search around these."""
    config = whole(last.config)
    verdict = diagnosis.verdict if diagnosis is not None else "exploded"
    if config is not None and (diagnosis is not None or last.best is None):
        remedy = other_values(diagnosis, config, last.images.shape)
        if remedy is not None:
            words = train_command(config, remedy.changes, next_name(last.study, taken), last.num_trials)
            said = f"it looks {verdict}: {remedy.text}" if diagnosis is not None else f"it {verdict}: {remedy.text}"
            return Advice(said, tuple(words) if remedy.changes else None)
    coarse = ["hpsearch", "coarse", "--from", last.study]
    coarse += ["--name", next_name("coarse", taken)] if "coarse" in taken else []
    advice = Advice("search around these values", (*coarse, *_trusts(last)))
    test = final_test([last], last)
    at_last = f"{test.text}, at the very end" if test.words is not None else test.text
    return replace(advice, other_text=at_last, other_words=test.words)


def _luck(last: StageSummary, diagnosis: Diagnosis | None, reason: str) -> Advice:
    text = "look at the images and their labels: what tells the classes apart?"
    if diagnosis is not None and (way := RATES.get(diagnosis.verdict)):
        text = f"the best trial looks {diagnosis.verdict}: search {way} rates first, then {text}"
    if (config := whole(last.config)) is None:
        return Advice(text, None, False, reason)
    return Advice(text, tuple(look_command(config)), False, reason)


def _fine(last: StageSummary) -> tuple[str, ...]:
    """With as many epochs as the last stage at least: values of fewer could not be compared with its own."""
    fewer = last.fine_epochs is not None and last.epochs is not None and last.fine_epochs < last.epochs
    return tuple(fine_command(last.study, last.code, epochs=last.epochs if fewer else None))


def _trusts(last: StageSummary) -> list[str]:
    return [word for name in last.code for word in ("--trust", name)]
