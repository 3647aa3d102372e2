/*
 * A thousand threads that wait in connect(2) at the same time; then processes that live for one connection. `child=1`:
 * such a one.
 */
#include "check.h"
#include <sys/resource.h>

#define THREADS 1000
#define PROCESSES 200

static endpoint held_at, open_at;
static volatile pid_t numbers[THREADS];

static void *wait_in_connect(void *place) {
    int fd = tcp(AF_INET, SOCK_CLOEXEC);
    *(volatile pid_t *)place = gettid();
    long good = connect_to(fd, &held_at) == 0 && peer_is(fd, &held_at) && echoes(fd);
    close(fd);
    return (void *)good;
}

/* Asleep in a system call, or waiting there for what only a fatal signal ends. */
static int waits(pid_t thread) {
    char path[64], line[512] = "";
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)thread);
    FILE *stat = fopen(path, "r");
    char *end = stat && fgets(line, sizeof line, stat) ? strrchr(line, ')') : NULL;
    if (stat)
        fclose(stat);
    return end && strchr("SD", end[2]) != NULL;
}

static void threads(void) {
    static pthread_t all[THREADS];
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 64 * 1024);
    stage("hold");
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&all[i], &small, wait_in_connect, (void *)&numbers[i]))
            give_up("pthread_create, %d", i);
    for (int i = 0; i < THREADS; i++)
        while (!numbers[i] || !waits(numbers[i]))
            sched_yield();
    stage("release");
    long good = 0;
    for (int i = 0; i < THREADS; i++) {
        void *each;
        pthread_join(all[i], &each);
        good += (long)each;
    }
    GIVES("a thousand threads in connect at once", THREADS, good);
}

static int connects(void) {
    int fd = tcp(AF_INET, 0);
    return connect_to(fd, &open_at) == 0 && echoes(fd) ? 0 : 1;
}

static void processes(char *self) {
    pid_t children[PROCESSES];
    char open[128];
    int good = 0;
    snprintf(open, sizeof open, "open=%s", argument("open"));
    for (int i = 0; i < PROCESSES; i++)
        if (!(children[i] = fork())) {
            execl(self, self, "child=1", open, NULL);
            _exit(120);
        }
    for (int i = 0; i < PROCESSES; i++) {
        int status = -1;
        waitpid(children[i], &status, 0);
        good += status == 0;
    }
    GIVES("processes that live for one connection", PROCESSES, good);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    open_at = endpoint_of("open");
    if (argument("child"))
        return connects();
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    held_at = endpoint_of("held");
    threads();
    processes(argv[0]);
    return done();
}
