"""Examples to padded batches. Reference: transformers ``data_collator.py``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nativebert.errors import BadInputError, RefusedError
from nativebert.hf.encoding import BatchEncoding
from nativebert.train.losses import IGNORED

_LABELS = ("label", "label_ids", "labels")


def default_data_collator(features: Sequence[Any], return_tensors: str = "pt") -> dict[str, Tensor]:
    """Stack examples whose values are of equal size; ``label`` and ``label_ids`` become ``labels``.

    Args:
        features: examples: dicts, or objects with attributes. Texts and None are left out.
        return_tensors: ``"pt"``.
    """
    _check(return_tensors)
    rows = [dict(feature) if isinstance(feature, Mapping) else dict(vars(feature)) for feature in features]
    batch: dict[str, Tensor] = {}
    for name in sorted(rows[0], key=lambda name: name not in _LABELS[:2]):
        values = [row[name] for row in rows]
        if not isinstance(values[0], str) and values[0] is not None:
            batch["labels" if name in _LABELS[:2] else name] = _stacked(values)
    return batch


def _stacked(values: Sequence[Any]) -> Tensor:
    if isinstance(values[0], Tensor):
        return torch.stack(list(values))
    if isinstance(values[0], np.ndarray):
        return torch.from_numpy(np.stack(list(values)))
    return torch.tensor(values)


def _check(return_tensors: str) -> None:
    if return_tensors != "pt":
        raise RefusedError(f"return_tensors={return_tensors!r} is not supported here: leave it out, or pass 'pt'")


@dataclass
class DefaultDataCollator:
    """:func:`default_data_collator`, as an object."""

    return_tensors: str = "pt"

    def __call__(self, features: Sequence[Any], return_tensors: str | None = None) -> dict[str, Tensor]:
        return default_data_collator(features, return_tensors or self.return_tensors)


@dataclass
class DataCollatorWithPadding:
    """Pad the examples of a batch to the longest; ``label`` and ``label_ids`` become ``labels``.

    Attributes:
        tokenizer: pads.
        padding, max_length, pad_to_multiple_of: as of ``tokenizer.pad``.
        return_tensors: ``"pt"``.
    """

    tokenizer: Any
    padding: Any = True
    max_length: int | None = None
    pad_to_multiple_of: int | None = None
    return_tensors: str = "pt"

    def __post_init__(self) -> None:
        _check(self.return_tensors)

    def _padded(self, rows: Sequence[Mapping[str, Any]]) -> BatchEncoding:
        how = {"padding": self.padding, "max_length": self.max_length, "pad_to_multiple_of": self.pad_to_multiple_of}
        batch: BatchEncoding = self.tokenizer.pad(list(rows), return_tensors="pt", **how)
        return batch

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> BatchEncoding:
        rows, labels = _without(features, _LABELS)
        batch = self._padded(rows)
        if labels is not None:
            batch["labels"] = _stacked(labels)
        return batch


def _without(features: Sequence[Mapping[str, Any]], names: Sequence[str]) -> tuple[list[dict[str, Any]], list[Any] | None]:
    """Examples without their labels, and those: the first of ``names`` that they have."""
    name = next((name for name in names if name in features[0]), None)
    labels = None if name is None else [feature[name] for feature in features]
    return [{key: value for key, value in feature.items() if key != name} for feature in features], labels


@dataclass
class DataCollatorForTokenClassification(DataCollatorWithPadding):
    """Pad the examples of a batch, and their labels with :attr:`label_pad_token_id`."""

    label_pad_token_id: int = IGNORED
    return_tensors: str = field(default="pt", kw_only=True)

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> BatchEncoding:
        rows, labels = _without(features, ("label", "labels"))
        batch = self._padded(rows)
        if labels is not None:
            width, left = batch["input_ids"].shape[1], self.tokenizer.padding_side == "left"
            lists = [row.tolist() if isinstance(row, Tensor | np.ndarray) else list(row) for row in labels]
            fill = [[self.label_pad_token_id] * (width - len(row)) for row in lists]
            name = "label" if "label" in features[0] else "labels"
            batch[name] = torch.tensor([pad + row if left else row + pad for row, pad in zip(lists, fill)])
        return batch


@dataclass
class DataCollatorForMultipleChoice(DataCollatorWithPadding):
    """Pad examples with several choices each, all to the longest choice: ``(B, choices, L)``."""

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:  # type: ignore[override]
        rows, labels = _without(features, ("label", "labels"))
        choices = len(rows[0]["input_ids"])
        flat = [{name: values[n] for name, values in row.items()} for row in rows for n in range(choices)]
        batch = {name: t.view(len(rows), choices, -1) for name, t in self._padded(flat).items()}
        if labels is not None:
            batch["labels"] = torch.tensor(labels, dtype=torch.int64)
        return batch


@dataclass
class DataCollatorForLanguageModeling:
    """Pad the examples of a batch, and mask tokens at random for masked-LM (arXiv:1810.04805, section 3.1): the draws are transformers'.

    Attributes:
        tokenizer: pads, and has the mask token.
        mlm: must be True: nativebert has encoders only.
        whole_word_mask: must be False.
        mlm_probability: share of the tokens that are chosen.
        mask_replace_prob, random_replace_prob: of those, shares that become the mask token, and a random one.
        pad_to_multiple_of: as of ``tokenizer.pad``.
        return_tensors: ``"pt"``.
        seed: of the choice; None for torch's generator.
    """

    tokenizer: Any
    mlm: bool = True
    whole_word_mask: bool = False
    mlm_probability: float = 0.15
    mask_replace_prob: float = 0.8
    random_replace_prob: float = 0.1
    pad_to_multiple_of: int | None = None
    return_tensors: str = "pt"
    seed: int | None = None

    def __post_init__(self) -> None:
        _check(self.return_tensors)
        if not self.mlm:
            raise RefusedError("mlm=False is for models that generate text, and nativebert has encoders: leave it out")
        if self.whole_word_mask:
            raise RefusedError("whole_word_mask=True is not supported: leave it out")
        if self.tokenizer.mask_token is None:
            raise BadInputError("this tokenizer has no mask token, which masked-LM needs")
        shares = (
            self.mlm_probability,
            self.mask_replace_prob,
            self.random_replace_prob,
            self.mask_replace_prob + self.random_replace_prob,
        )
        if not all(0 <= share <= 1 for share in shares):
            raise BadInputError(
                "mlm_probability, mask_replace_prob, random_replace_prob, and the sum of the last two, must be in [0, 1]"
            )
        self.generator = None if self.seed is None else torch.Generator().manual_seed(self.seed)

    def __call__(self, features: Sequence[Any]) -> BatchEncoding:
        rows = [dict(f) if isinstance(f, Mapping) else {"input_ids": list(f)} for f in features]
        rows = [{name: value for name, value in row.items() if name not in _LABELS} for row in rows]
        batch: BatchEncoding = self.tokenizer.pad(rows, return_tensors="pt", pad_to_multiple_of=self.pad_to_multiple_of)
        special = batch.pop("special_tokens_mask", None)
        batch["input_ids"], batch["labels"] = self.torch_mask_tokens(batch["input_ids"], special)
        return batch

    def torch_mask_tokens(self, inputs: Tensor, special_tokens_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mask tokens.

        Args:
            inputs: token ids, ``(B, L)``; they are changed.
            special_tokens_mask: as large, 1 for a token that stays; None for the tokenizer's special ones.

        Returns:
            The inputs, and their labels: the ids of the tokens that were chosen, -100 for all others.
        """
        labels, generator = inputs.clone(), self.generator
        if special_tokens_mask is None:
            special_tokens_mask = torch.isin(labels, torch.tensor(sorted(self.tokenizer.all_special_ids)))
        probability = torch.full(labels.shape, self.mlm_probability).masked_fill_(special_tokens_mask.bool(), 0.0)
        chosen = torch.bernoulli(probability, generator=generator).bool()
        labels[~chosen] = IGNORED
        masked = torch.bernoulli(torch.full(labels.shape, self.mask_replace_prob), generator=generator).bool() & chosen
        inputs[masked] = self.tokenizer.mask_token_id
        if self.mask_replace_prob == 1 or self.random_replace_prob == 0:
            return inputs, labels
        share = self.random_replace_prob / (1 - self.mask_replace_prob)
        other = torch.bernoulli(torch.full(labels.shape, share), generator=generator).bool() & chosen & ~masked
        words = torch.randint(len(self.tokenizer), labels.shape, dtype=torch.long, generator=generator)
        inputs[other] = words[other]
        return inputs, labels
