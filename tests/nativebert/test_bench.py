"""`nativebert bench`: that what is counted, compared and told is right. No test here asks how fast anything is."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models import BERT, TINY, one_thread, write_folder

import nativebert as nb
from nativebert import bench, cli
from nativebert.arch import read_config
from nativebert.bench import Figure, Turn, Work
from nativebert.errors import BadInputError, NativeBertError, Truncated

KEYS = ["load", "mixed", "one", "32x128", "8x512"]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(bench, "CALLS", 3)
    monkeypatch.setattr(bench, "PRODUCTS", 2)
    monkeypatch.setattr(bench, "SIDE", {"cpu": 16})
    monkeypatch.setattr(bench, "COUNT", 12)
    with one_thread():
        yield


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("models") / "tiny", BERT)


class Other:
    """A contender that notes what it is asked for."""

    name, about = "other", "with care"

    def __init__(self, folder: Path, device: torch.device, max_tokens: int) -> None:
        self.made = (folder, device, max_tokens)
        self.embedder = nb.Embedder(folder, device="cpu", pooling="mean")
        self.loaded: list[str] = []
        self.texts: list[list[str]] = []
        self.rows: list[list[list[int]]] = []
        self.runs = 0
        made.append(self)

    def load(self, text: str) -> object:
        self.loaded.append(text)
        return None

    def vectors(self, texts: list[str]) -> Callable[[], Any]:
        self.texts.append(texts)

        def run() -> Any:
            self.runs += 1
            return self.embedder(texts)

        return run

    def states(self, rows: list[list[int]]) -> Callable[[], object]:
        self.rows.append(rows)
        return lambda: None


made: list[Other] = []


# ---- what is counted


def config_of(config: dict[str, Any]) -> Any:
    return read_config(config)[1]


def test_gflop_by_hand() -> None:
    config = config_of(BERT)  # width 32, inner 48, 2 layers
    products = 2 * 8 * (4 * 32 * 32 + 2 * 32 * 48)
    attention = 4 * 32 * (3 * 3 + 5 * 5)
    assert bench.gflop(config, [3, 5]) == pytest.approx(2 * (products + attention) / 1e9)
    assert 2 * (products + attention) == 238_080
    assert bench.gflop(config, []) == 0
    one = replace(config, layers=config.layers[:1], gated=True)
    assert bench.gflop(one, [4]) == pytest.approx((2 * 4 * (4 * 1024 + 3 * 32 * 48) + 4 * 32 * 16) / 1e9)


def test_gflop_of_a_window() -> None:
    """Against the mask that attention uses: a token sees those at most so far away."""
    config = config_of(TINY["modernbert"])
    windows = [layer.window for layer in config.layers]
    assert None in windows
    assert any(windows)
    for length in (1, 2, 3, 7, 12):
        at = np.arange(length)
        far = np.abs(at[:, None] - at)
        for window in (None, 1, 3, 40):
            seen = far.size if window is None else int((far <= window).sum())
            assert bench._seen(length, window) == seen
        total = sum(
            2 * length * (4 * 32 * 32 + 3 * 32 * layer.intermediate_size)
            + 4 * 32 * int((far <= (layer.window or length)).sum())
            for layer in config.layers
        )
        assert bench.gflop(config, [length]) == pytest.approx(total / 1e9)


def test_figures_of_known_times() -> None:
    work = Work("mixed", "texts", texts=10, tokens=80, gflop=6.0, against_peak=True)
    figure = Figure(work, "int8", rounds=((1.0, 2.0, 3.0), (4.0, 4.0, 4.0)), peak=(6.0, 3.0), base=(8.0, 4.0))
    assert figure.seconds == (2.0, 4.0)
    assert figure.texts_per_second == (5.0, 2.5)
    assert figure.tokens_per_second == (40.0, 20.0)
    assert figure.share == (0.5, 0.5)
    assert figure.ratio == (4.0, 1.0)  # above 1: less time than the base
    assert figure.slow == pytest.approx(4.0)
    assert Figure(work, "int8", rounds=(tuple(map(float, range(11))),)).slow == pytest.approx(9.0)
    assert bench.spread((3.0, 1.0, 2.0, 9.0)) == {"median": 2.5, "least": 1.0, "most": 9.0}
    assert bench.spread(()) is None


def test_cosine() -> None:
    a = np.array([[1, 0], [3, 4]], np.float32)
    b = np.array([[2, 0], [4, 3]], np.float32)
    assert bench.cosine(a, b) == pytest.approx((0.98, 0.96))


def test_turns_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, happened, done = [0.0], [], [0]
    monkeypatch.setattr(bench.time, "perf_counter", lambda: clock[0])

    def turn(work: str, name: str, seconds: float, calls: int = 1) -> Turn:
        def run() -> None:
            happened.append((work, name))
            clock[0] += seconds

        return Turn(run, calls)

    names = "abcde"
    turns = {work: {n: turn(work, n, 10.0 ** -"xy".index(work) * (1 + names.index(n))) for n in names} for work in "xy"}
    turns["y"]["a"] = turn("y", "a", 7.0, calls=3)

    def tick() -> None:
        done[0] += 1

    found = bench.interleave(turns, 4, 0, tick)
    assert done == [5 * 10]
    assert found["x"]["b"] == [[2.0]] * 4  # the first of five rounds does not count
    assert found["y"]["a"] == [pytest.approx([7.0] * 3)] * 4
    assert len(found["y"]["e"]) == 4
    orders = []
    for number in range(5):
        of_round = happened[number * 12 : (number + 1) * 12]
        assert [work for work, _ in of_round] == ["x"] * 5 + ["y"] * 7
        assert sorted(name for _, name in of_round[:5]) == list(names)
        orders.append([name for _, name in of_round[:5]])
    assert len({tuple(order) for order in orders}) > 2  # another order each time
    first, happened[:] = list(happened), []
    bench.interleave(turns, 4, 0)
    assert happened == first
    happened.clear()
    bench.interleave(turns, 4, 1)
    assert happened != first


# ---- what is timed


def test_texts_that_are_made_up(tiny: Path) -> None:
    embedder = nb.Embedder(tiny, device="cpu", pooling="mean")
    texts = bench.sentences(500, 3)
    assert texts == bench.sentences(500, 3) != bench.sentences(500, 4)
    words = [len(text.split()) for text in texts]
    assert min(words) >= 3
    assert max(words) == 40
    assert 6 < float(np.median(words)) < 14
    for count, length in ((3, 40), (2, 5), (1, 2)):
        rows = bench._rows(embedder.tokenizer, count, length, 0)
        assert [len(row) for row in rows] == [length] * count
        assert all(row[0] == embedder.tokenizer.cls_id for row in rows)
        assert all(row[-1] == embedder.tokenizer.sep_id for row in rows)
        assert len({tuple(row) for row in rows}) == (count if length > 2 else 1)
    for seed in range(5):
        short = bench._short(embedder.tokenizer, seed)
        assert 6 <= len(embedder.tokenizer.encode(short)) <= bench.SHORT
        assert len(embedder.tokenizer.encode(f"{short} {'x' * 16}")) > bench.SHORT


def test_texts_that_are_given(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = nb.Embedder(tiny, device="cpu", pooling="mean")
    few = ["a dog", "the cat", "a dog " * 30]
    kept, about = bench._mixed(few, embedder, 0)
    assert sorted(kept) == sorted(few)
    assert about == "3 provided, 48 tokens, 1 truncated to 40"
    many = [f"a {'dog ' * n}" for n in range(30)]
    kept, about = bench._mixed(many, embedder, 0)
    assert len(set(kept)) == 12
    assert set(kept) < set(many)
    assert kept != many[:12]
    assert about.startswith("12 sampled from 30, ")
    monkeypatch.setattr(bench, "TOKENS", 90)
    kept, about = bench._mixed(["a dog " * 30] * 5, embedder, 0)  # 40 tokens each, of which two fit
    assert about == "2 sampled from 5, 80 tokens, 2 truncated to 40"
    monkeypatch.setattr(bench, "TOKENS", 1)
    assert len(bench._mixed(few, embedder, 0)[0]) == 1  # there is always something to time


def test_measure(tiny: Path) -> None:
    found = bench.measure(tiny, device="cpu", rounds=2, texts=["a dog", "the cat sat"])
    assert [(f.work.key, f.name) for f in found.figures] == [(key, name) for key in KEYS for name in ("float32", "int8")]
    assert found.base == "float32"
    config = config_of(BERT)
    for f in found.figures:
        assert len(f.rounds) == 2
        assert {len(calls) for calls in f.rounds} == {3 if f.work.key == "one" else 1}
        assert len(f.peak) == (2 if f.work.key in ("mixed", "32x128", "8x512") else 0)
        assert len(f.ratio) == (0 if f.name == "float32" else 2)
    works = {f.work.key: f.work for f in found.figures}
    assert (works["mixed"].texts, works["mixed"].tokens) == (2, 9)
    assert works["mixed"].gflop == bench.gflop(config, [4, 5])
    assert (works["32x128"].texts, works["32x128"].tokens) == (32, 32 * 40)  # as long as the model takes
    assert (works["8x512"].texts, works["8x512"].tokens) == (8, 8 * 40)
    assert works["8x512"].gflop == bench.gflop(config, [40] * 8)
    assert len(found.peak) == 6
    assert list(found.cosines) == ["int8"]
    texts = ["a dog", "the cat sat"]
    vectors = [nb.Embedder(tiny, device="cpu", precision=p, pooling="mean")(texts) for p in ("int8", "float32")]
    assert found.cosines["int8"] == pytest.approx(bench.cosine(*vectors))
    assert found.cosines["int8"].least < 1
    assert found.facts["model"] == str(tiny)
    assert found.facts["threads"].startswith("1 of ")
    assert found.facts["texts"] == "2 provided, 9 tokens"


def test_one_precision_has_nothing_to_be_compared_with(tiny: Path) -> None:
    found = bench.measure(tiny, device="cpu", precisions=["int8"], rounds=1)
    assert found.base == ""
    assert all(f.base == () for f in found.figures)
    assert list(found.cosines) == ["int8"]  # to vectors of float32 that were made for it
    assert bench.measure(tiny, device="cpu", precisions=["float32"], rounds=1).cosines == {}


def test_threads_are_given_back(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = bench.measure(tiny, device="cpu", precisions=["float32"], threads=2, rounds=1)
    assert found.facts["threads"].startswith("2 of ")
    assert torch.get_num_threads() == 1
    monkeypatch.setattr(bench, "interleave", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        bench.measure(tiny, device="cpu", threads=2)
    assert torch.get_num_threads() == 1


def test_what_else_is_timed_does_the_same_work(tiny: Path) -> None:
    made.clear()
    found = bench.measure(tiny, device="cpu", precisions=["float32"], rounds=2, against=Other)
    (other,) = made
    assert other.made == (tiny, torch.device("cpu"), 40)
    assert found.base == "other"
    assert found.facts["other"] == "with care"
    assert [f.name for f in found.figures] == ["float32", "other"] * 5
    mixed, one = other.texts[:2]
    assert len(mixed) == 12
    assert other.loaded == one * 3
    assert [(len(rows), len(rows[0])) for rows in other.rows] == [(32, 40), (8, 40)]
    assert other.runs == 3 * 1 + 3 * bench.CALLS + 1  # and once for the cosine
    assert found.cosines["other"] == pytest.approx((1, 1))


def test_ratios_and_shares_come_from_their_own_round(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def known(turns: Any, rounds: int, *_: object) -> Any:
        of = {
            "float32": [[1.0], [4.0]],
            "int8": [[0.5], [1.0]],
            "other": [[2.0], [4.0]],
            bench.PRODUCT: [[5.0, 2.0], [4.0, 8.0]],
        }
        return {work: {name: list(of[name]) for name in names} for work, names in turns.items()}

    monkeypatch.setattr(bench, "interleave", known)
    found = bench.measure(tiny, device="cpu", rounds=2, against=Other)
    of = {(f.work.key, f.name): f for f in found.figures}
    assert of["mixed", "float32"].ratio == (2.0, 1.0)
    assert of["mixed", "int8"].ratio == (4.0, 4.0)
    assert of["mixed", "other"].ratio == ()
    flop = 2 * 16**3 / 1e9
    peak = (flop / 2, flop / 4)  # the fastest of each round
    assert of["8x512", "int8"].peak == pytest.approx(peak)
    gflop = of["8x512", "int8"].work.gflop
    assert of["8x512", "int8"].share == pytest.approx((gflop / 0.5 / peak[0], gflop / 1.0 / peak[1]))
    assert of["load", "int8"].share == ()


def test_prompts_and_warnings_stay_out(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    folder = write_folder(tmp_path / "prompted", BERT)
    parts = {"": "Transformer", "1_Pooling": "Pooling"}
    listed = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in parts.items()]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "cls"}')
    (folder / "config_sentence_transformers.json").write_text(
        '{"prompts": {"q": "a cat sat on the mat "}, "default_prompt_name": "q"}'
    )
    one = bench._Ours(nb.load(folder).snapshot, torch.device("cpu"), "float32")  # type: ignore[arg-type]
    assert np.array_equal(one.vectors(["a dog"])(), nb.Embedder(folder, device="cpu")(["a dog"], prompt=""))
    assert not np.array_equal(one.vectors(["a dog"])(), nb.Embedder(folder, device="cpu")(["a dog"]))
    recwarn.clear()
    found = bench.measure(folder, device="cpu", precisions=["float32"], rounds=2, texts=["a dog " * 60])
    assert found.facts["texts"] == "1 provided, 40 tokens, 1 truncated to 40"
    assert not [w for w in recwarn if issubclass(w.category, Truncated)]
    # the first token's vector is not the mean that others give: they are not compared
    assert list(bench.measure(folder, device="cpu", rounds=1, against=Other).cosines) == ["int8"]


# ---- errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precisions": []}, "precisions must be one or more of float32, bfloat16, float16, int8, tf32, not []"),
        ({"precisions": ["int8", "int4"]}, "not ['int8', 'int4']"),
        ({"rounds": 0}, "rounds must be a whole number, 1 or more, not 0"),
        ({"rounds": True}, "rounds must be a whole number, 1 or more, not True"),
        ({"threads": 0}, "threads must be a whole number, 1 or more, not 0"),
        ({"texts": []}, "texts is empty: pass at least one text"),
        ({"texts": [1]}, "text 0"),
        ({"device": "nope"}, "not 'nope'"),
    ],
)
def test_bad_arguments(tiny: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError) as error:
        bench.measure(tiny, **{"device": "cpu", **options})
    assert message in str(error.value)


def test_int8_is_for_the_cpu() -> None:
    with pytest.raises(
        BadInputError, match=r"precision='int8' is for the CPU, not for cuda; use 'float16' or 'bfloat16' there"
    ):
        bench._precisions(["float32", "int8"], torch.device("cuda"))
    assert bench._precisions(None, torch.device("cuda")) == ["float32"]
    assert bench._precisions(None, torch.device("cpu")) == ["float32", "int8"]
    assert bench._precisions(["int8", "float32", "int8"], torch.device("cpu")) == ["int8", "float32"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "missing arguments: MODEL"),
        (["{tiny}", "--rounds", "0"], "--rounds: '0' is not a whole number above 0"),
        (["{tiny}", "--threads", "x"], "--threads: 'x' is not a whole number above 0"),
        (["{tiny}", "--precision", "int3"], "--precision: invalid choice: 'int3'.*float32.*all"),
        (["{tiny}", "--against", "onnx"], "--against: invalid choice: 'onnx'.*transformers"),
        (["{tiny}", "--texts", "{tmp}/none.txt"], "does not exist"),
        (["{tiny}", "--texts", "{tmp}/empty.txt"], r"empty\.txt contains no texts"),
        (["{tiny}", "--device", "nope"], "device must be .* not 'nope'"),
        (["{tiny}", "--device", "nope", "--precision", "all"], "device must be .* not 'nope'"),
        (["{tmp}/none"], "folder .* does not exist"),
        (
            ["{tiny}", "--json", "{tmp}/no/r.json", "--precision", "float32", "--device", "cpu"],
            "folder .*no does not exist: create it first",
        ),
        (["{tiny}", "--against", "transformers"], r"requires transformers: pip install 'nativebert\[parity\]'"),
    ],
)
def test_errors_are_one_line(
    tiny: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    argv: list[str],
    message: str,
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)  # as if it were not installed
    (tmp_path / "empty.txt").write_text("")
    words = [word.format(tiny=tiny, tmp=tmp_path) for word in argv]
    try:
        code = cli.main(["bench", *words])
    except SystemExit as end:
        code = int(end.code or 0)
    shown = capsys.readouterr()
    assert (code, shown.out) == (2, "")
    assert shown.err.startswith("nativebert: ")
    assert shown.err.count("\n") == 1
    assert re.search(message, shown.err), shown.err


# ---- the command


def test_the_command(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = tmp_path / "t.csv"
    texts.write_text("text\na dog\nthe cat sat\n")
    argv = [
        "bench",
        tiny,
        "--device",
        "cpu",
        "--rounds",
        "2",
        "--texts",
        texts,
        "--threads",
        "1",
        "--json",
        tmp_path / "r.json",
    ]
    assert cli.main([*map(str, argv)]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    found = json.loads((tmp_path / "r.json").read_text())
    assert list(found) == ["facts", "peak_gflop_per_second", "times_as_fast_as", "figures", "cosines"]
    assert list(found["facts"]) == ["model", "encoder", "device", "threads", "kernels", "versions", "rounds", "texts"]
    assert found["facts"]["encoder"] == "bert, 2 layers, width 32, maximum length 40 tokens"
    assert found["facts"]["rounds"] == "2, seed 0"
    assert found["times_as_fast_as"] == "float32"
    assert list(found["cosines"]["int8"]) == ["mean", "least"]
    assert len(found["figures"]) == 10
    for figure in found["figures"]:
        assert list(figure) == [
            "work", "contender", "texts", "tokens", "gflop", "rounds", "seconds", "seconds_90", "texts_per_second",
            "tokens_per_second", "share_of_peak", "times_as_fast",
        ]  # fmt: skip
        assert len(figure["rounds"]) == 2
        assert (figure["seconds_90"] is None) == (figure["work"] != "one")
        assert (figure["times_as_fast"] is None) == (figure["contender"] == "float32")
        assert (figure["share_of_peak"] is None) == (figure["work"] in ("load", "one"))
    assert re.search(r"^texts +2 provided, 9 tokens$", shown.out, re.M)
    assert re.search(r"^ +variant +median +range +of peak +times float32$", shown.out, re.M)
    for title in ("loading (s)", "mixed (texts/s)", "32 x 40 (tokens/s)", "8 x 40 (tokens/s)"):
        assert re.search(rf"^{re.escape(title)} +float32 +[\d.,]+ +[\d.,]+-[\d.,]+", shown.out, re.M), title
    assert re.search(r"^int8: cosine to the float32 vectors: mean 0\.\d{5}, min 0\.\d{5}$", shown.out, re.M)


def test_json_on_standard_output(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [
        "bench",
        str(tiny),
        "--device",
        "cpu",
        "--rounds",
        "1",
        "--precision",
        "int8",
        "--precision",
        "bfloat16",
        "--json",
        "-",
    ]
    assert cli.main(argv) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert {figure["contender"] for figure in found["figures"]} == {"int8", "bfloat16"}
    assert list(found["cosines"]) == ["int8", "bfloat16"]
    assert "times int8" in shown.err


def test_all_precisions(tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def measure(model: str, **options: Any) -> Any:
        asked.append(options["precisions"])
        raise NativeBertError("enough")

    monkeypatch.setattr(bench, "measure", measure)
    assert cli.main(["bench", str(tiny), "--device", "cpu", "--precision", "all"]) == 2
    assert cli.main(["bench", str(tiny), "--device", "cpu"]) == 2
    monkeypatch.setattr("nativebert.engine.choose_device", lambda name: torch.device("cuda"))
    assert cli.main(["bench", str(tiny), "--precision", "all"]) == 2
    assert asked == [["float32", "bfloat16", "float16", "int8"], None, ["float32", "bfloat16", "float16"]]
    assert "enough" in capsys.readouterr().err


def test_options_reach_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def measure(model: str, **options: Any) -> Any:
        asked.append({"model": model, **options})
        raise NativeBertError("enough")

    monkeypatch.setattr(bench, "measure", measure)
    (tmp_path / "t.txt").write_text("a dog\na cat\n")
    words = "m --device cpu --precision int8 --threads 3 --rounds 4 --seed 7 --revision r --offline --texts".split()
    assert cli.main(["bench", *words, str(tmp_path / "t.txt")]) == 2
    given = {"device": "cpu", "precisions": ["int8"], "threads": 3, "rounds": 4, "seed": 7, "revision": "r", "offline": True}
    assert asked == [{"model": "m", **given, "texts": ["a dog", "a cat"], "against": None}]
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert cli.main(["bench", "m", "--against", "transformers"]) == 2
    assert len(asked) == 1  # what is missing is told before the work


def test_the_table_says_what_was_measured(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    load = Work("load", "loading", 1, 16, 0.1, False)
    mixed = Work("mixed", "mixed", 10, 1000, 60.0, True)
    one = Work("one", "one text", 1, 16, 0.1, False)
    base = (4.0, 4.0)
    figures = (
        Figure(load, "float32", ((0.25,), (0.75,))),
        Figure(mixed, "float32", ((4.0,), (4.0,)), (100.0, 100.0)),
        Figure(mixed, "int8", ((1.0,), (2.0,)), (100.0, 60.0), base),
        Figure(one, "int8", ((0.001, 0.002, 0.003), (0.002, 0.003, 0.004)), (), (0.004, 0.003)),
    )
    report = bench.Report(figures, {"int8": bench.Cosine(0.9987, 0.9951)}, (100.0, 60.0), "float32", {"model": "m"})
    monkeypatch.setattr(bench, "measure", lambda *_, **__: report)
    assert cli.main(["bench", "m"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "model  m",
        "peak   80.0 (60.0-100) GFLOP/s, large float32 matrix products (torch.mm) in the same rounds",
        "",
    ]
    assert [re.split(r"\s{2,}", line) for line in lines[3:12]] == [
        ["", "variant", "median", "range", "of peak", "times float32"],
        ["loading (s)", "float32", "0.50", "0.25-0.75"],
        ["mixed (texts/s)", "float32", "2.50", "2.50-2.50", "15%"],
        ["", "int8", "7.50", "5.00-10.0", "55%", "3.00 (2.00-4.00)"],
        ["mixed (tokens/s)", "float32", "250", "250-250"],
        ["", "int8", "750", "500-1,000"],
        ["one text (ms)", "int8", "2.50", "2.00-3.00", "1.50 (1.00-2.00)"],
        ["one text (ms, p90)", "int8", "3.50"],
        [""],
    ]
    assert lines[12] == "int8: cosine to the float32 vectors: mean 0.99870, min 0.99510"
    assert "one text of 16 tokens" in "".join(lines)
    assert any(line.startswith("times float32: speed relative to float32") and "noise" in line for line in lines)
    assert lines[-1].startswith("The machine was busy: its peak varied from 60.0 to 100 GFLOP/s")
    monkeypatch.setattr(bench, "measure", lambda *_, **__: replace(report, peak=(100.0, 90.0), base="", cosines={}))
    assert cli.main(["bench", "m"]) == 0
    out = capsys.readouterr().out
    assert "busy" not in out
    assert "times" not in out
    assert "cosine" not in out


@pytest.mark.parametrize("off", [False, True])
def test_which_kernels(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, off: bool) -> None:
    from nativebert import kernels

    if off:
        monkeypatch.setenv(kernels.VARIABLE, "0")
    elif not kernels.available():
        pytest.skip(kernels.why_not())
    facts = bench.measure(tiny, device="cpu", rounds=1).facts
    if off:
        assert facts["kernels"] == "torch; C kernels not used: NATIVEBERT_KERNELS=0 is set"
    else:
        assert facts["kernels"].startswith(f"C, {kernels.levels()[0]} (")
        other = write_folder(
            tmp_path / "other", TINY["deberta-v2"] | {"conv_kernel_size": 3, "conv_act": "gelu"}
        )  # its convolution
        (other / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
        assert (
            "deberta-v2 in this precision is not supported"
            in bench.measure(other, device="cpu", precisions=["float32"], rounds=1).facts["kernels"]
        )


# ---- transformers


def test_transformers_is_imported_only_when_asked(tiny: Path) -> None:
    code = """
import sys
from nativebert.cli import main
from nativebert import bench
bench.CALLS, bench.SIDE, bench.COUNT = 1, {"cpu": 16}, 4
assert main(["bench", sys.argv[1], "--device", "cpu", "--rounds", "1", "--threads", "1"]) == 0
assert "transformers" not in sys.modules
"""
    result = subprocess.run([sys.executable, "-c", code, str(tiny)], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""


@pytest.mark.reference
def test_transformers_does_the_same_work(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    from nativebert.parity import speed

    monkeypatch.setattr(speed, "BATCHES", (2, 3, 5))
    other = speed.Transformers(tiny, torch.device("cpu"), 40)
    texts = ["a dog", "the cat sat on the mat", "deep learning " * 30, "", "power", "a cat"]
    embedder = nb.Embedder(tiny, device="cpu", pooling="mean", normalize=True)
    with pytest.warns(Truncated):
        expected = embedder(texts)
    assert np.abs(other.vectors(texts)() - expected).max() < 1e-5
    assert re.search(r", sdpa, sorted by length, batch sizes [235] \(best of 2, 3, 5\)$", other.about)
    assert np.abs(np.asarray(other.load("a dog")) - expected[:1]).max() < 1e-5
    rows = embedder.tokenizer.ids_batch(texts[:2]).ids
    sizes: list[list[int]] = []
    run = speed._batches

    def noted(rows: Any, size: int, network: Any) -> Any:
        for which, hidden, mask in run(rows, size, network):
            sizes.append([int(n) for n in mask.sum(1)])
            yield which, hidden, mask

    monkeypatch.setattr(speed, "_batches", noted)
    other.states(rows)()
    assert sizes == [[len(rows[1]), len(rows[0])]]  # the longest first, in one batch: there is no choice of sizes
    sizes.clear()
    other.vectors(texts)
    assert {2, 3, 5} == {len(first) for first in sizes if first[0] == max(map(max, sizes))}  # each size was tried


@pytest.mark.reference
def test_the_fastest_batch_size_is_taken(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    from nativebert.parity import speed

    clock, ran = [0.0], []
    monkeypatch.setattr(speed.time, "perf_counter", lambda: clock[0])

    def run(size: int) -> None:
        ran.append(size)
        clock[0] += {8: 3.0, 16: 1.0, 20: 2.0}[size]

    other = speed.Transformers(tiny, torch.device("cpu"), 40)
    best = other._best(run, 20)
    assert ran == [8, 8, 16, 20, 8, 16, 20]  # the first to warm up; no batch is larger than there are texts
    best()
    assert ran[-1] == 16


@pytest.mark.reference
def test_transformers_without_sdpa_and_without_a_model(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = pytest.importorskip("transformers")
    from nativebert.parity import speed

    whole = transformers.AutoModel.from_pretrained

    def no_sdpa(*args: Any, attn_implementation: str, **options: Any) -> Any:
        if attn_implementation == "sdpa":
            raise ValueError("no sdpa here")
        return whole(*args, attn_implementation=attn_implementation, **options)

    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", no_sdpa)
    other = speed.Transformers(tiny, torch.device("cpu"), 40)
    assert ", eager, " in other.about
    assert other._network.config._attn_implementation == "eager"
    with pytest.raises(NativeBertError, match=r"transformers cannot load .*: remove against='transformers'"):
        speed.Transformers(tmp_path, torch.device("cpu"), 40)


@pytest.mark.reference
def test_against_transformers(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers")
    argv = [
        "bench",
        str(tiny),
        "--device",
        "cpu",
        "--rounds",
        "1",
        "--threads",
        "1",
        "--against",
        "transformers",
        "--json",
        "-",
    ]
    assert cli.main(argv) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert found["times_as_fast_as"] == "transformers"
    assert [figure["contender"] for figure in found["figures"]] == ["float32", "int8", "transformers"] * 5
    assert found["cosines"]["transformers"]["least"] > 0.99999
    assert "sdpa" in found["facts"]["transformers"]
    assert "times transformers" in shown.err
