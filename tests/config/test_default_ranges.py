"""What is searched where no ranges are given."""

import pytest

from hpsearch.config import FloatRange, StudyConfig, load_settings


@pytest.mark.parametrize(
    ("sets", "lr", "reg"),
    [
        ([], (1e-5, 1.0), (1e-5, 1e5)),
        (["model.name=linear"], (1e-5, 1.0), (1e-5, 1e5)),
        (["model.name=convnet"], (1e-4, 0.1), (1e-6, 1.0)),
        (["model.name=mynets:small"], (1e-4, 0.1), (1e-6, 1.0)),
        (["model.name=resnet", "train.optimizer=adamw"], (1e-5, 0.01), (1e-6, 1.0)),
        (["train.optimizer=adam"], (1e-5, 0.1), (1e-5, 1e5)),
        (["model.name=convnet", "train.optimizer=rmsprop"], (1e-5, 0.01), (1e-6, 1.0)),
        (["model.name=convnet", "train.optimizer=nadam"], (1e-5, 0.01), (1e-6, 1.0)),
        (["model.name=convnet", "train.optimizer=adagrad"], (1e-4, 0.1), (1e-6, 1.0)),
        (["model.name=convnet", "train.optimizer=lion"], (1e-6, 1e-3), (1e-6, 1.0)),
        (["train.optimizer=lion"], (1e-6, 0.01), (1e-5, 1e5)),
    ],
)
def test_ranges_fit_the_net_and_the_optimizer(sets, lr, reg):
    expected = {"lr": FloatRange(*lr, log=True), "reg": FloatRange(*reg, log=True)}
    assert load_settings(sets=sets).study.space == expected
    assert load_settings(sets=sets, spaces=["dropout=none"]).study.space == expected
    assert load_settings(sets=sets, spaces=["lr=log(1e-3,1e-2)"]).study.space["reg"] == expected["reg"]


def test_what_is_given_stays():
    given = {"model": {"name": "lenet"}, "space": {"lr": {"log": [1e-5, 1.0]}}}
    assert load_settings(stored=given).study.space == {"lr": FloatRange(1e-5, 1.0, log=True)}
    assert StudyConfig(space={}).space == {}


@pytest.mark.parametrize(
    ("sets", "searched"),
    [
        (["model.weights=w.pt"], True),
        (["model.weights=w.pt", "model.freeze=2"], True),
        (["model.weights=w.pt", "model.freeze=all"], False),
        ([], False),  # its body has no weights of a training before
    ],
)
@pytest.mark.parametrize("spaces", [[], ["reg=log(1e-6,1e-2)"]])
def test_a_body_that_trains_on_has_a_rate_of_its_own(sets, searched, spaces):
    space = load_settings(sets=["model.name=torchvision:resnet18", *sets], spaces=spaces).study.space
    expected = {"train.body_lr": FloatRange(1e-3, 1.0, log=True)} if searched else {}
    assert {name: range_ for name, range_ in space.items() if name not in ("lr", "reg")} == expected
