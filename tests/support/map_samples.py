"""Shared by the tests of weights_map: a BERT-like map, and safetensors files written without the package."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

from hypothesis import strategies as st

from weights_map import WeightMap, linear, norm, table, tensor
from weights_map.rules import Rule
from weights_map.safetensors import BITS

LAYER = "encoder.layer.{i}."
DIMS = {"V": 11, "H": 4, "F": 6, "P": 5}


def encoder() -> list[list[Rule]]:
    return [
        table("embeddings.word_embeddings", "embed.token", "V H"),
        table("embeddings.position_embeddings", "embed.position", "P H"),
        norm("embeddings.LayerNorm", "embed.norm", "H"),
        linear(LAYER + "attention.self.query", "layers.{i}.attn.q", "H H"),
        linear(LAYER + "output.dense", "layers.{i}.mlp.down", "H F"),
        norm(LAYER + "output.LayerNorm", "layers.{i}.mlp_norm", "H"),
        linear("pooler.dense", "pool.dense", "H H"),
    ]


def heads() -> list[list[Rule]]:
    return [
        table("cls.predictions.decoder", "head.lm.out", "V H"),
        tensor("cls.predictions.bias", "head.lm.out.bias", "V"),
        tensor("cls.predictions.decoder.bias", "head.lm.out.repeated_bias", "V"),
        linear("classifier", "head.out", "C H"),
    ]


def bert(rules: Sequence[object] | None = None, head_rules: Sequence[object] | None = None) -> WeightMap:
    return WeightMap(
        "bert",
        encoder() if rules is None else rules,  # type: ignore[arg-type]
        heads=heads() if head_rules is None else head_rules,  # type: ignore[arg-type]
        prefixes=("bert.", ""),
        spellings={"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"},
        ties={"head.lm.out.weight": "embed.token.weight", "head.lm.out.repeated_bias": "head.lm.out.bias"},
        derived=["embeddings.position_ids"],
        carried=["head.*", "pool.*"],
    )


@dataclass
class Blob:
    """A tensor of a file."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes

    @staticmethod
    def of(shape: Sequence[int], dtype: str = "F32", seed: object = 0) -> Blob:
        return Blob(dtype, tuple(shape), random.Random(repr(seed)).randbytes(prod(shape) * BITS[dtype] // 8))


def raw(
    tensors: Mapping[str, Blob],
    metadata: Mapping[str, str] | None = None,
    padding: int = 0,
    header_order: Sequence[str] | None = None,
) -> bytes:
    """A safetensors file: data in the order of ``tensors``, header in any order, padded with any number of blanks."""
    entries: dict[str, object] = {}
    end = 0
    for name, blob in tensors.items():
        entries[name] = {"dtype": blob.dtype, "shape": blob.shape, "data_offsets": [end, end := end + len(blob.data)]}
    header: dict[str, object] = {} if metadata is None else {"__metadata__": dict(metadata)}
    header |= {name: entries[name] for name in header_order or entries}
    text = json.dumps(header).encode() + b" " * padding
    return len(text).to_bytes(8, "little") + text + b"".join(blob.data for blob in tensors.values())


def put(path: Path, tensors: Mapping[str, Blob], **options: object) -> Path:
    path.write_bytes(raw(tensors, **options))  # type: ignore[arg-type]
    return path


def put_shards(folder: Path, shards: Sequence[Mapping[str, Blob]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    shard_of: dict[str, str] = {}
    for n, shard in enumerate(shards, 1):
        file = f"model-{n:05}-of-{len(shards):05}.safetensors"
        put(folder / file, shard, metadata={"format": "pt"})
        shard_of |= dict.fromkeys(shard, file)
    size = sum(len(blob.data) for shard in shards for blob in shard.values())
    index = {"metadata": {"total_size": size}, "weight_map": shard_of}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=3))
    return folder


def bert_tensors(layers: int = 3, prefix: str = "bert.", gamma: bool = False, dtype: str = "F32") -> dict[str, Blob]:
    """The encoder of a tiny BERT, with a pooler and no heads."""
    V, H, F, P = DIMS.values()
    scale, shift = ("gamma", "beta") if gamma else ("weight", "bias")
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (V, H),
        "embeddings.position_embeddings.weight": (P, H),
        f"embeddings.LayerNorm.{scale}": (H,),
        f"embeddings.LayerNorm.{shift}": (H,),
        "pooler.dense.weight": (H, H),
        "pooler.dense.bias": (H,),
    }
    for i in range(layers):
        at = f"encoder.layer.{i}."
        shapes |= {
            at + "attention.self.query.weight": (H, H),
            at + "attention.self.query.bias": (H,),
            at + "output.dense.weight": (H, F),
            at + "output.dense.bias": (H,),
            at + f"output.LayerNorm.{scale}": (H,),
            at + f"output.LayerNorm.{shift}": (H,),
        }
    return {prefix + name: Blob.of(shape, dtype, name) for name, shape in shapes.items()}


# -------------------------------------------------------------------- random maps, and random files for them


@dataclass
class World:
    """The arguments of a map, a file that matches it in part, and a model that needs a part of it."""

    rules: list[Rule]
    heads: list[Rule]
    prefixes: tuple[str, ...]
    spellings: dict[str, str]
    ties: dict[str, str]
    tensors: dict[str, Blob]
    wanted: list[str] | None
    dims: dict[str, int] = field(default_factory=dict)

    def map(self, rules: list[Rule] | None = None, heads: list[Rule] | None = None) -> WeightMap:
        return WeightMap(
            "world",
            self.rules if rules is None else rules,
            heads=self.heads if heads is None else heads,
            prefixes=self.prefixes,
            spellings=self.spellings,
            ties=self.ties,
            derived=["derived.ids"],
            carried=["t0.*", "t1.*"],
        )


@st.composite
def worlds(draw: st.DrawFn) -> World:
    dims = {"H": draw(st.integers(1, 3)), "V": draw(st.integers(0, 4))}
    rules: list[Rule] = []
    unprefixed: list[Rule] = []
    ties: dict[str, str] = {}
    for n in range(draw(st.integers(1, 5))):
        slot = draw(st.sampled_from(["", ".{i}", ".{i}.x.{j}"]))
        kind = draw(st.sampled_from(["table", "linear", "norm", "split", "fused", "single", "transposed", "qkv"]))
        source, target = f"s{n}{slot}", f"t{n}{slot}"
        built = {
            "table": lambda s, t: table(s, t, "V H"),
            "linear": lambda s, t: linear(s, t, "H 2H", bias=draw(st.booleans())),
            "norm": lambda s, t: norm(s + ".norm", t + ".norm", "H"),
            "split": lambda s, t: linear(s + ".qkv", t + ".{q,k,v}", "3H H"),
            "transposed": lambda s, t: linear(s + ".conv", t + ".conv", "2H H", transposed=True),
            "qkv": lambda s, t: linear(s + ".c_attn", t + ".{q,k,v}", "3H H", transposed=True),
            "fused": lambda s, t: linear(s + ".{up,gate}", t + ".both", "2H H"),
            "single": lambda s, t: tensor(s + ".one", t + ".one", ""),
        }[kind](source, target)
        (unprefixed if draw(st.booleans()) else rules).extend(built)
        if kind == "table" and not slot and ties == {} and draw(st.booleans()):
            unprefixed += table(f"tied{n}", f"tied{n}", "V H")
            ties[f"tied{n}.weight"] = f"t{n}.weight"
    prefixes = draw(st.sampled_from([("",), ("p.",), ("p.", ""), ("", "p.", "q.r.")]))
    spellings = draw(st.sampled_from([{}, {"norm.gamma": "norm.weight"}, {"norm.gamma": "norm.weight", "N": "one"}]))

    tensors: dict[str, Blob] = {}
    targets: list[str] = []
    dtype = draw(st.sampled_from(["F32", "BF16", "F8_E4M3"]))
    for rule in rules + unprefixed:
        for i in range(draw(st.integers(0, 2))):
            bindings = {"i": i, "j": 10}
            shape = [dim.size(dims) or 0 for dim in rule.shape]
            if len(rule.sources) > 1:
                shape[0] //= len(rule.sources)
            if draw(st.integers(0, 9)) == 0:
                shape.append(1)
            for template in rule.sources:
                name = template.fill(bindings)
                for old, new in spellings.items():
                    if name.endswith("." + new) and draw(st.booleans()):
                        name = name[: -len(new)] + old
                name = (draw(st.sampled_from(prefixes)) if rule in rules else "") + name
                if draw(st.integers(0, 9)):
                    tensors[name] = Blob.of(shape, dtype if draw(st.integers(0, 9)) else "F16", name)
                if draw(st.integers(0, 14)) == 0:
                    tensors["q.r." + name] = Blob.of(shape, dtype, name)  # a second copy, or unknown
            targets += [template.fill(bindings) for template in rule.targets]
    for target, other in ties.items():
        sources = [name for name in tensors if name.endswith("s" + other.removeprefix("t"))]
        if sources and draw(st.booleans()):
            tensors[target] = tensors[sources[0]]
    if draw(st.booleans()):
        tensors[prefixes[-1] + "derived.ids"] = Blob.of((3,), "I64")
    if draw(st.booleans()):
        tensors["unknown.{i}.name\n"] = Blob.of((2, 0), "U8")
    wanted = None
    if draw(st.booleans()):
        wanted = [target for target in dict.fromkeys(targets) if draw(st.integers(0, 9))] + list(ties)
        wanted += ["t0.nowhere"] if draw(st.booleans()) else []
    order = draw(st.permutations(sorted(tensors)))
    config_dims = draw(st.sampled_from([{}, dims, {"H": 2}]))
    return World(rules, unprefixed, prefixes, spellings, ties, {name: tensors[name] for name in order}, wanted, config_dims)
