"""The server: what clients get are the bits of a text alone, and what is wrong with a request is told in a sentence."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_server import HubServer
from models import texts as random_texts

uvicorn = pytest.importorskip("uvicorn", reason="the server needs uvicorn (extra serve)")
pytest.importorskip("starlette", reason="the server needs starlette (extra serve)")
from test_cli_tasks import models as models  # noqa: E402

import nativebert as nb  # noqa: E402
from nativebert.errors import BadInputError  # noqa: E402
from nativebert.serve import app  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::nativebert.errors.Truncated")
TEXTS = ["the cat sat", "a dog", "the cat sat on the mat"]


@contextmanager
def served(task: Any, **options: Any) -> Iterator[int]:
    """The port of a server in a thread."""
    server = uvicorn.Server(uvicorn.Config(app(task, model="tiny", **options), port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


def ask(port: int, path: str, body: Any = None, method: str | None = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    connection.request(method or ("GET" if body is None else "POST"), path, data)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, json.loads(content) if response.headers["content-type"] == "application/json" else content.decode()


@pytest.fixture(scope="module")
def embed(models: Path) -> nb.Embedder:
    return nb.Embedder(models / "embed")


@pytest.fixture(scope="module")
def port(embed: nb.Embedder) -> Iterator[int]:
    with served(embed, max_body=100_000) as number:
        yield number


def test_embeddings(port: int, embed: nb.Embedder) -> None:
    status, answer = ask(port, "/v1/embeddings", {"model": "any", "input": TEXTS})
    assert (status, answer["model"], answer["object"]) == (200, "tiny", "list")
    assert [row["index"] for row in answer["data"]] == [0, 1, 2]
    assert np.array_equal(np.array([row["embedding"] for row in answer["data"]], np.float32), embed(TEXTS))
    assert answer["usage"]["total_tokens"] == int(embed(TEXTS, return_report=True)[1].tokens.sum())
    assert ask(port, "/health") == (200, {"status": "ok", "model": "tiny"})
    assert ask(port, "/v1/models")[1]["data"][0]["id"] == "tiny"
    assert 'nativebert_requests_total{path="/v1/embeddings",status="200"}' in ask(port, "/metrics")[1]


def test_the_official_client(port: int, embed: nb.Embedder) -> None:
    openai = pytest.importorskip("openai", reason="the client of OpenAI is not installed")
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none")
    for how in ({}, {"encoding_format": "float"}):  # it asks for base64 where nothing is said
        data = client.embeddings.create(model="tiny", input=TEXTS, **how).data
        assert np.array_equal(np.array([row.embedding for row in data], np.float32), embed(TEXTS))
    with pytest.raises(openai.BadRequestError, match="must be a text or a list of texts"):
        client.embeddings.create(model="tiny", input=[])


def test_64_clients_get_the_bits_of_a_text_alone(embed: nb.Embedder) -> None:
    texts = [text or "the" for text in random_texts(640, 20)]
    alone = {text: embed(text)[0] for text in set(texts)}

    def client(n: int) -> int:
        same = 0
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for text in texts[n::64]:
            connection.request("POST", "/v1/embeddings", json.dumps({"input": text}))
            row = json.loads(connection.getresponse().read())["data"][0]["embedding"]
            same += np.array_equal(np.array(row, np.float32), alone[text])
        connection.close()
        return same

    with served(embed) as port:
        with ThreadPoolExecutor(64) as clients:
            assert sum(clients.map(client, range(64))) == 640
        batches = next(line for line in ask(port, "/metrics")[1].splitlines() if line.startswith("nativebert_batches_total"))
        assert int(batches.split()[1]) < 320  # they were computed together


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{", 400, "the body is not JSON"),
        ([1], 400, "the body must be a JSON object"),
        ({}, 400, "the body has no 'input': send a text, or a list of texts"),
        ({"input": []}, 400, "'input' must be a text or a list of texts"),
        ({"input": ["a", 5]}, 400, "must be a text or a list of texts"),
        ({"input": [[1, 2]]}, 400, "token ids"),
        ({"input": "a", "encoding_format": "x"}, 400, "'encoding_format' must be 'float' or 'base64'"),
        ({"input": "a", "dimensions": 8}, 400, "served with 32 dimensions, not 8"),
        ({"input": "a", "prompt_name": "x"}, 400, "no prompt named 'x'"),
        ({"input": ["a"] * 2049}, 400, "2,049 texts, and a request at most 2,048"),
        ({"input": "a " * 60_000}, 413, "the body has more than 100,000 bytes"),
        (b'{"input": "\\ud83d"}', 400, "text 0 is not valid Unicode"),
    ],
)
def test_bad_requests(body: Any, status: int, message: str, port: int) -> None:
    code, answer = ask(port, "/v1/embeddings", body)
    assert (code, answer["error"]["code"]) == (status, status)
    assert message in answer["error"]["message"]


def test_bad_paths(port: int) -> None:
    assert "there is no /v1/chat: use /v1/embeddings" in ask(port, "/v1/chat", {})[1]["error"]["message"]
    assert ask(port, "/v1/embeddings")[0] == 405


def test_one_text_that_is_too_long_is_no_others_fault(models: Path) -> None:
    strict = nb.Embedder(models / "embed", too_long="error")
    with served(strict) as port, ThreadPoolExecutor(8) as clients:
        sent = [{"input": "the cat " * 60 if n % 4 == 0 else TEXTS[n % 3]} for n in range(32)]
        answers = list(clients.map(lambda body: ask(port, "/v1/embeddings", body), sent))
    assert [status for status, _ in answers] == [422 if n % 4 == 0 else 200 for n in range(32)]
    assert "the limit is 40" in answers[0][1]["error"]["message"]


def test_too_many_wait(embed: nb.Embedder) -> None:
    with served(embed, most_waiting=4) as port, ThreadPoolExecutor(16) as clients:
        answers = list(clients.map(lambda n: ask(port, "/v1/embeddings", {"input": ["the cat sat on the mat"] * 3}), range(64)))
    statuses = {status for status, _ in answers}
    assert statuses == {200, 503}
    assert all("send the request again" in answer["error"]["message"] for status, answer in answers if status == 503)


def test_the_other_tasks(models: Path) -> None:
    rank = nb.Ranker(models / "rank")
    with served(rank) as port:
        _, answer = ask(port, "/rerank", {"query": "cat", "documents": TEXTS, "top_n": 2, "return_documents": True})
        scores = rank([("cat", text) for text in TEXTS])
        best = np.argsort(-scores, kind="stable")[:2].tolist()
        assert [(row["index"], row["relevance_score"], row["document"]["text"]) for row in answer["results"]] == [
            (n, float(scores[n]), TEXTS[n]) for n in best
        ]
        assert ask(port, "/rerank", {"documents": TEXTS})[1]["error"]["message"] == "'query' must be a text"
    classify = nb.Classifier(models / "classify")
    with served(classify) as port:
        assert ask(port, "/classify", {"input": TEXTS})[1]["data"] == [
            {"index": n, **one} for n, one in enumerate(classify(TEXTS))
        ]
        assert ask(port, "/classify", {"input": TEXTS[0], "top_k": 2})[1]["data"][0]["labels"] == classify(TEXTS[0], top_k=2)[0]
        with ThreadPoolExecutor(16) as clients:  # requests with other options are computed apart
            bodies = [{"input": TEXTS[0], "top_k": n % 3 + 1} for n in range(48)]
            answers = list(clients.map(lambda body: ask(port, "/classify", body)[1]["data"][0], bodies))
        assert all(len(answer.get("labels", [0])) == body["top_k"] for answer, body in zip(answers, bodies))
    tag = nb.Tagger(models / "tag")
    with served(tag) as port:
        assert ask(port, "/tag", {"input": TEXTS})[1]["data"] == [
            {"index": n, "entities": one} for n, one in enumerate(tag(TEXTS))
        ]
    with pytest.raises(BadInputError, match="MaskFiller is not served"):
        app(nb.MaskFiller(models / "fill"))


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_the_command_stops_gracefully(models: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    command = [sys.executable, "-m", "nativebert", "serve", str(models / "rank"), "--port", str(number), "--name", "r"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        for _ in range(600):
            try:
                assert ask(number, "/health")[1]["model"] == "r"
                break
            except OSError:
                time.sleep(0.1)
        assert len(ask(number, "/rerank", {"query": "cat", "documents": TEXTS})[1]["results"]) == 3
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
        assert "(rank) at http://127.0.0.1" in said
        assert "Traceback" not in said
    finally:
        process.kill()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="an image of Linux")
@pytest.mark.parametrize("kind", ["embed", "rank"])
def test_the_image_has_its_model_and_needs_no_network(kind: str, models: Path, tmp_path: Path) -> None:
    """What examples/serve/Dockerfile runs when it is built, and when the container starts."""
    recipe = (Path(__file__).parents[2] / "examples" / "serve" / "Dockerfile").read_text("utf-8")
    build, start = re.search(r"^RUN (python -c .*?) && chmod", recipe, re.M), re.search(r"^CMD exec (.*)", recipe, re.M)
    assert build is not None
    assert start is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    env = {
        name: value for name, value in os.environ.items() if not name.startswith("HF_")
    } | {"HF_HOME": str(tmp_path / "model"), "MODEL": f"example/{kind}", "PYTHONPATH": str(Path(__file__).parents[2])}  # fmt: skip
    with HubServer() as hub:
        hub.add(
            f"example/{kind}",
            {p.relative_to(models / kind).as_posix(): p.read_bytes() for p in (models / kind).rglob("*.*") if p.is_file()},
        )
        subprocess.run(
            build[1].replace("python", sys.executable, 1), shell=True, check=True, env={**env, "HF_ENDPOINT": hub.url}
        )
    command = start[1].replace("nativebert", f"{sys.executable} -m nativebert", 1) + f" --port {number}"
    process = subprocess.Popen(f"exec {command}", shell=True, env={**env, "HF_HUB_OFFLINE": "1"}, stderr=subprocess.PIPE)
    try:
        for _ in range(600):
            try:
                assert ask(number, "/health")[1]["model"] == f"example/{kind}"
                break
            except OSError:
                assert process.poll() is None, process.communicate()[1]
                time.sleep(0.1)
        path, body = {"embed": ("/v1/embeddings", {"input": TEXTS}), "rank": ("/rerank", {"query": "a", "documents": TEXTS})}[
            kind
        ]
        assert ask(number, path, body)[0] == 200
        process.send_signal(signal.SIGTERM)  # the shell is gone: the server gets it
        process.communicate(timeout=30)
    finally:
        process.kill()
