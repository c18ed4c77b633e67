"""Arguments in the manner of transformers: which are supported, which do nothing here, and what to do in place of the others."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from nativebert.checks import plain
from nativebert.errors import BadInputError, RefusedError
from nativebert.hf import unsupported

# They ask for what is done anyway, or allow what is never done.
HARMLESS = frozenset(
    "use_fast low_cpu_mem_usage trust_remote_code resume_download use_safetensors weights_only verbose offload_folder model_card_data".split()
)


def checked(call: str, given: Mapping[str, Any], supported: Collection[str], hint: str = "") -> None:
    """Refuse arguments by name.

    Args:
        call: what was called, for the message.
        given: the arguments.
        supported: the names that the caller knows what to do with.
        hint: what else the message should say of a name that nobody knows.

    Raises:
        RefusedError: transformers has it and nativebert does not; the message says what to do.
        BadInputError: nobody has it.
    """
    for name, value in given.items():
        if name in supported or name in HARMLESS:
            continue
        if name in unsupported.ARGUMENTS:
            if value is None or value is False or value == "":
                continue
            raise RefusedError(f"{call} does not support {name}=: {unsupported.ARGUMENTS[name]}")
        raise BadInputError(f"{call} has no argument {name!r}; it takes {', '.join(sorted(supported))}{hint}")


def check_attention(call: str, arguments: Mapping[str, Any]) -> None:
    """Refuse an ``attn_implementation`` other than ``"eager"`` and ``"sdpa"``, which are the same here."""
    name = arguments.get("attn_implementation")
    if name not in (None, "eager", "sdpa"):
        raise RefusedError(f"{call}: attn_implementation must be 'eager' or 'sdpa' (the same here), not {name!r}")


def offline(given: Mapping[str, Any]) -> bool | None:
    """What ``local_files_only`` means: True forbids the network, all else leaves it to the environment."""
    return True if given.get("local_files_only") else None


def whole_numbers(given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments as plain Python has them, with R's 32.0 as 32 where a name counts or numbers something."""
    counted = (
        "num_",
        "n_",
        "max_",
        "vocab",
        "hidden_size",
        "hidden_dim",
        "dim",
        "intermediate",
        "embedding_size",
        "type_vocab",
        "pad_token_id",
    )
    given = {name: plain(value) for name, value in given.items()}
    return {
        name: int(value) if isinstance(value, float) and name.startswith(counted) and value == int(value) else value
        for name, value in given.items()
    }
