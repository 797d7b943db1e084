"""Commands put together from what studies keep: read back, they mean the same."""

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpsearch.analysis.commands import (
    changed_config,
    config_flags,
    free_name,
    is_same_search,
    resume_command,
    run_command,
    space_flags,
    usual_space,
    value_word,
    whole,
    whole_of_code,
)
from hpsearch.config import load_settings
from hpsearch.errors import Typed


def read_back(words, stored=None):
    """The config that these flags make, as the commands read them."""
    options = {"--set": [], "--space": [], "--data": [], "--model": []}
    for name, value in zip(words[::2], words[1::2], strict=True):
        options[name].append(value)
    flags = {"data.source": (options["--data"] or [None])[0], "model.name": (options["--model"] or [None])[0]}
    return load_settings(stored=stored, sets=options["--set"], spaces=options["--space"], flags=flags).study.plain()


def config(sets=(), spaces=(), **flags):
    return load_settings(
        sets=sets, spaces=spaces, flags={k.replace("__", "."): v for k, v in flags.items()}
    ).study.plain()


CONFIGS = [
    config(),
    config(data__source="folder:my photos/ä", data__size=64, data__augment=["hflip", "crop:2"]),
    config(model__name="convnet", model__channels=[8, 16], model__hidden=[], model__batch_norm=True),
    config(["model.init=small:1e-4", "data.scale=255", "data.val=1000", "train.lr_decay=0.9", "coarse.pruner=median"]),
    config(['coarse.pruner_options={"n_warmup_steps": 2}', 'fine.set={"train.lr_decay": 0.9}']),
    config(
        [],
        ["lr=log(1e-6, 1e-3)", "reg=none", "model.hidden=choice([50], [100, 20])", "train.optimizer=choice(sgd, adam)"],
    ),
    config([], ["optimizer=choice(sgd, adam)", "dropout=uniform(0, 0.5) if optimizer=adam and model.hidden=[50]"]),
    config([], ["data.size=int(16, 32)", "model.dropout=uniform(0, 0.5)"], data__source="folder:it's"),
    config(["data.synthetic.noise=0.5", "data.synthetic.shape=[1, 4, 4]"], data__source="synthetic"),
]


@pytest.mark.parametrize("plain", CONFIGS)
def test_the_flags_of_a_config_make_it_again(plain):
    flags = [*config_flags(plain), *space_flags(plain["space"], usual_space(plain))]
    assert read_back(shlex.split(shlex.join(flags))) == plain


def test_the_defaults_need_no_flags():
    assert config_flags(config()) == space_flags(config()["space"], usual_space(config())) == []


def test_paths_stay_as_they_were_given():
    plain = config(data__source="folder:photos")
    words = run_command(changed_config(plain, {"model.name": "convnet"}), "convnet", [])
    assert shlex.join(words) == "hpsearch run --name convnet --data folder:photos --model convnet"


def test_what_is_changed_is_not_searched_any_more():
    plain = config([], ["model.hidden=choice([50], [100])"])
    words = run_command(changed_config(plain, {"model.hidden": [200]}), "hidden-200", [])
    assert read_back(words[4:])["model"]["hidden"] == [200]
    assert "model.hidden" not in read_back(words[4:])["space"]


def test_what_is_searched_beside_another_value_goes_with_it():
    plain = config([], ["optimizer=choice(sgd, adam)", "dropout=uniform(0, 0.5) if optimizer=adam"])
    beside = read_back(run_command(changed_config(plain, {"train.optimizer": "adam"}), "adam", [])[4:])["space"]
    assert beside["model.dropout"] == {"uniform": [0.0, 0.5], "when": {"train.optimizer": "adam"}}
    assert "model.dropout" not in read_back(run_command(changed_config(plain, {"train.optimizer": "sgd"}), "s", [])[4:])


def test_a_range_can_be_changed_or_come_in():
    plain = config(["train.lr=0.1"], ["lr=none"])
    found = read_back(run_command(changed_config(plain, {"space.lr": {"log": [1e-9, 1e-6]}}), "lower", [])[4:])
    assert found["space"] == {"lr": {"log": [1e-9, 1e-6]}, "reg": plain["space"]["reg"]}


@pytest.mark.parametrize("plain", CONFIGS)
def test_what_a_command_makes_is_known_as_the_search_that_was_proposed(plain):
    proposed = changed_config(plain, {"model.dropout": 0.3})
    made = read_back(run_command(proposed, "dropout", [])[4:])
    assert is_same_search(made, proposed)
    more = {**made, "train": {**made["train"], "precision": "float32"}, "coarse": {**made["coarse"], "trials": 7}}
    assert is_same_search(more, proposed)
    assert not is_same_search(plain, proposed)
    assert not is_same_search({**made, "space": {"lr": {"log": [1e-9, 1e-6]}}}, proposed)


def test_a_new_search_takes_no_name_that_is_there():
    taken = ["convnet-coarse", "convnet-fine", "convnet-2", "other-coarse"]
    assert free_name("convnet", taken) == "convnet-3"
    assert free_name("hflip", taken) == "hflip"


@pytest.mark.parametrize(
    ("study", "kind", "source", "words"),
    [
        ("coarse", "coarse", None, ["hpsearch", "coarse"]),
        ("a-coarse", "coarse", None, ["hpsearch", "coarse", "--name", "a-coarse"]),
        ("fine", "fine", "coarse", ["hpsearch", "fine", "--from", "coarse"]),
        ("long", "fine", "coarse", ["hpsearch", "fine", "--from", "coarse", "--name", "long"]),
    ],
)
def test_a_stage_is_gone_on_with_under_its_name(study, kind, source, words):
    source_config = config() if source else None
    assert resume_command(study, kind, source, config(), source_config, []) == words


def test_a_fine_stage_says_what_its_source_does_not():
    plain = config(["fine.trials=5"], ["reg=none"])
    words = resume_command("fine", "fine", "coarse", plain, config(), ["mynets:small"])
    assert words[4:] == ["--set", "fine.trials=5", "--space", "reg=none", "--trust", "mynets:small"]


OF_CODE = [
    ({"objective.function": "train:f"}, ["coarse.trials=7", "objective.params.depth=3", "objective.seed=4"]),
    ({"objective.function": "train:f", "objective.form": "optuna", "objective.direction": "minimize"}, []),
    (  # wrap calls the value loss
        {"objective.command": ("python", "my train.py", "{x}"), "objective.pattern": "loss=([0-9.]+)"},
        ["fine.confirm=2"],
    ),
    ({"objective.command": ("train", "{x}"), "objective.metric": "a+b", "objective.file": "log.jsonl"}, []),
]


@pytest.mark.parametrize(("flags", "sets"), OF_CODE)
def test_a_stage_over_code_is_gone_on_with(flags, sets):
    """What is printed makes the same search; a sampler that nobody named is not named."""
    plain = load_settings(sets=sets, spaces=["x=uniform(0, 1)"], flags=flags).study.plain()
    words = resume_command("own", "coarse", None, whole_of_code(plain), None, [])
    assert words[:4] == ["hpsearch", "coarse", "--name", "own"]
    again = dict(zip(words[4::2], words[5::2], strict=True))
    named = {"objective.function": again.get("--objective") or again.get("--optuna-objective")}
    named["objective.form"] = "optuna" if "--optuna-objective" in again else None
    options = [(name, value) for name, value in zip(words[4::2], words[5::2], strict=True)]
    found = load_settings(
        sets=[value for name, value in options if name == "--set"],
        spaces=[value for name, value in options if name == "--space"],
        flags=named,
    )
    assert found.study.plain() == plain
    assert "sampler" not in shlex.join(words)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({}, ""),
        ({"metric": "val_acc", "direction": "minimize"}, " --metric val_acc --direction minimize"),
        (
            {"metric": "loss", "pattern": "loss=([0-9.]+)", "seed": 3},
            " --metric 'loss=([0-9.]+)' --set objective.seed=3",
        ),
    ],
)
def test_a_search_over_a_program_is_gone_on_with_as_it_was_begun(keys, words):
    flags = {"objective.command": ("python", "train.py", "--x", "{x}")}
    flags |= {f"objective.{key}": value for key, value in keys.items()}
    plain = whole_of_code(load_settings(spaces=["x=uniform(0, 1)"], flags=flags).study.plain())
    again = resume_command("wrapped", "coarse", None, plain, None, [])
    ending = " --space 'x=uniform(0.0, 1.0)' -- python train.py --x '{x}'"
    assert shlex.join(again) == f"hpsearch wrap{words}{ending}"
    elsewhere = ending.replace(" -- ", " --storage sqlite:///a.db -- ")
    assert Typed(again).text(("--storage", "sqlite:///a.db")) == f"hpsearch wrap{words}{elsewhere}"


def test_a_fine_stage_over_code_says_what_its_source_does_not():
    own = {"objective.function": "train:f", "objective.form": "optuna"}
    source = whole_of_code(load_settings(spaces=["x=uniform(0, 1)"], flags=own).study.plain())
    plain = load_settings(sets=["fine.trials=5"], spaces=["y=uniform(0, 2)", "z=int(1, 3)"], flags=own).study.plain()
    plain["objective"]["narrowed"] = ["y"]  # by the calls of the stage before, whatever it asked for
    words = resume_command("fine", "fine", "coarse", whole_of_code(plain), source, ["train:f"])
    assert shlex.join(words[4:]) == "--set fine.trials=5 --space x=none --space 'z=int(1, 3)' --trust train:f"
    assert resume_command("fine", "fine", "coarse", whole_of_code(plain), None, ["train:f"]) is None


def test_ranges_of_a_check_are_left_to_it():
    plain = config(["coarse.trials=5"], ["lr=log(1e-3, 1e-2)"])
    words = resume_command("coarse", "coarse", "check", plain, config(), [])
    assert words == ["hpsearch", "coarse", "--from", "check", "--set", "coarse.trials=5"]


def test_a_budget_in_epochs_has_as_many_trials_as_fit():
    plain = config(sets=["coarse.epochs_budget=60"])
    assert plain["coarse"]["trials"] == 60
    words = resume_command("coarse", "coarse", None, plain, None, [])
    assert words == ["hpsearch", "coarse", "--set", "coarse.epochs_budget=60"]


def test_what_cannot_be_told_is_not_guessed():
    assert resume_command("x", "fine", "theirs", config(), None, []) is None
    assert resume_command("x", "compare", None, config(), None, []) is None
    both = config()  # a study file may give lr a value and search it; no flags can
    both["train"]["lr"] = 0.5
    assert resume_command("coarse", "coarse", None, both, None, []) is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.floats(allow_nan=False, allow_infinity=False),
        st.lists,
        max_leaves=5,
    )
    | st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]))
)
def test_a_value_is_read_as_it_was(value):
    from hpsearch.config.ranges import parse_value

    found = parse_value(value_word(value))
    assert found == value
    assert isinstance(found, str) == isinstance(value, str)


def test_a_config_of_an_older_version_gets_the_newer_keys():
    old = config(data__source="folder:photos")
    del old["model"]["dropout"], old["fine"]
    assert whole(old) == config(data__source="folder:photos")
    assert whole(None) is whole({"coarse": {"epochs": 3}}) is None
