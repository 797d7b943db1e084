"""Whoever can write the database gains no code execution: no command imports what only the database names."""

import json
import shutil
import subprocess
import sys

import pytest

from hpsearch.analysis import attributes
from hpsearch.storage import find_study, open_database, write_attrs

EVIL = """
from pathlib import Path
Path(__file__).with_name("marker").write_text("imported")
def model(shape, num_classes):
    Path(__file__).with_name("marker").write_text("called")
def data():
    Path(__file__).with_name("marker").write_text("called")
"""
NETS = """
from torch import nn
def small(shape, num_classes, width=8):
    size = shape[0] * shape[1] * shape[2]
    return nn.Sequential(nn.Flatten(), nn.Linear(size, width), nn.ReLU(), nn.Linear(width, num_classes))
"""
OWN_SPACE = '[space]\nlr = { log = [1e-3, 1e-1] }\n"model.options.width" = { int = [4, 6] }\n'
PANELS = """
from hpsearch.dashboard.panels import refresh_panels
from hpsearch.storage import open_database
refresh_panels(open_database("sqlite:///studies/hpsearch.db"), "coarse")
"""
IMPORTING = [
    ["worker", "coarse"],
    ["fine", "--from", "coarse"],
    ["fine", "--from", "coarse", "--dry-run"],
    ["coarse", "--from", "check", "--name", "other"],
    ["rerun", "coarse", "0"],
    ["test", "coarse"],
]
READING = [
    ["status"],
    ["status", "coarse"],
    ["best", "coarse"],
    ["best", "coarse", "-f", "toml"],
    ["boundary", "coarse"],
    ["trial", "coarse", "0"],
    ["export", "coarse"],
    ["export", "coarse", "-f", "json"],
    ["report", "-o", "report.html"],
    ["coarse", "-c", "tiny.toml"],  # the file's config is the same as ever
    ["stop", "coarse"],
]


def plant(folder, **names):
    """What an attacker with a password for the database can do, and no more."""
    db = open_database(f"sqlite:///{folder}/studies/hpsearch.db")
    for study in ("coarse", "check"):
        row = find_study(db, study)
        config = {**row.attrs[attributes.CONFIG]}
        for section, name in names.items():
            config[section] = {**config[section], {"model": "name", "data": "source", "train": "metric"}[section]: name}
        versions = {**row.attrs[attributes.VERSIONS], "evil": "sha256:0"}
        write_attrs(db, row, {attributes.CONFIG: config, attributes.VERSIONS: versions})
    db.close()


@pytest.fixture(scope="module")
def checked(searched, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trust") / "checked"
    shutil.copytree(searched.folder, folder)
    line = type(searched)(folder)
    line("check", "-c", "tiny.toml")
    return line


@pytest.fixture
def attacked(checked, tmp_path):
    folder = tmp_path / "attacked"
    shutil.copytree(checked.folder, folder)
    (folder / "evil.py").write_text(EVIL)
    return type(checked)(folder)


@pytest.mark.slow
def test_no_command_imports_what_the_database_names(attacked):
    plant(attacked.folder, data="evil:data", model="evil:model")
    for command in IMPORTING:
        refused = attacked(*command, code=3).stderr
        assert "the code 'evil:data' is named by the database, not by you" in refused, command
        assert "--trust evil" in refused
        assert refused.count("\n") == 2
    for command in READING:
        attacked(*command)
    subprocess.run([sys.executable, "-c", PANELS], cwd=attacked.folder, check=True)
    assert not (attacked.folder / "marker").exists()
    assert [row["study"] for row in attacked.json("status")] == ["coarse", "fine", "check"]  # nothing new
    attacked("rerun", "coarse", "0", "--trust", "evil", code=2)
    assert (attacked.folder / "marker").exists()  # the test would have seen it


@pytest.mark.slow
@pytest.mark.parametrize("section", ["model", "data", "train"])
def test_nor_does_what_is_installed_get_called(attacked, section):
    plant(attacked.folder, **{section: "os:system"})
    assert "the code 'os:system'" in attacked("worker", "coarse", code=3).stderr
    assert "the code 'os:system'" in attacked("fine", "--from", "coarse", code=3).stderr


@pytest.mark.parametrize("name", ["evil:model()", "evil:a.b", "../evil:model"])
def test_what_is_no_name_is_no_config(attacked, name):
    plant(attacked.folder, model=name)
    attacked("worker", "coarse", code=2)
    assert not (attacked.folder / "marker").exists()


def test_a_choice_that_the_database_slips_in_is_refused(attacked):
    db = open_database(f"sqlite:///{attacked.folder}/studies/hpsearch.db")
    row = find_study(db, "coarse")
    config = row.attrs[attributes.CONFIG]
    space = {**config["space"], "model.name": {"choice": ["mlp", "evil:model"]}}
    write_attrs(db, row, {attributes.CONFIG: {**config, "space": space}})
    db.close()
    attacked("worker", "coarse", code=3)
    attacked("rerun", "coarse", "0", code=3)
    assert not (attacked.folder / "marker").exists()


@pytest.mark.slow
def test_ones_own_code_from_a_file_to_the_test_set(hpsearch, tmp_path):
    study = (tmp_path / "tiny.toml").read_text().replace("hidden = [6]", 'name = "mynets:small"')
    (tmp_path / "study.toml").write_text(study + OWN_SPACE)
    (tmp_path / "mynets.py").write_text(NETS)
    line = hpsearch
    done = line("coarse", "-c", "study.toml", "--workers", "2", "--trials", "6")  # workers trust what this process does
    assert "6 of 6 trials" in done.stdout
    assert done.stdout.strip().endswith("next     hpsearch fine --from coarse --trust mynets:small")
    assert "--trust mynets" in line("fine", "--from", "coarse", code=3).stderr
    assert "# It runs this code: mynets:small." in line("best", "-f", "toml").stdout
    line("fine", "--from", "coarse", "--trust", "mynets:small", "--trials", "3")
    line("rerun", "fine", "0", "--seeds", "1", HPSEARCH_TRUST="mynets")
    line("test", "fine", code=3)
    assert line.json("test", "fine", "--trust", "mynets")["num_test"] == 9
    (tmp_path / "mynets.py").write_text(NETS + "# better\n")
    noted = line("rerun", "fine", "0", "--seeds", "1", "--trust", "mynets").stdout
    assert "mynets has changed since" in noted
    resumed = line("coarse", "-c", "study.toml", "--trials", "6")
    assert "note: mynets has changed since 'coarse' was begun" in resumed.stderr


def test_trust_is_not_given_by_a_flag_that_names_something_else(attacked):
    plant(attacked.folder, model="evil:model")
    attacked("worker", "coarse", "--trust", "mynets", code=3)
    assert "cannot be trusted" in attacked("worker", "coarse", "--trust", "evil;os", code=2).stderr
    assert not (attacked.folder / "marker").exists()


def test_data_of_ones_own(hpsearch, tmp_path):
    (tmp_path / "mydata.py").write_text(
        "import numpy as np\n"
        "def make(num=60):\n"
        "    y = np.arange(num) % 3\n"
        "    return np.random.default_rng(0).normal(y[:, None, None], 0.5, (num, 4, 4)), y\n"
    )
    line = hpsearch
    shown = line.json("data", "show", "mydata:make", "--set", "data.options.num=90")
    assert (shown["num_train"] + shown["num_val"], shown["classes"]) == (72, 3)
    line("coarse", "--data", "mydata:make", "--trials", "4", "--epochs", "2", "--model", "linear")
    assert "--trust mydata" in line("fine", "--from", "coarse", code=3).stderr
    assert json.loads(line("test", "coarse", "--trust", "mydata", "--json").stdout)["num_test"] == 12
