"""The map of a model family: a checked bijection between tensor names in files and parameter names in a model.

That no two rules match one name, under any prefix and spelling, is checked when the map is made. A map does not depend on a file;
:func:`weights_map.match` matches it with one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import accumulate, product
from typing import TypeAlias

from weights_map.errors import AmbiguousRuleError, BadRuleError, BadTensorError, UnknownNameError
from weights_map.rules import Rule
from weights_map.safetensors import Checkpoint, Stack, View, describe, stacked, write
from weights_map.template import Index, Template

Rules: TypeAlias = Rule | Iterable["Rules"]
"""A rule, or nested lists of rules."""


@dataclass(frozen=True)
class Form:
    """One way in which a file may write the name of a source.

    Attributes:
        rule: the rule; None for a derived tensor.
        part: index of the source in the rule.
        prefix, spelling: how the name is written.
        rank: order of preference among the forms of one source; 0 is the form that new files get.
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
    """What a name in a file matches: a form, and the values of its slots."""

    form: Form
    bindings: tuple[tuple[str, int], ...]


class WeightMap:
    """A checked bijection: tensor names in files <-> parameter names in a model.

    Args:
        name: the family's name, for messages.
        rules: rules whose sources may have any of ``prefixes``.
        heads: rules whose sources never have a prefix.
        prefixes: prefixes of the sources, each with its dot; new files get the first.
        spellings: old ending -> ending used in the rules, e.g. ``{"LayerNorm.gamma": "LayerNorm.weight"}``.
        ties: parameter -> parameter whose tensor it shares. A file may omit such a parameter, or repeat the same bytes.
        derived: sources that the model computes itself (buffers); they are kept for saving, and not loaded.
        carried: shell-style patterns (``head.*``) of parameters that a model may omit; their tensors are kept for saving.

    Raises:
        AmbiguousRuleError: two rules could match, or produce, the same name.
        BadRuleError: a rule, a prefix or a tie is not valid.
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
            raise BadRuleError(f"map {name!r}: prefix {bad[0]!r} must end with a dot")
        self.spellings = dict(spellings or {})
        self.ties = dict(ties or {})
        self.derived = _texts(derived, "derived")
        self.carried = _texts(carried, "carried")
        unprefixed = tuple(_flatten(heads))
        self.rules = tuple(_flatten(rules)) + unprefixed
        self._sources: Index[Form] = Index()
        self._targets: Index[Rule] = Index()
        self._unprefixed = frozenset(unprefixed)
        for rule in self.rules:
            self._add_rule(rule, self.prefixes if self.takes_prefix(rule) else ("",))
        for text in self.derived:
            self._add_source(Template(text), None, 0, self.prefixes)
        self._check_ties()

    def __repr__(self) -> str:
        return f"WeightMap({self.name!r}, {len(self.rules)} rules)"

    # ---------------------------------------------------------------- construction, with the check that no names collide

    def _add_rule(self, rule: Rule, prefixes: Sequence[str]) -> None:
        for template in rule.targets:
            if clash := self._targets.add(template, rule):
                raise self._ambiguous("produce", template, rule, *clash)
        for part, template in enumerate(rule.sources):
            self._add_source(template, rule, part, prefixes)

    def _add_source(self, template: Template, rule: Rule | None, part: int, prefixes: Sequence[str]) -> None:
        for rank, ((ending, text), prefix) in enumerate(product(self._spelled(template.text), prefixes)):
            form = Form(rule, part, prefix, ending, rank)
            if clash := self._sources.add(written := Template(prefix + text), form):
                raise self._ambiguous("match", written, form, *clash)

    def _spelled(self, text: str) -> list[tuple[str, str]]:
        """The spellings of a source, that of the rule first: (old ending or "", whole text)."""
        old = [
            (old, text[: len(text) - len(new)] + old) for old, new in self.spellings.items() if f".{text}".endswith(f".{new}")
        ]
        return [("", text), *old]

    def _ambiguous(self, verb: str, a: Template, a_rule: object, b: Template, b_rule: object) -> AmbiguousRuleError:
        return AmbiguousRuleError(
            f"map {self.name!r}: two rules {verb} the same name: {a.text!r} (of {a_rule}) and {b.text!r} (of {b_rule}); "
            "drop one, or make them differ in a segment",
            (a.text, b.text),
        )

    def _check_ties(self) -> None:
        for target, other in self.ties.items():
            for name in (target, other):
                entry = self._targets.find(name)
                if entry is None or entry[1].kind != "loaded":
                    raise BadRuleError(f"map {self.name!r}: tie {target!r}: no rule gives {name!r} from one tensor of its own")
            if other in self.ties:
                raise BadRuleError(f"map {self.name!r}: tie {target!r}: {other!r} is tied itself; name what it is tied to")

    # ---------------------------------------------------------------- looking up names

    def claim(self, source: str) -> Claim | None:
        """What a name in a file matches, or None."""
        if (entry := self._sources.find(source)) is None:
            return None
        template, form = entry
        return Claim(form, tuple(sorted((template.match(source) or {}).items())))

    def rule_of(self, target: str) -> tuple[Rule, dict[str, int]] | None:
        """The rule that gives a parameter, and the values of its slots, or None."""
        if (entry := self._targets.find(target)) is None:
            return None
        template, rule = entry
        return rule, template.match(target) or {}

    def targets_of(self, source: str) -> tuple[str, ...]:
        """The parameters that are in a tensor of a file: several where it is split, none if no rule matches."""
        claim = self.claim(source)
        if claim is None or claim.form.rule is None:
            return ()
        return tuple(template.fill(dict(claim.bindings)) for template in claim.form.rule.targets)

    def sources_of(self, target: str, prefix: str | None = None) -> tuple[str, ...]:
        """The tensors that a new file would have for a parameter: several where they are fused, none if no rule matches.

        Args:
            target: the parameter's name.
            prefix: one of ``prefixes``, for rules whose sources have one; None for the first.

        Raises:
            UnknownNameError: the prefix is not one of ``prefixes``.
        """
        prefix = self.prefixes[0] if prefix is None else prefix
        if prefix not in self.prefixes:
            known = ", ".join(map(repr, self.prefixes))
            raise UnknownNameError(f"map {self.name!r}: prefix {prefix!r} is none of {known}", [prefix])
        if (entry := self.rule_of(target)) is None:
            return ()
        rule, bindings = entry
        return tuple((prefix if self.takes_prefix(rule) else "") + template.fill(bindings) for template in rule.sources)

    def names(self, targets: Iterable[str], prefix: str | None = None) -> dict[str, tuple[str, ...]]:
        """Parameter -> the tensors that a new file would have for it; see :meth:`sources_of`.

        Raises:
            UnknownNameError: no rule gives one of the parameters.
        """
        names = {target: self.sources_of(target, prefix) for target in targets}
        if unknown := [target for target, sources in names.items() if not sources]:
            raise UnknownNameError(f"map {self.name!r}: no rule gives {', '.join(unknown[:5])}", unknown)
        return names

    def takes_prefix(self, rule: Rule) -> bool:
        """Whether a rule's sources may have a prefix (it is not one of ``heads``)."""
        return rule not in self._unprefixed

    def may_leave_out(self, target: str) -> bool:
        """Whether a model may omit this parameter (it matches ``carried``)."""
        return any(fnmatchcase(target, pattern) for pattern in self.carried)

    def covers(self, checkpoint: Checkpoint) -> float:
        """The share of a file's bytes whose names this map matches, 0 to 1; identifies a file's family."""
        # one more byte each, so that empty tensors count too
        sizes = {name: info.nbytes + 1 for name, info in checkpoint.tensors.items()}
        known = sum(size for name, size in sizes.items() if self.claim(name))
        return known / sum(sizes.values()) if sizes else 0.0

    # ---------------------------------------------------------------- files

    def pack(self, values: Mapping[str, View], prefix: str | None = None) -> dict[str, Stack]:
        """Parameters as the tensors of a new file: renamed, joined, or cut into equal parts.

        Args:
            values: parameters by name, without tied ones.
            prefix: see :meth:`sources_of`.

        Raises:
            UnknownNameError: no rule gives one of them.
            BadTensorError: parts of a joined tensor are absent, or a tensor cannot be cut into equal parts.
        """
        packed: dict[str, Stack] = {}
        for target, sources in self.names(values, prefix).items():
            entry = self.rule_of(target)
            assert entry is not None  # names() raises otherwise
            rule, bindings = entry
            if rule.kind != "split" and not rule.transposed:
                packed.update(zip(sources, cut(target, values[target], len(sources))))
                continue
            parts = [template.fill(bindings) for template in rule.targets]
            if absent := [part for part in parts if part not in values]:
                raise BadTensorError(f"{sources[0]}: is joined from {', '.join(parts)}; {', '.join(absent)} is absent", absent)
            stack = tuple(values[part] for part in parts)
            packed[sources[0]] = transposed(sources[0], stack) if rule.transposed else stack
        return packed

    def save(
        self,
        values: Mapping[str, View],
        path: str | os.PathLike[str],
        *,
        prefix: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Write parameters to a new file under this family's names; see :meth:`pack`. To rewrite an open file: ``Ledger.save``."""
        write(path, self.pack(values, prefix), metadata)


def cut(name: str, value: View, sizes: int | Sequence[int]) -> list[Stack]:
    """A tensor cut along dimension 0, into a number of equal parts or into parts of these sizes.

    Raises:
        BadTensorError: the sizes do not add up to dimension 0, or it is not divisible.
    """
    if sizes == 1:
        return [(value,)]
    rows = value.shape[0] if value.shape else 0
    each = [rows // sizes] * sizes if isinstance(sizes, int) else sizes
    if not value.shape or sum(each) != rows:
        raise BadTensorError(
            f"{name}: {describe(value.dtype, value.shape)} cannot be cut along dimension 0 into {sizes}", [name]
        )
    starts = accumulate(each, initial=0)
    return [(value.rows(start, start + size),) for start, size in zip(starts, each)]


def transposed(name: str, stack: Stack) -> Stack:
    """The parts of a matrix, joined along dimension 0 and with the dimensions of the whole swapped.

    Raises:
        BadTensorError: they cannot be joined, or are not matrices.
    """
    dtype, shape = stacked(name, stack)
    return (View(dtype, shape, memoryview(b"".join(part.buffer for part in stack))).transposed(),)


def _texts(texts: Iterable[str], what: str) -> tuple[str, ...]:
    if isinstance(texts, str):
        raise BadRuleError(f"{what}={texts!r}: must be a list of texts; write [{texts!r}]")
    return tuple(dict.fromkeys(texts))


def _flatten(rules: Rules) -> Iterator[Rule]:
    if isinstance(rules, Rule):
        yield rules
    elif isinstance(rules, str) or not isinstance(rules, Iterable):
        raise BadRuleError(f"{rules!r} is not a rule; rules are made by table, linear, norm and tensor")
    else:
        for rule in rules:
            yield from _flatten(rule)
