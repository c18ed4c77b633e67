"""A map applied to one file: an account in which every tensor stands once, with what becomes of it.

Loading, saving, explaining and reporting all read the same rows. Drawing up a ledger reads the file's
headers only; the one exception are tied tensors that are in the file, whose bytes have to be compared.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Literal

from weights_map import eightbit, report
from weights_map.errors import BadTensor, Mismatch, UnknownName
from weights_map.mapping import Claim, WeightMap, cut
from weights_map.rules import Rule
from weights_map.safetensors import Checkpoint, Stack, TensorInfo, View, describe, same_bytes, stacked

Status = Literal[
    "loaded",  # one tensor is one parameter
    "split",  # one tensor is cut into several parameters
    "fused",  # several tensors are joined into one parameter
    "tied",  # the parameter shares another one's tensor: it is absent, or there with the same bytes
    "untied",  # a tie is foreseen, but the file has other bytes: read as a parameter of its own
    "carried",  # of a part that this model leaves out; kept for saving
    "derived",  # nothing to learn in it; kept for saving
    "scale",  # what one is worth in each row of a tensor stored in eight bits
    "new",  # not in the file, as the caller expected
    "missing",  # wanted, and not (wholly) in the file
    "unexpected",  # in the file, and nobody knows what for
    "shape",  # of another shape or dtype than it should be
]

LOADED: frozenset[Status] = frozenset({"loaded", "split", "fused", "untied"})
"""The statuses of rows whose parameters are read from the file."""

Patterns = str | Iterable[str]


@dataclass(frozen=True)
class Row:
    """One line of the account.

    Attributes:
        status: what becomes of it.
        sources: the tensors' names as they stand in the file.
        targets: the parameters' names.
        shape: of the whole tensor; where there is none, as it should be (None if that is unknown).
        dtype: as in the file, "" where there is none.
        rule: the rule as text, "" where there is none.
        prefix, spelling: how the file writes the source, where it differs from the rule.
        note: what a reader should know besides.
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


@dataclass(frozen=True, eq=False)
class Ledger:
    """The account of one file. Made by :meth:`WeightMap.on`.

    Attributes:
        map: the map.
        checkpoint: the file.
        rows: every tensor of the file and every wanted parameter, each in exactly one row.
        dims: the rules' symbols and their sizes.
        prefix: the prefix that most of the file's tensors carry.
        wanted: the model's parameters; None if all were wanted that the file gives.
        wrapper: what stands before the file's names besides, and says nothing: ``module.``, as of a model that was saved inside another.
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

    # ---------------------------------------------------------------- asking

    def check(
        self, new: Patterns = (), unexpected: Patterns = (), shape: Patterns = (), advice: Mapping[str, str] = report.ADVICE
    ) -> Ledger:
        """The ledger, if file and model agree but for what the caller names.

        Args:
            new: patterns (``head.*``) of parameters that the file need not have; their rows become ``new``.
            unexpected: patterns of tensors, as named in the file, that nobody needs to know; kept for saving.
            shape: patterns of parameters whose shape may differ; they are not read.
            advice: what the error should say of how to accept a row, by its status; for those who do not call this themselves.

        Raises:
            Mismatch: something is missing, unexpected or of another shape, and was not named.
        """
        new, unexpected, shape = _patterns(new), _patterns(unexpected), _patterns(shape)
        rows, wrong = [], []
        for row in self.rows:
            if row.status == "missing" and all(_matches(target, new) for target in row.targets):
                row = replace(row, status="new")
            elif row.status == "unexpected" and all(_matches(source, unexpected) for source in row.sources):
                row = replace(row, note=row.note or "expected by the caller")
            elif row.status == "shape" and all(_matches(target, shape) for target in row.targets):
                row = replace(row, note=f"not read, as the caller said: {row.note}")
            elif row.status in ("missing", "unexpected", "shape"):
                wrong.append(row)
            rows.append(row)
        if wrong:
            raise Mismatch(report.mismatch(self, wrong, advice), self)
        return replace(self, rows=tuple(rows))

    def ties(self) -> dict[str, str]:
        """Wanted parameters that share another one's tensor -> that other parameter."""
        tied = (target for row in self.rows if row.status == "tied" for target in row.targets)
        return {target: self.map.ties[target] for target in tied if self._wants(target)}

    @cached_property
    def eight_bits(self) -> frozenset[str]:
        """The parameters that the file has in eight bits with scales; see :mod:`weights_map.eightbit`."""
        return frozenset(
            target
            for row in self.rows
            if row.sources and all(_has_scale(self.checkpoint, source) for source in row.sources)
            for target in row.targets
        )

    def find(self, name: str) -> list[Row]:
        """The rows in which a name stands, as a parameter or as a tensor of the file: two where it is both.

        Raises:
            UnknownName: it stands in none.
        """
        rows = [row for row in self.rows if name in row.targets] + [row for row in self.rows if name in row.sources]
        if not rows:
            known = [known for row in self.rows for known in (*row.targets, *row.sources)]
            raise UnknownName(
                f"{name!r} is neither a parameter nor a tensor of {self.checkpoint.path}{report.hint(name, known)}"
            )
        return list(dict.fromkeys(rows))

    def explain(self, name: str) -> str:
        """All that is known of a parameter, or of a tensor of the file, in plain words.

        Raises:
            UnknownName: it is neither; the message has the nearest name.
        """
        return "\n\n".join(report.explain(self, row) for row in self.find(name))

    def _wants(self, target: str) -> bool:
        return self.wanted is None or target in self.wanted

    # ---------------------------------------------------------------- reading

    def read(self, tied: bool = False) -> dict[str, View]:
        """The wanted parameters as views of the mapped file, by name. Only ``fused`` ones are copies, and those that the file has in eight
        bits with scales: these are F32.

        Args:
            tied: whether tied parameters are there, too, as views of what they are tied to; see :meth:`ties`.

        The views may be written to: the file does not change, but what :meth:`save` takes from it does.
        """
        values = {
            target: value
            for row in self.rows
            if row.status in LOADED
            for target, value in self._values(row).items()
            if self._wants(target)
        }
        if tied:
            values |= {target: values[other] for target, other in self.ties().items()}
        return values

    def _values(self, row: Row) -> dict[str, View]:
        parts = [_floats(self.checkpoint, source) for source in row.sources]
        if len(parts) > 1:
            dtype, shape = stacked(row.targets[0], parts)
            joined = bytearray().join(part.buffer for part in parts)
            return {row.targets[0]: View(dtype, shape, memoryview(joined))}
        pieces = cut(row.sources[0], parts[0], len(row.targets))
        return {target: piece for target, (piece,) in zip(row.targets, pieces)}

    # ---------------------------------------------------------------- saving

    def save(self, tensors: Mapping[str, object], path: str | os.PathLike[str], eight_bits: Iterable[str] = ()) -> None:
        """Writes the file anew with these parameters in it: same names, order, metadata and shards.

        What is not given, or is no parameter (carried, derived, unexpected), is written as the file has it;
        byte for byte the same file comes out if nothing was changed. Another dtype or shape, or a parameter
        that the file did not have (``new``), give the file a fresh header. A tied parameter follows the one
        that it is tied to.

        Args:
            tensors: parameters by name: Views, torch tensors, arrays with the buffer protocol, or bare bytes.
            path: a file, or a folder for a checkpoint of several shards. It may be the file itself.
            eight_bits: those of ``tensors`` that are matrices to be written as I8 with scales; see :mod:`weights_map.eightbit`. Matrices
                that the file has so already stay so.

        Raises:
            UnknownName: a parameter that stands in no row.
            BadTensor: a value does not fit, or a tied parameter differs from what it is tied to.
            BadFile: the file cannot be written.
        """
        values = {target: self._value(target, tensor) for target, tensor in tensors.items()}
        changes: dict[str, Stack] = {}
        added: dict[str, View] = {}
        small = set(eight_bits)
        for row in self.rows:
            given = {target: values[target] for target in row.targets if target in values}
            if row.status == "tied":
                found = self._follow(row, values)
            elif not given:
                continue
            elif row.status in ("missing", "new"):
                added |= given
                continue
            else:
                found = self._sources(row, given)
            asked = any(self.map.ties.get(target, target) in small for target in row.targets)
            for source, stack in found.items():
                changes |= _in_eight_bits(source, stack) if asked or _has_scale(self.checkpoint, source) else {source: stack}
        new = {self.wrapper + source: stack for source, stack in self.map.pack(added, self.prefix).items()}
        self.checkpoint.save(path, changes | new)

    @cached_property
    def _by_target(self) -> dict[str, Row]:
        return {target: row for row in self.rows for target in row.targets}

    def _value(self, target: str, tensor: object) -> View:
        row = self._by_target.get(target)
        if row is None:
            near = report.hint(target, self._by_target)
            raise UnknownName(f"cannot save {target!r}: it is no parameter of this ledger{near}")
        shape = row.shape or ()
        if row.status == "split":
            shape = (shape[0] // len(row.targets), *shape[1:])
        try:
            return View.of(tensor, row.dtype or "F32", shape)
        except BadTensor as error:
            raise BadTensor(f"cannot save {target!r}: {error}") from None

    def _sources(self, row: Row, given: Mapping[str, View]) -> dict[str, Stack]:
        if row.status == "split":
            rest = self._values(row) if len(given) < len(row.targets) else {}
            return {row.sources[0]: tuple(given[target] if target in given else rest[target] for target in row.targets)}
        (target,) = row.targets
        if len(row.sources) == 1:
            return {row.sources[0]: (given[target],)}
        sizes = [self.checkpoint.tensors[source].shape[0] for source in row.sources]
        return dict(zip(row.sources, cut(target, given[target], sizes)))

    def _follow(self, row: Row, values: Mapping[str, View]) -> dict[str, Stack]:
        (target,) = row.targets
        other = self.map.ties[target]
        own, shared = values.get(target), values.get(other)
        if own is not None:
            leader = shared or self._values(self._by_target[other])[other]
            if (own.dtype, own.shape) != (leader.dtype, leader.shape) or not same_bytes(own.buffer, leader.buffer):
                raise BadTensor(f"cannot save {target!r}: it is tied to {other!r}, but differs from it; leave it out")
        return {source: (shared,) for source in row.sources if shared is not None}


def _has_scale(checkpoint: Checkpoint, source: str) -> bool:
    """Whether a tensor of the file is stored in eight bits, with scales beside it."""
    whole, scale = (checkpoint.tensors.get(name) for name in (source, source + eightbit.SUFFIX))
    return whole is not None and scale is not None and not eightbit.misfit(whole.dtype, whole.shape, scale.dtype, scale.shape)


def _floats(checkpoint: Checkpoint, source: str) -> View:
    """A tensor of the file; restored, where it is stored in eight bits."""
    view = checkpoint.view(source)
    return eightbit.restore(view, checkpoint.view(source + eightbit.SUFFIX)) if _has_scale(checkpoint, source) else view


def _in_eight_bits(source: str, stack: Stack) -> dict[str, Stack]:
    """A tensor's parts as the parts of two: itself in eight bits, and its scales."""
    pairs = [eightbit.quantise(part) for part in stack]
    return {source: [units for units, _ in pairs], source + eightbit.SUFFIX: [scale for _, scale in pairs]}


def _patterns(patterns: Patterns) -> tuple[str, ...]:
    return (patterns,) if isinstance(patterns, str) else tuple(patterns)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


# -------------------------------------------------------------------- drawing up


def draw(
    weight_map: WeightMap,
    checkpoint: Checkpoint,
    wanted: Iterable[str] | None,
    dims: Mapping[str, int] | None,
    wrapper: str = "",
) -> Ledger:
    """The ledger of a file; see :meth:`WeightMap.on`."""
    return _Draft(weight_map, checkpoint, wanted, dims, wrapper).ledger()


@dataclass(frozen=True)
class _Entry:
    """All tensors of a file that one rule claims for one value of its slots."""

    rule: Rule
    bindings: Mapping[str, int]
    sources: tuple[str, ...]  # the rule's sources that the file has
    absent: tuple[str, ...]  # and those it lacks, as we would write them
    infos: tuple[TensorInfo, ...]
    prefix: str
    spelling: str

    @property
    def targets(self) -> tuple[str, ...]:
        return tuple(template.fill(self.bindings) for template in self.rule.targets)

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The shape of the whole, or None where the parts do not make one."""
        first, *others = (info.shape for info in self.infos)
        if not others:
            return first
        if not first or any(other[1:] != first[1:] or not other for other in others):
            return None
        return (first[0] + sum(other[0] for other in others), *first[1:])


class _Draft:
    """A ledger while it is drawn up."""

    def __init__(
        self,
        weight_map: WeightMap,
        checkpoint: Checkpoint,
        wanted: Iterable[str] | None,
        dims: Mapping[str, int] | None,
        wrapper: str,
    ) -> None:
        self.map = weight_map
        self.wrapper = wrapper
        self.checkpoint = checkpoint
        self.wanted = None if wanted is None else list(dict.fromkeys(wanted))
        self.wanted_set = None if wanted is None else frozenset(self.wanted or ())
        self.rows: list[Row] = []
        self.entries: list[_Entry] = []
        self._sort_tensors()
        self.given = dict(dims or {})
        self.dims = self._solved() | self.given

    def ledger(self) -> Ledger:
        for entry in self.entries:
            self.rows.append(self._judge(entry))
        place = {name: at for at, name in enumerate(self.checkpoint.tensors)}
        self.rows.sort(key=lambda row: place[row.sources[0]])
        self._tie()
        self._add_absent()
        return Ledger(
            self.map,
            self.checkpoint,
            tuple(self.rows),
            dict(sorted(self.dims.items())),
            self.prefix,
            self.wanted_set,
            self.wrapper,
        )

    def _sort_tensors(self) -> None:
        """Every tensor of the file goes to an entry, or straight to a row."""
        groups: dict[tuple[Rule, tuple[tuple[str, int], ...]], list[tuple[str, Claim]]] = defaultdict(list)
        prefixes: Counter[str] = Counter()
        for name, info in self.checkpoint.tensors.items():
            claim = self.map.claim(name.removeprefix(self.wrapper))
            whole = name.removesuffix(eightbit.SUFFIX)
            if (
                claim is None
                and whole != name
                and self.map.targets_of(whole.removeprefix(self.wrapper))
                and _has_scale(self.checkpoint, whole)
            ):
                self._tensor_row("scale", info, note=f"of {whole}")
            elif claim is None:
                self._tensor_row("unexpected", info, note=f"no rule of map {self.map.name!r} knows this name")
            elif claim.form.rule is None:
                self._tensor_row("derived", info, prefix=claim.form.prefix, spelling=claim.form.spelling)
            else:
                groups[claim.form.rule, claim.bindings].append((name, claim))
                if self.map.takes_prefix(claim.form.rule):
                    prefixes[claim.form.prefix] += 1
        # most tensors decide; where as many carry one as another, the one listed first
        self.prefix = max(self.map.prefixes, key=lambda prefix: prefixes[prefix])
        self.entries = [self._entry(rule, dict(bindings), found) for (rule, bindings), found in groups.items()]

    def _tensor_row(self, status: Status, info: TensorInfo, prefix: str = "", spelling: str = "", note: str = "") -> None:
        self.rows.append(Row(status, (info.name,), (), info.shape, info.dtype, "", prefix, spelling, note))

    def _entry(self, rule: Rule, bindings: dict[str, int], found: list[tuple[str, Claim]]) -> _Entry:
        chosen: dict[int, tuple[str, Claim]] = {}
        for name, claim in sorted(found, key=lambda item: item[1].form.rank):
            first, _ = chosen.setdefault(claim.form.part, (name, claim))
            if first != name:
                note = f"a second copy of {first!r}, which is the one that is used"
                self._tensor_row("unexpected", self.checkpoint.tensors[name], claim.form.prefix, claim.form.spelling, note)
        forms = [claim.form for _, (_, claim) in sorted(chosen.items())]
        names = tuple(chosen[part][0] for part in sorted(chosen))
        target = rule.targets[0].fill(bindings)
        expected = self._sources_of(target)
        absent = tuple(name for part, name in enumerate(expected) if part not in chosen)
        infos = tuple(self.checkpoint.tensors[name] for name in names)
        return _Entry(rule, bindings, names, absent, infos, forms[0].prefix, forms[0].spelling)

    def _solved(self) -> dict[str, int]:
        """The symbols' sizes by vote of the file's tensors: no order decides, and no odd tensor."""
        votes: dict[str, Counter[int]] = defaultdict(Counter)
        for entry in self.entries:
            shape = entry.shape
            if entry.absent or shape is None or len(shape) != len(entry.rule.dims):
                continue
            for dim, size in zip(entry.rule.shape, shape):
                if dim.symbol is not None and size % dim.factor == 0:
                    votes[dim.symbol][size // dim.factor] += 1
        return {symbol: max(sizes, key=lambda size: (sizes[size], size)) for symbol, sizes in votes.items()}

    def _sources_of(self, target: str) -> tuple[str, ...]:
        """The tensors that should give a parameter, as this file would write them."""
        return tuple(self.wrapper + source for source in self.map.sources_of(target, self.prefix))

    def _wants(self, target: str) -> bool:
        return self.wanted_set is None or target in self.wanted_set

    def _judge(self, entry: _Entry) -> Row:
        targets = entry.targets
        wanted = [target for target in targets if self._wants(target)]
        status: Status = entry.rule.kind
        note = ""
        if not wanted:
            if all(map(self.map.may_leave_out, targets)):
                status, note = "carried", ""
            else:
                status, note = "unexpected", "the model has no such parameter"
        elif entry.absent:
            status, note = "missing", f"the file lacks {', '.join(entry.absent)}"
        elif complaint := self._complaint(entry):
            status, note = "shape", complaint
        elif len(wanted) < len(targets):
            note = f"the model has only {', '.join(wanted)}"
        return Row(
            status,
            entry.sources,
            targets,
            entry.shape,
            "/".join(sorted({info.dtype for info in entry.infos})),
            str(entry.rule),
            entry.prefix,
            entry.spelling,
            note,
        )

    def _complaint(self, entry: _Entry) -> str:
        """Why a tensor's shape or dtype is not what it should be, or ""."""
        if len({info.dtype for info in entry.infos}) > 1:
            return f"parts of different dtypes: {', '.join(info.dtype for info in entry.infos)}"
        shape, rule = entry.shape, entry.rule
        if shape is None:
            return f"parts that do not fit: {', '.join(describe('', info.shape) for info in entry.infos)}"
        sizes = [dim.size(self.dims) for dim in rule.shape]
        if len(shape) != len(sizes) or any(have != size for have, size in zip(shape, sizes)):
            return f"file has {describe('', shape)}, {self._expectation(rule, shape)}"
        if rule.kind == "split" and shape[0] % len(rule.targets):
            return f"{shape[0]} rows cannot be cut into {len(rule.targets)} equal parts"
        return ""

    def _expectation(self, rule: Rule, shape: tuple[int, ...]) -> str:
        if len(shape) != len(rule.dims):
            return f"the map says {' x '.join(rule.dims) or '()'}"
        wrong = [dim for dim, have in zip(rule.shape, shape) if dim.size(self.dims) != have]
        says = []
        for dim in dict.fromkeys(wrong):
            if dim.symbol is None:
                says.append(f"the map says {dim.text}")
            else:
                who = "config says" if dim.symbol in self.given else "the file's other tensors say"
                times = "" if dim.text == dim.symbol else f" and the map {dim.text}"
                says.append(f"{who} {dim.symbol}={self.dims.get(dim.symbol, '?')}{times}")
        return ", ".join(says)

    def _tie(self) -> None:
        """Rows of tied parameters that are in the file: is it still the same tensor?"""
        place = {target: at for at, row in enumerate(self.rows) for target in row.targets}
        for target, other in self.map.ties.items():
            if target not in place or other not in place:
                continue
            row, leader = self.rows[place[target]], self.rows[place[other]]
            if leader.status not in LOADED or not self._wants(other) or row.status not in ("loaded", "carried", "unexpected"):
                continue
            one, two = _floats(self.checkpoint, row.sources[0]), _floats(self.checkpoint, leader.sources[0])
            if (one.dtype, one.shape) == (two.dtype, two.shape) and same_bytes(one.buffer, two.buffer):
                row = replace(row, status="tied", note=f"same bytes as {other}")
            elif row.status == "loaded":
                row = replace(row, status="untied", note=f"differs from {other}, to which it would be tied")
            elif self.map.may_leave_out(other):
                # the model has this head, so that it leaves a part of it out is no longer harmless
                row = replace(row, status="unexpected", note=f"differs from {other}, of which it should be a copy")
            self.rows[place[target]] = row

    def _add_absent(self) -> None:
        """Rows for wanted parameters that no tensor of the file gives."""
        rows = {target: row for row in self.rows for target in row.targets}
        for target in self.wanted or ():
            if target in rows:
                continue
            found = self.map.rule_of(target)
            rule = str(found[0]) if found else ""
            leader = rows.get(self.map.ties.get(target, ""))
            if leader is not None and leader.status in LOADED and self._wants(self.map.ties[target]):
                note = f"the file does not repeat {self.map.ties[target]}"
                self.rows.append(Row("tied", (), (target,), leader.shape, leader.dtype, rule, note=note))
            elif found is None:
                note = f"no rule of map {self.map.name!r} gives this parameter"
                self.rows.append(Row("missing", (), (target,), note=note))
            else:
                note = f"the file lacks {', '.join(self._sources_of(target))}"
                self.rows.append(Row("missing", (), (target,), self._expected(found[0]), "", rule, note=note))

    def _expected(self, rule: Rule) -> tuple[int, ...] | None:
        """The shape that one of a rule's parameters should have, as far as the symbols are known."""
        sizes = [size for dim in rule.shape if (size := dim.size(self.dims)) is not None]
        if len(sizes) < len(rule.dims):
            return None
        if sizes and sizes[0] % len(rule.targets) == 0:
            sizes[0] //= len(rule.targets)
        return tuple(sizes)
