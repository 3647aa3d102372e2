/*
 * A 64-bit program that makes the system calls of i386 (int 0x80), numbers and structures of which differ. With
 * `proxied=1` it checks what presocks refuses, too.
 */
#include "check.h"
#include <sys/mman.h>

#ifdef __x86_64__
#define SOCKETCALL 102
#define IO_URING_SETUP 425
enum { SOCKET = 359, CONNECT = 362, SENDTO = 369 };
enum { WITHIN_SOCKET = 1, WITHIN_CONNECT = 3, WITHIN_SENDTO = 11 };

/* Memory that 32 bits reach. */
static struct shared {
    struct sockaddr_storage address;
    uint32_t words[6];
    char text[8];
} *low;

static uint32_t at(const void *place) {
    return (uint32_t)(uintptr_t)place;
}

/* The result or a negative errno. */
static long call(long number, uint32_t a, uint32_t b, uint32_t c, uint32_t d, uint32_t e) {
    long result;
    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
                     : "memory", "cc", "r8", "r9", "r10", "r11");
    return result;
}

static long socketcall(uint32_t which, uint32_t a, uint32_t b, uint32_t c, uint32_t d, uint32_t e, uint32_t f) {
    uint32_t words[6] = {a, b, c, d, e, f};
    memcpy(low->words, words, sizeof words);
    return call(SOCKETCALL, which, at(low->words), 0, 0, 0);
}

static long connect_narrow(int within, int fd, const endpoint *to) {
    memcpy(&low->address, &to->address, to->length);
    if (within)
        return socketcall(WITHIN_CONNECT, (uint32_t)fd, at(&low->address), to->length, 0, 0, 0);
    return call(CONNECT, (uint32_t)fd, at(&low->address), to->length, 0, 0);
}

static void connects(const char *label, int within, endpoint open, endpoint refused) {
    char name[96];
#define NAMED(text) (snprintf(name, sizeof name, "%s %s", label, text), name)
    int fd = tcp(open.address.ss_family, 0);
    GIVES(NAMED("refused"), -ECONNREFUSED, connect_narrow(within, fd, &refused));
    GIVES(NAMED("connects"), 0, connect_narrow(within, fd, &open));
    check(NAMED("has the peer asked for"), peer_is(fd, &open), "another");
    check(NAMED("echoes"), echoes(fd), "no echo");
    close(fd);
}

static void refusals(endpoint far) {
    GIVES("raw socket", -EPERM, call(SOCKET, AF_INET, SOCK_RAW, IPPROTO_ICMP, 0, 0));
    GIVES("raw socket by socketcall", -EPERM, socketcall(WITHIN_SOCKET, AF_INET, SOCK_RAW, IPPROTO_ICMP, 0, 0, 0));
    GIVES("packet socket by socketcall", -EPERM, socketcall(WITHIN_SOCKET, 17, SOCK_RAW, 0x300, 0, 0, 0));
    GIVES("SCTP by socketcall", -EPROTONOSUPPORT, socketcall(WITHIN_SOCKET, AF_INET, SOCK_STREAM, IPPROTO_SCTP, 0, 0, 0));
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    memcpy(&low->address, &far.address, far.length);
    long result = socketcall(WITHIN_SENDTO, (uint32_t)fd, at(low->text), 4, 0, at(&low->address), far.length);
    GIVES("datagram by socketcall", -ENETUNREACH, result);
    /* The sixth argument is in the frame pointer. */
    __asm__ volatile("push %%rbp; mov %[six], %%ebp; int $0x80; pop %%rbp"
                     : "=a"(result)
                     : "a"(SENDTO), "b"(fd), "c"(at(low->text)), "d"(4), "S"(0), "D"(at(&low->address)), [six] "r"(far.length)
                     : "memory", "cc", "r8", "r9", "r10", "r11");
    GIVES("datagram", -ENETUNREACH, result);
    GIVES("io_uring", -ENOSYS, call(IO_URING_SETUP, 4, at(low->words), 0, 0, 0));
    close(fd);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    low = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    if (low == MAP_FAILED)
        give_up("memory below 2 GiB");
    connects("connect", 0, endpoint_of("open"), endpoint_of("refused"));
    connects("socketcall", 1, endpoint_of("open"), endpoint_of("refused"));
    connects("connect, IPv6", 0, endpoint_of("open6"), endpoint_of("refused6"));
    connects("socketcall, IPv6", 1, endpoint_of("open6"), endpoint_of("refused6"));
    if (argument("proxied"))
        refusals(endpoint_of("open"));
    return done();
}
#else
int main(void) { return 0; }
#endif
