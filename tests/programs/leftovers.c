/*
 * A call of a library's own after one that presocks has seen: nothing of the first may be left in registers that would have the
 * second pass the seccomp filter. The connect here is made directly, with whatever the call before it has left.
 */
#include "check.h"
#include <sys/syscall.h>

#ifdef __x86_64__
/* (*before)(…), then connect(target, address, length), in which the fourth to sixth argument are not set. */
long call_then_connect(long (*before)(void), int target, const void *address, socklen_t length);
__asm__(".text\n"
        ".globl call_then_connect\n"
        "call_then_connect:\n"
        "    push %rbx\n"
        "    push %r12\n"
        "    push %r13\n"
        "    mov %esi, %ebx\n"
        "    mov %rdx, %r12\n"
        "    mov %ecx, %r13d\n"
        "    call *%rdi\n"
        "    mov %ebx, %edi\n"
        "    mov %r12, %rsi\n"
        "    mov %r13d, %edx\n"
        "    mov $42, %eax\n"
        "    syscall\n"
        "    pop %r13\n"
        "    pop %r12\n"
        "    pop %rbx\n"
        "    ret\n");

static int quiet;
static struct msghdr message;
static struct sockaddr_storage address;
static socklen_t length = sizeof address;

static long receives(void) {
    return recvmsg(quiet, &message, MSG_DONTWAIT);
}

static long receives_from(void) {
    return recvfrom(quiet, &message, 0, MSG_DONTWAIT, (void *)&address, &length);
}

static long sends(void) {
    return sendmsg(quiet, &message, MSG_DONTWAIT);
}

static long asks(void) {
    return getpeername(quiet, (void *)&address, &length);
}

static long connects(void) {
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    return connect(quiet, &none, sizeof none);
}

static void after(const char *name, long (*before)(void), const endpoint *to) {
    int fd = tcp(AF_INET, 0);
    long result = call_then_connect(before, fd, &to->address, to->length);
    check(name, result == 0 && echoes(fd), "%ld", result);
    close(fd);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    endpoint open_at = endpoint_of("open");
    quiet = socket(AF_INET, SOCK_DGRAM, 0);
    after("after recvmsg", receives, &open_at);
    after("after recvfrom", receives_from, &open_at);
    after("after sendmsg", sends, &open_at);
    after("after getpeername", asks, &open_at);
    after("after connect", connects, &open_at);
    return done();
}
#else
int main(void) {
    return 0;
}
#endif
