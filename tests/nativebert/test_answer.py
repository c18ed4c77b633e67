"""Answers to questions: against the pipeline of transformers 4 where a context fits into one window, and by hand where it does not."""

from __future__ import annotations

import json
import math
import random
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models import WORDS, one_thread
from questions import FAMILIES, SETTINGS, fingerprint, pairs, qa_folder, sentence_pieces, write_tokenizer

import nativebert as nb
from nativebert.errors import BadInputError, TooLongError, Truncated
from nativebert.tasks.answer import Answerer, _Spans
from nativebert.text.window import Window, windows

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "answer.json").read_text())


@pytest.fixture(autouse=True)
def _quick() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("answer")
    return {family: nb.load(qa_folder(folder / family, family), head="answer") for family in FAMILIES}


def answerer(model: Any, **settings: Any) -> Answerer:
    return Answerer(model, device="cpu", **settings)


def ask(answer: Answerer, some: list[tuple[str, str]], **settings: Any) -> Any:
    questions, contexts = zip(*some)
    return answer(questions, contexts, **settings)


@pytest.mark.parametrize("which", range(len(SETTINGS)), ids=lambda n: "-".join(SETTINGS[n]))
@pytest.mark.parametrize("family", FAMILIES)
def test_equals_transformers(models: dict[str, Any], family: str, which: int) -> None:
    """Within 1e-6, and the same spans in the same order. Expected: tests/golden/derive_answer.py."""
    assert fingerprint(family) == pytest.approx(GOLDEN[family]["fingerprint"], rel=1e-6), (
        "the weights are not those of the file"
    )
    setting = dict(SETTINGS[which])
    made = {name: setting.pop(name) for name in ("max_answer_tokens", "align_to_words") if name in setting}
    found, further = ask(answerer(models[family], **made), pairs(), **setting), 0
    assert len(found) == len(GOLDEN[family]["answers"][which])
    for (_, context), mine, theirs in zip(pairs(), found, GOLDEN[family]["answers"][which]):
        mine = mine if isinstance(mine, list) else [mine]
        theirs = [one for one in theirs if one[0] > 0]  # it fills up with spans that end before they begin
        further += len(mine) > len(theirs)  # ... or gives fewer
        assert len(theirs) == setting["top_k"] or len(theirs) <= len(mine)
        for one, (score, start, end) in zip(mine, theirs):
            assert (one["start"], one["end"], one["answer"]) == (start, end, context[start:end])
            assert abs(one["score"] - score) <= 1e-6
        assert sorted(mine, key=lambda one: -one["score"]) == mine
    assert further <= 1


def brute(
    model: Any, question: str, context: str, most: int, stride: int, longest: int
) -> tuple[dict[tuple[int, int], float], float]:
    """The score of every span of tokens, and of no answer, by the formula as it stands in docs/tasks/answer.md."""
    e = model.tokenizer.encode(question, context)
    lead = e.sequence_ids.index(1)
    count = e.sequence_ids.count(1)
    ids, types = e.ids, e.type_ids
    starts, ends, nulls = {}, {}, []
    spans: dict[tuple[int, int], float] = {}
    for w in windows(count, most - (len(ids) - count), stride):
        kept = [*range(lead), *range(lead + w.start, lead + w.end), *range(lead + count, len(ids))]
        given = torch.tensor([[ids[p] for p in kept]]), None, torch.tensor([[types[p] for p in kept]])
        with torch.no_grad():
            logits = model(*(given if model.config.segments > 1 else given[:1])).logits[0].double().tolist()
        nulls.append(logits[0])
        for i in range(w.own_start, w.own_end):
            starts[i] = logits[lead + i - w.start][0]
            for j in range(i, min(i + longest, w.end)):
                end = logits[lead + j - w.start][1]
                ends[j] = max(ends.get(j, -math.inf), end)
                spans[i, j] = starts[i] + end
    null = min(nulls, key=sum)
    total = math.log(sum(map(math.exp, [*starts.values(), null[0]]))) + math.log(sum(map(math.exp, [*ends.values(), null[1]])))
    return {span: math.exp(score - total) for span, score in spans.items()}, math.exp(sum(null) - total)


@pytest.mark.parametrize("longest", [1, 6, 15])
@pytest.mark.parametrize("family", FAMILIES)
def test_windows_by_hand(models: dict[str, Any], family: str, longest: int) -> None:
    r = random.Random(1)
    model = models[family]
    answer = answerer(model, max_tokens=40, stride=10, max_answer_tokens=longest, align_to_words=False)
    for length in (20, 70, 300):
        question, context = "the cat?", " ".join(r.choices(WORDS, k=length))
        scores, null = brute(model, question, context, 40, 10, longest)
        offsets = [
            place
            for place, which in zip(
                *(getattr(model.tokenizer.encode(question, context), n) for n in ("offsets", "sequence_ids"))
            )
            if which
        ]
        (mine,) = answer(question, context, top_k=1, no_answer=True)
        best = max(scores, key=lambda span: scores[span])
        if null > scores[best]:
            assert mine == {"answer": "", "score": pytest.approx(null, rel=1e-5), "start": 0, "end": 0}
        (mine,) = answer(question, context)
        assert (mine["start"], mine["end"]) == (offsets[best[0]][0], offsets[best[1]][1])
        assert mine["score"] == pytest.approx(scores[best], rel=1e-5)
        ten = answer(question, context, top_k=10)[0]
        by_text: dict[str, float] = {}
        for i, j in sorted(scores, key=lambda span: -scores[span])[:10]:
            text = context[offsets[i][0] : offsets[j][1]]
            by_text[text] = by_text.get(text, 0) + scores[i, j]
        found = {one["answer"]: one["score"] for one in ten}
        assert all(found[text] == pytest.approx(score, rel=1e-5) for text, score in by_text.items() if text in found)
        assert len(found) == 10
        assert len(set(found) & set(by_text)) >= min(len(by_text), 9)


def test_a_window_without_the_answer_does_not_win() -> None:
    """Each normalised by itself, the second window would be sure of its one half-likely span."""
    sure, unsure = np.full((2, 4, 2), -3.0)
    sure[1] = 9.0, -3.0
    sure[2] = -3.0, 9.0
    sure[3] = 8.5, 8.5  # beside a second good answer, the first gets a third of the window's probability
    unsure[2] = 2.0, 2.0
    read = [(Window(0, 4, 0, 4), sure, np.array([-4.0, -4.0])), (Window(4, 8, 4, 8), unsure, np.array([-4.0, -4.0]))]
    (first, *_), (alone, *_) = _Spans.of(read, 15).best(3), _Spans.of([(Window(0, 4, 0, 4), unsure, read[1][2])], 15).best(3)
    (own, *_) = _Spans.of(read[:1], 15).best(3)
    assert own[2] < 0.5 < 0.9 < alone[2]  # window by window
    assert first[:2] == own[:2] == (1, 2)
    assert own[2] * 0.98 < first[2] < own[2]
    found = {span[:2]: span[2] for span in _Spans.of(read, 15).best(100)}
    assert found[6, 6] < 1e-5


def test_scores_of_windows_are_probabilities() -> None:
    """Where windows disagree about a token that both see, no score exceeds 1; where they agree, it counts once."""

    def two(here: float, there: float) -> _Spans:
        first, second = np.full((2, 6, 2), -20.0)
        first[3, 0], first[4, 1], second[2, 1] = 5.0, here, there  # token 4 belongs to the second window
        null = np.full(2, -20.0)
        return _Spans.of([(Window(0, 6, 0, 4), first, null), (Window(2, 8, 4, 8), second, null)], 15)

    for here, there in [(5.0, 5.0), (30.0, 0.0), (0.0, 30.0)]:
        scores = {span[:2]: span[2] for span in two(here, there).best(100)}
        assert all(0 <= score <= 1 for score in scores.values())
        assert (scores[3, 4] > 0.99) == (here >= there)
    assert (2, 4) in scores  # a span may end beyond what its window owns
    assert (4, 5) in scores
    assert all(start >= 4 or end < 6 for start, end in scores)  # but not beyond the window


@pytest.mark.parametrize("family", FAMILIES)
def test_bits_do_not_depend_on_order_or_company(models: dict[str, Any], family: str) -> None:
    r = random.Random(2)
    some = [*pairs()[::2], *(("the dog?", " ".join(r.choices(WORDS, k=length))) for length in (100, 200))]
    answer = answerer(models[family])
    base = ask(answer, some, top_k=3, no_answer=True)
    assert list(ask(answer, some[::-1], top_k=3, no_answer=True))[::-1] == base
    assert ask(answerer(models[family], batch_tokens=30), some, top_k=3, no_answer=True) == base
    assert [answer(q, c, top_k=3, no_answer=True)[0] for q, c in some] == base


NASTY = [
    "  The Cat\n\n sat  on\tthe mat.  ", "Ünder Café́ ǅ", "日本 の 猫、ﬀ ½", "\N{FAMILY}\N{ZERO WIDTH JOINER}\N{GIRL} cat", "a  b",
    "\u3000the\u3000cat\u00a0", "[SEP] cat [MASK] [CLS]", "cat\u200b \u200b", "x" * 300, "the \r\n", "</s> the <mask>  cat<s>",
]  # fmt: skip


@pytest.mark.parametrize("align", [True, False])
@pytest.mark.parametrize("family", [*FAMILIES, "pieces"])
def test_answers_are_slices_of_the_context(models: dict[str, Any], tmp_path: Path, family: str, align: bool) -> None:
    model = models.get(family)
    if model is None:  # a vocabulary where the space belongs to the token
        core = sentence_pieces()
        write_tokenizer(folder := qa_folder(tmp_path / "m", "roberta"), core, "PreTrainedTokenizerFast")
        model = nb.load(folder, head="answer")
    for most in (None, 24):
        answer = answerer(model, align_to_words=align, max_tokens=most, stride=4)
        for context, answers in zip(NASTY, answer("who sat?", NASTY, top_k=12), strict=True):
            assert answers
            for one in answers:
                assert one["answer"] == context[one["start"] : one["end"]] == one["answer"].strip()
                assert one["answer"] or one == {"answer": "", "score": one["score"], "start": 0, "end": 0}
                assert 0 < one["score"] <= 1 or not align
            texts = [one["answer"].lower() for one in answers]
            assert len(set(texts)) == len(texts)


def test_whole_words(models: dict[str, Any]) -> None:
    context = "Unbelievable winter-islands, powerful"
    words = {"unbelievable", "winter", "-", "islands", ",", "powerful"}
    bounds = {0, 12, 13, 19, 20, 27, 28, 29, 37}
    whole, parts = (answerer(models["bert"], align_to_words=align)("who?", context, top_k=50)[0] for align in (True, False))
    assert all({one["start"], one["end"]} <= bounds for one in whole)
    assert not all({one["start"], one["end"]} <= bounds for one in parts)
    assert words & {one["answer"].lower() for one in whole}


def test_as_many_answers_as_asked_for(models: dict[str, Any]) -> None:
    """Where many spans are the same words, the reference gives fewer answers than there are."""
    context = "unbelievable quietly learning powerful"
    answer = answerer(models["bert"])
    few = answer("who?", context, top_k=10)[0]
    assert len(few) == 10  # all that there are: 4 words, 3 pairs, 2 triples, 1 whole
    assert len({(one["start"], one["end"]) for one in few}) == 10
    assert len(answer("who?", "cat", top_k=10)[0]) == 1
    assert answer("who?", "cat")[0]["answer"] == "cat"


def test_a_context_without_a_token_has_no_answer(models: dict[str, Any]) -> None:
    nothing = {"answer": "", "score": 1.0, "start": 0, "end": 0}
    for model in models.values():
        answer = answerer(model)
        assert answer("who?", ["", "the cat"])[0] == nothing
        assert answer("who?", "", top_k=3) == [[nothing]]
        assert answer("", "the cat")[0]["answer"]
        assert answer("who?", []) == []


def test_long_pairs(models: dict[str, Any]) -> None:
    question, context = "the cat?", " ".join(["the dog is on a mat"] * 60)
    model = models["bert"]
    cut = answerer(model, too_long="truncate", max_tokens=50)
    with pytest.warns(Truncated, match=r"1 of 2 pairs is longer than 50 tokens and was cut: 316 of "):
        found, report = cut([question] * 2, ["the cat", context], top_k=3, return_report=True)
    room = 50 - 6  # the question's three tokens and three special ones
    assert found[1] == cut(question, " ".join(context.split()[:room]), top_k=3)[0]
    assert report.cut.tolist() == [0, 316]
    _, report = answerer(model, max_tokens=50, stride=10)([question] * 2, ["the cat", context], return_report=True)
    assert report.windows.tolist() == [1, len(windows(360, room, 10))]
    assert report.tokens.tolist() == [8, 366]
    with pytest.raises(TooLongError, match="pair 1 has 366 tokens and the limit is 50"):
        answerer(model, too_long="error", max_tokens=50)(question, ["cat", context])
    for too_long in ("window", "truncate"):
        with pytest.raises(TooLongError, match=r"pair 1 has .* must stand in every window of 50: shorten its first part"):
            answerer(model, max_tokens=50, too_long=too_long)(["the", "the cat " * 30], "the mat")


def test_one_question_or_one_context(models: dict[str, Any]) -> None:
    answer = answerer(models["bert"])
    contexts = ["the cat sat", "a dog is deep", "rain"]
    alone = [answer("who?", context)[0] for context in contexts]
    assert answer("who?", contexts) == answer(["who?"] * 3, contexts) == answer("who?", np.array(contexts)) == alone
    questions = ["who?", "the cat", "is it?"]
    assert answer(questions, "the cat sat") == [answer(question, "the cat sat")[0] for question in questions]
    assert len({one["score"] for one in answer(questions, "the cat sat")}) == 3
    rows = answer("who?", contexts[:2], top_k=2).rows()
    assert [(row["item"], row["rank"]) for row in rows] == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_what_is_wrong_is_told(models: dict[str, Any]) -> None:
    answer = answerer(models["bert"])
    for questions, contexts, message in [
        (["a", "b"], ["c"], "there are 2 questions and 1 contexts: pass as many of both, or a single string"),
        (["a"], ["c", "d"], "there are 1 questions and 2 contexts"),
        (["a", None], ["b", "c"], "question 1 must be a string, not NoneType"),
        ("a", ["b", 3.5], "context 1 must be a string, not float"),
        ("a", None, "contexts must be a list of strings"),
    ]:
        with pytest.raises(BadInputError, match=message):
            answer(questions, contexts)
    for k in (0, True, None, 1.5):
        with pytest.raises(BadInputError, match="top_k must be a whole number, 1 or more"):
            answer("a", "b", top_k=k)
        with pytest.raises(BadInputError, match="max_answer_tokens must be a whole number, 1 or more"):
            answerer(models["bert"], max_answer_tokens=k)
    assert answer("a", "b c", top_k=2.0) == answer("a", "b c", top_k=2)
    assert answerer(models["bert"], max_answer_tokens=3.0).max_answer_tokens == 3
    with pytest.raises(BadInputError, match="needs a model with the head 'answer'"):
        answerer(nb.load(models["bert"].snapshot, head=None))


def test_memory_grows_with_the_text_alone(models: dict[str, Any]) -> None:
    """Beside the tensors of a batch: less than 400 bytes for a token of the context, and no square of its length."""
    answer = answerer(models["bert"], max_tokens=120, stride=30)
    peaks = []
    for tokens in (2000, 20000):
        context = "the cat " * (tokens // 2)
        answer("who?", context)
        tracemalloc.start()
        answer("who?", context)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 18000 * 400
