"""Settings of a sentence-transformers folder: pooling, steps after it, prompts, limits.

Data only: no torch, no import of what the files name."""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from nativebert.checks import is_integer, is_number
from nativebert.config import HARMLESS
from nativebert.errors import BadInputError, CorruptError, RefusedError
from nativebert.hub import Snapshot

# Order of concatenation where several are on. Reference: sentence-transformers `Pooling`.
POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
USUAL_PROMPTS = ("query", "document")  # every model of sentence-transformers has them, empty unless it says otherwise
# Where the encoder's limits may stand; the first that is there counts. Reference: `Transformer.load_config`.
TRANSFORMER_CONFIGS = tuple(
    f"sentence_{family}_config.json"
    for family in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
SETTINGS = "config_sentence_transformers.json"
JINA_TRANSFORMER = "custom_st.Transformer"  # of jinaai/jina-embeddings-v3: a Transformer whose adapter is chosen for each call
SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")

# The last part of the class path that `Dense` writes down -> our name of the function: of ACTIVATIONS, or of what tasks/steps.py adds.
# Each is made without arguments, as sentence-transformers makes it; those that have weights or no defaults are not here.
DENSE_ACTIVATIONS = {
    "Tanh": "tanh",
    "Identity": "linear",
    "ReLU": "relu",
    "ReLU6": "relu6",
    "LeakyReLU": "leaky_relu",
    "GELU": "gelu",
    "SiLU": "silu",
    "Mish": "mish",
    "Sigmoid": "sigmoid",
    **{name: name.lower() for name in ("ELU", "SELU", "CELU", "Softplus", "Softsign", "Tanhshrink", "Hardtanh", "Hardswish",
                                       "Hardsigmoid", "LogSigmoid", "Softshrink", "Hardshrink")},
}  # fmt: skip

# What sentence_bert_config.json may tell the makers of the tokenizer and of the model. Settings of the tokenizer that are honoured, as if
# tokenizer_config.json had them:
_TOKENIZER = frozenset(
    """do_lower_case strip_accents tokenize_chinese_chars model_max_length add_prefix_space trim_offsets clean_up_tokenization_spaces
    split_special_tokens""".split()
)
# What changes no number: where files come from, what is done anyway or never. What the caller says of these goes first in the reference, too.
_HARMLESS = frozenset(
    """trust_remote_code use_fast subfolder token cache_dir revision code_revision local_files_only force_download resume_download proxies
    use_auth_token verbose low_cpu_mem_usage device_map use_safetensors weights_only add_pooling_layer _from_auto return_dict""".split()
)
_ATTENTION = (None, "eager", "sdpa", "flash_attention_2", "flash_attention_3")  # other ways to the same numbers
_DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class Dense:
    """A linear layer on sentence vectors; its weights are in ``folder``/model.safetensors."""

    folder: str
    inward: int
    outward: int
    bias: bool
    activation: str
    residual: bool = False
    """Whether its input is added to its output, through a matrix of its own where the two differ in width."""


@dataclass(frozen=True)
class LayerNorm:
    """A layer norm on sentence vectors, epsilon 1e-5; its weights are in ``folder``/model.safetensors."""

    folder: str
    width: int


@dataclass(frozen=True)
class Truncate:
    """Only the first ``width`` numbers of each vector are kept (Kusupati et al. 2022, arXiv:2205.13147)."""

    width: int


@dataclass(frozen=True)
class TransformerConfig:
    """Settings of the encoder and its tokenizer in sentence_bert_config.json.

    Attributes:
        max_tokens: most tokens of a text, special tokens included; None where it does not say.
        lowercase: whether texts are lower-cased before they are tokenised.
        tokenizer: settings to read as if tokenizer_config.json had them.
        dtype: what the encoder is to compute in, ``"float16"`` and similar; None where it does not say.
    """

    max_tokens: int | None = None
    lowercase: bool = False
    tokenizer: Mapping[str, Any] = field(default_factory=dict)
    dtype: str | None = None


Step = Dense | LayerNorm | Truncate | Literal["normalize"]


@dataclass(frozen=True)
class SentenceConfig:
    """All settings for sentence vectors.

    Attributes:
        pooling: modes of :data:`nativebert.nn.pool.POOLS`; several are concatenated.
        include_prompt: whether a prompt's tokens are pooled too.
        then: what follows, in order: a :class:`Dense`, a :class:`LayerNorm`, a :class:`Truncate`, or ``"normalize"``.
        transformer: what is said of the encoder and its tokenizer.
        prompts: text to put before each text, by name.
        default_prompt: the name of the one used when none is asked for.
        similarity: one of :data:`SIMILARITIES`.
        assumed: what no file said and was assumed, in words.
    """

    pooling: tuple[str, ...] = ("mean",)
    include_prompt: bool = True
    then: tuple[Step, ...] = ()
    transformer: TransformerConfig = TransformerConfig()
    prompts: Mapping[str, str] | None = None
    default_prompt: str | None = None
    similarity: str = "cosine"
    assumed: tuple[str, ...] = ()

    @property
    def max_tokens(self) -> int | None:
        """Of :attr:`transformer`."""
        return self.transformer.max_tokens

    @property
    def lowercase(self) -> bool:
        """Of :attr:`transformer`."""
        return self.transformer.lowercase


def read(snapshot: Snapshot) -> SentenceConfig:
    """Read modules.json and what it names.

    Raises:
        CorruptError: a file is not JSON, or a value has a wrong type.
        RefusedError: a module that nativebert does not compute.
    """
    extra = settings(snapshot)
    if (kind := extra.get("model_type")) not in (None, "SentenceTransformer", "CrossEncoder"):
        raise RefusedError(f"{SETTINGS}: model_type is {kind!r}, and nativebert computes sentence vectors and scores of pairs")
    prompts, default = _prompts(extra)
    similarity = extra.get("similarity_fn_name") or "cosine"
    if similarity not in SIMILARITIES:
        raise RefusedError(f"{SETTINGS}: similarity_fn_name is {similarity!r}; nativebert has {', '.join(SIMILARITIES)}")
    pooling, include_prompt, then, assumed = _modules(snapshot)
    if extra.get("truncate_dim") is not None:
        then = (*then, Truncate(_size(extra, "truncate_dim", SETTINGS)))
    return SentenceConfig(
        pooling=pooling,
        include_prompt=include_prompt,
        then=then,
        transformer=transformer(snapshot, "feature-extraction"),
        prompts=prompts,
        default_prompt=default,
        similarity=similarity,
        assumed=assumed,
    )


@dataclass(frozen=True)
class SparseConfig:
    """All settings for sparse vectors over the vocabulary (SPLADE).

    Attributes:
        pooling: ``"max"`` or ``"sum"``, over the tokens of a text.
        activation: ``"relu"`` for ``log(1 + relu(x))`` of each logit, ``"log1p_relu"`` for the logarithm of 1 plus that.
        transformer: what is said of the encoder and its tokenizer.
        prompts, default_prompt: as of :class:`SentenceConfig`.
        similarity: one of :data:`SIMILARITIES`.
        assumed: what no file said and was assumed, in words.
    """

    pooling: Literal["max", "sum"] = "max"
    activation: Literal["relu", "log1p_relu"] = "relu"
    transformer: TransformerConfig = TransformerConfig()
    prompts: Mapping[str, str] | None = None
    default_prompt: str | None = None
    similarity: str = "dot"
    assumed: tuple[str, ...] = ()


def read_sparse(snapshot: Snapshot) -> SparseConfig:
    """Read modules.json of a sparse encoder, and what it names.

    Raises:
        CorruptError: a file is not JSON, or a value has a wrong type.
        RefusedError: another kind of model, or a module that nativebert does not compute.
    """
    extra = settings(snapshot)
    modules = snapshot.modules()
    if (kind := extra.get("model_type")) not in (None, "SparseEncoder"):
        raise RefusedError(f"{SETTINGS}: model_type is {kind!r}, and this is for sparse encoders")
    kinds = [str(module.get("type", "")) for module in modules]
    names = [kind.rpartition(".")[2] if kind.startswith("sentence_transformers.") else kind for kind in kinds]
    if modules and (len(names) != 2 or names[0] not in ("Transformer", "MLMTransformer") or names[1] != "SpladePooling"):
        raise RefusedError(
            f"modules.json lists {', '.join(names)}; nativebert computes sparse vectors of one Transformer with a masked-LM head, then one "
            "SpladePooling"
        )
    prompts, default = _prompts(extra)
    similarity = extra.get("similarity_fn_name") or "dot"
    if similarity not in SIMILARITIES:
        raise RefusedError(f"{SETTINGS}: similarity_fn_name is {similarity!r}; nativebert has {', '.join(SIMILARITIES)}")
    if not modules:
        assumed = "it has no modules.json, so the pooling of SPLADE was assumed: the maximum over all tokens"
        return SparseConfig(prompts=prompts, default_prompt=default, similarity=similarity, assumed=(assumed,))
    name = f"{modules[1].get('path', '')}/config.json"
    data = _fields(snapshot, name)
    pooling, activation = data.get("pooling_strategy", "max"), data.get("activation_function", "relu")
    if pooling not in ("max", "sum") or activation not in ("relu", "log1p_relu"):
        raise RefusedError(
            f"{name}: pooling_strategy {pooling!r} with activation_function {activation!r}; nativebert knows max and sum, relu and log1p_relu"
        )
    _all_known(data, name, "pooling_strategy", "activation_function", "embedding_dimension", "word_embedding_dimension")
    return SparseConfig(pooling, activation, transformer(snapshot, "fill-mask"), prompts, default, similarity)


@dataclass(frozen=True)
class Expansion:
    """Query expansion: a query is filled up with mask tokens, whose vectors count (Khattab and Zaharia 2020, arXiv:2004.12832, section 3.2).

    Attributes:
        length: tokens of a query, special tokens included; at least, where it is not ``fixed``.
        fixed: whether longer queries are cut to that length.
        attend: whether tokens attend to the mask tokens.
        token: what queries are filled up with; None for the mask token.
    """

    length: int
    fixed: bool = True
    attend: bool = False
    token: str | None = None


@dataclass(frozen=True)
class MultiVectorConfig:
    """All settings for late interaction (ColBERT).

    Attributes:
        then: what follows the encoder, in order, on each token's vector.
        skiplist: words whose tokens are left out.
        skip: ``"query"``, ``"document"``: what they are left out of.
        query_length, document_length: most tokens, special tokens included; None for the model's limit.
        expansion: None for none.
        marks: tokens put after the first special token, by ``"query"`` and ``"document"``, where the vocabulary has them.
        transformer, prompts, default_prompt: as of :class:`SentenceConfig`.
        mean: whether scores are means over a query's tokens, not sums.
    """

    then: tuple[Step, ...] = ("normalize",)
    skiplist: tuple[str, ...] = ()
    skip: tuple[str, ...] = ("document",)
    query_length: int | None = None
    document_length: int | None = None
    expansion: Expansion | None = None
    marks: Mapping[str, str] = field(default_factory=dict)
    transformer: TransformerConfig = TransformerConfig()
    prompts: Mapping[str, str] | None = None
    default_prompt: str | None = None
    mean: bool = False


# What PyLate writes into config_sentence_transformers.json
_PYLATE = (
    "query_prefix", "document_prefix", "query_length", "document_length", "attend_to_expansion_tokens", "do_query_expansion", "skiplist_words",
)  # fmt: skip


def read_multivector(snapshot: Snapshot) -> MultiVectorConfig:
    """Read modules.json of a model for late interaction, of sentence-transformers or PyLate, and what it names.

    Raises:
        CorruptError: a file is not JSON, or a value has a wrong type.
        RefusedError: another kind of model, or a module that nativebert does not compute.
    """
    extra = settings(snapshot, _PYLATE)
    kind, modules = extra.get("model_type"), snapshot.modules()
    if kind not in ("MultiVectorEncoder", "ColBERT") or not modules:
        raise RefusedError(
            f"{SETTINGS}: model_type is {kind!r}; for late interaction it must be MultiVectorEncoder (sentence-transformers) or ColBERT (PyLate)"
        )
    prompts, default = _prompts(extra)
    own = _fields(snapshot, TRANSFORMER_CONFIGS[0])
    lengths = {name: ({**own, **extra}).get(name) for name in ("query_length", "document_length")}
    query, document = (None if lengths[name] is None else _size(lengths, name, SETTINGS) for name in lengths)
    config = MultiVectorConfig(
        then=(),
        query_length=query,
        document_length=document,
        transformer=transformer(snapshot, "feature-extraction", ("query_length", "document_length", "query_expansion")),
        prompts=prompts,
        default_prompt=default,
        mean=extra.get("similarity_fn_name") == "meanmaxsim",
    )
    if kind == "ColBERT":
        attend, on = (
            _flag(extra, "attend_to_expansion_tokens", False, SETTINGS),
            _flag(extra, "do_query_expansion", True, SETTINGS),
        )
        words = extra.get("skiplist_words")
        config = replace(
            config, skiplist=tuple(string.punctuation if words is None else words),
            expansion=Expansion(config.query_length or 32, attend=attend) if on else None,
            marks={name: str(extra.get(f"{name}_prefix") or "") for name in USUAL_PROMPTS},
        )  # fmt: skip
    elif (data := own.get("query_expansion")) is not None:
        where = f"{TRANSFORMER_CONFIGS[0]}, query_expansion"
        if data.get("strategy") not in ("fixed", "min"):
            raise RefusedError(f"{where}: strategy is {data.get('strategy')!r}; nativebert knows 'fixed' and 'min'")
        fixed, attend = data["strategy"] == "fixed", _flag(data, "attend", False, where)
        config = replace(config, expansion=Expansion(_size(data, "length", where), fixed, attend, data.get("token")))
    for position, module in enumerate(modules):
        written, folder = str(module.get("type", "")), str(module.get("path", ""))
        name = written.rpartition(".")[2] if written.startswith(("sentence_transformers.", "pylate.")) else written
        data = _fields(snapshot, f"{folder}/config.json") if position else {}
        if (name == "Transformer") != (position == 0) or name not in ("Transformer", "Dense", "MultiVectorMask", "Normalize"):
            raise RefusedError(
                f"modules.json has {name} as module {position}; nativebert computes one Transformer, then any number of Dense, MultiVectorMask and "
                "Normalize"
            )
        if name == "Dense":
            config = replace(config, then=(*config.then, _dense(data, folder, "token_embeddings")))
        elif name == "Normalize":
            _reads(data, f"{folder}/config.json", "token_embeddings")
            config = replace(config, then=(*config.then, "normalize"))
        elif name == "MultiVectorMask":
            _all_known(data, f"{folder}/config.json", "skiplist_words", "skiplist_tasks")
            skip = data.get("skiplist_tasks") or ["document"]
            config = replace(
                config, skiplist=tuple(data.get("skiplist_words") or ()), skip=tuple([skip] if isinstance(skip, str) else skip)
            )
    return replace(config, then=(*config.then, "normalize")) if kind == "ColBERT" else config


def kind_of_vectors(snapshot: Snapshot) -> Literal["dense", "sparse", "tokens"]:
    """What a model's files say that it is for: a vector for each text, sparse ones over the vocabulary, or one for each token.

    Raises:
        CorruptError: a file is not JSON.
    """
    kind = _fields(snapshot, SETTINGS).get("model_type")
    return "sparse" if kind == "SparseEncoder" else "tokens" if kind in ("MultiVectorEncoder", "ColBERT") else "dense"


def prompt_text(prompts: Mapping[str, str] | None, default: str | None, prompt: str | None, name: str | None) -> str:
    """The text put before each text, by the ``prompt`` and ``prompt_name`` of a call; empty for nothing.

    Raises:
        BadInputError: both, an unknown name, or what is not a string.
    """
    known = prompts or {}
    for value in (prompt, name):
        if not isinstance(value, (str, type(None))):
            raise BadInputError(f"prompt and prompt_name must be strings, not {value!r}")
    if prompt is not None and name is not None:
        raise BadInputError("pass prompt or prompt_name, not both")
    if prompt is not None:
        return prompt
    name = default if name is None else name
    if name is None:
        return ""
    if name not in known:
        raise BadInputError(f"this model has no prompt named {name!r}; it has: {', '.join(known) or 'none'}")
    return known[name]


def settings(snapshot: Snapshot, more: tuple[str, ...] = ()) -> Mapping[str, Any]:
    """config_sentence_transformers.json; empty where there is none. ``more`` are keys that the caller reads beside the usual ones.

    Raises:
        CorruptError: it is not JSON.
        RefusedError: it has a key that nobody here reads.
    """
    data = _fields(snapshot, SETTINGS)
    _all_known(
        data, SETTINGS,
        "__version__", "model_type", "prompts", "default_prompt_name", "similarity_fn_name", "truncate_dim", "activation_fn", "requirements",
        *more, "keep_in_fp32_modules",  # heads are computed in float32 always
    )  # fmt: skip
    return data


def transformer(snapshot: Snapshot, task: str, more: tuple[str, ...] = ()) -> TransformerConfig:
    """Read sentence_bert_config.json, or the file that older versions wrote in its place.

    Args:
        snapshot: the files.
        task: what the encoder is for, in the words of that file: ``"feature-extraction"``, ``"sequence-classification"`` or ``"fill-mask"``.
        more: keys of that file that the caller reads itself.

    Raises:
        CorruptError: the file is not JSON, or a value has a wrong type.
        RefusedError: it asks for something that would change the numbers and that nativebert does not compute.
    """
    name = next((name for name in TRANSFORMER_CONFIGS if snapshot.path(name)), TRANSFORMER_CONFIGS[0])
    data = _fields(snapshot, name)
    limit = None if data.get("max_seq_length") is None else _size(data, "max_seq_length", name)
    # Since version 5.4 this file can ask for other outputs of the encoder, or other ways of tokenising
    modes = data.get("modality_config")
    text = modes.get("text", {}) if isinstance(modes, dict) else modes
    output, gives = _OUTPUTS[task]
    for key, value, harmless in (
        ("transformer_task", data.get("transformer_task"), (task,)),
        ("module_output_name", data.get("module_output_name"), (gives,)),
        ("modality_config", text, ({"method": "forward", "method_output_name": output},)),
        ("processing_kwargs", data.get("processing_kwargs"), ({},)),
    ):
        if value is not None and value not in harmless:
            raise _changes(f"{name}: {key} is {value!r}")
    sections = {kind: _section(data, names, name) for kind, names in _SECTIONS.items()}
    _all_known(
        data, name,
        "max_seq_length", "do_lower_case", "transformer_task", "module_output_name", "modality_config", "processing_kwargs",
        "unpad_inputs", "backend", "__version__", *more, *(names for pair in _SECTIONS.values() for names in pair),
    )  # fmt: skip
    own = snapshot.read_json("config.json") or {}
    for key, where, value in sections["config"]:
        if not (key in _HARMLESS or key in HARMLESS or value is None or (key in own and own[key] == value)):
            raise _changes(
                f"{name}: {where} sets {key} to {value!r}", "write it into the folder's config.json, if it belongs there"
            )
    tokenizer = _tokenizer(sections["tokenizer"], name)
    if "model_max_length" in tokenizer:
        limit = None  # the tokenizer's own goes first
    return TransformerConfig(limit, _flag(data, "do_lower_case", False, name), tokenizer, _dtype(sections["model"], name))


# Where that file configures tokenizer, model and config: by old names, which go first in the reference, and by new ones
_SECTIONS = {
    "tokenizer": ("tokenizer_args", "processor_kwargs"),
    "model": ("model_args", "model_kwargs"),
    "config": ("config_args", "config_kwargs"),
}
# What the encoder gives, and its name beyond it, by its task
_OUTPUTS = {
    "feature-extraction": ("last_hidden_state", "token_embeddings"),
    "sequence-classification": ("logits", "scores"),
    "fill-mask": ("logits", "token_embeddings"),
}


def _section(data: Mapping[str, Any], names: tuple[str, ...], name: str) -> list[tuple[str, str, Any]]:
    """Entries of the first section with one of these names: key, section, value."""
    where = next((where for where in names if where in data), names[0])
    section = data.get(where) or {}
    if not isinstance(section, dict):
        raise CorruptError(f"{name}: {where!r} must be an object, not {section!r}")
    return [(key, where, value) for key, value in section.items()]


def _tokenizer(entries: list[tuple[str, str, Any]], name: str) -> dict[str, Any]:
    settings = {}
    for key, where, value in entries:
        if key in _TOKENIZER:
            if key == "model_max_length" and not (is_number(value) and value >= 1):
                raise CorruptError(f"{name}: {where} says model_max_length is {value!r}, not a length")
            if key != "model_max_length" and not isinstance(value, bool | None):
                raise CorruptError(f"{name}: {where} says {key} is {value!r}, and it must be true or false")
            settings[key] = value
        elif key in _HARMLESS or value is None or (key in ("padding_side", "truncation_side") and value == "right"):
            continue
        else:
            raise _changes(
                f"{name}: {where} sets {key} to {value!r}", "write it into tokenizer_config.json, if it belongs there"
            )
    return settings


def _dtype(entries: list[tuple[str, str, Any]], name: str) -> str | None:
    dtype = None
    for key, where, value in entries:
        if key in ("dtype", "torch_dtype"):
            text = str(value).removeprefix("torch.")
            if text not in (*_DTYPES, "auto", "None"):
                raise RefusedError(f"{name}: {where} sets {key} to {value!r}; nativebert computes in {', '.join(_DTYPES)}")
            dtype = text if text in _DTYPES else dtype
        elif key in _HARMLESS or value is None or (key == "attn_implementation" and value in _ATTENTION):
            continue
        else:
            raise _changes(f"{name}: {where} sets {key} to {value!r}")
    return dtype


def _prompts(extra: Mapping[str, Any]) -> tuple[dict[str, str], str | None]:
    prompts = extra.get("prompts") or {}
    if not isinstance(prompts, dict) or any(not isinstance(v, str | None) for v in prompts.values()):
        raise CorruptError(f"{SETTINGS}: 'prompts' must be an object of name: text")
    prompts = {name: text or "" for name, text in prompts.items()}  # null: a name that stands for no prompt
    default = extra.get("default_prompt_name")
    if default in USUAL_PROMPTS:
        prompts.setdefault(default, "")
    if default is not None and not (isinstance(default, str) and default in prompts):
        raise CorruptError(
            f"{SETTINGS}: default_prompt_name is {default!r}, and the prompts are {', '.join(prompts) or 'none'}"
        )
    return prompts, default


def _modules(snapshot: Snapshot) -> tuple[tuple[str, ...], bool, tuple[Step, ...], tuple[str, ...]]:
    path = snapshot.path("modules.json")
    if path is None:
        assumed = "it has no modules.json, so pooling was assumed: the mean of all tokens, not normalised"
        return ("mean",), True, (), (assumed,)
    pooling: tuple[str, ...] | None = None
    include_prompt = True
    then: list[Step] = []
    for position, module in enumerate(snapshot.modules()):
        folder, written = module.get("path", ""), str(module.get("type", ""))
        if not isinstance(folder, str):
            raise CorruptError(f"{path}: module path {folder!r} is not a string")
        # a class of the same name in another package is other code, and may compute something else
        kind = written.rpartition(".")[2] if written.startswith("sentence_transformers.") else written
        if written == JINA_TRANSFORMER and (snapshot.read_json("config.json") or {}).get("lora_adaptations"):
            kind = "Transformer"
        if kind not in ("Transformer", "Pooling", "Dense", "LayerNorm", "Normalize", "Dropout"):
            raise RefusedError(
                f"{path} has a module of type {kind!r}; nativebert knows sentence_transformers' "
                "Transformer, Pooling, Dense, LayerNorm, Normalize and Dropout"
            )
        expected = {0: "Transformer", 1: "Pooling"}.get(position)
        if expected != kind and (expected or kind in ("Transformer", "Pooling")):
            raise RefusedError(
                f"{path} has {kind} as module {position}; nativebert computes "
                "one Transformer, then one Pooling, then any number of Dense, LayerNorm and Normalize"
            )
        if kind == "Transformer":
            if folder != snapshot.inside:
                raise RefusedError(
                    f"{path} keeps the encoder in the subfolder {folder!r}; load that folder itself and choose the pooling"
                )
        elif kind == "Pooling":
            pooling, include_prompt = _pooling(_fields(snapshot, f"{folder}/config.json"), f"{folder}/config.json")
        elif kind == "Dense":
            then.append(_dense(_fields(snapshot, f"{folder}/config.json"), folder))
        elif kind == "LayerNorm":
            norm = _fields(snapshot, f"{folder}/config.json")
            _all_known(norm, f"{folder}/config.json", "dimension")
            then.append(LayerNorm(folder, _width(norm, "dimension", f"{folder}/config.json")))
        elif kind == "Normalize":
            _reads(_fields(snapshot, f"{folder}/config.json"), f"{folder}/config.json", "sentence_embedding")
            then.append("normalize")
        # dropout does nothing outside training
    if pooling is None:
        raise RefusedError(f"{path} names no Pooling module, so there is no sentence vector to make")
    return pooling, include_prompt, tuple(then), ()


def _pooling(data: Mapping[str, Any], name: str) -> tuple[tuple[str, ...], bool]:
    known = tuple(POOLING_FLAGS.values())
    _all_known(data, name, "word_embedding_dimension", "embedding_dimension", "pooling_mode", "include_prompt", *POOLING_FLAGS)
    modes = data.get("pooling_mode")
    if modes is None:
        if not any(flag in data for flag in POOLING_FLAGS):
            raise CorruptError(
                f"{name} says nothing about how to pool: it should hold pooling_mode, or pooling_mode_mean_tokens and the like"
            )
        modes = [mode for flag, mode in POOLING_FLAGS.items() if _flag(data, flag, False, name)] or ["mean"]
    modes = [modes] if isinstance(modes, str) else modes
    if not isinstance(modes, list) or not modes or any(mode not in known for mode in modes):
        raise RefusedError(f"{name}: pooling {modes!r}; nativebert knows {', '.join(known)}")
    return tuple(modes), _flag(data, "include_prompt", True, name)


def _dense(data: Mapping[str, Any], folder: str, of: str = "sentence_embedding") -> Dense:
    name = f"{folder}/config.json"
    _reads(data, name, of, "in_features", "out_features", "bias", "activation_function", "use_residual")
    path = str(data.get("activation_function", "torch.nn.modules.activation.Tanh"))
    activation = DENSE_ACTIVATIONS.get(path.rpartition(".")[2]) if path.startswith("torch.nn.") else None
    if activation is None:
        raise RefusedError(f"{name}: activation_function {path!r}; nativebert knows torch.nn's {', '.join(DENSE_ACTIVATIONS)}")
    return Dense(
        folder,
        _width(data, "in_features", name),
        _width(data, "out_features", name),
        _flag(data, "bias", True, name),
        activation,
        _flag(data, "use_residual", False, name),
    )


def _size(data: Mapping[str, Any], key: str, name: str) -> int:
    value = data.get(key)
    if not is_integer(value, 1):
        raise CorruptError(f"{name}: {key!r} must be a whole number above 0, not {value!r}")
    return value


def _width(data: Mapping[str, Any], key: str, name: str) -> int:
    """The size of a vector."""
    if (width := _size(data, key, name)) >= 2**24:
        raise CorruptError(f"{name}: {key!r} is {width}, which is beyond any model")
    return width


def _reads(data: Mapping[str, Any], name: str, of: str, *known: str) -> None:
    """Refuse a module that reads or writes anything but ``of``, or that has a key beyond these."""
    for key in ("module_input_name", "module_output_name"):
        if (value := data.get(key)) not in (None, of):
            raise RefusedError(f"{name}: {key} is {value!r}; nativebert computes this on {of} only")
    _all_known(data, name, "module_input_name", "module_output_name", *known)


def _all_known(data: Mapping[str, Any], name: str, *known: str) -> None:
    """Refuse a key that nobody reads; null, false and what is empty ask for nothing."""
    for key, value in data.items():
        if key not in known and value is not None and value is not False and value not in ("", [], {}):
            raise _changes(f"{name}: nobody here knows the key {key!r}, which is {value!r}")


def _changes(what: str, advice: str = "take the key out of a copy of the folder, if it does nothing") -> RefusedError:
    return RefusedError(f"{what}, which may change the numbers, and nativebert does not compute it: {advice}")


def _flag(data: Mapping[str, Any], key: str, default: bool, name: str) -> bool:
    value = data.get(key, default)
    if value is None and not default:
        return False
    if not isinstance(value, bool):
        raise CorruptError(f"{name}: {key!r} must be true or false, not {value!r}")
    return value


def _fields(snapshot: Snapshot, name: str) -> Mapping[str, Any]:
    return snapshot.read_json(name) or {}
