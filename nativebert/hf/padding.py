"""Padding and truncation arguments of a tokenizer call, and padding of encodings that were made before."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Mapping
from typing import Any

import numpy as np

from nativebert.checks import whole_number
from nativebert.errors import BadInputError

NO_LIMIT = 2**31 - 1  # ``model_max_length`` of a tokenizer without a limit; the 1e30 of files is beyond the integers of R


def strategies(
    padding: Any, truncation: Any, length: int | None, multiple: int | None, model_max_length: int, pad_token_id: int | None
) -> tuple[str, str, int | None]:
    """The padding strategy, the truncation strategy and the length that a call's arguments mean.

    Raises:
        BadInputError: an unknown strategy, padding without a padding token, or a length that is not the multiple.
    """
    padding, truncation = getattr(padding, "value", padding), getattr(truncation, "value", truncation)
    if length is not None and padding is False and truncation is None:
        truncation = True
    pad = {True: "longest", False: "do_not_pad", None: "do_not_pad"}.get(padding, padding)
    cut = {True: "longest_first", False: "do_not_truncate", None: "do_not_truncate"}.get(truncation, truncation)
    for name, value, known in (
        ("padding", pad, ("longest", "max_length", "do_not_pad")),
        ("truncation", cut, ("longest_first", "only_first", "only_second", "do_not_truncate")),
    ):
        if value not in known:
            raise BadInputError(f"{name} must be True, False or one of {', '.join(known)}, not {value!r}")
    if length is None and model_max_length >= NO_LIMIT:
        pad, cut = "do_not_pad" if pad == "max_length" else pad, "do_not_truncate"
    elif length is None and (pad == "max_length" or cut != "do_not_truncate"):
        length = whole_number("model_max_length", model_max_length)
    if pad != "do_not_pad" and pad_token_id is None:
        raise BadInputError(
            "the tokenizer has no padding token: set tokenizer.pad_token to a token of the vocabulary, or pass padding=False"
        )
    if multiple and length and pad != "do_not_pad" and cut != "do_not_truncate" and length % multiple:
        raise BadInputError(f"max_length={length} is not a multiple of pad_to_multiple_of={multiple}: change one of them")
    return pad, cut, length


def padding_side_of(value: Any) -> Any:
    """``"left"`` or ``"right"``; an error for anything else."""
    if value not in ("left", "right"):
        raise BadInputError(f"padding_side must be 'left' or 'right', not {value!r}")
    return value


def as_lists(value: Any) -> Any:
    """Tensors and arrays, alone or in lists, as lists."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return [as_lists(item) for item in value] if isinstance(value, list | tuple) else value


def batch_of(encoded: Any) -> tuple[dict[str, list[Any]], bool, str | None]:
    """Encodings, one or several, as lists of rows by name.

    Returns:
        The rows by name, whether it was one encoding alone, and the tensor type it came in: ``"pt"``, ``"np"``, or None for lists.

    Raises:
        BadInputError: there are no ``input_ids``.
    """
    if isinstance(encoded, list | tuple) and encoded and isinstance(encoded[0], Mapping | UserDict):
        encoded = {name: [example[name] for example in encoded] for name in encoded[0]}
    if "input_ids" not in encoded:
        raise BadInputError(
            f"there are no input_ids to pad, only {', '.join(map(str, encoded))}: pass what the tokenizer returned"
        )
    ids = encoded["input_ids"]
    sample = ids[0] if len(ids) else []
    while isinstance(sample, list | tuple) and sample:
        sample = sample[0]
    kind = None
    if hasattr(sample, "tolist"):
        kind = "np" if isinstance(sample, np.ndarray | np.generic) else "pt"
    data = {name: as_lists(value) for name, value in encoded.items()}
    single = not (data["input_ids"] and isinstance(data["input_ids"][0], list))
    return {name: [value] for name, value in data.items()} if single else data, single, kind


def pad_rows(data: Mapping[str, list[Any]], length: int, pad_id: int | None, side: str, masked: bool) -> dict[str, list[Any]]:
    """Rows padded to ``length`` at ``side``; longer rows stay as they are.

    Args:
        data: rows by name.
        length: the least length of a row; 0 pads nothing.
        pad_id: the id of the padding token.
        side: ``"left"`` or ``"right"``.
        masked: make ``attention_mask`` where it is missing, and pad it.
    """
    fill = {"input_ids": pad_id, "attention_mask": 0, "token_type_ids": 0, "special_tokens_mask": 1}
    sizes = [len(ids) for ids in data["input_ids"]]
    padded = dict(data)
    if masked and "attention_mask" not in data:
        padded["attention_mask"] = [[1] * size for size in sizes]
    for name in fill.keys() & padded.keys() if length else ():
        if name != "attention_mask" or masked:
            pads = [[fill[name]] * max(0, length - size) for size in sizes]
            padded[name] = [pad + row if side == "left" else row + pad for row, pad in zip(padded[name], pads)]
    return padded
