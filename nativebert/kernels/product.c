/* The matrix product in fp32: y (T, N) = x (T, K) W^T + b, then an activation or the sum with a residual.
 *
 * A tile of some rows by one panel of outputs stays in registers while k runs from 0 to K, so each element is summed in that order
 * whatever stands beside it. Rows go in blocks: a block of x stays in the second-level cache while the panels pass by.
 */

enum {
    BLOCK_ROWS = 128,
    AHEAD = 20 /* steps of k: where the weights come from memory (few rows), fetching so far ahead gained a tenth and more */
};

/* One tile. rows is a constant wherever this is inlined, or the sums would not be registers. */
INLINE void tile(const int rows, const float *x, int K, const float *panel, const float *bias, const float *residual, float *y,
                 int stride, int columns)
{
    Vec sum[TILE_ROWS][TILE_VECTORS];
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < TILE_VECTORS; v++)
            sum[i][v] = load(bias + v * LANES);
    for (int k = 0; k < K; k++, panel += PANEL) {
        Vec w[TILE_VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < TILE_VECTORS; v++) {
            w[v] = load(panel + v * LANES);
            __builtin_prefetch(panel + AHEAD * PANEL + v * LANES);
        }
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) {
            Vec a = broadcast(x[(size_t)i * K + k]);
#pragma GCC unroll 4
            for (int v = 0; v < TILE_VECTORS; v++)
                sum[i][v] = fma_(a, w[v], sum[i][v]);
        }
    }
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < TILE_VECTORS; v++) {
            int left = columns - v * LANES;
            size_t at = (size_t)i * stride + v * LANES;
            if (left > 0)
                store_part(y + at, residual ? sum[i][v] + load_part(residual + at, left) : sum[i][v], left);
        }
}

/* The tile of so many rows, so that the compiler sees a constant. */
static void tile_of(int rows, const float *x, int K, const float *panel, const float *bias, const float *residual, float *y, int stride,
                    int columns)
{
    switch (rows) {
    case 1: tile(1, x, K, panel, bias, residual, y, stride, columns); break;
    case 2: tile(2, x, K, panel, bias, residual, y, stride, columns); break;
    case 3: tile(3, x, K, panel, bias, residual, y, stride, columns); break;
    case 4: tile(4, x, K, panel, bias, residual, y, stride, columns); break;
#if defined(__AVX2__)
    case 5: tile(5, x, K, panel, bias, residual, y, stride, columns); break;
    case 6: tile(6, x, K, panel, bias, residual, y, stride, columns); break;
#endif
#if defined(__AVX512F__)
    case 7: tile(7, x, K, panel, bias, residual, y, stride, columns); break;
    case 8: tile(8, x, K, panel, bias, residual, y, stride, columns); break;
#endif
    }
}

static void product(const Linear *w, const float *x, int rows, float *y, const float *residual, int activation, int first, int last)
{
    const int K = w->inward, N = w->outward;
    for (int block = 0; block < rows; block += BLOCK_ROWS) {
        int end = block + BLOCK_ROWS < rows ? block + BLOCK_ROWS : rows;
        for (int p = first; p < last; p++) {
            int column = p * PANEL, columns = N - column < PANEL ? N - column : PANEL;
            for (int row = block; row < end; row += TILE_ROWS) {
                int count = end - row < TILE_ROWS ? end - row : TILE_ROWS;
                size_t at = (size_t)row * N + column;
                tile_of(count, x + (size_t)row * K, K, w->panels + (size_t)column * K, w->bias + column, residual ? residual + at : NULL,
                        y + at, N, columns);
                if (activation != LINEAR)
                    activate(activation, y + at, count, columns, N);
            }
        }
    }
}
