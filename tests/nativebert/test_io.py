"""Texts from files and vectors to files: every text comes back as it was, every number to the last bit."""

from __future__ import annotations

import bz2
import csv
import errno
import gzip
import io
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from nativebert.errors import BadInputError, DiskFullError, Doubtful, NotFoundError
from nativebert.io import write
from nativebert.io.provenance import check_writable, digest_of, read_provenance, write_provenance
from nativebert.io.read import read_columns, read_texts
from nativebert.io.write import VECTOR_ENDINGS, check_ending, write_vectors

# Texts that a careless reader or writer would change
HARD = [
    "plain", "", " leading and trailing ", 'a "quoted" word', '"', "comma, and; semicolon", "two\nlines",
    "win\r\nlines", "mac\rlines", "tab\there", "日本語と絵文字 👩‍👩‍👧", "e\u0301 \u00e9",
    "line\u2028separator\u0085next", "\ufeffmark", "'", "\\n",
    "NA", "1.5", "=1+1", "a" * 200_000,
]  # fmt: skip


def numbers() -> np.ndarray:
    """Any finite float32, by its bits; and the ends of the range."""
    bits = np.random.default_rng(0).integers(0, 2**32, 4000, dtype=np.uint32).view(np.float32)
    ends = np.array([0.0, -0.0, 1e-45, 3.4028235e38, -3.4028235e38, 1.1754944e-38, 0.1, 1 / 3], np.float32)
    return np.concatenate([bits[np.isfinite(bits)], ends])


def put(folder: Path, name: str, content: str | bytes) -> str:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


# ---- reading


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ("a\nb\n", ["a", "b"]),
        ("a\nb", ["a", "b"]),
        ("a\r\nb\r\n", ["a", "b"]),
        ("a\rb\r", ["a", "b"]),
        ("a\n\n\nb\n\n", ["a", "", "", "b", ""]),
        ("\n", [""]),
        ("", []),
        ("\ufeffa\nb\n", ["a", "b"]),
        (" a \n\tb\n", [" a ", "\tb"]),
        ("a\u2028b\x0cc\x85d\n", ["a\u2028b\x0cc\x85d"]),
        ('"a"\n', ['"a"']),
    ],
)
def test_txt(tmp_path: Path, content: str, texts: list[str]) -> None:
    assert read_texts(put(tmp_path, "t.txt", content)) == (texts, None)
    assert read_texts(put(tmp_path, "t", content)).texts == texts


@pytest.mark.parametrize(
    ("name", "content", "column", "found", "texts"),
    [
        ("t.csv", "text\na\nb\n", None, "text", ["a", "b"]),
        ("t.csv", "gloss\r\na\r\nb\r\n", None, "gloss", ["a", "b"]),
        ("t.csv", "\ufefftext,n\na,1\n", None, "text", ["a"]),
        ("t.csv", "n,text\n1,a\n\n2,b\n", None, "text", ["a", "b"]),
        ("t.csv", "n,text\n1,a\n", "n", "n", ["1"]),
        ("t.csv", 'text\n"a, ""b""\r\nc"\n""\n', None, "text", ['a, "b"\r\nc', ""]),
        ("t.CSV", "text\n 5 \"inch\n", None, "text", [' 5 "inch']),
        ("t.tsv", "n\ttext\n1\ta, b\n", None, "text", ["a, b"]),
        ("t.jsonl", '{"text": "a\\nb", "n": 1}\n\n{"n": 2, "text": "é"}\n', None, "text", ["a\nb", "é"]),
        ("t.ndjson", '{"q": "a"}\r\n{"q": "b", "text": "c"}\r\n', None, "q", ["a", "b"]),
        ("t.json", '"a"\n"\\u00e9"', None, None, ["a", "é"]),
        ("t.jsonl", '\ufeff{"q": "a", "text": "c"}', "q", "q", ["a"]),
        ("t.jsonl", "", None, None, []),
        ("t.csv", "text\n", None, "text", []),
    ],
)  # fmt: skip
def test_columns(tmp_path: Path, name: str, content: str, column: str | None, found: str | None, texts: list[str]) -> None:
    assert read_texts(put(tmp_path, name, content), column=column) == (texts, found)


def test_long_fields_leave_the_csv_module_as_it_was(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    assert read_texts(put(tmp_path, "t.csv", "text\n" + "a" * 300_000)).texts == ["a" * 300_000]
    with pytest.raises(BadInputError):
        read_texts(put(tmp_path, "t.csv", "text\n" + "a," * 300_000))
    assert csv.field_size_limit() == before


@pytest.mark.parametrize("format", [None, "csv"])
def test_standard_input(monkeypatch: pytest.MonkeyPatch, format: str | None) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\ufefftext\r\né\r\n".encode()), encoding="latin-1"))
    assert read_texts("-", format=format).texts == (["é"] if format else ["text", "é"])


def test_format_wins_over_the_ending(tmp_path: Path) -> None:
    assert read_texts(put(tmp_path, "t.dat", "text\na\n"), format="csv").texts == ["a"]
    assert read_texts(put(tmp_path, "t.csv", "text\na\n"), format="txt").texts == ["text", "a"]


@pytest.mark.parametrize(
    ("name", "content", "column", "message"),
    [
        ("t.md", "a", None, "use --format txt, csv, tsv or jsonl"),
        ("t.txt", "a", "text", "remove --column, or use --format csv"),
        ("t.txt", b"one\ncaf\xe9\n", None, r"not UTF-8 \(line 2: byte 0xe9 at 7\).*iconv"),
        ("t.txt", b"x" * 9000 + b"\n\x93NUMPY", None, r"line 2: byte 0x93 at 9001"),  # beyond the first buffer
        ("t.txt", "\ufeffa".encode("utf-16-le"), None, "UTF-16"),
        ("t.txt", "a\nb\0", None, "line 2 contains a NUL byte"),
        ("t.csv", "", None, "t.csv is empty"),
        ("t.csv", "a,b\n1,2\n", None, "columns 'a', 'b': select the text column with --column"),
        ("t.csv", "a,bee\n1,2\n", "be", "no column 'be'; the columns are 'a', 'bee'; did you mean 'bee'"),
        ("t.csv", "text,text\n1,2\n", None, "2 columns named 'text'"),
        ("t.csv", "text\na\nHello, world\n", None, "line 3: 2 fields, but the header has 1.*double quotes"),
        ("t.csv", 'n,text\n1,"two\nlines"\n2\n', None, "line 4: 1 fields, but the header has 2"),
        ("t.csv", 'text\na\n"open\nb\nc\n', None, "line 3: a double quote opens here"),
        ("t.csv", 'text\n"a"b\n', None, "line 2"),
        ("t.jsonl", '{"text": "a"}\n{"text": }\n', None, "line 2: not JSON"),
        ("t.json", '[\n{"text": "a"}\n]', None, "line 1: not JSON.*jq -c"),
        ("t.jsonl", '["a"]\n', None, r'line 1: the text is \["a"\], not a string'),
        ("t.jsonl", '{"text": null}\n', None, "line 1: the text is null, not a string"),
        ("t.jsonl", '{"text": "a"}\n{"test": "b"}\n', None, "line 2: the key 'text' is missing; the keys are 'test'"),
        ("t.jsonl", '{"text": "a"}\n"b"\n', None, 'line 2: "b" is not an object'),
        ("t.jsonl", '"a"\n', "text", "remove --column"),
        ("t.jsonl", '"a"\n{"text": "b"}\n', None, "line 2: the text is"),
        ("t.jsonl", '"\\ud83d"\n', None, "line 1: invalid Unicode"),
        ("t.jsonl", "[" * 100_000, None, "line 1: not JSON"),
        ("t.jsonl", '{"a": "x", "b": "y"}\n', None, "line 1 has the columns 'a', 'b'"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, name: str, content: str | bytes, column: str | None, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        read_texts(put(tmp_path, name, content), column=column)


def test_no_such_file(tmp_path: Path) -> None:
    put(tmp_path, "sentences.txt", "a")
    with pytest.raises(NotFoundError, match=r"did you mean .*sentences\.txt"):
        read_texts(str(tmp_path / "sentence.txt"))
    with pytest.raises(NotFoundError, match="does not exist"):  # and not that its ending is unknown
        read_texts(str(tmp_path / "sentences.tx"))
    with pytest.raises(NotFoundError, match=r"the folder .*nowhere does not exist"):
        read_texts(str(tmp_path / "nowhere" / "a.txt"))
    with pytest.raises(BadInputError, match="is a folder"):
        read_texts(str(tmp_path))


# ---- writing


def test_numbers_come_back_to_the_last_bit(tmp_path: Path) -> None:
    vectors = numbers()
    vectors = vectors[: len(vectors) // 8 * 8].reshape(-1, 8)
    texts = [str(i) for i in range(len(vectors))]
    bits = vectors.view(np.uint32)
    for name in ("v.npy", "v.csv", "v.jsonl"):
        write_vectors(str(tmp_path / name), vectors, texts)
    assert np.array_equal(np.load(tmp_path / "v.npy").view(np.uint32), bits)
    with (tmp_path / "v.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["text", *(f"d{i}" for i in range(1, 9))]
    assert np.array_equal(np.array([row[1:] for row in rows], np.float32).view(np.uint32), bits)
    lines = [json.loads(line) for line in (tmp_path / "v.jsonl").read_text().splitlines()]
    assert np.array_equal(np.array([line["embedding"] for line in lines], np.float32).view(np.uint32), bits)
    assert [row[0] for row in rows] == [line["text"] for line in lines] == texts


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_texts_come_back_as_they_were(tmp_path: Path, ending: str) -> None:
    target = tmp_path / f"v.{ending}"
    write_vectors(str(target), np.zeros((len(HARD), 2), np.float32), HARD)
    if ending == "csv":
        with target.open(newline="", encoding="utf-8") as file:
            old = csv.field_size_limit(10**6)
            assert [row["text"] for row in csv.DictReader(file, strict=True)] == HARD
            csv.field_size_limit(old)
    else:
        assert [json.loads(line)["text"] for line in target.read_text("utf-8").split("\n")[:-1]] == HARD
    assert read_texts(str(target)) == (HARD, "text")


def test_no_texts(tmp_path: Path) -> None:
    for name in ("v.npy", "v.csv", "v.jsonl"):
        write_vectors(str(tmp_path / name), np.zeros((0, 3), np.float32), [])
    assert np.load(tmp_path / "v.npy").shape == (0, 3)
    assert (tmp_path / "v.csv").read_text() == "text,d1,d2,d3\n"
    assert (tmp_path / "v.jsonl").read_bytes() == b""


def test_standard_output(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    write_vectors("-", np.array([[1, 0.1]], np.float32), ["é\n"])
    assert capfdbinary.readouterr().out == '{"text": "é\\n", "embedding": [1, 0.100000001]}\n'.encode()


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"1 of 2 vectors contain NaN or infinity.*bfloat16"):
        write_vectors(str(tmp_path / "v.csv"), np.array([[1, 2], [np.inf, np.nan]], np.float32), ["a", "b"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), DiskFullError, "not enough disk space for .*v.csv"),
        (OSError(errno.EIO, "Input/output error"), BadInputError, "v.csv cannot be written: Input/output error"),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
    ],
)
def test_whole_or_not_at_all(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: BaseException,
    kind: type[BaseException],
    message: str | None,
) -> None:
    put(tmp_path, "v.csv", "old")

    def fails(self: write._CsvVectors, *_: object) -> None:
        self._file.write(b"half")
        raise fault

    monkeypatch.setattr(write._CsvVectors, "write", fails)
    with pytest.raises(kind, match=message):
        write_vectors(str(tmp_path / "v.csv"), np.zeros((1, 2), np.float32), ["a"])
    assert [path.name for path in tmp_path.iterdir()] == ["v.csv"]
    assert (tmp_path / "v.csv").read_text() == "old"


def test_what_was_there_is_replaced_and_keeps_its_mode(tmp_path: Path) -> None:
    old = Path(put(tmp_path, "old.jsonl", "old"))
    old.chmod(0o640)
    (tmp_path / "link.jsonl").symlink_to("old.jsonl")
    write_vectors(str(tmp_path / "link.jsonl"), np.zeros((1, 1), np.float32), ["a"])
    assert (tmp_path / "link.jsonl").is_symlink()
    assert old.read_text() == '{"text": "a", "embedding": [0]}\n'
    assert old.stat().st_mode & 0o777 == 0o640
    mask = os.umask(0o027)
    try:
        write_vectors(str(tmp_path / "new.csv"), np.zeros((1, 1), np.float32), ["a"])
    finally:
        os.umask(mask)
    assert (tmp_path / "new.csv").stat().st_mode & 0o777 == 0o640


def test_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(target: Path, message: str) -> None:
        with pytest.raises(BadInputError, match=message):
            check_ending(str(target), VECTOR_ENDINGS, "vectors.npy")

    refused(tmp_path, "is a folder: name a file in it")
    refused(tmp_path / "v.parquet", r"one of the extensions .npy, .csv, .jsonl, .rds, .rdata, .rda, or write -")
    refused(tmp_path / "v", "unknown format of")
    refused(tmp_path / "nowhere" / "v.npy", "folder .*nowhere.* does not exist: create it first")
    os.mkfifo(tmp_path / "pipe.npy")
    refused(tmp_path / "pipe.npy", "not a regular file")
    assert check_ending("-") == check_ending(str(tmp_path / "V.JSONL")) == ".jsonl"
    put(tmp_path, "there.npy", "")
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).is_dir())  # root may write anywhere
    refused(tmp_path / "there.npy", "no permission")
    check_ending(str(tmp_path / "new.npy"), VECTOR_ENDINGS)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    refused(tmp_path / "new.npy", "no permission")


# ---- tables of other kinds


def tables(folder: Path, name: str, content: str | bytes, column: str | None = None, **how: str) -> list[str]:
    """The texts of a table, without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return [text for (text,) in read_columns(put(folder, name, content), {"--column": column}, **how).rows]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "content", "separator", "typed"),
    [
        ("t.csv", "id;text\n1;Der Film war gut\n", ";", "';'"),
        ("t.csv", "id|text\n1|Der Film war gut\n", "|", "'|'"),
        ("t.csv", "id\ttext\n1\tDer Film war gut\n", "\t", "tab"),
        ("t.tsv", "id,text\n1,Der Film war gut\n", ",", "','"),
        ("t.tsv", "id;text\n1;Der Film war gut\n", ";", "';'"),
        ("t.csv", "sep=;\nid;text\n1;Der Film war gut\n", ";", "';'"),
        ("t.csv", "sep=|\r\nid|text\r\n1|Der Film war gut\r\n", "|", "'|'"),
        ("t.csv", '"id";"text"\n1;"Der Film war gut"\n', ";", "';'"),
        ("t.csv", ";text\n0;Der Film war gut\n", ";", "';'"),  # as pandas names its index
        ("t.csv", "\ufeffid;text;score\n1;Der Film war gut;0,5\n", ";", "';'"),
        ("t.csv", "id^text\n1^Der Film war gut\n", "^", "'^'"),
        ("t.csv", "id\x01text\n1\x01Der Film war gut\n", "\x01", r"'\x01'"),
    ],
)
def test_another_separator(tmp_path: Path, name: str, content: str, separator: str, typed: str) -> None:
    for column in (None, "text"):
        with pytest.raises(BadInputError, match=re.escape(f"use --delimiter {typed}")):
            tables(tmp_path, name, content, column)
    assert tables(tmp_path, name, content, "text", delimiter=separator) == ["Der Film war gut"]


def test_one_column_that_holds_separators(tmp_path: Path) -> None:
    texts = ["gut; aber lang", "a|b\tc; d"]
    assert tables(tmp_path, "t.csv", "text\n" + "\n".join(texts)) == texts
    assert tables(tmp_path, "t.csv", '"text; in full"\na; b\n') == ["a; b"]
    assert tables(tmp_path, "t.csv", "id;text\na;b\n", "id;text") == ["a;b"]  # it was named, and so meant
    assert tables(tmp_path, "t.csv", 'a b,n\n"x; y; z",1\n', "a b") == ["x; y; z"]
    assert tables(tmp_path, "t.csv", "sep=,\nid,text\n1,a; b\n") == ["a; b"]
    assert tables(tmp_path, "t.tsv", "text\nwell, yes, no\n") == ["well, yes, no"]
    with pytest.raises(
        BadInputError, match=r"'id,text', with ';' as the separator.*--delimiter ','"
    ):  # what was said is doubted too
        tables(tmp_path, "t.csv", "id,text\n1,a\n", delimiter=";")
    with pytest.raises(
        BadInputError, match=r"line 2: 1 fields, but the header has 2. If ';' is the separator, use --delimiter ';'"
    ):
        tables(tmp_path, "t.csv", "id;text, long;label\n1;a;x\n", " long;label")
    for name in ("t.txt", "t.jsonl"):
        with pytest.raises(BadInputError, match="apply to csv and tsv only: remove them"):
            tables(tmp_path, name, '"a"\n', delimiter=";")


STRAY = 'id\ttext\n1\t"She left\n2\tHe came\n3\tand said "\n4\tend\n'


def test_quotes_in_a_tsv_are_letters(tmp_path: Path) -> None:
    with pytest.warns(Doubtful, match="1 of 4 rows has a text that begins with a double quote, the first in line 2"):
        found = read_columns(put(tmp_path, "t.tsv", STRAY), {"--column": None})
    expected = ['"She left', "He came", 'and said "', "end"]
    assert [text for (text,) in found.rows] == expected
    assert tables(tmp_path, "t.tsv", STRAY, quoting="none") == expected
    assert tables(tmp_path, "t.csv", STRAY.replace("\t", ","), quoting="none") == expected
    assert tables(tmp_path, "t.tsv", 'n\ttext\n1\t5" long\n') == ['5" long']
    assert tables(tmp_path, "t.tsv", '"n"\t"text"\n1\t"a ""b""\tc"\n', quoting="double") == ['a "b"\tc']
    with pytest.raises(BadInputError, match=r"in double quotes.*use --quoting double, or --quoting none"):
        tables(tmp_path, "t.tsv", '"n"\t"text"\n1\t"a"\n')
    with pytest.raises(BadInputError, match=r"line 3: 1 fields, but the header has 2.*use --quoting double"):
        tables(tmp_path, "t.tsv", 'n\ttext\n1\t"a\nb"\n')


@pytest.mark.parametrize(
    ("name", "content", "how", "where"),
    [
        ("t.csv", STRAY.replace("\t", ","), {}, r"row 1 \(lines 2 to 4\)"),
        ("t.tsv", STRAY, {"quoting": "double"}, r"row 1 \(lines 2 to 4\)"),
        ("t.csv", "id;text\n0;a\n" + STRAY.replace("\t", ";").partition("\n")[2], {"delimiter": ";"}, r"row 2 \(lines 3 to 5\)"),
        ("t.csv", 'text\na\n"She left\nHe came\nand said "\nend\n', {}, r"row 2 \(lines 3 to 5\)"),
        ("t.csv", 'sep=,\nid,text\n1,"She left\n2,and said "\n', {}, r"row 1 \(lines 3 to 4\)"),
        ("t.csv", 'id,text\n1,"a\nb\nc\nd\ne\nf"\n2,g\n3,"' + "x\n" * 9 + '"\n', {}, r"row 1 \(lines 2 to 7\), row 3 \(lines 9 to 18\)"),
    ],
)  # fmt: skip
def test_rows_within_quotes_are_told(tmp_path: Path, name: str, content: str, how: dict[str, str], where: str) -> None:
    with pytest.warns(Doubtful, match=where):
        read_columns(put(tmp_path, name, content), {"--column": None}, **how)  # type: ignore[arg-type]


def test_paragraphs_within_quotes(tmp_path: Path) -> None:
    assert tables(tmp_path, "t.csv", 'n,text\n1,"Dear all,\n\nthank you.\n"\n') == ["Dear all,\n\nthank you.\n"]
    assert tables(tmp_path, "t.csv", 'text\n"one\ntwo"\n') == ["one\ntwo"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('id,text\n1,a\n2,"b\n3,c\n', "line 3: a double quote opens here and is never closed.*use --quoting none"),
        ('id,text\n1,"a" b\n', "line 2: text after a closing double quote.*use --quoting none"),
        ('text\n"', "line 2: a double quote opens here"),
    ],
)
def test_quotes_that_do_not_end(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        tables(tmp_path, "t.csv", content)
    assert len(tables(tmp_path, "t.csv", content, quoting="none")) == content.count("\n") - content.endswith("\n")


# ---- advice that works


CURLY = "It’s 5 € – “naïve”\n"


@pytest.mark.parametrize(
    ("name", "data", "what", "text"),
    [
        ("t.txt", CURLY.encode("cp1252"), "CP1252", CURLY),
        ("t.txt", "été\n".encode("latin-1"), "CP1252", "été"),
        ("a 'b'.txt", CURLY.encode("utf-16"), "UTF-16", CURLY),
        ("t.txt", CURLY.encode("utf-32"), "UTF-32", CURLY),
        ("t.txt", b"\0\0\xfe\xff" + CURLY.encode("utf-32-be"), "UTF-32", CURLY),
        ("t.txt", ("abc" + CURLY * 3).encode("utf-16-le"), "UTF-16LE", "abc" + CURLY),
        ("-t.txt", ("abc" + CURLY * 3).encode("utf-32-be"), "UTF-32BE", "abc" + CURLY),
        ("t.txt", ("é" * 40 + "\n").encode() + b"\xc3", "damaged", "é" * 40),
        ("t.txt.gz", gzip.compress(CURLY.encode(), mtime=0), "gzip", CURLY),
        ("t.txt", gzip.compress(CURLY.encode(), mtime=0), "gzip", CURLY),
        ("t.txt.bz2", bz2.compress(CURLY.encode()), "bzip2", CURLY),
        ("t.jsonl", json.dumps([{"text": CURLY}, {"text": "b"}]).encode(), "A JSON array", CURLY),
        ("t.json", json.dumps([CURLY, "b"], indent=2).encode(), "A JSON array", CURLY),
        ("t.json", json.dumps({"text": CURLY}, indent=2).encode(), "An object over several lines", CURLY),
    ],
)
def test_advice_works_when_it_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, data: bytes, what: str, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(data)
    with pytest.raises(BadInputError, match=what) as refused:
        read_texts(name)
    command = re.search("`(.+)`, and pass the new file", str(refused.value))[1]  # type: ignore[index]
    if shutil.which(command.split()[0]) is None:
        pytest.skip(f"no {command.split()[0]} here")
    subprocess.run(["bash", "-c", command], check=what != "damaged", timeout=20)  # iconv complains of what it drops
    (new,) = {path.name for path in tmp_path.iterdir()} - {name}
    assert read_texts(new).texts[0].rstrip() == text.rstrip()


def test_what_is_no_text(tmp_path: Path) -> None:
    for data, message in [
        (b"PK\x03\x04rest", "zip archive, as Excel's .xlsx"),
        (b"PAR1rest", "parquet"),
        (b"%PDF-1.7", "a PDF"),
        (b"\x93NUMPY\x01\x00", "array of numpy"),
        ("日本".encode("shift-jis") + b"\x81", "iconv -f ENCODING"),
    ]:
        with pytest.raises(BadInputError, match=message):
            read_texts(put(tmp_path, "t.txt", data))


def test_closed_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(BadInputError, match="standard input is closed"):
        read_texts("-")
    monkeypatch.setattr(sys, "stdout", None)
    for call in (lambda: check_ending("-"), lambda: write_vectors("-", np.zeros((1, 2), np.float32), ["a"])):
        with pytest.raises(BadInputError, match="standard output is closed"):
            call()


# ---- how vectors were made


def test_made(tmp_path: Path) -> None:
    path = str(tmp_path / "v.npy")
    check_writable(path)
    write_vectors(path, np.zeros((2, 3), np.float32), ["a", "b"])
    assert read_provenance(path) is None
    write_provenance(path, {"nativebert": "1", "pooling": ["cls"]}, ["a", "b"])
    known = read_provenance(path)
    assert known is not None
    assert (known["pooling"], known["texts"]) == (["cls"], digest_of(["a", "b"]))
    assert len({digest_of(texts) for texts in (["a", "b"], ["b", "a"], ["ab"], ["a\nb"], ["a", "b", ""])}) == 5
    check_writable(path)  # it may be written anew
    write_vectors(path, np.ones((2, 3), np.float32), ["a", "b"])
    with pytest.raises(BadInputError, match=r"has changed since .*v.npy.json"):
        read_provenance(path)
    for other in ("{}", "[1]", "no json"):
        put(tmp_path, "v.npy.json", other)
        with pytest.raises(BadInputError, match="damaged or unrelated"):
            read_provenance(path)
        with pytest.raises(BadInputError, match="unrelated file of that name exists: move it away"):
            check_writable(path)


def test_a_column_that_another_separator_gives(tmp_path: Path) -> None:
    """Also where the first line has several columns with the one that the ending says."""
    path = put(tmp_path, "mix.csv", "id;text, de\n1;Hallo, Welt\n")
    with pytest.raises(
        BadInputError, match=r"no column 'text, de' with ',' as the separator, but has it with ';': use --delimiter ';'"
    ):
        read_texts(str(path), column="text, de")
    with pytest.raises(BadInputError, match="no column 'gone'; the columns are"):
        read_texts(str(path), column="gone")


def test_missing_values_of_r(tmp_path: Path) -> None:
    # write.csv(data.frame(text = c("a, b", NA, "NA", "say \"NA\"", ""), n = c(1, NA, 3, 4, NA)))
    content = '"","text","n"\n"1","a, b",1\n"2",NA,NA\n"3","NA",3\n"4","say ""NA""",4\n"5","",NA\n'
    assert tables(tmp_path, "t.csv", content, "text") == ["a, b", "NA", "NA", 'say "NA"', ""]
    assert tables(tmp_path, "t.csv", content, "text", na="NA") == ["a, b", "", "NA", 'say "NA"', ""]
    assert tables(tmp_path, "t.csv", content, "n", na="NA") == ["1", "", "3", "4", ""]
    # write.csv2, and rows that begin with a field that is empty
    assert tables(tmp_path, "t.csv", 'a;text\r\n;NA\r\n"NA";"x\nNA"\r\n', "text", delimiter=";", na="NA") == ["", "x\nNA"]
    assert tables(tmp_path, "t.csv", 'a;text\r\n;NA\r\n"NA";"x\nNA"\r\n', "a", delimiter=";", na="NA") == ["", "NA"]
    assert tables(tmp_path, "t.tsv", 'a\ttext\tc\n"1\tNA\t"\n2\tb\tNA\n', "text", na="NA") == ["", "b"]
    with pytest.raises(BadInputError, match="--na apply to csv and tsv only"):
        tables(tmp_path, "t.jsonl", '{"text": "NA"}\n', na="NA")
