"""What a sentence-transformers folder says about turning token vectors into sentence vectors.

Data only: no torch, no import of what the files name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from nativebert.config import ACTIVATIONS
from nativebert.errors import Corrupt, Refused
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
# Where the encoder's limits may stand; the first that is there counts. Reference: `Transformer.load_config`.
TRANSFORMER_CONFIGS = tuple(
    f"sentence_{family}_config.json"
    for family in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")

# The last part of the class path that `Dense` writes down -> our name of the function
_DENSE_ACTIVATIONS = {
    "Tanh": "tanh",
    "Identity": "linear",
    "ReLU": "relu",
    "GELU": "gelu",
    "SiLU": "silu",
    "Sigmoid": "sigmoid",
}


@dataclass(frozen=True)
class Dense:
    """A linear layer on sentence vectors; its weights are in ``folder``/model.safetensors."""

    folder: str
    inward: int
    outward: int
    bias: bool
    activation: str


@dataclass(frozen=True)
class LayerNorm:
    """A layer norm on sentence vectors, epsilon 1e-5; its weights are in ``folder``/model.safetensors."""

    folder: str
    width: int


@dataclass(frozen=True)
class Truncate:
    """Only the first ``width`` numbers of each vector are kept (Kusupati et al. 2022, arXiv:2205.13147)."""

    width: int


Step = Dense | LayerNorm | Truncate | Literal["normalize"]


@dataclass(frozen=True)
class SentenceConfig:
    """From token vectors to sentence vectors.

    Attributes:
        pooling: modes of :data:`nativebert.nn.pool.POOLS`; several are concatenated.
        include_prompt: whether a prompt's tokens are pooled too.
        then: what follows, in order: a :class:`Dense`, a :class:`LayerNorm`, a :class:`Truncate`, or ``"normalize"``.
        max_tokens: most tokens of a text, special tokens included, as the folder says; None where it does not.
        lowercase: whether texts are lower-cased before they are tokenised.
        prompts: text to put before each text, by name.
        default_prompt: the name of the one used when none is asked for.
        similarity: one of :data:`SIMILARITIES`.
        assumed: what no file said and was assumed, in words.
    """

    pooling: tuple[str, ...] = ("mean",)
    include_prompt: bool = True
    then: tuple[Step, ...] = ()
    max_tokens: int | None = None
    lowercase: bool = False
    prompts: Mapping[str, str] | None = None
    default_prompt: str | None = None
    similarity: str = "cosine"
    assumed: tuple[str, ...] = ()


def read(snapshot: Snapshot) -> SentenceConfig:
    """Read modules.json and what it names.

    Raises:
        Corrupt: a file is not JSON, or a value has a wrong type.
        Refused: a module that nativebert does not compute.
    """
    extra = _fields(snapshot, "config_sentence_transformers.json")
    prompts, default = _prompts(extra)
    similarity = extra.get("similarity_fn_name") or "cosine"
    if similarity not in SIMILARITIES:
        raise Refused(
            f"config_sentence_transformers.json: similarity_fn_name is {similarity!r}; nativebert has {', '.join(SIMILARITIES)}"
        )
    name = next((name for name in TRANSFORMER_CONFIGS if snapshot.path(name)), TRANSFORMER_CONFIGS[0])
    max_tokens, lowercase = _transformer(_fields(snapshot, name), name)
    pooling, include_prompt, then, assumed = _modules(snapshot)
    keep = extra.get("truncate_dim")
    if keep is not None:
        if isinstance(keep, bool) or not isinstance(keep, int) or keep < 1:
            raise Corrupt(f"config_sentence_transformers.json: 'truncate_dim' must be a whole number above 0, not {keep!r}")
        then = (*then, Truncate(keep))
    return SentenceConfig(
        pooling=pooling,
        include_prompt=include_prompt,
        then=then,
        max_tokens=max_tokens,
        lowercase=lowercase,
        prompts=prompts,
        default_prompt=default,
        similarity=similarity,
        assumed=assumed,
    )


def _prompts(extra: Mapping[str, Any]) -> tuple[dict[str, str], str | None]:
    prompts = extra.get("prompts") or {}
    if not isinstance(prompts, dict) or any(not isinstance(v, str) for v in prompts.values()):
        raise Corrupt("config_sentence_transformers.json: 'prompts' must be an object of name: text")
    default = extra.get("default_prompt_name")
    if default is not None and not (isinstance(default, str) and default in prompts):
        raise Corrupt(
            f"config_sentence_transformers.json: default_prompt_name is {default!r}, "
            f"and the prompts are {', '.join(prompts) or 'none'}"
        )
    return prompts, default


def _transformer(data: Mapping[str, Any], name: str) -> tuple[int | None, bool]:
    """The limit of tokens, and whether to lower-case."""
    limit = data.get("max_seq_length")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise Corrupt(f"{name}: 'max_seq_length' must be a whole number above 0, not {limit!r}")
    # Since version 5.4 this file can ask for other outputs of the encoder, or other ways of tokenising
    modes = data.get("modality_config")
    text = modes.get("text", {}) if isinstance(modes, dict) else modes
    usual = {"method": "forward", "method_output_name": "last_hidden_state"}
    for key, value, harmless in (
        ("transformer_task", data.get("transformer_task"), ("feature-extraction",)),
        ("module_output_name", data.get("module_output_name"), ("token_embeddings",)),
        ("modality_config", text, (usual,)),
        ("processing_kwargs", data.get("processing_kwargs"), ({},)),
    ):
        if value is not None and value not in harmless:
            raise Refused(f"{name}: {key} is {value!r}, which would change the vectors, and nativebert does not compute it")
    return limit, _flag(data, "do_lower_case", False, name)


def _modules(
    snapshot: Snapshot,
) -> tuple[tuple[str, ...], bool, tuple[Step, ...], tuple[str, ...]]:
    path = snapshot.path("modules.json")
    if path is None:
        assumed = "it has no modules.json, so pooling was assumed: the mean of all tokens, not normalised"
        return ("mean",), True, (), (assumed,)
    pooling: tuple[str, ...] | None = None
    include_prompt = True
    then: list[Step] = []
    for place, module in enumerate(snapshot.modules()):
        folder, written = module.get("path", ""), str(module.get("type", ""))
        if not isinstance(folder, str):
            raise Corrupt(f"{path}: module path {folder!r} is no string")
        # a class of the same name in another package is other code, and may compute something else
        kind = written.rpartition(".")[2] if written.startswith("sentence_transformers.") else written
        if kind not in ("Transformer", "Pooling", "Dense", "LayerNorm", "Normalize", "Dropout"):
            raise Refused(
                f"{path} has a module of type {kind!r}; nativebert knows sentence_transformers' "
                "Transformer, Pooling, Dense, LayerNorm, Normalize and Dropout"
            )
        expected = {0: "Transformer", 1: "Pooling"}.get(place)
        if expected != kind and (expected or kind in ("Transformer", "Pooling")):
            raise Refused(
                f"{path} has {kind} as module {place}; nativebert computes "
                "one Transformer, then one Pooling, then any number of Dense, LayerNorm and Normalize"
            )
        if kind == "Transformer":
            if folder:
                raise Refused(
                    f"{path} keeps the encoder in the subfolder {folder!r}; load that folder itself and choose the pooling"
                )
        elif kind == "Pooling":
            pooling, include_prompt = _pooling(_fields(snapshot, f"{folder}/config.json"), f"{folder}/config.json")
        elif kind == "Dense":
            then.append(_dense(_fields(snapshot, f"{folder}/config.json"), folder))
        elif kind == "LayerNorm":
            then.append(LayerNorm(folder, _size(_fields(snapshot, f"{folder}/config.json"), "dimension", folder)))
        elif kind == "Normalize":
            _on_sentences(_fields(snapshot, f"{folder}/config.json"), f"{folder}/config.json")
            then.append("normalize")
        # dropout does nothing outside training
    if pooling is None:
        raise Refused(f"{path} names no Pooling module, so there is no sentence vector to make")
    return pooling, include_prompt, tuple(then), ()


def _pooling(data: Mapping[str, Any], name: str) -> tuple[tuple[str, ...], bool]:
    known = tuple(POOLING_FLAGS.values())
    modes = data.get("pooling_mode")
    if modes is None:
        if not any(flag in data for flag in POOLING_FLAGS):
            raise Corrupt(
                f"{name} says nothing about how to pool: it should hold pooling_mode, or pooling_mode_mean_tokens and the like"
            )
        modes = [mode for flag, mode in POOLING_FLAGS.items() if _flag(data, flag, False, name)] or ["mean"]
    modes = [modes] if isinstance(modes, str) else modes
    if not isinstance(modes, list) or not modes or any(mode not in known for mode in modes):
        raise Refused(f"{name}: pooling {modes!r}; nativebert knows {', '.join(known)}")
    return tuple(modes), _flag(data, "include_prompt", True, name)


def _dense(data: Mapping[str, Any], folder: str) -> Dense:
    name = f"{folder}/config.json"
    if _flag(data, "use_residual", False, name):
        raise Refused(f"{name}: a Dense module with a residual is not computed by nativebert")
    _on_sentences(data, name)
    path = str(data.get("activation_function", "torch.nn.modules.activation.Tanh"))
    activation = _DENSE_ACTIVATIONS.get(path.rpartition(".")[2]) if path.startswith("torch.nn.") else None
    if activation is None:
        raise Refused(f"{name}: activation_function {path!r}; nativebert knows torch.nn's {', '.join(_DENSE_ACTIVATIONS)}")
    assert activation in ACTIVATIONS
    return Dense(
        folder,
        _size(data, "in_features", folder),
        _size(data, "out_features", folder),
        _flag(data, "bias", True, name),
        activation,
    )


def _size(data: Mapping[str, Any], key: str, folder: str) -> int:
    value = data.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**24:
        raise Corrupt(f"{folder}/config.json: {key!r} must be a whole number above 0, not {value!r}")
    return value


def _on_sentences(data: Mapping[str, Any], name: str) -> None:
    """Refuse a module that reads or writes anything but sentence vectors."""
    for key in ("module_input_name", "module_output_name"):
        if (value := data.get(key)) not in (None, "sentence_embedding"):
            raise Refused(f"{name}: {key} is {value!r}; nativebert computes this on sentence vectors only")


def _flag(data: Mapping[str, Any], key: str, default: bool, name: str) -> bool:
    value = data.get(key, default)
    if value is None and not default:
        return False
    if not isinstance(value, bool):
        raise Corrupt(f"{name}: {key!r} must be true or false, not {value!r}")
    return value


def _fields(snapshot: Snapshot, name: str) -> Mapping[str, Any]:
    return snapshot.read_json(name) or {}
