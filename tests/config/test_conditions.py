import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpsearch.config import Choice, FloatRange, StudyConfig, dump_range, load_settings, parse_range
from hpsearch.config.conditions import ALWAYS, Conditions, conditions_of
from hpsearch.config.ranges import flag_text
from hpsearch.config.usage import unused_ranges
from hpsearch.errors import ConfigError

OPTIMIZERS = {"train.optimizer": {"choice": ["sgd", "momentum", "adam"]}}


def conditions(**space):
    return conditions_of(load_settings(document={"space": {"lr": {"log": [1e-4, 1e-1]}, **space}}).study)


@pytest.mark.parametrize(
    ("given_", "when"),
    [
        ("uniform(0.5, 0.99) if optimizer=momentum", (("optimizer", ("momentum",)),)),
        ("uniform(0.5,0.99) if train.optimizer = momentum, adam", (("train.optimizer", ("momentum", "adam")),)),
        ("uniform(0.5, 0.99) if hidden=[50],[100, 20]", (("hidden", ((50,), (100, 20))),)),
        ("uniform(0.5, 0.99) if pool=true and convs=2", (("pool", (True,)), ("convs", (2,)))),
        ({"uniform": [0.5, 0.99], "when": {"train.optimizer": "momentum"}}, (("train.optimizer", ("momentum",)),)),
        ({"when": {"train": {"optimizer": ["adam"]}}, "uniform": [0.5, 0.99]}, (("train.optimizer", ("adam",)),)),
        ({"uniform": [0.5, 0.99], "when": {"model.hidden": [[50]]}}, (("model.hidden", ((50,),)),)),
    ],
)
def test_a_range_says_when_it_is_searched(given_, when):
    range_ = parse_range("momentum", given_)
    assert range_ == FloatRange(0.5, 0.99, when=when)
    assert parse_range("momentum", dump_range(range_)) == range_
    assert parse_range("momentum", flag_text(dump_range(range_))) == range_


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        ("uniform(0, 1) if optimizer", ["no condition", "--space 'x=uniform(0, 1) if optimizer=adam,adamw'"]),
        ("uniform(0, 1) if ", ["no condition", "KEY=VALUE"]),
        ("uniform(0, 1) iffy", ["is not a range"]),
        ({"uniform": [0, 1], "when": "momentum"}, ["when = 'momentum' is no condition", "a table"]),
        ({"uniform": [0, 1], "when": {}}, ["no condition"]),
        ({"uniform": [0, 1], "when": {"convs": []}}, ["never"]),
        ({"when": {"convs": 1}}, ["is not a range"]),
    ],
)
def test_a_wrong_condition_is_refused(given_, words):
    with pytest.raises(ConfigError) as caught:
        parse_range("x", given_)
    for word in words:
        assert word in str(caught.value)


def test_what_only_some_optimizers_use_is_searched_beside_them_alone():
    found = conditions(momentum={"uniform": [0.5, 0.99]}, weight_decay={"log": [1e-6, 1]}, **{
        "train.optimizer": {"choice": ["sgd", "momentum", "adamw"]}
    })  # fmt: skip
    params = {"lr": 0.1, "train.momentum": 0.9, "train.weight_decay": 1e-3}
    assert found.restricted({**params, "train.optimizer": "sgd"}) == {"lr": 0.1, "train.optimizer": "sgd"}
    assert set(found.restricted({**params, "train.optimizer": "momentum"})) == {
        "lr", "train.momentum", "train.optimizer"
    }  # fmt: skip
    assert found.restricted({**params, "train.optimizer": "adamw"}) == {**params, "train.optimizer": "adamw"}


def test_a_space_in_which_all_is_used_has_no_conditions():
    assert conditions() == ALWAYS
    assert conditions(momentum={"uniform": [0.5, 0.9]}) == ALWAYS
    found = conditions(momentum={"uniform": [0.5, 0.9]}, **{"train.optimizer": {"choice": ["momentum", "adam"]}})
    assert found == ALWAYS
    assert not found


def test_a_trial_without_a_schedule_of_its_own_has_what_the_given_one_uses():
    """lr_schedule is searched with adam alone; beside sgd it is exponential, as given, which uses lr_decay."""
    found = conditions(
        **{"train.optimizer": {"choice": ["sgd", "adam"]}},
        lr_schedule={"choice": ["cosine", "step"], "when": {"optimizer": "adam"}},
        lr_decay={"uniform": [0.8, 1]},
        lr_step={"int": [2, 5]},
    )
    everything = {"lr": 1.0, "train.lr_decay": 0.9, "train.lr_step": 3}

    def searched(**own):
        return set(found.restricted({**everything, **{f"train.{key}": value for key, value in own.items()}}))

    own = {"lr", "train.optimizer"}
    assert searched(optimizer="sgd", lr_schedule="cosine") == {*own, "train.lr_decay"}
    assert searched(optimizer="adam", lr_schedule="cosine") == {*own, "train.lr_schedule"}
    assert searched(optimizer="adam", lr_schedule="step") == {
        *own, "train.lr_schedule", "train.lr_decay", "train.lr_step"
    }  # fmt: skip


def test_a_condition_of_ones_own_joins_that_of_the_key():
    found = conditions(momentum={"uniform": [0.5, 0.9], "when": {"optimizer": ["sgd", "momentum"]}}, **OPTIMIZERS)
    assert dict(found.clauses) == {"train.momentum": (("train.optimizer", ("momentum",)),)}


def test_conditions_in_a_circle_are_refused():
    with pytest.raises(ConfigError, match=r"only where it has a value itself: train.momentum -> train.optimizer -> "):
        conditions(
            momentum={"uniform": [0.5, 0.9]},
            optimizer={"choice": ["sgd", "adam"], "when": {"momentum": [0.9]}},
        )


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"dropout": {"uniform": [0, 0.5], "when": {"optimizer": "adamw"}}, **OPTIMIZERS},
         "model.dropout is not used by sgd, momentum or adam; adamw uses it"),
        ({"dropout": {"uniform": [0, 0.5], "when": {"batch_size": [50, 10]}}},
         "model.dropout is not used by 100; 50 and 10 use it"),
        ({"dropout": {"uniform": [0, 0.5], "when": {"batch_size": 8}}, "batch_size": {"int": [16, 64]}},
         "model.dropout is not used by [16, 64]; 8 uses it"),
    ],
)  # fmt: skip
def test_what_is_never_searched_is_refused(space, said):
    with pytest.raises(ConfigError) as caught:
        load_settings(document={"space": space})
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("when", "words"),
    [({"optimiser": "sgd"}, "train.optimizer"), ({"optimizer": "sdg"}, "train.optimizer = 'sdg' is not allowed")],
)
def test_a_condition_names_keys_and_values_that_there_are(when, words):
    with pytest.raises(ConfigError, match=r"space\.(model\.)?dropout") as caught:
        load_settings(document={"space": {"dropout": {"uniform": [0, 0.5], "when": when}, **OPTIMIZERS}})
    assert words in str(caught.value)


def test_a_space_without_conditions_is_stored_as_it_was_before_there_were_any():
    config = StudyConfig(space={"momentum": {"uniform": [0.5, 0.9]}, **OPTIMIZERS})
    assert config.plain()["space"] == {
        "train.momentum": {"uniform": [0.5, 0.9]}, "train.optimizer": {"choice": ["sgd", "momentum", "adam"]}
    }  # fmt: skip
    assert not unused_ranges(config)


def test_a_condition_is_stored_with_its_range_and_read_back():
    given_ = {"dropout": {"uniform": [0, 0.5], "when": {"optimizer": ["sgd", "adam"]}}, **OPTIMIZERS}
    config = StudyConfig(space=given_)
    stored = config.plain()["space"]["model.dropout"]
    assert stored == {"uniform": [0.0, 0.5], "when": {"train.optimizer": ["sgd", "adam"]}}
    assert StudyConfig.model_validate(config.plain()) == config


names = st.sampled_from("abcdef")
clauses = st.dictionaries(names, st.dictionaries(names, st.lists(st.integers(0, 2), min_size=1), max_size=3))


@given(clauses, st.dictionaries(names, st.integers(0, 2)))
def test_what_a_trial_has_is_what_applies_to_it(found, params):
    """Each hyperparameter that is left applies given what is left, and none that applies is missing."""
    later = {name: {key: v for key, v in when.items() if key < name} for name, when in found.items()}  # no circles
    found_ = {name: tuple((key, tuple(v)) for key, v in when.items()) for name, when in later.items() if when}
    made = Conditions(found_, dict.fromkeys("abcdef", 1))
    kept = made.restricted(params)
    assert list(kept) == [name for name in params if made.applies(name, kept)]
    order = made.in_order(params)
    assert sorted(order) == sorted(params)
    for position, name in enumerate(order):
        assert not {key for key, _ in made.clauses.get(name, ())} & set(order[position:])


def test_true_is_not_1():
    made = Conditions({"a": (("b", (True,)),)})
    assert made.applies("a", {"b": True})
    assert not made.applies("a", {"b": 1})
    assert Choice((True,)).values == (True,)
