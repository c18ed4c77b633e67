"""Folders without tokenizer.json, and folders whose files do not fit their class: which reading is taken, and what is said of it."""

from __future__ import annotations

import copy
import importlib.util
import json
import pickle
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from models import VOCAB, minilm
from test_tokenizer import HARD, PAIRS, facts, ours

from nativebert.errors import Assumed, BadInputError, CorruptError, NotFoundError, RefusedError
from nativebert.text import sentencepiece
from nativebert.text.tokenizer import Tokenizer, _lines

HERE = Path(__file__).parent / "spm"
sys.path.insert(0, str(HERE))
import make  # noqa: E402

IDS: dict[str, Any] = json.loads((HERE / "ids.json").read_text("utf-8"))
TEXT = "The cat sat on the mat, deep learning is powerful!"


def quiet(folder: Path, *more: Any) -> Tokenizer:
    """The tokenizer, where nothing may be assumed."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return Tokenizer.from_folder(folder, *more)


def write(folder: Path, family: str = "", config: dict[str, Any] | None = None, **files: str | bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if family:
        (folder / "config.json").write_text(json.dumps({"model_type": family}))
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    for name, content in files.items():
        (folder / name.replace("_", ".", 1)).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def whole(kind: str, **parts: Any) -> str:
    """A tokenizer.json of the tokenizers library, trained here."""
    from tokenizers import Tokenizer as Core
    from tokenizers import decoders, models, pre_tokenizers, processors, trainers

    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    ends = ("<s> $A </s>", "<s> $A </s> </s> $B </s>")
    cut: Any = pre_tokenizers.Whitespace()
    if kind == "Unigram":
        core, trainer = Core(models.Unigram()), trainers.UnigramTrainer(vocab_size=90, special_tokens=names, unk_token="<unk>")
        cut = pre_tokenizers.Metaspace()
        core.decoder = decoders.Metaspace()
    elif kind == "BPE":
        core, trainer = Core(models.BPE()), trainers.BpeTrainer(vocab_size=330, special_tokens=names)
        trainer.initial_alphabet = pre_tokenizers.ByteLevel.alphabet()
        cut = pre_tokenizers.ByteLevel(add_prefix_space=False)
        core.decoder = decoders.ByteLevel()
    elif kind == "WordLevel":
        core, trainer = Core(models.WordLevel(unk_token="<unk>")), trainers.WordLevelTrainer(special_tokens=names)
    else:
        names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        ends = ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1")
        core, trainer = (
            Core(models.WordPiece(unk_token="[UNK]")),
            trainers.WordPieceTrainer(vocab_size=90, special_tokens=names),
        )
    core.pre_tokenizer = parts.get("cut", cut)
    if "normalizer" in parts:
        core.normalizer = parts["normalizer"]
    core.train_from_iterator([TEXT, TEXT.lower(), "12 and 345 naïve dogs"] * 4, trainer)
    if kind == "BPE" and "cut" not in parts:
        core.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    else:
        tokens = [(name, core.token_to_id(name)) for name in ends[0].split()[::2]]
        core.post_processor = processors.TemplateProcessing(single=ends[0], pair=ends[1], special_tokens=tokens)
    return core.to_str()


# ---- sentencepiece


@pytest.mark.parametrize("case", make.CASES)
def test_a_sentencepiece_file_gives_the_ids_of_transformers(case: str, tmp_path: Path) -> None:
    folder, expected = make.folder(tmp_path / "m", case), IDS[case]
    if case in ("albert", "albert, accents kept"):
        with pytest.warns(Assumed, match="looks like a cased one"):
            tokenizer = Tokenizer.from_folder(folder)
    else:
        tokenizer = quiet(folder)
    assert tokenizer.ids_batch(make.TEXTS).ids == expected["ids"]
    assert [list(e.ids) for e in tokenizer.encode_batch(make.TEXTS)] == expected["ids"]
    pairs = tokenizer.ids_batch(list(zip(make.TEXTS[:-1], make.TEXTS[1:])))
    assert (pairs.ids, pairs.type_ids) == (expected["pairs"], expected["types"])
    assert [tokenizer.id_to_token(n) for n in range(tokenizer.vocab_size)] == expected["tokens"]
    assert {name: getattr(tokenizer, f"{name}_id") for name in expected["named"]} == expected["named"]


def test_the_cases_differ() -> None:
    assert len({json.dumps(found["ids"]) for found in IDS.values()}) == len(IDS)


@pytest.mark.reference
@pytest.mark.skipif(importlib.util.find_spec("sentencepiece") is None, reason="transformers needs sentencepiece for it")
def test_the_recorded_ids_are_those_of_this_transformers() -> None:
    assert make.ids() == IDS


def test_a_saved_sentencepiece_tokenizer_needs_no_config_json(tmp_path: Path) -> None:
    for case in ("xlm-roberta", "camembert", "albert, cased", "deberta"):
        before = quiet(make.folder(tmp_path / case, case))
        before.save(tmp_path / case / "saved")
        assert not (tmp_path / case / "saved" / "config.json").exists()
        after = quiet(tmp_path / case / "saved")
        assert after.ids_batch(make.TEXTS).ids == IDS[case]["ids"]
        assert (after.kind, after.digest) == (before.kind, before.digest)


def test_a_damaged_sentencepiece_file_is_told(tmp_path: Path) -> None:
    data = (HERE / "xlmr.model").read_bytes()
    folder = make.folder(tmp_path / "m", "xlm-roberta")
    for length in (0, 1, 2, 10, 100, len(data) // 2, 2200, len(data) - 1):
        (folder / "sentencepiece.bpe.model").write_bytes(data[:length])
        with pytest.raises(CorruptError, match=str(folder)):
            Tokenizer.from_folder(folder)
    for spoiled in (
        b"\xff" * 200,
        b"version https://git-lfs.github.com/spec/v1\n",
        data.replace(b"\x0a\x05<unk>", b"\x0a\x05<\xffnk>"),
    ):
        (folder / "sentencepiece.bpe.model").write_bytes(spoiled)
        with pytest.raises(CorruptError):
            Tokenizer.from_folder(folder)
    whole = [length for length in range(len(data)) if _reads(data[:length])]
    assert whole == [], "no part of the file passes for the file"


def _reads(data: bytes) -> bool:
    try:
        sentencepiece.read(data)
    except ValueError:
        return False
    return True


def test_a_sentencepiece_bpe_is_refused(tmp_path: Path) -> None:
    folder = make.folder(tmp_path / "m", "xlm-roberta")
    data = (folder / "sentencepiece.bpe.model").read_bytes()
    assert data.count(b"\x18\x01") >= 1
    assert sentencepiece.read(data).algorithm == 1
    trainer = b"\x12\x02\x18\x02"  # trainer_spec again, with model_type 2: the last one counts
    (folder / "sentencepiece.bpe.model").write_bytes(data + trainer)
    with pytest.raises(RefusedError, match="Unigram"):
        Tokenizer.from_folder(folder)


# ---- vocab.json with merges.txt, vocab.txt


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    from tokenizers import ByteLevelBPETokenizer

    core = ByteLevelBPETokenizer()
    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    core.train_from_iterator(HARD, vocab_size=900, min_frequency=1, special_tokens=names, show_progress=False)
    at = tmp_path_factory.mktemp("bpe")
    core.save_model(str(at))
    return {name: (at / name).read_bytes() for name in ("vocab.json", "merges.txt")}


@pytest.mark.reference
@pytest.mark.parametrize(
    ("family", "config"),
    [
        ("roberta", {}),
        ("roberta", {"add_prefix_space": True}),
        ("roberta", {"trim_offsets": False, "tokenizer_class": "RobertaTokenizerFast"}),
        ("roberta", {"mask_token": {"__type": "AddedToken", "content": "<mask>", "lstrip": True, "normalized": True}}),
        ("roberta", {"additional_special_tokens": ["<e>"]}),
        ("mpnet", {}),
        ("mpnet", {"do_lower_case": False}),
        ("mpnet", {"strip_accents": False, "tokenizer_class": "MPNetTokenizer"}),
        ("mpnet", {"unk_token": "<unk>", "tokenize_chinese_chars": False}),
    ],
)
def test_other_vocabularies_give_what_transformers_gives(
    family: str, config: dict[str, Any], tmp_path: Path, byte_level: dict[str, bytes]
) -> None:
    import transformers

    files = byte_level
    if family == "mpnet":
        files = {"vocab.txt": b"<s>\n<pad>\n</s>\n<unk>\n" + (minilm() / "vocab.txt").read_bytes() + b"<mask>\n"}
    folder = write(tmp_path / "m", family, config)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    theirs, mine = transformers.AutoTokenizer.from_pretrained(folder), quiet(folder)
    for given, expected in ((HARD, theirs(HARD)), (PAIRS, theirs(HARD, [b for _, b in PAIRS]))):
        for text, encoding, wanted in zip(given, mine.encode_batch(given), expected.encodings, strict=True):
            assert ours(encoding) == facts(wanted), f"{text!r}"
    assert mine.vocab == theirs.get_vocab()
    for ids in mine.ids_batch(HARD[::7]).ids:
        assert mine.decode(ids) == theirs.decode(ids, skip_special_tokens=True)
    mine.save(tmp_path / "saved")
    assert quiet(tmp_path / "saved").ids_batch(HARD) == mine.ids_batch(HARD)


def test_a_vocabulary_is_read_as_the_library_reads_it(tmp_path: Path) -> None:
    from tokenizers import models

    for data in (
        "a\nb\n",
        "a\nb",
        "\n\n",
        "",
        "a \nb\t\n",
        "a\r\nb\r\n",
        "a\x1cb\x1c\n\x1f\n",
        "a\x85\u2028\n\u3000b\xa0\n",
        "a\x0bb\nc\x0c\nd\u2028e",
    ):
        (tmp_path / "vocab.txt").write_bytes(data.encode())
        assert _lines(data.encode()) == models.WordPiece.read_file(str(tmp_path / "vocab.txt")), repr(data)


def test_merges_may_be_written_anywhere(tmp_path: Path, byte_level: dict[str, bytes]) -> None:
    expected = None
    for number, merges in enumerate((byte_level["merges.txt"], byte_level["merges.txt"].replace(b"\n", b"\r\n"))):
        folder = write(tmp_path / str(number), "roberta", vocab_json=byte_level["vocab.json"], merges_txt=merges)
        found = quiet(folder).ids_batch(HARD)
        assert expected in (None, found)
        expected = found
    (folder / "merges.txt").write_bytes(b"#version: 0.2\na b c\n")
    with pytest.raises(CorruptError):
        Tokenizer.from_folder(folder)


@pytest.mark.parametrize(
    ("family", "config", "files", "error", "says"),
    [
        ("roberta", {}, ("vocab.json",), NotFoundError, "vocab.json without merges.txt"),
        ("roberta", {}, ("merges.txt",), NotFoundError, "no tokenizer.json and no vocab.txt"),
        ("roberta", {}, ("vocab.txt",), RefusedError, "RobertaTokenizer is built from vocab.json and merges.txt"),
        ("xlm-roberta", {}, ("spiece.model",), RefusedError, "built from sentencepiece.bpe.model"),
        ("bert", {}, ("vocab.json", "merges.txt"), RefusedError, "BertTokenizer is built from vocab.txt"),
        ("", None, ("vocab.json", "merges.txt"), RefusedError, "tokenizer_class.*RobertaTokenizer"),
        ("", None, ("sentencepiece.bpe.model",), RefusedError, "tokenizer_class.*XLMRobertaTokenizer, CamembertTokenizer"),
        ("", None, ("spiece.model",), RefusedError, "AlbertTokenizer"),
        ("t5", {}, ("spiece.model",), RefusedError, "save_pretrained"),
        ("deberta-v2", {}, ("spiece.model",), RefusedError, "a DebertaV2Tokenizer is built from spm.model"),
        ("roberta", {"tokenizer_class": "BertweetTokenizer"}, ("vocab.txt",), RefusedError, "give the ids to nativebert.load"),
    ],
)
def test_what_cannot_be_built_comes_with_advice(
    family: str, config: Any, files: tuple[str, ...], error: Any, says: str, tmp_path: Path, byte_level: dict[str, bytes]
) -> None:
    folder = write(tmp_path / "m", family, config)
    content = byte_level | {name: (HERE / "albert.model").read_bytes() for name in ("spiece.model", "sentencepiece.bpe.model")}
    content["vocab.txt"] = "\n".join(VOCAB).encode()
    for name in files:
        (folder / name).write_bytes(content[name])
    with pytest.raises(error, match=says):
        Tokenizer.from_folder(folder)


def test_the_advice_can_be_followed(tmp_path: Path, byte_level: dict[str, bytes]) -> None:
    folder = write(tmp_path / "m", vocab_json=byte_level["vocab.json"], merges_txt=byte_level["merges.txt"])
    with pytest.raises(RefusedError):
        Tokenizer.from_folder(folder)
    named = quiet(folder, None, "RobertaTokenizer")  # or by the class of nativebert.hf
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "RobertaTokenizer"}')
    assert quiet(folder).ids_batch(HARD) == named.ids_batch(HARD)


# ---- a class over another model


def assert_from_tokenizer_json(folder: Path, *notes: str) -> Tokenizer:
    from tokenizers import Tokenizer as Core

    core = Core.from_file(str(folder / "tokenizer.json"))
    mine = Tokenizer.from_folder(folder)
    for text in ("the cat", TEXT, "12 and 345 dogs"):
        assert mine.encode(text).tokens == core.encode(text).tokens
    for note in notes:
        assert any(note in found for found in mine.notes), mine.notes
    return mine


@pytest.mark.parametrize("named", ["RobertaTokenizer", "RobertaTokenizerFast", "roberta", "xlm-roberta"])
@pytest.mark.parametrize("kind", ["Unigram", "WordPiece", "WordLevel", "digits", "normalized", "affixed"])
def test_roberta_over_what_is_no_plain_byte_level_bpe(kind: str, named: str, tmp_path: Path) -> None:
    from tokenizers import normalizers, pre_tokenizers

    parts: dict[str, Any] = {}
    if kind == "digits":
        parts["cut"] = pre_tokenizers.Sequence([pre_tokenizers.Digits(), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    if kind == "normalized":
        parts["normalizer"] = normalizers.Lowercase()
    content = json.loads(whole(kind if kind[0].isupper() else "BPE", **parts))
    if kind == "affixed":
        content["model"]["end_of_word_suffix"] = "</w>"
    config = {"tokenizer_class": named} if named.startswith("Roberta") else {}
    folder = write(tmp_path / "m", "roberta" if config else named, config, tokenizer_json=json.dumps(content))
    note = () if named == "xlm-roberta" else ("taken as it stands",)
    assert_from_tokenizer_json(folder, *note)


@pytest.mark.parametrize("named", ["BertTokenizer", "DistilBertTokenizerFast", "ElectraTokenizer", "bert", "distilbert"])
@pytest.mark.parametrize("kind", ["Unigram", "BPE", "WordLevel"])
def test_bert_over_another_model(kind: str, named: str, tmp_path: Path) -> None:
    """As paraphrase-multilingual-MiniLM-L12-v2: a BertTokenizer over a Unigram."""
    names = {"unk_token": "<unk>", "sep_token": "</s>", "pad_token": "<pad>", "cls_token": "<s>", "mask_token": "<mask>"}
    config = names | ({"tokenizer_class": named} if "Tok" in named else {})
    folder = write(tmp_path / "m", "bert" if "Tok" in named else named, config, tokenizer_json=whole(kind))
    mine = assert_from_tokenizer_json(folder, f"is not for the {kind}")
    assert (mine.cls_id, mine.pad_id, mine.sep_id, mine.unk_id, mine.mask_id) == (0, 1, 2, 3, 4)
    assert mine.encode("the cat").ids[0] == 0


def test_bert_over_a_wordpiece_with_another_prefix(tmp_path: Path) -> None:
    content = json.loads(whole("WordPiece"))
    content["model"]["continuing_subword_prefix"] = "@@"
    content["model"]["vocab"] = {token.replace("##", "@@"): n for token, n in content["model"]["vocab"].items()}
    folder = write(tmp_path / "m", "bert", {"do_lower_case": False}, tokenizer_json=json.dumps(content))
    assert_from_tokenizer_json(folder, "taken as it stands")


@pytest.mark.reference
def test_a_plain_byte_level_bpe_is_read_as_roberta_does(tmp_path: Path) -> None:
    import transformers

    folder = write(tmp_path / "m", "roberta", {}, tokenizer_json=whole("BPE"))
    theirs, mine = transformers.AutoTokenizer.from_pretrained(folder), quiet(folder)
    assert mine.ids_batch(HARD).ids == theirs(HARD)["input_ids"]
    assert mine.notes == ()


# ---- contradictions


@pytest.mark.parametrize(
    ("kind", "config", "says"),
    [
        ("Unigram", {"tokenizer_class": "XLMRobertaTokenizer", "do_lower_case": True}, "do_lower_case = True"),
        ("Unigram", {"tokenizer_class": "AlbertTokenizer", "keep_accents": False}, "keep_accents = False"),
        ("Unigram", {"tokenizer_class": "CamembertTokenizer", "add_prefix_space": False}, "add_prefix_space = False"),
        ("Unigram", {"tokenizer_class": "PreTrainedTokenizerFast", "strip_accents": True}, "strip_accents = True"),
        ("Unigram", {"tokenizer_class": "BertTokenizer", "do_lower_case": True}, "do_lower_case = True"),
        ("BPE", {"tokenizer_class": "RobertaTokenizer", "add_prefix_space": True}, "add_prefix_space = False; followed.*True"),
        ("BPE", {"tokenizer_class": "PreTrainedTokenizerFast", "add_prefix_space": True}, "add_prefix_space = True"),
        ("WordPiece", {"tokenizer_class": "BertTokenizer", "do_lower_case": True}, "normalizer.lowercase = None"),
        ("WordPiece", {"tokenizer_class": "BertTokenizer"}, "tokenizer_config.json does not say"),
        ("WordPiece", {"tokenizer_class": "PreTrainedTokenizerFast", "do_lower_case": True}, "do_lower_case = True"),
        ("WordPiece", {"tokenizer_class": "BertTokenizer", "cls_token": "[MASK]"}, "around an empty pair; followed"),
        ("WordPiece", {"tokenizer_class": "BertTokenizer", "unk_token": "[PAD]"}, "model.unk_token = '\\[UNK\\]'"),
    ],
)
def test_a_folder_that_contradicts_itself_is_told(kind: str, config: dict[str, Any], says: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "m", config=config, tokenizer_json=whole(kind))
    for _ in range(2):  # each time
        with pytest.warns(Assumed, match=says):
            tokenizer = Tokenizer.from_folder(folder)
    assert any(part in note for note in tokenizer.notes for part in ("followed", "otherwise"))


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        (
            "Unigram",
            {"tokenizer_class": "XLMRobertaTokenizer", "do_lower_case": False, "keep_accents": True, "add_prefix_space": True},
        ),
        ("BPE", {"tokenizer_class": "RobertaTokenizer", "add_prefix_space": False, "trim_offsets": True}),
        ("BPE", {"tokenizer_class": "PreTrainedTokenizerFast", "add_prefix_space": False}),
        ("WordPiece", {"tokenizer_class": "PreTrainedTokenizerFast", "strip_accents": None, "tokenize_chinese_chars": True}),
        ("WordLevel", {"tokenizer_class": "PreTrainedTokenizerFast", "add_prefix_space": True}),
    ],
)
def test_a_folder_that_agrees_with_itself_is_quiet(kind: str, config: dict[str, Any], tmp_path: Path) -> None:
    quiet(write(tmp_path / "m", config=config, tokenizer_json=whole(kind)))


def test_a_cased_vocabulary_is_not_lowercased_in_silence(tmp_path: Path) -> None:
    cased = "\n".join([*VOCAB, "The", "##Ing"])
    folder = write(tmp_path / "cased", "bert", vocab_txt=cased)
    with pytest.warns(Assumed, match="upper case is in 2 of its tokens, as 'The'"):
        assert Tokenizer.from_folder(folder).lowercase
    assert not quiet(folder, {"do_lower_case": False}).lowercase
    assert quiet(folder, {"do_lower_case": True}).lowercase
    assert quiet(write(tmp_path / "uncased", "bert", vocab_txt="\n".join(VOCAB))).lowercase
    assert quiet(write(tmp_path / "real", vocab_txt=(minilm() / "vocab.txt").read_bytes())).lowercase
    assert quiet(write(tmp_path / "told", config={"do_lower_case": True}, vocab_txt=cased)).lowercase


# ---- nothing is left to chance


@pytest.mark.parametrize(
    "config", [{"tokenizer_class": "PreTrainedTokenizerFast"}, {"tokenizer_class": "RobertaTokenizer"}, None]
)
def test_dropout_is_for_training(config: Any, tmp_path: Path) -> None:
    content = json.loads(whole("BPE"))
    still = quiet(write(tmp_path / "still", config=config, tokenizer_json=json.dumps(content)))
    for chance in (0.5, 1.0):
        content["model"]["dropout"] = chance
        folder = write(tmp_path / str(chance), config=config, tokenizer_json=json.dumps(content))
        tokenizer = quiet(folder)
        assert {tuple(tokenizer.encode(TEXT).ids) for _ in range(20)} == {tuple(still.encode(TEXT).ids)}
        assert [ids for ids in tokenizer.ids_batch([TEXT] * 20).ids if ids != still.encode(TEXT).ids] == []
        assert any(f"dropout of {chance}" in note for note in tokenizer.notes)
        tokenizer.save(tmp_path / f"saved{chance}")
        assert (tmp_path / f"saved{chance}" / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()


# ---- settings


def test_settings_go_over_both_files(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", "bert", {"pad_token": "[PAD]"}, vocab_txt="\n".join(VOCAB))
    (folder / "special_tokens_map.json").write_text('{"pad_token": "[PAD]", "mask_token": "[MASK]"}')
    tokenizer = quiet(folder, {"pad_token": "[MASK]"})
    assert tokenizer.pad_token == "[MASK]"
    tokenizer.save(tmp_path / "saved")
    assert quiet(tmp_path / "saved").pad_token == "[MASK]"
    assert json.loads((tmp_path / "saved" / "special_tokens_map.json").read_text()) == {"mask_token": "[MASK]"}


def test_settings_that_a_tokenizer_does_not_take_are_refused(tmp_path: Path) -> None:
    bert = write(tmp_path / "bert", "bert", vocab_txt="\n".join(VOCAB))
    unigram = write(tmp_path / "unigram", tokenizer_json=whole("Unigram"))
    for folder, settings, error, says in (
        (bert, {"colour": 1}, RefusedError, "does not support colour="),
        (bert, {"add_prefix_space": True}, RefusedError, "add_prefix_space=: one of its kind takes do_lower_case"),
        (unigram, {"do_lower_case": True}, RefusedError, "do_lower_case=: its tokenizer.json alone"),
        (unigram, {"keep_accents": False}, RefusedError, "keep_accents="),
        (bert, {"padding_side": "middle"}, BadInputError, "'left' or 'right'"),
    ):
        with pytest.raises(error, match=says):
            Tokenizer.from_folder(folder, settings)
    assert not quiet(unigram, {"do_lower_case": False}).lowercase  # which it does not do anyway


# ---- pickles, copies, threads


def every(root: Path) -> list[Tokenizer]:
    split = write(root / "split", "bert", {"split_special_tokens": True}, vocab_txt="\n".join(VOCAB))
    found = [Tokenizer.from_folder(minilm()), quiet(split), quiet(write(root / "u", tokenizer_json=whole("Unigram")))]
    found += [quiet(make.folder(root / case, case)) for case in ("xlm-roberta", "albert, as it is written")]
    return [*found, found[-1].lowercased(), quiet(write(root / "b", "roberta", {}, tokenizer_json=whole("BPE")))]


def test_copies_of_any_kind_give_the_same_ids(tmp_path: Path) -> None:
    texts = [*HARD[::9], TEXT, "a [SEP] b", "<mask> x"]
    for tokenizer in every(tmp_path):
        copies = [copy.copy(tokenizer), copy.deepcopy(tokenizer), tokenizer.detached()]
        copies += [pickle.loads(pickle.dumps(tokenizer, protocol)) for protocol in range(2, 6)]
        if importlib.util.find_spec("cloudpickle"):
            import cloudpickle

            copies.append(pickle.loads(cloudpickle.dumps(tokenizer)))
        for twin in copies:
            assert twin.ids_batch(texts) == tokenizer.ids_batch(texts)
            assert [ours(e) for e in twin.encode_batch(texts)] == [ours(e) for e in tokenizer.encode_batch(texts)]
            assert twin.decode(twin.encode(TEXT).ids) == tokenizer.decode(tokenizer.encode(TEXT).ids)
            assert (twin.kind, twin.notes, twin.frame, twin.settings) == (
                tokenizer.kind,
                tokenizer.notes,
                tokenizer.frame,
                tokenizer.settings,
            )


def test_a_lowercased_tokenizer_is_not_saved_as_if_it_were_not(tmp_path: Path) -> None:
    tokenizer = quiet(write(tmp_path / "m", "bert", {"do_lower_case": False}, vocab_txt="\n".join(VOCAB))).lowercased()
    with pytest.raises(RefusedError, match="lower case"):
        tokenizer.save(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_threads_of_anybody_get_the_same_ids(tmp_path: Path) -> None:
    import ctypes

    for tokenizer in every(tmp_path):
        expected = [tokenizer.encode(text).ids for text in make.TEXTS]

        def check(n: int, tokenizer: Tokenizer = tokenizer, expected: list[list[int]] = expected) -> bool:
            place = n % len(expected)
            return (
                tokenizer.encode(make.TEXTS[place]).ids == expected[place] and tokenizer.ids_batch(make.TEXTS).ids == expected
            )

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(check, range(64)))
        found: list[bool] = []
        body = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(lambda _, check=check, found=found: found.append(check(3)))
        libc = ctypes.CDLL(None)
        for _ in range(3):  # threads that Python knows nothing of
            thread = ctypes.c_ulong()
            assert libc.pthread_create(ctypes.byref(thread), None, body, None) == 0
            libc.pthread_join(thread, None)
        assert found == [True] * 3
