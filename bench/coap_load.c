/* Load for a CoAP server on loopback. bench/coap.py compiles and runs it.
 *
 *     coap_load post    COAP_PORT PID SOCKETS WINDOW WARM_UP SECONDS
 *     coap_load get     COAP_PORT PID SOCKETS WINDOW WARM_UP SECONDS
 *     coap_load observe COAP_PORT PID DEVICES CALLERS WARM_UP SECONDS HTTP_PORT    < the caller's token, ids of devices
 *
 * `post`: from socket n telemetry of the device with the access token Bn. `get`: of the root, whatever it is. WINDOW is
 * how many requests of a socket are unanswered at once; RFC 7252 4.7 wants 1. `observe`: each device has a socket, and
 * an operation is a two-way call over HTTP: a confirmable notification, its ACK, a POST with the reply, its ACK.
 *
 * All requests are confirmable. Message ids of a socket go up by one, so that none comes twice while a server has to
 * remember it (247 s): that is checked. A request without an answer is sent again after 2 s, and counted. Answers are
 * checked: class, message id, token. As bench/mqtt_load.c in what it prints.
 */
#define _GNU_SOURCE
#define NAME "coap_load"
#include "load.h"
#include "callers.h"

#define MOST_UNANSWERED 16
#define AGAIN_NS 2000000000ull
#define FIRST_NUMBER 1000000u
#define DIGITS 7
#define CON 0x42   /* version 1, confirmable, two bytes of token */
#define ACK 0x60

struct device {
    struct source source;
    uint32_t number;                      /* of the last message; its low 16 bits are the message id */
    uint16_t length, digits, notified;    /* `digits`: where the number is in the payload, 0: nowhere */
    uint64_t since[MOST_UNANSWERED];      /* when the request in this place was sent; its token is the place */
    uint16_t ids[MOST_UNANSWERED];
    uint8_t packet[128];
};

static enum { POST, GET, OBSERVE } mode;
static struct device *devices;
static unsigned count, window = 1, again;
static int sending;
static uint64_t looked;

static unsigned index_of(const struct device *d) { return d - devices; }

static uint8_t *put_option(uint8_t *at, unsigned delta, const char *value)
{
    size_t length = strlen(value);   /* all are short of 13 */
    *at++ = delta << 4 | length;
    return (uint8_t *)memcpy(at, value, length) + length;
}

/* Code, path and what follows it; the first four bytes and the token come later. */
static uint8_t *begin_request(struct device *d, uint8_t code, int observe, const char *feature)
{
    char token[16];
    uint8_t *at = d->packet + 6;
    d->packet[0] = CON;
    d->packet[1] = code;
    snprintf(token, sizeof token, "B%u", index_of(d));
    if (observe)
        at = put_option(at, 6, "");
    at = put_option(at, observe ? 5 : 11, "api");
    at = put_option(at, 0, "v1");
    at = put_option(at, 0, token);
    return put_option(at, 0, feature);
}

static void encode(struct device *d)
{
    uint8_t *at;
    if (mode == POST) {
        at = begin_request(d, 2, 0, "telemetry");
        at += sprintf((char *)at, "%c%c\xff{\"temperature\":", 0x11, 50);   /* Content-Format: JSON */
        d->digits = at - d->packet;
        at += sprintf((char *)at, "%u.5}", FIRST_NUMBER);
    } else if (mode == GET) {
        d->packet[0] = CON;
        d->packet[1] = 1;
        at = d->packet + 6;
    } else {
        at = begin_request(d, 1, 1, "rpc");
    }
    d->number = FIRST_NUMBER;
    d->length = at - d->packet;
}

static void transmit(struct device *d, const uint8_t *bytes, size_t length)
{
    if (send(d->source.fd, bytes, length, 0) != (ssize_t)length)
        die("socket %u: %s", index_of(d), strerror(errno));
}

static void next_id(struct device *d, unsigned place)
{
    if (++d->number - FIRST_NUMBER > 65535)
        die("socket %u: a message id would come twice; use more sockets", index_of(d));
    d->ids[place] = d->number;
    d->packet[2] = d->number >> 8;
    d->packet[3] = d->number;
    d->packet[4] = 0;
    d->packet[5] = place;
}

static void next_request(struct device *d, unsigned place)
{
    next_id(d, place);
    uint32_t number = d->number;
    for (int i = DIGITS - 1; d->digits && i >= 0; i--, number /= 10)
        d->packet[d->digits + i] = '0' + number % 10;
    d->since[place] = now_ns();
    awaited++;
    transmit(d, d->packet, d->length);
}

/* A call: acknowledged, and answered. */
static void notified(struct device *d, const uint8_t *in, size_t length)
{
    const uint8_t ack[4] = {ACK, 0, in[2], in[3]};
    uint16_t message_id = in[2] << 8 | in[3];
    char id[16];
    transmit(d, ack, sizeof ack);
    if (message_id == d->notified)
        return;   /* it was sent again */
    d->notified = message_id;
    const char *json = memmem(in, length, "\"id\":", 5);
    if (json == NULL)
        die("device %u got no call", index_of(d));
    snprintf(id, sizeof id, "%ld", strtol(json + 5, NULL, 10));
    uint8_t *at = put_option(begin_request(d, 2, 0, "rpc"), 0, id);
    at += sprintf((char *)at, "%c%c\xff{\"7\":true}", 0x11, 50);
    next_id(d, 1);
    transmit(d, d->packet, at - d->packet);
}

static void readable(struct source *s)
{
    struct device *d = (struct device *)s;
    uint8_t in[2048];
    for (;;) {
        ssize_t got = recv(s->fd, in, sizeof in - 1, MSG_DONTWAIT);
        if (got < 0 && errno == EAGAIN)
            return;
        if (got < 4)
            die("socket %u: %s", index_of(d), got < 0 ? strerror(errno) : "an answer of less than 4 bytes");
        in[got] = 0;
        if (in[1] >> 5 != 2 || got < 6 || in[4] != 0 || in[5] >= MOST_UNANSWERED)
            die("socket %u: answered with %u.%02u, %zd bytes", index_of(d), in[1] >> 5, in[1] & 31, got);
        if (mode == OBSERVE && in[0] == CON) {
            notified(d, in, got);
            continue;
        }
        unsigned place = in[5];
        if (in[0] != (ACK | 2) || (in[2] << 8 | in[3]) != d->ids[place])
            die("socket %u: an answer to nothing", index_of(d));
        if (mode == OBSERVE && place == 1)
            continue;
        if (d->since[place] == 0)
            continue;   /* it was sent again, and both were answered */
        if (mode != OBSERVE)
            measured(d->since[place]);
        d->since[place] = 0;
        awaited--;
        if (sending)
            next_request(d, place);
        if (window == 1)
            return;   /* there is no second one */
    }
}

/* Requests that were lost; looked for each second. */
static void send_again(void)
{
    uint64_t now = now_ns();
    if (now - looked < AGAIN_NS / 2)
        return;
    looked = now;
    for (unsigned i = 0; i < count; i++)
        for (unsigned place = 0; place < window; place++) {
            struct device *d = &devices[i];
            if (d->since[place] == 0 || now - d->since[place] < AGAIN_NS)
                continue;
            if (now - d->since[place] > SILENCE_MS * 1000000ull)
                die("socket %u was not answered for %d s", i, SILENCE_MS / 1000);
            uint8_t packet[sizeof d->packet];
            memcpy(packet, d->packet, d->length);
            packet[2] = d->ids[place] >> 8;
            packet[3] = d->ids[place];
            packet[5] = place;
            again++;
            transmit(d, packet, d->length);
        }
}

static void tick(void)
{
    turn();
    send_again();
}

static void flood(double warm_up, double seconds)
{
    struct moment begin, end;
    sending = 1;
    for (unsigned i = 0; i < count; i++)
        for (unsigned place = 0; place < window; place++)
            next_request(&devices[i], place);
    size_t done = measure(warm_up, seconds, tick, &begin, &end);
    sending = 0;
    while (awaited)
        tick();
    operations = done;
    report(begin, end);
    printf(", \"again\": %u, \"last\": [", again);
    for (unsigned i = 0; mode == POST && i < count; i++)
        printf("%s%u", i ? ", " : "", devices[i].number);
    puts("]}");
}

int main(int argc, char **argv)
{
    struct sockaddr_in server = {.sin_family = AF_INET};
    if (argc < 8)
        die("see the top of its source for the arguments");
    mode = argv[1][0] == 'p' ? POST : argv[1][0] == 'g' ? GET : OBSERVE;
    server.sin_port = htons(atoi(argv[2]));
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    pid = atoi(argv[3]);
    count = device_count = atoi(argv[4]);
    if (mode != OBSERVE)
        window = atoi(argv[5]);
    epoll = epoll_create1(0);
    devices = calloc(count, sizeof *devices);
    if (devices == NULL || count < 1 || window < 1 || window > MOST_UNANSWERED || (mode == OBSERVE) != (argc == 9))
        die("see the top of its source for the arguments");
    for (unsigned i = 0; i < count; i++) {
        struct device *d = &devices[i];
        d->source.fd = socket(AF_INET, SOCK_DGRAM, 0);
        if (d->source.fd < 0 || connect(d->source.fd, (struct sockaddr *)&server, sizeof server) != 0)
            die("socket %u: %s", i, strerror(errno));
        watch(&d->source, readable);
        encode(d);
    }
    if (mode != OBSERVE) {
        flood(atof(argv[6]), atof(argv[7]));
        return 0;
    }
    if (count > MOST_DEVICES)
        die("at most %d devices", MOST_DEVICES);
    callers_address.sin_port = htons(atoi(argv[8]));
    callers_address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    read_calls();
    for (unsigned i = 0; i < count; i++) {
        next_request(&devices[i], 0);
        if (i % 50 == 49 || i == count - 1)   /* so that the server's socket can hold them */
            while (awaited)
                tick();
    }
    call_all(atoi(argv[5]), 0, atof(argv[6]), atof(argv[7]));
    return 0;
}
