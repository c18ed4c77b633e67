"""``AutoConfig``, ``BertConfig``, ...: a config.json under the names that transformers gives its keys."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from nativebert.arch import FAMILIES, Family, families, family, family_name, read_config
from nativebert.errors import BadInputError
from nativebert.files import update_json
from nativebert.hf import unsupported
from nativebert.hf.arguments import HARMLESS, checked, offline, whole_numbers
from nativebert.hub import Snapshot
from nativebert.loading import open_snapshot

# What transformers assumes of a key that config.json does not have.
_COMMON: dict[str, Any] = {
    "architectures": None, "output_hidden_states": False, "output_attentions": False, "return_dict": True, "dtype": None,
    "chunk_size_feed_forward": 0, "is_encoder_decoder": False, "problem_type": None, "initializer_range": 0.02,
    "tie_word_embeddings": True, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
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
        if "model_type" in values and family_name(values) != self.model_type:
            right = (family(values["model_type"]).stem if values["model_type"] in FAMILIES else "Auto") + "Config"
            raise BadInputError(f"the config is of the family {values['model_type']!r}: use {right}, or AutoConfig")
        if "torch_dtype" in values:
            values["dtype"] = values.get("dtype") or values["torch_dtype"]
            del values["torch_dtype"]
        names = {int(key): name for key, name in given.items()} if given else _numbered(2 if count is None else count)
        numbers = values.get("label2id") or ({name: key for key, name in _numbered(2 if given else len(names)).items()})
        known = {**_COMMON, **self._family().defaults, "model_type": self.model_type}
        values = {**known, **values, "id2label": names, "label2id": numbers}
        self.__dict__["_values"] = {self._key(key): copy.deepcopy(value) for key, value in values.items()}
        if (computed := self._family().computed) is not None:
            said = {key: value for key, value in self._values.items() if value is not None}
            self._values.update(computed(said, read_config(said)[1]))
        self.__dict__["_as_loaded"] = self.to_dict()
        self.__dict__["name_or_path"] = ""

    @classmethod
    def _family(cls) -> Family:
        return family(cls.model_type)

    def _key(self, name: str) -> str:
        return self._family().aliases.get(name, name)

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
            NativeBertError: there is no such model, it is of a family that nativebert does not support, or an option is unknown.
        """
        where: dict[str, Any] = {}
        settings: dict[str, Any] = {}
        for name, value in options.items():
            (where if name in _WHERE | HARMLESS | set(unsupported.ARGUMENTS) else settings)[name] = value
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
        read_config(values)  # raises where there is no such family
        kind = cls if cls.model_type else CONFIGS[family_name(values)]
        made = kind(**values)
        return made

    def changes(self) -> dict[str, Any]:
        """The keys that were set since the config was loaded, with their values."""
        before = self._as_loaded
        return {key: value for key, value in self.to_dict().items() if key not in before or before[key] != value}

    def write_changes(self, folder: Any, leave: tuple[str, ...] = ()) -> None:
        """Write what was set since the config was loaded, except ``leave``, into the config.json of a folder."""
        if changed := {key: value for key, value in self.changes().items() if key not in leave}:
            update_json(Path(folder) / "config.json", changed)

    def to_dict(self) -> dict[str, Any]:
        """All keys and values; a copy."""
        return copy.deepcopy(self._values)

    def to_json_string(self, use_diff: bool = True) -> str:
        """The keys that differ from what the family assumes (all, unless ``use_diff``), as JSON."""
        usual = {**_COMMON, **self._family().defaults, "id2label": _numbered(2)}
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
    known.name: type(f"{known.stem}Config", (PreTrainedConfig,), {"model_type": known.name, "__module__": __name__})
    for known in families()
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
