"""What ``SentenceTransformer`` and ``CrossEncoder`` share: how a model is opened, and what is not supported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import torch
from torch import Tensor

from nativebert import hub, sentence
from nativebert.checks import whole_number
from nativebert.errors import BadInputError, RefusedError
from nativebert.hf import unsupported
from nativebert.hf.arguments import check_attention, checked
from nativebert.hf.states import device_name, hub_token, precision_name
from nativebert.hf.tokenizer import TOKENIZERS, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from nativebert.hub import Snapshot
from nativebert.loading import LoadedModel, load
from nativebert.tasks.base import Task

# Encoders with a bare name on the Hub; other bare names are of the library's own organisation, as in the reference.
_BARE = frozenset(
    """
    albert-base-v1 albert-base-v2 albert-large-v1 albert-large-v2 albert-xlarge-v1 albert-xlarge-v2 albert-xxlarge-v1 albert-xxlarge-v2
    bert-base-cased bert-base-cased-finetuned-mrpc bert-base-chinese bert-base-german-cased bert-base-german-dbmdz-cased
    bert-base-german-dbmdz-uncased bert-base-multilingual-cased bert-base-multilingual-uncased bert-base-uncased
    bert-large-cased bert-large-cased-whole-word-masking bert-large-cased-whole-word-masking-finetuned-squad
    bert-large-uncased bert-large-uncased-whole-word-masking bert-large-uncased-whole-word-masking-finetuned-squad camembert-base
    distilbert-base-cased distilbert-base-cased-distilled-squad distilbert-base-german-cased distilbert-base-multilingual-cased
    distilbert-base-uncased distilbert-base-uncased-distilled-squad distilbert-base-uncased-finetuned-sst-2-english distilroberta-base
    roberta-base roberta-base-openai-detector roberta-large roberta-large-mnli roberta-large-openai-detector
    xlm-roberta-base xlm-roberta-large xlm-roberta-large-finetuned-conll02-dutch xlm-roberta-large-finetuned-conll02-spanish
    xlm-roberta-large-finetuned-conll03-english xlm-roberta-large-finetuned-conll03-german
    """.split()
)
# Options that both classes take note of.
_OPTIONS = (
    "modules", "cache_folder", "revision", "local_files_only", "token", "backend", "model_kwargs", "automodel_args", "processor_kwargs",
    "tokenizer_kwargs", "tokenizer_args", "config_kwargs", "config_args",
)  # fmt: skip
_CONFIG = "change config.json in a copy of the folder"


class SentenceTransformersModel:
    """Base of :class:`SentenceTransformer` and :class:`CrossEncoder`: opening a model, the form of results, what is not supported."""

    organization = ""
    _task: ClassVar[str] = ""  # what its encoders are for, in the words of sentence_bert_config.json
    _more: ClassVar[tuple[str, ...]] = ()  # options that the other class has not
    _instead: ClassVar[Mapping[str, str]] = {}  # those of them that are not supported -> what to do
    _native: Task
    _max_tokens: int  # of an item; may be changed, which the native task's own limit may not
    _tokenizer: PreTrainedTokenizerBase
    _tokenizer_as_made: Mapping[str, Any]

    def _opened(
        self, name: Any, options: Mapping[str, Any], device: Any, max_length: Any = None
    ) -> tuple[Snapshot, dict[str, Any]]:
        """The files of a model, and the native task's options; ``max_length`` goes before the limit in ``options``."""
        call = type(self).__name__
        checked(call, options, (*_OPTIONS, *self._more))
        for option, advice in {"config_kwargs": _CONFIG, "config_args": _CONFIG, **self._instead}.items():
            if options.get(option):
                raise RefusedError(f"{call} does not support {option}=: {advice}")
        limit = self._limit(options) if max_length is None else whole_number("max_length", max_length)
        precision, device_map = self._model_kwargs(options)
        snapshot = self._files(name, options)
        if precision is None:
            precision = self._as_written(snapshot).dtype or "float32"
        device = device_name(device if device_map is None else device_map)
        return snapshot, {"device": device, "precision": precision, "max_tokens": limit}

    def _as_written(self, snapshot: Snapshot) -> sentence.TransformerConfig:
        """What sentence_bert_config.json says, where there is a modules.json: else the reference does not read it."""
        return sentence.transformer(snapshot, self._task) if snapshot.modules() else sentence.TransformerConfig()

    def _files(self, name: Any, options: Mapping[str, Any]) -> Snapshot:
        """The files of a model."""
        call = type(self).__name__
        if name is None or options.get("modules") is not None:
            raise RefusedError(
                f"{call} is made from a folder or a name. To choose the pooling of an encoder yourself: nativebert.Embedder(name, pooling='mean')"
            )
        if options.get("backend", "torch") != "torch":
            raise RefusedError(
                f"{call} does not support backend={options['backend']!r}: the native engine is the only one; leave it out"
            )
        text = str(name)
        bare = "/" not in text and not Path(text).expanduser().is_dir()
        if bare and text not in hub.SHORT and text.lower() not in _BARE:
            name = f"{self.organization}/{text}"
        return hub.resolve(
            name,
            revision=options.get("revision"),
            offline=True if options.get("local_files_only") else None,
            token=hub_token(options.get("token")),
            cache_dir=options.get("cache_folder", options.get("cache_dir")),  # cache_dir: of CrossEncoder alone
        )

    def _model_kwargs(self, options: Mapping[str, Any]) -> tuple[str | None, Any]:
        """Precision, None for what the files say, and device of ``model_kwargs``."""
        call = type(self).__name__
        given = dict(options.get("model_kwargs") or options.get("automodel_args") or {})
        checked(f"{call}(model_kwargs=...)", given, ("dtype", "torch_dtype", "device_map", "attn_implementation"))
        check_attention(call, given)
        dtype = given.get("dtype", given.get("torch_dtype"))
        return None if dtype in (None, "auto") else precision_name(dtype), given.get("device_map")

    def _limit(self, options: Mapping[str, Any]) -> int | None:
        """The limit in ``processor_kwargs``; all else there is refused."""
        given = dict(options.get("processor_kwargs") or options.get("tokenizer_kwargs") or options.get("tokenizer_args") or {})
        call = f"{type(self).__name__}(processor_kwargs=...)"
        checked(call, given, ("model_max_length",), "; other settings are those of tokenizer_config.json")
        limit = given.get("model_max_length")
        return None if limit is None else whole_number("model_max_length", limit)

    def _set_limit(self, name: str, value: Any) -> None:
        """Most tokens of an item, for the task and its tokenizer."""
        self._max_tokens = replace(self._native.options, max_tokens=whole_number(name, value)).max_tokens
        self._tokenizer.model_max_length = self._max_tokens

    def _keep_up(self, call: str) -> None:
        """Follow what was changed of the tokenizer since, as the reference does.

        Raises:
            RefusedError: it is to cut texts at their beginning.
        """
        limit = self._tokenizer.model_max_length
        if limit != self._max_tokens:
            self._set_limit("tokenizer.model_max_length", limit)
        if self._tokenizer.truncation_side != self._native.tokenizer.settings.get("truncation_side", "right"):
            raise RefusedError(
                f"{call} does not support tokenizer.truncation_side={self._tokenizer.truncation_side!r}: cut the texts yourself, or read them "
                "whole with nativebert.Embedder(..., too_long='window')"
            )

    def _save_encoder(self, snapshot: Snapshot, folder: Path, model: LoadedModel | None = None) -> None:
        """Write the encoder, as it was loaded or trained, and the tokenizer with what was changed of it."""
        (load(snapshot) if model is None else model).save(folder)
        if self._tokenizer._state() != self._tokenizer_as_made:
            self._tokenizer.save_pretrained(folder / snapshot.inside)

    def _transformer_file(self, snapshot: Snapshot) -> tuple[str, dict[str, Any]]:
        """The name of the file that says what sentence-transformers should do with the encoder, and what it should say: the limit, and
        the number type where it is not float32."""
        name = next((name for name in sentence.TRANSFORMER_CONFIGS if snapshot.path(name)), sentence.TRANSFORMER_CONFIGS[0])
        data = dict((snapshot.modules() and snapshot.read_json(name)) or {"do_lower_case": False})
        for old, new in (("tokenizer_args", "processor_kwargs"), ("model_args", "model_kwargs")):
            given = [data.pop(name) for name in (old, new) if name in data]
            if given and given[0]:
                data[old] = dict(given[0])  # the old name, which every version knows, and which goes first
        data.get("tokenizer_args", {}).pop("model_max_length", None)  # or it would go before the limit
        dtypes = {"torch_dtype": self._native.precision}
        kept = {key: value for key, value in data.pop("model_args", {}).items() if key not in ("dtype", "torch_dtype")}
        if kept := kept | (dtypes if self._native.precision != "float32" else {}):
            data["model_args"] = kept
        return name, data | {"max_seq_length": self._max_tokens}

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer, by the calls of transformers."""
        return self._tokenizer

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return torch.device(self._native.device)

    def _as_asked(self, rows: Tensor, single: bool, convert_to_numpy: bool, convert_to_tensor: bool) -> Any:
        """Results in the form asked for: an array, a tensor, or a list of tensors; of one item, its row alone."""
        if convert_to_tensor or not convert_to_numpy:
            rows = rows.to(self.device)
            return rows[0] if single else rows if convert_to_tensor else list(rows)
        array = rows.numpy()
        return array[0] if single else array

    def __getattr__(self, name: str) -> Any:
        if name in unsupported.SENTENCE_TRANSFORMERS:
            raise AttributeError(f"{type(self).__name__} does not support {name}: {unsupported.SENTENCE_TRANSFORMERS[name]}")
        raise AttributeError(f"{type(self).__name__} has no {name!r} (see docs/hf.md)")

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        raise RefusedError(f"{type(self).__name__} is not called: {unsupported.SENTENCE_TRANSFORMERS['forward']}")

    def __getitem__(self, place: Any) -> NoReturn:
        raise RefusedError(
            f"{type(self).__name__} has no modules to take out: max_seq_length, tokenizer and config are attributes of its own; {unsupported.SENTENCE_TRANSFORMERS['forward']}"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_tokenizer": self._tokenizer.beside(self._native.tokenizer)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._tokenizer.rejoin(self._native.tokenizer)

    def eval(self) -> Any:
        """The model itself, which is never in training mode."""
        return self


def tokenizer_of(native: Task) -> PreTrainedTokenizerBase:
    """The tokenizer of a native task, by the calls of transformers."""
    made = TOKENIZERS.get(native.tokenizer.kind, PreTrainedTokenizerFast)(native.tokenizer, native.reference)
    made.model_max_length = native.max_tokens
    return made


def one_process(call: str, batch_size: Any, more: Mapping[str, Any]) -> None:
    """Refuse a pool of processes and what nobody knows; what else there is of batches does nothing here."""
    for name, value in more.items():
        if name in ("pool", "chunk_size") and value is not None:
            raise RefusedError(f"{call} does not support {name}=: {unsupported.ONE_PROCESS}")
    checked(
        call, {name: value for name, value in more.items() if name not in ("pool", "chunk_size", "task", "num_workers")}, ()
    )
    if whole_number("batch_size", batch_size) < 1:
        raise BadInputError(f"batch_size must be at least 1, not {batch_size}")
