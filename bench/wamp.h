/* WAMP sessions of the load programs: JSON over RawSocket or WebSocket, nobody authenticated. */

#define REALM "realm1"
#define MOST_FRAME 125   /* bytes of a message that goes out: no more are needed, and its frame needs no long length */

static int over_websocket;

static void put_message(struct stream *s, const char *text, size_t length)
{
    static uint32_t mask = 0x9e3779b9;
    char frame[6 + MOST_FRAME], *at = frame;
    if (length > MOST_FRAME)
        die("too long: %s", text);
    if (over_websocket) {   /* RFC 6455 5.2: the last of a text, masked */
        mask = mask * 1664525 + 1013904223;
        *at++ = '\x81';
        *at++ = '\x80' | length;
        memcpy(at, &mask, 4);
        for (size_t i = 0; i < length; i++)
            at[4 + i] = text[i] ^ at[i % 4];
        at += 4;
    } else {
        *at++ = 0;
        *at++ = 0;
        *at++ = 0;
        *at++ = length;
        memcpy(at, text, length);
    }
    put(s, frame, at + length - frame);
}

/* The length of a whole message, where `text` says; its frame has `frame` bytes. 0: it is not whole yet. */
static size_t message(const struct stream *s, char **text, size_t *frame)
{
    const uint8_t *in = (const uint8_t *)s->in;
    size_t head = over_websocket && s->holds >= 2 && in[1] == 126 ? 4 : over_websocket ? 2 : 4, length;
    if (s->holds < head)
        return 0;
    if (in[0] != (over_websocket ? 0x81 : 0) || (over_websocket && in[1] > 126))
        die("a frame that begins with %02x %02x", in[0], in[1]);
    length = head == 2 ? in[1] : in[2] << 8u | in[3];
    *text = (char *)in + head;
    *frame = head + length;
    return s->holds < *frame ? 0 : length;
}

/* The next message must begin so. */
static void hear(struct stream *s, const char *beginning)
{
    char *text;
    size_t length, frame;
    while ((length = message(s, &text, &frame)) == 0)
        take(s);
    if (strncmp(text, beginning, strlen(beginning)) != 0)
        die("%.*s is no %s", (int)length, text, beginning);
    drop(s, frame);
}

/* A session in a role, `callee` or `caller`. */
static void join(struct stream *s, const struct sockaddr_in *address, const char *role)
{
    char hello[MOST_FRAME];
    connect_stream(s, address);
    if (over_websocket) {
        char *end;
        const char *upgrade = "GET /ws HTTP/1.1\r\nHost: b\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                              "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
                              "Sec-WebSocket-Protocol: wamp.2.json\r\n\r\n";
        put(s, upgrade, strlen(upgrade));
        while ((end = strstr(s->in, "\r\n\r\n")) == NULL)
            take(s);
        if (strncmp(s->in, "HTTP/1.1 101 ", 13) != 0)
            die("no WebSocket: %s", s->in);
        drop(s, end + 4 - s->in);
    } else {
        put(s, "\x7f\xf1\0\0", 4);   /* messages of up to 16 MB, JSON */
        while (s->holds < 4)
            take(s);
        if (s->in[0] != 0x7f || (s->in[1] & 0xf) != 1)
            die("no RawSocket");
        drop(s, 4);
    }
    put_message(s, hello, snprintf(hello, sizeof hello, "[1,\"" REALM "\",{\"roles\":{\"%s\":{}}}]", role));
    hear(s, "[2,");
}
