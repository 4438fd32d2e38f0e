/*
 * An entry of the table that is awaited itself, by asyncio's protocol of futures: a task that awaits one finds it in
 * its step, gives it a callback, and is woken by that. asyncio's own futures would have the loop make another pass
 * for it; here the task goes on where its operation is found to be over, which saves that pass, with its question to
 * the kernel, and a handle. Under trio the adapter parks the task.
 */
#include "table.h"

PyTypeObject *aiorbd_entry_type;

/* -- awaiting ------------------------------------------------------------------------------------- */

static PyObject *entry_await(PyObject *object)
{
    Entry *self = (Entry *)object;
    if (self->table == NULL || ((Table *)self->table)->native == Py_None) {
        PyErr_SetString(PyExc_TypeError, "this operation is not awaited itself");
        return NULL;
    }
    return Py_NewRef(object);
}

static PyObject *entry_result(PyObject *object, PyObject *unused);

/* The task's step gets the entry itself, and then calls `add_done_callback`. */
static PyObject *entry_next(PyObject *object)
{
    Entry *self = (Entry *)object;
    if (self->state != PENDING) { /* the end, without a value, or an error */
        Py_XDECREF(entry_result(object, NULL));
        return NULL;
    }
    if (self->blocking || self->callback != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "an operation is awaited by one task, which waits for it already");
        return NULL;
    }
    self->blocking = 1;
    return Py_NewRef(object);
}

static PyObject *entry_get_loop(PyObject *object, PyObject *unused)
{
    Entry *self = (Entry *)object;
    (void)unused;
    return Py_NewRef(self->table == NULL ? Py_None : ((Table *)self->table)->native);
}

/* add_done_callback(callback, *, context) */
static PyObject *entry_add_done_callback(PyObject *object, PyObject *const *arguments, Py_ssize_t count,
                                         PyObject *names)
{
    Entry *self = (Entry *)object;
    if (count != 1 || names == NULL || PyTuple_Size(names) != 1 || self->callback != NULL || self->state != PENDING) {
        PyErr_SetString(PyExc_RuntimeError, "takes one callback, with its context, of the one task that waits");
        return NULL;
    }
    self->callback = Py_NewRef(arguments[0]);
    self->context = Py_NewRef(arguments[1]);
    Py_RETURN_NONE;
}

static PyObject *entry_done(PyObject *object, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(((Entry *)object)->state != PENDING);
}

/* For the task that resumes: the result is None, or a cancellation. */
static PyObject *entry_result(PyObject *object, PyObject *unused)
{
    Entry *self = (Entry *)object;
    PyObject *exceptions, *class;
    (void)unused;
    if (self->state == DONE)
        Py_RETURN_NONE;
    exceptions = PyImport_ImportModule("asyncio.exceptions");
    class = exceptions == NULL
                ? NULL
                : PyObject_GetAttrString(exceptions, self->state == CANCELLED ? "CancelledError" : "InvalidStateError");
    /* The canceller recognizes its own cancellation by the message. */
    if (class != NULL)
        PyErr_SetObject(class, self->message);
    Py_XDECREF(class);
    Py_XDECREF(exceptions);
    return NULL;
}

/* The task resumes in the loop's next pass and finds this state. The state is set before `call_soon` can run other
 * code, so a second cancellation in there has no effect. An error costs the callback, as with asyncio's futures. */
static int schedule(Entry *self, enum entry_state state)
{
    PyObject *callback = self->callback, *context = self->context;
    PyObject *call_soon = NULL, *positional = NULL, *keywords = NULL, *handle = NULL;
    self->state = (char)state;
    if (callback == NULL)
        return 0; /* no task waits */
    self->callback = self->context = NULL;
    call_soon = PyObject_GetAttrString(((Table *)self->table)->native, "call_soon");
    if (call_soon != NULL && (positional = PyTuple_Pack(2, callback, (PyObject *)self)) != NULL &&
        (keywords = Py_BuildValue("{sO}", "context", context)) != NULL)
        handle = PyObject_Call(call_soon, positional, keywords);
    Py_XDECREF(call_soon);
    Py_XDECREF(positional);
    Py_XDECREF(keywords);
    Py_DECREF(callback);
    Py_DECREF(context);
    return aiorbd_done(handle);
}

/* cancel(msg=None): called by the waiting task when the task is cancelled. The operation continues. */
static PyObject *entry_cancel(PyObject *object, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
    Entry *self = (Entry *)object;
    if (count + (names == NULL ? 0 : PyTuple_Size(names)) > 1) {
        PyErr_SetString(PyExc_TypeError, "takes a message");
        return NULL;
    }
    if (self->state != PENDING)
        Py_RETURN_FALSE;
    if (count || names != NULL) {
        Py_XDECREF(self->message);
        self->message = Py_NewRef(arguments[0]);
    }
    if (schedule(self, CANCELLED) < 0)
        return NULL;
    Py_RETURN_TRUE;
}

int aiorbd_entry_finish(Entry *self, bool in_task)
{
    static PyObject *run;
    PyObject *callback = self->callback, *context = self->context;
    int code = 0;
    if (run == NULL && (run = PyUnicode_InternFromString("run")) == NULL)
        return -1;
    if (self->state != PENDING)
        return 0;
    if (in_task && !self->abandoned)
        return schedule(self, DONE);
    self->state = DONE;
    self->callback = self->context = NULL;
    if (callback != NULL && !self->abandoned)
        code = aiorbd_done(PyObject_CallMethodObjArgs(context, run, callback, self, NULL));
    Py_XDECREF(callback);
    Py_XDECREF(context);
    return code;
}

/* -- the type ------------------------------------------------------------------------------------- */

#define OBJECTS(DO) DO(owner) DO(keep) DO(waiter) DO(value) DO(table) DO(callback) DO(context) DO(message)

static int entry_traverse(PyObject *object, visitproc visit, void *arg)
{
    Entry *self = (Entry *)object;
    Py_VISIT(Py_TYPE(object));
    OBJECTS(AIORBD_VISIT)
    return 0;
}

static int entry_clear(PyObject *object)
{
    Entry *self = (Entry *)object;
    OBJECTS(AIORBD_CLEAR)
    return 0;
}

static void entry_dealloc(PyObject *object)
{
    aiorbd_free(object, entry_clear);
}

static PyMemberDef entry_members[] = {
    {"owner", T_OBJECT, offsetof(Entry, owner), 0, NULL},
    {"keep", T_OBJECT, offsetof(Entry, keep), 0, NULL},
    {"waiter", T_OBJECT, offsetof(Entry, waiter), 0, NULL},
    {"number", T_LONGLONG, offsetof(Entry, number), 0, NULL},
    {"value", T_OBJECT, offsetof(Entry, value), 0, NULL},
    {"abandoned", T_BOOL, offsetof(Entry, abandoned), 0, NULL},
    {"_asyncio_future_blocking", T_BOOL, offsetof(Entry, blocking), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef entry_methods[] = {
    {"get_loop", entry_get_loop, METH_NOARGS, NULL},
    {"add_done_callback", (PyCFunction)(void (*)(void))entry_add_done_callback, METH_FASTCALL | METH_KEYWORDS, NULL},
    {"done", entry_done, METH_NOARGS, NULL},
    {"result", entry_result, METH_NOARGS, NULL},
    {"cancel", (PyCFunction)(void (*)(void))entry_cancel, METH_FASTCALL | METH_KEYWORDS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot entry_slots[] = {
    {Py_tp_traverse, entry_traverse}, {Py_tp_clear, entry_clear},     {Py_tp_dealloc, entry_dealloc},
    {Py_tp_members, entry_members},   {Py_tp_methods, entry_methods}, {Py_am_await, entry_await},
    {Py_tp_iter, PyObject_SelfIter},  {Py_tp_iternext, entry_next},   {0, NULL},
};

PyType_Spec aiorbd_entry_spec = {
    .name = "aiorbd._native.table.Entry",
    .basicsize = sizeof(Entry),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = entry_slots,
};
