"""Jina embeddings v3, in the form that transformers has (Sturua et al. 2024, arXiv:2409.10173).

Reference: transformers ``models/jina_embeddings_v3/modeling_jina_embeddings_v3.py``. XLM-RoBERTa with rotary positions. The adapters for tasks (LoRA) of the
first release are not in these files; its own files, which have them, are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nativebert.arch import Family
from nativebert.arch.bert import POOLER
from nativebert.arch.common import bert_map, encoder, layer_of, roberta_like, rotary, rotary_computed
from nativebert.arch.roberta import HEADS
from nativebert.config import EncoderConfig, Fields
from weights_map import linear, norm, table

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

MAP = bert_map(
    "jina_embeddings_v3",
    EMBEDDINGS + POOLER + LAYERS,
    HEADS,
    prefixes=("roberta.", ""),
)

DEFAULTS = {
    "vocab_size": 250002, "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
    "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 8194,
    "type_vocab_size": 1, "layer_norm_eps": 1e-5, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "use_cache": True,
    "classifier_dropout": None, "rope_parameters": None,
}  # fmt: skip


def config(f: Fields) -> EncoderConfig:
    """Translate a config.json. Raises CorruptError or RefusedError (see :class:`nativebert.config.Fields`)."""
    f.require_value(
        "lora_adaptations", [], why="it has an adapter for each task, which is another model; use jinaai/jina-embeddings-v3-hf"
    )
    theta, scale, positions = rotary(f, 20_000.0)
    heads = roberta_like(f)
    return encoder(
        f,
        layer_of(f, rope_theta=theta, rope_scale=scale),
        positions=positions,
        segments=f.integer("type_vocab_size", low=0),
        position_table=False,
        heads={task: heads[task] for task in ("lm", "classify", "tag", "answer")},
    )


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
        lacks=("ForMultipleChoice",),
        output="BaseModelOutputWithPooling",
        tokenizer="XLMRobertaTokenizer",
        heads_first=True,
    )
]
