"""Images of the user's own making: `data.source = "module:function"`.

Shape suffixes: N = images, C = channels, H = height, W = width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from typing_extensions import override

from hpsearch.config.usercode import UserCodeError, blame, load
from hpsearch.datasets.arrays import as_images
from hpsearch.datasets.checks import check_images
from hpsearch.datasets.images import Array, Images, Source
from hpsearch.datasets.labels import read_classes
from hpsearch.datasets.splits import test_share
from hpsearch.errors import DataError

ALLOWED = "(x, y), ((x_train, y_train), (x_test, y_test)), or a dict of x_train, y_train, x_test, y_test, class_names"


@dataclass(frozen=True)
class UserArrays(Source):
    """What the user's `function(**options)` returns, in the shapes and types that `arrays.Npz` takes.

    Either `(x, y)`, of which 20% are set aside as the test split, always the same; or both splits, as pairs, as four
    arrays, or as a dict with the names of an npz file, where the test split may be missing. Arrays of NumPy, tensors
    of PyTorch, or what `numpy.asarray` takes. The function must return the same each time: it is called once per
    process, and what it gives is part of the search's identity.
    """

    name: str
    options: Mapping[str, Any]
    has_test = None  # unless it is called

    @property
    def description(self) -> str:  # type: ignore[override]
        """In words."""
        return f"what {self.name} returns"

    def _load(self, *, train: bool) -> Images:
        """One split; the function makes both, but what is not asked for is not looked at.

        Raises:
            RefusedError: the name is in the database alone; see `config.usercode`.
            UserCodeError: the function raises, or returns something else.
            DataError: the arrays are not fit to train on.
        """
        try:
            return self._choose(self.arrays, train=train)
        except DataError as error:
            raise DataError(f"{self.name}: {error}") from None

    @override
    def load_test_beside(self) -> Images | None:
        return self.load_test() if {"x_test", "y_test"} <= set(self.arrays) else None

    @cached_property
    def returned(self) -> Any:
        """What the function returns: it is called once, since it may take minutes."""
        function = load(self.name)
        shown = ", ".join(f"{key}={value!r}" for key, value in self.options.items())
        with blame(self.name, f"calling it with {shown or 'no arguments'}"):
            return function(**self.options)

    @cached_property
    def arrays(self) -> dict[str, Array]:
        """The same by the names of an npz file, or as x and y where it is not divided."""
        return self._by_name(self.returned)

    def _choose(self, arrays: Mapping[str, Array], *, train: bool) -> Images:
        if "x" in arrays:
            whole = self._split(arrays, "", "")
            check_images(whole, "")  # here, where rows are still those of the user's
            rows = test_share(whole.y)[0 if train else 1]
            return replace(whole, x=whole.x[rows], y=whole.y[rows], name_of=lambda row: int(rows[row]))
        if not train and ("x_test" not in arrays or "y_test" not in arrays):
            raise DataError("it returns no test split.\nAllowed: x_test and y_test beside x_train and y_train.")
        return self._split(arrays, "_train", "_train" if train else "_test")

    def _split(self, arrays: Mapping[str, Array], train: str, wanted: str) -> Images:
        """One split; the labels of the training split say what the classes are."""
        classes = read_classes(arrays[f"y{train}"], f"y{train}", arrays.get("class_names"))
        y = classes.number(arrays[f"y{wanted}"], f"y{wanted}")
        return Images(as_images(arrays[f"x{wanted}"], f"x{wanted}"), y, classes.names, notes=classes.notes)

    def _by_name(self, made: Any) -> dict[str, Array]:
        names = ("x_train", "y_train", "x_test", "y_test", "class_names")
        match made:
            case Mapping() if {"x_train", "y_train"} <= set(made) <= set(names):
                given = dict(made)
            case Mapping() if {"x", "y"} <= set(made) <= {"x", "y", "class_names"}:
                given = dict(made)
            case ((x_train, y_train), (x_test, y_test)) if isinstance(made[0], tuple):
                given = dict(zip(names, (x_train, y_train, x_test, y_test), strict=False))
            case tuple() if len(made) == 4:
                given = dict(zip(names, made, strict=False))
            case tuple() if len(made) == 2:
                given = {"x": made[0], "y": made[1]}
            case _:
                what = f"a dict of {', '.join(map(str, made))}" if isinstance(made, Mapping) else type(made).__name__
                what += f" of {len(made)}" if isinstance(made, tuple) else ""
                raise UserCodeError(f"{self.name} returns {what}.\nAllowed: {ALLOWED}.")
        with blame(self.name, "making arrays of what it returns"):
            return {key: np.asarray(value) for key, value in given.items()}
