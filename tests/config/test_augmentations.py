"""data.augment: kinds with their strengths, each strength as a hyperparameter, and what fits which images."""

from pathlib import Path

import pytest

from hpsearch.config import hard_limits, is_vector, load_settings
from hpsearch.config.augmentations import KINDS, active, parse_augmentation, with_strengths
from hpsearch.config.structure import structure_key
from hpsearch.errors import ConfigError


def settings_of(*sets, spaces=(), data="synthetic"):
    return load_settings(sets=sets, spaces=spaces, flags={"data.source": data})


def study_of(*sets, spaces=()):
    return settings_of(*sets, spaces=spaces).study


@pytest.mark.parametrize("kind", KINDS.values(), ids=str)
def test_each_kind_is_read_by_its_example_and_written_in_one_way(kind):
    text = f"{kind.name}:{kind.example}" if kind.letter else kind.name
    assert str(parse_augmentation(text)) == text
    assert active([text])
    assert study_of(f'data.augment=["{text}"]').data.augment == (text,)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("rotate:10.0", "rotate:10"),
        ("crop:04", "crop:4"),
        ("mixup:.2", "mixup:0.2"),
        ("randaugment: 2, 9", "randaugment:2,9"),
    ],
)
def test_other_spellings_are_the_same(given, kept):
    assert study_of(f'data.augment=["{given}"]').data.augment == (kept,)


@pytest.mark.parametrize("text", ["rotate:0", "crop:0", "scale:1", "mixup:0", "autoaugment:none", "randaugment:none"])
def test_a_strength_of_nothing_is_off(text):
    assert not active([text])


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("rotate:181", "rotate:DEG (as rotate:10), DEG a number from 0 to 180: degrees, each way; 0: without."),
        ("rotate:-1", "from 0 to 180"),
        ("rotate:nan", "from 0 to 180"),
        ("rotate", "turns by up to 10 degrees"),
        ("crop:1.5", "N a whole number of at least 0"),
        ("hue:0.6", "from 0 to 0.5"),
        ("scale:2", "from 0 to 1"),
        ("brightness:inf", "from 0 to 10"),
        ("hflip:1", "Allowed: hflip."),
        ("autoaugment:mnist", "one of cifar10, imagenet, svhn; none: without"),
        ("randaugment:2", "randaugment:N,M (as randaugment:2,9)"),
        ("randaugment:2,31", "magnitude from 0 to 30"),
        ("jitter:0.4", "Did you mean brightness:0.4"),
        ("warp:3", "Allowed: a list of hflip, vflip, "),
    ],
)
def test_a_bad_strength_is_named_with_what_is_allowed(text, allowed):
    with pytest.raises(ConfigError) as caught:
        study_of(f'data.augment=["hflip", "{text}"]')
    first, second = str(caught.value).splitlines()
    assert first == f"data.augment = ['hflip', '{text}'] is not allowed: '{text}'."
    assert allowed in second


def test_labels_are_mixed_once():
    with pytest.raises(ConfigError, match=r"^data.augment = .*\nAllowed: one of mixup and cutmix"):
        study_of('data.augment=["mixup:0.2", "cutmix:1"]')


def test_a_strength_takes_its_place_in_the_list_or_comes_last():
    config = study_of('data.augment=["rotate:10", "hflip"]')
    changed = config.with_params({"data.augment.mixup": 0.5, "data.augment.cutout": 8, "data.augment.rotate": 12.5})
    assert changed.data.augment == ("rotate:12.5", "hflip", "cutout:8", "mixup:0.5")
    assert config.with_params({"data.augment.rotate": 0.0}).data.augment == ("rotate:0", "hflip")
    assert config.with_params({"data.augment.hflip": False}).data.augment == ("rotate:10",)
    assert changed.value("data.augment.cutout") == 8
    assert config.value("data.augment.scale") == 1
    assert with_strengths((), {"rotate": 1 / 3}) == ("rotate:0.3333333333333333",)


def test_strengths_are_searched_as_any_structural_hyperparameter():
    config = study_of(spaces=["rotate=uniform(0,30)", "augment.crop=int(0,4)", "data.augment.hflip=choice(true,false)"])
    assert [name for name in config.space if "augment" in name] == [
        "data.augment.rotate", "data.augment.crop", "data.augment.hflip",
    ]  # fmt: skip
    assert not is_vector("data.augment.rotate")
    assert hard_limits("data.augment.rotate") == (0, 180)
    assert hard_limits("data.augment.crop") == (0, None)
    assert hard_limits("data.augment.autoaugment") == (None, None)
    keys = {structure_key(config, {"data.augment.rotate": degrees}) for degrees in (3.0, 4.0)}
    assert len(keys) == 2
    one, other = (
        {"data.augment.rotate": 3.0, "data.augment.crop": 1},
        {"data.augment.crop": 1, "data.augment.rotate": 3.0},
    )
    assert structure_key(config, one) == structure_key(config, other)
    assert structure_key(config.with_params(one), {}) == structure_key(config, one)


@pytest.mark.parametrize("key", ['"data.augment.rotate"', "data.augment.rotate", "rotate"])
def test_a_study_file_names_a_strength_with_and_without_quotes(tmp_path, key):
    file = tmp_path / "study.toml"
    ranges = ["lr = { log = [1e-3, 1] }", key + " = { uniform = [0, 30] }", "model.dropout = { uniform = [0, 0.5] }"]
    file.write_text("\n".join(["[space]", *ranges]))
    space = load_settings(file).study.space
    assert space.keys() == {"lr", "data.augment.rotate", "model.dropout"}
    assert space["data.augment.rotate"].high == 30


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ("rotate=uniform(0,200)", "data.augment.rotate = 200.0 is not allowed.\nAllowed: DEG, a number from 0 to 180"),
        ("data.augment.crop=uniform(0,3)", "a float range does not fit this key"),
        ("data.augment.rotat=uniform(0,3)", "no hyperparameter is called"),
        ("autoaugment=choice(mnist)", "one of cifar10, imagenet, svhn"),
    ],
)
def test_a_bad_range_is_refused(space, said):
    with pytest.raises(ConfigError) as caught:
        study_of(spaces=[space])
    assert said in str(caught.value)


def test_a_strength_is_set_by_itself():
    assert study_of('data.augment=["hflip"]', "data.augment.rotate=5").data.augment == ("hflip", "rotate:5")
    with pytest.raises(ConfigError, match=r"^data.augment.rotate = 500 is not allowed.\nAllowed: DEG, a number"):
        study_of("data.augment.rotate=500")
    with pytest.raises(ConfigError, match=r"^data.augment.rotat is not a kind of augmentation.\nAllowed: hflip, "):
        study_of("data.augment.rotat=5")


MIRRORED = "data.augment has {}, but a mirrored digit of {} is another one, or none"


@pytest.mark.parametrize(
    ("data", "kinds", "space", "note"),
    [
        ("digits", '["hflip"]', None, MIRRORED.format("hflip", "digits")),
        ("mnist", '["crop:2", "vflip"]', None, MIRRORED.format("vflip", "mnist")),
        ("svhn", '["rotate:180"]', None, "data.augment turns by up to 180 degrees, but a 6 of svhn is a 9 then"),
        ("digits", '["rotate:15", "crop:1"]', None, None),
        ("fashion-mnist", '["hflip", "vflip"]', None, "data.augment has vflip, but all clothes of fashion-mnist hang upright"),  # noqa: E501
        ("cifar10", '["hflip", "vflip"]', None, None),
        ("digits", None, "hflip=choice(true,false)", MIRRORED.format("hflip", "digits")),
        ("digits", None, "data.augment=choice([hflip],[])", MIRRORED.format("hflip", "digits")),
        ("digits", None, "rotate=uniform(0,120)", "data.augment turns by up to 120 degrees, but a 6 of digits is a 9 then"),  # noqa: E501
    ],
)  # fmt: skip
def test_what_does_not_fit_the_images_is_said_once(data, kinds, space, note):
    sets, spaces = [f"data.augment={kinds}"] * (kinds is not None), [space] * (space is not None)
    assert list(settings_of(*sets, spaces=spaces, data=data).notes) == [note] * (note is not None)


def test_the_page_has_each_kind_once():
    page = (Path(__file__).parents[2] / "docs" / "images.md").read_text()
    table = page.split("| kind |")[1].split("\n\n")[0]
    for kind in KINDS.values():
        assert table.count(f"`{kind.form}`") == 1


def test_nothing_is_said_of_what_is_only_stored():
    stored = settings_of('data.augment=["hflip"]', data="digits").study.plain()
    assert load_settings(stored=stored).notes == ()
