"""The result of a tokenizer, :class:`BatchEncoding`: ids, masks and offsets by name, as lists, arrays or tensors."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nativebert.errors import BadInputError, RefusedError

if TYPE_CHECKING:
    import tokenizers
    import torch

_PAD_ADVICE = "the texts have different lengths, which make no tensor: add padding=True, and truncation=True for long ones"


class CharSpan(NamedTuple):
    """First and last-plus-one character."""

    start: int
    end: int


class TokenSpan(NamedTuple):
    """First and last-plus-one token."""

    start: int
    end: int


def _finder(name: str, doc: str, span: type[CharSpan | TokenSpan] | None = None) -> Callable[..., Any]:
    """A method that looks up a token, word or character in a row's encoding."""

    def find(self: BatchEncoding, batch_or_index: int, index: int | None = None, sequence_index: int = 0) -> Any:
        row, index = (0, batch_or_index) if index is None else (batch_or_index, index)
        encoding = self._row(int(row))
        index = int(index) + (len(encoding) if index < 0 else 0)
        lookup = getattr(encoding, name)
        result = lookup(index) if name.startswith("token") else lookup(index, sequence_index)
        return result if span is None or result is None else span(*result)

    find.__name__, find.__doc__ = name, doc
    return find


class BatchEncoding(UserDict[str, Any]):
    """The result of a tokenizer: ``enc["input_ids"]``, ``enc.input_ids``, ``model(**enc)``; ``enc[0]`` is the first text's encoding.

    Methods that take a token, word or character take the text's number before it, or leave it out for the first text.
    """

    def __init__(
        self,
        data: Mapping[str, Any] | None = None,
        encoding: tokenizers.Encoding | Sequence[tokenizers.Encoding] | None = None,
        tensor_type: str | None = None,
        prepend_batch_axis: bool = False,
        n_sequences: int | None = None,
    ) -> None:
        super().__init__(data)
        single = encoding is not None and not isinstance(encoding, Sequence)
        self._encodings: list[tokenizers.Encoding] | None = [encoding] if single else encoding  # type: ignore[list-item,assignment]
        self._n_sequences = n_sequences or (self._encodings[0].n_sequences if self._encodings else None)
        self.convert_to_tensors(tensor_type, prepend_batch_axis)

    def __getitem__(self, item: Any) -> Any:
        if isinstance(item, str):
            return self.data[item]
        if self._encodings is not None:
            return self._encodings[item]
        if isinstance(item, slice):
            return {name: values[item] for name, values in self.data.items()}
        raise KeyError(f"{item!r}: this encoding was not made by a tokenizer; it has {', '.join(self.data)}, and slices")

    def __getattr__(self, name: str) -> Any:
        if name != "data" and name in self.__dict__.get("data", ()):
            return self.data[name]
        raise AttributeError(f"the encoding has no {name!r}; it has {', '.join(self.__dict__.get('data', ()))}")

    def __getstate__(self) -> dict[str, Any]:
        return dict(self.__dict__)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    @property
    def encodings(self) -> list[tokenizers.Encoding] | None:
        """The encoding of each row, an object of the tokenizers library."""
        return self._encodings

    @property
    def is_fast(self) -> bool:
        """Whether there are :attr:`encodings`."""
        return self._encodings is not None

    @property
    def n_sequences(self) -> int | None:
        """1 for single texts, 2 for pairs."""
        return self._n_sequences

    def _row(self, row: int) -> tokenizers.Encoding:
        if not self._encodings:
            raise BadInputError("this encoding was not made by a tokenizer from text, and has no tokens, words or characters")
        return self._encodings[row]

    def tokens(self, batch_index: int = 0) -> list[str]:
        """The tokens of a row."""
        return self._row(batch_index).tokens

    def word_ids(self, batch_index: int = 0) -> list[int | None]:
        """The word of each token of a row; None for added special tokens."""
        return self._row(batch_index).word_ids

    def sequence_ids(self, batch_index: int = 0) -> list[int | None]:
        """0 or 1 for each token of a row, by the text of the pair it came from; None for added special tokens."""
        return self._row(batch_index).sequence_ids

    token_to_sequence = _finder(
        "token_to_sequence", "The text of the pair, 0 or 1, that a token came from; None for a special token."
    )
    token_to_word = _finder("token_to_word", "The word of a token.")
    token_to_chars = _finder("token_to_chars", "The characters of a token.", CharSpan)
    word_to_tokens = _finder(
        "word_to_tokens", "The tokens of a word; ``sequence_index`` says of which text of a pair.", TokenSpan
    )
    word_to_chars = _finder(
        "word_to_chars", "The characters of a word; ``sequence_index`` says of which text of a pair.", CharSpan
    )
    char_to_token = _finder("char_to_token", "The token of a character; ``sequence_index`` says of which text of a pair.")
    char_to_word = _finder("char_to_word", "The word of a character; ``sequence_index`` says of which text of a pair.")

    def convert_to_tensors(self, tensor_type: str | None = None, prepend_batch_axis: bool = False) -> BatchEncoding:
        """Make tensors (``"pt"``) or arrays (``"np"``) of the lists, in place."""
        if tensor_type is None:
            return self
        kind = getattr(tensor_type, "value", tensor_type)
        if kind not in ("pt", "np"):
            raise RefusedError(
                f"return_tensors={kind!r} is not supported: use 'pt' for torch, 'np' for numpy, or None for lists"
            )
        for name, value in self.data.items():
            try:
                self.data[name] = _tensor([value] if prepend_batch_axis else value, kind)
            except (ValueError, TypeError) as error:
                raise BadInputError(f"{name} makes no tensor ({error}): {_PAD_ADVICE}") from error
        return self

    def to(self, device: str | torch.device | int, *, non_blocking: bool = False) -> BatchEncoding:
        """Move the tensors to a device, in place."""
        self.data = {
            name: value.to(device=device, non_blocking=non_blocking) if hasattr(value, "to") else value
            for name, value in self.data.items()
        }
        return self


def _tensor(value: Any, kind: str) -> Any:
    """A list as a tensor or an array; integers where it is empty."""
    if kind == "np":
        ragged = isinstance(value, list) and len({len(row) for row in value if isinstance(row, list | tuple)}) > 1
        array = np.asarray([np.asarray(row) for row in value], dtype=object) if ragged else np.asarray(value)
        return array if array.size else array.astype(np.int64)
    import torch

    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, list) and value and isinstance(value[0], np.ndarray):
        return torch.from_numpy(np.array(value))
    tensor = torch.tensor(value)
    return tensor if tensor.numel() else tensor.long()
