/* Finding librbd's functions. */
#include <dlfcn.h>
#include <string.h>

#include "internal.h"

struct aiorbd_symbols aiorbd_librbd;

/* dlsym() returns an object pointer, and ISO C converts none to a function pointer: copy the bits. */
static const char *find(void *library, const char *name, void *slot)
{
    void *address = dlsym(library, name);
    if (address == NULL)
        return dlerror();
    memcpy(slot, &address, sizeof address);
    return NULL;
}

/* Any thread, once. The library stays loaded: its threads may call back until the process ends. */
const char *aiorbd_load(const char *librbd)
{
    static char message[512];
    const char *error;
    void *library = dlopen(librbd, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        strncpy(message, dlerror(), sizeof message - 1);
        return message;
    }
#define AIORBD_FIND(result, name, arguments)                                                       \
    if ((error = find(library, #name, &aiorbd_librbd.name)) != NULL) {                             \
        strncpy(message, error, sizeof message - 1);                                               \
        return message;                                                                            \
    }
    AIORBD_SYMBOLS(AIORBD_FIND)
#undef AIORBD_FIND
    return NULL;
}
