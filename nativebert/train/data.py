"""Tables of training examples: from files, datasets, data frames; split by the hash of the text; looked over before they are learnt from."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

from nativebert.checks import plain
from nativebert.errors import BadInputError, CorruptError, NotFoundError
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
        left_out: numbers of the rows that :meth:`without_missing` left out.
    """

    columns: Mapping[str, Sequence[Any]]
    name: str
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    numbers: Sequence[int] = ()
    left_out: Sequence[int] = ()

    def row(self, n: int) -> int:
        """The number of row ``n`` where it came from, counted from 1."""
        return self.numbers[n] if self.numbers else n + 1

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def select(self, rows: Sequence[int]) -> Table:
        """Some rows, in that order."""
        columns = {name: [column[n] for n in rows] for name, column in self.columns.items()}
        return Table(columns, self.name, self.classes, [self.row(n) for n in rows], self.left_out)

    def without_missing(self, columns: Sequence[str]) -> Table:
        """The rows with a value in each of these columns; ``left_out`` names the others.

        Raises:
            BadInputError: there is none.
        """
        values = [[plain(value) for value in self.columns[name]] for name in columns]
        kept = [n for n, row in enumerate(zip(*values)) if not any(map(is_missing, row))]
        if not kept:
            raise BadInputError(f"{self.name}: none of {len(self):,} rows has a value in {_listed(columns)}")
        left_out = sorted({self.row(n) for n in range(len(self))} - {self.row(n) for n in kept})
        return replace(self.select(kept), left_out=[*self.left_out, *left_out])

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
            usual: what it is mostly called. The first is the name of the role itself: with it, other columns of these names are not meant.
            name: what the user calls it; None for the one of the usual names that is there.

        Raises:
            BadInputError: there is no such column, or several that could be meant; the message says which there are.
        """
        there = list(self.columns)
        if name is not None:
            if name not in there:
                near = difflib.get_close_matches(name, there, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise BadInputError(f"{self.name} has no column {name!r}; the columns are {_listed(there)}{hint}")
            return name
        candidates = [usual_name for usual_name in usual if usual_name in there]
        if len(candidates) > 1 and candidates[0] != usual[0]:
            raise BadInputError(
                f"{self.name} has the columns {_listed(there)}, and {' and '.join(map(repr, candidates))} could all be the {role}: name the one with "
                f"{role}="
            )
        if not candidates:
            raise BadInputError(
                f"{self.name} has the columns {_listed(there)}, and none of them is called {' or '.join(map(repr, usual))}: name the one with "
                f"{role}="
            )
        return candidates[0]

    def has(self, usual: Sequence[str]) -> bool:
        """Whether there is a column of one of these names."""
        return any(name in self.columns for name in usual)

    def texts(self, column: str) -> list[str]:
        """A column of texts.

        Raises:
            BadInputError: a value that is not a string, an empty one, or one that is not valid Unicode; the message names the rows.
        """
        values = list(self.columns[column])
        self._refuse(column, values, lambda v: not isinstance(v, str), "is not text")
        self._refuse(column, values, lambda v: not v.strip(), "is empty: fill it, or leave the row out")
        self._refuse(column, values, _has_surrogate, "is invalid Unicode (a lone surrogate: it was cut inside a character)")
        return values

    def number_column(self, column: str) -> list[float]:
        """A column of numbers.

        Raises:
            BadInputError: a value is missing, or no number; the message names the rows.
        """
        values = self.present(column)
        self._refuse(column, values, lambda v: as_number(v) is None, "is not a number")
        return [number for value in values if (number := as_number(value)) is not None]

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
            named = _rows([self.row(n) for n in rows])
            raise BadInputError(f"{self.name}: column {column!r} {what} ({named}; the first holds {values[rows[0]]!r})")


def _has_surrogate(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text)


def as_number(value: Any) -> float | None:
    """A number, of Python or as a table writes it; None for all else."""
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


def is_missing(value: Any) -> bool:
    """None, NaN, pandas' ``NA`` or an empty text."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, float) and math.isnan(value)) or type(value).__name__ in ("NAType", "NaTType")


def read_table(source: Any) -> Table:
    """A table of examples.

    Args:
        source: a path to a csv, tsv, jsonl, json or parquet file (parquet needs the extra ``tables``); a ``datasets.Dataset``; a
            pandas or polars data frame; columns by name; or a list of rows, which are dicts; or a :class:`Table`. Names of classes come with
            a dataset, and with the parquet file of one; -1, which stands for no class there, is a missing value.

    Raises:
        NotFoundError: no such file.
        CorruptError: a parquet file is damaged.
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
        if not hasattr(source, "__len__"):
            raise BadInputError("the dataset is streamed: load it whole (streaming=False), or pass a list of its rows")
        source = source.with_format(None)  # Python's own values, whatever arrays it is set to give
        classes = {name: names for name, feature in source.features.items() if (names := _class_names(feature))}
        return _with_classes(Table({name: list(source[name]) for name in source.column_names}, "the dataset", classes))
    if hasattr(source, "columns") and hasattr(source, "__getitem__") and not isinstance(source, Mapping):  # data frames
        names = list(source.columns)
        if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
            raise BadInputError(f"the data frame has several columns named {twice[0]!r}: rename all but one")
        return Table({str(name): source[name].to_list() for name in names}, "the data frame")
    if isinstance(source, Mapping) and any(hasattr(part, "column_names") for part in source.values()):
        raise BadInputError(f"the data is several datasets, {_listed(list(source))}: pass one of them")
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
        raise NotFoundError(f"{path} is not a file")
    kind = path.suffix.lower().removeprefix(".")
    if kind == "parquet":
        try:
            import pyarrow.parquet as parquet
        except ImportError as error:
            raise BadInputError(f"{path} is a parquet file: pip install nativebert[tables] to read it") from error
        try:
            content = parquet.read_table(path)
        except ValueError as error:  # pyarrow's errors are
            raise CorruptError(f"{path} cannot be read as parquet: {error}") from error
        return _with_classes(Table(content.to_pydict(), str(path), _classes_of_parquet(content.schema.metadata)))
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
        raise BadInputError(f"{path} is not a table: training data is one of {', '.join(FILES)}")
    table = read_columns(str(path), {})
    return Table({name: [row[n] for row in table.rows] for n, name in enumerate(table.columns)}, str(path))


def _class_names(feature: Any) -> list[str]:
    """The names of a ``ClassLabel`` of datasets, or of a list of them; empty for anything else."""
    values = feature if isinstance(feature, Mapping) else {name: getattr(feature, name, None) for name in ("names", "feature")}
    inner = values.get("feature")
    return list(values.get("names") or ()) or (_class_names(inner) if inner is not None else [])


def _classes_of_parquet(metadata: Mapping[bytes, bytes] | None) -> dict[str, list[str]]:
    """Names of classes, as datasets writes them into a parquet file."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    return {name: names for name, feature in features.items() if (names := _class_names(feature))}


def _with_classes(table: Table) -> Table:
    """A table whose indices of classes are checked: -1, no class, becomes a missing value."""
    columns = dict(table.columns)
    for name, names in table.classes.items():
        columns[name] = [None if value == -1 else value for value in columns[name]]
        for n, value in enumerate(columns[name]):
            for index in value if isinstance(value, list) else () if value is None else (value,):
                if not isinstance(index, int) or not 0 <= index < len(names):
                    raise BadInputError(
                        f"{table.name}, row {n + 1}: {name} is {index!r}, and its {len(names)} classes are numbered from 0"
                    )
    return replace(table, columns=columns)


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


def normalized(text: str) -> str:
    """A text without regard to case, white space, and forms of the same character (Unicode's NFKC)."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _unit(seed: int, *values: Any) -> float:
    """A number in [0, 1) from a text."""
    normal = "\x1f".join(normalized(str(value)) for value in values)
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
        conflict_rows: the rows of some of those texts.
        shared: rows of the evaluation whose text is in the training data; None where that was not looked for.
        left_out: rows that were left out because a value is missing.
        lengths: tokens of a row: shortest, median, 95th percentile, longest.
        limit: most tokens of a sequence; 0 where tokens were not counted.
        cut_rows: rows that were cut to it.
        cut_tokens: tokens that were cut off.
        windows: sequences that long rows were split into, beyond one for each row.
    """

    name: str
    rows: int
    labels: Mapping[str, int]
    duplicates: int
    conflicts: int
    conflict_rows: Sequence[Sequence[int]] = ()
    shared: int | None = None
    left_out: Sequence[int] = ()
    lengths: tuple[int, int, int, int] = (0, 0, 0, 0)
    limit: int = 0
    cut_rows: int = 0
    cut_tokens: int = 0
    windows: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The fields, for JSON."""
        return asdict(self)

    def lines(self) -> list[tuple[str, str]]:
        """The facts, for people: names and values."""
        facts = [("rows", f"{self.rows:,}")]
        if self.left_out:
            facts.append(("left out, a value is missing", f"{len(self.left_out):,} ({_rows(self.left_out)})"))
        if self.labels:
            shown = [f"{label}: {count:,}" for label, count in list(self.labels.items())[:8]]
            rarest, count = list(self.labels.items())[-1]
            more = f" and {len(self.labels) - 8} more, the rarest {rarest}: {count:,}" if len(self.labels) > 8 else ""
            facts.append((f"{len(self.labels)} labels", "; ".join(shown) + more))
        facts.append(("duplicate texts", f"{self.duplicates:,}"))
        examples = "; ".join(map(_rows, self.conflict_rows))
        facts.append(("texts with several labels", f"{self.conflicts:,}{examples and f' ({examples})'}"))
        if self.shared is not None:
            facts.append(("evaluation texts that are trained on", f"{self.shared:,}"))
        if self.limit:
            short, median, most, long = self.lengths
            facts.append(("tokens", f"{short} to {long}, median {median}, 95% have at most {most}"))
            cut = (
                f"{self.cut_rows:,} row{'s' * (self.cut_rows > 1)}, {self.cut_tokens:,} tokens in all"
                if self.cut_rows
                else "none"
            )
            facts.append((f"cut to {self.limit} tokens", cut))
        if self.windows:
            facts.append(("further windows of long texts", f"{self.windows:,}"))
        return facts


def describe(
    table: Table,
    texts: Sequence[Any],
    labels: Sequence[Any] | None,
    counts: Mapping[str, int] | None = None,
    *,
    evaluation: Sequence[Any] | None = None,
    **lengths: Any,
) -> DataReport:
    """What there is in training data.

    Args:
        table: the data.
        texts: of each row, hashable.
        labels: of each row, hashable; None for none.
        counts: rows of each label; None to leave labels out.
        evaluation: texts of the evaluation's rows; None for none.
        **lengths: the fields of :class:`DataReport` about tokens.
    """
    rows_of: dict[Any, list[int]] = {}
    for n, text in enumerate(texts):
        rows_of.setdefault(text, []).append(n)
    conflicts = [] if labels is None else [rows for rows in rows_of.values() if len({labels[n] for n in rows}) > 1]
    return DataReport(
        table.name,
        len(table),
        labels=dict(Counter(dict(counts or {})).most_common()),
        duplicates=len(texts) - len(rows_of),
        conflicts=len(conflicts),
        conflict_rows=[[table.row(n) for n in rows] for rows in conflicts[:SHOWN]],
        shared=None if evaluation is None else sum(text in rows_of for text in evaluation),
        left_out=table.left_out,
        **lengths,
    )


def _rows(numbers: Sequence[int]) -> str:
    """Numbers of rows, the first few of many."""
    more = f" and {len(numbers) - SHOWN:,} more" if len(numbers) > SHOWN else ""
    return f"row{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers[:SHOWN]))}{more}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:12])) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
