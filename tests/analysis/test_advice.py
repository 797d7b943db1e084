"""What to do next: tables of what the stages and the best trial's curves say."""

import shlex
from dataclasses import replace

import pytest

from hpsearch.analysis import attributes
from hpsearch.analysis.advice import search_so_far, what_next
from hpsearch.analysis.advice_form import Advice
from hpsearch.analysis.called_again import TriedAgain
from hpsearch.analysis.chance import KeptImages
from hpsearch.analysis.diagnosis import VERDICTS, Diagnosis
from hpsearch.analysis.earlier_searches import coarse_of, instead
from hpsearch.analysis.records import Fitted
from hpsearch.analysis.repeats import Repeated
from hpsearch.analysis.summary import StageSummary
from hpsearch.analysis.uses_of_test_images import TestImageUses
from hpsearch.config import FloatRange, load_settings
from hpsearch.config.metric import Metric
from hpsearch.space import Verdict
from hpsearch.storage import StudyRow, TrialRow

LOG = FloatRange(1e-4, 1e-3, log=True)
INSIDE = Verdict("lr", 3e-4, LOG.low, LOG.high, True, 0.5, "inside", LOG, "")
CIFAR = KeptImages(num_classes=10, num_val=1000, largest_share=0.1, shape=(3, 32, 32))
STATES = ("COMPLETE", "PRUNED", "FAIL", "RUNNING", "WAITING")


def config(spaces=(), sets=(), **flags):
    flags = {key.replace("__", "."): value for key, value in flags.items()}
    return load_settings(flags=flags, spaces=spaces, sets=sets).study.plain()


def stage(value, name="fine", kind="fine", source="coarse", counts=None, **other):
    best = TrialRow(1, 7, "COMPLETE", value, {"lr": 3e-4}, {"lr": LOG}) if value is not None else None
    counts = counts or {"COMPLETE": 10}
    fields = {"epochs": 20, "verdicts": (INSIDE,), "images": CIFAR, "config": config(data__source="folder:photos")}
    fields |= {"num_exploded": 0, "value_name": "val_acc", "num_trials": sum(counts.values())} | other
    return StageSummary(study=name, stage=kind, source=source, counts=counts, best=best, **fields)


def coarse(value, **other):
    return stage(value, "coarse", "coarse", None, **{"epochs": 5, **other})


def settled(value, **other):
    return [coarse(value, **other), stage(value, **other), stage(value, "fine-2", source="fine", **other)]


def found(verdict, train_acc=0.5, *, still_rises=False):
    return Diagnosis(verdict, "", (), train_acc, still_rises)


HEALTHY = found("healthy")


def test_a_coarse_stage_is_followed_by_a_fine_one():
    advice = what_next([coarse(0.5)], HEALTHY)
    assert advice.command == "hpsearch fine --from coarse"
    assert advice.go_on
    assert advice.sentence == "Search on: coarse trained 5 epochs: narrow to where it worked and train longer."
    assert advice.other_command is None


@pytest.mark.parametrize(("epochs", "flags"), [(20, ""), (27, " --epochs 27")])
def test_a_fine_stage_is_not_said_to_train_longer_where_it_does_not(epochs, flags):
    advice = what_next([coarse(0.5, epochs=epochs)], HEALTHY)
    assert advice.sentence == f"Search on: coarse trained {epochs} epochs: narrow to where it worked."
    assert advice.command == f"hpsearch fine --from coarse{flags}"
    own = {"objective": {"function": "train:objective"}, "coarse": {"epochs": epochs}}
    assert what_next([coarse(0.5, epochs=epochs, config=own)], None).command == advice.command


def test_a_lucky_value_of_an_earlier_stage_is_called_again_before_it_is_believed():
    own = {"metric": Metric("score", "maximize", is_own=True), "takes": frozenset({"seed"}), "epochs": None}
    lucky, held = coarse(0.99, **own), stage(0.94, repeated=(Repeated(7, 0.94, (0.92,), counts_first=True),), **own)
    advice = what_next([lucky, held])
    assert (advice.go_on, advice.command) == (False, "hpsearch rerun coarse 7")
    assert advice.text == "see whether the best of coarse was luck, with other seeds"
    tried = replace(held, tried=(TriedAgain("coarse", {"lr": 3e-4}, (0.8,)),))
    assert what_next([replace(lucky, best=replace(lucky.best, value=0.99)), tried]).go_on
    judged = replace(tried, tried=(TriedAgain("coarse", {"lr": 3e-4}, (0.865,)),))
    assert what_next([lucky, judged]).command == "hpsearch rerun fine 7"


def test_a_good_search_ends_with_the_test_set():
    advice = what_next(settled(0.95), HEALTHY)
    assert advice.command == "hpsearch test fine-2"
    assert advice.go_on is False
    assert "inside every range" in advice.reason


def test_a_test_set_that_was_used_is_not_offered_again():
    advice = what_next(settled(0.95, num_tests=1), HEALTHY)
    assert advice.command is None
    assert "has been used" in advice.text
    low = what_next(settled(0.5, num_tests=1), HEALTHY)
    assert (low.other_command, "has been used" in low.other_text) == (None, True)


def test_a_use_by_a_relative_counts_too():
    *earlier, last = settled(0.95)
    assert what_next([*earlier, replace(last, uses=TestImageUses(1))], HEALTHY).command is None
    trained = stage(0.95, "train", "train", None)
    assert what_next([trained], HEALTHY).other_command == "hpsearch test train"
    assert "another search has used" in what_next([replace(trained, uses=TestImageUses(2))], HEALTHY).other_text


def test_two_epochs_say_nothing_of_what_a_net_can_reach():
    """As a search that was cut to fit a minute trains: a larger net is no answer to that."""
    short = [replace(each, epochs=2) for each in settled(0.41)]
    advice = what_next(short, found("underfitting"))
    assert "trained 2 epochs, too few" in advice.text
    assert "--epochs 10" in str(advice.command)
    assert "too few" not in what_next(settled(0.41), found("underfitting")).text


@pytest.mark.parametrize("value", [0.95, 0.41])
def test_images_without_a_test_split_are_not_sent_to_it(value):
    advice = what_next(settled(value, images=replace(CIFAR, has_test=False)), HEALTHY)
    assert "hpsearch test" not in f"{advice.command} {advice.other_command}"
    said = "these images have no test split: keep some aside for the final measurement"
    assert said in (advice.text, advice.other_text)


@pytest.mark.parametrize(
    ("flags", "diagnosis", "command", "words"),
    [
        ({}, found("underfitting"), "run --name convnet --data folder:photos --model convnet", "without convolutions"),
        ({}, found("healthy"), "run --name convnet --data folder:photos --model convnet", "validation 0.41"),
        ({}, found("overfitting", 0.9), "run --name convnet --data folder:photos --model convnet", "training 0.90"),
        ({"model__name": "linear"}, found("underfitting"), "--model convnet", "try a convnet"),
        (
            {"model__name": "convnet"},
            found("underfitting"),
            "--set 'model.channels=[32, 64, 128]'",
            "both are low): try one block more",
        ),
        (
            {"model__name": "convnet", "model__channels": [8, 8, 8, 8]},
            found("underfitting"),
            "--model resnet",
            "ResNet",
        ),
        ({"model__name": "resnet"}, found("healthy"), "--set model.depth=34", "they lie close"),
        (
            {"model__name": "convnet"},
            found("overfitting", 0.6),
            "--set 'data.augment=[\"hflip\"]'",
            "overfits (training 0.60, validation 0.41): make more of the images, by mirroring",
        ),
        (
            {"model__name": "convnet", "data__source": "svhn"},
            found("overfitting"),
            "--set 'data.augment=[\"crop:4\"]'",
            "shifts of up to 4 pixels",
        ),
        (
            {"model__name": "convnet", "data__augment": ["hflip"]},
            found("overfitting"),
            '--set \'data.augment=["hflip", "crop:4"]\'',
            "shifts",
        ),
        (
            {"model__name": "convnet", "data__augment": ["hflip", "crop:2"]},
            found("overfitting"),
            "--set model.dropout=0.3",
            "dropout",
        ),
        (
            {"model__name": "convnet"},
            found("healthy", still_rises=True),
            "fine --from fine-2 --epochs 40",
            "train longer",
        ),
        ({"model__name": "convnet"}, found("lr too low"), "--space 'lr=log(0.1, 1.0)'", "search higher rates"),
        ({"model__name": "convnet"}, found("dead"), "--space 'lr=log(1e-05, 0.0001)'", "search lower rates"),
    ],
)
def test_where_the_accuracy_is_low_the_curves_say_what_to_try(flags, diagnosis, command, words):
    other = {"config": config(**{"data__source": "folder:photos", **flags})}
    advice = what_next(settled(0.41, **other), diagnosis)
    assert command in advice.command
    assert words in advice.text
    assert advice.go_on is False
    assert (advice.other_command, advice.other_text) == (
        "hpsearch test fine-2",
        "if 0.4100 is enough, use the test set, once",
    )


@pytest.mark.parametrize(
    ("rates", "command"),
    [
        ("choice(0.01)", "--space 'lr=log(0.01, 0.1)'"),
        ("choice(0.1, 0.01, 0.03)", "--space 'lr=log(0.1, 1.0)'"),
    ],
)
def test_of_a_choice_of_rates_the_highest_is_the_end(rates, command):
    search = settled(0.41, config=config([f"lr={rates}"], data__source="folder:photos", model__name="convnet"))
    assert command in what_next(search, found("lr too low")).command


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"model__name": "mynets:small"}, "a larger net"),
        ({"model__name": "resnet", "model__depth": 50}, "a larger net"),
        ({"model__name": "resnet", "data__augment": ["hflip", "crop:2"], "model__dropout": 0.2}, "more images"),
    ],
)
def test_where_no_command_is_known_the_words_stand_alone(flags, words):
    verdict = "overfitting" if "data__augment" in flags else "underfitting"
    advice = what_next(settled(0.41, config=config(**flags)), found(verdict))
    assert words in advice.text
    assert advice.command is None
    assert advice.other_command == "hpsearch test fine-2"


def test_the_lectures_scales_do_not_follow_into_a_deeper_net():
    lectures = config(["lr=log(1e-6, 1e-3)"], ["model.init=small:1e-4", "data.scale=255", "data.normalize=pixel"])
    command = what_next(settled(0.41, config=lectures), HEALTHY).command
    assert command == "hpsearch run --name convnet --set data.normalize=pixel --model convnet"


def test_a_wider_net_for_images_too_small_for_convolutions():
    tiny = {"images": KeptImages(10, 1000, 0.1, (1, 4, 4))}
    wider = what_next(settled(0.41, **tiny), found("underfitting"))
    assert "--name hidden-200" in wider.command
    assert "'model.hidden=[200]'" in wider.command
    linear = what_next(settled(0.41, **tiny, config=config(model__name="linear")), found("underfitting"))
    assert linear.command == "hpsearch run --name mlp"


def test_a_name_that_is_there_is_not_taken_again():
    command = what_next(settled(0.41), HEALTHY, taken=["convnet-coarse", "coarse"]).command
    assert "--name convnet-2 " in command


def test_what_a_time_cut_is_not_carried_on_as_if_it_had_been_asked_for():
    cut = config(sets=["coarse.trials=20", "coarse.epochs=2"])
    stages = settled(0.41, config=cut)
    stages[0] = replace(stages[0], fitted=Fitted(100, 5, 40.0))
    assert what_next(stages, HEALTHY).command == "hpsearch run --name convnet --model convnet"
    assert "--set coarse.trials=20 --set coarse.epochs=2" in what_next(settled(0.41, config=cut), HEALTHY).command


def test_a_new_search_has_what_was_said_to_the_fine_stage_alone():
    given = {"fine__trials": 7, "fine__sampler": "cmaes", "train__label_smoothing": 0.1}
    wide, narrow, added = "lr=log(1e-4, 1)", "lr=log(1e-3, 0.1)", "momentum=uniform(0, 0.9)"
    first, *fine = settled(0.41, config=config([narrow, added], data__source="folder:photos", **given))
    first = replace(first, config=config([wide], ["coarse.trials=30"], data__source="folder:photos"))
    command = what_next([first, *fine], HEALTHY).command
    assert command == (
        "hpsearch run --name convnet --data folder:photos --model convnet --set train.label_smoothing=0.1"
        " --set coarse.trials=30 --set fine.trials=7 --set fine.sampler=cmaes"
        " --space 'lr=log(0.0001, 1.0)' --space 'train.momentum=uniform(0.0, 0.9)'"
    )
    of_another_net = [replace(each, config=config([narrow], model__name="linear")) for each in fine]
    first = replace(first, config=config(["model.dropout=uniform(0, 0.5)"]))
    command = what_next([first, *of_another_net], HEALTHY).command
    assert command == "hpsearch run --name convnet --model convnet"  # a linear net has no dropout


def test_a_search_that_was_done_is_the_answer():
    advice = what_next(settled(0.41), HEALTHY)
    record = {
        attributes.STAGE: "coarse",
        attributes.CONFIG: config(data__source="folder:photos", model__name="convnet"),
    }
    there = StudyRow(3, "convnet-coarse", ("maximize",), record)
    other = StudyRow(4, "coarse", ("maximize",), {**record, attributes.CONFIG: config(data__source="folder:photos")})
    fine = StudyRow(5, "convnet-fine", ("maximize",), {**record, attributes.STAGE: "fine"})
    assert coarse_of(advice.search, [there, other, fine]) == there
    assert coarse_of(advice.search, [other, fine]) is None

    done = [coarse(0.4), stage(0.4271, "convnet-fine"), stage(0.42, "convnet-fine-2", source="convnet-fine")]
    found = instead(advice, done)
    assert found.text == f"{advice.text}; convnet-fine did that: 0.4271"
    assert (found.command, found.other_command) == ("hpsearch status convnet-fine-2", "hpsearch test fine-2")
    assert found.reason == advice.reason


def test_a_search_that_was_begun_is_finished():
    advice = what_next(settled(0.41), HEALTHY)
    left = [coarse(0.4), stage(0.42, counts={"COMPLETE": 3, "WAITING": 7})]
    begun = instead(advice, left)
    assert "that was begun: the stage fine is not finished: 3 of 10 trials ended" in begun.text
    assert begun.command == "hpsearch fine --from coarse"
    assert instead(advice, left, at_work=True).command == "hpsearch status fine --watch"
    assert "no trial of it finished" in instead(advice, [coarse(None, counts={"FAIL": 5})]).text
    by_epochs = stage(0.42, counts={"COMPLETE": 3, "WAITING": 57}, spent=(41, 60))
    assert "fine is not finished: 41 of 60 epochs trained" in instead(advice, [coarse(0.4), by_epochs]).text


def test_noise_is_no_reason_for_another_stage():
    four = KeptImages(num_classes=4, num_val=208, shape=(3, 16, 16))
    noise = [coarse(0.275, counts={"COMPLETE": 100}, images=four)]
    advice = what_next(noise, found("overfitting"))
    assert "no better than chance (0.25 ± 0.03 on 208 images)" in advice.reason
    assert "images and their labels" in advice.text
    assert advice.command == "hpsearch data show folder:photos"
    assert advice.go_on is False
    assert advice.other_command is None
    assert "search higher rates first" in what_next(noise, found("lr too low")).text
    assert what_next([coarse(0.45, counts={"COMPLETE": 100}, images=four)], HEALTHY).go_on


@pytest.mark.parametrize(
    ("counts", "exploded", "words"),
    [
        ({"PRUNED": 3, "WAITING": 97}, 3, "3 of 100 trials ended, none of them to its end yet"),
        ({"WAITING": 100}, 0, "0 of 100 trials ended;"),
        ({"COMPLETE": 40, "RUNNING": 10, "WAITING": 50}, 0, "40 of 100 trials ended;"),
    ],
)
def test_what_is_not_finished_is_finished_first(counts, exploded, words):
    value = 0.5 if "COMPLETE" in counts else None
    open_one = coarse(value, counts=counts, num_exploded=exploded)
    advice = what_next([open_one])
    assert words in advice.text
    assert advice.command == "hpsearch coarse --data folder:photos"
    assert advice.sentence.startswith("The stage coarse is")  # a name stays as it is written
    again = what_next([open_one], again=["hpsearch", "run", "--name", "it's"])
    assert again.command == """hpsearch run --name 'it'"'"'s'"""
    assert "rates" not in advice.text
    assert what_next([open_one], at_work=True).command == "hpsearch status coarse --watch"


def test_a_stage_over_code_that_was_left_is_gone_on_with():
    own = {"metric": Metric("score", "maximize", is_own=True), "epochs": None, "counts": {"COMPLETE": 3, "WAITING": 9}}
    flags = {"objective.function": "train:f", "coarse.sampler": "tpe"}
    plain = load_settings(spaces=["x=uniform(0, 1)"], flags=flags).study.plain()
    left = coarse(0.5, config=plain, left_sampler=True, **own)
    said = what_next([left])
    assert said.command == "hpsearch coarse --objective train:f --space 'x=uniform(0.0, 1.0)'"
    assert said.text == "the stage coarse is not finished: 3 of 12 trials ended; this goes on with it"
    assert "--set coarse.sampler=tpe" in what_next([replace(left, left_sampler=False)]).command


def test_a_fine_stage_that_was_left_is_gone_on_with_and_not_tested():
    left = stage(0.6, counts={"COMPLETE": 1, "WAITING": 49})
    advice = what_next([coarse(0.5), left], HEALTHY)
    assert advice.command == "hpsearch fine --from coarse"
    assert advice.other_command is None


@pytest.mark.parametrize("waiting", [0, 5])
def test_where_everything_exploded_lower_rates_are_searched(waiting):
    counts = {"PRUNED": 100 - waiting, "WAITING": waiting}
    advice = what_next([coarse(None, counts=counts, num_exploded=100 - waiting, exploded=[{"lr": 0.1}] * 95)])
    assert "search lower learning rates" in advice.text
    assert advice.command == "hpsearch run --name lower --data folder:photos --space 'lr=log(1e-09, 1e-05)'"


@pytest.mark.parametrize(
    ("params", "rates", "words"),
    [
        ({"lr": 2.8e-2, "reg": 150.0}, "log(1e-06, 0.028)", "or lower train.reg: lr x train.reg was 1 or more in 1"),
        ({"lr": 2.8e-2, "reg": 0.1}, "log(1e-06, 0.028)", "search lower learning rates"),
        ({}, "log(1e-06, 1e-05)", "search lower learning rates"),
    ],
)
def test_few_explosions_move_the_range_by_a_decade(params, rates, words):
    advice = what_next([coarse(None, counts={"PRUNED": 1}, num_exploded=1, exploded=(params,))])
    assert advice.command.endswith(f"--space 'lr={rates}'")
    assert words in advice.text
    assert ("train.reg" in advice.text) == ("train.reg" in words)


def test_where_everything_failed_the_error_is_looked_at():
    assert what_next([coarse(None, counts={"FAIL": 5})]).command == "hpsearch trial coarse 0"
    mixed = what_next([coarse(None, counts={"FAIL": 3, "PRUNED": 2})])
    assert (mixed.command, "look at why" in mixed.text) == (None, True)


def test_a_check_and_studies_of_others_lead_on():
    check = stage(0.3, "check", "check", None)
    assert what_next([check], HEALTHY).command == "hpsearch coarse --from check"
    theirs = stage(0.3, "their study", None, None, config=None, images=KeptImages())
    assert what_next([theirs]).command == "hpsearch fine --from 'their study'"


def test_only_stages_of_the_search_are_decided_upon():
    """The value of another program's study may be anything: it is no accuracy to be gained on."""
    theirs = stage(17.0, "theirs", None, None, config=None, images=KeptImages())
    own = [stage(0.6, source="theirs"), stage(0.7, "fine-2", source="fine")]
    assert search_so_far([theirs, *own]) == own
    assert search_so_far([theirs]) == [theirs]
    assert what_next([theirs, *own], HEALTHY).go_on
    assert "gained 0.1000 over fine" in what_next([theirs, *own], HEALTHY).reason


def test_rates_of_a_check_are_not_taken_to_another_net():
    checked = config(["lr=log(1e-3, 1e-2)"])
    first = coarse(0.41, config=checked)
    first = StageSummary(**{**vars(first), "source": "check"})
    stages = [first, *settled(0.41, config=checked)[1:]]
    assert what_next(stages, HEALTHY).command == "hpsearch run --name convnet --model convnet"


def test_the_users_code_is_trusted_by_name_where_only_the_database_names_it():
    code = {"code": ("mynets:small",), "config": config(model__name="mynets:small")}
    assert what_next([coarse(0.5, **code)], HEALTHY).command == "hpsearch fine --from coarse --trust mynets:small"
    assert what_next(settled(0.95, **code), HEALTHY).command == "hpsearch test fine-2 --trust mynets:small"


def test_commands_find_a_storage_that_is_not_the_default():
    advice = what_next(settled(0.41), HEALTHY).at("sqlite:///my own.db")
    assert (
        shlex.split(advice.command)[-2:]
        == shlex.split(advice.other_command)[-2:]
        == ["--storage", "sqlite:///my own.db"]
    )
    assert (
        Advice("", ("hpsearch", "data", "show", "digits")).at("sqlite:///x.db").command == "hpsearch data show digits"
    )
    assert what_next(settled(0.41), HEALTHY).at(None) == what_next(settled(0.41), HEALTHY)


@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("name", ["linear", "mlp", "lenet", "convnet", "resnet", "mynets:small"])
@pytest.mark.parametrize("shape", [(1, 4, 4), (1, 8, 8), (3, 32, 32), None])
def test_every_case_has_an_advice_that_can_be_typed(verdict, name, shape):
    images = KeptImages(10, 1000, 0.1, shape)
    advice = what_next(settled(0.41, config=config(model__name=name), images=images), found(verdict))
    assert advice.text
    assert advice.sentence.endswith(".")
    if advice.command is not None:
        assert shlex.split(advice.command)[0] == "hpsearch"
        assert "\n" not in advice.command
