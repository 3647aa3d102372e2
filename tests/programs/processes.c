/* Processes: fork storms, vfork and exec, posix_spawn, daemons. `child=` in the arguments makes it the child. */
#include "check.h"
#include <spawn.h>
#include <sys/syscall.h>

#define STORM 60

extern char **environ;
static endpoint open_at;
static char *child_arguments[16];

static int one_connection(void) {
    int fd = tcp(AF_INET, SOCK_CLOEXEC);
    int good = connect_to(fd, &open_at) == 0 && echoes(fd);
    close(fd);
    return good;
}

static void storm(void) {
    pid_t children[STORM];
    int good = 0;
    for (int i = 0; i < STORM; i++) {
        children[i] = fork();
        if (!children[i])
            _exit(one_connection() && one_connection() ? 0 : 1);
    }
    for (int i = 0; i < STORM; i++)
        good += status_of(children[i]) == 0;
    GIVES("sixty forks at once", STORM, good);
}

static void *connect_all_the_time(void *stop) {
    while (!*(volatile int *)stop)
        if (!one_connection())
            return (void *)1;
    return NULL;
}

/* fork() in one thread while another is inside connect(): the child inherits whatever state that one was in. */
static void forks_beside_threads(void) {
    int stop = 0, good = 0;
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, connect_all_the_time, &stop);
    for (int i = 0; i < 40; i++) {
        pid_t child = fork();
        if (!child)
            _exit(one_connection() ? 0 : 1);
        good += status_of(child) == 0;
    }
    stop = 1;
    void *bad[2];
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], &bad[i]);
    GIVES("forks beside connecting threads", 40, good);
    check("the threads connect throughout", !bad[0] && !bad[1], "one failed");
}

static void vforked(void) {
    pid_t child = vfork();
    if (!child) {
        execv("/proc/self/exe", child_arguments);
        _exit(120);
    }
    GIVES("vfork and exec", 0, status_of(child));
    check("the parent connects after vfork", one_connection(), "failed");

    /* A connect between vfork and exec shares the parent's memory. */
    volatile int good = 0;
    child = vfork();
    if (!child) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        good = connect(fd, (const void *)&open_at.address, open_at.length) == 0;
        close(fd);
        _exit(0);
    }
    status_of(child);
    check("connects between vfork and exec", good, "failed");
    check("the parent connects after that", one_connection(), "failed");
}

static void spawned(void) {
    pid_t child;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    GIVES("posix_spawn", 0, posix_spawn(&child, "/proc/self/exe", &actions, NULL, child_arguments, environ));
    GIVES("its child connects", 0, status_of(child));
}

/* Forks twice, with a session of its own and standard streams away, and reports through a pipe. */
static void daemonised(void) {
    int report[2];
    char good = 0;
    if (pipe(report))
        give_up("pipe");
    pid_t child = fork();
    if (!child) {
        setsid();
        if (fork())
            _exit(0);
        if (chdir("/"))
            _exit(1);
        for (int fd = 0; fd < 3; fd++)
            close(fd);
        open("/dev/null", O_RDWR);
        if (dup(0) < 0 || dup(0) < 0)
            _exit(1);
        good = (char)(one_connection() ? 'y' : 'n');
        _exit(write(report[1], &good, 1) == 1 ? 0 : 1);
    }
    status_of(child);
    close(report[1]);
    GIVES("the daemon reports", 1, read(report[0], &good, 1));
    check("the daemon connects", good == 'y', "it said %c", good);
    close(report[0]);
}

/* clone() without a libc wrapper around the child's start: no atfork handler runs. */
static void cloned(void) {
    pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (!child) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        _exit(connect(fd, (const void *)&open_at.address, open_at.length) ? 1 : 0);
    }
    GIVES("a raw clone connects", 0, status_of(child));
}

static void through_a_shell(char *self) {
    char line[1024];
    snprintf(line, sizeof line, "%s child=1 open=%s && %s child=1 open=%s", self, argument("open"), self, argument("open"));
    GIVES("children of system()", 0, system(line));
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    open_at = endpoint_of("open");
    if (argument("child"))
        return one_connection() ? 0 : 1;
    char to[128];
    snprintf(to, sizeof to, "open=%s", argument("open"));
    child_arguments[0] = argv[0], child_arguments[1] = "child=1", child_arguments[2] = to;
    storm();
    forks_beside_threads();
    vforked();
    spawned();
    daemonised();
    cloned();
    through_a_shell(argv[0]);
    return done();
}
