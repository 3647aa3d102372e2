/*
 * A pending socket goes on in another program, by exec, or is dissolved, before the broker has so much as heard of its connect: the broker is stopped
 * meanwhile. Only under presocks.
 */
#include "watched.h"
#include "waiting.h"
#include <netdb.h>

#define ROOM 16

static endpoint held;
static char *self[ROOM + 4];
static int words;

static void await_stop(pid_t process) {
    while (state_of(process) != 'T')
        sched_yield();
}

/* The program that comes next: 0 when all is well. */
static int sees_it_through(int fd) {
    int early = is_pending(fd, &held);
    stage("release");
    return early ? early : poll_one(fd, POLLOUT, PATIENCE_MS) != POLLOUT ? 41 : socket_error(fd) ? 42 : echoes(fd) ? 0 : 43;
}

static void become_another(int fd) {
    char number[32];
    snprintf(number, sizeof number, "number=%d", fd);
    self[words] = number, self[words + 1] = NULL;
    execv("/proc/self/exe", self);
    _exit(44);
}

/* Returns when the process waits for the broker's answer, `asks` being among its arguments by then; or has ended. */
static void await_question(pid_t process, const char *asks) {
    char path[64], line[4096];
    for (long call = -1; call != SYS_recvfrom && state_of(process) != 'Z'; sched_yield()) {
        snprintf(path, sizeof path, "/proc/%d/cmdline", (int)process);
        FILE *file = fopen(path, "r");
        size_t length = file ? fread(line, 1, sizeof line, file) : 0;
        if (file)
            fclose(file);
        if (!memmem(line, length, asks, strlen(asks)))
            continue;
        snprintf(path, sizeof path, "/proc/%d/syscall", (int)process);
        file = fopen(path, "r");
        if (!file || fscanf(file, "%ld", &call) != 1)
            call = -1;
        if (file)
            fclose(file);
    }
}

/* Has the broker see to questions before it sees to connects. */
static pid_t asks_a_name(void) {
    pid_t child = fork();
    if (!child) {
        struct addrinfo *found;
        _exit(getaddrinfo(argument("name"), NULL, NULL, &found) ? 45 : 0);
    }
    await_question(child, "name=");
    return child;
}

/* Who has begun it keeps it, or ends with exec. `asked`: the broker has a question to answer first. */
static void hasty(const char *name, int keeps, int asked) {
    char text[96];
    int fd = -1;
    pid_t broker = getppid();
    stage("hold");
    kill(broker, SIGSTOP);
    await_stop(broker);
    pid_t asker = asked ? asks_a_name() : 0;
    if (keeps)
        fd = begin(&held);
    pid_t heir = fork();
    if (!heir)
        become_another(keeps ? fd : begin(&held));
    await_question(heir, "number=");
    kill(broker, SIGCONT);
    int status = status_of(heir);
    check(name, status == 0, "status %#x", status);
    if (keeps) {
        snprintf(text, sizeof text, "%s: and so does the first", name);
        check(text, poll_one(fd, POLLOUT, PATIENCE_MS) == POLLOUT && echoes(fd), "it does not");
        close(fd);
    }
    if (asked)
        GIVES("the name is found", 0, status_of(asker));
}

/* Dissolved, and connected elsewhere, before the broker has heard of its connect: it never touches it. `by_shutdown`: that dissolves it, too. */
static void dissolved(const char *name, int by_shutdown) {
    char byte = 0;
    endpoint here;
    int listener = loopback_listener(AF_INET, &here);
    pid_t broker = getppid();
    kill(broker, SIGSTOP);
    await_stop(broker);
    int fd = begin(&held);
    GIVES(name, 0, by_shutdown ? shutdown(fd, SHUT_RDWR) : dissolve(fd));
    socket_error(fd);
    int is_there = connect_to(fd, &here) == 0 || errno == EINPROGRESS, peer = accept(listener, NULL, NULL);
    kill(broker, SIGCONT);
    /* Tickets are taken in one after the other. */
    for (int i = 0; i < 3; i++) {
        int other = begin(&held);
        GIVES("another connects", POLLOUT, poll_one(other, POLLOUT, PATIENCE_MS));
        close(other);
    }
    check("it is where it was connected to", is_there && poll_one(fd, POLLOUT, 0) == POLLOUT && write(peer, "x", 1) == 1, SAW(is_there));
    check("and carries what it is given", poll_one(fd, POLLIN, PATIENCE_MS) == POLLIN && read(fd, &byte, 1) == 1 && byte == 'x', "byte %d", byte);
    check("by its peer's name", peer_is(fd, &here), "another peer");
    close(fd), close(peer), close(listener);
}

/* Dissolved, and connected by the proxy once more: that is another connect. */
static void begun_anew(void) {
    endpoint open = endpoint_of("open");
    pid_t broker = getppid();
    kill(broker, SIGSTOP);
    await_stop(broker);
    int fd = begin(&held);
    GIVES("dissolved, to be begun anew", 0, dissolve(fd));
    FAILS("begun anew", EINPROGRESS, connect_to(fd, &open));
    kill(broker, SIGCONT);
    GIVES("begun anew: it connects", POLLOUT, poll_one(fd, POLLOUT, PATIENCE_MS));
    check("begun anew: it is where it was last connected to", peer_is(fd, &open) && echoes(fd), "it is not");
    close(fd);
}

int main(int argc, char **argv) {
    start(argv);
    held = endpoint_of("held");
    if (argument("number"))
        return sees_it_through(atoi(argument("number")));
    for (words = 0; words < argc && words < ROOM; words++)
        self[words] = argv[words];
    hasty("a child's program sees it through", 1, 0);
    hasty("the program that comes next sees it through", 0, 0);
    hasty("a child's program sees it through after a question", 1, 1);
    hasty("the program that comes next sees it through after a question", 0, 1);
    dissolved("dissolved at once", 0);
    dissolved("shut at once", 1);
    begun_anew();
    return done();
}
