"""Results of a task as columns of Arrow, one row for each row of the input."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nativebert.errors import BadInputError, Truncated
from nativebert.io.files import arrow
from nativebert.jobs.corpus import Corpus
from nativebert.jobs.vectors import KINDS, packed, type_of
from nativebert.tasks.answer import Answerer
from nativebert.tasks.base import Task
from nativebert.tasks.embed import Embedder
from nativebert.tasks.rank import Ranker
from nativebert.tasks.results import Results

# What results that are lists are called
_LISTS = {"Classifier": "labels", "Tagger": "entities", "Answerer": "answers", "MaskFiller": "candidates"}
_PAIRS = (Answerer, Ranker)  # tasks that read two texts, or one beside a text for all


class Computed(NamedTuple):
    """Results of some rows.

    Attributes:
        columns: an array of Arrow for each name of :attr:`ResultColumns.schema`, null where a row has no result.
        tokens, cut: for each row the tokens that were read, and those that were left out, int64 ``(n,)``.
        too_long: rows that were over the maximum length, by ``too_long="error"``, with what is wrong.
    """

    columns: list[Any]
    tokens: NDArray[np.int64]
    cut: NDArray[np.int64]
    too_long: dict[int, str]


class ResultColumns:
    """A task with the arguments of its calls, as a function from texts to columns.

    Args:
        task: any task; a :class:`~nativebert.Ranker` or :class:`~nativebert.Answerer` reads two columns, or one beside a ``query`` or ``question``.
        call: arguments of each call, with JSON values (``{"top_k": 3}``); ``{"query": "..."}`` or ``{"question": "..."}`` as above.
        texts: how many text columns there are.
        vectors: ``float32``, ``float16``, ``int8`` or ``binary``, see :mod:`nativebert.jobs.vectors`.
        corpus: of an Embedder, where to search for what the texts ask for; the column is then ``hits``.

    Attributes:
        call: arguments of each call.
        schema: names and types of the columns, a ``pyarrow.Schema``.

    Raises:
        BadInputError: one column for a task of pairs, two for a task of single texts, or unknown arguments.
    """

    def __init__(
        self, task: Task, call: Mapping[str, Any], texts: int, vectors: str = "float32", corpus: Corpus | None = None
    ) -> None:
        call = dict(call)
        self.task, self.vectors, self.corpus = task, vectors, corpus
        if corpus is not None and (not isinstance(task, Embedder) or vectors != "float32"):
            raise BadInputError("a corpus is searched with an Embedder and float32 vectors")
        self._beside = (
            call.pop("query", None)
            if isinstance(task, Ranker)
            else call.pop("question", None)
            if isinstance(task, Answerer)
            else None
        )
        kind, pairs = type(task).__name__, texts == 2 or self._beside is not None
        if texts == 2 and self._beside is not None:
            raise BadInputError(f"{kind} was given two columns and a text for all rows: remove one of them")
        if isinstance(task, _PAIRS) and not pairs:
            word = "query" if isinstance(task, Ranker) else "question"
            raise BadInputError(f"{kind} reads pairs: name two columns, or pass {word}= for all rows")
        if pairs and not isinstance(task, _PAIRS) and kind != "Classifier":
            raise BadInputError(f"{kind} reads single texts: name one column")
        if vectors not in KINDS or (vectors != "float32" and not isinstance(task, Embedder)):
            raise BadInputError(
                f"vectors must be one of {', '.join(KINDS)}, and float32 for tasks without vectors, not {vectors!r}"
            )
        known = inspect.signature(task.__call__).parameters  # type: ignore[operator]
        if unknown := [
            name for name in call if name not in known and name not in ("max_tokens", "too_long", "stride", "batch_tokens")
        ]:
            raise BadInputError(f"{kind} has no argument {unknown[0]!r}")
        self._strict = call.get("too_long", task.too_long) == "error"
        # what is over the limit is one row's fault: the others are computed, and it is named
        self.call, self._call = call, call | ({"too_long": "truncate"} if self._strict else {})
        self.schema = self._schema()

    def beside(self, item: Any) -> Any:
        """What the task reads of a text: with the query or question of all rows before it, if there is one."""
        return item if self._beside is None else (self._beside, item)

    def _run(self, items: list[Any]) -> Any:
        task: Any = self.task
        args: list[Any] = [[self.beside(item) for item in items]]
        if isinstance(task, Answerer):
            args = [[question for question, _ in args[0]], [context for _, context in args[0]]]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Truncated)  # the job counts them
            return task(*args, return_report=True, progress=False, **self._call)

    def _schema(self) -> Any:
        pa = arrow()
        if self.corpus is not None:
            return self.corpus.schema
        if isinstance(self.task, Embedder):
            return pa.schema([("embedding", type_of(self.task.dimension, self.vectors))])
        nothing, _ = self._run([])
        if isinstance(nothing, Results):
            like = pa.array([nothing.like]).type
            if pa.types.is_struct(like):
                return pa.schema([field for field in like if field.name != "text"])
            return pa.schema([(_LISTS.get(type(self.task).__name__, "results"), like)])
        if isinstance(nothing, np.ndarray):
            return pa.schema(
                [("score", pa.float32()) if nothing.ndim == 1 else ("scores", pa.list_(pa.float32(), nothing.shape[1]))]
            )
        raise BadInputError(f"{type(self.task).__name__} does not give one result for each text, so it cannot fill a table")

    def __call__(self, items: Sequence[Any]) -> Computed:
        """Results of texts, or of pairs of them; None, and a pair with None, has none.

        Raises:
            NativeBertError: as of the task's call.
        """
        there = [n for n, item in enumerate(items) if item is not None and not (isinstance(item, tuple) and None in item)]
        results, report = self._run([items[n] for n in there])
        tokens, cut = np.zeros((2, len(items)), np.int64)
        tokens[there], cut[there] = report.tokens, report.cut
        too_long: dict[int, str] = {}
        if self._strict:
            too_long = {
                n: f"{tokens[n] + cut[n]:,} tokens, and the limit is {tokens[n]:,}" for n in np.flatnonzero(cut).tolist()
            }
            tokens[list(too_long)], cut[:] = 0, 0
        columns = self._arrays(results)
        if len(there) < len(items) or too_long:
            pa = arrow()
            at: list[int | None] = [None] * len(items)
            for place, n in enumerate(there):
                at[n] = None if n in too_long else place
            columns = [values.take(pa.array(at, pa.int64())) for values in columns]
        return Computed(columns, tokens, cut, too_long)

    def _arrays(self, results: Any) -> list[Any]:
        pa = arrow()
        if self.corpus is not None:
            return [self.corpus.hits(results)]
        if isinstance(self.task, Embedder):
            return [packed(results, self.vectors)]
        if isinstance(results, np.ndarray):
            if results.ndim == 1:
                return [pa.array(results)]
            return [pa.FixedSizeListArray.from_arrays(pa.array(results.reshape(-1)), results.shape[1])]
        if len(self.schema) == 1 and self.schema.names[0] in (*_LISTS.values(), "results"):
            return [pa.array(list(results), self.schema.types[0])]
        return [pa.array([row[field.name] for row in results], field.type) for field in self.schema]
