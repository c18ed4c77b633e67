"""Folder, Hub or config -> model.

The way of the weights: the file's header is read and matched with the family's map and the config; only when every tensor and every
parameter is accounted for are bytes touched, as views of the mapped file. A model that fails to load leaves nothing behind.

A model may have parameters that no file holds: those of a new head (:class:`nativebert.config.NewHead`), of a config alone
(:func:`from_config`), or of tokens that were added (:meth:`LoadedModel.resize_token_embeddings`). It is saved to new files.
"""

from __future__ import annotations

import copy
import gc
import glob
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from os import PathLike
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from nativebert import adapters, hub
from nativebert.arch import Family, TaskAdapters, read_config
from nativebert.checks import at_least
from nativebert.config import ARCHITECTURES, EncoderConfig, NewHead, select_heads
from nativebert.engine import choose_device
from nativebert.errors import Assumed, BadInputError, NewlyInitialized, NotFoundError, RefusedError, Unread, warn
from nativebert.files import read_json
from nativebert.hub import Snapshot
from nativebert.initialization import initial_std, initialize, resized_output, resized_table
from nativebert.nn.heads import Head
from nativebert.nn.model import Model
from nativebert.saving import save, save_new
from weights_map import Checkpoint, Ledger, match
from weights_map import torch as views
from weights_map.report import printable
from weights_map.rows import LOADED, Row

if TYPE_CHECKING:
    from nativebert.text.tokenizer import Tokenizer

PRECISIONS = ("float32", "float64", "bfloat16", "float16")


class LoadedModel(Model):
    """A model with the files that it came from, made by :func:`load`.

    Attributes:
        ledger: the weight map applied to its weight file, one row for each tensor; None for a model without files, or out of a pickle.
        snapshot: the files that it came from; None for a model without files.
        restructured: whether it has parameters that those files do not hold, or of other sizes; it is saved to new files then.
        adapter: the task whose adapter was merged into its weights, of a model that has one for each; None for none.
        task_adapters: what its config.json says of those; None for none.
        newly_initialized: parameters that were random when it was loaded: those of a new head.
    """

    ledger: Ledger | None = None
    snapshot: Snapshot | None = None
    restructured: bool = False
    adapter: str | None = None
    task_adapters: TaskAdapters | None = None
    newly_initialized: tuple[str, ...] = ()
    file_attributes = frozenset({"ledger", "snapshot", "tokenizer"})

    @classmethod
    def of(cls, model: Model) -> LoadedModel:
        """A loaded model as it is; a plain one as a loaded one without files, of the same modules and weights.

        Raises:
            BadInputError: a class of your own, whose methods would be lost.
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
        return Tokenizer.from_folder(self.snapshot.tokenizer)

    def resize_token_embeddings(self, rows: int, *, mean: bool = True) -> None:
        """Give the token table another number of rows, and with it the masked-LM output; new rows come at the end, and are random.

        Args:
            rows: how many: the length of the tokenizer that tokens were added to.
            mean: draw new rows around the mean of the old ones (see :func:`nativebert.initialization.resized_table`), so that the old tokens keep
                their probabilities; False for fresh weights like any other.

        Raises:
            BadInputError: not one row or more.
        """
        rows = at_least(1, "rows", rows)
        if rows == self.config.vocab_size:
            return
        config = _restructured(self.config.source, self._task, {"vocab_size": rows})[1]
        std, table = initial_std(config), self.embed.token
        with torch.no_grad():
            table.weight.data = resized_table(table.weight.data, rows, std, mean)
            table.num_embeddings = rows
            if table.padding_idx is not None and table.padding_idx >= rows:
                table.padding_idx = None
            if "lm" in self.tasks:
                head = self.head[config.heads["lm"].name]
                assert isinstance(head, Head)
                head.spec = config.heads["lm"]
                self._resize_output(head.last, rows, std, mean)
        self.config, self.restructured = config, True

    @property
    def _task(self) -> str | None:
        """The task of its heads, as of :class:`nativebert.config.NewHead`."""
        return None if not self.tasks else self.tasks[0] if len(self.tasks) == 1 else "pretrain"

    def _resize_output(self, layer: nn.Linear, rows: int, std: float, mean: bool) -> None:
        layer.out_features, tied = rows, layer.weight is self.embed.token.weight
        if tied and layer.bias is not None:
            bias = layer.bias.data
            layer.bias.data = torch.cat([bias[:rows], bias.new_zeros(max(0, rows - len(bias)))])
        elif not tied:
            bias = None if layer.bias is None else layer.bias.data
            layer.weight.data, new = resized_output(layer.weight.data, bias, rows, std, mean)
            if new is not None:
                layer.bias.data = new

    def save(self, folder: str | PathLike[str], precision: str | None = None, *, keep_tokenizer: bool = False) -> None:
        """Write the model to a folder that transformers and sentence-transformers load, or, with ``precision="int8"``, to one of a quarter
        of the size that nativebert loads (see :func:`nativebert.saving.save`).

        A model with a new head, resized tables or no files of its own is a new model: it gets new files with what transformers' class of its
        ``architectures`` has, and heads of the old one are left out (see :func:`nativebert.saving.save_new`).

        Args:
            folder: where to.
            precision: None for the file's own, or ``"int8"``.
            keep_tokenizer: leave a tokenizer that the folder has as it is.

        Raises:
            RefusedError: the model is a copy out of a pickle, which has lost its files; or see :func:`nativebert.saving.save`.
        """
        if self.restructured or self.snapshot is None:
            if precision is not None:
                raise RefusedError(
                    f"a new model is saved in its own precision: save it without precision={precision!r}, load that folder, and save it again"
                )
            known, config = _restructured(self.config.source, self._task)
            save_new(self, config, known.map, self.snapshot, folder, self._own_tokenizer(), keep_tokenizer, self.adapter)
            return
        if self.ledger is None:
            raise RefusedError(
                "a model out of a pickle cannot be saved, as it has lost its weight file: load one, or use torch.save(model.state_dict())"
            )
        save(self, self.ledger, self.snapshot, folder, precision, keep_tokenizer)

    def _own_tokenizer(self) -> Tokenizer | None:
        """The tokenizer that was set, if it is not that of the files."""
        mine: Tokenizer | None = self.__dict__.get("tokenizer")
        if mine is None or self.snapshot is None:
            return mine
        return None if mine.files == type(mine).from_folder(self.snapshot.tokenizer).files else mine


def load(
    reference: str | PathLike[str] | Snapshot,
    *,
    head: str | NewHead | None = "auto",
    device: str | int | torch.device = "cpu",
    precision: str | torch.dtype = "float32",
    revision: str | None = None,
    offline: bool | None = None,
    token: str | None = None,
    adapter: str | None = None,
    unexpected: Sequence[str] = (),
    settings: Mapping[str, Any] = MappingProxyType({}),
    base: str | PathLike[str] | None = None,
) -> LoadedModel:
    """Load a model with its weights, in evaluation mode.

    On the CPU and in the file's own precision its parameters are views of the mapped file: nothing is copied, and the file never
    changes, whatever is done to the model. Weights stored in eight bits (``nativebert quantize``) become float32 copies.

    Args:
        reference: a folder, or a model on the Hub: ``owner/name``, ``name``, ``owner/name@revision``. An adapter of the library peft
            (adapter_config.json), if it is plain LoRA, is merged into its base model.
        head: the task of the head: ``"lm"``, ``"classify"``, ``"tag"``, ``"answer"``, ``"choose"``, ``"nsp"``, ``"sop"``, ``"rtd"``; ``"auto"`` for
            those that the checkpoint was saved with, None for none. Heads that are left out are kept for saving. A
            :class:`nativebert.config.NewHead` makes a head that the checkpoint does not have, to be trained.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``, a ``torch.device``, or the number of an NVIDIA GPU.
        precision: ``"float32"``, ``"float64"``, ``"bfloat16"``, ``"float16"``, or torch's type: what the parameters are cast to.
        revision: branch, tag or commit on the Hub.
        offline: True to touch no network; None for the environment's ``HF_HUB_OFFLINE``.
        token: Hub token; None for the one that is logged in.
        adapter: the task whose adapter is merged into the weights, of a model that has one for each (``"retrieval.query"`` of
            jinaai/jina-embeddings-v3); None for the weights without. The merged model is a new one: it is saved without adapters.
        unexpected: patterns (``encoder.*.adapter.*``) of tensors of the file that are left aside, though they look as if they belonged to the
            encoder. Those of a head, known or not, are left aside anyway. All are kept for saving.
        settings: keys of config.json with the values to read in their place (``{"hidden_dropout_prob": 0.0}``); they are saved with the model.
        base: the model that an adapter is for, in place of the one that its adapter_config.json names.

    Warns:
        Unread: there are tensors that nothing here knows; names them.
        Assumed: names are read without a prefix that only wraps (``module.``).
        NewlyInitialized: parameters of a new head are random; names them.

    Raises:
        NativeBertError: the model cannot be had (see :func:`nativebert.hub.resolve`), or its config is refused or corrupt.
        weights_map.WeightsMapError: its weight file is damaged, holds NaN, or does not fit the config; the message names the tensors.
    """
    dtype, target = _dtype(precision), choose_device(device)
    snapshot = open_snapshot(reference, revision=revision, offline=offline, token=token, base=base)
    with _gc_disabled():
        return _load(snapshot, head, target, dtype, adapter, unexpected, settings)


def _dtype(precision: str | torch.dtype) -> torch.dtype:
    name = str(precision).removeprefix("torch.")
    if name not in PRECISIONS:
        raise BadInputError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def from_config(
    config: Mapping[str, Any],
    *,
    head: str | None = None,
    device: str | int | torch.device = "cpu",
    precision: str | torch.dtype = "float32",
) -> LoadedModel:
    """A model with fresh weights from a config alone, in evaluation mode, as transformers' class makes it from its config.

    Args:
        config: a parsed config.json: ``{"model_type": "bert", "hidden_size": 384, ...}``; keys that it does not have are transformers' defaults.
        head: a task, as of :class:`nativebert.config.NewHead`; None for the encoder, with the family's pooler.
        device, precision: as of :func:`load`.

    Raises:
        CorruptError, RefusedError: see :func:`nativebert.arch.read_config`.
        BadInputError: the family has no such head.
    """
    dtype, target = _dtype(precision), choose_device(device)
    found, parsed = _restructured(config, head)
    with torch.device("meta"):
        model = LoadedModel(parsed, pooler=None if head is None else False, tasks=parsed.tasks)
    initialize(model, found, model.state_dict().keys(), dtype, target, construct=True)
    if parsed.tied:
        for tied, leader in found.map.ties.items():
            if tied in model.state_dict():
                _tie(model, tied, leader)
    return model.eval()


def _restructured(
    source: Mapping[str, Any], task: str | None, settings: Mapping[str, Any] = {}
) -> tuple[Family, EncoderConfig]:
    """The config of a model of this config.json, with these keys set and the heads for a task alone."""
    found, parsed = read_config({**source, **settings})
    ends: dict[tuple[str, ...], str] = {tasks: end for end, tasks in ARCHITECTURES.items()} | {(): "Model"}
    ends |= {parsed.pretraining: "ForPreTraining"} if parsed.pretraining not in ends else {}
    tasks = () if task is None else parsed.pretraining if task == "pretrain" else (task,)
    if tasks not in ends or not set(tasks) <= set(parsed.heads) or (task is not None and not tasks):
        raise BadInputError(
            f"{parsed.family} has no head {task!r}; it has {', '.join(parsed.heads) or 'none'}, or None for the encoder alone"
        )
    new = {**source, **settings, "architectures": [found.stem + ends[tasks]]}
    if "id2label" in settings or tasks == (
        "answer",
    ):  # the classes of an answer's head are its start and its end, whatever the labels were
        new = {key: value for key, value in new.items() if key not in ("num_labels", "_num_labels")}
    if tasks == ("answer",):
        new = {key: value for key, value in new.items() if key not in ("id2label", "label2id")}
    parsed = read_config(new)[1]
    for each in tasks:
        if each in parsed.faults:
            raise parsed.faults[each]
    return found, parsed


def _load(
    snapshot: Snapshot,
    head: str | NewHead | None,
    target: torch.device,
    dtype: torch.dtype,
    adapter: str | None,
    unexpected: Sequence[str],
    settings: Mapping[str, Any],
) -> LoadedModel:
    source = {**(snapshot.read_json("config.json") or {}), **settings}
    family, config = read_config(source)
    found = family.adapters(source) if family.adapters else None
    if adapter is not None:
        adapters.known(found, adapter)
        assert found is not None
        source = dict(found.plain)
        family, config = read_config(source)
    lora = adapters.read(snapshot, family) if snapshot.base else None
    if lora is not None and lora.head is not None and head in ("auto", lora.head):
        own = read_json(path) if (path := snapshot.folder / "config.json").is_file() else {}
        head = NewHead(lora.head, labels=lora.labels(config, own), replace=True)
    checkpoint = Checkpoint.open(snapshot.encoder)
    # what the file says of optional parts decides whether the model has them
    wrapper = family.wrapper(checkpoint.tensors)
    targets = {target for name in checkpoint.tensors for target in family.map.targets_of(name.removeprefix(wrapper))}
    saved = config
    if isinstance(head, NewHead):
        family, config = _restructured(source, head.task, head.settings())
        tasks, pooler = config.tasks, False
    else:
        tasks, pooler = select_heads(config, head, targets), any(name.startswith("pool.") for name in targets)
    with torch.device("meta"):
        model = LoadedModel(config, pooler=pooler, tasks=tasks)
    names = config.checkpoint_names(model.state_dict(), targets)
    ledger = match(family.map, checkpoint, wanted=names, dims=config.dims_with(tasks), wrapper=wrapper)
    if wrapper:
        warn(
            f"{checkpoint.path}: names begin with {wrapper!r}, as of a model that was saved inside another; read without it",
            Assumed,
        )
    if isinstance(head, NewHead):
        ledger = _without_old_head(ledger, head, saved, config)
    ledger = _check(ledger, config, head, family.strays(ledger, tasks, config), unexpected)
    _only_floats(ledger)
    tensors = {names.get(name, name): t for name, t in views.tensors(ledger).items()}
    views.check_finite(tensors, after=checkpoint.release)
    if adapter is not None:
        tensors = adapters.merge(tensors, adapters.of_task(ledger, found, adapter), dtype)
        model.adapter, model.restructured = adapter, True
    if lora is not None:
        shared = {name for pair in ledger.ties().items() for name in pair}
        state = model.state_dict()
        lora.check({name: tuple(state[ours].shape) for name, ours in names.items()}, shared)
        replaced = {names[name]: views.tensor(view) for name, view in lora.replaced.items() if name in names}
        views.check_finite(replaced)
        tensors |= replaced
        added = {names[name]: products for name, products in lora.added.items() if name in names}
        tensors, model.restructured = adapters.merge(tensors, added, dtype), True
    model.load_state_dict(_cast(tensors, target, dtype), assign=True, strict=False)
    for tied, leader in ledger.ties().items():
        _tie(model, tied, leader)
    model.ledger, model.snapshot, model.task_adapters = ledger, snapshot, found
    if isinstance(head, NewHead):
        model.restructured = True
        fresh = [name for name, parameter in model.named_parameters() if parameter.is_meta]
        if fresh and lora is not None:
            raise NotFoundError(
                f"{lora.where} brings a head for {head.task!r} without {', '.join(fresh)}, and its base model has none"
            )
        if fresh:
            model.newly_initialized = tuple(fresh)
            initialize(model, family, fresh, dtype, target)
            _warn_of_new(model, family, fresh, ledger)
    return model.eval()


def _tie(model: Model, tied: str, leader: str) -> None:
    module, _, leaf = tied.rpartition(".")
    setattr(model.get_submodule(module), leaf, model.get_parameter(leader))


_NEW = ("head.*", "pool.*")  # parameters that a new head may bring


def _without_old_head(ledger: Ledger, head: NewHead, saved: EncoderConfig, config: EncoderConfig) -> Ledger:
    """The rows of a head of another size, or whose output layer was trained for another task, as not to be read.

    Raises:
        RefusedError: a head of another size is not to be replaced.
    """
    new = {f"head.{config.heads[task].name}.{config.heads[task].last}": task for task in config.tasks}
    old = {f"head.{saved.heads[task].name}.{saved.heads[task].last}": task for task in saved.tasks}
    other = {layer for layer in new.keys() & old.keys() if old[layer] not in config.tasks}
    rows = []
    for row in ledger.rows:
        layers = {target.rpartition(".")[0] for target in row.targets}
        if layers & other and row.status in (*LOADED, "shape"):
            row = replace(row, status="shape", note=f"of a head for {old[min(layers & other)]!r}")
        elif row.status == "shape" and not head.replace and _is_new(row):
            raise RefusedError(
                f"{row.sources[0]} is of another size than the head that was asked for ({row.note}): pass the labels that it was trained with, or "
                f"NewHead({head.task!r}, ..., replace=True) for a new head in its place (ignore_mismatched_sizes=True in nativebert.hf)"
            )
        rows.append(row)
    return replace(ledger, rows=tuple(rows))


def _is_new(row: Row) -> bool:
    return all(target.startswith(("head.", "pool.")) for target in row.targets)


def _warn_of_new(model: Model, family: Family, fresh: Sequence[str], ledger: Ledger) -> None:
    replaced = {target for row in ledger.rows if row.status == "shape" for target in row.targets}
    sources = dict.fromkeys(source for name in fresh for source in family.map.sources_of(name))
    why = f"; its file has others for {', '.join(sorted(replaced))}, left unread" if replaced else ""
    warn(
        f"Some weights of {model.config.architecture} were not initialized from the model checkpoint at {ledger.checkpoint.path} and are newly "
        f"initialized: {list(sources)}{why}\nYou should probably TRAIN this model on a down-stream task to be able to use it for predictions and "
        "inference.",
        NewlyInitialized,
    )


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


def _check(
    ledger: Ledger, config: EncoderConfig, head: str | NewHead | None, strays: Sequence[str], unexpected: Sequence[str]
) -> Ledger:
    new = _NEW if isinstance(head, NewHead) else ()
    absent = [target for row in ledger.rows if row.status == "missing" for target in row.targets if target.startswith("head.")]
    if head not in (None, "auto") and absent and not new:
        raise NotFoundError(
            f"the checkpoint was saved as {config.architecture or 'an encoder'} and has no head for {head!r}: these would be new, with "
            f"random values: {', '.join(absent)}. Load it with head='auto', or another checkpoint; to train a new head, with "
            f"head=nativebert.NewHead({head!r})."
        )
    if not config.tied:  # then a decoder that the file leaves out is not the token table, but missing
        untied = [row for row in ledger.rows if row.status == "tied" and not row.sources and row.targets[0].endswith(".weight")]
        if untied and new:
            ledger = replace(
                ledger, rows=tuple(replace(row, status="missing") if row in untied else row for row in ledger.rows)
            )
        elif untied:
            raise RefusedError(
                f"{untied[0].targets[0]} is not in the file, and config.json says tie_word_embeddings=false: its values are nowhere to be had"
            )
    checked = ledger.check(new=new, shape=new, unexpected=[*map(glob.escape, strays), *unexpected], advice=_ADVICE)
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
    base: str | PathLike[str] | None = None,
) -> Snapshot:
    """The files of a model; a snapshot is returned as it is. See :func:`nativebert.hub.resolve`."""
    if isinstance(reference, Snapshot):
        return reference
    return hub.resolve(reference, revision=revision, offline=offline, token=token, weights=weights, base=base)


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
