/* Devices that are called over HTTP, and their callers, on loopback. bench/http_devices.py compiles and runs it.
 *
 *     http_load poll|sse HTTP_PORT PID DEVICES CALLERS WARM_UP SECONDS    < the caller's token and ids of devices
 *
 * Device n shows the access token Bn. A polling device does all on one connection, one request after another; one that
 * listens to events has a second connection for its replies. An operation is a two-way call: from a caller's request
 * to the answer of the device. Each answer is checked. As bench/mqtt_load.c in what it prints.
 */
#define _GNU_SOURCE
#define NAME "http_load"
#include "load.h"
#include "callers.h"

struct device {
    struct stream http;    /* polls and replies, or events */
    struct stream replies; /* of one that listens to events */
    int replying, ready;
    char poll[256];
    size_t poll_length;
};

static struct device *devices;
static unsigned ready;

static unsigned index_of(const struct device *d) { return d - devices; }

static void reply(struct device *d, struct stream *h, const char *json, const char *end)
{
    char request[256];
    const char *id = memmem(json, end - json, "\"id\":", 5);
    if (id == NULL)
        die("device %u got no call: %.*s", index_of(d), (int)(end - json), json);
    put(h, request, snprintf(request, sizeof request,
                             "POST /api/v1/B%u/rpc/%ld HTTP/1.1\r\nHost: b\r\nContent-Length: 10\r\n\r\n{\"7\":true}",
                             index_of(d), strtol(id + 5, NULL, 10)));
}

static void polled(struct source *s)
{
    struct device *d = (struct device *)s;
    char *body;
    size_t length;
    int status;
    take(&d->http);
    while ((status = response(&d->http, &body, &length)) != 0) {
        if (status != 200 && !(status == 408 && !d->replying))
            die("device %u: %.*s", index_of(d), (int)length, d->http.in);
        if (d->replying || status == 408)
            put(&d->http, d->poll, d->poll_length);
        else
            reply(d, &d->http, body, d->http.in + length);
        d->replying = status == 200 && !d->replying;
        drop(&d->http, length);
    }
}

/* Events have lines that begin with `data:`, and end with an empty line, however the stream is framed. */
static void told(struct source *s)
{
    struct device *d = (struct device *)s;
    char *data, *end;
    take(&d->http);
    if (!d->ready) {
        if ((end = strstr(d->http.in, "\r\n\r\n")) == NULL)
            return;
        if (atoi(d->http.in + 9) != 200)
            die("device %u gets no events: %s", index_of(d), d->http.in);
        drop(&d->http, end + 4 - d->http.in);
        d->ready = 1;
        ready++;
    }
    while ((data = strstr(d->http.in, "data:")) != NULL && (end = strstr(data, "\n\n")) != NULL) {
        reply(d, &d->replies, data, end);
        drop(&d->http, end + 2 - d->http.in);
    }
}

static void accepted(struct source *s)
{
    struct device *d = (struct device *)((char *)s - offsetof(struct device, replies));
    char *body;
    size_t length;
    int status;
    take(&d->replies);
    while ((status = response(&d->replies, &body, &length)) != 0) {
        if (status != 200)
            die("device %u: its reply was refused: %.*s", index_of(d), (int)length, d->replies.in);
        drop(&d->replies, length);
    }
}

static void open_stream(struct stream *s, void (*readable)(struct source *))
{
    connect_stream(s, &callers_address);
    watch(&s->source, readable);
}

int main(int argc, char **argv)
{
    if (argc != 8 || (device_count = atoi(argv[4])) < 1 || device_count > MOST_DEVICES)
        die("see the top of its source for the arguments");
    int events = argv[1][0] == 's';
    callers_address.sin_port = htons(atoi(argv[2]));
    callers_address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    pid = atoi(argv[3]);
    epoll = epoll_create1(0);
    devices = calloc(device_count, sizeof *devices);
    if (devices == NULL)
        die("no memory");
    read_calls();
    for (unsigned i = 0; i < device_count; i++) {
        struct device *d = &devices[i];
        d->poll_length = snprintf(d->poll, sizeof d->poll, "GET /api/v1/B%u/rpc%s HTTP/1.1\r\nHost: b\r\n%s\r\n", i,
                                  events ? "" : "?timeout=60000", events ? "Accept: text/event-stream\r\n" : "");
        if (events)
            open_stream(&d->replies, accepted);
        open_stream(&d->http, events ? told : polled);
        put(&d->http, d->poll, d->poll_length);
    }
    while (events && ready < device_count)
        turn();
    call_all(atoi(argv[5]), 0, atof(argv[6]), atof(argv[7]));
    return 0;
}
