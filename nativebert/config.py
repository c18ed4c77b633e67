"""The one description of an encoder that every family is translated into.

A family's file in :mod:`nativebert.arch` turns a Hub ``config.json`` into an :class:`EncoderConfig` through
:class:`Fields`, which checks types and refuses what it cannot honour. Nothing here knows torch.

Letters used for sizes everywhere in nativebert: ``B`` sequences, ``T`` packed tokens of a batch, ``L`` longest sequence,
``H`` model width, ``A`` heads, ``D`` head width, ``F`` feed-forward width, ``V`` vocabulary, ``E`` embedding width,
``P`` positions, ``S`` segments, ``C`` classes.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from nativebert.checks import is_integer, is_number
from nativebert.errors import BadInputError, CorruptError, NativeBertError, RefusedError

# A width beyond any model, and small enough that no product of two sizes overflows.
WIDEST = 2**20

# Names that transformers accepts in `hidden_act` / `activation`, and that nn/activation.py computes.
ACTIVATIONS = frozenset(
    """gelu gelu_python gelu_new gelu_fast gelu_accurate gelu_pytorch_tanh gelu_10 quick_gelu relu relu2 relu6 leaky_relu silu swish
    mish tanh sigmoid linear""".split()
)

# How config.json says that weights are whole numbers of 8 bits with a scale for each row: the words of compressed-tensors.
EIGHT_BITS = {"quant_method": "compressed-tensors", "format": "int-quantized"}

# The tasks whose heads have the classes that id2label names.
LABELLED = ("classify", "tag")

T = TypeVar("T")

# Keys of a config.json that change no number that an encoder computes.
HARMLESS = frozenset(
    """_name_or_path architectures auto_map model_type transformers_version torch_dtype dtype use_cache output_past output_attentions
    output_hidden_states return_dict gradient_checkpointing torchscript initializer_range initializer_factor attn_implementation
    _attn_implementation_autoset chunk_size_feed_forward bos_token_id eos_token_id cls_token_id sep_token_id mask_token_id pad_token_id
    decoder_start_token_id classifier_dropout hidden_dropout_prob attention_probs_dropout_prob label2id finetuning_task
    task_specific_params language directionality pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers pooler_size_per_head
    pooler_type num_labels _num_labels id2label problem_type tie_word_embeddings use_bfloat16 is_encoder_decoder prefix
    sentence_transformers tokenizer_class""".split()
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
        attn_norm: whether a pre-norm layer begins with a norm (ModernBERT's first one does not).
    """

    heads: int
    intermediate_size: int
    activation: str
    weight_index: tuple[int, ...] = ()
    window: int | None = None
    rope_theta: float | None = None
    attn_norm: bool = True


@dataclass(frozen=True, slots=True)
class Head:
    """What turns hidden states into logits: maybe a dense layer, its activation and a norm; then the last linear layer.

    Attributes:
        name: where its parameters stand, ``head.<name>.*``.
        on: what it reads: every token, the first one, their mean, or the pooler's output.
        classes: outputs, ``C``.
        dense: width of the dense layer before the last; None for none.
        activation: of that dense layer.
        norm: whether a layer norm follows it.
        dense_bias: whether the dense layer has a bias.
        last: name of the last layer below ``head.<name>``.
        dropout: probability, when training, before the dense (if ``dropout_first``) and the last layer.
        dropout_first: see ``dropout``.
    """

    name: str
    on: Literal["tokens", "first", "mean", "pooled"]
    classes: int
    dense: int | None = None
    activation: str = "linear"
    norm: bool = False
    dense_bias: bool = True
    last: str = "out"
    dropout: float = 0.0
    dropout_first: bool = False

    def parameters(self, norm_bias: bool = True) -> list[str]:
        """The names of its parameters; ``norm_bias`` says whether the model's norms have a bias."""
        parts = [(self.last, True)]
        parts += [("dense", self.dense_bias)] if self.dense else []
        parts += [("norm", norm_bias)] if self.norm else []
        return [f"head.{self.name}.{part}.{leaf}" for part, bias in parts for leaf in ("weight", "bias")[: 1 + bias]]


# What a class name of transformers ends in -> the heads it has. `ForPreTraining` differs by family: EncoderConfig.pretraining.
ARCHITECTURES = {
    "ForMaskedLM": ("lm",),
    "ForNextSentencePrediction": ("nsp",),
    "ForSequenceClassification": ("classify",),
    "ForTokenClassification": ("tag",),
    "ForQuestionAnswering": ("answer",),
    "ForMultipleChoice": ("choose",),
}


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """What an encoder is, the same for every family.

    Attributes:
        family: name of the family, as in ``model_type``.
        vocab_size: rows of the token table, ``V``.
        width: model width, ``H``.
        layers: one :class:`Layer` for each that is run, in order.
        positions: rows of the position table, ``P``; for rotary positions, the most that the model was made for.
        segments: rows of the segment (token type) table, ``S``; 0 where the family has none.
        norm_eps: epsilon of every layer norm.
        pad_id: id of the padding token.
        embedding_width: width of the embedding tables, ``E``; None for the model's width.
        project: whether a linear layer leads from the embeddings to the model's width.
        position_table: whether positions are learned, and added to the tokens.
        positions_after_pad: whether positions count from ``pad_id + 1``, leaving out padding tokens (RoBERTa).
        relative_buckets: buckets of a learned bias by distance, added to attention scores (MPNet); 0 for none.
        block: ``"post"`` for norms after the residual sums (BERT); ``"pre"`` for norms before attention and feed-forward, and once more at
            the end (ModernBERT).
        gated: whether the feed-forward part is gated (arXiv:2002.05202).
        attention_bias, mlp_bias, norm_bias: whether linear layers of attention, of the feed-forward part, and norms have a bias.
        dropout: dropout probability of embeddings and layer outputs, when training.
        attention_dropout: dropout probability of attention weights, when training.
        pooler: whether the family has a pooler (a dense layer with tanh on the first token).
        heads: the heads that the family has, by task.
        pretraining: the tasks of transformers' ``ForPreTraining`` class of the family.
        tied: whether the config ties the masked-LM output to the token table.
        labels: names of the classes of a head, from ``id2label``.
        problem_type: ``single_label_classification``, ``multi_label_classification``, ``regression``, or ``""`` where the config has none.
        architecture: the class that transformers saved the checkpoint from (``architectures[0]``), or ``""``.
        faults: what is wrong with the config.json that only a head would use, by the head's task; told where such a head is loaded.
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
    embedding_width: int | None = None
    project: bool = False
    position_table: bool = True
    positions_after_pad: bool = False
    relative_buckets: int = 0
    block: Literal["post", "pre"] = "post"
    gated: bool = False
    attention_bias: bool = True
    mlp_bias: bool = True
    norm_bias: bool = True
    dropout: float = 0.0
    attention_dropout: float = 0.0
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
            "F": self.layers[0].intermediate_size if self.layers else 0,
            "K": self.relative_buckets,
            "A": self.layers[0].heads if self.layers else 0,
        }
        return {letter: size for letter, size in known.items() if size}

    @property
    def max_tokens(self) -> int:
        """Most tokens that one sequence can have, special tokens included."""
        return self.positions - (self.pad_id + 1 if self.positions_after_pad else 0)

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

    def select_heads(self, head: str | None, given: Collection[str]) -> tuple[str, ...]:
        """The tasks of the heads to load.

        Args:
            head: a task; ``"auto"`` for those that the checkpoint was saved with; None for none.
            given: parameters that the file gives. A checkpoint may name a class and yet hold the encoder alone.

        Raises:
            BadInputError: the family has no such head, or the checkpoint's head is another one under the same names.
            NativeBertError: what the config.json says of that head makes no sense, or is not computed.
        """
        tasks = self._chosen(head, given)
        for task in tasks:
            if task in self.faults:
                raise self.faults[task]
        return tasks

    def _chosen(self, head: str | None, given: Collection[str]) -> tuple[str, ...]:
        if head is None:
            return ()
        if head == "auto":
            return tuple(task for task in self.tasks if any(n.startswith(f"head.{self.heads[task].name}.") for n in given))
        if head not in self.heads:
            raise BadInputError(
                f"{self.family} has no head {head!r}; it has {', '.join(self.heads)}, or head=None for the encoder alone"
            )
        others = [task for task in self.tasks if task != head and self.heads[task].name == self.heads[head].name]
        if others and head not in self.tasks and any(n.startswith(f"head.{self.heads[head].name}.") for n in given):
            raise BadInputError(
                f"the checkpoint was saved as {self.architecture}: its head is for {others[0]!r}, and reading the same tensors as {head!r} "
                f"would give numbers that mean nothing. Load it with head={others[0]!r}, or head=None."
            )
        return (head,)

    def checkpoint_names(self, names: Iterable[str], given: Collection[str]) -> dict[str, str]:
        """Name of each parameter in the weight map -> its name in the model.

        They differ in one case. A file with the masked-LM output tied has its bias twice; with ``tie_word_embeddings=false`` the two
        are different, and the reference reads the second.
        """
        bias, second = "head.lm.out.bias", "head.lm.bias_again"
        read_second = not self.tied and second in given
        return {second if read_second and name == bias else name: name for name in names}

    def dims_with(self, tasks: Iterable[str]) -> dict[str, int]:
        """:attr:`dims`, and the classes ``C`` of the heads for these tasks."""
        classes = next((self.heads[task].classes for task in tasks if task not in ("lm", "nsp", "rtd")), None)
        return {**self.dims, **({"C": classes} if classes else {})}


class Fields:
    """A config.json read key by key: each value is checked, and what was never asked for is known in the end.

    Args:
        data: the parsed config.json.
        family: name to use in messages.
    """

    def __init__(self, data: Mapping[str, Any], family: str) -> None:
        self.data, self.family = data, family
        self.faults: dict[str, NativeBertError] = {}
        self._read: set[str] = set()

    def _get(self, key: str, default: Any) -> Any:
        self._read.add(key)
        value = self.data.get(key)
        if value is None:
            if default is ...:
                raise CorruptError(
                    f"config.json ({self.family}) has no {key!r}, and the model cannot be built without it.{self._near(key)}"
                )
            return default
        return value

    def _near(self, key: str) -> str:
        near = difflib.get_close_matches(key, list(self.data), n=1, cutoff=0.75)
        return f" Did you mean {near[0]!r}?" if near else ""

    def _wrong(self, key: str, value: object, wanted: str) -> CorruptError:
        return CorruptError(f"config.json ({self.family}): {key!r} must be {wanted}, not {_short(value)}")

    def integer(self, key: str, default: Any = ..., *, low: int = 1, high: int = 2**31 - 1) -> int:
        """An integer between ``low`` and ``high``, both included. Raises :class:`CorruptError` for anything else."""
        value = self._get(key, default)
        if not is_integer(value):
            raise self._wrong(key, value, "a whole number")
        if not low <= value <= high:
            raise self._wrong(key, value, f"between {low} and {high}")
        return value

    def number(self, key: str, default: Any = ..., *, low: float = 0.0, high: float = 1e30) -> float:
        """A finite number between ``low`` and ``high``. Raises :class:`CorruptError` for anything else."""
        value = self._get(key, default)
        if not is_number(value):
            raise self._wrong(key, value, "a number")
        if not low <= value <= high:  # false for NaN too
            raise self._wrong(key, value, f"a finite number between {low:g} and {high:g}")
        return float(value)

    def boolean(self, key: str, default: Any = ...) -> bool:
        """True or false. Raises :class:`CorruptError` for anything else."""
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, value, "true or false")
        return value

    def text(self, key: str, default: Any = ...) -> str:
        """A string. Raises :class:`CorruptError` for anything else."""
        value = self._get(key, default)
        if not isinstance(value, str):
            raise self._wrong(key, value, "a string")
        return value

    def listed(self, key: str, default: list[str]) -> list[str]:
        """A list of strings. Raises :class:`CorruptError` for anything else."""
        value = self._get(key, default)
        if not isinstance(value, list) or any(not isinstance(item, str) for item in value):
            raise self._wrong(key, value, "a list of strings")
        return value

    def section(self, key: str) -> dict[str, Any]:
        """An object, empty where there is none. Raises :class:`CorruptError` for anything else."""
        value = self._get(key, {})
        if not isinstance(value, dict):
            raise self._wrong(key, value, "an object")
        return value

    def activation(self, key: str, default: Any = ...) -> str:
        """The name of an activation. Raises :class:`RefusedError` for one that nativebert does not compute."""
        value = self.text(key, default)
        if value not in ACTIVATIONS:
            raise RefusedError(
                f"config.json ({self.family}): {key} is {value!r}; nativebert computes {', '.join(sorted(ACTIVATIONS))}."
            )
        return value

    def require_value(self, key: str, *allowed: Any, why: str) -> None:
        """Refuse a value that would change the numbers in a way nativebert does not compute.

        Args:
            key: the key; absent and null always pass.
            *allowed: values that leave the model as nativebert computes it.
            why: what another value would mean, in a few words.
        """
        value = self._get(key, None)
        if value is not None and not any(value == a and type(value) is type(a) for a in allowed):
            raise RefusedError(
                f"config.json ({self.family}): {key} is {_short(value)}: {why}. nativebert does not compute that, and will not pretend to."
            )

    def for_heads(self, tasks: Iterable[str], read: Callable[[], T], otherwise: T) -> T:
        """What ``read`` gives, of something that only the heads for these tasks use: what it raises is kept for where such a head is loaded."""
        try:
            return read()
        except (CorruptError, RefusedError) as error:
            self.faults |= {task: error for task in tasks if task not in self.faults}
            return otherwise

    def encoder_only(self) -> None:
        """Refuse what is common to the configs of all families and that an encoder here cannot honour."""
        self.require_value("is_decoder", False, why="the model attends to earlier tokens only")
        self.require_value("add_cross_attention", False, why="the layers also attend to another model's output")
        self.require_value("is_encoder_decoder", False, why="the model is an encoder with a decoder")
        self.require_value("pruned_heads", {}, [], why="some attention heads were removed")
        stored = self._get("quantization_config", None)
        if not (isinstance(stored, dict) and EIGHT_BITS.items() <= stored.items()):  # else the tensors tell
            self.require_value("quantization_config", why="the weights are stored quantised")

    def labels(self) -> tuple[str, ...]:
        """Class names in order of their ids, from ``id2label`` or, failing that, as many ``LABEL_i`` as ``num_labels`` says (2 by default)."""
        names = self._get("id2label", {})
        if not isinstance(names, dict):
            raise self._wrong("id2label", names, "an object of id: name")
        try:
            by_id = {int(k): v for k, v in names.items()}
        except ValueError:
            raise self._wrong("id2label", names, "an object whose keys are whole numbers") from None
        by_id = {k: str(v) if is_integer(v) else v for k, v in by_id.items()}  # names like 0 and 1
        if any(not isinstance(v, str) for v in by_id.values()) or sorted(by_id) != list(range(len(names))):
            raise self._wrong("id2label", names, "names for the ids 0, 1, 2, ... with no gap and none twice")
        if not by_id:
            return tuple(f"LABEL_{i}" for i in range(self.integer("num_labels", 2, low=1, high=10**6)))
        return tuple(by_id[i] for i in range(len(by_id)))

    def problem_type(self) -> str:
        """``problem_type``, or ``""`` where there is none."""
        self.require_value(
            "problem_type",
            "single_label_classification",
            "multi_label_classification",
            "regression",
            why="an unknown kind of problem",
        )
        return str(self.data.get("problem_type") or "")

    def common(self) -> dict[str, Any]:
        """What reads the same in every family: labels, problem type, architecture, ties, and the source itself. Read it last."""
        self.encoder_only()
        none: tuple[str, ...] = ()
        return {
            "labels": self.for_heads(LABELLED, self.labels, none),
            "problem_type": self.for_heads(("classify",), self.problem_type, ""),
            "faults": self.faults,
            "architecture": self.architecture(),
            "tied": self.boolean("tie_word_embeddings", True),
            "source": dict(self.data),
        }

    def architecture(self) -> str:
        """The first of ``architectures``, or ``""``."""
        names = self._get("architectures", [])
        if not isinstance(names, list) or any(not isinstance(n, str) for n in names):
            raise self._wrong("architectures", names, "a list of names")
        return names[0] if names else ""

    def unread(self, harmless: Iterable[str] = ()) -> tuple[str, ...]:
        """Keys that nobody asked for and that are not known to be harmless, sorted."""
        return tuple(sorted(set(self.data) - self._read - HARMLESS - set(harmless)))


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
        if layer.rope_theta is not None and config.width // layer.heads % 2:
            raise CorruptError(
                f"config.json ({config.family}): heads {config.width // layer.heads} wide cannot have rotary positions: an even width is needed"
            )
    return config


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
