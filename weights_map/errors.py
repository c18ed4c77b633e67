"""Errors that this package raises on purpose. Each message says what is wrong, and then what to do.

::

    WeightsMapError
    ├── BadRuleError (ValueError)         a template, a rule or a map is not well formed
    │   └── AmbiguousRuleError            two rules match, or produce, the same name
    ├── BadFileError                      a file is absent, damaged, not safetensors, or holds NaN or infinity
    ├── BadTensorError (ValueError)       a value is not a tensor, or not one of the required dtype and shape
    ├── UnknownNameError (LookupError)    no tensor, parameter, prefix or family has this name
    └── MismatchError                     file and model differ; in weights_map.ledger, because it carries the ledger

The names without ``Error`` are aliases for one version.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


class WeightsMapError(Exception):
    """Base class of all errors that weights_map raises on purpose."""


class BadRuleError(WeightsMapError, ValueError):
    """A template, a rule or a map is not well formed: an error in the code that defines it."""


class AmbiguousRuleError(BadRuleError):
    """Two rules match, or produce, the same name, so the map is not a bijection.

    Attributes:
        templates: the two templates that overlap.
    """

    def __init__(self, message: str, templates: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.templates = tuple(templates)


class BadFileError(WeightsMapError):
    """A file is absent, damaged, not a safetensors file, not writable, or holds NaN or infinity.

    Attributes:
        path: the file or folder; None where the tensors were checked after they had been read.
        tensors: names of the tensors that are wrong; empty where the file as a whole is.
    """

    def __init__(self, reason: str, path: Path | None = None, tensors: Iterable[str] = ()) -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.path = path
        self.tensors = tuple(tensors)


class BadTensorError(WeightsMapError, ValueError):
    """A value is not a tensor, or its dtype or shape is not the required one.

    Attributes:
        name: of the tensor or parameter; "" for a value that has no name yet.
    """

    def __init__(self, message: str, name: str = "") -> None:
        super().__init__(message)
        self.name = name


class UnknownNameError(WeightsMapError, LookupError):
    """No tensor, parameter, prefix or family has this name.

    Attributes:
        names: the unknown names.
    """

    def __init__(self, message: str, names: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.names = tuple(names)


BadRule, Ambiguous, BadFile = BadRuleError, AmbiguousRuleError, BadFileError
BadTensor, UnknownName = BadTensorError, UnknownNameError
