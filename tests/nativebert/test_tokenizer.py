"""The tokenizer against transformers, against ids worked out by hand, and against files and texts made to break it."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import minilm

from nativebert.errors import BadInputError, CorruptError, NativeBertError, NotFoundError, RefusedError
from nativebert.text.tokenizer import FILES, Tokenizer

# ---- texts that tokenizers disagree about

HARD = [
    # nothing, and next to nothing
    *["", " ", "  ", "\t", "\n", "\r\n", "\r", " \t\r\n ", "\u00a0", "\u3000", "\u2003", "\u2028", "\u2029", "\x85"],
    *["\u200b", "\ufeff", "\u00ad", "\0", "\x01", "\x7f", "\x1b[31m", "\ufffd", "\x0b", "\x0c", "\x1c", "\x1f"],
    *["\u200d", "\u2060", "\ue000", "\U000f0000", "\uffff", "\U0010ffff", "\ufdd0", "\u0378", "\u180e", "a", ".", "#"],
    # ordinary sentences, and the seams in them
    "Deep learning is powerful.",
    "The quick brown fox jumps over the lazy dog; it did so twice!",
    "don't can't won't I'm you've they'll o'clock rock'n'roll 'tis",
    "state-of-the-art, e.g. (i.e.) etc... Mr. Smith's U.S.A.",
    "hello,world.no spaces:at;all!really?yes",
    "She said: \u201cIt\u2019s \u2018fine\u2019\u201d \u2014 and left\u2026",
    "unpaired \" quote and ' another ( and [ and {",
    "trailing space ",
    " leading space",
    "two  spaces   three",
    "tab\tseparated\tvalues",
    "windows\r\nline\r\nends\r\n",
    "old mac\rline\rends",
    "unix\nline\nends\n\n\n",
    "zero\0byte in\0side",
    "bell\x07 back\x08space escape\x1b delete\x7f next\x85line",
    "form\x0cfeed vertical\x0btab unit\x1fseparator file\x1cseparator",
    "replacement \ufffd character\ufffd",
    "no\u00a0break space, narrow\u202fno-break, figure\u2007space, thin\u2009space, ideographic\u3000space",
    "zero\u200bwidth\u200bspace zero\u200cwidth\u200dnon joiner word\u2060joiner \ufeffbom soft\u00adhyphen",
    "line\u2028separator paragraph\u2029separator mongolian\u180evowel ogham\u1680space",
    "left\u200eto\u200fright \u202aembedding\u202c \u2066isolate\u2069 override \u202eabc\u202c",
    # case and accents
    *["na\u00efve caf\u00e9 r\u00e9sum\u00e9 \u00c9LAN", "nai\u0308ve cafe\u0301 re\u0301sume\u0301 E\u0301LAN", "\u00e9", "e\u0301", "\u0301"],
    *["\u0301\u0302\u0303", "a\u0301\u0302\u0303\u0304b", "\u0301start", "end\u0301", "q\u0307\u0323", "\u1e9b\u0323", "\u1e69"],
    *["Z\u0351\u036b\u0343\u036a\u0302a\u0348\u035al\u0321\u034ag\u0352\u035ao\u0321\u0328", "\u00c5ngstr\u00f6m \u212bngstr\u00f6m A\u030angstro\u0308m"],
    *["I\u0130\u0131i \u0130stanbul DIYARBAKIR d\u0131\u015far\u0131", "i\u0307", "\u0130", "\u0130\u0130\u0130 tail", "I\u0307", "\u0131"],
    *["stra\u00dfe STRASSE STRA\u1e9eE Ma\u00df", "\u00df", "\u1e9e", "\ufb01sh \ufb02ow \ufb03 \ufb00 \ufb06", "\u0132ssel\u0133sselmeer \u01c4 \u01c5 \u01c6"],
    *["\u00e6on \u00c6ON \u0153uvre \u0152UVRE", "\u00d8resund \u00f8l \u0141\u00f3d\u017a \u0111\u00f4ng \u0110", "\u00fe\u00f3rr \u00deORN \u00f0 \u00d0", "\u017fecret \u017f", "\u212aelvin \u2126hm"],
    *["\u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2 \u03a3\u0399\u03a3\u03a5\u03a6\u039f\u03a3", "\u1fb3 \u1fb6 \u1f80 \u0390 \u03b0", "\u0391\u0344", "\u1fbe", "\u0345"],
    *["\uff28\uff45\uff4c\uff4c\uff4f\u3000\uff37\uff4f\uff52\uff4c\uff44\uff01", "\u210c\u212c \U0001d400\U0001d41b\U0001d4d2 \U0001d7d8\U0001d7d9", "\u24d0\u24d1 \u2460\u2461 \u2160\u2171"],
    *["x\u00b2 + y\u00b3 = z\u2074 \u00bd \u00be \u2153", "\u33a5 \u339e \u2103 \u2122 \u00ae \u00a9 \u2116", "\u0149 \u01f0 \u1e96 \u1e97", "Ti\u1ebfng Vi\u1ec7t \u0111\u1eb9p l\u1eafm"],
    "Ti\u00ea\u0301ng Vi\u00ea\u0323t",
    "P\u0159\u00edli\u0161 \u017elu\u0165ou\u010dk\u00fd k\u016f\u0148 \u00fap\u011bl \u010f\u00e1belsk\u00e9 \u00f3dy",
    "Zażółć gęślą jaźń ÁRVÍZTŰRŐ tükörfúrógép",
    "Þetta er íslenska, ĝis la revido, ħobż, ŋ, ſ, ƀ",
    # other scripts
    *["\u4e2d\u6587", "\u4e2d\u6587abc\u4e2d", "\u6211\u7231\u5317\u4eac\u5929\u5b89\u95e8\u3002", "\u4e2d \u6587", "\u3002\uff0c\u3001\uff1b\uff1a\uff1f\uff01\u300c\u300d\u300e\u300f\u3010\u3011"],
    *["\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8", "\u304b\u3099\u304d\u3099 \u304c\u304e", "\uff8a\uff9d\uff76\uff78 \uff76\uff9e", "\u30a2\u30fc\u30c8", "\u3005\u3006\u3007\u303b"],
    *["\ud55c\uad6d\uc5b4 \ud14d\uc2a4\ud2b8", "\u1112\u1161\u11ab\u1100\u116e\u11a8", "\u3131\u314f", "\U00020000\U0002a6d6 \U0002f800", "\u2e80\u2f00\uf900\ufa0e\u3400\u4db5\u9fff"],
    *["\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440! \u0401\u043b\u043a\u0430 \u0451\u043b\u043a\u0430 \u0419\u043e\u0434 \u0439\u043e\u0434", "\u0438\u0306 \u0435\u0308 \u0407\u0436\u0430\u043a \u0457\u0436\u0430\u043a", "\u0416\u0301", "\u00abкавычки\u00bb — „лапки“"],
    *["\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645", "\u0645\u064e\u0631\u0652\u062d\u064e\u0628\u064b\u0627", "\u0627\u0644\u0640\u0640\u0640\u0633\u0644\u0627\u0645", "\u0622 \u0623 \u0625 \u0624 \u0626", "\u061f \u060c \u061b \u066a", "\ufefb \ufdfa \ufdf2"],
    *["\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd", "\u05e9\u05b8\u05c1\u05dc\u05d5\u05b9\u05dd", "abc \u05d0\u05d1\u05d2 123 \u05d3\u05d4", "\u05f3 \u05f4 \u05be", "\ufb1d \ufb2a"],
    *["\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e", "\u0915\u094d\u0937 \u0964 \u0965", "\u09ac\u09be\u0982\u09b2\u09be", "\u0ba4\u0bae\u0bbf\u0bb4\u0bcd", "\u0c24\u0c46\u0c32\u0c41\u0c17\u0c41", "\u0d2e\u0d32\u0d2f\u0d3e\u0d33\u0d02"],
    *["\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e0a\u0e32\u0e27\u0e42\u0e25\u0e01", "\u1019\u103c\u1014\u103a\u1019\u102c", "\u1797\u17b6\u179f\u17b6\u1781\u17d2\u1798\u17c2\u179a", "\u0f56\u0f7c\u0f51\u0f0b\u0f66\u0f90\u0f51\u0f0d", "\u10e5\u10d0\u10e0\u10d7\u10e3\u10da\u10d8 \u1c90", "\u0540\u0561\u0575\u0565\u0580\u0565\u0576 \u0587"],
    *["\u12a0\u121b\u122d\u129b \u1361 \u1362", "\u13e3\u13b3\u13a9 \uab70", "\u1401\u14c4\u1483\u144e\u1450\u1466", "\U00010400\U00010428", "\U00012000\U00013000", "\u16a0\u16b1", "\u2800\u2801\u28ff"],
    "mixed \u0441\u0443rillic and latin \u0430\u0430a, greek \u03b1a, \u4e2d\u6587 and \u0639\u0631\u0628\u064a in one",
    # symbols
    *["\U0001f600", "\U0001f600\U0001f603 hi\U0001f604there", "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 family", "\U0001f44d\U0001f3fd", "\U0001f1eb\U0001f1f7\U0001f1e9\U0001f1ea", "\u2764\ufe0f \u2764", "1\ufe0f\u20e3 #\ufe0f\u20e3"],
    *["\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", "\u2603 \u2600\ufe0e \u2708", "\U0001f9d1\U0001f3ff\u200d\U0001f680", "text\U0001f4a9text", "\u00a9\ufe0f", "\U0001fae8"],
    *["$100 \u20ac50 \u00a320 \u00a5900 \u20b910 \u20bf1 \u00a2", "a+b=c<d>e|f~g`h^i", "\u2200x\u2208\u211d: \u221ax\u2260\u221e \u222b\u2202 \u2211", "\u2190\u2191\u2192\u2193 \u21d2 \u2194", "\u250c\u2500\u2510\u2588\u2591", "\u2022 \u00b7 \u2027 \u30fb \u2024"],
    *["\u2010 \u2011 \u2012 \u2013 \u2014 \u2015 \u2212 - \ufe63 \uff0d", "!!!???...,,,;;;", "@#$%^&*()_+-=[]{}|;':\",./<>?\\`~", "\u00a7 \u00b6 \u2020 \u2021 \u203b", "\u266a\u266b \u2605\u2606", "\u00ac \u00a6 \u00a8 \u00af \u00b4 \u00b8 \u02c6 \u02dc"],
    # numbers, addresses, code
    *["123", "1,234,567.89", "-3.14e-10", "0x1F 0b101 1_000", "3.5%", "2026-11-21T22:15:00Z", "+1 (555) 010-9999", "1st 2nd 3rd 21st", "\u0661\u0662\u0663 \u0967\u0968\u0969", "IV XII MMXXVI", "12345678901234567890"],
    *["https://example.org/a/b?c=d&e=%20f#g", "www.example.com:8080", "user.name+tag@mail.example.co.uk", "ftp://[::1]/", "C:\\Users\\me\\file.txt", "/usr/local/bin", "#hashtag @mention RT", "192.168.0.1"],
    "<p class=\"a\">Hello&nbsp;<b>world</b> &amp; &#39;all&#39; &lt;3</p><!-- no -->",
    "def f(x: int) -> str:\n\treturn f'{x!r}'  # comment",
    'SELECT * FROM t WHERE a = \'b\' -- "c"',
    "{\"key\": [1, 2.5, null, true], \"k\\u00e9\": \"v\\n\"}",
    "$\\frac{a}{b} \\alpha_{i}^{2}$ \\begin{x}",
    "camelCase snake_case kebab-case PascalCase SCREAMING_CASE",
    "```python\nprint('hi')\n```",
    # the vocabulary's own spellings
    *["[SEP]", "[CLS]", "[MASK]", "[PAD]", "[UNK]", "[unused0]", "[unused99]", "[sep]", "[Mask]", "[ MASK ]", "[MASK]]", "[[MASK]", "[MASK", "MASK]"],
    *["text with [SEP] inside", "the capital of France is [MASK].", "[CLS] a [SEP] b [SEP]", "a[MASK]b", " [MASK] ", "\n[MASK]\n", "[MASK][MASK] [MASK]", "\u00e9[MASK]\u00e9", "\u4e2d[SEP]\u6587", "[UNK] unknown [PAD] padded"],
    *["##ing", "## ing", "play ##ing", "##", "###", "a##b", "<s> </s> <pad> <mask> <unk>", "<extra> [EXTRA] [ENT] extra_word", "[EXTRA]s and[EXTRA] [ENT]ity  [ENT]  x", "[\u200bMASK]", "[M\u0301ASK]", "Extra_Word EXTRA_WORD xextra_wordx"],
    # lengths
    "w" * 99,
    "w" * 100,
    "w" * 101,
    "x" * 300,
    "\u00e9" * 100,
    "e\u0301" * 60,
    "\u0301" * 150 + "a",
    "supercalifragilisticexpialidocious antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "a b " * 300,
    "lorem ipsum dolor sit amet, " * 357 + "end.",
    "\u4e2d" * 600,
    "\U0001f600" * 200,
    "word" + " " * 500 + "word",
    "." * 700,
    "-" * 101,
    "a" * 50 + "[SEP]" + "b" * 120,
    "ab1" * 40,
    "(" * 40 + "nested" + ")" * 40,
]  # fmt: skip

PAIRS = [(a, b) for a, b in zip(HARD, HARD[37:] + HARD[:37])]

# ---- folders


def folder(path: Path, *files: str, config: Any = None, tokens: Any = None, added: Any = None, model: Any = None) -> Path:
    """A model folder: ``files`` copied from MiniLM, and the JSON files given."""
    path.mkdir(parents=True, exist_ok=True)
    for name in files:
        shutil.copy(minilm() / name, path)
    texts = {
        "tokenizer_config.json": config,
        "special_tokens_map.json": tokens,
        "added_tokens.json": added,
        "config.json": model,
    }
    for name, content in texts.items():
        if content is not None:
            (path / name).write_text(json.dumps(content))
    return path


BERT = {"tokenizer_class": "BertTokenizer"}
ENT = {"lstrip": True, "rstrip": False, "single_word": False, "normalized": False, "special": True}
EXTRA = {"lstrip": False, "rstrip": False, "single_word": True, "normalized": True, "special": False}
FOLDERS: dict[str, Callable[[Path], Path]] = {
    "MiniLM": lambda p: minilm(),
    "uncased": lambda p: folder(p, "vocab.txt", config={**BERT, "do_lower_case": True}),
    "cased": lambda p: folder(p, "vocab.txt", config={**BERT, "do_lower_case": False}),
    "model type only": lambda p: folder(p, "vocab.txt", model={"model_type": "bert"}),
    "distilbert": lambda p: folder(p, "vocab.txt", config={"tokenizer_class": "DistilBertTokenizerFast"}),
    "electra by type": lambda p: folder(p, "vocab.txt", config={"do_lower_case": False}, model={"model_type": "electra"}),
    "lower, accents kept": lambda p: folder(p, "vocab.txt", config={**BERT, "strip_accents": False}),
    "cased, accents gone": lambda p: folder(p, "vocab.txt", config={**BERT, "do_lower_case": False, "strip_accents": True}),
    "chinese in words": lambda p: folder(p, "vocab.txt", config={**BERT, "tokenize_chinese_chars": False}),
    "never_split is ignored": lambda p: folder(
        p, "vocab.txt", config={**BERT, "never_split": ["hello"], "do_basic_tokenize": False}
    ),
    "specials split": lambda p: folder(p, "vocab.txt", config={**BERT, "split_special_tokens": True}),
    "no pad token": lambda p: folder(p, "vocab.txt", config={**BERT, "pad_token": None}),
    "other names": lambda p: folder(
        p,
        "vocab.txt",
        config={**BERT, "mask_token": "[unused0]", "sep_token": "[SEP]"},
        tokens={"cls_token": "[unused99]"},
    ),
    "custom *_token": lambda p: folder(
        p, "vocab.txt", config={**BERT, "entity_token": "[ENT]", "bos_token": "<s>", "add_x_token": True}
    ),
    "added_tokens_decoder": lambda p: folder(
        p,
        "vocab.txt",
        config={
            **BERT,
            "added_tokens_decoder": {
                "30523": {"content": "extra_word", **EXTRA},
                "30522": {"content": "[ENT]", **ENT},
                "103": {"content": "[MASK]", **ENT},
            },
        },
        tokens={"cls_token": "[unused99]"},
    ),
    "added_tokens.json": lambda p: folder(
        p, "vocab.txt", config=BERT, added={"[EXTRA]": 30522, "extra_word": 30523, "[MASK]": 103}
    ),
    "additional_special_tokens": lambda p: folder(
        p, "vocab.txt", config={**BERT, "additional_special_tokens": ["[ENT]", "<extra>"]}
    ),
    "special_tokens_map with dicts": lambda p: folder(
        p,
        "vocab.txt",
        config=BERT,
        tokens={
            "mask_token": {
                "content": "[MASK]",
                "lstrip": True,
                "rstrip": False,
                "single_word": False,
                "normalized": False,
            },
            "extra_special_tokens": ["[EXTRA]"],
        },
    ),
    "__type AddedToken": lambda p: folder(
        p, "vocab.txt", config={**BERT, "mask_token": {"__type": "AddedToken", "content": "[MASK]", **ENT}}
    ),
    "json, config silent": lambda p: folder(p, "tokenizer.json", config=BERT),
    "json against config": lambda p: folder(
        p, "tokenizer.json", config={**BERT, "do_lower_case": False, "strip_accents": False}
    ),
    "json with added tokens": lambda p: folder(
        p, "tokenizer.json", config={**BERT, "additional_special_tokens": ["[ENT]"]}, added={"[EXTRA]": 30522}
    ),
    "json as it stands": lambda p: folder(
        p, "tokenizer.json", config={"tokenizer_class": "PreTrainedTokenizerFast", "do_lower_case": False}
    ),
    "json as it stands, more tokens": lambda p: folder(
        p,
        "tokenizer.json",
        config={
            "tokenizer_class": "TokenizersBackend",
            "mask_token": "[ENT]",
            "extra_special_tokens": ["<extra>"],
            "added_tokens_decoder": {"9": {"content": "extra_word", **EXTRA}},
        },
    ),
    "json alone": lambda p: folder(p, "tokenizer.json"),
}

# ---- against transformers


@pytest.fixture(scope="module")
def reference() -> Iterator[Any]:
    import transformers

    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    yield transformers.AutoTokenizer
    transformers.logging.set_verbosity(before)


def facts(encoding: Any) -> dict[str, Any]:
    """All there is to know about a ``tokenizers.Encoding``, under our names."""
    names = ["ids", "type_ids", "tokens", "offsets", "word_ids", "sequence_ids"]
    return {name: getattr(encoding, name) for name in names} | {"special": [x == 1 for x in encoding.special_tokens_mask]}


def ours(encoding: Any) -> dict[str, Any]:
    names = ["ids", "type_ids", "tokens", "offsets", "word_ids", "sequence_ids", "special"]
    return {name: getattr(encoding, name) for name in names}


def test_there_are_enough_hard_texts() -> None:
    assert len(set(HARD)) == len(HARD) >= 250


@pytest.mark.reference
@pytest.mark.parametrize("name", FOLDERS)
def test_equals_transformers(name: str, tmp_path: Path, reference: Any) -> None:
    path = FOLDERS[name](tmp_path / "model")
    theirs, mine = reference.from_pretrained(path), Tokenizer.from_folder(path)

    for given, expected in [(HARD, theirs(HARD)), (PAIRS, theirs(HARD, [b for _, b in PAIRS]))]:
        encodings = mine.encode_batch(given)
        for text, encoding, wanted in zip(given, encodings, expected.encodings, strict=True):
            assert ours(encoding) == facts(wanted), f"{text!r}"
        fast = mine.ids_batch(given)
        assert fast.ids == expected["input_ids"]
        if given is PAIRS:
            assert fast.type_ids == [encoding.type_ids for encoding in expected.encodings]
        else:
            assert fast.type_ids is None
            assert not any(any(encoding.type_ids) for encoding in expected.encodings)
    assert [e.ids for e in mine.encode_batch(HARD, special_tokens=False)] == theirs(HARD, add_special_tokens=False)["input_ids"]

    assert mine.vocab == theirs.get_vocab()
    assert mine.vocab_size == len(theirs)
    assert mine.n_special() == theirs.num_special_tokens_to_add()
    assert mine.n_special(pair=True) == theirs.num_special_tokens_to_add(pair=True)
    if "as it stands" not in name and name != "json alone":  # there, the reference knows no names of special tokens
        for kind in ("pad", "cls", "sep", "mask", "unk"):
            if kind == "pad" and name == "no pad token":
                with pytest.raises(RefusedError, match="no pad_token"):
                    _ = mine.pad_id
                continue
            assert getattr(mine, f"{kind}_id") == getattr(theirs, f"{kind}_token_id")
            assert getattr(mine, f"{kind}_token") == getattr(theirs, f"{kind}_token")
        assert mine.special_ids >= set(theirs.all_special_ids)
    for ids in fast.ids[::7]:
        assert mine.decode(ids) == theirs.decode(ids, skip_special_tokens=True)
        assert mine.decode(ids, skip_special_tokens=False) == theirs.decode(ids)


@pytest.mark.reference
def test_decode_cleans_up_spaces_where_the_folder_says_so(tmp_path: Path, reference: Any) -> None:
    text = "Don't you 're , said O ' Hara . isn 't n't"
    seen = set()
    for clean in (True, False):
        path = folder(tmp_path / str(clean), "vocab.txt", config={**BERT, "clean_up_tokenization_spaces": clean})
        theirs, mine = reference.from_pretrained(path), Tokenizer.from_folder(path)
        ids = mine.encode(text).ids
        assert mine.decode(ids) == theirs.decode(ids, skip_special_tokens=True)
        seen.add(mine.decode(ids))
    assert len(seen) == 2


@pytest.mark.reference
@pytest.mark.parametrize("name", ["MiniLM", "added_tokens.json", "added_tokens_decoder", "other names"])
def test_transformers_reads_what_we_save(name: str, tmp_path: Path, reference: Any) -> None:
    before = Tokenizer.from_folder(FOLDERS[name](tmp_path / "model"))
    before.save(tmp_path / "saved")
    shutil.copy(minilm() / "config.json", tmp_path / "saved")
    assert reference.from_pretrained(tmp_path / "saved")(HARD)["input_ids"] == before.ids_batch(HARD).ids


# ---- by hand

SMALL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "deep", "learn", "##ing", "##s", "is", "power", "##ful"]
SMALL += [".", ",", "the", "Caf\u00e9", "cafe", "\u4e2d", "!", "#", "naive", "a", "b"]


@pytest.fixture
def small(tmp_path: Path) -> Tokenizer:
    return made(tmp_path)


def made(path: Path, vocab: list[str] = SMALL, **config: Any) -> Tokenizer:
    path.mkdir(parents=True, exist_ok=True)
    (path / "vocab.txt").write_text("\n".join(vocab) + "\n", encoding="utf-8")
    return Tokenizer.from_folder(folder(path, config=config or {"model_max_length": 64, "do_lower_case": True}))


def test_a_sentence_worked_out_by_hand(small: Tokenizer) -> None:
    encoding = small.encode("Deep learnings\u00a0is  POWERFUL.")
    assert encoding.tokens == ["[CLS]", "deep", "learn", "##ing", "##s", "is", "power", "##ful", ".", "[SEP]"]
    assert encoding.ids == [2, 5, 6, 7, 8, 9, 10, 11, 12, 3]
    assert encoding.offsets == [
        (0, 0),
        (0, 4),
        (5, 10),
        (10, 13),
        (13, 14),
        (15, 17),
        (19, 24),
        (24, 27),
        (27, 28),
        (0, 0),
    ]
    assert encoding.word_ids == [None, 0, 1, 1, 1, 2, 3, 3, 4, None]
    assert encoding.sequence_ids == [None, *[0] * 8, None]
    assert encoding.type_ids == [0] * 10
    assert encoding.special == [True, *[False] * 8, True]
    assert len(encoding) == 10


def test_a_pair_worked_out_by_hand(small: Tokenizer) -> None:
    encoding = small.encode("na\u00efve \u4e2d\u4e2d", "the zebra!")
    assert encoding.tokens == ["[CLS]", "naive", "\u4e2d", "\u4e2d", "[SEP]", "the", "[UNK]", "!", "[SEP]"]
    assert encoding.ids == [2, 20, 17, 17, 3, 14, 1, 18, 3]
    assert encoding.type_ids == [0, 0, 0, 0, 0, 1, 1, 1, 1]
    assert encoding.offsets == [(0, 0), (0, 5), (6, 7), (7, 8), (0, 0), (0, 3), (4, 9), (9, 10), (0, 0)]
    assert encoding.word_ids == [None, 0, 1, 2, None, 0, 1, 2, None]
    assert encoding.sequence_ids == [None, 0, 0, 0, None, 1, 1, 1, None]
    assert small.ids_batch([("na\u00efve \u4e2d\u4e2d", "the zebra!")]) == ([encoding.ids], [encoding.type_ids])


def test_special_tokens_in_a_text_are_special_tokens(small: Tokenizer) -> None:
    encoding = small.encode("a [MASK] b[SEP]")
    assert encoding.ids == [2, 21, 4, 22, 3, 3]
    assert encoding.special == [True, False, False, False, False, True]  # special: put there by the template
    assert small.encode("a b", special_tokens=False).ids == [21, 22]
    assert small.encode("", "").ids == [2, 3, 3]
    assert small.encode("").ids == [2, 3]


def test_options_by_hand(tmp_path: Path) -> None:
    assert made(tmp_path / "1", do_lower_case=False).encode("Caf\u00e9 cafe Deep").ids == [2, 15, 16, 1, 3]
    assert made(tmp_path / "2").encode("Caf\u00e9 cafe Deep").ids == [2, 16, 16, 5, 3]
    assert made(tmp_path / "3", tokenize_chinese_chars=False).encode("\u4e2d \u4e2d\u4e2d").ids == [2, 17, 1, 3]
    assert made(tmp_path / "4", do_lower_case=False, strip_accents=True).encode("caf\u00e9 Caf\u00e9").ids == [
        2,
        16,
        1,
        3,
    ]
    assert made(tmp_path / "5", do_lower_case=True, strip_accents=False).encode("caf\u00e9 cafe").ids == [2, 1, 16, 3]


def test_the_vocabulary(small: Tokenizer, tmp_path: Path) -> None:
    assert (small.pad_id, small.unk_id, small.cls_id, small.sep_id, small.mask_id) == (0, 1, 2, 3, 4)
    assert (small.pad_token, small.cls_token, small.sep_token) == ("[PAD]", "[CLS]", "[SEP]")
    assert (small.mask_token, small.unk_token) == ("[MASK]", "[UNK]")
    assert small.special_ids == {0, 1, 2, 3, 4}
    assert small.vocab_size == len(small.vocab) == len(SMALL)
    assert small.vocab == {token: number for number, token in enumerate(SMALL)}
    assert (small.token_to_id("deep"), small.token_to_id("nowhere")) == (5, None)
    assert (small.id_to_token(5), small.id_to_token(23), small.id_to_token(-1), small.id_to_token(2**40)) == (
        "deep",
        None,
        None,
        None,
    )
    assert (small.n_special(), small.n_special(pair=True)) == (2, 3)
    assert small.lowercase
    assert not made(tmp_path / "cased", do_lower_case=False).lowercase
    assert small.notes == ()
    assert small.frame == ([2], [3])
    assert repr(small).endswith("vocab_size=23, lowercase=True)")


def test_max_length(tmp_path: Path) -> None:
    for number, (given, expected) in enumerate([(64, 64), (512.0, 512), (1e30, None), (10**30, None), (10**9, None)]):
        assert made(tmp_path / str(number), model_max_length=given).max_length == expected
    assert made(tmp_path / "none", do_lower_case=True).max_length is None
    assert made(tmp_path / "old", max_len=128).max_length == 128
    for number, wrong in enumerate(["512", 0, -1, True, [512], float("nan")]):
        with pytest.raises(CorruptError, match="model_max_length"):
            made(tmp_path / f"wrong{number}", model_max_length=wrong)


def test_a_special_token_outside_the_vocabulary_is_told(tmp_path: Path) -> None:
    tokenizer = made(tmp_path, [token for token in SMALL if token != "[MASK]"])
    assert tokenizer.mask_id == 22
    assert tokenizer.notes == ("[MASK] is not in the vocabulary: it became id 22",)


def test_decode(small: Tokenizer) -> None:
    ids = small.encode("Deep learnings is powerful, caf\u00e9!").ids
    assert small.decode(ids) == "deep learnings is powerful, cafe!"
    assert small.decode(ids, skip_special_tokens=False) == "[CLS] deep learnings is powerful, cafe! [SEP]"
    assert small.decode(np.array(ids)) == small.decode(tuple(ids))
    assert small.decode([]) == ""
    for wrong in (-100, 23, 2**40):
        with pytest.raises(BadInputError, match=f"id {wrong} .* 0 to 22"):
            small.decode([5, wrong])


# ---- properties of the real thing


@pytest.fixture(scope="module")
def real() -> Tokenizer:
    return Tokenizer.from_folder(minilm())


def test_offsets_point_into_the_original_text(real: Tokenizer) -> None:
    checked = 0
    for text, encoding in zip(HARD, real.encode_batch(HARD), strict=True):
        last = 0
        for token, (start, end), special in zip(encoding.tokens, encoding.offsets, encoding.special, strict=True):
            if special:
                assert (start, end) == (0, 0)
                continue
            assert 0 <= last <= start <= end <= len(text)
            last = start
            piece = text[start:end]
            if token != "[UNK]" and piece.isascii() and piece.isprintable():
                assert piece.lower() == token.removeprefix("##").lower() or token in ("#", "##")
                checked += 1
    assert checked > 5000


def test_nothing_is_truncated_or_padded(real: Tokenizer, tmp_path: Path) -> None:
    settings = json.loads((minilm() / "tokenizer.json").read_text())
    assert settings["truncation"]["max_length"] == settings["padding"]["strategy"]["Fixed"] == 128
    as_it_stands = Tokenizer.from_folder(folder(tmp_path, "tokenizer.json"))
    for tokenizer in (real, as_it_stands):
        assert len(tokenizer.encode("deep " * 1000)) == 1002
        assert len(tokenizer.encode("deep")) == 3
    assert [len(ids) for ids in real.ids_batch(["deep", "deep " * 300]).ids] == [3, 302]
    assert real.max_length == 512
    assert real.notes == ()


def test_batches_do_not_change_a_text(real: Tokenizer) -> None:
    together = real.encode_batch(HARD)
    assert [ours(real.encode(text)) for text in HARD] == [ours(encoding) for encoding in together]
    assert real.encode_batch([]) == []
    assert real.ids_batch([]) == ([], None)


def test_save_is_byte_identical(tmp_path: Path) -> None:
    for number, name in enumerate(["MiniLM", "added_tokens.json", "json against config"]):
        source = FOLDERS[name](tmp_path / f"{number}")
        tokenizer = Tokenizer.from_folder(source)
        expected = {file: (source / file).read_bytes() for file in FILES if (source / file).exists()}
        target = tmp_path / "deep" / f"{number}"
        tokenizer.save(target)
        assert {file.name: file.read_bytes() for file in target.iterdir()} == expected
        tokenizer.save(target)  # again, over itself
        assert Tokenizer.from_folder(target).digest == tokenizer.digest


def test_digest(real: Tokenizer, small: Tokenizer) -> None:
    assert real.digest == "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
    assert len(small.digest) == 64


def test_pickle_and_copy(small: Tokenizer) -> None:
    for twin in (pickle.loads(pickle.dumps(small)), copy.deepcopy(small)):
        assert twin.encode("deep learning").ids == small.encode("deep learning").ids
        assert (twin.pad_id, twin.digest) == (small.pad_id, small.digest)


def test_disagreements_are_told(tmp_path: Path) -> None:
    path = folder(tmp_path, "tokenizer.json", config={**BERT, "do_lower_case": False})
    (note,) = Tokenizer.from_folder(path).notes
    assert "normalizer.lowercase = True" in note
    assert "followed, as transformers does: False" in note


def test_import_is_cheap() -> None:
    code = "import sys, nativebert.text.tokenizer; print({'torch', 'tokenizers', 'transformers', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


# ---- what users give

NAN = float("nan")
BAD = [
    (["a", None], "text 1 is None: a missing text"),
    (["a", "b", NAN], "text 2 is nan: a missing text"),
    ([b"a"], "text 0 is bytes, b'a': decode it"),
    (["a", 5], "text 1 is a int, 5, not a str"),
    (["a", ["b"]], "text 1 is a list"),
    ("a plain string", "a single text was given .* write \\[text\\]"),
    (b"bytes", "a single text was given"),
    (np.array("zero dimensions"), "a single text was given"),
    (5, "texts is a int: give a list"),
    (None, "texts is a NoneType: give a list"),
    ({"a": "b"}, "texts is a dict: give a list"),
    ({"a"}, "texts is a set: give a list"),
    (np.array([1.5, 2.5]), "text 0 is a float, 1.5"),
    (["fine", "half \ud83d"], "text 1 holds half a character .*'.ud83d', at 5"),
    ([("a", "b"), ("c",)], "text 1 is not a pair of texts, and text 0 is one"),
    ([("a", "b"), ("c", None)], "text 1 is None"),
    ([("a", "b"), "c"], "text 1 is not a pair of texts, and text 0 is one"),
    ([("a", "b"), ("c", "\udc00")], "text 1 holds half a character"),
]


@pytest.mark.parametrize(("texts", "message"), BAD, ids=[str(number) for number in range(len(BAD))])
def test_bad_texts(small: Tokenizer, texts: Any, message: str) -> None:
    for method in (small.encode_batch, small.ids_batch):
        with pytest.raises(BadInputError, match=message) as caught:
            method(texts)
        assert isinstance(caught.value, NativeBertError)
        assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("text", "message"), [(None, "None"), (b"x", "bytes"), (["x"], "list"), ("\ud800", "half a character")]
)
def test_one_bad_text(small: Tokenizer, text: Any, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        small.encode(text)
    if text is not None:
        with pytest.raises(BadInputError, match=message):
            small.encode("fine", text)


def test_ids_in_two_steps(small: Tokenizer) -> None:
    texts = ["deep", "learning is", ""]
    for some in (texts, texts[:1], []):
        ids, lengths = small.ids_soon(some)()
        expected = small.ids_batch(some).ids
        assert lengths.tolist() == [len(row) for row in expected]
        assert ids.tolist() == [number for row in expected for number in row]
    with pytest.raises(BadInputError, match="text 7 is a int"):
        small.ids_soon(["a", 5], first=6)  # type: ignore[list-item]


def test_whatever_holds_texts_will_do(small: Tokenizer) -> None:
    texts = ["deep", "learning is", ""]
    expected = small.ids_batch(texts)
    for given in (
        tuple(texts),
        np.array(texts),
        np.array(texts, dtype=object),
        iter(texts),
        [np.str_(text) for text in texts],
    ):
        assert small.ids_batch(given) == expected
    pairs = [("deep", "a"), ("", "b")]
    for given in (pairs, np.array(pairs), [list(pair) for pair in pairs]):
        assert small.ids_batch(given) == small.ids_batch(pairs)
        assert [encoding.type_ids for encoding in small.encode_batch(given)] == small.ids_batch(pairs).type_ids


def test_the_first_text_may_have_another_number(small: Tokenizer) -> None:
    for texts in (["a", None], ["a", "\ud800"]):
        with pytest.raises(BadInputError, match="text 1001 "):
            small.ids_batch(texts, first=1000)  # type: ignore[arg-type]


def test_lowercased(tmp_path: Path) -> None:
    cased = made(tmp_path, do_lower_case=False)
    lower = cased.lowercased()
    assert lower.ids_batch(["Caf\u00e9 Cafe DEEP"]).ids == cased.ids_batch(["caf\u00e9 cafe deep"]).ids == [[2, 1, 16, 5, 3]]
    assert lower.ids_batch([("DEEP", "The")]).ids == [[2, 5, 3, 14, 3]]
    assert lower.encode("DEEP").ids == [2, 5, 3]
    assert (lower.lowercase, cased.lowercase) == (True, False)
    assert cased.encode("DEEP").ids == [2, 1, 3]


class Column:
    """What pandas, polars and pyarrow have in common."""

    def to_list(self) -> list[str]:
        return ["deep", "learning"]


class Table:
    columns = ("deep", "learning")

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)


def test_columns_and_tables(small: Tokenizer) -> None:
    column: Any = Column()
    table: Any = Table()
    assert small.ids_batch(column) == small.ids_batch(["deep", "learning"])
    with pytest.raises(BadInputError, match="texts is a Table: give a list of texts, or one column"):
        small.ids_batch(table)


# ---- what files hold


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="is not a folder"):
        Tokenizer.from_folder(tmp_path / "nowhere")
    with pytest.raises(NotFoundError, match=r"no tokenizer.json and no vocab.txt"):
        Tokenizer.from_folder(tmp_path)


HOSTILE: list[tuple[str, Any]] = [
    ("model", None),
    ("model", []),
    ("model", {}),
    ("model.vocab", {}),
    ("model.vocab", 5),
    ("model.vocab", {"[UNK]": "zero"}),
    ("model.vocab", {"[UNK]": 2**40}),
    ("model.vocab", {"[UNK]": -1}),
    ("model.vocab", {"[UNK]": 1.5}),
    ("model.vocab", {"\ud800": 1}),
    ("model.unk_token", 5),
    ("model.max_input_chars_per_word", -1),
    ("added_tokens", 5),
    ("added_tokens", [5]),
    ("added_tokens", [{}]),
    ("added_tokens.0.id", "zero"),
    ("added_tokens.0.content", 7),
    ("added_tokens.0.special", "yes"),
    ("normalizer", 5),
    ("normalizer", {"type": "NoSuch"}),
    ("normalizer", {"type": "Replace", "pattern": {"Regex": "(("}, "content": ""}),
    ("pre_tokenizer", "x"),
    ("post_processor", {"type": "TemplateProcessing"}),
    ("post_processor.special_tokens", {}),
    ("truncation", {"max_length": -1}),
    ("padding", {"strategy": {"Fixed": "many"}}),
    ("version", 10**400),
]


@pytest.mark.parametrize("kind", ["BertTokenizer", "PreTrainedTokenizerFast"])
@pytest.mark.parametrize(("where", "value"), HOSTILE, ids=[f"{where}={str(value)[:20]}" for where, value in HOSTILE])
def test_hostile_tokenizer_json(where: str, value: Any, kind: str, tmp_path: Path, template: dict[str, Any]) -> None:
    """BERT's own reading never looks at some parts, and then works; nothing else than CorruptError may come out."""
    content = copy.deepcopy(template)
    *path, last = [int(part) if part.isdigit() else part for part in where.split(".")]
    at: Any = content
    for part in path:
        at = at[part]
    at[last] = value
    (tmp_path / "tokenizer.json").write_text(dumped(content))
    folder(tmp_path, config={"tokenizer_class": kind})
    unread = ("model.unk_token", "model.max", "post_processor", "truncation", "padding", "version")
    if kind == "BertTokenizer" and (where.startswith(unread) or (where == "normalizer" and isinstance(value, dict))):
        assert Tokenizer.from_folder(tmp_path).encode("a b").ids == [2, 21, 22, 3]
    else:
        with pytest.raises(CorruptError, match=str(tmp_path)):
            Tokenizer.from_folder(tmp_path)


def dumped(content: dict[str, Any]) -> str:
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        return json.dumps(content)
    finally:
        sys.set_int_max_str_digits(limit)


@pytest.fixture
def template() -> dict[str, Any]:
    """A small tokenizer.json, right in every part."""
    content: dict[str, Any] = json.loads((minilm() / "tokenizer.json").read_text())
    content["model"]["vocab"] = {token: number for number, token in enumerate(SMALL)}
    content["added_tokens"] = [
        {
            "id": number,
            "content": token,
            "lstrip": False,
            "rstrip": False,
            "single_word": False,
            "normalized": False,
            "special": True,
        }
        for number, token in enumerate(SMALL[:5])
    ]
    for name, number in (("[CLS]", 2), ("[SEP]", 3)):
        content["post_processor"]["special_tokens"][name]["ids"] = [number]
    return content


def test_the_template_itself_is_right(template: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(template))
    assert Tokenizer.from_folder(tmp_path).encode("a b").ids == [2, 21, 22, 3]


@pytest.mark.parametrize(
    "name", ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "config.json"]
)
@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff\xfe\xfd", b"[" * 100_000, b'{"a": 1', b"not json"])
def test_broken_json(name: str, data: bytes, small: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CorruptError, match=name):
        Tokenizer.from_folder(tmp_path)


def test_truncated_tokenizer_json(tmp_path: Path) -> None:
    data = (minilm() / "tokenizer.json").read_bytes()
    for length in (1, 100, 2000, len(data) // 2, len(data) - 1):
        (tmp_path / "tokenizer.json").write_bytes(data[:length])
        with pytest.raises(CorruptError, match=r"tokenizer\.json is not JSON"):
            Tokenizer.from_folder(tmp_path)


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"no\nspecial\ntokens\n", b"\0" * 1000])
def test_broken_vocabulary(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes(data)
    with pytest.raises(CorruptError, match=str(tmp_path)):
        Tokenizer.from_folder(tmp_path)


@pytest.mark.parametrize(
    "config",
    [
        {"do_lower_case": "yes"},
        {"do_lower_case": None},
        {"strip_accents": 5},
        {"tokenize_chinese_chars": []},
        {"cls_token": 5},
        {"cls_token": None},
        {"mask_token": ["[MASK]"]},
        {"unk_token": {"no": "content"}},
        {"added_tokens_decoder": []},
        {"added_tokens_decoder": {"x": {"content": "y"}}},
        {"added_tokens_decoder": {"5": {"content": None}}},
        {"added_tokens_decoder": {"5": 5}},
        {"additional_special_tokens": 5},
        {"extra_special_tokens": "<x>"},
        {"additional_special_tokens": [5]},
        {"cls_token": "two words"},
    ],
    ids=str,
)
def test_hostile_config(config: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(CorruptError):
        made(tmp_path, **config)


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"vocab.txt alone, and its tokenizer is 'BertJapaneseTokenizer'"):
        made(tmp_path / "1", tokenizer_class="BertJapaneseTokenizer")
    with pytest.raises(RefusedError, match="code of its own"):
        made(tmp_path / "2", tokenizer_class="Mine", auto_map={"AutoTokenizer": ["mine.Mine", None]})


def test_hostile_model_config(small: Tokenizer, tmp_path: Path) -> None:
    for model in ({"model_type": []}, {"tokenizer_class": 5}, {"model_type": {"a": 1}}):
        with pytest.raises((CorruptError, RefusedError), match=str(tmp_path)):
            Tokenizer.from_folder(folder(tmp_path, model=model))


def test_keyboard_interrupt_is_not_swallowed(small: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*args: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    class Core:
        encode_batch = encode_batch_fast = stop

    monkeypatch.setattr(small, "_core", Core())
    with pytest.raises(KeyboardInterrupt):
        small.encode("a")
