"""``SentenceTransformerTrainer`` and ``fit`` beside sentence-transformers'."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models import minilm
from torch.utils.data import DataLoader

from nativebert import hf
from nativebert.errors import BadInputError, RefusedError
from nativebert.hf.evaluation import BinaryClassificationEvaluator, EmbeddingSimilarityEvaluator, TripletEvaluator
from nativebert.hf.sentence_trainer import NoDuplicatesBatchSampler
from nativebert.train.parameters import set_dropout

PAIRS = [
    ("A plane is taking off.", "An air plane takes off."), ("A man plays a flute.", "Somebody makes music."),
    ("It rains.", "The weather is wet."), ("A cat sleeps on the car.", "The stock market fell on Monday."),
]  # fmt: skip
ROWS = [{"sentence1": a, "sentence2": f"{b} {n}", "score": (n % 5) / 4} for n in range(8) for a, b in PAIRS]
QUICK: dict[str, Any] = {
    "max_steps": 4, "per_device_train_batch_size": 8, "logging_steps": 1, "report_to": "none", "save_strategy": "no", "use_cpu": True,
    "disable_tqdm": True, "learning_rate": 2e-5,
}  # fmt: skip


def model(dropout: bool = False) -> Any:
    made = hf.SentenceTransformer(str(minilm()), device="cpu")
    if not dropout:
        set_dropout(made.trainable(), 0.0)
    return made


def trained(output: Path, loss: Any, rows: Any = ROWS, **more: Any) -> tuple[Any, Any]:
    made = more.pop("model", None) or model()
    args = hf.SentenceTransformerTrainingArguments(str(output), **QUICK)
    trainer = hf.SentenceTransformerTrainer(model=made, args=args, train_dataset=rows, loss=loss(made), **more)
    trainer.train()
    return trainer, made


def losses(trainer: Any) -> list[float]:
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


@pytest.mark.reference
@pytest.mark.parametrize("name", ["CoSENTLoss", "CosineSimilarityLoss", "MultipleNegativesRankingLoss"])
def test_the_losses_are_the_references(name: str, tmp_path: Path) -> None:
    import sentence_transformers as st
    from datasets import Dataset

    rows = [dict(row) for row in ROWS]
    if name == "MultipleNegativesRankingLoss":
        rows = [{key: value for key, value in row.items() if key != "score"} for row in rows]
    data = Dataset.from_list(rows)
    theirs = st.SentenceTransformer(str(minilm()), device="cpu")
    for module in theirs.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    loss = getattr(st.sentence_transformer.losses, name)(theirs)
    args = st.SentenceTransformerTrainingArguments(output_dir=str(tmp_path / "theirs"), **QUICK)
    reference = st.SentenceTransformerTrainer(model=theirs, args=args, train_dataset=data, loss=loss)
    reference.train()
    trainer, ours = trained(tmp_path / "ours", getattr(hf.losses, name), data)
    assert losses(trainer) == pytest.approx(losses(reference), abs=1e-4)
    texts = [row["sentence1"] for row in ROWS[:4]]
    np.testing.assert_allclose(ours.encode(texts), theirs.encode(texts), atol=1e-5)
    ours.save_pretrained(tmp_path / "saved")
    again = st.SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    np.testing.assert_allclose(again.encode(texts), ours.encode(texts), atol=1e-6)


@pytest.mark.reference
@pytest.mark.parametrize("seed", [0, 7])
def test_batches_without_duplicates_are_the_references(seed: int) -> None:
    from datasets import Dataset
    from sentence_transformers.base.sampler import NoDuplicatesBatchSampler as Reference

    random = np.random.default_rng(seed)
    rows = [{"anchor": f"a {random.integers(9)}", "positive": f"b {random.integers(40)}", "label": n} for n in range(60)]
    texts = [frozenset((row["anchor"], row["positive"])) for row in rows]
    generator = torch.Generator()
    theirs = Reference(Dataset.from_list(rows), 8, False, ["label"], generator, seed)
    ours = NoDuplicatesBatchSampler(texts, 8, False, seed)
    for epoch in (0, 1):
        theirs.set_epoch(epoch)
        ours.set_epoch(epoch)
        batches = list(ours)
        assert batches == list(theirs)
        assert all(len(frozenset().union(*(texts[n] for n in batch))) == 2 * len(batch) for batch in batches)


def test_texts_too_few_for_a_batch() -> None:
    texts = [frozenset(("a", "b"))] * 10
    assert [len(batch) for batch in NoDuplicatesBatchSampler(texts, 4, False, 0)] == [1] * 10
    with pytest.raises(BadInputError, match="too few different texts"):
        list(NoDuplicatesBatchSampler(texts, 4, True, 0))


def test_training_without_duplicates(tmp_path: Path) -> None:
    args = hf.SentenceTransformerTrainingArguments(str(tmp_path), **QUICK, batch_sampler=hf.BatchSamplers.NO_DUPLICATES)
    made, rows = model(), [{"anchor": a, "positive": f"{b} {n}"} for n in range(8) for a, b in PAIRS]
    trainer = hf.SentenceTransformerTrainer(made, args, rows, loss=hf.losses.MultipleNegativesRankingLoss(made))
    assert all(
        len({row["anchor"] for row in (rows[n] for n in batch)}) == 4 for batch in trainer.get_train_dataloader().batch_sampler
    )
    trainer.train()
    assert len(losses(trainer)) == 4


def test_a_cached_loss_is_that_of_the_whole_batch(tmp_path: Path) -> None:
    rows = [{"anchor": a, "positive": f"{b} {n}"} for n in range(4) for a, b in PAIRS]
    whole, _ = trained(tmp_path / "a", hf.losses.MultipleNegativesRankingLoss, rows)
    parts, _ = trained(tmp_path / "b", lambda m: hf.losses.CachedMultipleNegativesRankingLoss(m, mini_batch_size=3), rows)
    assert losses(parts) == pytest.approx(losses(whole), abs=1e-4)


def test_evaluators(tmp_path: Path) -> None:
    first, second = [a for a, _ in PAIRS], [b for _, b in PAIRS]
    made = model(dropout=True)
    before = made.encode(first)
    similar = EmbeddingSimilarityEvaluator(first, second, [1.0, 0.6, 0.8, 0.0], name="dev")
    trainer, made = trained(tmp_path, hf.losses.CoSENTLoss, model=made, evaluator=similar)
    assert not np.array_equal(made.encode(first), before)
    found = trainer.evaluate()
    assert found["eval_dev_spearman_cosine"] == similar(made)["dev_spearman_cosine"]
    assert similar.primary_metric == "dev_spearman_cosine"
    assert TripletEvaluator(first, first, second)(made) == {"cosine_accuracy": 1.0}
    assert BinaryClassificationEvaluator(first * 2, [*first, *second[::-1]], [1] * 4 + [0] * 4)(made)["cosine_ap"] == 1.0


def test_fit(tmp_path: Path) -> None:
    made = model(dropout=True)
    before = made.encode(["rain"])
    examples = [hf.InputExample(texts=list(pair), label=0.5 + 0.1 * n) for n, pair in enumerate(PAIRS)]
    loader = DataLoader(examples, shuffle=True, batch_size=2)  # type: ignore[arg-type, var-annotated]
    made.fit(
        train_objectives=[(loader, hf.losses.CosineSimilarityLoss(made))], epochs=2, warmup_steps=1, output_path=str(tmp_path),
        show_progress_bar=False,
    )  # fmt: skip
    assert not np.array_equal(made.encode(["rain"]), before)
    np.testing.assert_array_equal(hf.SentenceTransformer(str(tmp_path), device="cpu").encode(["rain"]), made.encode(["rain"]))


def test_what_is_refused(tmp_path: Path) -> None:
    made = model()
    with pytest.raises(RefusedError, match="several datasets"):
        hf.SentenceTransformerTrainer(model=made, train_dataset={"a": ROWS})
    with pytest.raises(BadInputError, match=r"one of nativebert\.hf\.losses"):
        hf.SentenceTransformerTrainer(model=made, train_dataset=ROWS, loss=torch.nn.MSELoss())
    with pytest.raises(BadInputError, match="takes a SentenceTransformer"):
        hf.SentenceTransformerTrainer(model=torch.nn.Linear(1, 1))
    with pytest.raises(RefusedError, match="batch_sampler"):
        hf.SentenceTransformerTrainingArguments(str(tmp_path), batch_sampler="group_by_label")
    with pytest.raises(BadInputError, match="'sentence2' holds something that is not text"):
        trained(tmp_path, hf.losses.CoSENTLoss, [{"sentence1": "a", "sentence2": 3, "score": 0.1}] * 4)
    with pytest.raises(RefusedError, match="one objective"):
        made.fit([])
