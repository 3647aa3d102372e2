/*
 * Names in other scripts than ASCII (AI_IDN, AI_CANONIDN, NI_IDN): what is looked up, what is shown, what is refused.
 *
 * The far side knows xn--bcher-kva.test and xn--fa-hia.test. `latin1=DIRECTORY` holds a locale whose charset is
 * ISO-8859-1.
 */
#include "check.h"
#include <locale.h>
#include <netdb.h>

/* Those of GNU's netdb.h are in no order of their own; the text must not depend on the locale. */
static const char *name_of(int error) {
    return error == 0                ? "0"
           : error == EAI_NONAME     ? "EAI_NONAME"
           : error == EAI_IDN_ENCODE ? "EAI_IDN_ENCODE"
                                     : "another error";
}

/* What an attempt with these flags comes to; the canonical name in `canonical`, "-" when there is none. */
static int look_up(const char *node, int flags, struct sockaddr_in *at, char canonical[256]) {
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM, .ai_flags = flags}, *list = NULL;
    int error = getaddrinfo(node, "80", &hints, &list);
    strcpy(canonical, "-");
    if (error)
        return error;
    memcpy(at, list->ai_addr, sizeof *at);
    if (list->ai_canonname)
        snprintf(canonical, 256, "%s", list->ai_canonname);
    freeaddrinfo(list);
    return 0;
}

/* The name with these flags means what `expected` means without any, and its canonical name is `canonical`. */
static void means(const char *what, const char *node, int flags, const char *expected, const char *canonical) {
    struct sockaddr_in one = {0}, other = {0};
    char shown[256], none[256];
    int error = look_up(node, flags, &one, shown), wrong = look_up(expected, 0, &other, none);
    check(what, !error && !wrong && one.sin_addr.s_addr == other.sin_addr.s_addr, "%s, and %s", name_of(error), name_of(wrong));
    check(what, !strcmp(shown, canonical), "its canonical name is %s", shown);
}

static void refused(const char *what, int expected, const char *node, int flags) {
    struct sockaddr_in at;
    char canonical[256];
    int error = look_up(node, flags, &at, canonical);
    check(what, error == expected, "%s", name_of(error));
}

static void shown(const char *what, const char *node, int flags, const char *expected) {
    struct sockaddr_in at = {0};
    char text[256], canonical[256];
    check(what, look_up(node, 0, &at, canonical) == 0, "it is not known");
    int error = getnameinfo((void *)&at, sizeof at, text, sizeof text, NULL, 0, flags);
    check(what, !error && !strcmp(text, expected), "%s, %s", name_of(error), text);
}

static const char *const ASCII = "xn--bcher-kva.test";

static void in_utf8(void) {
    means("AI_IDN", "bücher.test", AI_IDN, ASCII, "-");
    means("AI_IDN, capital letters", "BÜCHER.test", AI_IDN, ASCII, "-");
    means("AI_IDN, a combining accent", "bu\xcc\x88"
                                       "cher.test",
          AI_IDN, ASCII, "-");
    means("AI_IDN, an ideographic full stop", "bücher。test", AI_IDN, ASCII, "-");
    means("AI_IDN, a letter that IDNA2003 mapped", "faß.test", AI_IDN, "xn--fa-hia.test", "-");
    means("AI_IDN, in ASCII already", ASCII, AI_IDN, ASCII, "-");
    means("AI_IDN, fullwidth digits", "１９２.0.2.1", AI_IDN, "192.0.2.1", "-");
    means("AI_IDN and AI_CANONNAME", "bücher.test", AI_IDN | AI_CANONNAME, ASCII, ASCII);
    means("AI_IDN and AI_CANONIDN", "bücher.test", AI_IDN | AI_CANONNAME | AI_CANONIDN, ASCII, "bücher.test");
    means("AI_CANONIDN alone", ASCII, AI_CANONNAME | AI_CANONIDN, ASCII, "bücher.test");
    means("AI_CANONIDN without AI_CANONNAME", ASCII, AI_CANONIDN, ASCII, "-");
    refused("AI_IDN, not in the locale's charset", EAI_IDN_ENCODE, "b\xfc"
                                                                  "cher.test",
            AI_IDN);
    refused("AI_IDN, a backslash", EAI_IDN_ENCODE, "bü\\cher.test", AI_IDN);
    refused("AI_IDN, a symbol", EAI_IDN_ENCODE, "☃.test", AI_IDN);
    refused("AI_IDN, a hyphen in front", EAI_IDN_ENCODE, "-ü.test", AI_IDN);
    refused("AI_IDN, a label too long", EAI_IDN_ENCODE, "ü123456789012345678901234567890123456789012345678901234567890123.test", AI_IDN);
    refused("AI_IDN, an empty label", EAI_NONAME, "ü..test", AI_IDN);
    refused("AI_IDN and AI_NUMERICHOST", EAI_NONAME, "bücher.test", AI_IDN | AI_NUMERICHOST);
    shown("no NI_IDN", ASCII, 0, ASCII);
    shown("NI_IDN", ASCII, NI_IDN, "bücher.test");
    shown("NI_IDN and NI_NAMEREQD", ASCII, NI_IDN | NI_NAMEREQD, "bücher.test");

    struct sockaddr_in at = {0};
    char text[256], canonical[256];
    look_up(ASCII, 0, &at, canonical);
    GIVES("NI_IDN with room for no more than the name", 0, getnameinfo((void *)&at, sizeof at, text, sizeof "bücher.test", NULL, 0, NI_IDN));
    GIVES("NI_IDN with less room", EAI_OVERFLOW, getnameinfo((void *)&at, sizeof at, text, sizeof "bücher.test" - 1, NULL, 0, NI_IDN));
}

static void in_ascii(void) {
    refused("AI_IDN in a locale of ASCII", EAI_IDN_ENCODE, "bücher.test", AI_IDN);
    means("AI_IDN in a locale of ASCII, an ASCII name", ASCII, AI_IDN, ASCII, "-");
    means("AI_CANONIDN in a locale of ASCII", ASCII, AI_CANONNAME | AI_CANONIDN, ASCII, ASCII);
    shown("NI_IDN in a locale of ASCII", ASCII, NI_IDN, ASCII);
}

static void in_latin1(void) {
    const char *latin1 = "b\xfc"
                         "cher.test";
    means("AI_IDN in ISO-8859-1", latin1, AI_IDN, ASCII, "-");
    means("AI_IDN and AI_CANONIDN in ISO-8859-1", latin1, AI_IDN | AI_CANONNAME | AI_CANONIDN, ASCII, latin1);
    shown("NI_IDN in ISO-8859-1", ASCII, NI_IDN, latin1);
}

static void set(const char *locale) {
    if (!setlocale(LC_ALL, locale))
        give_up("there is no locale %s", locale);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    set("C");
    in_ascii();
    set("C.UTF-8");
    in_utf8();
    setenv("LOCPATH", argument("latin1"), 1);
    set("latin1");
    in_latin1();
    return done();
}
