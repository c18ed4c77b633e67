"""Sizes of tiles by the shape of the work, measured with ``python -m benchmarks gpu tiles``. They change the speed alone.

What decides the order of a sum is fixed, or follows from a text's own length: the keys of attention's tiles, the depth of float32's.
"""

from __future__ import annotations

from typing import NamedTuple

import torch


class ProductTile(NamedTuple):
    """A tile of a product.

    Attributes:
        rows, columns: of the result.
        depth: of the inputs that one step reads.
        warps: of a program.
        stages: steps whose inputs are on their way at a time.
        programs: programs that share all tiles, copied by the tensor memory accelerator; 0 for one a tile, read through pointers.
        halves: store half of the columns at a time; a quarter, where a residual is added.
    """

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int
    programs: int = 0
    halves: bool = False


class AttentionTile(NamedTuple):
    """A tile of attention.

    Attributes:
        longest: sequences of at most so many tokens use it.
        queries, keys: of one step.
        warps, stages: as of :class:`ProductTile`.
    """

    longest: int
    queries: int
    keys: int
    warps: int
    stages: int


LONGEST = 2**31 - 1
FULL_DEPTH = 32  # of float32 products: with another, the three products of TF32 are summed in another order


def product_tile(
    rows: int,
    columns: int,
    depth: int,
    dtype: torch.dtype,
    capability: tuple[int, int],
    processors: int,
    *,
    costly: bool = False,
) -> ProductTile:
    """A tile for a product.

    Args:
        rows, columns, depth: of the product.
        dtype: of its inputs.
        capability: compute capability of the card.
        processors: its multiprocessors.
        costly: whether an activation is computed at its end.
    """
    if dtype == torch.float32:
        if rows <= 64:
            return ProductTile(16, 32, FULL_DEPTH, 2, 4)
        if rows <= 2048:
            return ProductTile(64, 32 if columns <= 1024 else 64, FULL_DEPTH, 4, 3)
        if described(capability) and costly:
            return ProductTile(128, 128, FULL_DEPTH, 8, 3, processors)
        return ProductTile(128, 64, FULL_DEPTH, 4, 3, 2 * processors * described(capability))
    narrow = columns <= 1024
    if rows <= 64:
        return ProductTile(16, 16, 256, 2, 4) if rows <= 16 or narrow else ProductTile(64, 32, 128, 4, 4)
    if rows <= 512:
        return (
            ProductTile(64, 32, 128, 4, 4) if narrow else ProductTile(64, 64, 64, 4, 4, 2 * processors * described(capability))
        )
    if not described(capability):
        return ProductTile(128, 128, 64, 8, 3) if rows > 2048 else ProductTile(128, 64, 64, 4, 3)
    if rows <= 2048:
        return ProductTile(64, 128, 64, 4, 4, processors) if narrow else ProductTile(64, 128, 64, 4, 3, 2 * processors)
    if max(columns, depth) >= 2048 and not costly:
        return ProductTile(128, 256, 64, 8, 3, processors)
    # two programs on a multiprocessor: while one computes an activation or stores, the other multiplies
    return ProductTile(128, 128, 64, 4, 3, 2 * processors, halves=True)


ROWS = (16, 64, 512, 2048, 65536)  # for which tiles are measured, each for all numbers of rows above the one before


def candidates(rows: int, dtype: torch.dtype, capability: tuple[int, int], processors: int) -> list[ProductTile]:
    """Tiles worth trying for products of so many rows: those that :func:`product_tile` chooses for any, and their neighbours."""
    P, both = ProductTile, 2 * processors
    if dtype == torch.float32:
        tried = [P(16, 32, FULL_DEPTH, 2, 4), P(64, 32, FULL_DEPTH, 4, 3), P(64, 64, FULL_DEPTH, 4, 3)]
        if rows > 512:
            large = [
                P(128, 64, FULL_DEPTH, 4, 3),
                P(128, 64, FULL_DEPTH, 4, 3, both),
                P(128, 128, FULL_DEPTH, 8, 3, processors),
            ]
            tried = [*tried[2:], *large]
    elif rows <= 64:
        tried = [P(16, 16, 256, 2, 4), P(16, 16, 256, 4, 4), P(64, 32, 128, 4, 4)]
    elif rows <= 2048:
        tried = [P(64, 32, 128, 4, 4), P(128, 64, 64, 4, 3), P(64, 64, 64, 4, 4, both), P(64, 128, 64, 4, 3, both)]
        tried += [P(64, 128, 64, 4, 4, processors)]
    else:
        tried = [P(128, 128, 64, 8, 3), P(128, 128, 64, 4, 3, both, True), P(128, 128, 64, 4, 4, processors)]
        tried += [P(128, 256, 64, 8, 3, processors, halves) for halves in (False, True)]
    return [tile for tile in tried if described(capability) or not tile.programs]


def described(capability: tuple[int, int]) -> bool:
    """Whether tiles may be copied by the tensor memory accelerator: other cards have none, or too little shared memory for such tiles."""
    return capability[0] in (9, 10)


def attention_tiles(head_width: int, dtype: torch.dtype) -> tuple[AttentionTile, ...]:
    """Tiles for sequences by their length, the shortest first."""
    short = AttentionTile(32, 16, 32, 1, 2)
    if dtype == torch.float32:
        if head_width > 128:
            return (AttentionTile(LONGEST, 16, 32, 2, 1),)
        return short, AttentionTile(LONGEST, 64, 64, 4, 2) if head_width <= 64 else AttentionTile(LONGEST, 32, 32, 4, 2)
    if head_width > 128:
        return short, AttentionTile(LONGEST, 64, 32, 4, 2)
    if head_width > 64:
        return short, AttentionTile(LONGEST, 64, 64, 4, 2)
    if head_width > 32:
        return short, AttentionTile(448, 64, 32, 4, 3), AttentionTile(LONGEST, 128, 64, 8, 3)
    return short, AttentionTile(LONGEST, 64, 32, 4, 3)


def norm_rows(width: int) -> tuple[int, int]:
    """Rows of a program that normalises rows of this width, and its warps."""
    return max(1, min(4, 2048 // width)), 4 if width <= 4096 else 8
