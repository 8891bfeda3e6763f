/* Two-way calls from callers to devices through a broker on loopback. bench/rpc.py compiles and runs it.
 *
 *     rpc_load WAY CALLERS_PORT PID DEVICES_PORT CALLERS DEVICES IDLE RATE WARM_UP SECONDS [MINE NEXT]
 *
 * WAY         callers                     devices
 * mqtt        HTTP, with a token          MQTT 3.1.1, QoS 0
 * mqtts       HTTPS, with a token         MQTT over TLS
 * bridge      Crossbar's HTTP bridge      WAMP callees over RawSocket
 * rawsocket   WAMP over RawSocket         the same
 * websocket   WAMP over WebSocket         WAMP callees over WebSocket
 *
 * So many DEVICES are called, one after another, and IDLE ones more are connected. Device n has the access token Bn, or
 * the procedure bench.n. The callers' connections stay. RATE 0: each caller calls when it has its answer; else so many
 * calls a second, spread evenly, whose latency counts from when they should have begun. Each call, as its device sees
 * it, and each answer is compared to the byte. For `mqtt` and `mqtts`, stdin has the caller's token and the devices'
 * ids. An operation is a call. As bench/mqtt_load.c in what it prints.
 *
 * MINE and NEXT are pipes, by which loads of several brokers take turns, each in a ring with the next: a byte in MINE
 * says that it is this one's turn, and it is passed on to NEXT. In the first turn the devices connect, in each other
 * there are calls for SLICE seconds and LEAD before that, which do not count, until the last is answered; so at any time
 * one of the brokers is called, and the others are idle.
 */
#define _GNU_SOURCE
#define NAME "rpc_load"
#define TLS
#include "load.h"
#include "callers.h"
#include "wamp.h"
#include <signal.h>

#define AT_ONCE 64
#define SETTLE_MS 200
#define QUIET 0.1   /* of a core */
#define LEAD 0.05   /* seconds, in which what the broker before this one had left to be done is done as well */
#define SLICE 0.1
#define TOPIC "v1/devices/me/rpc/"

struct device {
    struct stream stream;
};

static struct device *devices;
static struct sockaddr_in devices_address = {.sin_family = AF_INET};
static int secured;

static unsigned index_of(const struct device *d) { return d - devices; }

/* -- devices over MQTT; all lengths fit one byte */

static char *put_text(char *at, const char *text)
{
    size_t length = strlen(text);
    *at++ = 0;
    *at++ = length;
    return (char *)memcpy(at, text, length) + length;
}

/* A whole packet, with its type. 0: it is not whole yet. */
static size_t packet(const struct stream *s, uint8_t type)
{
    if (s->holds < 2 || s->holds < 2u + (uint8_t)s->in[1])
        return 0;
    if ((uint8_t)s->in[0] != type || s->in[1] < 0)
        die("a packet that begins with %02x %02x", (uint8_t)s->in[0], (uint8_t)s->in[1]);
    return 2u + s->in[1];
}

/* CONNECT and SUBSCRIBE. */
static void open_mqtt(struct device *d)
{
    char packets[128], text[32], *at, *subscribe;
    connect_stream(&d->stream, &devices_address);
    if (secured)
        secure(&d->stream);
    at = put_text(packets + 2, "MQTT");
    memcpy(at, "\x04\x82\0\0", 4);   /* 3.1.1, user name and clean session, no keep-alive */
    snprintf(text, sizeof text, "bench-%u", index_of(d));
    at = put_text(at + 4, text);
    snprintf(text, sizeof text, "B%u", index_of(d));
    subscribe = put_text(at, text);
    packets[0] = 0x10;
    packets[1] = subscribe - packets - 2;
    memcpy(subscribe, "\x82\0\0\x01", 4);
    at = put_text(subscribe + 4, TOPIC "request/+");
    *at++ = 0;
    subscribe[1] = at - subscribe - 2;
    put(&d->stream, packets, at - packets);
}

/* CONNACK and SUBACK. */
static void await_mqtt(struct device *d)
{
    size_t length;
    for (unsigned answer = 0; answer < 2; drop(&d->stream, length), answer++) {
        while ((length = packet(&d->stream, answer ? 0x90 : 0x20)) == 0)
            take(&d->stream);
        if (d->stream.in[length - 1] != 0)
            die("device %u was refused with %u", index_of(d), (uint8_t)d->stream.in[length - 1]);
    }
}

static void called_over_mqtt(struct source *source)
{
    static const char asked[] = TOPIC "request/", answers[] = TOPIC "response/";
    struct stream *s = (struct stream *)source;
    size_t length;
    take(s);
    while ((length = packet(s, 0x30)) != 0) {
        char answer[128], topic[64], *end;
        size_t ends = 4u + s->in[3], id = 4 + strlen(asked);
        if (memcmp(s->in + 4, asked, strlen(asked)) != 0 || ends - id > 10 || length - ends != strlen(REQUEST)
            || memcmp(s->in + ends, REQUEST, strlen(REQUEST)) != 0)
            die("device %u is called with %.*s", index_of((struct device *)s), (int)length - 4, s->in + 4);
        snprintf(topic, sizeof topic, "%s%.*s", answers, (int)(ends - id), s->in + id);
        end = put_text(answer + 2, topic);
        memcpy(end, REPLY, strlen(REPLY));
        answer[0] = 0x30;
        answer[1] = end + strlen(REPLY) - answer - 2;
        put(s, answer, 2u + answer[1]);
        drop(s, length);
    }
}

/* -- devices that are WAMP callees */

static void open_callee(struct device *d)
{
    char text[MOST_FRAME];
    join(&d->stream, &devices_address, "callee");
    put_message(&d->stream, text, snprintf(text, sizeof text, "[64,1,{},\"bench.%u\"]", index_of(d)));
}

static void await_callee(struct device *d) { hear(&d->stream, "[65,1,"); }

static int ends_with(const char *text, size_t length, const char *end)
{
    return length >= strlen(end) && memcmp(text + length - strlen(end), end, strlen(end)) == 0;
}

static void called_over_wamp(struct source *source)
{
    struct stream *s = (struct stream *)source;
    size_t length, frame;
    char *text, yield[MOST_FRAME];
    unsigned long long request;
    take(s);
    while ((length = message(s, &text, &frame)) != 0) {
        if (sscanf(text, "[68,%llu,", &request) != 1 || !ends_with(text, length, ",[" REQUEST "]]"))
            die("device %u is called with %.*s", index_of((struct device *)s), (int)length, text);
        drop(s, frame);
        put_message(s, yield, snprintf(yield, sizeof yield, "[70,%llu,{},[" REPLY "]]", request));
    }
}

/* -- callers */

static void open_over_https(struct caller *c)
{
    open_over_http(c);
    secure(&c->stream);
}

static void open_over_wamp(struct caller *c) { join(&c->stream, &callers_address, "caller"); }

static void ask_over_wamp(struct caller *c, unsigned device)
{
    char text[MOST_FRAME];
    put_message(&c->stream, text, snprintf(text, sizeof text, "[48,%u,{},%s", c->number, calls[device]));
}

static size_t read_over_wamp(struct caller *c)
{
    char *text, beginning[32];
    size_t frame, length = message(&c->stream, &text, &frame);
    if (length == 0)
        return 0;
    size_t begins = snprintf(beginning, sizeof beginning, "[50,%u,{", c->number);
    if (strncmp(text, beginning, begins) != 0 || !ends_with(text, length, ",[" REPLY "]]"))
        die("call %u was answered with %.*s", c->number, (int)length, text);
    return frame;
}

static void to_bridge(char *at, size_t size, unsigned device)
{
    char body[256];
    snprintf(body, sizeof body, "{\"procedure\":\"bench.%u\",\"args\":[" REQUEST "]}", device);
    snprintf(at, size, "POST /call HTTP/1.1\r\nHost: b\r\nContent-Type: application/json\r\n"
             "Content-Length: %zu\r\n\r\n%s", strlen(body), body);
}

static void to_procedure(char *at, size_t size, unsigned device)
{
    snprintf(at, size, "\"bench.%u\",[" REQUEST "]]", device);
}

/* -- ways */

#define OVER_MQTT open_mqtt, await_mqtt, called_over_mqtt
#define CALLEES open_callee, await_callee, called_over_wamp

static const struct way {
    const char *name;
    struct speech callers;
    void (*encode)(char *, size_t, unsigned);   /* a call of a device; NULL: stdin has what is needed */
    void (*open)(struct device *);              /* first one half, for many at once, then the other */
    void (*await)(struct device *);
    void (*called)(struct source *);
    int secured, websocket;
} ways[] = {
    {"mqtt", {open_over_http, ask_over_http, read_over_http}, NULL, OVER_MQTT, 0, 0},
    {"mqtts", {open_over_https, ask_over_http, read_over_http}, NULL, OVER_MQTT, 1, 0},
    {"bridge", {open_over_http, ask_over_http, read_over_http}, to_bridge, CALLEES, 0, 0},
    {"rawsocket", {open_over_wamp, ask_over_wamp, read_over_wamp}, to_procedure, CALLEES, 0, 0},
    {"websocket", {open_over_wamp, ask_over_wamp, read_over_wamp}, to_procedure, CALLEES, 0, 1},
};

static const struct way *way_named(const char *name)
{
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        if (strcmp(ways[i].name, name) == 0)
            return &ways[i];
    die("there is no way %s", name);
    return NULL;
}

static void make_calls(const struct way *way)
{
    char text[512];
    if (way->encode == NULL) {
        read_calls();
        return;
    }
    answer_over_http = "{\"args\":[" REPLY "]}\r\n0\r\n\r\n";
    for (unsigned i = 0; i < device_count; i++) {
        way->encode(text, sizeof text, i);
        calls[i] = strdup(text);
        call_lengths[i] = strlen(text);
    }
}

static void open_devices(const struct way *way, unsigned count)
{
    devices = calloc(count, sizeof *devices);
    if (devices == NULL)
        die("no memory");
    for (unsigned first = 0; first < count; first += AT_ONCE) {
        unsigned end = first + AT_ONCE < count ? first + AT_ONCE : count;
        for (unsigned i = first; i < end; i++)
            way->open(&devices[i]);
        for (unsigned i = first; i < end; i++) {
            way->await(&devices[i]);
            watch(&devices[i].stream.source, way->called);
        }
    }
}

/* What the connects left to be done is done: twice in succession the broker took hardly any time. */
static void settle(void)
{
    struct timespec pause = {.tv_nsec = SETTLE_MS * 1000000};
    uint64_t latest = now_ns() + SILENCE_MS * 1000000ull;
    for (unsigned quiet = 0; quiet < 2;) {
        double before = moment().theirs;
        nanosleep(&pause, NULL);
        quiet = moment().theirs - before < QUIET * SETTLE_MS / 1000 ? quiet + 1 : 0;
        if (now_ns() > latest)
            die("the broker is still busy %d s after the devices have connected", SILENCE_MS / 1000);
    }
}

static void await_turn(int mine)
{
    char turn;
    if (read(mine, &turn, 1) != 1)
        die("the load before this one has ended");
}

static void pass_turn(int next)
{
    if (write(next, "", 1) != 1 && errno != EPIPE)   /* after its last turn the next one is gone */
        die("passing the turn: %s", strerror(errno));
}

/* So many seconds in slices, beginning with those of the warm-up. */
static void call_in_turn(int mine, int next, double rate, double warm_up, double seconds)
{
    struct moment took = {0}, unused = {0};
    for (double called = -warm_up; called < seconds; called += SLICE) {
        await_turn(mine);
        call_for(rate, LEAD, SLICE, called < 0 ? &unused : &took);
        if (called < 0)
            operations = 0;
        pass_turn(next);
    }
    tell(took);
}

int main(int argc, char **argv)
{
    if ((argc != 11 && argc != 13) || (device_count = atoi(argv[6])) < 1 || device_count > MOST_DEVICES)
        die("see the top of its source for the arguments");
    signal(SIGPIPE, SIG_IGN);
    const struct way *way = way_named(argv[1]);
    unsigned connected = device_count + atoi(argv[7]), count = atoi(argv[5]);
    double rate = atof(argv[8]), warm_up = atof(argv[9]), seconds = atof(argv[10]);
    speech = way->callers;
    secured = way->secured;
    over_websocket = way->websocket;
    callers_address.sin_port = htons(atoi(argv[2]));
    devices_address.sin_port = htons(atoi(argv[4]));
    callers_address.sin_addr.s_addr = devices_address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    pid = atoi(argv[3]);
    epoll = epoll_create1(0);
    make_calls(way);
    if (argc == 13) {
        int mine = atoi(argv[11]), next = atoi(argv[12]);
        await_turn(mine);
        open_devices(way, connected);
        open_callers(count);
        settle();
        pass_turn(next);
        call_in_turn(mine, next, rate, warm_up, seconds);
    } else {
        open_devices(way, connected);
        settle();
        call_all(count, rate, warm_up, seconds);
    }
    return 0;
}
