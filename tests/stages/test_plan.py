import json
from dataclasses import replace

import pytest

from hpsearch.analysis.attributes import CHECKS, STAGE
from hpsearch.analysis.stage_names import fine_name
from hpsearch.analysis.study_trials import StudyTrials
from hpsearch.analysis.together import Together
from hpsearch.config import FloatRange, StudyConfig, load_settings
from hpsearch.errors import ConfigError, RefusedError
from hpsearch.space import Observation
from hpsearch.stages.fine_planning import plan_fine
from hpsearch.stages.plan import StagePlan
from hpsearch.stages.planning import plan_coarse
from hpsearch.stages.sampler_choice import SamplerChoice
from hpsearch.storage import StudyRow, TrialRow

LR = FloatRange(1e-6, 1e-3, log=True)


def evidence(ranges, *observations, name="coarse"):
    return StudyTrials(StudyRow(1, name, ("maximize",)), [], "maximize", ranges, list(observations))


def finished(number, value, **params):
    return Observation(number, params, value, "complete")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("coarse", "fine"),
        ("fine", "fine-2"),
        ("fine-2", "fine-3"),
        ("fine-9", "fine-10"),
        ("mnist-coarse", "mnist-fine"),
        ("coarse-b", "fine-b"),
        ("mnist-fine", "mnist-fine-2"),
        ("my study", "my study-fine"),
        ("refine", "refine-fine"),
    ],
)
def test_names_of_fine_stages(source, name):
    assert fine_name(source) == name


def test_the_identity_has_what_matters_to_the_stage_and_nothing_else():
    settings = load_settings()
    plan = plan_coarse(settings)
    other_fine = plan_coarse(load_settings(flags={"fine.trials": 7}))
    other_batch = plan_coarse(load_settings(flags={"train.batch_size": 7}))
    other_storage = plan_coarse(load_settings(flags={"run.storage": "sqlite:///x.db"}))
    assert plan.fingerprint("images") == other_fine.fingerprint("images") == other_storage.fingerprint("images")
    assert plan.fingerprint("images") != other_batch.fingerprint("images")
    assert plan.fingerprint("images") != plan.fingerprint("other images")


def test_an_empty_space_is_refused():
    with pytest.raises(ConfigError, match="nothing to search"):
        plan_coarse(load_settings(spaces=["lr=none", "reg=none"]))


def test_what_nothing_uses_is_refused_whoever_made_the_config():
    """As in `coarse --from check --model linear` after a check of an mlp whose layers are searched."""
    settings = load_settings(stored={"space": {"hidden": {"choice": [50, 100]}}}, flags={"model.name": "linear"})
    with pytest.raises(
        ConfigError, match=r"space\.model\.hidden is not used by linear; mlp, convnet, vgg, torchvision:NAME"
    ):
        plan_coarse(settings)


def test_fine_narrows_and_keeps_the_reasons():
    trials = [finished(i, 0.1 * i, lr=10 ** (-6 + 0.3 * i)) for i in range(8)]
    plan = plan_fine(evidence({"lr": LR}, *trials), load_settings())
    new = plan.config.space["lr"]
    assert plan.name == "fine"
    assert plan.source == "coarse"
    assert LR.low < new.low < trials[-1].params["lr"] < new.high
    assert plan.provenance()["ranges"][0]["reason"]
    assert plan.config.space.keys() == {"lr"}  # what the source did not search is not searched


def test_ranges_given_by_hand_win_over_narrowed_ones():
    trials = [finished(i, 0.1 * i, lr=10 ** (-6 + 0.3 * i)) for i in range(8)]
    settings = load_settings(spaces=["lr=log(1e-2,1e-1)", "momentum=uniform(0.1,0.9)"])
    plan = plan_fine(evidence({"lr": LR}, *trials), settings)
    assert plan.config.space["lr"] == FloatRange(1e-2, 1e-1, log=True)
    assert plan.config.space["train.momentum"] == FloatRange(0.1, 0.9)
    assert {change.reason for change in plan.changes} == {"given with --space"}


def test_a_parameter_can_be_left_out():
    trials = [finished(i, 0.1 * i, lr=1e-5, reg=1.0) for i in range(3)]
    plan = plan_fine(evidence({"lr": LR, "reg": LR}, *trials), load_settings(spaces=["reg=none"]))
    assert plan.config.space.keys() == {"lr"}


def test_nothing_finished_is_refused_with_the_number_of_explosions():
    exploded = [Observation(i, {"lr": 1e-4}, None, "exploded") for i in range(4)]
    with pytest.raises(RefusedError, match=r"no finished trial.*4 of 0 exploded"):
        plan_fine(evidence({"lr": LR}, *exploded), load_settings())
    rows = [TrialRow(n, n, "PRUNED" if n < 4 else "WAITING") for n in range(12)]
    with pytest.raises(RefusedError, match=r"4 of 12 trials ended\)\.\nFinish it first"):
        plan_fine(replace(evidence({"lr": LR}, *exploded), trials=rows), load_settings())


def test_a_foreign_parameter_is_named_and_can_only_be_shown():
    trials = [finished(i, 0.1 * i, lr=1e-5, width=i) for i in range(3)]
    found = evidence({"lr": LR, "width": FloatRange(0, 3)}, *trials, name="theirs")
    with pytest.raises(ConfigError, match=r"'theirs' has a parameter 'width'.*--rename width=NAME"):
        plan_fine(found, load_settings())
    plan = plan_fine(found, load_settings(), strict=False)
    assert "width" in (plan.problem or "")
    assert [row["param"] for row in plan.as_dict()["ranges"]] == ["lr", "width"]


def test_hard_limits_hold_for_narrowed_ranges():
    momentum = FloatRange(0.5, 0.99)
    trials = [finished(i, 0.1 * i, momentum=0.5 + 0.07 * i) for i in range(8)]
    plan = plan_fine(evidence({"momentum": momentum}, *trials), load_settings())
    assert plan.config.space["train.momentum"].high < 1


def test_a_parameter_that_nothing_uses_is_not_searched_on():
    """As in studies of other programs, and in those of hpsearch from before it refused to search one."""
    trials = [finished(i, 0.1 * i, lr=10 ** (-6 + 0.3 * i), **{"train.beta2": 0.9}) for i in range(8)]
    beta2 = {"train.beta2": FloatRange(0.5, 0.99)}
    plan = plan_fine(evidence({"lr": LR, **beta2}, *trials), load_settings())
    assert set(plan.config.space) == {"lr"}
    assert [row["param"] for row in plan.ranges()] == ["lr"]
    assert plan.notes == (
        "train.beta2 is not used by momentum; adam, adamw, nadam, rmsprop and lion use it, so it is not searched on",
    )
    kept = plan_fine(evidence({"lr": LR, **beta2}, *trials), load_settings(sets=["optimizer=adam"]))
    assert set(kept.config.space) == {"lr", "train.beta2"}
    assert kept.notes == ()
    with pytest.raises(ConfigError, match=r"'coarse' has no parameter left to search: train\.beta2 is not used by"):
        plan_fine(evidence(beta2, *trials), load_settings())


def checked(low, high, images=49_000):
    """A check that found this rough range of lr in 100 steps."""
    rates = {"steps": 100, "low": low, "high": high, "reason": "the loss goes down from here on"}
    findings = [
        {"name": "data", "measured": {"images": images}},
        {"name": "learning rate", "measured": rates},
    ]
    return StudyRow(1, "check", ("maximize",), attrs={STAGE: "check", CHECKS: {"findings": findings}})


@pytest.mark.parametrize(
    ("flags", "low", "words"),
    [
        ({}, 1e-5, "; 10 times lower, as a trial takes 2,450 steps and the check took 100"),
        (
            {"coarse.epochs": 1, "train.batch_size": 250},
            1e-4 * 100 / 196,
            "; 2 times lower, as a trial takes 196 steps",
        ),
        ({"train.batch_size": 49_000}, 1e-4, "the loss goes down from here on"),  # five steps a trial
        ({"coarse.set": {"train.batch_size": 49_000}}, 1e-4, "the loss goes down from here on"),
    ],
)
def test_a_coarse_stage_goes_on_to_the_lower_rates_that_its_trials_can_use(flags, low, words):
    plan = plan_coarse(load_settings(flags=flags), check=checked(1e-4, 3.162e-4))
    new = plan.config.space["lr"]
    assert (new.low, new.high, new.log) == (pytest.approx(low, rel=1e-3), 3.162e-4, True)
    reason = plan.provenance()["ranges"][0]["reason"]
    assert words in reason
    assert (new.low == 1e-4) == ("times lower" not in reason)


def test_a_plan_with_a_chosen_sampler_says_why_and_with_a_given_one_does_not():
    plan = StagePlan("coarse", "coarse", StudyConfig())
    choice = SamplerChoice("tpe", "trials are one after the other")
    chosen = plan.with_sampler(choice)
    assert (chosen.settings.sampler, chosen.chosen) == ("tpe", choice)
    assert chosen.provenance()["sampler"] == choice.as_dict()
    given = chosen.with_given_sampler("gp")
    assert (given.settings.sampler, given.chosen) == ("gp", None)
    assert "sampler" not in given.provenance()


def test_what_counts_together_is_kept_with_a_plan_and_is_no_part_of_its_identity():
    plain = StagePlan("fine", "fine", StudyConfig(), "coarse")
    plan = replace(plain, together=Together(("lr", "train.batch_size"), "coarse"))
    kept = {"params": ["lr", "train.batch_size"], "study": "coarse"}
    assert json.loads(json.dumps([plan.provenance()["together"], plan.as_dict()["together"]])) == [kept, kept]
    assert plan.fingerprint("images") == plain.fingerprint("images")
    assert "together" not in plain.provenance()
    assert plain.as_dict()["together"] is None
