"""Views of a file <-> torch tensors, without a copy. The only file here that imports torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

import torch

from weights_map import eightbit
from weights_map.errors import BadFile, BadTensor
from weights_map.ledger import Ledger
from weights_map.safetensors import View

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
"""Names of dtypes in files -> torch's, as far as this torch has them."""

_CODES = {dtype: code for code, dtype in DTYPES.items()}


def tensor(view: View) -> torch.Tensor:
    """A view as a tensor of the same memory; copied only where the file does not align it.

    Raises:
        BadTensor: torch has no such dtype.
    """
    if view.dtype not in DTYPES:
        raise BadTensor(f"this torch has no dtype for {view.dtype}")
    dtype = DTYPES[view.dtype]
    if not view.buffer.nbytes:  # frombuffer takes no empty buffer
        return torch.empty(view.shape, dtype=dtype)
    raw = torch.frombuffer(view.buffer, dtype=torch.uint8)
    if raw.data_ptr() % dtype.itemsize:
        raw = raw.clone()
    return raw.view(dtype).reshape(view.shape)


def view(tensor: torch.Tensor) -> View:
    """A tensor as a view; a copy only if it is not on the CPU, or not contiguous.

    Raises:
        BadTensor: a sparse or meta tensor, or a dtype that the file format does not have.
    """
    if tensor.dtype not in _CODES or tensor.layout != torch.strided or tensor.is_meta:
        raise BadTensor(f"a {tensor.layout} tensor of {tensor.dtype} on {tensor.device} cannot be saved")
    plain = tensor.detach().resolve_conj().resolve_neg().cpu()
    raw = plain.reshape(-1).view(torch.uint8).numpy()  # reshape copies if it must; numpy has no bfloat16, but bytes
    return View(_CODES[tensor.dtype], tuple(tensor.shape), raw.data if raw.nbytes else memoryview(b""))


def tensors(ledger: Ledger, tied: bool = False) -> dict[str, torch.Tensor]:
    """The ledger's parameters as tensors of the mapped file, by name; see :meth:`Ledger.read`.

    They may be changed in place: the file on disk stays as it is.
    """
    found = {target: tensor(view) for target, view in ledger.read().items()}
    if tied:  # the same tensors, also where one had to be copied
        found |= {target: found[other] for target, other in ledger.ties().items()}
    return found


def save(
    ledger: Ledger, tensors: Mapping[str, torch.Tensor], path: str | os.PathLike[str], eight_bits: Iterable[str] = ()
) -> None:
    """Writes the ledger's file anew with these parameters; see :meth:`Ledger.save`, which takes tensors as well."""
    ledger.save(tensors, path, eight_bits)


def fits_eight_bits(tensor: torch.Tensor) -> bool:
    """Whether a matrix is exactly what :mod:`weights_map.eightbit` makes of it: nothing is lost where it is stored so.

    Raises:
        BadTensor: it is no matrix of floats.
    """
    units, scale = eightbit.quantise(view(tensor))
    restored = eightbit.restore(units, scale)
    return torch.equal(torch.frombuffer(restored.buffer, dtype=torch.float32), tensor.detach().float().cpu().reshape(-1))


def check_finite(tensors: Mapping[str, torch.Tensor], after: Callable[[], None] | None = None) -> None:
    """Looks for NaN and infinities: one pass over each floating tensor, no copies.

    Args:
        tensors: by name.
        after: called after each of them (:meth:`Checkpoint.release <weights_map.Checkpoint.release>` keeps memory at the largest one).

    Raises:
        BadFile: there are some; names the tensors and how many.
    """
    bad = []
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        # Whatever is not finite makes the sum so: one pass, in float32 at least. A sum that overflows is looked at again.
        values = tensor.detach()
        values = values if values.dtype.itemsize > 1 else values.to(torch.float32)  # the 8-bit floats have no sum
        wide = torch.float64 if values.dtype == torch.float64 else torch.float32
        if not values.sum(dtype=wide).isfinite() and not values.isfinite().all():
            nan, infinite = int(values.isnan().sum()), int(values.isinf().sum())
            bad.append(f"{name} ({nan} NaN, {infinite} infinite of {values.numel()})")
        if after is not None:
            after()
    if bad:
        more = f", and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise BadFile(f"weights that are not finite: {', '.join(bad[:5])}{more}; the file is damaged or its training failed")
