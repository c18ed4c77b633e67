"""The pages in a real browser, on a desktop and on a phone, by day and by night: nothing sticks out, covers other text, or is too pale to read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import DESKTOP, PHONE, PROGRAM, Browser

from nativebert.parity.report import Report, Step
from nativebert.pictures import AttentionPicture, map
from nativebert.train.data import DataReport
from nativebert.train.evaluation import LabelEvaluation, NumberEvaluation, TagEvaluation
from nativebert.train.report import write_report

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="there is no chromium or chrome to open the pages in")

LONG = "https://example.org/an/address/that/is/not/to/be/broken/" + "a" * 90
WINDOWS = {
    "desktop, light": (DESKTOP, False), "desktop, dark": (DESKTOP, True),
    "phone, light": (PHONE, False), "phone, dark": (PHONE, True),
}  # fmt: skip


def attention_page(words: int, layers: int = 6, heads: int = 12) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        tokens = [
            "[CLS]",
            *(("the ferry leaves at half past nine , unprecedented ##ly 東京 العربية".split() * words)[:words]),
            "[SEP]",
        ]
        weights = np.random.default_rng(0).dirichlet(np.full(len(tokens), 0.1), (layers, heads, len(tokens)))
        AttentionPicture(
            tuple(tokens), weights.astype(np.float32), tuple(range(layers)), tuple(range(heads)), f"./{LONG}"
        ).save(path)

    return make


def map_page(path: Path) -> None:
    pytest.importorskip("plotly")
    vectors = np.random.default_rng(0).standard_normal((40, 8)) ** 3
    texts = [f"A text of some length about number {n}, and more" for n in range(40)]
    map(vectors, labels=[f"a label with a name, {n % 8}" for n in range(40)], texts=texts, title=f"Vectors of {LONG}").save(
        path
    )


def parity_page(differs: bool, layers: int) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        parity_report(differs, layers).save(path)

    return make


def parity_report(differs: bool, layers: int) -> Report:
    """A report as that of a model of so many layers, of which one is wrong, or none."""
    steps = [Step("embed.norm", "operation", 8.2e-7, 1.3e-7, 1.7, 1.0, 8.2e-7, 1.8e-5, 8.2e-7, 1.6e-5)]
    steps.append(Step("embeddings", "output", 8.2e-7, 1.3e-7, 1.7, 1.0, 8.2e-7, 1e-5))
    for n in range(layers):
        off = 300.0 if differs and n == layers // 2 else 1.0
        for name in ("attn.q", "attn.k", "attn.v", "attn.o", "attn_norm", "mlp.up", "mlp.down", "mlp_norm"):
            steps.append(
                Step(f"layers.{n}.{name}", "operation", 3e-6 * off, 3e-7 * off, 4.0, 1.0, 3e-6, 2e-5, 2e-6 * off, 3e-5)
            )
        steps.append(Step(f"layers.{n}.attention", "output", 1e-6, 1e-6, 20.0, 1.0, 1e-6, 1e-5))
        steps.append(Step(f"layers.{n}", "output", 2e-6 * off, 2e-7 * off, 3.0, 1.0, 2e-6, 1e-5))
    if differs:
        steps.append(Step("pooler", "output", math.nan, math.inf, math.inf, 0.0, 1e-7, 1e-5))
    weights = {f"layers.{n}.attn.v.weight": 1e-3 for n in range(3)} if differs else {}
    settings = {"norm_eps": ("1e-05", LONG)} if differs else {}
    facts = {"model": f"./{LONG}", "weights sha256": "53aa5117" * 8, "device": "cpu, x86_64, 2 threads"}
    return Report(tuple(steps), weights, settings, (LONG,) if differs else (), facts)


def training_page(kind: str) -> Callable[[Path], None]:
    r = np.random.default_rng(0)
    names = ["positive", "a label with a very long name indeed", LONG, *(f"label {n}" for n in range(40))]

    def labels(count: int) -> LabelEvaluation:
        texts = [f"A review of some length. {LONG if n % 5 == 0 else 'The rest of it.'}" for n in range(200)]
        return LabelEvaluation(
            texts=texts, labels=names[:count], gold=r.integers(0, count, 200), probabilities=r.dirichlet(np.ones(count), 200)
        )

    def make(path: Path) -> None:
        evaluation = {
            "few": lambda: labels(4), "many": lambda: labels(40),
            "numbers": lambda: NumberEvaluation(texts=["a", (LONG, "c"), "d"], gold=[1.0, 2.0, 3.0], predicted=[1.5, 2.0, 1.0]),
            "entities": lambda: TagEvaluation.of([["New", "York", LONG]], [["B-X", "I-X", "O"]], [["B-X", "O", "B-Y"]], [0.3]),
        }[kind]()  # fmt: skip
        history = [
            {"loss": 1 / n, "grad_norm": 3.0, "learning_rate": 2e-5, "epoch": n / 10, "step": n * 100} for n in range(1, 40)
        ]
        history += [{"eval_loss": 2 / n, "eval_accuracy": 0.5, "epoch": n / 10, "step": n * 1000} for n in range(1, 4)]
        data = DataReport(f"{LONG}.csv", 1234, {LONG: 1000, "b": 234}, 3, 1, [[4, 9]])
        settings = {"learning_rate": 2e-5, "output": LONG, "freeze": ("embed",)}
        write_report(
            path.parent, history, evaluation, data, settings, f"nativebert train classify {LONG}", title=LONG, best_step=2000
        )
        (path.parent / "report.html").rename(path)

    return make


PAGES: dict[str, Callable[[Path], None]] = {
    "attention": attention_page(10),
    "attention, long": attention_page(60, 3, 16),
    "attention, one head": attention_page(5, 1, 1),
    "map": map_page,
    "parity": parity_page(False, 6),
    "parity, differs": parity_page(True, 24),
    **{f"training, {kind}": training_page(kind) for kind in ("few", "many", "numbers", "entities")},
}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("pages")

    def made(name: str) -> Path:
        path = folder / f"{name.replace(', ', '-').replace(' ', '-')}.html"
        if not path.exists():
            PAGES[name](path)
        return path

    return made


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_can_be_read(name: str, window: str, browser: Browser, page: Callable[[str], Path]) -> None:
    size, dark = WINDOWS[window]
    browser.open(page(name), size, dark=dark, touch=size == PHONE)
    assert not (found := browser.findings()), "\n".join(found)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ('<div style="width: 3000px; background: red">x</div>', "wider than the window"),
        ('<p style="position: absolute; left: -400px">away</p>', '"away" is outside of the window'),
        (
            '<p style="position: absolute; top: 9px">one one</p><p style="position: absolute; top: 12px">two two</p>',
            '"one one" lies on',
        ),
        ('<p style="color: #aaa">pale</p>', '"pale" has a contrast of 2.3'),
        ('<p style="font-size: 5px">tiny</p>', '"tiny" is 5.0 pixels high'),
        ('<p style="width: 3em; overflow: hidden; white-space: nowrap">a text that is cut</p>', "is cut off"),
        ("<script>throw new Error('oh')</script>", "a script failed: Error: oh"),
        ('<img src="http://127.0.0.1:9/x.png">', "it fetches http://127.0.0.1:9/x.png"),
    ],
)
def test_faults_are_found(body: str, says: str, browser: Browser, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text(f'<!doctype html><meta name="viewport" content="width=device-width"><body>{body}')
    browser.open(bad)
    assert any(says in found for found in browser.findings()), browser.findings()


def test_attention_answers_a_finger(browser: Browser, page: Callable[[str], Path]) -> None:
    browser.open(page("attention"), PHONE, touch=True)
    place = "(e => { e.scrollIntoView({block: 'center'}); const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; })"

    def tap(what: str) -> None:
        browser.tap(*browser.evaluate(f"{place}({what})"))

    tap("document.querySelectorAll('#overview button')[14]")
    assert browser.evaluate("document.getElementById('name').textContent") == "layer 1, head 1"
    tap("document.querySelectorAll('#words span')[2]")
    assert "of “ferry” goes" in browser.evaluate("document.getElementById('about').textContent")
    tap("document.getElementById('large')")
    assert browser.evaluate("document.getElementById('tip').style.display") == "block"


def test_a_map_is_searched(browser: Browser, page: Callable[[str], Path]) -> None:
    browser.open(page("map"))
    assert (
        browser.evaluate(
            "(() => { const box = document.querySelector('input'); box.value = 'number 3'; box.dispatchEvent(new Event('input'));"
            "return document.querySelector('output').textContent; })()"
        )
        == "11 of 40"
    )  # 3, and 30 to 39
