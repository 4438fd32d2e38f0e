/* The table itself, and the module: see table.h. */
#include "table.h"

void aiorbd_free(PyObject *object, int (*clear)(PyObject *))
{
    PyTypeObject *type = Py_TYPE(object);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    PyObject_GC_UnTrack(object);
    clear(object);
    release(object);
    Py_DECREF(type);
}

#define OBJECTS(DO)                                                                                                    \
    DO(operations) DO(listeners) DO(observers) DO(numbers) DO(loop) DO(is_current) DO(native) DO(plain) DO(interrupted)

static int table_traverse(PyObject *object, visitproc visit, void *arg)
{
    Table *self = (Table *)object;
    Py_VISIT(Py_TYPE(object));
    OBJECTS(AIORBD_VISIT)
    return 0;
}

static int table_clear(PyObject *object)
{
    Table *self = (Table *)object;
    OBJECTS(AIORBD_CLEAR)
    return 0;
}

static void table_dealloc(PyObject *object)
{
    aiorbd_free(object, table_clear);
}

/* Table(plain, loop, is_current, native, numbers) */
static PyObject *table_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    PyObject *plain, *loop, *is_current, *native, *numbers;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Table *self;
    (void)keywords;
    if (!PyArg_ParseTuple(arguments, "O!OOOO", &PyType_Type, &plain, &loop, &is_current, &native, &numbers))
        return NULL;
    if (!PyType_IsSubtype((PyTypeObject *)plain, aiorbd_entry_type) || !PyIter_Check(numbers)) {
        PyErr_SetString(PyExc_TypeError, "takes a class of entries and an iterator of numbers");
        return NULL;
    }
    self = (Table *)allocate(type, 0);
    if (self == NULL)
        return NULL;
    self->plain = Py_NewRef(plain);
    self->loop = Py_NewRef(loop);
    self->is_current = Py_NewRef(is_current);
    self->native = Py_NewRef(native);
    self->numbers = Py_NewRef(numbers);
    self->thread = PyThread_get_thread_ident();
    self->operations = PyDict_New();
    self->listeners = PyDict_New();
    self->observers = PyList_New(0);
    if (self->operations == NULL || self->listeners == NULL || self->observers == NULL)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static PyMemberDef table_members[] = {
    {"operations", T_OBJECT, offsetof(Table, operations), READONLY, NULL},
    {"listeners", T_OBJECT, offsetof(Table, listeners), READONLY, NULL},
    {"observers", T_OBJECT, offsetof(Table, observers), READONLY, NULL},
    {"numbers", T_OBJECT, offsetof(Table, numbers), READONLY, NULL},
    {"loop", T_OBJECT, offsetof(Table, loop), READONLY, NULL},
    {"queue_address", T_ULONGLONG, offsetof(Table, queue), 0, NULL},
    {"dead", T_BOOL, offsetof(Table, dead), 0, NULL},
    {"forked", T_BOOL, offsetof(Table, forked), 0, NULL},
    {"ended", T_BOOL, offsetof(Table, ended), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef table_methods[] = {
    {"read", (PyCFunction)(void (*)(void))aiorbd_table_read, METH_FASTCALL, NULL},
    {"write", (PyCFunction)(void (*)(void))aiorbd_table_write, METH_FASTCALL, NULL},
    {"submit", aiorbd_table_submit, METH_VARARGS, NULL},
    {"drain", aiorbd_table_drain, METH_NOARGS, NULL},
    {"submit_pass", aiorbd_table_submit_pass, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot table_slots[] = {
    {Py_tp_new, table_new},
    {Py_tp_traverse, table_traverse},
    {Py_tp_clear, table_clear},
    {Py_tp_dealloc, table_dealloc},
    {Py_tp_members, table_members},
    {Py_tp_methods, table_methods},
    {0, NULL},
};

static PyType_Spec table_spec = {
    .name = "aiorbd._native.table.Table",
    .basicsize = sizeof(Table),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = table_slots,
};

/* A module that is executed once more has the same types: those of open connections derive from them. */
static int add(PyObject *module, const char *name, PyType_Spec *spec, PyObject *base, PyTypeObject **type)
{
    if (*type == NULL && (*type = (PyTypeObject *)PyType_FromSpecWithBases(spec, base)) == NULL)
        return -1;
    return PyModule_AddObjectRef(module, name, (PyObject *)*type);
}

PyTypeObject *aiorbd_table_type;

static int execute(PyObject *module)
{
    if (aiorbd_drain_prepare() < 0)
        return -1;
    if (add(module, "Entry", &aiorbd_entry_spec, NULL, &aiorbd_entry_type) < 0 ||
        add(module, "Owner", &aiorbd_owner_spec, NULL, &aiorbd_owner_type) < 0 ||
        add(module, "ImageOwner", &aiorbd_image_owner_spec, (PyObject *)aiorbd_owner_type, &aiorbd_image_owner_type) <
            0)
        return -1;
    return add(module, "Table", &table_spec, NULL, &aiorbd_table_type);
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, execute},
#ifdef Py_GIL_DISABLED
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "aiorbd._native._table",
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__table(void)
{
    return PyModuleDef_Init(&module);
}
