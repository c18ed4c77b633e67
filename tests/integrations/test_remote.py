"""Tables on S3, through pyarrow.fs: a server on this machine stands in for it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import minilm

pa = pytest.importorskip("pyarrow", reason="tables need pyarrow (extra tables)")
import pyarrow.csv  # noqa: E402
import pyarrow.fs  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

import nativebert as nb  # noqa: E402
from nativebert.errors import BadInputError, NotFoundError, RefusedError  # noqa: E402
from nativebert.io.tables import open_table  # noqa: E402

TEXTS = [f"text number {n} of a table" for n in range(30)]


class Store:
    """A bucket: ``uri(path)`` names a file or folder in it."""

    def __init__(self, scheme: str, bucket: str, query: str) -> None:
        self._before, self._query = f"{scheme}://{bucket}", query
        self.files, self.bucket = pyarrow.fs.FileSystem.from_uri(self.uri(""))

    def uri(self, path: str) -> str:
        return f"{self._before}/{path}?{self._query}"

    def put(self, path: str, texts: list[str], first: int) -> None:
        table = pa.table({"id": list(range(first, first + len(texts))), "text": texts})
        with self.files.open_output_stream(f"{self.bucket}/{path}", compression="detect") as file:
            (pq.write_table if path.endswith(".parquet") else pyarrow.csv.write_csv)(table, file)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    server = pytest.importorskip("moto.server", reason="a stand-in for S3 needs moto (pip install 'moto[server]')")
    if not hasattr(pyarrow.fs, "S3FileSystem"):
        pytest.skip("this pyarrow has no S3")
    for name, value in (("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "b"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    port = moto.get_host_and_port()[1]
    yield _filled(Store("s3", "bucket", f"scheme=http&endpoint_override=127.0.0.1:{port}&allow_bucket_creation=true"))
    moto.stop()


def _filled(store: Store) -> Store:
    store.files.create_dir("bucket")
    store.put("tables/a.parquet", TEXTS[:10], 0)
    store.put("tables/b.parquet", TEXTS[10:], 10)
    store.put("tables/_left_out.parquet", ["no"], 99)
    store.put("logs/one.csv.gz", TEXTS, 0)
    return store


def test_tables_of_a_bucket(store: Store) -> None:
    def ids(path: str) -> list[Any]:
        return [value for block in open_table(store.uri(path)) for value in block.batch.column("id").to_pylist()]

    assert ids("tables") == list(range(30))
    assert ids("tables/b.parquet") == list(range(10, 30))
    assert ids("tables/*.parquet") == [99, *range(30)]
    assert ids("logs/one.csv.gz") == [str(n) for n in range(30)]
    with pytest.raises(NotFoundError, match=r"none.parquet.* does not exist"):
        open_table(store.uri("none.parquet"))
    with pytest.raises(BadInputError, match="no column 'txt'"):
        open_table(store.uri("tables"), {"--column": "txt"})


def test_a_job_over_a_bucket_goes_on(store: Store, tmp_path: Path) -> None:
    embed = nb.Embedder(minilm())

    def stop(event: Any) -> None:
        if event["event"] == "shard" and event["shard"] == 0:
            raise KeyboardInterrupt

    job = nb.Job(embed, store.uri("tables"), tmp_path / "out", shard_rows=8)
    with pytest.raises(KeyboardInterrupt):
        job.run(log=stop)
    assert nb.Job(embed, store.uri("tables"), tmp_path / "out", shard_rows=8).run(resume=True).computed < 30
    table = pq.read_table(tmp_path / "out")
    assert table["id"].to_pylist() == list(range(30))
    assert np.array_equal(np.array(table["embedding"].to_pylist(), np.float32), embed(TEXTS))
    store.put("tables/b.parquet", [*TEXTS[10:29], "another"], 10)
    with pytest.raises(RefusedError, match="input has changed since"):
        nb.Job(embed, store.uri("tables"), tmp_path / "out", shard_rows=8).run(resume=True)
