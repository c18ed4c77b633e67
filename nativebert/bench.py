"""Speed of a model on this machine. Loading, texts a second, the wait for one text, and how much of the machine is used.

Speeds drift while a machine works, so the contenders take turns, in another order in each round, and only ratios within a round count.
"""

from __future__ import annotations

import os
import platform
import random
import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from nativebert import __version__, kernels
from nativebert.checks import at_least
from nativebert.config import EncoderConfig
from nativebert.engine import PRECISIONS, choose_device, precision_name
from nativebert.errors import BadInputError, NativeBertWarning, heard
from nativebert.hub import Snapshot
from nativebert.loading import open_snapshot
from nativebert.tasks.call import as_list
from nativebert.tasks.embed import Embedder, Vectors
from nativebert.text.batching import batches_by_length
from nativebert.text.tokenizer import Tokenizer

WORDS = (
    "the a of and in to was on with for that were from their about before under between river stone winter bread letter window "
    "market garden doctor engine summer village paper mountain evening ship school question story answer machine light water road "
    "carried found opened closed asked told walked waited small heavy quiet early broken open late narrow bright often never again"
).split()

COUNT, TOKENS = 256, 8192  # most texts, and about the most tokens, of the mixed texts
SHORT = 16  # tokens of the one short text
BLOCKS = ((32, 128), (8, 512))  # texts, and tokens of each
CALLS = 20  # of the one short text, in each round
PRODUCT = "product"  # what takes its turn like a contender, to say how fast the machine is just then
PRODUCTS = 12  # of which the fastest is the peak of the round: short ones, so that at least one is not disturbed
SIDE = {"cpu": 1024}  # of their square matrices
LARGE_SIDE = 4096  # the same for GPUs

Rounds = dict[str, dict[str, list[list[float]]]]
"""Work -> contender -> for each round, the seconds of each call."""


class Contender(Protocol):
    """A way to do the work.

    Attributes:
        name: in the table.
        about: what a reader should know of its settings; "" for nothing.
    """

    name: str

    @property
    def about(self) -> str: ...

    def load(self, text: str) -> object:
        """Load the model from its files and embed one text."""

    def vectors(self, texts: list[str]) -> Callable[[], Vectors]:
        """A run over these texts, at its best setting: float32 ``(n, dimension)``, on the CPU."""

    def states(self, rows: list[list[int]]) -> Callable[[], object]:
        """A run over rows of token ids to the last hidden states of every token, done when it returns."""


Make = Callable[[Path, torch.device, int], Contender]
"""A contender from the model's folder, the device and the most tokens of a text."""


class Turn(NamedTuple):
    """One contender's turn: ``run``, timed each of ``calls`` times."""

    run: Callable[[], object]
    calls: int = 1


class Work(NamedTuple):
    """One workload.

    Attributes:
        key: for programs.
        title: for people.
        texts, tokens: of one call.
        gflop: of one call, by :func:`gflop`.
        against_peak: whether the matrix product takes its turn too.
    """

    key: str
    title: str
    texts: int
    tokens: int
    gflop: float
    against_peak: bool


@dataclass(frozen=True)
class Figure:
    """One contender at one work.

    Attributes:
        work: which.
        name: the contender's.
        rounds: for each round, the seconds of each call.
        peak: for each round, the GFLOP/s of a large matrix product in float32; empty for work that is not compared with it.
        base: the seconds of the contender that the others are compared with, for each round; empty for that one itself.
    """

    work: Work
    name: str
    rounds: tuple[tuple[float, ...], ...]
    peak: tuple[float, ...] = ()
    base: tuple[float, ...] = ()

    @property
    def seconds(self) -> tuple[float, ...]:
        """Seconds of one call, for each round."""
        return tuple(statistics.median(calls) for calls in self.rounds)

    @property
    def texts_per_second(self) -> tuple[float, ...]:
        """For each round."""
        return tuple(self.work.texts / s for s in self.seconds)

    @property
    def tokens_per_second(self) -> tuple[float, ...]:
        """For each round."""
        return tuple(self.work.tokens / s for s in self.seconds)

    @property
    def slow(self) -> float:
        """The seconds within which nine calls in ten are done, over all rounds."""
        return float(np.quantile([s for calls in self.rounds for s in calls], 0.9))

    @property
    def share(self) -> tuple[float, ...]:
        """Share of the peak that matrix products and attention reach, for each round."""
        return tuple(self.work.gflop / s / peak for s, peak in zip(self.seconds, self.peak))

    @property
    def ratio(self) -> tuple[float, ...]:
        """Speed relative to the base, for each round."""
        return tuple(base / s for s, base in zip(self.seconds, self.base))

    def as_dict(self) -> dict[str, Any]:
        """All fields, for JSON; missing values are null."""
        return {
            "work": self.work.key,
            "contender": self.name,
            "texts": self.work.texts,
            "tokens": self.work.tokens,
            "gflop": self.work.gflop,
            "rounds": [list(calls) for calls in self.rounds],
            "seconds": spread(self.seconds),
            "seconds_90": self.slow if len(self.rounds[0]) > 1 else None,
            "texts_per_second": spread(self.texts_per_second),
            "tokens_per_second": spread(self.tokens_per_second),
            "share_of_peak": spread(self.share),
            "times_as_fast": spread(self.ratio),
        }


class Cosine(NamedTuple):
    """Cosines of a contender's vectors to those of float32, over the mixed texts: their mean, and the least."""

    mean: float
    least: float


@dataclass(frozen=True)
class Report:
    """The result of :func:`measure`.

    Attributes:
        figures: of each work and contender, in the order of the table.
        cosines: contender -> how near its vectors are to those of float32.
        peak: GFLOP/s of a large matrix product in float32, each time it was measured.
        base: the contender that the others are compared with; "" where there is only one.
        facts: model, device, threads, kernels, versions, texts.
    """

    figures: tuple[Figure, ...]
    cosines: dict[str, Cosine]
    peak: tuple[float, ...]
    base: str
    facts: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """All fields, for JSON. Rates and seconds are ``{"median": ..., "least": ..., "most": ...}`` over the rounds."""
        return {
            "facts": self.facts,
            "peak_gflop_per_second": spread(self.peak),
            "times_as_fast_as": self.base or None,
            "figures": [figure.as_dict() for figure in self.figures],
            "cosines": {name: cosine._asdict() for name, cosine in self.cosines.items()},
        }


def spread(values: Sequence[float]) -> dict[str, float] | None:
    """The median of the rounds, the least and the most; None of nothing."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values)} if values else None


def gflop(config: EncoderConfig, lengths: Iterable[int]) -> float:
    """Work of the layers' matrix products and attention for sequences of these lengths, in 10^9 multiplications and additions.

    Embeddings, norms, activations and softmax are not counted; in layers with a window, only what a token sees.
    """
    lengths = list(lengths)
    H, T, total = config.width, sum(lengths), 0
    for layer in config.layers:
        total += 2 * T * (4 * H * H + (3 if config.gated else 2) * H * layer.intermediate_size)
        total += 4 * H * sum(_seen(length, layer.window) for length in lengths)
    return total / 1e9


def _seen(length: int, window: int | None) -> int:
    """Pairs of tokens of a sequence of which one sees the other."""
    far = max(length - 1, 0) if window is None else min(window, max(length - 1, 0))
    return length + 2 * far * length - far * (far + 1)


def sentences(count: int, seed: int) -> list[str]:
    """Made-up texts of 3 to 40 words, most of them short."""
    r = random.Random(seed)
    return [" ".join(r.choices(WORDS, k=min(40, 3 + int(r.expovariate(1 / 9))))) for _ in range(count)]


def interleave(turns: Mapping[str, Mapping[str, Turn]], rounds: int, seed: int, done: Callable[[], object] = int) -> Rounds:
    """Time everything in rounds, after one that is not counted.

    Args:
        turns: work -> contender -> what it does. Within a round the contenders follow each other at each work, so that what is compared
            is near in time, in an order that is drawn again.
        rounds: that are counted.
        seed: of the orders.
        done: called after each turn.

    Returns:
        Work -> contender -> for each round, the seconds of each call.
    """
    r = random.Random(seed)
    seconds: Rounds = {work: {name: [] for name in of_work} for work, of_work in turns.items()}
    for number in range(1 + rounds):
        for work, of_work in turns.items():
            for name in r.sample(list(of_work), len(of_work)):
                took = [_seconds(of_work[name].run) for _ in range(of_work[name].calls)]
                if number:
                    seconds[work][name].append(took)
                done()
    return seconds


def _seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def measure(
    model: str | PathLike[str] | Snapshot,
    *,
    device: str = "auto",
    precisions: Sequence[str] | None = None,
    threads: int | None = None,
    rounds: int = 5,
    texts: Sequence[str] | None = None,
    against: Make | None = None,
    seed: int = 0,
    revision: str | None = None,
    offline: bool | None = None,
    progress: bool | None = None,
) -> Report:
    """Time a model's encoder, from texts to vectors and from token ids to hidden states.

    Loading is timed in this process, with its imports done and the files in the disk's cache. A prompt that the model's files name
    is left out.

    Args:
        model: a folder, a Hub id or a snapshot.
        device: as of :class:`~nativebert.tasks.embed.Embedder`.
        precisions: of :data:`nativebert.engine.PRECISIONS`, each a contender; None for float32 and, on the CPU, int8.
        threads: on the CPU, while this runs; None leaves torch's choice.
        rounds: that are counted; one more comes first and is not.
        texts: the mixed texts, of which at most 256 are drawn; None for made-up ones.
        against: makes one more contender, which the others are compared with; without it that is the first precision.
        seed: of the texts and of the order in which contenders take turns.
        revision, offline: as of :func:`nativebert.load`.
        progress: show a progress bar; None shows one on a terminal.

    Raises:
        BadInputError: an unknown device or precision, int8 elsewhere than on the CPU, or no texts.
        NativeBertError: the model cannot be had.
    """
    target = choose_device(device)
    wanted = _precisions(precisions, target)
    rounds, seed = at_least(1, "rounds", rounds), at_least(0, "seed", seed)
    threads = None if threads is None else at_least(1, "threads", threads)
    items = None if texts is None else as_list(texts)
    if items == []:
        raise BadInputError("texts is empty: pass at least one text, or None for generated texts")
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        snapshot = open_snapshot(model, revision=revision, offline=offline)
        return _measure(snapshot, target, wanted, rounds, items, against, seed, progress)
    finally:
        torch.set_num_threads(before)


def _precisions(precisions: Sequence[str] | None, device: torch.device) -> list[str]:
    if precisions is None:
        return ["float32", "int8"] if device.type == "cpu" else ["float32"]
    names = list(dict.fromkeys(as_list(precisions, "precisions")))
    if not names or any(name not in PRECISIONS for name in names):
        raise BadInputError(f"precisions must be one or more of {', '.join(PRECISIONS)}, not {precisions!r}")
    if "int8" in names and device.type != "cpu":
        raise BadInputError(
            f"precision='int8' is for the CPU, not for {device}; use 'float16' or 'bfloat16' there, or device='cpu'"
        )
    return names


class _Ours:
    """An :class:`Embedder` as a contender."""

    about = ""

    def __init__(self, snapshot: Snapshot, device: torch.device, precision: str) -> None:
        # a folder that says nothing of pooling holds a bare encoder, and the mean costs what any other pooling does
        pooling = None if snapshot.path("modules.json") else "mean"
        self.name = precision
        self._make = partial(Embedder, snapshot, device=str(device), precision=precision_name(precision), pooling=pooling)
        self.embedder = self._make()

    def load(self, text: str) -> object:
        return self._make()([text], prompt="", progress=False)

    def vectors(self, texts: list[str]) -> Callable[[], Vectors]:
        def run() -> Vectors:
            if len(texts) > 1:  # these stand for texts that are always new
                self.embedder.plan.clear_cache()
            vectors: Vectors = self.embedder(texts, prompt="", progress=False)
            return vectors

        return run

    def states(self, rows: list[list[int]]) -> Callable[[], object]:
        embedder, lengths = self.embedder, np.fromiter(map(len, rows), np.int64, len(rows))

        def run() -> None:
            for batch in batches_by_length(lengths, embedder.batch_tokens):
                embedder.plan.hidden(embedder.pack([rows[n] for n in batch]))
            wait(embedder.plan.device)

        return run


def wait(device: torch.device) -> None:
    """Wait until the device has finished: GPU calls return before that."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _product(device: torch.device) -> tuple[Callable[[], None], float]:
    """One large product of matrices in float32, and what it comes to in GFLOP."""
    n = SIDE.get(device.type, LARGE_SIDE)
    a, b, out = (torch.ones(n, n, device=device) for _ in range(3))

    def run() -> None:
        torch.mm(a, b, out=out)
        wait(device)

    return run, 2 * n**3 / 1e9


def _measure(
    snapshot: Snapshot,
    device: torch.device,
    precisions: list[str],
    rounds: int,
    texts: list[str] | None,
    against: Make | None,
    seed: int,
    progress: bool | None,
) -> Report:
    from tqdm.auto import tqdm

    ours = [_Ours(snapshot, device, precision) for precision in precisions]
    first = ours[0].embedder
    contenders: list[Contender] = [*ours]
    if against is not None:
        contenders.append(against(snapshot.encoder, device, first.max_tokens))
    mixed, about_texts = _mixed(texts, first, seed)
    short = _short(first.tokenizer, seed)
    with warnings.catch_warnings():
        # what they have to say was said when the model was first loaded, and what is cut stands among the facts
        warnings.simplefilter("ignore", NativeBertWarning)
        works, turns = _turns(contenders, first, mixed, short, seed)
        product, gflops = _product(device)
        for work in works:
            if work.against_peak:
                turns[work.key][PRODUCT] = Turn(product, PRODUCTS)
        total = (1 + rounds) * sum(map(len, turns.values()))
        shown = not heard() or (None if progress is None else not progress)
        with tqdm(total=total, unit="turn", desc="timing", leave=False, disable=shown) as bar:
            seconds = interleave(turns, rounds, seed, bar.update)
        cosines = _cosines(snapshot, device, ours, contenders, mixed)
    peaks = {work: tuple(gflops / min(calls) for calls in of_work.pop(PRODUCT, [])) for work, of_work in seconds.items()}
    base = contenders[-1].name if against is not None else contenders[0].name if len(contenders) > 1 else ""
    figures = []
    for work in works:
        times = {name: tuple(map(tuple, of_rounds)) for name, of_rounds in seconds[work.key].items()}
        to = Figure(work, base, times[base]).seconds if base else ()
        figures += [Figure(work, name, calls, peaks[work.key], () if name == base else to) for name, calls in times.items()]
    facts = _facts(snapshot, device, first, rounds, seed) | {"texts": about_texts}
    for contender in contenders:
        if contender.about:
            facts[contender.name] = contender.about
    peak = tuple(value for values in peaks.values() for value in values)
    return Report(tuple(figures), cosines, peak, base, facts)


def _turns(
    contenders: Sequence[Contender], first: Embedder, mixed: list[str], short: str, seed: int
) -> tuple[list[Work], dict[str, dict[str, Turn]]]:
    """Each workload, and each contender's turn at it."""
    config, tokenizer = first.encoder, first.tokenizer
    lengths = _lengths(first, mixed)
    (one,) = _lengths(first, [short])
    works = [
        Work("load", "loading", 1, one, gflop(config, [one]), False),
        Work("mixed", "mixed", len(mixed), sum(lengths), gflop(config, lengths), True),
        Work("one", "one text", 1, one, gflop(config, [one]), False),
    ]
    turns = {
        "load": {c.name: Turn(partial(c.load, short)) for c in contenders},
        "mixed": {c.name: Turn(c.vectors(mixed)) for c in contenders},
        "one": {c.name: Turn(c.vectors([short]), CALLS) for c in contenders},
    }
    for count, wanted in BLOCKS:
        length = min(wanted, config.max_tokens)
        rows = _rows(tokenizer, count, length, seed)
        title = f"{count} x {length}"
        works.append(Work(f"{count}x{wanted}", title, count, count * length, gflop(config, [length] * count), True))
        turns[works[-1].key] = {c.name: Turn(c.states(rows)) for c in contenders}
    return works, turns


def _mixed(texts: list[str] | None, embedder: Embedder, seed: int) -> tuple[list[str], str]:
    """The mixed texts, and a line about them. Of many, some are drawn: enough for a figure, few enough to wait for."""
    if texts is None:
        kept, source = sentences(COUNT, seed), "generated"
    else:
        sample = random.Random(seed).sample(texts, min(COUNT, len(texts)))
        filled = np.cumsum(_lengths(embedder, sample))
        kept = sample[: max(1, int(np.searchsorted(filled, TOKENS, side="right")))]
        source = "provided" if len(kept) == len(texts) else f"sampled from {len(texts):,}"
    full = [len(ids) for ids in embedder.tokenizer.ids_batch(kept).ids]
    long = sum(length > embedder.max_tokens for length in full)
    cut = f", {long:,} truncated to {embedder.max_tokens}" if long else ""
    return kept, f"{len(kept):,} {source}, {sum(_lengths(embedder, kept)):,} tokens{cut}"


def _lengths(embedder: Embedder, texts: list[str]) -> list[int]:
    """Tokens of each text that the model reads."""
    return [min(len(ids), embedder.max_tokens) for ids in embedder.tokenizer.ids_batch(texts).ids]


def _short(tokenizer: Tokenizer, seed: int) -> str:
    """A text of about 16 tokens."""
    r, text = random.Random(seed), ""
    while len(tokenizer.encode(longer := f"{text} {r.choice(WORDS)}".strip())) <= SHORT or not text:
        text = longer
    return text


def _rows(tokenizer: Tokenizer, count: int, length: int, seed: int) -> list[list[int]]:
    """Token ids of ``count`` texts of exactly ``length`` tokens: any order of tokens costs the same."""
    prefix, suffix = tokenizer.frame
    words = [token for ids in tokenizer.ids_batch(WORDS).ids for token in ids[len(prefix) : len(ids) - len(suffix)]]
    r = random.Random(seed)
    inside = max(length - len(prefix) - len(suffix), 0)
    return [[*prefix, *r.choices(words, k=inside), *suffix][:length] for _ in range(count)]


def _cosines(
    snapshot: Snapshot, device: torch.device, ours: list[_Ours], contenders: Sequence[Contender], texts: list[str]
) -> dict[str, Cosine]:
    """Cosine similarity of each contender's vectors to those of float32."""
    others = [contender for contender in contenders if contender.name != "float32"]
    steps = set(ours[0].embedder.steps)
    if ours[0].embedder.pooling != ("mean",) or not steps <= {"normalize"}:
        others = [contender for contender in others if isinstance(contender, _Ours)]  # the rest takes the plain mean
    if not others:
        return {}
    exact = next((one for one in ours if one.name == "float32"), None) or _Ours(snapshot, device, "float32")
    truth = exact.vectors(texts)()
    return {contender.name: cosine(contender.vectors(texts)(), truth) for contender in others}


def cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> Cosine:
    """Cosine of each row of ``a`` to the same row of ``b``, both ``(n, dimension)``."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    each = (x * y).sum(1) / (np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1))
    return Cosine(float(each.mean()), float(each.min()))


def _facts(snapshot: Snapshot, device: torch.device, embedder: Embedder, rounds: int, seed: int) -> dict[str, str]:
    config = embedder.encoder
    layers = f"{len(config.layers)} layer{'s' * (len(config.layers) != 1)}"
    facts = {
        "model": snapshot.reference,
        "encoder": f"{config.family}, {layers}, width {config.width}, maximum length {embedder.max_tokens:,} tokens",
        "device": f"{device}, {_device_name(device)}",
    }
    if device.type == "cpu":
        facts["threads"] = f"{torch.get_num_threads()} of {os.cpu_count()} cores"
        facts["kernels"] = _kernels(embedder)
    facts["versions"] = ", ".join(
        [f"nativebert {__version__}", f"torch {torch.__version__}", f"Python {platform.python_version()}"]
    )
    return facts | {"rounds": f"{rounds}, seed {seed}"}


def _kernels(embedder: Embedder) -> str:
    """The level of the C kernels, or why torch does the work."""
    if embedder.plan.backend.startswith("C"):
        used = kernels.table().contents.name.decode()
        return f"C, {used} (supported by this machine: {', '.join(kernels.levels())})"
    why = kernels.why_not() or f"{embedder.encoder.family} in this precision is not supported by them"
    return f"torch; C kernels not used: {why}"


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8", "replace").splitlines() if info.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
