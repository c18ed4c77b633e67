/* The matrix product in int8: rows quantised to unsigned bytes each by itself, weights to signed bytes each output by itself.
 *
 * With x = min + a q and w = b u, a sum over k is  b (a sum(q u) + min sum(u)).  sum(q u) is exact in 32 bits for any
 * K below 66,000; what follows it is computed for each element by itself, so no bit depends on the company.
 *
 * Contents: panel_tile8() and panel_tile8_of(): exact sums of one tile; store_tile8(): to floats; gemm8(). Part of level.c.
 * Stability: sums in int32 are exact; the error is that of rounding x (half a step of a row's range / 255) and w (half a step of an
 * output's largest magnitude / 127), and three roundings in fp32.
 */
#include "prefetch.h"

/* One tile, as in product.c; K in fours. */
INLINE void panel_tile8(const int rows, const uint8_t *q, int K4, const int8_t *panel, Prefetch fetch, IntVec sum[TILE_ROWS][TILE_VECTORS])
{
    IntVec s[TILE_ROWS][TILE_VECTORS];
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < TILE_VECTORS; v++)
            s[i][v] = (IntVec){0};
    for (int k = 0; k < K4; k++, panel += 4 * PANEL) {
        IntVec u[TILE_VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < TILE_VECTORS; v++)
            memcpy(&u[v], panel + 4 * v * LANES, sizeof u[v]);
        prefetch_step(&fetch, TILE_VECTORS, TILE_ROWS * sizeof(int32_t));
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) {
            int32_t four;
            memcpy(&four, q + 4 * ((size_t)i * K4 + k), sizeof four);
            IntVec a = broadcast_int(four);
#pragma GCC unroll 4
            for (int v = 0; v < TILE_VECTORS; v++)
                s[i][v] = dot4(s[i][v], a, u[v]);
        }
    }
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < TILE_VECTORS; v++)
            sum[i][v] = s[i][v];
}

static void panel_tile8_of(int rows, const uint8_t *q, int K4, const int8_t *panel, Prefetch fetch, IntVec sum[TILE_ROWS][TILE_VECTORS])
{
    switch (rows) {
    case 1: panel_tile8(1, q, K4, panel, fetch, sum); break;
    case 2: panel_tile8(2, q, K4, panel, fetch, sum); break;
    case 3: panel_tile8(3, q, K4, panel, fetch, sum); break;
    case 4: panel_tile8(4, q, K4, panel, fetch, sum); break;
#if defined(__AVX2__)
    case 5: panel_tile8(5, q, K4, panel, fetch, sum); break;
    case 6: panel_tile8(6, q, K4, panel, fetch, sum); break;
#endif
#if defined(__AVX512F__)
    case 7: panel_tile8(7, q, K4, panel, fetch, sum); break;
    case 8: panel_tile8(8, q, K4, panel, fetch, sum); break;
#endif
    }
}

/* The sums of one tile as floats, with bias and residual. */
static void store_tile8(const Linear *w, int rows, IntVec sum[TILE_ROWS][TILE_VECTORS], const float *row_scale, const float *row_min,
                        int column, int columns, const float *residual, float *y, size_t stride)
{
    for (int v = 0; v * LANES < columns; v++) {
        int at = column + v * LANES, left = columns - v * LANES;
        Vec scale = load(w->scale + at), units = load(w->sum + at), bias = load(w->bias + at);
        for (int i = 0; i < rows; i++) {
            Vec x = fma_(__builtin_convertvector(sum[i][v], Vec), broadcast(row_scale[i]), units * row_min[i]);
            x = fma_(x, scale, bias);
            if (residual)
                x += load_part(residual + i * stride + v * LANES, left);
            store_part(y + i * stride + v * LANES, x, left);
        }
    }
}

static void gemm8(const Linear *w, Quantised x, int rows, float *y, size_t stride, const float *residual, int activation, int first,
                     int last)
{
    const int K4 = (w->inward + 3) / 4, N = w->outward, buffered = activation != LINEAR;
    float buffer[TILE_ROWS * PANEL];
    for (int block = 0; block < rows; block += BLOCK_ROWS) {
        int end = block + BLOCK_ROWS < rows ? block + BLOCK_ROWS : rows, tiles = (end - block + TILE_ROWS - 1) / TILE_ROWS;
        for (int p = first; p < last; p++) {
            int column = p * PANEL, columns = N - column < PANEL ? N - column : PANEL;
            const int8_t *panel = w->panels8 + 4 * (size_t)column * K4;
            for (int n = 0; n < tiles; n++) {
                int row = block + n * TILE_ROWS, count = end - row < TILE_ROWS ? end - row : TILE_ROWS;
                int next = n + 1 < tiles ? row + TILE_ROWS : block;
                size_t at = (size_t)row * stride + column;
                IntVec sum[TILE_ROWS][TILE_VECTORS];
                Prefetch fetch = prefetch_for(n, tiles, panel, K4, 4 * PANEL, x.q + 4 * (size_t)next * K4);
                prefetch_dst(count, TILE_VECTORS, y + at, stride);
                panel_tile8_of(count, x.q + 4 * (size_t)row * K4, K4, panel, fetch, sum);
                store_tile8(w, count, sum, x.scale + row, x.min + row, column, buffered ? PANEL : columns, residual ? residual + at : NULL,
                        buffered ? buffer : y + at, buffered ? PANEL : stride);
                if (buffered)
                    activate_tile(activation, buffer, PANEL, count, y + at, stride, columns, NULL);
            }
        }
    }
}
