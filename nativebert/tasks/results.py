"""Return types of task calls: results that convert to tables, and the report."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict, TypeVar

import numpy as np
from numpy.typing import NDArray

from nativebert.engine import where
from nativebert.errors import BadInputError

if TYPE_CHECKING:
    import pandas
    import pyarrow

T = TypeVar("T")
SHOWN = 20  # rows of a table in a notebook


class Label(TypedDict):
    """A label and its score."""

    label: str
    score: float


class Labels(TypedDict):
    """Labels of a text, best first, and their scores."""

    text: str
    labels: list[str]
    scores: list[float]


class Entity(TypedDict):
    """An entity: characters ``start`` to ``end`` of the text, the end not included. ``labels`` is there where ``top_k`` is not 1."""

    text: str
    label: str
    score: float
    start: int
    end: int
    labels: NotRequired[list[Label]]


class Word(TypedDict):
    """A word and its label. ``labels`` is there where ``top_k`` is not 1."""

    word: str
    label: str
    score: float
    labels: NotRequired[list[Label]]


class Answer(TypedDict):
    """An answer: characters ``start`` to ``end`` of the context, the end not included."""

    answer: str
    score: float
    start: int
    end: int


class Candidate(TypedDict):
    """What may stand in the place of a mask; ``text`` is the text with it."""

    token: str
    id: int
    score: float
    text: str


class Ranked(TypedDict):
    """A document, its index and its score."""

    index: int
    score: float
    text: str


class TokenVectors(TypedDict):
    """The tokens of a text, the characters of each, and their vectors, ``(tokens, width)``."""

    tokens: list[str]
    offsets: list[tuple[int, int]]
    vectors: NDArray[np.float32]


class WordVectors(TypedDict):
    """The words of a text, the characters of each, and their vectors, ``(words, width)``."""

    words: list[str]
    offsets: list[tuple[int, int]]
    vectors: NDArray[np.float32]


@dataclass(frozen=True)
class Report:
    """Report of one call of a task.

    Attributes:
        tokens: tokens of each text that the model saw, special tokens included, ``(n,)``; what windows share is counted once.
        cut: tokens of each text that were left out, ``(n,)``.
        windows: windows that each text was read in, ``(n,)``; 1 unless ``too_long="window"``.
        batches: batches that were run.
        padding: share of the computed rows that held no token: batches are packed, and only the smallest are filled up.
        seconds: wall time of the call.
        model, device, precision: what ran, and where.
    """

    tokens: NDArray[np.int64]
    cut: NDArray[np.int64]
    windows: NDArray[np.int64]
    batches: int
    padding: float
    seconds: float
    model: str
    device: str
    precision: str

    def __repr__(self) -> str:
        return f"Report({self})"

    def __str__(self) -> str:
        n, used, cut = len(self.tokens), int(self.tokens.sum()), int(self.cut.sum())
        left = f", {cut:,} cut off in {_texts(int((self.cut > 0).sum()))}" if cut else ", none cut off"
        rate = f" ({used / self.seconds:,.0f} tokens/s)" if self.seconds > 0 else ""
        return f"{_texts(n)}, {used:,} tokens{left}; {self.seconds:.2f} s{rate} with {self.model} on {where(self.device)}, {self.precision}"


def _texts(count: int) -> str:
    return "1 text" if count == 1 else f"{count:,} texts"


class Results(list[T]):
    """A plain list with one item for each text, that knows how it came about and can become a table.

    Args:
        items: the results.
        report: what the call did.
        like: an item that holds one of everything: it names the columns of tables without rows, as of texts without an entity.

    Attributes:
        report: what the call did.
        like: as above.
    """

    def __init__(self, items: Iterable[T], report: Report, like: T) -> None:
        super().__init__(items)
        self.report, self.like = report, like

    def rows(self) -> list[dict[str, Any]]:
        """The results as flat records: ``item`` is the text that a record belongs to, counted from 0.

        Results that hold further lists (entities of a text, candidates of a mask) give one record for each of their entries; the places
        in those lists are ``rank``, or ``mask`` and ``rank`` where there are two, or ``entity`` and ``rank`` for entities with several labels.
        """
        return list(self._records())

    def _repr_html_(self) -> str:
        shown = [record for _, record in zip(range(SHOWN), self._records())]
        names = list(dict.fromkeys(name for record in shown for name in record))
        head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
        body = "".join(f"<tr>{''.join(f'<td>{_cell(record.get(name))}</td>' for name in names)}</tr>" for record in shown)
        more = "" if len(shown) < SHOWN else f", the first {SHOWN} rows"
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p>{html.escape(str(self.report))}{more}</p>"

    def _records(self) -> Iterator[dict[str, Any]]:
        return (record for item, result in enumerate(self) for record in _flat(result, {"item": item}))

    def to_pandas(self, beside: Any = None) -> pandas.DataFrame:
        """:meth:`rows` as a pandas data frame. Needs pandas (extra ``tables``).

        Args:
            beside: as of :meth:`to_arrow`.

        Raises:
            BadInputError: as :meth:`to_arrow`.
        """
        import pandas

        if beside is not None:
            return self.to_arrow(beside).to_pandas()
        rows = self.rows()
        return pandas.DataFrame(rows) if rows else pandas.DataFrame(self._example())[:0]

    def to_arrow(self, beside: Any = None) -> pyarrow.Table:
        """:meth:`rows` as an Arrow table. Needs pyarrow (extra ``tables``).

        Args:
            beside: the table that the texts came from, with a row for each: a data frame of pandas or polars, an Arrow table, a dict of columns. Its columns stand behind the results, as
                often as their text has rows; one whose name a result has is called ``input_...``.

        Raises:
            BadInputError: a table with another number of rows.
        """
        import pyarrow

        rows = self.rows()
        table = pyarrow.Table.from_pylist(rows) if rows else pyarrow.Table.from_pylist(self._example())[:0]
        if beside is None:
            return table
        frame = hasattr(beside, "iloc")
        others = pyarrow.Table.from_pandas(beside, preserve_index=False) if frame else pyarrow.table(beside)
        if len(others) != len(self):
            raise BadInputError(
                f"there are results of {_texts(len(self))} and a table of {len(others):,} rows: pass the table that the texts came from"
            )
        others = others.take(table["item"])
        for name in others.column_names:
            table = table.append_column(f"input_{name}" if name in table.column_names else name, others[name])
        return table

    def _example(self) -> list[dict[str, Any]]:
        """A record as :meth:`rows` would have it."""
        return list(_flat(self.like, {"item": 0}))


def _cell(value: Any) -> str:
    return html.escape(f"{value:.4f}" if isinstance(value, float) else "" if value is None else str(value))


def _flat(result: Any, indices: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if isinstance(result, dict):
        lists = _lists(result)
        if not lists:
            yield {**indices, **result}
            return
        single = {name: value for name, value in result.items() if name not in lists}
        for rank, values in enumerate(zip(*(result[name] for name in lists), strict=True)):
            record = {**indices, **single, "rank": rank}
            for name, value in zip(lists, values):
                # the list of labels becomes a column "label", or what its entries hold
                record |= value if isinstance(value, dict) else {name.removesuffix("s"): value}
            yield record
        return
    for number, inner in enumerate(result):
        name = "mask" if isinstance(inner, list) else "entity" if _lists(inner) else "rank"
        yield from _flat(inner, {**indices, name: number})


def _lists(result: dict[str, Any]) -> list[str]:
    """Names of the values that are lists."""
    return [name for name, value in result.items() if isinstance(value, (list, np.ndarray))]
