/* Attention of one head of one sequence: softmax(q k^T / sqrt(D)) v. No masks: a sequence holds real tokens only.
 *
 * Keys are laid out transposed and values without gaps, both filled up with zeros to whole vectors: (D, Lp) and (L, Dp). Then some rows
 * of queries at a time: scores (rows, Lp), their exponentials in place, and the mix of values. Each score is summed over D and each
 * output over L, from the first to the last.
 */

enum { COLUMN_VECTORS = 2 }; /* vectors of scores, or of outputs, that a tile of rows holds in registers */

INLINE int filled(int count) { return (count + LANES - 1) / LANES * LANES; }

static size_t attention_scratch(int length, int head)
{
    return (size_t)filled(length) * (size_t)(head + TILE_ROWS) + (size_t)length * filled(head);
}

/* y[i][j] = scale[i] * sum over k of a[i][k] b[k][j], for vectors of j: a tile of rows by some vectors. */
INLINE void mix_tile(const int rows, const int vectors, const float *a, int a_stride, const float *b, int b_stride, int depth,
                     const float *scale, float *y, int y_stride, int columns)
{
    Vec sum[TILE_ROWS][COLUMN_VECTORS];
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < vectors; v++)
            sum[i][v] = (Vec){0};
    for (int k = 0; k < depth; k++, b += b_stride) {
        Vec row[COLUMN_VECTORS];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            row[v] = load(b + v * LANES);
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) {
            Vec x = broadcast(a[(size_t)i * a_stride + k]);
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                sum[i][v] = fma_(x, row[v], sum[i][v]);
        }
    }
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < vectors; v++)
            store_part(y + (size_t)i * y_stride + v * LANES, sum[i][v] * scale[i], columns - v * LANES);
}

INLINE void mix_rows(const int rows, const float *a, int a_stride, const float *b, int b_stride, int depth, const float *scale, float *y,
                     int y_stride, int columns)
{
    int j = 0;
    for (; j + LANES < columns; j += COLUMN_VECTORS * LANES)
        mix_tile(rows, COLUMN_VECTORS, a, a_stride, b + j, b_stride, depth, scale, y + j, y_stride, columns - j);
    if (j < columns)
        mix_tile(rows, 1, a, a_stride, b + j, b_stride, depth, scale, y + j, y_stride, columns - j);
}

/* Up to TILE_ROWS rows of y (rows, columns) = diag(scale) a (rows, depth) b (depth, columns filled up). */
static void mix(int rows, const float *a, int a_stride, const float *b, int b_stride, int depth, const float *scale, float *y,
                int y_stride, int columns)
{
    switch (rows) {
    case 1: mix_rows(1, a, a_stride, b, b_stride, depth, scale, y, y_stride, columns); break;
    case 2: mix_rows(2, a, a_stride, b, b_stride, depth, scale, y, y_stride, columns); break;
    case 3: mix_rows(3, a, a_stride, b, b_stride, depth, scale, y, y_stride, columns); break;
    case 4: mix_rows(4, a, a_stride, b, b_stride, depth, scale, y, y_stride, columns); break;
#if defined(__AVX2__)
    case 5: mix_rows(5, a, a_stride, b, b_stride, depth, scale, y, y_stride, columns); break;
    case 6: mix_rows(6, a, a_stride, b, b_stride, depth, scale, y, y_stride, columns); break;
#endif
#if defined(__AVX512F__)
    case 7: mix_rows(7, a, a_stride, b, b_stride, depth, scale, y, y_stride, columns); break;
    case 8: mix_rows(8, a, a_stride, b, b_stride, depth, scale, y, y_stride, columns); break;
#endif
    }
}

typedef float Quad __attribute__((vector_size(16)));
typedef int32_t QuadIndex __attribute__((vector_size(16)));

/* Four of the eight numbers of a and b. */
#if defined(__clang__)
#define PICK(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define PICK(a, b, ...) __builtin_shuffle(a, b, (QuadIndex){__VA_ARGS__})
#endif

/* Four rows of four numbers -> four columns. */
INLINE void transpose_square(const float *from, size_t stride, float *to, size_t columns)
{
    Quad a[4], b[4];
    for (int i = 0; i < 4; i++)
        memcpy(&a[i], from + i * stride, sizeof a[i]);
    for (int i = 0; i < 2; i++) { /* pairs of rows: 0 with 2, 1 with 3 */
        b[2 * i] = PICK(a[i], a[i + 2], 0, 4, 1, 5);
        b[2 * i + 1] = PICK(a[i], a[i + 2], 2, 6, 3, 7);
    }
    for (int i = 0; i < 2; i++) {
        a[2 * i] = PICK(b[i], b[i + 2], 0, 4, 1, 5);
        a[2 * i + 1] = PICK(b[i], b[i + 2], 2, 6, 3, 7);
    }
    for (int i = 0; i < 4; i++)
        memcpy(to + i * columns, &a[i], sizeof a[i]);
}

/* Keys (L, D) in rows of stride -> (D, Lp). */
static void transpose(const float *keys, int stride, int length, int head, float *to)
{
    const int columns = filled(length), fours = length / 4 * 4;
    for (int d = 0; d + 4 <= head; d += 4)
        for (int j = 0; j < fours; j += 4)
            transpose_square(keys + (size_t)j * stride + d, (size_t)stride, to + (size_t)d * columns + j, (size_t)columns);
    for (int j = 0; j < length; j++) /* what the squares leave over */
        for (int d = j < fours ? head / 4 * 4 : 0; d < head; d++)
            to[(size_t)d * columns + j] = keys[(size_t)j * stride + d];
    for (int d = 0; d < head; d++)
        for (int j = length; j < columns; j++)
            to[(size_t)d * columns + j] = 0.0f;
}

/* Values (L, D) in rows of stride -> (L, Dp). */
static void gather(const float *values, int stride, int length, int head, float *to)
{
    for (int j = 0; j < length; j++, values += stride)
        for (int d = 0; d < head; d += LANES, to += LANES)
            store(to, load_part(values + d, head - d));
}

/* exp(score - largest) of a row in place; returns one over their sum. What fills the row up becomes nothing. */
static float soften(float *scores, int length)
{
    const int columns = filled(length);
    for (int j = length; j < columns; j++)
        scores[j] = -INFINITY;
    Vec most = broadcast(-INFINITY), sum = {0};
    for (int j = 0; j < columns; j += LANES)
        most = larger(most, load(scores + j));
    const float largest = largest_of(most);
    for (int j = 0; j < columns; j += LANES) {
        Vec e = exp_(load(scores + j) - largest);
        sum += e;
        store(scores + j, e);
    }
    return 1.0f / sum_of(sum);
}

static void attention(const float *qkv, int length, int width, int head, int first, int last, float *mixed, float *scratch)
{
    const int stride = 3 * width, columns = filled(length);
    float *keys = scratch, *values = keys + (size_t)head * columns, *scores = values + (size_t)length * filled(head);
    transpose(qkv + width, stride, length, head, keys);
    gather(qkv + 2 * width, stride, length, head, values);
    float scale[TILE_ROWS], inverse[TILE_ROWS];
    for (int i = 0; i < TILE_ROWS; i++)
        scale[i] = 1.0f / sqrtf((float)head);
    for (int row = first; row < last; row += TILE_ROWS) {
        int rows = last - row < TILE_ROWS ? last - row : TILE_ROWS;
        mix(rows, qkv + (size_t)row * stride, stride, keys, columns, head, scale, scores, columns, columns);
        for (int i = 0; i < rows; i++)
            inverse[i] = soften(scores + (size_t)i * columns, length);
        mix(rows, scores, columns, values, filled(head), length, inverse, mixed + (size_t)(row - first) * width, width, head);
    }
}
