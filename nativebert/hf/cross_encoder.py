"""``CrossEncoder``: :class:`nativebert.Ranker` by the calls of sentence-transformers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nativebert import sentence
from nativebert.checks import whole_number
from nativebert.engine import choose_device
from nativebert.errors import BadInputError, RefusedError
from nativebert.files import write_json
from nativebert.hf import unsupported
from nativebert.hf.arguments import checked
from nativebert.hf.config import PreTrainedConfig
from nativebert.hf.sentence_transformers_model import SentenceTransformersModel, one_process, tokenizer_of
from nativebert.hf.states import device_name
from nativebert.tasks.call import as_list
from nativebert.tasks.rank import Ranker

__all__ = ["CrossEncoder"]


class CrossEncoder(SentenceTransformersModel):
    """Scores of pairs of texts, by the calls of sentence-transformers; see :class:`nativebert.Ranker` for the native way.

    Args:
        model_name_or_path: a folder, or a model on the Hub; a name without an owner is one of ``cross-encoder``.
        num_labels: how many outputs the model has; it must be so.
        max_length: most tokens of a pair; None for what the model's files say.
        activation_fn: what is done with the outputs, a tensor ``(n, num_labels)``; None for what the model says.
        device: as of :class:`~nativebert.hf.sentence.SentenceTransformer`.
        **options: as of :class:`~nativebert.hf.sentence.SentenceTransformer`.

    Attributes:
        activation_fn: as above; may be changed.

    Raises:
        RefusedError: something of sentence-transformers that is not supported.
        NativeBertError: see :class:`nativebert.Ranker`.
    """

    organization = "cross-encoder"
    _task = "sequence-classification"
    _instead: ClassVar[Mapping[str, str]] = {
        "prompts": unsupported.PROMPTS,
        "default_prompt_name": unsupported.PROMPTS,
        "keep_in_fp32_modules": "the head is computed in float32 always",
    }
    _more = ("cache_dir", "default_activation_function", *_instead)
    _native: Ranker

    def __init__(
        self,
        model_name_or_path: Any = None,
        num_labels: int | None = None,
        max_length: int | None = None,
        activation_fn: Callable[[Tensor], Tensor] | None = None,
        device: Any = None,
        **options: Any,
    ) -> None:
        model_name_or_path = options.pop("model_name", model_name_or_path)  # its old name
        snapshot, how = self._opened(model_name_or_path, options, device, max_length)
        self._native = Ranker(snapshot, **how)
        self._max_tokens = self._native.max_tokens
        self._snapshot = snapshot
        if num_labels is not None and whole_number("num_labels", num_labels) != self.num_labels:
            raise RefusedError(
                f"{snapshot.reference} has {self.num_labels} outputs, and num_labels={num_labels} was asked for: {unsupported.LATER}"
            )
        chosen = activation_fn or options.get("default_activation_function")
        self.activation_fn: Callable[[Tensor], Tensor] = chosen or self.get_default_activation_fn()
        self._tokenizer = tokenizer_of(self._native)
        self._tokenizer_as_made = self._tokenizer._state()

    def __repr__(self) -> str:
        return f"CrossEncoder({self._native!r})"

    def get_default_activation_fn(self) -> nn.Module:
        """What the model says is to be done with its outputs."""
        return nn.Sigmoid() if self._native.activation == "sigmoid" else nn.Identity()

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
            prompt_name, prompt: not supported.
            batch_size: does nothing here: batches are made by tokens, and do not change the result.
            show_progress_bar: as of :meth:`~nativebert.hf.sentence.SentenceTransformer.encode`.
            activation_fn: what is done with the outputs, ``(n, num_labels)``; None for :attr:`activation_fn`.
            apply_softmax: make probabilities of several outputs.
            convert_to_numpy: an array; with neither, a list of tensors.
            convert_to_tensor: a tensor, on the model's device.
            device: move the model there first.
            **more: none that does anything.

        Returns:
            float32 ``(n,)`` for a model with one output, else ``(n, num_labels)``; without the first axis for one pair.

        Raises:
            BadInputError: something that is not pairs of texts.
            RefusedError: what is not supported.
        """
        activation_fn = more.pop("activation_fct", activation_fn)  # its old name
        one_process("predict", batch_size, more)
        self._keep_up("predict")
        if prompt or prompt_name:
            raise RefusedError(f"predict does not support prompts: {unsupported.PROMPTS}")
        if device is not None:
            self.to(device)
        items = sentences if inputs is None else inputs
        pairs: list[Any] = items.tolist() if isinstance(items, np.ndarray) else as_list(items, "pairs")
        single = bool(pairs) and not isinstance(pairs[0], (list, tuple))
        batch: list[Any] = [pairs] if single else pairs
        outputs = self._native.logits(batch, progress=show_progress_bar, max_tokens=self._max_tokens)
        logits = torch.from_numpy(outputs)  # (n, num_labels)
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
        return self._as_asked(scores, single, convert_to_numpy, convert_to_tensor)

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
            BadInputError: the model has several outputs, so none of them is the score; or something that is not text.
        """
        if self.num_labels != 1:
            raise BadInputError(f"rank needs a model with one output, and this one has {self.num_labels}: use predict")
        more = {
            name: value
            for name, value in more.items()
            if name not in ("convert_to_numpy", "convert_to_tensor", "apply_softmax")
        }
        texts = as_list(documents, "documents")
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
        self._keep_up("max_length")
        return self._max_tokens

    @max_length.setter
    def max_length(self, value: Any) -> None:
        self._set_limit("max_length", value)

    max_seq_length = max_length

    @property
    def config(self) -> PreTrainedConfig:
        """The model's config.json."""
        return PreTrainedConfig.from_snapshot(self._snapshot, {})

    def to(self, where: Any) -> CrossEncoder:
        """Move the model to a device."""
        device = str(choose_device(device_name(where)))
        if device != self._native.device:
            self._native = Ranker(self._snapshot, device=device, precision=self._native.precision, max_tokens=self._max_tokens)
        return self

    def save_pretrained(self, path: Any, **options: Any) -> None:
        """Write the model to a folder that sentence-transformers loads: what was loaded, byte for byte, and what is otherwise in this object
        (``activation_fn``, ``max_length``, the number type, the tokenizer) in the files where sentence-transformers has it.

        Raises:
            RefusedError: ``activation_fn`` is not one that a folder can name and nativebert reads (``torch.nn.Sigmoid()``, ``torch.nn.Identity()``);
                or see :func:`nativebert.saving.save`.
        """
        checked("save_pretrained", options, ("model_name", "create_model_card", "safe_serialization"))
        self._keep_up("save_pretrained")
        snapshot, folder, own = self._snapshot, Path(path), self.get_default_activation_fn()
        if type(self.activation_fn) not in (nn.Sigmoid, nn.Identity):
            raise RefusedError(
                f"a folder cannot say that activation_fn is {self.activation_fn!r}: set torch.nn.Sigmoid() or torch.nn.Identity() before saving, "
                "and pass activation_fn= where the folder is loaded"
            )
        self._save_encoder(snapshot, folder)
        same = type(self.activation_fn) is type(own) and self._native.precision == (
            self._as_written(snapshot).dtype or "float32"
        )
        if same and self._max_tokens == self._native.file_max_tokens:
            return
        kind = type(self.activation_fn)
        said: dict[str, Any] = {"model_type": "CrossEncoder", "prompts": {}, "default_prompt_name": None}
        said |= (snapshot.read_json(sentence.SETTINGS) or {}) | {"activation_fn": f"{kind.__module__}.{kind.__qualname__}"}
        write_json(folder / sentence.SETTINGS, said)
        if not snapshot.modules():
            module = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"}
            write_json(folder / "modules.json", [module])
        name, limits = self._transformer_file(snapshot)
        write_json(folder / snapshot.inside / name, {"transformer_task": self._task} | limits)

    save = save_pretrained
