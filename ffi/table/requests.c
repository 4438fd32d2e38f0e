/*
 * What a lane has on its way, and what came of it: what is over is sorted in bulk, while the table has one
 * entry for them all. Python's `aiorbd/_image/lane.py`, whose class derives from this one, submits.
 */
#include "table.h"

PyTypeObject *aiorbd_requests_type;
static PyObject *name_tell_observers;

/* -- what is over --------------------------------------------------------------------------------- */

static int tell_observers(Requests *self, PyObject *number, int64_t value)
{
    PyObject *result = PyLong_FromLongLong(value);
    int code = -1;
    if (result != NULL)
        code = aiorbd_done(
            PyObject_CallMethodObjArgs((PyObject *)self, name_tell_observers, number, result, NULL));
    Py_XDECREF(result);
    return code;
}

/* Move one request to where it belongs. After an error it is where it was. */
static int sort(Requests *self, PyObject *number, int64_t value)
{
    PyObject *request, *pair;
    int code;
    if (PyDict_Size(self->notes) > 0 && tell_observers(self, number, value) < 0)
        return -1;
    request = PyDict_GetItemWithError(self->running, number);
    if (request == NULL)
        return PyErr_Occurred() ? -1 : 0; /* done before the interrupt */
    if (value == AIORBD_STALE_BY_NOW) {
        code = PyDict_SetItem(self->late, number, request);
    } else {
        pair = Py_BuildValue("(OL)", request, (long long)value);
        code = pair == NULL ? -1 : PyDict_SetItem(self->over, number, pair);
        Py_XDECREF(pair);
    }
    return code < 0 ? -1 : PyDict_DelItem(self->running, number);
}

/* collect(): sort what C says is over. After an error the lane is told once more, and a second call takes up what is
 * left. */
static PyObject *requests_collect(PyObject *object, PyObject *unused)
{
    Requests *self = (Requests *)object;
    (void)unused;
    if (self->running == NULL) /* a cycle is being taken apart */
        Py_RETURN_NONE;
    if (self->next >= self->records[0] && self->lane) {
        self->next = 0;
        aiorbd_lane_take((aiorbd_lane *)(uintptr_t)self->lane, self->records, LANE_BATCH);
    }
    for (; self->next < self->records[0]; self->next++) {
        PyObject *number = PyLong_FromLongLong(self->records[1 + 2 * self->next]);
        int code = number == NULL ? -1 : sort(self, number, self->records[2 + 2 * self->next]);
        Py_XDECREF(number);
        if (code < 0) {
            if (self->lane)
                aiorbd_lane_again((aiorbd_lane *)(uintptr_t)self->lane);
            return NULL;
        }
    }
    Py_RETURN_NONE;
}

/* -- the type ------------------------------------------------------------------------------------- */

static PyObject *requests_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    Requests *self = (Requests *)PyType_GenericAlloc(type, 0);
    (void)arguments;
    (void)keywords;
    if (self == NULL)
        return NULL;
    self->running = PyDict_New();
    self->over = PyDict_New();
    self->late = PyDict_New();
    self->notes = PyDict_New();
    if (self->running == NULL || self->over == NULL || self->late == NULL || self->notes == NULL)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static int requests_traverse(PyObject *object, visitproc visit, void *arg)
{
    Requests *self = (Requests *)object;
    Py_VISIT(self->bridge);
    Py_VISIT(self->running);
    Py_VISIT(self->over);
    Py_VISIT(self->late);
    Py_VISIT(self->notes);
    return aiorbd_entry_traverse(object, visit, arg);
}

static int requests_clear(PyObject *object)
{
    Requests *self = (Requests *)object;
    Py_CLEAR(self->bridge);
    Py_CLEAR(self->running);
    Py_CLEAR(self->over);
    Py_CLEAR(self->late);
    Py_CLEAR(self->notes);
    return aiorbd_entry_clear(object);
}

static void requests_dealloc(PyObject *object)
{
    aiorbd_free(object, requests_clear);
}

static PyMemberDef requests_members[] = {
    {"bridge", T_OBJECT, offsetof(Requests, bridge), 0, NULL},
    {"running", T_OBJECT, offsetof(Requests, running), READONLY, NULL},
    {"over", T_OBJECT, offsetof(Requests, over), 0, NULL},
    {"late", T_OBJECT, offsetof(Requests, late), READONLY, NULL},
    {"notes", T_OBJECT, offsetof(Requests, notes), READONLY, NULL},
    {"lane_address", T_ULONGLONG, offsetof(Requests, lane), 0, NULL},
    {"counted", T_PYSSIZET, offsetof(Requests, counted), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef requests_methods[] = {
    {"collect", requests_collect, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot requests_slots[] = {
    {Py_tp_new, requests_new},
    {Py_tp_traverse, requests_traverse},
    {Py_tp_clear, requests_clear},
    {Py_tp_dealloc, requests_dealloc},
    {Py_tp_members, requests_members},
    {Py_tp_methods, requests_methods},
    {0, NULL},
};

PyType_Spec aiorbd_requests_spec = {
    .name = "aiorbd._native.table.Requests",
    .basicsize = sizeof(Requests),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = requests_slots,
};

/* Once, when the module is made. */
int aiorbd_requests_prepare(void)
{
    return aiorbd_intern(&name_tell_observers, "tell_observers");
}
