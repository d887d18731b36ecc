/*
 * Records what a process writes below one folder, and what it asks the disk to keep, in the order in
 * which it happened. Loaded into the program under test by LD_PRELOAD; tests/src/power/ reads it.
 *
 * CAPSULE_TRACE_ROOT is the folder, CAPSULE_TRACE_FILE the file that records are appended to. One
 * record is one writev to a file opened with O_APPEND, so several processes may share it. A write is
 * made and noted under one lock. A sync is noted when it begins and when it has come back: only what
 * was noted before its beginning may count as kept by it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { CREATE = 1, MKDIR, WRITE, SIZE, SYNC, SYNCED, RENAME, UNLINK, RMDIR };

static char root[PATH_MAX];
static size_t root_len;
static int trace = -1;
static uint64_t syncs;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void begin(void) {
    const char *folder = getenv("CAPSULE_TRACE_ROOT"), *file = getenv("CAPSULE_TRACE_FILE");
    /* What this process starts is not recorded. */
    unsetenv("LD_PRELOAD");
    if (!folder || !file || strlen(folder) >= sizeof root) return;
    strcpy(root, folder);
    root_len = strlen(root);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (fd < 0) abort();
    /* Out of the way of the program's own numbers. */
    trace = fcntl(fd, F_DUPFD_CLOEXEC, 700);
    syscall(SYS_close, fd);
}

static void note(enum kind kind, uint64_t a, uint64_t b, const void *data, size_t len) {
    unsigned char head[21];
    uint32_t size = (uint32_t)len;
    head[0] = (unsigned char)kind;
    memcpy(head + 1, &a, 8);
    memcpy(head + 9, &b, 8);
    memcpy(head + 17, &size, 4);
    struct iovec parts[2] = {{head, sizeof head}, {(void *)data, len}};
    int kept = errno;
    if (syscall(SYS_writev, trace, parts, 2) != (long)(sizeof head + len)) abort();
    errno = kept;
}

/* The path below the root, or NULL; `whole` holds the result. */
static const char *below(const char *whole) {
    if (trace < 0 || strncmp(whole, root, root_len) != 0) return NULL;
    if (whole[root_len] == 0) return "";
    return whole[root_len] == '/' ? whole + root_len + 1 : NULL;
}

static const char *at(int dir, const char *path, char whole[PATH_MAX]) {
    if (trace < 0) return NULL;
    if (path[0] == '/') return below(path);
    char link[64];
    if (dir == AT_FDCWD) strcpy(link, "/proc/self/cwd");
    else snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
    ssize_t len = readlink(link, whole, PATH_MAX - 1);
    if (len < 0 || (size_t)len + strlen(path) + 2 > PATH_MAX) return NULL;
    whole[len] = '/';
    strcpy(whole + len + 1, path);
    return below(whole);
}

/* The inode behind a descriptor of a file or folder below the root, or 0. */
static uint64_t ours(int fd) {
    char link[64], whole[PATH_MAX];
    struct stat about;
    if (trace < 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, whole, sizeof whole - 1);
    if (len < 0) return 0;
    whole[len] = 0;
    if (!below(whole) || fstat(fd, &about) != 0) return 0;
    return S_ISREG(about.st_mode) || S_ISDIR(about.st_mode) ? about.st_ino : 0;
}

static uint64_t inode(int dir, const char *path) {
    struct stat about;
    return fstatat(dir, path, &about, AT_SYMLINK_NOFOLLOW) == 0 ? about.st_ino : 0;
}

static int open_at(int dir, const char *path, int flags, mode_t mode) {
    char whole[PATH_MAX];
    const char *name = flags & (O_CREAT | O_TRUNC) ? at(dir, path, whole) : NULL;
    if (!name) return (int)syscall(SYS_openat, dir, path, flags, mode);
    pthread_mutex_lock(&lock);
    uint64_t before = inode(dir, path);
    int fd = (int)syscall(SYS_openat, dir, path, flags, mode);
    uint64_t after = fd < 0 ? 0 : ours(fd);
    if (after && !before) note(CREATE, after, 0, name, strlen(name));
    else if (after && flags & O_TRUNC) note(SIZE, after, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    return fd;
}

#define MODE(flags, last)                                  \
    mode_t mode = 0;                                       \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                 \
        va_list rest;                                      \
        va_start(rest, last);                              \
        mode = (mode_t)va_arg(rest, int);                  \
        va_end(rest);                                      \
    }

int open(const char *path, int flags, ...) {
    MODE(flags, flags)
    return open_at(AT_FDCWD, path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    MODE(flags, flags)
    return open_at(AT_FDCWD, path, flags, mode);
}
int openat(int dir, const char *path, int flags, ...) {
    MODE(flags, flags)
    return open_at(dir, path, flags, mode);
}
int openat64(int dir, const char *path, int flags, ...) {
    MODE(flags, flags)
    return open_at(dir, path, flags, mode);
}
int creat(const char *path, mode_t mode) {
    return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

ssize_t pwrite64(int fd, const void *data, size_t len, off64_t offset) {
    uint64_t file = ours(fd);
    if (!file) return syscall(SYS_pwrite64, fd, data, len, offset);
    pthread_mutex_lock(&lock);
    ssize_t done = syscall(SYS_pwrite64, fd, data, len, offset);
    if (done > 0) note(WRITE, file, (uint64_t)offset, data, (size_t)done);
    pthread_mutex_unlock(&lock);
    return done;
}
ssize_t pwrite(int fd, const void *data, size_t len, off_t offset) {
    return pwrite64(fd, data, len, offset);
}
ssize_t write(int fd, const void *data, size_t len) {
    uint64_t file = ours(fd);
    if (!file) return syscall(SYS_write, fd, data, len);
    pthread_mutex_lock(&lock);
    ssize_t done = syscall(SYS_write, fd, data, len);
    off_t end = lseek(fd, 0, SEEK_CUR);
    if (done > 0) note(WRITE, file, (uint64_t)(end - done), data, (size_t)done);
    pthread_mutex_unlock(&lock);
    return done;
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (!ours(fd)) return syscall(SYS_writev, fd, parts, count);
    /* One part at a time: less than asked for is an answer, too. */
    for (int part = 0; part < count; part++)
        if (parts[part].iov_len) return write(fd, parts[part].iov_base, parts[part].iov_len);
    return 0;
}

static int resize(int fd, off_t size) {
    uint64_t file = ours(fd);
    if (!file) return (int)syscall(SYS_ftruncate, fd, size);
    pthread_mutex_lock(&lock);
    int done = (int)syscall(SYS_ftruncate, fd, size);
    if (done == 0) note(SIZE, file, (uint64_t)size, NULL, 0);
    pthread_mutex_unlock(&lock);
    return done;
}
int ftruncate(int fd, off_t size) { return resize(fd, size); }
int ftruncate64(int fd, off64_t size) { return resize(fd, size); }

/* The file systems that tests run on keep space back without a change of what is in the file. */
static int reserve(int fd, off_t offset, off_t len) {
    uint64_t file = ours(fd);
    struct stat about;
    pthread_mutex_lock(&lock);
    int failed = syscall(SYS_fallocate, fd, 0, offset, len) == 0 ? 0 : errno;
    if (!failed && file && fstat(fd, &about) == 0)
        note(SIZE, file, (uint64_t)about.st_size, NULL, 0);
    pthread_mutex_unlock(&lock);
    return failed;
}
int posix_fallocate(int fd, off_t offset, off_t len) { return reserve(fd, offset, len); }
int posix_fallocate64(int fd, off64_t offset, off64_t len) { return reserve(fd, offset, len); }

/* Copies inside of the kernel are not seen, so the program is made to write. */
ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t len, unsigned flags) {
    if (!ours(out)) return syscall(SYS_copy_file_range, in, from, out, to, len, flags);
    errno = ENOSYS;
    return -1;
}
ssize_t sendfile64(int out, int in, off64_t *from, size_t len) {
    if (!ours(out)) return syscall(SYS_sendfile, out, in, from, len);
    errno = ENOSYS;
    return -1;
}
ssize_t sendfile(int out, int in, off_t *from, size_t len) { return sendfile64(out, in, from, len); }

static int keep(int fd, long call) {
    uint64_t file = ours(fd);
    if (!file) return (int)syscall(call, fd);
    uint64_t token = (uint64_t)getpid() << 32 | __atomic_add_fetch(&syncs, 1, __ATOMIC_RELAXED);
    pthread_mutex_lock(&lock);
    note(SYNC, token, file, NULL, 0);
    pthread_mutex_unlock(&lock);
    int done = (int)syscall(call, fd);
    pthread_mutex_lock(&lock);
    if (done == 0) note(SYNCED, token, file, NULL, 0);
    pthread_mutex_unlock(&lock);
    return done;
}
int fsync(int fd) { return keep(fd, SYS_fsync); }
int fdatasync(int fd) { return keep(fd, SYS_fdatasync); }

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
    char one[PATH_MAX], other[PATH_MAX], both[2 * PATH_MAX];
    const char *old = at(from_dir, from, one), *new = at(to_dir, to, other);
    pthread_mutex_lock(&lock);
    int done = (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
    if (done == 0 && (old || new)) {
        /* Neither in from outside, nor out, nor an exchange: the reader could not follow. */
        if (!old || !new || flags & RENAME_EXCHANGE) abort();
        size_t first = strlen(old) + 1, second = strlen(new);
        memcpy(both, old, first);
        memcpy(both + first, new, second);
        note(RENAME, 0, 0, both, first + second);
    }
    pthread_mutex_unlock(&lock);
    return done;
}
int renameat(int from_dir, const char *from, int to_dir, const char *to) {
    return renameat2(from_dir, from, to_dir, to, 0);
}
int rename(const char *from, const char *to) {
    return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int unlinkat(int dir, const char *path, int flags) {
    char whole[PATH_MAX];
    const char *name = at(dir, path, whole);
    if (!name) return (int)syscall(SYS_unlinkat, dir, path, flags);
    pthread_mutex_lock(&lock);
    int done = (int)syscall(SYS_unlinkat, dir, path, flags);
    if (done == 0) note(flags & AT_REMOVEDIR ? RMDIR : UNLINK, 0, 0, name, strlen(name));
    pthread_mutex_unlock(&lock);
    return done;
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdirat(int dir, const char *path, mode_t mode) {
    char whole[PATH_MAX];
    const char *name = at(dir, path, whole);
    if (!name) return (int)syscall(SYS_mkdirat, dir, path, mode);
    pthread_mutex_lock(&lock);
    int done = (int)syscall(SYS_mkdirat, dir, path, mode);
    if (done == 0) note(MKDIR, inode(dir, path), 0, name, strlen(name));
    pthread_mutex_unlock(&lock);
    return done;
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }
