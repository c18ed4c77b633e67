/* The matrix product in fp32 for processors that add beside what they multiply: y (T, N) = x (T, K) W^T + b by Winograd's inner product.
 *
 *     x0 w0 + x1 w1 = (x0 + w1) (x1 + w0) - x0 x1 - w0 w1
 *
 * Summed over pairs, the last two terms are one number for a row and one for an output, found once; what is left is one multiplication
 * for two of a plain product, and two additions. Zen 4 and 5 have units of their own for additions, which a plain product leaves idle.
 * So of every three inputs two are taken as a pair and one by itself: two multiply-adds and two additions, all units busy, in the time
 * of two instead of three.
 *
 * S. Winograd, A new algorithm for inner product, IEEE Trans. Computers C-17 (1968). It is as exact as a plain product where x and w are
 * about equally large, and loses digits where they are not: R. P. Brent, Error analysis of algorithms for matrix multiplication and
 * triangular decomposition using Winograd's identity, Numer. Math. 16 (1970). So each row and each output's weights are brought to a
 * length of about one, by powers of two, which round nothing. Sums are folded into totals so often that the error does not grow with K.
 */
#include <math.h>

#include "fetch.h"

enum {
    PAIRED_ROWS = 10, /* of a tile, two vectors of outputs wide: 20 of 32 registers are sums */
    PAIRED_VECTORS = 2,
    PAIRED_PANEL = PAIRED_VECTORS * LANES,
    STEP = 3,             /* inputs at a time: k and k + LANES are a pair, k + 2 LANES is by itself */
    GROUP = STEP * LANES, /* inputs of so many steps */
    FOLD = 4 * GROUP,     /* inputs whose sum goes to the total, twice as many where there are many */
    STEP_VECTORS = STEP * PAIRED_VECTORS,
    READ = 1 << 20 /* floats, and more than a tile's rows: tells the compiler what memory the instructions below depend on */
};

static const float COVERS = 1.0f / 16; /* of a row's squared length, a pair's product */

/* The power of two that brings a length to between 1/sqrt(2) and sqrt(2), and one over it. Lengths that are next to nothing count as
 * nothing, times 0; those beyond measure, times 1. */
typedef struct {
    float up, back;
} Scaling;

static Scaling to_one(double length)
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
static int groups_of(int K) { return K < FOLD ? 0 : K / GROUP; }

/* The place in a panel of the weights of input k of K: those of a step follow each other. */
static size_t place_of(int k, int K)
{
    const int group = k / GROUP * GROUP, within = k - group;
    return (size_t)(group < groups_of(K) * GROUP ? group + within % LANES * STEP + within / LANES : k);
}

/* Sums over a row of weights: of its squares, and of its pairs. */
static void sums_of(const float *x, int K, double *squares, double *pairs)
{
    double of_squares[LANES] = {0}, of_pairs[LANES] = {0}; /* lane by lane, for the compiler's sake */
    int k = 0;
    for (; k + LANES <= K; k += LANES)
        for (int n = 0; n < LANES; n++)
            of_squares[n] += (double)x[k + n] * x[k + n];
    for (; k < K; k++)
        of_squares[0] += (double)x[k] * x[k];
    for (int group = 0; group < groups_of(K) * GROUP; group += GROUP)
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
        const size_t step = start < groups_of(K) * GROUP ? STEP : 1;
        for (int i = 0; i < rows; i++) {
            const int row = first + i;
            const float up = scale[row] > 0 ? 1.0f / scale[row] : 0, *x = w + (size_t)i * (size_t)K;
            float *to = panels + (size_t)(row / PAIRED_PANEL) * PAIRED_PANEL * (size_t)K + row % PAIRED_PANEL;
            to += place_of(start, K) * PAIRED_PANEL;
            for (int k = start; k < end; k++, to += step * PAIRED_PANEL)
                *to = x[k] * up;
        }
    }
}

static void pack(const float *w, int rows, int K, int first, float *panels, float *scale, float *sum)
{
    for (int done = 0; done < rows; done += PAIRED_PANEL) { /* so many that they are still in a cache when they are read again */
        const int count = rows - done < PAIRED_PANEL ? rows - done : PAIRED_PANEL;
        const float *some = w + (size_t)done * (size_t)K;
        for (int i = 0; i < count; i++) {
            const int row = first + done + i;
            double squares, pairs;
            sums_of(some + (size_t)i * (size_t)K, K, &squares, &pairs);
            const Scaling s = to_one(sqrt(squares));
            scale[row] = s.back;
            sum[row] = (float)(pairs * s.up * s.up);
        }
        pack_rows(some, count, K, first + done, panels, scale);
    }
}

/* The sum of a row's pairs, and the largest of them. */
static float pairs_of(const float *x, int K, float *most)
{
    Vec sum = {0}, largest = {0};
    for (int group = 0; group < groups_of(K) * GROUP; group += GROUP) {
        const Vec pair = load(x + group) * load(x + group + LANES);
        largest = larger(larger(pair, -pair), largest);
        sum += pair;
    }
    *most = largest_of(largest);
    return sum_of(sum);
}

/* Where both of a pair are much of a row, sums would carry their product along, and lose the digits that it covers. Of such a pair the
 * second is taken out of the row. */
static Apart set_apart(float *x, int K)
{
    Apart found = {0};
    for (int group = 0; group < groups_of(K) * GROUP; group += GROUP)
        for (int k = group; k < group + LANES; k++)
            if (fabsf(x[k] * x[k + LANES]) > COVERS && found.count < MOST_APART) { /* as many as there can be, but for infinities */
                found.input[found.count] = k + LANES;
                found.value[found.count++] = x[k + LANES];
                x[k + LANES] = 0;
            }
    return found;
}

static void balance(const float *x, size_t stride, int rows, int K, Rows to)
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
        const Scaling s = to_one(sqrt((double)sum_of(squares[0] + squares[1])));
        for (k = 0; k < K; k += LANES)
            store_part(y + k, load_part(x + k, K - k) * s.up, K - k);
        to.scale[i] = s.back;
        to.sum[i] = pairs_of(y, K, &most);
        to.apart[i].count = 0;
        if (most > COVERS) {
            to.apart[i] = set_apart(y, K);
            to.sum[i] = pairs_of(y, K, &most);
        }
    }
}

/* Ten rows by four registers, so that none is lost to addresses: row 0, row 3, row 5, and the bytes from one row to the next. */
typedef struct {
    const float *row0, *row3, *row5;
    size_t stride;
} Place;

INLINE Place place_at(const float *x, size_t stride) { return (Place){x, x + 3 * stride, x + 5 * stride, stride * sizeof *x}; }

INLINE void advance(Place *at, int k)
{
    at->row0 += k;
    at->row3 += k;
    at->row5 += k;
}

/* sum + x2 w2 + (x0 + w1) (x1 + w0) of row i. Broadcasts are part of the additions, which they cost nothing: a compiler would make
 * one for several, and a broadcast by itself takes the units that add. */
#define STEP_OF(row)                                                  \
    __asm__("vfmadd231ps 128" row "%{1to16%}, %[w2], %[sum]\n\t"      \
            "vaddps " row "%{1to16%}, %[w1], %[left]\n\t"             \
            "vaddps 64" row "%{1to16%}, %[w0], %[right]\n\t"          \
            "vfmadd231ps %[left], %[right], %[sum]"                   \
            : [sum] "+v"(sum), [left] "=&v"(left), [right] "=&v"(right) \
            : [w0] "v"(w0), [w1] "v"(w1), [w2] "v"(w2), [row0] "r"(at.row0), [row3] "r"(at.row3), [row5] "r"(at.row5), \
              [stride] "r"(at.stride), "m"(*(const float(*)[READ])at.row0))

INLINE Vec step_of(const int i, Vec sum, Vec w0, Vec w1, Vec w2, Place at)
{
    Vec left, right;
    switch (i) {
    case 0: STEP_OF("(%[row0])"); break;
    case 1: STEP_OF("(%[row0],%[stride])"); break;
    case 2: STEP_OF("(%[row0],%[stride],2)"); break;
    case 3: STEP_OF("(%[row3])"); break;
    case 4: STEP_OF("(%[row0],%[stride],4)"); break;
    case 5: STEP_OF("(%[row5])"); break;
    case 6: STEP_OF("(%[row5],%[stride])"); break;
    case 7: STEP_OF("(%[row5],%[stride],2)"); break;
    case 8: STEP_OF("(%[row0],%[stride],8)"); break;
    default: STEP_OF("(%[row5],%[stride],4)"); break;
    }
    return sum;
}

/* What a tile takes and gives. */
typedef struct {
    const float *x, *scale, *sum; /* its rows, as in Rows */
    const Apart *apart;
    size_t x_stride;
    const float *panel, *w_scale, *w_sum, *bias; /* its outputs', as in Linear */
    int K;
    Fetch fetch;
    const float *residual; /* or NULL */
    float *y;
    size_t stride; /* of both */
} PairedTile;

/* What totals stand for: without the pairs' own products, at the size of x and W, with bias and residual. */
INLINE void finish_pairs(const int rows, const float *residual, Vec total[PAIRED_ROWS][PAIRED_VECTORS], const PairedTile *t)
{
    for (int v = 0; v < PAIRED_VECTORS; v++) {
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
INLINE void paired_tile(const int rows, const int fetched, const PairedTile *t)
{
    const float *panel = t->panel;
    const int K = t->K, paired_to = groups_of(K) * GROUP, fold = K < 4 * FOLD ? FOLD : 2 * FOLD;
    Fetch fetch = t->fetch;
    Vec total[PAIRED_ROWS][PAIRED_VECTORS];
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < PAIRED_VECTORS; v++)
            total[i][v] = (Vec){0};
    for (int from = 0; from < K; from += fold) {
        const int end = from + fold < K ? from + fold : K, grouped = end < paired_to ? end : paired_to;
        Vec sum[PAIRED_ROWS][PAIRED_VECTORS];
        for (int i = 0; i < rows; i++)
            for (int v = 0; v < PAIRED_VECTORS; v++)
                sum[i][v] = (Vec){0};
        Place at = place_at(t->x + from, t->x_stride);
        for (int group = from; group < grouped; group += GROUP) {
            for (int k = 0; k < LANES; k++, panel += STEP * PAIRED_PANEL) {
                Vec w[STEP][PAIRED_VECTORS];
#pragma GCC unroll 3
                for (int n = 0; n < STEP; n++)
#pragma GCC unroll 2
                    for (int v = 0; v < PAIRED_VECTORS; v++)
                        w[n][v] = load(panel + n * PAIRED_PANEL + v * LANES);
                fetch_step(&fetch, fetched, 0);
#pragma GCC unroll 10
                for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
                    for (int v = 0; v < PAIRED_VECTORS; v++)
                        sum[i][v] = step_of(i, sum[i][v], w[0][v], w[1][v], w[2][v], at);
                advance(&at, 1);
            }
            advance(&at, GROUP - LANES);
        }
        for (int k = grouped; k < end; k++, panel += PAIRED_PANEL) {
            Vec w[PAIRED_VECTORS];
#pragma GCC unroll 2
            for (int v = 0; v < PAIRED_VECTORS; v++)
                w[v] = load(panel + v * LANES);
#pragma GCC unroll 10
            for (int i = 0; i < rows; i++) {
                const Vec x = broadcast(t->x[i * t->x_stride + (size_t)k]);
#pragma GCC unroll 2
                for (int v = 0; v < PAIRED_VECTORS; v++)
                    sum[i][v] = fma_(x, w[v], sum[i][v]);
            }
        }
        for (int i = 0; i < rows; i++)
            for (int v = 0; v < PAIRED_VECTORS; v++)
                total[i][v] += sum[i][v];
    }
    for (int i = 0; i < rows; i++)
        for (int n = 0; n < t->apart[i].count; n++)
            for (int v = 0; v < PAIRED_VECTORS; v++) {
                const float *w = t->panel + place_of(t->apart[i].input[n], K) * PAIRED_PANEL + v * LANES;
                total[i][v] = fma_(broadcast(t->apart[i].value[n]), load(w), total[i][v]);
            }
    if (t->residual)
        finish_pairs(rows, t->residual, total, t);
    else
        finish_pairs(rows, NULL, total, t);
}

#define TILE_OF(rows)                             \
    case rows:                                    \
        if (many)                                 \
            paired_tile(rows, 1, t);              \
        else                                      \
            paired_tile(rows, STEP_VECTORS, t);   \
        break

/* The tile of so many rows, one of many or of few over the panel. */
static void paired_tile_of(int rows, int many, const PairedTile *t)
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

static void product(const Linear *w, Rows x, int rows, float *y, size_t stride, const float *residual, int activation, int first, int last)
{
    const int K = w->inward, N = w->outward;
    float made[PAIRED_ROWS * PAIRED_PANEL];
    PairedTile t = {.x_stride = x.stride, .K = K};
    for (int block = 0; block < rows; block += BLOCK_ROWS) {
        const int count = rows - block < BLOCK_ROWS ? rows - block : BLOCK_ROWS;
        const int tiles = (count + PAIRED_ROWS - 1) / PAIRED_ROWS, many = tiles >= STEP_VECTORS;
        for (int p = first; p < last; p++) {
            const int column = p * PAIRED_PANEL, columns = N - column < PAIRED_PANEL ? N - column : PAIRED_PANEL;
            const int aside = activation != LINEAR || columns < PAIRED_PANEL;
            t.panel = w->panels + (size_t)column * (size_t)K;
            t.w_scale = w->scale + column;
            t.w_sum = w->sum + column;
            t.bias = w->bias + column;
            t.stride = aside ? PAIRED_PANEL : stride;
            for (int n = 0; n < tiles; n++) {
                const int row = block + n * count / tiles, end = block + (n + 1) * count / tiles; /* about equally high */
                const size_t at = (size_t)row * stride + column;
                t.x = x.x + (size_t)row * x.stride;
                t.scale = x.scale + row;
                t.sum = x.sum + row;
                t.apart = x.apart + row;
                t.fetch = fetch_for(n, tiles, t.panel, K / STEP, STEP_VECTORS * sizeof(Vec), NULL);
                t.residual = residual && !aside ? residual + at : NULL;
                t.y = aside ? made : y + at;
                expect(end - row, PAIRED_VECTORS, y + at, stride);
                paired_tile_of(end - row, many, &t);
                if (aside)
                    activate(activation, made, PAIRED_PANEL, end - row, y + at, stride, columns, residual ? residual + at : NULL);
            }
        }
    }
}
