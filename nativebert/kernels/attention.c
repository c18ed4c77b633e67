/* Attention of one head of one sequence: softmax(q k^T / sqrt(D) + bias) v. No masks: a sequence holds real tokens only. The bias is one number for
 * each distance of query and key: learned (MPNet), a slope (ALiBi), or minus infinity beyond a window (ModernBERT). exp_ makes 1e-38 of that, which
 * changes no sum. With relative positions (DeBERTa) scores are q k^T + q r_k^T + r_q k^T over sqrt(3 D), where r is the row of the distance.
 *
 * Queries are taken some vectors of them at a time, one in each lane: their scores (L, QUERIES), exponentials in place, and the mix of
 * values. So the largest score and the sum of a query are found lane by lane, with nothing going across lanes. Each score is summed
 * over D, each sum and each output over L, from the first to the last.
 *
 * Contents: accumulate_tile(), gemm_tile_columns(), gemm_tile_rows(), gemm_tile(): small products in registers; transpose() and
 * pack_padded(); add_bias(), add_relative(), softmax_inplace(); rotate(); reached_keys(); attention(), attention_scratch(). Part of level.c.
 * Stability (fp32): the largest score is subtracted before exp_; sums of more than SUM_TERMS terms are sums of partial sums.
 */

enum {
    COLUMN_VECTORS = 2, /* vectors of a row that a tile holds in registers */
    QUERIES = COLUMN_VECTORS * LANES, /* max at a time */
    SUM_TERMS = 128 /* terms that are summed before they are added to the rest: one after the other, thousands would lose digits */
};

INLINE int filled(int count) { return (count + LANES - 1) / LANES * LANES; }

/* Rows of relative positions that texts of a length can have between their tokens, at most. */
INLINE int reached(int length, int rows) { return rows < 2 * length ? rows : 2 * length; }

static size_t attention_scratch(int length, int head, int relative_rows)
{
    return (size_t)filled(head) * QUERIES + (size_t)length * (size_t)(QUERIES + 2 * filled(head)) +
           (size_t)(length + QUERIES) * (size_t)filled(reached(length, relative_rows));
}

/* A matrix of so many numbers from one row to the next, and from one column to the next. */
typedef struct {
    const float *at;
    size_t row, column;
} Matrix;

INLINE Matrix matrix_from(Matrix m, int row) { return (Matrix){m.at + row * m.row, m.row, m.column}; }

INLINE int at_most_tile(int rows) { return rows < TILE_ROWS ? rows : TILE_ROWS; }

/* sum[i][j] = sum over k of a[i][k] b[k][j], for a tile of rows by some vectors of j. */
INLINE void accumulate_tile(const int rows, const int vectors, Matrix a, Matrix b, int depth, Vec sum[TILE_ROWS][COLUMN_VECTORS])
{
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < vectors; v++)
            sum[i][v] = (Vec){0};
    for (int k = 0; k < depth; k++, a.at += a.column, b.at += b.row) {
        Vec row[COLUMN_VECTORS];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            row[v] = load(b.at + v * LANES);
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) {
            Vec x = broadcast(a.at[i * a.row]);
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                sum[i][v] = fma_(x, row[v], sum[i][v]);
        }
    }
}

/* y[i][j] = scale[i] * such a sum, of a tile. */
INLINE void gemm_tile_columns(const int rows, const int vectors, Matrix a, Matrix b, int depth, const float *scale, float *y,
                              size_t y_stride, int columns)
{
    Vec sum[TILE_ROWS][COLUMN_VECTORS];
    accumulate_tile(rows, vectors, a, b, depth < SUM_TERMS ? depth : SUM_TERMS, sum);
    for (int k = SUM_TERMS; k < depth; k += SUM_TERMS) {
        Vec part[TILE_ROWS][COLUMN_VECTORS];
        a.at += SUM_TERMS * a.column;
        b.at += SUM_TERMS * b.row;
        accumulate_tile(rows, vectors, a, b, depth - k < SUM_TERMS ? depth - k : SUM_TERMS, part);
        for (int i = 0; i < rows; i++)
            for (int v = 0; v < vectors; v++)
                sum[i][v] += part[i][v];
    }
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < vectors; v++)
            store_part(y + i * y_stride + v * LANES, sum[i][v] * scale[i], columns - v * LANES);
}

INLINE void gemm_tile_rows(const int rows, Matrix a, Matrix b, int depth, const float *scale, float *y, size_t y_stride, int columns)
{
    int j = 0;
    for (; j + LANES < columns; j += COLUMN_VECTORS * LANES, b.at += COLUMN_VECTORS * LANES)
        gemm_tile_columns(rows, COLUMN_VECTORS, a, b, depth, scale, y + j, y_stride, columns - j);
    if (j < columns)
        gemm_tile_columns(rows, 1, a, b, depth, scale, y + j, y_stride, columns - j);
}

/* Up to TILE_ROWS rows of y (rows, columns) = diag(scale) a (rows, depth) b (depth, columns filled up). */
static void gemm_tile(int rows, Matrix a, Matrix b, int depth, const float *scale, float *y, size_t y_stride, int columns)
{
    switch (rows) {
    case 1: gemm_tile_rows(1, a, b, depth, scale, y, y_stride, columns); break;
    case 2: gemm_tile_rows(2, a, b, depth, scale, y, y_stride, columns); break;
    case 3: gemm_tile_rows(3, a, b, depth, scale, y, y_stride, columns); break;
    case 4: gemm_tile_rows(4, a, b, depth, scale, y, y_stride, columns); break;
#if defined(__AVX2__)
    case 5: gemm_tile_rows(5, a, b, depth, scale, y, y_stride, columns); break;
    case 6: gemm_tile_rows(6, a, b, depth, scale, y, y_stride, columns); break;
#endif
#if defined(__AVX512F__)
    case 7: gemm_tile_rows(7, a, b, depth, scale, y, y_stride, columns); break;
    case 8: gemm_tile_rows(8, a, b, depth, scale, y, y_stride, columns); break;
#endif
    }
}

/* Up to LANES rows of so many columns -> (columns, LANES) with zeros where no row is. As often as LANES can be halved, the first half of
 * the rows is interleaved with the second: each time, the highest bit of a number's row becomes the lowest of its column, and the
 * highest of its column the lowest of its row. */
static void transpose(Matrix from, int rows, int columns, float *to, size_t stride)
{
    for (int j = 0; j < columns; j += LANES) {
        Vec a[LANES], b[LANES];
        for (int i = 0; i < LANES; i++)
            a[i] = i < rows ? load_part(from.at + i * from.row + j, columns - j) : (Vec){0};
#pragma GCC unroll 4
        for (int bit = 1; bit < LANES; bit *= 2) {
#pragma GCC unroll 8
            for (int i = 0; i < LANES / 2; i++) {
                b[2 * i] = interleave_low(a[i], a[i + LANES / 2]);
                b[2 * i + 1] = interleave_high(a[i], a[i + LANES / 2]);
            }
#pragma GCC unroll 16
            for (int i = 0; i < LANES; i++)
                a[i] = b[i];
        }
        for (int i = 0; i < LANES; i++)
            store(to + (j + i) * stride, a[i]);
    }
}

/* Rows of so many numbers without gaps, each filled up with zeros. */
static Matrix pack_padded(Matrix from, int rows, int columns, float *to)
{
    const size_t stride = (size_t)filled(columns);
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j += LANES)
            store(to + i * stride + j, load_part(from.at + i * from.row + j, columns - j));
    return (Matrix){to, stride, 1};
}

/* The bias of queries from `row` on, so many to a vector's whole, times a factor added to their scores: bias[d] is that of query - key = d. */
static void add_bias(float *scores, int length, size_t stride, const float *bias, float factor, int row)
{
    for (int j = 0; j < length; j++, scores += stride)
        for (size_t v = 0; v < stride; v += LANES)
            store(scores + v, load(scores + v) + load(bias + row - j + (int)v) * factor);
}

/* Products with relative positions added to scores, where row `at` of the distance gives q r_k^T in to_position (queries, n) and k r_q^T in
 * from_position (length, n), of the rows from `lowest` on. */
static void add_relative(float *scores, int length, size_t stride, const Relative *r, const float *to_position, const float *from_position,
                         int n, int lowest, int row)
{
    const size_t room = (size_t)filled(n);
    IntVec lane = {0};
    for (int i = 0; i < LANES; i++)
        lane[i] = i;
    for (int j = 0; j < length; j++, scores += stride, from_position += room)
        for (size_t v = 0; v < stride; v += LANES) {
            IntVec at;
            memcpy(&at, r->row + row - j + (int)v, sizeof at);
            at -= lowest;
            IntVec beyond = at > n - 1; /* lanes that no query is in */
            at = (at & ~beyond) | (beyond & (n - 1));
            Vec sum = gather(from_position, at) + gather(to_position, at + (lane + (int)v) * (int)room);
            store(scores + v, load(scores + v) + sum);
        }
}

/* exp(score - largest) over the keys of each query in place; inv_sum is one over their sum. */
static void softmax_inplace(float *scores, int length, size_t stride, float *inv_sum)
{
    for (size_t v = 0; v < stride; v += LANES) {
        Vec max = broadcast(-INFINITY), sum = {0};
        for (int j = 0; j < length; j++)
            max = max_(max, load(scores + j * stride + v));
        for (int j = 0; j < length;) {
            Vec part = {0};
            for (int end = length - j < SUM_TERMS ? length : j + SUM_TERMS; j < end; j++) {
                Vec e = exp_(load(scores + j * stride + v) - max);
                part += e;
                store(scores + j * stride + v, e);
            }
            sum += part;
        }
        store(inv_sum + v, 1.0f / sum);
    }
}

/* Element i of a head's first half and of its second are the coordinates of a plane (arXiv:2104.09864). */
static void rotate(float *qkv, int length, int width, int head, const int64_t *positions, const float *rotary)
{
    const int half = head / 2;
    for (int row = 0; row < length; row++, qkv += 3 * (size_t)width) {
        const float *cosines = rotary + (size_t)positions[row] * head, *sines = cosines + half;
        for (int part = 0; part < 2; part++) {
            float *a = qkv + (size_t)part * width, *b = a + half;
            for (int j = 0; j < half; j += LANES) {
                const int left = half - j;
                const Vec cos = load_part(cosines + j, left), sin = load_part(sines + j, left);
                const Vec x = load_part(a + j, left), y = load_part(b + j, left);
                store_part(a + j, x * cos - y * sin, left);
                store_part(b + j, y * cos + x * sin, left);
            }
        }
    }
}

/* Keys that queries from `row` on can reach. They begin where a partial sum does: so sums are those over all keys, of which the others add nothing. */
typedef struct {
    int first, last;
} Span;

INLINE Span reached_keys(int row, int rows, int length, int reach)
{
    if (!reach)
        return (Span){0, length};
    const int first = row < reach ? 0 : row - reach + 1, last = row + rows - 1 + reach;
    return (Span){first / SUM_TERMS * SUM_TERMS, last < length ? last : length};
}

static void attention(const float *qkv, int length, int width, int head, int first, int last, const float *bias, int reach,
                      const Relative *relative, float *context, float *scratch)
{
    const size_t stride = 3 * (size_t)width, room = (size_t)length * filled(head);
    Matrix all_queries = {qkv, stride, 1}, keys = {qkv + width, stride, 1}, values = {qkv + 2 * width, stride, 1};
    float *transposed = scratch, *scores = transposed + (size_t)filled(head) * QUERIES, *packed = scores + (size_t)length * QUERIES;
    if (last - first > QUERIES || head % LANES) { /* they are read again and again, or a vector would reach beyond them */
        keys = pack_padded(keys, length, head, packed);
        values = pack_padded(values, length, head, packed + room);
    }
    float scale[TILE_ROWS], inv_sum[QUERIES];
    for (int i = 0; i < TILE_ROWS; i++)
        scale[i] = 1.0f / sqrtf((float)head * (relative ? 3.0f : 1.0f));
    const int lowest = relative ? relative->row[1 - length] : 0, n = relative ? relative->row[length - 1] - lowest + 1 : 0;
    float *to_position = packed + 2 * room, *from_position = to_position + (size_t)QUERIES * filled(n);
    for (int j = 0; relative && j < length; j += TILE_ROWS)
        gemm_tile(at_most_tile(length - j), matrix_from(keys, j), (Matrix){relative->q + lowest, (size_t)relative->stride, 1}, head, scale,
            from_position + (size_t)j * filled(n), (size_t)filled(n), n);
    for (int row = first; row < last; row += QUERIES) {
        const int rows = last - row < QUERIES ? last - row : QUERIES, columns = filled(rows);
        const Matrix queries = {transposed, (size_t)columns, 1}, scores_t = {scores, 1, (size_t)columns};
        const Span span = reached_keys(row, rows, length, relative ? 0 : reach);
        const int among = span.last - span.first;
        for (int i = 0; i < rows; i += LANES)
            transpose(matrix_from(all_queries, row + i), rows - i, head, transposed + i, queries.row);
        for (int j = 0; j < among; j += TILE_ROWS)
            gemm_tile(at_most_tile(among - j), matrix_from(keys, span.first + j), queries, head, scale, scores + j * queries.row, queries.row, columns);
        for (int i = 0; relative && i < rows; i += TILE_ROWS)
            gemm_tile(at_most_tile(rows - i), matrix_from(all_queries, row + i), (Matrix){relative->k + lowest, (size_t)relative->stride, 1}, head,
                scale, to_position + (size_t)i * filled(n), (size_t)filled(n), n);
        if (relative)
            add_relative(scores, length, queries.row, relative, to_position, from_position, n, lowest, row);
        if (bias)
            add_bias(scores, among, queries.row, bias, 1.0f, row - span.first);
        softmax_inplace(scores, among, queries.row, inv_sum);
        for (int i = 0; i < rows; i += TILE_ROWS)
            gemm_tile(at_most_tile(rows - i), matrix_from(scores_t, i), matrix_from(values, span.first), among, inv_sum + i,
                context + (size_t)(row - first + i) * width, (size_t)width, head);
    }
}
