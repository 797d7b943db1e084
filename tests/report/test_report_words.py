import pytest
from planted import plant

from hpsearch.analysis import attributes
from hpsearch.analysis.diagnosis import diagnose_study
from hpsearch.analysis.lineage import advise, read_lineage
from hpsearch.analysis.study_trials import read_study
from hpsearch.config import FloatRange
from hpsearch.dashboard.note import as_markdown, study_note
from hpsearch.report.figures.repeats import _repeats_info, repeats_note
from hpsearch.report.search_report import make_report
from hpsearch.report.stage import read_chain, read_stage
from hpsearch.report.words import advice_for, lineage_of, summarize
from hpsearch.storage import STRUCTURE, NewTrial, Outcome, Queue, create_stage, open_database, read_epochs


@pytest.fixture
def db(tmp_path):
    return open_database(f"sqlite:///{tmp_path}/studies.db", create=True)


def stages(db, *names):
    return [read_stage(db, name) for name in names]


def test_after_coarse_the_next_step_is_fine(db):
    plant(db)
    summary = summarize(stages(db, "coarse"))
    assert summary.study == "coarse"
    assert summary.advice.command == "hpsearch fine --from coarse"
    assert "narrow to where it worked" in summary.advice.sentence
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


@pytest.mark.slow
@pytest.mark.parametrize("beyond", [True, False])
def test_an_end_beyond_which_a_later_stage_has_searched_is_not_flagged(db, beyond):
    plant(db, num_trials=100, epochs=8, reg=(1e-3, 1e2))
    reg = (1e-6, 1e-1) if beyond else (1e-2, 1e1)
    plant(db, "fine", source="coarse", num_trials=30, epochs=8, lr=(8e-3, 0.12), reg=reg)
    coarse, fine = stages(db, "coarse", "fine")
    assert coarse.best.value > fine.best.value
    report, summary = make_report(db).html, summarize([coarse, fine])
    end = "sits at the lower end of [1e-03, 1e+02]"
    [said] = [each for each in (*summary.flags, *summary.sentences) if end in each]
    assert said.startswith("The best reg of coarse, ")
    assert said.endswith("; fine has searched beyond it, in [1e-06, 1e-01].") == beyond
    assert (said in summary.flags) == ("Proposed: " in said) == (not beyond)
    assert f'<p class="bad">{said}</p>' in report or f"<p>{said}</p>" in report
    assert ('<dd class="bad">' in report) == (not beyond)
    assert "inside every" not in " ".join(summary.sentences)
    assert "the best of fine is inside every range" in summary.advice.sentence or not beyond


def test_a_stage_that_has_not_ended_is_said_to_search_beyond(db):
    plant(db, num_trials=100, epochs=8, reg=(1e-3, 1e2))
    study = plant(db, "fine", source="coarse", num_trials=3, lr=(8e-3, 0.12), reg=(1e-6, 1e-1), finish=False)
    assert [flag.split(",")[0] for flag in summarize(stages(db, "coarse", "fine")).flags] == ["The best reg of coarse"]
    queue = Queue(db, study, "worker", lease_seconds=600.0)
    queue.finish([Outcome(queue.take(1)[0], "COMPLETE", 0.5)])
    summary = summarize(stages(db, "coarse", "fine"))
    assert not summary.flags
    assert any(said.endswith("; fine searches beyond it, in [1e-06, 1e-01].") for said in summary.sentences)


def test_a_stage_inside_without_gain_ends_with_the_test_set(db):
    plant(db, num_trials=150, epochs=8)
    plant(db, "fine", source="coarse", num_trials=60, epochs=8, lr=(8e-3, 0.12), reg=(1e-5, 0.1), seed=1)
    summary = summarize(stages(db, "coarse", "fine"))
    assert summary.advice.command.startswith("hpsearch test ")
    assert "once" in summary.advice.sentence


def test_an_unfinished_stage_is_finished_first(db):
    plant(db, finish=False)
    summary = summarize(stages(db, "coarse"))
    assert summary.best == "No trial has finished yet"
    assert "0 of 60" in summary.advice.sentence


def test_when_everything_explodes_lower_rates_are_next(db):
    plant(db, lr=(0.4, 1.0), num_trials=5)
    summary = summarize(stages(db, "coarse"))
    assert summary.study is None
    assert "lower learning rates" in summary.advice.sentence


def test_one_best_trial_is_the_subject_wherever_it_was_found(db):
    """The last stage is the worse one: its best trial is not the one that is summed up."""
    plant(db, num_trials=80, epochs=8)
    plant(db, "fine", source="coarse", num_trials=20, lr=(1e-4, 1e-3), seed=1, first={"lr": 9.9e-4, "reg": 1e-3})
    summary = summarize(stages(db, "coarse", "fine"))
    best = read_stage(db, "coarse").best
    assert (summary.study, summary.best) == ("coarse", f"trial {best.number} of coarse")
    assert any(sentence.startswith(f"The best trial, {best.number} of coarse, looks") for sentence in summary.sentences)
    assert "The best of coarse is inside every range" in " ".join(summary.sentences)
    assert not summary.flags
    assert sum(summary.verdicts.values()) == 100


def test_the_verdict_on_the_best_trial_is_the_one_that_trial_gives(db):
    plant(db, num_trials=80, epochs=8)
    [stage] = stages(db, "coarse")
    evidence = read_study(db, "coarse")
    own = diagnose_study(evidence.study, evidence.trials, read_epochs(db, evidence.study, [stage.best.number]))
    verdict = own[stage.best.number].verdict
    assert any(f"looks {verdict}: " in sentence for sentence in summarize([stage]).sentences)


@pytest.mark.slow
def test_the_same_advice_everywhere(db):
    plant(db, num_trials=150, epochs=8)
    plant(db, "fine", source="coarse", num_trials=60, epochs=8, lr=(8e-3, 0.12), reg=(1e-5, 0.1), seed=1)
    advice = advise(db, read_study(db, "fine"))
    assert summarize(stages(db, "coarse", "fine")).advice == advice
    assert advice_for(read_chain(db, "fine"), taken=["coarse", "fine"]) == advice
    assert advice.command in make_report(db, ["fine"]).html  # the stages that led to it are read, if they are not drawn
    note = study_note(read_study(db, "fine"), {}, advice).replace("\\", "")
    assert advice.command in note
    assert advice.sentence in note


def test_a_chain_ends_where_a_study_is_missing_or_comes_back(db):
    plant(db, "a", source="b", num_trials=3)
    plant(db, "b", source="a", num_trials=3)
    plant(db, "c", source="gone", num_trials=3)
    assert [stage.name for stage in read_chain(db, "a")] == ["b", "a"]
    assert [each.study.name for each in read_lineage(db, read_study(db, "a"))] == ["b", "a"]
    assert [stage.name for stage in read_chain(db, "c")] == ["c"]
    assert [each.study.name for each in read_lineage(db, read_study(db, "c"))] == ["c"]


def test_names_are_quoted_in_commands(db):
    plant(db, "it's; rm -rf")
    assert summarize(stages(db, "it's; rm -rf")).advice.command == """hpsearch fine --from 'it'"'"'s; rm -rf'"""


def test_the_lineage_leaves_other_searches_out(db):
    plant(db)
    plant(db, "other", seed=2)
    plant(db, "fine", source="coarse", num_trials=5)
    all_stages = stages(db, "coarse", "other", "fine")
    assert [stage.name for stage in lineage_of(all_stages[-1], all_stages)] == ["coarse", "fine"]


def test_one_call_that_is_better_than_the_mean_of_the_best_is_named(db):
    values = [0.9, 0.5, 0.8, 0.95]
    new = [NewTrial({"x": 0.1 * n}, {STRUCTURE: "own", **({attributes.AGAIN: 0} if n == 2 else {})}) for n in range(4)]
    own = {attributes.STAGE: "fine", attributes.CONFIG: {"objective": {"metric": "score"}}}
    study = create_stage(db, "late", "maximize", own, {"x": FloatRange(0.0, 1.0)}, new)
    queue = Queue(db, study, "worker", lease_seconds=600.0)
    queue.finish([Outcome(lease, "COMPLETE", values[lease.number]) for lease in queue.take(4)])
    [stage] = stages(db, "late")
    said = "trial 3 reached 0.9500 in one call, better than that mean; it may be luck, as it was not called again"
    assert f"In late, {said}." in summarize([stage]).sentences
    assert repeats_note(_repeats_info(stage)).endswith(f"the best mean. T{said[1:]}.")
    assert f"**Once:** {as_markdown(said)}" in study_note(stage.evidence, {}, summarize([stage]).advice)
