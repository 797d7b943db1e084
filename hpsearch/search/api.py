"""The commands as Python functions: `hpsearch.coarse(...)`, `hpsearch.fine(...)`, `hpsearch.load(...)`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpsearch.config import Settings, StudyConfig, load_settings
from hpsearch.logs import get_logger
from hpsearch.results import EpochResult
from hpsearch.search.evidence import Evidence, gather
from hpsearch.search.plan import StagePlan, plan_coarse, plan_fine
from hpsearch.search.progress import Listener
from hpsearch.search.stages import keep_stored_ranges
from hpsearch.search.summary import stage_summary, stored_config, verdicts
from hpsearch.space import Verdict
from hpsearch.storage import Database, TrialRow, open_database, read_epochs

if TYPE_CHECKING:
    import optuna

log = get_logger(__name__)

ConfigLike = StudyConfig | Mapping[str, Any] | str | Path | None


@dataclass(frozen=True)
class Stage:
    """A study in the storage, as it stood when it was read."""

    database: Database
    evidence: Evidence

    @property
    def name(self) -> str:
        """Of the study."""
        return self.evidence.study.name

    @property
    def trials(self) -> list[TrialRow]:
        """All trials, by number."""
        return self.evidence.trials

    @property
    def best(self) -> TrialRow | None:
        """The finished trial with the best value; None if none has finished."""
        return self.evidence.best

    @property
    def config(self) -> StudyConfig | None:
        """What was searched; None when another program made the study."""
        stored = stored_config(self.evidence)
        return load_settings(stored=stored).study if stored is not None else None

    def boundary(self) -> list[Verdict]:
        """Per parameter: where the best trial lies in its range, and what to search next."""
        return verdicts(self.evidence)

    def curves(self, number: int) -> list[EpochResult]:
        """What a trial looked like after each epoch."""
        return read_epochs(self.database, self.evidence.study, [number]).get(number, [])

    def summary(self) -> dict[str, Any]:
        """Counts, best, boundary: what `hpsearch status NAME --json` prints."""
        return stage_summary(self.evidence).as_dict()

    def optuna_study(self) -> optuna.Study:
        """The same study through Optuna, for its plots and samplers."""
        import optuna

        return optuna.load_study(study_name=self.name, storage=self.database.optuna_storage())


def coarse(
    config: ConfigLike = None,
    *,
    name: str = "coarse",
    storage: str | None = None,
    trials: int | None = None,
    epochs: int | None = None,
    sampler: str | None = None,
    sets: Mapping[str, Any] | None = None,
    space: Mapping[str, Any] | None = None,
    listener: Listener | None = None,
    skip_checks: bool = False,
) -> Stage:
    """Search wide and short, or go on with the search of that name.

    Args:
        config: a study file, a StudyConfig, a dict in the form of a study file, or None for the defaults.
        name: of the study.
        storage: database URL; the study file's, or sqlite:///studies/hpsearch.db.
        trials: the budget.
        epochs: of each trial.
        sampler: random, qmc, grid, tpe, gp or cmaes.
        sets: other keys by dotted path, as {"train.batch_size": 50}.
        space: ranges that replace or join those of the config, as {"lr": "log(1e-6, 1e-3)"} or {"reg": "none"}.
        listener: hears of each finished trial.
        skip_checks: search even where the net cannot learn 20 images by heart, or the like.

    Raises:
        ConfigError, DataError, RefusedError, StorageError: as the command.
    """
    settings = _settings("coarse", config, storage, trials, epochs, sampler, sets, space)
    db = open_database(settings.run.storage, create=True)
    return _run(db, plan_coarse(settings, name), settings, listener, skip_checks)


def fine(
    source: str = "coarse",
    config: ConfigLike = None,
    *,
    name: str | None = None,
    storage: str | None = None,
    trials: int | None = None,
    epochs: int | None = None,
    sampler: str | None = None,
    sets: Mapping[str, Any] | None = None,
    space: Mapping[str, Any] | None = None,
    listener: Listener | None = None,
) -> Stage:
    """Narrow the study `source` to where its trials did well, and search there with longer trials.

    Arguments and errors as for `coarse`; without `config`, data, model and training are those of the source.
    """
    base = _settings("fine", config, storage, None, None, None, None, None)
    db = open_database(base.run.storage, create=True)
    evidence = gather(db, source)
    stored = stored_config(evidence) if config is None else None
    settings = _settings("fine", config, storage, trials, epochs, sampler, sets, space, stored)
    plan, _ = keep_stored_ranges(db, plan_fine(evidence, settings, name), settings.ranges_given)
    return _run(db, plan, settings, listener)


def load(name: str, storage: str | None = None) -> Stage:
    """A study in the storage, whoever made it.

    Raises:
        StudyNotFoundError: none is called so.
    """
    db = open_database(_settings("coarse", None, storage, None, None, None, None, None).run.storage)
    return Stage(db, gather(db, name))


def _settings(
    kind: str,
    config: ConfigLike,
    storage: str | None,
    trials: int | None,
    epochs: int | None,
    sampler: str | None,
    sets: Mapping[str, Any] | None,
    space: Mapping[str, Any] | None,
    stored: Mapping[str, Any] | None = None,
) -> Settings:
    """A file or dict is the caller's, who vouches for the code that it names; the rest may come from the database."""
    file = config if isinstance(config, str | Path) else None
    document = config if isinstance(config, Mapping) else None
    stored = config.plain() if isinstance(config, StudyConfig) else stored
    given = {f"{kind}.trials": trials, f"{kind}.epochs": epochs, f"{kind}.sampler": sampler, "run.storage": storage}
    return load_settings(
        file,
        document=document,
        stored=stored,
        spaces=_range_flags(space or {}),
        flags={**given, **(sets or {})},
    )


def _range_flags(space: Mapping[str, Any]) -> Sequence[str]:
    def text(value: Any) -> str:
        if isinstance(value, str):
            return value
        [(form, ends)] = dict(value).items()
        return f"{form}({', '.join(map(repr, ends))})"

    return [f"{name}={text(value)}" for name, value in space.items()]


def _run(
    db: Database, plan: StagePlan, settings: Settings, listener: Listener | None, skip_checks: bool = False
) -> Stage:
    from hpsearch.search.checks.gate import check_before_search
    from hpsearch.search.images import load_data
    from hpsearch.search.session import run_stage

    for note in (*settings.notes, *plan.notes):
        listener.note(note) if listener is not None else log.warning(note)
    data = load_data(plan.trial_config, settings.run)
    if not skip_checks and (checks := check_before_search(db, plan, data)) is not None:
        checks.refuse_if_failed()
    evidence = run_stage(db, plan, settings.run, data, listener)
    return Stage(db, evidence)
