/* Thousands of destinations on one socket, some of them in flight at a time: each answer comes from whom it was asked of. */
#include "datagram.h"

#define COUNT 4000
#define WINDOW 32
#define TRIES 20

static endpoint nth(const endpoint *first, unsigned number) {
    endpoint each = *first;
    struct sockaddr_in *address = (void *)&each.address;
    address->sin_addr.s_addr = htonl(ntohl(address->sin_addr.s_addr) + number);
    return each;
}

static char answered[COUNT];

/* Takes what comes, waiting a little for the first and `then` for each other; whether all is from where it should be. */
static int take(int fd, const endpoint *first, int then) {
    char seen[16];
    int right = 1, wait = 200;
    while (poll_one(fd, POLLIN, wait) == POLLIN) {
        endpoint from = {.length = sizeof from.address};
        ssize_t got = recvfrom(fd, seen, sizeof seen - 1, MSG_DONTWAIT, (void *)&from.address, &from.length);
        if (got <= 0)
            break;
        seen[got] = 0;
        unsigned number = (unsigned)atoi(seen);
        endpoint expected = nth(first, number % COUNT);
        right &= number < COUNT && is_from(&from, &expected);
        answered[number % COUNT] = 1;
        wait = then;
    }
    return right;
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    endpoint first = endpoint_of("many");
    int fd = udp(AF_INET), room = 4 << 20, right = 1, sent = 1, missing = COUNT;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    /* Datagrams may be lost: those without an answer are sent again. */
    for (int try = 0; try < TRIES && missing; try++) {
        missing = 0;
        for (unsigned i = 0, flying = 0; i < COUNT; i++) {
            if (answered[i])
                continue;
            char text[16];
            snprintf(text, sizeof text, "%u", i);
            endpoint to = nth(&first, i);
            sent &= send_to(fd, text, &to);
            if (++flying % WINDOW == 0)
                right &= take(fd, &first, 0);
        }
        right &= take(fd, &first, A_WHILE_MS);
        for (int i = 0; i < COUNT; i++)
            missing += !answered[i];
    }
    check("all are sent", sent, "errno %s", strerrorname_np(errno));
    check("all are answered", !missing, "%d are not", missing);
    check("each by whom it was sent to", right, "not");
    endpoint last = nth(&first, COUNT - 1);
    check("the first is not forgotten", exchanges(fd, &first), "it is");
    check("nor the last", exchanges(fd, &last), "it is");
    return done();
}
