/* Reads and writes of the usual kind: checked, entered into the table, and submitted. */
#include <limits.h>

#include "table.h"

/* What librbd is asked for. */
struct request {
    int kind; /* AIORBD_READ or AIORBD_WRITE */
    uint64_t offset;
    size_t length;
    PyObject *data; /* bytes: to be filled, or written */
};

bool aiorbd_is_open(const Table *self, const Owner *owner, unsigned long long offset, unsigned long long length)
{
    return owner->usable && owner->image && !self->dead && offset <= owner->size && length <= owner->size - offset;
}

/* Without the GIL: librbd copies what is written, and may wait where it is configured to. No signal handler runs. */
static int submit(const Owner *owner, int64_t token, const struct request *request)
{
    aiorbd_image *image = (aiorbd_image *)(uintptr_t)owner->image;
    char *buffer = PyBytes_AsString(request->data);
    int code;
    Py_BEGIN_ALLOW_THREADS
    code = aiorbd_pass_submit(image, token, request->kind, request->offset, request->length, buffer);
    Py_END_ALLOW_THREADS
    return code;
}

/* Register, submit, undo what C refused. Returns the entry, NULL for an error, or None: nothing was
 * submitted, and the usual way is to find out why. Steals the request's data. */
static PyObject *begin(Table *self, Owner *owner, const struct request *request)
{
    PyObject *token = PyIter_Next(self->numbers), *result = NULL, *entry = NULL;
    if (token == NULL)
        goto end;
    entry = PyType_GenericAlloc((PyTypeObject *)self->plain, 0);
    if (entry == NULL)
        goto end;
    ((Entry *)entry)->owner = Py_NewRef(&owner->ob_base);
    ((Entry *)entry)->keep = Py_NewRef(request->data);
    ((Entry *)entry)->table = Py_NewRef(&self->ob_base);
    /* librbd may call back, and be done, before it returns: the table comes first. */
    if (PyDict_SetItem(self->operations, token, entry) < 0)
        goto end;
    owner->in_flight++;
    /* Anybody's code may have run since it was looked at, in a finalizer or a signal handler, and closed the image. */
    if (aiorbd_is_open(self, owner, request->offset, request->length) &&
        submit(owner, PyLong_AsLongLong(token), request) == 0) {
        result = Py_NewRef(entry);
    } else {
        owner->in_flight--;
        if (PyDict_DelItem(self->operations, token) == 0)
            result = Py_NewRef(Py_None);
    }
end:
    Py_XDECREF(token);
    Py_XDECREF(entry);
    Py_DECREF(request->data);
    return result;
}

bool aiorbd_to_number(PyObject *object, long long *number)
{
    int overflow = 0;
    if (!PyLong_Check(object))
        return false;
    *number = PyLong_AsLongLongAndOverflow(object, &overflow);
    return !overflow && *number >= 0;
}

/* Whether this call is one of those that are walked most: 1, or 0; -1 with an error. */
static int is_usual(const Table *self, const Owner *owner, long long offset, long long length)
{
    PyObject *current;
    int answer;
    if (length <= 0 || length > INT_MAX || PyList_Size(self->observers) != 0 ||
        !aiorbd_is_open(self, owner, (unsigned long long)offset, (unsigned long long)length))
        return 0;
    if (PyThread_get_thread_ident() != self->thread)
        return 0;
    current = PyObject_CallNoArgs(self->is_current);
    if (current == NULL)
        return -1;
    answer = PyObject_IsTrue(current);
    Py_DECREF(current);
    return answer;
}

static bool are_arguments(PyObject *const *arguments, Py_ssize_t count)
{
    if (count == 3 && PyObject_TypeCheck(arguments[0], aiorbd_owner_type))
        return true;
    PyErr_SetString(PyExc_TypeError, "takes an owner and two arguments");
    return false;
}

PyObject *aiorbd_table_read(PyObject *object, PyObject *const *arguments, Py_ssize_t count)
{
    Table *self = (Table *)object;
    Owner *owner;
    long long offset, length;
    struct request request = {.kind = AIORBD_READ};
    int usual;
    if (!are_arguments(arguments, count))
        return NULL;
    owner = (Owner *)arguments[0];
    if (!aiorbd_to_number(arguments[1], &offset) || !aiorbd_to_number(arguments[2], &length))
        Py_RETURN_NONE;
    usual = is_usual(self, owner, offset, length);
    if (usual <= 0)
        return usual < 0 ? NULL : Py_NewRef(Py_None);
    /* Not cleared: librbd fills the very object that is returned, all of it before anybody sees it. */
    request.data = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)length);
    if (request.data == NULL)
        return NULL;
    request.offset = (uint64_t)offset;
    request.length = (size_t)length;
    return begin(self, owner, &request);
}

PyObject *aiorbd_table_write(PyObject *object, PyObject *const *arguments, Py_ssize_t count)
{
    Table *self = (Table *)object;
    Owner *owner;
    long long offset;
    struct request request = {.kind = AIORBD_WRITE};
    int usual;
    if (!are_arguments(arguments, count))
        return NULL;
    owner = (Owner *)arguments[0];
    request.data = arguments[1];
    if (!PyBytes_CheckExact(request.data) || !aiorbd_to_number(arguments[2], &offset))
        Py_RETURN_NONE;
    usual = owner->strays || PyBytes_Size(request.data) > LARGEST_COPY
                ? 0
                : is_usual(self, owner, offset, PyBytes_Size(request.data));
    if (usual <= 0)
        return usual < 0 ? NULL : Py_NewRef(Py_None);
    Py_INCREF(request.data);
    request.offset = (uint64_t)offset;
    request.length = (size_t)PyBytes_Size(request.data);
    return begin(self, owner, &request);
}
