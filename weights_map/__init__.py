"""Names and bytes of checkpoints: what a safetensors file holds, and how its names become a model's.

>>> BERT = WeightMap("bert", [linear("encoder.layer.{i}.output.dense", "layers.{i}.mlp.down", "H F")])
>>> ledger = BERT.on(Checkpoint.open("model.safetensors"), wanted=names, dims={"H": 384, "F": 1536})
>>> print(ledger)                    # source -> target, shape, dtype, status: every tensor in one row
>>> views = ledger.check().read()    # or an error with that table
>>> ledger.save(views, "copy.safetensors")    # byte-identical, as nothing was changed

Knows nothing of transformers, and needs no torch (:mod:`weights_map.torch` is there for those who have it).
"""

from weights_map.errors import Ambiguous, BadFile, BadRule, BadTensor, Mismatch, UnknownName, WeightsMapError
from weights_map.ledger import Ledger, Row
from weights_map.mapping import WeightMap
from weights_map.rules import Rule, linear, norm, table, tensor
from weights_map.safetensors import Checkpoint, TensorInfo, View
from weights_map.template import Template

__all__ = [
    "Ambiguous",
    "BadFile",
    "BadRule",
    "BadTensor",
    "Checkpoint",
    "Ledger",
    "Mismatch",
    "Row",
    "Rule",
    "Template",
    "TensorInfo",
    "UnknownName",
    "View",
    "WeightMap",
    "WeightsMapError",
    "linear",
    "norm",
    "table",
    "tensor",
]
