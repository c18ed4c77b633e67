"""Tables in and out on pyarrow: every kind of source gives the same rows, every kind of file gives them back, and what is wrong is told with its place."""

from __future__ import annotations

import bz2
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow", reason="tables need pyarrow (extra tables)")
pd = pytest.importorskip("pandas", reason="read back by pandas (extra tables)")
import pyarrow.parquet as pq  # noqa: E402

from nativebert.errors import BadInputError, DiskFullError, Doubtful, NativeBertError, NotFoundError  # noqa: E402
from nativebert.io import files  # noqa: E402
from nativebert.io.table_writer import FORMATS, format_of_target, table_file  # noqa: E402
from nativebert.io.tables import open_table  # noqa: E402

ROWS = [
    {"id": n, "text": text, "stars": n / 2}
    for n, text in enumerate(["plain", 'a "quoted", one', "two\nlines", "", "日本語 \u2028 x", " pad "])
]


def rows(source: Any, *args: Any, **options: Any) -> list[dict[str, Any]]:
    return [row for block in open_table(source, *args, **options) for row in block.batch.to_pylist()]


def put(folder: Path, name: str, content: str | bytes) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


# ---- in


@pytest.mark.parametrize("format", ["parquet", "feather", "csv", "tsv", "jsonl"])
def test_a_written_file_comes_back(format: str, tmp_path: Path) -> None:
    batch = pa.RecordBatch.from_pylist(ROWS)
    target = str(tmp_path / f"t.{format}")
    with table_file(target, format, batch.schema) as file:
        file.write(batch)
    quoting = {"quoting": "double"} if format == "tsv" else {}
    back = rows(target, **quoting)
    if format in ("csv", "tsv"):  # cells stay as they are written
        assert [row["stars"] for row in back] == ["0", "0.5", "1", "1.5", "2", "2.5"]
        back = [{"id": int(row["id"]), "text": row["text"], "stars": float(row["stars"])} for row in back]
    assert back == ROWS


@pytest.mark.parametrize("ending", ["", ".gz", ".bz2", ".zst"])
def test_compressed(ending: str, tmp_path: Path) -> None:
    data = b"id,text\n1,a\n2,b\n"
    packed = {
        "": bytes,
        ".gz": gzip.compress,
        ".bz2": bz2.compress,
        ".zst": lambda d: pa.Codec("zstd").compress(d, asbytes=True),
    }[ending](data)
    assert rows(put(tmp_path, f"t.csv{ending}", packed)) == [{"id": "1", "text": "a"}, {"id": "2", "text": "b"}]


def test_objects_of_a_program() -> None:
    table = pa.Table.from_pylist(ROWS)
    frame = pd.DataFrame(ROWS)
    for source in (
        table,
        table.to_batches()[0],
        frame,
        ROWS,
        iter(ROWS),
        {name: table[name].to_pylist() for name in table.column_names},
        table.to_reader(),
    ):
        assert rows(source) == ROWS
    assert rows([row["text"] for row in ROWS]) == [{"text": row["text"]} for row in ROWS]
    assert rows(frame["text"]) == [{"text": row["text"]} for row in ROWS]
    assert open_table(table.to_reader()).once
    assert not open_table(frame).once
    assert open_table(frame).fingerprint() == open_table(table).fingerprint() != open_table(table.slice(1)).fingerprint()
    with pytest.raises(BadInputError, match="a table, a data frame or an iterable of texts is needed, not int"):
        open_table(3)


def test_columns_are_chosen(tmp_path: Path) -> None:
    path = put(tmp_path, "t.csv", "id,review,stars,\n1,a,5,x\n")
    reader = open_table(path, {"--column": "review"})
    assert (reader.texts, reader.kept) == (("review",), ("id", "review", "stars", ""))
    assert rows(path, {"--column": "review"}, keep=["stars"]) == [{"review": "a", "stars": "5"}]
    assert open_table(path, {"--column": "review"}, drop=["review", ""]).kept == ("id", "stars")
    with pytest.raises(BadInputError, match=r"has no column 'star'.*did you mean 'stars'"):
        open_table(path, {"--column": "review"}, keep=["star"])
    with pytest.raises(BadInputError, match="select the text column with --column"):
        open_table(path, {"--column": None})
    with pytest.raises(BadInputError, match="2 columns named 'a': rename"):
        open_table(put(tmp_path, "d.csv", "a,a\n1,2\n"), {"--column": "a"})


def test_folders_patterns_and_uris(tmp_path: Path) -> None:
    for n in (2, 1):
        put(tmp_path, f"in/part-{n}.csv", f"text,id\nt{n},{n}\n")
    put(tmp_path, "in/_SUCCESS", "")
    put(tmp_path, "in/_rejects.jsonl", "{}\n")
    want = [{"text": "t1", "id": "1"}, {"text": "t2", "id": "2"}]
    assert rows(tmp_path / "in") == want
    assert rows(str(tmp_path / "in" / "part-*.csv")) == want
    assert rows(f"file://{tmp_path}/in") == want
    assert rows(f"file://{tmp_path}/in/part-*.csv") == want
    put(tmp_path, "in/part-3.csv", "body,id\nt3,3\n")
    with pytest.raises(BadInputError, match=r"part-3.csv has no column 'text', unlike the first file"):
        rows(tmp_path / "in")
    put(tmp_path, "in/more.jsonl", "{}\n")
    with pytest.raises(BadInputError, match="several formats"):
        open_table(tmp_path / "in")
    with pytest.raises(NotFoundError, match="no file matches"):
        open_table(str(tmp_path / "*.parquet"))
    (tmp_path / "_empty").mkdir()
    with pytest.raises(NotFoundError, match="contains no txt"):
        open_table(tmp_path / "_empty")
    put(tmp_path, "b.csv", "a\n")
    with pytest.raises(NotFoundError, match=r"does not exist; did you mean .*b.csv"):
        open_table(tmp_path / "bb.csv")


def test_types_of_json_lines_hold_all_lines(tmp_path: Path) -> None:
    lines = [json.dumps({"text": "t", "n": n, "more": None}) for n in range(9000)] + ['{"text": "t", "n": 0.5, "more": "x"}']
    reader = open_table(put(tmp_path, "t.jsonl", "\n".join(lines)))
    assert reader.schema.field("n").type == pa.float64()
    assert reader.schema.field("more").type == pa.string()
    assert sum(len(block.batch) for block in reader) == 9001
    with pytest.raises(BadInputError, match=r"the values of 'n' are of several types.*--drop n"):
        open_table(put(tmp_path, "u.jsonl", '{"text": "t", "n": 1}\n{"text": "t", "n": "x"}\n'))
    assert rows(put(tmp_path, "s.jsonl", '"a"\n\n"b"\n')) == [{"text": "a"}, {"text": "b"}]


def test_what_is_no_text_is_named_by_its_row(tmp_path: Path) -> None:
    def bad(path: str, **options: Any) -> tuple[list[Any], dict[int, str]]:
        (block,) = open_table(path, **options)
        return block.batch.column("text").to_pylist(), dict(block.bad)

    assert bad(put(tmp_path, "t.csv", b"text,n\na,1\n\xff\xfe,2\nc,3\n")) == (["a", None, "c"], {1: "invalid UTF-8"})
    assert bad(put(tmp_path, "t.txt", b"a\n\xff\n\nc")) == (["a", None, "", "c"], {1: "invalid UTF-8"})
    lines = b'{"text": "a"}\n{"text": 5}\n{"text": null}\n{"text": "\\ud83d"}\n{"text": "\xff"}\n'
    assert bad(put(tmp_path, "t.jsonl", lines)) == (
        ["a", None, None, None, None],
        {1: "not text: 5", 3: "invalid UTF-8", 4: "invalid UTF-8"},
    )
    raw = pa.StringArray.from_buffers(2, pa.py_buffer(np.array([0, 1, 2], np.int32)), pa.py_buffer(b"a\xff"))
    pq.write_table(pa.table({"text": raw}), tmp_path / "t.parquet")
    assert bad(str(tmp_path / "t.parquet")) == (["a", None], {1: "invalid UTF-8"})
    with pytest.raises(BadInputError, match="column 'n' of the Table holds int64, not text"):
        open_table(pa.table({"n": [1]}))
    assert rows(pa.table({"text": pa.array(["a", "b", "a"]).dictionary_encode()})) == [{"text": t} for t in "aba"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "a,text\n1,x\n\n2,y,z\n", r"t.csv, line 4: 3 fields, but the header has 2"),
        ("t.csv", 'a,text\n1,"x\n2,y\n3,z\n', r"t.csv, line 2: a double quote opens here and is never closed"),
        ("t.csv", 'text,a\nx,1\n"x,2\ny,3\nz,4\n', r"t.csv, line 3: a double quote opens here and is never closed"),
        ("t.csv", "", "t.csv is empty"),
        ("t.csv", "text\n1\n".encode("utf-16"), r"UTF-16: .*iconv"),
        ("t.jsonl", '{"text": "a"}\n{"text": \n', r"t.jsonl, line 2: not JSON"),
        ("t.jsonl", '["a"]\n', r"line 1: the text is \[.*jq -c"),
        ("t.csv", gzip.compress(b"text\n", mtime=0), "compressed with gzip; decompress it first"),
        ("t.xlsx", b"PK\x03\x04", "t.xlsx is a spreadsheet: save it as CSV UTF-8"),
        ("t.pdf", b"%PDF", "unknown format of .*t.pdf: use --format"),
        ("t.parquet", b"PAR1", "t.parquet is not a parquet file"),
        ("t.txt", b"a\0b", "t.txt is not a text file|UTF-16"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place(name: str, content: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=message):
        rows(put(tmp_path, name, content))


def test_separators(tmp_path: Path) -> None:
    with pytest.warns(Doubtful, match="read with ';' as the separator"):
        assert rows(put(tmp_path, "t.csv", "id;text\n1;a,b\n")) == [{"id": "1", "text": "a,b"}]
    assert rows(put(tmp_path, "u.csv", "sep=;\nid;text\n1;a\n")) == [{"id": "1", "text": "a"}]
    assert rows(put(tmp_path, "v.csv", "id|text\n1|a\n"), delimiter="|") == [{"id": "1", "text": "a"}]
    assert rows(put(tmp_path, "w.tsv", 'id\ttext\n1\t"a\n')) == [{"id": "1", "text": '"a'}]
    with pytest.warns(Doubtful, match="contain"):
        rows(put(tmp_path, "x.csv", 'text\n"a\n\n\n\n\n\n\nb"\n'))


def test_a_row_longer_than_a_block(tmp_path: Path) -> None:
    long = "x" * 3_000_000
    back = rows(put(tmp_path, "t.csv", "text\n" + "\n".join(["a"] * 1000) + f"\n{long}\nlast\n"))
    assert [len(row["text"]) for row in back] == [1] * 1000 + [3_000_000, 4]


def test_standard_input(tmp_path: Path) -> None:
    program = "from nativebert.io.tables import open_table as o; r = o('-', format={!r}); print(r.once, [x for b in r for x in b.batch.to_pylist()])"
    for format, data in (("csv", b"id,text\n1,a\n2,b\n"), ("jsonl", b'{"id": "1", "text": "a"}\n{"id": "2", "text": "b"}\n')):
        out = subprocess.run(
            [sys.executable, "-c", program.format(format)], input=data, capture_output=True, check=True
        ).stdout.decode()
        assert out.split() == "True [{'id': '1', 'text': 'a'}, {'id': '2', 'text': 'b'}]".split()


def test_memory_does_not_grow_with_rows(tmp_path: Path) -> None:
    with open(tmp_path / "t.csv", "w") as file:
        file.write("id,text\n")
        for n in range(400_000):
            file.write(f"{n},a text of some words that is as long as one usually is in a table of short ones\n")
    program = (
        "import sys, resource; from nativebert.io.tables import open_table; base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"n = sum(len(b.batch) for b in open_table({str(tmp_path / 't.csv')!r}))\nprint(n, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) // 1024)"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout.split()
    assert int(out[0]) == 400_000
    assert int(out[1]) < 150  # MB, where the table has 37 in the file


def test_without_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.importlib, "import_module", lambda name: (_ for _ in ()).throw(ImportError(name)))
    with pytest.raises(NativeBertError, match=r"pip install 'nativebert\[tables\]'"):
        open_table("x.csv")


# ---- out


def vectors() -> Any:
    numbers = np.random.default_rng(0).integers(0, 2**32, 4 * 300, dtype=np.uint32).view(np.float32)
    numbers = np.where(np.isfinite(numbers), numbers, np.float32(0.1)).reshape(-1, 4)
    column = pa.FixedSizeListArray.from_arrays(pa.array(numbers.reshape(-1)), 4)
    return numbers, pa.record_batch({"id": pa.array(range(len(numbers))), "embedding": column})


@pytest.mark.parametrize("format", FORMATS)
def test_vectors_come_back_to_the_bit(format: str, tmp_path: Path) -> None:
    numbers, batch = vectors()
    target = str(tmp_path / f"v.{format}")
    with table_file(target, format, batch.schema, {"model": "m"}) as file:
        file.write(batch.slice(0, 100))
        file.write(batch.slice(100))
    if format == "npy":
        back = np.load(target)
    elif format in ("csv", "tsv"):
        frame = pd.read_csv(target, sep="," if format == "csv" else "\t")
        assert frame["id"].tolist() == list(range(300))
        back = frame[["d1", "d2", "d3", "d4"]].to_numpy().astype(np.float32)
    else:
        read = {
            "parquet": pd.read_parquet,
            "feather": pd.read_feather,
            "jsonl": lambda path: pd.read_json(path, lines=True, precise_float=True),
        }[format]
        back = np.array(read(target)["embedding"].tolist(), np.float32)
    assert back.dtype == np.float32
    assert np.array_equal(back.view(np.uint32), numbers.view(np.uint32))
    if format == "parquet":
        schema = pq.read_schema(target)
        assert pa.types.is_fixed_size_list(schema.field("embedding").type)
        assert json.loads(schema.metadata[b"nativebert"]) == {"model": "m"}


def test_rows_without_a_vector(tmp_path: Path) -> None:
    numbers, batch = vectors()
    batch = batch.take(pa.array([0, None, 2]))
    for format in FORMATS:
        with table_file(str(tmp_path / f"v.{format}"), format, batch.schema) as file:
            file.write(batch)
    assert pq.read_table(tmp_path / "v.parquet")["embedding"].null_count == 1
    assert json.loads((tmp_path / "v.jsonl").read_text().splitlines()[1])["embedding"] is None
    assert np.isnan(np.load(tmp_path / "v.npy")[1]).all()
    assert np.array_equal(np.load(tmp_path / "v.npy")[2], numbers[2])
    assert (tmp_path / "v.csv").read_text().splitlines()[2] == ",,,,"


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, batch = vectors()
    target = put(tmp_path, "v.parquet", "before")

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError), table_file(target, "parquet", batch.schema) as file:
        file.write(batch)
    assert Path(target).read_text() == "before"
    assert os.listdir(tmp_path) == ["v.parquet"]
    with pytest.raises(BadInputError, match=r"unknown format of v.txt: use one of the extensions .parquet"):
        format_of_target("v.txt")
    with (
        pytest.raises(BadInputError, match=r"a .npy file holds one matrix"),
        table_file(str(tmp_path / "x.npy"), "npy", pa.schema([("a", pa.string())])),
    ):
        pass
