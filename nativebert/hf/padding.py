"""Padding: which strategy the arguments of a call ask for, and rows of ids filled up to one length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nativebert.checks import whole_number
from nativebert.errors import BadInputError
from nativebert.hf.encoding import BatchEncoding


def strategies(
    padding: Any, truncation: Any, length: int | None, multiple: int | None, model_max_length: Any, pad_token_id: int | None
) -> tuple[str, str, int | None]:
    """Padding strategy, truncation strategy and length, as the arguments of a call ask for them.

    Args:
        padding, truncation: True, False, None or a name, as in transformers.
        length: ``max_length``, or None.
        multiple: ``pad_to_multiple_of``, or None.
        model_max_length, pad_token_id: of the tokenizer.

    Raises:
        BadInputError: an unknown name, a tokenizer without a padding token, or a length that is no multiple.
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
    if length is None and model_max_length >= 1e20:
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


def padded(
    encodings: Mapping[str, Any],
    strategy: str,
    length: int | None,
    multiple: int | None,
    side: str,
    fill: Mapping[str, Any],
    tensor_type: str | None,
) -> BatchEncoding:
    """Encodings, one or a batch, filled up to one length.

    Args:
        encodings: lists, arrays or tensors by name, ``input_ids`` among them.
        strategy: ``"longest"``, ``"max_length"`` or ``"do_not_pad"``.
        length: of ``"max_length"``.
        multiple: the length is rounded up to a multiple of it.
        side: ``"left"`` or ``"right"``.
        fill: by name, the value that fills; ``attention_mask: None`` neither makes nor fills a mask.
        tensor_type: ``"pt"``, ``"np"``; None for the type of what was passed.
    """
    data = {name: to_lists(value) for name, value in encodings.items()}
    ids = encodings["input_ids"]
    sample = ids[0] if len(ids) else []
    while isinstance(sample, list | tuple) and sample:
        sample = sample[0]
    if tensor_type is None and hasattr(sample, "tolist"):
        tensor_type = "np" if isinstance(sample, np.ndarray | np.generic) else "pt"
    single = not (data["input_ids"] and isinstance(data["input_ids"][0], list))
    rows = [data] if single else [{name: value[row] for name, value in data.items()} for row in range(len(data["input_ids"]))]
    length = max(len(row["input_ids"]) for row in rows) if strategy == "longest" else length
    if length is not None and multiple:
        length = -(-length // multiple) * multiple
    filled = [_filled(row, (length or 0) if strategy != "do_not_pad" else 0, side, fill) for row in rows]
    return BatchEncoding(
        filled[0] if single else {name: [row[name] for row in filled] for name in filled[0]}, tensor_type=tensor_type
    )


def _filled(row: dict[str, Any], length: int, side: str, fill: Mapping[str, Any]) -> dict[str, Any]:
    size = len(row["input_ids"])
    if fill["attention_mask"] is not None and "attention_mask" not in row:
        row = row | {"attention_mask": [1] * size}
    if length <= size:
        return row
    filled = dict(row)
    for name in fill.keys() & row.keys():
        if fill[name] is not None:
            more = [fill[name]] * (length - size)
            filled[name] = more + row[name] if side == "left" else row[name] + more
    return filled


def checked_side(value: Any) -> Any:
    if value not in ("left", "right"):
        raise BadInputError(f"padding_side must be 'left' or 'right', not {value!r}")
    return value


def to_lists(value: Any) -> Any:
    """Tensors and arrays, alone or in lists, as lists."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return [to_lists(item) for item in value] if isinstance(value, list | tuple) else value
