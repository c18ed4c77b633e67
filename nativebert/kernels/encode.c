/* The encoder: ids in, hidden states (T, H) or a vector for each sequence out.
 *
 * A team of threads runs all layers over some sequences, step by step; each member takes its share of a step's panels, heads or rows.
 * There are two ways to use the threads, and one code for both. With many tokens each thread is a team of its own and takes chunks of
 * whole sequences, small enough for its cache, through all layers: nobody waits. With few, all threads are one team and share the
 * weights, which then are read from memory once and not once for each thread.
 *
 * Contents: Work, a team's memory; the steps of a layer; run(): all layers; Arena: how scratch is cut; how threads share a batch;
 * encode_scratch() and encode(), which Python calls.
 */
#include <string.h>

#include "qkv_cache.h"
#include "team.h"

enum {
    ALL_ROWS = -1,               /* tokens of a sequence */
    CHUNK_TOKENS = 256,          /* most tokens of a chunk, unless one sequence has more; */
    CHUNK_FLOATS = 160 * 768,    /* and most floats of their hidden states: each thread needs eight times that */
    LAST_CHUNK_TOKENS = 32,      /* most tokens of the last chunks: then threads finish at about the same time */
    MIN_THREAD_TOKENS = 64,      /* fewest tokens for which a thread reads all weights by itself, chunk after chunk */
    BLOCK_ROWS = 256,            /* rows of the feed-forward part at a time: their inner activations stay in the cache */
    PAGE_FLOATS = 1024,          /* of 4 KiB */
    ALIGN_BYTES = CACHE_LINE_BYTES,
    MAX_THREADS = 256
};

/* What a team needs while it works on some sequences. */
typedef struct {
    const int32_t *starts; /* of its sequences */
    int sequences, tokens;
    float *x;       /* (tokens, H) hidden states; products add to them in place */
    float *wide;    /* (tokens, 3H) queries, keys and values; later, over context too, (BLOCK_ROWS, F) inner activations */
    float *context; /* behind wide: (tokens, H) what attention gives, earlier (tokens, E) embeddings */
    float *normed;  /* (tokens, H) rows of x after a norm that comes before a part */
    float *gated;   /* (BLOCK_ROWS, F) gates */
    float *scale;   /* (tokens) what the embeddings' norm multiplied by */
    Quantised rows;
    Rows normalized;  /* (tokens, padded_stride(H)) rows of x as a product takes them, where it asks for that */
    float *heads;     /* (members, heads_size) scratch of attention */
    size_t heads_size;
} Work;

/* Floats from one row of so many to the next, where rows a multiple of a page apart would share too few places in the first-level cache. */
static size_t padded_stride(int width) { return (size_t)(width % PAGE_FLOATS ? width : width + CACHE_LINE_BYTES / (int)sizeof(float)); }

/* Rows of x as the level's product takes them. Inner activations are normalized in place: nobody else reads them. */
static Rows normalize_input(const Kernels *k, Team team, const Work *work, float *x, size_t stride, int rows, int width)
{
    if (!k->normalize_rows)
        return (Rows){.x = x, .stride = stride};
    const Range mine = team_share(team, rows);
    Rows all = work->normalized;
    all.x = x == work->wide ? x : all.x;
    all.stride = x == work->wide ? stride : padded_stride(width);
    k->normalize_rows(x + mine.first * stride, stride, mine.last - mine.first, width, rows_from(all, mine.first));
    team_barrier(team);
    return all;
}

/* A product of rows of x, quantised before if its weights are. */
static void multiply(const Kernels *k, Team team, Work *work, const Linear *w, float *x, size_t x_stride, int rows, float *y,
                     size_t stride, const float *residual, int activation)
{
    const int panel = w->panels8 ? k->panel8 : k->panel;
    const Range panels = team_share(team, (w->outward + panel - 1) / panel);
    if (w->panels8) {
        Range mine = team_share(team, rows);
        Quantised all = work->rows;
        Quantised to = {all.q + (size_t)mine.first * ((w->inward + 3) / 4 * 4), all.scale + mine.first, all.min + mine.first};
        k->quantise_rows(x + mine.first * x_stride, x_stride, mine.last - mine.first, w->inward, to);
        team_barrier(team);
        k->gemm8(w, all, rows, y, stride, residual, activation, panels.first, panels.last);
    } else {
        const Rows all = normalize_input(k, team, work, x, x_stride, rows, w->inward);
        k->gemm(w, all, rows, y, stride, residual, activation, panels.first, panels.last);
    }
    team_barrier(team);
}

static void apply_layer_norm(const Encoder *e, Team team, const float *x, int rows, int width, Norm norm, float *y, float *scale)
{
    Range mine = team_share(team, rows);
    size_t at = (size_t)mine.first * width;
    e->kernels->layer_norm(x + at, mine.last - mine.first, width, norm, e->eps, y + at, scale ? scale + mine.first : NULL);
}

/* Token + segment, then + position: the reference's order of summation. */
static void embed(const Encoder *e, Team team, Work *work, const Batch *batch)
{
    const Embedding *m = &e->embedding;
    float *to = m->project.inward ? work->context : work->x;
    Range mine = team_share(team, work->tokens);
    for (int row = mine.first; row < mine.last; row++) {
        size_t token = (size_t)work->starts[0] + row, width = (size_t)m->width;
        float *y = to + row * width;
        memcpy(y, m->token + (size_t)batch->ids[token] * width, width * sizeof *y);
        if (m->segment)
            e->kernels->add_row(y, m->segment + (batch->segments ? (size_t)batch->segments[token] : 0) * width, m->width);
        if (m->position)
            e->kernels->add_row(y, m->position + (size_t)batch->positions[token] * width, m->width);
    }
    if (m->norm.weight)
        apply_layer_norm(e, team, to, work->tokens, m->width, m->norm, to, work->scale);
    if (batch->qkv_cache) /* of the tokens whose scale this member has computed */
        for (int row = mine.first; row < mine.last; row++)
            read_qkv_cache(e, batch, (size_t)work->starts[0] + row, work->scale[row], work->wide + (size_t)row * 3 * e->width);
    team_barrier(team);
    if (m->project.inward)
        multiply(e->kernels, team, work, &m->project, to, (size_t)m->width, work->tokens, work->x, (size_t)e->width, NULL, LINEAR);
}

/* Where a sequence begins among the team's tokens, and its length. */
static Range tokens_of(const Work *work, int sequence)
{
    return (Range){work->starts[sequence] - work->starts[0], work->starts[sequence + 1] - work->starts[0]};
}

/* Which of so many tokens is the one that is asked for. */
static int token_of(int needed, int length) { return min_int(needed, length - 1); }

/* Each head of each sequence by one member: of all its queries, or of that of one token. */
static void attend(const Encoder *e, const Layer *layer, Team team, Work *work, const Batch *batch, int needed)
{
    const int H = e->width, heads = layer->heads, D = H / heads;
    for (int task = team.index; task < work->sequences * heads; task += team.size) {
        int n = task / heads, head = task % heads;
        Range at = tokens_of(work, n), all = {0, at.last - at.first};
        int row = needed < 0 ? at.first : n, token = token_of(needed, all.last);
        float *qkv = work->wide + (size_t)at.first * 3 * H + head * D;
        Relative relative = layer->relative;
        relative.q += (size_t)head * D * relative.stride;
        relative.k += (size_t)head * D * relative.stride;
        if (layer->rotary)
            e->kernels->rotate(qkv, all.last, H, D, batch->positions + work->starts[n], layer->rotary);
        (layer->qkv.panels8 ? e->kernels->attention16 : e->kernels->attention)(qkv, all.last, H, D, needed < 0 ? 0 : token, needed < 0 ? all.last : token + 1,
                              layer->bias ? layer->bias + head * layer->bias_stride : NULL, layer->reach, relative.rows ? &relative : NULL, work->context + (size_t)row * H + head * D,
                              work->heads + team.index * work->heads_size);
    }
    team_barrier(team);
}

/* The states of one token of each sequence to the front, in place. */
static void gather_needed_rows(const Encoder *e, Team team, Work *work, int needed)
{
    const size_t H = (size_t)e->width;
    if (team.index == 0)
        for (int n = 0; n < work->sequences; n++) {
            Range at = tokens_of(work, n);
            memmove(work->x + n * H, work->x + (at.first + token_of(needed, at.last - at.first)) * H, H * sizeof(float));
        }
    team_barrier(team);
}

/* One layer. Where only one token of each sequence is asked for, and not ALL_ROWS, what is computed of its keys and values on is that token
 * alone; the states are then those of one token for each sequence. Its queries, keys and values may be given. */
static void run_layer(const Encoder *e, const Layer *layer, Team team, Work *work, const Batch *batch, int needed, int has_qkv)
{
    const int pre = e->pre_norm;
    const Kernels *k = e->kernels;
    const int T = needed < 0 ? work->tokens : work->sequences;
    const size_t H = (size_t)e->width, F = padded_stride(layer->up.outward);
    if (!has_qkv) {
        float *x = work->x;
        if (pre && layer->attn_norm.weight) {
            apply_layer_norm(e, team, work->x, work->tokens, e->width, layer->attn_norm, x = work->normed, NULL);
            team_barrier(team);
        }
        multiply(k, team, work, &layer->qkv, x, H, work->tokens, work->wide, 3 * H, NULL, LINEAR);
    }
    attend(e, layer, team, work, batch, needed);
    if (needed >= 0)
        gather_needed_rows(e, team, work, needed);
    multiply(k, team, work, &layer->out, work->context, H, T, work->x, H, work->x, LINEAR);
    float *input = pre ? work->normed : work->x;
    apply_layer_norm(e, team, work->x, T, e->width, pre ? layer->mlp_norm : layer->attn_norm, input, NULL);
    team_barrier(team);
    for (int row = 0; row < T; row += BLOCK_ROWS) {
        int rows = min_int(BLOCK_ROWS, T - row);
        float *x = work->x + (size_t)row * H, *from = input + (size_t)row * H;
        multiply(k, team, work, &layer->up, from, H, rows, work->wide, F, NULL, layer->activation);
        if (layer->gate.inward) {
            multiply(k, team, work, &layer->gate, from, H, rows, work->gated, F, NULL, LINEAR);
            const Range mine = team_share(team, rows);
            for (int n = mine.first; n < mine.last; n++)
                k->multiply_row(work->wide + n * F, work->gated + n * F, layer->up.outward);
            team_barrier(team);
        }
        multiply(k, team, work, &layer->down, work->wide, F, rows, x, H, x, LINEAR);
    }
    if (!pre)
        apply_layer_norm(e, team, work->x, T, e->width, layer->mlp_norm, work->x, NULL);
    team_barrier(team);
}

/* Hidden states of this moment, for those who want those of all layers. */
static void copy_states(const Encoder *e, Team team, const Work *work, float *states, size_t tokens, int after)
{
    if (!states)
        return;
    Range mine = team_share(team, work->tokens);
    size_t H = (size_t)e->width, at = (size_t)work->starts[0] + mine.first;
    memcpy(states + (after * tokens + at) * H, work->x + mine.first * H, (size_t)(mine.last - mine.first) * H * sizeof(float));
    team_barrier(team);
}

/* Each sequence's vectors by one member. */
static void pool_all(const Encoder *e, Team team, const Work *work, const Batch *batch, const Output *out, int needed)
{
    const size_t first = (size_t)(work->starts - batch->starts), H = (size_t)e->width;
    for (int task = team.index; task < work->sequences * out->modes; task += team.size) {
        int n = task / out->modes;
        Range at = needed < 0 ? tokens_of(work, n) : (Range){n, n + 1};
        e->kernels->pool(work->x + at.first * H, at.last - at.first, e->width, out->mode[task % out->modes], out->skip,
                         out->pooled + (first * out->modes + task) * H);
    }
}

/* The token of each sequence that the last layer is asked for, or ALL_ROWS. */
static int needed_rows(const Work *work, const Output *out)
{
    if (out->hidden || out->states || out->modes != 1 || out->mode[0] != CLS)
        return ALL_ROWS;
    for (int n = 0; n < work->sequences; n++)
        if (work->starts[n] == work->starts[n + 1])
            return ALL_ROWS; /* a sequence without tokens has none to ask for */
    return out->skip;
}

static void run(const Encoder *e, Team team, Work *work, const Batch *batch, const Output *out)
{
    const size_t tokens = (size_t)batch->starts[batch->sequences];
    embed(e, team, work, batch);
    copy_states(e, team, work, out->states, tokens, 0);
    int needed = ALL_ROWS;
    for (int n = 0; n < e->layers; n++) {
        if (n == e->layers - 1)
            needed = needed_rows(work, out);
        run_layer(e, e->layer + n, team, work, batch, needed, batch->qkv_cache && n == 0);
        if (e->pre_norm && n == e->layers - 1) {
            apply_layer_norm(e, team, work->x, needed < 0 ? work->tokens : work->sequences, e->width, e->last_norm, work->x, NULL);
            team_barrier(team);
        }
        copy_states(e, team, work, out->states, tokens, n + 1);
    }
    if (out->pooled)
        pool_all(e, team, work, batch, out, needed);
}

/* ---- memory: one stretch that the caller owns, cut into parts */

typedef struct {
    char *at;
    size_t used;
} Arena;

static void *arena_alloc(Arena *from, size_t bytes)
{
    void *part = from->at + from->used;
    from->used += (bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
    return part;
}

/* What a team of so many members needs for so many tokens, the longest sequence being of that length; hidden states too, unless they
 * have a place of their own. */
static void allocate_work(const Encoder *e, int members, int tokens, int longest, const Output *out, Arena *from, Work *work)
{
    size_t T = (size_t)tokens, H = (size_t)e->width, E = (size_t)e->embedding.width;
    size_t wide = 3 * T * H + T * (H > E ? H : E), bytes = 0, gates = 0;
    work->heads_size = 0;
    for (int n = 0; n < e->layers; n++) {
        const Layer *layer = e->layer + n;
        size_t rows = (size_t)min_int(tokens, BLOCK_ROWS), scratch = e->kernels->attention_scratch(longest, e->width / layer->heads, layer->relative.rows);
        if (rows * padded_stride(layer->up.outward) > wide)
            wide = rows * padded_stride(layer->up.outward);
        if (layer->gate.inward && rows * padded_stride(layer->up.outward) > gates)
            gates = rows * padded_stride(layer->up.outward);
        if (scratch > work->heads_size)
            work->heads_size = scratch;
        if (layer->qkv.panels8 && T * (H + 3) > bytes)
            bytes = T * (H + 3);
        if (layer->down.panels8 && rows * ((size_t)layer->up.outward + 3) > bytes)
            bytes = rows * ((size_t)layer->up.outward + 3);
    }
    work->heads_size = (work->heads_size + 15) / 16 * 16;
    work->x = arena_alloc(from, out->hidden ? 0 : T * H * sizeof(float));
    work->wide = arena_alloc(from, wide * sizeof(float));
    work->context = work->wide + 3 * T * H;
    work->normed = arena_alloc(from, e->pre_norm ? T * H * sizeof(float) : 0);
    work->gated = arena_alloc(from, gates * sizeof(float));
    work->scale = arena_alloc(from, T * sizeof(float));
    work->rows.q = arena_alloc(from, bytes);
    work->rows.scale = arena_alloc(from, (bytes ? T : 0) * sizeof(float));
    work->rows.min = arena_alloc(from, (bytes ? T : 0) * sizeof(float));
    const size_t each = e->kernels->normalize_rows ? T * sizeof(float) : 0;
    const size_t of_x = padded_stride(e->width), of_embedding = padded_stride(e->embedding.width);
    work->normalized.x = arena_alloc(from, each * (of_x > of_embedding ? of_x : of_embedding));
    work->normalized.scale = arena_alloc(from, each);
    work->normalized.sum = arena_alloc(from, each);
    work->normalized.outliers = arena_alloc(from, e->kernels->normalize_rows ? T * sizeof(Outliers) : 0);
    work->heads = arena_alloc(from, (size_t)members * work->heads_size * sizeof(float));
}

/* ---- who works on what */

static int max_length(const Batch *batch)
{
    int longest = 0;
    for (int n = 0; n < batch->sequences; n++)
        longest = max_int(longest, batch->starts[n + 1] - batch->starts[n]);
    return longest;
}

static int chunk_of(const Encoder *e) { return max_int(LAST_CHUNK_TOKENS, min_int(CHUNK_TOKENS, CHUNK_FLOATS / e->width)); }

/* The next chunk of whole sequences after the first `done`: smaller ones towards the end, so that all threads finish together. */
static int chunk_end(const Encoder *e, const Batch *batch, int done, int threads)
{
    const int32_t *starts = batch->starts;
    int left = starts[batch->sequences] - starts[done];
    int most = max_int(LAST_CHUNK_TOKENS, min_int(chunk_of(e), left / (2 * threads)));
    int end = done + 1;
    while (end < batch->sequences && starts[end + 1] - starts[done] <= most)
        end++;
    return end;
}

/* Whether each thread is a team of its own: where there are enough tokens for all, and they can be shared out evenly. */
static int is_per_thread(const Encoder *e, const Batch *batch, int threads)
{
    const int64_t tokens = batch->starts[batch->sequences];
    if (threads == 1)
        return 1;
    if (tokens < (int64_t)MIN_THREAD_TOKENS * threads)
        return 0;
    int64_t load[MAX_THREADS] = {0}, most = 0; /* tokens of each thread, if all are equally fast */
    for (int done = 0; done < batch->sequences;) {
        int end = chunk_end(e, batch, done, threads), idle = 0;
        for (int n = 1; n < threads; n++)
            if (load[n] < load[idle])
                idle = n;
        load[idle] += batch->starts[end] - batch->starts[done];
        most = load[idle] > most ? load[idle] : most;
        done = end;
    }
    return most * threads * 4 <= tokens * 5; /* at most a quarter longer than if all were busy to the end */
}

/* Each thread takes the next chunk until none is left. */
static void encode_per_thread(const Encoder *e, const Batch *batch, const Output *out, int threads, int longest, char *scratch)
{
    const int tokens = min_int(max_int(chunk_of(e), longest), batch->starts[batch->sequences]);
    int done = 0;
    Lock lock; /* of this call, not of the process: a forked child must not inherit one that another thread of the parent holds */
    lock_init(&lock);
#pragma omp parallel num_threads(threads)
    {
        Work work;
        Arena whole = {scratch, 0}, mine;
        allocate_work(e, 1, tokens, longest, out, &whole, &work);
        mine = (Arena){scratch + whole.used * (size_t)thread_index(), 0};
        allocate_work(e, 1, tokens, longest, out, &mine, &work);
        for (;;) {
            int first, last;
            lock_acquire(&lock);
            first = done;
            last = done = first < batch->sequences ? chunk_end(e, batch, first, threads) : first;
            lock_release(&lock);
            if (first == last)
                break;
            work.starts = batch->starts + first;
            work.sequences = last - first;
            work.tokens = batch->starts[last] - batch->starts[first];
            if (out->hidden)
                work.x = out->hidden + (size_t)batch->starts[first] * e->width;
            run(e, (Team){0, 1}, &work, batch, out);
        }
    }
    lock_destroy(&lock);
}

static void encode_as_team(const Encoder *e, const Batch *batch, const Output *out, int threads, int longest, char *scratch)
{
    Work work;
    Arena whole = {scratch, 0};
    allocate_work(e, threads, batch->starts[batch->sequences], longest, out, &whole, &work);
    work.starts = batch->starts;
    work.sequences = batch->sequences;
    work.tokens = batch->starts[batch->sequences];
    if (out->hidden)
        work.x = out->hidden;
#pragma omp parallel num_threads(threads)
    {
        Work own = work;
        run(e, (Team){thread_index(), team_size()}, &own, batch, out);
    }
}

/* Bytes of scratch that encode() needs; aligned as ALIGN_BYTES. */
size_t encode_scratch(const Encoder *e, const Batch *batch, const Output *out, int32_t threads)
{
    const int longest = max_length(batch), tokens = batch->starts[batch->sequences];
    threads = min_int(threads, MAX_THREADS);
    Work work;
    Arena sized = {NULL, 0};
    if (is_per_thread(e, batch, threads)) {
        allocate_work(e, 1, min_int(max_int(chunk_of(e), longest), tokens), longest, out, &sized, &work);
        sized.used *= (size_t)threads;
    } else {
        allocate_work(e, threads, tokens, longest, out, &sized, &work);
    }
    const size_t first = qkv_cache_scratch(e); /* before the rest */
    return sized.used > first ? sized.used : first;
}

/* Whether every id is a row of its table. */
static int ids_in_range(const int64_t *ids, size_t count, int32_t rows)
{
    for (size_t n = 0; n < count; n++)
        if (ids[n] < 0 || ids[n] >= rows)
            return 0;
    return 1;
}

/* What is wanted of a batch. Returns 0, or 1 where an id, a position or a segment is beyond its table; then nothing is computed. */
int32_t encode(const Encoder *e, const Batch *batch, const Output *out, int32_t threads, void *scratch)
{
    const Embedding *m = &e->embedding;
    const size_t tokens = (size_t)batch->starts[batch->sequences];
    const int longest = max_length(batch);
    threads = min_int(threads, MAX_THREADS);
    if (!ids_in_range(batch->ids, tokens, m->tokens) || !ids_in_range(batch->positions, tokens, m->positions) ||
        (batch->segments && !ids_in_range(batch->segments, tokens, max_int(m->segments, 1))))
        return 1;
    if (!tokens) {
        if (out->pooled)
            memset(out->pooled, 0, (size_t)batch->sequences * out->modes * e->width * sizeof(float));
        return 0;
    }
    if (batch->qkv_cache)
        fill_qkv_cache(e, batch, threads, scratch);
    if (is_per_thread(e, batch, threads))
        encode_per_thread(e, batch, out, threads, longest, scratch);
    else
        encode_as_team(e, batch, out, threads, longest, scratch);
    return 0;
}
