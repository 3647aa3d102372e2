/* connect(2) with pointers to nowhere: EFAULT, as the kernel has it, not the end of the program. */
#include "check.h"

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    int fd = tcp(AF_INET, 0);
    FAILS("address in the first page", EFAULT, connect(fd, (void *)8, sizeof(struct sockaddr_in)));
    FAILS("address in the kernel's half", EFAULT, connect(fd, (void *)-4096L, sizeof(struct sockaddr_in)));
    close(fd);
    return done();
}
