"""Short programs as sentence-transformers' documentation of training has them, run as they are and with other import lines: the same losses."""

from __future__ import annotations

import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models import minilm, one_thread

pytestmark = [pytest.mark.reference, pytest.mark.slow]

PAIRS = [
    ("A plane is taking off.", "An air plane takes off.", "A dog barks."), ("A man plays a flute.", "Somebody makes music.", "It is late."),
    ("It rains.", "The weather is wet.", "The train is full."), ("A cat sleeps.", "The animal is at rest.", "Prices fall."),
    ("Where is my card?", "I lost my card.", "The sun is warm."), ("The film is long.", "It is a long movie.", "He eats bread."),
]  # fmt: skip
ROWS = [(a, f"{b} {n}", f"{c} {n}", round((n % 5) / 4, 2)) for n in range(4) for a, b, c in PAIRS]

DATA = """
from datasets import Dataset

pairs = Dataset.from_dict({"anchor": [r[0] for r in rows], "positive": [r[1] for r in rows]})
triplets = Dataset.from_dict({"anchor": [r[0] for r in rows], "positive": [r[1] for r in rows], "negative": [r[2] for r in rows]})
scored = Dataset.from_dict({"sentence1": [r[0] for r in rows], "sentence2": [r[1] for r in rows], "score": [r[3] for r in rows]})
"""

SNIPPETS = {
    "the overview: many negatives, arguments, an evaluator": """
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
    SentenceTransformerModelCardData,
)
from sentence_transformers.losses import MultipleNegativesRankingLoss
from sentence_transformers.training_args import BatchSamplers
from sentence_transformers.evaluation import TripletEvaluator

model = SentenceTransformer(
    name,
    model_card_data=SentenceTransformerModelCardData(language="en", license="apache-2.0", model_name="MiniLM trained on NLI triplets"),
)
without_dropout(model)
train_dataset = triplets
eval_dataset = triplets.select(range(8))
loss = MultipleNegativesRankingLoss(model)
args = SentenceTransformerTrainingArguments(
    output_dir=output,
    num_train_epochs=1,
    per_device_train_batch_size=4,
    per_device_eval_batch_size=4,
    warmup_steps=0.1,
    fp16=False,
    bf16=False,
    batch_sampler=BatchSamplers.NO_DUPLICATES,
    eval_strategy="steps",
    eval_steps=3,
    save_strategy="steps",
    save_steps=3,
    save_total_limit=2,
    logging_steps=1,
    report_to="none",
    use_cpu=True,
)
dev_evaluator = TripletEvaluator(
    anchors=eval_dataset["anchor"],
    positives=eval_dataset["positive"],
    negatives=eval_dataset["negative"],
    name="all-nli-dev",
)
dev_evaluator(model)
trainer = SentenceTransformerTrainer(
    model=model,
    args=args,
    train_dataset=train_dataset,
    eval_dataset=eval_dataset,
    loss=loss,
    evaluator=dev_evaluator,
)
trainer.train()
model.save_pretrained(saved)
""",
    "similarity: CoSENT and a correlation": """
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.evaluation import EmbeddingSimilarityEvaluator, SimilarityFunction
from sentence_transformers.losses import CoSENTLoss

model = SentenceTransformer(name)
without_dropout(model)
dev_evaluator = EmbeddingSimilarityEvaluator(
    sentences1=scored["sentence1"],
    sentences2=scored["sentence2"],
    scores=scored["score"],
    main_similarity=SimilarityFunction.COSINE,
    name="sts-dev",
)
args = SentenceTransformerTrainingArguments(output, max_steps=5, per_device_train_batch_size=8, logging_steps=1, report_to="none", use_cpu=True)
trainer = SentenceTransformerTrainer(
    model=model, args=args, train_dataset=scored, eval_dataset=scored, loss=CoSENTLoss(model), evaluator=dev_evaluator
)
trainer.train()
model.save_pretrained(saved)
""",
    "the shortest one": """
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
from sentence_transformers.losses import MultipleNegativesRankingLoss

model = SentenceTransformer(name)
without_dropout(model)
loss = MultipleNegativesRankingLoss(model)
trainer = SentenceTransformerTrainer(model=model, train_dataset=pairs, loss=loss)
trainer.args.max_steps = 2
trainer.train()
model.save_pretrained(saved)
""",
    "Matryoshka": """
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.losses import CoSENTLoss, MatryoshkaLoss

model = SentenceTransformer(name)
without_dropout(model)
base_loss = CoSENTLoss(model=model)
loss = MatryoshkaLoss(model=model, loss=base_loss, matryoshka_dims=[384, 256, 128, 64])
args = SentenceTransformerTrainingArguments(output, max_steps=4, per_device_train_batch_size=8, logging_steps=1, report_to="none", use_cpu=True)
trainer = SentenceTransformerTrainer(model=model, args=args, train_dataset=scored, loss=loss)
trainer.train()
model.save_pretrained(saved)
""",
    "triplets": """
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments, losses

model = SentenceTransformer(name)
without_dropout(model)
loss = losses.TripletLoss(model=model)
args = SentenceTransformerTrainingArguments(output, max_steps=4, per_device_train_batch_size=8, logging_steps=1, report_to="none", use_cpu=True)
trainer = SentenceTransformerTrainer(model=model, args=args, train_dataset=triplets, loss=loss)
trainer.train()
model.save_pretrained(saved)
""",
    "cached gradients for large batches": """
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments, losses

model = SentenceTransformer(name)
without_dropout(model)
loss = losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=4)
args = SentenceTransformerTrainingArguments(output, max_steps=2, per_device_train_batch_size=12, logging_steps=1, report_to="none", use_cpu=True)
trainer = SentenceTransformerTrainer(model=model, args=args, train_dataset=pairs, loss=loss)
trainer.train()
model.save_pretrained(saved)
""",
}


def without_dropout(model: Any) -> None:
    """Each library draws its own."""
    if hasattr(model, "trainable"):
        from nativebert.train.parameters import set_dropout

        set_dropout(model.trainable(), 0.0)
    else:
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0


def run(text: str, folder: Path) -> dict[str, Any]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    names = {
        "rows": ROWS,
        "name": str(minilm()),
        "output": str(folder / "out"),
        "saved": str(folder / "saved"),
        "without_dropout": without_dropout,
    }
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(DATA + text, "snippet", "exec"), names)
    return names


@pytest.mark.parametrize("title", SNIPPETS, ids=lambda title: title.split(":")[0].replace(" ", "_"))
def test_runs_with_other_import_lines(title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets")
    import sentence_transformers

    monkeypatch.chdir(tmp_path)
    text = SNIPPETS[title]
    changed = re.sub(r"^from sentence_transformers", "from nativebert.hf", text, flags=re.M)
    ours, theirs = run(changed, tmp_path / "ours"), run(text, tmp_path / "theirs")

    def losses(names: dict[str, Any]) -> list[float]:
        return [
            line[key]
            for line in names["trainer"].state.log_history
            for key in ("loss", "eval_loss", "train_loss")
            if key in line
        ]

    assert losses(ours)
    assert losses(ours) == pytest.approx(losses(theirs), abs=1e-4)
    texts = [row[0] for row in ROWS[:6]]
    np.testing.assert_allclose(ours["model"].encode(texts), theirs["model"].encode(texts), atol=2e-5)
    again = sentence_transformers.SentenceTransformer(str(tmp_path / "ours" / "saved"), device="cpu")
    np.testing.assert_allclose(again.encode(texts), ours["model"].encode(texts), atol=1e-6)
