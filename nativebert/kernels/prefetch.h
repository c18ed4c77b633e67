/* What a product fetches into the caches while it computes: nothing is waited for that can be known before.
 *
 * While the tiles of one panel are computed, each fetches its share of the next panel into the second-level cache, for weights come from
 * memory or from a cache far away; and the rows of the next tile into the first. The places that a tile will be stored to are fetched
 * when it begins.
 */
#ifndef NATIVEBERT_PREFETCH_H
#define NATIVEBERT_PREFETCH_H

#include "kernels.h"
#include "vec.h"

enum {
    BLOCK_ROWS = 256, /* rows that pass by while they stay in the second-level cache */
    PREFETCH_STEPS = 20        /* steps that a panel's only tile fetches ahead in its own panel */
};

/* At each step of k some bytes of weights, and some of the rows after a tile's own. */
typedef struct {
    const char *weights;
    size_t step;
    const char *rows;
} Prefetch;

/* Of a tile, one of so many over a panel, whose steps read so many bytes of weights each. */
static inline Prefetch prefetch_for(int tile, int tiles, const void *panel, int steps, size_t bytes, const void *rows)
{
    const char *own = panel;
    if (tiles == 1)
        return (Prefetch){own + PREFETCH_STEPS * bytes, bytes, rows};
    const size_t line = sizeof(Vec), step = (bytes / line + (size_t)tiles - 1) / (size_t)tiles * line;
    if ((size_t)tile * step >= bytes)
        return (Prefetch){own, step, rows}; /* those before it have fetched all there is */
    return (Prefetch){own + (size_t)steps * (bytes + (size_t)tile * step), step, rows};
}

/* One step: so many vectors of weights and, where the rows advance, theirs. */
INLINE void prefetch_step(Prefetch *fetch, const int vectors, const size_t rows)
{
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++)
        __builtin_prefetch(fetch->weights + (size_t)v * sizeof(Vec), 0, 2);
    fetch->weights += fetch->step;
    if (rows) {
        __builtin_prefetch(fetch->rows, 0, 3);
        fetch->rows += rows;
    }
}

/* Where a tile will be stored. */
INLINE void prefetch_dst(int rows, int vectors, const float *y, size_t stride)
{
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < vectors; v++)
            __builtin_prefetch(y + i * stride + v * LANES, 1, 2);
}

#endif
