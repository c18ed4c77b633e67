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
from nativebert.tasks.base import Task
from nativebert.tasks.embed import Embedder
from nativebert.tasks.options import Options, ReportOptions
from nativebert.text.batching import batches_by_length
from nativebert.text.window import windows

_CALIBRATION = 8192  # texts, at the most
_BLOCKS, _BLOCK_BATCHES = 16, 2  # the sample in so many blocks, each of so many full batches at the least
_SHORTEST, _LONGEST = 4.0, 15.0  # seconds that calibration takes


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
        seconds: that the job will take, from a short calibration on this machine as it is now; without loading the model.
        fastest, slowest: the same by the fastest and the slowest tenth of the calibration: how steady the machine is.
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
    fastest: float
    slowest: float
    tokens_per_second: float


def plan(reader: TableReader, results: ResultColumns, *, shard_rows: int = SHARD_ROWS) -> Plan:
    """Tokenise a table, compute a random sample of it, and reckon what all of it takes.

    The sample is cut into blocks of the same mixture of lengths: sorted by tokens, each block takes every so-manieth text. Each is computed as a job computes
    its rows, in batches by length, after one that only warms up; a token of a long text takes longer than one of a short text, and so every block stands for
    the table. Reading, which a job does once before the work and once during it, is timed on the way.

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
    draw, sample, seen = random.Random(0), list[tuple[int, Any]](), 0
    reading, count, sliding = 0.0, 0, options.too_long == "window"
    source = shards(reader, shard_rows)
    while True:
        started = time.perf_counter()
        shard = next(source, None)
        reading += time.perf_counter() - started
        if shard is None:
            break
        rows, empty, rejected, files = rows + len(shard.items), empty + shard.empty, rejected + len(shard.rejects), files + 1
        size = max(size, shard.size)
        items = [results.beside(item) for item in shard.items if item is not None]
        texts = [prompt + item for item in items] if prompt else items
        own = np.array([len(ids) for ids in task.tokenizer.ids_batch(texts).ids], np.int64)
        lengths.append(own)
        if sliding:
            count += _windows(task, options, items, own)
        batches += len(batches_by_length(np.minimum(own, options.max_tokens), options.batch_tokens))
        there = (item for item in shard.items if item is not None)
        for item, length in zip(there, own.tolist()):  # each with the same chance, however many there are
            seen += 1
            if len(sample) < _CALIBRATION:
                sample.append((length, item))
            elif (at := draw.randrange(seen)) < _CALIBRATION:
                sample[at] = (length, item)
    tokens = np.concatenate(lengths) if lengths else np.zeros(0, np.int64)
    if not len(tokens):
        raise BadInputError(f"{reader.name} contains no texts")
    long = tokens[tokens > options.max_tokens]
    read = int(tokens.sum() if sliding else np.minimum(tokens, options.max_tokens).sum())
    paces = _calibrated(results, sample, options.batch_tokens, read)
    width = sum(_bytes_of(kind) for kind in results.schema.types)
    seconds, fastest, slowest = (float(read * pace + reading) for pace in paces)
    return Plan(
        rows, empty, rejected, tokens, options.max_tokens,
        0 if sliding else len(long), 0 if sliding else int((long - options.max_tokens).sum()), len(long) if sliding else 0, count,
        batches, files, memory=_held() + 2 * (min(size, SHARD_BYTES) * 4 + min(rows, shard_rows) * width), output=rows * width,
        seconds=seconds, fastest=fastest, slowest=slowest, tokens_per_second=1 / paces[0],
    )  # fmt: skip


def _windows(task: Task, options: Options, items: list[Any], lengths: NDArray[np.int64]) -> int:
    """How many windows the texts over the limit are read in; the first text of a pair stands in each."""
    long = np.flatnonzero(lengths > options.max_tokens).tolist()
    fixed = [options.special_tokens] * len(long)
    if long and isinstance(items[0], tuple):
        firsts = task.tokenizer.ids_batch([items[n][0] for n in long], special_tokens=False).ids
        fixed = [task.tokenizer.n_special(pair=True) + len(ids) for ids in firsts]
    return sum(
        len(windows(int(lengths[n]) - own, max(1, options.max_tokens - own), options.stride)) for n, own in zip(long, fixed)
    )


def _calibrated(
    results: ResultColumns, sample: list[tuple[int, Any]], batch_tokens: int, read: int
) -> tuple[float, float, float]:
    """Seconds a token on a sample of ``(tokens, text)``: in all, and of its fastest and slowest tenth. Takes no longer than the job of ``read`` tokens."""
    ordered = sorted(sample, key=lambda one: one[0])
    held = sum(length for length, _ in ordered)
    count = max(1, min(_BLOCKS, held // (_BLOCK_BATCHES * batch_tokens), len(ordered)))
    blocks = [[item for _, item in ordered[n::count]] for n in range(count)]
    results(blocks[0])
    started, seconds, tokens = time.perf_counter(), list[float](), list[int]()
    while True:
        for block in blocks:
            begun = time.perf_counter()
            done = results(block)
            seconds.append(time.perf_counter() - begun)
            tokens.append(max(1, int(done.tokens.sum())))
            if (spent := time.perf_counter() - started) > _LONGEST:
                break
        if spent > min(_SHORTEST, read * sum(seconds) / sum(tokens)):
            break
    pace = np.array(seconds) / np.array(tokens)
    fast, slow = np.quantile(pace, (0.1, 0.9))
    return sum(seconds) / sum(tokens), float(fast), float(slow)


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
