"""Folder or Hub -> model.

The way of the weights: the file's header is read and matched with the family's map and the config; only when every tensor and every
parameter is accounted for are bytes touched, as views of the mapped file. A model that fails to load leaves nothing behind.
"""

from __future__ import annotations

import copy
import gc
import glob
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from nativebert import hub
from nativebert.arch import read_config
from nativebert.config import EncoderConfig, select_heads
from nativebert.engine import choose_device
from nativebert.errors import Assumed, BadInputError, NotFoundError, RefusedError, Unread, warn
from nativebert.hub import Snapshot
from nativebert.nn.model import Model
from nativebert.saving import save
from weights_map import Checkpoint, Ledger, match
from weights_map import torch as views
from weights_map.report import printable
from weights_map.rows import LOADED

if TYPE_CHECKING:
    from nativebert.text.tokenizer import Tokenizer

PRECISIONS = ("float32", "float64", "bfloat16", "float16")


class LoadedModel(Model):
    """A model with the files that it came from, made by :func:`load`.

    Attributes:
        ledger: the weight map applied to its weight file, one row for each tensor; None for a model without files, or out of a pickle.
        snapshot: the files that it came from; None for a model without files.
    """

    ledger: Ledger | None = None
    snapshot: Snapshot | None = None
    file_attributes = frozenset({"ledger", "snapshot", "tokenizer"})

    @classmethod
    def of(cls, model: Model) -> LoadedModel:
        """A loaded model as it is; a plain one as a loaded one without files, of the same modules and weights.

        Raises:
            BadInputError: a class of one's own, whose methods would be lost.
        """
        if isinstance(model, LoadedModel):
            return model
        if type(model) is not Model:
            raise BadInputError(
                f"derive {type(model).__name__} from nativebert.loading.LoadedModel, in place of nativebert.nn.model.Model"
            )
        twin = cls.__new__(cls)
        twin.__dict__.update(model.__dict__)
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A copy with weights of its own; the ledger and the snapshot describe files, and are shared."""
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        shared = ("ledger", "snapshot")
        twin.__dict__.update({k: v if k in shared else copy.deepcopy(v, memo) for k, v in self.__dict__.items()})
        return twin

    def __getstate__(self) -> dict[str, Any]:
        """State for pickling, without the ledger, which holds a mapped file: a copy cannot be saved."""
        return {**self.__dict__, "ledger": None}

    @property
    def reference(self) -> str:
        """Source of the model, as its user wrote it."""
        return self.snapshot.reference if self.snapshot else f"a new {self.config.family} model"

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the model's folder, read when it is first asked for.

        Raises:
            NotFoundError: there is none, or the model was built from a config alone.
        """
        from nativebert.text.tokenizer import Tokenizer  # quick to load a model without it

        if self.snapshot is None:
            raise NotFoundError("this model was built from a config alone and has no tokenizer; set model.tokenizer")
        return Tokenizer.from_folder(self.snapshot.encoder)

    def save(self, folder: str | PathLike[str], precision: str | None = None) -> None:
        """Write the model to a folder that transformers and sentence-transformers load, or, with ``precision="int8"``, to one of a quarter
        of the size that nativebert loads (see :func:`nativebert.saving.save`).

        Raises:
            RefusedError: the model was not loaded from files; or see :func:`nativebert.saving.save`.
        """
        if self.ledger is None or self.snapshot is None:
            raise RefusedError(
                "a model that was not loaded from a file cannot be saved: load one, or use torch.save(model.state_dict())"
            )
        save(self, self.ledger, self.snapshot, folder, precision)


def load(
    reference: str | PathLike[str] | Snapshot,
    *,
    head: str | None = "auto",
    device: str = "cpu",
    precision: str = "float32",
    revision: str | None = None,
    offline: bool | None = None,
    token: str | None = None,
    unexpected: Sequence[str] = (),
) -> LoadedModel:
    """Load a model with its weights, in evaluation mode.

    On the CPU and in the file's own precision its parameters are views of the mapped file: nothing is copied, and the file never
    changes, whatever is done to the model. Weights stored in eight bits (``nativebert quantize``) become float32 copies.

    Args:
        reference: a folder, or a model on the Hub: ``owner/name``, ``name``, ``owner/name@revision``.
        head: the task of the head: ``"lm"``, ``"classify"``, ``"tag"``, ``"answer"``, ``"choose"``, ``"nsp"``, ``"sop"``, ``"rtd"``; ``"auto"`` for
            those that the checkpoint was saved with, None for none. Heads that are left out are kept for saving.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
        precision: ``"float32"``, ``"float64"``, ``"bfloat16"``, ``"float16"``: what the parameters are cast to.
        revision: branch, tag or commit on the Hub.
        offline: True to touch no network; None for the environment's ``HF_HUB_OFFLINE``.
        token: Hub token; None for the one that is logged in.
        unexpected: patterns (``encoder.*.adapter.*``) of tensors of the file that are left aside, though they look as if they belonged to the
            encoder. Those of a head, known or not, are left aside anyway. All are kept for saving.

    Warns:
        Unread: there are tensors that nothing here knows; names them.
        Assumed: names are read without a prefix that only wraps (``module.``).

    Raises:
        NativeBertError: the model cannot be had (see :func:`nativebert.hub.resolve`), or its config is refused or corrupt.
        weights_map.WeightsMapError: its weight file is damaged, holds NaN, or does not fit the config; the message names the tensors.
    """
    if precision not in PRECISIONS:
        raise BadInputError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")
    target = choose_device(device)
    snapshot = open_snapshot(reference, revision=revision, offline=offline, token=token)
    with _gc_disabled():
        return _load(snapshot, head, target, getattr(torch, precision), unexpected)


def _load(
    snapshot: Snapshot, head: str | None, target: torch.device, dtype: torch.dtype, unexpected: Sequence[str]
) -> LoadedModel:
    family, config = read_config(snapshot.read_json("config.json") or {})
    checkpoint = Checkpoint.open(snapshot.encoder)
    # what the file says of optional parts decides whether the model has them
    wrapper = family.wrapper(checkpoint.tensors)
    targets = {target for name in checkpoint.tensors for target in family.map.targets_of(name.removeprefix(wrapper))}
    tasks = select_heads(config, head, targets)
    with torch.device("meta"):
        model = LoadedModel(config, pooler=any(name.startswith("pool.") for name in targets), tasks=tasks)
    names = config.checkpoint_names(model.state_dict(), targets)
    ledger = match(family.map, checkpoint, wanted=names, dims=config.dims_with(tasks), wrapper=wrapper)
    if wrapper:
        warn(
            f"{checkpoint.path}: names begin with {wrapper!r}, as of a model that was saved inside another; read without it",
            Assumed,
        )
    ledger = _check(ledger, config, head, family.strays(ledger, tasks, config), unexpected)
    _only_floats(ledger)
    tensors = {names.get(name, name): t for name, t in views.tensors(ledger).items()}
    views.check_finite(tensors, after=checkpoint.release)
    model.load_state_dict(_cast(tensors, target, dtype), assign=True, strict=False)
    for tied, leader in ledger.ties().items():
        module, _, leaf = tied.rpartition(".")
        setattr(model.get_submodule(module), leaf, model.get_parameter(leader))
    model.ledger, model.snapshot = ledger, snapshot
    return model.eval()


@contextmanager
def _gc_disabled() -> Iterator[None]:
    """No garbage collection meanwhile: it would look through all that torch's import made (80 ms), and find nothing."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


_ADVICE = {
    "unexpected": "if the model is right without these tensors: nativebert.load(folder, unexpected=[pattern]), and pass the model to a task in "
    "place of the folder"
}


def _check(ledger: Ledger, config: EncoderConfig, head: str | None, strays: Sequence[str], unexpected: Sequence[str]) -> Ledger:
    absent = [target for row in ledger.rows if row.status == "missing" for target in row.targets if target.startswith("head.")]
    if head not in (None, "auto") and absent:
        raise NotFoundError(
            f"the checkpoint was saved as {config.architecture or 'an encoder'} and has no head for {head!r}: these would be new, with "
            f"random values: {', '.join(absent)}. Load it with head='auto', or another checkpoint."
        )
    if not config.tied:  # then a decoder that the file leaves out is not the token table, but missing
        untied = [row for row in ledger.rows if row.status == "tied" and not row.sources and row.targets[0].endswith(".weight")]
        if untied:
            raise RefusedError(
                f"{untied[0].targets[0]} is not in the file, and config.json says tie_word_embeddings=false: its values are nowhere to be had"
            )
    checked = ledger.check(unexpected=[*map(glob.escape, strays), *unexpected], advice=_ADVICE)
    if left := [source for row in checked.rows if row.status == "unexpected" for source in row.sources]:
        more = f" and {len(left) - 5} more" if len(left) > 5 else ""
        warn(
            f"{ledger.checkpoint.path}: {', '.join(map(printable, left[:5]))}{more}: {'a tensor' if len(left) == 1 else 'tensors'} that nothing here knows, left unread "
            "and kept for saving",
            Unread,
        )
    return checked


def open_snapshot(
    reference: str | PathLike[str] | Snapshot,
    *,
    revision: str | None = None,
    offline: bool | None = None,
    token: str | None = None,
    weights: bool = True,
) -> Snapshot:
    """The files of a model; a snapshot is returned as it is. See :func:`nativebert.hub.resolve`."""
    if isinstance(reference, Snapshot):
        return reference
    return hub.resolve(reference, revision=revision, offline=offline, token=token, weights=weights)


def _cast(tensors: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """The tensors in another precision. A finite weight must stay finite: float16 ends at 65504, and float32 before float64 does."""
    cast = {name: t.to(device, dtype) for name, t in tensors.items()}
    for name, t in tensors.items():
        if torch.finfo(dtype).max < torch.finfo(t.dtype).max and t.numel() and not bool(cast[name].isfinite().all()):
            most = float(t.abs().max())
            raise RefusedError(
                f"{name} has weights up to {most:g}, which {dtype} cannot hold. Load the model with a wider precision=."
            )
    return cast


def _only_floats(ledger: Ledger) -> None:
    for row in ledger.rows:
        known = row.dtype in ("F64", "F32", "F16", "BF16") or ledger.eight_bits.issuperset(row.targets)
        if row.status in LOADED and not known:
            raise RefusedError(
                f"{row.sources[0]} is stored as {row.dtype}; weights must be F64, F32, F16 or BF16, or I8 with a float32 scale for each row "
                "in a tensor beside it, as `nativebert quantize` writes them. Other quantised checkpoints have to be converted back first."
            )
