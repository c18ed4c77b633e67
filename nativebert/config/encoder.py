"""The dataclasses of an encoder's configuration."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from nativebert.config.heads import ARCHITECTURES, Head
from nativebert.errors import CorruptError, NativeBertError

# A width beyond any model, and small enough that no product of two sizes overflows.
WIDEST = 2**20

# Names that transformers accepts in `hidden_act` / `activation`, and that nn/activation.py computes.
ACTIVATIONS = frozenset(
    """gelu gelu_python gelu_new gelu_fast gelu_accurate gelu_pytorch_tanh gelu_10 quick_gelu relu relu2 relu6 leaky_relu silu swish
    mish tanh sigmoid linear""".split()
)


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of the encoder, as it is run.

    Attributes:
        heads: attention heads, ``A``.
        intermediate_size: width of the feed-forward part, ``F``.
        activation: its activation, one of :data:`ACTIVATIONS`.
        weight_index: which set of weights it runs, as indices below ``layers``; empty for one of its own.
        window: a token sees those at most this far away; None for all.
        rope_theta: base of the rotary positions (arXiv:2104.09864); None for none.
        rope_scale: what the positions are multiplied by before they are turned into angles; one number, or one for each angle of a head.
        attn_norm: whether a pre-norm layer begins with a norm (ModernBERT's first one does not).
        key_heads: heads of keys and values, each shared by equally many heads of queries (arXiv:2305.13245); 0 for ``heads``.
    """

    heads: int
    intermediate_size: int
    activation: str
    weight_index: tuple[int, ...] = ()
    window: int | None = None
    rope_theta: float | None = None
    rope_scale: float | tuple[float, ...] = 1.0
    attn_norm: bool = True
    key_heads: int = 0


@dataclass(frozen=True, slots=True)
class RelativePositions:
    """Relative positions that attention scores apart from contents (DeBERTa, arXiv:2006.03654).

    Attributes:
        span: buckets in each direction; the table of relative positions has twice as many rows, ``R``.
        max_distance: distance, in tokens, that the last bucket begins at, where far buckets are by logarithm; 0 for a bucket for each distance.
        norm: whether the table is normed.
    """

    span: int
    max_distance: int
    norm: bool


@dataclass(frozen=True, slots=True)
class Convolution:
    """A convolution over the embeddings, added to the result of the first layer (DeBERTa v2).

    Attributes:
        kernel: width, in tokens; odd.
        activation: one of :data:`ACTIVATIONS`.
    """

    kernel: int
    activation: str


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """Configuration of an encoder, in the same terms for every family.

    Attributes:
        family: name of the family, as in ``model_type``.
        vocab_size: rows of the token table, ``V``.
        width: model width, ``H``.
        layers: one :class:`Layer` for each that is run, in order.
        positions: rows of the position table, ``P``; for rotary positions, the most that the model was made for.
        segments: rows of the segment (token type) table, ``S``; 0 where the family has none.
        norm_eps: epsilon of every layer norm.
        pad_id: id of the padding token.
        padding_learns: whether the token table's row of the padding token is one like all others: it is drawn, and learns (GPT-2).
        embedding_width: width of the embedding tables, ``E``; None for the model's width.
        project: whether a linear layer leads from the embeddings to the model's width.
        task_types: rows of the table of task types, ``Y``, of which every token has the first (ERNIE); 0 for none.
        embedding_norm: whether the sum of the embeddings is normed.
        causal: whether a token sees only itself and those before it.
        masked_padding: whether padding tokens that are computed are zero, and attend to all alike (DeBERTa).
        position_table: whether positions are learned, and added to the tokens.
        positions_after_pad: whether positions count from ``pad_id + 1``, leaving out padding tokens (RoBERTa).
        relative_buckets: buckets of a learned bias by distance, added to attention scores (MPNet); 0 for none.
        alibi: whether attention scores fall with the distance, by a slope of each head (JinaBERT).
        relative: relative positions that are scored apart from contents (DeBERTa); None for none.
        convolution: beside the first layer (DeBERTa v2); None for none.
        block: ``"post"`` for norms after the residual sums (BERT); ``"pre"`` for norms before attention and feed-forward, and once more at
            the end (ModernBERT).
        gated: whether the feed-forward part is gated (arXiv:2002.05202).
        attention_bias, mlp_bias, norm_bias: whether linear layers of attention, of the feed-forward part, and norms have a bias.
        rms_norm: whether norms are by the root mean square, without a bias (arXiv:1910.07467).
        down_bias: whether the last layer of the feed-forward part has one; None for what ``mlp_bias`` says.
        dropout: dropout probability of embeddings and layer outputs, when training.
        attention_dropout: dropout probability of attention weights, when training.
        mlp_dropout: dropout probability within the feed-forward part, when training.
        residual_dropout: dropout probabilities of what attention and feed-forward add to the residual sum in a ``"pre"`` layer, when training.
        pooler: whether the family has a pooler (a dense layer with tanh on the first token).
        heads: the heads that the family has, by task.
        pretraining: the tasks of transformers' ``ForPreTraining`` class of the family.
        tied: whether the config ties the masked-LM output to the token table.
        labels: names of the classes of a head, from ``id2label``.
        problem_type: ``single_label_classification``, ``multi_label_classification``, ``regression``, or ``""`` where the config has none.
        architecture: the class that transformers saved the checkpoint from (``architectures[0]``), or ``""``.
        faults: what is wrong with the config.json that only a head would use, by the head's task; reported where such a head is loaded.
        unread: keys of the config.json that nativebert neither reads nor knows to be harmless; ``inspect`` shows them.
        source: the config.json itself, kept for saving.
    """

    family: str
    vocab_size: int
    width: int
    layers: tuple[Layer, ...]
    positions: int
    segments: int
    norm_eps: float
    pad_id: int = 0
    padding_learns: bool = False
    embedding_width: int | None = None
    project: bool = False
    task_types: int = 0
    embedding_norm: bool = True
    causal: bool = False
    masked_padding: bool = False
    position_table: bool = True
    positions_after_pad: bool = False
    relative_buckets: int = 0
    alibi: bool = False
    relative: RelativePositions | None = None
    convolution: Convolution | None = None
    block: Literal["post", "pre"] = "post"
    gated: bool = False
    attention_bias: bool = True
    mlp_bias: bool = True
    down_bias: bool | None = None
    norm_bias: bool = True
    rms_norm: bool = False
    dropout: float = 0.0
    attention_dropout: float = 0.0
    mlp_dropout: float = 0.0
    residual_dropout: tuple[float, float] = (0.0, 0.0)
    pooler: bool = True
    heads: Mapping[str, Head] = field(default_factory=dict)
    pretraining: tuple[str, ...] = ()
    tied: bool = True
    labels: tuple[str, ...] = ()
    problem_type: str = ""
    architecture: str = ""
    faults: Mapping[str, NativeBertError] = field(default_factory=dict, repr=False, compare=False)
    unread: tuple[str, ...] = ()
    source: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def dims(self) -> dict[str, int]:
        """The sizes that the weight file must agree with, by the letters of the weight map."""
        known = {
            "V": self.vocab_size,
            "H": self.width,
            "E": self.embedding_width or self.width,
            "P": self.positions if self.position_table else 0,
            "S": self.segments,
            "Y": self.task_types,
            "F": self.layers[0].intermediate_size if self.layers else 0,
            "K": self.relative_buckets,
            "R": 2 * self.relative.span if self.relative else 0,
            "W": self.convolution.kernel if self.convolution else 0,
            "A": self.layers[0].heads if self.layers else 0,
            "G": self.layers[0].key_heads * self.width // self.layers[0].heads if self.layers else 0,
        }
        return {letter: size for letter, size in known.items() if size}

    @property
    def max_tokens(self) -> int:
        """Most tokens that one sequence can have, special tokens included."""
        return self.positions - (self.pad_id + 1 if self.positions_after_pad else 0)

    @property
    def position_pad_id(self) -> int | None:
        """The padding id, where positions count from the one after it; else None."""
        return self.pad_id if self.positions_after_pad else None

    @property
    def blocks(self) -> dict[tuple[int, ...], Layer]:
        """The distinct sets of layer weights, by their indices below ``layers``, each with a layer that runs it."""
        return {layer.weight_index or (n,): layer for n, layer in reversed(list(enumerate(self.layers)))}

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks of the heads that ``architecture`` names; none for a bare encoder."""
        if self.architecture.endswith("ForPreTraining"):
            return self.pretraining
        named = next((tasks for end, tasks in ARCHITECTURES.items() if self.architecture.endswith(end)), ())
        return tuple(task for task in named if task in self.heads)

    def checkpoint_names(self, names: Iterable[str], targets: Collection[str]) -> dict[str, str]:
        """Name of each parameter in the weight map -> its name in the model.

        They differ in one case. A file with the masked-LM output tied has its bias twice; with ``tie_word_embeddings=false`` the two
        are different, and the reference reads the second.
        """
        bias, second = "head.lm.out.bias", "head.lm.bias_again"
        read_second = not self.tied and second in targets
        return {second if read_second and name == bias else name: name for name in names}

    def dims_with(self, tasks: Iterable[str]) -> dict[str, int]:
        """:attr:`dims`, and the classes ``C`` of the heads for these tasks."""
        classes = next((self.heads[task].classes for task in tasks if task not in ("lm", "nsp", "rtd")), None)
        return {**self.dims, **({"C": classes} if classes else {})}


def check_sizes(config: EncoderConfig) -> EncoderConfig:
    """Return ``config``, or raise :class:`CorruptError` where a width is absurd or cannot be divided among the heads."""
    if max(config.width, config.embedding_width or 0) > WIDEST:
        raise CorruptError(
            f"config.json ({config.family}): a width of {config.width} (embeddings: {config.embedding_width}) is beyond any model"
        )
    for layer in config.layers:
        if config.width % layer.heads:
            raise CorruptError(
                f"config.json ({config.family}): the width {config.width} is not a multiple of the {layer.heads} attention heads"
            )
        if layer.key_heads and layer.heads % layer.key_heads:
            raise CorruptError(
                f"config.json ({config.family}): the {layer.heads} attention heads cannot share {layer.key_heads} heads of keys and values"
            )
        if layer.rope_theta is not None and config.width // layer.heads % 2:
            raise CorruptError(
                f"config.json ({config.family}): heads {config.width // layer.heads} wide cannot have rotary positions: an even width is needed"
            )
    return config
