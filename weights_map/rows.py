"""A row of the ledger: one tensor of a file, or one parameter of a model, and what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal[
    "loaded",  # one tensor is one parameter
    "split",  # one tensor is cut into several parameters
    "fused",  # several tensors are joined into one parameter
    "tied",  # the parameter shares another parameter's tensor; the file omits it, or repeats the same bytes
    "untied",  # the map ties the parameter, but the file has other bytes: read as a parameter of its own
    "carried",  # of an optional part that this model does not have; kept for saving
    "derived",  # a buffer that the model computes itself; kept for saving
    "scale",  # the scales of a tensor that is stored as int8
    "new",  # not in the file; the caller allowed that
    "missing",  # a parameter of the model that the file does not have in full
    "unexpected",  # a tensor of the file that no rule, or no parameter of the model, matches
    "shape",  # its shape or dtype is not the one that the map and the config require
]

LOADED: frozenset[Status] = frozenset({"loaded", "split", "fused", "untied"})
"""The statuses of rows whose parameters are read from the file."""


@dataclass(frozen=True)
class Row:
    """One tensor of the file or one parameter of the model; several of them where a rule splits or fuses.

    Attributes:
        status: what becomes of it.
        sources: names of the tensors, as the file writes them.
        targets: names of the parameters.
        shape: shape of the whole tensor; the required one where the file has none (None if unknown).
        dtype: dtype in the file, "" where it has none.
        rule: the rule as text, "" where none matches.
        prefix, spelling: how the file writes the source, where that differs from the rule.
        note: the reason for the status.
    """

    status: Status
    sources: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    shape: tuple[int, ...] | None = None
    dtype: str = ""
    rule: str = ""
    prefix: str = ""
    spelling: str = ""
    note: str = ""
