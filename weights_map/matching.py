"""Match a file with a map: every tensor and every wanted parameter becomes a row of a ledger.

Reads headers only, except for tied tensors that the file repeats: their bytes are compared.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from weights_map import eightbit
from weights_map.ledger import Ledger
from weights_map.mapping import Claim, WeightMap
from weights_map.rows import LOADED, Row, Status
from weights_map.rules import Rule
from weights_map.safetensors import Checkpoint, TensorInfo, describe


def match(
    weight_map: WeightMap,
    checkpoint: Checkpoint,
    wanted: Iterable[str] | None = None,
    dims: Mapping[str, int] | None = None,
    wrapper: str = "",
) -> Ledger:
    """The ledger of a file: a row for every tensor and for every wanted parameter.

    Args:
        weight_map: the map of the file's family.
        checkpoint: the open file.
        wanted: the model's parameter names; None for all that the file has.
        dims: sizes of the rules' symbols, from the model's config. Others are inferred from the file.
        wrapper: an outer prefix of the file's names that the map does not have, as ``module.``; names without it are matched as they are.
    """
    ordered = None if wanted is None else dict.fromkeys(wanted)
    return _Matcher(weight_map, checkpoint, ordered, dict(dims or {}), wrapper).ledger()


@dataclass(frozen=True)
class _Group:
    """The tensors of a file that match one rule with the same slot values: one row of the ledger."""

    rule: Rule
    bindings: Mapping[str, int]
    sources: tuple[str, ...]  # the rule's sources that the file has
    absent: tuple[str, ...]  # those that it lacks, as the map writes them
    infos: tuple[TensorInfo, ...]
    prefix: str
    spelling: str

    @property
    def targets(self) -> tuple[str, ...]:
        return tuple(template.fill(self.bindings) for template in self.rule.targets)

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Shape of the parts joined along dimension 0; None if they cannot be joined."""
        first, *others = (info.shape for info in self.infos)
        if not others:
            return first
        if not first or any(other[1:] != first[1:] or not other for other in others):
            return None
        return (first[0] + sum(other[0] for other in others), *first[1:])


@dataclass
class _Matcher:
    """Collects the rows of a ledger."""

    map: WeightMap
    checkpoint: Checkpoint
    wanted: dict[str, None] | None  # an ordered set
    config_dims: dict[str, int]
    wrapper: str

    def ledger(self) -> Ledger:
        self.rows: list[Row] = []
        self._group_tensors()
        self.dims = self._infer_dims() | self.config_dims
        self.rows += [self._group_row(group) for group in self.groups]
        order = {name: at for at, name in enumerate(self.checkpoint.tensors)}
        self.rows.sort(key=lambda row: order[row.sources[0]])
        self._compare_ties()
        self._add_absent()
        dims, wanted = dict(sorted(self.dims.items())), None if self.wanted is None else frozenset(self.wanted)
        return Ledger(self.map, self.checkpoint, tuple(self.rows), dims, self.prefix, wanted, self.wrapper)

    # ---------------------------------------------------------------- tensors -> groups

    def _group_tensors(self) -> None:
        """Add every tensor of the file to a group, or to the rows if it is not a parameter."""
        claims: dict[tuple[Rule, tuple[tuple[str, int], ...]], list[tuple[str, Claim]]] = defaultdict(list)
        prefixes: Counter[str] = Counter()
        for name, info in self.checkpoint.tensors.items():
            claim = self.map.claim(name.removeprefix(self.wrapper))
            if claim is None:
                self._add_unclaimed(info)
            elif claim.form.rule is None:
                self._add_tensor("derived", info, prefix=claim.form.prefix, spelling=claim.form.spelling)
            else:
                claims[claim.form.rule, claim.bindings].append((name, claim))
                if self.map.takes_prefix(claim.form.rule):
                    prefixes[claim.form.prefix] += 1
        # the prefix of most tensors; of equally frequent ones the first that the map lists
        self.prefix = max(self.map.prefixes, key=lambda prefix: prefixes[prefix])
        self.groups = [self._group(rule, dict(bindings), named) for (rule, bindings), named in claims.items()]

    def _add_unclaimed(self, info: TensorInfo) -> None:
        matrix = info.name.removesuffix(eightbit.SUFFIX)
        if self.map.targets_of(matrix.removeprefix(self.wrapper)) and eightbit.is_quantised(self.checkpoint, matrix):
            self._add_tensor("scale", info, note=f"of {matrix}")
        else:
            self._add_tensor("unexpected", info, note=f"no rule of map {self.map.name!r} matches this name")

    def _add_tensor(self, status: Status, info: TensorInfo, prefix: str = "", spelling: str = "", note: str = "") -> None:
        self.rows.append(Row(status, (info.name,), (), info.shape, info.dtype, "", prefix, spelling, note))

    def _group(self, rule: Rule, bindings: dict[str, int], claims: list[tuple[str, Claim]]) -> _Group:
        parts: dict[int, tuple[str, Claim]] = {}  # part of the rule -> its tensor
        for name, claim in sorted(claims, key=lambda item: item[1].form.rank):
            first, _ = parts.setdefault(claim.form.part, (name, claim))
            if first != name:
                note = f"a second copy of {first!r}, which is the one that is used"
                self._add_tensor("unexpected", self.checkpoint.tensors[name], claim.form.prefix, claim.form.spelling, note)
        names = tuple(name for _, (name, _) in sorted(parts.items()))
        form = parts[min(parts)][1].form
        absent = tuple(name for part, name in enumerate(self._sources_of(rule.targets[0].fill(bindings))) if part not in parts)
        infos = tuple(self.checkpoint.tensors[name] for name in names)
        return _Group(rule, bindings, names, absent, infos, form.prefix, form.spelling)

    def _sources_of(self, target: str) -> tuple[str, ...]:
        """The tensors of a parameter, named with this file's prefix."""
        return tuple(self.wrapper + source for source in self.map.sources_of(target, self.prefix))

    # ---------------------------------------------------------------- dimensions

    def _infer_dims(self) -> dict[str, int]:
        """Each symbol's most frequent size in the file, so that a single wrong tensor changes nothing."""
        votes: dict[str, Counter[int]] = defaultdict(Counter)
        for group in self.groups:
            shape = group.shape
            if group.absent or shape is None or len(shape) != len(group.rule.dims):
                continue
            for dim, size in zip(group.rule.shape, shape):
                if dim.symbol is not None and size % dim.factor == 0:
                    votes[dim.symbol][size // dim.factor] += 1
        return {symbol: max(sizes, key=lambda size: (sizes[size], size)) for symbol, sizes in votes.items()}

    def _shape_error(self, group: _Group) -> str:
        """Why a group's shape or dtype is wrong, or ""."""
        shape, rule = group.shape, group.rule
        if len({info.dtype for info in group.infos}) > 1:
            return f"parts of different dtypes: {', '.join(info.dtype for info in group.infos)}"
        if shape is None:
            return f"parts that cannot be joined: {', '.join(describe('', info.shape) for info in group.infos)}"
        if len(shape) != len(rule.dims):
            return f"file has {describe('', shape)}, the map says {' x '.join(rule.dims) or '()'}"
        wrong = [dim for dim, size in zip(rule.shape, shape) if dim.size(self.dims) != size]
        if wrong:
            expected = []
            for dim in dict.fromkeys(wrong):
                if dim.symbol is None:
                    expected.append(f"the map says {dim.text}")
                    continue
                origin = "config says" if dim.symbol in self.config_dims else "the file's other tensors say"
                factor = "" if dim.text == dim.symbol else f" and the map {dim.text}"
                expected.append(f"{origin} {dim.symbol}={self.dims.get(dim.symbol, '?')}{factor}")
            return f"file has {describe('', shape)}, {', '.join(expected)}"
        rows = shape[1] if rule.transposed else shape[0] if shape else 1
        if rule.kind == "split" and rows % len(rule.targets):
            return f"{rows} rows cannot be cut into {len(rule.targets)} equal parts"
        return ""

    def _target_shape(self, rule: Rule) -> tuple[int, ...] | None:
        """The required shape of each of a rule's parameters; None if a symbol is unknown."""
        dims = rule.shape[::-1] if rule.transposed else rule.shape
        sizes = [size for dim in dims if (size := dim.size(self.dims)) is not None]
        if len(sizes) < len(rule.dims):
            return None
        if sizes and sizes[0] % len(rule.targets) == 0:
            sizes[0] //= len(rule.targets)
        return tuple(sizes)

    # ---------------------------------------------------------------- groups -> rows

    def _wants(self, target: str) -> bool:
        return self.wanted is None or target in self.wanted

    def _group_row(self, group: _Group) -> Row:
        targets = group.targets
        dtype = "/".join(sorted({info.dtype for info in group.infos}))
        status, note = self._status(group, targets)
        return Row(status, group.sources, targets, group.shape, dtype, str(group.rule), group.prefix, group.spelling, note)

    def _status(self, group: _Group, targets: tuple[str, ...]) -> tuple[Status, str]:
        wanted = [target for target in targets if self._wants(target)]
        if not wanted:
            carried = all(map(self.map.may_leave_out, targets))
            return ("carried", "") if carried else ("unexpected", "the model has no such parameter")
        if group.absent:
            return "missing", f"the file lacks {', '.join(group.absent)}"
        if error := self._shape_error(group):
            return "shape", error
        return group.rule.kind, "" if len(wanted) == len(targets) else f"the model has only {', '.join(wanted)}"

    def _compare_ties(self) -> None:
        """Compare tied parameters that the file repeats with those they are tied to."""
        position = {target: at for at, row in enumerate(self.rows) for target in row.targets}
        for target, other in self.map.ties.items():
            if target not in position or other not in position:
                continue
            row, leader = self.rows[position[target]], self.rows[position[other]]
            if leader.status not in LOADED or not self._wants(other) or row.status not in ("loaded", "carried", "unexpected"):
                continue
            tensor, leader_tensor = (eightbit.read(self.checkpoint, name) for name in (row.sources[0], leader.sources[0]))
            if tensor.equals(leader_tensor):
                row = replace(row, status="tied", note=f"same bytes as {other}")
            elif row.status == "loaded":
                row = replace(row, status="untied", note=f"differs from {other}, which the map ties it to")
            elif self.map.may_leave_out(other):
                # the model has this head: without the part of it that differs it would give other results
                row = replace(row, status="unexpected", note=f"differs from {other}, of which it should be a copy")
            self.rows[position[target]] = row

    def _add_absent(self) -> None:
        """Add rows for wanted parameters of which the file has no tensor."""
        rows = {target: row for row in self.rows for target in row.targets}
        for target in self.wanted or ():
            if target in rows:
                continue
            rule, _ = self.map.rule_of(target) or (None, {})
            text = str(rule) if rule else ""
            other = self.map.ties.get(target, "")
            leader = rows.get(other)
            if leader is not None and leader.status in LOADED and self._wants(other):
                note = f"the file does not repeat {other}"
                row = Row("tied", (), (target,), leader.shape, leader.dtype, text, note=note)
            elif rule is None:
                row = Row("missing", (), (target,), note=f"no rule of map {self.map.name!r} gives this parameter")
            else:
                note = f"the file lacks {', '.join(self._sources_of(target))}"
                row = Row("missing", (), (target,), self._target_shape(rule), "", text, note=note)
            self.rows.append(row)
