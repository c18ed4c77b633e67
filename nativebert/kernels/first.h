/* The first layer's queries, keys and values: see first.c. */
#ifndef NATIVEBERT_FIRST_H
#define NATIVEBERT_FIRST_H

#include "kernels.h"

/* Has batch->remembered hold all that the batch needs. */
void remember(const Encoder *e, const Batch *batch, int threads, float *scratch);

/* Bytes of scratch for that. */
size_t remember_scratch(const Encoder *e);

/* Fewest rows that Remembered must have room for, for a batch of so many tokens. */
int32_t remember_rows(const Encoder *e, int32_t tokens);

/* Queries, keys and values (3H) of one token, which the norm multiplied by scale. */
void recall(const Encoder *e, const Batch *batch, size_t token, float scale, float *y);

#endif
