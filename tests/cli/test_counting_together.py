"""A function of which only lr / batch counts, by the commands: what a Gaussian process sees is kept and said."""

import pytest

CODE = """
import math

def ratio(params):
    return math.exp(-(math.log10(params["lr"] / params["batch"]) + 4.5) ** 2)
"""
SAID = "lr and batch count together, by the trials of coarse"
MEANS = f"ridge    {SAID}: no range of one alone tells good values from bad, "


@pytest.fixture(scope="module")
def searched(tmp_path_factory, command_line):
    folder = tmp_path_factory.mktemp("ridge")
    (folder / "mine.py").write_text(CODE)
    place = command_line(folder)
    space = ("--space", "lr=log(1e-5,1)", "--space", "batch=int_log(8,512)")
    place("coarse", "--objective", "mine:ratio", *space, "--trials", "40", "--sampler", "random")
    place.plan = place.json(*FINE, "--dry-run")
    place.fine = place(*FINE)
    return place


FINE = ("fine", "--from", "coarse", "--sampler", "gp", "--trials", "4", "--trust", "mine:ratio")


@pytest.mark.slow
def test_it_is_said_when_the_stage_begins_when_it_ends_and_by_status(searched):
    assert f"note: {SAID}, so gp proposes along lines that no range follows" in searched.fine.stderr
    assert MEANS in searched.fine.stdout
    assert MEANS in searched("status", "fine").stdout
    assert "count together" not in searched("status", "coarse").stdout  # by its own trials, which takes seconds


def test_it_is_a_field_of_the_plan_and_of_the_status(searched):
    together = {"params": ["lr", "batch"], "study": "coarse"}
    assert searched.plan["together"] == searched.json("status", "fine")["together"] == together
    assert searched.json("status", "coarse")["together"] is None


@pytest.mark.slow
def test_the_same_command_goes_on_and_the_plan_has_what_was_kept(searched):
    assert searched.json(*FINE)["together"] == searched.plan["together"]
    assert searched.json(*FINE, "--dry-run")["together"] == searched.plan["together"]


@pytest.mark.slow
def test_the_report_says_it_of_both_stages(searched):
    searched("report", "-o", "report.html")
    page = (searched.folder / "report.html").read_text()
    assert page.count(f"{SAID}: this is the plane of both, where the good ones lie along a line") == 2
