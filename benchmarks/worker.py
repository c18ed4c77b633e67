"""A contender in a process of its own.

In one process the runtimes would share one OpenMP, one memory allocator and each other's settings: CTranslate2, told to use one thread a
worker, leaves torch with one thread, too, and all that runs on torch takes twice as long and more. Work is timed inside the process, so what
goes to it and comes back does not count.
"""

from __future__ import annotations

import multiprocessing
import time
import warnings
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from benchmarks import peers
from benchmarks.models import ModelFiles
from benchmarks.peers.base import Floats, Peer


class Failed(Exception):
    """What went wrong in the other process."""


class Session:
    """What a worker can be asked: a peer, loaded in each of its variants, and the texts it works on.

    Args:
        name: of the peer.
        precision: as of :class:`~benchmarks.peers.base.Peer`.
        model: what to load.
        threads: that it may use.
    """

    def __init__(self, name: str, precision: str, model: ModelFiles, threads: int) -> None:
        kind = peers.get(name)
        self.loaded: dict[str, Peer] = {variant: kind(model, threads, precision, variant) for variant in kind.variants}
        self.data: dict[str, list[Any]] = {}

    def give(self, name: str, data: list[Any]) -> None:
        """Texts, or token ids, under a name."""
        self.data[name] = data

    def share(self, name: str, part: str, step: int) -> None:
        """Every so manieth of them under another name."""
        self.data[part] = self.data[name][::step]

    def choices(self, batches: tuple[int, ...]) -> list[tuple[str, int]]:
        """The settings to try: variant and batch size."""
        return [(variant, batch) for variant, peer in self.loaded.items() for batch in peer.batches(batches)]

    def run(self, setting: tuple[str, int], mode: str, data: str, times: int) -> float:
        """Do the work so many times; seconds of all together."""
        peer, batch = self.loaded[setting[0]], setting[1]
        work, given = (peer.vectors if mode == "vectors" else peer.hidden), self.data[data]
        peer.forget()
        began = time.perf_counter()
        for _ in range(times):
            work(given, batch)
        return time.perf_counter() - began

    def rows(self, setting: tuple[str, int], mode: str, data: str) -> Floats:
        """Vectors, or the hidden states of all texts one below the other."""
        peer, batch = self.loaded[setting[0]], setting[1]
        if mode == "vectors":
            return np.asarray(peer.vectors(self.data[data], batch))
        return np.concatenate(peer.hidden(self.data[data], batch))

    def facts(self, setting: tuple[str, int], texts: list[str], lengths: list[int]) -> dict[str, Any]:
        """How it runs, and its share of padding."""
        peer, batch = self.loaded[setting[0]], setting[1]
        return {"setting": peer.setting(batch), "padding": peer.padding(texts, lengths, batch)}


class Worker:
    """A :class:`Session` in another process; its methods are called by name.

    Raises:
        Failed: it could not be made; says why.
    """

    def __init__(self, name: str, precision: str, model: ModelFiles, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, name, precision, model, threads), daemon=True)
        self._process.start()
        theirs.close()
        self._answer()

    def __call__(self, method: str, *args: Any) -> Any:
        """Ask something of the session.

        Raises:
            Failed: it raised, or its process has ended.
        """
        try:
            self._pipe.send((method, args))
        except OSError as error:
            raise Failed(f"its process has ended ({error})") from None
        return self._answer()

    def close(self) -> None:
        self._pipe.close()
        self._process.join(5)
        self._process.kill()

    def _answer(self) -> Any:
        try:
            good, answer = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join(5)
            raise Failed(f"its process ended with code {self._process.exitcode}") from None
        if not good:
            raise Failed(answer)
        return answer


def _serve(pipe: Connection, *given: Any) -> None:
    warnings.simplefilter("ignore")
    quieten()
    session: Session | None = None
    method, args = "", ()
    while True:
        try:
            answer = None
            if session is None:
                session = Session(*given)
            else:
                answer = getattr(session, method)(*args)
            pipe.send((True, answer))
        except Exception as error:  # whatever another library raises: the rest can still be compared
            pipe.send((False, describe(error)))
            if session is None:
                return
        try:
            method, args = pipe.recv()
        except EOFError:
            return


def quieten() -> None:
    """No bars and no notices of other libraries between the figures."""
    import logging
    from contextlib import suppress

    logging.getLogger().setLevel(logging.ERROR)
    with suppress(ImportError):
        from transformers.utils import logging as notices

        notices.disable_progress_bar()


def describe(error: Exception) -> str:
    """An error in a line."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:300]}"
