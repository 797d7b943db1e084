"""What is said where a stage ends: how more trials are searched, and whether the search itself is to stop."""

import re

import pytest

from hpsearch.analysis.decision import Decision
from hpsearch.analysis.summary import StageSummary
from hpsearch.cli.search_progress import SearchProgress


@pytest.mark.parametrize(
    ("ending", "word"),
    [(None, "go on"), ("time", "so far"), ("stages", "so far"), ("settled", "stop"), ("luck", "stop")],
)
def test_a_limit_of_the_command_is_no_reason_for_the_search_to_stop(ending, word, capsys):
    summary = StageSummary(
        study="coarse", stage="coarse", source=None, value_name="val_acc", num_trials=3, counts={}, num_exploded=0,
        epochs=2, best=None, verdicts=(),
    )  # fmt: skip
    SearchProgress(quiet=False, as_json=False).stage_decided(summary, Decision(ending, "because"))
    assert re.search(rf"^{word} +because$", capsys.readouterr().out, re.MULTILINE)


def test_a_finished_stage_says_how_more_trials_are_searched(searched):
    for done in (searched.coarse, searched.fine):
        [said] = re.findall(r"^more +(.+)$", done.stdout, re.MULTILINE)
        assert said.startswith("trials: the same command with --name NAME and another --seed")
    more = searched("coarse", "-c", "tiny.toml", "--name", "again", "--seed", "1", "--trials", "2", "--skip-checks")
    assert "again    2 of 2 trials" in more.stdout
    rates = [
        {trial["params"]["lr"] for trial in searched.json("export", name)["trials"]} for name in ("again", "coarse")
    ]
    assert not rates[0] & rates[1]


def test_the_command_to_go_on_with_is_the_last_line(searched):
    assert re.match(r"(next|or) +hpsearch ", searched.coarse.stdout.strip().splitlines()[-1])
