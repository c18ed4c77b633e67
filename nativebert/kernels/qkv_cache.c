/* The first layer's queries, keys and values, without a product for each token.
 *
 * The norm of the embeddings takes the sum of three rows of the tables less its mean, times a scale. So with its weight g and bias h, and
 * the product's W and b,
 *
 *     W norm(token + position + segment) + b = scale (W g(token - mean) + W g(position + segment - mean)) + (W h + b)
 *
 * where each mean is that of the row beside it. The two products on the right are those of rows of tables, which texts use again and
 * again: a cache keeps them from batch to batch. Its row for a key has the same bits whenever
 * it is computed, and beside whatever other rows.
 *
 * Contents: keys, qkv_cache_rows() and qkv_cache_scratch(); claim_row(), find_rows(): which rows a batch adds; fill_qkv_cache();
 * read_qkv_cache().
 */
#include <string.h>

#include "qkv_cache.h"
#include "team.h"

enum {
    CACHED_ROWS = 4096, /* most rows that the cache holds, unless one batch needs more */
    BLOCK_ROWS = 256    /* rows that are computed at a time */
};

enum RowKind { TOKEN_ROW, POSITION_ROW, ROW_KINDS };

/* A key stands for a row of the token table, or for one of the position table and one of the segment table. */
static int32_t key_of(const Encoder *e, const Batch *batch, size_t token, enum RowKind kind)
{
    const Embedding *m = &e->embedding;
    if (kind == TOKEN_ROW)
        return (int32_t)batch->ids[token];
    int32_t segment = batch->segments ? (int32_t)batch->segments[token] : 0;
    return m->tokens + segment * m->positions + (m->position ? (int32_t)batch->positions[token] : 0);
}

int32_t qkv_cache_rows(const Encoder *e, int32_t tokens)
{
    const Embedding *m = &e->embedding;
    const int64_t keys = (int64_t)m->tokens + (int64_t)max_int(m->segments, 1) * m->positions, used = ROW_KINDS * (int64_t)tokens;
    return max_int(CACHED_ROWS, (int32_t)(used < keys ? used : keys));
}

size_t qkv_cache_scratch(const Encoder *e)
{
    const size_t row = (size_t)(e->embedding.width + e->first_qkv.product.outward + 2) * sizeof(float) + sizeof(Outliers);
    return e->first_qkv.product.inward ? BLOCK_ROWS * row : 0;
}

/* A row for a key that has none: a new one, or the next that is of no use to this batch. */
static int32_t claim_row(QkvCache *r, int32_t key, int busy)
{
    int32_t row = r->count;
    if (r->count < CACHED_ROWS || busy == r->count) {
        r->count++;
    } else {
        while (r->last_batch[r->next] == r->batch)
            r->next = (r->next + 1) % r->count;
        row = r->next;
        r->row_of_key[r->key_of_row[row]] = 0;
    }
    r->key_of_row[row] = key;
    r->row_of_key[key] = row + 1;
    r->last_batch[row] = r->batch;
    return row;
}

/* Finds the rows of all that a batch needs, and returns how many are fresh: yet to be computed. */
static int find_rows(const Encoder *e, const Batch *batch)
{
    QkvCache *r = batch->qkv_cache;
    const size_t uses = ROW_KINDS * (size_t)batch->starts[batch->sequences];
    int busy = 0, fresh = 0;
    r->batch++;
    for (size_t n = 0; n < uses; n++) { /* none of these may go for one that is missing */
        const int32_t row = r->row_of_key[key_of(e, batch, n / ROW_KINDS, n % ROW_KINDS)] - 1;
        if (row >= 0 && r->last_batch[row] != r->batch) {
            r->last_batch[row] = r->batch;
            busy++;
        }
    }
    for (size_t n = 0; n < uses; n++) {
        const int32_t key = key_of(e, batch, n / ROW_KINDS, n % ROW_KINDS);
        if (!r->row_of_key[key])
            r->new_rows[fresh++] = claim_row(r, key, busy++);
    }
    return fresh;
}

/* What the product is given for a key. */
static void center_table_row(const Encoder *e, int32_t key, float *y)
{
    const Embedding *m = &e->embedding;
    const size_t width = (size_t)m->width;
    const float *row = m->token + (size_t)key * width;
    if (key >= m->tokens) {
        int32_t segment = (key - m->tokens) / m->positions, position = (key - m->tokens) % m->positions;
        memset(y, 0, width * sizeof *y);
        if (m->segment)
            e->kernels->add_row(y, m->segment + (size_t)segment * width, m->width);
        if (m->position)
            e->kernels->add_row(y, m->position + (size_t)position * width, m->width);
        row = y;
    }
    e->kernels->center_row(row, m->width, m->norm.weight, y);
}

void fill_qkv_cache(const Encoder *e, const Batch *batch, int threads, float *scratch)
{
    const QkvCache *r = batch->qkv_cache;
    const Kernels *k = e->kernels;
    const int fresh = find_rows(e, batch), N = e->first_qkv.product.outward, width = e->embedding.width;
    float *result = scratch + (size_t)BLOCK_ROWS * width, *scale = result + (size_t)BLOCK_ROWS * N, *sum = scale + BLOCK_ROWS;
    const Rows all = {scratch, (size_t)width, scale, sum, (Outliers *)(sum + BLOCK_ROWS)};
    if (!fresh)
        return;
#pragma omp parallel num_threads(threads)
    {
        const Team team = {thread_index(), team_size()};
        const Range panels = team_share(team, (N + k->panel - 1) / k->panel);
        const int column = panels.first * k->panel, columns = min_int(panels.last * k->panel, N) - column;
        for (int done = 0; done < fresh; done += BLOCK_ROWS) {
            const int rows = min_int(BLOCK_ROWS, fresh - done);
            const Range mine = team_share(team, rows);
            for (int n = mine.first; n < mine.last; n++)
                center_table_row(e, r->key_of_row[r->new_rows[done + n]], scratch + (size_t)n * width);
            if (k->normalize_rows) {
                const Rows own = rows_from(all, mine.first);
                k->normalize_rows(own.x, own.stride, mine.last - mine.first, width, own);
            }
            team_barrier(team);
            k->gemm(&e->first_qkv.product, all, rows, result, (size_t)N, NULL, LINEAR, panels.first, panels.last);
            for (int n = 0; n < rows && columns > 0; n++)
                memcpy(r->rows + (size_t)r->new_rows[done + n] * N + column, result + (size_t)n * N + column,
                       (size_t)columns * sizeof *result);
            team_barrier(team);
        }
    }
}

static const float *cached_row(const Encoder *e, const Batch *batch, size_t token, enum RowKind kind)
{
    const QkvCache *r = batch->qkv_cache;
    return r->rows + (size_t)(r->row_of_key[key_of(e, batch, token, kind)] - 1) * e->first_qkv.product.outward;
}

void read_qkv_cache(const Encoder *e, const Batch *batch, size_t token, float scale, float *y)
{
    const float *of_token = cached_row(e, batch, token, TOKEN_ROW), *of_position = cached_row(e, batch, token, POSITION_ROW);
    e->kernels->combine_rows(of_token, of_position, scale, e->first_qkv.bias, e->first_qkv.product.outward, y);
}
