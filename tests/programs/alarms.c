/* Signals while connect(2) waits in the kernel: with and without SA_RESTART, a few and very many; and SO_SNDTIMEO. */
#include "check.h"
#include <sys/mman.h>
#include <sys/time.h>

#define ALARMS 5
#define THREADS 4
#define ROUNDS 25

/* Shared with the child that releases. */
static volatile int *alarms;

static void count(int number) {
    (void)number;
    ++*alarms;
}

static void on_alarm(int flags, int milliseconds) {
    struct sigaction action = {.sa_handler = count, .sa_flags = flags};
    struct itimerval every = {{0, milliseconds * 1000}, {0, milliseconds * 1000}};
    *alarms = 0;
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &every, NULL);
}

static void no_alarms(void) {
    struct itimerval never = {0};
    setitimer(ITIMER_REAL, &never, NULL);
}

static void restarted(endpoint held) {
    stage("hold");
    int fd = tcp(AF_INET, 0);
    pid_t child = fork();
    if (!child) {
        while (*alarms < ALARMS)
            usleep(1000);
        stage("release");
        _exit(0);
    }
    on_alarm(SA_RESTART, 20);
    GIVES("connects under alarms that restart it", 0, connect_to(fd, &held));
    no_alarms();
    check("the handler ran meanwhile", *alarms >= ALARMS, "%d times", *alarms);
    waitpid(child, NULL, 0);
    check("has the peer asked for", peer_is(fd, &held), "another");
    check("echoes", echoes(fd), "no echo");
    close(fd);
}

static void interrupted(endpoint held) {
    stage("hold");
    int fd = tcp(AF_INET, 0);
    long long begin = now_ms();
    on_alarm(0, 100);
    FAILS("an alarm interrupts", EINTR, connect_to(fd, &held));
    no_alarms();
    long long took = now_ms() - begin;
    check("soon", took >= 90 && took < 20000, "%lld ms", took);
    stage("release");
    GIVES("a second call goes on with it", 0, connect_to(fd, &held));
    check("and has the peer asked for", peer_is(fd, &held), "another");
    check("and echoes", echoes(fd), "no echo");
    close(fd);
}

static void interrupted_and_closed(endpoint held) {
    stage("hold");
    int fd = tcp(AF_INET, 0);
    on_alarm(0, 50);
    FAILS("an alarm interrupts again", EINTR, connect_to(fd, &held));
    no_alarms();
    close(fd);
    stage("release");
    fd = tcp(AF_INET, 0);
    GIVES("another socket connects", 0, connect_to(fd, &held));
    check("and it echoes", echoes(fd), "no echo");
    close(fd);
}

static void timed_out(endpoint held) {
    stage("hold");
    int fd = tcp(AF_INET, 0);
    struct timeval little = {0, 300000};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &little, sizeof little);
    long long begin = now_ms();
    FAILS("SO_SNDTIMEO ends the wait", EINPROGRESS, connect_to(fd, &held));
    long long took = now_ms() - begin;
    check("when it was set to", took >= 250 && took < 20000, "%lld ms", took);
    stage("release");
    close(fd);
}

static endpoint open_at;

static void *connect_again_and_again(void *unused) {
    (void)unused;
    long good = 0;
    for (int round = 0; round < ROUNDS; round++) {
        int fd = tcp(AF_INET, SOCK_CLOEXEC | (round % 2 ? SOCK_NONBLOCK : 0));
        int result = connect_to(fd, &open_at);
        if (result == -1 && errno == EINPROGRESS) {
            while ((result = poll_one(fd, POLLOUT, PATIENCE_MS)) == -1 && errno == EINTR)
                ;
            result = result == POLLOUT ? socket_error(fd) : -1;
        }
        good += result == 0 && peer_is(fd, &open_at);
        close(fd);
    }
    return (void *)good;
}

/* As Go's runtime does it to move its goroutines, only more. */
static void under_fire(void) {
    pthread_t threads[THREADS];
    struct sigaction action = {.sa_handler = count, .sa_flags = SA_RESTART};
    sigaction(SIGURG, &action, NULL);
    long good = 0;
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, connect_again_and_again, NULL);
    for (int i = 0; i < THREADS; i++) {
        void *each;
        struct timespec soon;
        do {
            for (int other = i; other < THREADS; other++)
                pthread_kill(threads[other], SIGURG);
            clock_gettime(CLOCK_REALTIME, &soon);
            soon.tv_nsec += 1000000;
            soon.tv_sec += soon.tv_nsec / 1000000000, soon.tv_nsec %= 1000000000;
        } while (pthread_timedjoin_np(threads[i], &each, &soon) == ETIMEDOUT);
        good += (long)each;
    }
    GIVES("threads connect under a thousand signals a second", THREADS * ROUNDS, good);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    alarm(0);
    alarms = mmap(NULL, sizeof *alarms, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    endpoint held = endpoint_of("held");
    open_at = endpoint_of("open");
    restarted(held);
    interrupted(held);
    interrupted_and_closed(held);
    timed_out(held);
    under_fire();
    return done();
}
