"""Derive answer.json from the question-answering pipeline of transformers 4, which transformers 5 no longer has.

In an environment of its own:

    python -m venv transformers4
    transformers4/bin/pip install torch==2.13.0 transformers==4.57.6
    transformers4/bin/python tests/golden/derive_answer.py

The models are made anew from their seed by tests/nativebert/questions.py, here as in the test that reads the file; it
holds the answers alone: ``[score, start, end]`` each.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "support"))

from questions import FAMILIES, POSITIONS, SETTINGS, fingerprint, pairs, qa_folder  # noqa: E402

NAMES = {"no_answer": "handle_impossible_answer", "max_answer_tokens": "max_answer_len"}


def derive(folder: Path) -> list[list[Any]]:
    """The answers to every pair with each of the settings."""
    pipeline = transformers.pipeline("question-answering", str(folder), device="cpu", torch_dtype=torch.float32)
    found = []
    for setting in SETTINGS:
        given = {NAMES.get(name, name): value for name, value in setting.items()}
        answers = [pipeline(question=q, context=c, max_seq_len=POSITIONS - 2, **given) for q, c in pairs()]
        lists = [one if isinstance(one, list) else [one] for one in answers]
        for (_, context), some in zip(pairs(), lists):
            assert all(one["answer"] == context[one["start"] : one["end"]] for one in some)
        found.append([[[round(one["score"], 9), one["start"], one["end"]] for one in some] for some in lists])
    return found


def main() -> None:
    assert transformers.__version__.startswith("4."), transformers.__version__
    torch.set_num_threads(1)
    golden: dict[str, Any] = {"versions": {"torch": torch.__version__, "transformers": transformers.__version__}}
    for family in FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            golden[family] = {"fingerprint": fingerprint(family), "answers": derive(qa_folder(Path(folder) / "m", family))}
    (HERE / "answer.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
