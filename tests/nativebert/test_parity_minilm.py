"""The real checkpoint, all-MiniLM-L6-v2, against transformers and sentence-transformers: full tensors."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from models import WORDS, minilm

import nativebert as nb
from nativebert.engine import prepare
from nativebert.errors import Truncated
from nativebert.nn.model import Model
from nativebert.nn.packed import Packed
from nativebert.parity.compare import compare, run

pytestmark = pytest.mark.reference


@pytest.fixture(scope="module")
def model() -> Model:
    return nb.load(minilm())


@pytest.fixture(scope="module")
def references() -> tuple[Any, Any]:
    """transformers' model in float32 and in float64."""
    from transformers import AutoModel

    make = lambda dtype: AutoModel.from_pretrained(minilm(), attn_implementation="eager", dtype=dtype).eval()  # noqa: E731
    return make(torch.float32), make(torch.float64)


# Words of a text, [CLS] and [SEP] not counted: about vector widths and powers of two, the Embedder's limit of 256 tokens, the model's of 512.
LENGTHS = (0, 1, 2, 3, 5, 8, 13, 14, 15, 16, 21, 30, 31, 34, 46, 60, 90, 126, 180, 254, 255, 400, 510, 640)


def corpus() -> list[str]:
    """A text of each of 24 lengths, from none to beyond the 512 tokens that the model takes."""
    r = random.Random(1)
    return [" ".join(r.choices(WORDS, k=n)) for n in LENGTHS]


def encode(model: Model, some: list[str], pairs: bool = False) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    encodings = model.tokenizer.encode_batch([(t, t[::-1]) for t in some] if pairs else some)
    longest = min(512, max(len(e.ids) for e in encodings))
    ids, mask, kinds = (torch.zeros(len(some), longest, dtype=torch.long) for _ in range(3))
    for row, e in enumerate(encodings):
        n = min(len(e.ids), longest)
        ids[row, :n], mask[row, :n], kinds[row, :n] = torch.tensor(e.ids[:n]), 1, torch.tensor(e.type_ids[:n])
    return ids, mask, kinds


@pytest.mark.parametrize("pairs", [False, True], ids=["single", "segments"])
def test_every_state_and_attention_in_padded_batches(model: Model, references: tuple[Any, Any], pairs: bool) -> None:
    some = sorted(corpus(), key=len)
    short = len([text for text in some if len(text) < 300])
    # few long ones at a time: the attention maps of 12 texts of 512 tokens take gigabytes in float64
    cuts = [*range(0, short, 12), *range(short, len(some), 2), len(some)]
    for start, end in pairwise(cuts):
        ids, mask, kinds = encode(model, some[start:end], pairs)
        fp32, fp64 = (run(r, ids, mask, kinds) for r in references)
        verdict = compare(run(model, ids, mask, kinds), fp64, fp32)
        assert verdict.passed, verdict
        assert len(verdict.steps) == 1 + 2 * 6 + 1


def test_alone_and_without_attention_weights(model: Model, references: tuple[Any, Any]) -> None:
    for text in corpus()[::3]:
        ids, _, _ = encode(model, [text])
        truth = references[1](ids).last_hidden_state
        with torch.no_grad():
            assert (model(ids).last_hidden_state - truth).abs().max() <= 1e-5


def test_the_cpu_plan_is_the_reference_model(model: Model, references: tuple[Any, Any]) -> None:
    rows = [e.ids[:512] for e in model.tokenizer.encode_batch(corpus())]
    batch = Packed.of(rows)
    hidden = prepare(model, "cpu").hidden(batch)
    with torch.no_grad():
        assert (hidden - model.encode(batch).hidden).abs().max() <= 1e-5
    start = 0
    for row in rows:
        truth = references[1](torch.tensor([row])).last_hidden_state[0]
        assert (hidden[start : start + len(row)] - truth).abs().max() <= 1e-5
        start += len(row)


def test_embeddings_equal_sentence_transformers() -> None:
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(str(minilm()), device="cpu")
    some = corpus()
    with pytest.warns(Truncated, match="of 24 texts are longer than 256 tokens"):
        ours = nb.Embedder(minilm(), device="cpu")(some)
    assert np.abs(ours - theirs.encode(some, batch_size=16)).max() <= 1e-6
    assert (
        np.abs(nb.Embedder(minilm(), device="cpu").similarity(ours[:9]) - theirs.similarity(ours[:9], ours[:9]).numpy()).max()
        <= 1e-6
    )


def test_gradients_equal_transformers(model: Model, references: tuple[Any, Any]) -> None:
    ids, mask, _ = encode(model, corpus()[6:12])
    reference, target = (
        references[0],
        torch.randn(6, ids.shape[1], 384, generator=torch.Generator().manual_seed(0)) * mask[..., None],
    )
    ledger = model.ledger
    assert ledger is not None
    for m in (model, reference):
        m.zero_grad()
        (m(input_ids=ids, attention_mask=mask).last_hidden_state * target).sum().backward()
    theirs = dict(reference.named_parameters())
    compared = 0
    for row in ledger.rows:
        if row.status == "loaded" and not row.targets[0].startswith("pool."):
            ours, other = model.get_parameter(row.targets[0]).grad, theirs[row.sources[0]].grad
            assert ours is not None
            # keys' biases do not matter to a softmax: their gradient is rounding noise around zero
            scale = other.abs().max() if not row.targets[0].endswith("attn.k.bias") else other.new_tensor(100.0)
            assert (ours - other).abs().max() <= 1e-5 * scale, row.targets[0]
            compared += 1
    assert compared == 101
    model.zero_grad()
