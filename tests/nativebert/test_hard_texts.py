"""500 generated texts that tokenizers disagree about: every form of tokenizer files gives the ids of transformers."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from hard_texts import RANGES, SPECIAL, hard_texts
from models import minilm
from test_tokenizer import FOLDERS, HARD
from test_vocabularies import whole

from nativebert.text.tokenizer import Tokenizer

HERE = Path(__file__).parent / "spm"
sys.path.insert(0, str(HERE))
import make  # noqa: E402

TEXTS = hard_texts()
RECORDED: dict[str, str] = json.loads((HERE / "hard.json").read_text("utf-8"))


def tokenizer(folder: Path) -> Tokenizer:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is assumed is the business of other tests
        return Tokenizer.from_folder(folder)


def test_the_texts_are_hard_and_the_same_everywhere() -> None:
    assert len(set(TEXTS)) == len(TEXTS) == 500
    assert hashlib.sha256("\0".join(TEXTS).encode()).hexdigest()[:16] == "cb0d4a748d369505"
    joined = "".join(TEXTS)
    for kind, ranges in RANGES.items():
        assert sum(any(low <= ord(c) <= high for low, high in ranges) for c in joined) > 100, kind
    assert all(token in joined for token in SPECIAL)
    assert max(map(len, TEXTS)) > 500


@pytest.mark.parametrize("case", make.CASES)
def test_a_sentencepiece_file(case: str, tmp_path: Path) -> None:
    mine = tokenizer(make.folder(tmp_path / "m", case))
    rows = mine.ids_batch(TEXTS).ids
    found = make.digests(rows)
    wrong = [text for n, text in enumerate(TEXTS) if found[8 * n : 8 * n + 8] != RECORDED[case][8 * n : 8 * n + 8]]
    assert wrong == []
    assert [list(mine.encode(text).ids) for text in TEXTS[::25]] == rows[::25]


def byte_level(folder: Path, config: dict[str, Any]) -> Path:
    from tokenizers import ByteLevelBPETokenizer

    core = ByteLevelBPETokenizer()
    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    core.train_from_iterator(HARD, vocab_size=900, min_frequency=1, special_tokens=names, show_progress=False)
    core.save_model(str(folder))
    return written(folder, "roberta", config)


def written(folder: Path, family: str, config: dict[str, Any]) -> Path:
    (folder / "config.json").write_text(json.dumps({"model_type": family}))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def mpnet(folder: Path, config: dict[str, Any]) -> Path:
    (folder / "vocab.txt").write_bytes(b"<s>\n<pad>\n</s>\n<unk>\n" + (minilm() / "vocab.txt").read_bytes() + b"<mask>\n")
    return written(folder, "mpnet", config)


def trained(folder: Path, kind: str) -> Path:
    (folder / "tokenizer.json").write_text(whole(kind))
    return written(folder, "modernbert", {"tokenizer_class": "PreTrainedTokenizerFast"})


def saved(folder: Path, case: str) -> Path:
    """The tokenizer.json of a sentencepiece file, as the Hub has it beside or in place of that."""
    from tokenizers import Tokenizer as Core

    before = make.folder(folder / "before", case)
    core: Core = tokenizer(before)._core
    core.save(str(folder / "tokenizer.json"))
    # transformers saves CamemBERT with this key; without it, it takes "</s>NOTUSED" for a special token, which it does not in a sentencepiece file
    config = {"extra_special_tokens": ["<s>", "</s>"]} if case == "camembert" else {}
    return written(folder, make.CASES[case][2], make.CASES[case][3] | config)


OTHERS: dict[str, Any] = {
    **{f"BERT, {name}": make for name, make in FOLDERS.items()},
    "RoBERTa": lambda p: byte_level(p, {}),
    "RoBERTa, space before": lambda p: byte_level(p, {"add_prefix_space": True}),
    "RoBERTa, spaces in offsets": lambda p: byte_level(p, {"trim_offsets": False}),
    "MPNet": lambda p: mpnet(p, {}),
    "MPNet, cased": lambda p: mpnet(p, {"do_lower_case": False}),
    **{
        f"{kind} in tokenizer.json": lambda p, kind=kind: trained(p, kind)
        for kind in ("Unigram", "BPE", "WordPiece", "WordLevel")
    },
    **{
        f"{case} in tokenizer.json": lambda p, case=case: saved(p, case)
        for case in ("xlm-roberta", "camembert", "albert, as it is written", "deberta")
    },
}


@pytest.mark.reference
@pytest.mark.parametrize("name", OTHERS)
def test_other_files(name: str, tmp_path: Path) -> None:
    import transformers

    (tmp_path / "m").mkdir()
    folder = OTHERS[name](tmp_path / "m")
    theirs, mine = transformers.AutoTokenizer.from_pretrained(folder), tokenizer(folder)
    found, expected = mine.ids_batch(TEXTS).ids, theirs(TEXTS)["input_ids"]
    assert [text for text, ids, right in zip(TEXTS, found, expected, strict=True) if ids != right] == []
    backwards = TEXTS[::-1]
    assert mine.ids_batch(list(zip(TEXTS, backwards, strict=True))).ids == theirs(TEXTS, backwards)["input_ids"]
    if (folder / "tokenizer.json").exists() and folder != minilm():  # as it is saved
        mine.save(tmp_path / "saved")
        shutil.copy(folder / "config.json", tmp_path / "saved") if (folder / "config.json").exists() else None
        assert tokenizer(tmp_path / "saved").ids_batch(TEXTS).ids == found
