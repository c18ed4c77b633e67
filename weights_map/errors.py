"""Every error this package raises on purpose. Each message says what is wrong and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from weights_map.ledger import Ledger


class WeightsMapError(Exception):
    """Base class: ``except WeightsMapError`` catches all that weights_map raises on purpose."""


class BadRule(WeightsMapError, ValueError):
    """A template, a rule or a map is not well formed: a mistake of whoever wrote it."""


class Ambiguous(BadRule):
    """Two rules of a map could claim the same name, so the map would be no bijection."""


class BadFile(WeightsMapError):
    """A file is absent, damaged, not what its name says, or holds numbers that are not finite."""


class BadTensor(WeightsMapError, ValueError):
    """A value handed over for saving is no tensor, or does not fit the place it should go to."""


class UnknownName(WeightsMapError, LookupError):
    """A name that neither the file, nor the model, nor the map knows."""


class Mismatch(WeightsMapError):
    """A file and a model do not agree: tensors are missing, left over, or of another shape.

    Attributes:
        ledger: the whole account, one row per tensor; ``print(error.ledger)`` shows it.
    """

    def __init__(self, message: str, ledger: Ledger) -> None:
        super().__init__(message)
        self.ledger = ledger
