/* Moves the wall clock of a process, and nothing else: preloaded, it stands before libc's own.
 *
 * The shift, in nanoseconds, is read from WALL_CLOCK_SHIFT when a process begins, and wall_clock_shift() sets it later.
 * Clocks that only rise are left alone, so that whatever waits or measures does so as always.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

#define SECOND 1000000000LL

static volatile long long shift;

__attribute__((constructor)) static void begin(void) {
    const char *given = getenv("WALL_CLOCK_SHIFT");
    shift = given == NULL ? 0 : atoll(given);
}

void wall_clock_shift(long long nanoseconds) { shift = nanoseconds; }

static struct timespec moved(struct timespec from, long long by) {
    long long nanoseconds = from.tv_nsec + by % SECOND;
    struct timespec to = {from.tv_sec + by / SECOND + (nanoseconds >= SECOND) - (nanoseconds < 0), 0};
    to.tv_nsec = (nanoseconds + SECOND) % SECOND;
    return to;
}

int clock_gettime(clockid_t id, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (real == NULL) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(id, now);
    if (!failed && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) *now = moved(*now, shift);
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &exact)) return -1;
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *also) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (also != NULL) *also = now.tv_sec;
    return now.tv_sec;
}

/* Waits until a moment of the wall clock; Python 3.10 waits for its locks so. The kernel's clock is not moved. */
int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict until) {
    static int (*real)(sem_t *, const struct timespec *);
    if (real == NULL) real = (int (*)(sem_t *, const struct timespec *))dlsym(RTLD_NEXT, "sem_timedwait");
    struct timespec there = moved(*until, -shift);
    return real(semaphore, &there);
}
