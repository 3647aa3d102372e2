/* Threads that wait in a call, in the kernel or for the broker. */
#ifndef WAITING_H
#define WAITING_H
#include "check.h"
#include <sys/syscall.h>

/* The state of a process or thread, as proc(5) has it; 0 when it is gone. */
static char state_of(pid_t number) {
    char path[64], line[512];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)number);
    FILE *stat = fopen(path, "r");
    char *end = stat && fgets(line, sizeof line, stat) ? strrchr(line, ')') : NULL;
    if (stat)
        fclose(stat);
    return end ? end[2] : 0;
}

/* Returns when `*number`, which the thread stores just before its call, waits: asleep, or where only a fatal signal ends it. */
__attribute__((unused)) static void await_wait(const volatile pid_t *number) {
    for (char state = 0; state != 'S' && state != 'D'; sched_yield())
        state = *number ? state_of(*number) : 0;
}

/* As await_wait, and the call is connect(2), read(2) or recv(2): not one that only leads there. */
__attribute__((unused)) static void await_call(const volatile pid_t *number) {
    long call = -1;
    for (; call != SYS_connect && call != SYS_read && call != SYS_recvfrom; sched_yield()) {
        char path[64];
        await_wait(number);
        call = -1;
        snprintf(path, sizeof path, "/proc/%d/syscall", (int)*number);
        FILE *file = fopen(path, "r");
        if (file && fscanf(file, "%ld", &call) != 1)
            call = -1;
        if (file)
            fclose(file);
    }
}
#endif
