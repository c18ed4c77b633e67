"""The parser of a config.json: :class:`Fields`."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from nativebert.checks import is_integer, is_number
from nativebert.config.encoder import ACTIVATIONS
from nativebert.errors import CorruptError, NativeBertError, RefusedError

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


class Fields:
    """A config.json read key by key: each value is checked, and the keys that were not read are known in the end.

    Args:
        data: the parsed config.json.
        family: name of the family.
        defaults: values of keys that ``data`` does not have.
    """

    def __init__(self, data: Mapping[str, Any], family: str, defaults: Mapping[str, Any] | None = None) -> None:
        self.data, self.family, self.defaults = data, family, defaults or {}
        self.faults: dict[str, NativeBertError] = {}
        self._read: set[str] = set()
        self._source = data  # as the file has it

    def _get(self, key: str, default: Any) -> Any:
        self._read.add(key)
        value = self.data.get(key)
        if value is None:
            value = self.defaults.get(key) if default is ... else default
        if value is None and default is ...:
            raise CorruptError(
                f"config.json ({self.family}) has no {key!r}, and the model cannot be built without it.{self._near(key)}"
            )
        return value

    def renamed(self, keys: Mapping[str, str], more: Mapping[str, Any]) -> Fields:
        """The same under other names: ``keys`` maps those of the data to those that are read; ``more`` are values beside them."""
        twin = Fields({keys.get(key, key): value for key, value in self.data.items()} | dict(more), self.family, self.defaults)
        twin.faults, twin._read = self.faults, {keys.get(key, key) for key in self._read} | set(more)
        twin._source = self.data
        return twin

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
        """The result of ``read``, for fields that only the heads for these tasks use: its error is raised when such a head is loaded."""
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
        """Fields that are the same in every family: labels, problem type, architecture, ties, and the source itself. Read them last."""
        self.encoder_only()
        none: tuple[str, ...] = ()
        return {
            "labels": self.for_heads(LABELLED, self.labels, none),
            "problem_type": self.for_heads(("classify",), self.problem_type, ""),
            "faults": self.faults,
            "architecture": self.architecture(),
            "tied": self.boolean("tie_word_embeddings", True),
            "source": dict(self._source),
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


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
