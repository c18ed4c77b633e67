"""Adapters of low rank (LoRA; Hu et al. 2021, arXiv:2106.09685): what a pair of matrices beside a weight adds to it.

An adapter is merged when a model is loaded: ``W + scale * left @ right`` of each weight, computed in float64 and rounded once, to the precision of the
model. So a merged model is as fast as any other. There are two kinds: those that a checkpoint has for tasks (:class:`nativebert.arch.TaskAdapters`), and those
that the library peft saves in folders of their own (:class:`LowRank`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nativebert.arch import Family, TaskAdapters
from nativebert.config import EncoderConfig, Fields
from nativebert.errors import BadInputError, CorruptError, NotFoundError, RefusedError
from nativebert.files import read_json
from nativebert.hub import ADAPTER, ADAPTER_WEIGHTS, Snapshot
from weights_map import Checkpoint, Ledger, View
from weights_map.mapping import cut
from weights_map.rows import LOADED

if TYPE_CHECKING:
    import torch

PRODUCT_ELEMENTS = 2**22  # of the product, that are computed at a time
FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class Product:
    """What is added to a weight ``(M, N)``.

    Attributes:
        left: ``(M, R)``, or ``(N, R)`` if ``transposed``.
        right: ``(R, N)``, or ``(R, M)`` if ``transposed``.
        scale: what ``left @ right`` is multiplied by.
        transposed: whether its transpose is added.
    """

    left: View
    right: View
    scale: float
    transposed: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the weight."""
        shape = (*self.left.shape[:1], *self.right.shape[1:])
        return shape[::-1] if self.transposed else shape

    def onto(self, weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """The sum of a weight and this, computed in float64, rounded to ``dtype``."""
        import torch

        from weights_map.torch import tensor

        left, right = tensor(self.left).double(), tensor(self.right).double()
        if self.transposed:
            left, right = right.T, left.T
        out = torch.empty(weight.shape, dtype=dtype, device=weight.device)
        step = max(1, PRODUCT_ELEMENTS // max(1, weight.shape[1]))
        for start in range(0, len(weight), step):
            rows = slice(start, start + step)
            out[rows] = weight[rows].double() + self.scale * (left[rows] @ right)
        return out


def of_task(ledger: Ledger, found: TaskAdapters | None, task: str) -> dict[str, list[Product]]:
    """What the adapter for a task adds, by parameter.

    Args:
        ledger: of the checkpoint that has the adapters.
        found: what its config.json says of them.
        task: one of ``found.names``.

    Raises:
        BadInputError: the model has no adapters, or none for this task.
        NotFoundError: its weight file has none.
        CorruptError: a pair does not fit its weight.
    """
    at = names(found).index(known(found, task))
    assert found is not None  # known() raises otherwise
    added: dict[str, list[Product]] = {}
    tensors = ledger.checkpoint.tensors
    for row in ledger.rows:
        if row.status not in LOADED or not row.sources[0].endswith(_ORIGINAL):
            continue
        module = row.sources[0].removesuffix(_ORIGINAL)
        pair = [f"{module}.parametrizations.weight.0.lora_{part}" for part in "AB"]
        if absent := [name for name in pair if name not in tensors]:
            raise NotFoundError(
                f"{ledger.checkpoint.path} has no {absent[0]}, a part of the adapter for {task!r}: download it again"
            )
        a, b = (_one(ledger, name, at, len(found.names)) for name in pair)
        left, right = (a, b) if row.targets[0].startswith("embed.") else (b, a)
        fits = (
            left.shape == (*row.shape[:1], found.rank) and right.shape == (found.rank, *row.shape[1:]) if row.shape else False
        )
        if not fits:
            raise CorruptError(
                f"{ledger.checkpoint.path}: {pair[0]} and {pair[1]} are {a.shape} and {b.shape} for a task, which do not make a weight of {row.shape} at "
                f"lora_rank {found.rank} of config.json"
            )
        for target, part in zip(row.targets, _cut(left, len(row.targets), pair[1])):
            added[target] = [Product(part, right, found.scale)]
    if not added:
        raise NotFoundError(
            f"config.json names adapters ({', '.join(found.names)}), and {ledger.checkpoint.path} holds none: take the files of the original model"
        )
    return added


_ORIGINAL = ".parametrizations.weight.original"


def names(found: TaskAdapters | None) -> tuple[str, ...]:
    """The tasks that a model has adapters for."""
    return found.names if found else ()


def known(found: TaskAdapters | None, task: str) -> str:
    """The task, if the model has an adapter for it.

    Raises:
        BadInputError: it has none; the message lists those that there are.
    """
    if not names(found):
        raise BadInputError(f"this model has no adapters for tasks, so task={task!r} means nothing: leave it out")
    if task not in names(found):
        raise BadInputError(
            f"this model has no adapter for the task {task!r}; it has {', '.join(names(found))}, or None for the model without an adapter"
        )
    return task


# ---- adapters of the library peft

# Keys of adapter_config.json that change no number of a trained adapter: how it was made, where it came from, what it is called. What layers it
# has is said by its tensors.
_HARMLESS = frozenset(
    """peft_type task_type auto_mapping peft_version base_model_name_or_path revision inference_mode r lora_alpha use_rslora rank_pattern alpha_pattern
    target_modules exclude_modules modules_to_save layers_to_transform layers_pattern lora_dropout bias init_lora_weights fan_in_fan_out
    megatron_core runtime_config qalora_group_size eva_config loftq_config ensure_weight_tying""".split()
)
# Initialisations that take something off the base model's weights: what is left is not in the files of the base model
_OF_THE_BASE = ("pissa", "corda", "olora", "loftq", "lora_ga", "mica")
_PREFIX = "base_model.model."
_PAIR = re.compile(r"(.+)\.lora_(A|B|embedding_A|embedding_B)(?:\.default)?(?:\.weight)?")
_WRAPPED = re.compile(r"\.(?:base_layer|modules_to_save(?:\.default)?)(?=\.)")
_HEADS = {"SEQ_CLS": "classify", "TOKEN_CLS": "tag", "QUESTION_ANS": "answer", "MASKED_LM": "lm"}
_MERGE = (
    "merge it once with peft, PeftModel.from_pretrained(base, folder).merge_and_unload().save_pretrained(other), and load that"
)


@dataclass(frozen=True)
class LowRank:
    """An adapter of the library peft that is plain LoRA, with the parameters that it replaces.

    Attributes:
        rank: of its pairs, where no pattern says otherwise.
        head: the task of the head that it brings; None for none.
        added: what it adds, by parameter.
        replaced: the values that stand in place of the base model's, by parameter.
        where: its weight file.
    """

    rank: int
    head: str | None
    added: Mapping[str, list[Product]]
    replaced: Mapping[str, View]
    where: Path

    def labels(self, config: EncoderConfig, own: Mapping[str, Any]) -> list[str] | int | None:
        """The classes of its head: the names in a config.json beside it or in that of the base model, if they are as many; else how many there are."""
        assert self.head is not None  # else there is nothing to ask
        if self.head not in ("classify", "tag"):
            return None
        head = config.heads[self.head]
        last = next((view for name, view in self.replaced.items() if name.startswith(f"head.{head.name}.{head.last}.")), None)
        if last is None or not last.shape:
            return None
        count, numbers = last.shape[0], [str(n) for n in range(last.shape[0])]
        for source in (own, config.source):
            named = source.get("id2label")
            if isinstance(named, dict) and sorted(map(str, named)) == sorted(numbers):
                return [str(named.get(n, named.get(int(n)))) for n in numbers]
        return count

    def check(self, shapes: Mapping[str, tuple[int, ...]], tied: Collection[str]) -> None:
        """Check that it fits a model.

        Args:
            shapes: of the model's parameters; what it has for others is for a head that was not asked for.
            tied: parameters that two parts of the model share.

        Raises:
            CorruptError: it has another shape than a parameter of the encoder.
            RefusedError: its head has another number of classes, or it changes one part of what is shared.
        """
        found = [(name, view.shape) for name, view in self.replaced.items()]
        found += [(name, product.shape) for name, products in self.added.items() for product in products]
        for name, shape in found:
            if name in shapes and shapes[name] != shape and name.startswith("head."):
                raise RefusedError(
                    f"{self.where}: its head has {shape[0]} classes, and one of {shapes[name][0]} was asked for: leave the labels out"
                )
            if name in shapes and shapes[name] != shape:
                raise CorruptError(
                    f"{self.where}: it is {shape} for {name}, which is {shapes[name]} in the base model: it is of another base model, or of one whose "
                    "vocabulary was changed; pass that, base="
                )
            if name in tied:
                raise RefusedError(
                    f"{self.where}: it changes {name}, which the base model's token table and output layer share, for one of the two: {_MERGE}"
                )


def read(snapshot: Snapshot, family: Family) -> LowRank:
    """Read an adapter's adapter_config.json, and the header of its weights.

    Args:
        snapshot: its files, with those of its base model.
        family: of the base model.

    Raises:
        RefusedError: another kind of adapter, or something that nativebert does not compute; names it.
        CorruptError: a value of a wrong type, or half of a pair.
        weights_map.BadFileError, weights_map.BadTensorError: the weight file is damaged, or a tensor is not the parts that it should be.
    """
    f = Fields(read_json(snapshot.folder / ADAPTER), f"{ADAPTER} of {snapshot.reference}", {"r": 8, "lora_alpha": 8})
    if (kind := f.data.get("peft_type")) != "LORA":
        raise RefusedError(f"{snapshot.reference} is an adapter of the kind {kind!r}, and nativebert merges LORA: {_MERGE}")
    for key, value in f.data.items():
        if key not in _HARMLESS and value not in (None, False, "", [], {}):
            raise RefusedError(
                f"{snapshot.reference}: {ADAPTER} sets {key} to {value!r}, which nativebert does not compute: {_MERGE}"
            )
    start = f.data.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_OF_THE_BASE):
        raise RefusedError(
            f"{snapshot.reference}: init_lora_weights is {start!r}, which changed the base model too, and the adapter does not say how: save it again with "
            "path_initial_model_for_weight_conversion=, which makes plain LoRA of it"
        )
    where = snapshot.folder / ADAPTER_WEIGHTS
    checkpoint = Checkpoint.open(where)
    pairs: dict[str, dict[str, View]] = {}
    replaced: dict[str, View] = {}
    for name, info in checkpoint.tensors.items():
        inner = name.removeprefix(_PREFIX)
        if inner == name or info.dtype not in FLOATS:
            raise RefusedError(f"{where}: nobody here knows {name} ({info.dtype}): {_MERGE}")
        if pair := _PAIR.fullmatch(inner):
            pairs.setdefault(pair[1], {})[pair[2]] = checkpoint.view(name)
        elif ".original_module." not in inner:  # of a module that is replaced: peft saves its biases too, and does not use them
            targets = _targets(family, _WRAPPED.sub("", inner), where)
            replaced |= zip(targets, _cut(checkpoint.view(name), len(targets), name))
    added: dict[str, list[Product]] = {}
    for module, matrices in pairs.items():
        added |= _products(f, family, module, matrices, where)
    brought = {name.split(".")[1] for name in replaced if name.startswith("head.")}
    head = _HEADS.get(str(f.data.get("task_type"))) if brought else None
    if brought and head is None:
        raise RefusedError(
            f"{snapshot.reference}: the adapter brings a head ({', '.join(sorted(brought))}), and {ADAPTER} has no task_type that says what it is for: "
            f"set it to one of {', '.join(_HEADS)}"
        )
    return LowRank(f.integer("r"), head, added, replaced, where)


def _products(f: Fields, family: Family, module: str, pair: Mapping[str, View], where: Path) -> dict[str, list[Product]]:
    """What a pair adds, by parameter."""
    table = "embedding_A" in pair or "embedding_B" in pair
    a, b = pair.get("embedding_A" if table else "A"), pair.get("embedding_B" if table else "B")
    if len(pair) != 2 or a is None or b is None or len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != b.shape[1]:
        raise CorruptError(
            f"{where}: {module} must have lora_A (rank, in) and lora_B (out, rank), and has {', '.join(f'{k} {v.shape}' for k, v in pair.items())}"
        )
    rank = _by_pattern(f, "rank_pattern", module, f.integer("r"))
    if rank != a.shape[0]:
        raise CorruptError(f"{where}: the pair of {module} is of rank {a.shape[0]}, and {ADAPTER} says {rank:g}")
    scale = _by_pattern(f, "alpha_pattern", module, f.number("lora_alpha", low=-1e30)) / (
        rank**0.5 if f.boolean("use_rslora", False) else rank
    )
    targets = _targets(family, f"{module}.weight", where)
    if table != targets[0].startswith("embed."):
        raise RefusedError(f"{where}: {module} is no {'table' if table else 'linear layer'} in {family.name}: {_MERGE}")
    if table:
        return {targets[0]: [Product(b, a, scale, transposed=True)]}
    return {target: [Product(part, a, scale)] for target, part in zip(targets, _cut(b, len(targets), f"lora_B of {module}"))}


def _by_pattern(f: Fields, key: str, module: str, otherwise: float) -> float:
    """The value of the first pattern that the end of a module's name matches, as peft's ``get_pattern_key`` has it."""
    for pattern, value in f.section(key).items():
        try:
            found = re.match(rf"(.*\.)?({pattern})$", module)
        except re.error as error:
            raise CorruptError(f"{f.family}: {key} has {pattern!r}, which is no pattern: {error}") from None
        if found:
            return Fields({pattern: value}, f"{f.family}, {key}").number(pattern, low=-1e30)
    return otherwise


def _targets(family: Family, name: str, where: Path) -> tuple[str, ...]:
    if targets := family.targets_of(name):
        return targets
    raise RefusedError(f"{where}: {family.name} has no {name} in its files: {_MERGE}")


def _cut(view: View, parts: int, what: str) -> list[View]:
    return [part for (part,) in cut(what, view, parts)]


# ---- the sums


def merge(
    tensors: Mapping[str, torch.Tensor], added: Mapping[str, Iterable[Product]], dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """Parameters with what an adapter adds to them, in ``dtype``; those that it does not change are as they were.

    Raises:
        RefusedError: a sum is not finite.
    """
    merged = dict(tensors)
    for name, products in added.items():
        for product in products:
            merged[name] = product.onto(merged[name], dtype)
        if not bool(merged[name].isfinite().all()):
            raise RefusedError(
                f"{name} with its adapter has values that are not finite in {dtype}: load the model in float32, or download the adapter again"
            )
    return merged


def _one(ledger: Ledger, name: str, at: int, count: int) -> View:
    """The matrix of one task."""
    whole = ledger.checkpoint.view(name)
    if whole.dtype not in FLOATS or len(whole.shape) != 3 or whole.shape[0] != count:
        raise CorruptError(
            f"{ledger.checkpoint.path}: {name} is {whole.dtype} {whole.shape}, and must be floats of {count} tasks"
        )
    one = whole.rows(at, at + 1)
    return View(one.dtype, one.shape[1:], one.buffer)
