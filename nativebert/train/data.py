"""Tables of training examples: from files, datasets, data frames; split by the hash of the text; looked over before they are learnt from."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from nativebert.checks import plain
from nativebert.errors import BadInputError, NotFoundError
from nativebert.io.read import TABLES, format_of, read_columns, read_records

FILES = ("csv", "tsv", "jsonl", "json", "parquet")
SHOWN = 5  # rows that an error names


@dataclass(frozen=True)
class Table:
    """Columns of equal length.

    Attributes:
        columns: by name.
        name: where they came from, for messages.
        classes: names of the values of a column that holds indices (``ClassLabel`` of datasets).
        numbers: of the rows where they came from, counted from 1; empty where they are all there.
    """

    columns: Mapping[str, Sequence[Any]]
    name: str
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    numbers: Sequence[int] = ()

    def row(self, n: int) -> int:
        """The number of row ``n`` where it came from, counted from 1."""
        return self.numbers[n] if self.numbers else n + 1

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def select(self, rows: Sequence[int]) -> Table:
        """Some rows, in that order."""
        columns = {name: [column[n] for n in rows] for name, column in self.columns.items()}
        return Table(columns, self.name, self.classes, [self.row(n) for n in rows])

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the columns' names and values, in their order."""
        digest = hashlib.sha256()
        for name, column in self.columns.items():
            digest.update(json.dumps([name, list(column)], ensure_ascii=False, default=str).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    def column(self, role: str, usual: Sequence[str], name: str | None = None) -> str:
        """The name of the column that has a role.

        Args:
            role: the argument that would name it, as ``"text"``.
            usual: what it is mostly called, the likeliest first.
            name: what the user calls it; None for the first of the usual names that is there.

        Raises:
            BadInputError: there is no such column; the message says which there are.
        """
        there = list(self.columns)
        if name is not None:
            if name not in there:
                near = difflib.get_close_matches(name, there, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise BadInputError(f"{self.name} has no column {name!r}; the columns are {_listed(there)}{hint}")
            return name
        found = next((usual_name for usual_name in usual if usual_name in there), None)
        if found is None:
            raise BadInputError(
                f"{self.name} has the columns {_listed(there)}, and none of them is called {' or '.join(map(repr, usual))}: name the one with "
                f"{role}="
            )
        return found

    def has(self, usual: Sequence[str]) -> bool:
        """Whether there is a column of one of these names."""
        return any(name in self.columns for name in usual)

    def texts(self, column: str) -> list[str]:
        """A column of texts.

        Raises:
            BadInputError: a value that is no string, or an empty one; the message names the rows.
        """
        values = list(self.columns[column])
        self._refuse(column, values, lambda v: not isinstance(v, str), "is no text")
        self._refuse(column, values, lambda v: not v.strip(), "is empty: fill it, or leave the row out")
        return values

    def present(self, column: str) -> list[Any]:
        """A column whose values are all there.

        Raises:
            BadInputError: a value is missing (None, NaN, an empty text); the message names the rows.
        """
        values = [plain(value) for value in self.columns[column]]
        self._refuse(column, values, is_missing, "is missing: fill it, or leave the row out")
        return values

    def _refuse(self, column: str, values: Sequence[Any], wrong: Callable[[Any], bool], what: str) -> None:
        rows = [n for n, value in enumerate(values) if wrong(value)]
        if rows:
            named = ", ".join(str(self.row(n)) for n in rows[:SHOWN]) + (
                f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
            )
            raise BadInputError(
                f"{self.name}: column {column!r} {what} (row{'s' if len(rows) > 1 else ''} {named}; the first holds {values[rows[0]]!r})"
            )


def is_missing(value: Any) -> bool:
    """None, NaN or an empty text."""
    return value is None or (isinstance(value, float) and math.isnan(value)) or (isinstance(value, str) and not value.strip())


def read_table(source: Any) -> Table:
    """A table of examples.

    Args:
        source: a path to a csv, tsv, jsonl, json or parquet file (parquet needs the extra ``tables``); a ``datasets.Dataset``; a
            pandas or polars data frame; columns by name; or a list of rows, which are dicts; or a :class:`Table`.

    Raises:
        NotFoundError: no such file.
        BadInputError: something else, columns of unequal length, or no rows.
    """
    table = source if isinstance(source, Table) else _table(source)
    lengths = {name: len(column) for name, column in table.columns.items()}
    if len(set(lengths.values())) > 1:
        raise BadInputError(f"{table.name}: the columns are of different lengths: {lengths}")
    if not len(table):
        raise BadInputError(f"{table.name} has no rows")
    return table


def _table(source: Any) -> Table:
    if isinstance(source, str | PathLike):
        return _of_file(Path(source))
    if hasattr(source, "features") and hasattr(source, "column_names"):  # datasets
        features = source.features
        classes = {}
        for name, feature in features.items():
            feature = getattr(feature, "feature", feature)
            if hasattr(feature, "names"):
                classes[name] = list(feature.names)
        return Table({name: list(source[name]) for name in source.column_names}, "the dataset", classes)
    if hasattr(source, "columns") and hasattr(source, "__getitem__") and not isinstance(source, Mapping):  # data frames
        return Table({str(name): source[name].to_list() for name in source.columns}, "the data frame")
    if isinstance(source, Mapping):
        return Table({str(name): list(column) for name, column in source.items()}, "the data")
    if isinstance(source, Iterable):
        return _of_rows(list(source), "the data")
    raise BadInputError(
        f"training data must be a path, a dataset, a data frame, a dict of columns or a list of dicts, not {type(source).__name__}"
    )


def _of_rows(rows: list[Any], where: str) -> Table:
    names: dict[str, None] = {}
    for n, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            raise BadInputError(f"{where}: row {n} is a {type(row).__name__}, not a dict with the names of the columns")
        names |= dict.fromkeys(row)
    return Table({name: [row.get(name) for row in rows] for name in names}, where)


def _of_file(path: Path) -> Table:
    if not path.is_file():
        raise NotFoundError(f"{path} is no file")
    kind = path.suffix.lower().removeprefix(".")
    if kind == "parquet":
        try:
            import pyarrow.parquet as parquet
        except ImportError as error:
            raise BadInputError(f"{path} is a parquet file: pip install nativebert[tables] to read it") from error
        columns = parquet.read_table(path).to_pydict()
        return Table(columns, str(path))
    if kind == "json":
        try:
            content = json.loads(path.read_text("utf-8-sig"))
        except ValueError as error:
            raise BadInputError(f"{path} is not JSON: {error}") from error
        if isinstance(content, dict) and isinstance(content.get("data"), list):
            content = content["data"]
        return _of_rows(content, str(path)) if isinstance(content, list) else _table(content)
    form = format_of(str(path))
    if form == "jsonl":
        return _of_rows(read_records(str(path)), str(path))
    if form == "txt":
        return Table({"text": [text for (text,) in read_columns(str(path), {}).rows if text.strip()]}, str(path))
    if form not in TABLES:
        raise BadInputError(f"{path} is no table: training data is one of {', '.join(FILES)}")
    table = read_columns(str(path), {})
    return Table({name: [row[n] for row in table.rows] for n, name in enumerate(table.columns)}, str(path))


def split(table: Table, share: float, seed: int, by: Sequence[str]) -> tuple[Table, Table]:
    """Training and validation rows: which is which depends on the text alone, so that the same text is never in both.

    Args:
        table: the rows.
        share: of the validation rows, about.
        seed: another one gives another split.
        by: the columns that make the text.

    Raises:
        BadInputError: a share that is not between 0 and 1, or one of the two would be empty.
    """
    if not 0.0 < share < 1.0:
        raise BadInputError(f"validation_split must be between 0 and 1, not {share}")
    columns = [table.columns[name] for name in by]
    held = [_unit(seed, *(column[n] for column in columns)) < share for n in range(len(table))]
    parts = [n for n, is_held in enumerate(held) if not is_held], [n for n, is_held in enumerate(held) if is_held]
    if not all(parts):
        raise BadInputError(
            f"{table.name} has {len(table)} rows, too few to hold out a share of {share}: pass data to evaluate with, or validation_split=0 to train without an evaluation"
        )
    return table.select(parts[0]), table.select(parts[1])


def _unit(seed: int, *values: Any) -> float:
    """A number in [0, 1) from a text, without regard to case and white space."""
    normal = "\x1f".join(" ".join(str(value).lower().split()) for value in values)
    digest = hashlib.sha256(f"{seed}\x1f{normal}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


@dataclass(frozen=True)
class DataReport:
    """What was found in training data before it is learnt from.

    Attributes:
        name: where it came from.
        rows: how many.
        labels: rows of each label, the most frequent first; empty where labels are numbers.
        duplicates: rows whose text stands in an earlier row.
        conflicts: texts that have several labels.
        lengths: tokens of a row: shortest, median, 95th percentile, longest.
        limit: most tokens of a sequence.
        cut_rows: rows that were cut to it.
        cut_tokens: tokens that were cut off.
        windows: sequences that long rows were split into, beyond one for each row.
    """

    name: str
    rows: int
    labels: Mapping[str, int]
    duplicates: int
    conflicts: int
    lengths: tuple[int, int, int, int] = (0, 0, 0, 0)
    limit: int = 0
    cut_rows: int = 0
    cut_tokens: int = 0
    windows: int = 0

    def lines(self) -> list[tuple[str, str]]:
        """The facts, for people: names and values."""
        facts = [("rows", f"{self.rows:,}")]
        if self.labels:
            shown = [f"{label} {count:,}" for label, count in list(self.labels.items())[:8]]
            more = f" and {len(self.labels) - 8} more" if len(self.labels) > 8 else ""
            facts.append((f"{len(self.labels)} labels", ", ".join(shown) + more))
        facts.append(("duplicate texts", f"{self.duplicates:,}"))
        facts.append(("texts with several labels", f"{self.conflicts:,}"))
        short, median, most, long = self.lengths
        facts.append(("tokens", f"{short} to {long}, median {median}, 95% have at most {most}"))
        cut = f"{self.cut_rows:,} rows, {self.cut_tokens:,} tokens in all" if self.cut_rows else "none"
        facts.append((f"cut to {self.limit} tokens", cut))
        if self.windows:
            facts.append(("further windows of long texts", f"{self.windows:,}"))
        return facts


def describe(
    table: Table, texts: Sequence[Any], labels: Sequence[Any] | None, counts: Mapping[str, int] | None = None, **lengths: Any
) -> DataReport:
    """What there is in training data.

    Args:
        table: the data.
        texts: of each row.
        labels: of each row, hashable; None for none.
        counts: rows of each label; None to leave labels out.
        **lengths: the fields of :class:`DataReport` about tokens.
    """
    of_text: dict[Any, set[Any]] = {}
    for text, label in zip(texts, labels if labels is not None else [None] * len(texts)):
        of_text.setdefault(text, set()).add(label)
    ordered = dict(Counter(dict(counts or {})).most_common())
    conflicts = sum(len(found) > 1 for found in of_text.values())
    return DataReport(table.name, len(table), ordered, len(texts) - len(of_text), conflicts, **lengths)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:12])) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
