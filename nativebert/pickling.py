"""Pickling of a task's model: the location of its files, with a fingerprint of them; its weights only where
the files do not hold them, or no longer.

So a task of a model of gigabytes goes to another process in a few kilobytes, and the processes of one machine share the file's memory. A
model that is pickled by itself is pickled with its weights, like any torch module.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from nativebert.errors import RefusedError
from nativebert.hub import ADAPTER_WEIGHTS, Snapshot
from nativebert.loading import PRECISIONS, LoadedModel, load, open_snapshot
from weights_map import Checkpoint


@dataclass(frozen=True)
class ModelFiles:
    """A model, by its files.

    Attributes:
        snapshot: where they are; where that folder is not there, they are looked for at the same commit of the Hub.
        head, precision, device: as of :func:`nativebert.load`.
        weights: the fingerprint of the weight files.
        adapter: as of :func:`nativebert.load`.
    """

    snapshot: Snapshot
    head: str | None
    precision: str
    device: str
    weights: str
    adapter: str | None = None

    @classmethod
    def of(cls, model: LoadedModel) -> ModelFiles:
        """Those of a model that was loaded."""
        assert model.snapshot is not None
        assert model.ledger is not None
        head = "auto" if len(model.tasks) > 1 else model.tasks[0] if model.tasks else None
        dtype = str(model.dtype).removeprefix("torch.")
        return cls(model.snapshot, head, dtype, str(model.device), _fingerprint(model), model.adapter)

    def load(self) -> LoadedModel:
        """The model again.

        Raises:
            RefusedError: the weight files are not those any more that they were.
            NativeBertError, weights_map.WeightsMapError: see :func:`nativebert.load`.
        """
        snapshot = self.snapshot
        if not snapshot.folder.is_dir() and snapshot.repo is not None:
            base = None if snapshot.base is None else snapshot.base.reference
            here = open_snapshot(snapshot.repo, revision=snapshot.revision, base=base)
            snapshot = replace(here, reference=snapshot.reference)
        model = load(snapshot, head=self.head, precision=self.precision, device=self.device, adapter=self.adapter)
        assert model.ledger is not None
        if _fingerprint(model) != self.weights:
            raise RefusedError(
                f"{snapshot.folder} holds other weights now than when it was pickled: make the model or task again, and pickle that"
            )
        return model


def _fingerprint(model: LoadedModel) -> str:
    """Of the weight files: those of the model, and that of an adapter that was merged into it."""
    assert model.snapshot is not None
    assert model.ledger is not None
    own = model.ledger.checkpoint.fingerprint()
    return own if model.snapshot.base is None else own + Checkpoint.open(model.snapshot.folder / ADAPTER_WEIGHTS).fingerprint()


@dataclass(frozen=True)
class Referred:
    """A model in a pickle of something else: unpickled, it is the model, from its files if it was what they hold."""

    model: LoadedModel

    def __reduce__(self) -> tuple[Any, ...]:
        return _by_files(self.model) or (_itself, (self.model,))


class PassedModel:
    """A model in memory that a task was made of: in the task's pickle, while it has the weights that the task has."""

    def __init__(self, model: LoadedModel) -> None:
        self._model, self._weights = model, _digest(model)

    def load(self) -> LoadedModel:
        """The model."""
        return self._model

    def __getstate__(self) -> dict[str, Any]:
        if _digest(self._model) != self._weights:
            raise RefusedError(
                "the weights of this task's model were changed since the task was made of it, and only the model still has weights to pickle: "
                "make the task again from the model, or from a folder that the model was saved to"
            )
        return {**self.__dict__, "_model": Referred(self._model)}


def _digest(model: LoadedModel) -> list[tuple[int, float]]:
    """A fingerprint of each of a model's tensors."""
    tensors = (tensor.detach().cpu() for tensor in model.state_dict().values())
    return [(int(torch.hash_tensor(t).item()), t.sum(dtype=torch.float64).item()) for t in tensors]


def _by_files(model: LoadedModel) -> tuple[Any, ...] | None:
    """How to make the model again from its files and what was set beside them; None where anything else of it is not what they say."""
    hooked = any(part._forward_hooks or part._forward_pre_hooks or part._backward_hooks for part in model.modules())
    precise = str(model.dtype).removeprefix("torch.") in PRECISIONS
    if model.ledger is None or model.snapshot is None or model.training or hooked or not precise:
        return None
    files = replace(ModelFiles.of(model), device="cpu")
    try:
        fresh = files.load()
    except Exception:  # whatever is wrong with the files now, the weights are here
        return None
    if model.pool is None:
        fresh.pool = None
    own = {
        name: value for name, value in vars(model).items() if not name.startswith("_") and name not in ("ledger", "snapshot")
    }
    beside = {name: own.pop(name) for name in ("config", "tokenizer") if name in own}
    if any(name not in vars(fresh) or value != vars(fresh)[name] for name, value in own.items()):
        return None
    mine, theirs = dict(model.named_parameters()), dict(fresh.named_parameters())
    if mine.keys() != theirs.keys() or not all(_equal(mine[name], theirs[name]) for name in mine):
        return None
    if beside["config"] == fresh.config:
        del beside["config"]
    if "tokenizer" in beside and beside["tokenizer"].__getstate__() == fresh.tokenizer.__getstate__():
        del beside["tokenizer"]
    return _again, (replace(files, device=str(model.device)), model.pool is None, beside)


def _equal(a: torch.nn.Parameter, b: torch.nn.Parameter) -> bool:
    return a.requires_grad == b.requires_grad and a.grad is None and a.dtype == b.dtype and torch.equal(a.cpu(), b)


def _again(files: ModelFiles, no_pooler: bool, beside: dict[str, Any]) -> LoadedModel:
    model = files.load()
    if no_pooler:
        model.pool = None
    vars(model).update(beside)
    return model


def _itself(model: LoadedModel) -> LoadedModel:
    return model
