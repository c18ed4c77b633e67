"""What the R package talks to: one function. JSON goes in, R's own serialization comes out, as a bytearray, which every version of reticulate gives to R as raw.

R says ``unserialize(call(task, json))``. So matrices, data frames, factors and NA arrive as R has them, bit for bit, and reticulate converts no array, no None
and no int, which it does in a different way, or wrongly, depending on its version and numpy's. Matrices of R come as bytes beside the JSON, for the same reason.

The R package leaves out texts that are missing and sends the numbers of the others, from 1, which results and errors name. ``start`` and ``end`` are those of
``substr()``: counted from 1, the end included.
"""

from __future__ import annotations

import difflib
import inspect
import json
import os
import re
import warnings
from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from nativebert import train as training
from nativebert.checks import whole_number
from nativebert.errors import BadInputError, TooLongError
from nativebert.hub import resolve
from nativebert.io.rds import NA_INTEGER, Factor, Frame, Matrix, serialize
from nativebert.loading import load
from nativebert.search import semantic_search
from nativebert.tasks.answer import Answerer
from nativebert.tasks.base import Task
from nativebert.tasks.classify import Classifier
from nativebert.tasks.embed import Embedder
from nativebert.tasks.fill import MaskFiller
from nativebert.tasks.options import CALL_OPTIONS, TASK_OPTIONS
from nativebert.tasks.rank import Ranker
from nativebert.tasks.tag import Tagger
from nativebert.tasks.zeroshot import ZeroShot
from nativebert.text.tokenizer import Encoding, Tokenizer

Options = dict[str, Any]

KEPT = 4  # models that stay in memory, those that were used last
_NOT_FOR_R = {"progress", "return_report", "as_tensor"}  # the R package has its own, and no tensors
_ITEM = re.compile(r"^(text|pair) (\d+)\b")  # how messages begin that are about one of the texts


def call(task: str, job: str, *matrices: bytes) -> bytearray:
    """Do one thing for R.

    Args:
        task: a name in :data:`TASKS`.
        job: its arguments, a JSON object; besides, ``numbers``: those that the texts have in R.
        *matrices: the numbers of R's matrices, float64 by columns; the arguments give their shapes.

    Returns:
        R's serialization of a list: ``value``, or ``error`` with ``class`` and ``message``; and ``warnings``, a list of the same two. A KeyboardInterrupt is not
        caught: R sees an interrupt.
    """
    reply: dict[str, Any] = {}
    arguments: dict[str, Any] = _whole(json.loads(job)) | ({"matrices": matrices} if matrices else {})
    numbers = arguments.get("numbers", ())
    if "numbers" not in inspect.signature(TASKS[task]).parameters:
        arguments.pop("numbers", None)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            reply["value"] = TASKS[task](**arguments)
        except Exception as error:
            reply["error"] = _condition(error, numbers)
    notes = {(w.category.__name__, str(w.message)): None for w in said if issubclass(w.category, UserWarning)}
    reply["warnings"] = tuple({"class": kind, "message": message} for kind, message in notes)
    try:
        return bytearray(serialize(reply))
    except BadInputError as error:  # such as a label with a NUL character
        return bytearray(serialize({"error": _condition(error, ()), "warnings": ()}))


def _condition(error: Exception, numbers: Sequence[int]) -> dict[str, Any]:
    """An error as what R makes a condition of."""
    kinds, message = _classes(error), str(error)
    if kinds == ["Internal"]:
        message = f"{type(error).__name__}: {message}. This is a bug of nativebert: please report it"
    if numbers:
        message = _ITEM.sub(lambda match: f"{match[1]} {numbers[int(match[2])]}", message)
    return {"class": kinds, "message": message}


def _classes(error: Exception) -> list[str]:
    """Names of an error's classes for R's conditions: ``NotFound`` of NotFoundError; ``Internal`` where it is none of ours."""
    ours = [kind.__name__ for kind in type(error).__mro__ if kind.__module__.partition(".")[0] in ("nativebert", "weights_map")]
    return [name.removesuffix("Error") for name in ours] or ["Internal"]


def _whole(value: Any) -> Any:
    """32 for 32.0, and 100000 for R's 1e+05, which JSON reads as a float."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return {name: _whole(item) for name, item in value.items()} if isinstance(value, dict) else value


# -- models


def _prepared(kind: type[Task], model: str, options: Options, *, without: Sequence[str] = ()) -> tuple[Any, Options]:
    """A task, and the options for its call.

    Args:
        kind: its class.
        model: a folder, or a name on the Hub.
        options: of the constructor or of the call; what both take is for the call, so that the model need not be loaded again.
        without: options of the call that make no difference to what R gets.

    Raises:
        BadInputError: an option that neither has.
        NativeBertError: the model cannot be had.
    """
    of_call = (
        (_keywords(kind.__call__) | CALL_OPTIONS) - _NOT_FOR_R - set(without)
        if "__call__" in vars(kind)
        else CALL_OPTIONS - _NOT_FOR_R
    )
    of_task = _keywords(kind.__init__) | TASK_OPTIONS
    for name in options:
        if name not in of_call | of_task:
            known = sorted(of_call | of_task)
            near = difflib.get_close_matches(name, known, n=1)
            raise BadInputError(
                f"there is no option {name!r}"
                + (f"; did you mean {near[0]!r}?" if near else f": choose from {', '.join(known)}")
            )
    made = {name: value for name, value in options.items() if name not in of_call}
    task = _made(cast(Hashable, kind), *_identity(model), json.dumps(made, sort_keys=True))
    return task, {name: value for name, value in options.items() if name in of_call}


def _keywords(function: Callable[..., Any]) -> set[str]:
    """Names of the keyword-only parameters."""
    return {name for name, p in inspect.signature(function).parameters.items() if p.kind is p.KEYWORD_ONLY}


def _identity(model: str) -> tuple[str, tuple[Any, ...]]:
    """A model's absolute path, and what changes where its files do: a folder may have been retrained. Names on the Hub as they are."""
    if not isinstance(model, str):
        raise BadInputError("model must be a folder or a name on the Hub, one string")
    folder = Path(os.path.expanduser(model))
    if not folder.is_dir():
        return model, ()
    files = sorted((path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in folder.iterdir() if path.is_file())
    return str(folder.absolute()), tuple(files)


@lru_cache(maxsize=KEPT)
def _made(kind: Any, model: str, files: tuple[Any, ...], options: str) -> Any:
    return kind(model, **json.loads(options))


@lru_cache(maxsize=KEPT)
def _tokenizer(model: str, files: tuple[Any, ...]) -> Tokenizer:
    return Tokenizer.from_folder(resolve(model, weights=False).encoder)


# -- tasks


def embed(texts: list[str], model: str, options: Options) -> NDArray[np.float32]:
    """Vectors, ``(n, dimension)``."""
    task, of_call = _prepared(Embedder, model, options)
    vectors: NDArray[np.float32] = task(texts, **of_call)
    return vectors


def classify(texts: list[str], model: str, options: Options, pairs: list[str] | None = None) -> Frame:
    """A label for each text, with the score of each label; of a regression, the outputs only."""
    task, of_call = _prepared(Classifier, model, options, without=("top_k", "threshold"))
    scores = task.scores(texts if pairs is None else [*zip(texts, pairs, strict=True)], **of_call)
    if (options.get("problem") or task.problem) == "regression":
        return Frame(zip(task.labels, scores.T))
    return _labelled(scores, task.labels)


def _labelled(scores: NDArray[Any], labels: Sequence[str]) -> Frame:
    columns = {f"p_{label}": column for label, column in zip(labels, scores.T)}
    return Frame(label=Factor(scores.argmax(1), labels), score=scores.max(1, initial=-np.inf), **columns)


def tag(texts: list[str], model: str, options: Options, numbers: Sequence[int]) -> Frame:
    """Entities, with the number of their text."""
    task, of_call = _prepared(Tagger, model, options, without=("top_k",))
    results = task(texts, **of_call)
    rows = [{"item": number, **entity} for number, entities in zip(numbers, results, strict=True) for entity in entities]
    return _frame(rows, ("item", "text", "label", "score", "start", "end"))


def answer(questions: list[str], contexts: list[str], model: str, options: Options, numbers: Sequence[int]) -> Frame:
    """Answers, best first, with the number of their context."""
    task, of_call = _prepared(Answerer, model, options)
    results = task(questions, contexts, **of_call) if contexts else []
    rows = [
        {"item": number, "rank": place, **one}
        for number, answers in zip(numbers, results, strict=True)
        for place, one in enumerate(answers if isinstance(answers, list) else [answers], 1)
    ]
    return _frame(rows, ("item", "rank", "answer", "score", "start", "end"))


def fill(texts: list[str], model: str, options: Options, numbers: Sequence[int]) -> Frame:
    """Candidates for each mask of each text, best first."""
    task, of_call = _prepared(MaskFiller, model, options)
    rows = [
        {"item": number, "mask": mask, "rank": place, **one}
        for number, masks in zip(numbers, task(texts, **of_call), strict=True)
        for mask, candidates in enumerate(masks, 1)
        for place, one in enumerate(candidates, 1)
    ]
    return _frame(rows, ("item", "mask", "rank", "token", "id", "score", "text"))


_DTYPES = {"score": np.float64} | dict.fromkeys(("item", "mask", "rank", "id", "start", "end"), np.int32)


def _frame(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> Frame:
    """A data frame whose columns have their types without rows, too; ``start`` becomes R's."""
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in names}
    columns |= {name: np.array(columns[name], dtype) for name, dtype in _DTYPES.items() if name in columns}
    return Frame(columns | ({"start": columns["start"] + 1} if "start" in columns else {}))


def rank(queries: list[str], documents: list[str], model: str, options: Options) -> NDArray[np.float32]:
    """The score of each pair, ``(n,)``; ``(n, outputs)`` of a model with several."""
    task, of_call = _prepared(Ranker, model, options)
    scores: NDArray[np.float32] = task([*zip(queries, documents, strict=True)], **of_call)
    return scores


def zeroshot(texts: list[str], labels: list[str], model: str, options: Options) -> Frame:
    """As :func:`classify`, with labels of your own."""
    task, of_call = _prepared(ZeroShot, model, options)
    results = task(texts, labels, **of_call)
    scores = [dict(zip(result["labels"], result["scores"], strict=True)) for result in results]
    return _labelled(
        np.array([[of_text[label] for label in labels] for of_text in scores]).reshape(len(scores), len(labels)), labels
    )


def search(queries: Sequence[int], corpus: Sequence[int], options: Options, matrices: Sequence[bytes]) -> Frame:
    """The rows of ``corpus`` nearest to each row of ``queries``; the arguments are the shapes of the two matrices."""
    rows, known = (
        np.frombuffer(data, "<f8").reshape(shape, order="F") for data, shape in zip(matrices, (queries, corpus), strict=True)
    )
    unknown = options.keys() - _keywords(semantic_search)
    if unknown:
        raise BadInputError(f"there is no option {min(unknown)!r}: choose from {', '.join(sorted(_keywords(semantic_search)))}")
    hits = [
        (n, place, hit["index"] + 1, hit["score"])
        for n, of_query in enumerate(semantic_search(rows, known, **options), 1)
        for place, hit in enumerate(of_query, 1)
    ]
    query, place, item, score = zip(*hits) if hits else ((), (), (), ())
    return Frame(
        query=np.array(query, "i4"), rank=np.array(place, "i4"), item=np.array(item, "i4"), score=np.array(score, "f8")
    )


def tokenize(texts: list[str], model: str, pairs: list[str] | None = None, special_tokens: bool = True) -> tuple[Frame, ...]:
    """The tokens of each text; NA for what special tokens do not have."""
    tokenizer = _tokenizer(*_identity(model))
    items = texts if pairs is None else [*zip(texts, pairs, strict=True)]
    return tuple(_tokens(e) for e in tokenizer.encode_batch(items, special_tokens=special_tokens))


def _tokens(e: Encoding) -> Frame:
    special, offsets = np.array(e.special, bool), np.array(e.offsets, np.int32).reshape(-1, 2)
    word = np.array([-1 if word is None else word for word in e.word_ids], np.int32)
    return Frame(
        token=list(e.tokens),
        id=np.array(e.ids, np.int32),
        type=np.array(e.type_ids, np.int32),
        word=np.where(word < 0, NA_INTEGER, word + 1).astype(np.int32),
        start=np.where(special, NA_INTEGER, offsets[:, 0] + 1).astype(np.int32),
        end=np.where(special, NA_INTEGER, offsets[:, 1]).astype(np.int32),
    )


def hidden_states(texts: list[str], model: str, options: Options, layer: int | None = None) -> tuple[Matrix, ...]:
    """Hidden states of each text, ``(tokens, H)``, special tokens included.

    Args:
        texts, model, options: as everywhere.
        layer: 0 for the embeddings, 1 for the first layer; None for the last.
    """
    task, of_call = _prepared(Task, model, options)
    limit, layers = task.options.changed(of_call).max_tokens, len(task.encoder.layers)
    chosen = layers if layer is None else whole_number("layer", layer)
    if not 0 <= chosen <= layers:
        raise BadInputError(f"layer must be between 0 (the embeddings) and {layers}, not {layer}")
    states = []
    for n, e in enumerate(task.tokenizer.encode_batch(texts)):
        if len(e) > limit:
            raise TooLongError(f"text {n} has {len(e)} tokens, and the model reads {limit}: shorten it", len(e), limit)
        batch = task.pack([e.ids], [e.type_ids] if task.encoder.segments > 1 else None)
        states.append(Matrix(task.plan.states(batch)[chosen].float().cpu().numpy(), rows=e.tokens))
    return tuple(states)


def weights(model: str) -> Frame:
    """A row for each tensor of the file and each parameter of the model: names, shape, type, and what became of it."""
    loaded = load(model)
    assert loaded.ledger is not None
    rows = loaded.ledger.rows
    return Frame(
        name=[" + ".join(row.sources) or None for row in rows],
        parameter=[" + ".join(row.targets) or None for row in rows],
        shape=[None if row.shape is None else " x ".join(map(str, row.shape)) for row in rows],
        dtype=[row.dtype or None for row in rows],
        status=[row.status for row in rows],
        note=[row.note or None for row in rows],
    )


def fine_tune(
    task: str, data: dict[str, list[Any]], model: str, output: str, evaluation: dict[str, list[Any]] | None, options: Options
) -> dict[str, Any]:
    """Fine-tune a model on a data frame.

    Args:
        task: ``"classify"``, ``"tag"``, ``"embed"``, ``"answer"`` or ``"rank"``.
        data, evaluation: columns by name; None to hold out a share of the data.
        model: a folder, or a name on the Hub.
        output: a folder for checkpoints and the model.
        options: of the function in :mod:`nativebert.train`.
    """
    train = {name: getattr(training, name) for name in ("classify", "tag", "embed", "answer", "rank")}[task]
    try:
        result = train(data, model, output, evaluation=evaluation, **options)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise BadInputError(f"{str(error).partition('()')[2].strip()}: see ?nb_train for the options") from None
    history = [dict(line) for line in result.history]
    names = list(dict.fromkeys(name for line in history for name in line if isinstance(line[name], (int, float))))
    return {
        "task": task,
        "folder": os.path.abspath(output),
        "metrics": Matrix(np.array([[float(value) for value in result.metrics.values()]]), None, list(result.metrics)),
        "history": Frame({name: [line.get(name) for line in history] for name in names}),
        "labels": list(result.model.config.labels) if result.model.tasks else [],
    }


def head_of(model: str) -> str:
    """The task of a model's head, as :func:`fine_tune` calls it; ``"embed"`` for a model without one."""
    tasks = load(model).tasks
    return next((task for task in tasks if task in ("classify", "tag", "answer")), "embed")


TASKS: dict[str, Callable[..., Any]] = {
    "embed": embed, "classify": classify, "tag": tag, "answer": answer, "fill": fill, "rank": rank, "zeroshot": zeroshot, "search": search,
    "tokenize": tokenize, "hidden_states": hidden_states, "weights": weights, "train": fine_tune, "head_of": head_of,
}  # fmt: skip


def array(value: Any) -> bytearray:
    """A tensor of torch, or an array of numpy, as R's serialization of a vector or an array."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = (value.float() if value.is_floating_point() and value.element_size() == 2 else value).numpy()
    return bytearray(serialize(np.asarray(value)))


def shape(value: Any) -> bytearray:
    """The shape of a tensor as R's serialization of an integer vector."""
    return bytearray(serialize(np.array(value.shape, np.int32)))
