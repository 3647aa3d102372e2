/*
 * A 64-bit program makes the system calls of i386 (int 0x80) with something in the upper halves of its registers, which the kernel does not
 * look at. There another address would be found: loopback's.
 */
#include "check.h"
#include <sys/mman.h>

#ifdef __x86_64__
#define UPPER (1L << 32)
enum { SOCKETCALL = 102, CONNECT = 362, WITHIN_CONNECT = 3 };

struct half {
    struct sockaddr_storage address;
    uint32_t words[3];
};

/* What 32 bits reach, and what is 4 GiB above it. */
static struct half *low, *high;

static void *memory(void *at, int flags) {
    void *got = mmap(at, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    if (got == MAP_FAILED || (at && got != at))
        give_up("memory at %p: %s", at, strerror(errno));
    return got;
}

/* The result or a negative errno. */
static long call(long number, long a, long b, long c) {
    long result;
    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "a"(number), "b"(a), "c"(b), "d"(c)
                     : "memory", "cc", "r8", "r9", "r10", "r11");
    return result;
}

static long by_connect(int fd, socklen_t length) {
    return call(CONNECT, fd | UPPER, (long)&high->address, length | UPPER);
}

static long by_socketcall(int fd, socklen_t length) {
    low->words[0] = high->words[0] = (uint32_t)fd;
    low->words[1] = (uint32_t)(uintptr_t)&low->address;
    high->words[1] = 0;
    low->words[2] = high->words[2] = length;
    return call(SOCKETCALL, WITHIN_CONNECT | UPPER, (long)high->words, UPPER);
}

static void connects(const char *label, long (*way)(int, socklen_t), endpoint open) {
    char name[96];
#define NAMED(text) (snprintf(name, sizeof name, "%s %s", label, text), name)
    endpoint here;
    int family = open.address.ss_family, listener = loopback_listener(family, &here), fd = tcp(family, 0);
    memcpy(&low->address, &open.address, open.length);
    memcpy(&high->address, &here.address, here.length);
    GIVES(NAMED("connects"), 0, way(fd, open.length));
    check(NAMED("has the peer asked for"), peer_is(fd, &open), "another");
    check(NAMED("echoes"), echoes(fd), "no echo");
    close(fd), close(listener);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    low = memory(NULL, MAP_32BIT);
    high = memory((char *)low + UPPER, MAP_FIXED_NOREPLACE);
    connects("connect", by_connect, endpoint_of("open"));
    connects("socketcall", by_socketcall, endpoint_of("open"));
    connects("connect, IPv6", by_connect, endpoint_of("open6"));
    connects("socketcall, IPv6", by_socketcall, endpoint_of("open6"));
    return done();
}
#else
int main(void) { return 0; }
#endif
