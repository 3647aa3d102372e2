/*
 * A thread waits for the answer of a name server, which was asked nothing, when another shuts the socket for reading (shutdown(2)): the
 * call ends with nothing received. Nor does it keep the broker, which is the parent, busy.
 */
#include "waiting.h"

#define MOST_TICKS 20

static int fd;
static volatile pid_t receiving;

static void *by_recvfrom(void *unused) {
    (void)unused;
    char text[64];
    endpoint from = {.length = sizeof from.address};
    receiving = gettid();
    return (void *)(long)recvfrom(fd, text, sizeof text, 0, (void *)&from.address, &from.length);
}

static void *by_recvmsg(void *unused) {
    (void)unused;
    char text[64];
    struct iovec part = {text, sizeof text};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    receiving = gettid();
    return (void *)(long)recvmsg(fd, &message, 0);
}

/* The time that the broker has run for, in hundredths of a second; 0 on a bare machine. */
static long broker_ran_for(void) {
    char path[64], line[512];
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)getppid());
    FILE *stat = fopen(path, "r");
    char *end = stat && fgets(line, sizeof line, stat) ? strrchr(line, ')') : NULL;
    if (end)
        sscanf(end + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system);
    if (stat)
        fclose(stat);
    return (long)(user + system) * 100 / sysconf(_SC_CLK_TCK);
}

static void ends(const char *label, void *(*receive)(void *), int how, endpoint server) {
    char name[96];
    pthread_t thread;
    void *result = (void *)-2L;
    struct timespec late;
#define NAMED(text) (snprintf(name, sizeof name, "%s, %s", label, text), name)
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    GIVES(NAMED("connect"), 0, connect_to(fd, &server));
    receiving = 0;
    pthread_create(&thread, NULL, receive, NULL);
    await_wait(&receiving);
    GIVES(NAMED("shutdown"), 0, shutdown(fd, how));
    clock_gettime(CLOCK_REALTIME, &late);
    late.tv_sec += 5;
    int joined = pthread_timedjoin_np(thread, &result, &late);
    check(NAMED("receives nothing"), joined == 0 && (long)result == 0, "%s, %ld", joined ? "waits" : "returned", (long)result);
    long before = broker_ran_for();
    usleep(500000);
    long ran = broker_ran_for() - before;
    check(NAMED("and nobody is busy"), ran < MOST_TICKS, "%ld hundredths of a second", ran);
    close(fd);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    endpoint server = endpoint_of("open");
    ((struct sockaddr_in *)&server.address)->sin_port = htons(53);
    ends("recvfrom and SHUT_RD", by_recvfrom, SHUT_RD, server);
    ends("recvmsg and SHUT_RDWR", by_recvmsg, SHUT_RDWR, server);
    return done();
}
