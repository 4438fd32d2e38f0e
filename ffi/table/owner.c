/* What counts its calls in flight: see table.h. */
#include "table.h"

PyTypeObject *aiorbd_owner_type, *aiorbd_image_owner_type;

static PyObject *image_owner_generation(PyObject *object, void *unused)
{
    ImageOwner *self = (ImageOwner *)object;
    (void)unused;
    return PyLong_FromUnsignedLongLong(self->image ? aiorbd_image_generation((aiorbd_image *)(uintptr_t)self->image)
                                                   : 0);
}

static PyMemberDef owner_members[] = {
    {"in_flight", T_PYSSIZET, offsetof(Owner, in_flight), 0, NULL},
    {"awaited", T_PYSSIZET, offsetof(Owner, awaited), 0, NULL},
    {"waiting", T_PYSSIZET, offsetof(Owner, waiting), 0, NULL},
    {"usable", T_BOOL, offsetof(Owner, usable), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMemberDef image_owner_members[] = {
    {"strays", T_BOOL, offsetof(ImageOwner, strays), 0, NULL},
    {"size", T_ULONGLONG, offsetof(ImageOwner, size), 0, NULL},
    {"image_address", T_ULONGLONG, offsetof(ImageOwner, image), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef image_owner_computed[] = {
    {"generation", image_owner_generation, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot owner_slots[] = {
    {Py_tp_members, owner_members},
    {0, NULL},
};

static PyType_Slot image_owner_slots[] = {
    {Py_tp_members, image_owner_members},
    {Py_tp_getset, image_owner_computed},
    {0, NULL},
};

PyType_Spec aiorbd_owner_spec = {
    .name = "aiorbd._native.table.Owner",
    .basicsize = sizeof(Owner),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = owner_slots,
};

PyType_Spec aiorbd_image_owner_spec = {
    .name = "aiorbd._native.table.ImageOwner",
    .basicsize = sizeof(ImageOwner),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = image_owner_slots,
};
