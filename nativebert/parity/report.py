"""Run a checkpoint through nativebert and through transformers, and say whether they are the same model, and if not, where they part."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nativebert.arch import family, read_config
from nativebert.config import EncoderConfig
from nativebert.errors import BadInputError, NativeBertError
from nativebert.io.write import check_ending, output_file
from nativebert.loading import LoadedModel, load, open_snapshot
from nativebert.nn.model import Model
from nativebert.parity.compare import SLACK, TOLERANCE, steps
from nativebert.parity.trace import Local, operations, operations_of, same_operations

if TYPE_CHECKING:
    from nativebert.hub import Snapshot
    from weights_map import WeightMap

TEXTS = (
    "Deep learning is powerful.",
    "a",
    "",
    "The ferry to the island leaves at half past nine, unless the wind is from the west, in which case it does not leave at all.",
    "Übermäßig naïve Café — 東京 is 9,650 km away… 🙂",
    "x = f(y); # 100% of [brackets], (parentheses) & symbols/slashes: ok?",
    "rain " * 60,
    "An embedding is a point; a sentence is a road. " * 9,
)

REDUCED_SLACK = 3.0  # in half precision there is no fixed tolerance: so many times what the reference is itself off

# task -> the class of transformers that has the head, and the names of its logits
_CLASSES = {
    (): ("AutoModel", {}),
    ("lm",): ("AutoModelForMaskedLM", {"lm": "logits"}),
    ("nsp",): ("AutoModelForNextSentencePrediction", {"nsp": "logits"}),
    ("classify",): ("AutoModelForSequenceClassification", {"classify": "logits"}),
    ("tag",): ("AutoModelForTokenClassification", {"tag": "logits"}),
    ("answer",): ("AutoModelForQuestionAnswering", {}),
    ("choose",): ("AutoModelForMultipleChoice", {"choose": "logits"}),
    ("rtd",): ("AutoModelForPreTraining", {"rtd": "logits"}),
    ("lm", "nsp"): ("AutoModelForPreTraining", {"lm": "prediction_logits", "nsp": "seq_relationship_logits"}),
    ("lm", "sop"): ("AutoModelForPreTraining", {"lm": "prediction_logits", "sop": "sop_logits"}),
}


@dataclass(frozen=True)
class Step:
    """One thing that both models computed.

    Attributes:
        name: ``embeddings``, ``layers.3.attention`` (its weights), ``layers.3``, ``pooler``, ``logits.classify``; or an operation by our name.
        kind: ``output``, which the verdict is about, or ``operation``, which says where it comes from.
        max_abs: largest absolute difference from the reference in float64, over all real tokens.
        relative: that, over the reference's largest value.
        ulp: that, in units in the last place of the reference's largest value, in the precision that was compared.
        cosine: least cosine between two rows.
        own: the reference's own largest difference, in the same precision.
        allowed: the most that ``max_abs`` may be.
        local: of an operation: how far it is from the reference's on the very input that ours had, whatever came before.
        local_allowed: the most that ``local`` may be.
    """

    name: str
    kind: str
    max_abs: float
    relative: float
    ulp: float
    cosine: float
    own: float
    allowed: float
    local: float = 0.0
    local_allowed: float = 0.0

    @property
    def passed(self) -> bool:
        return self.max_abs <= self.allowed and self.local <= self.local_allowed  # False for NaN


@dataclass(frozen=True)
class Report:
    """The result of :func:`check`.

    Attributes:
        steps: outputs and operations, in the order of execution.
        weights: parameters whose values differ from the reference's, with the largest difference.
        settings: settings that the two configs read differently: name -> (ours, the reference's).
        tokens: texts whose token ids differ.
        facts: revision, hashes, versions, device, and what was run.
    """

    steps: tuple[Step, ...]
    weights: dict[str, float]
    settings: dict[str, tuple[str, str]]
    tokens: tuple[str, ...]
    facts: dict[str, str]

    @property
    def passed(self) -> bool:
        outputs = [step for step in self.steps if step.kind == "output"]
        differs = self.weights or self.tokens or self.settings
        return bool(outputs) and all(step.passed for step in outputs) and not differs

    @property
    def first(self) -> Step | None:
        """Where the two part: the first operation, or else the first output, that is too far off."""
        off = [step for step in self.steps if not step.passed]
        return next((step for step in off if step.kind == "operation"), off[0] if off else None)

    @property
    def worst(self) -> Step:
        """The output that is nearest to its limit, or farthest beyond."""
        return max(
            (s for s in self.steps if s.kind == "output"),
            key=lambda s: s.max_abs / s.allowed if s.max_abs == s.max_abs else math.inf,
        )

    def verdict(self) -> str:
        """One or more lines of plain words."""
        if self.passed:
            worst = self.worst
            return (
                f"PASS: the same model. Nearest to its limit: {worst.name}, {worst.max_abs:.1e} of {worst.allowed:.1e} allowed."
            )
        lines = []
        if self.first is not None:
            s = self.first
            off, most = (s.max_abs, s.allowed) if s.local <= s.local_allowed else (s.local, s.local_allowed)
            alone = "" if s.local <= s.local_allowed else " by itself, given the same input"
            lines.append(f"the first {s.kind} that diverges is {s.name}: {off:.1e}{alone}, where {most:.1e} is allowed")
        elif not self.steps:
            lines.append("the two cannot be run on the same tokens")
        lines += [f"weights differ: {name} by up to {most:.1e}" for name, most in list(self.weights.items())[:8]]
        if len(self.weights) > 8:
            lines.append(f"and {len(self.weights) - 8} more tensors")
        settings = list(self.settings.items())
        lines += [f"settings differ: {name} is {ours}, in the reference {theirs}" for name, (ours, theirs) in settings[:8]]
        if len(settings) > 8:
            lines.append(f"and {len(settings) - 8} more settings")
        lines += [f"token ids differ: {text[:60]!r}" for text in self.tokens[:3]]
        return "FAIL: " + "\n      ".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            "passed": self.passed,
            "verdict": self.verdict(),
            "facts": self.facts,
            "weights": self.weights,
            "settings": {k: list(v) for k, v in self.settings.items()},
            "tokens": list(self.tokens),
            "steps": [{**asdict(step), "passed": step.passed} for step in self.steps],
        }

    def json(self) -> str:
        """:meth:`as_dict` as JSON text."""
        return json.dumps(self.as_dict(), indent=2, ensure_ascii=False)


def check(
    model: str | PathLike[str] | Model,
    *,
    against: str | PathLike[str] | None = None,
    texts: Sequence[str] | None = None,
    head: str | None = "auto",
    dtype: str = "float32",
    offline: bool | None = None,
    revision: str | None = None,
) -> Report:
    """Compare a model with transformers' reading of the same checkpoint, or of another one.

    The reference is transformers in float64 with eager attention. Allowed are 1e-5 in float32, or 1.5 times what transformers in the same
    precision is itself away from that reference, whichever is larger; in half precision 3 times that.

    Args:
        model: folder, Hub id, or a loaded model (then ``head``, ``dtype`` and ``revision`` are its own).
        against: folder or Hub id for the reference; by default the model's own.
        texts: what to run; by default eight that differ in length and script.
        head: as of :func:`nativebert.load`.
        dtype: ``float32``, ``bfloat16`` or ``float16``.
        offline, revision: as of :func:`nativebert.load`.

    Raises:
        NativeBertError: the model cannot be had, or transformers (extra ``parity``) is not installed.
    """
    try:
        import transformers
    except ImportError:
        raise NativeBertError("parity needs transformers: pip install 'nativebert[parity]'") from None
    ours = (
        LoadedModel.of(model)
        if isinstance(model, Model)
        else load(open_snapshot(model, revision=revision, offline=offline), head=head, precision=dtype)
    )
    dtype = str(ours.dtype).removeprefix("torch.")
    snapshot = ours.snapshot if against is None else open_snapshot(against, offline=offline)
    if snapshot is None:
        raise BadInputError("this model was built from a config alone: say what to compare it with, against=")
    if ours.tasks not in _CLASSES:
        raise BadInputError(f"transformers has no class with the heads {', '.join(ours.tasks)}")
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    name, logits = _CLASSES[ours.tasks]
    load_theirs = getattr(transformers, name).from_pretrained
    theirs, truth = (
        load_theirs(str(snapshot.encoder), dtype=d, attn_implementation="eager").eval() for d in (ours.dtype, torch.float64)
    )
    texts = list(texts or TEXTS)
    tokens, unread = _different_tokens(ours, snapshot, texts)
    other = read_config(theirs.config.to_dict())[1]
    ids, mask, segments = _batch(ours, texts, min(ours.config.max_tokens, other.max_tokens))
    runs = int(ids.max()) < other.vocab_size and (segments is None or other.segments > 1)
    batches = [(ids, mask, segments)]
    if any(layer.window is not None for layer in ours.config.layers):
        # the reference gives NaN for a padding token with no real one in its window, and real tokens catch it
        batches = _without_padding(ids, mask, segments, pairs=ours.tasks == ("choose",))
    found = _worst([_run(ours, theirs, truth, *batch, logits) for batch in batches]) if runs else []
    return Report(
        steps=tuple(found),
        weights=_different_weights(ours, truth),
        settings={**_different_settings(ours.config, other), **_different_eps(ours, truth)},
        tokens=tuple(tokens),
        facts={**_facts(ours, snapshot, dtype, len(texts), int(mask.sum())), **({"token ids": unread} if unread else {})},
    )


def _batch(ours: LoadedModel, texts: Sequence[str], most: int) -> tuple[Tensor, Tensor, Tensor | None]:
    rows = [ids[:most] for ids in ours.tokenizer.ids_batch(texts).ids]
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), ours.config.pad_id)
    mask = torch.zeros_like(ids)
    for n, row in enumerate(rows):
        ids[n, : len(row)], mask[n, : len(row)] = torch.tensor(row), 1
    segments = None
    if ours.config.segments > 1:  # the second half of each text is its second segment
        segments = ((mask.cumsum(1) * 2 > mask.sum(1, keepdim=True)) & (mask > 0)).long()
    return ids, mask, segments


def _without_padding(
    ids: Tensor, mask: Tensor, segments: Tensor | None, *, pairs: bool
) -> list[tuple[Tensor, Tensor, Tensor | None]]:
    """The batch in parts of equal length; multiple choice needs two of each, and gets each twice."""
    lengths = mask.sum(1)
    found = []
    for length in sorted(set(lengths.tolist())):
        rows = torch.nonzero(lengths == length)[:, 0]
        rows = torch.cat([rows, rows]) if pairs else rows
        part = None if segments is None else segments[rows, :length]
        found.append((ids[rows, :length], mask[rows, :length], part))
    return found


def _size(value: float) -> float:
    return math.inf if math.isnan(value) else value  # max() passes over NaN


def _worst(runs: list[list[Step]]) -> list[Step]:
    """Several batches as if they were one: the largest of each."""
    if len(runs) == 1:
        return runs[0]
    merged = []
    for same in zip(*runs, strict=True):
        a, *_ = same
        numbers = {
            f.name: max((getattr(s, f.name) for s in same), key=_size)
            for f in fields(Step)
            if f.name not in ("name", "kind", "cosine")
        }
        merged.append(
            Step(
                a.name, a.kind, cosine=min((s.cosine for s in same), key=lambda c: -math.inf if math.isnan(c) else c), **numbers
            )
        )
    return merged


def _run(
    ours: LoadedModel, theirs: Any, truth: Any, ids: Tensor, mask: Tensor, segments: Tensor | None, logits: dict[str, str]
) -> list[Step]:
    if ours.tasks == ("choose",):
        pairs = len(ids) // 2 * 2
        ids, mask = (t[:pairs].view(-1, 2, t.shape[-1]) for t in (ids, mask))
        segments = None if segments is None else segments[:pairs].view(-1, 2, segments.shape[-1])
    given = {"input_ids": ids, "attention_mask": mask, **({"token_type_ids": segments} if segments is not None else {})}
    wanted = {"output_hidden_states": True, "output_attentions": True}
    flat = mask.flatten(0, -2)
    with torch.no_grad():
        a, b, c = ours(ids, mask, segments, **wanted), theirs(**given, **wanted), truth(**given, **wanted)
    outputs = [steps(x, flat) for x in (a, b, c)]
    for task, ours_logits in a.all_logits.items():
        for found, x in zip(outputs, (a, b, c), strict=True):
            if task == "answer":
                value = torch.stack([x.start_logits, x.end_logits], -1)
            else:
                value = ours_logits if x is a else getattr(x, logits[task])
            on_tokens = ours.config.heads[task].on == "tokens"
            found[f"logits.{task}"] = (
                value.masked_fill(mask.reshape(*mask.shape, *[1] * (value.dim() - 2)) == 0, 0.0) if on_tokens else value
            )
    compared = [
        _step(name, "output", outputs[0][name], outputs[1][name], true, ours.dtype)
        for name, true in outputs[2].items()
        if name in outputs[0]
    ]
    if ours.tasks == ("choose",):
        return compared
    weight_map = _map_of(truth)
    exact = operations_of(ours, truth, weight_map, ids, mask, segments)
    own = operations_of(ours, theirs, weight_map, ids, mask, segments).theirs
    inside = [
        _operation(name, n, len(calls), call, own[name], exact.theirs[name], exact.local[name][n], ours.dtype)
        for name, calls in exact.ours.items()
        for n, call in enumerate(calls[: len(exact.theirs[name])])
    ]
    return _in_order(compared, inside)


def _map_of(theirs: Any) -> WeightMap:
    return family(theirs.config.model_type).map


def _operation(
    name: str, call: int, calls: int, ours: Tensor, own: list[Tensor], exact: list[Tensor], local: Local, dtype: torch.dtype
) -> Step:
    shown = name if calls == 1 else f"{name} (call {call + 1})"
    step = _step(shown, "operation", ours, own[call], exact[call], dtype)
    return replace(step, local=local.max_abs, local_allowed=local.allowed)


def _in_order(outputs: list[Step], operations: list[Step]) -> list[Step]:
    """Each layer's operations before its outputs."""

    def layer(name: str) -> int:
        if name.startswith(("embed", "distance")):
            return -1
        parts = name.split(".")
        return int(parts[1]) if parts[0] == "layers" else 10**6

    merged = [(layer(s.name), 0, s) for s in operations] + [(layer(s.name), 1, s) for s in outputs]
    return [step for _, _, step in sorted(merged, key=lambda item: item[:2])]


def _step(name: str, kind: str, ours: Tensor, own: Tensor, true: Tensor, dtype: torch.dtype) -> Step:
    a, b, t = ours.double(), own.double(), true.double()
    if a.shape != t.shape:
        return Step(name, kind, math.inf, math.inf, math.inf, 0.0, 0.0, 0.0)
    difference, scale = float((a - t).abs().max()), float(t.abs().max())
    own_error = float((b - t).abs().max())
    rows_a, rows_t = a.reshape(-1, a.shape[-1]), t.reshape(-1, t.shape[-1])
    real = rows_t.abs().sum(1) > 0
    cosine = torch.nn.functional.cosine_similarity(rows_a[real], rows_t[real], dim=1, eps=1e-300)
    eps = torch.finfo(dtype).eps
    spacing = eps * 2 ** math.floor(math.log2(scale)) if scale > 0 else eps
    tolerance = TOLERANCE if dtype == torch.float32 else 0.0
    # what an operation gives may be large: its limit grows with it, 24 units in the last place of the largest
    slack = SLACK if dtype == torch.float32 else REDUCED_SLACK
    limit = max(24 * eps * scale, 3 * own_error) if kind == "operation" else max(tolerance, slack * own_error)
    return Step(
        name,
        kind,
        difference,
        difference / scale if scale else difference,
        difference / spacing,
        float(cosine.min()) if len(cosine) else 1.0,
        own_error,
        limit,
    )


def _different_weights(ours: LoadedModel, theirs: Any) -> dict[str, float]:
    weight_map = _map_of(theirs)
    mine = ours.state_dict()
    found = {}
    for name, value in theirs.state_dict().items():
        targets = weight_map.targets_of(name)
        for target, part in zip(targets, value.chunk(len(targets)) if targets else ()):
            if target in mine:
                other = mine[target]
                same_shape = other.shape == part.shape
                most = float((other.double() - part.to(other.dtype).double()).abs().max()) if same_shape else math.inf
                if not most <= 0:
                    found[target] = most
    return found


def _different_eps(ours: LoadedModel, theirs: Any) -> dict[str, tuple[str, str]]:
    """Norm by norm, as they stand in memory."""
    found = {}
    mine, other = operations(ours), operations(theirs)
    for name, targets in same_operations(theirs, _map_of(theirs)).items():
        a, b = mine.get(targets[0]), other[name]
        if isinstance(a, torch.nn.LayerNorm) and isinstance(b, torch.nn.LayerNorm) and a.eps != b.eps:
            found[f"{targets[0]}.eps"] = (str(a.eps), str(b.eps))
    return found


def _different_settings(ours: EncoderConfig, other: EncoderConfig) -> dict[str, tuple[str, str]]:
    skip = {
        "source",
        "unread",
        "architecture",
        "labels",
        "problem_type",
        "heads",
        "pretraining",
        "dropout",
        "attention_dropout",
    }
    differ = (f.name for f in fields(EncoderConfig) if f.name not in skip and getattr(ours, f.name) != getattr(other, f.name))
    return {name: (str(getattr(ours, name)), str(getattr(other, name))) for name in differ}


def _different_tokens(ours: LoadedModel, snapshot: Snapshot, texts: Sequence[str]) -> tuple[list[str], str]:
    """Texts whose ids differ; and why there was nothing to compare with, if so."""
    from transformers import AutoTokenizer

    try:
        theirs = AutoTokenizer.from_pretrained(str(snapshot.encoder))
    except Exception as error:
        return [], f"not compared: transformers cannot read this tokenizer ({str(error).splitlines()[0]})"
    mine = ours.tokenizer.ids_batch(texts).ids
    return [t for t, ids in zip(texts, mine, strict=True) if theirs(t)["input_ids"] != ids], ""


def _facts(ours: LoadedModel, against: Snapshot, dtype: str, texts: int, tokens: int) -> dict[str, str]:
    facts = {
        "model": ours.reference,
        "against": f"transformers, {against.reference}",
        "dtype": dtype,
        "texts": str(texts),
        "tokens": str(tokens),
    }
    if ours.snapshot is not None and ours.ledger is not None:
        facts["revision"] = ours.snapshot.revision or ours.snapshot.source
        digest = hashlib.sha256()
        for path in ours.ledger.checkpoint.files:
            digest.update(path.read_bytes())
        facts["weights sha256"] = digest.hexdigest()
        facts["tokenizer sha256"] = ours.tokenizer.digest
    facts["device"] = f"{ours.device}, {platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
    for package in ("nativebert", "torch", "transformers", "tokenizers"):
        facts[package] = str(version(package))
    facts["when"] = datetime.now(UTC).isoformat(timespec="seconds")
    return facts


def check_plot(path: str) -> None:
    """Before the work: can a plot be drawn there?

    Raises:
        BadInputError: an ending that says nothing, or a place that cannot be written to.
        NativeBertError: matplotlib (extra ``plot``) is not installed.
    """
    _matplotlib()
    check_ending(path, (".png", ".svg", ".pdf"), "differences.png")


def _matplotlib() -> Any:
    try:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt
    except ImportError:
        raise NativeBertError("a plot needs matplotlib: pip install 'nativebert[plot]'") from None
    return plt


def plot(report: Report, path: str | PathLike[str]) -> None:
    """Draw the differences step by step: what was found, what is allowed, and the reference's own error.

    Raises:
        NativeBertError: matplotlib (extra ``plot``) is not installed.
    """
    plt = _matplotlib()
    shown = [step for step in report.steps if step.kind == "output"]
    if not shown:
        raise BadInputError("there is nothing to draw: the two could not be run on the same tokens")
    x = range(len(shown))
    most = 1e3 * max(s.allowed for s in shown)  # what is infinitely far off must end somewhere
    floor = max(1e-12, 0.1 * min(max(s.own, 1e-9) for s in shown))

    def height(value: float) -> float:
        return min(max(value, floor), most) if value == value else most

    figure, axes = plt.subplots(figsize=(max(6.0, 0.28 * len(shown) + 2), 4.4), layout="constrained")
    for passed, colour, label in ((True, "#2a7f62", "nativebert"), (False, "#c0392b", "nativebert, too far off")):
        at = [n for n in x if shown[n].passed is passed]
        if at:
            axes.bar(at, [height(shown[n].max_abs) for n in at], color=colour, label=label)
    axes.plot(x, [height(s.own) for s in shown], "_", color="black", markersize=9, label="transformers, same precision")
    axes.plot(x, [height(s.allowed) for s in shown], color="0.5", linestyle="--", label="allowed")
    axes.set_yscale("log")
    axes.set_ylim(floor, 3 * max(height(max(s.max_abs, s.allowed)) for s in shown))
    axes.set_xlim(-0.7, len(shown) - 0.3)
    axes.set_xticks(list(x), [s.name for s in shown], rotation=90, fontsize=8)
    axes.set_ylabel("largest difference from float64")
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{report.facts['model']}, {report.facts['dtype']}: {'pass' if report.passed else 'fail'}", fontsize=11)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    try:
        with output_file(os.fspath(path)) as file:
            figure.savefig(file, dpi=150, format=Path(path).suffix.lstrip("."))
    except ValueError as error:  # an ending that matplotlib does not know
        raise BadInputError(f"cannot draw to {path}: {error}") from None
    finally:
        plt.close(figure)
