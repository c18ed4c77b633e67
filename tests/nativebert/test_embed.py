"""The Embedder: order, batching, limits, windows, reports. What it computes is compared with others in test_parity_minilm.py."""

from __future__ import annotations

import copy
import json
import pickle
import random
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from models import BERT, DISTILBERT, WORDS, minilm, texts, write_folder

import nativebert as nb
from nativebert.config import ACTIVATIONS
from nativebert.engine import prepare
from nativebert.errors import Assumed, BadInputError, RefusedError, TooLongError, Truncated
from nativebert.nn.packed import Packed, Ragged
from nativebert.nn.pool import POOLS, pool
from nativebert.text.batching import batches_by_length, group_ends
from nativebert.text.window import windows

# Where texts are cut on purpose or by the way, the tests that care ask for the warning.
pytestmark = pytest.mark.filterwarnings("ignore::nativebert.errors.Truncated")


@pytest.fixture(scope="module")
def embed() -> nb.Embedder:
    return nb.Embedder(minilm(), device="cpu")


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "tiny", BERT)


def test_bits_do_not_depend_on_order_batch_or_company(embed: nb.Embedder) -> None:
    some = [*texts(150, 40, seed=2), "", "a", "a", " ".join(WORDS * 9)]
    base = embed(some)
    r = random.Random(0)
    for batch_tokens in (1, 7, 64, 500, 4096, 10**6):
        order = r.sample(range(len(some)), len(some))
        again = nb.Embedder(minilm(), device="cpu", batch_tokens=batch_tokens)([some[i] for i in order])
        assert np.array_equal(again, base[order]), batch_tokens
    for i in r.sample(range(len(some)), 25):
        assert np.array_equal(embed([some[i]])[0], base[i])
        company = r.sample(some, r.randint(1, 12))
        assert np.array_equal(embed([*company, some[i]])[-1], base[i])


@pytest.mark.parametrize("config", [BERT, DISTILBERT], ids=["bert", "distilbert"])
@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"])
def test_bits_with_every_pooling(tmp_path: Path, config: dict[str, object], pooling: str) -> None:
    embedder = nb.Embedder(write_folder(tmp_path / "m", config), device="cpu", pooling=pooling, normalize=True)
    some = texts(60, 12, seed=3)
    base = embedder(some)
    assert np.array_equal(embedder(some[::-1])[::-1], base)
    assert all(np.array_equal(embedder([t])[0], v) for t, v in zip(some, base))
    assert np.allclose(np.linalg.norm(base, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("width", "heads"), [(32, 1), (32, 4), (40, 8), (34, 2), (64, 1), (36, 3), (33, 3), (100, 4), (128, 2), (66, 1)]
)
def test_bits_with_every_width_of_heads(tmp_path: Path, width: int, heads: int) -> None:
    config = {**BERT, "hidden_size": width, "num_attention_heads": heads, "intermediate_size": 3 * width}
    embedder = nb.Embedder(write_folder(tmp_path / "m", config), device="cpu", pooling="mean")
    some = texts(80, 11, seed=4)
    base = embedder(some)
    assert np.array_equal(embedder(some[::-1])[::-1], base)
    assert all(np.array_equal(embedder([t])[0], v) for t, v in zip(some, base))


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_bits_and_values_with_every_activation(tmp_path: Path, activation: str) -> None:
    config = {**BERT, "hidden_act": activation, "intermediate_size": 53}
    model = nb.load(write_folder(tmp_path / "m", config))
    plan = prepare(model, "cpu")
    r = random.Random(0)
    rows = [[r.randrange(5, 70) for _ in range(r.randint(1, 25))] for _ in range(60)]
    batch = Packed.of(rows)
    together = plan.hidden(batch)
    with torch.no_grad():
        assert (together - model.encode(batch).hidden).abs().max() <= 1e-5
    assert all(torch.equal(plan.hidden(Packed.of([row])), part) for row, part in zip(rows, together.split(list(batch.lengths))))
    assert torch.equal(torch.cat(plan.hidden(Packed.of(rows[::-1])).split([len(row) for row in rows[::-1]])[::-1]), together)


def test_order_duplicates_and_shapes(embed: nb.Embedder) -> None:
    out = embed(["dog", "cat", "dog"])
    assert out.shape == (3, 384)
    assert out.dtype == np.float32
    assert np.array_equal(out[0], out[2])
    assert embed([]).shape == (0, 384)
    assert embed("dog").shape == (1, 384)
    assert np.array_equal(embed("dog")[0], out[0])
    assert np.array_equal(embed(t for t in ["dog"])[0], out[0])
    assert np.array_equal(embed(np.array(["dog", "cat"])), out[:2])
    tensor = embed(["dog"], as_tensor=True)
    assert isinstance(tensor, torch.Tensor)
    assert np.array_equal(tensor.numpy()[0], out[0])


@pytest.mark.parametrize("wrong", [[None], ["a", 3], [b"a"], [float("nan")], [["a", "b"], "c"], 7])
def test_what_is_no_text_is_refused(embed: nb.Embedder, wrong: object) -> None:
    with pytest.raises(BadInputError):
        embed(wrong)  # type: ignore[arg-type]


def test_the_index_of_a_wrong_text_is_told(embed: nb.Embedder) -> None:
    with pytest.raises(BadInputError, match="text 2 "):
        embed(["a", "b", None])  # type: ignore[list-item]


def test_truncation_is_counted_and_warned_once(embed: nb.Embedder) -> None:
    long = " ".join(["dog"] * 300)
    with pytest.warns(
        Truncated, match=r"2 of 3 texts are longer than 256 tokens and were cut: 92 of 607 tokens \(15\.2%\)"
    ) as caught:
        out, report = embed([long, "cat", long], return_report=True)
    assert len(caught) == 1
    assert report.tokens.tolist() == [256, 3, 256]
    assert report.cut.tolist() == [46, 0, 46]
    assert report.windows.tolist() == [1, 1, 1]
    assert "92 cut off in 2 texts" in str(report)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(embed([" ".join(["dog"] * 254)])[0], out[0])


def test_error_policy(embed: nb.Embedder) -> None:
    strict = nb.Embedder(minilm(), device="cpu", too_long="error", max_tokens=8)
    assert strict(["a short one"]).shape == (1, 384)
    with pytest.raises(TooLongError, match="text 1 has 12 tokens and the limit is 8"):
        strict(["dog", " ".join(["dog"] * 10)])


def test_windows_read_everything() -> None:
    whole = nb.Embedder(minilm(), device="cpu", too_long="window", max_tokens=12, stride=4, normalize=False)
    text = "the cat sat on a mat and a dog ran over it while winter rain fell"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out, report = whole([text, "dog"], return_report=True)
    ids = whole.tokenizer.encode(text).ids
    assert report.tokens.tolist() == [len(ids), 3]
    assert report.cut.tolist() == [0, 0]
    assert report.windows.tolist() == [2, 1]
    parts = [ids[1:11], ids[-11:-1]]  # ten tokens of text in each window
    words = [whole.tokenizer.decode(p) for p in parts]
    by_hand = whole(words).mean(0)  # windows of equal length weigh the same
    assert np.allclose(out[0], by_hand, atol=1e-6)
    assert np.array_equal(whole([text])[0], out[0])


def test_a_prompt_that_is_not_pooled_and_windows(tmp_path: Path) -> None:
    """Only the windows that hold the prompt leave it out."""
    folder = write_folder(tmp_path / "m", BERT)
    module = "sentence_transformers.models."
    parts = [
        {"idx": 0, "name": "0", "path": "", "type": module + "Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": module + "Pooling"},
    ]
    (folder / "modules.json").write_text(json.dumps(parts))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": "mean", "include_prompt": False}))
    model = nb.load(folder)
    embedder = nb.Embedder(folder, device="cpu", too_long="window", max_tokens=10, stride=0)
    text, prompt = "the cat sat on a mat a dog sat on the cat", "a dog "
    ids = model.tokenizer.encode(prompt + text).ids
    content = ids[1:-1]
    spans = windows(len(content), 8, 0)
    assert len(spans) == 2
    with torch.no_grad():
        vectors = []
        for n, w in enumerate(spans):
            hidden = model(torch.tensor([[ids[0], *content[w.start : w.end], ids[-1]]])).last_hidden_state[0]
            vectors.append(hidden[3 if n == 0 else 1 :].mean(0))  # [CLS] and the two tokens of the prompt; then [CLS] alone
    assert np.allclose(embedder([text], prompt=prompt)[0], torch.stack(vectors).mean(0).numpy(), atol=1e-5)
    with pytest.raises(TooLongError, match="the prompt alone takes 10 of 10 tokens"):
        embedder(["cat"], prompt="a dog sat on a mat the cat on ")


def test_a_plan_keeps_its_weights(tiny: Path) -> None:
    model = nb.load(tiny)
    plan, batch = prepare(model, "cpu"), Packed.of([[5, 6, 7]])
    before = plan.hidden(batch)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.startswith("layers."):
                p.mul_(1.5)
    assert torch.equal(plan.hidden(batch), before)


def test_a_model_can_be_copied_and_pickled(tiny: Path) -> None:
    model = nb.load(tiny)
    twin, back = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
    with torch.no_grad():
        model.layers[0].mlp.up.weight.zero_()
    ids = torch.tensor([[2, 5, 3]])
    with torch.no_grad():
        assert torch.equal(twin(ids).last_hidden_state, back(ids).last_hidden_state)
        assert not torch.equal(twin(ids).last_hidden_state, model(ids).last_hidden_state)
    assert twin.ledger is model.ledger
    assert back.ledger is None
    twin.save(tiny.parent / "copy")
    assert (tiny.parent / "copy" / "model.safetensors").read_bytes() == (tiny / "model.safetensors").read_bytes()


def test_saving_what_could_not_be_loaded_is_refused(tiny: Path, tmp_path: Path) -> None:
    model = nb.load(tiny)
    model.embed.token = torch.nn.Embedding(90, 32)
    with pytest.raises(RefusedError, match=r"embed\.token\.weight is \(90, 32\) now and was \(76, 32\)"):
        model.save(tmp_path / "resized")
    nb.load(minilm()).save(tmp_path / "st")
    with pytest.raises(RefusedError, match=r"modules\.json.* of another model"):
        nb.load(tiny).save(tmp_path / "st")


def test_an_empty_batch(tiny: Path) -> None:
    out = nb.load(tiny)(torch.zeros(0, 5, dtype=torch.long), output_hidden_states=True, output_attentions=True)
    assert out.last_hidden_state.shape == (0, 5, 32)


def test_a_model_without_sentence_files_warns(tiny: Path) -> None:
    with pytest.warns(Assumed, match=r"no modules\.json"):
        nb.Embedder(tiny, device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nb.Embedder(tiny, device="cpu", pooling="mean")


def test_mean_pooling_by_hand(tiny: Path) -> None:
    model = nb.load(tiny)
    text = "deep learning is powerful"
    with torch.no_grad():
        hidden = model(torch.tensor([model.tokenizer.encode(text).ids])).last_hidden_state[0]
    assert np.allclose(nb.Embedder(model, device="cpu", pooling="mean")([text])[0], hidden.mean(0).numpy(), atol=1e-6)
    both = nb.Embedder(model, device="cpu", pooling=["cls", "max"])
    assert both.dimension == 64
    assert np.allclose(both([text])[0], torch.cat([hidden[0], hidden.amax(0)]).numpy(), atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"pooling": "median"}, {"pooling": 5}, {"pooling": ()}, {"too_long": "cut"}, {"precision": "int3"}, {"device": "tpu"}, {"max_tokens": 0},
        {"max_tokens": 41}, {"max_tokens": 2}, {"batch_tokens": -1}, {"truncate_dim": 0}, {"truncate_dim": "8"},
    ],
    ids=str,
)  # fmt: skip
def test_wrong_options_say_what_is_right(tiny: Path, options: dict[str, object]) -> None:
    options.setdefault("pooling", "mean")
    with pytest.raises(BadInputError):
        nb.Embedder(tiny, **options)  # type: ignore[arg-type]


def test_reduced_precision_is_close_and_float32(embed: nb.Embedder) -> None:
    some = texts(20, 20)
    half = nb.Embedder(minilm(), device="cpu", precision="bfloat16")(some)
    assert half.dtype == np.float32
    assert 1e-6 < np.abs(half - embed(some)).max() < 2e-2


def test_the_model_is_not_changed_by_preparing(tiny: Path) -> None:
    model = nb.load(tiny)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    nb.Embedder(model, device="cpu", precision="bfloat16", pooling="cls")(["cat"])
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert model.dtype == torch.float32


def test_a_sequence_without_tokens_pools_to_zeros(tiny: Path) -> None:
    model = nb.load(tiny)
    batch = Packed.of([[5, 6], [], [7], []])
    hidden = prepare(model, "cpu").hidden(batch)
    for mode in POOLS:
        pooled = pool(hidden, batch, (mode,))
        assert pooled.shape == (4, 32)
        assert torch.equal(pooled[[1, 3]], torch.zeros(2, 32))
        assert torch.equal(pooled[2], hidden[2])
    assert prepare(model, "cpu").hidden(Packed.of([[]])).shape == (0, 32)


def test_similarity(embed: nb.Embedder) -> None:
    v = embed(["a cat", "a kitten", "the interest rate"])
    s = embed.similarity(v)
    assert s.shape == (3, 3)
    assert np.allclose(np.diag(s), 1, atol=1e-6)
    assert s[0, 1] > s[0, 2]
    assert np.allclose(embed.similarity(v[:1] * 3, v)[0], s[0], atol=1e-6)


@pytest.mark.parametrize("wrong", ["a", ["a"], [[1.0], [1.0, 2.0]], None, np.ones((2, 3)), np.ones((1, 2, 384))])
def test_what_is_not_similar_to_vectors(embed: nb.Embedder, wrong: object) -> None:
    with pytest.raises(BadInputError, match=r"numeric with shape|cannot be compared"):
        embed.similarity(
            np.ones((2, 384), np.float32) if wrong is None else wrong, ["a"] if wrong is None else np.ones((2, 384))
        )  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [{"prompt": 0}, {"prompt_name": ["query"]}, {"prompt_name": "query"}])
def test_wrong_prompts(embed: nb.Embedder, given: dict[str, object]) -> None:
    with pytest.raises(BadInputError, match="prompt"):
        embed("a", **given)


def test_progress_bar_is_shown_when_asked(embed: nb.Embedder, capsys: pytest.CaptureFixture[str]) -> None:
    embed(["a"])
    assert capsys.readouterr().err == ""


def test_plan_covers_every_text_once_within_budget() -> None:
    r = np.random.default_rng(0)
    for budget in (1, 10, 100, 5000):
        lengths = r.integers(0, 200, 300)
        batches = batches_by_length(lengths, budget)
        assert sorted(np.concatenate(batches).tolist()) == list(range(300))
        assert all(len(b) == 1 or lengths[b].sum() <= budget for b in batches)
        flat = lengths[np.concatenate(batches)]
        assert (np.diff(flat) <= 0).all()
    assert batches_by_length(np.array([], np.int64), 5) == []


def test_groups_of_neighbours_are_as_large_as_they_may_be() -> None:
    r = np.random.default_rng(1)
    for n, budget, most in ((0, 5, None), (1, 0, None), (7, 0, 1), (200, 30, None), (200, 30, 4), (200, 10**6, 64)):
        sizes = r.integers(0, 20, n)
        ends, expected, members, total = group_ends(sizes, budget, most), [], 0, 0
        for size in sizes.tolist():
            if members and (members == most or total + size > budget):
                expected.append(sum(expected[-1:]) + members)
                members = total = 0
            members, total = members + 1, total + size
        assert ends == expected + [n] * (n > 0)


def test_rows_of_different_lengths() -> None:
    rows = [[5, 6, 7], [], [8], [9, 10]]
    ragged = Ragged.of(rows)
    assert (len(ragged), ragged.starts.tolist(), ragged.tolist()) == (4, [0, 3, 3, 4], rows)
    for some in ([2], [3, 1, 0], [0, 0, 3], []):
        indices = np.array(some, np.int64)
        assert ragged.take(indices).tolist() == [rows[n] for n in some]
    one = Ragged.of([[5]])
    assert one.take(np.array([0])).tolist() == [[5]]
    for batch, like in zip(
        (Packed.of(ragged, ragged, position_pad_id=6), Packed.of(ragged)),
        (Packed.of(rows, rows, position_pad_id=6), Packed.of(rows)),
    ):
        assert batch.lengths == like.lengths == (3, 0, 1, 2)
        for name in ("ids", "positions", "columns", "segments", "cu_seqlens"):
            ours, theirs = getattr(batch, name), getattr(like, name)
            assert ours is theirs is None or torch.equal(ours, theirs)
    assert Packed.of(rows).columns.tolist() == [0, 1, 2, 0, 0, 1]


def test_windows_own_every_token_once() -> None:
    for tokens in range(60):
        for room in range(1, 12):
            for stride in range(7):
                spans = windows(tokens, room, stride)
                assert [t for w in spans for t in range(w.own_start, w.own_end)] == list(range(tokens))
                assert all(w.start <= w.own_start <= w.own_end <= w.end and w.end - w.start <= room for w in spans)
                assert all(a.end - b.start >= min(stride, room // 2) for a, b in pairwise(spans))
