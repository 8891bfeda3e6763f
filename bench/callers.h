/* Applications that call devices over HTTP, and what answers in HTTP, for the load programs. */
#include <netinet/tcp.h>

#define MOST_TEXT 8192
#define MOST_DEVICES 1000
#define TICK_MS 500

/* What epoll reports, first in whatever has a socket. */
struct source {
    void (*readable)(struct source *);
    int fd;
};

/* One HTTP connection; the first `holds` bytes of `in` are a response that is not whole. */
struct http {
    struct source source;
    size_t holds;
    char in[MOST_TEXT];
};

struct caller {
    struct http http;
    uint64_t since;   /* 0: nothing is asked */
};

static struct sockaddr_in http_address = {.sin_family = AF_INET};
static int epoll;

static struct caller *callers;
static unsigned caller_count, awaited, next_device, device_count;
static int calling;
static char *calls[MOST_DEVICES];   /* the request that calls each device */
static size_t call_lengths[MOST_DEVICES];

static void watch(struct source *s, void (*readable)(struct source *))
{
    struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = s};
    s->readable = readable;
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, s->fd, &wanted) != 0)
        die("epoll: %s", strerror(errno));
}

static void connect_http(struct http *h, void (*readable)(struct source *))
{
    int yes = 1;
    h->source.fd = socket(AF_INET, SOCK_STREAM, 0);
    if (h->source.fd < 0 || connect(h->source.fd, (struct sockaddr *)&http_address, sizeof http_address) != 0)
        die("HTTP: %s", strerror(errno));
    setsockopt(h->source.fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    watch(&h->source, readable);
}

static void put(struct http *h, const char *text, size_t length)
{
    if (send(h->source.fd, text, length, MSG_NOSIGNAL) != (ssize_t)length)
        die("HTTP: %s", strerror(errno));
}

static void take(struct http *h)
{
    ssize_t got = recv(h->source.fd, h->in + h->holds, sizeof h->in - 1 - h->holds, 0);
    if (got <= 0)
        die("HTTP: %s after %.60s", got ? strerror(errno) : "the broker closed the connection", h->in);
    h->holds += got;
    h->in[h->holds] = 0;
}

static void drop(struct http *h, size_t length)
{
    memmove(h->in, h->in + length, h->holds - length + 1);
    h->holds -= length;
}

/* The status of a whole response, its body where `body` says, its length to be dropped; 0: it is not whole yet. */
static int response(struct http *h, char **body, size_t *length)
{
    char *end = strstr(h->in, "\r\n\r\n"), *field;
    size_t size = 0;
    if (h->holds == 0 || end == NULL)
        return 0;
    for (field = h->in; field < end; field = strstr(field, "\r\n") + 2)
        if (strncasecmp(field, "content-length:", 15) == 0)
            size = strtoul(field + 15, NULL, 10);
    *body = end + 4;
    *length = end + 4 - h->in + size;
    return h->holds < *length ? 0 : atoi(h->in + 9);
}

static void call(struct caller *c)
{
    unsigned device = next_device++ % device_count;
    c->since = now_ns();
    awaited++;
    put(&c->http, calls[device], call_lengths[device]);
}

static void answered(struct source *s)
{
    struct caller *c = (struct caller *)s;
    char *body;
    size_t length;
    take(&c->http);
    int status = response(&c->http, &body, &length);
    if (status == 0)
        return;
    if (status != 200 || memcmp(body, "{\"7\":true}", 10) != 0)
        die("a call was answered with %.*s", (int)length, c->http.in);
    drop(&c->http, length);
    measured(c->since);
    awaited--;
    c->since = 0;
    if (calling)
        call(c);
}

/* From stdin: the caller's token, then each device's id, one a line. */
static void read_calls(const char *body)
{
    char token[4096], id[64], request[MOST_TEXT];
    if (scanf("%4095s", token) != 1)
        die("no token on stdin");
    for (unsigned i = 0; i < device_count; i++) {
        if (scanf("%63s", id) != 1)
            die("too few ids on stdin");
        call_lengths[i] = snprintf(request, sizeof request,
                                   "POST /api/rpc/twoway/%s HTTP/1.1\r\nHost: b\r\nX-Authorization: Bearer %s\r\n"
                                   "Content-Length: %zu\r\n\r\n%s", id, token, strlen(body), body);
        calls[i] = strdup(request);
    }
}

static void turn(void)
{
    static unsigned silent;
    struct epoll_event events[64];
    int count = epoll_wait(epoll, events, 64, TICK_MS);
    silent = count == 0 ? silent + TICK_MS : 0;
    if (silent >= SILENCE_MS)
        die("the broker said nothing for %d s", SILENCE_MS / 1000);
    for (int i = 0; i < count; i++) {
        struct source *s = events[i].data.ptr;
        s->readable(s);
    }
}

/* All callers at once, each with its next call when it has its answer. */
static void call_all(unsigned count, double warm_up, double seconds)
{
    struct moment begin, end;
    caller_count = count;
    callers = calloc(count, sizeof *callers);
    if (callers == NULL)
        die("no memory");
    for (unsigned i = 0; i < count; i++)
        connect_http(&callers[i].http, answered);
    calling = 1;
    for (unsigned i = 0; i < count; i++)
        call(&callers[i]);
    size_t done = measure(warm_up, seconds, turn, &begin, &end);
    calling = 0;
    while (awaited)
        turn();
    operations = done;
    report(begin, end);
    puts("}");
}
