/* The first layer's queries, keys and values: see qkv_cache.c. */
#ifndef NATIVEBERT_QKV_CACHE_H
#define NATIVEBERT_QKV_CACHE_H

#include "kernels.h"

/* Has batch->qkv_cache hold all that the batch needs. */
void fill_qkv_cache(const Encoder *e, const Batch *batch, int threads, float *scratch);

/* Bytes of scratch for that. */
size_t qkv_cache_scratch(const Encoder *e);

/* Fewest rows that QkvCache must have room for, for a batch of so many tokens. */
int32_t qkv_cache_rows(const Encoder *e, int32_t tokens);

/* Queries, keys and values (3H) of one token, which the norm multiplied by scale. */
void read_qkv_cache(const Encoder *e, const Batch *batch, size_t token, float scale, float *y);

#endif
