"""``AutoConfig``, ``BertConfig``, ...: a config.json under the names that transformers gives its keys."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from nativebert.arch import FAMILIES, read_config
from nativebert.errors import BadInputError
from nativebert.files import update_json
from nativebert.hf.arguments import HARMLESS, REFUSED, checked, offline, whole_numbers
from nativebert.hub import Snapshot
from nativebert.loading import open_snapshot

# What transformers assumes of a key that config.json does not have.
_COMMON: dict[str, Any] = {
    "architectures": None, "output_hidden_states": False, "output_attentions": False, "return_dict": True, "dtype": None,
    "chunk_size_feed_forward": 0, "is_encoder_decoder": False, "problem_type": None, "initializer_range": 0.02,
    "tie_word_embeddings": True, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
_BERT = {
    "vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
    "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 512,
    "type_vocab_size": 2, "layer_norm_eps": 1e-12, "pad_token_id": 0, "use_cache": True, "classifier_dropout": None,
    "is_decoder": False, "add_cross_attention": False,
}  # fmt: skip
_ROBERTA = _BERT | {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
_ONLY_BERT = ("type_vocab_size", "use_cache", "classifier_dropout", "is_decoder", "add_cross_attention")
_DEFAULTS: dict[str, dict[str, Any]] = {
    "bert": _BERT,
    "distilbert": {
        "vocab_size": 30522, "max_position_embeddings": 512, "sinusoidal_pos_embds": False, "n_layers": 6, "n_heads": 12, "dim": 768,
        "hidden_dim": 3072, "dropout": 0.1, "attention_dropout": 0.1, "activation": "gelu", "qa_dropout": 0.1,
        "seq_classif_dropout": 0.2, "pad_token_id": 0,
    },
    "roberta": _ROBERTA | {"vocab_size": 50265},
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "electra": _BERT | {
        "embedding_size": 128, "hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024, "summary_type": "first",
        "summary_use_proj": True, "summary_activation": "gelu", "summary_last_dropout": 0.1,
    },
    "albert": {key: _BERT[key] for key in _BERT if key not in _ONLY_BERT} | {
        "vocab_size": 30000, "embedding_size": 128, "hidden_size": 4096, "num_hidden_groups": 1, "num_attention_heads": 64,
        "intermediate_size": 16384, "inner_group_num": 1, "hidden_act": "gelu_new", "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0, "classifier_dropout_prob": 0.1, "type_vocab_size": 2, "bos_token_id": 2, "eos_token_id": 3,
    },
    "mpnet": {key: _ROBERTA[key] for key in _ROBERTA if key not in _ONLY_BERT} | {
        "vocab_size": 30527, "relative_attention_num_buckets": 32,
    },
    "modernbert": {
        "vocab_size": 50368, "hidden_size": 768, "intermediate_size": 1152, "num_hidden_layers": 22, "num_attention_heads": 12,
        "hidden_activation": "gelu", "max_position_embeddings": 8192, "initializer_cutoff_factor": 2.0, "norm_eps": 1e-5,
        "norm_bias": False, "pad_token_id": 50283, "eos_token_id": 50282, "bos_token_id": 50281, "cls_token_id": 50281,
        "sep_token_id": 50282, "attention_bias": False, "attention_dropout": 0.0, "local_attention": 128, "embedding_dropout": 0.0,
        "mlp_bias": False, "mlp_dropout": 0.0, "decoder_bias": True, "classifier_pooling": "cls", "classifier_dropout": 0.0,
        "classifier_bias": False, "classifier_activation": "gelu", "deterministic_flash_attn": False, "sparse_prediction": False,
        "sparse_pred_ignore_index": -100,
    },
}  # fmt: skip
_ALIASES = {"distilbert": {"hidden_size": "dim", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers"}}
STEMS = {
    "bert": "Bert", "distilbert": "DistilBert", "roberta": "Roberta", "xlm-roberta": "XLMRoberta", "camembert": "Camembert",
    "electra": "Electra", "albert": "Albert", "mpnet": "MPNet", "modernbert": "ModernBert",
}  # fmt: skip
"""What class names of transformers begin with, by family."""
_WHERE = frozenset({"revision", "token", "local_files_only"})


class PreTrainedConfig:
    """A config.json as attributes, and what transformers assumes where it is silent.

    Setting an attribute changes this object. A loaded model takes from it the names of labels, ``problem_type`` and what it returns by
    default; its sizes are those of its weights.
    """

    model_type: ClassVar[str] = ""

    def __init__(self, **values: Any) -> None:
        values = whole_numbers(values)
        given, count = values.get("id2label"), values.pop("num_labels", None)
        if values.get("model_type", self.model_type) != self.model_type:
            right = STEMS.get(values["model_type"], "Auto") + "Config"
            raise BadInputError(f"the config is of the family {values['model_type']!r}: use {right}, or AutoConfig")
        if "torch_dtype" in values:
            values["dtype"] = values.get("dtype") or values["torch_dtype"]
            del values["torch_dtype"]
        names = {int(key): name for key, name in given.items()} if given else _numbered(2 if count is None else count)
        numbers = values.get("label2id") or ({name: key for key, name in _numbered(2 if given else len(names)).items()})
        known = {**_COMMON, **_DEFAULTS[self.model_type], "model_type": self.model_type}
        values = {**known, **values, "id2label": names, "label2id": numbers}
        self.__dict__["_values"] = {self._key(key): copy.deepcopy(value) for key, value in values.items()}
        if self.model_type == "modernbert":
            self._add_layers()
        self.__dict__["_as_loaded"] = self.to_dict()
        self.__dict__["name_or_path"] = ""

    def _add_layers(self) -> None:
        values = {key: value for key, value in self._values.items() if value is not None}
        layers = read_config(values)[1].layers
        kinds = ["full_attention" if layer.window is None else "sliding_attention" for layer in layers]
        bases = {kind: layer.rope_theta for kind, layer in zip(kinds, layers)}
        for kind, key, usual in (("sliding_attention", "local", 1e4), ("full_attention", "global", 1.6e5)):
            bases.setdefault(kind, values.get(f"{key}_rope_theta", usual))
        ropes = {kind: {"rope_type": "default", "rope_theta": float(base or 0)} for kind, base in bases.items()}
        self._values.update(layer_types=kinds, rope_parameters=ropes)

    def _key(self, name: str) -> str:
        return _ALIASES.get(self.model_type, {}).get(name, name)

    def __getattr__(self, name: str) -> Any:
        values = self.__dict__.get("_values", {})
        if name == "num_labels" and values:
            return len(values["id2label"])
        if name in ("torch_dtype", "use_return_dict"):
            name = {"torch_dtype": "dtype", "use_return_dict": "return_dict"}[name]
        key = self._key(name)
        if key not in values:
            raise AttributeError(f"{type(self).__name__} has no {name!r}; it has {', '.join(sorted(values))}")
        return values[key]

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "name_or_path":
            self.__dict__[name] = value
        elif name == "num_labels":
            if whole_numbers({name: value})[name] != self.num_labels:
                self.id2label = _numbered(int(value))
                self.label2id = {label: number for number, label in self.id2label.items()}
        elif name == "id2label":
            self._values[name] = {int(key): label for key, label in value.items()}
        else:
            self._values[self._key(name)] = value

    def __getstate__(self) -> dict[str, Any]:
        return dict(self.__dict__)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PreTrainedConfig) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]  # it can change

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.to_json_string()}"

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **options: Any) -> PreTrainedConfig:
        """The config of a folder, or of a model on the Hub.

        Args:
            pretrained_model_name_or_path: a folder, ``owner/name``, or a :class:`nativebert.hub.Snapshot`.
            **options: ``revision``, ``token``, ``local_files_only``; and keys of the config to set.

        Raises:
            NativeBertError: there is no such model, it is of a family that nativebert does not carry, or an option is unknown.
        """
        where: dict[str, Any] = {}
        settings: dict[str, Any] = {}
        for name, value in options.items():
            (where if name in _WHERE | HARMLESS | set(REFUSED) else settings)[name] = value
        checked("AutoConfig.from_pretrained", where, _WHERE)
        snapshot = open_snapshot(
            pretrained_model_name_or_path,
            revision=where.get("revision"),
            offline=offline(where),
            token=where.get("token"),
            weights=False,
        )
        return cls.from_snapshot(snapshot, settings)

    @classmethod
    def from_snapshot(cls, snapshot: Snapshot, settings: Mapping[str, Any]) -> PreTrainedConfig:
        """The config of files that are on this machine; ``settings`` are keys to set."""
        snapshot.require("config.json")  # a tokenizer alone has none
        config = cls.from_dict(snapshot.read_json("config.json") or {})
        config.name_or_path = snapshot.reference
        for name, value in whole_numbers(settings).items():
            if not hasattr(config, name):
                raise BadInputError(f"{type(config).__name__} has no {name!r}; it has {', '.join(sorted(config.to_dict()))}")
            setattr(config, name, value)
        return config

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PreTrainedConfig:
        """The config that a parsed config.json makes.

        Raises:
            CorruptError, RefusedError: see :func:`nativebert.arch.read_config`.
        """
        read_config(values)
        kind = cls if cls.model_type else CONFIGS[values["model_type"]]
        made = kind(**values)
        return made

    def changes(self) -> dict[str, Any]:
        """The keys that were set since the config was loaded, with their values."""
        before = self._as_loaded
        return {key: value for key, value in self.to_dict().items() if key not in before or before[key] != value}

    def write_changes(self, folder: Any, leave: tuple[str, ...] = ()) -> None:
        """Write what was set since the config was loaded, but for ``leave``, into the config.json of a folder."""
        if changed := {key: value for key, value in self.changes().items() if key not in leave}:
            update_json(Path(folder) / "config.json", changed)

    def to_dict(self) -> dict[str, Any]:
        """All keys and values; a copy."""
        return copy.deepcopy(self._values)

    def to_json_string(self, use_diff: bool = True) -> str:
        """The keys that differ from what the family assumes (all, unless ``use_diff``), as JSON."""
        usual = {**_COMMON, **_DEFAULTS[self.model_type], "id2label": _numbered(2)}
        usual["label2id"] = {name: number for number, name in _numbered(2).items()}
        shown = {key: v for key, v in self.to_dict().items() if not use_diff or key not in usual or usual[key] != v}
        return json.dumps(shown, indent=2, sort_keys=True, default=lambda v: str(v).removeprefix("torch.")) + "\n"

    def save_pretrained(self, save_directory: Any) -> None:
        """Write config.json."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(self.to_json_string(), "utf-8")


def _numbered(count: int) -> dict[int, str]:
    return {number: f"LABEL_{number}" for number in range(count)}


CONFIGS: dict[str, type[PreTrainedConfig]] = {
    family: type(f"{STEMS[family]}Config", (PreTrainedConfig,), {"model_type": family, "__module__": __name__})
    for family in FAMILIES
}
globals().update({kind.__name__: kind for kind in CONFIGS.values()})


class AutoConfig:
    """Makes the config of whatever family a model is of."""

    def __init__(self) -> None:
        raise BadInputError("AutoConfig is not made itself: use AutoConfig.from_pretrained(folder or name)")

    @staticmethod
    def from_pretrained(pretrained_model_name_or_path: Any, **options: Any) -> PreTrainedConfig:
        """See :meth:`PreTrainedConfig.from_pretrained`."""
        return PreTrainedConfig.from_pretrained(pretrained_model_name_or_path, **options)

    @staticmethod
    def for_model(model_type: str, **values: Any) -> PreTrainedConfig:
        """A config of this family."""
        return PreTrainedConfig.from_dict({"model_type": model_type, **values})
