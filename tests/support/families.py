"""Tiny models of every family with every head, made by transformers, and what it computes from them."""

from __future__ import annotations

import zlib
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from models import LACKS, RENAMED, STEM, VARIANTS, their_logits, unlike
from safetensors.torch import load_file, save_file

from nativebert.arch import family
from nativebert.config import ARCHITECTURES
from nativebert.parity.compare import Steps, steps

# What transformers has: the common classes of every family, and those that some have.
COMMON = ["Model", *(end for end in ARCHITECTURES if end != "ForNextSentencePrediction")]
_BERT = ["ForPreTraining", "ForNextSentencePrediction"]
MORE = {"bert": _BERT, "ernie": _BERT, "electra": ["ForPreTraining"], "albert": ["ForPreTraining"]}
PRETRAINING = {"bert": ("lm", "nsp"), "ernie": ("lm", "nsp"), "albert": ("lm", "sop"), "electra": ("rtd",)}


@dataclass(frozen=True)
class Made:
    """A variant with the head of one of transformers' classes."""

    variant: str
    end: str  # of the class's name

    def __str__(self) -> str:
        return f"{self.variant.replace(' ', '_')}-{self.end}"

    @property
    def family(self) -> str:
        return self.variant.split()[0]

    @property
    def tasks(self) -> tuple[str, ...]:
        return PRETRAINING[self.family] if self.end == "ForPreTraining" else ARCHITECTURES.get(self.end, ())

    @property
    def segments(self) -> bool:
        return VARIANTS[self.variant].get("type_vocab_size", 2) > 1 and self.family not in (
            "distilbert",
            "eurobert",
            "gpt2",
            "mpnet",
            "modernbert",
        )

    @property
    def kind(self) -> Any:
        import transformers

        return getattr(transformers, STEM[self.family] + self.end)

    def model(self, **changes: Any) -> Any:
        """The model with healthy weights, in evaluation mode, computing attention as written."""
        labels = 2 if self.end == "ForQuestionAnswering" else 5
        model = self.kind(self.kind.config_class(**VARIANTS[self.variant] | {"num_labels": labels} | changes)).eval()
        unlike(model, zlib.crc32(str(self).encode()))
        model.tie_weights()
        model.set_attn_implementation("eager")
        return model


EVERY = [
    Made(variant, end)
    for variant in VARIANTS
    for end in COMMON + MORE.get(variant.split()[0], [])
    if end not in LACKS.get(variant.split()[0], ())
]


WITH_HEADS = [variant for variant in VARIANTS if "ForMaskedLM" not in LACKS.get(variant.split()[0], ())]


@dataclass(frozen=True)
class Batch:
    """A padded batch; sequences are pairs of choices where the task is to choose."""

    ids: torch.Tensor
    mask: torch.Tensor
    segments: torch.Tensor | None

    @classmethod
    def of(cls, made: Made, lengths: tuple[int, ...] = (20, 11, 11, 3), seed: int = 0, vocab: int = 60) -> Batch:
        pad = family(made.family).config({"model_type": made.family, **VARIANTS[made.variant]}).pad_id
        g = torch.Generator().manual_seed(seed)
        ids = torch.randint(5, vocab, (len(lengths), max(lengths)), generator=g)
        mask = torch.zeros_like(ids)
        for row, length in enumerate(lengths):
            mask[row, :length] = 1
        ids[mask == 0] = pad
        ids[0, min(7, max(lengths) - 2)] = pad  # a padding token that is none
        kinds = torch.randint(0, 2, ids.shape, generator=g) * mask if made.segments else None
        return cls(ids, mask, kinds)

    def given(self, choices: int = 0) -> dict[str, torch.Tensor]:
        """As arguments of a model; ``(B / choices, choices, L)`` where the task is to choose."""
        named = {"input_ids": self.ids, "attention_mask": self.mask, "token_type_ids": self.segments}
        return {k: v.view(-1, choices, v.shape[-1]) if choices else v for k, v in named.items() if v is not None}

    @cached_property
    def rows(self) -> list[Batch]:
        """Each sequence by itself, without its padding."""
        found = []
        for row, length in enumerate(self.mask.sum(1).tolist()):
            at = slice(row, row + 1), slice(0, length)
            found.append(Batch(self.ids[at], self.mask[at], None if self.segments is None else self.segments[at]))
        return found


def steps_with_logits(output: Any, logits: dict[str, torch.Tensor], batch: Batch) -> dict[str, torch.Tensor]:
    """Every step of an output, ours or theirs, zeros where there is no token."""
    found = steps(output, batch.mask)
    for task, values in logits.items():
        if task in ("lm", "tag", "answer", "rtd"):
            values = values.masked_fill(batch.mask.view(*batch.mask.shape, *[1] * (values.dim() - 2)) == 0, 0.0)
        found[f"logits of {task}"] = values
    return found


def theirs(model: Any, made: Made, batch: Batch, *, choices: int = 2) -> Steps:
    """What transformers computes from a batch. ModernBERT gets each sequence alone: padding makes it NaN there."""
    if made.family == "modernbert" and not bool(batch.mask.all()):
        return _stacked([theirs(model, made, row, choices=1) for row in batch.rows], batch.mask.shape[1])
    with torch.no_grad():
        given = batch.given(choices if made.tasks == ("choose",) else 0)
        output = model(**given, output_hidden_states=True, output_attentions=True)
    return steps_with_logits(output, {task: their_logits(output, task) for task in made.tasks}, batch)


def ours(model: Any, made: Made, batch: Batch) -> Steps:
    """What nativebert computes from it."""
    with torch.no_grad():
        given = batch.given(2 if made.tasks == ("choose",) else 0)
        output = model(**given, output_hidden_states=True, output_attentions=True)
    found = steps_with_logits(output, output.all_logits, batch)
    if made.end != "Model":  # transformers' classes with a head do not return it
        found.pop("pooler", None)
    return found


def as_saved(model: Any, gradients: bool = False) -> dict[str, torch.Tensor]:
    """The parameters of a model of transformers, or their gradients, as its files would have them: some families have other names there."""
    twin = deepcopy(model)
    for p, other in zip(twin.parameters(), model.parameters(), strict=True):
        if gradients:
            p.data = torch.zeros_like(other) if other.grad is None else other.grad.clone()
    with TemporaryDirectory() as folder:
        twin.save_pretrained(folder)
        tensors = load_file(Path(folder) / "model.safetensors")
    for old, new in family(model.config.model_type).map.spellings.items():
        tensors = {name.removesuffix(old) + new if name.endswith(old) else name: value for name, value in tensors.items()}
    return tensors


def their_state(model: Any, gradients: bool = False) -> dict[str, torch.Tensor]:
    """The parameters of a model of transformers, or their gradients, tied ones included, under the names of its files."""
    if (name := model.config.model_type) not in RENAMED:
        if not gradients:
            return dict(model.state_dict())
        return {name: p.grad for name, p in model.named_parameters(remove_duplicate=False) if p.grad is not None}
    saved, names = as_saved(model, gradients), family(name).map
    for tied, leader in () if gradients else names.ties.items():
        (source,), (other,) = names.sources_of(tied), names.sources_of(leader)
        if any(name.startswith(source.partition(".")[0] + ".") for name in saved):
            saved.setdefault(source, saved[other])
    return saved


def _stacked(rows: list[Steps], L: int) -> Steps:
    found = {}
    for name in rows[0]:
        if name == "logits of choose":
            found[name] = torch.cat([row[name] for row in rows]).view(-1, 2)
        elif name.startswith("logits of classify"):
            found[name] = torch.cat([row[name] for row in rows])
        elif name.endswith("attention"):
            found[name] = torch.cat([_grown(_grown(row[name], 2, L), 3, L) for row in rows])
        else:
            found[name] = torch.cat([_grown(row[name], 1, L) for row in rows])
    return found


def _grown(x: torch.Tensor, axis: int, size: int) -> torch.Tensor:
    shape = list(x.shape)
    shape[axis] = size - shape[axis]
    return torch.cat([x, x.new_zeros(shape)], axis)


def write(model: Any, folder: Path, how: str) -> Any:
    """Have transformers save the model as one of :data:`FILES`; returns it with the values that the file has, in float32."""
    dtype = {"float16": torch.float16, "bfloat16": torch.bfloat16}.get(how, torch.float32)
    deepcopy(model).to(dtype).save_pretrained(folder, max_shard_size=2000 if how == "shards" else 2**30)
    if how == "gamma":
        path = folder / "model.safetensors"
        tensors = load_file(path)
        old = {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): t
            for name, t in tensors.items()
        }
        assert old.keys() != tensors.keys()
        save_file(old, path, {"format": "pt"})
    same = deepcopy(model)  # its buffers (rotary frequencies) are never rounded
    with torch.no_grad():
        for p in same.parameters():
            p.copy_(p.to(dtype))
    return same
