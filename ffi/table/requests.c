/*
 * What a lane has on its way, and what came of it: its reads are begun here, and what is over is sorted in
 * bulk, while the table has one entry for them all. Python's `aiorbd/_bridge/lane.py`, whose class derives from
 * this one, submits all else.
 */
#include <limits.h>

#include "table.h"

/* Records taken in one go; what is more waits for the next pass of the loop. */
enum { TAKEN = 128 };

typedef struct {
    Entry entry;                             /* first: it is one */
    PyObject *bridge;                        /* the table that it is entered in; nobody awaits it as an entry */
    PyObject *running, *over, *late, *notes; /* dicts by number: on its way, ended, stale; for who observes */
    unsigned long long lane;                 /* aiorbd_lane * */
    long long last;                          /* number of the last read: also for whom an interrupt cost the answer */
    Py_ssize_t counted;                      /* by the owner, as in flight */
    int next;                                /* record to be sorted */
    int64_t records[1 + 2 * TAKEN];
} Requests;

PyTypeObject *aiorbd_requests_type;
static PyObject *name_enter, *name_leave, *name_tell_observers;

/* -- beginning ------------------------------------------------------------------------------------ */

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

/* read(offset, length, op_flags): begin a read, and return its number. None: nothing was submitted, and the usual way
 * is to find out why. */
static PyObject *requests_read(PyObject *object, PyObject *const *arguments, Py_ssize_t count)
{
    Requests *self = (Requests *)object;
    Owner *owner = (Owner *)self->entry.owner;
    Table *table = (Table *)self->bridge;
    long long offset, length, flags;
    PyObject *data = NULL, *request = NULL, *number = NULL, *result = NULL;
    if (count != 3 || table == NULL || owner == NULL || !PyObject_TypeCheck(self->bridge, aiorbd_table_type) ||
        !PyObject_TypeCheck(self->entry.owner, aiorbd_owner_type) || self->running == NULL) {
        PyErr_SetString(PyExc_TypeError, "takes offset, length and flags, when it has a bridge and an owner");
        return NULL;
    }
    if (!aiorbd_to_number(arguments[0], &offset) || !aiorbd_to_number(arguments[1], &length) ||
        !aiorbd_to_number(arguments[2], &flags) || length > INT_MAX || flags > INT_MAX || !self->lane ||
        PyList_Size(table->observers) != 0)
        Py_RETURN_NONE;
    number = PyIter_Next(table->numbers);
    if (number == NULL)
        return NULL;
    /* Not cleared: handed out only when librbd has filled all of it. */
    data = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)length);
    if (data != NULL)
        request = Py_BuildValue("(iOOOO)", AIORBD_READ, arguments[0], arguments[1], data, arguments[2]);
    if (request == NULL)
        goto end;
    /* librbd may be done before it returns. */
    if ((PyDict_Size(self->running) > 0 || call_bridge(self, name_enter) == 0) &&
        PyDict_SetItem(self->running, number, request) == 0) {
        self->counted++;
        owner->in_flight++;
        if (aiorbd_is_open(table, owner, (unsigned long long)offset, (unsigned long long)length) &&
            submit(self, PyLong_AsLongLong(number), (uint64_t)offset, (size_t)length, data, (int)flags) == 0) {
            self->last = PyLong_AsLongLong(number);
            result = Py_NewRef(number);
            goto end;
        }
    }
    if (forget(self, number) == 0)
        result = Py_NewRef(Py_None);
end:
    Py_XDECREF(number);
    Py_XDECREF(request);
    Py_XDECREF(data);
    return result;
}

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
        aiorbd_lane_take((aiorbd_lane *)(uintptr_t)self->lane, self->records, TAKEN);
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
    {"last", T_LONGLONG, offsetof(Requests, last), 0, NULL},
    {"counted", T_PYSSIZET, offsetof(Requests, counted), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef requests_methods[] = {
    {"read", (PyCFunction)(void (*)(void))requests_read, METH_FASTCALL, NULL},
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
    .name = "aiorbd._table.Requests",
    .basicsize = sizeof(Requests),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = requests_slots,
};

/* Once, when the module is made. */
int aiorbd_requests_prepare(void)
{
    return aiorbd_intern(&name_enter, "enter") < 0 || aiorbd_intern(&name_leave, "leave") < 0 ||
                   aiorbd_intern(&name_tell_observers, "tell_observers") < 0
               ? -1
               : 0;
}
