/*
 * What a stream has read is made into chunks here, and handed out in order or as it comes; what failed stays where it
 * is, for Python's `aiorbd/_image/read_stream.py` to end the stream with. No signal handler runs in between: each chunk is in
 * one place.
 */
#include <limits.h>

#include "table.h"

PyTypeObject *aiorbd_reads_type;
static PyObject *name_append;

/* -- handing out ---------------------------------------------------------------------------------- */

/* A read that librbd has filled, as a chunk. NULL without an error: it failed. */
static PyObject *to_chunk(const Reads *self, PyObject *pair)
{
    newfunc make = (newfunc)PyType_GetSlot(&PyTuple_Type, Py_tp_new);
    PyObject *request = PyTuple_GetItem(pair, 0), *value = PyTuple_GetItem(pair, 1);
    PyObject *length = request == NULL ? NULL : PyTuple_GetItem(request, 2);
    PyObject *plain, *arguments, *chunk;
    if (value == NULL || length == NULL || !PyLong_Check(value) || PyObject_RichCompareBool(value, length, Py_EQ) != 1)
        return NULL;
    plain = PyTuple_GetSlice(request, 1, 4);
    arguments = plain == NULL ? NULL : PyTuple_Pack(1, plain);
    chunk = arguments == NULL ? NULL : make((PyTypeObject *)self->chunk, arguments, NULL);
    Py_XDECREF(arguments);
    Py_XDECREF(plain);
    return chunk;
}

/* Move a read that is over to the batch: 1. 0: it is on its way, or, and then it is `failed`, no chunk. */
static int move(Reads *self, PyObject *number, PyObject *batch, PyObject **failed)
{
    PyObject *over = ((Requests *)self->lane)->over, *pair = PyDict_GetItemWithError(over, number), *chunk;
    int code = 0;
    if (pair == NULL)
        return PyErr_Occurred() ? -1 : 0;
    Py_INCREF(pair); /* making an object may collect garbage, whose finalizers may close the stream */
    chunk = to_chunk(self, pair);
    if (chunk == NULL) {
        if (PyErr_Occurred())
            code = -1;
        else
            *failed = Py_NewRef(pair);
    } else if ((code = PyDict_Contains(over, number)) > 0 &&
               (aiorbd_done(PyObject_CallMethodObjArgs(batch, name_append, chunk, NULL)) < 0 ||
                PyDict_DelItem(over, number) < 0)) {
        code = -1;
    }
    Py_XDECREF(chunk);
    Py_DECREF(pair);
    return code;
}

static int move_all(Reads *self, PyObject *batch, PyObject **failed)
{
    PyObject *numbers = PyDict_Keys(((Requests *)self->lane)->over);
    Py_ssize_t index, count = numbers == NULL ? -1 : PyList_Size(numbers);
    int code = numbers == NULL ? -1 : 1;
    for (index = 0; index < count && code > 0; index++)
        code = move(self, PyList_GetItem(numbers, index), batch, failed);
    Py_XDECREF(numbers);
    return code;
}

static int move_row(Reads *self, PyObject *batch, PyObject **failed)
{
    int code = 1;
    while (code > 0) {
        Py_ssize_t size = PyObject_Size(self->row);
        PyObject *first = size > 0 ? PySequence_GetItem(self->row, 0) : NULL;
        if (first == NULL)
            return size == 0 ? 1 : -1;
        if (PyLong_CheckExact(first))
            code = move(self, first, batch, failed);
        else if ((PyObject *)Py_TYPE(first) == self->chunk)
            code = aiorbd_done(PyObject_CallMethodObjArgs(batch, name_append, first, NULL)) < 0 ? -1 : 1;
        else
            code = 0, *failed = Py_NewRef(first);
        Py_DECREF(first);
        if (code > 0 && PySequence_DelItem(self->row, 0) < 0)
            code = -1;
    }
    return code;
}

/* hand_out(batch): move to it what is next; return None, or what failed, which stays where it is: an error, or what was
 * asked with the result. */
static PyObject *reads_hand_out(PyObject *object, PyObject *batch)
{
    Reads *self = (Reads *)object;
    PyObject *failed = NULL;
    int code = 1;
    if (self->lane == NULL || ((Requests *)self->lane)->over == NULL) { /* a cycle is being taken apart */
        PyErr_SetString(PyExc_RuntimeError, "there is nothing left");
        return NULL;
    }
    if (!self->ordered)
        code = move_all(self, batch, &failed);
    if (code > 0)
        code = move_row(self, batch, &failed);
    if (code < 0)
        return NULL;
    return failed != NULL ? failed : Py_NewRef(Py_None);
}

/* -- the type ------------------------------------------------------------------------------------- */

/* Reads(lane, extents, row, chunk, chunk_size, op_flags, ordered) */
static PyObject *reads_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    PyObject *lane, *extents, *row, *chunk;
    long long chunk_size;
    int op_flags, ordered;
    Reads *self;
    (void)keywords;
    if (!PyArg_ParseTuple(arguments, "O!OOO!Lip", aiorbd_requests_type, &lane, &extents, &row, &PyType_Type, &chunk,
                          &chunk_size, &op_flags, &ordered))
        return NULL;
    if ((extents != Py_None && !PyIter_Check(extents)) || !PySequence_Check(row) ||
        !PyType_IsSubtype((PyTypeObject *)chunk, &PyTuple_Type) || chunk_size <= 0 || chunk_size > INT_MAX) {
        PyErr_SetString(PyExc_TypeError, "takes an iterator, a row, a class of tuples, and a size of chunks");
        return NULL;
    }
    self = (Reads *)PyType_GenericAlloc(type, 0);
    if (self == NULL)
        return NULL;
    self->lane = Py_NewRef(lane);
    self->extents = Py_NewRef(extents);
    self->row = Py_NewRef(row);
    self->chunk = Py_NewRef(chunk);
    self->chunk_size = chunk_size;
    self->op_flags = op_flags;
    self->ordered = ordered;
    return (PyObject *)self;
}

static int reads_traverse(PyObject *object, visitproc visit, void *arg)
{
    Reads *self = (Reads *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->lane);
    Py_VISIT(self->extents);
    Py_VISIT(self->extent);
    Py_VISIT(self->row);
    Py_VISIT(self->chunk);
    return 0;
}

static int reads_clear(PyObject *object)
{
    Reads *self = (Reads *)object;
    Py_CLEAR(self->lane);
    Py_CLEAR(self->extents);
    Py_CLEAR(self->extent);
    Py_CLEAR(self->row);
    Py_CLEAR(self->chunk);
    return 0;
}

static void reads_dealloc(PyObject *object)
{
    aiorbd_free(object, reads_clear);
}

static PyMemberDef reads_members[] = {
    {"extent", T_OBJECT, offsetof(Reads, extent), 0, NULL},
    {"row", T_OBJECT, offsetof(Reads, row), READONLY, NULL},
    {"cut", T_LONGLONG, offsetof(Reads, cut), 0, NULL},
    {"end", T_LONGLONG, offsetof(Reads, end), 0, NULL},
    {"chunk_size", T_LONGLONG, offsetof(Reads, chunk_size), READONLY, NULL},
    {"op_flags", T_INT, offsetof(Reads, op_flags), READONLY, NULL},
    {"ordered", T_INT, offsetof(Reads, ordered), READONLY, NULL},
    {"fetching", T_BOOL, offsetof(Reads, fetching), READONLY, NULL},
    {"exhausted", T_BOOL, offsetof(Reads, exhausted), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef reads_methods[] = {
    {"fill", aiorbd_reads_fill, METH_O, NULL},
    {"hand_out", reads_hand_out, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot reads_slots[] = {
    {Py_tp_new, reads_new},
    {Py_tp_traverse, reads_traverse},
    {Py_tp_clear, reads_clear},
    {Py_tp_dealloc, reads_dealloc},
    {Py_tp_members, reads_members},
    {Py_tp_methods, reads_methods},
    {0, NULL},
};

PyType_Spec aiorbd_reads_spec = {
    .name = "aiorbd._native.table.Reads",
    .basicsize = sizeof(Reads),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = reads_slots,
};

/* Once, when the module is made. */
int aiorbd_reads_prepare(void)
{
    return aiorbd_intern(&name_append, "append");
}
