"""``SentenceTransformer`` and ``CrossEncoder``: :class:`nativebert.Embedder` and :class:`nativebert.Ranker` by the calls of sentence-transformers."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import nativebert.hf.util as util
from nativebert import hub
from nativebert.engine import choose_device
from nativebert.errors import BadInput, NativeBertWarning, Refused
from nativebert.hf.arguments import checked, whole_number
from nativebert.hf.config import PreTrainedConfig
from nativebert.hf.states import States, device_name, hub_token, precision_name
from nativebert.hf.tokenizer import TOKENIZERS, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from nativebert.hub import Snapshot
from nativebert.loading import load
from nativebert.sentence import TRANSFORMER_CONFIGS, Truncate
from nativebert.tasks.base import listed
from nativebert.tasks.embed import Embedder
from nativebert.tasks.rank import Ranker

__all__ = ["CrossEncoder", "SentenceTransformer", "util"]

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
_SETTINGS = "config_sentence_transformers.json"
_LATER = "fine-tuning is not in this version: train with sentence-transformers, save, and load the folder here"
_ONE_PROCESS = "one process uses every core; for several GPUs start one process for each, with its share of the texts"
_REFUSED = {
    **dict.fromkeys(("fit", "train", "old_fit", "smart_batching_collate", "gradient_checkpointing_enable"), _LATER),
    **dict.fromkeys(("start_multi_process_pool", "stop_multi_process_pool", "encode_multi_process"), _ONE_PROCESS),
    **dict.fromkeys(("push_to_hub", "save_to_hub"), "save_pretrained(folder), then upload the folder with huggingface_hub"),
    "evaluate": "compute scores of what encode or predict returns, with scikit-learn or scipy",
    "compile": "it does nothing for the native engine: leave it out",
    "forward": "call encode or predict; nativebert.load(folder) gives the encoder as a torch module",
    **dict.fromkeys(
        ("parameters", "named_parameters", "state_dict", "load_state_dict", "modules", "children", "named_modules", "transformers_model", "model",
         "auto_model", "_first_module", "_last_module"),
        "nativebert.load(folder) gives the encoder as a torch module, and nativebert.hf.AutoModel by the names of transformers",
    ),
    "processor": "use tokenizer",
    "merge": _LATER,
}  # fmt: skip


class _Carrier:
    """What both classes do alike: find the model, and say what is not carried."""

    organization = ""

    def _open(self, name: Any, options: Mapping[str, Any]) -> Snapshot:
        """The files of a model."""
        call = type(self).__name__
        if name is None or options.get("modules") is not None:
            raise Refused(
                f"{call} is made from a folder or a name. To choose the pooling of an encoder yourself: nativebert.Embedder(name, pooling='mean')"
            )
        if options.get("backend", "torch") != "torch":
            raise Refused(
                f"{call} does not carry backend={options['backend']!r}: the native engine is the only one; leave it out"
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
            cache_dir=options.get("cache_folder"),
        )

    def _model_kwargs(self, options: Mapping[str, Any]) -> tuple[str, Any]:
        """Precision and device of ``model_kwargs``."""
        call = type(self).__name__
        given = dict(options.get("model_kwargs") or options.get("automodel_args") or {})
        checked(f"{call}(model_kwargs=...)", given, ("dtype", "torch_dtype", "device_map", "attn_implementation"))
        if given.get("attn_implementation") not in (None, "eager", "sdpa"):
            raise Refused(
                f"{call}: attn_implementation must be 'eager' or 'sdpa' (the same here), not {given['attn_implementation']!r}"
            )
        return precision_name(given.get("dtype", given.get("torch_dtype"))), given.get("device_map")

    def __getattr__(self, name: str) -> Any:
        if name in _REFUSED:
            raise AttributeError(f"{type(self).__name__} does not carry {name}: {_REFUSED[name]}")
        raise AttributeError(f"{type(self).__name__} has no {name!r} (see docs/hf.md)")

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        raise Refused(f"{type(self).__name__} is not called: {_REFUSED['forward']}")

    def __getitem__(self, place: Any) -> NoReturn:
        raise Refused(
            f"{type(self).__name__} has no modules to take out: max_seq_length, tokenizer and config are attributes of its own; {_REFUSED['forward']}"
        )

    def eval(self) -> Any:
        """The model itself, which is never in training mode."""
        return self


def _max_length(options: Mapping[str, Any], call: str) -> int | None:
    """The limit in ``processor_kwargs``; all else there is refused."""
    given = dict(options.get("processor_kwargs") or options.get("tokenizer_kwargs") or options.get("tokenizer_args") or {})
    checked(
        f"{call}(processor_kwargs=...)", given, ("model_max_length",), "; other settings are those of tokenizer_config.json"
    )
    limit = given.get("model_max_length")
    return None if limit is None else whole_number("model_max_length", limit)


def _tokenizer(native: Any) -> PreTrainedTokenizerBase:
    made = TOKENIZERS.get(native.tokenizer.kind, PreTrainedTokenizerFast)(native.tokenizer, native.reference)
    made.model_max_length = native.max_tokens
    return made


def _size_given(batch_size: Any) -> None:
    if whole_number("batch_size", batch_size) < 1:
        raise BadInput(f"batch_size must be at least 1, not {batch_size}")


def _single_process(call: str, given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        if name in ("pool", "chunk_size") and value is not None:
            raise Refused(f"{call} does not carry {name}=: {_ONE_PROCESS}")
    checked(
        call, {name: value for name, value in given.items() if name not in ("pool", "chunk_size", "task", "num_workers")}, ()
    )


class _Vectors(States, Embedder):
    """An Embedder that gives whole vectors, whatever the files say, and also the states of all tokens."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, truncate_dim=sys.maxsize, **options)


class SentenceTransformer(_Carrier):
    """Sentence vectors, by the calls of sentence-transformers; see :class:`nativebert.Embedder` for the native way.

    Args:
        model_name_or_path: a folder, or a model on the Hub; a name without an owner is one of ``sentence-transformers``.
        device: ``"cpu"``, ``"cuda:1"``, a number, a ``torch.device``; None for the best there is.
        prompts: text to put before each text, by name; added to those that the model has.
        default_prompt_name: the prompt that is used when none is asked for.
        similarity_fn_name: ``"cosine"``, ``"dot"``, ``"euclidean"`` or ``"manhattan"``; None for what the model says.
        truncate_dim: keep so many numbers of each vector.
        **options: ``cache_folder``, ``revision``, ``local_files_only``, ``token``; ``model_kwargs`` with ``dtype`` (or ``torch_dtype``; vectors
            are float32 always), ``device_map`` for one device and ``attn_implementation``; ``processor_kwargs`` with ``model_max_length``.

    Attributes:
        prompts: name -> text; may be changed.
        default_prompt_name, truncate_dim: as above; may be changed.

    Raises:
        Refused: something of sentence-transformers that is not carried.
        NativeBertError: see :class:`nativebert.Embedder`.
    """

    organization = "sentence-transformers"

    def __init__(
        self,
        model_name_or_path: Any = None,
        *,
        device: Any = None,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        similarity_fn_name: str | util.SimilarityFunction | None = None,
        truncate_dim: int | None = None,
        **options: Any,
    ) -> None:
        carried = (
            "modules", "cache_folder", "revision", "local_files_only", "token", "backend", "model_kwargs", "automodel_args", "processor_kwargs",
            "tokenizer_kwargs", "tokenizer_args", "config_kwargs", "config_args",
        )  # fmt: skip
        checked("SentenceTransformer", options, carried)
        if options.get("config_kwargs") or options.get("config_args"):
            raise Refused("SentenceTransformer does not carry config_kwargs=: change config.json in a copy of the folder")
        limit = _max_length(options, "SentenceTransformer")
        precision, device_map = self._model_kwargs(options)
        snapshot = self._open(model_name_or_path, options)
        self._native = _Vectors(
            snapshot,
            device=device_name(device_map if device_map is not None else device),
            precision=precision,
            max_tokens=limit,
        )
        config = self._native.config
        self.prompts = {"query": "", "document": "", **(config.prompts or {}), **(prompts or {})}
        self.default_prompt_name = config.default_prompt if default_prompt_name is None else default_prompt_name
        if self.default_prompt_name is not None and self.default_prompt_name not in self.prompts:
            raise BadInput(
                f"default_prompt_name is {self.default_prompt_name!r}, and the prompts are {', '.join(self.prompts)}"
            )
        self.similarity_fn_name = config.similarity if similarity_fn_name is None else similarity_fn_name
        said = next((step.width for step in config.then if isinstance(step, Truncate)), None)
        self.truncate_dim: int | None = said if truncate_dim is None else whole_number("truncate_dim", truncate_dim)
        self._tokenizer = _tokenizer(self._native)

    def __repr__(self) -> str:
        return f"SentenceTransformer({self._native!r})"

    # ---- vectors

    def encode(
        self,
        sentences: Any = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        output_value: str | None = "sentence_embedding",
        precision: str | None = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: Any = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        *,
        inputs: Any = None,
        **more: Any,
    ) -> Any:
        """Vectors of texts. A text over ``max_seq_length`` is cut, with one warning for all (:class:`nativebert.errors.Truncated`).

        Args:
            sentences: one text, or several; ``inputs`` is another name for it.
            prompt_name: the name of a prompt in :attr:`prompts`.
            prompt: or the text to put before each text.
            batch_size: does nothing here: batches are made by tokens, and do not change the result.
            show_progress_bar: show a progress bar; None for one on a terminal, for work of more than two seconds.
            output_value: ``"sentence_embedding"``, or ``"token_embeddings"`` for a tensor ``(tokens, width)`` of each text.
            precision: ``"float32"``.
            convert_to_numpy: an array; with neither, a list of tensors.
            convert_to_tensor: a tensor, on the model's device.
            device: move the model there first.
            normalize_embeddings: to unit length.
            truncate_dim: keep so many numbers; None for the model's own.
            **more: none that does anything.

        Returns:
            float32 ``(n, dimension)``; ``(dimension,)`` for one text. Empty of one dimension for no texts, as in the reference.

        Raises:
            BadInput: something that is not text, an unknown prompt name.
            Refused: what is not carried.
        """
        _single_process("encode", more)
        _size_given(batch_size)
        given = sentences if inputs is None else inputs
        if precision not in (None, "float32"):
            raise Refused(
                f"encode does not carry precision={precision!r}: quantise the vectors afterwards, e.g. vectors > 0 for bits"
            )
        if output_value not in ("sentence_embedding", "token_embeddings"):
            raise Refused(f"encode carries output_value='sentence_embedding' and 'token_embeddings', not {output_value!r}")
        if device is not None:
            self.to(device)
        single, texts = isinstance(given, str), listed(given)
        lead = self._prompt(prompt, prompt_name)
        if output_value == "token_embeddings":
            states = self._native.states([lead + text if isinstance(text, str) else text for text in texts], show_progress_bar)
            states = [x.to(self.device) for x in states]
            return states[0] if single else states
        vectors: Tensor = self._native(texts, prompt=lead, progress=show_progress_bar, as_tensor=True)
        keep = self.truncate_dim if truncate_dim is None else truncate_dim
        vectors = util.truncate_embeddings(vectors, keep)
        if normalize_embeddings:
            vectors = F.normalize(vectors, dim=1)
        if not texts:
            vectors = torch.empty(0)
        if convert_to_tensor or not convert_to_numpy:
            vectors = vectors.to(self.device)
            return vectors[0] if single else vectors if convert_to_tensor else list(vectors)
        array = vectors.numpy()
        return array[0] if single else array

    def encode_query(
        self, sentences: Any = None, prompt_name: str | None = None, prompt: str | None = None, *args: Any, **more: Any
    ) -> Any:
        """:meth:`encode`, with the prompt ``"query"`` unless another is asked for."""
        if prompt_name is None and prompt is None and "query" in self.prompts:
            prompt_name = "query"
        return self.encode(sentences, prompt_name, prompt, *args, **more)

    def encode_document(
        self, sentences: Any = None, prompt_name: str | None = None, prompt: str | None = None, *args: Any, **more: Any
    ) -> Any:
        """:meth:`encode`, with the first prompt there is of ``"document"``, ``"passage"``, ``"corpus"`` unless another is asked for."""
        if prompt_name is None and prompt is None:
            prompt_name = next((name for name in ("document", "passage", "corpus") if name in self.prompts), None)
        return self.encode(sentences, prompt_name, prompt, *args, **more)

    def _prompt(self, prompt: str | None, name: str | None) -> str:
        if prompt is not None:
            if name is not None:
                warnings.warn("prompt and prompt_name were both given: prompt_name is ignored", NativeBertWarning, stacklevel=3)
            return prompt
        name = self.default_prompt_name if name is None else name
        if name is None:
            return ""
        if name not in self.prompts:
            raise BadInput(f"this model has no prompt named {name!r}; it has {', '.join(self.prompts)}")
        return self.prompts[name] or ""

    @property
    def similarity_fn_name(self) -> str:
        """The measure of :meth:`similarity`."""
        return self._measure

    @similarity_fn_name.setter
    def similarity_fn_name(self, value: str | util.SimilarityFunction | None) -> None:
        self._measure = util.measure_name("cosine" if value is None else value)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Tensor:
        """How similar each vector of the first is to each of the second, ``(n, m)``; larger is more similar."""
        return util.SimilarityFunction.to_similarity_fn(self._measure)(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Tensor:
        """How similar each vector of the first is to its counterpart in the second, ``(n,)``."""
        return util.SimilarityFunction.to_similarity_pairwise_fn(self._measure)(embeddings1, embeddings2)

    # ---- what scripts ask of a model

    @property
    def max_seq_length(self) -> int:
        """Most tokens of a text, special tokens included; may be changed, within the model's positions."""
        return self._native.max_tokens

    @max_seq_length.setter
    def max_seq_length(self, value: Any) -> None:
        self._native.max_tokens = self._native._limit(whole_number("max_seq_length", value))
        self._tokenizer.model_max_length = self._native.max_tokens

    def get_max_seq_length(self) -> int:
        """:attr:`max_seq_length`."""
        return self.max_seq_length

    def get_embedding_dimension(self) -> int:
        """Numbers of a vector."""
        return min(self._native.dimension, self.truncate_dim or self._native.dimension)

    def get_sentence_embedding_dimension(self) -> int:
        """Old name of :meth:`get_embedding_dimension`."""
        return self.get_embedding_dimension()

    @contextmanager
    def truncate_embeddings(self, truncate_dim: int | None) -> Iterator[None]:
        """Within a ``with``: another :attr:`truncate_dim`."""
        before, self.truncate_dim = self.truncate_dim, truncate_dim
        try:
            yield
        finally:
            self.truncate_dim = before

    truncate_sentence_embeddings = truncate_embeddings

    def set_pooling_include_prompt(self, include_prompt: bool) -> None:
        """Whether a prompt's tokens are pooled too."""
        self._native.config = replace(self._native.config, include_prompt=bool(include_prompt))

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer, by the calls of transformers."""
        return self._tokenizer

    def tokenize(self, texts: Any, **_: Any) -> dict[str, Tensor]:
        """Padded token ids of texts, cut at :attr:`max_seq_length`, and their masks."""
        return dict(
            self._tokenizer(listed(texts), padding=True, truncation=True, max_length=self.max_seq_length, return_tensors="pt")
        )

    preprocess = tokenize

    @property
    def config(self) -> PreTrainedConfig:
        """The encoder's config.json."""
        assert self._native.snapshot is not None
        return PreTrainedConfig.from_snapshot(self._native.snapshot, {})

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return torch.device(self._native.device)

    @property
    def dtype(self) -> torch.dtype:
        """What the encoder computes in; vectors are float32 always."""
        return getattr(torch, self._native.precision)  # type: ignore[no-any-return]

    def to(self, where: Any) -> SentenceTransformer:
        """Move the model to a device, or to a ``torch.dtype``."""
        native = self._native
        device, precision = native.device, native.precision
        if isinstance(where, torch.dtype):
            precision = precision_name(where)
        else:
            device = str(choose_device(device_name(where)))
        if (device, precision) != (native.device, native.precision):
            assert native.snapshot is not None
            made = _Vectors(native.snapshot, device=device, precision=precision, max_tokens=native.max_tokens)
            made.config, self._native = native.config, made
        return self

    def cpu(self) -> SentenceTransformer:
        """Move the model to the CPU."""
        return self.to("cpu")

    def cuda(self, device: int | None = None) -> SentenceTransformer:
        """Move the model to a GPU."""
        return self.to("cuda" if device is None else f"cuda:{device}")

    def half(self) -> SentenceTransformer:
        """Compute the encoder in float16."""
        return self.to(torch.float16)

    def bfloat16(self) -> SentenceTransformer:
        """Compute the encoder in bfloat16."""
        return self.to(torch.bfloat16)

    def float(self) -> SentenceTransformer:
        """Compute the encoder in float32."""
        return self.to(torch.float32)

    def save_pretrained(self, path: Any, **options: Any) -> None:
        """Write the model to a folder that sentence-transformers loads: what was loaded, with the limit, prompts and measure of this object.

        Raises:
            Refused: see :func:`nativebert.saving.save`.
        """
        checked("save_pretrained", options, ("model_name", "create_model_card", "train_datasets", "safe_serialization"))
        if options.get("safe_serialization", True) is False:
            raise Refused("save_pretrained writes safetensors only: leave safe_serialization out")
        snapshot, folder = self._native.snapshot, Path(path)
        assert snapshot is not None
        load(snapshot).save(folder)
        if snapshot.path("modules.json") is None:  # say what was assumed
            kinds = {"Transformer": "", "Pooling": "1_Pooling"}
            modules = [
                {"idx": n, "name": str(n), "path": where, "type": f"sentence_transformers.models.{kind}"}
                for n, (kind, where) in enumerate(kinds.items())
            ]
            _write(folder / "modules.json", modules)
            (folder / "1_Pooling").mkdir(exist_ok=True)
            pooling = {"word_embedding_dimension": self._native.encoder.width, "pooling_mode_mean_tokens": True}
            _write(folder / "1_Pooling" / "config.json", pooling)
        name = next((name for name in TRANSFORMER_CONFIGS if snapshot.path(name)), TRANSFORMER_CONFIGS[0])
        limits = snapshot.read_json(name) or {"do_lower_case": False}
        _write(folder / name, limits | {"max_seq_length": self.max_seq_length})
        mine = {
            "prompts": dict(self.prompts), "default_prompt_name": self.default_prompt_name, "similarity_fn_name": self._measure,
            **({} if self.truncate_dim is None else {"truncate_dim": self.truncate_dim}),
        }  # fmt: skip
        _write(folder / _SETTINGS, (snapshot.read_json(_SETTINGS) or {}) | mine)

    save = save_pretrained


def _write(path: Path, data: Any) -> None:
    draft = path.with_name(f".{path.name}.tmp")  # moved into place, as the file may be a link
    draft.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", "utf-8")
    draft.replace(path)


class _Logits(Ranker):
    """A Ranker that leaves its outputs as they are, and says what would be done with them."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.activation: nn.Module = nn.Sigmoid() if self._sigmoid else nn.Identity()
        self._sigmoid = False


class CrossEncoder(_Carrier):
    """Scores of pairs of texts, by the calls of sentence-transformers; see :class:`nativebert.Ranker` for the native way.

    Args:
        model_name_or_path: a folder, or a model on the Hub; a name without an owner is one of ``cross-encoder``.
        num_labels: how many outputs the model has; it must be so.
        max_length: most tokens of a pair; None for what the model's files say.
        activation_fn: what is done with the outputs, a tensor ``(n, num_labels)``; None for what the model says.
        device: as of :class:`SentenceTransformer`.
        **options: as of :class:`SentenceTransformer`.

    Attributes:
        activation_fn: as above; may be changed.

    Raises:
        Refused: something of sentence-transformers that is not carried.
        NativeBertError: see :class:`nativebert.Ranker`.
    """

    organization = "cross-encoder"

    def __init__(
        self,
        model_name_or_path: Any = None,
        num_labels: int | None = None,
        max_length: int | None = None,
        activation_fn: Callable[[Tensor], Tensor] | None = None,
        device: Any = None,
        **options: Any,
    ) -> None:
        carried = (
            "modules", "cache_folder", "cache_dir", "revision", "local_files_only", "token", "backend", "model_kwargs", "automodel_args",
            "processor_kwargs", "tokenizer_kwargs", "tokenizer_args", "config_kwargs", "config_args", "default_activation_function",
            "prompts", "default_prompt_name", "keep_in_fp32_modules",
        )  # fmt: skip
        model_name_or_path = options.pop("model_name", model_name_or_path)  # its old name
        checked("CrossEncoder", options, carried)
        for name in ("config_kwargs", "config_args", "prompts", "default_prompt_name", "keep_in_fp32_modules"):
            if options.get(name):
                raise Refused(
                    f"CrossEncoder does not carry {name}=: " + _INSTEAD.get(name, "change config.json in a copy of the folder")
                )
        limit = _max_length(options, "CrossEncoder") if max_length is None else whole_number("max_length", max_length)
        precision, device_map = self._model_kwargs(options)
        snapshot = self._open(
            model_name_or_path, {**options, "cache_folder": options.get("cache_folder", options.get("cache_dir"))}
        )
        for module in snapshot.modules():
            if not str(module.get("type", "")).endswith(".Transformer"):
                raise Refused(
                    f"{snapshot.reference} has a module {module.get('type')!r}; nativebert knows cross-encoders that are one Transformer"
                )
        self._native = _Logits(
            snapshot,
            device=device_name(device_map if device_map is not None else device),
            precision=precision,
            max_tokens=limit,
        )
        self._snapshot = snapshot
        if num_labels is not None and whole_number("num_labels", num_labels) != self.num_labels:
            raise Refused(
                f"{snapshot.reference} has {self.num_labels} outputs, and num_labels={num_labels} was asked for: {_LATER}"
            )
        chosen = activation_fn or options.get("default_activation_function")
        self.activation_fn: Callable[[Tensor], Tensor] = chosen or self.get_default_activation_fn()
        self._tokenizer = _tokenizer(self._native)

    def __repr__(self) -> str:
        return f"CrossEncoder({self._native!r})"

    def get_default_activation_fn(self) -> nn.Module:
        """What the model says is to be done with its outputs."""
        return self._native.activation

    def predict(
        self,
        sentences: Any = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        activation_fn: Callable[[Tensor], Tensor] | None = None,
        apply_softmax: bool | None = False,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: Any = None,
        *,
        inputs: Any = None,
        **more: Any,
    ) -> Any:
        """Scores of pairs. A pair over ``max_length`` is cut, with one warning for all (:class:`nativebert.errors.Truncated`).

        Args:
            sentences: one pair of texts, or several; ``inputs`` is another name for it.
            prompt_name, prompt: not carried.
            batch_size: does nothing here: batches are made by tokens, and do not change the result.
            show_progress_bar: as of :meth:`SentenceTransformer.encode`.
            activation_fn: what is done with the outputs, ``(n, num_labels)``; None for :attr:`activation_fn`.
            apply_softmax: make probabilities of several outputs.
            convert_to_numpy: an array; with neither, a list of tensors.
            convert_to_tensor: a tensor, on the model's device.
            device: move the model there first.
            **more: none that does anything.

        Returns:
            float32 ``(n,)`` for a model with one output, else ``(n, num_labels)``; without the first axis for one pair.

        Raises:
            BadInput: something that is not pairs of texts.
            Refused: what is not carried.
        """
        activation_fn = more.pop("activation_fct", activation_fn)  # its old name
        _single_process("predict", more)
        _size_given(batch_size)
        if prompt or prompt_name:
            raise Refused(f"predict does not carry prompts: {_INSTEAD['prompts']}")
        if device is not None:
            self.to(device)
        given = sentences if inputs is None else inputs
        pairs: list[Any] = given.tolist() if isinstance(given, np.ndarray) else listed(given, "pairs")
        single = bool(pairs) and not isinstance(pairs[0], (list, tuple))
        raw = self._native([pairs] if single else pairs, progress=show_progress_bar)  # type: ignore[list-item]
        logits = torch.from_numpy(raw).view(-1, self.num_labels)
        activation = self.activation_fn if activation_fn is None else activation_fn
        if isinstance(activation, (nn.Sigmoid, nn.Identity)):
            scores = activation(logits.double()).float()  # so that the float32 result does not depend on the batch
        else:
            scores = activation(logits.to(self.device)).cpu()
        if self.num_labels == 1 and scores.dim() > 1:
            scores = scores.squeeze(-1)
        if apply_softmax and scores.dim() > 1:
            scores = F.softmax(scores.double(), dim=1).float()
        if not pairs:
            scores = torch.empty(0)
        if convert_to_tensor or not convert_to_numpy:
            scores = scores.to(self.device)
            return scores[0] if single else scores if convert_to_tensor else list(scores)
        array = scores.numpy()
        return array[0] if single else array

    def rank(
        self,
        query: str,
        documents: Any,
        top_k: int | None = None,
        return_documents: bool = False,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        activation_fn: Callable[[Tensor], Tensor] | None = None,
        device: Any = None,
        **more: Any,
    ) -> list[dict[str, Any]]:
        """Documents by their score with a query, best first.

        Args:
            query: the one text.
            documents: the others.
            top_k: how many to return; None for all.
            return_documents: return their texts too.
            prompt_name, prompt, batch_size, show_progress_bar, activation_fn, device, **more: as of :meth:`predict`; what it returns is
                not for the caller to choose.

        Returns:
            ``{"corpus_id": place in documents, "score": float}`` each, with ``"text"`` if asked for; equal scores keep their order.

        Raises:
            BadInput: the model has several outputs, so none of them is the score; or something that is not text.
        """
        if self.num_labels != 1:
            raise BadInput(f"rank needs a model with one output, and this one has {self.num_labels}: use predict")
        more = {
            name: value
            for name, value in more.items()
            if name not in ("convert_to_numpy", "convert_to_tensor", "apply_softmax")
        }
        texts = listed(documents, "documents")
        scores = self.predict(
            [(query, text) for text in texts],
            prompt_name,
            prompt,
            batch_size,
            show_progress_bar,
            activation_fn,
            device=device,
            **more,
        ).tolist()
        order = sorted(range(len(texts)), key=lambda n: -scores[n])[: None if top_k is None else whole_number("top_k", top_k)]
        return [{"corpus_id": n, "score": scores[n], **({"text": texts[n]} if return_documents else {})} for n in order]

    # ---- what scripts ask of a model

    @property
    def num_labels(self) -> int:
        """How many outputs there are for a pair."""
        return self._native.outputs

    @property
    def default_activation_function(self) -> Callable[[Tensor], Tensor]:
        """Old name of :attr:`activation_fn`."""
        return self.activation_fn

    @property
    def max_length(self) -> int:
        """Most tokens of a pair, special tokens included; may be changed, within the model's positions."""
        return self._native.max_tokens

    @max_length.setter
    def max_length(self, value: Any) -> None:
        self._native.max_tokens = self._native._limit(whole_number("max_length", value))
        self._tokenizer.model_max_length = self._native.max_tokens

    max_seq_length = max_length

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer, by the calls of transformers."""
        return self._tokenizer

    @property
    def config(self) -> PreTrainedConfig:
        """The model's config.json."""
        return PreTrainedConfig.from_snapshot(self._snapshot, {})

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return torch.device(self._native.device)

    def to(self, where: Any) -> CrossEncoder:
        """Move the model to a device."""
        device = str(choose_device(device_name(where)))
        if device != self._native.device:
            self._native = _Logits(
                self._snapshot, device=device, precision=self._native.precision, max_tokens=self._native.max_tokens
            )
        return self

    def save_pretrained(self, path: Any, **options: Any) -> None:
        """Write the model to a folder that sentence-transformers loads: what was loaded, byte for byte.

        Raises:
            Refused: see :func:`nativebert.saving.save`.
        """
        checked("save_pretrained", options, ("model_name", "create_model_card", "safe_serialization"))
        load(self._snapshot).save(path)

    save = save_pretrained


_INSTEAD = {
    "prompts": "put the prompt before the texts yourself",
    "default_prompt_name": "put the prompt before the texts yourself",
    "keep_in_fp32_modules": "the head is computed in float32 always",
}
