"""Batch invariance: whether a text's results depend on the rest of its batch, on the user's own device and precision."""

from __future__ import annotations

import copy
import json
import platform
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nativebert import __version__
from nativebert.checks import at_least
from nativebert.engine import choose_device, cuda, precision_name
from nativebert.loading import LoadedModel, load, open_snapshot
from nativebert.nn.model import Model
from nativebert.nn.pool import pool
from nativebert.parity.check import TEXTS
from nativebert.parity.compare import pad_rows
from nativebert.tasks.embed import Embedder
from nativebert.text.batching import batches_by_length

COUNT = 32  # texts by default
PADDED = 8  # texts of a padded batch

Results = dict[int, tuple[Tensor, Tensor]]
"""Text -> its states ``(l, H)`` and its vector, on the CPU."""


@dataclass(frozen=True)
class Kind:
    """One way to change the batches.

    Attributes:
        name: what changed.
        trials: how often.
        compared: results that were compared, over all trials.
        equal: those of which every state and the vector were equal to the last bit.
        vectors: largest absolute difference of a vector.
        states: largest absolute difference of a token's state.
        counts: whether the verdict is about it; the padded reference is for information.
    """

    name: str
    trials: int
    compared: int
    equal: int
    vectors: float
    states: float
    counts: bool = True


@dataclass(frozen=True)
class Report:
    """The result of :func:`check`.

    Attributes:
        kinds: one for each way to change the batches.
        promised: whether equality to the last bit is promised here: in float32 and int8 on the CPU, and with nativebert's own kernels on a
            NVIDIA card.
        facts: model, device, precision, versions.
    """

    kinds: tuple[Kind, ...]
    promised: bool
    facts: dict[str, str]

    @property
    def bitwise(self) -> bool:
        """Whether everything compared was bitwise equal."""
        return all(kind.equal == kind.compared for kind in self.kinds if kind.counts)

    @property
    def passed(self) -> bool:
        return self.bitwise or not self.promised

    def verdict(self) -> str:
        """The verdict in one line."""
        counted = [kind for kind in self.kinds if kind.counts]
        if self.bitwise:
            return f"{sum(kind.compared for kind in counted):,} comparisons, 0 differences: bitwise equal."
        most, states = max(kind.vectors for kind in counted), max(kind.states for kind in counted)
        within = f"vectors differ by up to {most:.1e}, hidden states by up to {states:.1e}"
        return (
            f"FAIL: not bitwise equal, as {self.facts['precision']} on {self.facts['device']} should be: {within}"
            if self.promised
            else f"Not bitwise equal (guaranteed for float32 and int8 on the CPU, and on NVIDIA GPUs with their own kernels): {within}."
        )

    def as_dict(self) -> dict[str, Any]:
        """All fields, for JSON."""
        return {
            "passed": self.passed,
            "bitwise": self.bitwise,
            "promised": self.promised,
            "verdict": self.verdict(),
            "facts": self.facts,
            "kinds": [asdict(kind) for kind in self.kinds],
        }

    def json(self) -> str:
        """:meth:`as_dict` as JSON text."""
        return json.dumps(self.as_dict(), indent=2, ensure_ascii=False)


def check(
    model: str | PathLike[str] | Model,
    *,
    device: str = "auto",
    precision: str = "float32",
    trials: int = 5,
    texts: Sequence[str] | None = None,
    seed: int = 0,
    offline: bool | None = None,
    revision: str | None = None,
) -> Report:
    """Embed the same texts in other orders, batch sizes and companies, and compare with each text alone.

    Vectors are those of :class:`~nativebert.tasks.embed.Embedder`; the states of all their tokens are compared too.

    Args:
        model: folder, Hub id, or a loaded model.
        device, precision: as of :class:`~nativebert.tasks.embed.Embedder`.
        trials: how often each kind of change is tried.
        texts: by default 32 of all lengths that the model takes.
        seed: of the random choices.
        offline, revision: as of :func:`nativebert.load`.

    Raises:
        NativeBertError: the model cannot be had, or the device is not there.
    """
    target = choose_device(device)
    trials, seed = at_least(1, "trials", trials), at_least(0, "seed", seed)
    if not isinstance(model, Model):
        model = load(open_snapshot(model, revision=revision, offline=offline), head=None)
    model = LoadedModel.of(model)
    sentence_files = model.snapshot is not None and model.snapshot.path("modules.json") is not None
    embedder = Embedder(
        model, device=str(target), precision=precision_name(precision), pooling=None if sentence_files else "mean"
    )
    rng = random.Random(seed)
    ids = embedder.tokenizer.ids_batch(list(texts or _texts(rng))).ids
    most = embedder.max_tokens
    rows = [row if texts is not None else _stretched(row, most, rng) for row in ids]
    rows = [row if len(row) <= most else [*row[: most - 1], row[-1]] for row in rows]
    everyone = list(range(len(rows)))
    batch_tokens = embedder.batch_tokens
    alone = {n: _run(embedder, rows, [n], batch_tokens)[n] for n in everyone}

    def order() -> Results:
        return _run(embedder, rows, rng.sample(everyone, len(rows)), batch_tokens)

    def size() -> Results:
        return _run(embedder, rows, everyone, int(2 ** rng.uniform(0, 12)))

    def company() -> Results:
        return _run(embedder, rows, rng.sample(everyone, rng.randint(1, len(rows))), batch_tokens)

    def ragged() -> Results:
        """Neighbours of other lengths, as a caller would get who does not sort."""
        return _one_batch(embedder, rows, rng.sample(everyone, rng.randint(1, min(len(rows), 12))))

    dtype = torch.float32 if precision in ("int8", "tf32") else getattr(torch, precision)  # the plain modules have neither
    reference = copy.deepcopy(model.bare()).to(target, dtype).eval()

    def padded() -> Results:
        return _padded(reference, embedder, rows, rng.sample(everyone, min(len(rows), PADDED)))

    kinds = (
        _compare("order", alone, order, trials),
        _compare("batch size", alone, size, trials),
        _compare("other texts in the batch", alone, company, trials),
        _compare("unsorted batch", alone, ragged, trials),
        _compare("padded batch, reference model", alone, padded, min(trials, 3), counts=False),
    )
    lengths = list(map(len, rows))
    facts = {
        "model": model.reference,
        "texts": f"{len(rows)} of {min(lengths)} to {max(lengths)} tokens",
        "device": f"{target}, {torch.cuda.get_device_name(target) if target.type == 'cuda' else platform.processor() or platform.machine()}",
        "precision": precision,
        "threads": str(torch.get_num_threads()),
        "seed": str(seed),
        "nativebert": __version__,
        "torch": torch.__version__,
    }
    promised = (
        precision in ("float32", "int8") if target.type == "cpu" else target.type == "cuda" and not cuda.why_not(model, target)
    )
    return Report(kinds, promised=promised, facts=facts)


def _compare(name: str, truth: Results, run: Callable[[], Results], trials: int, *, counts: bool = True) -> Kind:
    compared = equal = 0
    most = [0.0, 0.0]
    for _ in range(trials):
        for n, (states, vector) in run().items():
            same = torch.equal(states, truth[n][0]) and torch.equal(vector, truth[n][1])
            compared, equal = compared + 1, equal + same
            if not same:
                off = [float((a - b).abs().max()) for a, b in zip((vector, states), (truth[n][1], truth[n][0])) if a.numel()]
                most = [max(a, b if b == b else float("inf")) for a, b in zip(most, off)]
    return Kind(name, trials, compared, equal, most[0], most[1], counts)


def _run(embedder: Embedder, rows: list[list[int]], which: list[int], batch_tokens: int) -> Results:
    """Batch as the embedder does: sorted by length, at most ``batch_tokens`` tokens each."""
    results: Results = {}
    lengths = np.array([len(rows[n]) for n in which], np.int64)
    for batch in batches_by_length(lengths, batch_tokens):
        results |= _one_batch(embedder, rows, [which[i] for i in batch])
    return results


def _one_batch(embedder: Embedder, rows: list[list[int]], which: list[int]) -> Results:
    packed = embedder.pack([rows[n] for n in which])
    hidden = embedder.plan.hidden(packed)
    vectors = embedder.finish(embedder.plan.pooled(packed, embedder.pooling).cpu().numpy())
    states: tuple[Tensor, ...] = torch.split(hidden.float().cpu(), list(packed.lengths))
    return {n: (state, torch.from_numpy(vector.copy())) for n, state, vector in zip(which, states, vectors)}


@torch.inference_mode()
def _padded(model: Model, embedder: Embedder, rows: list[list[int]], which: list[int]) -> Results:
    """One padded batch through the plain modules, in place of the prepared plan."""
    hidden = model(*pad_rows([rows[n] for n in which], model.config.pad_id)).last_hidden_state  # (B, L, H)
    results: Results = {}
    for row, n in enumerate(which):
        packed = embedder.pack([rows[n]])
        states = hidden[row, : len(rows[n])]
        vector = embedder.finish(pool(states, packed, embedder.pooling, 0).cpu().numpy())
        results[n] = (states.float().cpu(), torch.from_numpy(vector[0].copy()))
    return results


def _texts(rng: random.Random) -> list[str]:
    words = " ".join(TEXTS).split()
    return [*TEXTS, *(" ".join(rng.choices(words, k=rng.randint(1, 40))) for _ in range(COUNT - len(TEXTS)))]


def _stretched(row: list[int], most: int, rng: random.Random) -> list[int]:
    """One row in eight as long as the model takes, or nearly: its own tokens again and again."""
    inside = row[1:-1]
    if not inside or rng.random() > 1 / 8:
        return row
    length = min(most, rng.randint(most // 2, most), 512)
    return [row[0], *(inside * (length // len(inside) + 1))[: max(length - 2, 1)], row[-1]]
