/*
 * A program that has a seccomp filter of its own. It connects to `to=ADDRESS:PORT`, which it can behind its filter, and says what came
 * of it. `filter=`
 *
 *     kill        ends it at sendmsg(2), which it does not call
 *     listen      has a listener (seccomp_unotify(2)) for a call that it does not make; the errno is told when it cannot be had
 *
 * `orphan=1`: all this happens in a child that has lost its parent, once there is the file `go=PATH`.
 */
#include "check.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static int install(unsigned flags, unsigned number, unsigned verdict) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, verdict),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        give_up("no_new_privs: %s", strerror(errno));
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

static void confine(const char *filter) {
    if (!strcmp(filter, "kill")) {
        if (install(0, SYS_sendmsg, SECCOMP_RET_KILL_PROCESS))
            give_up("seccomp: %s", strerror(errno));
    } else {
        int listener = install(SECCOMP_FILTER_FLAG_NEW_LISTENER, SYS_swapoff, SECCOMP_RET_USER_NOTIF);
        printf("listener: %s\n", listener >= 0 ? "ok" : strerrorname_np(errno));
    }
}

static void become_orphan(void) {
    pid_t parent = getpid();
    if (fork())
        _exit(0);
    struct stat found;
    while (getppid() == parent || stat(argument("go"), &found))
        usleep(1000);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    if (argument("orphan"))
        become_orphan();
    confine(argument("filter"));
    endpoint to = endpoint_of("to");
    int fd = tcp(to.address.ss_family, 0);
    printf("connect: %s\n", connect_to(fd, &to) ? strerrorname_np(errno) : "ok");
    close(fd);
    return done();
}
