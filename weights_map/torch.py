"""Views <-> torch tensors, without a copy. The only module that imports torch.

Importing it lets :meth:`Ledger.save <weights_map.Ledger.save>` take torch tensors.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

import torch

from weights_map import eightbit
from weights_map.errors import BadFileError, BadTensorError
from weights_map.ledger import Ledger
from weights_map.mapping import WeightMap
from weights_map.safetensors import View, as_view

_NAMES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
}
DTYPES = MappingProxyType({code: getattr(torch, name) for code, name in _NAMES.items() if hasattr(torch, name)})
"""dtype in files -> torch dtype, for those that this version of torch has."""

_CODES = {dtype: code for code, dtype in DTYPES.items()}


def tensor(view: View) -> torch.Tensor:
    """A view as a tensor that shares its memory; a copy only if the file does not align it.

    Raises:
        BadTensorError: torch has no such dtype.
    """
    if view.dtype not in DTYPES:
        raise BadTensorError(f"this version of torch has no dtype for {view.dtype}")
    dtype = DTYPES[view.dtype]
    if not view.buffer.nbytes:  # frombuffer takes no empty buffer
        return torch.empty(view.shape, dtype=dtype)
    raw = torch.frombuffer(view.buffer, dtype=torch.uint8)
    if raw.data_ptr() % dtype.itemsize:
        raw = raw.clone()
    return raw.view(dtype).reshape(view.shape)


def view(tensor: torch.Tensor) -> View:
    """A tensor as a view that shares its memory; a copy only if it is not on the CPU or not contiguous.

    Raises:
        BadTensorError: it is sparse or on the meta device, or the file format has no such dtype.
    """
    if tensor.dtype not in _CODES or tensor.layout != torch.strided or tensor.is_meta:
        raise BadTensorError(f"a {tensor.layout} tensor of {tensor.dtype} on {tensor.device} cannot be saved")
    plain = tensor.detach().resolve_conj().resolve_neg().cpu()
    raw = plain.reshape(-1).view(torch.uint8).numpy()  # as bytes: numpy has no bfloat16
    return View(_CODES[tensor.dtype], tuple(tensor.shape), raw.data if raw.nbytes else memoryview(b""))


@as_view.register
def _(value: torch.Tensor, dtype: str, shape: tuple[int, ...]) -> View:
    return view(value)


def tensors(ledger: Ledger, tied: bool = False) -> dict[str, torch.Tensor]:
    """The ledger's parameters by name, as tensors of the mapped file; see :meth:`Ledger.read <weights_map.Ledger.read>`.

    They may be changed in place: the file on disk does not change. With ``tied``, tied parameters are the same tensor objects.
    """
    loaded = {target: tensor(view) for target, view in ledger.read().items()}
    return loaded | {target: loaded[other] for target, other in (ledger.ties().items() if tied else ())}


def unpack(weight_map: WeightMap, source: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    """The parameters that are in a tensor of a file: cut into its parts and transposed as the map says. Empty if no rule matches.

    Args:
        weight_map: the map; of its rules none that joins several tensors into one parameter.
        source: the tensor's name.
        tensor: the tensor.
    """
    targets = weight_map.targets_of(source)
    entry = weight_map.rule_of(targets[0]) if targets else None
    whole = tensor.T.contiguous() if entry is not None and entry[0].transposed else tensor
    return dict(zip(targets, whole.chunk(len(targets)) if len(targets) > 1 else (whole,)))


def pack(weight_map: WeightMap, tensors: Mapping[str, torch.Tensor], prefix: str | None = None) -> dict[str, torch.Tensor]:
    """Parameters as the tensors of a new file: the reverse of :func:`unpack`, as ``WeightMap.pack`` is for views.

    Raises:
        UnknownNameError: no rule gives one of the parameters, or the prefix is unknown.
        KeyError: a part of a joined tensor is absent.
    """
    packed = {}
    for source in dict.fromkeys(source for sources in weight_map.names(tensors, prefix).values() for source in sources):
        targets = weight_map.targets_of(source)
        parts = [tensors[target] for target in targets]
        whole = parts[0] if len(parts) == 1 else torch.cat(parts)
        entry = weight_map.rule_of(targets[0])
        packed[source] = whole.T.contiguous() if entry is not None and entry[0].transposed else whole
    return packed


def save(
    ledger: Ledger, tensors: Mapping[str, torch.Tensor], path: str | os.PathLike[str], eight_bits: Iterable[str] = ()
) -> None:
    """Write the ledger's file again with these parameters; the same as :meth:`Ledger.save <weights_map.Ledger.save>`."""
    ledger.save(tensors, path, eight_bits)


def fits_eight_bits(tensor: torch.Tensor) -> bool:
    """Whether quantising a matrix to int8 and back gives exactly the same values; see :mod:`weights_map.eightbit`.

    Raises:
        BadTensorError: it is not a matrix of floats.
    """
    restored = eightbit.dequantise(*eightbit.quantise(view(tensor)))
    return torch.equal(torch.frombuffer(restored.buffer, dtype=torch.float32), tensor.detach().float().cpu().reshape(-1))


def check_finite(tensors: Mapping[str, torch.Tensor], after: Callable[[], None] | None = None) -> None:
    """Check floating-point tensors for NaN and infinity, in one pass over each and without copies.

    Args:
        tensors: by name.
        after: called after each tensor; with :meth:`Checkpoint.release <weights_map.Checkpoint.release>` only one tensor is in memory.

    Raises:
        BadFileError: tensors have NaN or infinity; names them and counts the values.
    """
    bad = {}
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        # A NaN or infinite value makes the sum so. A finite sum may overflow too, hence the second check.
        values = tensor.detach()
        values = values if values.dtype.itemsize > 1 else values.to(torch.float32)  # the 8-bit floats have no sum
        wide = torch.float64 if values.dtype == torch.float64 else torch.float32
        if not values.sum(dtype=wide).isfinite() and not values.isfinite().all():
            nan, infinite = int(values.isnan().sum()), int(values.isinf().sum())
            bad[name] = f"{name} ({nan} NaN, {infinite} infinite of {values.numel()})"
        if after is not None:
            after()
    if bad:
        more = f", and {len(bad) - 5} more" if len(bad) > 5 else ""
        listed = ", ".join(list(bad.values())[:5])
        raise BadFileError(
            f"weights that are not finite: {listed}{more}; the file is damaged or its training failed", names=bad
        )
