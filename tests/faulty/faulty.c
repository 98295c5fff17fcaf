/* Stands before libc in one broker and plays a machine that is out of order: a wall clock that is wrong, a disk that is
   full or slow. What is wrong is read from a shared file at each call, so it can be changed while the broker runs; see
   faulty.py, which writes it.

   Only files below TQ_FAULTY_FOLDER have the bad disk: logs and sockets go on. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static volatile struct {
    int64_t wall_offset_ms; /* the wall clock less the true one */
    int64_t sync_ms;        /* what a sync takes longer */
    int64_t full;           /* 1: nothing that needs room can be written */
    int64_t low;            /* 1: no room is free for who asks; what is written goes on */
} *faults;

static const char *folder;
static size_t folder_size;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("TQ_FAULTY_CONTROL");
    folder = getenv("TQ_FAULTY_FOLDER");
    if (!path || !folder) return;
    folder_size = strlen(folder);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) abort();
    void *found = mmap(NULL, sizeof *faults, PROT_READ, MAP_SHARED, fd, 0);
    if (found == MAP_FAILED) abort();
    close(fd);
    faults = found;
}

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

/* ---- the clock ---------------------------------------------------------------------------------- */

int clock_gettime(clockid_t clock, struct timespec *at) {
    REAL(clock_gettime);
    int failed = real(clock, at);
    if (!failed && clock == CLOCK_REALTIME && faults) {
        int64_t ns = (int64_t)at->tv_sec * 1000000000 + at->tv_nsec + faults->wall_offset_ms * 1000000;
        at->tv_sec = ns / 1000000000;
        at->tv_nsec = ns % 1000000000;
    }
    return failed;
}

/* ---- the disk ----------------------------------------------------------------------------------- */

static int is_bad(int fd) {
    char link[64], path[4096];
    if (!faults) return 0;
    int error = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path);
    errno = error;
    return size >= (ssize_t)folder_size && !memcmp(path, folder, folder_size);
}

static int is_full(int fd) {
    if (!faults || !faults->full || !is_bad(fd)) return 0;
    errno = ENOSPC;
    return 1;
}

ssize_t write(int fd, const void *data, size_t size) {
    REAL(write);
    return is_full(fd) ? -1 : real(fd, data, size);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(writev);
    return is_full(fd) ? -1 : real(fd, parts, count);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    REAL(pwrite);
    return is_full(fd) ? -1 : real(fd, data, size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    REAL(pwrite64);
    return is_full(fd) ? -1 : real(fd, data, size, at);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) {
    REAL(pwritev);
    return is_full(fd) ? -1 : real(fd, parts, count, at);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at) {
    REAL(pwritev64);
    return is_full(fd) ? -1 : real(fd, parts, count, at);
}

int posix_fallocate(int fd, off_t at, off_t size) {
    REAL(posix_fallocate);
    return is_full(fd) ? ENOSPC : real(fd, at, size);
}

int posix_fallocate64(int fd, off64_t at, off64_t size) {
    REAL(posix_fallocate64);
    return is_full(fd) ? ENOSPC : real(fd, at, size);
}

static void wait_ms(int64_t ms) {
    struct timespec left = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&left, &left) && errno == EINTR) continue;
}

int fdatasync(int fd) {
    REAL(fdatasync);
    if (faults && faults->sync_ms && is_bad(fd)) wait_ms(faults->sync_ms);
    return real(fd);
}

int fsync(int fd) {
    REAL(fsync);
    if (faults && faults->sync_ms && is_bad(fd)) wait_ms(faults->sync_ms);
    return real(fd);
}

static int has_no_room(const char *path) {
    return faults && (faults->full || faults->low) && !strncmp(path, folder, folder_size);
}

int statvfs(const char *path, struct statvfs *found) {
    REAL(statvfs);
    int failed = real(path, found);
    if (!failed && has_no_room(path)) found->f_bfree = found->f_bavail = 0;
    return failed;
}

int statvfs64(const char *path, struct statvfs64 *found) {
    REAL(statvfs64);
    int failed = real(path, found);
    if (!failed && has_no_room(path)) found->f_bfree = found->f_bavail = 0;
    return failed;
}
