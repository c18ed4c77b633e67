"""What a sentence-transformers folder says about turning token vectors into sentence vectors. Data only: no torch, no import of
what the files name."""

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
class SentenceConfig:
    """From token vectors to sentence vectors.

    Attributes:
        pooling: modes of :data:`nativebert.nn.pool.POOLS`; several are concatenated.
        include_prompt: whether a prompt's tokens are pooled too.
        then: what follows, in order: a :class:`Dense`, or ``"normalize"``.
        max_tokens: most tokens of a text, special tokens included, as the folder says; None where it does not.
        lowercase: whether texts are lower-cased before they are tokenised.
        prompts: text to put before each text, by name.
        default_prompt: the name of the one used when none is asked for.
        similarity: one of :data:`SIMILARITIES`.
        assumed: what no file said and was assumed, in words.
    """

    pooling: tuple[str, ...] = ("mean",)
    include_prompt: bool = True
    then: tuple[Dense | Literal["normalize"], ...] = ()
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
    limits = _fields(snapshot, "sentence_bert_config.json")
    prompts = extra.get("prompts") or {}
    if not isinstance(prompts, dict) or any(not isinstance(v, str) for v in prompts.values()):
        raise Corrupt("config_sentence_transformers.json: 'prompts' must be an object of name: text")
    similarity = extra.get("similarity_fn_name") or "cosine"
    if similarity not in SIMILARITIES:
        raise Refused(f"config_sentence_transformers.json: similarity_fn_name is {similarity!r}; nativebert has {', '.join(SIMILARITIES)}")
    limit = limits.get("max_seq_length")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise Corrupt(f"sentence_bert_config.json: 'max_seq_length' must be a whole number above 0, not {limit!r}")
    pooling, include_prompt, then, assumed = _modules(snapshot)
    return SentenceConfig(
        pooling=pooling,
        include_prompt=include_prompt,
        then=then,
        max_tokens=limit,
        lowercase=bool(limits.get("do_lower_case", False)),
        prompts=prompts,
        default_prompt=extra.get("default_prompt_name") if extra.get("default_prompt_name") in prompts else None,
        similarity=similarity,
        assumed=assumed,
    )


def _modules(snapshot: Snapshot) -> tuple[tuple[str, ...], bool, tuple[Dense | Literal["normalize"], ...], tuple[str, ...]]:
    path = snapshot.path("modules.json")
    if path is None:
        return ("mean",), True, (), ("it has no modules.json, so pooling was assumed: the mean of all tokens, not normalised",)
    pooling: tuple[str, ...] | None = None
    include_prompt = True
    then: list[Dense | Literal["normalize"]] = []
    for module in snapshot.modules():
        folder, kind = module.get("path", ""), str(module.get("type", "")).rpartition(".")[2]
        if not isinstance(folder, str):
            raise Corrupt(f"{path}: module path {folder!r} is no string")
        if kind == "Transformer":
            if folder:
                raise Refused(f"{path} keeps the encoder in the subfolder {folder!r}; load that folder itself and choose the pooling")
        elif kind == "Pooling":
            pooling, include_prompt = _pooling(_fields(snapshot, f"{folder}/config.json"), f"{folder}/config.json")
        elif kind == "Dense":
            then.append(_dense(_fields(snapshot, f"{folder}/config.json"), folder))
        elif kind == "Normalize":
            then.append("normalize")
        elif kind != "Dropout":  # dropout does nothing outside training
            raise Refused(f"{path} has a module of type {kind!r}; nativebert knows Transformer, Pooling, Dense, Normalize and Dropout")
    if pooling is None:
        raise Refused(f"{path} names no Pooling module, so there is no sentence vector to make")
    return pooling, include_prompt, tuple(then), ()


def _pooling(data: Mapping[str, Any], name: str) -> tuple[tuple[str, ...], bool]:
    known = tuple(POOLING_FLAGS.values())
    modes = data.get("pooling_mode")
    if modes is None:
        if not any(flag in data for flag in POOLING_FLAGS):
            raise Corrupt(f"{name} says nothing about how to pool (it should hold pooling_mode or pooling_mode_mean_tokens and the like)")
        modes = [mode for flag, mode in POOLING_FLAGS.items() if data.get(flag)] or ["mean"]
    modes = [modes] if isinstance(modes, str) else modes
    if not isinstance(modes, list) or not modes or any(mode not in known for mode in modes):
        raise Refused(f"{name}: pooling {modes!r}; nativebert knows {', '.join(known)}")
    return tuple(modes), bool(data.get("include_prompt", True))


def _dense(data: Mapping[str, Any], folder: str) -> Dense:
    def size(key: str) -> int:
        value = data.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**24:
            raise Corrupt(f"{folder}/config.json: {key!r} must be a whole number above 0, not {value!r}")
        return value

    if data.get("use_residual") or data.get("module_input_name", "sentence_embedding") != "sentence_embedding":
        raise Refused(f"{folder}/config.json: a Dense module with a residual, or not on sentence vectors, is not computed by nativebert")
    path = str(data.get("activation_function", "torch.nn.modules.activation.Tanh"))
    activation = _DENSE_ACTIVATIONS.get(path.rpartition(".")[2]) if path.startswith("torch.nn.") else None
    if activation is None:
        raise Refused(f"{folder}/config.json: activation_function {path!r}; nativebert knows torch.nn's {', '.join(_DENSE_ACTIVATIONS)}")
    assert activation in ACTIVATIONS
    return Dense(folder, size("in_features"), size("out_features"), bool(data.get("bias", True)), activation)


def _fields(snapshot: Snapshot, name: str) -> Mapping[str, Any]:
    return snapshot.read_json(name) or {}
