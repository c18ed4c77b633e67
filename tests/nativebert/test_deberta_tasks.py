"""What DeBERTa is used for: classes, natural language inference, scores of pairs and tags, on a SentencePiece vocabulary of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from models import VARIANTS, one_thread, unlike

import nativebert as nb

pytestmark = pytest.mark.reference
SPM = Path(__file__).parent / "spm" / "deberta.model"
TEXTS = ["The ferry leaves at nine.", "Deep learning is powerful, says Ada.", "A cat"]


def make(folder: Path, end: str, labels: list[str]) -> tuple[Path, Any]:
    """A tiny model of transformers with a head, and its files."""
    import transformers

    folder.mkdir()
    (folder / "spm.model").write_bytes(SPM.read_bytes())
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "DebertaV2Tokenizer", "do_lower_case": False}))
    (folder / "config.json").write_text(json.dumps({"model_type": "deberta-v2"}))
    size = nb.Tokenizer.from_folder(folder).vocab_size
    config = transformers.DebertaV2Config(
        **VARIANTS["deberta-v2"] | {"vocab_size": size, "max_position_embeddings": 90},
        id2label=dict(enumerate(labels)),
        label2id={label: n for n, label in enumerate(labels)},
    )
    model = unlike(getattr(transformers, f"DebertaV2{end}")(config), 7).eval()
    model.save_pretrained(folder)
    return folder, model


def logits(model: Any, tokenizer: nb.Tokenizer, *items: Any) -> torch.Tensor:
    """Of each text or pair by itself, without padding."""
    rows = []
    with one_thread(), torch.no_grad():
        for item in items:
            encoding = tokenizer.encode_batch([item])[0]
            rows.append(model(torch.tensor([encoding.ids])).logits[0])
    return torch.stack(rows) if rows[0].dim() == 1 else torch.cat(rows)


def test_classifier_and_pairs(tmp_path: Path) -> None:
    folder, model = make(tmp_path / "m", "ForSequenceClassification", ["negative", "positive"])
    classify = nb.Classifier(folder)
    expected = torch.softmax(logits(model, classify.tokenizer, *TEXTS), -1)
    for found, row in zip(classify(TEXTS), expected, strict=True):
        assert found["label"] == ["negative", "positive"][int(row.argmax())]
        assert found["score"] == pytest.approx(float(row.max()), abs=1e-5)


def test_zero_shot(tmp_path: Path) -> None:
    folder, model = make(tmp_path / "m", "ForSequenceClassification", ["entailment", "neutral", "contradiction"])
    zero = nb.ZeroShot(folder)
    labels = ["travel", "animals", "science"]
    found = zero(TEXTS, labels)
    for text, result in zip(TEXTS, found, strict=True):
        pairs = [(text, f"This example is {label}.") for label in labels]
        probabilities = torch.softmax(logits(model, zero.tokenizer, *pairs)[:, 0], 0)
        scores = dict(zip(labels, probabilities.tolist(), strict=True))
        assert result["labels"] == sorted(labels, key=lambda label: -scores[label])
        assert result["scores"] == pytest.approx(sorted(scores.values(), reverse=True), abs=1e-5)


def test_ranker(tmp_path: Path) -> None:
    folder, model = make(tmp_path / "m", "ForSequenceClassification", ["LABEL_0"])
    rank = nb.Ranker(folder)
    pairs = [("when does it leave", text) for text in TEXTS]
    expected = logits(model, rank.tokenizer, *pairs)[:, 0]
    torch.testing.assert_close(torch.as_tensor(rank.logits(pairs)).flatten(), expected, rtol=0, atol=2e-5)
    hits = rank.rank("when does it leave", TEXTS)
    assert [hit["index"] for hit in hits] == expected.argsort(descending=True).tolist()


def test_tagger(tmp_path: Path) -> None:
    folder, model = make(tmp_path / "m", "ForTokenClassification", ["O", "PER", "LOC"])
    tag = nb.Tagger(folder)
    expected = torch.softmax(logits(model, tag.tokenizer, TEXTS[1]), -1)[1:-1]
    ((encoding, found),) = tag.probabilities([TEXTS[1]])
    assert len(encoding.own) == len(found)
    torch.testing.assert_close(torch.as_tensor(found), expected, rtol=0, atol=1e-5)
