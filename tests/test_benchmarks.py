"""The benchmarks' own machinery, without any other runtime and without asserting a time."""

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from benchmarks import cpu, harness, models, peers, report, workloads
from benchmarks.harness import Contender
from benchmarks.models import ModelFiles
from benchmarks.peers.base import Padded, Peer, padded


def test_ratios_are_taken_within_a_round() -> None:
    seconds = {"a": [1.0, 2.0, 4.0], "b": [2.0, 2.0, 2.0]}
    assert harness.ratios(seconds, "a")["b"] == (0.5, 1.0, 2.0)
    assert harness.ratios(seconds, "a")["a"] == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("short", [1.0, 0.0])
def test_the_sweep_takes_the_fastest(short: float) -> None:
    calls = []

    def run(name: str, seconds: float) -> None:
        calls.append(name)
        time.sleep(seconds)

    runs = {"slow": lambda: run("slow", 0.2), "fast": lambda: run("fast", 0.001), "slower": lambda: run("slower", 0.3)}
    assert harness.sweep(runs, short) == "fast"
    assert calls.count("slower") == 1  # only the two fastest run again, and only if they are short
    assert calls.count("fast") == calls.count("slow") == (3 if short else 1)


def test_contenders_take_turns_in_random_order() -> None:
    calls: list[str] = []
    contenders = [Contender(name, lambda name=name: calls.append(name), warm=lambda: calls.append("warm")) for name in "abc"]
    seconds = harness.interleave(contenders, 6, uncounted=1)
    assert {name: len(times) for name, times in seconds.items()} == {"a": 6, "b": 6, "c": 6}
    assert calls[::2] == ["warm"] * 21
    rounds = ["".join(calls[1::2][n : n + 3]) for n in range(0, 21, 3)]
    assert all(sorted(one) == ["a", "b", "c"] for one in rounds)
    assert len(set(rounds)) > 1


# -- workloads


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, Path]:
    """WordPiece, and its folder."""
    from tokenizers.models import WordPiece
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "##ing", ",", "the", *(3 * chr(97 + n) for n in range(20))]
    made = Tokenizer(WordPiece({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    made.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    folder = tmp_path_factory.mktemp("tokenizer")
    made.save(str(folder / "tokenizer.json"))
    return made, folder


def test_sentences_are_of_the_words_of_a_model(tokenizer: tuple[Tokenizer, Path]) -> None:
    """Whole words, the usual ones first and by far the most often."""
    words, _ = workloads.vocabulary(tokenizer[1])
    assert words[:3] == ["a", "the", "aaa"]
    assert len(words) == 22
    used = Counter(" ".join(workloads.sentences(500, tokenizer[1])).split())
    assert set(used) == set(words)
    assert [word for word, _ in used.most_common(2)] == ["a", "the"]
    assert used["a"] > 4 * used["ttt"]


@pytest.mark.parametrize("work", workloads.WORKLOADS, ids=lambda w: w.name)
def test_workloads_are_the_same_each_time_and_as_long_as_they_say(
    work: workloads.Workload, tokenizer: tuple[Tokenizer, Path]
) -> None:
    made, folder = tokenizer
    texts = workloads.make(work, 40, workloads.sentences(80, folder), 64, made)
    assert texts == workloads.make(work, 40, workloads.sentences(80, folder), 64, made)
    lengths = [len(e.ids) for e in made.encode_batch(texts)]
    kind = work.name.removesuffix("-hidden")
    if kind in ("one", "32x128", "8x512"):
        n, tokens = {"one": (1, 16), "32x128": (32, 128), "8x512": (8, 512)}[kind]
        assert lengths == [tokens] * n
    else:
        assert len(texts) == 40
        assert max(lengths) <= 64


def test_names_are_checked() -> None:
    assert [w.name for w in workloads.choose("one,mixed")] == ["mixed", "one"]
    assert len(workloads.choose("all")) == len(workloads.WORKLOADS)
    with pytest.raises(ValueError, match=r"no workload nothing; there are: all, mixed"):
        workloads.choose("mixed,nothing")


# -- peers


@pytest.mark.parametrize("name", [name for name in peers.NAMES if name != "nativebert"])
def test_a_peer_that_is_not_installed_says_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    why = peers.get(name).missing()
    assert why.startswith(f"{name} is left out: ")
    assert "pip install" in why or "compiler" in why


def test_absent_peers_are_noted_and_the_others_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import comparison

    class Absent(Peer):
        name, requires, modules = "absent", ("absent-runtime",), ("absent_runtime",)

    class Broken(Peer):
        name = "broken"

        @classmethod
        def make(cls, model: ModelFiles, precision: str, variant: str) -> None:
            raise OSError("no such exporter")

    class Ours(Peer):
        name = "nativebert"

    kinds = {"nativebert": Ours, "absent": Absent, "broken": Broken}
    monkeypatch.setattr(peers, "NAMES", dict.fromkeys(kinds))
    monkeypatch.setattr(peers, "get", kinds.__getitem__)
    notes: list[str] = []
    args = argparse.Namespace(peers="absent,broken", precision="all")
    entries = comparison.prepare(args, ModelFiles("minilm", tmp_path, tmp_path), notes)
    assert [e.label for e in entries] == ["nativebert"]  # always there: all else is measured against it
    assert notes == ["absent is left out: pip install absent-runtime", "broken is left out: OSError: no such exporter"]


def test_padded_batches_keep_order_and_mask() -> None:
    ids = [[5], [1, 2, 3], [7, 8]]
    first, second = padded(ids, 2)
    assert first.rows.tolist() == [1, 2]
    assert first.ids.tolist() == [[1, 2, 3], [7, 8, 0]]
    assert first.mask.tolist() == [[1, 1, 1], [1, 1, 0]]
    assert second.ids.tolist() == [[5]]


def test_a_padded_peer_gives_results_in_the_order_of_the_texts(tmp_path: Path, tokenizer: tuple[Tokenizer, Path]) -> None:
    class Identity(Padded):
        """Hidden states that are the id and 1, so that the mean shows who was averaged."""

        def forward(self, ids, mask):  # type: ignore[no-untyped-def]
            return np.stack([ids, np.ones_like(ids)], -1).astype(np.float32)

    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 64}')
    config = {"model_type": "bert", "num_hidden_layers": 1, "hidden_size": 2, "intermediate_size": 4, "num_attention_heads": 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    tokenizer[0].save(str(tmp_path / "tokenizer.json"))
    model = ModelFiles("minilm", tmp_path, tmp_path)
    peer = Identity(model, 1, "float32", "")
    texts = ["ccc", "a ddd ccc", "ttt aaa"]
    ids = [e.ids for e in tokenizer[0].encode_batch(texts)]
    for batch in (1, 2, 3):
        hidden = peer.hidden(ids, batch)
        assert [x[:, 0].tolist() for x in hidden] == ids
        for vector, one in zip(peer.vectors(texts, batch), ids):
            assert vector[0] / vector[1] == pytest.approx(np.mean(one), rel=1e-5)
            assert np.linalg.norm(vector) == pytest.approx(1, rel=1e-5)
    assert peer.padding(texts, [3, 5, 4], 2) == pytest.approx(1 - 12 / 13)
    assert model.flops([3]) == 3 * 2 * (4 * 4 + 2 * 2 * 4) + 9 * 4 * 2


def test_different_work_is_seen() -> None:
    from benchmarks.comparison import SAME, compare

    x = np.random.default_rng(0).standard_normal((5, 8)).astype(np.float32)
    assert compare(x, x)[0] == 0.0
    assert compare(x, x)[1] == pytest.approx(1)
    y = x.copy()
    y[3, 2] += 1e-3
    assert compare(y, x)[0] > SAME
    assert compare(x[:4], x)[0] == float("inf")


# -- files and pages


def test_nothing_half_made_is_left(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        models.once(tmp_path / "file", fail)
    assert list(tmp_path.iterdir()) == []
    made = models.once(tmp_path / "file", lambda path: path.write_text("whole"))
    assert models.once(made, fail).read_text() == "whole"


def result(int8: bool) -> dict[str, object]:
    """Results as a run writes them, with round figures."""

    def contender(peer: str, precision: str, seconds: list[float]) -> dict[str, object]:
        return {
            "peer": peer, "title": peer.title(), "precision": precision, "setting": "batch 8", "padding": 0.25, "difference": 1e-6,
            "cosine_mean": 0.998, "cosine_min": 0.99, "seconds": seconds,
        }  # fmt: skip

    found = {
        "nativebert": contender("nativebert", "float32", [1.0, 2.0, 1.0]),
        "nativebert again": contender("nativebert", "float32", [1.0, 2.0, 1.0]),
        "other": contender("other", "float32", [1.5, 3.0, 1.5]),
        "another": contender("another", "float32", [2.0, 4.0, 3.0]),
        "other int8": contender("other", "int8", [0.5, 1.0, 0.5]),
    }
    if int8:
        found["nativebert int8"] = contender("nativebert", "int8", [0.25, 0.5, 0.25])
    work = {"title": "mixed", "mode": "vectors", "texts": 4, "tokens": 40, "gflop": 10.0, "peak_gflops": [20.0, 20.0, 10.0]}
    return {
        "model": "minilm", "title": "MiniLM", "when": "2030-01-01T00:00:00", "command": "python -m benchmarks cpu", "threads": 2, "rounds": 3,
        "machine": {"cpu": "a cpu", "cores": "2", "python": "3.11", "system": "s"}, "versions": {"Other": "1.0"}, "left_out": ["gone is left out"],
        "loading": {"other": {"seconds": 0.5, "torch": 0.0, "peak": 100.0}}, "workloads": {"mixed": {**work, "contenders": found}},
    }  # fmt: skip


def test_rows_compare_with_nativebert_in_the_same_precision() -> None:
    rows = {row["contender"]: row for row in report.rows(result(int8=True), "mixed")}
    assert rows["other"]["times_median"] == 1.5
    assert rows["another"]["times_max"] == 3.0
    assert rows["other int8"]["base"] == "nativebert int8"
    assert rows["other int8"]["times_median"] == 2.0
    assert rows["nativebert"]["share_of_peak"] == 0.5  # 10/1/20, 10/2/20, 10/1/10
    assert rows["nativebert"]["tokens_per_second"] == 40.0
    without = {row["contender"]: row for row in report.rows(result(int8=False), "mixed")}
    assert without["other int8"]["base"] == "nativebert"
    best = report.best_peer(list(rows.values()), "float32")
    assert best is not None
    assert best["contender"] == "other"


def test_the_page_is_written_from_the_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # the page is written without a plot too
    (tmp_path / "cpu-minilm.json").write_text(json.dumps(result(int8=True)))
    report.table(result(int8=True), tmp_path / "cpu-minilm.csv")
    monkeypatch.setattr(sys, "argv", ["cpu", "--only-docs", "--results", str(tmp_path), "--docs", str(tmp_path / "page.md")])
    cpu.main()
    page = (tmp_path / "page.md").read_text()
    assert "| Other | 1,500 | 1.50 (1.50 to 1.50) | 33% | 25% | 1e-06 | batch 8 |" in page
    assert "gone is left out" in page
    lines = (tmp_path / "cpu-minilm.csv").read_text().splitlines()
    assert lines[0].startswith("workload,contender,precision,setting,median_seconds")
    assert len(lines) == 7


def test_a_wrong_name_on_the_command_line_says_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["cpu", "--peers", "tensorflow"])
    with pytest.raises(SystemExit, match="no peer tensorflow; there are: all, nativebert, transformers"):
        cpu.main()
