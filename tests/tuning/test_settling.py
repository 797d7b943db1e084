"""train.precision = "auto": measured when a stage begins, and the stage's own from then on."""

from functools import partial
from itertools import count
from types import SimpleNamespace

import pytest

from hpsearch.analysis import attributes
from hpsearch.errors import RefusedError
from hpsearch.search import session
from hpsearch.search.session import run_stage
from hpsearch.stages.plan import plan_coarse
from hpsearch.storage import find_study, open_database
from hpsearch.training.images import load_images
from hpsearch.tuning import precision


@pytest.fixture
def new_db(tmp_path):
    numbers = count()
    return lambda: open_database(f"sqlite:///{tmp_path}/{next(numbers)}.db", create=True)


@pytest.fixture
def measure(monkeypatch):
    """Sets how many times as fast bfloat16 is; None as where nothing is timed."""

    monkeypatch.setattr(precision, "why_not", lambda *_: None)

    def set_to(factor):
        monkeypatch.setattr(precision, "tune", lambda *_, **__: SimpleNamespace(bfloat16=factor))

    return set_to


@pytest.fixture
def search(tiny):
    return partial(_search, tiny)


def _search(tiny, db, wanted):
    """Run the stage; the precision that is stored with it, and the values of its trials."""
    given = tiny(train__precision=wanted)
    plan = plan_coarse(given, "coarse")
    evidence = run_stage(db, plan, given.run, load_images(plan.trial_config, given.run))
    kept = find_study(db, "coarse").attrs[attributes.CONFIG]["train"]["precision"]
    return kept, [trial.value for trial in evidence.trials]


@pytest.mark.parametrize(
    ("factor", "kept"), [(None, "float32"), (0.0, "float32"), (1.05, "float32"), (1.4, "bfloat16")]
)
def test_the_faster_precision_is_kept_with_the_stage(search, new_db, measure, factor, kept):
    measure(factor)
    found, values = search(new_db(), "auto")
    assert found == kept
    assert values == search(new_db(), kept)[1]


@pytest.mark.parametrize(("wanted", "timed"), [("auto", "float32"), ("bfloat16", "bfloat16")])
def test_engine_and_width_are_not_timed_again_in_the_other_precision(
    search, new_db, measure, monkeypatch, wanted, timed
):
    measure(1.4)
    seen = []
    monkeypatch.setattr(
        session, "settle", lambda plan, _data, run, **_: seen.append(plan.config.train.precision) or run
    )
    assert search(new_db(), wanted)[0] == "bfloat16"
    assert seen == [timed]


def test_a_stage_that_exists_goes_on_in_its_own_precision(search, new_db, measure):
    db = new_db()
    measure(1.4)
    first = search(db, "auto")
    measure(None)
    assert search(db, "auto") == first == search(db, "bfloat16")
    with pytest.raises(RefusedError, match="precision"):
        search(db, "float32")


def test_of_two_that_measure_differently_the_first_to_create_the_stage_wins(search, new_db, measure, monkeypatch):
    db = new_db()
    measure(1.4)
    first = search(db, "auto")
    measure(1.0)
    stored, calls = precision._stored, []

    def not_there_yet(*arguments):
        calls.append(1)
        return stored(*arguments) if len(calls) > 1 else None

    monkeypatch.setattr(precision, "_stored", not_there_yet)
    assert search(db, "auto") == first
    assert len(calls) == 2


@pytest.mark.parametrize("wanted", ["auto", "float32"])
def test_nothing_is_measured_for_a_small_search_or_a_precision_that_is_given(search, new_db, monkeypatch, wanted):
    monkeypatch.setattr(precision, "tune", lambda *_, **__: pytest.fail("a step was timed"))
    assert search(new_db(), wanted)[0] == "float32"
