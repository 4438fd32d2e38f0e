/* Requests: checked, entered into the table, counted, and submitted; or undone when C refuses them. */
#include <limits.h>

#include "table.h"

/* Whether the range is one of an image that may be used. */
static bool is_open(const Table *self, const ImageOwner *owner, unsigned long long offset, unsigned long long length)
{
    return owner->owner.usable && owner->image && !self->dead && offset <= owner->size &&
           length <= owner->size - offset;
}

/* Without the GIL: librbd copies the data of a write, and may wait if it is configured so. No signal handler runs. */
static int submit(const ImageOwner *owner, int64_t token, const aiorbd_request *request, aiorbd_lane *lane)
{
    aiorbd_image *image = (aiorbd_image *)(uintptr_t)owner->image;
    int code;
    Py_BEGIN_ALLOW_THREADS code =
        lane == NULL ? aiorbd_submit_in_pass(image, token, request) : aiorbd_lane_submit(lane, token, request);
    Py_END_ALLOW_THREADS return code;
}

/* Register, count, submit; undo all of it after a refusal. Returns -1 for a Python error; else `code` is C's answer. */
static int begin(Table *self, Entry *entry, const aiorbd_request *request, aiorbd_lane *lane, int *code)
{
    ImageOwner *image = (ImageOwner *)Py_NewRef(entry->owner);
    PyObject *token = PyIter_Next(self->numbers);
    int result = -1;
    /* librbd may call back, and be done, before the submit returns: the table comes first. */
    if (token == NULL || PyDict_SetItem(self->operations, token, &entry->ob_base) < 0)
        goto end;
    image->owner.in_flight++;
    entry->number = PyLong_AsLongLong(token);
    /* Anybody's code may have run since the image was looked at, in a finalizer or a signal handler, and closed it. */
    *code = is_open(self, image, request->offset, request->length) ? submit(image, entry->number, request, lane)
                                                                   : AIORBD_STALE;
    result = 0;
    if (*code) {
        image->owner.in_flight--;
        entry->number = 0;
        result = PyDict_DelItem(self->operations, token);
    }
end:
    Py_XDECREF(token);
    Py_DECREF(&image->owner.ob_base);
    return result;
}

/* Whether an object is an integer that fits into C. For any other object, the usual way raises the error. */
static bool to_number(PyObject *object, long long *number)
{
    int overflow = 0;
    if (!PyLong_Check(object))
        return false;
    *number = PyLong_AsLongLongAndOverflow(object, &overflow);
    return !overflow && *number >= 0;
}

/* Whether this call is one of those that are walked most: 1, or 0; -1 with an error. */
static int is_usual(const Table *self, const ImageOwner *owner, long long offset, long long length)
{
    PyObject *current;
    int answer;
    if (length <= 0 || length > INT_MAX || PyList_Size(self->observers) != 0 ||
        !is_open(self, owner, (unsigned long long)offset, (unsigned long long)length))
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

/* Begin a read or write of the usual kind. Returns the entry, NULL for an error, or None: nothing was submitted, and
 * the usual way is to find out why. A read gets new bytes, which are not cleared: librbd fills the very object that
 * is returned, all of it before any code sees the object. */
static PyObject *begin_usual(Table *self, ImageOwner *owner, int kind, long long offset, long long length,
                             PyObject *data)
{
    aiorbd_request request = {.kind = kind, .offset = (uint64_t)offset, .length = (uint64_t)length};
    int code = 0, usual = is_usual(self, owner, offset, length);
    PyObject *object;
    Entry *entry;
    if (usual <= 0)
        return usual < 0 ? NULL : Py_NewRef(Py_None);
    object = PyType_GenericAlloc((PyTypeObject *)self->plain, 0);
    if (object == NULL)
        return NULL;
    entry = (Entry *)object;
    entry->owner = Py_NewRef(&owner->owner.ob_base);
    entry->table = Py_NewRef(&self->ob_base);
    entry->keep = data == NULL ? PyBytes_FromStringAndSize(NULL, (Py_ssize_t)length) : Py_NewRef(data);
    if (entry->keep != NULL) {
        request.buffer = PyBytes_AsString(entry->keep);
        if (begin(self, entry, &request, NULL, &code) == 0 && code == 0)
            return object;
    }
    Py_DECREF(object);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

static bool are_arguments(PyObject *const *arguments, Py_ssize_t count)
{
    if (count == 3 && PyObject_TypeCheck(arguments[0], aiorbd_image_owner_type))
        return true;
    PyErr_SetString(PyExc_TypeError, "takes an image's owner and two arguments");
    return false;
}

/* read(owner, offset, length): the entry, or None. */
PyObject *aiorbd_table_read(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    long long offset, length;
    if (!are_arguments(arguments, count))
        return NULL;
    if (!to_number(arguments[1], &offset) || !to_number(arguments[2], &length))
        Py_RETURN_NONE;
    return begin_usual((Table *)self, (ImageOwner *)arguments[0], AIORBD_READ, offset, length, NULL);
}

/* write(owner, data, offset): the entry, or None. */
PyObject *aiorbd_table_write(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    PyObject *data;
    long long offset;
    if (!are_arguments(arguments, count))
        return NULL;
    data = arguments[1];
    if (!PyBytes_CheckExact(data) || !to_number(arguments[2], &offset) || PyBytes_Size(data) > LARGEST_COPY ||
        ((ImageOwner *)arguments[0])->strays)
        Py_RETURN_NONE;
    return begin_usual((Table *)self, (ImageOwner *)arguments[0], AIORBD_WRITE, offset, PyBytes_Size(data), data);
}

/* Where a buffer is: bytes, an address, or None for a request without one. -1 with an error. */
static int to_buffer(PyObject *object, void **buffer)
{
    if (object == Py_None)
        *buffer = NULL;
    else if (PyBytes_Check(object))
        *buffer = PyBytes_AsString(object);
    else
        *buffer = PyLong_AsVoidPtr(object);
    return PyErr_Occurred() ? -1 : 0;
}

/* Make the bytes of a read that has no buffer; the entry keeps them. -1 with an error. */
static int make_buffer(Entry *entry, aiorbd_request *request)
{
    PyObject *data = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)request->length), *before = entry->keep;
    if (data == NULL)
        return -1;
    request->buffer = PyBytes_AsString(data);
    entry->keep = data;
    Py_XDECREF(before);
    return 0;
}

/* submit(entry, kind, offset, length, buffer, op_flags, extra, lane): 0, or the reason of a refusal. The caller has
 * checked the range, keeps the buffer in the entry, and runs in a task of the loop. `lane` is an address, or 0. */
PyObject *aiorbd_table_submit(PyObject *object, PyObject *arguments)
{
    aiorbd_request request;
    unsigned long long offset, length, lane;
    PyObject *entry, *buffer;
    long long extra;
    int code;
    if (!PyArg_ParseTuple(arguments, "O!iKKOiLK", aiorbd_entry_type, &entry, &request.kind, &offset, &length, &buffer,
                          &request.op_flags, &extra, &lane) ||
        to_buffer(buffer, &request.buffer) < 0)
        return NULL;
    if (((Entry *)entry)->owner == NULL || !PyObject_TypeCheck(((Entry *)entry)->owner, aiorbd_image_owner_type)) {
        PyErr_SetString(PyExc_TypeError, "takes an entry of an image's owner");
        return NULL;
    }
    request.offset = offset;
    request.length = length;
    request.extra = extra;
    if (request.kind == AIORBD_READ && buffer == Py_None && make_buffer((Entry *)entry, &request) < 0)
        return NULL;
    code = 0;
    if (begin((Table *)object, (Entry *)entry, &request, (aiorbd_lane *)(uintptr_t)lane, &code) < 0)
        return NULL;
    return PyLong_FromLong(code);
}
