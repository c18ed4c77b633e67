"""The tokenizers of nativebert.hf in threads and pickles, what is saved of them, what they are made from, and arguments of all kinds."""

from __future__ import annotations

import copy
import json
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from models import VOCAB, minilm, write_folder
from test_hf_tokenizer import PAIRS, TEXTS, bert, roberta, same

import nativebert as nb
import nativebert.hf as hf
from nativebert.cli import main
from nativebert.errors import BadInputError, NotFoundError, RefusedError

pytestmark = pytest.mark.reference

# ---- threads

CALLS: list[dict[str, Any]] = [
    {"truncation": True, "max_length": 8, "padding": "max_length"},
    {"padding": True},
    {},
    {"truncation": True, "max_length": 5},
    {"split_special_tokens": True},
    {"padding": True, "pad_to_multiple_of": 16, "padding_side": "left"},
    {"truncation": "only_first", "max_length": 12, "stride": 2, "return_overflowing_tokens": True},
    {"add_special_tokens": False, "return_offsets_mapping": True},
]


@pytest.mark.parametrize("mixed", [False, True])
def test_calls_of_threads_do_not_disturb_each_other(mixed: bool) -> None:
    tokenizer = hf.AutoTokenizer.from_pretrained(minilm())
    texts = [*("The cat sat on the mat. " * times for times in (1, 2, 5, 9)), "a [SEP] b"]
    expected = [dict(tokenizer(texts, **call)) for call in CALLS]
    assert len({json.dumps(found) for found in expected}) == len(CALLS)
    wrong: list[Any] = []

    def work(first: int) -> None:
        for n in range(500):
            which = (first + n) % len(CALLS) if mixed else 0
            try:
                if dict(tokenizer(texts, **CALLS[which])) != expected[which]:
                    wrong.append(CALLS[which])
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(tokenizer._idle) <= 8


def test_a_failed_call_leaves_nothing_behind() -> None:
    tokenizer = hf.AutoTokenizer.from_pretrained(minilm())
    before = dict(tokenizer(TEXTS))
    for wrong in (
        {"max_length": 6, "truncation": True, "stride": 9},
        {"max_length": -3, "padding": "max_length"},
        {"max_length": 2**70, "truncation": True},
    ):
        with pytest.raises(BadInputError):
            tokenizer(TEXTS, **wrong)
        with pytest.raises(BadInputError):
            tokenizer(["a", None])
        assert dict(tokenizer(TEXTS)) == before


def test_pickled_and_copied(tmp_path: Path) -> None:
    for folder in (minilm(), bert(tmp_path / "split", split_special_tokens=True), roberta(tmp_path / "roberta")):
        ours = hf.AutoTokenizer.from_pretrained(folder, padding_side="left")
        ours(TEXTS, truncation=True, max_length=3)
        ours.truncation_side = "left"
        for twin in (pickle.loads(pickle.dumps(ours)), copy.deepcopy(ours), copy.copy(ours)):
            for call in CALLS:
                assert dict(twin(TEXTS, **call)) == dict(ours(TEXTS, **call))
            assert (twin.truncation_side, twin.special_tokens_map, len(twin)) == ("left", ours.special_tokens_map, len(ours))
        twin.padding_side = "right"
        assert ours.padding_side == "left"


def test_what_is_changed_of_the_backend_counts_here_and_nowhere_else(tmp_path: Path) -> None:
    from tokenizers import normalizers

    folder = bert(tmp_path / "m", tokenizer_class="BertTokenizer")
    ours, other = hf.AutoTokenizer.from_pretrained(folder), hf.AutoTokenizer.from_pretrained(folder)
    before, native = ours(TEXTS)["input_ids"], ours.native
    assert ours.backend_tokenizer is ours.backend_tokenizer
    ours.backend_tokenizer.normalizer = normalizers.Replace("The", "a")
    after = ours(TEXTS)["input_ids"]
    assert after != before
    assert native.ids_batch(TEXTS).ids == before
    assert ours.native.ids_batch(TEXTS).ids == after
    assert other(TEXTS)["input_ids"] == before
    with pytest.raises(RefusedError, match="backend_tokenizer"):
        ours.save_pretrained(tmp_path / "to")
    assert not (tmp_path / "to").exists()
    assert pickle.loads(pickle.dumps(ours))(TEXTS)["input_ids"] == after


# ---- saving

CHANGES: list[dict[str, Any]] = [
    {"model_max_length": 7},
    {"model_max_length": np.int64(9)},
    {"model_max_length": None},
    {"padding_side": "left"},
    {"truncation_side": "left"},
    {"pad_token": "[MASK]"},
    {"pad_token": None},
    {"pad_token": "[SEP]"},
    {"eos_token": "[SEP]", "bos_token": "[CLS]"},
    {"model_input_names": ["input_ids", "attention_mask"]},
    {"clean_up_tokenization_spaces": True},
    {"model_max_length": 6, "padding_side": "left", "truncation_side": "left", "pad_token": "[UNK]"},
]


@pytest.mark.parametrize("changes", CHANGES, ids=str)
@pytest.mark.parametrize("where", ["whole", "map", "decoder", "minilm", "no class"])
def test_what_was_changed_is_saved(where: str, changes: dict[str, Any], tmp_path: Path) -> None:
    folder = {
        "whole": lambda: bert(tmp_path / "m", tokenizer_class="BertTokenizer"),
        "map": lambda: bert(tmp_path / "m", tokenizer_class="BertTokenizer"),
        "decoder": lambda: bert(
            tmp_path / "m", tokenizer_class="BertTokenizer", added_tokens_decoder={"0": {"content": "[PAD]", "special": True}}
        ),
        "minilm": minilm,
        "no class": lambda: bert(tmp_path / "m", "distilbert"),
    }[where]()
    if where in ("map", "decoder"):
        told = {
            "pad_token": "[PAD]",
            "mask_token": {"content": "[MASK]", "lstrip": False, "rstrip": False, "normalized": False, "single_word": False},
        }
        (folder / "special_tokens_map.json").write_text(json.dumps(told))
    ours = hf.AutoTokenizer.from_pretrained(folder)
    for name, value in changes.items():
        setattr(ours, name, value)
    paths = ours.save_pretrained(tmp_path / "to")
    assert all(Path(path).is_file() for path in paths)
    for again in (
        hf.AutoTokenizer.from_pretrained(tmp_path / "to"),
        transformers.AutoTokenizer.from_pretrained(tmp_path / "to"),
    ):
        for name in (
            "model_max_length",
            "padding_side",
            "truncation_side",
            "special_tokens_map",
            "model_input_names",
            "clean_up_tokenization_spaces",
        ):
            assert getattr(again, name) == getattr(ours, name), name
        for call in ({}, {"truncation": True}, {"padding": True}) if ours.pad_token else ({}, {"truncation": True}):
            same(ours(TEXTS, **call), again(TEXTS, **call), call)
            same(ours(TEXTS, PAIRS, **call), again(TEXTS, PAIRS, **call), call)
        ids = ours.encode(TEXTS[0] + " isn 't it ?")
        assert again.decode(ids) == ours.decode(ids)
    ours.save_pretrained(tmp_path / "to")  # again, over itself
    assert hf.AutoTokenizer.from_pretrained(tmp_path / "to").special_tokens_map == ours.special_tokens_map


def test_what_cannot_be_saved_is_refused(tmp_path: Path) -> None:
    ours = hf.AutoTokenizer.from_pretrained(bert(tmp_path / "m", tokenizer_class="BertTokenizer"))
    ours.pad_token = "cat"  # as a special token it would be found inside of words
    with pytest.raises(RefusedError, match=r"pad_token='cat'.*special already"):
        ours.save_pretrained(tmp_path / "to")
    assert not (tmp_path / "to").exists()
    for name, value in (
        ("do_lower_case", False),
        ("split_special_tokens", True),
        ("extra_special_tokens", ["cat"]),
        ("add_prefix_space", True),
        ("vocab_size", 3),
    ):
        with pytest.raises(RefusedError, match=f"{name} is read when"):
            setattr(ours, name, value)
    for name, value in (("padding_side", "middle"), ("model_max_length", "long"), ("truncation_side", None)):
        with pytest.raises(BadInputError, match=name):
            setattr(ours, name, value)
    ours.own_note = "mine"
    assert ours.own_note == "mine"


@pytest.mark.filterwarnings("ignore::nativebert.errors.Assumed")
@pytest.mark.parametrize("case", ["xlm-roberta", "camembert, no space before", "albert", "albert, as it is written"])
def test_what_was_changed_is_saved_of_a_sentencepiece_tokenizer(case: str, tmp_path: Path) -> None:
    import spm.make as make

    ours = hf.AutoTokenizer.from_pretrained(make.folder(tmp_path / "m", case))
    before = ours(make.TEXTS)["input_ids"]
    ours.save_pretrained(tmp_path / "same")
    ours.padding_side, ours.model_max_length, ours.pad_token = "left", 7, ours.unk_token
    ours.save_pretrained(tmp_path / "to")
    for again in (
        hf.AutoTokenizer.from_pretrained(tmp_path / "to"),
        transformers.AutoTokenizer.from_pretrained(tmp_path / "to"),
    ):
        assert dict(again(make.TEXTS)) == dict(ours(make.TEXTS))
        assert dict(again(make.TEXTS, padding=True, truncation=True)) == dict(ours(make.TEXTS, padding=True, truncation=True))
        assert (again.special_tokens_map, again.padding_side) == (ours.special_tokens_map, "left")
    assert hf.AutoTokenizer.from_pretrained(tmp_path / "same")(make.TEXTS)["input_ids"] == before


def test_the_tokenizer_of_a_sentence_model_is_saved_with_its_limit(tmp_path: Path) -> None:
    tokenizer = hf.SentenceTransformer(str(minilm()), device="cpu").tokenizer
    limit = tokenizer.model_max_length
    tokenizer.save_pretrained(tmp_path)
    assert hf.AutoTokenizer.from_pretrained(tmp_path).model_max_length == limit


# ---- a folder with only a tokenizer


@pytest.fixture(params=["own", "theirs", "json", "txt", "native", "roberta", "bpe", "class"])
def alone(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Any]:
    """A folder without config.json, and the tokenizer that it should give."""
    to = tmp_path / "to"
    name = request.param
    model = roberta(tmp_path / "m") if name in ("roberta", "bpe") else bert(tmp_path / "m", do_lower_case=name == "txt")
    expected = transformers.AutoTokenizer.from_pretrained(model)
    if name in ("own", "roberta", "class"):
        kind = hf.BertTokenizer if name == "class" else hf.AutoTokenizer
        kind.from_pretrained(model).save_pretrained(to)
    elif name == "theirs":
        expected.save_pretrained(to)
    elif name == "native":
        nb.Tokenizer.from_folder(model).save(to)
    else:
        to.mkdir()
        if name == "json":
            expected.backend_tokenizer.no_padding()
            expected.backend_tokenizer.no_truncation()
            expected.backend_tokenizer.save(str(to / "tokenizer.json"))
        elif name == "txt":
            (to / "vocab.txt").write_bytes((model / "vocab.txt").read_bytes())
        else:
            whole = json.loads((model / "tokenizer.json").read_text("utf-8"))
            (to / "vocab.json").write_text(json.dumps(whole["model"]["vocab"]))
            (to / "merges.txt").write_text("\n".join(" ".join(pair) for pair in whole["model"]["merges"]))
            mask = {"__type": "AddedToken", "content": "<mask>", "lstrip": True, "normalized": False}
            (to / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "RobertaTokenizer", "mask_token": mask}))
    return to, expected


def test_a_folder_with_only_a_tokenizer(alone: tuple[Path, Any], capsys: pytest.CaptureFixture[str]) -> None:
    folder, expected = alone
    assert not (folder / "config.json").exists()
    ours = hf.AutoTokenizer.from_pretrained(folder)
    assert ours(TEXTS)["input_ids"] == expected(TEXTS)["input_ids"]
    assert nb.Tokenizer.from_folder(folder).ids_batch(TEXTS).ids == expected(TEXTS)["input_ids"]
    assert main(["tokenize", TEXTS[0], "-m", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ids"] == expected(TEXTS[0])["input_ids"]
    ours.save_pretrained(folder.parent / "again")
    assert hf.AutoTokenizer.from_pretrained(folder.parent / "again")(TEXTS)["input_ids"] == expected(TEXTS)["input_ids"]
    with pytest.raises(NotFoundError, match=r"no config\.json: it is a tokenizer without a model"):
        hf.AutoModel.from_pretrained(folder)
    with pytest.raises(NotFoundError, match=r"no file config\.json"):
        hf.AutoConfig.from_pretrained(folder)


def test_a_pipeline_with_a_tokenizer_of_its_own_folder(tmp_path: Path) -> None:
    model = write_folder(tmp_path / "m", {**json.loads((bert(tmp_path / "b") / "config.json").read_text())})
    hf.AutoTokenizer.from_pretrained(model).save_pretrained(tmp_path / "t")
    with_folder = hf.pipeline("feature-extraction", model=str(model), tokenizer=str(tmp_path / "t"), device="cpu")
    plain = hf.pipeline("feature-extraction", model=str(model), device="cpu")
    assert with_folder("the cat") == plain("the cat")


# ---- made from files


def test_made_from_a_vocabulary(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(VOCAB) + "\n")
    path = str(tmp_path / "vocab.txt")
    for name in ("BertTokenizer", "BertTokenizerFast", "DistilBertTokenizer", "DistilBertTokenizerFast"):
        kind, theirs = getattr(hf, name), getattr(transformers, name)
        for options in (
            {},
            {"do_lower_case": False},
            {"model_max_length": 9},
            {"pad_token": "[UNK]"},
            {"strip_accents": False},
            {"padding_side": "left"},
        ):
            expected = theirs(path, **options)
            for ours in (kind(path, **options), kind(vocab_file=path, **options), kind(vocab=Path(path), **options)):
                same(ours(TEXTS, padding=True), expected(TEXTS, padding=True), (name, options))
                assert type(ours) is kind
                assert (ours.model_max_length, ours.special_tokens_map) == (
                    min(expected.model_max_length, 2**31 - 1),  # no limit is a number that R has
                    expected.special_tokens_map,
                )
        ours.save_pretrained(tmp_path / name)
        assert hf.AutoTokenizer.from_pretrained(tmp_path / name)(TEXTS)["input_ids"] == ours(TEXTS)["input_ids"]
        assert transformers.AutoTokenizer.from_pretrained(tmp_path / name)(TEXTS)["input_ids"] == ours(TEXTS)["input_ids"]


def test_made_from_other_files(tmp_path: Path) -> None:
    folder = roberta(tmp_path / "m")
    whole = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    vocab, merges = tmp_path / "vocab.json", tmp_path / "merges.txt"
    vocab.write_text(json.dumps(whole["model"]["vocab"]))
    merges.write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in whole["model"]["merges"]))
    expected = transformers.RobertaTokenizer(str(vocab), str(merges))
    for ours in (hf.RobertaTokenizer(vocab, merges), hf.RobertaTokenizerFast(vocab_file=vocab, merges_file=str(merges))):
        same(ours(TEXTS, padding=True), expected(TEXTS, padding=True), "roberta")
    spiece = Path(__file__).parent / "spm" / "albert.model"
    recorded = json.loads((spiece.parent / "ids.json").read_text("utf-8"))
    import spm.make as make

    assert hf.AlbertTokenizer(spiece)(make.TEXTS)["input_ids"] == recorded["albert"]["ids"]
    assert (
        hf.AlbertTokenizer(str(spiece), do_lower_case=False, keep_accents=True)(make.TEXTS)["input_ids"]
        == recorded["albert, as it is written"]["ids"]
    )
    assert hf.XLMRobertaTokenizer(spiece.parent / "xlmr.model")(make.TEXTS)["input_ids"] == recorded["xlm-roberta"]["ids"]


def test_a_whole_tokenizer_of_the_library(tmp_path: Path) -> None:
    import tokenizers

    core = tokenizers.Tokenizer.from_file(str(roberta(tmp_path / "m") / "tokenizer.json"))
    core.save(str(tmp_path / "tokenizer.json"))
    names = {"pad_token": "<pad>", "cls_token": "<s>", "sep_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>"}
    for given in (
        {"tokenizer_file": str(tmp_path / "tokenizer.json")},
        {"tokenizer_file": tmp_path / "tokenizer.json"},
        {"tokenizer_object": core},
    ):
        theirs: dict[str, Any] = {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
        ours, expected = hf.PreTrainedTokenizerFast(**given, **names), transformers.PreTrainedTokenizerFast(**theirs, **names)
        for call in ({}, {"padding": True}, {"truncation": True, "max_length": 5, "padding": "max_length"}):
            same(ours(TEXTS, **call), expected(TEXTS, **call), (given, call))
        assert ours.pad_token_id == expected.pad_token_id
        ours.save_pretrained(tmp_path / "to")
        for again in (
            hf.AutoTokenizer.from_pretrained(tmp_path / "to"),
            transformers.AutoTokenizer.from_pretrained(tmp_path / "to"),
        ):
            same(ours(TEXTS, padding=True), again(TEXTS, padding=True), given)
    core.enable_padding(pad_id=1, pad_token="<pad>", direction="left")
    core.enable_truncation(4)
    padded, expected = (door.PreTrainedTokenizerFast(tokenizer_object=core) for door in (hf, transformers))
    assert (padded.pad_token, padded.padding_side) == (expected.pad_token, expected.padding_side) == ("<pad>", "left")
    same(padded(TEXTS, padding=True), expected(TEXTS, padding=True), "left")
    same(padded(TEXTS), expected(TEXTS), "neither cut nor padded")
    assert core.truncation is not None
    as_token = hf.PreTrainedTokenizerFast(tokenizer_object=core, mask_token=tokenizers.AddedToken("<mask>", lstrip=True))
    assert as_token.mask_token == "<mask>"


def test_random_tokenizers_of_the_library_are_still(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models

    pieces = [("<unk>", 0.0), ("a", -1.0), ("b", -1.0), ("ab", -1.5), ("abab", -3.0)]
    made = {
        "Unigram": models.Unigram(pieces, unk_id=0, alpha=0.1, nbest_size=5),
        "BPE": models.BPE({"a": 0, "b": 1, "ab": 2, "abab": 3}, [("a", "b"), ("ab", "ab")], dropout=0.5),
    }
    for name, model in made.items():
        assert len({tuple(Tokenizer(model).encode("abab" * 9).ids) for _ in range(30)}) > 1
        ours = hf.PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model))
        assert len({tuple(ours("abab" * 9)["input_ids"]) for _ in range(30)}) == 1, name


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda p: hf.BertTokenizer(), BadInputError, "from_pretrained"),
        (lambda p: hf.AutoTokenizer(p / "vocab.txt"), BadInputError, "AutoTokenizer.from_pretrained"),
        (lambda p: hf.PreTrainedTokenizerFast(p / "tokenizer.json"), BadInputError, "from_pretrained"),
        (lambda p: hf.PreTrainedTokenizerFast(), BadInputError, "tokenizer_file="),
        (lambda p: hf.PreTrainedTokenizerFast(tokenizer_object="x"), BadInputError, "not a str"),
        (lambda p: hf.BertTokenizer(p / "no.txt"), NotFoundError, "no.txt cannot be read"),
        (lambda p: hf.BertTokenizer(p), BadInputError, "is a folder: use BertTokenizer.from_pretrained"),
        (lambda p: hf.BertTokenizer({"a": 0}), BadInputError, "not a dict"),
        (lambda p: hf.BertTokenizer(p / "tokenizer.json"), BadInputError, "tokenizer_file="),
        (lambda p: hf.BertTokenizer(p / "vocab.txt", p / "vocab.txt"), BadInputError, "takes vocab.txt"),
        (lambda p: hf.RobertaTokenizer(p / "vocab.json"), NotFoundError, "without merges.txt"),
        (lambda p: hf.BertTokenizer(p / "vocab.txt", colour=1), BadInputError, "no argument 'colour'"),
        (lambda p: hf.BertTokenizer(p / "vocab.txt", add_prefix_space=True), RefusedError, "add_prefix_space"),
        (lambda p: hf.BertTokenizer(p / "vocab.txt", model_max_length="long"), BadInputError, "whole number"),
        (lambda p: hf.BertTokenizer(p / "vocab.txt", padding_side="up"), BadInputError, "'left' or 'right'"),
    ],
)
def test_what_it_cannot_be_made_from(make: Any, error: Any, says: str, tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(VOCAB))
    (tmp_path / "vocab.json").write_text('{"a": 0}')
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(error, match=says):
        make(tmp_path)


# ---- arguments


def test_numbers_of_numpy_and_torch(tmp_path: Path) -> None:
    ours = hf.AutoTokenizer.from_pretrained(bert(tmp_path / "m"), model_max_length=np.int32(12))
    assert ours.model_max_length == 12
    assert type(ours.model_max_length) is int
    for six, two in (
        (np.int64(6), np.uint8(2)),
        (np.float32(6), np.float64(2)),
        (torch.tensor(6), torch.tensor(2)),
        (np.array(6), np.array(2.0)),
        (6.0, 2.0),
    ):
        found = ours(
            TEXTS,
            max_length=six,
            truncation=True,
            padding="max_length",
            stride=two,
            pad_to_multiple_of=two,
            return_overflowing_tokens=True,
        )
        wanted = ours(
            TEXTS,
            max_length=6,
            truncation=True,
            padding="max_length",
            stride=2,
            pad_to_multiple_of=2,
            return_overflowing_tokens=True,
        )
        same(found, wanted, six)
        assert ours.pad(ours(TEXTS), padding="max_length", max_length=six * 4, pad_to_multiple_of=two)["input_ids"][0][-1] == 0
        ids = [six, two]
        for given in (ids, tuple(ids), [ids, ids]):
            assert ours.decode(given) == ours.decode([[6, 2], [6, 2]] if isinstance(given[0], list) else [6, 2])
        assert ours.decode(six) == ours.decode(6)
        assert ours.convert_ids_to_tokens(six) == ours.convert_ids_to_tokens(6) == "b"
        assert ours.convert_ids_to_tokens(ids) == ["b", "[CLS]"]
        assert ours.native.decode(ids) == ours.native.decode([6, 2])
        ours.pad_token_id = two
        assert ours.pad_token == "[CLS]"
        ours.pad_token = "[PAD]"
    for wrong in (np.float64(6.5), float("nan"), float("inf"), np.inf, True, np.bool_(True), "6", [6], np.array([6])):
        for call in (
            lambda w: ours("a", max_length=w, truncation=True),
            lambda w: ours.decode([5, w]),
            lambda w: ours.native.decode([5, w]),
        ):
            with pytest.raises(BadInputError, match="whole number"):
                call(wrong)


def test_numbers_in_the_rest_of_the_door(tmp_path: Path) -> None:
    from nativebert.checks import whole_number
    from nativebert.hf.arguments import whole_numbers
    from nativebert.hf.states import device_name

    for five in (5, 5.0, np.int8(5), np.uint64(5), np.float16(5), np.array(5), torch.tensor(5), torch.tensor(5.0)):
        assert whole_number("n", five) == 5
        assert type(whole_number("n", five)) is int
        found = whole_numbers({"num_labels": five, "max_position_embeddings": five, "hidden_act": "gelu"})
        assert json.dumps(found) == '{"num_labels": 5, "max_position_embeddings": 5, "hidden_act": "gelu"}'
    for wrong in (5.5, np.float32(5.5), float("inf"), float("nan"), True, np.bool_(False), "5", None, [5], np.array([5])):
        with pytest.raises(BadInputError, match="n must be a whole number"):
            whole_number("n", wrong)
    assert device_name(np.int64(-1)) == device_name(-1.0) == "cpu"
    assert device_name(np.int64(0)) == device_name(0)
    for wrong in (True, 0.5, [[0]]):
        with pytest.raises((BadInputError, RefusedError)):
            device_name(wrong)
    folder = write_folder(tmp_path / "m", {**json.loads((bert(tmp_path / "b") / "config.json").read_text())})
    model = hf.AutoModel.from_pretrained(folder)
    config = hf.BertConfig(
        num_labels=np.int64(3), hidden_size=np.int32(32), id2label={np.int64(0): "a", np.int64(1): "b", np.int64(2): "c"}
    )
    assert config.num_labels == 3
    config.save_pretrained(tmp_path / "c")
    assert model.config.hidden_size == 32
    st = hf.SentenceTransformer(str(minilm()), device="cpu", truncate_dim=np.int64(8))
    assert st.encode(["a"], batch_size=np.int64(2)).shape == (1, 8)
    assert st.encode(["a"], truncate_dim=np.int32(4)).shape == (1, 4)
    st.max_seq_length = np.int64(16)
    assert st.max_seq_length == 16
    hits = hf.util.semantic_search(st.encode(["a"]), st.encode(["a", "b"]), top_k=np.int64(1))
    assert len(hits[0]) == 1


def test_arguments_that_nobody_knows_are_refused_by_name(tmp_path: Path) -> None:
    ours = hf.AutoTokenizer.from_pretrained(bert(tmp_path / "m"))
    ids = ours("a cat")["input_ids"]
    calls: list[Any] = [ours, ours.encode, ours.encode_plus, ours.tokenize]
    for call in calls:
        for name in ("text_target", "text_pair_target"):
            with pytest.raises(RefusedError, match=f"{name}=: tokenise the targets in a call of their own"):
                call("a", **{name: "b"})
        with pytest.raises(RefusedError, match="no argument 'colour'"):
            call("a", colour=1)
    assert ours("a", text_target=None, verbose=False)["input_ids"] == ours("a")["input_ids"]
    for call in (ours.decode, ours.batch_decode):
        with pytest.raises(RefusedError, match="no argument 'colour'"):
            call(ids, colour=1)
        assert call(ids, spaces_between_special_tokens=False) == call(ids)
    with pytest.raises(RefusedError, match="no argument 'colour'"):
        ours.pad({"input_ids": ids}, colour=1)
    with pytest.raises(RefusedError, match="no argument 'is_split'"):
        ours.batch_encode_plus(["a"], is_split=True)
    for side in ("up", None, 3):
        if side is not None:
            with pytest.raises(BadInputError, match="padding_side"):
                ours(TEXTS, padding=True, padding_side=side)
            with pytest.raises(BadInputError, match="padding_side"):
                ours.pad(ours(TEXTS), padding_side=side)


def test_nothing_to_decode(tmp_path: Path) -> None:
    folder = bert(tmp_path / "m")
    ours, theirs = hf.AutoTokenizer.from_pretrained(folder), transformers.AutoTokenizer.from_pretrained(folder)
    for given in ([], (), [[]], [[], []], np.zeros((0, 3), int), torch.zeros(0, 3, dtype=torch.long)):
        assert ours.batch_decode(given) == theirs.batch_decode(given), given
    for given in ([], np.array([], int), [[]]):
        assert ours.decode(given) == theirs.decode(given), given
    for given in (None, "12", b"12", object()):
        for call in (ours.decode, ours.batch_decode):
            with pytest.raises(BadInputError, match="whole numbers"):
                call(given)


def test_an_id_beyond_the_table_names_text_and_token(tmp_path: Path) -> None:
    config = {**json.loads((bert(tmp_path / "b") / "config.json").read_text())}
    folder = write_folder(tmp_path / "m", config)
    (folder / "vocab.txt").write_text("\n".join([*VOCAB, "zebra"]))
    embed = nb.Embedder(folder, device="cpu", pooling="mean")
    with pytest.raises(BadInputError, match=r"text 2 holds 'zebra', whose id 76 is beyond the model's table of 76"):
        embed(["a cat", "the dog", "a zebra", "x"])
    assert embed(["a cat", "the dog"]).shape == (2, 32)
