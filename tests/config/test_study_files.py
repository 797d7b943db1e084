import datetime
import tomllib
from pathlib import Path
from typing import get_args

import pytest

from hpsearch.config import (
    FloatRange,
    RunConfig,
    StudyConfig,
    differences,
    fingerprint,
    hard_limits,
    is_vector,
    load_settings,
)
from hpsearch.config.augmentations import AUGMENTATIONS
from hpsearch.config.fields import Known
from hpsearch.config.hyperparameters import canonical_name, hyperparameter_paths
from hpsearch.config.template import commented_study_file
from hpsearch.config.wishes import VALUES, wish_of_key, wish_of_value
from hpsearch.errors import ConfigError

STUDIES = Path(__file__).parents[2] / "studies"


def write(tmp_path, text):
    file = tmp_path / "study.toml"
    file.write_text(text)
    return file


@pytest.mark.parametrize("file", sorted(STUDIES.glob("*.toml")), ids=lambda file: file.stem)
def test_the_shipped_study_files_are_valid(file):
    settings = load_settings(file)
    assert settings.study.space
    assert settings.notes == ()  # each of their keys does something


def test_no_study_file_means_digits():
    assert load_settings(STUDIES / "digits.toml").study == StudyConfig()


def test_cifar10_mlp_is_the_lectures_search():
    config = load_settings(STUDIES / "cifar10-mlp.toml").study
    assert (config.data.source, config.data.val, config.data.normalize, config.data.scale) == (
        "cifar10",
        1000,
        "pixel",
        255,
    )
    assert (config.model.hidden, config.model.init) == ((50,), "small:1e-4")
    assert (config.train.optimizer, config.train.lr_decay, config.train.batch_size) == ("momentum", 0.9, 100)
    assert config.space == {"lr": FloatRange(1e-6, 1e-3, log=True), "reg": FloatRange(1e-5, 1e5, log=True)}
    assert (config.coarse.trials, config.coarse.epochs, config.coarse.sampler) == (100, 5, "random")
    assert config.for_stage("fine").train.lr_decay == 0.95
    assert config.for_stage("coarse").train.epochs == 5


def test_later_sources_win(tmp_path):
    file = write(tmp_path, "[train]\nbatch_size = 1\nmomentum = 0.1\n[data]\nval = 0.3\n[coarse]\nepochs = 2\n")
    settings = load_settings(
        file,
        environment={"HPSEARCH_TRAIN__BATCH_SIZE": "2", "HPSEARCH_STORAGE": "sqlite:///env.db"},
        sets=["train.batch_size=3"],
        flags={"coarse.epochs": 7, "run.storage": "sqlite:///flag.db", "coarse.trials": None},
    )
    assert settings.study.train.batch_size == 3
    assert settings.study.train.momentum == 0.1
    assert settings.study.data.val == 0.3
    assert settings.study.coarse.epochs == 7
    assert settings.study.coarse.trials == StudyConfig().coarse.trials
    assert settings.run.storage == "sqlite:///flag.db"
    environment_only = load_settings(file, environment={"HPSEARCH_TRAIN__BATCH_SIZE": "2"})
    assert environment_only.study.train.batch_size == 2


def test_space_flags_join_replace_and_remove():
    settings = load_settings(spaces=["lr=log(1e-4,1e-2)", "reg=none", "momentum=uniform(0.5,0.9)"])
    assert settings.study.space == {"lr": FloatRange(1e-4, 1e-2, log=True), "train.momentum": FloatRange(0.5, 0.9)}
    assert settings.ranges_given == {"lr", "train.momentum"}
    assert settings.ranges_removed == {"reg"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[train]\nlrr = 1\n", ["train.lrr", "Did you mean 'lr'", "Nearest: lr, ", "hpsearch init shows all keys"]),
        ("[trian]\nlr = 1\n", ["trian", "Did you mean 'train'"]),
        ("[train]\nlr = -1\n", ["train.lr = -1", "a number above 0"]),
        ("[train]\nlr = nan\n", ["train.lr = nan", "a finite number above 0"]),
        (
            "[train]\noptimizer = 'adamm'\n",
            ["train.optimizer = 'adamm'", "Did you mean 'adam'?", "Allowed: adam, nadam, adamw, sgd, "],
        ),
        ("[train]\nbatch_size = 1.5\n", ["train.batch_size = 1.5", "a whole number of at least 1"]),
        ("[data]\nsource = 'cifar11'\n", ["data.source = 'cifar11'", "cifar10", "folder:PATH"]),
        ("[data]\nsource = 'folder:'\n", ["data.source = 'folder:'", "folder:PATH"]),
        ("[data]\nval = 1.5\n", ["data.val = 1.5", "share below 1"]),
        (
            "[data]\naugment = ['flop']\n",
            ["data.augment = ['flop']", "'flop'", "hflip, vflip", "crop:N"],
        ),
        (
            "[data.synthetic]\nshape = [0, 1, 1]\n",
            ["data.synthetic.shape = [0, 1, 1]", "three whole numbers of at least 1: [3, 32, 32]"],
        ),
        ("[data.synthetic]\nclases = 3\n", ["data.synthetic.clases", "Did you mean 'classes'"]),
        ("[model]\nname = 'vgg8'\n", ["model.name = 'vgg8'", "Such nets are torchvision:NAME", "resnet"]),
        ("[model]\nname = 'vgg'\ndepth = 12\n", ["model.depth = 12 is not allowed", "11, 13"]),
        ("[model]\nname = 'vgg'\ndepth = 50\n", ["model.depth = 50 is not a vgg", "11, 13, 16, 19"]),
        ("[model]\nname = 'resnet'\ndepth = 16\n", ["model.depth = 16 is not a resnet", "8, 14, 20", "101, 152"]),
        ("[model]\nnorm = 'group'\n", ["model.norm = 'group' is of channels", "none, batch, layer"]),
        ("[model]\nnorm = 'layer'\nbatch_norm = true\n", ["model.batch_norm = true and model.norm = 'layer'"]),
        ("[model]\nconvs = [2, 0]\n", ["model.convs = [2, 0]", "a whole number of at least 1, a list of them"]),
        ("[model]\nkernel = 4\n", ["model.kernel = 4", "an odd whole number"]),
        ("[model]\nlayer_norm = true\n", ["model.layer_norm is not a key", "The key is model.norm"]),
        ("[model]\ninit = 'fixup'\n", ["model.init = 'fixup' is not for mlp", "model.norm = 'none'"]),
        ("[model]\ninit = 'lsuv'\nname = 'torchvision:resnet18'\n", ["model.init = 'lsuv' is not for the head"]),
        ("[space]\nkernel = { int = [1, 5] }\n", ["space.model.kernel", "int range", "choice"]),
        ("[model]\ninit = 'small:x'\n", ["model.init = 'small:x'", "small:STD"]),
        (
            "[model]\nhidden = [0]\n",
            ["model.hidden = [0] is not allowed: 0", "a list of whole numbers of at least 1: [50]"],
        ),
        ("[coarse]\nsampler = 'annealing'\n", ["coarse.sampler = 'annealing'", "tpe"]),
        ("[coarse]\ntrials = 0\n", ["coarse.trials = 0"]),
        ("[fine.set]\ntrain.lr_decay = 2\n", ["fine.set", "train.lr_decay = 2"]),
        ("[fine]\nset = { 'train.lr_dekay' = 0.5 }\n", ["fine.set", "train.lr_dekay", "Did you mean 'train.lr_decay'"]),
        ("[run]\nengine = 'fast'\n", ["run.engine = 'fast'", "loop"]),
        ("[space]\nlr = [1, 2]\n", ["space.lr", "log = [a, b]"]),
        ("[space]\nlrx = { log = [1, 2] }\n", ["space.lrx", "Did you mean 'lr'"]),
        ("[space]\nlr = { log = [1, 2] }\n'train.lr' = { log = [1, 2] }\n", ["space.train.lr", "range already"]),
        (
            "[space]\nmomentum = { uniform = [0.5, 1.0] }\n",
            ["space", "train.momentum = 1.0", "of at least 0 and below 1"],
        ),
        ("[space]\nhidden = { log = [1, 2] }\n", ["space.model.hidden"]),
        ("[space]\nbatch_size = { uniform = [1, 2] }\n", ["space.train.batch_size", "float range", "choice"]),
        ("[space]\n'model.pool' = { int = [0, 1] }\n", ["space.model.pool", "max, average, none"]),
        ("[space]\nepochs = { int = [1, 2] }\n", ["space.epochs"]),
        ("space = 3\n", ["space", "3"]),
        ("[train\n", ["study.toml", "TOML"]),
    ],
)
def test_what_is_wrong_in_a_study_file_is_named(tmp_path, text, words):
    with pytest.raises(ConfigError) as caught:
        load_settings(write(tmp_path, text))
    for word in words:
        assert word in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"sets": ["train.batch_size"]}, ["train.batch_size", "section.key=value"]),
        ({"sets": ["trian.batch_size=1"]}, ["trian", "train"]),
        ({"sets": ["space.lr=1"]}, ["--space"]),
        ({"sets": ["train.lr=1"]}, ["train.lr", "space.lr", "lr=none"]),
        ({"sets": ["lr=1"]}, ["train.lr", "lr=none"]),
        ({"spaces": ["lr"]}, ["lr", "--space"]),
        ({"spaces": ["lr=log(1)"]}, ["space.lr", "two numbers"]),
        ({"environment": {"HPSEARCH_STOARGE": "x"}}, ["HPSEARCH_STOARGE", "HPSEARCH_STORAGE"]),
        ({"environment": {"HPSEARCH_TRAIN__LRR": "1"}}, ["train.lrr", "lr"]),
        ({"file": "nowhere.toml"}, ["nowhere.toml", "does not exist"]),
    ],
)
def test_what_is_wrong_in_flags_and_environment_is_named(arguments, words):
    with pytest.raises(ConfigError) as caught:
        load_settings(**arguments)
    for word in words:
        assert word in str(caught.value)


def test_variables_of_the_test_suite_are_no_keys():
    assert load_settings(environment={"HPSEARCH_TEST_POSTGRES": "x", "PATH": "y"}).study == StudyConfig()


def test_the_template_reads_back_as_the_defaults(tmp_path):
    text = commented_study_file()
    assert load_settings(write(tmp_path, text)).study == StudyConfig()
    document = tomllib.loads(text)
    for section in ("data", "model", "train", "coarse", "fine"):
        for key in type(getattr(StudyConfig(), section)).model_fields:
            assert key in document[section] or f"# {key} =" in text


def test_a_config_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        StudyConfig().train.lr = 3  # type: ignore[misc]


def test_the_fingerprint_does_not_depend_on_the_order_of_keys_but_on_every_value():
    plain = StudyConfig().plain()
    assert fingerprint(plain) == fingerprint(dict(reversed(plain.items())))
    other = StudyConfig().with_params({"train.batch_size": 99}).plain()
    assert fingerprint(plain) != fingerprint(other)
    assert differences(plain, other) == ["train.batch_size: 100 -> 99"]


def test_a_stored_config_is_the_same_again():
    config = load_settings(STUDIES / "cifar10-lenet.toml").study
    assert load_settings(stored=config.plain()).study == config


def test_vector_and_structural_hyperparameters():
    vector = {name for name in hyperparameter_paths() if is_vector(name)}
    assert vector == {
        *("train.lr", "train.momentum", "train.beta2", "train.reg", "train.l1", "train.weight_decay"),
        *("train.label_smoothing", "train.focal", "train.ema", "train.lr_decay", "model.dropout", "model.init_scale"),
        *("train.body_lr", "train.layer_decay", "train.warmup", "train.clip_norm"),
        *("model.dropconnect", "model.stochastic_depth", "train.distill", "train.distill_temperature"),
    }


def test_names_and_limits():
    assert canonical_name("train.lr") == "lr"
    assert canonical_name("hidden") == "model.hidden"
    assert hard_limits("reg") == (0.0, None)
    low, high = hard_limits("train.momentum")
    assert low == 0.0
    assert 0.999 < high < 1
    assert hard_limits("whatever") == (None, None)


SECTIONS = {name: type(getattr(StudyConfig(), name)) for name in ("data", "model", "train", "coarse", "fine")}
KEYS = [(section, key) for section, model in {**SECTIONS, "run": RunConfig}.items() for key in model.model_fields]
BELOW_ONE = {
    *("val", "ema", "dropout", "dropconnect", "stochastic_depth", "momentum", "beta2", "label_smoothing", "lr_decay"),
}
# Looked at where they are used:
FREE_TEXT = {"weights", "teacher", "pruner", "storage", "data_dir", "artifact_dir", "device", "ray_address", "group"}


def taken(section, key, wrong):
    """Whether it is not wrong there."""
    default = getattr({**SECTIONS, "run": RunConfig}[section](), key)
    if isinstance(wrong, bool):
        return isinstance(default, bool)
    if isinstance(wrong, float):
        return isinstance(default, float) and key not in BELOW_ONE
    return (wrong == [] and isinstance(default, tuple)) or (isinstance(wrong, dict) and key == "pruner_options")


@pytest.mark.parametrize(("section", "key"), KEYS, ids=".".join)
def test_every_key_says_what_it_takes_in_our_words(section, key):
    """Whatever stands there instead: pydantic's words are of Python's types, and name no example."""
    for wrong in ("nonsense", -1, 2.5, True, [2.5, "x"], [], {"a": [{}]}, datetime.date(2026, 1, 1)):
        if (isinstance(wrong, str) and key in FREE_TEXT) or taken(section, key, wrong):
            continue
        with pytest.raises(ConfigError) as caught:
            load_settings(document={section: {key: wrong}})
        first, second = str(caught.value).splitlines()
        assert first.startswith((f"{section}.{key} = ", f"{section}.{key}.a is not a key", f"{section}.set: "))
        assert second.startswith(("Allowed: ", "Nearest: "))
        assert "nput should be" not in first + second


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[data]\naugment = 'flip'\n",
            "data.augment = 'flip' is not allowed.\n"
            f'Did you mean hflip? Allowed: a list of {AUGMENTATIONS}: ["hflip", "crop:4"].',
        ),
        (
            "[data]\naugment = ['hflip', 'crop']\n",
            "data.augment = ['hflip', 'crop'] is not allowed: 'crop'.\n"
            "Did you mean crop:4, which shifts by up to 4 pixels? "
            "Allowed: crop:N (as crop:4), N a whole number of at least 0: pixels of a shift, each way; 0: without.",
        ),
        (
            "[model]\nname = 'resnet18'\n",
            "model.name = 'resnet18' is not allowed.\nDid you mean resnet with model.depth = 18? "
            "Allowed: linear, mlp, lenet, convnet, vgg, resnet, torchvision:NAME, timm:NAME, MODULE:FUNCTION.",
        ),
        (
            "[model]\nfinetune = true\n",
            "model.finetune is not a key of a study file.\n"
            "The keys are model.pretrained and model.weights, with model.name = torchvision:NAME.",
        ),
        (
            "[train]\nmetric = 'f1'\n",
            "train.metric = 'f1' is not allowed.\n"
            "Did you mean macro_f1? Allowed: accuracy, balanced_accuracy, macro_f1, auroc, top5, loss, "
            "MODULE:FUNCTION.",
        ),
        (
            "[train]\noptimizer = 'adadelta'\n",
            "train.optimizer = 'adadelta' is not allowed.\n"
            "It is not there yet; adam is the nearest. Allowed: sgd, momentum, nesterov, adam, adamw, nadam, rmsprop, "
            "adagrad, lion.",
        ),
        (
            "[space]\nlearning_rate = { log = [1e-4, 1] }\n",
            "space.learning_rate: no hyperparameter is called 'learning_rate'.\n"
            "The key is train.lr; its range is space.lr.",
        ),
        (
            "[train]\ndropout = 0.5\n",
            "train.dropout is not a key of a study file. Did you mean 'model.dropout'?\nNearest: ",
        ),
        (
            "[data.synthetic]\nsize = 3\n",
            "data.synthetic.size is not a key of a study file. Did you mean 'data.size'?\nAllowed: ",
        ),
        ("model = 'mlp'\n", "model = 'mlp' is not allowed.\nAllowed: a table, as [model] with its keys below it."),
        ("[train]\nlr = true\n", "train.lr = true is not allowed.\nAllowed: a number above 0."),
    ],
)
def test_what_is_meant_is_said(tmp_path, text, message):
    with pytest.raises(ConfigError) as caught:
        load_settings(write(tmp_path, text))
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("key", ["model.class_weights", "data.k_folds", "train.early_stopping"])
def test_what_is_not_there_yet_is_known(key):
    with pytest.raises(ConfigError) as caught:
        load_settings(sets=[f"{key}=1"])
    assert str(caught.value).startswith(f"{key} is not a key of a study file.\n")
    assert "Nearest" not in str(caught.value)


@pytest.mark.parametrize("key", sorted(VALUES))
def test_the_table_of_wishes_is_of_keys_that_are_there(key):
    """And of none of their values: what is there needs no other name."""
    section, name = key.split(".")
    field = {**SECTIONS, "run": RunConfig}[section].model_fields[name]
    for value in (*get_args(field.annotation), *(v for m in field.metadata if isinstance(m, Known) for v in m.values)):
        assert wish_of_value(key, value) is None


def test_no_wish_is_in_the_way_of_a_key():
    for section, key in KEYS:
        wish = wish_of_key(f"{section}.{key}")
        assert wish is None or f"{section}.{key}" in wish


def test_one_value_is_a_list_of_one():
    study = load_settings(sets=["hidden=50", "channels=32", "data.augment=hflip"]).study
    assert (study.model.hidden, study.model.channels, study.data.augment) == ((50,), (32,), ("hflip",))
    searched = load_settings(spaces=["hidden=choice(50,[100,20])"]).study
    assert [searched.with_params({"model.hidden": v}).model.hidden for v in (50, (100, 20))] == [(50,), (100, 20)]


@pytest.mark.parametrize("key", ["train.seed", "coarse.seed", "data.seed"])
def test_seeds_are_those_that_generators_take(key):
    load_settings(sets=[f"{key}={2**63 - 1}"])
    with pytest.raises(ConfigError, match=rf"^{key} = {2**63} is not allowed\.\nAllowed: .*{2**63 - 1}"):
        load_settings(sets=[f"{key}={2**63}"])


def test_several_values_are_no_value_but_a_range():
    with pytest.raises(ConfigError) as refused:
        load_settings(sets=["train.lr=[1e-2, 1e-3]"])
    assert str(refused.value) == (
        "train.lr = [0.01, 0.001] is not allowed.\n"
        "Several values are searched: --space 'lr=choice(0.01, 0.001)'. Allowed: a number above 0."
    )


def test_a_net_that_is_searched_begins_as_it_is_known():
    """But for what was said of all nets."""
    study = load_settings(spaces=["model.name=choice(vgg,resnet,convnet)"]).study

    def chosen(study, name):
        model = study.with_params({"model.name": name}).model
        return model.depth, model.hidden

    assert [chosen(study, name) for name in ("vgg", "resnet", "convnet")] == [(16, ()), (18, (50,)), (18, (50,))]
    assert chosen(study.with_params({"model.name": "vgg"}), "resnet") == (18, (50,))
    told = load_settings(sets=["hidden=9", "depth=11", "model.name=convnet"]).study.with_params({"model.name": "vgg"})
    assert (told.model.depth, told.model.hidden) == (11, (9,))


def test_convolutions_in_a_block_are_still_a_number_that_is_searched():
    study = load_settings(sets=["model.name=convnet"], spaces=["convs=int(1,3)"]).study
    assert study.with_params({"model.convs": 2}).model.convs == 2
    assert hard_limits("convs") == (1, None)
    listed = load_settings(
        sets=["model.name=convnet"], spaces=["convs=choice(2,[2,3])", "kernel=choice(3,[5,3])"]
    ).study
    assert listed.with_params({"model.convs": (2, 3), "model.kernel": 3}).model.convs == (2, 3)


@pytest.mark.parametrize(
    ("keys", "normalization"),
    [
        ({}, "none"),
        ({"batch_norm": True}, "batch"),
        ({"batch_norm": True, "norm": "batch"}, "batch"),
        ({"norm": "layer"}, "layer"),
        ({"name": "resnet"}, "batch"),
        ({"name": "resnet", "norm": "none"}, "none"),
    ],
)
def test_both_keys_of_normalization_are_one(keys, normalization):
    model = StudyConfig(model=keys).model
    assert model.normalization == normalization
    assert set(StudyConfig(model=keys).plain()["model"]) & {"norm", "groups", "kernel"} == keys.keys() & {"norm"}


def test_a_flag_without_a_key_says_so():
    with pytest.raises(ConfigError, match=r"^--set =3 has no key"):
        load_settings(sets=["=3"])


@pytest.mark.parametrize("given", [{"sets": ["fine.trials=9"]}, {"flags": {"fine.trials": 9}}])
def test_trials_that_are_given_take_the_place_of_a_budget_in_epochs(given):
    stored = {"fine": {"epochs_budget": 40}}
    fine = load_settings(stored=stored, **given).study.fine
    assert (fine.trials, fine.epochs_budget) == (9, None)
    assert load_settings(stored=stored, flags={"coarse.trials": 9}).study.fine.epochs_budget == 40
