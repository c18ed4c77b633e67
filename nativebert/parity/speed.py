"""transformers as a contender of :mod:`nativebert.bench`: what people do today, done well."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nativebert.errors import NativeBertError

BATCHES = (8, 16, 32)
NEEDED = "the comparison requires transformers: pip install 'nativebert[parity]'"


def require() -> None:
    """Have transformers, or tell what to install.

    Raises:
        NativeBertError: it is not there.
    """
    try:
        import transformers
    except ImportError:
        raise NativeBertError(NEEDED) from None
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]


class Transformers:
    """transformers in float32 with sdpa attention, where the model has it: texts sorted by length, padded batches of the size that is
    fastest, the mean over the tokens, unit length.

    Args:
        folder: the model's files.
        device: where it runs.
        max_tokens: most tokens of a text; longer ones are cut.

    Raises:
        NativeBertError: transformers is not installed, or cannot read the model.
    """

    name = "transformers"

    def __init__(self, folder: Path, device: torch.device, max_tokens: int) -> None:
        require()
        self._folder, self._device, self._most = folder, device, max_tokens
        self._attention = "sdpa"
        self._chosen: list[int] = []
        try:
            self._tokenizer, self._network = self._open()
        except Exception as error:
            reason = str(error).strip().partition("\n")[0]
            raise NativeBertError(f"transformers cannot load {folder} ({reason}): remove against='transformers'") from error

    @property
    def about(self) -> str:
        """Its version, its attention, and the batch size of each work that had a choice."""
        sizes = ", ".join(map(str, self._chosen))
        return f"{version('transformers')}, {self._attention}, sorted by length, batch sizes {sizes} (best of {', '.join(map(str, BATCHES))})"

    def _open(self) -> tuple[Any, Any]:
        from transformers import AutoModel, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(self._folder)
        try:
            network = AutoModel.from_pretrained(self._folder, attn_implementation=self._attention, dtype=torch.float32)
        except ValueError:  # a family that has no sdpa
            if self._attention == "eager":
                raise
            self._attention = "eager"
            network = AutoModel.from_pretrained(self._folder, attn_implementation=self._attention, dtype=torch.float32)
        return tokenizer, network.to(self._device).eval()

    def load(self, text: str) -> object:
        """Load the model from its files and embed one text."""
        return self._vectors([text], 1, *self._open())

    def vectors(self, texts: list[str]) -> Callable[[], NDArray[np.float32]]:
        """A run over texts to vectors, float32 ``(n, H)``, in the batch size that is fastest."""
        return self._best(lambda size: self._vectors(texts, size, self._tokenizer, self._network), len(texts))

    def states(self, rows: list[list[int]]) -> Callable[[], object]:
        """A run over token ids to the last hidden states, in the batch size that is fastest."""

        def run(size: int) -> None:
            for _, hidden, _ in _batches(rows, size, self._network):
                last = hidden
            last[0, 0, 0].item()  # waits for the device

        return self._best(run, len(rows))

    def _best(self, run: Callable[[int], Any], count: int) -> Callable[[], Any]:
        """The run at the fastest of the batch sizes: each twice, after one to warm up."""
        sizes = sorted({min(size, count) for size in BATCHES})
        took = dict.fromkeys(sizes, float("inf"))
        if len(sizes) > 1:
            run(sizes[0])
            for size in sizes * 2:
                began = time.perf_counter()
                run(size)
                took[size] = min(took[size], time.perf_counter() - began)
        best = min(took, key=lambda size: took[size])
        self._chosen += [best] if len(sizes) > 1 else []
        return lambda: run(best)

    def _vectors(self, texts: list[str], size: int, tokenizer: Any, network: Any) -> NDArray[np.float32]:
        rows = tokenizer(texts, truncation=True, max_length=self._most, return_attention_mask=False)["input_ids"]
        out = np.empty((len(texts), network.config.hidden_size), np.float32)
        for which, hidden, mask in _batches(rows, size, network):
            pooled = (hidden * mask[:, :, None]).sum(1)  # a sum: at unit length it is the mean
            out[which] = torch.nn.functional.normalize(pooled, dim=1).cpu().numpy()
        return out


@torch.inference_mode()
def _batches(rows: list[list[int]], size: int, network: Any) -> Iterator[tuple[NDArray[np.int64], Tensor, Tensor]]:
    """Run padded batches, the longest texts first: which rows, hidden states ``(B, L, H)``, mask ``(B, L)``."""
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    order = np.argsort(-lengths, kind="stable")
    pad = network.config.pad_token_id or 0
    for start in range(0, len(rows), size):
        which = order[start : start + size]
        mask = (np.arange(lengths[which[0]]) < lengths[which][:, None]).astype(np.int64)
        ids = np.full(mask.shape, pad)
        ids[mask.astype(bool)] = np.concatenate([rows[n] for n in which])
        inputs = [torch.from_numpy(x).to(network.device) for x in (ids, mask)]
        yield which, network(input_ids=inputs[0], attention_mask=inputs[1]).last_hidden_state, inputs[1]
