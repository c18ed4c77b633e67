"""Errors and warnings of nativebert. Each message says what happened and what to do about it.

::

    NativeBertError
     +-- NotFoundError          the model, file or revision does not exist
     +-- UnauthorizedError      the Hub asks for a token
     |    +-- GatedError        the model's terms must be accepted first
     +-- OfflineError           offline mode, and the file is not on this machine
     +-- UnreachableError       the Hub or the network does not answer
     +-- CorruptError           a damaged file
     +-- DiskFullError          no room for a download or the output
     +-- RefusedError           understood, but not supported: the result would be wrong, or foreign code would run
     |    +-- NotFiniteError    hidden states overflow the precision
     +-- TooLongError           a text of more tokens than the limit
     +-- OutOfMemoryError       one text needs more memory than the device has
     +-- DivergedError          the loss of training is infinite or NaN
     +-- InterruptedRunError    training was stopped by a signal, after a checkpoint
     +-- BadInputError          an argument or a text that cannot be used; a ValueError too
     +-- NotInstalledError      a package that nativebert needs is missing; an ImportError too
    NativeBertWarning
     +-- Truncated, SmallerBatches, Unread, Assumed, NewlyInitialized, Doubtful, nativebert.hub.CachedCopy

Errors about a weight file and its tensors come from :mod:`weights_map` (``weights_map.WeightsMapError``).
"""

from __future__ import annotations

import sys
import warnings
from importlib.util import find_spec

REQUIRED = ("torch", "numpy", "safetensors", "tokenizers", "huggingface_hub")


class NativeBertError(Exception):
    """Base class: ``except NativeBertError`` catches all that nativebert raises on purpose."""


class NotFoundError(NativeBertError):
    """The model, the file or the revision does not exist where it was looked for."""


class UnauthorizedError(NativeBertError):
    """The Hub wants a token, or refuses the one it was given."""


class GatedError(UnauthorizedError):
    """The model is gated: its terms must be accepted on its page before it can be downloaded."""


class OfflineError(NativeBertError):
    """The file is not on this machine and offline mode forbids fetching it."""


class UnreachableError(NativeBertError):
    """The Hub, or the network on the way to it, does not answer."""


class CorruptError(NativeBertError):
    """A file is damaged: truncated, not what its hash says, or not in its format."""


class DiskFullError(NativeBertError):
    """The disk has no room for the download or the output."""


class RefusedError(NativeBertError):
    """Understood, and declined: going on would change the numbers or run foreign code."""


class NotFiniteError(RefusedError):
    """Hidden states of a text are infinite or NaN in this precision, so there is no result."""


class DivergedError(NativeBertError):
    """The loss or a gradient of training is infinite or NaN. Nothing was written since the last checkpoint."""


class InterruptedRunError(NativeBertError):
    """A training run was stopped by a signal, after a checkpoint was written from which it can go on."""


class TooLongError(NativeBertError):
    """A text has more tokens than the model takes, and ``too_long="error"`` was asked for.

    Attributes:
        tokens: tokens of the text; None where no single text is meant.
        limit: the most that are allowed; None likewise.
    """

    def __init__(self, message: str, tokens: int | None = None, limit: int | None = None) -> None:
        super().__init__(message)
        self.tokens, self.limit = tokens, limit


class OutOfMemoryError(NativeBertError):
    """A single text needs more memory than the device has.

    Attributes:
        tokens: tokens of that text.
    """

    def __init__(self, message: str, tokens: int | None = None) -> None:
        super().__init__(message)
        self.tokens = tokens


class BadInputError(NativeBertError, ValueError):
    """An argument or a text that cannot be used."""


class NotInstalledError(NativeBertError, ImportError):
    """A package that nativebert needs is not installed.

    Attributes:
        names: the packages that are missing.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
        verb, pronoun = ("is", "it") if len(names) == 1 else ("are", "them")
        message = f"{listed} {verb} not installed, and nativebert needs {pronoun}: pip install {' '.join(names)}"
        super().__init__(message, name=names[0])
        self.names = names


def missing_packages() -> tuple[str, ...]:
    """Those of :data:`REQUIRED` that are not installed; none is imported."""

    def missing(name: str) -> bool:
        try:
            return name not in sys.modules and find_spec(name) is None
        except ImportError:
            return True

    return tuple(filter(missing, REQUIRED))


def check_installed() -> None:
    """Raises :class:`NotInstalledError` in place of a traceback out of the middle of an import."""
    if missing := missing_packages():
        raise NotInstalledError(missing)


class NativeBertWarning(UserWarning):
    """Base class of nativebert's warnings."""


class Truncated(NativeBertWarning):
    """Some texts were longer than the model takes, and were cut; the message counts them."""


class SmallerBatches(NativeBertWarning):
    """A batch did not fit the device's memory, and smaller ones were run."""


class Slower(NativeBertWarning):
    """The device has faster code that cannot be used here; the message says why."""


class Unread(NativeBertWarning):
    """A weight file holds tensors that nothing here knows, beside all that the model needs."""


class Assumed(NativeBertWarning):
    """A folder does not say something that changes the result, and the usual was assumed."""


class NewlyInitialized(NativeBertWarning):
    """Parameters of a model are random, as its weight file does not have them: train the model before its results are used."""


class Doubtful(NativeBertWarning):
    """A file of texts or vectors was read, and may not hold what was meant; the message says where to look."""


def heard() -> bool:
    """Whether standard error is open: programs without a console have none (pythonw, PyInstaller), and some close it."""
    return sys.stderr is not None and not getattr(sys.stderr, "closed", False)


def warn(message: str, category: type[NativeBertWarning]) -> None:
    """Warn at the code that called into nativebert, each time: Python's default filter shows a warning once for each place in the code,
    so that from a program's second call on a cut text would go by in silence. Filters that the user set (``ignore``, ``error``, ...) hold."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "nativebert":
        frame = frame.f_back
    module = frame.f_globals.get("__name__") or "<unknown>"
    # an empty registry of what was shown, where warnings.warn takes that of the caller's module
    warnings.warn_explicit(message, category, frame.f_code.co_filename, frame.f_lineno, module, registry={})


# The names of version 0.1, for one version more.
NotFound, Unauthorized, Gated, Offline, Unreachable = (
    NotFoundError,
    UnauthorizedError,
    GatedError,
    OfflineError,
    UnreachableError,
)
Corrupt, DiskFull, Refused, NotFinite = CorruptError, DiskFullError, RefusedError, NotFiniteError
TooLong, OutOfMemory, BadInput = TooLongError, OutOfMemoryError, BadInputError
