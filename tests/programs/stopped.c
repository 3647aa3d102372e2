/* A process that waits in connect(2) is stopped by SIGSTOP, as ^Z and debuggers do it, and goes on with SIGCONT. */
#include "waiting.h"
#include <sys/mman.h>

#define SOON_MS 2000

static volatile pid_t *connecting;

static int connects(endpoint held, int flags) {
    int fd = tcp(AF_INET, flags);
    *connecting = getpid();
    int result = connect_to(fd, &held);
    if (result == -1 && errno == EINPROGRESS)
        result = poll_one(fd, POLLOUT, PATIENCE_MS) == POLLOUT ? socket_error(fd) : -1;
    return result == 0 && peer_is(fd, &held) && echoes(fd) ? 0 : 1;
}

/* Whether the child changes its state so before it is late; its status. */
static int changes(pid_t child, int options, int *status) {
    pid_t changed = 0;
    for (long long begin = now_ms(); !changed && now_ms() - begin < SOON_MS; usleep(1000))
        changed = waitpid(child, status, options | WNOHANG);
    return changed == child;
}

static void stops(const char *label, endpoint held, int flags) {
    char name[96];
    int status = 0;
#define NAMED(text) (snprintf(name, sizeof name, "%s: %s", label, text), name)
    stage("hold");
    *connecting = 0;
    pid_t child = fork();
    if (!child)
        _exit(connects(held, flags));
    await_wait(connecting);
    kill(child, SIGSTOP);
    int stopped = changes(child, WUNTRACED, &status) && WIFSTOPPED(status);
    check(NAMED("stops at once"), stopped, "status %#x", status);
    char state = state_of(child);
    check(NAMED("is stopped"), state == 'T', "state %c", state);
    kill(child, SIGCONT);
    check(NAMED("is continued"), changes(child, WCONTINUED, &status) && WIFCONTINUED(status), "status %#x", status);
    stage("release");
    check(NAMED("connects and echoes"), waitpid(child, &status, 0) == child && status == 0, "status %#x", status);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    connecting = mmap(NULL, sizeof *connecting, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    stops("blocking", endpoint_of("held"), 0);
    stops("not blocking", endpoint_of("held"), SOCK_NONBLOCK);
    return done();
}
