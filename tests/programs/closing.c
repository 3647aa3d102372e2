/*
 * Many sockets are closed while they are pending, in the way that `way=` says, and the program goes on: it waits for the next line of its
 * standard input in the call that `wait=` says, or in poll(2). Says "begun" and "closed" in between. `count=` says how many they are, if not all
 * that there is room for.
 */
#include "check.h"
#include <sys/epoll.h>
#include <sys/select.h>

#define SOCKETS 120
#define COPIES 1500

static int sockets[SOCKETS];
static int count = SOCKETS;

static void close_all(void) {
    for (int i = 0; i < count; i++)
        close(sockets[i]);
}

static void overwrite_all(void) {
    int null = open("/dev/null", O_RDONLY);
    for (int i = 0; i < count; i++)
        dup2(null, sockets[i]);
}

static void close_range_of_all(void) {
    close_range((unsigned)sockets[0], (unsigned)sockets[count - 1], 0);
}

static void close_streams(void) {
    for (int i = 0; i < count; i++) {
        FILE *stream = fdopen(sockets[i], "w");
        if (stream)
            fclose(stream);
    }
}

/* Copies keep a connect under way; when the last one is closed, it ends. */
static void close_copies(void) {
    for (int i = 0; i < count; i++)
        dup2(sockets[i], COPIES + i);
    close_all();
    for (int i = 0; i < count; i++)
        if (poll_one(COPIES + i, POLLOUT, 0))
            give_up("a copy is not pending");
    for (int i = 0; i < count; i++)
        close(COPIES + i);
}

/* A child has copies, closes them and lives on; then the parent closes its own. */
static void close_after_a_child(void) {
    int pipes[2];
    char byte;
    if (pipe(pipes))
        give_up("pipe");
    fflush(stdout);
    if (!fork()) {
        close_all();
        poll_one(pipes[0], POLLIN, 1);
        close(pipes[1]);
        /* Ends with the parent. */
        _exit(read(0, &byte, 1) < 0);
    }
    close(pipes[1]);
    if (read(pipes[0], &byte, 1))
        give_up("the child");
    for (int i = 0; i < count; i++)
        if (poll_one(sockets[i], POLLOUT, 0))
            give_up("the parent's is not pending");
    close_all();
}

static const struct {
    const char *name;
    void (*act)(void);
} WAYS[] = {
    {"close", close_all}, {"dup2", overwrite_all}, {"range", close_range_of_all}, {"stream", close_streams}, {"copies", close_copies}, {"child", close_after_a_child},
};

static void wait_for_a_line(void) {
    const char *wait = argument("wait");
    if (wait && !strcmp(wait, "select")) {
        fd_set set;
        FD_ZERO(&set);
        FD_SET(0, &set);
        select(1, &set, NULL, NULL, NULL);
    } else if (wait && !strcmp(wait, "epoll")) {
        struct epoll_event event = {.events = EPOLLIN};
        int epoll = epoll_create1(0);
        epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &event);
        epoll_wait(epoll, &event, 1, -1);
        close(epoll);
    } else {
        poll_one(0, POLLIN, -1);
    }
    for (char byte = 0; byte != '\n';)
        if (read(0, &byte, 1) != 1)
            _exit(0);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    const char *way = argument("way");
    endpoint to = endpoint_of("to");
    if (argument("count"))
        count = atoi(argument("count"));
    if (count < 1 || count > SOCKETS)
        give_up("count");
    for (int i = 0; i < count; i++) {
        sockets[i] = tcp(AF_INET, SOCK_NONBLOCK);
        if (connect_to(sockets[i], &to) != -1 || errno != EINPROGRESS)
            give_up("connect %d: %s", i, strerror(errno));
    }
    puts("begun");
    wait_for_a_line();
    for (size_t i = 0; way && i < sizeof WAYS / sizeof *WAYS; i++)
        if (!strcmp(WAYS[i].name, way))
            WAYS[i].act();
    /* A waiting call looks for closed sockets at least every 100 ms: here it has. */
    poll_one(0, POLLIN, 250);
    puts("closed");
    wait_for_a_line();
    return done();
}
