"""Tokens that are added to a tokenizer: the ids of transformers, before and after saving, and a model whose table grows with it."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from models import BERT, VOCAB, minilm, write_folder
from test_hf_tokenizer import FOLDERS
from tokenizers import AddedToken

import nativebert as nb
import nativebert.hf as hf
from nativebert.errors import BadInputError, RefusedError

pytestmark = pytest.mark.reference
TEXTS = ["The catfish sat NEW_TOK in a new_tok", "a <ent>deep</ent> learning [X] catfish", "dog", "unpowerful [X][X] <ENT>"]


def bert(where: Path) -> Path:
    """A model with a row for each token of its vocabulary, in which none is twice."""
    vocabulary = list(dict.fromkeys(VOCAB))
    folder = write_folder(where, BERT | {"vocab_size": len(vocabulary)})
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    return folder


def folder_of(name: str, where: Path) -> Path:
    return minilm() if name == "minilm" else FOLDERS[name](where)


def assert_alike(ours: Any, theirs: Any) -> None:
    for text in TEXTS:
        assert ours(text)["input_ids"] == theirs(text)["input_ids"], text
        assert ours.decode(ours(text)["input_ids"], skip_special_tokens=True) == theirs.decode(
            theirs(text)["input_ids"], skip_special_tokens=True
        )
    assert len(ours) == len(theirs)
    assert ours.get_added_vocab() == theirs.get_added_vocab()
    assert ours.all_special_ids == theirs.all_special_ids
    assert ours.special_tokens_map == {
        name: token for name, token in theirs.special_tokens_map.items() if isinstance(token, str)
    }


CHANGES = {
    "words": lambda t: t.add_tokens(["new_tok", "catfish", "new_tok"]),
    "one": lambda t: t.add_tokens("catfish"),
    "known": lambda t: t.add_tokens(["dog", "the"]),
    "none": lambda t: t.add_tokens([]),
    "special": lambda t: t.add_tokens(["<ent>", "</ent>"], special_tokens=True),
    "flags": lambda t: t.add_tokens([AddedToken("new_tok", single_word=True, lstrip=True), AddedToken("[X]", special=True)]),
    "extra": lambda t: t.add_special_tokens({"additional_special_tokens": ["<ent>", "</ent>"]}),
    "more": lambda t: [t.add_special_tokens({"extra_special_tokens": ["<ent>"]}),
                       t.add_special_tokens({"extra_special_tokens": ["[X]"]}, replace_extra_special_tokens=False)],
    "named": lambda t: t.add_special_tokens({"bos_token": "[X]", "eos_token": "<ent>"}),
    "twice": lambda t: [t.add_tokens(["catfish"]), t.add_tokens(["new_tok"]), t.add_special_tokens({"additional_special_tokens": ["[X]"]})],
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["uncased", "cased", "distilbert", "extra", "roberta", "plain", "minilm"])
def test_added_tokens(name: str, change: str, tmp_path: Path) -> None:
    folder = folder_of(name, tmp_path / "m")
    ours, theirs = hf.AutoTokenizer.from_pretrained(folder), transformers.AutoTokenizer.from_pretrained(folder)
    before = {text: ours(text)["input_ids"] for text in ("a dog", "the mat")}
    copied = copy.deepcopy(ours)
    counts = CHANGES[change](ours), CHANGES[change](theirs)
    assert counts[0] == counts[1]
    assert_alike(ours, theirs)
    assert {text: copied(text)["input_ids"] for text in before} == before  # a copy is another tokenizer
    ours.save_pretrained(tmp_path / "saved")
    again = hf.AutoTokenizer.from_pretrained(tmp_path / "saved")
    for reloaded in (again, pickle.loads(pickle.dumps(ours)), transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")):
        for text in TEXTS:
            assert reloaded(text)["input_ids"] == ours(text)["input_ids"], text
        assert len(reloaded) == len(ours)
        assert reloaded.all_special_ids == ours.all_special_ids
    if (tmp_path / "saved" / "tokenizer.json").exists():  # the tokenizers library alone reads it so as well
        from tokenizers import Tokenizer

        assert Tokenizer.from_file(str(tmp_path / "saved" / "tokenizer.json")).get_vocab_size() == len(ours)
    again.save_pretrained(tmp_path / "again")
    for path in (tmp_path / "saved").iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.filterwarnings("ignore::nativebert.errors.Assumed")
@pytest.mark.parametrize("case", ["xlm-roberta", "camembert, no space before", "albert"])
def test_tokens_added_to_a_sentencepiece_tokenizer(case: str, tmp_path: Path) -> None:
    import spm.make as make

    ours = hf.AutoTokenizer.from_pretrained(make.folder(tmp_path / "m", case))
    before = len(ours)
    assert CHANGES["twice"](ours) == [1, 1, 1]
    assert len(ours) == before + 3
    assert "catfish" in ours.tokenize("a catfish")
    ours.save_pretrained(tmp_path / "saved")
    for again in (
        hf.AutoTokenizer.from_pretrained(tmp_path / "saved"),
        transformers.AutoTokenizer.from_pretrained(tmp_path / "saved"),
    ):
        assert again(TEXTS)["input_ids"] == ours(TEXTS)["input_ids"]
        assert len(again) == len(ours)


def test_special_tokens_stay_special(tmp_path: Path) -> None:
    tokenizer = hf.AutoTokenizer.from_pretrained(folder_of("uncased", tmp_path / "m"))
    before = tokenizer.added_tokens_decoder
    assert tokenizer.add_tokens(["[MASK]", "[SEP]"]) == 0
    assert tokenizer.added_tokens_decoder == before


def test_tokens_added_where_the_backend_is_in_hand(tmp_path: Path) -> None:
    folder = folder_of("uncased", tmp_path / "m")
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    backend = tokenizer.backend_tokenizer
    assert tokenizer.add_tokens(["catfish"]) == 1
    assert backend.token_to_id("catfish") == len(tokenizer) - 1
    assert tokenizer.tokenize("a catfish") == ["a", "catfish"]
    tokenizer.save_pretrained(tmp_path / "saved")
    assert hf.AutoTokenizer.from_pretrained(tmp_path / "saved").tokenize("a catfish") == ["a", "catfish"]


def test_what_cannot_be_added(tmp_path: Path) -> None:
    tokenizer = hf.AutoTokenizer.from_pretrained(folder_of("uncased", tmp_path / "m"))
    with pytest.raises(BadInputError, match="not 3"):
        tokenizer.add_tokens([3])
    with pytest.raises(BadInputError, match="empty"):
        tokenizer.add_tokens([""])
    with pytest.raises(BadInputError, match="'start_token' is not a special token"):
        tokenizer.add_special_tokens({"start_token": "<s>"})
    with pytest.raises(BadInputError, match="list of tokens"):
        tokenizer.add_special_tokens({"extra_special_tokens": "<s>"})
    with pytest.raises(RefusedError, match="add_special_tokens"):
        tokenizer.pad_token = "<nope>"
    with pytest.raises(AttributeError, match="tokenizer_object"):
        _ = tokenizer.train_new_from_iterator


@pytest.mark.parametrize("first", ["model", "tokenizer"])
def test_a_model_with_new_tokens(first: str, tmp_path: Path) -> None:
    """The flow of transformers' documentation; in either order of saving the folder has the new tokenizer."""
    folder = bert(tmp_path / "m")
    tokenizer, model = hf.AutoTokenizer.from_pretrained(folder), hf.AutoModel.from_pretrained(folder)
    assert tokenizer.add_tokens(["catfish", "new_tok"]) == 2
    with pytest.raises(BadInputError, match="outside this model's table"):
        model(**tokenizer("a catfish", return_tensors="pt"))
    model.resize_token_embeddings(len(tokenizer))
    for part in (model, tokenizer) if first == "model" else (tokenizer, model):
        part.save_pretrained(tmp_path / "saved")
    again = hf.AutoTokenizer.from_pretrained(tmp_path / "saved")
    inputs = again("a catfish", return_tensors="pt")
    assert inputs["input_ids"][0].tolist() == tokenizer("a catfish")["input_ids"]
    expected = transformers.AutoModel.from_pretrained(tmp_path / "saved")(**inputs)[0]
    torch.testing.assert_close(hf.AutoModel.from_pretrained(tmp_path / "saved")(**inputs)[0], expected, rtol=0, atol=2e-5)
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["vocab_size"] == len(tokenizer)


def test_native_tokens_and_tables(tmp_path: Path) -> None:
    folder = bert(tmp_path / "m")
    model = nb.load(folder)
    tokenizer = model.tokenizer.with_tokens(["catfish"])
    assert model.tokenizer.token_to_id("catfish") is None
    model.tokenizer = tokenizer
    model.resize_token_embeddings(tokenizer.vocab_size)
    model.save(tmp_path / "saved")
    again = nb.load(tmp_path / "saved")
    assert again.tokenizer.encode("catfish").ids == tokenizer.encode("catfish").ids
    assert torch.equal(again.embed.token.weight, model.embed.token.weight)
    assert torch.equal(again.embed.token.weight[:-1], nb.load(folder).embed.token.weight)
    with pytest.raises(BadInputError, match="rows"):
        model.resize_token_embeddings(0)
