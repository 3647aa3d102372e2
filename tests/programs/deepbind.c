/*
 * Runs the program in a module (`module=PATH`) that sees its own libraries before those that were preloaded, as Apache
 * and PHP load theirs. The other arguments are the module's.
 */
#include "check.h"
#include <dlfcn.h>

int main(int argc, char **argv) {
    start(argv);
    void *module = dlopen(argument("module"), RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
    if (!module)
        give_up("dlopen: %s", dlerror());
    int (*run)(int, char **) = (int (*)(int, char **))dlsym(module, "main");
    if (!run)
        give_up("dlsym: %s", dlerror());
    return run(argc, argv);
}
