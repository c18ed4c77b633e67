"""Train the small models of this folder, and write down the ids that transformers gives for them.

Needs sentencepiece and protobuf beside the extra `parity`; run from the root: ``python tests/nativebert/spm/make.py``.
With the word ``hard`` only hard.json is written: of the ids of the texts of support/hard_texts.py, a digest for each text.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TEXTS = [
    "", " ", "The (cat)  sat, à\n£5.…", "L'été dernier, j'ai mangé une pomme à Paris.", "Où est la bibliothèque ?", "Ça coûte 1,000 euros.",
    "ＡＢ ﬁn a\u00a0b\u3000c", "Die Straße ist SCHÖN", "Привет, мир!", "东京很大 and it’s fine", "``quoted'' text", '(a) "b" – £5 €6',
    "<mask> the <mask>. a<mask>b", "[MASK] the [MASK].", "<s> x </s> <pad> <unk>", "▁ the▁cat", "</s>NOTUSED", "\U0001f600 emoji\ttab",
    "e\u0301 nai\u0308ve CAFÉ", "12,000 in 1,999, and 3,50", "deep learning is powerful " * 8,
]  # fmt: skip
CASES: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "xlm-roberta": ("xlmr", "sentencepiece.bpe.model", "xlm-roberta", {}),
    "xlm-roberta, no space before": ("xlmr", "sentencepiece.bpe.model", "xlm-roberta", {"add_prefix_space": False}),
    "xlm-roberta, tokens of its own": (
        "xlmr",
        "sentencepiece.bpe.model",
        "xlm-roberta",
        {"additional_special_tokens": ["cat"]},
    ),
    "camembert": ("camembert", "sentencepiece.bpe.model", "camembert", {}),
    "camembert, no space before": ("camembert", "sentencepiece.bpe.model", "camembert", {"add_prefix_space": False}),
    "albert": ("albert", "spiece.model", "albert", {}),
    "albert, cased": ("albert", "spiece.model", "albert", {"do_lower_case": False}),
    "albert, accents kept": ("albert", "spiece.model", "albert", {"keep_accents": True}),
    "deberta": ("deberta", "spm.model", "deberta-v2", {}),
    "deberta, lower case and cut at punctuation": (
        "deberta",
        "spm.model",
        "deberta-v2",
        {"do_lower_case": True, "split_by_punct": True, "add_prefix_space": False},
    ),
    "albert, as it is written": ("albert", "spiece.model", "albert", {"do_lower_case": False, "keep_accents": True}),
}


def folder(at: Path, case: str) -> Path:
    """The folder of a case."""
    model, name, family, config = CASES[case]
    at.mkdir(parents=True)
    (at / name).write_bytes((HERE / f"{model}.model").read_bytes())
    (at / "config.json").write_text(json.dumps({"model_type": family}))
    (at / "tokenizer_config.json").write_text(json.dumps(config))
    return at


def train() -> None:
    import sentencepiece

    corpus = (HERE.parents[2] / "examples" / "sentences.txt").read_text("utf-8").splitlines()
    corpus += [text for text in TEXTS if text.strip() and "<" not in text and "[" not in text] * 6
    replaced = {0xFF21: "A", 0xFF22: "B", 0xA0: " ", 0x3000: " ", 0x2026: "...", 0xFB01: "fi", 0x2019: "'"}
    with tempfile.TemporaryDirectory() as work:
        rules = Path(work) / "rules.tsv"
        rules.write_text("".join(f"{old:X}\t{' '.join(f'{ord(c):X}' for c in new)}\n" for old, new in replaced.items()))
        fairseq = {"unk_id": 0, "bos_id": 1, "eos_id": 2, "pad_id": -1}
        kinds: dict[str, dict[str, Any]] = {
            "xlmr": fairseq,
            "camembert": fairseq,
            "albert": {
                "pad_id": 0, "unk_id": 1, "bos_id": -1, "eos_id": -1, "control_symbols": ["[CLS]", "[SEP]", "[MASK]"],
                "user_defined_symbols": ["(", ")", '"', "-", ".", "–", "£", "€"],
            },
            "deberta": {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3, "pad_piece": "[PAD]", "bos_piece": "[CLS]", "eos_piece": "[SEP]",
                        "unk_piece": "[UNK]"},
        }  # fmt: skip
        for name, options in kinds.items():
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(corpus), model_prefix=f"{work}/{name}", model_type="unigram", vocab_size=300,
                hard_vocab_limit=False, normalization_rule_tsv=str(rules), num_threads=1, minloglevel=2, **options,
            )  # fmt: skip
            (HERE / f"{name}.model").write_bytes((Path(work) / f"{name}.model").read_bytes())


def ids() -> dict[str, Any]:
    """Case -> what transformers makes of the texts, and of pairs of neighbours."""
    import transformers

    found = {}
    with tempfile.TemporaryDirectory() as work:
        for case in CASES:
            theirs = transformers.AutoTokenizer.from_pretrained(folder(Path(work) / case, case))
            pairs = theirs(TEXTS[:-1], TEXTS[1:], return_token_type_ids=True)
            names = {name: getattr(theirs, f"{name}_token_id") for name in ("pad", "cls", "sep", "mask", "unk")}
            found[case] = {
                "ids": theirs(TEXTS)["input_ids"], "pairs": pairs["input_ids"], "types": pairs["token_type_ids"],
                "tokens": theirs.convert_ids_to_tokens(range(len(theirs))), "named": names,
            }  # fmt: skip
    return found


def digests(rows: list[list[int]]) -> str:
    """Eight hexadecimal digits for each row of ids, one after another."""
    return "".join(hashlib.sha256(json.dumps(row).encode()).hexdigest()[:8] for row in rows)


def hard() -> dict[str, str]:
    """Case -> the digests of what transformers makes of the hard texts."""
    import transformers

    sys.path.insert(0, str(HERE.parents[1] / "support"))
    from hard_texts import hard_texts

    with tempfile.TemporaryDirectory() as work:
        made = {case: transformers.AutoTokenizer.from_pretrained(folder(Path(work) / case, case)) for case in CASES}
        return {case: digests(theirs(hard_texts())["input_ids"]) for case, theirs in made.items()}


def write(name: str, content: dict[str, Any]) -> None:
    (HERE / name).write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n", "utf-8")


if __name__ == "__main__":
    if "hard" not in sys.argv[1:]:
        train()
        write("ids.json", ids())
    write("hard.json", hard())
