"""``nativebert.hf``'s tokenizers: the same keys, values, types and order as transformers gives for the same folder and arguments."""

from __future__ import annotations

import copy
import itertools
import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from models import TINY, VOCAB, minilm, write_folder

import nativebert.hf as hf
from nativebert.errors import BadInputError, NativeBertError, RefusedError

pytestmark = pytest.mark.reference
TEXTS = ["The cat sat, powerful!", "A dog", "", "deep learning is ðeep  Ünbelievable stone? [SEP] or <mask> it's 日本", "on"]
PAIRS = ["a mat", "the deep sitting cats are singing", "x", "", "dogs. dogs! dogs?"]
WORDS = [["The", "catsat", ","], ["a"], ["deep", "Learning", "is", "powerful"]]


def bert(folder: Path, family: str = "bert", **config: Any) -> Path:
    write_folder(folder, TINY[family])
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 12, **config}))
    return folder


def roberta(folder: Path, **config: Any) -> Path:
    """A byte-level BPE, trained here, with no word on special tokens but those in tokenizer.json: as roberta-base on the Hub."""
    from tokenizers import AddedToken, ByteLevelBPETokenizer
    from tokenizers.processors import RobertaProcessing

    write_folder(folder, TINY["roberta"])
    core = ByteLevelBPETokenizer()
    names = ["<s>", "<pad>", "</s>", "<unk>", AddedToken("<mask>", lstrip=True)]
    core.train_from_iterator(TEXTS + PAIRS, vocab_size=330, min_frequency=1, special_tokens=names)
    core._tokenizer.post_processor = RobertaProcessing(("</s>", 2), ("<s>", 0))
    core.save(str(folder / "tokenizer.json"))
    (folder / "vocab.txt").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 12, **config}))
    return folder


FOLDERS = {
    "uncased": lambda at: bert(at, do_lower_case=True, tokenizer_class="BertTokenizer"),
    "cased": lambda at: bert(at, do_lower_case=False),
    "left": lambda at: bert(at, padding_side="left", truncation_side="left", clean_up_tokenization_spaces=True),
    "distilbert": lambda at: bert(at, "distilbert", tokenizer_class="DistilBertTokenizerFast"),
    "distilbert without a class": lambda at: bert(at, "distilbert", model_input_names=["input_ids", "attention_mask"]),
    "extra": lambda at: bert(at, additional_special_tokens=["cat"], tokenizer_class="BertTokenizer"),
    "roberta": roberta,
    "roberta with spaces": lambda at: roberta(at, add_prefix_space=True, clean_up_tokenization_spaces=True),
    "plain": lambda at: roberta(
        at, tokenizer_class="PreTrainedTokenizerFast", pad_token="<pad>", cls_token="<s>", unk_token="<unk>"
    ),
}


@pytest.fixture(scope="module")
def pair_of(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Both libraries' tokenizers of a folder, made once."""
    root, known = tmp_path_factory.mktemp("hf"), {}

    def get(name: str) -> tuple[Any, Any]:
        if name not in known:
            folder = minilm() if name == "minilm" else FOLDERS[name](root / name.replace(" ", "_"))
            known[name] = hf.AutoTokenizer.from_pretrained(folder), transformers.AutoTokenizer.from_pretrained(folder)
        return known[name]

    return get


EVERY = [*FOLDERS, "minilm"]


def same(ours: Any, theirs: Any, what: object) -> None:
    assert list(ours.keys()) == list(theirs.keys()), what
    for name in theirs:
        a, b = ours[name], theirs[name]
        assert type(a) is type(b), (what, name)
        if isinstance(b, torch.Tensor):
            assert a.dtype == b.dtype, (what, name)
            assert torch.equal(a, b), (what, name)
        elif isinstance(b, np.ndarray):
            assert (a.dtype, a.shape) == (b.dtype, b.shape), (what, name)
            assert all(map(np.array_equal, a, b)), (what, name)
        else:
            assert a == b, (what, name)


def both(pair: tuple[Any, Any], *texts: Any, **options: Any) -> tuple[Any, Any] | None:
    """The results of both; None where both refuse."""
    found: list[Any] = []
    for tokenizer in pair:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found.append(tokenizer(*texts, **options))
            except NativeBertError:
                found.append(None)
            except BaseException:  # the library's panics are no Exceptions
                if tokenizer is pair[0]:
                    raise
                found.append(None)
    assert (found[0] is None) == (found[1] is None), (texts, options, found)
    return None if found[0] is None else (found[0], found[1])


PADDING: list[Any] = [False, True, "max_length"]
TRUNCATION: list[Any] = [None, False, True, "only_first", "only_second"]
MORE: list[dict[str, Any]] = [
    {},
    {"return_tensors": "pt"},
    {"return_tensors": "np"},
    {"return_overflowing_tokens": True, "stride": 2},
    {"return_offsets_mapping": True, "return_special_tokens_mask": True, "return_length": True},
    {"pad_to_multiple_of": 4, "padding_side": "left"},
    {"add_special_tokens": False, "return_attention_mask": False, "return_token_type_ids": True},
    {"split_special_tokens": True, "return_token_type_ids": False},
]


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(
    "given", [(TEXTS[0],), (TEXTS[3], PAIRS[1]), (TEXTS,), (TEXTS, PAIRS), (list(zip(TEXTS, PAIRS)),), (TEXTS[0], "")]
)
def test_calls(name: str, given: Any, pair_of: Any) -> None:
    pair, results = pair_of(name), 0
    for padding, truncation, length, more in itertools.product(PADDING, TRUNCATION, (None, 8, 9.0), MORE):
        options = {"padding": padding, "truncation": truncation, "max_length": length, **more}
        reference = options | {"max_length": None if length is None else int(length)}
        found = both((pair[0], lambda *t, o=reference, **_: pair[1](*t, **o)), *given, **options)
        if found:
            same(*found, (name, given, options))
            results += 1
    assert results > 100


def test_words_for_true_and_false(pair_of: Any) -> None:
    for padding, truncation in itertools.product(("longest", "do_not_pad"), ("longest_first", "do_not_truncate")):
        found = both(pair_of("uncased"), TEXTS, PAIRS, padding=padding, truncation=truncation, max_length=9)
        assert found is not None
        same(*found, (padding, truncation))


@pytest.mark.parametrize("name", EVERY)
def test_lengths_that_leave_hardly_room(name: str, pair_of: Any) -> None:
    for given, length, cut in itertools.product(((TEXTS,), (TEXTS, PAIRS)), range(5), TRUNCATION[2:]):
        options = {"max_length": length, "truncation": cut, "padding": True, "return_overflowing_tokens": True}
        if found := both(pair_of(name), *given, **options):
            same(*found, (name, given, options))


@pytest.mark.parametrize("name", EVERY)
def test_words(name: str, pair_of: Any) -> None:
    pair = pair_of(name)
    for given in ((WORDS,), (WORDS[0],), (WORDS, WORDS[::-1]), (WORDS[0], WORDS[2])):
        for options in (
            {},
            {"padding": True, "return_tensors": "pt"},
            {"truncation": True, "max_length": 7, "return_offsets_mapping": True},
        ):
            found = both(pair, *given, is_split_into_words=True, **options)
            assert found is not None
            same(*found, (name, given, options))
            assert found[0].word_ids(0) == found[1].word_ids(0)


@pytest.mark.parametrize("name", EVERY)
def test_attributes(name: str, pair_of: Any) -> None:
    ours, theirs = pair_of(name)
    for attribute in (
        "model_max_length padding_side truncation_side is_fast special_tokens_map all_special_tokens all_special_ids vocab_size vocab "
        "model_input_names max_len_single_sentence max_len_sentences_pair pad_token_type_id extra_special_tokens clean_up_tokenization_spaces "
        "bos_token eos_token unk_token sep_token pad_token cls_token mask_token bos_token_id sep_token_id pad_token_id cls_token_id mask_token_id"
    ).split():
        assert getattr(ours, attribute) == getattr(theirs, attribute), attribute
    assert (len(ours), bool(ours)) == (len(theirs), True)
    assert ours.get_vocab() == theirs.get_vocab()
    assert ours.get_added_vocab() == theirs.get_added_vocab()
    assert {n: str(t) for n, t in ours.added_tokens_decoder.items()} == {
        n: str(t) for n, t in theirs.added_tokens_decoder.items()
    }
    assert [ours.num_special_tokens_to_add(p) for p in (False, True)] == [
        theirs.num_special_tokens_to_add(p) for p in (False, True)
    ]
    assert type(ours).__name__ == type(theirs).__name__.replace("TokenizersBackend", "PreTrainedTokenizerFast")


@pytest.mark.parametrize("name", EVERY)
def test_ids_and_tokens(name: str, pair_of: Any) -> None:
    ours, theirs = pair_of(name)
    for text in (*TEXTS, "well , this is n't it ?"):
        assert ours.tokenize(text) == theirs.tokenize(text)
        ids = ours.encode(text)
        assert ids == theirs.encode(text)
        assert ours.encode(text, "x", add_special_tokens=False) == theirs.encode(text, "x", add_special_tokens=False)
        assert torch.equal(ours.encode(text, return_tensors="pt"), theirs.encode(text, return_tensors="pt"))
        for skip, clean in itertools.product((False, True), (None, False, True)):
            options = {"skip_special_tokens": skip, "clean_up_tokenization_spaces": clean}
            for given in (ids, torch.tensor(ids), np.array(ids), ids[0]):
                assert ours.decode(given, **options) == theirs.decode(given, **options), (given, options)
            rows = [ids, ids[:3]]
            assert ours.batch_decode(rows, **options) == theirs.batch_decode(rows, **options)
            assert ours.decode(torch.tensor([ids, ids]), **options) == theirs.decode(torch.tensor([ids, ids]), **options)
            assert ours.batch_decode(ids, **options) == theirs.batch_decode(ids, **options)
        for skip in (False, True):
            assert ours.convert_ids_to_tokens(ids, skip) == theirs.convert_ids_to_tokens(ids, skip)
            assert ours.convert_ids_to_tokens(torch.tensor(ids), skip) == theirs.convert_ids_to_tokens(torch.tensor(ids), skip)
        tokens = ours.convert_ids_to_tokens(ids)
        assert ours.convert_tokens_to_string(tokens) == theirs.convert_tokens_to_string(tokens)
        assert ours.get_special_tokens_mask(ids, already_has_special_tokens=True) == theirs.get_special_tokens_mask(
            ids, already_has_special_tokens=True
        )
    assert ours.convert_ids_to_tokens(4.0) == theirs.convert_ids_to_tokens(4)
    for tokens in ("the", "nowhere-to-be-found", ["a", "nowhere-to-be-found"]):
        assert ours.convert_tokens_to_ids(tokens) == theirs.convert_tokens_to_ids(tokens)


@pytest.mark.parametrize("name", EVERY)
def test_an_encoding_answers_as_theirs(name: str, pair_of: Any) -> None:
    found = both(pair_of(name), TEXTS, PAIRS, padding=True, return_tensors="pt")
    assert found is not None
    ours, theirs = found
    for row in range(len(TEXTS)):
        assert (ours.tokens(row), ours.word_ids(row), ours.sequence_ids(row)) == (
            theirs.tokens(row),
            theirs.word_ids(row),
            theirs.sequence_ids(row),
        )
        assert ours[row].ids == theirs[row].ids
        assert ours.token_to_word(row, -2) == ours.token_to_word(row, len(ours[row]) - 2)
        for place in range(6):
            for method in ("token_to_word", "token_to_chars", "token_to_sequence"):
                assert getattr(ours, method)(row, place) == getattr(theirs, method)(row, place), (method, row, place)
            for sequence in (0, 1):
                for method in ("char_to_token", "char_to_word", "word_to_tokens"):
                    assert getattr(ours, method)(row, place, sequence) == getattr(theirs, method)(row, place, sequence), (
                        method,
                        row,
                        place,
                    )
    assert ours.char_to_token(1) == theirs.char_to_token(1)
    assert ours.word_to_chars(0) == theirs.word_to_chars(0)
    assert (ours.is_fast, ours.n_sequences, len(ours.encodings)) == (True, 2, len(TEXTS))
    assert ours.input_ids is ours["input_ids"]
    assert dict(**ours).keys() == dict(**theirs).keys()
    assert ours.to("cpu") is ours
    assert {**pickle.loads(pickle.dumps(ours))}.keys() == {**ours}.keys()  # what a test may do
    lists = pair_of(name)[0](TEXTS[0])
    assert lists.convert_to_tensors("pt", prepend_batch_axis=True).input_ids.shape[0] == 1
    with pytest.raises(AttributeError, match="input_ids"):
        _ = ours.labels
    with pytest.raises(BadInputError, match="not made by a tokenizer"):
        hf.BatchEncoding({"input_ids": [1]}).tokens()


@pytest.mark.parametrize("name", EVERY)
def test_pad(name: str, pair_of: Any) -> None:
    ours, theirs = pair_of(name)
    made = [dict(theirs(text, return_special_tokens_mask=True).items()) for text in TEXTS]
    cases = [made, [dict(m, labels=n) for n, m in enumerate(made)], {k: [m[k] for m in made] for k in made[0]}, made[0],
             [{"input_ids": m["input_ids"]} for m in made], {"input_ids": torch.tensor([[1, 2], [3, 4]])}, [{"input_ids": np.array([1, 2])}]]  # fmt: skip
    for case, options in itertools.product(cases, (
        {}, {"return_tensors": "pt"}, {"padding": "max_length", "max_length": 30}, {"pad_to_multiple_of": 8}, {"padding_side": "left"},
        {"padding": False}, {"return_attention_mask": False}, {"padding": "max_length"}, {"padding": "max_length", "max_length": 2},
    )):  # fmt: skip
        found: list[Any] = []
        for tokenizer in (ours, theirs):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    found.append(tokenizer.pad(copy.deepcopy(case), **options))
                except (ValueError, TypeError) as error:
                    found.append(type(error))
        if isinstance(found[1], type):
            assert isinstance(found[0], type), (case, options)
        else:
            same(found[0], found[1], (case, options))


def test_classes_by_name(tmp_path: Path) -> None:
    folder = bert(tmp_path / "bert", tokenizer_class="BertTokenizer")
    for name in ("BertTokenizer", "BertTokenizerFast", "DistilBertTokenizer", "DistilBertTokenizerFast"):
        ours, theirs = getattr(hf, name).from_pretrained(folder), getattr(transformers, name).from_pretrained(folder)
        assert type(ours).__name__ == type(theirs).__name__
        same(ours(TEXTS, padding=True), theirs(TEXTS, padding=True), name)
    with pytest.raises(RefusedError, match="BertTokenizer"):
        hf.RobertaTokenizer.from_pretrained(folder)
    with pytest.raises(BadInputError, match="from_pretrained"):
        hf.AutoTokenizer()
    whole = roberta(tmp_path / "roberta")
    same(
        hf.RobertaTokenizerFast.from_pretrained(whole)(TEXTS),
        transformers.RobertaTokenizerFast.from_pretrained(whole)(TEXTS),
        "roberta",
    )
    with pytest.raises(RefusedError, match="RobertaTokenizer"):
        hf.BertTokenizer.from_pretrained(whole)


@pytest.mark.parametrize(
    "options",
    [{"do_lower_case": False}, {"strip_accents": False}, {"model_max_length": 6.0}, {"padding_side": "left"}, {"truncation_side": "left"},
     {"model_input_names": ["input_ids", "attention_mask"]}, {"pad_token": "[UNK]"}, {"additional_special_tokens": ["mat"]},
     {"use_fast": False}, {"tokenize_chinese_chars": False}],
)  # fmt: skip
def test_settings_are_read_over_the_folders(options: dict[str, Any], tmp_path: Path) -> None:
    folder = bert(tmp_path / "from", tokenizer_class="BertTokenizer")
    reference = {name: int(value) if isinstance(value, float) else value for name, value in options.items()}
    ours = hf.AutoTokenizer.from_pretrained(folder, **options)
    theirs = transformers.AutoTokenizer.from_pretrained(folder, **reference)
    same(ours(TEXTS, padding=True, truncation=True), theirs(TEXTS, padding=True, truncation=True), options)
    ours.save_pretrained(tmp_path / "to")
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "to")
    same(ours(TEXTS, padding=True, truncation=True), again(TEXTS, padding=True, truncation=True), options)


def test_prefix_space(tmp_path: Path) -> None:
    folder = roberta(tmp_path)
    ours = hf.AutoTokenizer.from_pretrained(folder, add_prefix_space=True)
    theirs = transformers.AutoTokenizer.from_pretrained(folder, add_prefix_space=True)
    same(ours(WORDS, is_split_into_words=True), theirs(WORDS, is_split_into_words=True), "words")
    assert ours(TEXTS)["input_ids"] != hf.AutoTokenizer.from_pretrained(folder)(TEXTS)["input_ids"]
    with pytest.raises(RefusedError, match="do_lower_case"):
        hf.AutoTokenizer.from_pretrained(folder, do_lower_case=True)


def test_files_are_saved_byte_for_byte(tmp_path: Path) -> None:
    written = hf.AutoTokenizer.from_pretrained(minilm()).save_pretrained(str(tmp_path))
    assert {Path(path).name for path in written} >= {"tokenizer.json", "tokenizer_config.json"}
    for path in written:
        assert Path(path).read_bytes() == (minilm() / Path(path).name).read_bytes()


def test_what_is_set_later_counts(pair_of: Any) -> None:
    ours, theirs = (copy.deepcopy(tokenizer) for tokenizer in pair_of("uncased"))
    for tokenizer in (ours, theirs):
        tokenizer.model_max_length = 6
        tokenizer.padding_side = "left"
        tokenizer.pad_token = "[MASK]"
        tokenizer.eos_token_id = 3
    same(ours(TEXTS, padding=True, truncation=True), theirs(TEXTS, padding=True, truncation=True), "later")
    assert ours.special_tokens_map == theirs.special_tokens_map
    with pytest.raises(RefusedError, match="not in the vocabulary"):
        ours.pad_token = "<new>"
    assert ours.pad_token == "[MASK]"
    copied = pickle.loads(pickle.dumps(ours))  # what a test may do
    same(copied(TEXTS), ours(TEXTS), "pickled")


def test_no_tokenizer_disturbs_another(tmp_path: Path) -> None:
    folder = bert(tmp_path)
    door = hf.AutoTokenizer.from_pretrained(folder)
    before = door.native.encode(TEXTS[3]).ids
    door(TEXTS, padding="max_length", truncation=True, max_length=5, split_special_tokens=True)
    assert door.native.encode(TEXTS[3]).ids == before
    assert door(TEXTS[3])["input_ids"] == before


@pytest.mark.parametrize(
    ("given", "options", "says"),
    [
        ((None,), {}, "give the text"),
        ((3,), {}, "must be a str or a list"),
        (([],), {}, "empty"),
        ((["a", None],), {}, "text 1 holds None"),
        ((["a", float("nan")],), {}, "text 1 holds nan"),
        (([["a", "b", "c"]],), {}, "is_split_into_words"),
        ((["a", "b"], ["c"]), {}, "as long, not 1"),
        ((["a", "b"], "c"), {}, "as long"),
        ((["a", "b c"],), {"return_tensors": "pt"}, "padding=True"),
        (("a",), {"return_tensors": "tf"}, "'pt'"),
        (("a",), {"padding": "longer"}, "do_not_pad"),
        (("a",), {"truncation": "yes"}, "only_first"),
        (("a",), {"max_length": 3.5}, "whole number"),
        (("a b c d e",), {"max_length": 4, "truncation": True, "stride": 5}, "stride=5"),
        (("a",), {"max_length": 6, "truncation": True, "padding": True, "pad_to_multiple_of": 4}, "multiple"),
    ],
)
def test_what_cannot_be_used_is_explained(given: Any, options: dict[str, Any], says: str, pair_of: Any) -> None:
    with pytest.raises(NativeBertError, match=says):
        pair_of("uncased")[0](*given, **options)


def test_what_is_not_supported_is_refused_by_name(tmp_path: Path, pair_of: Any) -> None:
    folder = bert(tmp_path)
    for options, says in (
        ({"cache_dir": "x"}, "HF_HOME"),
        ({"subfolder": "x"}, "folder of its own"),
        ({"colour": 1}, "no argument 'colour'"),
    ):
        with pytest.raises(NativeBertError, match=says):
            hf.AutoTokenizer.from_pretrained(folder, **options)
    tokenizer = pair_of("uncased")[0]
    for name, says in (
        ("train_new_from_iterator", "tokenizer_object"),
        ("apply_chat_template", "encoders"),
        ("colour", "no 'colour'"),
    ):
        with pytest.raises(AttributeError, match=says):
            getattr(tokenizer, name)
    with pytest.raises(BadInputError, match=f"0 to {len(VOCAB) - 1}"):
        tokenizer.decode([5000])
