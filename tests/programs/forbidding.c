/*
 * Runs a command in a sandbox, as services and launchers do: `forbidding WHAT COMMAND…`
 *
 *     families    socket() makes IPv4 and IPv6 sockets alone, else EAFNOSUPPORT (RestrictAddressFamilies of systemd, firejail --protocol)
 *     options     of getsockopt() SO_ERROR alone, of setsockopt() what libc's resolver needs, of Unix sockets streams alone, no kcmp(): else EPERM, as in
 *                 tor's own list
 */
#include "check.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define LOAD(member) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, member))
#define IS(value, then, otherwise) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, then, otherwise)
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define FAIL(error) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (error))

static void install(struct sock_filter *code, unsigned short length) {
    struct sock_fprog program = {.len = length, .filter = code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program))
        give_up("seccomp: %s", strerror(errno));
}

static void forbid_families(void) {
    struct sock_filter code[] = {
        LOAD(nr), IS(SYS_socket, 1, 0), ALLOW, LOAD(args[0]), IS(AF_INET, 1, 0), IS(AF_INET6, 0, 1), ALLOW, FAIL(EAFNOSUPPORT),
    };
    install(code, sizeof code / sizeof *code);
}

static void forbid_options(void) {
    struct sock_filter code[] = {
        LOAD(nr),
        IS(SYS_kcmp, 0, 1),
        FAIL(EPERM),
        IS(SYS_setsockopt, 0, 5),
        LOAD(args[2]),
        IS(IP_RECVERR, 1, 0),
        IS(IPV6_RECVERR, 0, 1),
        ALLOW,
        FAIL(EPERM),
        IS(SYS_getsockopt, 0, 4),
        LOAD(args[2]),
        IS(SO_ERROR, 0, 1),
        ALLOW,
        FAIL(EPERM),
        IS(SYS_socket, 1, 0),
        ALLOW,
        LOAD(args[0]),
        IS(AF_UNIX, 1, 0),
        ALLOW,
        LOAD(args[1]),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xf),
        IS(SOCK_STREAM, 0, 1),
        ALLOW,
        FAIL(EPERM),
    };
    install(code, sizeof code / sizeof *code);
}

int main(int argc, char **argv) {
    if (argc < 3)
        give_up("what, and a command");
    if (!strcmp(argv[1], "families"))
        forbid_families();
    else if (!strcmp(argv[1], "options"))
        forbid_options();
    else
        give_up("not known: %s", argv[1]);
    execvp(argv[2], argv + 2);
    give_up("%s: %s", argv[2], strerror(errno));
}
