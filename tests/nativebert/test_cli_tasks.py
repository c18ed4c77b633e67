"""The commands that run a task over a file: what they write, and what they say where they cannot."""

from __future__ import annotations

import csv
import errno
import json
import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models import BERT, VOCAB, bert_tensors, write_folder
from test_cli import Result, Run, Terminal, one_line
from test_cli import run as run_here

import nativebert as nb
from nativebert import cli, console
from nativebert.cli import rows
from nativebert.errors import BadInputError
from nativebert.io.read import read_columns
from nativebert.io.write import Records, write_records
from nativebert.pictures.attention import attention
from nativebert.pictures.map import MapPicture
from nativebert.saliency import saliency
from nativebert.search import semantic_search

run = run_here  # the fixture
TEXTS = ["the cat sat", "a dog, a cat", "the cat sat on the mat", "deep learning is powerful"]
H = BERT["hidden_size"]
HEADS: dict[str, tuple[str, dict[str, tuple[int, ...]], tuple[str, ...]]] = {
    "classify": ("ForSequenceClassification", {"classifier.weight": (3, H), "classifier.bias": (3,)}, ("bad", "good", "[red]so\x1b[31m")),
    "rank": ("ForSequenceClassification", {"classifier.weight": (1, H), "classifier.bias": (1,)}, ("score",)),
    "tag": (
        "ForTokenClassification", {"classifier.weight": (5, H), "classifier.bias": (5,)}, ("O", "B-PER", "I-PER", "B-ORG", "I-ORG"),
    ),
    "answer": ("ForQuestionAnswering", {"qa_outputs.weight": (2, H), "qa_outputs.bias": (2,)}, ("a", "b")),
    "fill": (
        "ForMaskedLM",
        {
            "cls.predictions.transform.dense.weight": (H, H), "cls.predictions.transform.dense.bias": (H,),
            "cls.predictions.transform.LayerNorm.weight": (H,), "cls.predictions.transform.LayerNorm.bias": (H,),
            "cls.predictions.bias": (len(VOCAB),),
        },
        ("a", "b"),
    ),
}  # fmt: skip
"""Command -> the end of transformers' class, the tensors of its head, its labels."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model for each command, by its name, and the encoder `embed`."""
    root = tmp_path_factory.mktemp("models")
    write_folder(root / "embed", BERT)
    (root / "embed" / "modules.json").write_text(
        json.dumps(
            [{"path": p, "type": f"sentence_transformers.models.{t}"} for p, t in (("", "Transformer"), ("1_P", "Pooling"))]
        )
    )
    (root / "embed" / "1_P").mkdir()
    (root / "embed" / "1_P" / "config.json").write_text('{"pooling_mode": "mean"}')
    for name, (end, shapes, labels) in HEADS.items():
        g = torch.Generator().manual_seed(len(name) + 2)
        named = {"id2label": dict(enumerate(labels)), "label2id": {label: n for n, label in enumerate(labels)}}
        tensors = bert_tensors(BERT, prefix="bert.", pooler=end == "ForSequenceClassification")
        tensors |= {tensor: torch.randn(shape, generator=g) * 0.5 for tensor, shape in shapes.items()}
        write_folder(root / name, {**BERT, "architectures": [f"Bert{end}"], **named}, tensors)
    return root


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("".join(f"{text}\n" for text in TEXTS))
    return path


def records(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def table(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def summary(text: str) -> dict[str, str]:
    return dict(line.split(None, 1) for line in text.splitlines())


def on_terminal(monkeypatch: pytest.MonkeyPatch, *argv: object, colours: bool = False) -> str:
    """What a command prints to a terminal."""
    screen = Terminal()
    with monkeypatch.context() as patch:
        for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "TTY_COMPATIBLE"):
            patch.delenv(name, raising=False)
        patch.setenv("TERM", "xterm-256color")
        patch.setenv("COLUMNS", "200")
        if not colours:
            patch.setenv("NO_COLOR", "1")
        patch.setattr(sys, "stdout", screen)
        assert cli.main([str(word) for word in argv]) == 0
    return screen.getvalue()


# ---- rank, search


def test_rank(run: Run, models: Path, lines: Path, tmp_path: Path) -> None:
    expected = [{"query": "a cat", **hit} for hit in nb.Ranker(models / "rank", device="cpu").rank("a cat", TEXTS)]
    result = run("rank", lines, "--query", "a cat", "-m", models / "rank", "-o", tmp_path / "r.jsonl")
    assert (result.code, result.err) == (0, "")
    assert records((tmp_path / "r.jsonl").read_text()) == [
        {"query": one["query"], "index": one["index"], "score": one["score"], "text": one["text"]} for one in expected
    ]
    shown = summary(result.out)
    assert shown["texts"] == f"4 from {lines}"
    assert shown["queries"] == "1"
    assert shown["tokens"] == "39, none truncated"  # 19 of the texts, 4 times 2 of the query and 3 special ones
    assert shown["results"] == f"4 texts in {tmp_path / 'r.jsonl'}"

    run("rank", lines, "--query", "a cat", "--query", "dog", "-m", models / "rank", "--top-k", 1, "-o", tmp_path / "r.csv")
    header, first, second = table(tmp_path / "r.csv")
    assert header == ["query", "index", "score", "text"]
    assert first == ["a cat", str(expected[0]["index"]), str(expected[0]["score"]), expected[0]["text"]]
    assert second[0] == "dog"


def test_rank_refuses_a_model_without_one_score(run: Run, models: Path, lines: Path) -> None:
    message = one_line(run("rank", lines, "--query", "a cat", "-m", models / "classify"))
    assert "has 3 outputs" in message
    assert "nativebert classify --pair-column" in message


def test_search(run: Run, models: Path, lines: Path, tmp_path: Path) -> None:
    embed = nb.Embedder(models / "embed", device="cpu")
    (tmp_path / "q.csv").write_text("id,text\n1,a dog\n")
    hits = semantic_search(embed(["the mat", "a dog"]), embed(TEXTS), top_k=2)
    expected = [
        {"query": query, "index": hit["index"], "score": hit["score"], "text": TEXTS[hit["index"]]}
        for query, found in zip(["the mat", "a dog"], hits)
        for hit in found
    ]
    argv = ["search", lines, "--query", "the mat", "--queries", tmp_path / "q.csv", "-m", models / "embed", "--top-k", 2]
    result = run(*argv)
    assert result.code == 0
    assert records(result.out) == expected  # in a pipe
    assert summary(result.err)["queries"] == "2"
    assert run(*argv, "-o", "-", "--quiet") == (0, result.out, "")

    for ending in ("npy", "csv", "jsonl"):
        assert run("embed", lines, "-m", models / "embed", "-o", tmp_path / f"v.{ending}").code == 0
        again = run(*argv, "--vectors", tmp_path / f"v.{ending}")
        assert records(again.out) == expected, ending


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("v.jsonl", '{"text": "the dog sat", "embedding": [1]}\n', r"'the dog sat' there, and 'the cat sat' here"),
        ("v.csv", "text,d1\na,1\n", "has 1 vectors, but there are 4 texts"),
        ("v.npy", None, "not a numeric .npy file"),
    ],
)
def test_search_refuses_the_vectors_of_other_texts(
    run: Run, models: Path, lines: Path, tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    content = content if content is None or name == "v.csv" else content + content.replace("dog", "cat") * 3
    (tmp_path / name).write_text(content or "x")
    result = run("search", lines, "--query", "a", "-m", models / "embed", "--vectors", tmp_path / name)
    assert re.search(message, one_line(result)), result.err


def test_search_with_prompts(run: Run, models: Path, lines: Path) -> None:
    embed = nb.Embedder(models / "embed", device="cpu")
    hits = semantic_search(embed(["mat"], prompt="the "), embed(TEXTS, prompt="a "), top_k=4)[0]
    found = run("search", lines, "--query", "mat", "-m", models / "embed", "--query-prompt", "the ", "--prompt", "a ")
    assert [(one["index"], one["score"]) for one in records(found.out)] == [(hit["index"], hit["score"]) for hit in hits]


def test_hits_on_a_terminal(monkeypatch: pytest.MonkeyPatch, models: Path, lines: Path) -> None:
    shown = on_terminal(
        monkeypatch, "search", lines, "--query", "a dog", "--query", "the mat", "-m", models / "embed", "--top-k", 1
    )
    plain = [line.rstrip() for line in re.sub(r"\x1b\[[\d;]*m", "", shown).splitlines()]
    assert plain[:2] == ["a dog", "index  score  text"]
    assert re.fullmatch(r"\d      \d\.\d{3}  .+", plain[2])
    assert plain[3:5] == ["", "the mat"]
    assert plain[7] == ""
    assert plain[8].split() == ["model", str(models / "embed"), "(from", "a", "folder)"]


# ---- tag


def test_tag(run: Run, models: Path, lines: Path, tmp_path: Path) -> None:
    expected = nb.Tagger(models / "tag", device="cpu")(TEXTS)
    result = run("tag", lines, "-m", models / "tag", "-o", tmp_path / "t.jsonl")
    assert (result.code, result.err) == (0, "")
    assert records((tmp_path / "t.jsonl").read_text()) == [
        {"text": text, "entities": entities} for text, entities in zip(TEXTS, expected)
    ]
    count = sum(map(len, expected))
    assert count > 4
    assert summary(result.out)["results"] == f"{count} entities in {tmp_path / 't.jsonl'}"

    first = nb.Tagger(models / "tag", device="cpu", aggregation="first", ignore=["O", "PER"])(TEXTS)
    options = ["--aggregation", "first", "--ignore", "O", "--ignore", "PER"]
    run("tag", lines, "-m", models / "tag", "-o", tmp_path / "t.csv", *options)
    header, *rows = table(tmp_path / "t.csv")
    assert header == ["item", "text", "label", "score", "start", "end"]
    assert rows == [[str(n), *map(str, entity.values())] for n, entities in enumerate(first) for entity in entities]


def test_tag_gives_several_labels(run: Run, monkeypatch: pytest.MonkeyPatch, models: Path, lines: Path, tmp_path: Path) -> None:
    for given, k in (("2", 2), ("all", None)):
        expected = nb.Tagger(models / "tag", device="cpu")(TEXTS, top_k=k)
        result = run("tag", lines, "-m", models / "tag", "--top-k", given, "-o", tmp_path / "t.jsonl")
        assert [record["entities"] for record in records((tmp_path / "t.jsonl").read_text())] == list(expected)
        assert summary(result.out)["results"] == f"{sum(map(len, expected))} entities in {tmp_path / 't.jsonl'}"
        run("tag", lines, "-m", models / "tag", "--top-k", given, "-o", tmp_path / "t.csv")
        header, *rows = table(tmp_path / "t.csv")
        assert header == ["item", "entity", "text", "label", "score", "start", "end"]
        assert rows == [
            [str(n), str(m), e["text"], one["label"], str(one["score"]), str(e["start"]), str(e["end"])]
            for n, entities in enumerate(expected)
            for m, e in enumerate(entities)
            for one in e["labels"]
        ]
    assert "'0' is not a whole number above 0" in one_line(run("tag", lines, "-m", models / "tag", "--top-k", "0"))
    (tmp_path / "t.txt").write_text("the cat")
    (entities,) = nb.Tagger(models / "tag", device="cpu")(["the cat"], top_k=2)
    first, second = entities[0]["labels"]
    argv = ["tag", tmp_path / "t.txt", "-m", models / "tag", "--top-k", 2, "--quiet"]
    shown = re.sub(r"\x1b\[[\d;]*m", "", on_terminal(monkeypatch, *argv)).splitlines()
    where = [str(entities[0]["start"]), str(entities[0]["end"])]
    assert shown[0].split() == header
    assert shown[1].split() == ["0", "0", *entities[0]["text"].split(), first["label"], f"{first['score']:.3f}", *where]
    assert shown[2].split() == [second["label"], f"{second['score']:.3f}", *where]


def test_tag_reads_long_texts_in_windows(run: Run, models: Path, lines: Path, tmp_path: Path) -> None:
    argv = ["tag", lines, "-m", models / "tag", "--max-tokens", 5]
    result = run(*argv, "--stride", 1)
    expected = nb.Tagger(models / "tag", device="cpu", max_tokens=5, stride=1)(TEXTS)
    assert [record["entities"] for record in records(result.out)] == list(expected)
    assert re.fullmatch(r"27, none truncated, 3 texts split into \d+ windows", summary(result.err)["tokens"])
    cut = run(*argv, "--too-long", "truncate", "-o", tmp_path / "t.csv")
    assert "truncated in 3 texts" in cut.out
    assert "--too-long window" in one_line(Result(2, "", cut.err))
    assert "the limit is 5" in one_line(run(*argv, "--too-long", "error"))


def test_tag_explains(run: Run, monkeypatch: pytest.MonkeyPatch, models: Path, tmp_path: Path) -> None:
    text = "the [b]cat[/b]\x1b[31m"
    (entities,) = nb.Tagger(models / "tag", device="cpu")([text])
    expected, at = "", 0
    for e in entities:
        expected += f"{console.printable(text[at : e['start']])}[{console.printable(e['text'])}]({e['label']})"
        at = e["end"]
    expected += console.printable(text[at:])
    (tmp_path / "t.txt").write_text(text)
    argv = ["tag", tmp_path / "t.txt", "-m", models / "tag", "--explain", "--quiet"]
    assert run(*argv).out == expected + "\n"  # no colours in a pipe, and no JSON
    both = run(*argv, "-o", "-")
    assert both.err == expected + "\n"
    assert records(both.out) == [{"text": text, "entities": entities}]
    assert on_terminal(monkeypatch, *argv) == expected + "\n"  # NO_COLOR
    coloured = on_terminal(monkeypatch, *argv, colours=True)
    assert f"\x1b[30;106m{console.printable(entities[0]['text'])}\x1b[0m" in coloured
    assert "\x1b[31m" not in coloured
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured).startswith(
        f"{expected[: expected.index('[')]}{entities[0]['text']} {entities[0]['label']}"
    )


# ---- classify


def test_classify(run: Run, models: Path, lines: Path, tmp_path: Path) -> None:
    classify = nb.Classifier(models / "classify", device="cpu")
    expected = classify(TEXTS)
    result = run("classify", lines, "-m", models / "classify", "-o", tmp_path / "c.csv")
    assert (result.code, result.err) == (0, "")
    assert table(tmp_path / "c.csv") == [
        ["text", "label", "score"], *([text, one["label"], str(one["score"])] for text, one in zip(TEXTS, expected))
    ]  # fmt: skip
    assert summary(result.out)["results"] == f"4 labels in {tmp_path / 'c.csv'}"

    best = classify(TEXTS, top_k=2)
    argv = ["classify", lines, "-m", models / "classify", "--quiet"]
    assert records(run(*argv, "--top-k", 2).out) == [{"text": text, "labels": labels} for text, labels in zip(TEXTS, best)]
    assert len(records(run(*argv, "--top-k", "all").out)[0]["labels"]) == 3
    run(*argv, "--top-k", 2, "-o", tmp_path / "c.csv")
    header, *rows = table(tmp_path / "c.csv")
    assert header == ["item", "text", "label", "score"]
    assert rows == [[str(n), TEXTS[n], one["label"], str(one["score"])] for n, labels in enumerate(best) for one in labels]
    sure = [record["labels"] for record in records(run(*argv, "--threshold", 0.5).out)]
    assert sure == classify(TEXTS, threshold=0.5)
    numbers = nb.Classifier(models / "rank", device="cpu", problem="regression")(TEXTS)
    argv = ["classify", lines, "-m", models / "rank", "--problem", "regression"]
    assert [record["score"] for record in records(run(*argv).out)] == [one["score"] for one in numbers]


@pytest.mark.filterwarnings("ignore::nativebert.errors.Truncated")
def test_classify_pairs(run: Run, models: Path, tmp_path: Path) -> None:
    pairs = [("the cat", "a dog"), ("deep, learning", "the mat " * 6)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps({"id": 1, "b": b, "text": a}) + "\n" for a, b in pairs))
    argv = ["classify", tmp_path / "p.jsonl", "--pair-column", "b", "-m", models / "classify", "--max-tokens", 12, "--quiet"]
    for policy in ("truncate", "window"):
        classify = nb.Classifier(models / "classify", device="cpu", max_tokens=12, too_long=policy, combine="max", stride=2)
        expected = [{"text": a, "pair": b, **one, "id": 1} for (a, b), one in zip(pairs, classify(pairs))]
        (tmp_path / "p.jsonl").write_text("".join(json.dumps({"id": 1, "b": b, "text": a}) + "\n" for a, b in pairs))
        found = run(*argv, "--too-long", policy, "--combine", "max", "--stride", 2)
        assert records(found.out) == expected
    run(*argv, "--top-k", 2, "-o", tmp_path / "p.csv")
    assert table(tmp_path / "p.csv")[0] == ["item", "text", "pair", "label", "score", "id"]


def test_labels_of_strangers_are_shown_and_not_obeyed(monkeypatch: pytest.MonkeyPatch, models: Path, lines: Path) -> None:
    shown = on_terminal(monkeypatch, "classify", lines, "-m", models / "classify", "--top-k", "all", "--quiet", colours=True)
    assert "\x1b[31m" not in shown
    plain = [re.split(r"\s\s+", line.strip()) for line in re.sub(r"\x1b\[[\d;]*m", "", shown).splitlines()]
    assert plain[0] == ["item", "text", "label", "score"]
    assert plain[1][:2] == ["0", TEXTS[0]]
    assert len(plain[2]) == len(plain[3]) == 2  # the text is said once
    assert {row[-2] for row in plain[1:4]} == {"bad", "good", r"[red]so\x1b[31m"}


# ---- answer


def test_answer(run: Run, models: Path, tmp_path: Path) -> None:
    questions, contexts = ["a cat?", "is a dog on the mat?"], ["the cat sat on the mat", "deep learning is powerful"]
    with (tmp_path / "q.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "context", "question"], *zip("12", contexts, questions)])
    answer = nb.Answerer(models / "answer", device="cpu")
    asked = [{"question": q, "context": c} for q, c in zip(questions, contexts)]
    ids = [{"id": n} for n in "12"]
    result = run("answer", tmp_path / "q.csv", "-m", models / "answer")
    assert result.code == 0
    assert records(result.out) == [key | one | n for key, one, n in zip(asked, answer(questions, contexts), ids)]
    assert summary(result.err)["texts"] == f"2 from {tmp_path / 'q.csv'}, columns 'question', 'context'"

    several = answer(questions, contexts, top_k=30, no_answer=True)
    argv = ["answer", tmp_path / "q.csv", "-m", models / "answer", "--top-k", 30, "--no-answer", "--quiet"]
    assert records(run(*argv).out) == [key | {"answers": answers} | n for key, answers, n in zip(asked, several, ids)]
    assert any(one["answer"] == "" for answers in several for one in answers)
    run(*argv, "-o", tmp_path / "a.csv")
    assert table(tmp_path / "a.csv") == [
        ["item", "question", "answer", "score", "start", "end", "id"],
        *([str(n), questions[n], *map(str, one.values()), "12"[n]] for n, answers in enumerate(several) for one in answers),
    ]
    columns = ["--question-column", "context", "--context-column", "question"]
    swapped = run("answer", tmp_path / "q.csv", "-m", models / "answer", "--max-answer-tokens", 1, *columns)
    short = nb.Answerer(models / "answer", device="cpu", max_answer_tokens=1)(contexts, questions)
    assert [record["answer"] for record in records(swapped.out)] == [one["answer"] for one in short]


def test_one_question_of_every_context(run: Run, models: Path, lines: Path, tmp_path: Path) -> None:
    expected = nb.Answerer(models / "answer", device="cpu")("a dog?", TEXTS)
    found = run("answer", lines, "--question", "a dog?", "-m", models / "answer")
    assert records(found.out) == [{"question": "a dog?", "context": c, **one} for c, one in zip(TEXTS, expected)]
    (tmp_path / "c.csv").write_text("id,context\n1,a dog\n")
    assert len(records(run("answer", tmp_path / "c.csv", "--question", "a dog?", "-m", models / "answer").out)) == 1


# ---- classify --explain


def test_classify_explains(run: Run, monkeypatch: pytest.MonkeyPatch, models: Path, tmp_path: Path) -> None:
    text = "the [b]cat[/b]\x1b[31m sat"
    (tmp_path / "t.txt").write_text(f"{text}\n{'a dog ' * 30}\n")
    (best, _) = nb.Classifier(models / "classify", device="cpu", too_long="window")([text, "a dog " * 30])
    model = nb.load(models / "classify", head="classify")
    assert best["label"] != model.config.labels[0]
    words = saliency(model, text, target=model.config.labels.index(best["label"])).words
    least = 0.1 * max(abs(word.score) for word in words)
    expected, at = "  ", 0
    for word in words:
        if word.part == 0 and abs(word.score) >= least:
            expected += console.printable(text[at : word.start]) + f"[{console.printable(word.text)}]({word.score:+.2f})"
            at = word.end
    expected += console.printable(text[at:])
    argv = ["classify", tmp_path / "t.txt", "-m", models / "classify", "--too-long", "window", "--explain", "--quiet"]
    legend, _, first, marked, _, second, unmarked = run(*argv).out.splitlines()
    assert legend.startswith("Explanation: each word's contribution")
    assert first == console.printable(f"{best['label']} {best['score']:.3f}")
    assert marked == expected
    assert second.endswith("(not explained: over the maximum length)")
    assert unmarked == "  " + "a dog " * 30
    both = run(*argv, "-o", tmp_path / "c.jsonl")
    assert marked in both.out
    assert records((tmp_path / "c.jsonl").read_text())[0] == {"text": text, **best}

    coloured = on_terminal(monkeypatch, *argv, colours=True)
    assert "cyan for the label, yellow against it" in coloured
    assert "\x1b[31m" not in coloured
    plain = re.sub(r"\x1b\[[\d;]*m", "", coloured)
    assert f"  {console.printable(text)}\n" in plain
    strongest = max(words, key=lambda word: abs(word.score))
    colour = "106" if strongest.score > 0 else "103"
    assert f"\x1b[1;30;{colour}m{console.printable(strongest.text)}\x1b[0m" in coloured


def test_marks_that_share_a_stretch(capsys: pytest.CaptureFixture[str]) -> None:
    console.passage("abcdef", [console.Mark(0, 3, "A", ""), console.Mark(1, 3, "B", ""), console.Mark(2, 5, "C", "")])
    assert capsys.readouterr().out == "[abc](A)[de](C)f\n"
    console.passage("a\nb\x1bc", [console.Mark(2, 5, "x\x1b", "")], indent="  ")
    assert capsys.readouterr().out == "  a\\n[b\\x1bc](x\\x1b)\n"


def test_records_as_they_are_written(tmp_path: Path) -> None:
    found = Records([{"a": "né", "b": 0.1}, {"a": 'x"\n', "b": None}], ["a", "b"], [["né", 0.1], ['x"\n', None], [" 1", 2]])
    write_records(str(tmp_path / "r.csv"), found)
    assert (tmp_path / "r.csv").read_text("utf-8") == 'a,b\n"né",0.1\n"x""\n",""\n" 1",2\n'
    write_records(str(tmp_path / "r.jsonl"), found)
    assert (tmp_path / "r.jsonl").read_text("utf-8") == '{"a": "né", "b": 0.1}\n{"a": "x\\"\\n", "b": null}\n'
    with pytest.raises(BadInputError, match=r"is a folder: name a file in it, such as .*results\.jsonl"):
        write_records(str(tmp_path), found)


# ---- fill


def test_fill(run: Run, models: Path, tmp_path: Path) -> None:
    texts = ["the [MASK] sat", "[MASK] is [MASK]"]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts))
    fill = nb.MaskFiller(models / "fill", device="cpu")
    argv = ["fill", tmp_path / "t.jsonl", "-m", models / "fill"]
    result = run(*argv, "--top-k", 2)
    assert records(result.out) == [{"text": text, "masks": masks} for text, masks in zip(texts, fill(texts, top_k=2))]
    assert run(*argv, "--targets", "cat,dog", "-o", tmp_path / "f.csv").code == 0
    assert table(tmp_path / "f.csv") == [
        ["item", "mask", "token", "score", "text"],
        *(
            [str(n), str(place), one["token"], str(one["score"]), one["text"]]
            for n, masks in enumerate(fill(texts, targets=["cat", "dog"]))
            for place, mask in enumerate(masks)
            for one in mask
        ),
    ]
    assert "winter" in one_line(run(*argv, "--targets", "cat,winter"))


# ---- pictures


def test_attention(run: Run, models: Path, tmp_path: Path) -> None:
    result = run("attention", models / "embed", "the cat sat", "--pair", "a dog", "-o", tmp_path / "a.html")
    assert (result.code, result.err) == (0, "")
    assert summary(result.out)["attention"] == "2 layers, 4 heads, 8 tokens"
    assert (tmp_path / "a.html").read_text() == attention(models / "embed", "the cat sat", "a dog").html()
    argv = ["attention", models / "embed", "the cat sat", "-o", tmp_path / "a.html"]
    assert summary(run(*argv, "--layers=-1", "--heads", "0,2").out)["attention"] == "1 layer, 2 heads, 5 tokens"
    assert run(*argv, "--quiet") == (0, "", "")


def test_map(run: Run, models: Path, lines: Path, tmp_path: Path) -> None:
    drawn: list[Any] = []
    (tmp_path / "l.csv").write_text("text,label,score\n" + "".join(f"a,{label},1\n" for label in ("x", "y", "", "x")))
    (tmp_path / "n.jsonl").write_text("1.5\n2\nnull\n4\n")
    (tmp_path / "w.txt").write_text("1\n2\nthree\n4\n")
    for ending in ("npy", "csv"):
        assert run("embed", lines, "-m", models / "embed", "-o", tmp_path / f"v.{ending}").code == 0

    def run_map(*argv: object) -> Result:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(MapPicture, "save", lambda picture, path: drawn.append(picture))
            return run("map", *argv, "-o", tmp_path / "m.html")

    result = run_map(tmp_path / "v.npy", "--labels", tmp_path / "l.csv", "--texts", lines)
    assert (result.code, result.err) == (0, "")
    assert summary(result.out)["vectors"] == f"4 x 32 from {tmp_path / 'v.npy'}"
    assert drawn[-1].labels == ("x", "y", None, "x")
    assert drawn[-1].texts == tuple(TEXTS)
    run_map(tmp_path / "v.csv", "--labels", tmp_path / "n.jsonl", "--scale", "--dimensions", 3, "--quiet")
    assert drawn[-1].labels[:2] == (1.5, 2.0)
    assert drawn[-1].labels[2] != drawn[-1].labels[2]  # NaN
    assert drawn[-1].texts == tuple(TEXTS)  # from the file of vectors
    assert drawn[-1].points.shape == (4, 3)
    count = len(drawn)
    assert "label 3 is 'three', not a number" in one_line(
        run_map(tmp_path / "v.npy", "--labels", tmp_path / "w.txt", "--scale")
    )
    (tmp_path / "w.txt").write_text("1\n2\n")
    assert "has 2 lines or rows, but" in one_line(run_map(tmp_path / "v.npy", "--labels", tmp_path / "w.txt"))
    assert "--label-column requires --labels FILE" in one_line(run_map(tmp_path / "v.npy", "--label-column", "x"))
    assert len(drawn) == count
    pytest.importorskip("matplotlib")
    assert run("map", tmp_path / "v.npy", "-o", tmp_path / "m.png").code == 0
    assert (tmp_path / "m.png").read_bytes().startswith(b"\x89PNG")


# ---- errors


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["classify", "{lines}"], r"missing arguments: -m/--model"),
        (
            ["classify", "{lines}", "-m", "a", "--top-k", "2", "--threshold", "0.5"],
            "--threshold: not allowed with argument --top-k",
        ),
        (["clasify", "{lines}"], r"unknown command 'clasify'; did you mean classify\?"),
        (
            ["classify", "{lines}", "-m", "m", "-o", "x.pickle"],
            r"unknown format of x.pickle.*\.csv, \.jsonl, .*or write -",
        ),
        (["classify", "{tmp}/same.csv", "-m", "m", "-o", "{tmp}/same.csv"], "is the input file"),
        (["classify", "{tmp}/empty.txt", "-m", "m"], r"empty\.txt contains no texts"),
        (
            ["classify", "{tmp}/same.csv", "-m", "m", "--column", "txt"],
            "no column 'txt'; the columns are 'text', 'b'; did you mean 'text'",
        ),
        (["classify", "{tmp}/same.csv", "-m", "m", "--pair-column", "c"], "no column 'c'; the columns are 'text', 'b'"),
        (["classify", "{tmp}/same.csv", "-m", "m", "--pair-column", "text"], "--column and --pair-column are both 'text'"),
        (["classify", "{lines}", "-m", "m", "--pair-column", "b"], "is read as txt.*use a csv, tsv or jsonl file"),
        (
            ["classify", "{tmp}/bare.jsonl", "-m", "m", "--pair-column", "b"],
            "string without keys, so it has no 'b': remove --pair-column",
        ),
        (["classify", "{lines}", "-m", "m", "--top-k", "some"], "--top-k: 'some' is not a whole number above 0"),
        (["classify", "{lines}", "-m", "{models}/tag"], "`nativebert tag` reads it"),
        (["classify", "{lines}", "-m", "{models}/embed"], "has no head for 'classify'.*Take another checkpoint"),
        (["classify", "{lines}", "-m", "{models}/rank", "--problem", "single"], "pass --problem multi"),
        (
            ["tag", "{lines}", "-m", "{models}/tag", "--ignore", "LOC"],
            "'LOC', which the model does not have; its labels are: O, B-PER",
        ),
        (["tag", "{lines}", "-m", "{models}/tag", "--aggregation", "some"], "'some'.*simple"),
        (["tag", "{lines}", "-m", "{models}/answer"], "Take another checkpoint"),
        (["tag", "{lines}", "-m", "{models}/tag", "--stride", "-1"], "expected one argument|'-1' is not a whole number"),
        (["answer", "{lines}", "-m", "m"], "is read as txt.*; or pass --question to ask one question of every context"),
        (["answer", "{tmp}/same.csv", "-m", "m"], "no column 'question'; the columns are 'text', 'b'; or pass --question"),
        (
            ["answer", "{tmp}/same.csv", "-m", "m", "--question", "x"],
            "select the context column with --context-column",
        ),
        (["answer", "{lines}", "-m", "m", "--question", "x", "--question-column", "b"], "cannot be combined"),
        (["fill", "{lines}", "-m", "{models}/fill"], r"text 0 has no mask: write \[MASK\]"),
        (["search", "{lines}"], 'missing arguments: --query "TEXT" or --queries FILE'),
        (["search", "-", "--queries", "-"], "cannot both be standard input"),
        (["search", "{lines}", "--queries", "{tmp}/q.csv", "-o", "{tmp}/q.csv"], "is the input file"),
        (["search", "{lines}", "--query", "a", "--vectors", "v.npy", "--prompt", "b"], "have no effect"),
        (
            ["search", "{lines}", "--query", "a", "--vectors", "{tmp}/v.csv", "-m", "{models}/embed"],
            "use vectors of the same model",
        ),
        (
            ["rank", "{lines}", "--query", "a", "-m", "{models}/rank", "--max-tokens", "5", "--too-long", "error"],
            "the limit is 5",
        ),
        (["attention", "{models}/embed", "a"], "missing arguments: -o/--output. Name the output file"),
        (["attention", "{models}/embed", "a", "-o", "a.gif"], r"one of the extensions \.html"),
        (["attention", "{models}/embed", "a", "-o", "{tmp}/a.html", "--heads", "x"], "'x' is not a list of whole numbers"),
        (["attention", "{models}/embed", "a", "-o", "{tmp}/a.html", "--heads", "7"], "head 7 does not exist"),
        (["attention", "{models}/embed", "a b " * 40, "-o", "{tmp}/a.html"], "82 tokens"),
        (["map", "{tmp}/same.csv", "-o", "{tmp}/m.html"], "must be numbers"),
        (["map", "{tmp}/none.npy", "-o", "{tmp}/m.html"], "does not exist"),
    ],
)
def test_errors_are_one_line(run: Run, models: Path, lines: Path, tmp_path: Path, argv: list[str], message: str) -> None:
    files = {
        "empty.txt": "", "same.csv": "text,b\na,b\n", "bare.jsonl": '"a"\n', "q.csv": "text\na\n",
        "v.csv": "text,d1\n" + "".join(f'"{text}",1\n' for text in TEXTS),
    }  # fmt: skip
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    result = run(*(word.format(lines=lines, tmp=tmp_path, models=models) for word in argv))
    assert re.search(message, one_line(result)), result.err
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*files, "texts.txt"])  # nothing was written
    assert all((tmp_path / name).read_text() == content for name, content in files.items())


def test_every_command_has_help(run: Run) -> None:
    documented = (Path(__file__).parents[2] / "docs" / "cli.md").read_text("utf-8")
    for command in cli.COMMANDS:
        help = run(command, "--help")
        assert (help.code, help.err) == (0, "")
        assert help.out.startswith(f"usage: nativebert {command} ")
        assert "--debug" in help.out
        assert f"## `nativebert {command}`" in documented


def test_what_the_page_shows_can_be_asked() -> None:
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text("utf-8")
    asked = [
        line for block in re.findall(r"```sh\n(.*?)```", page, re.S) for line in block.splitlines() if "COMMAND" not in line
    ]
    assert len(asked) > 20
    for line in asked:
        argv = shlex.split(line.rpartition(" | ")[2], comments=True)
        argv = argv[: argv.index("<")] if "<" in argv else argv
        assert argv[0] == "nativebert"
        cli._parse(argv[1:])  # or SystemExit


def test_a_real_terminal(models: Path, lines: Path) -> None:
    """Progress bars exist only there."""
    main = "import sys; from nativebert.cli import main; sys.exit(main(sys.argv[1:]))"
    leader, follower = pty.openpty()
    argv = [sys.executable, "-c", main, "search", str(lines), "--query", "a dog", "-m", str(models / "embed"), "--threads", "1"]
    with subprocess.Popen(argv, stdin=follower, stdout=follower, stderr=follower, close_fds=True) as process:
        os.close(follower)
        seen = b""
        try:
            while chunk := os.read(leader, 4096):
                seen += chunk
        except OSError:  # the other end is closed
            pass
    os.close(leader)
    assert process.returncode == 0, seen
    assert b"index" in seen


# ---- tables, streams and files of every command


def argv_of(command: str, models: Path, tmp: Path, file: Path) -> list[object]:
    """A command that reads a file of texts."""
    sample = {"bench", "invariance", "parity", "quality"}
    if command in sample:
        return [command, models / "embed", "--texts", file]
    if command == "map":
        return [command, tmp / "v.npy", "-o", tmp / "m.png", "--texts", file]
    own = {"search": ["--query", "a"], "rank": ["--query", "a"], "answer": ["--question", "a"], "embed": ["-o", tmp / "v.npy"]}
    model = models / ("embed" if command == "search" else command)
    return [command, file, "-m", model, *own.get(command, [])]


READERS = ["embed", "search", "rank", "classify", "tag", "answer", "fill", "map", "bench", "invariance", "parity", "quality"]


@pytest.mark.parametrize("command", READERS)
def test_tables_with_another_separator(
    run: Run, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """The columns are not mixed up, whoever reads them, and what the message says to type does work."""
    file = tmp_path / "t.csv"
    name = "context" if command == "answer" else "text"
    file.write_text(f"id;{name}\n0;one\n1;two\n")
    np.save(tmp_path / "v.npy", np.eye(4, 32, dtype=np.float32))
    argv = argv_of(command, models, tmp_path, file)
    message = one_line(run(*argv))
    assert f"the first line of {file} is one column, 'id;{name}'" in message
    advice = re.search(rf"use (--delimiter \S+), or (--[\w-]+ 'id;{name}')", message)
    assert advice is not None, message
    read: list[list[str]] = []

    def seen(*given: Any, **how: Any) -> Any:
        table = read_columns(*given, **how)
        read.append([text for (text,) in table.rows])
        raise BadInputError("seen")

    def seen_in_parts(*given: Any, **how: Any) -> Any:
        read.append([text for part in open_source(*given, **how).parts for (text,) in part.rows])
        raise BadInputError("seen")

    open_source = rows.open_source
    monkeypatch.setattr("nativebert.cli.common.read_columns", seen)
    monkeypatch.setattr(rows, "open_source", seen_in_parts)
    assert "seen" in one_line(run(*argv, *shlex.split(advice[1])))
    assert "seen" in one_line(run(*argv, *shlex.split(advice[2])))
    assert read == [["one", "two"], ["0;one", "1;two"]]


@pytest.mark.parametrize("command", ["embed", "search", "rank", "classify", "tag", "answer", "fill"])
def test_stray_quotes(run: Run, models: Path, tmp_path: Path, command: str) -> None:
    for name, separator, options in (
        ("t.tsv", "\t", []),
        ("t.csv", ",", ["--quoting", "none"]),
        ("t.csv", ";", ["--quoting", "none", "--delimiter", ";"]),
    ):
        file = tmp_path / name
        file.write_text('id\ttext\n1\t"[MASK] left\n2\tHe [MASK]\n3\tand [MASK] "\n4\t[MASK]\n'.replace("\t", separator))
        columns = ["--context-column", "text"] if command == "answer" else ["--column", "text"]
        result = run(*argv_of(command, models, tmp_path, file), *columns, *options)
        assert result.code == 0, result
        shown = summary((result.err if command != "embed" else result.out).replace("nativebert: note:", "note"))
        assert shown["texts"].startswith("4 from")
        assert ("note" in shown or "begins with a double quote" in result.err) == (name == "t.tsv")


def test_options_of_tables_are_for_tables(run: Run, models: Path, lines: Path, tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("n;q\n1;a dog\n")
    argv = ["search", lines, "-m", models / "embed"]
    assert "--delimiter, --quoting and --na apply to csv and tsv only: remove them" in one_line(
        run(*argv, "--query", "a", "--delimiter", ";")
    )
    result = run(*argv, "--queries", tmp_path / "q.csv", "--queries-column", "q", "--delimiter", ";", "--top-k", 1)
    assert records(result.out)[0]["query"] == "a dog"
    message = one_line(run(*argv, "--queries", tmp_path / "q.csv", "--delimiter", ";"))
    assert "select the text column with --queries-column" in message
    assert "--queries-column requires --queries FILE" in one_line(run(*argv, "--query", "a", "--queries-column", "q"))
    for wrong in ("||", "", '"', "\n"):
        assert "is not a single character" in one_line(run(*argv, "--query", "a", "--delimiter", wrong))
    assert "--column requires --texts FILE" in one_line(run("bench", models / "embed", "--column", "a"))


@pytest.mark.parametrize("ending", ["npy", "csv", "jsonl"])
def test_vectors_that_were_made_otherwise(run: Run, models: Path, lines: Path, tmp_path: Path, ending: str) -> None:
    """What the message says to type does work."""
    other = write_folder(tmp_path / "other model", BERT, bert_tensors(BERT, seed=5))
    for name in ("modules.json", "1_P/config.json"):
        (other / name).parent.mkdir(exist_ok=True)
        (other / name).write_bytes((models / "embed" / name).read_bytes())
    vectors, base = tmp_path / f"v.{ending}", ["-m", models / "embed"]
    asked = ["search", lines, "--query", "a dog", "--vectors", vectors, "--quiet"]
    for made, what in [
        (["--pooling", "cls"], "pooling: cls in the file, mean in this command"),
        (["--pooling", "cls", "--pooling", "max"], "pooling: cls and max in the file, mean in this command"),
        (["--normalize"], "normalization: to unit length in the file, none in this command"),
        (["--precision", "bfloat16"], "precision: bfloat16 in the file, float32 in this command"),
        (["-m", other], "other weights"),
    ]:
        assert run("embed", lines, *base, "-o", vectors, *made).code == 0
        message = one_line(run(*asked, *base))
        assert what in message
        say = re.search(r"use (.+), or compute the vectors again", message)
        assert say is not None
        result = run(*asked, *base, *shlex.split(say[1]))
        assert (result.code, result.err) == (0, ""), result
        plain = run(*[word for word in asked if word not in ("--vectors", vectors)], *base, *made)
        assert result.out == plain.out
    assert run("embed", lines, *base, "-o", vectors, "--prompt", "a ").code == 0
    assert "prompt: 'a ' in the file, 'the ' in this command" in one_line(run(*asked, *base, "--prompt", "the "))
    assert run(*asked, *base, "--prompt", "a ").code == 0
    known = json.loads((tmp_path / f"v.{ending}.json").read_text())
    assert known["nativebert"] == nb.__version__
    assert (known["model"], known["commit"], known["width"]) == (str(models / "embed"), None, 32)
    # the same model elsewhere is the same model
    shutil.copytree(models / "embed", tmp_path / "copy")
    assert run(*asked, "-m", tmp_path / "copy").code == 0


def test_vectors_of_other_texts_or_changed(run: Run, models: Path, lines: Path, tmp_path: Path) -> None:
    vectors, base = tmp_path / "v.npy", ["-m", models / "embed"]
    assert run("embed", lines, *base, "-o", vectors).code == 0
    (tmp_path / "others.txt").write_text("".join(f"{text}\n" for text in TEXTS[::-1]))
    argv = ["--query", "a", "--vectors", vectors, *base]
    assert "was computed from other texts" in one_line(run("search", tmp_path / "others.txt", *argv))
    drawing = ["map", vectors, "-o", tmp_path / "m.png", "--texts"]
    assert "was computed from other texts" in one_line(run(*drawing, tmp_path / "others.txt"))
    np.save(vectors, np.load(vectors) * 2)
    for command in (["search", lines, *argv], [*drawing, lines]):
        assert f"or delete {vectors}.json" in one_line(run(*command))
    (tmp_path / "v.npy.json").unlink()
    result = run("search", lines, *argv, "--quiet")
    assert result.code == 0
    assert (
        result.err
        == f"nativebert: note: {vectors}.json does not exist, so it was not checked that the vectors in {vectors} match the texts and the model\n"
    )
    (tmp_path / "v.npy.json").write_text("{}")
    assert "move it away first" in one_line(run("embed", lines, *base, "-o", vectors))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["bench", "{m}", "--json", "{tmp}/no/x.json"], "folder .* does not exist"),
        (["invariance", "{m}", "--json", "{tmp}/no/x.json"], "folder .* does not exist"),
        (["quality", "{m}", "--json", "{tmp}"], "is a folder: name a file in it"),
        (["parity", "{m}", "--json", "{tmp}/no/x.json"], "folder .* does not exist"),
        (["parity", "{m}", "--plot", "{tmp}/no/x.png"], "folder .* does not exist"),
        (["parity", "{m}", "--plot", "{tmp}/x.html"], r"one of the extensions \.png, \.svg, \.pdf"),
        (["parity", "{m}", "--plot", "{tmp}/x.png", "--json", "{tmp}/x.png"], "already used by this command"),
        (["bench", "{m}", "--texts", "{tmp}/texts.txt", "--json", "{tmp}/texts.txt"], "already used by this command"),
        (["map", "{tmp}/v.npy", "-o", "{tmp}/no/m.png"], "folder .* does not exist"),
        (["attention", "{m}", "a", "-o", "{tmp}/no/m.png"], "folder .* does not exist"),
        (["embed", "{tmp}/texts.txt", "-o", "{tmp}/no/v.npy"], "folder .* does not exist"),
        (["quantize", "{m}", "-o", "{tmp}/texts.txt"], "cannot be a folder"),
        (["quantize", "{m}", "-o", "{tmp}/texts.txt/a/b"], "cannot be a folder"),
        (["convert", "{m}", "-o", "{tmp}/texts.txt"], "cannot be a folder"),
    ],
)  # fmt: skip
def test_what_cannot_be_written_is_told_first(
    run: Run, models: Path, lines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: list[str], message: str
) -> None:
    def work(*_: object, **__: object) -> None:
        raise AssertionError("the work was begun")

    monkeypatch.setattr("nativebert.loading.load", work)
    monkeypatch.setattr("nativebert.hub.resolve", work)
    pytest.importorskip("matplotlib")
    assert re.search(message, one_line(run(*(word.format(tmp=tmp_path, m=models / "embed") for word in argv))))
    assert [path.name for path in tmp_path.iterdir()] == ["texts.txt"]


def test_reports_are_written_whole(run: Run, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "r.json"
    target.write_text("old")
    argv = ["invariance", models / "embed", "--trials", 1, "--device", "cpu", "--json", target]

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        assert "not enough disk space" in one_line(run(*argv))
    assert (target.read_text(), [path.name for path in tmp_path.iterdir()]) == ("old", ["r.json"])
    assert run(*argv).code == 0
    assert "kinds" in json.loads(target.read_text())


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("output", ["o.jsonl", "-", None])
@pytest.mark.slow
def test_closed_streams(models: Path, lines: Path, tmp_path: Path, closed: str, output: str | None) -> None:
    """Files are written all the same; results have nowhere to go without standard output; and nothing else goes there without the other."""
    words = ["-m", "nativebert", "tag", str(lines), "-m", str(models / "tag"), *([] if output is None else ["-o", output])]
    command = f"{shlex.join([sys.executable, *words])} {closed}"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    ran = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=100, cwd=tmp_path, env=env, check=False
    )
    assert "Traceback" not in ran.stderr
    assert "a bug" not in ran.stderr
    if ">&-" in closed.split() and output != "o.jsonl":
        assert (ran.returncode, ran.stdout) == (2, "")
        assert closed != ">&-" or "standard output is closed" in ran.stderr
        return
    assert ran.returncode == 0, ran.stderr
    written = (tmp_path / "o.jsonl").read_text() if output == "o.jsonl" else ran.stdout
    assert [one["text"] for one in records(written)] == TEXTS


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["embed", "-", "-o", "v.npy"], 2), (["tokenize", "a"], 0), (["tokenize", "-"], 2), (["tokenize", "a", "--json"], 2),
        (["inspect", "{m}"], 0), (["inspect", "{m}", "--json"], 2), (["--version"], 0), (["embed", "--help"], 0), ([], 2), (["embed"], 2),
        (["bench", "{m}", "--json", "-"], 2), (["quantize", "{m}", "-o", "small"], 0),
    ],
)  # fmt: skip
@pytest.mark.slow
def test_no_streams_at_all(models: Path, tmp_path: Path, words: list[str], code: int) -> None:
    argv = [word.format(m=models / "embed") for word in words] + (["-m", str(models / "embed")] if "tokenize" in words else [])
    command = f"{shlex.join([sys.executable, '-m', 'nativebert', *argv])} <&- >&-"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    ran = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=100, cwd=tmp_path, env=env, check=False
    )
    assert ran.returncode == code, ran.stderr
    assert "a bug" not in ran.stderr


def test_words_that_begin_with_a_dash(run: Run, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("-dash.txt", "-model.txt", "--quiet.txt"):
        Path(name).write_text("the cat\n")
        message = one_line(run("embed", name, "-o", "v.npy"))
        written = re.search(r"if it is a file, write (\S+) ", message)
        assert written is not None, message
        assert run("embed", written[1], "-o", "v.npy", "-m", models / "embed").code == 0
        assert run("embed", "-o", "v.npy", "-m", models / "embed", "--", name).code == 0
    message = one_line(run("search", "./-dash.txt", "--query", "-a", "-m", models / "embed"))
    assert "for a value that begins with a dash, write --query=-..." in message
    assert records(run("search", "./-dash.txt", "--query=-a", "-m", models / "embed").out)[0]["query"] == "-a"
    assert "write -- before it" in one_line(run("tokenize", "-x", "-m", models / "embed"))
    assert run("tokenize", "-m", models / "embed", "--", "-x").out.startswith("-x  (")


@pytest.mark.parametrize(
    "argv",
    [
        ["search", "t.txt", "--query", "{bad}"], ["search", "t.txt", "--query", "a", "--query-prompt", "{bad}"], ["tokenize", "{bad}"],
        ["answer", "t.txt", "-m", "m", "--question", "{bad}"], ["fill", "t.txt", "-m", "m", "--targets", "{bad}"],
        ["embed", "t.txt", "-o", "v.npy", "--prompt", "{bad}"], ["classify", "t.csv", "-m", "m", "--column", "{bad}"],
    ],
)  # fmt: skip
def test_words_that_are_no_utf8(run: Run, argv: list[str]) -> None:
    bad = b"caf\xe9".decode("utf-8", "surrogateescape")
    assert r"'caf\xe9' is not UTF-8" in one_line(run(*(word.format(bad=bad) for word in argv)))
