"""inspect: it sees what load and Embedder would do, without doing it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_server import HubServer
from models import BERT, DISTILBERT, bert_tensors, distilbert_tensors, minilm, write_folder
from safetensors.torch import save_file

import nativebert as nb
from nativebert.errors import NativeBertError, RefusedError
from nativebert.hub import Snapshot, resolve
from nativebert.inspect import Inspection, inspect, licence
from weights_map import MismatchError, WeightsMapError


def look(folder: Path) -> Inspection:
    return inspect(resolve(str(folder)))


def put(folder: Path, name: str, content: Any) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def sentences(folder: Path, *more: dict[str, str]) -> None:
    parts = {"": "Transformer", "1_Pooling": "Pooling"}
    listed = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in parts.items()]
    put(folder, "modules.json", [*listed, *more])
    put(folder, "1_Pooling/config.json", {"pooling_mode": ["mean", "cls"]})


# ---- good models


@pytest.mark.parametrize("prefix", ["", "bert."])
@pytest.mark.parametrize("pooler", [True, False])
def test_ledger_is_that_of_load_for_bert(tmp_path: Path, prefix: str, pooler: bool) -> None:
    tensors = bert_tensors(BERT, prefix=prefix, pooler=pooler)
    tensors["cls.predictions.bias"] = torch.zeros(BERT["vocab_size"])
    folder = write_folder(tmp_path / "m", BERT, tensors)
    found = look(folder)
    assert found.ledger.rows == nb.load(folder).ledger.rows
    assert found.problems == ()
    assert {row.status for row in found.ledger.rows} == {"loaded", "carried"}


@pytest.mark.parametrize("prefix", ["", "distilbert."])
def test_ledger_is_that_of_load_for_distilbert(tmp_path: Path, prefix: str) -> None:
    folder = write_folder(tmp_path / "m", DISTILBERT, distilbert_tensors(DISTILBERT, prefix=prefix))
    found = look(folder)
    assert found.ledger.rows == nb.load(folder).ledger.rows
    assert found.problems == ()
    assert (found.facts["encoder"]["family"], found.facts["encoder"]["segments"]) == ("distilbert", 0)


def test_facts_of_minilm() -> None:
    found = inspect(resolve("sentence-transformers/all-MiniLM-L6-v2"))
    facts = found.facts
    assert facts["model"]["repository"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert facts["model"]["licence"] == "apache-2.0"
    assert facts["model"]["folder"] == str(minilm())
    encoder = facts["encoder"]
    assert [encoder[k] for k in ("layers", "width", "heads", "head width", "feed-forward")] == [6, 384, 12, 32, 1536]
    assert (facts["weights"]["parameters"], facts["weights"]["bytes"]) == (22_713_216, 90_856_960)
    assert (facts["tokenizer"]["vocabulary"], facts["tokenizer"]["lower-cases"]) == (30522, True)
    sentence = facts["sentences"]
    assert (sentence["pooling"], sentence["then"], sentence["longest text"]) == (["mean"], ["normalize"], 256)
    shown = {name: value for lines in found.shown().values() for name, value in lines}
    assert (shown["parameters"], shown["norm epsilon"], shown["saved as"]) == ("22,713,216", "1e-12", "BertModel")
    assert found.problems == ()


@pytest.mark.parametrize("tokenizer", [None, 20, 500])
@pytest.mark.parametrize("limit", [None, 16, 300])
def test_limit_and_dimension_are_those_of_the_embedder(tmp_path: Path, tokenizer: int | None, limit: int | None) -> None:
    folder = write_folder(tmp_path / "m", BERT)
    if limit:
        sentences(folder, {"path": "2_Dense", "type": "sentence_transformers.models.Dense"})
        put(folder, "2_Dense/config.json", {"in_features": 64, "out_features": 5, "bias": False})
        save_file({"linear.weight": torch.zeros(5, 64)}, folder / "2_Dense" / "model.safetensors")
    else:
        sentences(folder)
    if tokenizer:
        put(folder, "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "model_max_length": tokenizer})
    if limit:
        put(folder, "sentence_bert_config.json", {"max_seq_length": limit})
    embedder = nb.Embedder(folder, device="cpu")
    facts = look(folder).facts["sentences"]
    assert (facts["longest text"], facts["dimension"]) == (embedder.max_tokens, embedder.dimension)


def test_json_has_numbers_as_numbers_and_no_spaces_in_keys(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", {**BERT, "mystery": 1, "id2label": {"0": "né\n", "1": "o"}})
    sentences(folder)
    put(folder, "config_sentence_transformers.json", {"prompts": {"q": "query: "}, "default_prompt_name": "q"})
    found = look(folder)
    again = json.loads(json.dumps(found.as_dict()))
    assert again == found.as_dict()
    assert list(again) == ["model", "encoder", "weights", "tokenizer", "sentences", "problems", "ledger"]
    assert not [key for group in list(again.values())[:5] for key in group if not key.isidentifier()]
    assert (again["encoder"]["norm_epsilon"], again["encoder"]["labels"]) == (1e-12, ["né\n", "o"])
    assert again["encoder"]["not_understood"] == ["mystery (in config.json)"]
    assert again["sentences"]["prompts"] == {"q": "query: "}
    assert again["model"]["licence"] is None
    assert len(again["ledger"]["rows"]) == len(found.ledger.rows)
    assert again["ledger"]["counts"] == {"loaded": 39}
    shown = dict(line for lines in found.shown().values() for line in lines)
    assert shown["prompt q"] == "'query: '"  # that it ends with a space can be seen
    assert shown["licence"] == "not stated in the files here"
    assert shown["not understood"] == "mystery (in config.json)"


# ---- models that would not work


def without(*names: str) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in bert_tensors(BERT).items() if name not in names}


@pytest.mark.parametrize(
    ("tensors", "status", "message"),
    [
        (without("encoder.layer.1.output.dense.bias"), "missing", "1 missing"),
        (without("pooler.dense.bias"), "missing", "1 missing"),
        ({**without(), "encoder.layer.7.output.dense.bias": torch.zeros(32)}, "unexpected", "1 unexpected"),
        ({**without(), "norm.weight": torch.zeros(3)}, "unexpected", "1 unexpected"),
        ({**without(), "embeddings.LayerNorm.bias": torch.zeros(31)}, "shape", "1 shape"),
        ({**without(), "embeddings.word_embeddings.weight": torch.zeros(75, 32)}, "shape", "1 shape"),
    ],
)
def test_what_load_refuses(tmp_path: Path, tensors: dict[str, torch.Tensor], status: str, message: str) -> None:
    folder = write_folder(tmp_path / "m", BERT, tensors)
    found = look(folder)
    assert [row.status for row in found.ledger.rows].count(status) == 1
    (problem,) = found.problems
    assert problem.startswith("would not load: ")
    assert problem.endswith(message)
    with pytest.raises(MismatchError):
        nb.load(folder)


def test_weights_that_are_no_floats(tmp_path: Path) -> None:
    name = "encoder.layer.0.output.dense.weight"
    whole = without()[name].to(torch.int8)
    folder = write_folder(tmp_path / "m", BERT, {**without(), name: whole})
    assert look(folder).problems == (f"would not load: {name} is stored as I8, not as F64, F32, F16, BF16",)
    with pytest.raises(RefusedError):
        nb.load(folder)


def test_texts_that_could_not_go_in(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", BERT)
    sentences(folder, {"path": "2_X", "type": "sentence_transformers.models.X"})
    vocabulary = (folder / "vocab.txt").read_text()
    (folder / "vocab.txt").write_text(vocabulary + "".join(f"word{i}\n" for i in range(10)))
    refused = "cannot make sentence vectors: "
    tokenizer, sentence = look(folder).problems
    assert tokenizer == "cannot tokenize: the tokenizer gives ids up to 85, but the model has 76 rows for them"
    assert sentence.startswith(refused)
    assert "type 'X'" in sentence
    (folder / "vocab.txt").unlink()
    tokenizer, sentence = look(folder).problems
    assert tokenizer.startswith("cannot tokenize: ")
    assert "vocab.txt" in tokenizer
    assert sentence.startswith(refused)


def test_what_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(NativeBertError, match="is_decoder"):
        look(write_folder(tmp_path / "a", {**BERT, "is_decoder": True}))
    with pytest.raises(NativeBertError, match="'num_hidden_layers' must be a whole number"):
        look(write_folder(tmp_path / "b", {**BERT, "num_hidden_layers": "2"}, bert_tensors(BERT)))
    folder = write_folder(tmp_path / "c", BERT)
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:5000])
    with pytest.raises(WeightsMapError):
        look(folder)


# ---- the licence


@pytest.mark.parametrize(
    ("card", "found"),
    [
        ("---\nlanguage: en\nlicense: mit\n---\n# Title\n", "mit"),
        ("\ufeff---\r\nlicense: apache-2.0\r\ntags: [a]\r\n---\r\n", "apache-2.0"),
        ("---\nlicense: 'cc-by-4.0'  # as the data\n---\n", "cc-by-4.0"),
        ('---\nlicense: "mit"\n---\n', "mit"),
        ("---\nlicense:\n- mit\n- apache-2.0\ntags:\n- x\n---\n", "mit, apache-2.0"),
        ("---\nlicense: [mit, gpl-3.0]\n---\n", "mit, gpl-3.0"),
        ("---\nlicense: other\nlicense_name: llama3\nlicense_link: LICENSE\n---\n", "other (llama3)"),
        ("---\nlicense_name: llama3\n---\n", None),
        ("---\nlicense:\n---\n", None),
        ("---\nlanguage: en\n---\nlicense: mit\n---\n", None),
        ("# Title\n---\nlicense: mit\n---\n", None),
        ("license: mit\n", None),
        ("---\nlicense: mit\n", None),
        ("", None),
    ],
)
def test_licence_of_a_model_card(tmp_path: Path, card: str, found: str | None) -> None:
    (tmp_path / "README.md").write_bytes(card.encode())
    assert licence(Snapshot("m", tmp_path, None, None, "folder")) == found


def test_licence_without_a_model_card(tmp_path: Path) -> None:
    assert licence(Snapshot("m", tmp_path, None, None, "folder")) is None


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the stand-in for the Hub knows of every model's card."""
    import hub_server

    told: dict[str, Any] = {}
    plain = hub_server._Handler.send_json
    monkeypatch.setattr(
        hub_server._Handler,
        "send_json",
        lambda self, content: plain(self, content | {"cardData": told} if isinstance(content, dict) else content),
    )
    return told


def test_licence_on_the_hub(hub: HubServer, cards: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_folder(tmp_path / "m", BERT)
    files = {path.name: path.read_bytes() for path in folder.iterdir()} | {"README.md": b"---\nlicense: mit\n---"}
    commit = hub.add("owner/tiny", files)
    cards |= {"license": "other", "license_name": "llama3"}
    snapshot = resolve("owner/tiny")
    assert (snapshot.source, snapshot.revision) == ("hub", commit)
    assert inspect(snapshot).facts["model"]["licence"] == "other (llama3)"
    assert "README.md" not in hub.fetched
    cards.clear()
    assert licence(snapshot) is None
    before = len(hub.requests)
    assert licence(resolve("owner/tiny", offline=True)) is None
    assert len(hub.requests) == before  # offline is offline
    hub.status = 500
    assert licence(snapshot) is None
    hub.stop()
    assert licence(snapshot) is None
