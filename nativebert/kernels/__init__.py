"""The C kernels of the CPU plan: the library, its structures, and which instruction set level is used.

The package's build compiles them where there is a C compiler; without them everything works, through torch's own operations.
``NATIVEBERT_KERNELS=0`` in the environment leaves them unused; the name of a level (``avx2``) chooses that one in place of the fastest.
The variable is read when a plan is made.

    >>> from nativebert import kernels
    >>> kernels.available(), kernels.why_not(), kernels.levels()
    (True, '', ['zen5', 'zen4', 'avx512vnni', 'avx512', 'avx2', 'portable'])
"""

from __future__ import annotations

import ctypes
import os
import sys
from ctypes import POINTER, c_char_p, c_double, c_float, c_int, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

from nativebert.errors import BadInput
from nativebert.kernels.fingerprint import fingerprint

VARIABLE = "NATIVEBERT_KERNELS"
PATH = Path(__file__).parent / "library.so"
NOT_BUILT = (
    "they are not built: the installation found no C compiler, or runs on Windows. Install one and reinstall nativebert."
)

# Names of nn/activation.py -> numbers of kernels.h
ACTIVATION_NAMES = (
    "linear gelu gelu_new gelu_10 quick_gelu relu relu2 relu6 leaky_relu silu mish tanh sigmoid".split()
)  # fmt: skip
ACTIVATION = {name: number for number, name in enumerate(ACTIVATION_NAMES)} | {
    "gelu_python": ACTIVATION_NAMES.index("gelu"),
    "swish": ACTIVATION_NAMES.index("silu"),
    **dict.fromkeys(("gelu_fast", "gelu_accurate", "gelu_pytorch_tanh"), ACTIVATION_NAMES.index("gelu_new")),
}

# Names of nn/pool.py -> numbers of kernels.h
POOLING = {name: number for number, name in enumerate("cls max mean mean_sqrt_len_tokens weightedmean lasttoken".split())}


MAX_OUTLIERS = 16  # kernels.h


class Linear(ctypes.Structure):
    """A matrix in panels, with its bias."""

    _fields_ = [
        ("inward", c_int32),
        ("outward", c_int32),
        *((name, c_void_p) for name in ("panels", "panels8", "bias", "scale", "sum")),
    ]


class Norm(ctypes.Structure):
    """A layer norm."""

    _fields_ = [("weight", c_void_p), ("bias", c_void_p)]


class Relative(ctypes.Structure):
    """Relative positions of one head."""

    _fields_ = [*((name, c_void_p) for name in ("q", "k", "row")), ("rows", c_int32), ("stride", c_int32)]


class Layer(ctypes.Structure):
    """One layer."""

    _fields_ = [
        *((name, Linear) for name in ("qkv", "out", "up", "down", "gate")),
        ("attn_norm", Norm),
        ("mlp_norm", Norm),
        ("heads", c_int32),
        ("activation", c_int32),
        ("rotary", c_void_p),
        ("bias", c_void_p),
        ("bias_stride", c_int64),
        ("reach", c_int32),
        ("relative", Relative),
    ]


class Embedding(ctypes.Structure):
    """The tables, their norm, and the projection after it."""

    _fields_ = [
        *((name, c_void_p) for name in ("token", "segment", "position")),
        *((name, c_int32) for name in ("tokens", "segments", "positions", "width")),
        ("norm", Norm),
        ("project", Linear),
    ]


class Quantised(ctypes.Structure):
    """Rows as unsigned bytes."""

    _fields_ = [("q", c_void_p), ("scale", c_void_p), ("min", c_void_p)]


class Rows(ctypes.Structure):
    """Rows as a product takes them."""

    _fields_ = [("x", c_void_p), ("stride", c_size_t), *((name, c_void_p) for name in ("scale", "sum", "outliers"))]


class Outliers(ctypes.Structure):
    """Outliers of a row: inputs that are multiplied apart from the pairs (winograd.c)."""

    _fields_ = [("count", c_int32), ("input", c_int32 * MAX_OUTLIERS), ("value", c_float * MAX_OUTLIERS)]


class Adam(ctypes.Structure):
    """The decay of AdamW's moments."""

    _fields_ = [(name, c_float) for name in ("beta1", "beta2", "rest1", "rest2", "eps")]


class AdamStep(ctypes.Structure):
    """A step of AdamW."""

    _fields_ = [(name, c_float) for name in ("size", "root", "kept")]


def _function(result: Any, signature: str) -> Any:
    """Type of a C function: ``p`` a pointer, ``i`` int, ``l`` int64_t, ``k`` uint64_t, ``d`` double."""
    kinds = {"p": c_void_p, "i": c_int, "l": c_int64, "k": c_uint64, "d": c_double}
    return ctypes.CFUNCTYPE(result, *(kinds[letter] for letter in signature))


class Training(ctypes.Structure):
    """What training needs of a level: train.c."""

    _fields_ = [
        ("product", _function(None, "pipiiiippppi")),
        ("product_scratch", _function(c_size_t, "iii")),
        ("drop", _function(None, "ppldki")),
        ("residual_norm", _function(None, "pppppppllddki")),
        ("residual_norm_back", _function(None, "ppppppppplldki")),
        ("column_sums", _function(None, "pplli")),
        ("attention_scratch", _function(c_size_t, "ii")),
        ("attend_forward", _function(None, "ppiiipppdkpii")),
        ("attend_backward", _function(None, "ppiiippppdkpii")),
        ("adamw", _function(None, "pppplppdi")),
        ("adamw_rows", _function(None, "ppppppllppp" + "ldi")),
        ("sum_squares", _function(c_double, "plpi")),
    ]


class Kernels(ctypes.Structure):
    """The kernels at one level; each can be called by itself, except ``normalize_rows`` where there is none."""

    _fields_ = [
        ("name", c_char_p),
        ("panel", c_int32),
        ("panel8", c_int32),
        ("pack_panels", ctypes.CFUNCTYPE(None, c_void_p, c_int, c_int, c_int, c_void_p, c_void_p, c_void_p)),
        ("pack_panels8", ctypes.CFUNCTYPE(None, c_void_p, c_int, c_int, c_int, c_void_p, c_void_p, c_void_p)),
        *(
            (name, ctypes.CFUNCTYPE(None, POINTER(Linear), rows, c_int, c_void_p, c_size_t, c_void_p, c_int, c_int, c_int))
            for name, rows in (("gemm", Rows), ("gemm8", Quantised))
        ),
        ("normalize_rows", ctypes.CFUNCTYPE(None, c_void_p, c_size_t, c_int, c_int, Rows)),
        ("quantise_rows", ctypes.CFUNCTYPE(None, c_void_p, c_size_t, c_int, c_int, Quantised)),
        *(
            (name, ctypes.CFUNCTYPE(None, c_void_p, *[c_int] * 5, c_void_p, c_int, *[c_void_p] * 3))
            for name in ("attention", "attention16")
        ),
        ("rotate", ctypes.CFUNCTYPE(None, c_void_p, c_int, c_int, c_int, c_void_p, c_void_p)),
        ("attention_scratch", ctypes.CFUNCTYPE(c_size_t, c_int, c_int, c_int)),
        ("layer_norm", ctypes.CFUNCTYPE(None, c_void_p, c_int, c_int, Norm, c_float, c_void_p, c_void_p)),
        ("center_row", ctypes.CFUNCTYPE(None, c_void_p, c_int, c_void_p, c_void_p)),
        ("combine_rows", ctypes.CFUNCTYPE(None, c_void_p, c_void_p, c_float, c_void_p, c_int, c_void_p)),
        ("add_row", ctypes.CFUNCTYPE(None, c_void_p, c_void_p, c_int)),
        ("multiply_row", ctypes.CFUNCTYPE(None, c_void_p, c_void_p, c_int)),
        ("pool", ctypes.CFUNCTYPE(None, c_void_p, c_int, c_int, c_int, c_int, c_void_p)),
        ("training", POINTER(Training)),
    ]


class FirstQkv(ctypes.Structure):
    """The first layer's queries, keys and values from rows of the embedding tables."""

    _fields_ = [("product", Linear), ("bias", c_void_p)]


class QkvCache(ctypes.Structure):
    """The products of such rows, kept from batch to batch."""

    _fields_ = [
        *((name, c_void_p) for name in ("row_of_key", "key_of_row", "last_batch", "new_rows", "rows")),
        *((name, c_int32) for name in ("capacity", "count", "next")),
        ("batch", c_uint32),
    ]


class Encoder(ctypes.Structure):
    """The model."""

    _fields_ = [
        ("kernels", POINTER(Kernels)),
        ("embedding", Embedding),
        ("first_qkv", FirstQkv),
        ("layer", POINTER(Layer)),
        ("layers", c_int32),
        ("width", c_int32),
        ("eps", c_float),
        ("pre_norm", c_int32),
        ("last_norm", Norm),
    ]


class Batch(ctypes.Structure):
    """Packed sequences."""

    _fields_ = [
        *((name, c_void_p) for name in ("ids", "positions", "segments", "starts")),
        ("sequences", c_int32),
        ("qkv_cache", POINTER(QkvCache)),
    ]


class Output(ctypes.Structure):
    """What is wanted of a batch."""

    _fields_ = [*((name, c_void_p) for name in ("hidden", "states", "pooled", "mode")), ("modes", c_int32), ("skip", c_int32)]


class AbiEntry(ctypes.Structure):
    """The size of a structure, the offset of a field, or a constant, by its name in C."""

    _fields_ = [("name", c_char_p), ("value", c_int64)]


STRUCTURES: tuple[type[ctypes.Structure], ...] = (
    *(Linear, Norm, Relative, Layer, Embedding, Quantised, Rows, Outliers, Adam, AdamStep, Training, Kernels),
    *(FirstQkv, QkvCache, Encoder, Batch, Output),
)


def abi() -> dict[str, int]:
    """What abi.c must say of the library, from the structures above."""
    entries = {"MAX_OUTLIERS": MAX_OUTLIERS, "ACTIVATIONS": len(ACTIVATION_NAMES), "POOLINGS": len(POOLING)}
    for structure in STRUCTURES:
        entries[structure.__name__] = ctypes.sizeof(structure)
        entries |= {f"{structure.__name__}.{name}": getattr(structure, name).offset for name, *_ in structure._fields_}
    return entries


def mismatch(lib: ctypes.CDLL, folder: Path) -> str:
    """Why a library must not be called, in a sentence that says what to do; empty if it agrees with this file and with the C sources in the
    folder, where there are any."""
    remedy = "Rebuild them: pip install -e . in a checkout of nativebert, or reinstall nativebert."
    try:
        lib.kernels_abi.restype, lib.kernels_fingerprint.restype = POINTER(AbiEntry), c_char_p
    except AttributeError:
        return f"they were built from an older version, without a description of their structures. {remedy}"
    theirs: dict[str, int] = {}
    for entry in lib.kernels_abi():
        if entry.name is None:
            break
        theirs[entry.name.decode()] = entry.value
    ours = abi()
    if differ := sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)):
        name = differ[0]
        return (
            f"they were built from another version: {len(differ)} sizes and offsets differ, such as that of {name} "
            f"({theirs.get(name)} in the library, {ours.get(name)} here). {remedy}"
        )
    expected = fingerprint(folder)
    if expected and expected != lib.kernels_fingerprint().decode():
        return f"their C sources in {folder} have changed since they were built. {remedy}"
    return ""


@cache
def library() -> ctypes.CDLL | str:
    """The library, or why there is none."""
    import torch  # first, so that both use the OpenMP that it brings

    folder = Path(__file__).parent
    path = PATH
    if not path.exists():
        return NOT_BUILT
    try:
        if sys.platform == "darwin":  # what it calls of OpenMP is looked up in torch's
            ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libomp.dylib"), ctypes.RTLD_GLOBAL)
        found = ctypes.CDLL(str(path))
    except OSError as error:
        return f"{path.name} cannot be loaded: {error}"
    if reason := mismatch(found, folder):
        return reason
    found.kernels_level.restype = POINTER(Kernels)
    found.kernels_level.argtypes = [c_int32]
    found.encode_scratch.restype = c_size_t
    found.encode_scratch.argtypes = [POINTER(Encoder), POINTER(Batch), POINTER(Output), c_int32]
    found.qkv_cache_rows.restype = c_int32
    found.qkv_cache_rows.argtypes = [POINTER(Encoder), c_int32]
    found.encode.restype = c_int32
    found.encode.argtypes = [POINTER(Encoder), POINTER(Batch), POINTER(Output), c_int32, c_void_p]
    return found


@cache
def _tables() -> dict[str, ctypes._Pointer[Kernels]]:
    found: dict[str, ctypes._Pointer[Kernels]] = {}
    if not isinstance(lib := library(), str):
        while table := lib.kernels_level(len(found)):
            found[table.contents.name.decode()] = table
    return found


def levels() -> list[str]:
    """The instruction set levels that this machine runs, the fastest first; empty without the library."""
    return list(_tables())


def available() -> bool:
    """Whether plans for the CPU use the kernels."""
    return not why_not()


def why_not() -> str:
    """Why plans for the CPU do not use the kernels, in a sentence; empty if they do."""
    if os.environ.get(VARIABLE) == "0":
        return f"{VARIABLE}=0 is set"
    lib = library()
    return lib if isinstance(lib, str) else ""


def missing() -> str:
    """Why the kernels are not there, where nobody chose that; empty if they are, or if :data:`VARIABLE` turns them off."""
    return "" if os.environ.get(VARIABLE) == "0" else why_not()


def table() -> ctypes._Pointer[Kernels]:
    """The kernels of the level that the environment names, or of the fastest.

    Raises:
        BadInput: there is no such level here, or no library.
    """
    if reason := why_not():
        raise BadInput(f"the C kernels are not available: {reason}")
    asked = os.environ.get(VARIABLE) or levels()[0]
    if asked not in _tables():
        raise BadInput(f"{VARIABLE}={asked}: it must be 0, or a level that this machine runs: {', '.join(levels())}")
    return _tables()[asked]
