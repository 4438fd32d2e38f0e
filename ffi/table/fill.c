/*
 * A stream's reads are cut from its extents and begun here, while all is of the usual kind. What is not stays where it
 * was, for Python's `aiorbd/_image/read_stream.py` to go on from there. Signal handlers run in the user's iterator and where the
 * lane enters or leaves the table, not between submitting a read and noting it: what is left of an extent, and a
 * read, are in one place.
 */
#include <limits.h>

#include "table.h"

static PyObject *name_enter, *name_leave, *name_append, *kind_read;

static int call_bridge(Requests *self, PyObject *name)
{
    return aiorbd_done(PyObject_CallMethodObjArgs(self->bridge, name, self, NULL));
}

/* Without the GIL: librbd may wait where it is configured to. No signal handler runs. */
static int submit(const Requests *self, int64_t number, uint64_t offset, size_t length, PyObject *data, int flags)
{
    aiorbd_lane *lane = (aiorbd_lane *)(uintptr_t)self->lane;
    char *buffer = PyBytes_AsString(data);
    int code;
    Py_BEGIN_ALLOW_THREADS
    code = aiorbd_lane_submit(lane, number, AIORBD_READ, offset, length, buffer, flags);
    Py_END_ALLOW_THREADS
    return code;
}

/* Undo what C refused, or could not be entered. An error that is set stays. */
static int forget(Requests *self, PyObject *number)
{
    PyObject *type, *error, *traceback;
    int code;
    PyErr_Fetch(&type, &error, &traceback);
    code = PyDict_Contains(self->running, number);
    if (code > 0 && (code = PyDict_DelItem(self->running, number)) == 0) {
        self->counted--;
        ((Owner *)self->entry.owner)->in_flight--;
    }
    /* While the lane has yet to count what is over, it stays. */
    if (code == 0 && PyDict_Size(self->running) == 0 && self->counted == 0)
        code = call_bridge(self, name_leave);
    if (type == NULL)
        return code < 0 ? -1 : 0;
    PyErr_Clear();
    PyErr_Restore(type, error, traceback);
    return -1;
}

/* What `running` holds of a read: its kind, where and how much, a buffer, flags. The buffer is not cleared: it is handed
 * out only when librbd has filled all of it. */
static PyObject *make_request(const Reads *self, long long offset, long long length)
{
    PyObject *request = NULL, *data = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)length);
    PyObject *place = PyLong_FromLongLong(offset), *size = PyLong_FromLongLong(length);
    PyObject *flags = PyLong_FromLong(self->op_flags);
    if (data != NULL && place != NULL && size != NULL && flags != NULL)
        request = PyTuple_Pack(5, kind_read, place, size, data, flags);
    Py_XDECREF(data);
    Py_XDECREF(place);
    Py_XDECREF(size);
    Py_XDECREF(flags);
    return request;
}

/* Whether anything may be begun without a closer look. */
static bool may_begin(const Requests *lane, long long offset, long long length)
{
    const Table *table = (const Table *)lane->bridge;
    const Owner *owner = (const Owner *)lane->entry.owner;
    return lane->lane && !lane->entry.abandoned && PyList_Size(table->observers) == 0 &&
           aiorbd_is_open(table, owner, (unsigned long long)offset, (unsigned long long)length);
}

/* Begin the next read of the extent that is cut: 1. 0: nothing was submitted, and the usual way is to find out why. */
static int begin(Reads *self, Requests *lane, long long offset, long long length)
{
    PyObject *number = PyIter_Next(((Table *)lane->bridge)->numbers), *request;
    int code = -1;
    if (number == NULL)
        return -1;
    request = make_request(self, offset, length);
    if (request == NULL)
        goto end;
    /* Entering runs Python, after which all may be different. librbd may be done before the submit returns. */
    if ((PyDict_Size(lane->running) > 0 || call_bridge(lane, name_enter) == 0) && may_begin(lane, offset, length) &&
        PyDict_SetItem(lane->running, number, request) == 0) {
        lane->counted++;
        ((Owner *)lane->entry.owner)->in_flight++;
        if (submit(lane, PyLong_AsLongLong(number), (uint64_t)offset, (size_t)length, PyTuple_GetItem(request, 3),
                   self->op_flags) == 0) {
            self->cut = offset + length;
            code = self->ordered && aiorbd_done(PyObject_CallMethodObjArgs(self->row, name_append, number, NULL)) < 0
                       ? -1
                       : 1;
            goto end;
        }
    }
    code = forget(lane, number);
end:
    Py_DECREF(number);
    Py_XDECREF(request);
    return code;
}

/* Ask the iterator: 1, and what it gave is in `extent`. 0: it has no more. */
static int fetch(Reads *self)
{
    PyObject *extent, *before = self->extent;
    self->fetching = 1;
    extent = PyIter_Next(self->extents);
    if (extent == NULL && PyErr_Occurred())
        return -1;
    self->fetching = 0;
    if (extent == NULL) {
        self->exhausted = 1;
        return 0;
    }
    if (extent == Py_None) {
        PyErr_SetString(PyExc_TypeError, "an extent is a pair of offset and length, or an Extent, not None");
        Py_DECREF(extent);
        return -1;
    }
    self->extent = extent;
    Py_XDECREF(before);
    return 1;
}

/* Go on to the next extent: 1. 0: there is none, or Python has to look at it. */
static int next_extent(Reads *self, const Requests *lane)
{
    PyObject *extent;
    long long offset, length;
    if (self->extent == NULL || self->extent == Py_None) {
        int code = self->exhausted || self->extents == Py_None ? 0 : fetch(self);
        if (code <= 0)
            return code;
    }
    extent = self->extent;
    if (!PyTuple_CheckExact(extent) || PyTuple_Size(extent) != 2 ||
        !aiorbd_to_number(PyTuple_GetItem(extent, 0), &offset) ||
        !aiorbd_to_number(PyTuple_GetItem(extent, 1), &length) || length == 0 || length > LLONG_MAX - offset ||
        !may_begin(lane, offset, length))
        return 0;
    self->cut = offset;
    self->end = offset + length;
    self->extent = Py_NewRef(Py_None);
    Py_DECREF(extent);
    return 1;
}

static bool is_complete(const Requests *lane)
{
    return lane != NULL && lane->running != NULL && lane->bridge != NULL && lane->entry.owner != NULL &&
           PyObject_TypeCheck(lane->bridge, aiorbd_table_type) &&
           PyObject_TypeCheck(lane->entry.owner, aiorbd_owner_type);
}

/* fill(most): begin so many reads; return how many were begun. When those are fewer, what is next is unusual, or there is
 * nothing. */
PyObject *aiorbd_reads_fill(PyObject *object, PyObject *argument)
{
    Reads *self = (Reads *)object;
    Requests *lane = (Requests *)self->lane;
    long long most, begun;
    int code = 1;
    if (!aiorbd_to_number(argument, &most) || !is_complete(lane)) {
        PyErr_SetString(PyExc_TypeError, "takes a number, when the lane has a bridge and an owner");
        return NULL;
    }
    if (self->filling) {
        PyErr_SetString(PyExc_RuntimeError, "the iterator of a stream's extents waits for that stream");
        return NULL;
    }
    self->filling = 1;
    self->fetching = 0;
    for (begun = 0; begun < most && code > 0; begun += code > 0) {
        if (self->cut >= self->end)
            code = next_extent(self, lane);
        if (code > 0) {
            long long left = self->end - self->cut, length = self->chunk_size - self->cut % self->chunk_size;
            code = begin(self, lane, self->cut, left < length ? left : length);
        }
    }
    self->filling = 0;
    return code < 0 ? NULL : PyLong_FromLongLong(begun);
}

/* Once, when the module is made. */
int aiorbd_fill_prepare(void)
{
    if (kind_read == NULL && (kind_read = PyLong_FromLong(AIORBD_READ)) == NULL)
        return -1;
    return aiorbd_intern(&name_enter, "enter") < 0 || aiorbd_intern(&name_leave, "leave") < 0 ||
                   aiorbd_intern(&name_append, "append") < 0
               ? -1
               : 0;
}
