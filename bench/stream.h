/* Connections of the load programs on loopback, and what epoll reports of them. With TLS defined they can be secured,
 * and the program is linked with OpenSSL. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#ifdef TLS
#include <openssl/ssl.h>
#endif

#define MOST_TEXT 8192
#define TICK_MS 500

/* What epoll reports, first in whatever has a socket. */
struct source {
    void (*readable)(struct source *);
    int fd;
};

/* One connection; the first `holds` bytes of `in`, which a zero follows, have come and are not done with. */
struct stream {
    struct source source;
#ifdef TLS
    SSL *secured;
#endif
    size_t holds;
    char in[MOST_TEXT];
};

static int epoll;

static void watch(struct source *s, void (*readable)(struct source *))
{
    struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = s};
    s->readable = readable;
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, s->fd, &wanted) != 0)
        die("epoll: %s", strerror(errno));
}

static void connect_stream(struct stream *s, const struct sockaddr_in *address)
{
    int yes = 1;
    struct timeval silence = {.tv_sec = SILENCE_MS / 1000};
    s->source.fd = socket(AF_INET, SOCK_STREAM, 0);
    if (s->source.fd < 0 || connect(s->source.fd, (const struct sockaddr *)address, sizeof *address) != 0)
        die("connecting: %s", strerror(errno));
    setsockopt(s->source.fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    setsockopt(s->source.fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof silence);
}

#ifdef TLS
/* The handshake. The certificate is the benchmark's own, and not looked at. */
static void secure(struct stream *s)
{
    static SSL_CTX *context;
    if (context == NULL && (context = SSL_CTX_new(TLS_client_method())) != NULL)
        SSL_CTX_clear_mode(context, SSL_MODE_AUTO_RETRY);   /* a session ticket is no reason to wait for data */
    s->secured = context ? SSL_new(context) : NULL;
    if (s->secured == NULL || !SSL_set_fd(s->secured, s->source.fd) || SSL_connect(s->secured) != 1)
        die("the TLS handshake failed");
}
#endif

static void put(struct stream *s, const char *text, size_t length)
{
#ifdef TLS
    if (s->secured != NULL) {
        if (SSL_write(s->secured, text, length) != (int)length)
            die("writing over TLS: %s", strerror(errno));
        return;
    }
#endif
    if (send(s->source.fd, text, length, MSG_NOSIGNAL) != (ssize_t)length)
        die("writing: %s", strerror(errno));
}

/* What has come, or comes if nothing has. */
static void take(struct stream *s)
{
    size_t room = sizeof s->in - 1 - s->holds;
    ssize_t got;
    if (room == 0)
        die("what came is longer than anything that was asked for: %.60s", s->in);
#ifdef TLS
    if (s->secured != NULL) {
        got = SSL_read(s->secured, s->in + s->holds, room);
        if (got <= 0 && SSL_get_error(s->secured, got) == SSL_ERROR_WANT_READ)
            return;   /* a record without data */
    } else
#endif
        got = recv(s->source.fd, s->in + s->holds, room, 0);
    if (got <= 0)
        die("reading: %s after %.60s", got ? strerror(errno) : "the connection was closed", s->in);
    s->holds += got;
    s->in[s->holds] = 0;
#ifdef TLS
    if (s->secured != NULL && SSL_pending(s->secured))
        take(s);   /* it will not make the socket readable again */
#endif
}

static void drop(struct stream *s, size_t length)
{
    memmove(s->in, s->in + length, s->holds - length + 1);
    s->holds -= length;
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
