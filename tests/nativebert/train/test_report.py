"""``report.html``: a whole page that runs nothing, whatever is in the texts, and the numbers on it."""

from __future__ import annotations

import datetime
import json
import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nativebert.errors import BadInputError
from nativebert.train import charts
from nativebert.train.data import DataReport
from nativebert.train.evaluation import (
    AnswerEvaluation,
    Columns,
    Confusion,
    Evaluation,
    Examples,
    LabelEvaluation,
    MultiLabelEvaluation,
    NumberEvaluation,
    RankEvaluation,
    Reliability,
    Scatter,
    TagEvaluation,
)
from nativebert.train.metrics import calibration
from nativebert.train.report import MOST_LETTERS, write_report

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)> & @DATA@ @BODY@ \x00\x1b[31m\u202e"
HISTORY: list[dict[str, Any]] = [
    {"loss": 0.9, "grad_norm": 3.0, "learning_rate": 2e-5, "epoch": 0.5, "step": 1},
    {"eval_loss": 0.8, "eval_accuracy": 0.5, "eval_ece": 0.25, "epoch": 0.5, "step": 1},
    {"loss": 0.4, "grad_norm": math.inf, "learning_rate": 1e-5, "epoch": 1.0, "step": 2},
    {"eval_loss": 0.85, "eval_accuracy": 0.75, "eval_ece": math.nan, "epoch": 1.0, "step": 2},
    {"train_runtime": 12.5, "train_samples_per_second": 99.5, "train_loss": 0.65, "epoch": 1.0, "step": 2},
]
DATA = DataReport(f"data {EVIL}.csv", 1234, {EVIL: 1000, "b": 234}, 3, 1, [[4, 9]])
SETTINGS = {"learning_rate": 2e-5, "note": EVIL, "freeze": ("embed",), "max_grad_norm": math.inf}
WHEN = datetime.datetime(2030, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)


class Page(HTMLParser):
    """The tags of a page, the text of each element of some names, and that all are closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {}
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)
            self.text.setdefault(tag, []).append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in set(self.open):
            self.text[tag][-1] += data


def labels(count: int = 2, rows: int = 40) -> LabelEvaluation:
    r = np.random.default_rng(0)
    probabilities = r.dirichlet(np.ones(count), rows)
    names = [EVIL, *(f"label {n}" for n in range(1, count))]
    return LabelEvaluation(texts=[EVIL] * rows, labels=names, gold=r.integers(0, count, rows), probabilities=probabilities)


def everything() -> dict[str, Evaluation | None]:
    gold = [["B-X", "I-X", "O"], ["O", "B-Y"]]
    predicted = [["B-X", "O", "O"], ["O", "B-Y"]]
    words = [["New", "York", EVIL], ["a", "b"]]
    return {
        "none": None,
        "plain": Evaluation(texts=["a"]),
        "two": labels(),
        "drawn": labels(40, 300),
        "too many": labels(300, 900),
        "no rows": labels(2, 0),
        "several": MultiLabelEvaluation(
            texts=[EVIL, "b"], labels=[EVIL, "y"], gold=np.array([[1, 0], [1, 1]]), probabilities=np.array([[0.9, 0.8], [0.1, 0.6]])
        ),
        "numbers": NumberEvaluation(texts=["a", (EVIL, "c"), "d"], gold=[1.0, 2.0, math.nan], predicted=[1.5, 2.0, 1.0]),
        "cosines": NumberEvaluation(texts=["a", "b"], gold=[0.0, 5.0], predicted=[0.9, 0.1], names=("score", "cosine"), by_rank=True),
        "entities": TagEvaluation.of(words, gold, predicted, [0.3, 0.0]),
        "words": TagEvaluation.of(words, [["N", "N", "V"], ["N", "V"]], [["N", "V", "V"], ["N", "V"]]),
        "answers": AnswerEvaluation(texts=[("who?", EVIL)] * 3, answers=[["cat"], [], ["a", "b"]], predicted=["dog", "", "b"]),
        "ranks": RankEvaluation(texts=[("q", "d"), ("r", "e")], ranks=[1, 200], nearest=["d", EVIL]),
    }  # fmt: skip


@pytest.mark.parametrize("name", everything())
def test_the_page_is_whole_and_runs_nothing(name: str, tmp_path: Path) -> None:
    path = write_report(
        tmp_path, HISTORY, everything()[name], DATA, SETTINGS, f"nativebert train {EVIL}", best_step=2, when=WHEN
    )
    html = path.read_text("utf-8")
    page = Page(html)
    tags = [tag for tag, _ in page.tags]
    assert tags.count("script") == 1  # of data: a browser runs nothing of another type
    assert ("script", {"type": "application/json", "id": "report"}) in page.tags
    assert not {"img", "link", "iframe", "object"} & set(tags)
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
    assert not re.search(r"https?://", html)
    assert "\x00" not in html
    assert html.count('"history":') == 1  # nothing in a text is taken for a place of the template
    anchors = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {attributes["href"] for tag, attributes in page.tags if tag == "a"} <= {f"#{anchor}" for anchor in anchors}
    assert all(attributes.get("aria-label") for tag, attributes in page.tags if tag == "svg")
    assert "nan" not in re.sub(r">[^<]*<", "><", html.split("</style>")[1])  # no number of a picture
    data = json.loads(page.text["script"][0], parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert data["metrics"] == {"loss": 0.85, "accuracy": 0.75, "ece": None}
    assert data["data"]["rows"] == 1234
    assert data["command"] == f"nativebert train {EVIL}"
    assert data["finished"] == "2030-01-02 03:04:05+00:00"
    assert EVIL.split(" ")[0] in page.text["pre"][0]


def test_the_best_step_is_what_is_told(tmp_path: Path) -> None:
    path = write_report(tmp_path, HISTORY, None, None, {}, "", best_step=1)
    page = Page(path.read_text("utf-8"))
    assert page.text["b"] == ["0.8000", "0.5000", "0.2500"]
    assert 'class="best"' in path.read_text("utf-8")
    assert json.loads(page.text["script"][0])["metrics"]["loss"] == 0.8


def test_without_a_log_and_with_a_constant_one(tmp_path: Path) -> None:
    Page(write_report(tmp_path, [], None, None, {}, "").read_text("utf-8"))
    flat = [{"loss": 0.0, "learning_rate": 0.0, "step": 1}]
    assert "NaN" not in write_report(tmp_path, flat, None, None, {}, "").read_text("utf-8")


def section(evaluation: Evaluation, kind: type[Any]) -> Any:
    return next(found for found in evaluation.sections() if isinstance(found, kind))


def test_labels() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.7, 0.3]])
    evaluation = LabelEvaluation(
        texts=["a", "b", "c", "d"], labels=["no", "yes"], gold=np.array([0, 1, 1, 1]), probabilities=probabilities
    )
    assert section(evaluation, Confusion).counts.tolist() == [[1, 0], [2, 1]]
    rows = {row[0]: row[1:] for row in section(evaluation, Columns).rows}
    assert rows["no"] == [pytest.approx(1 / 3), 1.0, 0.5, 1, 3]
    assert rows["yes"] == [1.0, pytest.approx(1 / 3), 0.5, 3, 1]
    worst = section(evaluation, Examples)
    assert [example.texts for example in worst.examples] == [("b",), ("d",)]  # the likelier the wrong label, the worse
    assert worst.note.startswith("All 2 among 4 examples")
    assert dict(worst.examples[0].facts) == {"label": "yes (0.200)", "predicted": "no (0.800)"}
    assert section(evaluation, Reliability).calibration.error == pytest.approx((0.1 + 0.8 + 0.4 + 0.7) / 4)


def test_entities() -> None:
    evaluation = everything()["entities"]
    assert evaluation is not None
    rows = {row[0]: row[1:] for row in section(evaluation, Columns).rows}
    assert rows["X"] == [0.0, 0.0, 0.0, 1, 1]  # half of an entity is none
    assert rows["Y"] == [1.0, 1.0, 1.0, 1, 1]
    matrix = section(evaluation, Confusion)
    assert (list(matrix.labels), matrix.counts.tolist()) == (["O", "X", "Y"], [[2, 0, 0], [1, 1, 0], [0, 0, 1]])
    (example,) = section(evaluation, Examples).examples
    assert dict(example.facts) == {"missed": "New York (X)", "wrongly predicted": "New (X)", "loss": "0.300"}


def test_numbers_and_ranks() -> None:
    apart = NumberEvaluation(texts=["a", "b", "c"], gold=[1.0, 2.0, 3.0], predicted=[10.0, 20.0, 15.0], by_rank=True)
    assert [example.texts[0] for example in section(apart, Examples).examples] == ["b", "c"]
    absolute = NumberEvaluation(texts=["a", "b"], gold=[1.0, 2.0], predicted=[1.5, 7.0])
    assert [example.texts[0] for example in section(absolute, Examples).examples] == ["b", "a"]
    assert section(absolute, Scatter).y[1].tolist() == [1.5, 7.0]
    ranked = RankEvaluation(texts=[("q", "d")] * 4, ranks=[1, 1, 3, 500], nearest=["x"] * 4)
    assert section(ranked, Columns).rows == [["1", 2, 0.5], ["2 to 3", 1, 0.25], ["above 100", 1, 0.25]]


def test_lengths_are_checked() -> None:
    with pytest.raises(BadInputError, match="losses has 2 entries, and there are 1 texts"):
        Evaluation(texts=["a"], losses=[1.0, 2.0])


def test_long_texts_say_how_much_more_there_is(tmp_path: Path) -> None:
    evaluation = NumberEvaluation(texts=["x" * (MOST_LETTERS + 1234)], gold=[0.0], predicted=[1.0])
    html = write_report(tmp_path, [], evaluation, None, {}, "").read_text("utf-8")
    assert "… 1,234 more characters" in html
    assert "x" * (MOST_LETTERS + 1) not in html


def test_ticks() -> None:
    assert charts.ticks(0, 1) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert charts.ticks(-3, 1200) == pytest.approx([0, 250, 500, 750, 1000])
    for low, high in [(0.123, 0.1231), (1e-9, 2e-9), (-5, 1e6)]:
        found = charts.ticks(low, high)
        assert 2 <= len(found) <= 7
        assert all(low <= tick * (1 + 1e-9) and tick <= high * (1 + 1e-9) for tick in found)


def test_ticks_that_differ_are_written_differently() -> None:
    for low, high in [(0, 2e-5), (1e-5, 3e-5), (0, 3e6), (0, 0.1), (1.2e6, 1.3e6)]:
        written = [charts.short(tick) for tick in charts.ticks(low, high)]
        assert len(set(written)) == len(written), written
    assert [charts.short(value) for value in (0, 1.5e-5, 2e-5, 1e6, 0.25, 1200)] == [
        "0",
        "1.5e-5",
        "2e-5",
        "1e6",
        "0.25",
        "1,200",
    ]


def test_a_long_log_is_averaged(tmp_path: Path) -> None:
    drawn = charts.lines("loss", [charts.Series("loss", [(n, 1.0 if n % 2 else 3.0) for n in range(4000)])], "step")
    points = re.search('points="(.*?)"', drawn)
    assert points is not None
    assert len(points[1].split()) == charts.MOST_POINTS
    assert len({point.split(",")[1] for point in points[1].split()}) == 1  # each mean is 2
    assert "means of 10 neighbours" in drawn


def test_reliability_has_a_bar_for_each_bin_with_predictions() -> None:
    drawn = charts.reliability("calibration", calibration(np.array([0.95, 0.91, 0.55]), np.array([True, False, True])))
    assert drawn.count("<rect") == 2
    assert "0.9 to 1.0: 2 predictions, mean probability 0.930, 0.500 right" in drawn


def test_torch_is_not_needed() -> None:
    script = "import nativebert.train.report, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
