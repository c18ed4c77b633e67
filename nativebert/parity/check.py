"""Run a checkpoint through nativebert and through transformers and compare outputs, operations, weights, settings and token ids."""

from __future__ import annotations

import hashlib
import math
import platform
from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from importlib.metadata import version
from os import PathLike
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nativebert import __version__
from nativebert.arch import family, read_config
from nativebert.errors import BadInputError, NativeBertError, RefusedError
from nativebert.loading import LoadedModel, load, open_snapshot
from nativebert.nn.model import Model
from nativebert.parity.compare import SLACK, TOLERANCE, model_inputs, pad_rows, steps
from nativebert.parity.diagnose import different_eps, different_settings, different_tokens, different_weights
from nativebert.parity.report import Report, Step
from nativebert.parity.trace import operations_of

if TYPE_CHECKING:
    from nativebert.arch import Family
    from nativebert.hub import Snapshot

Batch = tuple[Tensor, Tensor, Tensor | None]
"""Token ids, mask and segments, each padded ``(B, L)``."""

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

REDUCED_SLACK = 3.0  # half precision has no fixed tolerance: this many times the reference's own error

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
    """Compare a model with transformers on the same checkpoint, or on another one.

    The reference is transformers in float64 with eager attention. Allowed are 1e-5 in float32, or 1.5 times transformers' own error in
    the same precision, whichever is larger; in half precision 3 times that error.

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
    if not family(ours.config.family).in_transformers and against is None:
        raise RefusedError(
            f"transformers has no {ours.config.family}: there is nothing to compare with. Its code is in the checkpoint, and code that comes with one is never run"
        )
    if (ours.adapter is not None or snapshot.base is not None) and against is None:
        raise RefusedError(
            "an adapter was merged into this model, and transformers alone does not read it: save it, and check that folder"
        )
    if ours.task_adapters is not None and against is None:
        raise RefusedError(
            "transformers has no class for these files, which have adapters for tasks: load the model with adapter=TASK, save it, and check that "
            "folder; or compare with jinaai/jina-embeddings-v3-hf, against="
        )
    if ours.tasks not in _CLASSES:
        raise BadInputError(f"transformers has no class with the heads {', '.join(ours.tasks)}")
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    name, logits = _CLASSES[ours.tasks]
    from_pretrained = getattr(transformers, name).from_pretrained
    theirs, exact = (
        from_pretrained(str(snapshot.encoder), dtype=d, attn_implementation="eager").eval() for d in (ours.dtype, torch.float64)
    )
    known = family(exact.config.model_type)
    texts = list(texts or TEXTS)
    tokens, unread = different_tokens(ours, snapshot, texts)
    config = read_config(theirs.config.to_dict())[1]
    batch = _batch(ours, texts, min(ours.config.max_tokens, config.max_tokens))
    ids, mask, segments = batch
    batches = [batch]
    if any(layer.window is not None for layer in ours.config.layers):
        # the reference gives NaN for a padding token with no real one in its window, and real tokens catch it
        batches = _without_padding(*batch, pairs=ours.tasks == ("choose",))
    same_ids = int(ids.max()) < config.vocab_size and (segments is None or config.segments > 1)
    steps_of_batches = [_run(ours, theirs, exact, known, *part, logits) for part in batches] if same_ids else []
    return Report(
        steps=tuple(_worst(steps_of_batches)),
        weights=different_weights(ours, exact, known),
        settings={**different_settings(ours.config, config), **different_eps(ours, exact, known)},
        tokens=tuple(tokens),
        facts={**_facts(ours, snapshot, dtype, len(texts), int(mask.sum())), **({"token ids": unread} if unread else {})},
    )


def _batch(ours: LoadedModel, texts: Sequence[str], max_tokens: int) -> Batch:
    ids, mask = pad_rows([row[:max_tokens] for row in ours.tokenizer.ids_batch(texts).ids], ours.config.pad_id)  # (B, L)
    segments = None
    if ours.config.segments > 1:  # the second half of each text is its second segment
        segments = ((mask.cumsum(1) * 2 > mask.sum(1, keepdim=True)) & (mask > 0)).long()
    return ids, mask, segments


def _without_padding(ids: Tensor, mask: Tensor, segments: Tensor | None, *, pairs: bool) -> list[Batch]:
    """The batch in parts of equal length; multiple choice needs two of each, and gets each twice."""
    lengths = mask.sum(1)
    batches: list[Batch] = []
    for length in sorted(set(lengths.tolist())):
        rows = torch.nonzero(lengths == length)[:, 0]
        rows = torch.cat([rows, rows]) if pairs else rows
        batches.append((ids[rows, :length], mask[rows, :length], None if segments is None else segments[rows, :length]))
    return batches


def _worst(runs: list[list[Step]]) -> list[Step]:
    """The steps of several batches as if they were one batch: the largest of each number, the least cosine."""
    if len(runs) < 2:
        return runs[0] if runs else []
    numbers = [f.name for f in fields(Step) if f.name not in ("name", "kind")]

    def worst(name: str, same: tuple[Step, ...]) -> float:
        values = [float(getattr(step, name)) for step in same]
        if any(map(math.isnan, values)):  # max() and min() pass over NaN
            return math.nan
        return min(values) if name == "cosine" else max(values)

    return [replace(same[0], **{name: worst(name, same) for name in numbers}) for same in zip(*runs, strict=True)]


def _run(
    ours: LoadedModel,
    theirs: Any,
    exact: Any,
    known: Family,
    ids: Tensor,
    mask: Tensor,
    segments: Tensor | None,
    logits: dict[str, str],
) -> list[Step]:
    if ours.tasks == ("choose",):
        pairs = len(ids) // 2 * 2
        ids, mask = (t[:pairs].view(-1, 2, t.shape[-1]) for t in (ids, mask))
        segments = None if segments is None else segments[:pairs].view(-1, 2, segments.shape[-1])
    inputs = model_inputs(ids, mask, segments)
    extras = {"output_hidden_states": True, "output_attentions": True}
    with torch.no_grad():
        models = ours(ids, mask, segments, **extras), theirs(**inputs, **extras), exact(**inputs, **extras)
    outputs = [steps(output, mask.flatten(0, -2)) for output in models]
    for task, our_logits in models[0].all_logits.items():
        for tensors, output in zip(outputs, models, strict=True):
            if task == "answer":
                value = torch.stack([output.start_logits, output.end_logits], -1)
            else:
                value = our_logits if output is models[0] else getattr(output, logits[task])
            if ours.config.heads[task].on == "tokens":
                value = value.masked_fill(mask.reshape(*mask.shape, *[1] * (value.dim() - 2)) == 0, 0.0)
            tensors[f"logits.{task}"] = value
    our_outputs, their_outputs, exact_outputs = outputs
    compared = [
        _step(name, "output", our_outputs[name], their_outputs[name], tensor, ours.dtype)
        for name, tensor in exact_outputs.items()
        if name in our_outputs
    ]
    if ours.tasks == ("choose",):
        return compared
    against_exact = operations_of(ours, exact, known, ids, mask, segments)
    their_calls = operations_of(ours, theirs, known, ids, mask, segments).theirs
    inside = []
    for name, calls in against_exact.ours.items():
        triples = zip(calls, their_calls[name], against_exact.theirs[name])
        for number, (call, their_call, exact_call) in enumerate(triples):
            shown = name if len(calls) == 1 else f"{name} (call {number + 1})"
            step = _step(shown, "operation", call, their_call, exact_call, ours.dtype)
            local = against_exact.local[name][number]
            inside.append(replace(step, local=local.max_abs, local_allowed=local.allowed))
    return _in_order(compared, inside)


def _in_order(outputs: list[Step], operations: list[Step]) -> list[Step]:
    """Each layer's operations before its outputs."""

    def layer(name: str) -> int:
        if name.startswith(("embed", "distance")):
            return -1
        parts = name.split(".")
        return int(parts[1]) if parts[0] == "layers" else 10**6

    merged = [(layer(s.name), 0, s) for s in operations] + [(layer(s.name), 1, s) for s in outputs]
    return [step for _, _, step in sorted(merged, key=lambda item: item[:2])]


def _step(name: str, kind: str, ours: Tensor, theirs: Tensor, exact: Tensor, dtype: torch.dtype) -> Step:
    """Differences of one tensor ``(..., N)`` from the float64 reference, and the limit; NaN passes nothing."""
    a, b, t = ours.double(), theirs.double(), exact.double()
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
    # outputs of operations may be large: the limit grows with them, 24 units in the last place of the largest
    slack = SLACK if dtype == torch.float32 else REDUCED_SLACK
    limit = max(24 * eps * scale, 3 * own_error) if kind == "operation" else max(tolerance, slack * own_error)
    least_cosine = float(cosine.min()) if len(cosine) else 1.0
    relative = difference / scale if scale else difference
    return Step(name, kind, difference, relative, difference / spacing, least_cosine, own_error, limit)


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
    facts["nativebert"] = __version__
    for package in ("torch", "transformers", "tokenizers"):
        facts[package] = str(version(package))
    facts["when"] = datetime.now(UTC).isoformat(timespec="seconds")
    return facts
