"""Examples to padded batches. Reference: transformers ``data_collator.py``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nativebert.errors import BadInputError
from nativebert.train.losses import IGNORED


def default_data_collator(features: Sequence[Any], return_tensors: str = "pt") -> dict[str, Tensor]:
    """Stack examples whose values are of equal size; ``label`` and ``label_ids`` become ``labels``."""
    rows = [dict(feature) if isinstance(feature, Mapping) else dict(vars(feature)) for feature in features]
    batch: dict[str, Tensor] = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        if isinstance(values[0], str) or values[0] is None:
            continue
        key = "labels" if name in ("label", "label_ids") else name
        batch[key] = torch.stack(values) if isinstance(values[0], Tensor) else torch.tensor(values)
    return batch


class DefaultDataCollator:
    """:func:`default_data_collator`, as an object."""

    def __init__(self, return_tensors: str = "pt") -> None:
        self.return_tensors = return_tensors

    def __call__(self, features: Sequence[Any], return_tensors: str | None = None) -> dict[str, Tensor]:
        return default_data_collator(features)


@dataclass
class DataCollatorWithPadding:
    """Pad the examples of a batch to the longest.

    Attributes:
        tokenizer: pads.
        padding, max_length, pad_to_multiple_of: as of ``tokenizer.pad``.
    """

    tokenizer: Any
    padding: Any = True
    max_length: int | None = None
    pad_to_multiple_of: int | None = None
    return_tensors: str = "pt"

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        rows = [dict(feature) for feature in features]
        labels = None
        for name in ("label", "label_ids"):
            if name in rows[0]:
                labels = [row.pop(name) for row in rows]
        how = {"padding": self.padding, "max_length": self.max_length, "pad_to_multiple_of": self.pad_to_multiple_of}
        batch = dict(self.tokenizer.pad(rows, return_tensors="pt", **how))
        if labels is not None:
            batch["labels"] = torch.stack(labels) if isinstance(labels[0], Tensor) else torch.tensor(labels)
        return batch


@dataclass
class DataCollatorForTokenClassification:
    """Pad the examples of a batch, and their labels with :attr:`label_pad_token_id`."""

    tokenizer: Any
    padding: Any = True
    max_length: int | None = None
    pad_to_multiple_of: int | None = None
    label_pad_token_id: int = IGNORED
    return_tensors: str = "pt"

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        rows = [dict(feature) for feature in features]
        name = "labels" if "labels" in rows[0] else "label"
        labels = [list(row.pop(name)) for row in rows] if name in rows[0] else None
        how = {"padding": self.padding, "max_length": self.max_length, "pad_to_multiple_of": self.pad_to_multiple_of}
        batch = dict(self.tokenizer.pad(rows, return_tensors="pt", **how))
        if labels is not None:
            width, left = batch["input_ids"].shape[1], self.tokenizer.padding_side == "left"
            fill = [[self.label_pad_token_id] * (width - len(row)) for row in labels]
            batch["labels"] = torch.tensor([pad + row if left else row + pad for row, pad in zip(labels, fill)])
        return batch


@dataclass
class DataCollatorForLanguageModeling:
    """Pad the examples of a batch, and mask tokens at random for masked-LM (arXiv:1810.04805, section 3.1).

    Attributes:
        tokenizer: pads, and has the mask token.
        mlm: must be True: nativebert has encoders only.
        mlm_probability: share of the tokens that are chosen.
        mask_replace_prob, random_replace_prob: of those, shares that become the mask token, and a random one.
        seed: of the choice; None for torch's generator.
    """

    tokenizer: Any
    mlm: bool = True
    mlm_probability: float = 0.15
    mask_replace_prob: float = 0.8
    random_replace_prob: float = 0.1
    pad_to_multiple_of: int | None = None
    return_tensors: str = "pt"
    seed: int | None = None

    def __post_init__(self) -> None:
        if not self.mlm:
            raise BadInputError("mlm=False is for language models that generate text; nativebert has encoders: leave it out")
        if self.tokenizer.mask_token is None:
            raise BadInputError("this tokenizer has no mask token, which masked-LM needs")
        self._generator = None if self.seed is None else torch.Generator().manual_seed(self.seed)

    def __call__(self, features: Sequence[Any]) -> dict[str, Tensor]:
        rows = [dict(f) if isinstance(f, Mapping) else {"input_ids": list(f)} for f in features]
        rows = [{k: v for k, v in row.items() if k not in ("label", "labels", "special_tokens_mask")} for row in rows]
        batch = dict(self.tokenizer.pad(rows, return_tensors="pt", pad_to_multiple_of=self.pad_to_multiple_of))
        batch["input_ids"], batch["labels"] = self.torch_mask_tokens(batch["input_ids"])
        return batch

    def torch_mask_tokens(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs ``(B, L)`` with some tokens changed, and the labels of those."""
        labels, inputs, generator = inputs.clone(), inputs.clone(), self._generator
        special = torch.isin(labels, torch.tensor(sorted(self.tokenizer.all_special_ids)))
        chosen = torch.bernoulli(
            torch.full(labels.shape, self.mlm_probability).masked_fill(special, 0.0), generator=generator
        ).bool()
        labels[~chosen] = IGNORED
        masked = torch.bernoulli(torch.full(labels.shape, self.mask_replace_prob), generator=generator).bool() & chosen
        inputs[masked] = self.tokenizer.mask_token_id
        left = 1 - self.mask_replace_prob
        share = self.random_replace_prob / left if left > 0 else 0.0
        other = torch.bernoulli(torch.full(labels.shape, share), generator=generator).bool() & chosen & ~masked
        words = torch.randint(len(self.tokenizer), labels.shape, dtype=torch.long, generator=generator)
        inputs[other] = words[other]
        return inputs, labels
