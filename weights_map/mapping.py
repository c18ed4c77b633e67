"""A family's map: rules that are proven not to collide, under all the prefixes and spellings files use.

A :class:`WeightMap` is a bijection between names, and knows nothing of any file. Applied to one
(:meth:`WeightMap.on`), it gives a :class:`~weights_map.ledger.Ledger`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import accumulate, product
from typing import TYPE_CHECKING, TypeAlias

from weights_map.errors import Ambiguous, BadRule, BadTensor, UnknownName
from weights_map.rules import Rule
from weights_map.safetensors import Checkpoint, Stack, View, describe, write
from weights_map.template import Index, Template

if TYPE_CHECKING:
    from weights_map.ledger import Ledger

Rules: TypeAlias = Rule | Iterable["Rules"]
"""A rule, or rules in lists, however nested."""


@dataclass(frozen=True)
class Form:
    """One way in which a file may write a source: under this prefix, in this spelling.

    ``part`` says which of the rule's sources it is. A form without a rule is a derived tensor.
    ``rank`` orders the forms of one source: the spelling we would write ourselves comes first.
    """

    rule: Rule | None
    part: int
    prefix: str
    spelling: str
    rank: int

    def __str__(self) -> str:
        return str(self.rule) if self.rule else "a derived tensor"


@dataclass(frozen=True)
class Claim:
    """A name of a file, recognised: its form, and the values of the slots."""

    form: Form
    bindings: tuple[tuple[str, int], ...]


class WeightMap:
    """Names in files <-> names in a model, as a checked bijection.

    Args:
        name: the family's name, for messages.
        rules: rules whose sources may carry any of ``prefixes``.
        heads: rules whose sources never carry a prefix.
        prefixes: what may stand before a source, dots included; the first is the one we write.
        spellings: old ending -> ending used in the rules, e.g. ``{"LayerNorm.gamma": "LayerNorm.weight"}``.
        ties: parameter -> parameter whose tensor it shares. Such a parameter may be absent from a file,
            or stand in it with the same bytes.
        derived: sources that hold nothing to learn; they are kept for saving, and not loaded.
        carried: patterns (as of the shell: ``head.*``) of parameters that a model may leave out.

    Raises:
        Ambiguous: some name could be claimed by two rules, or given by two.
        BadRule: a rule, a spelling or a tie makes no sense.
    """

    def __init__(
        self,
        name: str,
        rules: Rules,
        *,
        heads: Rules = (),
        prefixes: Sequence[str] = ("",),
        spellings: Mapping[str, str] | None = None,
        ties: Mapping[str, str] | None = None,
        derived: Iterable[str] = (),
        carried: Iterable[str] = (),
    ) -> None:
        self.name = name
        self.prefixes = _texts(prefixes, "prefixes") or ("",)
        if bad := [prefix for prefix in self.prefixes if prefix and not prefix.endswith(".")]:
            raise BadRule(f"map {name!r}: prefix {bad[0]!r} must end with a dot")
        self.spellings = dict(spellings or {})
        self.ties = dict(ties or {})
        self.derived = _texts(derived, "derived")
        self.carried = _texts(carried, "carried")
        base, bare = tuple(_flatten(rules)), tuple(_flatten(heads))
        self.rules = base + bare
        self._sources: Index[Form] = Index()
        self._targets: Index[tuple[Rule, int]] = Index()
        self._bare = frozenset(bare)
        for rule in self.rules:
            self._add(rule, ("",) if not self.takes_prefix(rule) else self.prefixes)
        for text in self.derived:
            self._claim(Template(text), None, 0, self.prefixes)
        self._check_ties()

    def __repr__(self) -> str:
        return f"WeightMap({self.name!r}, {len(self.rules)} rules)"

    # ---------------------------------------------------------------- construction: the proof

    def _add(self, rule: Rule, prefixes: Sequence[str]) -> None:
        for part, template in enumerate(rule.targets):
            if clash := self._targets.add(template, (rule, part)):
                raise self._ambiguous("give", template, rule, clash[0], clash[1][0])
        for part, template in enumerate(rule.sources):
            self._claim(template, rule, part, prefixes)

    def _claim(self, template: Template, rule: Rule | None, part: int, prefixes: Sequence[str]) -> None:
        for rank, (spelling, prefix) in enumerate(product(self._spelled(template.text), prefixes)):
            ending, text = spelling
            form = Form(rule, part, prefix, ending, rank)
            if clash := self._sources.add(written := Template(prefix + text), form):
                raise self._ambiguous("claim", written, form, clash[0], clash[1])

    def _spelled(self, text: str) -> list[tuple[str, str]]:
        """The ways to spell a source, ours first: (old ending or "", whole text)."""
        ways = [("", text)]
        for old, new in self.spellings.items():
            if f".{text}".endswith(f".{new}"):
                ways.append((old, text[: len(text) - len(new)] + old))
        return ways

    def _ambiguous(self, verb: str, a: Template, by: object, b: Template, other: object) -> Ambiguous:
        return Ambiguous(
            f"map {self.name!r}: two rules {verb} the same name: {a.text!r} (of {by}) and {b.text!r} (of {other}); "
            "drop one, or make them differ in a segment"
        )

    def _check_ties(self) -> None:
        for target, other in self.ties.items():
            for name in (target, other):
                found = self._targets.find(name)
                if found is None or found[1][0].kind != "loaded":
                    raise BadRule(f"map {self.name!r}: tie {target!r}: no rule gives {name!r} from one tensor of its own")
            if other in self.ties:
                raise BadRule(f"map {self.name!r}: tie {target!r}: {other!r} is tied itself; name what it is tied to")

    # ---------------------------------------------------------------- looking up names

    def claim(self, source: str) -> Claim | None:
        """What a name in a file means here, or None."""
        if (found := self._sources.find(source)) is None:
            return None
        template, form = found
        return Claim(form, tuple(sorted((template.match(source) or {}).items())))

    def rule_of(self, target: str) -> tuple[Rule, dict[str, int]] | None:
        """The rule that gives a parameter, and the values of its slots, or None."""
        if (found := self._targets.find(target)) is None:
            return None
        template, (rule, _) = found
        return rule, template.match(target) or {}

    def targets_of(self, source: str) -> tuple[str, ...]:
        """The parameters that a tensor of a file gives (several where it is cut); none if it is not known."""
        claim = self.claim(source)
        if claim is None or claim.form.rule is None:
            return ()
        return tuple(template.fill(dict(claim.bindings)) for template in claim.form.rule.targets)

    def sources_of(self, target: str, prefix: str | None = None) -> tuple[str, ...]:
        """The tensors that give a parameter (several where they are joined), as we would write them.

        Args:
            target: the parameter's name.
            prefix: one of ``prefixes``, for rules that carry one; the first unless told otherwise.
        """
        if prefix is not None and prefix not in self.prefixes:
            raise UnknownName(f"map {self.name!r}: prefix {prefix!r} is none of {', '.join(map(repr, self.prefixes))}")
        if (found := self.rule_of(target)) is None:
            return ()
        rule, bindings = found
        before = "" if not self.takes_prefix(rule) else self.prefixes[0] if prefix is None else prefix
        return tuple(before + template.fill(bindings) for template in rule.sources)

    def names(self, targets: Iterable[str], prefix: str | None = None) -> dict[str, tuple[str, ...]]:
        """For each parameter the tensors of a new file that hold it; see :meth:`sources_of`.

        Raises:
            UnknownName: no rule gives one of the parameters.
        """
        names = {target: self.sources_of(target, prefix) for target in targets}
        if unknown := [target for target, sources in names.items() if not sources]:
            raise UnknownName(f"map {self.name!r}: no rule gives {', '.join(unknown[:5])}")
        return names

    def takes_prefix(self, rule: Rule) -> bool:
        """Whether a rule's sources may carry a prefix (it is not one of ``heads``)."""
        return rule not in self._bare

    def may_leave_out(self, target: str) -> bool:
        """Whether a model may do without this parameter (it matches ``carried``)."""
        return any(fnmatchcase(target, pattern) for pattern in self.carried)

    def covers(self, checkpoint: Checkpoint) -> float:
        """The share of a file's bytes that this map has a name for, 0 to 1: tells which family a file is of."""
        # one more byte each, so that tensors without any count, too
        sizes = {name: info.nbytes + 1 for name, info in checkpoint.tensors.items()}
        known = sum(size for name, size in sizes.items() if self.claim(name))
        return known / sum(sizes.values()) if sizes else 0.0

    # ---------------------------------------------------------------- files

    def on(
        self,
        checkpoint: Checkpoint,
        wanted: Iterable[str] | None = None,
        dims: Mapping[str, int] | None = None,
        wrapper: str = "",
    ) -> Ledger:
        """This map applied to one file: a row for every tensor and for every wanted parameter.

        Args:
            checkpoint: the open file.
            wanted: the model's parameter names; None wants all that the file gives.
            dims: values of the rules' symbols, from the model's config. Those not given are solved from the file.
            wrapper: what stands before the file's names and is not looked at, as ``module.``; names without it are read as they are.
        """
        from weights_map.ledger import draw

        return draw(self, checkpoint, wanted, dims, wrapper)

    def pack(self, values: Mapping[str, View], prefix: str | None = None) -> dict[str, Stack]:
        """Parameters as the tensors of a new file: renamed, joined, or cut into equal parts.

        Args:
            values: parameters by name. Leave tied ones out: readers know them by their tie.
            prefix: as of :meth:`sources_of`.

        Raises:
            UnknownName: no rule gives one of them.
            BadTensor: some parts of a joined tensor are absent, or it cannot be cut equally.
        """
        packed: dict[str, Stack] = {}
        for target, sources in self.names(values, prefix).items():
            found = self.rule_of(target)
            assert found is not None  # or names() had raised
            rule, bindings = found
            if rule.kind != "split":
                packed.update(zip(sources, cut(target, values[target], len(sources))))
                continue
            parts = [template.fill(bindings) for template in rule.targets]
            if absent := [part for part in parts if part not in values]:
                raise BadTensor(f"{sources[0]}: is joined from {', '.join(parts)}; {', '.join(absent)} is absent")
            packed[sources[0]] = tuple(values[part] for part in parts)
        return packed

    def save(
        self,
        values: Mapping[str, View],
        path: str | os.PathLike[str],
        *,
        prefix: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Writes parameters as a NEW file in this family's names; see :meth:`pack`. For an opened file: Ledger.save."""
        write(path, self.pack(values, prefix), metadata)


def cut(name: str, value: View, sizes: int | Sequence[int]) -> list[Stack]:
    """A tensor cut along dimension 0, into so many equal parts or into parts of these sizes.

    Raises:
        BadTensor: it cannot be cut so.
    """
    if sizes == 1:
        return [(value,)]
    rows = value.shape[0] if value.shape else 0
    each = [rows // sizes] * sizes if isinstance(sizes, int) else sizes
    if not value.shape or sum(each) != rows:
        raise BadTensor(f"{name}: {describe(value.dtype, value.shape)} cannot be cut along dimension 0 into {sizes}")
    starts = accumulate(each, initial=0)
    return [(value.rows(start, start + size),) for start, size in zip(starts, each)]


def _texts(texts: Iterable[str], what: str) -> tuple[str, ...]:
    if isinstance(texts, str):
        raise BadRule(f"{what}={texts!r}: a list of texts is needed; write [{texts!r}]")
    return tuple(dict.fromkeys(texts))


def _flatten(rules: Rules) -> Iterator[Rule]:
    if isinstance(rules, Rule):
        yield rules
    elif isinstance(rules, str) or not isinstance(rules, Iterable):
        raise BadRule(f"{rules!r} is not a rule; rules are made by table, linear, norm and tensor")
    else:
        for rule in rules:
            yield from _flatten(rule)
