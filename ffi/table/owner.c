/* What counts its calls in flight: see table.h. */
#include "table.h"

PyTypeObject *aiorbd_owner_type;

static PyObject *owner_generation(PyObject *object, void *unused)
{
    Owner *self = (Owner *)object;
    (void)unused;
    return PyLong_FromUnsignedLongLong(self->image ? aiorbd_image_generation((aiorbd_image *)(uintptr_t)self->image)
                                                   : 0);
}

static PyMemberDef owner_members[] = {
    {"in_flight", T_PYSSIZET, offsetof(Owner, in_flight), 0, NULL},
    {"awaited", T_PYSSIZET, offsetof(Owner, awaited), 0, NULL},
    {"waiting", T_PYSSIZET, offsetof(Owner, waiting), 0, NULL},
    {"usable", T_BOOL, offsetof(Owner, usable), 0, NULL},
    {"strays", T_BOOL, offsetof(Owner, strays), 0, NULL},
    {"size", T_ULONGLONG, offsetof(Owner, size), 0, NULL},
    {"image_address", T_ULONGLONG, offsetof(Owner, image), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef owner_computed[] = {
    {"generation", owner_generation, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot owner_slots[] = {
    {Py_tp_members, owner_members},
    {Py_tp_getset, owner_computed},
    {0, NULL},
};

PyType_Spec aiorbd_owner_spec = {
    .name = "aiorbd._native.table.Owner",
    .basicsize = sizeof(Owner),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = owner_slots,
};
