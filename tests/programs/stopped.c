/* A process that waits in connect(2) is stopped by SIGSTOP, as ^Z and debuggers do it, and goes on with SIGCONT. */
#include "waiting.h"
#include <sys/mman.h>

#define SOON_MS 2000

static volatile pid_t *connecting;

static int connects(endpoint held, int flags) {
    int fd = tcp(AF_INET, flags);
    *connecting = gettid();
    int result = connect_to(fd, &held);
    if (result == -1 && errno == EINPROGRESS)
        result = poll_one(fd, POLLOUT, PATIENCE_MS) == POLLOUT ? socket_error(fd) : -1;
    return result == 0 && peer_is(fd, &held) && echoes(fd) ? 0 : 1;
}

static void *connects_in_a_thread(void *held) {
    return connects(*(endpoint *)held, 0) ? held : NULL;
}

/* While the main thread only waits for the one that connects. */
static int connects_beside(endpoint held) {
    pthread_t thread;
    void *failed = &held;
    return pthread_create(&thread, NULL, connects_in_a_thread, &held) || pthread_join(thread, &failed) || failed;
}

/* Whether the child changes its state so before it is late; its status. */
static int changes(pid_t child, int options, int *status) {
    pid_t changed = 0;
    for (long long begin = now_ms(); !changed && now_ms() - begin < SOON_MS; usleep(1000))
        changed = waitpid(child, status, options | WNOHANG);
    return changed == child;
}

static void stops(const char *label, endpoint held, int flags, int in_a_thread) {
    char name[96];
    int status = 0;
#define NAMED(text) (snprintf(name, sizeof name, "%s: %s", label, text), name)
    stage("hold");
    *connecting = 0;
    pid_t child = fork();
    if (!child)
        _exit(in_a_thread ? connects_beside(held) : connects(held, flags));
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
    stops("blocking", endpoint_of("held"), 0, 0);
    stops("not blocking", endpoint_of("held"), SOCK_NONBLOCK, 0);
    stops("beside the main thread", endpoint_of("held"), 0, 1);
    return done();
}
