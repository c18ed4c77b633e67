"""Checkpoints: the tensors of safetensors files, and how their names map to a model's parameters.

>>> BERT = WeightMap("bert", [linear("encoder.layer.{i}.output.dense", "layers.{i}.mlp.down", "H F")])
>>> ledger = match(BERT, Checkpoint.open("model.safetensors"), wanted=names, dims={"H": 384, "F": 1536})
>>> print(ledger)                    # one row per tensor: source, target, shape, dtype, status
>>> views = ledger.check().read()    # zero-copy; or an error with the rows that are wrong
>>> ledger.save(views, "copy.safetensors")    # byte-identical, as nothing was changed

Needs safetensors and numpy; :mod:`weights_map.torch` converts to and from torch tensors.
"""

from weights_map import errors
from weights_map.errors import AmbiguousRuleError, BadFileError, BadRuleError, BadTensorError, UnknownNameError, WeightsMapError
from weights_map.ledger import Ledger, MismatchError
from weights_map.mapping import WeightMap
from weights_map.matching import match
from weights_map.rows import Row
from weights_map.rules import Rule, linear, norm, table, tensor
from weights_map.safetensors import Checkpoint, TensorInfo, View
from weights_map.template import Template

# The old names, for one version: WeightMap.on is match, and errors have no ending.
from weights_map.errors import Ambiguous as Ambiguous, BadFile as BadFile, BadRule as BadRule  # isort: skip
from weights_map.errors import BadTensor as BadTensor, UnknownName as UnknownName  # isort: skip
from weights_map.ledger import Mismatch as Mismatch  # isort: skip

WeightMap.on = match  # type: ignore[attr-defined]
errors.Mismatch = Mismatch  # type: ignore[attr-defined]

__all__ = [
    "AmbiguousRuleError",
    "BadFileError",
    "BadRuleError",
    "BadTensorError",
    "Checkpoint",
    "Ledger",
    "MismatchError",
    "Row",
    "Rule",
    "Template",
    "TensorInfo",
    "UnknownNameError",
    "View",
    "WeightMap",
    "WeightsMapError",
    "linear",
    "match",
    "norm",
    "table",
    "tensor",
]
