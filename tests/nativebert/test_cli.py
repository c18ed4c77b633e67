"""The command line, as people and scripts meet it."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import pty
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hub_server import HubServer
from models import BERT, bert_tensors, write_folder

import nativebert as nb
from nativebert import cli, console
from nativebert.errors import NativeBertError


class Result(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Result]
TEXTS = ["the cat sat", "a dog", "the cat sat on the mat", "deep learning"]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """``nativebert ...`` in this process."""
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")

    def call(*argv: object, stdin: str | bytes = "") -> Result:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        capfd.readouterr()
        try:
            code = cli.main([str(word) for word in argv])
        except SystemExit as end:
            code = int(end.code or 0)
        return Result(code, *capfd.readouterr())

    return call


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence model with a prompt."""
    folder = write_folder(tmp_path_factory.mktemp("models") / "tiny", BERT)
    parts = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    listed = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in parts.items()]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean"}')
    (folder / "config_sentence_transformers.json").write_text('{"prompts": {"q": "a dog is "}}')
    return folder


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("".join(f"{text}\n" for text in TEXTS))
    return path


def one_line(result: Result, code: int = 2) -> str:
    """The message of a command that failed as it should."""
    assert result.code == code, result
    assert result.out == ""
    assert result.err.startswith("nativebert: ")
    assert result.err.count("\n") == 1
    assert result.err.endswith("\n")
    return result.err


# ---- embed


def test_embed_writes_what_the_embedder_gives(run: Run, tiny: Path, lines: Path, tmp_path: Path) -> None:
    expected = nb.Embedder(tiny, device="cpu")(TEXTS)
    result = run("embed", lines, "-m", tiny, "-o", tmp_path / "v.npy")
    assert (result.code, result.err) == (0, "")
    assert np.array_equal(np.load(tmp_path / "v.npy"), expected)
    shown = dict(line.split(None, 1) for line in result.out.splitlines())
    assert shown["model"] == f"{tiny} (from a folder)"
    assert shown["texts"] == f"4 from {lines}"
    assert shown["tokens"] == "21, none truncated"  # 13 words, 4 [CLS], 4 [SEP]
    assert re.fullmatch(r"[\d.]+ on cpu, float32, 1 batch", shown["seconds"])
    assert shown["vectors"] == f"4 x 32 float32 in {tmp_path / 'v.npy'}"

    run("embed", lines, "-m", tiny, "-o", tmp_path / "v.csv", "--quiet")
    with (tmp_path / "v.csv").open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    assert [row[0] for row in rows] == TEXTS
    assert np.array_equal(np.array([row[1:] for row in rows], np.float32), expected)


def test_embed_in_a_pipe(run: Run, tiny: Path) -> None:
    expected = nb.Embedder(tiny, device="cpu")(TEXTS)
    result = run("embed", "-", "-m", tiny, "-o", "-", stdin="\ufeff" + "\r\n".join([*TEXTS, "", ""]))
    assert result.code == 0
    records = [json.loads(line) for line in result.out.splitlines()]
    assert [record["text"] for record in records] == [*TEXTS, ""]
    assert np.array_equal(np.array([record["embedding"] for record in records[:-1]], np.float32), expected)
    assert records[-1]["embedding"] is None
    assert "1 row with an empty text, without a result" in result.err
    assert "5 from standard input" in result.err  # the summary does not mix with the data
    assert "5 x 32 float32 in standard output" in result.err
    quiet = run("embed", "-", "-m", tiny, "-o", "-", "--quiet", stdin="a dog")
    assert quiet.err == ""
    assert quiet.out.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "content", "options", "texts", "column"),
    [
        ("t.csv", 'id,text\n1,"the cat,\nsat"\n2,a dog\n', [], ["the cat,\nsat", "a dog"], "text"),
        ("t.tsv", "id\tq\n1\ta cat\n", ["--column", "q"], ["a cat"], "q"),
        ("t.jsonl", '{"q": "a \\"cat\\""}\n', [], ['a "cat"'], "q"),
        ("t.dat", "q\na cat\n", ["--format", "csv"], ["a cat"], "q"),
    ],
)
def test_embed_reads_columns(
    run: Run, tiny: Path, tmp_path: Path, name: str, content: str, options: list[str], texts: list[str], column: str
) -> None:
    (tmp_path / name).write_text(content)
    result = run("embed", tmp_path / name, "-m", tiny, "-o", tmp_path / "v.jsonl", *options)
    records = [json.loads(line) for line in (tmp_path / "v.jsonl").read_text().splitlines()]
    assert [record["text"] for record in records] == texts
    assert f"{len(texts)} from {tmp_path / name}, column {column!r}" in result.out


def test_embed_options_reach_the_embedder(run: Run, tiny: Path, lines: Path, tmp_path: Path) -> None:
    def vectors(*options: str) -> np.ndarray:
        result = run("embed", lines, "-m", tiny, "-o", tmp_path / "v.npy", "--quiet", *options)
        assert result.code == 0, result.err
        found: np.ndarray = np.load(tmp_path / "v.npy")
        return found

    embed = nb.Embedder(tiny, device="cpu")
    plain = embed(TEXTS)
    assert np.array_equal(vectors("--prompt-name", "q"), embed(TEXTS, prompt_name="q"))
    assert np.array_equal(vectors("--prompt", "the "), embed(TEXTS, prompt="the "))
    assert np.array_equal(vectors("--batch-tokens", "8", "--threads", "1"), plain)
    two = nb.Embedder(tiny, device="cpu", pooling=["cls", "max"], normalize=False)(TEXTS)
    assert np.array_equal(vectors("--pooling", "cls", "--pooling", "max", "--no-normalize"), two)
    windows = nb.Embedder(tiny, device="cpu", too_long="window", max_tokens=5)(TEXTS)
    assert np.array_equal(vectors("--too-long", "window", "--max-tokens", "5"), windows)
    half = vectors("--precision", "bfloat16")
    assert not np.array_equal(half, plain)
    assert np.abs(half - plain).max() < 0.05


def test_embed_counts_what_was_cut(run: Run, tiny: Path, lines: Path, tmp_path: Path) -> None:
    result = run("embed", lines, "-m", tiny, "-o", tmp_path / "v.npy", "--max-tokens", 4)
    assert result.code == 0
    assert "truncated in 2 texts" in result.out
    note = one_line(Result(2, "", result.err))
    assert note.startswith("nativebert: note: 2 of 4 texts are longer than 4 tokens")
    assert "--too-long window" in note  # and not too_long='window', which is for Python
    refused = one_line(run("embed", lines, "-m", tiny, "-o", tmp_path / "w.npy", "--max-tokens=4", "--too-long=error"))
    assert "the limit is 4" in refused
    assert not (tmp_path / "w.npy").exists()


def test_pairs(run: Run, tiny: Path, lines: Path, tmp_path: Path) -> None:
    result = run("embed", lines, "-m", tiny, "-o", tmp_path / "v.npy", "--pairs", 2)
    shown = result.out.partition("\n\n")[2].splitlines()
    assert shown[0] == "The 2 most similar pairs:"
    assert shown[1].split() == ["similarity", "text", "text"]
    vectors = np.load(tmp_path / "v.npy")
    scores = vectors @ vectors.T
    best = sorted(((scores[a, b], a, b) for a in range(4) for b in range(a + 1, 4)), reverse=True)[:2]
    for line, (score, a, b) in zip(shown[2:], best, strict=True):
        assert re.split(r"\s\s+", line) == [f"{score:.3f}", TEXTS[a], TEXTS[b]]
    piped = run("embed", lines, "-m", tiny, "-o", "-", "--pairs", 99)
    assert piped.out.count("\n") == 4
    assert "The 6 most similar pairs:" in piped.err
    alone = run("embed", "-", "-m", tiny, "-o", tmp_path / "v.npy", "--pairs", 1, stdin="a dog")
    assert "No pairs" in alone.out


# ---- errors


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["embed"], "missing arguments: FILE, -o/--output. Name the output file: -o vectors.npy"),
        (
            ["embed", "{lines}"],
            "-o vectors.npy, .csv, .jsonl, .npz, .parquet or .rds, -o OUT/ for a folder, or -o - for standard output",
        ),
        (["embde", "{lines}"], "'embde'.*embed"),
        (["embed", "{lines}", "-o", "v.npy", "--colum", "x"], "unknown option '--colum'; did you mean --column"),
        (["embed", "{lines}", "-o", "v.npy", "--out=x"], r"unknown option '--out=x'; did you mean --output\?"),
        (["embed", "{lines}", "more.txt", "-o", "v.npy"], "unexpected argument 'more.txt'"),
        (["embed", "{lines}", "-o", "v.npy", "--threads", "0"], "'0' is not a whole number above 0"),
        (["embed", "{lines}", "-o", "v.npy", "--pairs", "two"], "--pairs: 'two' is not a whole number above 0"),
        (["embed", "{lines}", "-o", "v.npy", "--precision", "int3"], "'int3'.*float32"),
        (["embed", "{lines}", "-o", "v.pickle"], "unknown format of v.pickle"),
        (["embed", "{lines}", "-o", "{lines}/v.npy"], "folder .* does not exist"),
        (["embed", "none.txt", "-o", "v.pickle", "-m", "{tmp}/none"], "unknown format of v.pickle"),  # first
        (["embed", "{lines}s", "-o", "{tmp}/v.npy"], r"file .* does not exist; did you mean .*texts\.txt\?"),
        (["embed", "{lines}", "-o", "{tmp}/v.npy", "--column", "text"], "remove --column"),
        (["embed", "{tmp}/empty.txt", "-o", "{tmp}/v.npy"], r"empty\.txt contains no texts"),
        (["embed", "-", "-o", "{tmp}/v.npy"], "standard input contains no texts"),
        (["embed", "{tmp}/head.csv", "-o", "{tmp}/v.npy"], r"head\.csv contains no texts"),
        (["embed", "{tmp}/same.csv", "-o", "{tmp}/same.csv"], "is the input file"),
        (["embed", "{lines}", "-o", "{tmp}/v.npy", "-m", "{tmp}/none"], "folder .* does not exist"),
        (["embed", "{lines}", "-o", "{tmp}/v.npy", "-m", "no/model", "--offline"], "no/model is not in the cache"),
        (["embed", "{lines}", "-o", "{tmp}/v.npy", "-m", "{tiny}", "--device", "nope"], "not 'nope'"),
        (["embed", "{lines}", "-o", "{tmp}/v.npy", "-m", "{tiny}", "--pooling", "median"], "pooling must be"),
        (["embed", "{lines}", "-o", "{tmp}/v.npy", "-m", "{tiny}", "--prompt-name", "z"], "no prompt named 'z'"),
        (["embed", "{lines}", "-o", "{tmp}/v.npy", "-m", "{tiny}", "--revision", "z"], "remove --revision z"),
        (["inspect"], "missing arguments: MODEL"),
        (["inspect", "{tiny}", "--json", "--explain", "x"], "not allowed with"),
        (["inspect", "{tmp}"], r"has no config\.json"),
        (["inspect", "{tiny}", "--explain", "layers.0.attn.q.wait"], r"did you mean 'layers\.0\.attn\.q\.weight'"),
        (["tokenize"], "missing arguments: TEXT"),
        (["tokenize", "--", "--pair"], None),
        (["tokenize", "-x", "a"], "unknown option '-x'.*write --"),
    ],
)
def test_errors_are_one_line(run: Run, tiny: Path, lines: Path, tmp_path: Path, argv: list[str], message: str | None) -> None:
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "head.csv").write_text("text\n")
    (tmp_path / "same.csv").write_text("text\na\n")
    result = run(*(word.format(lines=lines, tmp=tmp_path, tiny=tiny) for word in argv))
    if message is None:
        assert result.code == 0
    else:
        assert re.search(message, one_line(result)), result.err
    assert not (tmp_path / "v.npy").exists()
    assert (tmp_path / "same.csv").read_text() == "text\na\n"


def test_a_weight_file_that_does_not_fit_is_one_line_too(run: Run, lines: Path, tmp_path: Path) -> None:
    tensors = bert_tensors(BERT)
    del tensors["encoder.layer.0.output.dense.bias"]
    folder = write_folder(tmp_path / "m", BERT, tensors)
    message = one_line(run("embed", lines, "-o", tmp_path / "v.npy", "-m", folder))
    assert "does not fit" in message
    assert f"`nativebert inspect {folder}`" in message


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyError("x"), 1, "internal error, a bug in nativebert: KeyError: 'x'. Please report it, with the output of --debug"),
        (NativeBertError("two\nlines\x1b[31m"), 2, r"two lines\x1b[31m"),
        (PermissionError(errno.EACCES, "Permission denied", "/a/b"), 2, "/a/b: Permission denied"),
        (MemoryError(), 2, "out of memory: try a smaller --batch-tokens"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_whatever_happens(run: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, message: str) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("nativebert.hub.resolve", fails)
    assert message in one_line(run("inspect", "m"), code)
    if isinstance(error, Exception):
        with pytest.raises(type(error)):
            run("inspect", "m", "--debug")


# ---- inspect


def test_inspect(run: Run, tiny: Path) -> None:
    result = run("inspect", tiny)
    assert (result.code, result.err) == (0, "")
    for line in ("family        bert", "pooling       mean", "then          normalize", "prompt q      'a dog is '"):
        assert line in result.out
    assert "weight map bert: 39 loaded" in result.out
    assert re.search(r"query.weight +layers\.\{0-1\}\.attn\.q\.weight +32 x 32 +F32 +x2 +loaded\n", result.out)
    assert "\x1b" not in result.out
    explained = run("inspect", tiny, "--explain", "layers.1.attn.q.weight").out
    assert "encoder.layer.1.attention.self.query.weight: F32, shape 32 x 32" in explained


def test_inspect_as_json(run: Run, tiny: Path) -> None:
    result = run("inspect", tiny, "--json")
    assert (result.code, result.err) == (0, "")
    found = json.loads(result.out)
    assert found["encoder"]["layers"] == 2
    assert found["problems"] == []
    assert len(found["ledger"]["rows"]) == 39


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_inspect_of_a_model_that_would_not_load(run: Run, tmp_path: Path, form: list[str]) -> None:
    tensors = bert_tensors(BERT)
    del tensors["encoder.layer.1.output.dense.bias"]
    tensors["encoder.strange\x1b[31m"] = tensors["pooler.dense.bias"].clone()
    tensors["embeddings.LayerNorm.bias"] = tensors["embeddings.LayerNorm.bias"][:31].clone()
    result = run("inspect", write_folder(tmp_path / "m", BERT, tensors), *form)
    message = one_line(Result(result.code, "", result.err), code=1)
    assert "would not load" in message
    assert all(f"1 {status}" in message for status in ("missing", "unexpected", "shape"))
    if form:
        assert json.loads(result.out)["problems"]
        return
    assert "\x1b" not in result.out
    rows = [re.split(r"  +", line) for line in result.out.partition("weight map")[2].splitlines()]
    found = {row[5]: row for row in rows if len(row) > 6}
    assert found["missing"][1] == "layers.1.mlp.down.bias"
    assert found["missing"][6] == "the file lacks encoder.layer.1.output.dense.bias"
    assert found["unexpected"][0] == r"encoder.strange\x1b[31m"
    assert found["shape"][6].startswith("file has [31]") or "31" in found["shape"][6]


def test_inspect_refuses_a_config_in_one_line(run: Run, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", {**BERT, "position_embedding_type": "relative_key"})
    assert "relative" in one_line(run("inspect", folder))


def test_inspect_of_a_model_on_the_hub(run: Run, hub: HubServer, tiny: Path) -> None:
    files = {p.relative_to(tiny).as_posix(): p.read_bytes() for p in tiny.rglob("*") if p.is_file()}
    commit = hub.add("owner/tiny", files)
    result = run("inspect", "owner/tiny@main")
    assert result.code == 0
    for line in (f"revision      {commit}", "source        the Hub", "licence       not stated in the files here"):
        assert line in result.out
    assert "the Hub's cache on this machine" in run("inspect", "owner/tiny", "--offline").out
    assert "owner/nothing" in one_line(run("inspect", "owner/nothing"))


# ---- tokenize


def test_tokenize(run: Run, tiny: Path) -> None:
    result = run("tokenize", "Cats sat", "-m", tiny)
    assert (result.code, result.err) == (0, "")
    title, header, *rows = result.out.splitlines()
    assert title == "Cats sat  (5 tokens)"
    assert header.split() == ["#", "id", "token", "characters", "word", "segment"]
    ids = nb.Tokenizer.from_folder(tiny).encode("Cats sat").ids
    assert [row.split() for row in rows] == [
        ["0", str(ids[0]), "[CLS]", "0"],
        ["1", str(ids[1]), "cat", "0:3", "0", "0"],
        ["2", str(ids[2]), "##s", "3:4", "0", "0"],
        ["3", str(ids[3]), "sat", "5:8", "1", "0"],
        ["4", str(ids[4]), "[SEP]", "0"],
    ]


def test_tokenize_many_as_json(run: Run, tiny: Path) -> None:
    result = run("tokenize", "é 猫", "-", "--json", "--pair", "a dog", "-m", tiny, stdin="the cat\n\n")
    records = [json.loads(line) for line in result.out.splitlines()]
    assert [record["text"] for record in records] == ["é 猫", "the cat", ""]
    tokenizer = nb.Tokenizer.from_folder(tiny)
    for record in records:
        e = tokenizer.encode(record["text"], "a dog")
        assert (record["ids"], record["tokens"], record["type_ids"]) == (e.ids, e.tokens, e.type_ids)
        assert (record["word_ids"], record["pair"]) == (e.word_ids, "a dog")
        assert [tuple(span) for span in record["offsets"]] == e.offsets


def test_tokenize_as_the_embedder_does(run: Run, tiny: Path, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "cased", BERT)
    cased = {"tokenizer_class": "BertTokenizer", "do_lower_case": False, "model_max_length": 3}
    (folder / "tokenizer_config.json").write_text(json.dumps(cased))
    assert "[UNK]" in run("tokenize", "CAT", "-m", folder).out
    (folder / "sentence_bert_config.json").write_text('{"do_lower_case": true}')
    lowered = run("tokenize", "CAT SAT", "-m", folder).out
    assert "[UNK]" not in lowered
    assert "(4 tokens, the model's maximum is 3)" in lowered


def test_text_from_strangers_is_shown_and_not_obeyed(run: Run, tiny: Path) -> None:
    result = run("tokenize", "a \x1b[31mdog\x07", "-m", tiny)
    assert "\x1b" not in result.out
    assert r"a \x1b[31mdog\x07" in result.out


# ---- the process: what needs one of its own


def spawn(code: str, *argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *argv]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)


def test_nothing_heavy_is_imported_before_it_is_needed(tiny: Path) -> None:
    result = spawn(
        """
        import contextlib, io, sys
        HEAVY = {"torch", "transformers", "huggingface_hub", "tokenizers", "numpy", "rich", "weights_map"}
        seen = lambda: HEAVY & set(sys.modules)
        import nativebert
        assert not seen(), f"import nativebert: {seen()}"
        from nativebert.cli import COMMANDS, main
        for argv in (["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)):
            with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
                main(argv)
            assert not seen(), f"{argv}: {seen()}"
            if argv[0] == "--version":
                assert not any(f"nativebert.cli.{name}" in sys.modules for name in COMMANDS)
        with contextlib.redirect_stdout(io.StringIO()):
            assert main(["inspect", sys.argv[1]]) == 0
            assert main(["inspect", sys.argv[1], "--json"]) == 0
            assert main(["tokenize", "a", "-m", sys.argv[1]]) == 0
        assert not {"torch", "transformers"} & seen(), f"inspect: {seen()}"
        assert "tokenizers" in seen()
        nativebert.Embedder
        assert "torch" in seen() and "transformers" not in seen(), seen()
        """,
        str(tiny),
    )
    assert result.returncode == 0, result.stderr


def test_version_and_help(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import runpy

    monkeypatch.setattr(sys, "argv", ["nativebert", "--version"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_module("nativebert", run_name="__main__")
    assert re.fullmatch(rf"nativebert {re.escape(nb.__version__)}\ntorch \S+\nwith(out)? C kernels.*\n", run("--version").out)
    for command in ("embed", "inspect", "tokenize"):
        assert command in run("--help").out
        help = run(command, "--help")
        assert (help.code, help.err) == (0, "")
        assert help.out.startswith(f"usage: nativebert {command} ")
        assert "--debug" in help.out
    bare = run()
    assert (bare.code, bare.out) == (2, "")
    assert bare.err.startswith("usage: nativebert")


def test_readers_that_leave_and_disks_that_are_full(tiny: Path, tmp_path: Path) -> None:
    main = "import sys; from nativebert.cli import main; sys.exit(main(sys.argv[1:]))"
    texts = tmp_path / "many.txt"
    texts.write_text("the cat sat\n" * 20_000)
    argv = [sys.executable, "-c", main, "tokenize", "-m", str(tiny), "--json", "-"]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with texts.open() as stdin, subprocess.Popen(argv, stdin=stdin, stdout=-1, stderr=-1, env=env) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b'{"text"')
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
    nobody, out = os.pipe()
    os.close(nobody)
    gone = subprocess.run([*argv[:-1], "a"], stdout=out, stderr=-1, timeout=60, check=False, env=env)
    os.close(out)
    assert (gone.returncode, gone.stderr) == (0, b"")
    if os.path.exists("/dev/full"):
        with open("/dev/full", "w") as full:
            a = [*argv[:-1], "a"]
            result = subprocess.run(a, stdout=full, stderr=-1, text=True, timeout=60, check=False, env=env)
        assert (result.returncode, result.stderr) == (2, "nativebert: standard output: No space left on device\n")


def test_where_letters_cannot_be_shown(run: Run, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for form in ([], ["--json"]):
        screen = io.BytesIO()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", io.TextIOWrapper(screen, encoding="ascii"))
            assert cli.main(["tokenize", "né 猫", "-m", str(tiny), *form]) == 0
            sys.stdout.flush()
            shown = screen.getvalue().decode("ascii")
        if form:
            assert json.loads(shown)["text"] == "né 猫"
        else:
            assert shown.startswith("n\\xe9 \\u732b  (")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("plain", [None, "NO_COLOR", "dumb"])
def test_colours_on_terminals_only(monkeypatch: pytest.MonkeyPatch, plain: str | None) -> None:
    pytest.importorskip("rich")
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "dumb" if plain == "dumb" else "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    if plain == "NO_COLOR":
        monkeypatch.setenv("NO_COLOR", "1")
    screen, pipe = Terminal(), io.StringIO()
    for out in (screen, pipe):
        console.table([("[red]a[/red]", "missing"), ("b\x1b[31m", "loaded")], ["name", "status"], title="T", file=out)
        console.facts({"group": [("a", "1"), ("long name", "2")], "": [("b", "3")]}, file=out)
    expected = [
        "T", "name          status", "[red]a[/red]  missing", r"b\x1b[31m     loaded",
        "group", "a          1", "long name  2", "", "b          3",
    ]  # fmt: skip
    assert pipe.getvalue().splitlines() == expected
    shown = screen.getvalue()
    assert [line.rstrip() for line in re.sub(r"\x1b\[[\d;]*m", "", shown).splitlines()] == expected
    assert bool(re.search(r"\x1b\[[\d;]*3\dm", shown)) == (plain is None)  # a colour: 30 to 37


def test_without_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    screen = Terminal()
    console.table([("a", "b")], ["name", "status"], file=screen)
    assert screen.getvalue() == "name  status\na     b\n"


def test_on_a_real_terminal(tiny: Path) -> None:
    """Waiting for texts is said; progress and tables work; nothing is in a traceback."""
    main = "import sys; from nativebert.cli import main; sys.exit(main(sys.argv[1:]))"
    leader, follower = pty.openpty()
    argv = [sys.executable, "-c", main, "tokenize", "-m", str(tiny), "-"]
    with subprocess.Popen(argv, stdin=follower, stdout=follower, stderr=follower, close_fds=True) as process:
        os.close(follower)
        seen = b""
        while b"Ctrl-D to end" not in seen:
            seen += os.read(leader, 4096)
        os.write(leader, b"a dog\n\x04")
        try:
            while chunk := os.read(leader, 4096):
                seen += chunk
        except OSError:  # the other end is closed
            pass
    os.close(leader)
    assert process.returncode == 0
    assert b"a dog  (4 tokens)" in re.sub(rb"\x1b\[[\d;]*m", b"", seen)
