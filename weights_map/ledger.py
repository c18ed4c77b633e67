"""The ledger: one row per tensor of a file and per parameter of a model.

:func:`weights_map.match` makes it. Checking, reading, saving and reporting all use the same rows.
"""

from __future__ import annotations

import html
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property

from weights_map import eightbit, report
from weights_map.errors import BadTensorError, UnknownNameError, WeightsMapError
from weights_map.mapping import WeightMap, cut, transposed
from weights_map.rows import LOADED, Row
from weights_map.safetensors import Checkpoint, Stack, View, as_view, stacked

Patterns = str | Iterable[str]


class MismatchError(WeightsMapError):
    """A file and a model differ: tensors are missing, unexpected, or of another shape.

    Attributes:
        ledger: all rows; ``print(error.ledger)`` shows them.
        rows: the rows that are wrong.
    """

    def __init__(self, message: str, ledger: Ledger, rows: Iterable[Row] = ()) -> None:
        self.ledger, self.rows = ledger, tuple(rows)
        super().__init__(message, [name for row in self.rows for name in row.targets or row.sources])


Mismatch = MismatchError  # the old name, for one version


@dataclass(frozen=True, eq=False)
class Ledger:
    """What becomes of each tensor of a file, and where each parameter of a model comes from.

    Attributes:
        map: the map that was matched with the file.
        checkpoint: the open file.
        rows: every tensor of the file and every wanted parameter, each in exactly one row.
        dims: sizes of the rules' symbols.
        prefix: the prefix of most tensors of the file.
        wanted: the model's parameters; None if the model wants all that the file has.
        wrapper: an outer prefix that the map does not have (``module.``), as of a model that was saved inside another.
    """

    map: WeightMap
    checkpoint: Checkpoint
    rows: tuple[Row, ...]
    dims: Mapping[str, int]
    prefix: str
    wanted: frozenset[str] | None
    wrapper: str = ""

    def __str__(self) -> str:
        return report.text(self)

    def __repr__(self) -> str:
        """The table, too: it is what an interactive session, of Python or of R, prints."""
        return str(self)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(report.text(self))}</pre>"

    # ---------------------------------------------------------------- checking and looking up

    def check(
        self, new: Patterns = (), unexpected: Patterns = (), shape: Patterns = (), advice: Mapping[str, str] = report.ADVICE
    ) -> Ledger:
        """The ledger, if file and model agree except where the caller allows a difference.

        Args:
            new: patterns (``head.*``) of parameters that may be absent from the file; their rows become ``new``.
            unexpected: patterns of tensors, as the file names them, that may be unknown; they are kept for saving.
            shape: patterns of parameters that may have another shape; they are not read.
            advice: how to accept a row, by its status, for the error message; for callers that wrap this method.

        Raises:
            MismatchError: something else is missing, unexpected or of another shape.
        """
        new, unexpected, shape = _as_tuple(new), _as_tuple(unexpected), _as_tuple(shape)
        rows, wrong = [], []
        for row in self.rows:
            if row.status == "missing" and _all_match(row.targets, new):
                row = replace(row, status="new")
            elif row.status == "unexpected" and _all_match(row.sources, unexpected):
                row = replace(row, note=row.note or "expected by the caller")
            elif row.status == "shape" and _all_match(row.targets, shape):
                row = replace(row, note=f"not read, as the caller requested: {row.note}")
            elif row.status in ("missing", "unexpected", "shape"):
                wrong.append(row)
            rows.append(row)
        if wrong:
            raise MismatchError(report.mismatch(self, wrong, advice), self, wrong)
        return replace(self, rows=tuple(rows))

    def ties(self) -> dict[str, str]:
        """Wanted parameters that share another parameter's tensor -> that other parameter."""
        tied = (target for row in self.rows if row.status == "tied" for target in row.targets)
        return {target: self.map.ties[target] for target in tied if self._wants(target)}

    @cached_property
    def eight_bits(self) -> frozenset[str]:
        """The parameters that the file stores as int8 with scales; see :mod:`weights_map.eightbit`."""
        return frozenset(
            target
            for row in self.rows
            if row.sources and all(eightbit.is_quantised(self.checkpoint, source) for source in row.sources)
            for target in row.targets
        )

    def find(self, name: str) -> list[Row]:
        """The row of a parameter, and the row of a tensor of that name: usually one, two if the name is both.

        Raises:
            UnknownNameError: it is neither; the message has the nearest name.
        """
        rows = [row for row in self.rows if name in row.targets] + [row for row in self.rows if name in row.sources]
        if not rows:
            near = report.hint(name, [known for row in self.rows for known in (*row.targets, *row.sources)])
            raise UnknownNameError(f"{name!r} is neither a parameter nor a tensor of {self.checkpoint.path}{near}", [name])
        return list(dict.fromkeys(rows))

    def explain(self, name: str) -> str:
        """Everything that is known about a parameter or a tensor of the file, one fact per line.

        Raises:
            UnknownNameError: it is neither; the message has the nearest name.
        """
        return "\n\n".join(report.explain(self, row) for row in self.find(name))

    def _wants(self, target: str) -> bool:
        return self.wanted is None or target in self.wanted

    # ---------------------------------------------------------------- reading

    def read(self, tied: bool = False) -> dict[str, View]:
        """The wanted parameters by name, as views of the mapped file.

        Only ``fused`` parameters and those that the file stores as int8 (they become F32) are copies. Views may be written to: the file
        does not change, but :meth:`save` writes the changed values of whatever it takes from the file.

        Args:
            tied: include tied parameters, as views of the parameter they are tied to; see :meth:`ties`.
        """
        values = {
            target: value
            for row in self.rows
            if row.status in LOADED
            for target, value in self._read_row(row).items()
            if self._wants(target)
        }
        if tied:
            values |= {target: values[other] for target, other in self.ties().items()}
        return values

    def _read_row(self, row: Row) -> dict[str, View]:
        parts = [eightbit.read(self.checkpoint, source) for source in row.sources]
        if len(parts) > 1:
            dtype, shape = stacked(row.targets[0], parts)
            joined = bytearray().join(part.buffer for part in parts)
            return {row.targets[0]: View(dtype, shape, memoryview(joined))}
        whole = parts[0].transposed() if self.transposed(row) else parts[0]
        pieces = cut(row.sources[0], whole, len(row.targets))
        return {target: piece for target, (piece,) in zip(row.targets, pieces)}

    # ---------------------------------------------------------------- saving

    def save(self, tensors: Mapping[str, object], path: str | os.PathLike[str], eight_bits: Iterable[str] = ()) -> None:
        """Write the file again with these parameters: same names, order, metadata and shards.

        Parameters that are left out, and tensors that are not parameters (carried, derived, unexpected), are written as the file has
        them; if nothing changed, the output is byte-identical. A changed dtype or shape, or a ``new`` parameter, needs a new header. A tied
        parameter is written with the values of the parameter it is tied to.

        Args:
            tensors: parameters by name: Views, arrays with the buffer protocol, bytes, or, once :mod:`weights_map.torch` is imported,
                torch tensors.
            path: a file, or a folder for a checkpoint of several shards. It may be the file that is open.
            eight_bits: those of ``tensors`` that are matrices to be quantised; see :mod:`weights_map.eightbit`. Matrices that the file
                stores as int8 stay int8.

        Raises:
            UnknownNameError: no row has a parameter of this name.
            BadTensorError: a value does not fit, or a tied parameter differs from the one it is tied to.
            BadFileError: the file cannot be written.
        """
        values = {target: self._view(target, tensor) for target, tensor in tensors.items()}
        quantise = set(eight_bits)
        changes: dict[str, Stack] = {}
        added: dict[str, View] = {}
        for row in self.rows:
            row_values = {target: values[target] for target in row.targets if target in values}
            if row.status in ("missing", "new"):
                added |= row_values
                continue
            requested = any(self.map.ties.get(target, target) in quantise for target in row.targets)
            for source, stack in self._row_stacks(row, row_values, values).items():
                small = requested or eightbit.is_quantised(self.checkpoint, source)
                changes |= _quantised(source, stack) if small else {source: stack}
        new = {self.wrapper + source: stack for source, stack in self.map.pack(added, self.prefix).items()}
        self.checkpoint.save(path, changes | new)

    @cached_property
    def _by_target(self) -> dict[str, Row]:
        return {target: row for row in self.rows for target in row.targets}

    def _view(self, target: str, tensor: object) -> View:
        row = self._by_target.get(target)
        if row is None:
            near = report.hint(target, self._by_target)
            raise UnknownNameError(f"cannot save {target!r}: it is not a parameter of this ledger{near}", [target])
        shape = (row.shape or ())[::-1] if self.transposed(row) else row.shape or ()
        if row.status == "split":
            shape = (shape[0] // len(row.targets), *shape[1:])
        try:
            return as_view(tensor, row.dtype or "F32", shape)
        except BadTensorError as error:
            raise BadTensorError(f"cannot save {target!r}: {error}", [target]) from None

    def transposed(self, row: Row) -> bool:
        """Whether the file has the matrix of a row's parameters with its dimensions swapped."""
        entry = self.map.rule_of(row.targets[0]) if row.targets else None
        return entry is not None and entry[0].transposed

    def _row_stacks(self, row: Row, row_values: dict[str, View], values: Mapping[str, View]) -> dict[str, Stack]:
        """The tensors of the file that a row's new values change."""
        if row.status == "tied":
            return self._tied_stacks(row, values)
        if not row_values:
            return {}
        if row.status == "split" or self.transposed(row):
            parts = (self._read_row(row) if len(row_values) < len(row.targets) else {}) | row_values
            stack = [parts[target] for target in row.targets]
            return {row.sources[0]: transposed(row.sources[0], stack) if self.transposed(row) else stack}
        (target,) = row.targets
        if len(row.sources) == 1:
            return {row.sources[0]: (row_values[target],)}
        sizes = [self.checkpoint.tensors[source].shape[0] for source in row.sources]
        return dict(zip(row.sources, cut(target, row_values[target], sizes)))

    def _tied_stacks(self, row: Row, values: Mapping[str, View]) -> dict[str, Stack]:
        (target,) = row.targets
        other = self.map.ties[target]
        own, shared = values.get(target), values.get(other)
        if own is not None and not own.equals(shared or self._read_row(self._by_target[other])[other]):
            raise BadTensorError(
                f"cannot save {target!r}: it is tied to {other!r}, but differs from it; leave it out", [target]
            )
        return {source: (shared,) for source in row.sources if shared is not None}


def _quantised(source: str, stack: Stack) -> dict[str, Stack]:
    """A tensor's parts as the parts of two tensors: the int8 matrix and its scales."""
    pairs = [eightbit.quantise(part) for part in stack]
    return {source: [matrix for matrix, _ in pairs], source + eightbit.SUFFIX: [scale for _, scale in pairs]}


def _as_tuple(patterns: Patterns) -> tuple[str, ...]:
    return (patterns,) if isinstance(patterns, str) else tuple(patterns)


def _all_match(names: Sequence[str], patterns: Sequence[str]) -> bool:
    return all(any(fnmatchcase(name, pattern) for pattern in patterns) for name in names)
