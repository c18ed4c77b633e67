"""The code for accelerators on a simulated one: every tensor is on the right device, and the results are those of the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_device import simulate
from families import EVERY, Batch, Made, write
from hf_checkpoints import make
from models import one_thread

import nativebert as nb
from nativebert import bench, cli, hf
from nativebert.engine import prepare
from nativebert.nn.packed import Packed
from nativebert.pictures.attention import attention
from nativebert.saliency import saliency

Models = dict[str, str]  # name -> folder
DEVICES = ["cuda:1", "mps:0"]
pytestmark = pytest.mark.filterwarnings("ignore::nativebert.errors.Slower")  # a card that is not there has no kernels


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def test_the_simulated_device_is_as_strict_as_a_real_one() -> None:
    with simulate("cuda:0"):
        here, there = torch.ones(4), torch.arange(4.0, device="cuda")
        assert there.device == torch.device("cuda:0")
        for wrong in (
            lambda: here + there,
            lambda: torch.cat([there, here]),
            lambda: there[here.long()].index_put_((there.long(),), here),
            lambda: here[there.long()],
            lambda: torch.zeros(4).index_copy(0, there.long(), here),
        ):
            with pytest.raises(RuntimeError, match="same device"):
                wrong()
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()
        assert torch.equal((there * 2 + here.to(there.device))[torch.tensor([3])].cpu(), torch.tensor([7.0]))
    with simulate("mps:0"), pytest.raises(TypeError, match="float64"):
        torch.ones(3, device="mps").double()


@pytest.mark.reference
@pytest.mark.parametrize("made", EVERY, ids=str)
def test_every_family_with_every_head(made: Made, tmp_path: Path) -> None:
    write(made.model(), tmp_path / "m", "float32")
    batch = Batch.of(made)
    given = batch.given(2 if made.tasks == ("choose",) else 0)
    sequences = [[5, 6, 7], [5, 6, 7, 8, 9], [9, 8, 7, 6, 5]]
    near = nb.load(tmp_path / "m", device="cpu")
    with torch.no_grad():
        a = near(**given, output_hidden_states=True, output_attentions=True)
    packed = Packed.of(sequences, position_pad_id=near.config.position_pad_id)
    states = prepare(near, "cpu").states(packed)
    # mps differs from cuda only in float64, which no head computes: one head of each family is enough
    for device in DEVICES if (made.variant, made.end) == (made.family, "ForSequenceClassification") else DEVICES[:1]:
        with simulate(device), torch.no_grad():
            model = nb.load(tmp_path / "m", device=device)
            assert str(model.device) == device
            b = model(**given, output_hidden_states=True, output_attentions=True)
            pairs = [
                (a.last_hidden_state, b.last_hidden_state),
                *zip(a.hidden_states, b.hidden_states, strict=True),
                *zip(a.attentions, b.attentions, strict=True),
                *((a.all_logits[task], b.all_logits[task]) for task in made.tasks),
            ]
            plan = prepare(near, device)
            pairs += list(zip(states, plan.states(packed), strict=True))
            pairs += [(states[-1], plan.hidden(packed))]
            for x, y in pairs:
                assert str(y.device) == device
                torch.testing.assert_close(y.cpu(), x, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return make(tmp_path_factory.mktemp("models"))


TEXTS = ["The ferry leaves at half past nine.", "Rain.", "", "Anna paid Acme in Oslo. " * 12]
QUESTION = "When does it leave?"
WINDOWS: dict[str, Any] = {"too_long": "window", "max_tokens": 24, "stride": 6}


def close(found: Any, expected: Any) -> None:
    """Equal, and numbers to within what the reference's order of sums may change."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            close(found[key], value)
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            close(a, b)
    elif isinstance(expected, (float, np.floating, np.ndarray)):
        assert type(found) is type(expected)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    else:
        assert found == expected


def embed(m: Models, device: str) -> Any:
    return nb.Embedder(m["minilm"], device=device)(TEXTS)


def embed_windows(m: Models, device: str) -> Any:
    return nb.Embedder(m["bert"], pooling=("max", "cls"), device=device, **WINDOWS)(TEXTS)


def classify(m: Models, device: str) -> Any:
    return nb.Classifier(m["sentiment"], device=device, **WINDOWS)(TEXTS)


def tag(m: Models, device: str) -> Any:
    return nb.Tagger(m["ner"], device=device, **WINDOWS)(TEXTS)


def answer(m: Models, device: str) -> Any:
    return nb.Answerer(m["qa"], device=device, **WINDOWS)([QUESTION] * len(TEXTS), TEXTS)


def fill(m: Models, device: str) -> Any:
    return nb.MaskFiller(m["mlm"], device=device)(["The [MASK] leaves at [MASK].", "[MASK]"])


def rank(m: Models, device: str) -> Any:
    return nb.Ranker(m["cross"], device=device, **WINDOWS)([(QUESTION, text) for text in TEXTS])


def zero_shot(m: Models, device: str) -> Any:
    return nb.ZeroShot(m["nli"], device=device)(TEXTS[:2], ["travel", "weather"])


def search(m: Models, device: str) -> Any:
    x = torch.from_numpy(embed(m, device)).to(device)
    return nb.semantic_search(x, x, top_k=2), nb.paraphrase_mining(x)


def explain(m: Models, device: str) -> Any:
    return [score.score for score in saliency(nb.load(m["sentiment"], device=device), TEXTS[0], steps=8)]


def look(m: Models, device: str) -> Any:
    return attention(nb.load(m["bert"], device=device), TEXTS[0]).weights


def door_sentences(m: Models, device: str) -> Any:
    model = hf.SentenceTransformer(m["minilm"], device=device)
    x = model.encode(TEXTS, convert_to_tensor=True)
    assert str(x.device) == device
    return (
        x.cpu().numpy(),
        model.similarity(x, x).cpu().numpy(),
        [t.cpu().numpy() for t in model.encode(TEXTS, output_value="token_embeddings")],
    )


def door_pairs(m: Models, device: str) -> Any:
    return hf.CrossEncoder(m["cross"], device=device).rank(QUESTION, TEXTS)


def door_pipelines(m: Models, device: str) -> Any:
    return [
        hf.pipeline("text-classification", m["sentiment"], device=device)(TEXTS),
        hf.pipeline("ner", m["ner"], device=device, aggregation_strategy="simple")(TEXTS),
        hf.pipeline("feature-extraction", m["bert"], device=device)(TEXTS[0]),
    ]


def door_training(m: Models, device: str) -> Any:
    """One step of a loop of your own: the loss, and every gradient."""
    model = hf.AutoModelForSequenceClassification.from_pretrained(m["sentiment"], device_map=device)
    batch = hf.AutoTokenizer.from_pretrained(m["sentiment"])(TEXTS[:2], padding=True, return_tensors="pt").to(device)
    loss = model(**batch, labels=torch.tensor([0, 1], device=device)).loss
    loss.backward()
    return loss.item(), {name: p.grad.cpu().numpy() for name, p in model.named_parameters() if p.grad is not None}


WORK = [
    embed, embed_windows, classify, tag, answer, fill, rank, zero_shot, search, explain, look, door_sentences, door_pairs, door_pipelines,
    door_training,
]  # fmt: skip


@pytest.mark.reference
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("work", WORK, ids=lambda work: work.__name__)
def test_whatever_takes_a_device(work: Callable[[Models, str], Any], device: str, models: Models) -> None:
    expected = work(models, "cpu")
    with simulate(device):
        found = work(models, device)
    close(found, expected)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.slow
def test_commands(device: str, models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"CALLS": 2, "PRODUCTS": 1, "SIDE": {"cpu": 16, device[:-2]: 16}, "COUNT": 6}.items():
        monkeypatch.setattr(bench, name, value)
    (tmp_path / "t.txt").write_text("\n".join(filter(None, TEXTS)))
    with simulate(device):
        for command in (
            ["invariance", models["bert"], "--trials", "1", "--precision", "bfloat16"],
            ["quality", models["minilm"], "--texts", str(tmp_path / "t.txt"), "--precision", "float16"],
            ["bench", models["bert"], "--rounds", "1"],
        ):
            assert cli.main([*command, "--device", device]) == 0, command


@pytest.mark.parametrize("count", [1, 2, 5])
def test_texts_are_tokenized_ahead(models: Models, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a thread, chunk by chunk: in the order of the texts, prompts included, and what cannot be read is named."""
    monkeypatch.setattr("nativebert.tasks.call.CHUNK_TEXTS", 2)
    texts = [f"Ferry number {n} leaves." for n in range(2 * count - 1)]
    expected = nb.Embedder(models["minilm"], device="cpu")(texts, prompt="query: ")
    with simulate("cuda:1"):
        task = nb.Embedder(models["minilm"], device="cuda:1")
        close(task(texts, prompt="query: "), expected)
        with pytest.raises(nb.errors.BadInputError, match=f"text {len(texts)} is a int"):
            task([*texts, 7])
