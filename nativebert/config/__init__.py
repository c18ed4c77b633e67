"""The one description of an encoder that every family is translated into.

A family's file in :mod:`nativebert.arch` turns a Hub ``config.json`` into an :class:`EncoderConfig` through :class:`Fields`, which checks
types and refuses what nativebert does not compute. Nothing here knows torch.

Letters used for sizes everywhere in nativebert: ``B`` sequences, ``T`` packed tokens of a batch, ``L`` longest sequence,
``H`` model width, ``A`` heads, ``D`` head width, ``F`` feed-forward width, ``V`` vocabulary, ``E`` embedding width,
``P`` positions, ``S`` segments, ``C`` classes.
"""

from nativebert.config.encoder import ACTIVATIONS, WIDEST, Convolution, EncoderConfig, Layer, RelativePositions, check_sizes
from nativebert.config.fields import EIGHT_BITS, HARMLESS, LABELLED, Fields
from nativebert.config.heads import ARCHITECTURES, Head, NewHead, select_heads

__all__ = [
    "ACTIVATIONS", "ARCHITECTURES", "EIGHT_BITS", "HARMLESS", "LABELLED", "WIDEST", "Convolution", "EncoderConfig", "Fields", "Head", "Layer", "NewHead",
    "RelativePositions", "check_sizes", "select_heads",
]  # fmt: skip
