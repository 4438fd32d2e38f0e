/*
 * The operation table's busy half, as a Python module. Every request of an image passes through it on the loop's
 * thread, from its registration to the wake-up of its task. The other half is Python: `Bridge` in
 * `aiorbd/_core/bridge.py` derives from `Table`.
 *
 * All functions run on the thread of the event loop, and hold the GIL except for the submit. Signal handlers run only
 * where Python code is called, so the steps between two such calls happen as a whole: a record is either still in the
 * array, or its operation is out of the table and counted.
 *
 * The module lies in one file with the bridge (`_compiled`) and calls the bridge's functions.
 */
#ifndef AIORBD_TABLE_H
#define AIORBD_TABLE_H

#ifdef AIORBD_STABLE_ABI
#define Py_LIMITED_API 0x030b0000
#endif
#include <Python.h>
#include <stdbool.h>
#include <stddef.h>
#include <structmember.h>

#include "bridge.h"

/* Records taken in one pass of the loop. The other records wait for the next pass, so other tasks go first. A larger
 * batch gains nothing: with 256 reads in flight the loop was twice as late, and no read sooner. */
enum { BATCH = 16 };

/* Records of a pass from which on tasks that run after the drain have their requests submitted together. */
enum { SEVERAL = 4 };

/* Bytes that are written from the loop's thread: librbd copies a mebibyte in one millisecond. Larger writes are
 * Python's, which submits them on a worker thread. */
enum { LARGEST_COPY = 1 << 20 };

enum entry_state { PENDING, CANCELLED, DONE };

/* An entry of the table: a call in flight, and the objects that it keeps alive. A task waits for an entry of Python's
 * by a future (`waiter`), and awaits an entry that was made here itself. */
typedef struct {
    PyObject_HEAD
    PyObject *owner, *keep, *waiter, *value;
    PyObject *table;              /* NULL in Python's own */
    PyObject *callback, *context; /* how the task that awaits it goes on; NULL when none does */
    PyObject *message;            /* of the cancellation; may be NULL */
    long long number;             /* in the table; 0 when C has not had the request */
    char abandoned;
    char blocking; /* a task is about to wait for it: asyncio's protocol of futures */
    char state;
} Entry;

/* What counts its calls in flight: every handle. */
typedef struct {
    PyObject_HEAD
    Py_ssize_t in_flight; /* calls */
    Py_ssize_t awaited;   /* tasks that wait for some of them: each end notifies the owner */
    Py_ssize_t waiting;   /* tasks that wait for the handle's state */
    char usable;          /* open, and not closing */
} Owner;

/* The handle of an image. */
typedef struct {
    Owner owner;
    char strays; /* librbd may still have writes that were cancelled: Python looks whether others overlap them */
    unsigned long long size;
    unsigned long long image; /* aiorbd_image *; 0 when there is none to read */
} ImageOwner;

typedef struct {
    PyObject_HEAD
    PyObject *operations, *listeners, *observers, *numbers; /* dict, dict, list, iterator */
    PyObject *loop;                                         /* the adapter */
    PyObject *native;         /* asyncio's loop; None: tasks park and are woken by the adapter */
    PyObject *is_current;     /* called without arguments: a true value in the loop's own tasks */
    PyObject *plain;          /* the class of entries of which only waking is to be done */
    PyObject *interrupted;    /* an entry out of the table; its task may still sleep */
    unsigned long long queue; /* aiorbd_bridge *; 0 when it was released */
    unsigned long long thread;
    char dead;    /* no call may reach C any more */
    char forked;  /* in a child, which has the table of its parent */
    char ended;   /* the next pass is the last */
    bool in_task; /* a drain that runs within a task's step */
    int next;     /* record to be handled */
    int64_t records[1 + 2 * BATCH];
} Table;

extern PyTypeObject *aiorbd_entry_type, *aiorbd_owner_type, *aiorbd_image_owner_type, *aiorbd_table_type;
extern PyType_Spec aiorbd_entry_spec, aiorbd_owner_spec, aiorbd_image_owner_spec;

/* Drop the result of a call; -1 for an error. */
static inline int aiorbd_done(PyObject *result)
{
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Make a name once, however often the module is executed. */
static inline int aiorbd_intern(PyObject **name, const char *text)
{
    return *name == NULL && (*name = PyUnicode_InternFromString(text)) == NULL ? -1 : 0;
}

/* For lists of the objects that a container holds. */
#define AIORBD_VISIT(member) Py_VISIT(self->member);
#define AIORBD_CLEAR(member) Py_CLEAR(self->member);

/* The deallocator's part that all types share. */
void aiorbd_free(PyObject *object, int (*clear)(PyObject *));

/* entry.c: the operation is completed. Its task resumes, unless the task was cancelled: now, or, if a task runs
 * already, as in loops that are made to nest, in the next pass. */
int aiorbd_entry_finish(Entry *entry, bool in_task);

/* begin.c, drain.c: methods of the table. */
PyObject *aiorbd_table_read(PyObject *self, PyObject *const *arguments, Py_ssize_t count);
PyObject *aiorbd_table_write(PyObject *self, PyObject *const *arguments, Py_ssize_t count);
PyObject *aiorbd_table_submit(PyObject *self, PyObject *arguments);
PyObject *aiorbd_table_drain(PyObject *self, PyObject *unused);
PyObject *aiorbd_table_submit_pass(PyObject *self, PyObject *unused);
int aiorbd_drain_prepare(void); /* once, before all else */

#endif
