import pytest
from planted import plant

from hpsearch.report.stage import read_stage
from hpsearch.report.words import lineage_of, num_val_images, summarize
from hpsearch.storage import open_database


@pytest.fixture
def db(tmp_path):
    return open_database(f"sqlite:///{tmp_path}/studies.db", create=True)


def stages(db, *names):
    return [read_stage(db, name) for name in names]


def test_after_coarse_the_next_step_is_fine(db):
    plant(db)
    summary = summarize(stages(db, "coarse"))
    assert summary.study == "coarse"
    assert summary.command == "hpsearch fine --from coarse"
    assert not summary.flags
    text = " ".join(summary.sentences)
    assert "coarse: 60 trials of 4 epochs" in text
    assert "inside every range" in text


def test_explosions_are_counted_and_their_edge_is_named(db):
    plant(db)
    [stage] = stages(db, "coarse")
    num = stage.evidence.num_exploded
    assert num > 0
    [sentence] = [sentence for sentence in summarize([stage]).sentences if "exploded" in sentence]
    assert f"{num} of 60 trials" in sentence
    assert "above lr" in sentence
    assert summarize([stage]).verdicts["exploded"] == num


def test_a_best_on_the_end_of_a_range_is_flagged(db):
    plant(db, lr=(1e-4, 1e-2), first={"lr": 9.9e-3, "reg": 1e-3})
    summary = summarize(stages(db, "coarse"))
    assert any("lr" in flag and "upper end" in flag for flag in summary.flags)


def test_a_stage_inside_without_gain_ends_with_the_test_set(db):
    plant(db, num_trials=150, epochs=8)
    plant(db, "fine", source="coarse", num_trials=60, epochs=8, lr=(8e-3, 0.12), reg=(1e-5, 0.1), seed=1)
    summary = summarize(stages(db, "coarse", "fine"))
    assert summary.command.startswith("hpsearch test ")
    assert "once" in summary.next_step


def test_an_unfinished_stage_is_finished_first(db):
    plant(db, finish=False)
    summary = summarize(stages(db, "coarse"))
    assert summary.best == "No trial has finished yet"
    assert "0 of 60" in summary.next_step


def test_when_everything_explodes_lower_rates_are_next(db):
    plant(db, lr=(0.4, 1.0), num_trials=5)
    summary = summarize(stages(db, "coarse"))
    assert summary.study is None
    assert "lower learning rates" in summary.next_step


def test_names_are_quoted_in_commands(db):
    plant(db, "it's; rm -rf")
    assert summarize(stages(db, "it's; rm -rf")).command == """hpsearch fine --from 'it'"'"'s; rm -rf'"""


def test_the_lineage_leaves_other_searches_out(db):
    plant(db)
    plant(db, "other", seed=2)
    plant(db, "fine", source="coarse", num_trials=5)
    all_stages = stages(db, "coarse", "other", "fine")
    assert [stage.name for stage in lineage_of(all_stages[-1], all_stages)] == ["coarse", "fine"]


def test_the_number_of_validation_images_shows_in_the_accuracies(db):
    plant(db)  # accuracies are in thousandths
    [stage] = stages(db, "coarse")
    assert num_val_images(stage) == 1000
