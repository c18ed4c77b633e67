"""Jina embeddings v3 (Sturua et al. 2024, arXiv:2409.10173): XLM-RoBERTa with rotary positions.

Reference: transformers ``models/jina_embeddings_v3/modeling_jina_embeddings_v3.py``, and for the first release, jinaai/jina-embeddings-v3,
``modeling_lora.py`` of jinaai/xlm-roberta-flash-implementation. The first calls itself xlm-roberta, and has a pair of matrices of low rank for each
task beside each of its matrices (:class:`nativebert.arch.TaskAdapters`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nativebert.arch import Family, TaskAdapters
from nativebert.arch.bert import POOLER
from nativebert.arch.common import bert_map, encoder, layer_of, roberta_like, rotary, rotary_computed
from nativebert.arch.in_memory import PLAIN
from nativebert.arch.roberta import HEADS
from nativebert.config import EncoderConfig, Fields
from nativebert.errors import CorruptError
from weights_map import linear, norm, table, tensor

# fmt: off
#            checkpoint module                       our module                 dims
EMBEDDINGS = [
    table ("embeddings.word_embeddings",            "embed.token",             "V H"),
    table ("embeddings.token_type_embeddings",      "embed.segment",           "S H"),
    norm  ("emb_ln",                                "embed.norm",              "H"),
]
LAYERS = [
    norm  ("encoder.layers.{i}.norm1",              "layers.{i}.attn_norm",    "H"),
    linear("encoder.layers.{i}.mlp.fc1",            "layers.{i}.mlp.up",       "F H"),
    linear("encoder.layers.{i}.mlp.fc2",            "layers.{i}.mlp.down",     "H F"),
    linear("encoder.layers.{i}.mixer.Wqkv",         "layers.{i}.attn.{q,k,v}", "3H H"),
    linear("encoder.layers.{i}.mixer.out_proj",     "layers.{i}.attn.o",       "H H"),
    norm  ("encoder.layers.{i}.norm2",              "layers.{i}.mlp_norm",     "H"),
]
# fmt: on

# The pairs of the N tasks: of a linear layer (N, R, in) and (N, out, R), of a table (N, rows, R) and (N, R, width)
PAIRS = [
    tensor(f"{module}.parametrizations.weight.0.lora_{part}", f"adapters.{module}.{part}", f"N {shape}")
    for rules in [*EMBEDDINGS, *POOLER, *LAYERS]
    for rule in rules
    if len(rule.dims) == 2
    for module, (rows, columns) in [(rule.sources[0].text.removesuffix(".weight"), rule.dims)]
    for part, shape in zip("AB", (f"{rows} R", f"R {columns}") if rules in EMBEDDINGS else (f"R {columns}", f"{rows} R"))
]

MAP = bert_map(
    "jina_embeddings_v3",
    EMBEDDINGS + POOLER + LAYERS + PAIRS,
    HEADS,
    prefixes=("roberta.", ""),
    spellings={"parametrizations.weight.original": "weight"},
    carried=["pool.*", "head.*", "adapters.*"],
)

DEFAULTS = {
    "vocab_size": 250002, "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
    "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 8194,
    "type_vocab_size": 1, "layer_norm_eps": 1e-5, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "use_cache": True,
    "classifier_dropout": None, "rope_parameters": None,
}  # fmt: skip


def config(f: Fields) -> EncoderConfig:
    """Translate a config.json. Raises CorruptError or RefusedError (see :class:`nativebert.config.Fields`)."""
    adapters(f.data)
    f.require_value("position_embedding_type", "rotary", why="positions are learned, or enter the attention as distances")
    f.require_value("rotary_emb_interleaved", False, why="rotary positions turn neighbouring numbers, not halves")
    f.require_value("rotary_emb_scale_base", why="rotary positions are scaled by distance")
    f.require_value("truncate_dim", why="vectors are cut; pass truncate_dim= to the Embedder of a copy that does not say so")
    if "rotary_emb_base" in f.data:
        f = f.renamed({"rotary_emb_base": "rope_theta"}, {})
    theta, scale, positions = rotary(f, 20_000.0)
    heads = roberta_like(f)
    return encoder(
        f,
        layer_of(f, rope_theta=theta, rope_scale=scale),
        positions=positions,
        segments=f.integer("type_vocab_size", low=0),
        position_table=False,
        heads={task: heads[task] for task in ("lm", "classify", "tag", "answer")},
        harmless=THEIRS,
    )


# Keys of the first release that change nothing, or that TaskAdapters have
THEIRS = """lora_adaptations lora_alpha lora_rank lora_dropout_p lora_main_params_trainable load_trained_adapters task_instructions emb_pooler
matryoshka_dimensions use_flash_attn use_reentrant fused_bias_fc fused_dropout_add_ln fused_mlp""".split()


def adapters(hf: Mapping[str, Any]) -> TaskAdapters | None:
    """The adapters that a config.json speaks of. Raises CorruptError."""
    f = Fields(hf, "jina_embeddings_v3", {"lora_alpha": 1, "lora_rank": 4})
    names, prompts = f.listed("lora_adaptations", []), f.section("task_instructions")
    if not names:
        return None
    if len(set(names)) < len(names) or any(not isinstance(prompts.get(name, ""), str) for name in names):
        raise CorruptError(
            "config.json (jina_embeddings_v3): lora_adaptations must be names, and task_instructions a text for each"
        )
    rank = f.integer("lora_rank")
    rope = {"rope_theta": f.number("rotary_emb_base", 20_000.0, low=1e-3), "rope_type": "default"}
    plain = {
        key: value
        for key, value in hf.items()
        if key not in (*THEIRS, "auto_map", "rotary_emb_base", "position_embedding_type")
    }
    plain |= {"model_type": "jina_embeddings_v3", "architectures": ["JinaEmbeddingsV3Model"], "rope_parameters": rope}
    return TaskAdapters(tuple(names), f.number("lora_alpha", low=-1e30) / rank, rank, prompts, plain)


def computed(values: Mapping[str, Any], config: EncoderConfig) -> dict[str, Any]:
    """``rope_parameters``, which transformers' config has in any case."""
    return rotary_computed(values, 20_000.0)


FAMILIES = [
    Family(
        "jina_embeddings_v3",
        "JinaEmbeddingsV3",
        MAP,
        config,
        DEFAULTS,
        computed=computed,
        in_memory=PLAIN,
        adapters=adapters,
        lacks=("ForMultipleChoice",),
        output="BaseModelOutputWithPooling",
        tokenizer="XLMRobertaTokenizer",
        heads_first=True,
    )
]
