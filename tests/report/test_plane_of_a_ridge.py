"""A ridge in the report: the plane of the two numbers that count together, and what it says of them."""

import math

import optuna
import pytest
from planted import plant

from hpsearch.analysis import attributes
from hpsearch.analysis.together import Together
from hpsearch.report import stage as stages
from hpsearch.report.figures.importance import _importance_info, importance_text
from hpsearch.report.figures.landscape import _landscape_info, plot_landscape
from hpsearch.report.search_report import make_report
from hpsearch.report.stage import read_stage
from hpsearch.report.stage_cards import landscape_words
from hpsearch.report.words import summarize
from hpsearch.storage import open_database

KEPT = Together(("reg", "lr"), "coarse")


@pytest.fixture(scope="module")
def ridge(tmp_path_factory):
    """A study of plain Optuna over three numbers, of which the sum of the last two counts, and the first one more."""
    url = f"sqlite:///{tmp_path_factory.mktemp('ridge')}/optuna.db"
    study = optuna.create_study(
        storage=url, study_name="ridge", direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0)
    )

    def objective(trial):
        first, lr, batch = (trial.suggest_float(name, 0, 1) for name in ("first", "lr", "batch"))
        return math.exp(-20 * (lr + batch - 1) ** 2) - 6 * (first - 0.3) ** 2

    study.optimize(objective, n_trials=50)
    return open_database(url)


@pytest.fixture
def kept(tmp_path):
    """Two stages over lr and reg with no ridge in them; with the second one is kept that it came after one."""
    db = open_database(f"sqlite:///{tmp_path}/studies.db", create=True)
    plant(db, num_trials=40)
    provenance = {"from": "coarse", "ranges": [], "together": KEPT.as_dict()}
    plant(db, "fine", source="coarse", num_trials=20, seed=1, **{attributes.PROVENANCE: provenance})
    return db


@pytest.mark.slow
def test_the_plane_is_that_of_the_two_that_count_together_whatever_matters_more(ridge):
    seen, unseen = (_landscape_info(read_stage(ridge, "ridge", thorough=thorough)) for thorough in (True, False))
    assert (unseen.x.param, unseen.together) == ("first", None)
    assert (seen.x.param, seen.y.param) == ("lr", "batch")
    title, note = landscape_words(seen)
    assert title == "lr × batch"
    said = "lr and batch count together, by the trials of ridge: this is the plane of both, where the good"
    assert said in note
    assert said not in landscape_words(unseen)[1]
    assert plot_landscape(seen).layout.xaxis.title.text == "lr"


def test_of_more_than_two_the_plane_is_of_the_first_two(ridge):
    stage = read_stage(ridge, "ridge")
    stage.__dict__["together"] = Together(("lr", "first", "batch"), "ridge")
    info = _landscape_info(stage)
    assert {info.x.param, info.y.param} == {"lr", "first"}
    assert "this is the plane of the two of them that share most" in landscape_words(info)[1]
    stage.__dict__["together"] = Together(("lr", "gone"), "ridge")  # one alone is left: as without
    assert _landscape_info(stage) == _landscape_info(read_stage(ridge, "ridge"))


def test_what_counts_with_others_is_not_said_not_to_matter(ridge):
    with_it, without = (_importance_info(read_stage(ridge, "ridge", thorough=thorough)) for thorough in (True, False))
    assert with_it.shares == without.shares
    assert without.by_chance  # each alone says little
    assert not set(with_it.by_chance) & {"lr", "batch"}
    assert "lr and batch count together, by the trials of ridge, and a share tells of one alone." in importance_text(
        with_it
    )
    assert "count together" not in importance_text(without)


@pytest.mark.slow
def test_what_is_kept_with_a_stage_is_said_where_its_own_trials_show_nothing(kept):
    coarse, fine = (read_stage(kept, name, thorough=True) for name in ("coarse", "fine"))
    assert (coarse.together, fine.together) == (None, KEPT)
    page = make_report(kept).html
    assert page.count(f'<p class="lead">{KEPT.text}.</p>') == 1  # above the ranges
    assert page.count(f"<td>{KEPT.text}</td>") == 1  # with where they come from
    assert "count together" not in make_report(kept, ["coarse"]).html


@pytest.mark.parametrize("together", [KEPT, Together(("reg", "momentum"), "coarse"), None])
def test_a_best_on_an_end_may_be_as_good_inside_where_it_counts_with_others(tmp_path, together):
    db = open_database(f"sqlite:///{tmp_path}/studies.db", create=True)
    plant(db, num_trials=40)
    kept = {"together": together.as_dict()} if together else {}
    on_end, provenance = {"lr": 1.99e-2, "reg": 1e-3}, {"from": "coarse", "ranges": [], **kept}
    ranges = {"lr": (1e-3, 2e-2), "reg": (1e-5, 1e-1), "first": on_end, "seed": 1}
    plant(db, "fine", source="coarse", num_trials=30, **ranges, **{attributes.PROVENANCE: provenance})
    [flag] = summarize([read_stage(db, name) for name in ("coarse", "fine")]).flags
    assert "the range was wrong" in flag
    said = " But with other values of reg, with which it counts together, it may be as good inside. Proposed: ["
    assert (said in flag) == (together == KEPT)


def test_only_a_page_that_is_drawn_once_looks_for_it(kept, monkeypatch):
    """It takes seconds; the dashboard draws the same figures again and again."""
    looked = []
    monkeypatch.setattr(stages, "seen_together", lambda evidence: looked.append(evidence.study.name))
    assert _landscape_info(read_stage(kept, "coarse")).together is None
    assert _landscape_info(read_stage(kept, "fine")).together == KEPT
    assert looked == []
    make_report(kept)
    assert sorted(looked) == ["coarse", "fine"]  # once each
