/* Load for an MQTT 3.1.1 broker on loopback. bench/mqtt.py compiles and runs it.
 *
 *     mqtt_load ingest  PORT PID SESSIONS UNACKNOWLEDGED WARM_UP SECONDS
 *     mqtt_load rpc     PORT PID PAIRS 1 WARM_UP SECONDS
 *     mqtt_load connect PORT PID SESSIONS AT_ONCE FILTER
 *     mqtt_load arrive  PORT PID SESSIONS AT_ONCE FILTER
 *
 * Session n connects as bench-n with the user name Bn. PID is the broker's, whose CPU time is read where the
 * measured time begins and ends. The result is one line of JSON on stdout; what goes wrong is one line on stderr
 * and exit status 1. What is measured of `connect` ends with CONNACK, and all subscribe after that; of `arrive` it ends
 * with SUBACK, each session subscribes when it has its CONNACK. Both then keep their sessions until stdin ends.
 *
 * Packets are encoded once; what differs between two of them is written over in place. All lengths fit one byte.
 */
#define _GNU_SOURCE
#define NAME "mqtt_load"
#include "load.h"
#include <netinet/tcp.h>

#define TELEMETRY "v1/devices/me/telemetry"
#define OPENING_AT_ONCE 64
#define MOST_UNACKNOWLEDGED 16
#define FIRST_NUMBER 1000000u
#define DIGITS 7

enum state { UNUSED, CONNECTING, AWAITING_CONNACK, OPEN, AWAITING_SUBACK, SUBSCRIBED };

struct session {
    int fd;
    enum state state;
    uint32_t number;                       /* of the last message */
    uint64_t since[MOST_UNACKNOWLEDGED];   /* when the message in this place was sent; its packet id is place + 1 */
    uint8_t held[256];                     /* the beginning of a packet whose rest has not come */
    uint16_t holds;
    uint8_t length;                        /* of `packet` */
    uint8_t digits;                        /* where its number is */
    uint8_t packet[118];
};

static enum { INGEST, RPC, CONNECT, ARRIVE } mode;
static const char *arriving;   /* what sessions subscribe to as soon as they are connected */
static struct session *sessions;
static unsigned count, unacknowledged = 1, opened, ready, awaited;
static int epoll, sending;
static struct sockaddr_in broker = {.sin_family = AF_INET};

static unsigned index_of(const struct session *s) { return s - sessions; }

static void tell(struct moment begin, struct moment end)
{
    report(begin, end);
    fputs(", \"last\": [", stdout);
    for (unsigned i = 0; mode == INGEST && i < count; i++)
        printf("%s%u", i ? ", " : "", sessions[i].number);
    puts("]}");
    fflush(stdout);
}

/* -- packets out */

static uint8_t *put_text(uint8_t *at, const char *text)
{
    size_t length = strlen(text);
    *at++ = length >> 8;
    *at++ = length;
    return (uint8_t *)memcpy(at, text, length) + length;
}

static void put_digits(uint8_t *at, uint32_t number)
{
    for (int i = DIGITS - 1; i >= 0; i--, number /= 10)
        at[i] = '0' + number % 10;
}

static void transmit(struct session *s, const uint8_t *bytes, size_t length)
{
    if (send(s->fd, bytes, length, MSG_NOSIGNAL) != (ssize_t)length)
        die("session %u: %s", index_of(s), errno == EAGAIN ? "the broker does not read" : strerror(errno));
}

static uint8_t *begin(uint8_t *packet, uint8_t first) { packet[0] = first; return packet + 2; }

static size_t finish(uint8_t *packet, const uint8_t *end)
{
    packet[1] = end - packet - 2;
    return end - packet;
}

static void send_connect(struct session *s)
{
    uint8_t packet[128], *at = put_text(begin(packet, 0x10), "MQTT");
    char text[32];
    memcpy(at, "\x04\x82\x02\x58", 4);   /* 3.1.1, user name and clean session, 600 s */
    snprintf(text, sizeof text, "bench-%u", index_of(s));
    at = put_text(at + 4, text);
    snprintf(text, sizeof text, "B%u", index_of(s));
    at = put_text(at, text);
    s->state = AWAITING_CONNACK;
    transmit(s, packet, finish(packet, at));
}

static void send_subscribe(struct session *s, const char *filter)
{
    uint8_t packet[128], *at = begin(packet, 0x82);
    *at++ = 0;
    *at++ = 1;
    at = put_text(at, filter);
    *at++ = 0;
    s->state = AWAITING_SUBACK;
    transmit(s, packet, finish(packet, at));
}

/* In RPC session 2n calls and 2n + 1 answers, each on a topic of the other's. */
static void encode(struct session *s)
{
    char topic[64];
    uint8_t *at;
    if (mode == INGEST) {
        at = put_text(begin(s->packet, 0x32), TELEMETRY) + 2;
        at += sprintf((char *)at, "{\"temperature\":");
    } else {
        snprintf(topic, sizeof topic, "bench/%u/%s", index_of(s) / 2, index_of(s) % 2 ? "response" : "request");
        at = put_text(begin(s->packet, 0x30), topic);
        at += sprintf((char *)at, "{\"method\":\"get\",\"params\":");
    }
    s->number = FIRST_NUMBER;
    s->digits = at - s->packet;
    at += DIGITS;
    at += sprintf((char *)at, mode == INGEST ? ".5}" : "}");
    s->length = finish(s->packet, at);
}

/* The next message in one of the places, written to `at`. */
static size_t next_message(struct session *s, unsigned place, uint8_t *at)
{
    put_digits(s->packet + s->digits, ++s->number);
    if (mode == INGEST) {
        uint8_t *id = s->packet + 2 + 2 + strlen(TELEMETRY);
        id[0] = 0;
        id[1] = place + 1;
    }
    s->since[place] = now_ns();
    awaited++;
    memcpy(at, s->packet, s->length);
    return s->length;
}

/* -- packets in */

/* What one packet asks to be said: its length at `answer`. */
static size_t receive(struct session *s, const uint8_t *packet, size_t length, uint8_t *answer)
{
    unsigned place;
    switch (packet[0] >> 4) {
    case 2:
        if (s->state != AWAITING_CONNACK || length != 4 || packet[3] != 0)
            die("session %u was refused with %u", index_of(s), packet[3]);
        s->state = OPEN;
        if (mode == ARRIVE) {
            send_subscribe(s, arriving);
            return 0;
        }
        measured(s->since[0]);
        ready++;
        return 0;
    case 9:
        if (s->state != AWAITING_SUBACK || length != 5 || packet[4] > 2)
            die("session %u: its SUBSCRIBE was refused with %u", index_of(s), packet[4]);
        s->state = SUBSCRIBED;
        if (mode == ARRIVE)
            measured(s->since[0]);
        ready++;
        return 0;
    case 4:
        place = packet[3] - 1u;
        if (mode != INGEST || length != 4 || packet[2] || place >= unacknowledged || s->since[place] == 0)
            die("session %u: a PUBACK for nothing", index_of(s));
        measured(s->since[place]);
        s->since[place] = 0;
        awaited--;
        return sending ? next_message(s, place, answer) : 0;
    case 3:
        if (mode != RPC || s->state != SUBSCRIBED || length <= DIGITS + 1)
            die("session %u: a PUBLISH that it did not subscribe to", index_of(s));
        const uint8_t *digits = packet + length - DIGITS - 1;
        if (index_of(s) % 2) {   /* a device: the answer has the number of the request */
            memcpy(s->packet + s->digits, digits, DIGITS);
            memcpy(answer, s->packet, s->length);
            return s->length;
        }
        if (s->since[0] == 0 || memcmp(digits, s->packet + s->digits, DIGITS) != 0)
            die("session %u: a wrong answer", index_of(s));
        measured(s->since[0]);
        s->since[0] = 0;
        awaited--;
        return sending ? next_message(s, 0, answer) : 0;
    default:
        die("session %u: an unexpected packet 0x%02x", index_of(s), packet[0]);
    }
    return 0;
}

static void readable(struct session *s)
{
    uint8_t in[4096], out[4096], *at = in;
    memcpy(in, s->held, s->holds);
    ssize_t got = recv(s->fd, in + s->holds, sizeof in - s->holds, 0);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0)
        die("session %u: %s", index_of(s), got ? strerror(errno) : "the broker closed the connection");
    size_t left = s->holds + got, said = 0;
    while (left >= 2) {
        size_t length = at[1] + 2u;
        if (at[1] >= 0x80)
            die("session %u: a packet longer than any that was asked for", index_of(s));
        if (left < length)
            break;
        said += receive(s, at, length, out + said);
        if (said > sizeof out - sizeof s->packet) {
            transmit(s, out, said);
            said = 0;
        }
        at += length;
        left -= length;
    }
    memcpy(s->held, at, s->holds = left);
    if (said)
        transmit(s, out, said);
}

/* Act on what has come. */
static void turn(void)
{
    struct epoll_event events[256];
    int found = epoll_wait(epoll, events, 256, SILENCE_MS);
    if (found == 0)
        die("the broker said nothing for %d s", SILENCE_MS / 1000);
    for (int i = 0; i < found; i++) {
        struct session *s = events[i].data.ptr;
        if (s->state == CONNECTING) {
            int error = 0;
            socklen_t size = sizeof error;
            getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &size);
            if (error)
                die("session %u cannot connect: %s", index_of(s), strerror(error));
            struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = s};
            epoll_ctl(epoll, EPOLL_CTL_MOD, s->fd, &wanted);
            send_connect(s);
        } else {
            readable(s);
        }
    }
}

/* -- runs */

static void open_session(struct session *s)
{
    int yes = 1;
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (s->fd < 0)
        die("session %u has no socket: %s", index_of(s), strerror(errno));
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    s->since[0] = now_ns();
    s->state = CONNECTING;
    struct epoll_event wanted = {.events = EPOLLOUT, .data.ptr = s};
    if (connect(s->fd, (struct sockaddr *)&broker, sizeof broker) != 0 && errno != EINPROGRESS)
        die("session %u cannot connect: %s", index_of(s), strerror(errno));
    epoll_ctl(epoll, EPOLL_CTL_ADD, s->fd, &wanted);
}

/* One after another, so many at once, until all are ready. `filter` NULL connects them; else they subscribe to it,
 * and "" is the topic that is the session's own in RPC. */
static void each(unsigned at_once, const char *filter)
{
    char own[64];
    for (opened = ready = 0; ready < count; turn())
        for (; opened < count && opened - ready < at_once; opened++) {
            struct session *s = &sessions[opened];
            snprintf(own, sizeof own, "bench/%u/%s", opened / 2, opened % 2 ? "request" : "response");
            if (filter == NULL)
                open_session(s);
            else
                send_subscribe(s, *filter ? filter : own);
        }
}

static void exchange(double warm_up, double seconds)
{
    uint8_t out[MOST_UNACKNOWLEDGED * sizeof sessions->packet];
    sending = 1;
    for (unsigned i = 0; i < count; i += mode == RPC ? 2 : 1) {
        size_t length = 0;
        for (unsigned place = 0; place < unacknowledged; place++)
            length += next_message(&sessions[i], place, out + length);
        transmit(&sessions[i], out, length);
    }
    struct moment begin, end;
    size_t done = measure(warm_up, seconds, turn, &begin, &end);
    sending = 0;
    while (awaited)
        turn();
    operations = done;
    tell(begin, end);
}

int main(int argc, char **argv)
{
    if (argc < 6)
        die("see the top of its source for the arguments");
    mode = argv[1][0] == 'i' ? INGEST : argv[1][0] == 'r' ? RPC : argv[1][0] == 'c' ? CONNECT : ARRIVE;
    broker.sin_port = htons(atoi(argv[2]));
    broker.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    pid = atoi(argv[3]);
    count = atoi(argv[4]) * (mode == RPC ? 2 : 1);
    unsigned window = atoi(argv[5]);
    sessions = calloc(count, sizeof *sessions);
    epoll = epoll_create1(0);
    if (sessions == NULL || epoll < 0 || window < 1)
        die("it cannot start");
    if (mode == CONNECT || mode == ARRIVE) {
        if (argc != 7)
            die("see the top of its source for the arguments");
        arriving = argv[6];
        struct moment begin = moment();
        each(window, NULL);
        tell(begin, moment());
        if (mode == CONNECT)
            each(window, arriving);
        puts("{}");   /* all is as it shall stay */
        fflush(stdout);
        while (getchar() != EOF)
            ;
        return 0;
    }
    if (argc != 8 || window > MOST_UNACKNOWLEDGED)
        die("see the top of its source for the arguments");
    unacknowledged = window;
    each(OPENING_AT_ONCE, NULL);
    for (unsigned i = 0; i < count; i++)
        encode(&sessions[i]);
    if (mode == RPC)
        each(OPENING_AT_ONCE, "");
    exchange(atof(argv[6]), atof(argv[7]));
    return 0;
}
