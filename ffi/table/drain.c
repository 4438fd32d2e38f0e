/* Completed requests: from the bridge, out of the table, to the waiting tasks. */
#include "table.h"

static PyObject *name_wake, *name_on_idle, *name_settle, *name_settle_again, *name_complain, *name_release;
static PyObject *name_nesting;

/* A defect of ours must not be paid by the rest of the batch: it is logged. Anything else, which a signal handler has
 * raised, goes on: -1. */
static int complain(Table *self, int64_t token)
{
    PyObject *type, *error, *traceback, *number;
    int code = -1;
    if (!PyErr_ExceptionMatches(PyExc_Exception))
        return -1;
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    if (traceback != NULL)
        PyException_SetTraceback(error, traceback);
    number = PyLong_FromLongLong(token);
    if (number != NULL)
        code = aiorbd_done(PyObject_CallMethodObjArgs((PyObject *)self, name_complain, number, error, NULL));
    Py_XDECREF(number);
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
    return code;
}

static int wake(Table *self, Entry *entry)
{
    if (entry->waiter == NULL || entry->waiter == Py_None)
        return 0;
    return aiorbd_done(PyObject_CallMethodObjArgs(self->loop, name_wake, entry, NULL));
}

/* Settle an entry that left the table, wake its task, and notify its owner. A task that resumes later is woken first,
 * before the tasks that wait for the owner. A task that resumes in here comes last. The second call, after an
 * interrupt, repeats only the steps that may be repeated. */
static int conclude(Table *self, int64_t token, Entry *entry, bool again)
{
    Owner *owner = (Owner *)entry->owner;
    bool now = entry->table != NULL && self->native != Py_None;
    bool plain = (PyObject *)Py_TYPE(&entry->ob_base) == self->plain;
    int settled = plain || again ? 0 : aiorbd_done(PyObject_CallMethodObjArgs(&entry->ob_base, name_settle, NULL));
    if (settled < 0 && complain(self, token) < 0)
        return -1;
    if ((settled < 0 || (again && !plain)) &&
        aiorbd_done(PyObject_CallMethodObjArgs(&entry->ob_base, name_settle_again, NULL)) < 0 &&
        complain(self, token) < 0)
        return -1;
    if (!now && wake(self, entry) < 0 && complain(self, token) < 0)
        return -1;
    if ((owner->awaited || (!owner->in_flight && (owner->waiting || !owner->usable))) &&
        aiorbd_done(PyObject_CallMethodObjArgs((PyObject *)owner, name_on_idle, NULL)) < 0 && complain(self, token) < 0)
        return -1;
    return now && aiorbd_entry_finish(entry, self->in_task) < 0 ? complain(self, token) : 0;
}

static int tell(Table *self, int64_t token)
{
    PyObject *key = PyLong_FromLongLong(token);
    PyObject *listener = key == NULL ? NULL : PyDict_GetItemWithError(self->listeners, key);
    int code = 0;
    Py_XDECREF(key);
    if (listener != NULL) {
        Py_INCREF(listener); /* it may end itself */
        code = aiorbd_done(PyObject_CallNoArgs(listener));
        Py_DECREF(listener);
    } else if (PyErr_Occurred()) {
        code = -1;
    }
    return code;
}

/* Take an operation out of the table, and count it. NULL for an error, with the table as it was. */
static Entry *take(Table *self, int64_t token, int64_t result)
{
    PyObject *key = PyLong_FromLongLong(token);
    PyObject *value = PyLong_FromLongLong(result);
    PyObject *found = NULL, *old;
    Entry *entry = NULL;
    if (key == NULL || value == NULL)
        goto end;
    found = PyDict_GetItemWithError(self->operations, key);
    if (found == NULL) {
        if (!PyErr_Occurred())
            PyErr_SetObject(PyExc_KeyError, key);
        goto end;
    }
    if (!PyObject_TypeCheck(found, aiorbd_entry_type) || ((Entry *)found)->owner == NULL ||
        !PyObject_TypeCheck(((Entry *)found)->owner, aiorbd_owner_type)) {
        PyErr_SetString(PyExc_TypeError, "no entry with an owner");
        goto end;
    }
    entry = (Entry *)Py_NewRef(found);
    if (PyDict_DelItem(self->operations, key) < 0) {
        Py_DECREF(&entry->ob_base);
        entry = NULL;
        goto end;
    }
    old = entry->value;
    entry->value = value;
    value = NULL;
    Py_XDECREF(old);
    ((Owner *)entry->owner)->in_flight--;
end:
    Py_XDECREF(key);
    Py_XDECREF(value);
    return entry;
}

/* Handle the records that were taken. What a signal handler raises meanwhile leaves the rest where it is. A listener
 * may be called once too often then. */
static int handle(Table *self)
{
    for (; self->next < self->records[0]; self->next++) {
        int64_t token = self->records[1 + 2 * self->next];
        Entry *entry;
        if (token < 0) {
            if (tell(self, token) < 0 && complain(self, token) < 0)
                return -1;
            continue;
        }
        entry = take(self, token, self->records[2 + 2 * self->next]);
        if (entry == NULL) {
            /* Without memory it is still in the table: the next pass tries again. */
            if (PyErr_ExceptionMatches(PyExc_MemoryError) || complain(self, token) < 0)
                return -1;
            continue;
        }
        if (conclude(self, token, entry, false) < 0) {
            self->interrupted = &entry->ob_base;
            self->next++;
            return -1;
        }
        Py_DECREF(&entry->ob_base);
    }
    return 0;
}

/* The tasks that the last drain woke have run. */
PyObject *aiorbd_table_submit_pass(PyObject *object, PyObject *unused)
{
    Table *self = (Table *)object;
    aiorbd_bridge *bridge = (aiorbd_bridge *)(uintptr_t)self->queue;
    (void)unused;
    if (bridge != NULL && !self->forked) {
        Py_BEGIN_ALLOW_THREADS aiorbd_bridge_submit_pass(bridge);
        Py_END_ALLOW_THREADS
    }
    Py_RETURN_NONE;
}

/* Handle completed requests, also those that complete meanwhile; at most a batch, so that other tasks have their
 * turn. Returns whether submit_pass() has to follow when the tasks that were woken have run. What a signal handler
 * raises in here goes to the loop, and the next pass, which is made sure, goes on. */
PyObject *aiorbd_table_drain(PyObject *object, PyObject *unused)
{
    Table *self = (Table *)object;
    aiorbd_bridge *bridge = (aiorbd_bridge *)(uintptr_t)self->queue;
    int left = BATCH, taken;
    bool after;
    (void)unused;
    if (bridge == NULL || self->forked) /* a child that runs its parent's loop must not take its parent's records */
        Py_RETURN_FALSE;
    aiorbd_bridge_begin(bridge);
    if (self->native != Py_None) {
        PyObject *current = PyObject_CallNoArgs(self->is_current);
        int in_task = current == NULL ? -1 : PyObject_IsTrue(current);
        Py_XDECREF(current);
        if (in_task < 0)
            goto interrupted;
        /* nest_asyncio and its copies let a task run its loop again. Within a drain, that loop would never wake up: a
         * drain empties the queue itself. HasAttr with an interned name costs no exception. */
        self->in_task = in_task > 0 || PyObject_HasAttr(self->native, name_nesting);
    }
    if (self->interrupted != NULL) {
        if (conclude(self, 0, (Entry *)self->interrupted, true) < 0)
            goto interrupted;
        Py_CLEAR(self->interrupted);
    }
    if (handle(self) < 0)
        goto interrupted;
    while (left > 0 && (taken = aiorbd_bridge_take(bridge, self->records, left)) > 0) {
        left -= taken;
        self->next = 0;
        if (handle(self) < 0)
            goto interrupted;
    }
    if (self->forked) /* a task of this pass forked: the requests belong to the parent */
        Py_RETURN_FALSE;
    /* Tasks that were only woken run after this: the adapter calls submit_pass() then. */
    after = self->native == Py_None && !self->ended && BATCH - left >= SEVERAL;
    Py_BEGIN_ALLOW_THREADS if (after) aiorbd_bridge_rest(bridge);
    else aiorbd_bridge_end(bridge);
    Py_END_ALLOW_THREADS if (after) Py_RETURN_TRUE;
    if (!self->ended || aiorbd_done(PyObject_CallMethodObjArgs(object, name_release, NULL)) == 0)
        Py_RETURN_FALSE;
interrupted:
    if (self->queue && !self->forked) { /* not released */
        Py_BEGIN_ALLOW_THREADS aiorbd_bridge_wake(bridge);
        Py_END_ALLOW_THREADS
    }
    return NULL;
}

/* Once, when the module is made. */
int aiorbd_drain_prepare(void)
{
    return aiorbd_intern(&name_wake, "wake") < 0 || aiorbd_intern(&name_on_idle, "on_idle") < 0 ||
                   aiorbd_intern(&name_settle, "settle") < 0 || aiorbd_intern(&name_complain, "_complain") < 0 ||
                   aiorbd_intern(&name_settle_again, "settle_again") < 0 ||
                   aiorbd_intern(&name_release, "_release") < 0 || aiorbd_intern(&name_nesting, "_nest_patched") < 0
               ? -1
               : 0;
}
