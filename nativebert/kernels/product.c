/* The matrix product in fp32: y (T, N) = x (T, K) W^T + b, then an activation or the sum with a residual.
 *
 * A tile of some rows by one panel of outputs stays in registers while k runs from 0 to K, so each element is summed in that order
 * whatever stands beside it. Rows go in blocks: a block of x stays in the second-level cache while the panels pass by. What an activation
 * follows is stored buffered, and not there to be read again while the places are still on their way.
 *
 * Contents: PACK_COLUMNS, pack_panels(), pack_columns(); store_tile(), panel_tile() and panel_tile_of(): one tile in registers; gemm().
 * Stability (fp32): one accumulator for each element, from the bias over k = 0 ... K - 1, a rounding for each k (two at the portable level,
 * which has no fused multiply-add). Part of level.c: compiled for all levels but those with winograd.c.
 */
#include "prefetch.h"

enum { PACK_COLUMNS = 16 }; /* columns packed at a time */

/* Rows first to first + rows of the matrix. They are not scaled, nor is a sum wanted. */
static void pack_panels(const float *w, int rows, int width, int first, float *panels, float *scale, float *sum)
{
    (void)scale, (void)sum;
    for (int start = 0; start < width; start += PACK_COLUMNS) { /* few enough lines to stay in the first-level cache while they fill */
        int end = start + PACK_COLUMNS < width ? start + PACK_COLUMNS : width;
        for (int i = 0; i < rows; i++) {
            int row = first + i;
            float *to = panels + (size_t)(row / PANEL) * PANEL * (size_t)width + row % PANEL;
            for (int k = start; k < end; k++)
                to[(size_t)k * PANEL] = w[(size_t)i * width + k];
        }
    }
}

/* Panels first to last of a matrix that is stored by inputs: w (K, N) holds the weight of output n for input k at [k][n]. */
static void pack_columns(const float *w, size_t stride, int K, int N, int first, int last, float *panels, float *scale, float *sum)
{
    (void)scale, (void)sum;
    for (int p = first; p < last; p++) {
        const int column = p * PANEL, columns = N - column < PANEL ? N - column : PANEL;
        float *to = panels + (size_t)column * (size_t)K;
        for (int k = 0; k < K; k++, to += PANEL)
            for (int v = 0; v < TILE_VECTORS; v++) {
                const int left = columns - v * LANES;
                store(to + v * LANES, left > 0 ? load_part(w + k * stride + column + v * LANES, left) : (Vec){0});
            }
    }
}

INLINE void store_tile(const int rows, Vec sum[TILE_ROWS][TILE_VECTORS], const float *residual, float *y, size_t stride, int columns)
{
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < TILE_VECTORS; v++) {
            int left = columns - v * LANES;
            size_t at = i * stride + v * LANES;
            if (left > 0)
                store_part(y + at, residual ? sum[i][v] + load_part(residual + at, left) : sum[i][v], left);
        }
}

/* One tile. rows is a constant wherever this is inlined, or the sums would not be registers. */
INLINE void panel_tile(const int rows, const float *x, size_t x_stride, int K, const float *panel, Prefetch fetch, const float *bias,
                 const float *residual, float *y, size_t stride, int columns)
{
    Vec sum[TILE_ROWS][TILE_VECTORS];
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < TILE_VECTORS; v++)
            sum[i][v] = load(bias + v * LANES);
    for (int k = 0; k < K; k++, panel += PANEL) {
        Vec w[TILE_VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < TILE_VECTORS; v++)
            w[v] = load(panel + v * LANES);
        prefetch_step(&fetch, TILE_VECTORS, TILE_ROWS * sizeof *x);
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) {
            Vec a = broadcast(x[i * x_stride + (size_t)k]);
#pragma GCC unroll 4
            for (int v = 0; v < TILE_VECTORS; v++)
                sum[i][v] = fma_(a, w[v], sum[i][v]);
        }
    }
    if (columns < PANEL)
        store_tile(rows, sum, residual, y, stride, columns);
    else if (residual)
        store_tile(rows, sum, residual, y, stride, PANEL); /* constants, so that nothing is asked for each vector */
    else
        store_tile(rows, sum, NULL, y, stride, PANEL);
}

/* The tile of so many rows, so that the compiler sees a constant. */
static void panel_tile_of(int rows, const float *x, size_t x_stride, int K, const float *panel, Prefetch fetch, const float *bias,
                    const float *residual, float *y, size_t stride, int columns)
{
    switch (rows) {
    case 1: panel_tile(1, x, x_stride, K, panel, fetch, bias, residual, y, stride, columns); break;
    case 2: panel_tile(2, x, x_stride, K, panel, fetch, bias, residual, y, stride, columns); break;
    case 3: panel_tile(3, x, x_stride, K, panel, fetch, bias, residual, y, stride, columns); break;
    case 4: panel_tile(4, x, x_stride, K, panel, fetch, bias, residual, y, stride, columns); break;
#if defined(__AVX2__)
    case 5: panel_tile(5, x, x_stride, K, panel, fetch, bias, residual, y, stride, columns); break;
    case 6: panel_tile(6, x, x_stride, K, panel, fetch, bias, residual, y, stride, columns); break;
#endif
#if defined(__AVX512F__)
    case 7: panel_tile(7, x, x_stride, K, panel, fetch, bias, residual, y, stride, columns); break;
    case 8: panel_tile(8, x, x_stride, K, panel, fetch, bias, residual, y, stride, columns); break;
#endif
    }
}

static void gemm(const Linear *w, Rows x, int rows, float *y, size_t stride, const float *residual, int activation, int first, int last)
{
    const int K = w->inward, N = w->outward, buffered = activation != LINEAR;
    float buffer[TILE_ROWS * PANEL];
    for (int block = 0; block < rows; block += BLOCK_ROWS) {
        int end = block + BLOCK_ROWS < rows ? block + BLOCK_ROWS : rows, tiles = (end - block + TILE_ROWS - 1) / TILE_ROWS;
        for (int p = first; p < last; p++) {
            int column = p * PANEL, columns = N - column < PANEL ? N - column : PANEL;
            const float *panel = w->panels + (size_t)column * K;
            for (int n = 0; n < tiles; n++) {
                int row = block + n * TILE_ROWS, count = end - row < TILE_ROWS ? end - row : TILE_ROWS;
                int next = n + 1 < tiles ? row + TILE_ROWS : block;
                Prefetch fetch = prefetch_for(n, tiles, panel, K, PANEL * sizeof *panel, x.x + (size_t)next * x.stride);
                size_t at = (size_t)row * stride + column;
                prefetch_dst(count, TILE_VECTORS, y + at, stride);
                panel_tile_of(count, x.x + (size_t)row * x.stride, x.stride, K, panel, fetch, w->bias + column,
                              residual ? residual + at : NULL, buffered ? buffer : y + at, buffered ? PANEL : stride,
                              buffered ? PANEL : columns);
                if (buffered)
                    activate_tile(activation, buffer, PANEL, count, y + at, stride, columns, NULL);
            }
        }
    }
}
