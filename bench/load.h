/* What the load programs share: time, CPU, latencies, and the line of JSON that tells of them. NAME is the program's. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SILENCE_MS 20000   /* a broker that says nothing for so long, though it should, has failed */
#define MOST_SHARE 0.8     /* of a core: above it the load may have been the limit */

static unsigned pid;          /* the broker's */
static uint32_t *latencies;   /* microseconds */
static size_t operations, room;

static void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs(NAME ": ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000ull + at.tv_nsec;
}

static void measured(uint64_t since)
{
    if (operations == room) {
        room = room ? 2 * room : 1 << 20;
        latencies = realloc(latencies, room * sizeof *latencies);
        if (latencies == NULL)
            die("no memory");
    }
    latencies[operations++] = (now_ns() - since) / 1000;
}

/* CPU time, of the broker and of this program */
struct moment { double wall, theirs, mine; };

static double cpu_seconds(clockid_t clock)
{
    struct timespec used;
    if (clock_gettime(clock, &used) != 0)
        die("the broker is gone");
    return used.tv_sec + used.tv_nsec / 1e9;
}

static struct moment moment(void)
{
    clockid_t theirs;
    if (clock_getcpuclockid(pid, &theirs) != 0)
        die("the broker is gone");
    return (struct moment){now_ns() / 1e9, cpu_seconds(theirs), cpu_seconds(CLOCK_PROCESS_CPUTIME_ID)};
}

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* The line, but for what a program adds and the closing brace. */
static void report(struct moment begin, struct moment end)
{
    double took = end.wall - begin.wall, share = (end.mine - begin.mine) / took;
    if (operations == 0)
        die("nothing was done in %.1f s", took);
    qsort(latencies, operations, sizeof *latencies, by_size);
    printf("{\"operations\": %zu, \"seconds\": %.6f, \"rate\": %.1f, \"broker_us\": %.3f, \"broker_share\": %.3f, "
           "\"load_share\": %.3f, \"valid\": %s, \"p50_ms\": %.3f, \"p99_ms\": %.3f",
           operations, took, operations / took, 1e6 * (end.theirs - begin.theirs) / operations,
           (end.theirs - begin.theirs) / took, share, share <= MOST_SHARE ? "true" : "false",
           latencies[operations / 2] / 1e3, latencies[operations - 1 - operations / 100] / 1e3);
}

/* What happens for so long is not counted, and then what happens in so many seconds is: with what was counted before. */
static size_t measure(double warm_up, double seconds, void (*turn)(void), struct moment *begin, struct moment *end)
{
    double start = now_ns() / 1e9;
    size_t before = operations;
    while (now_ns() / 1e9 < start + warm_up)
        turn();
    operations = before;
    *begin = moment();
    while (now_ns() / 1e9 < begin->wall + seconds)
        turn();
    *end = moment();
    return operations;
}
