/* Records the system calls that change files, as libc is asked for them. See preload.py, which reads what it writes.

   A record: kind u8, descriptor i32, number i64, length u32 and bytes of two texts. It is written after the call has
   succeeded. The process must make such calls from one thread. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static int record_fd = -1;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("TQ_RECORD_TO");
    if (path) {
        int fd = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        record_fd = fcntl(fd, F_DUPFD_CLOEXEC, 500); /* out of the way of the numbers that the process expects */
        syscall(SYS_close, fd);
    }
}

static void put(const struct iovec *parts, int count) {
    size_t whole = 0;
    for (int i = 0; i < count; i++) whole += parts[i].iov_len;
    if (syscall(SYS_writev, record_fd, parts, count) != (long)whole) {
        static const char text[] = "preload: the record cannot be written\n";
        syscall(SYS_write, 2, text, sizeof text - 1);
        _exit(99);
    }
}

static void record(char kind, int fd, int64_t number, const char *a, uint32_t a_size, const struct iovec *b, int b_count) {
    if (record_fd < 0) return;
    int error = errno;
    struct __attribute__((packed)) { char kind; int32_t fd; int64_t number; uint32_t a_size, b_size; } head;
    head.kind = kind, head.fd = fd, head.number = number, head.a_size = a_size, head.b_size = 0;
    for (int i = 0; i < b_count; i++) head.b_size += b[i].iov_len;
    struct iovec parts[2] = {{&head, sizeof head}, {(void *)a, a_size}};
    put(parts, 2);
    if (b_count) put(b, b_count);
    errno = error;
}

static void of_file(char kind, int fd, int64_t number, const struct iovec *data, int count) {
    char link[64], path[4096];
    if (record_fd < 0) return;
    int error = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long size = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path);
    errno = error;
    if (size > 0 && path[0] == '/') record(kind, fd, number, path, size, data, count);
}

static void of_path(char kind, const char *path, const char *other) {
    struct iovec second = {(void *)other, other ? strlen(other) : 0};
    record(kind, -1, 0, path, strlen(path), &second, other ? 1 : 0);
}

#define REAL(result, name, ...) static result (*real)(__VA_ARGS__); if (!real) real = dlsym(RTLD_NEXT, name)

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        va_list list; va_start(list, flags); int mode = va_arg(list, int); va_end(list); \
        REAL(int, #name, const char *, int, ...); \
        int fd = real(path, flags, mode); \
        if (fd >= 0) of_file('o', fd, flags, 0, 0); \
        return fd; \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name) \
    int name(int directory, const char *path, int flags, ...) { \
        va_list list; va_start(list, flags); int mode = va_arg(list, int); va_end(list); \
        REAL(int, #name, int, const char *, int, ...); \
        int fd = real(directory, path, flags, mode); \
        if (fd >= 0) of_file('o', fd, flags, 0, 0); \
        return fd; \
    }
OPENAT(openat)
OPENAT(openat64)

static int64_t position(int fd) { return syscall(SYS_lseek, fd, 0, SEEK_CUR); }

ssize_t write(int fd, const void *data, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    int error = errno;
    int64_t at = position(fd);
    errno = error;
    ssize_t done = real(fd, data, size);
    struct iovec part = {(void *)data, done > 0 ? done : 0};
    if (done > 0) of_file('w', fd, at, &part, 1);
    return done;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    int error = errno;
    int64_t at = position(fd);
    errno = error;
    ssize_t done = real(fd, parts, count);
    if (done > 0) of_file('w', fd, at, parts, count);
    return done;
}

#define PWRITE(name) \
    ssize_t name(int fd, const void *data, size_t size, off_t at) { \
        REAL(ssize_t, #name, int, const void *, size_t, off_t); \
        ssize_t done = real(fd, data, size, at); \
        struct iovec part = {(void *)data, done > 0 ? done : 0}; \
        if (done > 0) of_file('w', fd, at, &part, 1); \
        return done; \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

#define PWRITEV(name) \
    ssize_t name(int fd, const struct iovec *parts, int count, off_t at) { \
        REAL(ssize_t, #name, int, const struct iovec *, int, off_t); \
        ssize_t done = real(fd, parts, count, at); \
        if (done > 0) of_file('w', fd, at, parts, count); \
        return done; \
    }
PWRITEV(pwritev)
PWRITEV(pwritev64)

#define OF_FILE(name, kind) \
    int name(int fd) { REAL(int, #name, int); int done = real(fd); if (!done) of_file(kind, fd, 0, 0, 0); return done; }
OF_FILE(fsync, 's')
OF_FILE(fdatasync, 's')

#define TRUNCATE(name) \
    int name(int fd, off_t size) { \
        REAL(int, #name, int, off_t); int done = real(fd, size); if (!done) of_file('t', fd, size, 0, 0); return done; \
    }
TRUNCATE(ftruncate)
TRUNCATE(ftruncate64)

#define OF_PATH(name, kind) \
    int name(const char *path) { REAL(int, #name, const char *); int done = real(path); if (!done) of_path(kind, path, 0); return done; }
OF_PATH(unlink, 'd')
OF_PATH(rmdir, 'd')

int mkdir(const char *path, mode_t mode) {
    REAL(int, "mkdir", const char *, mode_t);
    int done = real(path, mode);
    if (!done) of_path('m', path, 0);
    return done;
}

int rename(const char *old, const char *new) {
    REAL(int, "rename", const char *, const char *);
    int done = real(old, new);
    if (!done) of_path('r', old, new);
    return done;
}
