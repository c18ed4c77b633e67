"""Files of R: against R itself where it is installed (each value is also written as R code, and compared in R with identical()), and against a reader of
the format in this file everywhere."""

from __future__ import annotations

import gzip
import io
import math
import shutil
import struct
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rds_reader import read_back

from nativebert.errors import BadInputError
from nativebert.io.rds import NA_INTEGER, NA_REAL, Factor, Frame, Matrix, dump_rdata, dump_rds, serialize
from nativebert.io.write import Records, write_records, write_vectors

needs_r = pytest.mark.skipif(shutil.which("Rscript") is None, reason="R is not installed: `make test-r` installs it")


# ---- R code for the same value, by its own rules


def r_string(text: str | None) -> str:
    if text is None:
        return "NA_character_"
    # R stores U+D800 to U+DFFF in no way, and \\U takes up to eight digits
    return '"' + "".join(c if c.isascii() and c.isalnum() else f"\\U{ord(c):08x}" for c in text) + '"'


def r_number(value: Any) -> str:
    if value is None:
        return "NA_real_"
    value = float(value)
    if math.isnan(value):
        return "NA_real_" if np.float64(value).tobytes()[:4] == NA_REAL.tobytes()[:4] else "NaN"
    if math.isinf(value):
        return "Inf" if value > 0 else "-Inf"
    # by its bits: how R reads decimals depends on its version
    return f'readBin(as.raw(c({",".join(map(str, struct.pack("<d", value)))})), "double", 1L, endian = "little")'


def r_integer(value: Any) -> str:
    return "NA_integer_" if value is None or value == NA_INTEGER else f"{int(value)}L"


def r_logical(value: Any) -> str:
    return {None: "NA", True: "TRUE", False: "FALSE"}[value]


def r_vector(items: list[str], empty: str) -> str:
    return f"c({', '.join(items)})" if items else f"{empty}(0)"


def r_names(names: Any) -> str:
    return "NULL" if names is None else r_vector([*map(r_string, names)], "character")


def r_array(array: np.ndarray) -> str:
    kind, of = {
        "b": ("logical", r_logical), "i4": ("integer", r_integer), "f8": ("double", r_number)
    }[array.dtype.kind if array.dtype.kind == "b" else "i4" if array.dtype in ("i1", "i2", "i4", "u1", "u2") else "f8"]  # fmt: skip
    flat = r_vector([of(x) for x in array.ravel(order="F").tolist()], kind)
    return flat if array.ndim == 1 else f"array({flat}, c({', '.join(f'{n}L' for n in array.shape)}))"


def r_code(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, Factor):
        codes = r_vector([r_integer(None if c < 0 else c + 1) for c in value.codes], "integer")
        return f'structure({codes}, levels = {r_names(value.levels)}, class = "factor")'
    if isinstance(value, Matrix):
        values, names = value.values, f", dimnames = list({r_names(value.rows)}, {r_names(value.columns)})"
        names = names if value.rows or value.columns else ""  # matrix() keeps list(NULL, NULL), which other functions of R drop
        return f"matrix({r_array(values.ravel(order='F'))}, {values.shape[0]}L, {values.shape[1]}L{names})"
    if isinstance(value, Frame):
        columns = "".join(f"c{n} = {r_code(column)}, " for n, column in enumerate(value.values()))
        return f"setNames(data.frame({columns}stringsAsFactors = FALSE), {r_names(value)})"
    if isinstance(value, dict):
        items = ", ".join(map(r_code, value.values()))
        return f"structure(list({items}), names = {r_names(value)})"
    if isinstance(value, tuple):
        return f"list({', '.join(map(r_code, value))})"
    if isinstance(value, (np.ndarray, np.integer)):
        return r_array(np.atleast_1d(value))
    if not isinstance(value, list):
        value = [value]
    there = [item for item in value if item is not None]
    if all(isinstance(item, str) for item in there):
        return r_vector([*map(r_string, value)], "character")
    if all(isinstance(item, bool) for item in there):
        return r_vector([*map(r_logical, value)], "logical")
    if all(isinstance(item, int) and abs(item) < 2**31 for item in there):
        return r_vector([*map(r_integer, value)], "integer")
    return r_vector([*map(r_number, value)], "double")


def differing_in_r(folder: Path, values: list[Any], codes: list[str] | None = None) -> list[str]:
    """The R code of the values that R does not find identical to what it reads from our files; every way of writing in turn."""
    codes = codes or [*map(r_code, values)]
    for n, value in enumerate(values):
        with (folder / f"{n}.file").open("wb") as file:
            if n % 3 == 2:
                dump_rdata(file, {"x": value}, compress=n % 2 == 0)
            else:
                dump_rds(file, value, compress=n % 3 == 0)
    (folder / "codes.R").write_text("\n".join(codes), "ascii")
    script = """
    codes <- parse("codes.R", keep.source = FALSE); wrong <- integer(0)
    for (n in seq_along(codes)) {
      path <- paste0(n - 1, ".file")
      if (n %% 3 == 0) { load(path) } else { x <- readRDS(path) }
      if (!identical(x, eval(codes[[n]]), num.eq = FALSE)) wrong <- c(wrong, n)  # which tells NaN from NA, and -0 from 0
    }
    cat("compared", length(codes), "\n"); cat("wrong", wrong, "\n")
    """
    done = subprocess.run(["Rscript", "--vanilla", "-e", script], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"compared {len(values)}" in done.stdout
    wrong = done.stdout.split("wrong")[1].split()
    return [codes[int(n) - 1] for n in wrong]


# ---- values


def test_bytes() -> None:
    # what R 4.2 itself writes: serialize(c("a", NA, "é"), NULL, version = 2), but for R's version in the header
    header = "580a000000020004000000020300"
    assert (
        serialize(["a", None, "é"]).hex() == header + "000000100000000300040009000000016100000009ffffffff0000800900000002c3a9"
    )
    # serialize(c(1, NA), NULL, version = 2)
    assert serialize(np.array([1.0, NA_REAL])).hex() == header + "0000000e000000023ff00000000000007ff00000000007a2"
    # serialize(data.frame(n = 1:2), NULL, version = 2)
    names, rows, kind = "00000402000000010004000900000005" "6e616d6573", "0000000100040009" "00000009" "726f772e6e616d6573", "0000000100040009" "00000005" "636c617373"  # fmt: skip
    frame = "00000313000000010000000d000000020000000100000002"
    frame += names + "000000100000000100040009000000016e"
    frame += "00000402" + kind + "0000001000000001000400090000000a" + b"data.frame".hex()
    frame += "00000402" + rows + "0000000d0000000280000000fffffffe000000fe"
    assert serialize(Frame(n=np.array([1, 2], "i4"))).hex() == header + frame


def test_read_back() -> None:
    matrix = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert read_back(serialize(matrix)) == ([0, 3, 1, 4, 2, 5], {"dim": [2, 3]})
    assert read_back(serialize(matrix[:, ::-1])) == ([2, 5, 1, 4, 0, 3], {"dim": [2, 3]})
    assert read_back(serialize(Matrix(matrix, rows=["a", "b"])))[1] == {"dim": [2, 3], "dimnames": [["a", "b"], None]}
    assert read_back(serialize(Factor([1, -1], ["x", "y"]))) == ([2, -(2**31)], {"levels": ["x", "y"], "class": ["factor"]})
    frame = Frame(text=["a", None], n=[1, None])
    assert read_back(serialize(frame)) == (
        [["a", None], [1, -(2**31)]], {"names": ["text", "n"], "class": ["data.frame"], "row.names": [-(2**31), -2]}
    )  # fmt: skip
    assert read_back(serialize({"a": None, "b": ("x", 2.5)})) == ([None, [["x"], [2.5]]], {"names": ["a", "b"]})
    assert read_back(serialize([1, 2**40])) == [1.0, float(2**40)]
    assert read_back(serialize(np.array(["a", None], object))) == ["a", None]


def test_dump(tmp_path: Path) -> None:
    plain, packed, workspace = io.BytesIO(), io.BytesIO(), io.BytesIO()
    dump_rds(plain, {"a": 1}, compress=False)
    dump_rds(packed, {"a": 1})
    dump_rdata(workspace, {"one": "x", "two": 2}, compress=False)
    assert gzip.decompress(packed.getvalue()) == plain.getvalue() == serialize({"a": 1})
    assert packed.getvalue()[4:8] == bytes(4)  # no time: the same value, the same bytes
    assert workspace.getvalue().startswith(b"RDX2\nX\n")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("a\0b", "NUL"), ("\ud83d", "lone surrogate"), ([1, "a"], "of one type, not of int, str"), ([True, 2], "of one type, not of bool, int"),
        (2**60, "beyond 2"), (np.array([2**60]), "beyond 2"), (np.array([-(2**53) - 1]), "beyond 2"), (10**400, "beyond 2"), (1j, "complex"),
        ([b"a"], "of one type, not of bytes"), (object(), "object"), (Frame(a=[1], b=[1, 2]), "equal length"),
        (Matrix(np.zeros((2, 2)), ["a"]), "2 rows, but 1 names"), (Matrix(np.zeros(2)), "two dimensions"), (Factor([2], ["a", "b"]), "from -1"), (Factor([0], ["a", "a"]), "different"), (np.zeros(2, np.longdouble), "longdouble|float128"),
    ],
    ids=range(17),
)  # fmt: skip
def test_refused(value: Any, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        serialize(value)


CASES: list[Any] = [
    "a", ["a", None, "NA", ""], ["café", "中", "\U0001f600", "\ufeff", "\n\t\\\"'"], None, [], True, [True, None, False], 1.5, 5, -7, [1, None], [1, 2.5, None],
    3_000_000_000, 2**53, -(2**53), 2**31 - 1, -(2**31) + 1, -(2**31), 1e300, np.array([True, False]), np.int32(5), np.array([1, NA_INTEGER], "i4"),
    np.array([1.0, np.nan, NA_REAL, np.inf, -np.inf, -0.0, 5e-324]), np.array([1, 2], "i8"), np.array([7], "u1"), np.array([2**32 - 1], "u4"),
    np.arange(6.0).reshape(2, 3), np.arange(24.0).reshape(2, 3, 4), np.zeros((0, 3), "f4"), np.asfortranarray(np.arange(4.0).reshape(2, 2)),
    np.arange(4.0).reshape(2, 2)[::-1, ::-1], np.array([0.1], np.float32), np.array([0.1], np.float16), np.zeros((2, 2), bool), np.arange(4).reshape(2, 2),
    Matrix(np.array([[1.0, 2.0]]), ["r"], ["a", "b"]), Matrix(np.array([[1, 2]], "i4"), None, ["a", "é"]), Matrix(np.zeros((2, 1)), ["x", "y"]),
    Factor([1, 0, -1], ["x", "y"]), Factor([], []), Factor([-1], ["é"]), Frame(n=np.array([1, 2], "i4"), t=["x", None]),
    Frame(f=Factor([0, 1, 0], ["u", "v"]), d=np.array([0.5, np.nan, np.inf])), Frame(n=np.array([], "i4"), t=[]), Frame(), Frame({"a b": [1], "é": ["x"], "1": [True]}),
    {"a": 1.0, "b": ["x", "y"], "c": None}, {}, ("a", 1.0), (), ((), {"x": (None,)}), {"text": ["a", "b"], "embeddings": np.ones((2, 3), "f4")},
]  # fmt: skip


@needs_r
def test_identical_in_r(tmp_path: Path) -> None:
    assert differing_in_r(tmp_path, CASES) == []


@needs_r
def test_a_difference_is_seen(tmp_path: Path) -> None:
    codes = ["2.5", "NaN", "0", '"b"', 'factor("x", levels = "x")']
    values = [1.5, np.array([NA_REAL]), np.array([-0.0]), "a", Factor([0], ["y"])]
    assert differing_in_r(tmp_path, values, codes) == codes


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
text_or_na = st.lists(st.none() | texts, max_size=6)
doubles = st.floats() | st.just(float(NA_REAL)) | st.integers(-(2**53), 2**53).map(float)
numbers = (
    st.lists(st.none() | st.booleans(), max_size=6)
    | st.lists(st.none() | st.integers(-(2**53), 2**53), max_size=6)
    | st.lists(st.none() | st.floats(allow_nan=False), min_size=1, max_size=6)
)


@st.composite
def arrays(draw: st.DrawFn, rank: int | None = None) -> np.ndarray:
    shape = draw(st.lists(st.integers(0, 4), min_size=rank or 1, max_size=rank or 3))
    dtype = draw(st.sampled_from(["f8", "f4", "i4", "i8", "i2", "u1", "?"]))
    element = {
        "f": doubles if dtype == "f8" else st.floats(width=32),
        "i": st.integers(-(2**15), 2**15 - 1),
        "u": st.integers(0, 255),
        "?": st.booleans(),
    }
    size = math.prod(shape)
    array = np.array(draw(st.lists(element[dtype[0]], min_size=size, max_size=size)), dtype).reshape(shape)
    return np.asfortranarray(array) if draw(st.booleans()) else array


@st.composite
def factors(draw: st.DrawFn, size: int | None = None) -> Factor:
    levels = draw(st.lists(texts, unique=True, max_size=4))
    low, high = size or 0, 6 if size is None else size
    return Factor(draw(st.lists(st.integers(-1, len(levels) - 1), min_size=low, max_size=high)), levels)


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    rows = draw(st.integers(0, 4))
    exact = {"min_size": rows, "max_size": rows}
    column = (
        st.lists(st.none() | texts, **exact)
        | st.lists(doubles, **exact).map(np.array)
        | factors(rows)
        | st.lists(st.booleans(), **exact).map(lambda v: np.array(v, bool))
    )
    return Frame(draw(st.dictionaries(texts.filter(bool), column, min_size=1, max_size=4)))


@st.composite
def matrices(draw: st.DrawFn) -> Matrix:
    values = draw(arrays(2))
    names = [draw(st.none() | st.lists(texts, min_size=n, max_size=n)) if n else None for n in values.shape]
    return Matrix(values, *names)


anything = st.recursive(
    st.none() | text_or_na | numbers | arrays() | factors() | frames() | matrices() | texts,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


@needs_r
def test_identical_in_r_whatever_it_is(tmp_path: Path) -> None:
    values: list[Any] = []

    @settings(max_examples=500, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(anything)
    def collect(value: Any) -> None:
        values.append(value)

    collect()
    assert len(values) >= 500
    assert differing_in_r(tmp_path, values) == []


@needs_r
def test_large_and_quick(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    vectors, lines = rng.standard_normal((10_000, 384), np.float32), [f"text {n} é" for n in range(10_000)]
    np.save(tmp_path / "v.npy", vectors.astype("f8"))
    start = time.perf_counter()
    with (tmp_path / "v.rds").open("wb") as file:
        dump_rds(file, {"text": lines, "embeddings": vectors})
    assert time.perf_counter() - start < 10  # 1 s on a quiet machine
    script = """
    x <- readRDS("v.rds"); file <- file("v.npy", "rb"); header <- readBin(file, "raw", 128)
    y <- matrix(readBin(file, "double", 3840000), 10000, byrow = TRUE)
    cat(identical(x$embeddings, y), identical(x$text, paste("text", 0:9999, "\\u00e9")))
    """
    done = subprocess.run(["Rscript", "--vanilla", "-e", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "TRUE TRUE", done


@needs_r
def test_files_of_the_command_line(tmp_path: Path) -> None:
    vectors = np.array([[0.1, -2.5], [3, 4]], np.float32)
    labels = Records([], ["text", "label", "score", "rank"], [["é, \n\"x\"", "good", 0.25, 0], ["b", None, 1.0, 1]])  # fmt: skip
    for ending in ("rds", "RData", "rda"):
        write_vectors(str(tmp_path / f"v.{ending}"), vectors, ["a", "é"])
        write_records(str(tmp_path / f"r.{ending}"), labels)
    script = r"""
    floats <- function(x) readBin(writeBin(x, raw(), size = 4L), "double", length(x), size = 4L)
    v <- list(text = c("a", "\u00e9"), embeddings = matrix(floats(c(0.1, 3, -2.5, 4)), 2))
    r <- data.frame(text = c("\u00e9, \n\"x\"", "b"), label = c("good", NA), score = c(0.25, 1), rank = 0:1)
    cat(identical(readRDS("v.rds"), v), identical(readRDS("r.rds"), r), "")
    for (ending in c("RData", "rda")) {
      load(paste0("v.", ending)); load(paste0("r.", ending))
      cat(identical(list(text = text, embeddings = embeddings), v), identical(results, r), "")
    }
    """
    done = subprocess.run(["Rscript", "--vanilla", "-e", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "TRUE " * 6, done
