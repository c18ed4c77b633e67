"""Settings of every test: how many threads torch has where several processes share the tests, and ids that are the same in each of them."""

import os
import re
from collections.abc import Iterator

if (
    "PYTEST_XDIST_WORKER" in os.environ
):  # one thread a process, in the processes that tests start as well; before torch is imported
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["OMP_WAIT_POLICY"] = (
        "passive"  # where a test has two threads after all, they do not wait for each other by computing
    )

import pytest
from hub_server import hub as hub  # the fixture: a stand-in for the Hub, and an empty HF_HOME

_ADDRESS = re.compile(r"\bat 0x[0-9a-f]{6,}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _ADDRESS.search(item.nodeid):
            raise pytest.UsageError(
                f"{item.nodeid}: the id holds a memory address, another in each process; name the parameter: ids=[...]"
            )


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """``datasets.map(num_proc=...)`` puts a copy in the place of ``os.environ``, and rich would go on reading the old one."""
    kept = os.environ
    yield
    os.environ = kept  # noqa: B003
