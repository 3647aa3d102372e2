/*
 * A client on io_uring that goes on with connect(2) where there is none, as libuv and others do. Prints "io_uring" or
 * "connect" and what came of it. `to=HOST:PORT`
 */
#include "check.h"
#include <liburing.h>

static int by_ring(struct io_uring *ring, int fd, const endpoint *to) {
    struct io_uring_cqe *done;
    struct io_uring_sqe *wish = io_uring_get_sqe(ring);
    io_uring_prep_connect(wish, fd, (const void *)&to->address, to->length);
    io_uring_submit(ring);
    int error = io_uring_wait_cqe(ring, &done);
    return error ? error : done->res;
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    endpoint to = endpoint_of("to");
    struct io_uring ring;
    int fd = tcp(to.address.ss_family, 0), error = io_uring_queue_init(4, &ring, 0);
    if (error == 0) {
        error = -by_ring(&ring, fd, &to);
        printf("io_uring: %s\n", error ? strerrorname_np(error) : "ok");
    } else {
        printf("no io_uring: %s\n", strerrorname_np(-error));
        error = connect_to(fd, &to) ? errno : 0;
        printf("connect: %s\n", error ? strerrorname_np(error) : "ok");
    }
    if (!error)
        check("echo", echoes(fd), "none");
    return done();
}
