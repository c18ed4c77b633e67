/* Threads that work on the same thing, step by step, and how they share a step. */
#ifndef NATIVEBERT_TEAM_H
#define NATIVEBERT_TEAM_H

#include <stdint.h>
#if defined(_OPENMP)
#include <omp.h>
#endif

enum { CACHE_LINE = 64 /* bytes */ };

typedef struct {
    int index, size;
} Team;

typedef struct {
    int first, last;
} Range;

static inline int smaller_of(int a, int b) { return a < b ? a : b; }

static inline int larger_of(int a, int b) { return a > b ? a : b; }

static inline Range share(Team team, int count)
{
    return (Range){(int)((int64_t)count * team.index / team.size), (int)((int64_t)count * (team.index + 1) / team.size)};
}

static inline void gather_team(Team team)
{
    if (team.size > 1) {
#pragma omp barrier
    }
}

static inline int thread_index(void)
{
#if defined(_OPENMP)
    return omp_get_thread_num();
#else
    return 0;
#endif
}

static inline int team_size(void)
{
#if defined(_OPENMP)
    return omp_get_num_threads();
#else
    return 1;
#endif
}

/* A lock for the members of a team of one thread each. */
#if defined(_OPENMP)
typedef omp_lock_t Lock;
static inline void make_lock(Lock *lock) { omp_init_lock(lock); }
static inline void take_lock(Lock *lock) { omp_set_lock(lock); }
static inline void give_lock(Lock *lock) { omp_unset_lock(lock); }
static inline void drop_lock(Lock *lock) { omp_destroy_lock(lock); }
#else
typedef int Lock;
static inline void make_lock(Lock *lock) { (void)lock; }
static inline void take_lock(Lock *lock) { (void)lock; }
static inline void give_lock(Lock *lock) { (void)lock; }
static inline void drop_lock(Lock *lock) { (void)lock; }
#endif

#endif
