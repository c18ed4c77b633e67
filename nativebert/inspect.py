"""Facts about a model from its files alone, without torch and without reading weights."""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nativebert import adapters, sentence
from nativebert.arch import Family, TaskAdapters, read_config
from nativebert.config import EncoderConfig, select_heads
from nativebert.errors import NativeBertError
from nativebert.hub import Snapshot
from nativebert.text.tokenizer import Tokenizer
from weights_map import Checkpoint, Ledger, MismatchError, match, report
from weights_map.rows import LOADED

FLOATS = ("F64", "F32", "F16", "BF16")
HUB_TIMEOUT = 3.0  # seconds for the model card, which is not worth waiting for

Facts = dict[str, Any]  # a name -> what json can write; a dictionary is a list of named values


@dataclass(frozen=True)
class Inspection:
    """Result of :func:`inspect`.

    Attributes:
        facts: group -> name -> value, as JSON has it.
        problems: why the model would not load, or not turn texts into vectors; one sentence each, empty for a good one.
        config: the canonical config.
        ledger: every tensor of the weight file and every parameter of the encoder, with what becomes of it.
    """

    facts: Mapping[str, Facts]
    problems: tuple[str, ...]
    config: EncoderConfig
    ledger: Ledger

    def as_dict(self) -> dict[str, Any]:
        """All fields as nested dictionaries, for JSON; the ledger as ``python -m weights_map --format json`` has it."""
        ledger = json.loads(report.as_json(self.ledger))
        facts = {group: {_key(name): value for name, value in facts.items()} for group, facts in self.facts.items()}
        return {**facts, "problems": list(self.problems), "ledger": ledger}

    def shown(self) -> dict[str, list[tuple[str, str]]]:
        """The facts for people: group -> ``(name, value)``."""
        shown: dict[str, list[tuple[str, str]]] = {}
        for group, facts in self.facts.items():
            lines = shown.setdefault(group, [])
            for name, value in facts.items():
                if name == "licence" and value is None:
                    lines.append((name, "not stated in the files here"))
                elif isinstance(value, dict):
                    lines += [(f"{name.removesuffix('s')} {key}", repr(part)) for key, part in value.items()]
                elif value not in (None, [], ()):
                    lines.append((name, _shown(value)))
        return shown


def _key(name: str) -> str:
    return name.replace(" ", "_").replace("-", "_")


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return ", ".join(map(_shown, value[:12])) + (f" and {len(value) - 12} more" if len(value) > 12 else "")
    return str(value)


def inspect(snapshot: Snapshot) -> Inspection:
    """Read a model's config, tokenizer, sentence-transformers files and weight header.

    Raises:
        NativeBertError: the config is corrupt, or refused.
        weights_map.WeightsMapError: the weight file is damaged.
    """
    problems: list[str] = []
    family, config = read_config(snapshot.read_json("config.json") or {})
    checkpoint = Checkpoint.open(snapshot.encoder)
    ledger, tasks = _ledger(family, config, checkpoint)
    strays = family.strays(ledger, tasks, config)
    facts = {
        "model": _where(snapshot),
        **({"adapter": _adapter(snapshot, family, problems)} if snapshot.base else {}),
        "encoder": _encoder(config, tasks, family.adapters(config.source) if family.adapters else None),
        "weights": _weights(checkpoint, ledger, strays, problems),
    }
    tokenizer = None
    try:
        tokenizer = Tokenizer.from_folder(snapshot.tokenizer)
        facts["tokenizer"] = _tokenizer(tokenizer, config, problems)
    except NativeBertError as error:
        problems.append(f"cannot tokenize: {error}")
    try:
        facts["sentences"] = _sentence(sentence.read(snapshot), config, tokenizer)
    except NativeBertError as error:
        problems.append(f"cannot make sentence vectors: {error}")
    return Inspection(facts, tuple(problems), config, ledger)


def sentence_tokenizer(snapshot: Snapshot) -> Tokenizer:
    """The tokenizer as an :class:`nativebert.Embedder` uses it: sentence-transformers may ask for lower case first."""
    tokenizer = Tokenizer.from_folder(snapshot.tokenizer)
    try:
        transformer = sentence.read(snapshot).transformer
        if transformer.tokenizer:
            tokenizer = Tokenizer.from_folder(snapshot.tokenizer, transformer.tokenizer)
        return tokenizer.lowercased() if transformer.lowercase else tokenizer
    except NativeBertError:  # a folder whose vectors we cannot make still has tokens
        return tokenizer


def _ledger(family: Family, config: EncoderConfig, checkpoint: Checkpoint) -> tuple[Ledger, tuple[str, ...]]:
    """The ledger that :func:`nativebert.load` would draw up, and the tasks of the heads that it would load."""
    wrapper = family.wrapper(checkpoint.tensors)
    targets = {target for name in checkpoint.tensors for target in family.map.targets_of(name.removeprefix(wrapper))}
    tasks = select_heads(config, "auto", targets)
    heads = [config.heads[task] for task in tasks]
    pooler = [t.text for rule in family.map.rules for t in rule.targets if t.text.startswith("pool.")]
    has_pooler = bool(targets.intersection(pooler)) or any(head.on == "pooled" for head in heads)
    wanted = [*family.parameters(config), *(pooler if has_pooler else [])]
    wanted += [name for head in heads for name in head.parameters(config.norm_bias)]
    names = config.checkpoint_names(wanted, targets)
    return match(family.map, checkpoint, wanted=names, dims=config.dims_with(tasks), wrapper=wrapper), tasks


def _where(snapshot: Snapshot) -> Facts:
    source = {
        "folder": "a folder",
        "hub": "the Hub",
        "cache": "the Hub's cache on this machine",
        "package": "the copy in a Python package",
    }[snapshot.source]
    return {
        "reference": snapshot.reference,
        "repository": snapshot.repo,
        "revision": snapshot.revision,
        "source": source,
        "folder": str(snapshot.folder),
        "licence": licence(snapshot),
    }


def licence(snapshot: Snapshot) -> str | None:
    """The licence that the model card states: in README.md's header or, for a model from the Hub, on the Hub."""
    card = snapshot.path("README.md")
    if card is not None:
        return _card_licence(card.read_text("utf-8-sig", errors="replace"))
    if snapshot.source != "hub":
        return None
    try:  # its README.md is not downloaded; that no answer comes is no reason to fail
        from huggingface_hub import HfApi

        endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
        about = HfApi(endpoint).model_info(str(snapshot.repo), revision=snapshot.revision, timeout=HUB_TIMEOUT)
        data: Any = about.card_data or {}
    except Exception:
        return None
    return _named(data.get("license"), data.get("license_name"))


def _card_licence(text: str) -> str | None:
    header = re.match(r"---[ \t]*\r?\n(.*?)^---[ \t]*$", text, re.DOTALL | re.MULTILINE)
    if header is None:
        return None

    def value(key: str) -> list[str]:
        # YAML, but only as much of it as a licence needs: a word, a quoted word, a list of words
        field = re.search(rf"^{key}:[ \t]*(\[[^]]*\]|[^\n]*)((?:\n[ \t]*-[ \t]+[^\n]*)*)", header[1], re.MULTILINE)
        words = re.split(r"[,\n]", field[1].strip("[] \r") + field[2]) if field else []
        cleaned = [re.sub(r"\s#.*", "", word).strip(" \t\r-").strip("'\"") for word in words]
        return [word for word in cleaned if word and not word.startswith("#")]

    return _named(value("license"), " ".join(value("license_name")))


def _named(name: Any, other: Any) -> str | None:
    names = [name] if isinstance(name, str) else name if isinstance(name, list) else []
    known = ", ".join(map(str, names))
    return (f"{known} ({other})" if other and known == "other" else known) or None


def _adapter(snapshot: Snapshot, family: Family, problems: list[str]) -> Facts:
    assert snapshot.base is not None  # else there is none
    try:
        lora = adapters.read(snapshot, family)
    except NativeBertError as error:
        problems.append(f"would not load: {error}")
        return {"merged into": None}
    scales = {product.scale for products in lora.added.values() for product in products}
    return {
        "kind": "LoRA, merged when it is loaded",
        "merged into": snapshot.base.reference,
        "rank": lora.rank,
        "scale": sorted(scales),
        "weights it changes": len(lora.added),
        "weights it replaces": sorted(lora.replaced),
        "head": lora.head,
    }


def _encoder(config: EncoderConfig, tasks: tuple[str, ...], found: TaskAdapters | None) -> Facts:
    layer = config.layers[0] if config.layers else None
    local = sum(each.window is not None for each in config.layers)
    window = next((each.window for each in config.layers if each.window is not None), None)
    return {
        "family": config.family,
        "saved as": config.architecture or None,
        "head": [f"{task}: {config.heads[task].classes} outputs on {config.heads[task].on}" for task in tasks],
        "layers": len(config.layers),
        "layers that share weights": len(config.layers) - len(config.blocks) or None,
        "layers with a window": f"{local}, of {window} tokens to each side" if local else None,
        "width": config.width,
        "embedding width": config.embedding_width,
        "heads": layer and layer.heads,
        "head width": layer and config.width // layer.heads,
        "feed-forward": layer and layer.intermediate_size,
        "activation": layer and layer.activation,
        "vocabulary": config.vocab_size,
        "positions": config.positions,
        "segments": config.segments,
        "norm epsilon": config.norm_eps,
        "adapters for tasks": list(adapters.names(found)),
        "labels": list(config.labels) if config.source.get("id2label") else [],
        "not understood": [f"{key} (in config.json)" for key in config.unread],
    }


def _weights(checkpoint: Checkpoint, ledger: Ledger, strays: list[str], problems: list[str]) -> Facts:
    try:
        ledger.check(unexpected=[glob.escape(name) for name in strays])
    except MismatchError as error:
        problems.append(f"would not load: {str(error).splitlines()[0]}")
    read = [source for row in ledger.rows if row.status in LOADED for source in row.sources]
    small = {
        source for row in ledger.rows if row.targets and ledger.eight_bits.issuperset(row.targets) for source in row.sources
    }
    if strange := [name for name in read if checkpoint.tensors[name].dtype not in FLOATS and name not in small]:
        dtypes = sorted({checkpoint.tensors[name].dtype for name in strange})
        problems.append(f"would not load: {strange[0]} is stored as {', '.join(dtypes)}, not as {', '.join(FLOATS)}")
    infos = checkpoint.tensors.values()
    scales = {source for row in ledger.rows if row.status == "scale" for source in row.sources}
    return {
        "files": [path.name for path in checkpoint.files],
        "bytes": checkpoint.nbytes,
        "parameters": sum(
            info.count for info in infos if (info.dtype in FLOATS or info.name in small) and info.name not in scales
        ),
        "dtypes": sorted({info.dtype for info in infos}),
        "tensors": len(infos),
        "left unread": ", ".join(strays) or None,
    }


def _tokenizer(tokenizer: Tokenizer, config: EncoderConfig, problems: list[str]) -> Facts:
    highest = max(tokenizer.vocab.values(), default=-1)
    if highest >= config.vocab_size:
        problems.append(
            f"cannot tokenize: the tokenizer gives ids up to {highest}, but the model has {config.vocab_size} rows for them"
        )
    return {
        "vocabulary": tokenizer.vocab_size,
        "lower-cases": tokenizer.lowercase,
        "longest text": tokenizer.max_length,
        "digest": tokenizer.digest[:16],
        "note": "; ".join(tokenizer.notes) or None,
    }


def _sentence(read: sentence.SentenceConfig, config: EncoderConfig, tokenizer: Tokenizer | None) -> Facts:
    limit = read.max_tokens or (tokenizer and tokenizer.max_length) or config.max_tokens
    width = config.width * len(read.pooling)
    then = []
    for step in read.then:
        if isinstance(step, sentence.Dense):
            width = step.outward
            then.append(f"dense {step.inward} to {step.outward}, {step.activation}{', residual' if step.residual else ''}")
        elif isinstance(step, sentence.Truncate):
            width = min(width, step.width)
            then.append(f"the first {width}")
        else:
            then.append(step if step == "normalize" else "layer norm")
    return {
        "pooling": list(read.pooling),
        "assumed": "; ".join(read.assumed) or None,
        "then": then,
        "dimension": width,
        "longest text": min(limit, config.max_tokens),
        "lower-cases": read.lowercase or None,
        "similarity": read.similarity,
        "prompts": dict(read.prompts or {}),
        "default prompt": read.default_prompt,
    }
