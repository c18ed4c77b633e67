"""The plan for NVIDIA cards, on kernels written in Triton. Nothing here imports Triton until a plan is made."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from nativebert.nn.model import Model

WIDEST_HEAD, WIDEST_ROW = 256, 16384  # what a tile of attention, and of a norm, holds


def why_not(model: Model, device: torch.device) -> str:
    """Why the kernels cannot run ``model`` on ``device``; empty if they can."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed (pip install triton)"
    if device.type == "cuda" and (capability := torch.cuda.get_device_capability(device)) < (8, 0):
        return f"{torch.cuda.get_device_name(device)} has compute capability {capability[0]}.{capability[1]}, and the kernels need 8.0"
    config = model.config
    shared = any(layer.key_heads not in (0, layer.heads) for layer in config.layers)
    if config.causal or config.rms_norm or shared or not config.embedding_norm or config.relative or config.convolution:
        return f"they do not compute the layers of {config.family}"
    widths = {config.width, config.embedding_width or config.width, *(h.dense for h in config.heads.values() if h.dense)}
    if max(widths) > WIDEST_ROW:
        return f"rows of {max(widths):,} numbers are wider than the {WIDEST_ROW:,} that a tile holds"
    if config.layers and (head := max(config.width // layer.heads for layer in config.layers)) > WIDEST_HEAD:
        return f"attention heads of {head} numbers are wider than the {WIDEST_HEAD} that a tile holds"
    return ""
