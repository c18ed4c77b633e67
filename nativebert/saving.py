"""Model -> folder.

A model whose files hold all that it has is saved in their layout (:func:`save`); one with new parts is a new model (:func:`save_new`). All
is written to a temporary folder first: a save that fails leaves nothing that looks like a model.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from nativebert import hub
from nativebert.config import EIGHT_BITS, EncoderConfig
from nativebert.errors import BadInputError, RefusedError
from nativebert.files import read_json, replacing_folder, update_json, write_json
from nativebert.hub import Snapshot
from nativebert.nn.model import Model
from weights_map import Ledger, WeightMap
from weights_map import torch as views


def save(
    model: Model,
    ledger: Ledger,
    snapshot: Snapshot,
    folder: str | PathLike[str],
    precision: str | None = None,
    keep_tokenizer: bool = False,
) -> None:
    """Write a model to a folder that transformers and sentence-transformers load: what :meth:`nativebert.loading.LoadedModel.save` does.

    The weight file keeps the layout of the one that was loaded: the same tensors in the same order, with the heads that were not
    asked for. Where nothing was changed it is byte-identical. A changed tensor keeps the file's dtype if that loses nothing; where it
    does, the tensor is written wider and config.json says so; it also says so of a model that was loaded in, or cast to, 16 bits, whose values
    are then in the file as they are in the model. The tokenizer, the config and the sentence-transformers files are else
    copied as they are.

    Args:
        model: the model, trained further or not since it was loaded.
        ledger: the weight map applied to the file that it was loaded from.
        snapshot: the files that it was loaded from.
        folder: where to.
        precision: None for the file's own. ``"int8"`` writes the weights of the layers and the token table in eight bits with a float32
            scale for each row (:mod:`weights_map.eightbit`): about a quarter of the size of float32. nativebert loads such a folder
            like any other; transformers (5.23, with compressed-tensors 0.20 and without) refuses it.
        keep_tokenizer: leave the tokenizer's files that the folder has as they are.

    Raises:
        BadInputError: another precision.
        RefusedError: a parameter has another shape than in the file, the folder holds files of another model that would be mixed with
            this one, or weights that the file has in eight bits were changed and ``precision`` does not say that they may be rounded to
            eight bits again.
    """
    if precision not in (None, "int8"):
        raise BadInputError(f"precision must be None, for that of the file, or 'int8', not {precision!r}")
    if precision == "int8" and any(rule.transposed for rule in ledger.map.rules):
        raise RefusedError(
            f"the files of {model.config.family} hold their matrices (in, out), where int8 has a scale for each output: leave precision out"
        )
    to = Path(folder)
    within = to / snapshot.inside  # the encoder's own files
    if len(ledger.checkpoint.files) > 1 and (within / hub.WEIGHTS).exists():
        raise RefusedError(
            f"{within} holds a {hub.WEIGHTS}, which would be loaded in place of the shards to be written. Save to another folder."
        )
    state = model.state_dict()
    names = model.config.checkpoint_names(state, {target for row in ledger.rows if row.sources for target in row.targets})
    tensors = _in_file_dtypes(ledger, {name: state[ours] for name, ours in names.items()})
    _check_shapes(ledger, tensors)
    kept = _tokenizer_files(within) if keep_tokenizer else []
    companions = [name for name in snapshot.companions() if name.rpartition("/")[2] not in (hub.TOKENIZERS if kept else ())]
    _refuse_foreign(to, snapshot.inside, [*companions, *(f"{snapshot.inside}/{name}".lstrip("/") for name in kept)])
    quantized = _matrices(model) if precision == "int8" else set()
    small = {name for name, ours in names.items() if ours in quantized} | (ledger.eight_bits & tensors.keys())
    if precision is None:
        _check_unchanged(small, tensors)
    stored = {target: views.DTYPES.get(row.dtype) for row in ledger.rows for target in row.targets if row.sources}
    wider = [t.dtype for name, t in tensors.items() if t.dtype != stored.get(name, t.dtype) and name not in small]
    with replacing_folder(to, last=_LAST) as draft:
        inside = draft / snapshot.inside
        inside.mkdir(parents=True, exist_ok=True)
        views.save(ledger, tensors, inside, small)
        for name in companions:
            _copy(snapshot.require(name), draft / name)
        stored_config = snapshot.read_json("config.json") or {}
        if settings := {key: value for key, value in model.config.source.items() if stored_config.get(key) != value}:
            update_json(inside / "config.json", settings)
        if wider:
            declare_dtype(inside / "config.json", max(wider, key=lambda dtype: torch.finfo(dtype).bits))
        elif _loses_precision(model, stored.values()):
            declare_dtype(inside / "config.json", model.dtype)
        if quantized:
            update_json(inside / "config.json", {"quantization_config": _quantization_config(ledger, small)})


_LAST = ("*.safetensors", hub.INDEX)  # without weights no folder is a model


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def save_new(
    model: Model,
    config: EncoderConfig,
    names: WeightMap,
    snapshot: Snapshot | None,
    folder: str | PathLike[str],
    tokenizer: Writes | None = None,
    keep_tokenizer: bool = False,
    adapter: str | None = None,
) -> None:
    """Write a model with parts that no file holds to a folder that transformers loads: what :meth:`nativebert.loading.LoadedModel.save` does
    for a new head, for resized tables, and for a model of a config alone.

    The weight file has what transformers' class of ``architectures`` has, under its names and in the model's dtype. Other heads of the files
    that the encoder came from are left out. The tokenizer's files come along, and for a model without a head those of sentence-transformers.

    Args:
        model: the model.
        config: its config; ``architectures`` names the class of its heads.
        names: its family's map.
        snapshot: the files that the encoder came from; None for a model of a config alone.
        folder: where to. The files of another model there are replaced, or removed where this model has none of that name.
        tokenizer: what to save in place of the snapshot's tokenizer files; None for those.
        keep_tokenizer: leave the tokenizer's files that the folder has as they are.
        adapter: the task whose adapter was merged into the model's weights: its prompt becomes the default.

    Raises:
        RefusedError: the folder holds files of another model that would be mixed with this one.
        DiskFullError: no room; nothing is left behind.
    """
    to = Path(folder)
    bare = not model.tasks
    inside = snapshot.inside if snapshot is not None and bare else ""
    copies = {} if snapshot is None else _companions(snapshot, bare)
    kept = _tokenizer_files(to / inside) if keep_tokenizer else []
    tokenizer = None if kept else tokenizer
    own = {f"{inside}/{name}".lstrip("/") for name in (kept if tokenizer is None else tokenizer.files)}
    if own:
        copies = {name: source for name, source in copies.items() if name.rpartition("/")[2] not in hub.TOKENIZERS}
    _refuse_foreign(to, inside, [*copies, *own])
    if (to / inside / hub.INDEX).exists():
        raise RefusedError(f"{to / inside} holds {hub.INDEX} of another model. Save to another folder.")
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    second, bias = "head.lm.bias_again", "head.lm.out.bias"
    if config.tied:
        state = {name: tensor for name, tensor in state.items() if name not in names.ties}
    elif bias in state and names.rule_of(second) is not None:
        state[second] = state[bias]  # of an output layer that is not tied, transformers reads this one
    left_out = {"quantization_config", "dtype", "torch_dtype"}
    settings = {key: value for key, value in config.source.items() if key not in left_out}
    with replacing_folder(to, last=_LAST) as draft:
        within = draft / inside
        within.mkdir(parents=True, exist_ok=True)
        for name, source in copies.items():
            _copy(source, draft / name)
        if adapter is not None:
            _without_adapters(draft, adapter)
        if tokenizer is not None:
            tokenizer.save(within)
        write_json(within / "config.json", settings | {"dtype": str(model.dtype).removeprefix("torch.")})
        prefix = "" if bare else names.prefixes[0]
        packed = {name: views.view(tensor) for name, tensor in state.items()}
        names.save(packed, within / hub.WEIGHTS, prefix=prefix, metadata={"format": "pt"})


def _without_adapters(draft: Path, task: str) -> None:
    """The files of sentence-transformers, of a model whose adapter was for one of several tasks: for that task, and without code of its own."""
    if (path := draft / "modules.json").is_file():
        first, *rest = read_json(path, list)
        first = {key: value for key, value in first.items() if key != "kwargs"} | {
            "type": "sentence_transformers.models.Transformer"
        }
        write_json(path, [first, *rest])
    if (path := draft / "config_sentence_transformers.json").is_file() and (read_json(path).get("prompts") or {}).get(task):
        update_json(path, {"default_prompt_name": task})


class Writes(Protocol):
    """A tokenizer, which writes its files."""

    @property
    def files(self) -> Mapping[str, bytes]: ...

    def save(self, folder: str | Path) -> None: ...


def _companions(snapshot: Snapshot, all_parts: bool) -> dict[str, Path]:
    """The files to go with a new model's weights, by their names in its folder: the tokenizer's, and with ``all_parts`` those of
    sentence-transformers, which do not fit a model with a head."""
    own = f"{snapshot.inside}/" if snapshot.inside else ""
    names = [name for name in snapshot.companions() if name != f"{own}config.json"]
    if not all_parts:
        names = [name for name in names if name.startswith(own) and "/" not in name.removeprefix(own)]
        names = [name for name in names if not _OF_SENTENCES.fullmatch(name.removeprefix(own))]
    return {name if all_parts else name.removeprefix(own): snapshot.require(name) for name in names}


_OF_SENTENCES = re.compile(r"modules\.json|sentence_.*_config\.json|config_sentence_transformers\.json")


def _tokenizer_files(folder: Path) -> list[str]:
    return [name for name in hub.TOKENIZERS if (folder / name).is_file()]


def _refuse_foreign(to: Path, inside: str, own: Collection[str]) -> None:
    foreign = [name for name in _model_files(to, inside) if name not in own]
    if foreign:
        raise RefusedError(
            f"{to} holds {', '.join(foreign)} of another model, which would be loaded together with this one. Save to another folder."
        )


def _loses_precision(model: Model, stored: Iterable[torch.dtype | None]) -> bool:
    """Whether the model is in 16 bits and its file in more, or in the other 16 bits."""
    return model.dtype in (torch.float16, torch.bfloat16) and any(
        dtype is not None and dtype.is_floating_point and dtype != model.dtype for dtype in stored
    )


def declare_dtype(config: Path, dtype: torch.dtype) -> None:
    """Say in config.json what the weights are to be loaded in: transformers casts them all to that."""
    data = read_json(config)
    update_json(config, dict.fromkeys({"dtype", "torch_dtype"} & set(data) or {"dtype"}, str(dtype).removeprefix("torch.")))


def _matrices(model: Model) -> set[str]:
    """The parameters that int8 is about: what nativebert.engine computes in it, and the largest table."""
    layers = [name for name, part in model.named_modules() if name.startswith("layers.") and isinstance(part, nn.Linear)]
    return {f"{name}.weight" for name in layers} | {"embed.token.weight"}


def _quantization_config(ledger: Ledger, small: set[str]) -> dict[str, object]:
    """``quantization_config`` of the int8 tensors, as compressed-tensors defines it: transformers loads it with that package, or refuses."""
    sources = [source for row in ledger.rows if small.intersection(row.targets) for source in row.sources]
    how = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "dynamic": False}
    group = {"targets": [source.removesuffix(".weight") for source in sources], "weights": how, "input_activations": None}
    return EIGHT_BITS | {"quantization_status": "compressed", "config_groups": {"group_0": group}, "ignore": []}


def _check_unchanged(small: set[str], tensors: Mapping[str, Tensor]) -> None:
    """Weights that are stored in eight bits must be what they were, or their training would be rounded away unsaid."""
    if changed := [name for name in sorted(small) if not views.fits_eight_bits(tensors[name])]:
        raise RefusedError(
            f"{', '.join(changed[:3])}{f' and {len(changed) - 3} more' if len(changed) > 3 else ''}: changed since they were loaded from a file "
            "that stores them in eight bits, and would be rounded. Say precision='int8' to have that, or train the checkpoint that is not quantised."
        )


def _model_files(folder: Path, inside: str) -> list[str]:
    """Files of a model in a folder, and in the folder of the encoder within it, beside weights and config.json."""
    patterns = (*hub.SETTINGS, hub.ADAPTER)
    paths = {path for parent in {folder, folder / inside} for name in patterns for path in parent.glob(name) if path.is_file()}
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def _check_shapes(ledger: Ledger, tensors: Mapping[str, Tensor]) -> None:
    """A tensor of another size than config.json says makes a folder that nobody can load."""
    for row in ledger.rows:
        if row.shape is None or not row.targets:
            continue
        whole = row.shape[::-1] if ledger.transposed(row) and row.sources else row.shape
        shape = (whole[0] // len(row.targets), *whole[1:]) if row.status == "split" else whole
        for target in row.targets:
            if target in tensors and tuple(tensors[target].shape) != shape:
                raise RefusedError(
                    f"{target} is {tuple(tensors[target].shape)} now and was {shape} in the file: config.json says otherwise, and a model "
                    "saved like that could not be loaded. Resizing is not supported."
                )


def _in_file_dtypes(ledger: Ledger, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    stored = {target: views.DTYPES[row.dtype] for row in ledger.rows for target in row.targets if row.dtype in views.DTYPES}
    out = {}
    for name, tensor in state.items():
        tensor = tensor.detach().cpu()
        if name in ledger.eight_bits:
            out[name] = tensor
            continue
        cast = tensor.to(stored.get(name, tensor.dtype))
        out[name] = cast if torch.equal(cast.to(tensor.dtype), tensor) else tensor
    return out
