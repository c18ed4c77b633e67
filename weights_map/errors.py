"""Errors that this package raises on purpose. Each message says what is wrong, and then what to do.

::

    WeightsMapError
    ├── BadRuleError (ValueError)         a template, a rule or a map is not well formed
    │   └── AmbiguousRuleError            two rules match, or produce, the same name
    ├── BadFileError                      a file is absent, damaged, not safetensors, or holds NaN or infinity
    ├── BadTensorError (ValueError)       a value is not a tensor, or not one of the required dtype and shape
    ├── UnknownNameError (LookupError)    no tensor, parameter, prefix or family has this name
    └── MismatchError                     file and model differ; in weights_map.ledger, because it carries the ledger
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


class WeightsMapError(Exception):
    """Base class of all errors that weights_map raises on purpose.

    Attributes:
        names: the tensors, parameters or templates that are wrong; empty where the error is not about single ones.
    """

    def __init__(self, message: str, names: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.names = tuple(names)


class BadRuleError(WeightsMapError, ValueError):
    """A template, a rule or a map is not well formed: an error in the code that defines it."""


class AmbiguousRuleError(BadRuleError):
    """Two rules match, or produce, the same name, so the map is not a bijection; ``names`` has their two templates."""


class BadFileError(WeightsMapError):
    """A file is absent, damaged, not a safetensors file, not writable, or holds NaN or infinity.

    Attributes:
        path: the file or folder; None where tensors are checked that no longer belong to a file.
    """

    def __init__(self, reason: str, path: Path | None = None, names: Iterable[str] = ()) -> None:
        super().__init__(f"{path}: {reason}" if path else reason, names)
        self.path = path


class BadTensorError(WeightsMapError, ValueError):
    """A value is not a tensor, or its dtype or shape is not the required one."""


class UnknownNameError(WeightsMapError, LookupError):
    """No tensor, parameter, prefix or family has this name."""


# The old names, for one version
BadRule, Ambiguous, BadFile = BadRuleError, AmbiguousRuleError, BadFileError
BadTensor, UnknownName = BadTensorError, UnknownNameError
