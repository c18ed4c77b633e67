"""A user's script with every task, for mypy and pyright in strict mode (`make types`); it is not run."""

# pyright: strict

from typing import assert_type

import numpy as np
import torch
from numpy.typing import NDArray

import nativebert as nb
from nativebert.tasks.results import Answer, Candidate, Entity, Label, Labels, Ranked, Report, Results, Word

texts = ["one text", "another"]

embed = nb.Embedder("sentence-transformers/all-MiniLM-L6-v2", device=torch.device("cpu"), precision=torch.float32)
vectors = embed(texts)
assert_type(vectors, NDArray[np.float32])
assert_type(embed(texts, as_tensor=True), torch.Tensor)
vectors, report = embed(texts, return_report=True)
assert_type(report, Report)
assert_type(embed.similarity(vectors), NDArray[np.float32])
print(embed.tokens(texts)[0]["tokens"], report.tokens.sum())
tensor, _ = embed(texts, as_tensor=True, return_report=True, max_tokens=16, too_long="window")
assert_type(tensor, torch.Tensor)

classify = nb.Classifier("distilbert-base-uncased-finetuned-sst-2-english", precision="int8")
assert_type(classify(texts), Results[Label])
assert_type(classify(texts, top_k=None), Results[list[Label]])
assert_type(classify(texts, threshold=0.5), Results[list[Label]])
for result in classify(texts):
    print(result["label"].lower(), result["score"] * 100)
assert_type(classify.scores(texts), NDArray[np.float32])

assert_type(nb.Tagger("dslim/bert-base-NER")(texts), Results[list[Entity]])
assert_type(nb.Tagger("dslim/bert-base-NER").words([["one", "word"]]), Results[list[Word]])
assert_type(nb.Answerer("deepset/bert")("who?", texts), Results[Answer])
assert_type(nb.Answerer("deepset/bert")("who?", texts, top_k=3), Results[list[Answer]])
assert_type(nb.MaskFiller("bert-base-uncased")("a [MASK]"), Results[list[list[Candidate]]])
ranker = nb.Ranker("cross-encoder/ms-marco-MiniLM-L6-v2")
assert_type(ranker([("a", "b")]), NDArray[np.float32])
assert_type(ranker.rank("query", texts, top_k=1), list[Ranked])
assert_type(nb.ZeroShot("bert-nli")(texts, ["a", "b"]), Results[Labels])

hits = nb.semantic_search(vectors, vectors, top_k=2)
pairs = nb.paraphrase_mining(vectors)
model = nb.load("bert-base-uncased")
tuned = nb.train.classify({"text": texts, "label": ["a", "b"]}, model="bert-base-uncased", output="out", epochs=1)
print(hits, pairs, model.config.width, tuned.metrics["accuracy"], nb.Tokenizer.from_folder("folder").ids_batch(["text"]).ids)
