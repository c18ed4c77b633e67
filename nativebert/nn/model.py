"""The whole model as users hold it: an encoder with a pooler, padded batches in, padded views out."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from nativebert.config import EncoderConfig
from nativebert.errors import NotFoundError
from nativebert.nn.encoder import Encoder
from nativebert.nn.heads import Head, first_tokens
from nativebert.nn.layers import Linear
from nativebert.nn.packed import Packed, Padding, pack

if TYPE_CHECKING:
    from os import PathLike

    from nativebert.hub import Snapshot
    from nativebert.text.tokenizer import Tokenizer
    from weights_map import Ledger


class Pooler(nn.Module):
    """BERT's pooler: tanh of a dense layer on the first token, ``(B, H)`` -> ``(B, H)``."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.dense = Linear(config.width, config.width)

    def forward(self, first: Tensor) -> Tensor:
        return torch.tanh(self.dense(first))


@dataclass
class Output:
    """What a model returns. Cells that hold no token are zero, unless they were asked for (``keep_padding``).

    Attributes:
        last_hidden_state: ``(B, L, H)``.
        pooler_output: ``(B, H)``, or None for a model without a pooler.
        logits: of the model's head (the first, if it has several): ``(B, L, C)`` for a head on tokens, ``(B, L)`` for replaced-token
            detection, ``(B, C)`` for one on sequences, ``(B, choices)`` for multiple choice; None without a head.
        all_logits: of each head, by task.
        hidden_states: ``(B, L, H)`` after the embeddings and after each layer, if asked for.
        attentions: ``(B, A, L, L)`` for each layer, if asked for.
    """

    last_hidden_state: Tensor
    pooler_output: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    logits: Tensor | None = None
    all_logits: dict[str, Tensor] = field(default_factory=dict)

    @property
    def start_logits(self) -> Tensor | None:
        """Of question answering: that the answer begins at a token, ``(B, L)``."""
        return self.all_logits["answer"][..., 0] if "answer" in self.all_logits else None

    @property
    def end_logits(self) -> Tensor | None:
        """Of question answering: that the answer ends with a token, ``(B, L)``."""
        return self.all_logits["answer"][..., 1] if "answer" in self.all_logits else None

    def __repr__(self) -> str:
        return f"Output({', '.join(f'{f.name}={_shape(v)}' for f in fields(self) if isinstance(v := getattr(self, f.name), (Tensor, tuple)))})"


def _shape(value: Any) -> str:
    return str(list(value.shape)) if isinstance(value, Tensor) else f"{len(value)} x {list(value[0].shape)}" if value else "()"


class Model(Encoder):
    """A BERT-family model, made by :func:`nativebert.load`.

    Attributes:
        config: what the model is.
        tasks: the tasks of its heads; empty for a bare encoder.
        ledger: the weight map applied to its file, one row for each tensor; None for a model built from a config alone.
        snapshot: the files it came from; None for a model built from a config alone.
    """

    ledger: Ledger | None = None
    snapshot: Snapshot | None = None

    def __init__(self, config: EncoderConfig, *, pooler: bool | None = None, tasks: tuple[str, ...] = ()) -> None:
        super().__init__(config)
        self.tasks = tasks
        specs = [config.heads[task] for task in tasks]
        needed = any(spec.on == "pooled" for spec in specs)
        self.pool = Pooler(config) if needed or (config.pooler if pooler is None else pooler) else None
        self.head = nn.ModuleDict({spec.name: Head(spec, config) for spec in specs})

    def __deepcopy__(self, memo: dict[int, Any]) -> Model:
        """A copy with weights of its own; the ledger and the snapshot describe files, and are shared."""
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        shared = ("ledger", "snapshot")
        twin.__dict__.update({k: v if k in shared else copy.deepcopy(v, memo) for k, v in self.__dict__.items()})
        return twin

    def __copy__(self) -> Model:
        """Another model of the same modules and weights."""
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: the ledger, which holds a mapped file, stays behind, and with it the way to save."""
        return {**self.__dict__, "ledger": None}

    @property
    def reference(self) -> str:
        """Where the model came from, as its user wrote it."""
        return self.snapshot.reference if self.snapshot else f"a new {self.config.family} model"

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the model's folder, read when it is first asked for.

        Raises:
            NotFoundError: there is none, or the model was built from a config alone.
        """
        from nativebert.text.tokenizer import Tokenizer

        if self.snapshot is None:
            raise NotFoundError("this model was built from a config alone and has no tokenizer; set model.tokenizer")
        return Tokenizer.from_folder(self.snapshot.encoder)

    @property
    def device(self) -> torch.device:
        return self.embed.token.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.embed.token.weight.dtype

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        *,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        keep_padding: bool = False,
    ) -> Output:
        """Run the model on a padded batch. Inside, only the real tokens are computed.

        Args:
            input_ids: token ids, ``(B, L)``.
            attention_mask: ``(B, L)``, 1 for a real token; None where all are real.
            token_type_ids: segment ids, ``(B, L)``; None for all zeros.
            position_ids: rows of the position table, ``(B, L)`` or ``(1, L)``; None for the family's own rule.
            output_hidden_states: also return the states after the embeddings and after every layer.
            output_attentions: also return every layer's attention weights.
            keep_padding: compute the cells that hold no token too, each as a token that attends to the real ones and that none attends to,
                as transformers does. It costs time, and nothing should depend on them; it is there to compare whole tensors.

        Raises:
            BadInputError: wrong shapes, or ids outside the vocabulary.
            TooLongError: more tokens than the model has positions.
        """
        choices = 0
        if input_ids.dim() == 3 and self.tasks == ("choose",):
            choices = input_ids.shape[1]
            input_ids = input_ids.flatten(0, 1)
            attention_mask = None if attention_mask is None else attention_mask.flatten(0, 1)
            token_type_ids = None if token_type_ids is None else token_type_ids.flatten(0, 1)
            position_ids = None if position_ids is None else position_ids.flatten(0, 1)
        batch, padding = pack(
            input_ids, attention_mask, token_type_ids, position_ids, after=self.position_pad, keep_padding=keep_padding
        )
        batch, padding = batch.to(self.device), Padding(padding.cells.to(self.device), padding.order, padding.shape)
        trace = self.encode(batch, states=output_hidden_states, weights=output_attentions)
        pooled = None if self.pool is None else self.pool(first_tokens(trace.hidden, batch))
        logits: dict[str, Tensor] = {}
        for task in self.tasks:
            spec = self.config.heads[task]
            found = self.head[spec.name](trace.hidden, batch, pooled)
            found = padding.pad(found) if spec.on == "tokens" else padding.by_row(found)
            logits[task] = found.view(-1, choices) if choices else found[..., 0] if task == "rtd" else found
        return Output(
            last_hidden_state=padding.pad(trace.hidden),
            pooler_output=None if pooled is None else padding.by_row(pooled),
            hidden_states=None if trace.states is None else tuple(map(padding.pad, trace.states)),
            attentions=None if trace.weights is None else tuple(_square(w, batch, padding) for w in trace.weights),
            logits=logits[self.tasks[0]] if self.tasks else None,
            all_logits=logits,
        )

    @property
    def position_pad(self) -> int | None:
        """The padding id, where positions count from the one after it; else None."""
        return self.config.pad_id if self.config.positions_after_pad else None

    def save(self, folder: str | PathLike[str], precision: str | None = None) -> None:
        """Write the model to a folder that transformers and sentence-transformers load, or, with ``precision="int8"``, to one of a quarter
        of the size that nativebert loads (see :func:`nativebert.saving.save`)."""
        from nativebert.saving import save

        save(self, folder, precision)


def _square(weights: list[Tensor], batch: Packed, padding: Padding) -> Tensor:
    """Attention weights of each run, ``(n, A, l, l)`` -> of the padded batch, ``(B, A, L, L)``."""
    B, L = padding.shape
    heads = weights[0].shape[1] if weights else 0
    out = torch.zeros((B, heads, L, L), dtype=weights[0].dtype if weights else None, device=padding.cells.device)
    columns = padding.cells % L
    rows = torch.tensor(padding.order, dtype=torch.long, device=out.device)
    done = len(batch.lengths) - sum(n for _, n, _ in batch.runs)  # empty sequences come first, and have no run
    for (start, n, length), block in zip(batch.runs, weights):
        at = columns[start : start + n * length].view(n, length)
        row = rows[done : done + n]
        out[row[:, None, None], :, at[:, :, None], at[:, None, :]] = block.permute(0, 2, 3, 1)
        done += n
    return out
