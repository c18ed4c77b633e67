"""ERNIE 2.0 and 3.0 (Sun et al. 2019, arXiv:1907.12412; 2021, arXiv:2107.02137). Reference: transformers ``models/ernie/modeling_ernie.py``.

BERT with a table of task types beside the other embeddings (``use_task_id``); every token is of task 0, as transformers assumes.
"""

from __future__ import annotations

from dataclasses import replace

from nativebert.arch import bert
from nativebert.arch.bert import EMBEDDINGS, LAYERS, POOLER
from nativebert.arch.common import bert_map
from nativebert.config import EncoderConfig, Fields
from weights_map import table

MAP = bert_map(
    "ernie",
    [*EMBEDDINGS, table("embeddings.task_type_embeddings", "embed.task", "Y E"), *LAYERS, *POOLER],
    bert.HEADS,
)


def config(f: Fields) -> EncoderConfig:
    """Translate an ERNIE config.json. Raises CorruptError or RefusedError (see :class:`nativebert.config.Fields`)."""
    rows, used = f.integer("task_type_vocab_size"), f.boolean("use_task_id")
    return replace(bert.config(f), task_types=rows if used else 0)


DEFAULTS = bert.DEFAULTS | {"task_type_vocab_size": 3, "use_task_id": False}
FAMILIES = [replace(bert.BERT, name="ernie", stem="Ernie", map=MAP, translate=config, defaults=DEFAULTS)]
