"""Tiles measured on this machine's card, kept in a file beside Triton's cache. Like all tiles, they change the speed alone."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import torch
import triton

from nativebert.engine.cuda.tiles import ROWS, ProductTile, candidates, product_tile

LAUNCHES = 10  # of a product, timed together


class Kind(NamedTuple):
    """Products that use the same tiles: numbers of columns and depth, type, and whether an activation is computed at their end."""

    columns: int
    depth: int
    dtype: torch.dtype
    costly: bool


class Tiles:
    """Tiles of products on one device: those measured there, else those of :mod:`nativebert.engine.cuda.tiles`.

    Args:
        device: the card; ``cpu`` in Triton's interpreter, where it stands for an H100.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._card, name = device, ((9, 0), 132), "interpreter"
        if device.type == "cuda":
            card = torch.cuda.get_device_properties(device)
            self._card, name = ((card.major, card.minor), card.multi_processor_count), card.name
        self._section = f"{name}, Triton {triton.__version__}"
        self._file = Path(triton.knobs.cache.dir).parent / "nativebert-tiles.json"
        self._measured: dict[str, list[int]] = self._content().get(self._section, {})

    def tile(self, rows: int, kind: Kind) -> ProductTile:
        """The tile for a product of so many rows."""
        if self._measured:
            most = next((most for most in ROWS if rows <= most), ROWS[-1])
            kept = self._measured.get(f"{most} {kind}")
            # whatever the file says, only what is tried here: the depth of float32 products decides the order of their sums
            for tile in candidates(most, kind.dtype, *self._card) if kept else ():
                if list(tile) == kept:
                    return tile
        return product_tile(rows, kind.columns, kind.depth, kind.dtype, *self._card, costly=kind.costly)

    def measure(self, kind: Kind, run: Callable[[int, ProductTile], object]) -> None:
        """Choose the tiles of products of this kind, where that was not done before.

        Args:
            kind: of the products.
            run: compute one of so many rows with a tile.
        """
        for rows in ROWS:
            if f"{rows} {kind}" in self._measured:
                continue
            times: dict[ProductTile, float] = {}
            for tile in candidates(rows, kind.dtype, *self._card):
                try:
                    times[tile] = self._milliseconds(partial(run, rows, tile))
                except (triton.TritonError, RuntimeError):  # it needs more shared memory than this card has
                    continue
            if times:
                self._measured[f"{rows} {kind}"] = list(min((time, tile) for tile, time in times.items())[1])

    def save(self) -> None:
        """Write the choice to the file, where it holds for all later plans."""
        content = self._content()
        content[self._section] = content.get(self._section, {}) | self._measured
        self._file.parent.mkdir(parents=True, exist_ok=True)
        written = self._file.with_suffix(f".{os.getpid()}")
        written.write_text(json.dumps(content, indent=1))
        written.replace(self._file)

    def _content(self) -> dict[str, Any]:
        try:
            content = json.loads(self._file.read_text())
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) and all(isinstance(part, dict) for part in content.values()) else {}

    def _milliseconds(self, run: Callable[[], object]) -> float:
        """Time of ``run`` on the device, without the time of its launch."""
        run()  # compiles it
        if self._device.type != "cuda":
            began = perf_counter()
            run()
            return (perf_counter() - began) * 1e3
        graph = torch.cuda.CUDAGraph()
        begin: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        end: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
        with torch.cuda.graph(graph):
            for _ in range(LAUNCHES):
                run()
        graph.replay()
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / LAUNCHES
