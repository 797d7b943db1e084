"""scikit-learn, and skorch by way of it: cross-validation of an estimator as an objective."""

from __future__ import annotations

import copy
import json
import random
import sys
import traceback
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.model_selection import check_cv, cross_validate

SCORES = "scores.json"
FOLDS_SEED = 0  # of a splitter that has none: all trials, in whatever process, see the same folds


def cross_validated(
    estimator: Any,
    X: Any,
    y: Any = None,
    *,
    cv: Any = 5,
    scoring: str | Callable[..., float] | None = None,
    groups: Any = None,
    error_score: float | Literal["raise"] = "raise",
) -> CrossValidated:
    """An objective: the mean score of an estimator over the folds of cross-validation, reported fold by fold.

    To be assigned in a module of the user's, `objective = cross_validated(...)`, and named as `module:objective`.

    Args:
        estimator: of scikit-learn, a Pipeline, a net of skorch; it is cloned for each fold. A trial's parameters are
            set by name, as `set_params` takes them: `C`, `svc__C`, `module__width`.
        X: images, rows: what `fit` takes.
        y: labels.
        cv: number of folds, or a splitter, or (train, test) pairs. All trials see the same folds.
        scoring: as scikit-learn has it, greater is better: "f1_macro", or a function of (estimator, X, y); None for the
            estimator's own.
        groups: what stays in one fold, for a splitter that asks for it.
        error_score: what a fold counts as whose fit or score raises; nan is an explosion. "raise": the trial fails.
    """
    made = CrossValidated(estimator, X, y, cv, scoring, groups, error_score)
    # As a function that is defined there: it belongs to whoever is trusted with the module.
    made.__module__ = sys._getframe(1).f_globals.get("__name__", __name__)
    return made


class CrossValidated:
    """What `cross_validated` makes."""

    __name__ = "cross_validated"

    def __init__(
        self,
        estimator: Any,
        X: Any,
        y: Any,
        cv: Any,
        scoring: str | Callable[..., float] | None,
        groups: Any,
        error_score: float | Literal["raise"],
    ) -> None:
        self.estimator, self.X, self.y, self.scoring = estimator, X, y, scoring
        self.error_score = error_score
        if getattr(cv, "random_state", FOLDS_SEED) is None:
            cv = copy.copy(cv)
            cv.random_state = FOLDS_SEED
        splitter = check_cv(cv, y, classifier=is_classifier(estimator))
        self.folds = list(splitter.split(X, y, groups))

    def __call__(
        self, params: Mapping[str, Any], report: Callable[..., None], checkpoint: Path, seed: int, device: str
    ) -> float:
        """The mean score; that of the folds so far is reported after each, with the number of folds.

        Raises:
            TrialEnded: the trial is to end.
            ValueError: the estimator has no such parameter.
        """
        candidate = clone(self.estimator).set_params(**params)
        candidate.set_params(**_given(candidate, params, seed, device))
        scores = _kept(checkpoint / SCORES)
        for number, fold in enumerate(self.folds[len(scores) :], len(scores) + 1):
            scores.append(self._score(clone(candidate), fold, seed))
            _keep(checkpoint / SCORES, scores)
            report(float(np.mean(scores)), number)
        return float(np.mean(scores))

    def _score(self, candidate: Any, fold: tuple[Any, Any], seed: int) -> float:
        random.seed(seed)  # what has no random_state draws from these
        np.random.seed(seed)
        if (torch := sys.modules.get("torch")) is not None:
            torch.manual_seed(seed)
        try:
            found = cross_validate(candidate, self.X, self.y, cv=[fold], scoring=self.scoring, error_score="raise")
            return float(found["test_score"][0])
        except Exception:
            if self.error_score == "raise":
                raise
            traceback.print_exc()  # to the trial's output
            return float(self.error_score)


def _given(estimator: Any, searched: Container[str], seed: int, device: str) -> dict[str, Any]:
    """Seed and device, for all parts of an estimator that have such a parameter, unless the trial says otherwise."""
    offered = {"random_state": seed, "device": device}
    names = [name for name in estimator.get_params() if name not in searched]
    return {name: offered[last] for name in names if (last := name.rpartition("__")[2]) in offered}


def _keep(path: Path, scores: list[float]) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(scores))
    beside.replace(path)  # whole or not at all


def _kept(path: Path) -> list[float]:
    """Of the folds that an attempt which was killed had done."""
    return [float(score) for score in json.loads(path.read_text())] if path.exists() else []
