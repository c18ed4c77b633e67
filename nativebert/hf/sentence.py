"""``SentenceTransformer``: :class:`nativebert.Embedder` by the calls of sentence-transformers."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import nativebert.hf.util as util
from nativebert import sentence
from nativebert.checks import whole_number
from nativebert.engine import choose_device
from nativebert.errors import BadInputError, NativeBertWarning, RefusedError, warn
from nativebert.files import write_json
from nativebert.hf.arguments import checked
from nativebert.hf.config import PreTrainedConfig
from nativebert.hf.cross_encoder import CrossEncoder
from nativebert.hf.sentence_transformers_model import SentenceTransformersModel, one_process, tokenizer_of
from nativebert.hf.states import device_name, precision_name
from nativebert.hub import Snapshot
from nativebert.loading import LoadedModel, load
from nativebert.sentence import Truncate
from nativebert.tasks.call import as_list
from nativebert.tasks.embed import Embedder
from nativebert.train.encode import encode_texts

__all__ = ["CrossEncoder", "SentenceTransformer", "util"]


class SentenceTransformer(SentenceTransformersModel):
    """Sentence vectors, by the calls of sentence-transformers; see :class:`nativebert.Embedder` for the native way.

    Args:
        model_name_or_path: a folder, or a model on the Hub; a name without an owner is one of ``sentence-transformers``.
        device: ``"cpu"``, ``"cuda:1"``, a number, a ``torch.device``; None for the best there is.
        prompts: text to put before each text, by name; added to those that the model has.
        default_prompt_name: the prompt that is used when none is asked for.
        similarity_fn_name: ``"cosine"``, ``"dot"``, ``"euclidean"`` or ``"manhattan"``; None for what the model says.
        truncate_dim: keep so many numbers of each vector.
        **options: ``cache_folder``, ``revision``, ``local_files_only``, ``token``; ``model_kwargs`` with ``dtype`` (or ``torch_dtype``; vectors
            are float32 always), ``device_map`` for one device, ``attn_implementation`` and, for jina-embeddings-v3, ``default_task``;
            ``processor_kwargs`` with ``model_max_length``.

    Attributes:
        prompts: name -> text; may be changed.
        default_prompt_name, truncate_dim: as above; may be changed.

    Raises:
        RefusedError: something of sentence-transformers that is not supported.
        NativeBertError: see :class:`nativebert.Embedder`.
    """

    organization = "sentence-transformers"
    _task = "feature-extraction"
    _native: Embedder
    _trained: LoadedModel | None = None  # the encoder, where it was trained

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
        inner = dict(options.get("model_kwargs") or options.get("automodel_args") or {})
        task = inner.pop("default_task", None)
        snapshot, how = self._opened(model_name_or_path, options if task is None else options | {"model_kwargs": inner}, device)
        self._native = _embedder(snapshot, how | {"task": task})
        self._of_tasks: dict[str, Embedder] = {}
        self._max_tokens = self._native.max_tokens
        config = self._native.config
        self._include_prompt = config.include_prompt
        self.prompts = {"query": "", "document": "", **(config.prompts or {}), **(prompts or {})}
        usual = config.default_prompt if task is None else sentence.read(snapshot).default_prompt  # a task chooses no prompt
        self.default_prompt_name = usual if default_prompt_name is None else default_prompt_name
        if self.default_prompt_name is not None and self.default_prompt_name not in self.prompts:
            raise BadInputError(
                f"default_prompt_name is {self.default_prompt_name!r}, and the prompts are {', '.join(self.prompts)}"
            )
        self.similarity_fn_name = config.similarity if similarity_fn_name is None else similarity_fn_name
        said = next((step.width for step in config.then if isinstance(step, Truncate)), None)
        self.truncate_dim: int | None = said if truncate_dim is None else whole_number("truncate_dim", truncate_dim)
        self._tokenizer = tokenizer_of(self._native)
        self._tokenizer_as_made = self._tokenizer._state()

    def __repr__(self) -> str:
        return f"SentenceTransformer({self._native!r})"

    # ---- training

    def fit(self, train_objectives: Any, evaluator: Any = None, epochs: int = 1, **options: Any) -> None:
        """Train, as sentence-transformers did before it had a trainer: see :class:`~nativebert.hf.sentence_trainer.SentenceTransformerTrainer`.

        Args:
            train_objectives: one pair of a ``DataLoader`` of :class:`~nativebert.hf.sentence_trainer.InputExample` and a loss of
                :mod:`nativebert.hf.losses`.
            evaluator: of :mod:`nativebert.hf.evaluation`.
            epochs: passes over the data.
            **options: ``scheduler``, ``warmup_steps``, ``optimizer_params`` with ``lr``, ``weight_decay``, ``evaluation_steps``, ``output_path``,
                ``max_grad_norm``, ``show_progress_bar``.

        Raises:
            RefusedError: an option that is not supported, or several objectives.
        """
        from nativebert.hf.sentence_trainer import fit  # which needs this class

        fit(self, train_objectives, evaluator, epochs, **options)

    def trainable(self) -> LoadedModel:
        """The encoder as a module of its own, in float32, to be trained; :meth:`take` gives it back.

        Raises:
            RefusedError: what follows pooling has weights, which would not be trained.
        """
        if other := [step for step in self._native.config.then if not isinstance(step, Truncate) and step != "normalize"]:
            raise RefusedError(f"the model has a {type(other[0]).__name__} module after pooling, which is not trained here")
        if self._trained is None:
            assert self._native.snapshot is not None
            model = load(self._native.snapshot, head=None, adapter=self._native.task)
            self._trained = model if model.dtype == torch.float32 else model.float()
            self._trained.tokenizer = self._native.tokenizer
        return self._trained.to(self.device)

    def take(self, model: LoadedModel) -> None:
        """Compute vectors with a trained encoder from now on: its weights as they are now."""
        self._trained, training, self._of_tasks = model, model.training, {}
        device, pooling = self._native.device, self._native.pooling
        self._native = Embedder(
            model.eval(), pooling=pooling, truncate_dim=sys.maxsize, device=device, max_tokens=self._max_tokens
        )
        model.train(training)

    def training_ids(self, texts: list[str]) -> list[list[int]]:
        """Token ids of texts, cut to ``max_seq_length``."""
        return encode_texts(self.trainable(), texts, limit=self._max_tokens).ids

    @property
    def pooling(self) -> tuple[str, ...]:
        """How a text's tokens become one vector: modes of :data:`nativebert.nn.pool.POOLS`."""
        return self._native.pooling

    @property
    def normalizes(self) -> bool:
        """Whether vectors are brought to a length of 1."""
        return self._native.normalize

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
            **more: ``task``, of a model that has adapters for tasks (jina-embeddings-v3), which keeps a copy of its weights for each that is asked for;
                for other models, and all else, it does nothing.

        Returns:
            float32 ``(n, dimension)``; ``(dimension,)`` for one text. Empty of one dimension for no texts, as in the reference.

        Raises:
            BadInputError: something that is not text, an unknown prompt name.
            RefusedError: what is not supported.
        """
        one_process("encode", batch_size, more)
        self._keep_up("encode")
        items = sentences if inputs is None else inputs
        if precision not in (None, "float32"):
            raise RefusedError(
                f"encode does not support precision={precision!r}: quantise the vectors afterwards, e.g. vectors > 0 for bits"
            )
        if output_value not in ("sentence_embedding", "token_embeddings"):
            raise RefusedError(
                f"encode supports output_value='sentence_embedding' and 'token_embeddings', not {output_value!r}"
            )
        if device is not None:
            self.to(device)
        single, texts, native = isinstance(items, str), as_list(items), self._for_task(more.get("task"))
        prefix = self._prompt(prompt, prompt_name)
        if output_value == "token_embeddings":
            prefixed = [prefix + text if isinstance(text, str) else text for text in texts]
            states = native.states(prefixed, progress=show_progress_bar, max_tokens=self._max_tokens)
            states = [x.to(self.device) for x in states]
            return states[0] if single else states
        vectors: Tensor = native(
            texts, prompt=prefix, include_prompt=self._include_prompt, progress=show_progress_bar, as_tensor=True,
            max_tokens=self._max_tokens,
        )  # fmt: skip
        keep = self.truncate_dim if truncate_dim is None else truncate_dim
        vectors = util.truncate_embeddings(vectors, keep)
        if normalize_embeddings:
            vectors = F.normalize(vectors, dim=1)
        if not texts:
            vectors = torch.empty(0)
        return self._as_asked(vectors, single, convert_to_numpy, convert_to_tensor)

    def _for_task(self, task: str | None) -> Embedder:
        """The native task with the adapter for a task, where the model has one for each."""
        native = self._native
        if not native.tasks or task is None or task == native.task:
            return native
        if task not in self._of_tasks:
            assert native.snapshot is not None
            how = {"device": native.device, "precision": native.precision, "max_tokens": self._max_tokens, "task": task}
            self._of_tasks[task] = _embedder(native.snapshot, how)
        return self._of_tasks[task]

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
                warn("prompt and prompt_name were both given: prompt_name is ignored", NativeBertWarning)
            return prompt
        name = self.default_prompt_name if name is None else name
        if name is None:
            return ""
        if name not in self.prompts:
            raise BadInputError(f"this model has no prompt named {name!r}; it has {', '.join(self.prompts)}")
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
        self._keep_up("max_seq_length")
        return self._max_tokens

    @max_seq_length.setter
    def max_seq_length(self, value: Any) -> None:
        self._set_limit("max_seq_length", value)

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
        self._include_prompt = bool(include_prompt)

    def tokenize(self, texts: Any, **_: Any) -> dict[str, Tensor]:
        """Padded token ids of texts, cut at :attr:`max_seq_length`, and their masks."""
        return dict(
            self._tokenizer(as_list(texts), padding=True, truncation=True, max_length=self.max_seq_length, return_tensors="pt")
        )

    preprocess = tokenize

    @property
    def config(self) -> PreTrainedConfig:
        """The encoder's config.json."""
        assert self._native.snapshot is not None
        return PreTrainedConfig.from_snapshot(self._native.snapshot, {})

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
            self._native = _embedder(
                native.snapshot,
                {"device": device, "precision": precision, "max_tokens": self._max_tokens, "task": native.task},
            )
            self._of_tasks = {}
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
        """Write the model to a folder that sentence-transformers loads: what was loaded, with the limit, prompts, measure, tokenizer
        and number type of this object, and whether prompts are pooled.

        Raises:
            RefusedError: see :func:`nativebert.saving.save`.
        """
        checked("save_pretrained", options, ("model_name", "create_model_card", "train_datasets", "safe_serialization"))
        if options.get("safe_serialization", True) is False:
            raise RefusedError("save_pretrained writes safetensors only: leave safe_serialization out")
        snapshot, folder = self._native.snapshot, Path(path)
        assert snapshot is not None
        self._keep_up("save_pretrained")
        self._save_encoder(snapshot, folder, self._trained)
        pooled = {"include_prompt": self._include_prompt}
        if snapshot.path("modules.json") is None:  # say what was assumed
            kinds = {"Transformer": "", "Pooling": "1_Pooling"}
            modules = [
                {"idx": n, "name": str(n), "path": where, "type": f"sentence_transformers.models.{kind}"}
                for n, (kind, where) in enumerate(kinds.items())
            ]
            write_json(folder / "modules.json", modules)
            (folder / "1_Pooling").mkdir(exist_ok=True)
            pooling = {"word_embedding_dimension": self._native.encoder.width, "pooling_mode_mean_tokens": True}
            write_json(folder / "1_Pooling" / "config.json", pooling | pooled)
        elif pooled["include_prompt"] != sentence.read(snapshot).include_prompt:
            where = next(m["path"] for m in snapshot.modules() if str(m["type"]).endswith(".Pooling"))
            write_json(folder / where / "config.json", (snapshot.read_json(f"{where}/config.json") or {}) | pooled)
        name, said = self._transformer_file(snapshot)
        write_json(folder / snapshot.inside / name, said)
        mine = {
            "prompts": dict(self.prompts), "default_prompt_name": self.default_prompt_name, "similarity_fn_name": self._measure,
            **({} if self.truncate_dim is None else {"truncate_dim": self.truncate_dim}),
        }  # fmt: skip
        write_json(folder / sentence.SETTINGS, (snapshot.read_json(sentence.SETTINGS) or {}) | mine)

    save = save_pretrained


def _embedder(snapshot: Snapshot, options: dict[str, Any]) -> Embedder:
    """An Embedder that gives whole vectors, whatever the files say."""
    return Embedder(snapshot, truncate_dim=sys.maxsize, **options)
