"""What a model is, from its files alone: no torch, no weight byte read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from nativebert import sentence
from nativebert.arch import read_config
from nativebert.config import EncoderConfig
from nativebert.errors import NativeBertError
from nativebert.hub import Snapshot
from nativebert.text.tokenizer import Tokenizer
from weights_map import Checkpoint, Ledger


@dataclass(frozen=True)
class Inspection:
    """What :func:`inspect` found.

    Attributes:
        facts: ``(group, name, value)``, for people.
        config: the canonical config.
        ledger: every tensor of the weight file and every parameter of the encoder, with what becomes of it.
    """

    facts: tuple[tuple[str, str, str], ...]
    config: EncoderConfig
    ledger: Ledger

    def as_dict(self) -> dict[str, Any]:
        """The same as nested dictionaries, for JSON."""
        grouped: dict[str, dict[str, str]] = {}
        for group, name, value in self.facts:
            grouped.setdefault(group, {})[name] = value
        rows = [
            {"status": r.status, "sources": list(r.sources), "targets": list(r.targets), "shape": r.shape and list(r.shape), "dtype": r.dtype, "note": r.note}
            for r in self.ledger.rows
        ]
        return {**grouped, "ledger": rows}


def inspect(snapshot: Snapshot) -> Inspection:
    """Read a model's config, tokenizer, sentence-transformers files and weight header.

    Raises:
        NativeBertError: a file is corrupt, or the model is refused.
        weights_map.WeightsMapError: the weight file is damaged.
    """
    family, config = read_config(snapshot.read_json("config.json") or {})
    checkpoint = Checkpoint.open(snapshot.folder)
    optional = [t for name in checkpoint.tensors for t in family.map.targets_of(name) if t.startswith("pool.")]
    ledger = family.map.on(checkpoint, wanted=[*family.parameters(config), *optional], dims=config.dims)
    facts = [
        *_where(snapshot),
        *_encoder(config),
        *_weights(checkpoint, ledger),
        *_tokenizer(snapshot),
        *_sentence(snapshot, config),
    ]
    return Inspection(tuple(facts), config, ledger)


Facts = list[tuple[str, str, str]]


def _where(snapshot: Snapshot) -> Facts:
    facts = [("model", "reference", snapshot.reference), ("model", "folder", str(snapshot.folder))]
    if snapshot.repo:
        facts.append(("model", "repository", snapshot.repo))
    facts.append(("model", "revision", snapshot.revision or f"none ({snapshot.source})"))
    facts.append(("model", "licence", licence(snapshot)))
    return facts


def licence(snapshot: Snapshot) -> str:
    """The licence that the model card's header states; the card is the repository's README.md."""
    card = snapshot.path("README.md")
    header = card.read_text("utf-8", errors="replace").split("---")[1:2] if card else []
    found = re.search(r"^license:\s*(\S+)\s*$", header[0], re.MULTILINE) if header else None
    return found[1] if found else "not stated in the files here; see the model's page"


def _encoder(config: EncoderConfig) -> Facts:
    layer = config.layers[0] if config.layers else None
    facts = [
        ("encoder", "family", config.family + (f" (saved as {config.architecture})" if config.architecture else "")),
        ("encoder", "layers", str(len(config.layers))),
        ("encoder", "width", str(config.width)),
        ("encoder", "heads", f"{layer.heads} of {config.width // layer.heads}" if layer else "-"),
        ("encoder", "feed-forward", f"{layer.inner}, {layer.activation}" if layer else "-"),
        ("encoder", "vocabulary", f"{config.vocab_size:,}"),
        ("encoder", "positions", str(config.positions)),
        ("encoder", "segments", str(config.segments or "none")),
        ("encoder", "norm epsilon", f"{config.norm_eps:g}"),
    ]
    if config.labels and config.source.get("id2label"):
        facts.append(("encoder", "labels", ", ".join(config.labels[:12]) + (f" and {len(config.labels) - 12} more" if len(config.labels) > 12 else "")))
    if config.unread:
        facts.append(("encoder", "not understood", f"{', '.join(config.unread)} (keys of config.json that nativebert does not read)"))
    return facts


def _weights(checkpoint: Checkpoint, ledger: Ledger) -> Facts:
    counts: dict[str, int] = {}
    for row in ledger.rows:
        counts[row.status] = counts.get(row.status, 0) + 1
    infos = checkpoint.tensors.values()
    parameters = sum(i.count for i in infos if i.dtype in ("F64", "F32", "F16", "BF16"))
    return [
        ("weights", "files", ", ".join(path.name for path in checkpoint.files)),
        ("weights", "parameters", f"{parameters:,}"),
        ("weights", "bytes", f"{checkpoint.nbytes:,}"),
        ("weights", "dtypes", ", ".join(sorted({i.dtype for i in infos}))),
        ("weights", "tensors", ", ".join(f"{n} {status}" for status, n in sorted(counts.items()))),
    ]


def _tokenizer(snapshot: Snapshot) -> Facts:
    try:
        tokenizer = Tokenizer.from_folder(snapshot.folder)
    except NativeBertError as error:
        return [("tokenizer", "problem", str(error))]
    facts = [
        ("tokenizer", "vocabulary", f"{tokenizer.vocab_size:,}"),
        ("tokenizer", "lower-cases", "yes" if tokenizer.lowercase else "no"),
        ("tokenizer", "longest text", str(tokenizer.max_length or "not stated")),
        ("tokenizer", "digest", tokenizer.digest[:16]),
    ]
    return facts + [("tokenizer", "note", note) for note in tokenizer.notes]


def _sentence(snapshot: Snapshot, config: EncoderConfig) -> Facts:
    try:
        read = sentence.read(snapshot)
    except NativeBertError as error:
        return [("sentences", "refused", str(error))]
    steps = [" + ".join(read.pooling), *(s if s == "normalize" else f"dense {s.inward} -> {s.outward}, {s.activation}" for s in read.then)]
    facts = [
        ("sentences", "pooling", ", then ".join(steps) + (" (assumed)" if read.assumed else "")),
        ("sentences", "longest text", f"{min(read.max_tokens or config.max_tokens, config.max_tokens)} tokens"),
        ("sentences", "similarity", read.similarity),
    ]
    for name, prompt in (read.prompts or {}).items():
        facts.append(("sentences", f"prompt {name!r}", repr(prompt) + (" (used by default)" if name == read.default_prompt else "")))
    return facts
