"""What a job will take, before it is begun: rows, tokens, what is cut, batches, memory, time."""

from __future__ import annotations

import random
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nativebert.errors import BadInputError
from nativebert.io.table_writer import is_vector
from nativebert.io.tables import TableReader
from nativebert.jobs.columns import ResultColumns
from nativebert.jobs.rows import SHARD_BYTES, SHARD_ROWS, shards
from nativebert.tasks.embed import Embedder
from nativebert.tasks.options import ReportOptions
from nativebert.text.batching import batches_by_length
from nativebert.text.window import windows

_CALIBRATION = 4096  # texts, at the most
_ROUNDS = 3
_SECONDS = 10.0  # that calibration may take


@dataclass(frozen=True)
class Plan:
    """What a job will take.

    Attributes:
        rows: of the table.
        empty, rejected: rows without a result: an empty text, or none that can be read.
        tokens: for each row with a text its tokens, special ones included, before anything is cut.
        limit: most tokens of a sequence.
        cut_rows, cut: rows over the limit, and the tokens of theirs that are left out.
        windowed, windows: or the rows that are read in several windows, and how many windows these are.
        batches: of the whole job.
        shards: files of the output.
        memory: bytes that the job's process needs, about: what this one, with the model, held so far, and two shards of text and results.
        output: bytes of the results, uncompressed.
        seconds: that the job will take, from a short calibration on this machine as it is now.
        tokens_per_second: measured in it.
    """

    rows: int
    empty: int
    rejected: int
    tokens: NDArray[np.int64]
    limit: int
    cut_rows: int
    cut: int
    windowed: int
    windows: int
    batches: int
    shards: int
    memory: int
    output: int
    seconds: float
    tokens_per_second: float


def plan(reader: TableReader, results: ResultColumns, *, shard_rows: int = SHARD_ROWS) -> Plan:
    """Tokenise a table, compute a random sample of it, and reckon what all of it takes.

    Args:
        reader: the table, which can be read again.
        results: the task, and the arguments of its calls.
        shard_rows: rows of a file of the output.

    Raises:
        BadInputError: no texts, or a table that can be read only once.
    """
    if reader.once:
        raise BadInputError(f"{reader.name} can be read only once: save it to a file to plan a job over it")
    task, call = results.task, results.call
    own_options: ReportOptions = {
        name: call[name] for name in ("max_tokens", "too_long", "stride", "batch_tokens") if name in call
    }  # type: ignore[assignment]
    options = task.options.changed(own_options)
    prompt = task.prompt_text(call.get("prompt"), call.get("prompt_name")) if isinstance(task, Embedder) else ""
    rows = empty = rejected = files = batches = size = 0
    lengths: list[NDArray[np.int64]] = []
    draw, sample, seen = random.Random(0), list[Any](), 0
    started = time.perf_counter()
    for shard in shards(reader, shard_rows):
        rows, empty, rejected, files = rows + len(shard.items), empty + shard.empty, rejected + len(shard.rejects), files + 1
        size = max(size, shard.size)
        items = [results.beside(item) for item in shard.items if item is not None]
        texts = [prompt + item for item in items] if prompt else items
        own = np.array([len(ids) for ids in task.tokenizer.ids_batch(texts).ids], np.int64)
        lengths.append(own)
        batches += len(batches_by_length(np.minimum(own, options.max_tokens), options.batch_tokens))
        for item in (item for item in shard.items if item is not None):  # each with the same chance, however many there are
            seen += 1
            if len(sample) < _CALIBRATION:
                sample.append(item)
            elif (at := draw.randrange(seen)) < _CALIBRATION:
                sample[at] = item
    reading = time.perf_counter() - started
    tokens = np.concatenate(lengths) if lengths else np.zeros(0, np.int64)
    if not len(tokens):
        raise BadInputError(f"{reader.name} contains no texts")
    long = tokens[tokens > options.max_tokens]
    room = options.max_tokens - options.special_tokens
    sliding = options.too_long == "window"
    count = (
        sum(len(windows(length - options.special_tokens, room, options.stride)) for length in long.tolist()) if sliding else 0
    )
    rate = _calibrated(results, sample, draw)
    read = tokens.sum() if sliding else np.minimum(tokens, options.max_tokens).sum()
    width = sum(_bytes_of(kind) for kind in results.schema.types)
    return Plan(
        rows, empty, rejected, tokens, options.max_tokens,
        0 if sliding else len(long), 0 if sliding else int((long - options.max_tokens).sum()), len(long) if sliding else 0, count,
        batches, files, memory=_held() + 2 * (min(size, SHARD_BYTES) * 4 + min(rows, shard_rows) * width), output=rows * width,
        seconds=float(read / rate + reading * 0.5), tokens_per_second=float(rate),
    )  # fmt: skip


def _calibrated(results: ResultColumns, sample: list[Any], draw: random.Random) -> float:
    """Tokens a second on a sample; the median of some rounds, the first of which only warms up."""
    draw.shuffle(sample)
    started, rates, share = time.perf_counter(), list[float](), max(1, len(sample) // 8)
    results(sample[:share])
    part = max(1, len(sample) // _ROUNDS)
    for at in range(0, part * _ROUNDS, part):
        begun = time.perf_counter()
        done = results(sample[at : at + part])
        rates.append(done.tokens.sum() / (time.perf_counter() - begun))
        if time.perf_counter() - started > _SECONDS:
            break
    return float(np.median(rates))


def _bytes_of(kind: Any) -> int:
    if is_vector(kind):
        return int(kind.list_size * kind.value_type.bit_width // 8)
    try:
        return int(kind.bit_width // 8)
    except ValueError:
        return 32  # a label, or a few entities


def _held() -> int:
    """Bytes that this process, which has the model and computed with it, held at the most."""
    try:
        import resource
    except ImportError:  # not on Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def histogram(tokens: NDArray[np.int64], limit: int, bars: int = 12, width: int = 40) -> list[str]:
    """Lines that draw how many rows have how many tokens; what is over the limit has a bar of its own."""
    within, over = tokens[tokens <= limit], int((tokens > limit).sum())
    top = int(within.max(initial=1))
    step = max(1, -(-top // bars))
    counts = np.bincount((np.maximum(within, 1) - 1) // step, minlength=-(-top // step))
    named = [(f"{n * step + 1}-{min((n + 1) * step, top)}", int(count)) for n, count in enumerate(counts)]
    if over:
        named.append((f"over {limit}", over))
    most = max(count for _, count in named)
    wide = max(len(name) for name, _ in named)
    digits = len(f"{most:,}")
    return [f"{name:>{wide}}  {count:>{digits},}  {'█' * round(count / most * width)}".rstrip() for name, count in named]
