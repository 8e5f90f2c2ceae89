// Moves the real-time clock of the process that loads it, and makes its syncs slow, as the control file says.
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

// The content of the file that the variable PRELOAD_CONTROL names. Both may change at any time.
struct control {
    int64_t clock_seconds;
    int64_t sync_milliseconds;
};

static const struct control zero;
static const volatile struct control *control = &zero;

__attribute__((constructor)) static void load(void)
{
    const char *path = getenv("PRELOAD_CONTROL");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *mapped = mmap(NULL, sizeof zero, PROT_READ, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED)
        control = mapped;
    close(file);
}

int clock_gettime(clockid_t clock, struct timespec *at)
{
    int result = (int)syscall(SYS_clock_gettime, clock, at);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        at->tv_sec += control->clock_seconds;
    return result;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone)
{
    (void)zone;
    struct timespec now;
    int result = clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return result;
}

time_t time(time_t *at)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at)
        *at = now.tv_sec;
    return now.tv_sec;
}

static void be_slow(void)
{
    int64_t wait = control->sync_milliseconds;
    struct timespec rest = { wait / 1000, wait % 1000 * 1000000 };
    while (wait > 0 && nanosleep(&rest, &rest) != 0)
        ;
}

int fsync(int file)
{
    be_slow();
    return (int)syscall(SYS_fsync, file);
}

int fdatasync(int file)
{
    be_slow();
    return (int)syscall(SYS_fdatasync, file);
}
