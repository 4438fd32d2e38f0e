/* Finding the functions of librbd and librados. */
#include <dlfcn.h>
#include <string.h>

#include "internal.h"

struct aiorbd_librbd aiorbd_librbd;
struct aiorbd_librados aiorbd_librados;

static char message[512];

/* dlsym() returns an object pointer, and ISO C converts none to a function pointer: copy the bits. */
static bool find(void *library, const char *name, void *slot)
{
    void *address = library == NULL ? NULL : dlsym(library, name);
    if (address == NULL) {
        if (message[0] == '\0')
            strncpy(message, dlerror(), sizeof message - 1);
        return false;
    }
    memcpy(slot, &address, sizeof address);
    return true;
}

/* Any thread, once. The libraries stay loaded: their threads may call back until the process ends. */
const char *aiorbd_load(const char *librbd, const char *librados)
{
    void *library = dlopen(librbd, RTLD_NOW | RTLD_LOCAL);
    message[0] = '\0';
#define AIORBD_FIND(result, name, arguments)                                                                           \
    if (!find(library, #name, &AIORBD_TABLE.name))                                                                     \
        return message;
#define AIORBD_TABLE aiorbd_librbd
    AIORBD_LIBRBD_SYMBOLS(AIORBD_FIND)
#define AIORBD_TRY(result, name, arguments) find(library, #name, &AIORBD_TABLE.name);
    AIORBD_LATER_LIBRBD_SYMBOLS(AIORBD_TRY)
#undef AIORBD_TRY
    message[0] = '\0';
#undef AIORBD_TABLE
    library = dlopen(librados, RTLD_NOW | RTLD_LOCAL);
#define AIORBD_TABLE aiorbd_librados
    AIORBD_LIBRADOS_SYMBOLS(AIORBD_FIND)
#undef AIORBD_TABLE
#undef AIORBD_FIND
    return NULL;
}
