"""``SparseEncoder``: :class:`nativebert.SparseEmbedder` by the calls of sentence-transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

import nativebert.hf.util as util
from nativebert.checks import at_least
from nativebert.errors import BadInputError, NativeBertWarning, RefusedError, warn
from nativebert.hf.sentence_transformers_model import SentenceTransformersModel, one_process, tokenizer_of
from nativebert.tasks.call import as_list
from nativebert.tasks.sparse import SparseEmbedder


class SparseEncoder(SentenceTransformersModel):
    """Sparse vectors over the vocabulary, by the calls of sentence-transformers; see :class:`nativebert.SparseEmbedder` for the native way.

    Args:
        model_name_or_path: a folder, or a model on the Hub.
        device: ``"cpu"``, ``"cuda:1"``, a number, a ``torch.device``; None for the best there is.
        prompts: text to put before each text, by name; added to those that the model has.
        default_prompt_name: the prompt that is used when none is asked for.
        similarity_fn_name: ``"dot"``, ``"cosine"``, ``"euclidean"`` or ``"manhattan"``; None for what the model says.
        max_active_dims: keep only so many tokens of each text, those of the largest weights.
        **options: as of :class:`~nativebert.hf.sentence.SentenceTransformer`.

    Attributes:
        prompts: name -> text; may be changed.
        default_prompt_name, max_active_dims: as above; may be changed.

    Raises:
        RefusedError: something of sentence-transformers that is not supported.
        NativeBertError: see :class:`nativebert.SparseEmbedder`.
    """

    organization = "sparse-encoder"
    _task = "fill-mask"
    _native: SparseEmbedder

    def __init__(
        self,
        model_name_or_path: Any = None,
        *,
        device: Any = None,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        similarity_fn_name: str | util.SimilarityFunction | None = None,
        max_active_dims: int | None = None,
        **options: Any,
    ) -> None:
        snapshot, how = self._opened(model_name_or_path, options, device)
        self._native = SparseEmbedder(snapshot, **how)
        self._max_tokens = self._native.max_tokens
        config = self._native.config
        self.prompts = {"query": "", "document": "", **(config.prompts or {}), **(prompts or {})}
        self.default_prompt_name = config.default_prompt if default_prompt_name is None else default_prompt_name
        if self.default_prompt_name is not None and self.default_prompt_name not in self.prompts:
            raise BadInputError(
                f"default_prompt_name is {self.default_prompt_name!r}, and the prompts are {', '.join(self.prompts)}"
            )
        self.similarity_fn_name = util.measure_name(config.similarity if similarity_fn_name is None else similarity_fn_name)
        self.max_active_dims = None if max_active_dims is None else at_least(1, "max_active_dims", max_active_dims)
        self._tokenizer = tokenizer_of(self._native)
        self._tokenizer_as_made = self._tokenizer._state()

    def __repr__(self) -> str:
        return f"SparseEncoder({self._native!r})"

    def encode(
        self,
        sentences: Any = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        convert_to_tensor: bool = True,
        convert_to_sparse_tensor: bool = True,
        save_to_cpu: bool = False,
        device: Any = None,
        max_active_dims: int | None = None,
        *,
        inputs: Any = None,
        **more: Any,
    ) -> Any:
        """Sparse vectors of texts. A text over ``max_seq_length`` is cut, with one warning for all (:class:`nativebert.errors.Truncated`).

        Args:
            sentences: one text, or several; ``inputs`` is another name for it.
            prompt_name: the name of a prompt in :attr:`prompts`.
            prompt: or the text to put before each text.
            batch_size: does nothing here: batches are made by tokens, and do not change the result.
            show_progress_bar: show a progress bar; None for one on a terminal, for work of more than two seconds.
            convert_to_tensor: a tensor; without it, a list of one for each text.
            convert_to_sparse_tensor: sparse tensors (COO); without it, with all their zeros.
            save_to_cpu: a tensor on the CPU, and not on the model's device.
            device: not supported: make the model on it.
            max_active_dims: in place of the model's own.
            **more: none that does anything.

        Returns:
            float32 ``(n, dimension)``; ``(dimension,)`` for one text.

        Raises:
            BadInputError: something that is not text, an unknown prompt name.
            RefusedError: what is not supported.
        """
        one_process("encode", batch_size, more)
        self._keep_up("encode")
        if device is not None and torch.device(device) != self.device:
            raise RefusedError(f"encode does not support device={device!r}: make the SparseEncoder with device={device!r}")
        items = sentences if inputs is None else inputs
        single, texts = isinstance(items, str), as_list(items)
        keep = self.max_active_dims if max_active_dims is None else max_active_dims
        vectors = self._native(
            texts, prompt=self._prompt(prompt, prompt_name), top_k=keep, progress=show_progress_bar, max_tokens=self._max_tokens
        )
        if convert_to_sparse_tensor:
            columns = torch.from_numpy(vectors.indices).long()
            counts = torch.from_numpy(vectors.indptr).diff()
            rows = torch.arange(len(texts)).repeat_interleave(counts)
            found = torch.sparse_coo_tensor(
                torch.stack([rows, columns]), torch.from_numpy(vectors.data), vectors.shape
            ).coalesce()
        else:
            found = torch.from_numpy(vectors.dense())
        if not texts:
            found = torch.empty(0).to_sparse() if convert_to_sparse_tensor else torch.empty(0)
        found = found if save_to_cpu else found.to(self.device)
        if single:
            return found[0]
        return found if convert_to_tensor else list(found)

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

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Tensor:
        """How similar each vector of the first is to each of the second, ``(n, m)``; larger is more similar."""
        return util.SimilarityFunction.to_similarity_fn(self.similarity_fn_name)(_dense(embeddings1), _dense(embeddings2))

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Tensor:
        """How similar each vector of the first is to its counterpart in the second, ``(n,)``."""
        return util.SimilarityFunction.to_similarity_pairwise_fn(self.similarity_fn_name)(
            _dense(embeddings1), _dense(embeddings2)
        )

    @staticmethod
    def sparsity(embeddings: Tensor) -> dict[str, float]:
        """Mean number of numbers that are not zero, and the mean share of those that are."""
        rows = _dense(embeddings)
        rows = rows[None] if rows.dim() == 1 else rows
        active = float((rows != 0).sum(1).float().mean()) if rows.numel() else 0.0
        return {"active_dims": active, "sparsity_ratio": 1.0 - (active / rows.shape[1] if rows.numel() else 0.0)}

    def decode(self, embeddings: Tensor, top_k: int | None = None) -> Any:
        """The tokens of a sparse vector, or of each of several, with their weights, the largest first.

        Args:
            embeddings: ``(dimension,)`` or ``(n, dimension)``.
            top_k: so many; None for all that are not zero.

        Raises:
            BadInputError: another number of dimensions, or ``top_k`` below 1.
        """
        rows = _dense(embeddings)
        if rows.dim() not in (1, 2):
            raise BadInputError(f"decode takes one vector or several, not a tensor of {rows.dim()} dimensions")
        keep = None if top_k is None else at_least(1, "top_k", top_k)
        found = []
        for row in rows.reshape(-1, rows.shape[-1]):
            columns = torch.nonzero(row)[:, 0]
            order = torch.argsort(row[columns], descending=True, stable=True)[:keep]
            names = self._tokenizer.convert_ids_to_tokens(columns[order].tolist())
            found.append(list(zip(names, row[columns][order].tolist(), strict=True)))
        return found[0] if rows.dim() == 1 else found

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
        """Numbers of a vector: tokens of the vocabulary."""
        return self._native.dimension

    get_sentence_embedding_dimension = get_embedding_dimension


def _dense(vectors: Any) -> Tensor:
    """A tensor with all its zeros."""
    rows = vectors if isinstance(vectors, Tensor) else torch.as_tensor(vectors)
    return rows.to_dense() if rows.layout != torch.strided else rows
