"""A server of one model: OpenAI-compatible embeddings, reranking, labels, entities. Needs starlette and uvicorn (extra ``serve``).

Requests that wait are computed together, whoever sent them: while one batch is computed, the next one fills. A text's result does not depend on its
batch, so every client gets the bits that the text has alone.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import numpy as np

from nativebert.errors import BadInputError, NativeBertError
from nativebert.tasks.base import Task
from nativebert.tasks.classify import Classifier
from nativebert.tasks.embed import Embedder
from nativebert.tasks.rank import Ranker
from nativebert.tasks.tag import Tagger

MAX_TEXTS = 2048  # of a request, as in OpenAI's API
_BATCH_TEXTS = 1024  # that are computed at once, except a single request with more
_MISSING = "a server requires starlette and uvicorn: pip install 'nativebert[serve]'"

Body = Mapping[str, Any]
Compute = Callable[
    [list[Any], Mapping[str, Any]], tuple[Sequence[Any], Sequence[int]]
]  # texts, options -> results and tokens of each


class _RequestError(Exception):
    """A request that is answered with an error: its status, and what to do."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Waiting(NamedTuple):
    items: list[Any]
    key: Hashable
    options: Mapping[str, Any]
    future: asyncio.Future[Any]


class Batcher:
    """Texts of many requests, computed together in one thread.

    Args:
        compute: results of texts.
        most_waiting: texts that may wait; requests beyond them are refused.

    Attributes:
        counts: of ``batches`` and ``texts`` so far.
    """

    def __init__(self, compute: Compute, most_waiting: int) -> None:
        self._compute, self._most = compute, most_waiting
        self._waiting: deque[_Waiting] = deque()
        self._texts = 0
        self._filled = asyncio.Event()
        self.counts: Counter[str] = Counter()

    async def __call__(self, items: list[Any], options: Mapping[str, Any]) -> tuple[list[Any], int]:
        """Results of a request's texts, and the tokens of all.

        Raises:
            _RequestError: too many texts wait.
            NativeBertError: as of the task.
        """
        if self._texts and self._texts + len(items) > self._most:
            raise _RequestError(503, f"{self._texts:,} texts are waiting already: send the request again in a moment")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._texts += len(items)
        self._waiting.append(_Waiting(items, tuple(sorted(options.items())), options, future))
        self._filled.set()
        results, tokens = await future
        return results, tokens

    async def run(self) -> None:
        """Compute what waits, until it is cancelled."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as thread:
            while True:
                await self._filled.wait()
                batch = self._take()
                items = [item for request in batch for item in request.items]
                try:
                    results, tokens = await loop.run_in_executor(thread, self._compute, items, batch[0].options)
                except Exception as error:
                    await self._apart(loop, thread, batch, error)
                else:
                    start = 0
                    for request in batch:
                        end = start + len(request.items)
                        _resolve(request.future, (results[start:end], int(sum(tokens[start:end]))))
                        start = end
                self._texts -= len(items)
                self.counts.update(batches=1, texts=len(items))

    def _take(self) -> list[_Waiting]:
        """The first request, and those with the same options, up to a batch."""
        first = self._waiting.popleft()
        batch, left, size = [first], deque[_Waiting](), len(first.items)
        while self._waiting:
            request = self._waiting.popleft()
            if request.key == first.key and size + len(request.items) <= _BATCH_TEXTS:
                batch.append(request)
                size += len(request.items)
            else:
                left.append(request)
        self._waiting = left
        if not left:
            self._filled.clear()
        return batch

    async def _apart(
        self, loop: asyncio.AbstractEventLoop, thread: ThreadPoolExecutor, batch: list[_Waiting], error: Exception
    ) -> None:
        """Compute each request of a failed batch by itself: one text's fault is no other's."""
        for request in batch:
            if len(batch) > 1:
                try:
                    results, tokens = await loop.run_in_executor(thread, self._compute, request.items, request.options)
                    _resolve(request.future, (results, int(sum(tokens))))
                    continue
                except Exception as own:
                    error = own
            if not request.future.done():
                request.future.set_exception(error)


def _resolve(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():  # the client may have gone
        future.set_result(value)


# ---- the endpoints of each task


def _embed(task: Embedder) -> Compute:
    def compute(items: list[Any], options: Mapping[str, Any]) -> tuple[Sequence[Any], Sequence[int]]:
        vectors, report = task(items, return_report=True, progress=False, **options)
        return vectors, report.tokens.tolist()

    return compute


def _results(task: Any) -> Compute:
    def compute(items: list[Any], options: Mapping[str, Any]) -> tuple[Sequence[Any], Sequence[int]]:
        results, report = task(items, return_report=True, progress=False, **options)
        return results if isinstance(results, list) else results.tolist(), report.tokens.tolist()

    return compute


def _texts(body: Body, *names: str) -> list[str]:
    """The texts of a request."""
    name = next((name for name in names if name in body), None)
    if name is None:
        raise _RequestError(400, f"the body has no {names[0]!r}: send a text, or a list of texts")
    value = body[name]
    texts = [value] if isinstance(value, str) else value
    if isinstance(texts, list) and texts and all(isinstance(text, (int, list)) for text in texts):
        raise _RequestError(400, f"{name!r} holds token ids, which other models have others of: send texts")
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise _RequestError(400, f"{name!r} must be a text or a list of texts that is not empty")
    if len(texts) > MAX_TEXTS:
        raise _RequestError(
            400, f"{name!r} has {len(texts):,} texts, and a request at most {MAX_TEXTS:,}: send several requests"
        )
    for n, text in enumerate(texts):
        if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
            raise _RequestError(400, f"text {n} is not valid Unicode: it was cut inside a character")
    return texts


def _whole(body: Body, name: str) -> int | None:
    value = body.get(name)
    if value is not None and (type(value) is not int or value < 1):
        raise _RequestError(400, f"{name!r} must be a whole number above 0, not {json.dumps(value)}")
    return value


class Endpoints:
    """What a task's server answers: a path -> a function from a request's body to the body of its answer.

    Args:
        task: an Embedder, Ranker, Classifier or Tagger.
        model: the name that answers give the model.
        most_waiting: texts that may wait.

    Raises:
        BadInputError: another task.
    """

    def __init__(self, task: Task, model: str, most_waiting: int) -> None:
        self.task, self.model = task, model
        if isinstance(task, Embedder):
            compute, self.paths = _embed(task), {"/v1/embeddings": self.embeddings}
        elif isinstance(task, Ranker):
            if task.outputs != 1:
                raise BadInputError(
                    f"{task.reference} has {task.outputs} outputs per pair, and ranking needs a single score: serve it with --task classify"
                )
            compute, self.paths = _results(task), {"/rerank": self.rerank, "/v1/rerank": self.rerank}
        elif isinstance(task, Classifier):
            compute, self.paths = _results(task), {"/classify": self.classify}
        elif isinstance(task, Tagger):
            compute, self.paths = _results(task), {"/tag": self.tag}
        else:
            raise BadInputError(f"{type(task).__name__} is not served: use an Embedder, Ranker, Classifier or Tagger")
        self.batcher = Batcher(compute, most_waiting)

    async def embeddings(self, body: Body) -> dict[str, Any]:
        """``/v1/embeddings`` of OpenAI; beside it ``prompt_name``, one of the model's own prompts."""
        assert isinstance(self.task, Embedder)
        texts, how = _texts(body, "input"), body.get("encoding_format", "float")
        if how not in ("float", "base64"):
            raise _RequestError(400, f"'encoding_format' must be 'float' or 'base64', not {json.dumps(how)}")
        if (dimensions := _whole(body, "dimensions")) not in (None, self.task.dimension):
            raise _RequestError(
                400, f"this model is served with {self.task.dimension} dimensions, not {dimensions}: leave out 'dimensions'"
            )
        options = {} if body.get("prompt_name") is None else {"prompt_name": body["prompt_name"]}
        if not isinstance(options.get("prompt_name", ""), str):
            raise _RequestError(400, "'prompt_name' must be a text")
        vectors, tokens = await self.batcher(texts, options)
        rows = np.asarray(vectors, "<f4")
        coded = [base64.b64encode(row.tobytes()).decode() for row in rows] if how == "base64" else rows.tolist()
        data = [{"object": "embedding", "index": n, "embedding": row} for n, row in enumerate(coded)]
        return {"object": "list", "data": data, "model": self.model, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}

    async def rerank(self, body: Body) -> dict[str, Any]:
        """``/rerank`` as Jina and Cohere have it: ``query``, ``documents``, ``top_n``, ``return_documents``."""
        query, documents = body.get("query"), _texts(body, "documents", "texts")
        if not isinstance(query, str):
            raise _RequestError(400, "'query' must be a text")
        scores, tokens = await self.batcher([(query, text) for text in documents], {})
        best = sorted(range(len(documents)), key=lambda n: (-scores[n], n))[: _whole(body, "top_n")]
        results: list[dict[str, Any]] = [{"index": n, "relevance_score": scores[n]} for n in best]
        if body.get("return_documents"):
            results = [result | {"document": {"text": documents[result["index"]]}} for result in results]
        return {"model": self.model, "results": results, "usage": {"total_tokens": tokens}}

    async def classify(self, body: Body) -> dict[str, Any]:
        """``/classify``: ``input``, ``top_k``; each text's label and score, or its ``labels`` where ``top_k`` is given."""
        texts, top_k = _texts(body, "input", "inputs"), _whole(body, "top_k")
        options = {"top_k": top_k or 1}
        results, tokens = await self.batcher(texts, options)
        data = [{"index": n, **(one if isinstance(one, dict) else {"labels": one})} for n, one in enumerate(results)]
        return {"object": "list", "data": data, "model": self.model, "usage": {"total_tokens": tokens}}

    async def tag(self, body: Body) -> dict[str, Any]:
        """``/tag``: ``input``; each text's entities."""
        results, tokens = await self.batcher(_texts(body, "input", "inputs"), {})
        data = [{"index": n, "entities": entities} for n, entities in enumerate(results)]
        return {"object": "list", "data": data, "model": self.model, "usage": {"total_tokens": tokens}}


# ---- the application


def app(task: Task, *, model: str | None = None, max_body: int = 8 << 20, most_waiting: int = 16_384) -> Any:
    """The server as an ASGI application (of starlette), for uvicorn and similar.

    ``/v1/embeddings`` of an Embedder, ``/rerank`` of a Ranker, ``/classify`` of a Classifier, ``/tag`` of a Tagger; ``/v1/models``, ``/health``, and ``/metrics`` for
    Prometheus. Errors in a request are reported in one sentence, with a status from 400 to 499.

    Args:
        task: what is served. Its ``too_long`` decides about long texts; ``"error"`` refuses them.
        model: its name in answers; None for its reference.
        max_body: bytes of a request's body.
        most_waiting: texts that may wait; what comes beyond them is answered with 503.

    Raises:
        BadInputError: a task that is not served.
        NativeBertError: starlette is not installed.
    """
    try:
        from starlette.applications import Starlette
        from starlette.exceptions import HTTPException
        from starlette.requests import Request
        from starlette.responses import PlainTextResponse, Response
        from starlette.routing import Route
    except ImportError as error:
        raise NativeBertError(f"{_MISSING} ({error})") from None

    counts: Counter[tuple[str, int]] = Counter()
    seconds: Counter[str] = Counter()
    endpoints = Endpoints(task, model or str(task.reference), most_waiting)

    def answer(value: Any, status: int = 200) -> Response:
        return Response(json.dumps(value, separators=(",", ":")), status, media_type="application/json")

    def refusal(status: int, message: str) -> Response:
        kind = "invalid_request_error" if status < 500 else "server_error"
        return answer({"error": {"message": message, "type": kind, "code": status}}, status)

    async def body_of(request: Request) -> Body:
        data = bytearray()
        async for part in request.stream():
            data += part
            if len(data) > max_body:
                raise _RequestError(413, f"the body has more than {max_body:,} bytes: send fewer texts in one request")
        try:
            body = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise _RequestError(400, f"the body is not JSON: {error}") from None
        if not isinstance(body, dict):
            raise _RequestError(400, f"the body must be a JSON object with names and values, not a {type(body).__name__}")
        return body

    def endpoint(path: str, respond: Callable[[Body], Awaitable[dict[str, Any]]]) -> Route:
        async def handle(request: Request) -> Response:
            started = time.perf_counter()
            try:
                response = answer(await respond(await body_of(request)))
            except _RequestError as error:
                response = refusal(error.status, str(error))
            except BadInputError as error:
                response = refusal(400, str(error))
            except NativeBertError as error:  # a text that is too long, or overflows the precision
                response = refusal(422, str(error))
            counts[path, response.status_code] += 1
            seconds[path] += time.perf_counter() - started  # type: ignore[assignment]
            return response

        return Route(path, handle, methods=["POST"])

    async def health(request: Request) -> Response:
        return answer({"status": "ok", "model": endpoints.model})

    async def models(request: Request) -> Response:
        return answer({"object": "list", "data": [{"id": endpoints.model, "object": "model", "owned_by": "nativebert"}]})

    async def metrics(request: Request) -> Response:
        lines = ["# TYPE nativebert_requests_total counter"]
        lines += [
            f'nativebert_requests_total{{path="{path}",status="{status}"}} {n}' for (path, status), n in sorted(counts.items())
        ]
        lines += ["# TYPE nativebert_request_seconds_total counter"]
        lines += [f'nativebert_request_seconds_total{{path="{path}"}} {total:.6f}' for path, total in sorted(seconds.items())]
        for name in ("batches", "texts"):
            lines += [f"# TYPE nativebert_{name}_total counter", f"nativebert_{name}_total {endpoints.batcher.counts[name]}"]
        return PlainTextResponse("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        known = ", ".join([*endpoints.paths, "/v1/models", "/health", "/metrics"])
        message = {
            404: f"there is no {request.url.path}: use {known}",
            405: f"{request.url.path} takes no {request.method} requests",
        }
        return refusal(error.status_code, message.get(error.status_code, str(error.detail)))

    @asynccontextmanager
    async def working(_: Any) -> AsyncIterator[None]:
        worker = asyncio.create_task(endpoints.batcher.run())
        yield
        worker.cancel()

    own = [endpoint(path, respond) for path, respond in endpoints.paths.items()]
    others = [Route("/health", health), Route("/metrics", metrics), Route("/v1/models", models)]
    return Starlette(routes=[*own, *others], lifespan=working, exception_handlers={HTTPException: http_error})


def serve(task: Task, *, host: str = "127.0.0.1", port: int = 8000, **options: Any) -> None:
    """Serve a task until the process is told to stop (SIGINT, SIGTERM): then requests that were begun are finished.

    Args:
        task: what is served.
        host, port: where to listen; ``"0.0.0.0"`` for requests from other machines.
        **options: as of :func:`app`.

    Raises:
        BadInputError, NativeBertError: as of :func:`app`.
    """
    application = app(task, **options)
    try:
        import uvicorn
    except ImportError as error:
        raise NativeBertError(f"{_MISSING} ({error})") from None
    uvicorn.run(application, host=host, port=port, log_level="warning", timeout_graceful_shutdown=30)
