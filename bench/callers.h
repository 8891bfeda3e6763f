/* Applications that call devices, over HTTP if nothing else is said, and what answers in HTTP, for load programs. */
#include "stream.h"
#include <sys/timerfd.h>

#define MOST_DEVICES 1000
#define REQUEST "{\"method\":\"get\",\"params\":{\"pin\":7}}"
#define REPLY "{\"7\":true}"

struct caller {
    struct stream stream;
    uint64_t since;    /* when its call began, or should have begun; 0: it has none */
    unsigned number;   /* of its calls */
};

static struct sockaddr_in callers_address = {.sin_family = AF_INET};

static struct caller *callers;
static unsigned caller_count, awaited, next_device, device_count;
static int calling;                 /* who has an answer calls again */
static uint64_t due, begun;         /* calls at a rate: how many should have begun, and have */
static uint64_t first_ns, each_ns;  /* when the first of them is due, and how much later the next */
static char *calls[MOST_DEVICES];   /* what calls each device */
static size_t call_lengths[MOST_DEVICES];

static void open_over_http(struct caller *c) { connect_stream(&c->stream, &callers_address); }

static void ask_over_http(struct caller *c, unsigned device) { put(&c->stream, calls[device], call_lengths[device]); }

/* The status of a whole response, its body where `body` says, its length to be dropped; 0: it is not whole yet. */
static int response(struct stream *s, char **body, size_t *length)
{
    char *end = strstr(s->in, "\r\n\r\n"), *field;
    size_t size = 0;
    int chunked = 0;
    if (s->holds == 0 || end == NULL)
        return 0;
    for (field = s->in; field < end; field = strstr(field, "\r\n") + 2)
        if (strncasecmp(field, "content-length:", 15) == 0)
            size = strtoul(field + 15, NULL, 10);
        else if (strncasecmp(field, "transfer-encoding: chunked", 26) == 0)
            chunked = 1;
    *body = end + 4;
    if (chunked) {   /* one chunk, which is all that is needed of it here */
        if ((end = strstr(*body, "\r\n")) == NULL)
            return 0;
        size = strtoul(*body, NULL, 16) + 7;   /* after it: an empty line, a chunk of nothing, and another one */
        *body = end + 2;
    }
    *length = *body - s->in + size;
    if (s->holds < *length)
        return 0;
    if (chunked && memcmp(s->in + *length - 7, "\r\n0\r\n\r\n", 7) != 0)
        die("more than one chunk: %s", *body);
    return atoi(s->in + 9);
}

static const char *answer_over_http = REPLY;   /* to the last byte of the response */

static size_t read_over_http(struct caller *c)
{
    char *body;
    size_t length;
    int status = response(&c->stream, &body, &length);
    if (status != 0 && (status != 200 || strcmp(body, answer_over_http) != 0))
        die("a call was answered with %.*s", (int)length, c->stream.in);
    return status ? length : 0;
}

/* How callers speak. */
static struct speech {
    void (*open)(struct caller *);                  /* once, before all calls */
    void (*ask)(struct caller *, unsigned device);
    size_t (*read)(struct caller *);                /* the length of a right answer; 0: it is not whole yet */
} speech = {open_over_http, ask_over_http, read_over_http};

static void call(struct caller *c, uint64_t since)
{
    c->since = since;
    c->number++;
    awaited++;
    speech.ask(c, next_device++ % device_count);
}

/* The calls that should have begun, while there is a caller that has none. */
static void call_due(void)
{
    static unsigned next;
    for (unsigned looked = 0; begun < due && looked < caller_count; looked++) {
        struct caller *c = &callers[next++ % caller_count];
        if (c->since == 0)
            call(c, first_ns + begun++ * each_ns);
    }
}

static void ticked(struct source *timer)
{
    uint64_t times;
    if (read(timer->fd, &times, sizeof times) != sizeof times)
        die("timer: %s", strerror(errno));
    due += times;
    call_due();
}

static void answered(struct source *s)
{
    struct caller *c = (struct caller *)s;
    take(&c->stream);
    size_t length = speech.read(c);
    if (length == 0)
        return;
    drop(&c->stream, length);
    measured(c->since);
    awaited--;
    c->since = 0;
    if (calling)
        call(c, now_ns());
    else
        call_due();
}

/* From stdin: the caller's token, then each device's id, one a line. */
static void read_calls(void)
{
    char token[4096], id[64], request[MOST_TEXT];
    if (scanf("%4095s", token) != 1)
        die("no token on stdin");
    for (unsigned i = 0; i < device_count; i++) {
        if (scanf("%63s", id) != 1)
            die("too few ids on stdin");
        call_lengths[i] = snprintf(request, sizeof request,
                                   "POST /api/rpc/twoway/%s HTTP/1.1\r\nHost: b\r\nX-Authorization: Bearer %s\r\n"
                                   "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n" REQUEST,
                                   id, token, strlen(REQUEST));
        calls[i] = strdup(request);
    }
}

static void open_callers(unsigned count)
{
    caller_count = count;
    callers = calloc(count, sizeof *callers);
    if (callers == NULL)
        die("no memory");
    for (unsigned i = 0; i < count; i++) {
        speech.open(&callers[i]);
        watch(&callers[i].stream.source, answered);
    }
}

static void start_timer(struct source *timer, double rate)
{
    due = begun = 0;
    each_ns = 1e9 / rate;
    first_ns = now_ns() + each_ns;
    struct timespec first = {first_ns / 1000000000, first_ns % 1000000000};
    struct timespec each = {each_ns / 1000000000, each_ns % 1000000000};
    timer->fd = timerfd_create(CLOCK_MONOTONIC, 0);
    if (timerfd_settime(timer->fd, TFD_TIMER_ABSTIME, &(struct itimerspec){each, first}, NULL) != 0)
        die("timer: %s", strerror(errno));
    watch(timer, ticked);
}

/* All callers, each with its next call when it has its answer; or, with a rate, so many calls a second, whose latency
 * counts from when they should have begun. Then all are waited for. What the counted ones took is added to `took`. */
static void call_for(double rate, double warm_up, double seconds, struct moment *took)
{
    struct moment begin, end;
    struct source timer = {.fd = -1};
    calling = rate <= 0;
    if (!calling)
        start_timer(&timer, rate);
    for (unsigned i = 0; calling && i < caller_count; i++)
        call(&callers[i], now_ns());
    size_t done = measure(warm_up, seconds, turn, &begin, &end);
    calling = 0;
    close(timer.fd);
    while (awaited || begun < due)
        turn();
    if (rate > 0)
        end = moment();   /* also the last of those that were due count, and what they took */
    else
        operations = done;
    took->wall += end.wall - begin.wall;
    took->theirs += end.theirs - begin.theirs;
    took->mine += end.mine - begin.mine;
}

static void tell(struct moment took)
{
    report((struct moment){0}, took);
    puts("}");
}

static void call_all(unsigned count, double rate, double warm_up, double seconds)
{
    struct moment took = {0};
    open_callers(count);
    call_for(rate, warm_up, seconds, &took);
    tell(took);
}
