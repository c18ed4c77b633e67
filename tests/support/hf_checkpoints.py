"""Tiny task models for nativebert.hf: made and saved by transformers, with the vocabulary of MiniLM."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from models import minilm, unlike

_SIZES: dict[str, Any] = {
    "vocab_size": 30522, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": 128,
}  # fmt: skip
_DISTIL: dict[str, Any] = {
    "vocab_size": 30522, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": 128,
}  # fmt: skip
_TAGS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")
# Name -> class of transformers, config, labels.
KINDS: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "sentiment": ("DistilBertForSequenceClassification", _DISTIL, ("NEGATIVE", "POSITIVE")),
    "emotions": ("BertForSequenceClassification", _SIZES, ("joy", "anger", "fear", "love", "sadness", "surprise")),
    "toxic": ("BertForSequenceClassification", _SIZES | {"problem_type": "multi_label_classification"}, ("toxic", "insult", "threat")),
    "score": ("BertForSequenceClassification", _SIZES | {"problem_type": "regression"}, ("LABEL_0",)),
    "nli": ("BertForSequenceClassification", _SIZES, ("contradiction", "neutral", "entailment")),
    "cross": ("BertForSequenceClassification", _SIZES, ("LABEL_0",)),
    "ner": ("BertForTokenClassification", _SIZES, _TAGS),
    "qa": ("DistilBertForQuestionAnswering", _DISTIL, ("LABEL_0", "LABEL_1")),
    "mlm": ("BertForMaskedLM", _SIZES, ("LABEL_0", "LABEL_1")),
    "bert": ("BertModel", _SIZES, ("LABEL_0", "LABEL_1")),
    "distilbert": ("DistilBertModel", _DISTIL, ("LABEL_0", "LABEL_1")),
    "choice": ("BertForMultipleChoice", _SIZES, ("LABEL_0", "LABEL_1")),
    "nsp": ("BertForNextSentencePrediction", _SIZES, ("LABEL_0", "LABEL_1")),
}  # fmt: skip


def make(root: Path, limit: int = 128) -> dict[str, str]:
    """Write a folder for each of :data:`KINDS`; name -> folder. ``"minilm"`` is the real one."""
    import transformers

    folders = {"minilm": str(minilm())}
    for seed, (name, (kind, sizes, labels)) in enumerate(KINDS.items()):
        cls = getattr(transformers, kind)
        config = cls.config_class(
            **sizes, id2label=dict(enumerate(labels)), label2id={label: n for n, label in enumerate(labels)}
        )
        folder = root / name
        # with these weights tokens get six of the seven tags
        made = unlike(cls(config), 28 if name == "ner" else seed)
        made.save_pretrained(folder)
        for file in ("tokenizer.json", "vocab.txt", "special_tokens_map.json"):
            shutil.copyfile(minilm() / file, folder / file)
        settings = json.loads((minilm() / "tokenizer_config.json").read_text("utf-8")) | {"model_max_length": limit}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
        folders[name] = str(folder)
    return folders
