/* Attention in whole numbers of 16 bits, for long texts of layers whose products are in int8: processors multiply and add two pairs of them where
 * they do one pair of floats. Queries and keys have 13 bits each token by itself, values 11 bits each output by itself, the exponentials of
 * softmax 15. That is 16 times as fine as the products' int8 and more, so that what int8 costs is not more than with attention in fp32.
 *
 * Numbers lie in pairs that follow each other along what is summed, two to a 32-bit lane; else all is as in attention.c: queries in lanes,
 * scores (L, QUERIES), sums of a text's own numbers in an order of its own. Sums of whole numbers are exact: over a head for scores, over
 * VALUE_TERMS tokens for outputs; those are added in fp32 from the first to the last.
 *
 * Contents: Units: what one is worth; to_units(); key_pairs(), query_pairs(), value_pairs(); pair_tile() and pair_tile_of(): exact sums of a
 * tile; score_tile(), mix_tile(); softmax_pairs(); attention16(). Part of level.c. Rounding must agree with engine/int8.py: test_attention_in_16_bits
 * compares them.
 * Stability: half a unit for each number; a weight below 1/65,534 of the largest counts as none. The weights' sum is that of the rounded ones.
 */

enum {
    SCORE_UNITS = 4095,   /* of a query or a key: 4095^2 * MOST_HEAD16 < 2^31 */
    MOST_HEAD16 = 128,    /* wider heads, and */
    FEWEST_TOKENS16 = 64, /* shorter texts are left to attention() */
    WEIGHT_UNITS = 32767, /* of the largest weight; */
    VALUE_UNITS = 1023,   /* of a value: 32767 * 1023 * VALUE_TERMS < 2^31 */
    VALUE_TERMS = 64
};

typedef uint16_t ShortVec __attribute__((vector_size(2 * LANES)));

static const float LOG2_E = 1.44269504f; /* scores are logarithms to the base 2 */
static const float ROUNDING = 12582912.0f; /* 3 * 2^22: adding it rounds to the nearest integer, and leaves that in the low bits */

/* A vector of whole numbers in the low 16 bits of its lanes. */
INLINE IntVec to_units(Vec x, Vec inv_unit) { return (IntVec)(x * inv_unit + ROUNDING) & 0xffff; }

/* What a number is divided by, where the largest is so many units; nothing but zeros stays zero. */
INLINE Vec inverse_unit(Vec largest, float units)
{
    IntVec some = largest > 1e-30f;
    return (Vec)((IntVec)(units / largest) & some);
}

INLINE Vec magnitude(Vec x) { return max_(x, -x); }

/* Keys as rows of pairs, filled up with zeros, and what a unit of each is worth in a score. */
static void key_pairs(Matrix keys, int length, int head, float scale, int32_t *pairs, float *unit)
{
    const size_t row = (size_t)filled(head);
    uint16_t *to = (uint16_t *)pairs;
    for (int i = 0; i < length; i++, keys.at += keys.row, to += row) {
        Vec largest = {0};
        for (int j = 0; j < head; j += LANES)
            largest = max_(largest, magnitude(load_part(keys.at + j, head - j)));
        const float most = reduce_max(largest);
        const Vec inv_unit = inverse_unit(broadcast(most), SCORE_UNITS);
        unit[i] = most / SCORE_UNITS * scale;
        for (int j = 0; j < head; j += LANES) {
            ShortVec units = __builtin_convertvector(to_units(load_part(keys.at + j, head - j), inv_unit), ShortVec);
            memcpy(to + j, &units, sizeof units);
        }
    }
}

/* Queries (head, stride) of vectors in lanes as (head filled up / 2, stride) pairs, in place, and what a unit of each is worth. */
static void query_pairs(float *queries, size_t stride, int head, float *unit)
{
    for (size_t v = 0; v < stride; v += LANES) {
        Vec largest = {0};
        for (int j = 0; j < head; j++)
            largest = max_(largest, magnitude(load(queries + j * stride + v)));
        const Vec inv_unit = inverse_unit(largest, SCORE_UNITS);
        store(unit + v, largest / SCORE_UNITS);
        for (int j = 0; j < filled(head); j += 2) { /* transpose() has filled them up */
            const float *at = queries + j * stride + v;
            IntVec low = to_units(load(at), inv_unit), high = to_units(load(at + stride), inv_unit);
            store(queries + j / 2 * stride + v, (Vec)(low | high << 16));
        }
    }
}

/* Values of two tokens at a time as ((length + 1) / 2, head filled up) pairs, and what a unit of each output is worth. */
static void value_pairs(Matrix values, int length, int head, int32_t *pairs, float *unit)
{
    const size_t row = (size_t)filled(head);
    for (int j = 0; j < head; j += LANES) {
        Vec largest = {0};
        for (int i = 0; i < length; i++)
            largest = max_(largest, magnitude(load_part(values.at + i * values.row + j, head - j)));
        const Vec inv_unit = inverse_unit(largest, VALUE_UNITS);
        store(unit + j, largest / VALUE_UNITS);
        for (int i = 0; i < length; i += 2) {
            const float *at = values.at + i * values.row + j;
            IntVec low = to_units(load_part(at, head - j), inv_unit);
            IntVec high = i + 1 < length ? to_units(load_part(at + values.row, head - j), inv_unit) : (IntVec){0};
            low |= high << 16;
            memcpy(pairs + i / 2 * row + j, &low, sizeof low);
        }
    }
}

/* A matrix of pairs, as Matrix. */
typedef struct {
    const int32_t *at;
    size_t row, column;
} Pairs;

/* sum[i][j] = sum over pairs k of a[i][k] b[k][j], as accumulate_tile(). */
INLINE void pair_tile(const int rows, const int vectors, Pairs a, Pairs b, int depth, IntVec sum[TILE_ROWS][COLUMN_VECTORS])
{
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < vectors; v++)
            sum[i][v] = (IntVec){0};
    for (int k = 0; k < depth; k++, a.at += a.column, b.at += b.row) {
        IntVec row[COLUMN_VECTORS];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            memcpy(&row[v], b.at + v * LANES, sizeof row[v]);
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) {
            const IntVec x = broadcast_int(a.at[i * a.row]);
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                sum[i][v] = dot2(sum[i][v], x, row[v]);
        }
    }
}

/* A tile of y = diag(scale) a b diag(unit), summed `terms` pairs at a time. */
INLINE void pair_tile_columns(const int rows, const int vectors, Pairs a, Pairs b, int depth, int terms, const float *scale, const float *unit,
                              float *y, size_t y_stride, int columns)
{
    Vec total[TILE_ROWS][COLUMN_VECTORS];
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < vectors; v++)
            total[i][v] = (Vec){0};
    for (int k = 0; k < depth; k += terms) {
        IntVec sum[TILE_ROWS][COLUMN_VECTORS];
        pair_tile(rows, vectors, a, b, depth - k < terms ? depth - k : terms, sum);
        a.at += terms * a.column;
        b.at += terms * b.row;
        for (int i = 0; i < rows; i++)
            for (int v = 0; v < vectors; v++)
                total[i][v] += __builtin_convertvector(sum[i][v], Vec);
    }
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < vectors; v++)
            store_part(y + i * y_stride + v * LANES, total[i][v] * scale[i] * load(unit + v * LANES), columns - v * LANES);
}

INLINE void pair_tile_rows(const int rows, Pairs a, Pairs b, int depth, int terms, const float *scale, const float *unit, float *y,
                           size_t y_stride, int columns)
{
    for (int j = 0; j < columns; j += COLUMN_VECTORS * LANES) {
        const Pairs at = {b.at + j, b.row, 1};
        if (j + LANES < columns)
            pair_tile_columns(rows, COLUMN_VECTORS, a, at, depth, terms, scale, unit + j, y + j, y_stride, columns - j);
        else
            pair_tile_columns(rows, 1, a, at, depth, terms, scale, unit + j, y + j, y_stride, columns - j);
    }
}

static void pair_tile_of(int rows, Pairs a, Pairs b, int depth, int terms, const float *scale, const float *unit, float *y, size_t y_stride,
                         int columns)
{
    switch (rows) {
    case 1: pair_tile_rows(1, a, b, depth, terms, scale, unit, y, y_stride, columns); break;
    case 2: pair_tile_rows(2, a, b, depth, terms, scale, unit, y, y_stride, columns); break;
    case 3: pair_tile_rows(3, a, b, depth, terms, scale, unit, y, y_stride, columns); break;
    case 4: pair_tile_rows(4, a, b, depth, terms, scale, unit, y, y_stride, columns); break;
#if defined(__AVX2__)
    case 5: pair_tile_rows(5, a, b, depth, terms, scale, unit, y, y_stride, columns); break;
    case 6: pair_tile_rows(6, a, b, depth, terms, scale, unit, y, y_stride, columns); break;
#endif
#if defined(__AVX512F__)
    case 7: pair_tile_rows(7, a, b, depth, terms, scale, unit, y, y_stride, columns); break;
    case 8: pair_tile_rows(8, a, b, depth, terms, scale, unit, y, y_stride, columns); break;
#endif
    }
}

/* WEIGHT_UNITS * 2^x for x of 0 and less, to about 0.1 unit, from x = n + r with |r| <= 1/2 and the polynomial in r of the least largest relative
 * error (2.6e-6). NaN stays NaN. */
INLINE Vec softmax_weight(Vec x)
{
    x = max_(broadcast(-100.0f), x);
    const Vec shifted = x + ROUNDING, r = x - (shifted - ROUNDING);
    Vec p = broadcast(WEIGHT_UNITS * 0.00957008f);
    p = fma_(p, r, broadcast(WEIGHT_UNITS * 0.05591786f));
    p = fma_(p, r, broadcast(WEIGHT_UNITS * 0.24024745f));
    p = fma_(p, r, broadcast(WEIGHT_UNITS * 0.69312181f));
    p = fma_(p, r, broadcast(WEIGHT_UNITS * 0.99999926f));
    return (Vec)((IntVec)p + ((IntVec)shifted << 23)); /* times 2^n */
}

/* 2^(score - largest) over the keys of each query as ((length + 1) / 2, stride) pairs in place; inv_sum is one over the sum of their units. */
static void softmax_pairs(float *scores, int length, size_t stride, float *inv_sum)
{
    for (size_t v = 0; v < stride; v += LANES) {
        Vec max = broadcast(-INFINITY), sum = {0};
        for (int j = 0; j < length; j++)
            max = max_(max, load(scores + j * stride + v));
        for (int j = 0; j < length; j += 2) {
            Vec low = softmax_weight(load(scores + j * stride + v) - max) + ROUNDING, high = broadcast(ROUNDING);
            if (j + 1 < length)
                high = softmax_weight(load(scores + (j + 1) * stride + v) - max) + ROUNDING;
            sum += (low - ROUNDING) + (high - ROUNDING);
            store(scores + j / 2 * stride + v, (Vec)(((IntVec)low & 0xffff) | (IntVec)high << 16));
        }
        store(inv_sum + v, 1.0f / sum);
    }
}

static void attention16(const float *qkv, int length, int width, int head, int first, int last, const float *bias, int reach,
                        const Relative *relative, float *context, float *scratch)
{
    if (length < FEWEST_TOKENS16 || head > MOST_HEAD16 || relative) {
        attention(qkv, length, width, head, first, last, bias, reach, relative, context, scratch);
        return;
    }
    const size_t stride = 3 * (size_t)width, room = (size_t)filled(head);
    const Matrix all_queries = {qkv, stride, 1}, keys = {qkv + width, stride, 1}, values = {qkv + 2 * width, stride, 1};
    float *queries = scratch, *scores = queries + room * QUERIES;
    int32_t *key = (int32_t *)(scores + (size_t)length * QUERIES), *value = key + (size_t)length * room / 2;
    float *key_unit = (float *)(value + (size_t)(length + 1) / 2 * room), value_unit[MOST_HEAD16], query_unit[QUERIES], inv_sum[QUERIES];
    key_pairs(keys, length, head, LOG2_E / sqrtf((float)head), key, key_unit);
    value_pairs(values, length, head, value, value_unit);
    for (int row = first; row < last; row += QUERIES) {
        const int rows = last - row < QUERIES ? last - row : QUERIES, columns = filled(rows);
        const Span span = reached_keys(row, rows, length, reach);
        const int among = span.last - span.first;
        for (int i = 0; i < rows; i += LANES)
            transpose(matrix_from(all_queries, row + i), rows - i, head, queries + i, (size_t)columns);
        query_pairs(queries, (size_t)columns, head, query_unit);
        for (int j = 0; j < among; j += TILE_ROWS)
            pair_tile_of(at_most_tile(among - j), (Pairs){key + (size_t)(span.first + j) * room / 2, room / 2, 1},
                         (Pairs){(int32_t *)queries, (size_t)columns, 1}, (int)room / 2, (int)room / 2, key_unit + span.first + j, query_unit, scores + (size_t)j * columns, (size_t)columns, columns);
        if (bias)
            add_bias(scores, among, (size_t)columns, bias, LOG2_E, row - span.first);
        softmax_pairs(scores, among, (size_t)columns, inv_sum);
        for (int i = 0; i < rows; i += TILE_ROWS)
            pair_tile_of(at_most_tile(rows - i), (Pairs){(int32_t *)scores + i, 1, (size_t)columns}, (Pairs){value + (size_t)span.first / 2 * room, room, 1}, (among + 1) / 2,
                         VALUE_TERMS / 2, inv_sum + i, value_unit, context + (size_t)(row - first + i) * width, (size_t)width, head);
    }
}
