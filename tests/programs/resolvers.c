/*
 * A socket that is connected to a name server for as long as its program runs, as resolvers of servers are, while very many others come and
 * go, and very many other servers are asked. Only presocks answers, so this runs under presocks only.
 */
#include "check.h"

#define SOCKETS 5000
#define SERVERS 70

static int name_server_socket(const endpoint *server) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        give_up("datagram socket: %s", strerror(errno));
    if (!connect_to(fd, server))
        return fd;
    check("a socket is connected to a name server", 0, "errno %s", strerrorname_np(errno));
    close(fd);
    return -1;
}

/* Whether a question of ours is answered, by whom it was put to. */
static int is_answered(int fd, const endpoint *server) {
    endpoint sender = {.length = sizeof sender.address};
    static unsigned char serial;
    unsigned char question[] = {0, ++serial, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 'a', 4, 't', 'e', 's', 't', 0, 0, 1, 0, 1}, answer[512];
    if (send(fd, question, sizeof question, 0) != sizeof question || poll_one(fd, POLLIN, PATIENCE_MS / 5) != POLLIN)
        return 0;
    ssize_t got = recvfrom(fd, answer, sizeof answer, 0, (void *)&sender.address, &sender.length);
    const struct sockaddr_in *from = (void *)&sender.address, *asked = (const void *)&server->address;
    return got > (ssize_t)sizeof question && answer[1] == serial && from->sin_port == asked->sin_port &&
           from->sin_addr.s_addr == asked->sin_addr.s_addr;
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    endpoint server = parse_endpoint("192.0.2.53:53"), other = parse_endpoint("198.51.100.0:53");
    int lasting = name_server_socket(&server), each, answered = 0;
    check("answered at first", is_answered(lasting, &server), "not");
    for (int i = 0; i < SOCKETS && (each = name_server_socket(&server)) >= 0; i++)
        close(each);
    check("answered after very many sockets", is_answered(lasting, &server), "not");
    for (int i = 0; i < SERVERS; i++) {
        ((struct sockaddr_in *)&other.address)->sin_addr.s_addr = htonl(0xc6336400 + (uint32_t)i);
        if ((each = name_server_socket(&other)) < 0)
            break;
        answered += is_answered(each, &other);
        close(each);
    }
    GIVES("other servers answer", SERVERS, answered);
    check("answered after very many servers", is_answered(lasting, &server), "not");
    return done();
}
