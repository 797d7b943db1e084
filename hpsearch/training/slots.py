"""Which trial is in which slot of a pack, and how far it is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from hpsearch.errors import EngineError


class Slots:
    """Numbers of trials by slot, None where nobody is, and the epochs that each has done.

    Raises:
        EngineError: there is none, or one is there twice.
    """

    def __init__(self, numbers: Sequence[int]) -> None:
        if not numbers:
            raise EngineError("a pack must have at least one trial.")
        if len(set(numbers)) < len(numbers):
            raise EngineError(f"a trial is in the pack twice: {list(numbers)}.")
        self.by_slot: list[int | None] = list(numbers)
        self.epochs = dict.fromkeys(numbers, 0)

    @property
    def numbers(self) -> tuple[int, ...]:
        """Of the trials, by slot."""
        return tuple(number for _, number in self.taken)

    @property
    def taken(self) -> list[tuple[int, int]]:
        """Slots of trials, with their numbers."""
        return [(slot, number) for slot, number in enumerate(self.by_slot) if number is not None]

    @property
    def vacant(self) -> list[int]:
        """Slots of nobody."""
        return [slot for slot, number in enumerate(self.by_slot) if number is None]

    @property
    def next_epochs(self) -> list[int]:
        """What each slot trains next; whatever another one trains, where nobody is."""
        any_ = self.epochs[self.numbers[0]] + 1
        return [any_ if number is None else self.epochs[number] + 1 for number in self.by_slot]

    def slot(self, number: int) -> int:
        """Where a trial is.

        Raises:
            EngineError: nowhere.
        """
        self.check([number])
        return self.by_slot.index(number)

    def check(self, numbers: Iterable[int]) -> None:
        """Whether they are here.

        Raises:
            EngineError: one is not.
        """
        if missing := sorted(set(numbers) - self.epochs.keys()):
            which = f"trial {missing[0]} is" if len(missing) == 1 else f"trials {missing} are"
            raise EngineError(f"{which} not in the pack.\nIn it: {list(self.numbers)}.")

    def put(self, slot: int, number: int) -> None:
        """A trial takes a slot, at its beginning."""
        self.by_slot[slot], self.epochs[number] = number, 0

    def vacate(self, leaving: Collection[int]) -> list[int]:
        """Trials leave; the slots that are free for it."""
        slots = [self.by_slot.index(number) for number in leaving]
        for slot in slots:
            number = self.by_slot[slot]
            assert number is not None
            self.by_slot[slot] = None
            del self.epochs[number]
        return slots

    def move_together(self) -> list[int]:
        """Free slots go; those that stay."""
        live = [slot for slot, _ in self.taken]
        self.by_slot = [self.by_slot[slot] for slot in live]
        return live
