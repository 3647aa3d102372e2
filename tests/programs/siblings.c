/*
 * Several threads wait in connect(2) when one signal comes for their process (signal(7)): one of them takes it, and its call is interrupted
 * or goes on as the handler has it. The others never learn of it.
 */
#include "waiting.h"

#define THREADS 8
#define ROUNDS 4

static endpoint held_at;
static pthread_barrier_t together;
static volatile pid_t numbers[THREADS];
static volatile sig_atomic_t signals;

static void count(int number) {
    (void)number;
    signals++;
}

/* The errno of thread `place`, or 0 when it is connected. */
static long wait_in_connect(volatile pid_t *place) {
    int fd = tcp(AF_INET, SOCK_CLOEXEC);
    pthread_barrier_wait(&together);
    *place = gettid();
    long error = connect_to(fd, &held_at) == 0 ? peer_is(fd, &held_at) && echoes(fd) ? 0 : -1 : errno;
    close(fd);
    return error;
}

static void *sibling(void *place) {
    return (void *)wait_in_connect(place);
}

static void *signal_once(void *unused) {
    (void)unused;
    for (int i = 0; i < THREADS; i++)
        await_wait(&numbers[i]);
    kill(getpid(), SIGUSR1);
    while (!signals)
        sched_yield();
    stage("release");
    return NULL;
}

static void round_of(const char *label, int flags, long expected) {
    char name[96];
    pthread_t threads[THREADS], signaller;
    sigset_t usual, blocked;
    struct sigaction action = {.sa_handler = count, .sa_flags = flags};
    sigaction(SIGUSR1, &action, NULL);
    signals = 0;
    memset((void *)numbers, 0, sizeof numbers);
    stage("hold");
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &blocked, &usual);
    pthread_create(&signaller, NULL, signal_once, NULL);
    pthread_sigmask(SIG_SETMASK, &usual, NULL);
    for (int i = 1; i < THREADS; i++)
        pthread_create(&threads[i], NULL, sibling, (void *)&numbers[i]);
    /* The kernel prefers the first thread. */
    long first = wait_in_connect(&numbers[0]), unaware = 0, other = 0;
    for (int i = 1; i < THREADS; i++) {
        void *error;
        pthread_join(threads[i], &error);
        if (error)
            other = (long)error;
        unaware += !error;
    }
    pthread_join(signaller, NULL);
    snprintf(name, sizeof name, "%s: the thread that takes it", label);
    check(name, first == expected, "errno %ld", first);
    snprintf(name, sizeof name, "%s: the others connect", label);
    check(name, unaware == THREADS - 1, "%ld of them, errno %ld", unaware, other);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    held_at = endpoint_of("held");
    pthread_barrier_init(&together, NULL, THREADS);
    for (int i = 0; i < ROUNDS; i++) {
        round_of("a signal that restarts", SA_RESTART, 0);
        round_of("a signal that interrupts", 0, EINTR);
    }
    return done();
}
