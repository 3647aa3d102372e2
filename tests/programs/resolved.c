/* Prints the IPv4 addresses of a name, by the resolver of the libc that it is linked with. */
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>

int main(int argc, char **argv) {
    struct addrinfo *found, hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
    int failure = argc > 1 ? getaddrinfo(argv[1], NULL, &hints, &found) : EAI_NONAME;
    if (failure) {
        puts(gai_strerror(failure));
        return 1;
    }
    for (struct addrinfo *each = found; each; each = each->ai_next) {
        char text[INET_ADDRSTRLEN];
        puts(inet_ntop(AF_INET, &((struct sockaddr_in *)each->ai_addr)->sin_addr, text, sizeof text));
    }
    freeaddrinfo(found);
    return 0;
}
