/* Threads that work on the same thing, step by step, and how they share a step.
 *
 * Contents: Team, Range, team_share(), team_barrier(); Lock. Without OpenMP there is one thread.
 */
#ifndef NATIVEBERT_TEAM_H
#define NATIVEBERT_TEAM_H

#include <stdint.h>
#if defined(_OPENMP)
#include <omp.h>
#endif

enum { CACHE_LINE_BYTES = 64 /* bytes */ };

typedef struct {
    int index, size;
} Team;

typedef struct {
    int first, last;
} Range;

static inline int min_int(int a, int b) { return a < b ? a : b; }

static inline int max_int(int a, int b) { return a > b ? a : b; }

static inline Range team_share(Team team, int count)
{
    return (Range){(int)((int64_t)count * team.index / team.size), (int)((int64_t)count * (team.index + 1) / team.size)};
}

static inline void team_barrier(Team team)
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
static inline void lock_init(Lock *lock) { omp_init_lock(lock); }
static inline void lock_acquire(Lock *lock) { omp_set_lock(lock); }
static inline void lock_release(Lock *lock) { omp_unset_lock(lock); }
static inline void lock_destroy(Lock *lock) { omp_destroy_lock(lock); }
#else
typedef int Lock;
static inline void lock_init(Lock *lock) { (void)lock; }
static inline void lock_acquire(Lock *lock) { (void)lock; }
static inline void lock_release(Lock *lock) { (void)lock; }
static inline void lock_destroy(Lock *lock) { (void)lock; }
#endif

#endif
