"""The whole model: encoder, pooler and heads; padded batches in, padded tensors out."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from nativebert.config import EncoderConfig
from nativebert.nn.encoder import Encoder
from nativebert.nn.heads import Head, first_tokens
from nativebert.nn.layers import Linear
from nativebert.nn.packed import Packed, Padding, pack


class Pooler(nn.Module):
    """BERT's pooler: tanh of a dense layer on the first token, ``(B, H)`` -> ``(B, H)``."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.dense = Linear(config.width, config.width)

    def forward(self, first: Tensor) -> Tensor:
        return torch.tanh(self.dense(first))


@dataclass
class Output:
    """Output of a model's forward pass. Padding positions are zero, unless ``keep_padding`` was set.

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
        """Question answering: logits of the answer's first token, ``(B, L)``."""
        return self.all_logits["answer"][..., 0] if "answer" in self.all_logits else None

    @property
    def end_logits(self) -> Tensor | None:
        """Question answering: logits of the answer's last token, ``(B, L)``."""
        return self.all_logits["answer"][..., 1] if "answer" in self.all_logits else None

    def __repr__(self) -> str:
        return f"Output({', '.join(f'{f.name}={_shape(v)}' for f in fields(self) if isinstance(v := getattr(self, f.name), (Tensor, tuple)))})"


def _shape(value: Any) -> str:
    return str(list(value.shape)) if isinstance(value, Tensor) else f"{len(value)} x {list(value[0].shape)}" if value else "()"


class Model(Encoder):
    """A BERT-family model: encoder, pooler and heads, from a config alone, with fresh weights.

    :func:`nativebert.load` makes one with a checkpoint's weights (:class:`nativebert.loading.LoadedModel`).

    Args:
        config: what the model is.
        pooler: whether it has a pooler; None for what the config says. A head that reads the pooler brings it.
        tasks: the tasks of its heads, keys of ``config.heads``; empty for a bare encoder.
    """

    def __init__(self, config: EncoderConfig, *, pooler: bool | None = None, tasks: tuple[str, ...] = ()) -> None:
        super().__init__(config)
        self.tasks = tasks
        specs = [config.heads[task] for task in tasks]
        needed = any(spec.on == "pooled" for spec in specs)
        self.pool = Pooler(config) if needed or (config.pooler if pooler is None else pooler) else None
        self.head = nn.ModuleDict({spec.name: Head(spec, config) for spec in specs})

    def __copy__(self) -> Self:
        """Another model of the same modules and weights."""
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    file_attributes: ClassVar[frozenset[str]] = (
        frozenset()
    )  # attributes of subclasses that describe the files a model came from

    def bare(self) -> Model:
        """A plain model of the same modules and weights, without the files that it came from."""
        twin = Model.__new__(Model)
        twin.__dict__.update({name: value for name, value in self.__dict__.items() if name not in self.file_attributes})
        return twin

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
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            position_pad_id=self.config.position_pad_id,
            keep_padding=keep_padding,
        )
        batch, padding = batch.to(self.device), padding.to(self.device)
        trace = self.encode(batch, states=output_hidden_states, attentions=output_attentions)
        pooled = None if self.pool is None else self.pool(first_tokens(trace.hidden, batch))  # (B, H)
        all_logits: dict[str, Tensor] = {}
        for task in self.tasks:
            spec = self.config.heads[task]
            logits = self.head[spec.name](trace.hidden, batch, pooled)  # (T, C) or (B, C)
            logits = padding.pad(logits) if spec.on == "tokens" else padding.restore_order(logits)
            all_logits[task] = logits.view(-1, choices) if choices else logits[..., 0] if task == "rtd" else logits
        return Output(
            last_hidden_state=padding.pad(trace.hidden),
            pooler_output=None if pooled is None else padding.restore_order(pooled),
            hidden_states=None if trace.states is None else tuple(map(padding.pad, trace.states)),
            attentions=None if trace.attentions is None else tuple(_square(a, batch, padding) for a in trace.attentions),
            logits=all_logits[self.tasks[0]] if self.tasks else None,
            all_logits=all_logits,
        )


def _square(groups: list[Tensor], batch: Packed, padding: Padding) -> Tensor:
    """Attention weights of each group, ``(n, A, l, l)`` -> of the padded batch, ``(B, A, L, L)``."""
    B, L = padding.shape
    device = padding.indices.device
    heads = groups[0].shape[1] if groups else 0
    out = torch.zeros((B, heads, L, L), dtype=groups[0].dtype if groups else None, device=device)
    columns = padding.indices % L
    rows = torch.tensor(padding.order, dtype=torch.long, device=device)
    done = sum(length == 0 for length in batch.lengths)  # empty sequences come first, and are in no group
    for (start, n, length), weights in zip(batch.equal_length_groups, groups):
        at = columns[start : start + n * length].view(n, length)
        row = rows[done : done + n]
        out[row[:, None, None], :, at[:, :, None], at[:, None, :]] = weights.permute(0, 2, 3, 1)
        done += n
    return out
