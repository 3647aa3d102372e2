/*
 * res_query and its kin, and getaddrinfo_a, as programs use them that want other records than addresses (MX, TXT, SRV).
 * `mail.test` is a zone of the lab's name server; with `proxied=1` addresses are stand-ins and search lists are not
 * gone through.
 */
#include "check.h"
#include <netdb.h>
#include <pthread.h>
#include <resolv.h>
#include <stddef.h>
#include <sys/time.h>

typedef unsigned char byte;

static byte answer[65536];
static char name[160];
#define NAMED(text) (snprintf(name, sizeof name, "%s: %s", label, text), name)

/* The number of records of a type in an answer, and the data of the first as text. */
static int records(const byte *message, int length, int type, char *text, size_t size) {
    ns_msg parsed;
    ns_rr record;
    int found = 0;
    if (ns_initparse(message, length, &parsed) < 0)
        return -1;
    for (int i = 0; i < ns_msg_count(parsed, ns_s_an); i++) {
        if (ns_parserr(&parsed, ns_s_an, i, &record) < 0)
            return -1;
        if ((int)ns_rr_type(record) != type)
            continue;
        if (found++ == 0 && type == ns_t_mx)
            dn_expand(message, message + length, ns_rr_rdata(record) + 2, text, (int)size);
        if (found == 1 && type == ns_t_txt)
            snprintf(text, size, "%.*s", ns_rr_rdata(record)[0], ns_rr_rdata(record) + 1);
    }
    return found;
}

static void found(const char *label, int length, int type, int count, const char *data) {
    char text[256] = "";
    check(NAMED("has an answer"), length > 0, "returned %d, h_errno %d, errno %s", length, h_errno, strerrorname_np(errno));
    int seen = length > 0 ? records(answer, length, type, text, sizeof text) : 0;
    check(NAMED("has its records"), seen == count, "%d", seen);
    check(NAMED("says what is in the zone"), !strcmp(text, data), "%s", text);
}

static void failed(const char *label, int result, int expected) {
    check(NAMED("fails"), result == -1, "returned %d", result);
    check(NAMED("says why"), h_errno == expected, "h_errno %d", h_errno);
}

#define MX "mx1.mail.test"

static void queries(void) {
    byte query[512];
    found("res_query", res_query("mail.test", ns_c_in, ns_t_mx, answer, sizeof answer), ns_t_mx, 2, MX);
    found("with a dot", res_query("mail.test.", ns_c_in, ns_t_mx, answer, sizeof answer), ns_t_mx, 2, MX);
    found("letters", res_query("MAIL.tesT", ns_c_in, ns_t_mx, answer, sizeof answer), ns_t_mx, 2, "mx1.MAIL.tesT");
    found("res_search", res_search("mail.test", ns_c_in, ns_t_mx, answer, sizeof answer), ns_t_mx, 2, MX);
    found("res_querydomain", res_querydomain("mail", "test", ns_c_in, ns_t_mx, answer, sizeof answer), ns_t_mx, 2, MX);
    found("res_querydomain, one name", res_querydomain("mail.test.", NULL, ns_c_in, ns_t_mx, answer, sizeof answer), ns_t_mx, 2, MX);
    found("TXT", res_query("mail.test", ns_c_in, ns_t_txt, answer, sizeof answer), ns_t_txt, 1, "v=spf1 mx -all");
    int length = res_mkquery(ns_o_query, "mail.test", ns_c_in, ns_t_mx, NULL, 0, NULL, query, sizeof query);
    check("res_mkquery", length > 0, "returned %d", length);
    found("res_send", res_send(query, length, answer, sizeof answer), ns_t_mx, 2, MX);
    check("with the query's ID", !memcmp(answer, query, 2), "another");
    errno = ENOTTY;
    length = res_query("mail.test", ns_c_in, ns_t_mx, answer, sizeof answer);
    if (argument("proxied"))
        check("errno is kept", length > 0 && errno == ENOTTY, "returned %d, errno %s", length, strerrorname_np(errno));

    failed("no such name", res_query("none.mail.test", ns_c_in, ns_t_mx, answer, sizeof answer), HOST_NOT_FOUND);
    failed("no such record", res_query("mx1.mail.test", ns_c_in, ns_t_mx, answer, sizeof answer), NO_DATA);
    /* As Firefox asks, in a thread of its own: what there is to connect to, the proxy finds. */
    failed("an HTTPS record", res_query("mx1.mail.test", ns_c_in, 65, answer, sizeof answer), NO_DATA);
    /* Over UDP, libc takes a refusal for no answer at all. */
    failed("refused", res_query("elsewhere.test", ns_c_in, ns_t_mx, answer, sizeof answer), argument("proxied") ? NO_RECOVERY : TRY_AGAIN);
    char longest[1100];
    memset(longest, 'a', sizeof longest), longest[1099] = 0;
    failed("no name", res_query(longest, ns_c_in, ns_t_mx, answer, sizeof answer), NO_RECOVERY);
    failed("too long for two", res_querydomain(longest, "test", ns_c_in, ns_t_mx, answer, sizeof answer), NO_RECOVERY);
    FAILS("no room for a header", EINVAL, res_send(query, length, answer, 11));
}

/* As much as fits, the whole length, and the sign that it was cut. */
static void large(void) {
    memset(answer, 0, sizeof answer);
    int whole = res_query("large.mail.test", ns_c_in, ns_t_txt, answer, sizeof answer);
    check("a large answer", whole > 8000, "returned %d", whole);
    check("is whole", !(answer[2] & 2), "it is not");
    memset(answer, 0xee, sizeof answer);
    int cut = res_query("large.mail.test", ns_c_in, ns_t_txt, answer, 512);
    check("a large answer for little room", cut == whole, "returned %d, not %d", cut, whole);
    check("says that it was cut", answer[2] & 2, "it does not");
    check("and is cut there", answer[512] == 0xee && answer[511] != 0xee, "it is not");
}

static void with_a_state(void) {
    static struct __res_state state;
    byte query[512];
    GIVES("the place of h_errno in a state", 496, (long)offsetof(struct __res_state, res_h_errno));
    GIVES("res_ninit", 0, res_ninit(&state));
    found("res_nquery", res_nquery(&state, "mail.test", ns_c_in, ns_t_mx, answer, sizeof answer), ns_t_mx, 2, MX);
    GIVES("h_errno in the state", 0, state.res_h_errno);
    found("res_nsearch", res_nsearch(&state, "mail.test", ns_c_in, ns_t_mx, answer, sizeof answer), ns_t_mx, 2, MX);
    found("res_nquerydomain", res_nquerydomain(&state, "mail", "test", ns_c_in, ns_t_mx, answer, sizeof answer), ns_t_mx, 2, MX);
    int length = res_nmkquery(&state, ns_o_query, "mail.test", ns_c_in, ns_t_mx, NULL, 0, NULL, query, sizeof query);
    found("res_nsend", res_nsend(&state, query, length, answer, sizeof answer), ns_t_mx, 2, MX);
    failed("res_nquery of no name", res_nquery(&state, "none.mail.test", ns_c_in, ns_t_mx, answer, sizeof answer), HOST_NOT_FOUND);
    GIVES("h_errno of no name in the state", HOST_NOT_FOUND, state.res_h_errno);

    state.options |= RES_USE_EDNS0 | RES_USE_DNSSEC;
    length = res_nquery(&state, "mail.test", ns_c_in, ns_t_mx, answer, sizeof answer);
    found("with EDNS", length, ns_t_mx, 2, MX);
    ns_msg parsed;
    ns_rr record;
    int opt = 0, dnssec_ok = 0;
    if (length > 0 && ns_initparse(answer, length, &parsed) == 0)
        for (int i = 0; i < ns_msg_count(parsed, ns_s_ar); i++)
            if (ns_parserr(&parsed, ns_s_ar, i, &record) == 0 && ns_rr_type(record) == ns_t_opt)
                opt++, dnssec_ok = !!(ns_rr_ttl(record) & 0x8000);
    check("an OPT record comes back", opt == 1 && dnssec_ok, "%d, DO %d", opt, dnssec_ok);
    res_nclose(&state);
}

static int descriptors(void) {
    int count = 0;
    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) != -1;
    return count;
}

static void *asks(void *result) {
    byte own[4096];
    int *places = result;
    for (int i = 0; i < 20; i++)
        *places += res_query("mail.test", ns_c_in, ns_t_mx, own, sizeof own) > 0;
    return NULL;
}

static void *asks_until_cancelled(void *unused) {
    byte own[4096];
    for (;; pthread_testcancel())
        res_query("mail.test", ns_c_in, ns_t_mx, own, sizeof own);
    return unused;
}

static void threads(void) {
    enum { COUNT = 8 };
    pthread_t all[COUNT];
    int good[COUNT] = {0}, sum = 0;
    for (int i = 0; i < COUNT; i++)
        pthread_create(&all[i], NULL, asks, &good[i]);
    for (int i = 0; i < COUNT; i++)
        pthread_join(all[i], NULL), sum += good[i];
    GIVES("many threads ask", COUNT * 20, sum);
    if (!argument("proxied"))
        return;
    /* libc itself leaves its socket open when the thread that asks is cancelled. */
    int before = descriptors();
    for (int i = 0; i < COUNT; i++) {
        pthread_create(&all[0], NULL, asks_until_cancelled, NULL);
        usleep(1000 * (useconds_t)i);
        pthread_cancel(all[0]);
        pthread_join(all[0], NULL);
    }
    GIVES("cancelled threads leave nothing open", before, descriptors());
}

static volatile int ticks;
static void on_tick(int number) { (void)number, ticks++; }

/* Signals whose handlers do not restart calls; the real functions go on by themselves. */
static void under_signals(void) {
    struct sigaction action = {.sa_handler = on_tick};
    struct itimerval often = {{0, 300}, {0, 300}}, never = {{0, 0}, {0, 0}};
    int good = 0;
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    for (int i = 0; i < 200; i++)
        good += res_query("mail.test", ns_c_in, ns_t_mx, answer, sizeof answer) > 0;
    setitimer(ITIMER_REAL, &never, NULL);
    GIVES("asked under signals", 200, good);
    check("there were signals", ticks > 0, "none");
    signal(SIGALRM, SIG_DFL), alarm(WATCHDOG_SECONDS);
}

/* getaddrinfo_a: addresses, failures, waiting, and both ways to be told. */
static volatile int told;

static void on_signal(int number) { (void)number, told++; }
static void on_thread(union sigval value) { told += value.sival_int; }

static struct gaicb *request(const char *host, const char *service) {
    static struct gaicb all[8];
    static int used;
    struct gaicb *one = &all[used++];
    one->ar_name = host, one->ar_service = service;
    return one;
}

static void settle(struct gaicb **list, int count) {
    const struct timespec moment = {1, 0};
    for (int i = 0; i < count; i++)
        while (gai_error(list[i]) == EAI_INPROGRESS)
            gai_suspend((const struct gaicb *const *)&list[i], 1, &moment);
}

static void asynchronous(void) {
    struct gaicb *list[] = {request("both.test", "80"), NULL, request("127.0.0.1", "21"), request("both.test", "no-such-service")};
    GIVES("getaddrinfo_a, waiting", 0, getaddrinfo_a(GAI_WAIT, list, 4, NULL));
    GIVES("a name", 0, gai_error(list[0]));
    check("has an address", list[0]->ar_result && list[0]->ar_result->ai_addr, "none");
    GIVES("a literal", 0, gai_error(list[2]));
    GIVES("no such service", EAI_SERVICE, gai_error(list[3]));
    GIVES("nothing is in progress", EAI_ALLDONE, gai_suspend((const struct gaicb *const *)list, 1, NULL));
    GIVES("nothing can be cancelled", EAI_ALLDONE, gai_cancel(list[0]));
    if (list[0]->ar_result)
        freeaddrinfo(list[0]->ar_result);

    signal(SIGUSR1, on_signal);
    struct gaicb *second[] = {request("both.test", NULL)};
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    GIVES("getaddrinfo_a with a signal", 0, getaddrinfo_a(GAI_NOWAIT, second, 1, &event));
    settle(second, 1);
    for (int i = 0; i < 5000 && !told; i++)
        usleep(1000);
    GIVES("the signal comes", 1, told);
    GIVES("a name, not waiting", 0, gai_error(second[0]));

    struct gaicb *third[] = {request("127.0.0.2", NULL)};
    struct sigevent thread = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = on_thread, .sigev_value.sival_int = 10};
    GIVES("getaddrinfo_a with a thread", 0, getaddrinfo_a(GAI_NOWAIT, third, 1, &thread));
    settle(third, 1);
    for (int i = 0; i < 5000 && told == 1; i++)
        usleep(1000);
    GIVES("the thread runs", 11, told);
    struct gaicb *fourth[] = {request("127.0.0.3", NULL)};
    GIVES("getaddrinfo_a without being told", 0, getaddrinfo_a(GAI_NOWAIT, fourth, 1, NULL));
    settle(fourth, 1);
    GIVES("is done", 0, gai_error(fourth[0]));
    FAILS("another mode", EINVAL, getaddrinfo_a(7, fourth, 1, NULL) == EAI_SYSTEM ? -1 : 0);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    queries();
    large();
    with_a_state();
    threads();
    under_signals();
    asynchronous();
    return done();
}
