/*
 * Calls with a time limit (SO_SNDTIMEO, SO_RCVTIMEO) that a signal interrupts are not made anew, whatever SA_RESTART says (signal(7)): they
 * would have no end. The receives are those of a socket that a name server is to answer, but is asked nothing.
 */
#include "check.h"
#include <sys/time.h>

#define LIMIT_S 5

static volatile sig_atomic_t alarms;

static void count(int number) {
    (void)number;
    alarms++;
}

static void alarm_soon(void) {
    struct sigaction action = {.sa_handler = count, .sa_flags = SA_RESTART};
    struct itimerval once = {.it_value = {0, 200000}};
    alarms = 0;
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &once, NULL);
}

static void limit(int fd, int option) {
    struct timeval much = {LIMIT_S, 0};
    if (setsockopt(fd, SOL_SOCKET, option, &much, sizeof much))
        give_up("a limit: %s", strerror(errno));
}

static void connects(endpoint held) {
    stage("hold");
    int fd = tcp(AF_INET, 0);
    limit(fd, SO_SNDTIMEO);
    alarm_soon();
    FAILS("connect with SO_SNDTIMEO", EINTR, connect_to(fd, &held));
    GIVES("after one alarm", 1, alarms);
    stage("release");
    GIVES("connects in the background, or when it is called again", 0, connect_to(fd, &held));
    close(fd);
}

static void receives(endpoint server) {
    char text[64];
    endpoint from = {.length = sizeof from.address};
    struct iovec part = {text, sizeof text};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    ((struct sockaddr_in *)&server.address)->sin_port = htons(53);
    GIVES("connect to a name server", 0, connect_to(fd, &server));
    limit(fd, SO_RCVTIMEO);
    alarm_soon();
    FAILS("recvfrom with SO_RCVTIMEO", EINTR, recvfrom(fd, text, sizeof text, 0, (void *)&from.address, &from.length));
    GIVES("after its alarm", 1, alarms);
    alarm_soon();
    FAILS("recvmsg with SO_RCVTIMEO", EINTR, recvmsg(fd, &message, 0));
    GIVES("after one more", 1, alarms);
    struct timeval little = {0, 300000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &little, sizeof little);
    long long begin = now_ms();
    FAILS("the limit itself", EAGAIN, recvmsg(fd, &message, 0));
    long long took = now_ms() - begin;
    check("when it was set to", took >= 280 && took < LIMIT_S * 1000, "%lld ms", took);
    close(fd);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    connects(endpoint_of("held"));
    receives(endpoint_of("open"));
    return done();
}
