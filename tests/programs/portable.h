/* check.h for any C library: musl does not know the names of errors. */
#ifndef PORTABLE_H
#define PORTABLE_H
#define _GNU_SOURCE
#include <errno.h>
#include <features.h>
#include <stddef.h>

#ifndef __GLIBC__
__attribute__((unused)) static const char *strerrorname_np(int error) {
#define NAME(error) {error, #error}
    static const struct {
        int number;
        const char *name;
    } names[] = {
        NAME(EPERM), NAME(ENOENT), NAME(EINTR), NAME(EBADF), NAME(EAGAIN), NAME(EACCES), NAME(EFAULT), NAME(ENODEV), NAME(EINVAL),
        NAME(EPIPE), NAME(ENOSYS), NAME(ENOTSOCK), NAME(EDESTADDRREQ), NAME(EPROTONOSUPPORT), NAME(EOPNOTSUPP), NAME(EAFNOSUPPORT),
        NAME(ENETUNREACH), NAME(ECONNABORTED), NAME(ECONNRESET), NAME(EISCONN), NAME(ENOTCONN), NAME(ETIMEDOUT), NAME(ECONNREFUSED),
        NAME(EHOSTUNREACH), NAME(EALREADY), NAME(EINPROGRESS),
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].number == error)
            return names[i].name;
    return error ? "another" : "0";
}
#endif

#include "check.h"
#endif
