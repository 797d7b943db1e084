"""What a budget in epochs decides where nothing else is said, and that commands and stored configs say it again."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hpsearch.analysis.commands import config_flags
from hpsearch.config import StudyConfig, load_settings
from hpsearch.errors import ConfigError

BUDGET = "coarse.epochs_budget"


def decided(**said):
    """Epochs and rungs of coarse, and who proposes in fine."""
    study = load_settings(flags={path.replace("__", "."): value for path, value in said.items()}).study
    return study.coarse.epochs, study.coarse.halving, study.fine.sampler


def test_a_budget_in_epochs_is_spent_by_rungs_up_to_the_epochs_of_fine():
    assert decided(coarse__epochs_budget=400) == (20, "promote", "auto")
    assert decided(coarse__epochs_budget=400, fine__epochs=50) == (50, "promote", "auto")
    assert decided() == (5, "none", "tpe")


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({"coarse__epochs": 5}, (5, "promote", "auto")),
        ({"coarse__halving": "none"}, (20, "none", "tpe")),
        ({"coarse__halving": "stop"}, (20, "stop", "auto")),
        ({"fine__sampler": "tpe"}, (20, "promote", "tpe")),
        ({"coarse__pruner": "median"}, (20, "none", "tpe")),  # one judge is enough
        ({"coarse__epochs": 1}, (1, "none", "tpe")),  # which has no rung before its end
        ({"coarse__min_epochs": 20}, (20, "none", "tpe")),
        ({"fine__epochs_budget": 90}, (20, "promote", "auto")),
    ],
)
def test_what_is_said_stays(said, found):
    assert decided(coarse__epochs_budget=400, **said) == found


def test_rungs_without_a_budget_are_followed_by_a_chosen_sampler_too():
    assert decided(coarse__halving="stop") == (5, "stop", "auto")
    assert decided(coarse__halving="stop", fine__sampler="cmaes") == (5, "stop", "cmaes")


def test_a_budget_of_fine_alone_decides_nothing():
    assert decided(fine__epochs_budget=90) == (5, "none", "tpe")
    assert load_settings(flags={"fine.epochs_budget": 90}).study.fine.halving == "none"


def test_trials_in_place_of_a_budget_are_as_without_it():
    study = load_settings(document={"coarse": {"epochs_budget": 90}}, flags={"coarse.trials": 12}).study
    assert (study.coarse.epochs, study.coarse.halving, study.fine.sampler) == (5, "none", "tpe")


def test_code_has_no_rungs_of_itself():
    own = {"objective": {"function": "mine:objective"}, "space": {"rate": {"uniform": [0, 1]}}}
    study = load_settings(document={**own, "coarse": {"epochs_budget": 90}}).study  # refused before its first trial
    assert (study.coarse.epochs, study.coarse.halving) == (5, "none")


def test_the_config_of_an_earlier_stage_says_nothing_that_is_as_by_default():
    stored = StudyConfig.model_validate({"fine": {"epochs": 30}}).plain()
    study = load_settings(stored=stored, flags={BUDGET: 90}).study
    assert (study.coarse.epochs, study.coarse.halving, study.fine.sampler) == (30, "promote", "auto")
    other = StudyConfig.model_validate({"coarse": {"epochs": 7}, "fine": {"sampler": "cmaes"}}).plain()
    study = load_settings(stored=other, flags={BUDGET: 90}).study
    assert (study.coarse.epochs, study.coarse.halving, study.fine.sampler) == (7, "promote", "cmaes")
    study = load_settings(stored=stored, flags={BUDGET: 90, "coarse.epochs": 5}).study
    assert study.coarse.epochs == 5


SAID = st.fixed_dictionaries(
    {},
    optional={
        BUDGET: st.sampled_from([40, 500]),
        "coarse.halving": st.sampled_from(["none", "stop", "promote"]),
        "coarse.epochs": st.sampled_from([1, 5, 20]),
        "coarse.min_epochs": st.sampled_from([1, 4, 30]),
        "coarse.pruner": st.sampled_from(["none", "median"]),
        "fine.epochs": st.sampled_from([20, 40]),
        "fine.sampler": st.sampled_from(["tpe", "auto", "cmaes"]),
    },
)


@given(said=SAID)
def test_what_is_stored_and_what_a_command_says_are_the_same_search(said):
    try:
        study = load_settings(flags=said).study
    except ConfigError:
        return  # as two judges
    plain = study.plain()
    assert StudyConfig.model_validate(plain) == study
    assert load_settings(stored=plain).study == study
    words = [word for word in config_flags(plain) if word != "--set"]
    assert load_settings(sets=words).study.plain() == plain


@example(before={BUDGET: 40, "coarse.halving": "none"}, said={BUDGET: 40})
@example(before={"coarse.halving": "stop"}, said={BUDGET: 40})
@example(before={BUDGET: 40, "coarse.halving": "none"}, said={BUDGET: 500})
@given(before=SAID, said=SAID)
def test_a_command_that_begins_at_a_stored_config_says_what_differs(before, said):
    try:
        base, study = (load_settings(flags=each).study.plain() for each in (before, said))
    except ConfigError:
        return
    if BUDGET in before and BUDGET not in said:
        return  # no flag takes a budget back but --trials
    words = [word for word in config_flags(study, base) if word != "--set"]
    if any(key not in study[stage] for stage in ("coarse", "fine") for key in base[stage]):
        return  # nor says a key that is at its default
    assert load_settings(stored=base, sets=words).study.plain() == study


def test_over_code_a_command_says_no_key_because_of_rungs():
    own = {"objective": {"function": "mine:objective"}, "space": {"rate": {"uniform": [0, 1]}}}
    before, study = (load_settings(document={**own, "coarse": each}).study for each in ({}, {"halving": "stop"}))
    sections = ("objective", "coarse", "fine")
    assert config_flags(study.plain(), before.plain(), sections=sections) == ["--set", "coarse.halving=stop"]
