"""One file per family: how its config.json reads, how its tensor names map onto ours, what transformers calls and assumes. No torch here.

A family's file holds ``FAMILIES``: a :class:`Family` for each ``model_type`` that it describes.
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nativebert.config import ARCHITECTURES, EncoderConfig, Fields, check_sizes
from nativebert.errors import CorruptError, RefusedError

if TYPE_CHECKING:
    from weights_map import Ledger, WeightMap

# model_type in config.json -> file in this folder
FAMILIES = {
    "albert": "albert",
    "bert": "bert",
    "deberta-v2": "deberta2",
    "camembert": "roberta",
    "distilbert": "distilbert",
    "electra": "electra",
    "ernie": "ernie",
    "eurobert": "eurobert",
    "gpt2": "gpt2",
    "gte": "gte",
    "jina_bert": "jina_bert",
    "jina_embeddings_v3": "jina3",
    "modernbert": "modernbert",
    "mpnet": "mpnet",
    "new": "gte",
    "nomic_bert": "nomic_bert",
    "roberta": "roberta",
    "xlm-roberta": "roberta",
}

# Families that are asked for and not here: what stands between them and an encoder of BERT's kind.
OTHERS = {
    "deberta": "its files hold queries, keys and values head by head, and relative positions have projections of their own",
    "longformer": "its attention is sparse",
    "big_bird": "its attention is sparse",
    "mobilebert": "its layers have bottlenecks and several feed-forward parts, and their norms have no statistics",
    "convbert": "its layers mix attention with convolutions",
    "funnel": "it pools its tokens from layer to layer",
    "xlnet": "its attention is relative to where the other tokens stand",
    "xlm-roberta-xl": "its norms come before attention and feed-forward",
    "roformer": "its positions are rotary, and its blocks are otherwise BERT's",
    "llama": "it is a decoder",
    "mistral": "it is a decoder",
    "qwen2": "it is a decoder",
    "qwen3": "it is a decoder",
    "opt": "it is a decoder",
    "t5": "it is an encoder with a decoder",
    "bart": "it is an encoder with a decoder",
    "mbart": "it is an encoder with a decoder",
    "clip": "it reads images beside text",
}
# Where spelling does not tell which family is nearest.
NEAREST = {"deberta": "deberta-v2", "roformer": "nomic_bert",
           "mobilebert": "bert", "longformer": "roberta", "big_bird": "roberta", "convbert": "electra",
           "xlm-roberta-xl": "xlm-roberta", "data2vec-text": "roberta"}  # fmt: skip


# What the class names end in that all families have in transformers
CLASSES = ("Model", *(end for end in ARCHITECTURES if end != "ForNextSentencePrediction"))


@dataclass(frozen=True)
class TaskAdapters:
    """Adapters of low rank (Hu et al. 2021, arXiv:2106.09685), one for each task, that a checkpoint has beside its weights.

    The weight of ``M.weight`` is in ``M.parametrizations.weight.original``, and beside it ``.0.lora_A`` and ``.0.lora_B``, with a dimension for the tasks first.

    Attributes:
        names: of the tasks, in the order of that dimension.
        scale: what the product of a pair is multiplied by before it is added.
        rank: of the pairs.
        prompts: what the reference puts before each text, by task.
        plain: the config.json of the model that an adapter is merged into.
    """

    names: tuple[str, ...]
    scale: float
    rank: int
    prompts: Mapping[str, str]
    plain: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Family:
    """Description of a model family: its weight map, its config reader, its defaults.

    Attributes:
        name: ``model_type`` in config.json.
        stem: what its class names in transformers begin with: ``"Bert"``.
        map: the tensor names of its checkpoints and ours, in the order of transformers' modules: fresh weights are drawn in it.
        translate: makes the config of an encoder; raises CorruptError or RefusedError (see :class:`nativebert.config.Fields`).
        defaults: what transformers assumes for keys that config.json does not have.
        aliases: attributes of its config class in transformers that are another name of a key.
        computed: keys of its config class in transformers that follow from others and from the encoder's config.
        more_classes: what the class names end in that it has beside :data:`CLASSES`.
        lacks: those of :data:`CLASSES` that it does not have.
        in_transformers: whether transformers has the family.
        output: what its bare encoder returns in transformers, a class of :mod:`nativebert.hf.outputs`.
        mask_heads: tasks whose heads read the first token that is not masked, where those of other families read the first of all.
        float32_losses: tasks whose loss is computed in float32 in any precision.
        tokenizer: the tokenizer's class in transformers where the files name none; "" for none.
        heads_first: whether transformers' classes make their head before the encoder, which decides the order of random numbers.
        in_memory: names of parameters in transformers that its files have others for; None where they are those of the files.
        adapters: from a config.json the adapters for tasks that it speaks of; None for a family without.
        redrawn: of fresh weights that transformers draws twice, the second time from another normal distribution: from the config.json,
            ``initializer_range`` and the encoder's config, the limit in standard deviations at which it is truncated (infinity for none), and
            the standard deviation by the last part of the module's name in a checkpoint. None for a family that has none.
    """

    name: str
    stem: str
    map: WeightMap
    translate: Callable[[Fields], EncoderConfig]
    defaults: Mapping[str, Any]
    aliases: Mapping[str, str] = field(default_factory=dict)
    computed: Callable[[Mapping[str, Any], EncoderConfig], dict[str, Any]] | None = None
    more_classes: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    in_transformers: bool = True
    output: str = "BaseModelOutput"
    mask_heads: tuple[str, ...] = ()
    float32_losses: tuple[str, ...] = ()
    tokenizer: str = ""
    heads_first: bool = False
    in_memory: WeightMap | None = None
    adapters: Callable[[Mapping[str, Any]], TaskAdapters | None] | None = None
    redrawn: Callable[[Fields, float, EncoderConfig], tuple[float, Mapping[str, float]]] | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Suffixes of its class names in transformers."""
        return (*(end for end in CLASSES if end not in self.lacks), *self.more_classes)

    def config(self, hf: Mapping[str, Any]) -> EncoderConfig:
        """Translate a parsed config.json. Raises as ``translate``."""
        return self.translate(Fields(hf, self.name, self.defaults))

    def parameters(self, config: EncoderConfig) -> list[str]:
        """Names of all parameters that an encoder of this family must have: those of every rule that the map does not let be left out."""
        names = []
        for rule in self.map.rules:
            for template in rule.targets:
                at = [dict(zip(("i", "j"), block)) for block in config.blocks] if template.slots else [{}]
                names += [
                    name for slots in at if _has(config, name := template.fill(slots)) and not self.map.may_leave_out(name)
                ]
        return names

    def targets_of(self, name: str) -> tuple[str, ...]:
        """Our parameters in a tensor of a file, or in a parameter of transformers' model in memory; none where no rule knows it."""
        return self.map.targets_of(name) or (self.in_memory.targets_of(name) if self.in_memory else ())

    def wrapper(self, names: Collection[str]) -> str:
        """Prefix of a file's tensor names from a wrapper that the model was saved in: ``module.``, ``_orig_mod.``, ``0.auto_model.``, or several.
        "" where there is none, or where some names without it belong to no known tensor.
        """
        if any(self._of_encoder(name) for name in names):
            return ""
        longest = max((_WRAPPED.match(name) for name in names), key=lambda match: match.end() if match else 0, default=None)
        ends = [part.end() for part in _WRAPPER.finditer(longest[0])] if longest else []
        for end in ends:
            before = longest[0][:end] if longest else ""
            inside = [_unscaled(name.removeprefix(before)) for name in names if name.startswith(before)]
            rest = [name for name in names if not name.startswith(before)]
            if any(map(self._of_encoder, inside)) and all(self.map.claim(n) or self.stray(n) for n in (*inside, *rest)):
                return before
        return ""

    def strays(self, ledger: Ledger, tasks: Collection[str], config: EncoderConfig) -> list[str]:
        """The tensors of a file that nobody knows and that neither the encoder nor the heads for these tasks can need."""
        loaded = {f"head.{config.heads[task].name}" for task in tasks}
        heads = {
            source.pattern[0]
            for rule in self.map.rules
            if any(".".join(target.text.split(".")[:2]) in loaded for target in rule.targets)
            for source in rule.sources
        }
        names = [row.sources[0] for row in ledger.rows if row.status == "unexpected" and not row.targets]
        inner = {name: name.removeprefix(ledger.wrapper) for name in names}
        return [
            name
            for name, own in inner.items()
            if self.map.claim(own) is None and self.stray(own) and own.partition(".")[0] not in heads
        ]

    def _of_encoder(self, name: str) -> bool:
        claim = self.map.claim(name)
        return claim is not None and (claim.form.rule is None or self.map.takes_prefix(claim.form.rule))

    def stray(self, name: str) -> bool:
        """Whether a tensor that no rule knows can only be of a head, or of something else beside the encoder: nothing of the encoder begins
        with such a name, and the name does not look like a part that an encoder could have."""
        first = _WRAPPED.sub("", name).partition(".")[0]
        own = {source.pattern[0] for rule in self.map.rules if self.map.takes_prefix(rule) for source in rule.sources}
        prefixes = {prefix.partition(".")[0] for prefix in self.map.prefixes if prefix}
        return first not in own | prefixes and not _PART.search(first) and not _CHANGE.search(name)


_WRAPPER = re.compile(r"(?:module|model|_orig_mod|auto_model|base_model|0)\.")
_WRAPPED = re.compile(rf"^(?:{_WRAPPER.pattern})+")
# What the first part of a name is called that may be of the encoder itself; and what anywhere in a name means that weights are changed by others
_PART = re.compile(
    r"norm|ln_|layer|block|embed|encod|transformer|attention|attn|position|token_type|relative|rotary|prefix|prompt|mlp|ffn|pooler",
    re.I,
)
_CHANGE = re.compile(r"lora|adapter|adapt_|delta|parametrizations|ia3|weight_g$|weight_v$|_mask$|weight_orig$", re.I)


def _unscaled(name: str) -> str:
    """The name of the tensor that a tensor's scales belong to; of any other tensor its own."""
    from weights_map.eightbit import SUFFIX

    return name.removesuffix(SUFFIX)


def _has(config: EncoderConfig, name: str) -> bool:
    """Whether a model with this config has a parameter that its family's map has a rule for."""
    *module, leaf = name.split(".")
    if module[:2] == ["embed", "project"]:
        return config.project
    if module == ["embed", "segment"]:
        return config.segments > 0
    if module == ["embed", "position"]:
        return config.position_table
    if module == ["embed", "task"]:
        return config.task_types > 0
    if module == ["distance"]:
        return bool(config.relative_buckets and config.layers)
    if module[0] == "relative":
        return config.relative is not None and bool(config.layers) and (module[1] == "table" or config.relative.norm)
    if module[0] == "convolution":
        return config.convolution is not None
    if module[-1] == "attn_norm" and not config.blocks[tuple(map(int, module[1:-1]))].attn_norm:
        return False
    if leaf == "bias":
        if module[-1].endswith("norm"):
            return config.norm_bias
        if module[-2:] == ["mlp", "down"] and config.down_bias is not None:
            return config.down_bias
        return {"attn": config.attention_bias, "mlp": config.mlp_bias}.get(module[-2], True)
    return True


def family(name: str) -> Family:
    """The family called ``name`` (a ``model_type``).

    Raises:
        RefusedError: no such family here; the message names the nearest one.
    """
    if name not in FAMILIES:
        raise RefusedError(_unknown(name))
    module = importlib.import_module(f"nativebert.arch.{FAMILIES[name]}")
    known: list[Family] = module.FAMILIES
    return next(each for each in known if each.name == name)


def families() -> list[Family]:
    """All supported families."""
    return [family(name) for name in FAMILIES]


def _unknown(name: str) -> str:
    """Error text for an unsupported family: the known differences, the nearest supported family, and what to do."""
    what = OTHERS.get(name) or OTHERS.get(name.replace("_", "-"))
    why = f": {what}" if what else ""
    near = NEAREST.get(name) or next(iter(difflib.get_close_matches(name, FAMILIES, n=1, cutoff=0.5)), "")
    if what and name not in NEAREST:
        near = ""  # a decoder that is spelled like an encoder is not near it
    hint = f" The nearest one it knows is {near!r}." if near else ""
    todo = (
        "Run this checkpoint with transformers."
        if what
        else "If the checkpoint is one of these under another name, set model_type in its config.json; "
        "else run it with transformers, or add the family (docs/adding-a-family.md)."
    )
    return f"nativebert does not know the model family {name!r}{why}.{hint} It knows: {', '.join(sorted(FAMILIES))}. {todo}"


def family_name(hf: Mapping[str, Any]) -> Any:
    """The family of a config.json: its ``model_type``, but for two that call themselves otherwise."""
    name = hf.get("model_type")
    return _OWN_NAMES.get((name, str(hf.get("position_embedding_type"))), name) if isinstance(name, str) else name


# (model_type, position_embedding_type) -> family
_OWN_NAMES = {("bert", "alibi"): "jina_bert", ("xlm-roberta", "rotary"): "jina_embeddings_v3"}


def read_config(hf: Mapping[str, Any]) -> tuple[Family, EncoderConfig]:
    """Translate a parsed config.json.

    Raises:
        CorruptError: ``model_type`` is absent or not a string, or a value has a wrong type or size.
        RefusedError: the family is unknown, or the config asks for something that nativebert does not compute.
    """
    name = hf.get("model_type")
    if not isinstance(name, str):
        raise CorruptError(
            f"config.json has no usable 'model_type' (it is {name!r}), so the family is unknown. Known: {', '.join(sorted(FAMILIES))}."
        )
    known = family(family_name(hf))
    return known, check_sizes(known.config(hf))
