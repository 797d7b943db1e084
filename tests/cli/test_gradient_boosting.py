"""A search over gradient boosting with cross-validation, as docs/own-objective.md has it: no net, image or epoch."""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[2] / "docs" / "own-objective.md"
OTHERS = r"\b(images?|nets?|epochs?|accuracy|val_acc|weights?|test set|training|learnt|convolution\w*)\b"


@pytest.fixture(scope="module")
def place(tmp_path_factory, command_line):
    folder = tmp_path_factory.mktemp("boosting")
    text = DOCS.read_text()
    code, commands = re.search(
        r"## Gradient boosting.*?```python\n(.*?)```.*?```console\n(.*?)```", text, re.DOTALL
    ).groups()
    (folder / "boosting.py").write_text(code.partition("# boosting.py\n")[2])
    line = command_line(folder)
    line.commands = [one.removeprefix("$ hpsearch ") for one in commands.replace("\\\n", "").splitlines()]
    return line


def test_it_is_searched_coarse_and_fine_and_all_that_is_said_is_of_it(place):
    import shlex

    said = {}
    for command in place.commands:
        words = shlex.split(command)
        done = place(*words)
        said[words[0]] = done.stdout + done.stderr
    assert "coarse   30 of 30 trials ·" in said["coarse"]
    assert "fine     15 of 15 trials ·" in said["fine"]
    best = place.json("best", "fine")
    assert best["metric"] == "log_loss"
    assert best["value"] < place.json("best", "coarse")["value"] + 0.05
    assert 0 < best["value"] < 0.5  # of guessing among three classes, 1.1
    verdicts = place.json("boundary", "fine")["parameters"]
    assert {v["param"] for v in verdicts} == {
        "learning_rate",
        "max_leaf_nodes",
        "l2_regularization",
        "min_samples_leaf",
    }
    assert all(v["proposed"][0] >= 2 for v in verdicts if v["param"] == "max_leaf_nodes")
    said["status"] = place("status").stdout + place("status", "fine").stdout
    said["trial"] = place("trial", "fine", "3").stdout
    said["best"] = place("best", "fine").stdout + place("best", "fine", "-f", "toml").stdout.replace("epochs = ", "")
    said["rerun"] = place("rerun", "fine", "3", "--seeds", "2", "--trust", "boosting").stdout
    page = (place.folder / "report.html").read_text().partition("<body")[2].partition("<script")[0]
    said["page"] = re.sub(r"<details.*?</details>", "", page, flags=re.DOTALL)
    for command, text in said.items():
        assert not re.search(OTHERS, text), (command, re.search(OTHERS, text))
    assert "calls    2 without a seed, which it does not take: log_loss" in said["rerun"]
    assert "max_leaf_nodes" in said["page"]
