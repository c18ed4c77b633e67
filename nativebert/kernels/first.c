/* The first layer's queries, keys and values, without a product for each token.
 *
 * The norm of the embeddings takes the sum of three rows of the tables less its mean, times a scale. So with its weight g and bias h, and
 * the product's W and b,
 *
 *     W norm(token + position + segment) + b = scale (W g(token - mean) + W g(position + segment - mean)) + (W h + b)
 *
 * where each mean is that of the row beside it. The two products on the right are those of rows of tables, which texts use again and
 * again: they are remembered from batch to batch. What is remembered of a row is the same whenever it is computed and beside whatever.
 */
#include <string.h>

#include "first.h"
#include "team.h"

enum {
    KEPT = 4096, /* most rows that are remembered, unless one batch needs more */
    BLOCK = 256  /* rows that are computed at a time */
};

enum Part { TOKEN, PLACE, PARTS };

/* A key stands for a row of the token table, or for one of the position table and one of the segment table. */
static int32_t key_of(const Encoder *e, const Batch *batch, size_t token, enum Part part)
{
    const Embedding *m = &e->embedding;
    if (part == TOKEN)
        return (int32_t)batch->ids[token];
    int32_t segment = batch->segments ? (int32_t)batch->segments[token] : 0;
    return m->tokens + segment * m->positions + (int32_t)batch->positions[token];
}

int32_t remember_rows(const Encoder *e, int32_t tokens)
{
    const Embedding *m = &e->embedding;
    const int64_t keys = (int64_t)m->tokens + (int64_t)larger_of(m->segments, 1) * m->positions, used = PARTS * (int64_t)tokens;
    return larger_of(KEPT, (int32_t)(used < keys ? used : keys));
}

size_t remember_scratch(const Encoder *e)
{
    const size_t row = (size_t)(e->embedding.width + e->first.product.outward + 2) * sizeof(float) + sizeof(Apart);
    return e->first.product.inward ? BLOCK * row : 0;
}

/* A row for a key that has none: a new one, or the next that is of no use to this batch. */
static int32_t row_for(Remembered *r, int32_t key, int busy)
{
    int32_t row = r->count;
    if (r->count < KEPT || busy == r->count) {
        r->count++;
    } else {
        while (r->used[r->next] == r->batch)
            r->next = (r->next + 1) % r->count;
        row = r->next;
        r->place[r->key[row]] = 0;
    }
    r->key[row] = key;
    r->place[key] = row + 1;
    r->used[row] = r->batch;
    return row;
}

/* Finds the rows of all that a batch needs, and returns how many are fresh: yet to be computed. */
static int find_rows(const Encoder *e, const Batch *batch)
{
    Remembered *r = batch->remembered;
    const size_t uses = PARTS * (size_t)batch->starts[batch->sequences];
    int busy = 0, fresh = 0;
    r->batch++;
    for (size_t n = 0; n < uses; n++) { /* none of these may go for one that is missing */
        const int32_t row = r->place[key_of(e, batch, n / PARTS, n % PARTS)] - 1;
        if (row >= 0 && r->used[row] != r->batch) {
            r->used[row] = r->batch;
            busy++;
        }
    }
    for (size_t n = 0; n < uses; n++) {
        const int32_t key = key_of(e, batch, n / PARTS, n % PARTS);
        if (!r->place[key])
            r->fresh[fresh++] = row_for(r, key, busy++);
    }
    return fresh;
}

/* What the product is given for a key. */
static void centred(const Encoder *e, int32_t key, float *y)
{
    const Embedding *m = &e->embedding;
    const size_t width = (size_t)m->width;
    const float *row = m->token + (size_t)key * width;
    if (key >= m->tokens) {
        int32_t segment = (key - m->tokens) / m->positions, position = (key - m->tokens) % m->positions;
        memset(y, 0, width * sizeof *y);
        if (m->segment)
            e->kernels->add(y, m->segment + (size_t)segment * width, m->width);
        if (m->position)
            e->kernels->add(y, m->position + (size_t)position * width, m->width);
        row = y;
    }
    e->kernels->centre(row, m->width, m->norm.weight, y);
}

void remember(const Encoder *e, const Batch *batch, int threads, float *scratch)
{
    const Remembered *r = batch->remembered;
    const Kernels *k = e->kernels;
    const int fresh = find_rows(e, batch), N = e->first.product.outward, width = e->embedding.width;
    float *result = scratch + (size_t)BLOCK * width, *scale = result + (size_t)BLOCK * N, *sum = scale + BLOCK;
    const Rows all = {scratch, (size_t)width, scale, sum, (Apart *)(sum + BLOCK)};
    if (!fresh)
        return;
#pragma omp parallel num_threads(threads)
    {
        const Team team = {thread_index(), team_size()};
        const Range panels = share(team, (N + k->panel - 1) / k->panel);
        const int column = panels.first * k->panel, columns = smaller_of(panels.last * k->panel, N) - column;
        for (int done = 0; done < fresh; done += BLOCK) {
            const int rows = smaller_of(BLOCK, fresh - done);
            const Range mine = share(team, rows);
            for (int n = mine.first; n < mine.last; n++)
                centred(e, r->key[r->fresh[done + n]], scratch + (size_t)n * width);
            if (k->balance) {
                const Rows own = rows_from(all, mine.first);
                k->balance(own.x, own.stride, mine.last - mine.first, width, own);
            }
            gather_team(team);
            k->product(&e->first.product, all, rows, result, (size_t)N, NULL, LINEAR, panels.first, panels.last);
            for (int n = 0; n < rows && columns > 0; n++)
                memcpy(r->rows + (size_t)r->fresh[done + n] * N + column, result + (size_t)n * N + column, (size_t)columns * sizeof *result);
            gather_team(team);
        }
    }
}

static const float *row_of(const Encoder *e, const Batch *batch, size_t token, enum Part part)
{
    const Remembered *r = batch->remembered;
    return r->rows + (size_t)(r->place[key_of(e, batch, token, part)] - 1) * e->first.product.outward;
}

void recall(const Encoder *e, const Batch *batch, size_t token, float scale, float *y)
{
    e->kernels->combine(row_of(e, batch, token, TOKEN), row_of(e, batch, token, PLACE), scale, e->first.bias, e->first.product.outward, y);
}
