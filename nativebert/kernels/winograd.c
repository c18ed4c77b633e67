/* The matrix product in fp32 for processors that add beside what they multiply: y (T, N) = x (T, K) W^T + b by Winograd's inner product.
 *
 *     x0 w0 + x1 w1 = (x0 + w1) (x1 + w0) - x0 x1 - w0 w1
 *
 * Summed over pairs, the last two terms are one number for a row and one for an output, outliers once; what is left is one multiplication
 * for two of a plain product, and two additions. Zen 4 and 5 have units of their own for additions, which a plain product leaves idle.
 * So of every three inputs two are taken as a pair and one by itself: two multiply-adds and two additions, all units busy, in the time
 * of two instead of three.
 *
 * S. Winograd, A new algorithm for inner product, IEEE Trans. Computers C-17 (1968). It is as exact as a plain product where x and w are
 * about equally large, and loses digits where they are not: R. P. Brent, Error analysis of algorithms for matrix multiplication and
 * triangular decomposition using Winograd's identity, Numer. Math. 16 (1970). So each row and each output's weights are brought to a
 * length of about one, by powers of two, which round nothing. Sums are folded into totals so often that the error does not grow with K.
 *
 * Contents: power_of_two_scaling(); the order of inputs in a panel: paired_groups(), panel_index(); pack_panels(), pack_columns(); normalize_rows() with
 * extract_outliers(); fma_row(), winograd_tile() and store_winograd_tile(): one tile in registers; gemm(). Part of level.c.
 * Stability (fp32): rows and weights of length about one, sums of pairs in fp64 for weights and fp32 for rows, accumulators folded into
 * totals every FOLD_INPUTS or twice as many inputs; pairs whose product passes OUTLIER_THRESHOLD are computed apart. test_kernels.py holds
 * the error to 2e-7 (K + 10) for inputs of a normal distribution.
 */
#include <math.h>

#include "prefetch.h"

enum {
    WINOGRAD_ROWS = 10, /* of a tile, two vectors of outputs wide: 20 of 32 registers are sums */
    WINOGRAD_VECTORS = 2,
    WINOGRAD_PANEL = WINOGRAD_VECTORS * LANES,
    STEP_INPUTS = 3,                    /* inputs at a time: k and k + LANES are a pair, k + 2 LANES is by itself */
    GROUP_INPUTS = STEP_INPUTS * LANES, /* inputs of so many steps */
    FOLD_INPUTS = 4 * GROUP_INPUTS,     /* inputs whose sum goes to the total, twice as many where there are many */
    STEP_VECTORS = STEP_INPUTS * WINOGRAD_VECTORS,
    READ_FLOATS = 1 << 20 /* more than a tile's rows: tells the compiler what memory the instructions below depend on */
};

static const float OUTLIER_THRESHOLD = 1.0f / 16; /* of a row's squared length, a pair's product */

/* The power of two that brings a length to between 1/sqrt(2) and sqrt(2), and one over it. Lengths that are next to nothing count as
 * nothing, times 0; those beyond measure, times 1. */
typedef struct {
    float inv_scale, scale;
} Scaling;

static Scaling power_of_two_scaling(double length)
{
    int exponent;
    if (length < 0x1p-60)
        return (Scaling){0, 0};
    if (!(length < 0x1p60))
        return (Scaling){1, 1};
    frexp(length * 1.4142135623730951, &exponent);
    return (Scaling){ldexpf(1, 1 - exponent), ldexpf(1, exponent - 1)};
}

/* How many groups of inputs are taken in pairs: all that are whole, or none of so few that a plain sum would be more exact. */
static int paired_groups(int K) { return K < FOLD_INPUTS ? 0 : K / GROUP_INPUTS; }

/* The place in a panel of the weights of input k of K: those of a step follow each other. */
static size_t panel_index(int k, int K)
{
    const int group = k / GROUP_INPUTS * GROUP_INPUTS, within = k - group;
    return (size_t)(group < paired_groups(K) * GROUP_INPUTS ? group + within % LANES * STEP_INPUTS + within / LANES : k);
}

/* Sums over a row of weights: of its squares, and of its pairs. */
static void sum_squares_and_pairs(const float *x, int K, double *squares, double *pairs)
{
    double of_squares[LANES] = {0}, of_pairs[LANES] = {0}; /* lane by lane, for the compiler's sake */
    int k = 0;
    for (; k + LANES <= K; k += LANES)
        for (int n = 0; n < LANES; n++)
            of_squares[n] += (double)x[k + n] * x[k + n];
    for (; k < K; k++)
        of_squares[0] += (double)x[k] * x[k];
    for (int group = 0; group < paired_groups(K) * GROUP_INPUTS; group += GROUP_INPUTS)
        for (int n = 0; n < LANES; n++)
            of_pairs[n] += (double)x[group + n] * x[group + LANES + n];
    *squares = *pairs = 0;
    for (int n = 0; n < LANES; n++) {
        *squares += of_squares[n];
        *pairs += of_pairs[n];
    }
}

/* Some rows into one panel or two, already with scale and sum. */
static void pack_rows(const float *w, int rows, int K, int first, float *panels, const float *scale)
{
    for (int start = 0; start < K; start += LANES) { /* few enough lines to stay in the first-level cache while they fill */
        const int end = start + LANES < K ? start + LANES : K;
        const size_t step = start < paired_groups(K) * GROUP_INPUTS ? STEP_INPUTS : 1;
        for (int i = 0; i < rows; i++) {
            const int row = first + i;
            const float inv_scale = scale[row] > 0 ? 1.0f / scale[row] : 0, *x = w + (size_t)i * (size_t)K;
            float *to = panels + (size_t)(row / WINOGRAD_PANEL) * WINOGRAD_PANEL * (size_t)K + row % WINOGRAD_PANEL;
            to += panel_index(start, K) * WINOGRAD_PANEL;
            for (int k = start; k < end; k++, to += step * WINOGRAD_PANEL)
                *to = x[k] * inv_scale;
        }
    }
}

static void pack_panels(const float *w, int rows, int K, int first, float *panels, float *scale, float *sum)
{
    for (int done = 0; done < rows; done += WINOGRAD_PANEL) { /* so many that they are still in a cache when they are read again */
        const int count = rows - done < WINOGRAD_PANEL ? rows - done : WINOGRAD_PANEL;
        const float *block = w + (size_t)done * (size_t)K;
        for (int i = 0; i < count; i++) {
            const int row = first + done + i;
            double squares, pairs;
            sum_squares_and_pairs(block + (size_t)i * (size_t)K, K, &squares, &pairs);
            const Scaling s = power_of_two_scaling(sqrt(squares));
            scale[row] = s.scale;
            sum[row] = (float)(pairs * s.inv_scale * s.inv_scale);
        }
        pack_rows(block, count, K, first + done, panels, scale);
    }
}

/* Panels first to last of a matrix that is stored by inputs: w (K, N) holds the weight of output n for input k at [k][n]. */
static void pack_columns(const float *w, size_t stride, int K, int N, int first, int last, float *panels, float *scale, float *sum)
{
    const int paired_to = paired_groups(K) * GROUP_INPUTS;
    for (int p = first; p < last; p++) {
        const int column = p * WINOGRAD_PANEL, columns = N - column < WINOGRAD_PANEL ? N - column : WINOGRAD_PANEL;
        const float *x = w + column;
        float squares[WINOGRAD_PANEL] = {0}, factor[WINOGRAD_PANEL] = {0}, *to = panels + (size_t)column * (size_t)K;
        double pairs[WINOGRAD_PANEL] = {0};
        for (int k = 0; k < K; k++)
            for (int n = 0; n < columns; n++)
                squares[n] += x[k * stride + n] * x[k * stride + n];
        for (int group = 0; group < paired_to; group += GROUP_INPUTS)
            for (int k = group; k < group + LANES; k++)
                for (int n = 0; n < columns; n++)
                    pairs[n] += (double)x[k * stride + n] * x[(k + LANES) * stride + n];
        for (int n = 0; n < WINOGRAD_PANEL; n++) {
            const Scaling s = power_of_two_scaling(sqrt((double)squares[n]));
            factor[n] = s.inv_scale;
            scale[column + n] = s.scale;
            sum[column + n] = (float)(pairs[n] * s.inv_scale * s.inv_scale);
        }
        for (int k = 0; k < K; k++) {
            float *row = to + panel_index(k, K) * WINOGRAD_PANEL;
            for (int v = 0; v < WINOGRAD_VECTORS; v++) {
                const int left = columns - v * LANES;
                store(row + v * LANES, left > 0 ? load_part(x + k * stride + v * LANES, left) * load(factor + v * LANES) : (Vec){0});
            }
        }
    }
}

/* The sum of a row's pairs, and the largest of them. */
static float sum_pairs(const float *x, int K, float *most)
{
    Vec sum = {0}, largest = {0};
    for (int group = 0; group < paired_groups(K) * GROUP_INPUTS; group += GROUP_INPUTS) {
        const Vec pair = load(x + group) * load(x + group + LANES);
        largest = max_(max_(pair, -pair), largest);
        sum += pair;
    }
    *most = reduce_max(largest);
    return reduce_add(sum);
}

/* Where both of a pair are much of a row, sums would carry their product along, and lose the digits that it covers. Of such a pair the
 * second is taken out of the row. */
static Outliers extract_outliers(float *x, int K)
{
    Outliers outliers = {0};
    for (int group = 0; group < paired_groups(K) * GROUP_INPUTS; group += GROUP_INPUTS)
        for (int k = group; k < group + LANES; k++)
            /* MAX_OUTLIERS are as many as there can be, but for infinities */
            if (fabsf(x[k] * x[k + LANES]) > OUTLIER_THRESHOLD && outliers.count < MAX_OUTLIERS) {
                outliers.input[outliers.count] = k + LANES;
                outliers.value[outliers.count++] = x[k + LANES];
                x[k + LANES] = 0;
            }
    return outliers;
}

static void normalize_rows(const float *x, size_t stride, int rows, int K, Rows to)
{
    for (int i = 0; i < rows; i++, x += stride) {
        float *y = to.x + i * to.stride, most;
        Vec squares[2] = {{0}};
        int k = 0;
        for (; k + 2 * LANES <= K; k += 2 * LANES)
            for (int n = 0; n < 2; n++) {
                const Vec v = load(x + k + n * LANES);
                squares[n] = fma_(v, v, squares[n]);
            }
        for (; k < K; k += LANES) {
            const Vec v = load_part(x + k, K - k);
            squares[0] = fma_(v, v, squares[0]);
        }
        const Scaling s = power_of_two_scaling(sqrt((double)reduce_add(squares[0] + squares[1])));
        for (k = 0; k < K; k += LANES)
            store_part(y + k, load_part(x + k, K - k) * s.inv_scale, K - k);
        to.scale[i] = s.scale;
        to.sum[i] = sum_pairs(y, K, &most);
        to.outliers[i].count = 0;
        if (most > OUTLIER_THRESHOLD) {
            to.outliers[i] = extract_outliers(y, K);
            to.sum[i] = sum_pairs(y, K, &most);
        }
    }
}

/* Ten rows by four registers, so that none is lost to addresses: row 0, row 3, row 5, and the bytes from one row to the next. */
typedef struct {
    const float *row0, *row3, *row5;
    size_t stride;
} RowPointers;

INLINE RowPointers row_pointers(const float *x, size_t stride)
{
    return (RowPointers){x, x + 3 * stride, x + 5 * stride, stride * sizeof *x};
}

INLINE void advance(RowPointers *at, int k)
{
    at->row0 += k;
    at->row3 += k;
    at->row5 += k;
}

/* Instructions of one row: sum[v] + x2 w2[v] + (x0 + w1[v]) (x1 + w0[v]) of both vectors of outputs.
 *
 * On Zen 4 broadcasts are part of the additions, which they cost nothing: a compiler would make one for several, and a broadcast by itself takes
 * the units that add. Zen 5 computes twice as much in a cycle and loads as little, so there each input is loaded once for both vectors. */
#if defined(SHARED_BROADCASTS)
#define ROW_INSTRUCTIONS(row)                        \
    "vbroadcastss 128" row ", %[c]\n\t"             \
    "vbroadcastss " row ", %[a]\n\t"                \
    "vbroadcastss 64" row ", %[b]\n\t"              \
    "vfmadd231ps %[c], %[w20], %[sum0]\n\t"         \
    "vfmadd231ps %[c], %[w21], %[sum1]\n\t"         \
    "vaddps %[a], %[w10], %[c]\n\t"                 \
    "vaddps %[b], %[w00], %[d]\n\t"                 \
    "vaddps %[a], %[w11], %[a]\n\t"                 \
    "vaddps %[b], %[w01], %[b]\n\t"                 \
    "vfmadd231ps %[c], %[d], %[sum0]\n\t"           \
    "vfmadd231ps %[a], %[b], %[sum1]"
#else
#define ROW_INSTRUCTIONS(row)                        \
    "vfmadd231ps 128" row "%{1to16%}, %[w20], %[sum0]\n\t" \
    "vaddps " row "%{1to16%}, %[w10], %[a]\n\t"     \
    "vaddps 64" row "%{1to16%}, %[w00], %[b]\n\t"   \
    "vfmadd231ps 128" row "%{1to16%}, %[w21], %[sum1]\n\t" \
    "vaddps " row "%{1to16%}, %[w11], %[c]\n\t"     \
    "vaddps 64" row "%{1to16%}, %[w01], %[d]\n\t"   \
    "vfmadd231ps %[a], %[b], %[sum0]\n\t"           \
    "vfmadd231ps %[c], %[d], %[sum1]"
#endif
#define FMA_ROW(row)                                                                                                     \
    __asm__(ROW_INSTRUCTIONS(row)                                                                                        \
            : [sum0] "+v"(sum[0]), [sum1] "+v"(sum[1]), [a] "=&v"(a), [b] "=&v"(b), [c] "=&v"(c), [d] "=&v"(d)           \
            : [w00] "v"(w[0][0]), [w01] "v"(w[0][1]), [w10] "v"(w[1][0]), [w11] "v"(w[1][1]), [w20] "v"(w[2][0]),        \
              [w21] "v"(w[2][1]), [row0] "r"(at.row0), [row3] "r"(at.row3), [row5] "r"(at.row5), [stride] "r"(at.stride), \
              "m"(*(const float(*)[READ_FLOATS])at.row0))

INLINE void fma_row(const int i, Vec sum[WINOGRAD_VECTORS], Vec w[STEP_INPUTS][WINOGRAD_VECTORS], RowPointers at)
{
    Vec a, b, c, d;
    switch (i) {
    case 0: FMA_ROW("(%[row0])"); break;
    case 1: FMA_ROW("(%[row0],%[stride])"); break;
    case 2: FMA_ROW("(%[row0],%[stride],2)"); break;
    case 3: FMA_ROW("(%[row3])"); break;
    case 4: FMA_ROW("(%[row0],%[stride],4)"); break;
    case 5: FMA_ROW("(%[row5])"); break;
    case 6: FMA_ROW("(%[row5],%[stride])"); break;
    case 7: FMA_ROW("(%[row5],%[stride],2)"); break;
    case 8: FMA_ROW("(%[row0],%[stride],8)"); break;
    default: FMA_ROW("(%[row5],%[stride],4)"); break;
    }
}

/* What a tile takes and gives. */
typedef struct {
    const float *x, *scale, *sum; /* its rows, as in Rows */
    const Outliers *outliers;
    size_t x_stride;
    const float *panel, *w_scale, *w_sum, *bias; /* its outputs', as in Linear */
    int K;
    Prefetch fetch;
    const float *residual; /* or NULL */
    float *y;
    size_t stride; /* of both */
} WinogradTile;

/* What totals stand for: without the pairs' own products, at the size of x and W, with bias and residual. */
INLINE void store_winograd_tile(const int rows, const float *residual, Vec total[WINOGRAD_ROWS][WINOGRAD_VECTORS], const WinogradTile *t)
{
    for (int v = 0; v < WINOGRAD_VECTORS; v++) {
        const int at = v * LANES;
        const Vec pairs = load(t->w_sum + at), unit = load(t->w_scale + at), bias = load(t->bias + at);
        for (int i = 0; i < rows; i++) {
            Vec y = fma_((total[i][v] - (pairs + t->sum[i])) * t->scale[i], unit, bias);
            if (residual)
                y += load(residual + i * t->stride + at);
            store(t->y + i * t->stride + at, y);
        }
    }
}

/* One tile. rows is a constant wherever this is inlined, or the sums would not be registers; so is how many vectors of weights it fetches
 * at a step. */
INLINE void winograd_tile(const int rows, const int fetched, const WinogradTile *t)
{
    const float *panel = t->panel;
    const int K = t->K, paired_to = paired_groups(K) * GROUP_INPUTS, fold = K < 4 * FOLD_INPUTS ? FOLD_INPUTS : 2 * FOLD_INPUTS;
    Prefetch fetch = t->fetch;
    Vec total[WINOGRAD_ROWS][WINOGRAD_VECTORS];
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < WINOGRAD_VECTORS; v++)
            total[i][v] = (Vec){0};
    for (int from = 0; from < K; from += fold) {
        const int end = from + fold < K ? from + fold : K, grouped = end < paired_to ? end : paired_to;
        Vec sum[WINOGRAD_ROWS][WINOGRAD_VECTORS];
        for (int i = 0; i < rows; i++)
            for (int v = 0; v < WINOGRAD_VECTORS; v++)
                sum[i][v] = (Vec){0};
        RowPointers at = row_pointers(t->x + from, t->x_stride);
        for (int group = from; group < grouped; group += GROUP_INPUTS) {
            for (int k = 0; k < LANES; k++, panel += STEP_INPUTS * WINOGRAD_PANEL) {
                Vec w[STEP_INPUTS][WINOGRAD_VECTORS];
#pragma GCC unroll 3
                for (int n = 0; n < STEP_INPUTS; n++)
#pragma GCC unroll 2
                    for (int v = 0; v < WINOGRAD_VECTORS; v++)
                        w[n][v] = load(panel + n * WINOGRAD_PANEL + v * LANES);
                prefetch_step(&fetch, fetched, 0);
#pragma GCC unroll 10
                for (int i = 0; i < rows; i++)
                    fma_row(i, sum[i], w, at);
                advance(&at, 1);
            }
            advance(&at, GROUP_INPUTS - LANES);
        }
        for (int k = grouped; k < end; k++, panel += WINOGRAD_PANEL) {
            Vec w[WINOGRAD_VECTORS];
#pragma GCC unroll 2
            for (int v = 0; v < WINOGRAD_VECTORS; v++)
                w[v] = load(panel + v * LANES);
#pragma GCC unroll 10
            for (int i = 0; i < rows; i++) {
                const Vec x = broadcast(t->x[i * t->x_stride + (size_t)k]);
#pragma GCC unroll 2
                for (int v = 0; v < WINOGRAD_VECTORS; v++)
                    sum[i][v] = fma_(x, w[v], sum[i][v]);
            }
        }
        for (int i = 0; i < rows; i++)
            for (int v = 0; v < WINOGRAD_VECTORS; v++)
                total[i][v] += sum[i][v];
    }
    for (int i = 0; i < rows; i++)
        for (int n = 0; n < t->outliers[i].count; n++)
            for (int v = 0; v < WINOGRAD_VECTORS; v++) {
                const float *w = t->panel + panel_index(t->outliers[i].input[n], K) * WINOGRAD_PANEL + v * LANES;
                total[i][v] = fma_(broadcast(t->outliers[i].value[n]), load(w), total[i][v]);
            }
    if (t->residual)
        store_winograd_tile(rows, t->residual, total, t);
    else
        store_winograd_tile(rows, NULL, total, t);
}

#define TILE_OF(rows)                             \
    case rows:                                    \
        if (many)                                 \
            winograd_tile(rows, 1, t);              \
        else                                      \
            winograd_tile(rows, STEP_VECTORS, t);   \
        break

/* The tile of so many rows, one of many or of few over the panel. */
static void winograd_tile_of(int rows, int many, const WinogradTile *t)
{
    switch (rows) {
        TILE_OF(1);
        TILE_OF(2);
        TILE_OF(3);
        TILE_OF(4);
        TILE_OF(5);
        TILE_OF(6);
        TILE_OF(7);
        TILE_OF(8);
        TILE_OF(9);
        TILE_OF(10);
    }
}

static void gemm(const Linear *w, Rows x, int rows, float *y, size_t stride, const float *residual, int activation, int first, int last)
{
    const int K = w->inward, N = w->outward;
    float buffer[WINOGRAD_ROWS * WINOGRAD_PANEL];
    WinogradTile t = {.x_stride = x.stride, .K = K};
    for (int block = 0; block < rows; block += BLOCK_ROWS) {
        const int count = rows - block < BLOCK_ROWS ? rows - block : BLOCK_ROWS;
        const int tiles = (count + WINOGRAD_ROWS - 1) / WINOGRAD_ROWS, many = tiles >= STEP_VECTORS;
        for (int p = first; p < last; p++) {
            const int column = p * WINOGRAD_PANEL, columns = N - column < WINOGRAD_PANEL ? N - column : WINOGRAD_PANEL;
            const int buffered = activation != LINEAR || columns < WINOGRAD_PANEL;
            t.panel = w->panels + (size_t)column * (size_t)K;
            t.w_scale = w->scale + column;
            t.w_sum = w->sum + column;
            t.bias = w->bias + column;
            t.stride = buffered ? WINOGRAD_PANEL : stride;
            for (int n = 0; n < tiles; n++) {
                const int row = block + n * count / tiles, end = block + (n + 1) * count / tiles; /* about equally high */
                const size_t at = (size_t)row * stride + column;
                t.x = x.x + (size_t)row * x.stride;
                t.scale = x.scale + row;
                t.sum = x.sum + row;
                t.outliers = x.outliers + row;
                t.fetch = prefetch_for(n, tiles, t.panel, K / STEP_INPUTS, STEP_VECTORS * sizeof(Vec), NULL);
                t.residual = residual && !buffered ? residual + at : NULL;
                t.y = buffered ? buffer : y + at;
                prefetch_dst(end - row, WINOGRAD_VECTORS, y + at, stride);
                winograd_tile_of(end - row, many, &t);
                if (buffered)
                    activate_tile(activation, buffer, WINOGRAD_PANEL, end - row, y + at, stride, columns, residual ? residual + at : NULL);
            }
        }
    }
}
