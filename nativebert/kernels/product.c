/* The matrix product in fp32: y (T, N) = x (T, K) W^T + b, then an activation or the sum with a residual.
 *
 * A tile of some rows by one panel of outputs stays in registers while k runs from 0 to K, so each element is summed in that order
 * whatever stands beside it. Rows go in blocks: a block of x stays in the second-level cache while the panels pass by.
 *
 * Nothing is waited for that can be known before. While the tiles of one panel are computed, each fetches its share of the next panel
 * into the second-level cache, for weights come from memory or from a cache far away; and the rows of the next tile into the first. The
 * places that a tile will be stored to are fetched when it begins. What an activation follows is stored aside, and not there to be read
 * again while they are still on their way.
 */

enum {
    BLOCK_ROWS = 256,
    AHEAD = 20 /* steps of k that a panel's only tile fetches ahead in its own panel */
};

/* What a tile fetches while it is computed: at each step of k some bytes of weights, and TILE_ROWS numbers of the rows after its own. */
typedef struct {
    const char *weights;
    int step;
    const char *rows;
} Fetch;

static Fetch fetch_for(int tile, int tiles, const void *panel, int depth, const void *rows)
{
    const char *own = panel;
    const int line = LANES * 4, whole = TILE_VECTORS * line; /* bytes of a vector, and of all that a step of k reads */
    if (tiles == 1)
        return (Fetch){own + AHEAD * whole, whole, rows};
    int step = (TILE_VECTORS + tiles - 1) / tiles * line;
    if (tile * step >= whole)
        return (Fetch){own, step, rows}; /* those before it have fetched all there is */
    return (Fetch){own + (size_t)depth * (whole + tile * step), step, rows};
}

/* One step of k of that. */
INLINE void fetch_step(Fetch *fetch)
{
#pragma GCC unroll 4
    for (int v = 0; v < TILE_VECTORS; v++)
        __builtin_prefetch(fetch->weights + v * sizeof(Vec), 0, 2);
    __builtin_prefetch(fetch->rows, 0, 3);
    fetch->weights += fetch->step;
    fetch->rows += TILE_ROWS * sizeof(float);
}

/* Where a tile will be stored. */
INLINE void expect(int rows, const float *y, int stride)
{
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < TILE_VECTORS; v++)
            __builtin_prefetch(y + (size_t)i * stride + v * LANES, 1, 2);
}

INLINE void store_tile(const int rows, Vec sum[TILE_ROWS][TILE_VECTORS], const float *residual, float *y, int stride, int columns)
{
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < TILE_VECTORS; v++) {
            int left = columns - v * LANES;
            size_t at = (size_t)i * stride + v * LANES;
            if (left > 0)
                store_part(y + at, residual ? sum[i][v] + load_part(residual + at, left) : sum[i][v], left);
        }
}

/* One tile. rows is a constant wherever this is inlined, or the sums would not be registers. */
INLINE void tile(const int rows, const float *x, int K, const float *panel, Fetch fetch, const float *bias, const float *residual,
                 float *y, int stride, int columns)
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
        fetch_step(&fetch);
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) {
            Vec a = broadcast(x[(size_t)i * K + k]);
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
static void tile_of(int rows, const float *x, int K, const float *panel, Fetch fetch, const float *bias, const float *residual,
                    float *y, int stride, int columns)
{
    switch (rows) {
    case 1: tile(1, x, K, panel, fetch, bias, residual, y, stride, columns); break;
    case 2: tile(2, x, K, panel, fetch, bias, residual, y, stride, columns); break;
    case 3: tile(3, x, K, panel, fetch, bias, residual, y, stride, columns); break;
    case 4: tile(4, x, K, panel, fetch, bias, residual, y, stride, columns); break;
#if defined(__AVX2__)
    case 5: tile(5, x, K, panel, fetch, bias, residual, y, stride, columns); break;
    case 6: tile(6, x, K, panel, fetch, bias, residual, y, stride, columns); break;
#endif
#if defined(__AVX512F__)
    case 7: tile(7, x, K, panel, fetch, bias, residual, y, stride, columns); break;
    case 8: tile(8, x, K, panel, fetch, bias, residual, y, stride, columns); break;
#endif
    }
}

static void product(const Linear *w, const float *x, int rows, float *y, const float *residual, int activation, int first, int last)
{
    const int K = w->inward, N = w->outward, aside = activation != LINEAR;
    float made[TILE_ROWS * PANEL];
    for (int block = 0; block < rows; block += BLOCK_ROWS) {
        int end = block + BLOCK_ROWS < rows ? block + BLOCK_ROWS : rows, tiles = (end - block + TILE_ROWS - 1) / TILE_ROWS;
        for (int p = first; p < last; p++) {
            int column = p * PANEL, columns = N - column < PANEL ? N - column : PANEL;
            const float *panel = w->panels + (size_t)column * K;
            for (int n = 0; n < tiles; n++) {
                int row = block + n * TILE_ROWS, count = end - row < TILE_ROWS ? end - row : TILE_ROWS;
                int next = n + 1 < tiles ? row + TILE_ROWS : block;
                size_t at = (size_t)row * N + column;
                expect(count, y + at, N);
                tile_of(count, x + (size_t)row * K, K, panel, fetch_for(n, tiles, panel, K, x + (size_t)next * K), w->bias + column,
                        residual ? residual + at : NULL, aside ? made : y + at, aside ? PANEL : N, aside ? PANEL : columns);
                if (aside)
                    activate(activation, made, count, y + at, N, columns);
            }
        }
    }
}
