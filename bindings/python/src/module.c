/* SPDX-License-Identifier: Apache-2.0 */
/* The module: its types, its numbers, and what it takes from others. */
#include "state.h"

#include <cloakroom/cloakroom.h>

#include "call.h"
#include "core.h"
#include "lock.h"
#include "session.h"

PyMODINIT_FUNC PyInit__core(void);

static struct crpy_state *state_of(PyObject *module)
{
    return PyModule_GetState(module);
}

static bool type_add(PyObject *module, PyType_Spec *spec, PyTypeObject **out)
{
    *out = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);
    return *out != NULL && PyModule_AddType(module, *out) == 0;
}

static bool import_from(const char *module_name, const char *name, PyObject **out)
{
    PyObject *module = PyImport_ImportModule(module_name);
    *out = module != NULL ? PyObject_GetAttrString(module, name) : NULL;
    Py_XDECREF(module);
    return *out != NULL;
}

static bool imports_take(struct crpy_state *state)
{
    static const char *const errors[] = {
#define ERROR_NAME(name) #name,
        CRPY_ERROR_LIST(ERROR_NAME)
#undef ERROR_NAME
    };
    PyObject *datetime, *zone;
    for (size_t i = 0; i < CRPY_ERROR_COUNT; i++)
        if (!import_from("cloakroom.errors", errors[i], &state->errors[i]))
            return false;
    if (!import_from("datetime", "datetime", &datetime))
        return false;
    state->from_timestamp = PyObject_GetAttrString(datetime, "fromtimestamp");
    Py_DECREF(datetime);
    if (state->from_timestamp == NULL || !import_from("datetime", "timezone", &zone))
        return false;
    state->utc = PyObject_GetAttrString(zone, "utc");
    Py_DECREF(zone);
    return state->utc != NULL && import_from("json", "loads", &state->json_loads);
}

static bool numbers_add(PyObject *module)
{
    PyObject *any = PyLong_FromUnsignedLongLong(CR_VERSION_ANY);
    bool is_added = any != NULL && PyModule_AddObjectRef(module, "VERSION_ANY", any) == 0;
    Py_XDECREF(any);
    return is_added && PyModule_AddStringConstant(module, "VERSION", CR_VERSION_TEXT) == 0 &&
           PyModule_AddIntConstant(module, "DATA_BYTES_MAX", CR_DATA_BYTES_MAX) == 0 &&
           PyModule_AddIntConstant(module, "DATA_CACHED_BYTES_MAX", CR_DATA_CACHED_BYTES_MAX) ==
               0 &&
           PyModule_AddIntConstant(module, "RIGHTS_BYTES_MAX", CR_RIGHTS_BYTES_MAX) == 0 &&
           PyModule_AddIntConstant(module, "USER_BYTES_MAX", CR_USER_BYTES_MAX) == 0;
}

static int module_exec(PyObject *module)
{
    struct crpy_state *state = state_of(module);
    bool is_good = imports_take(state) &&
                   type_add(module, &crpy_session_spec, &state->session_type) &&
                   type_add(module, &crpy_call_spec, &state->call_type) &&
                   type_add(module, &crpy_core_spec, &state->core_type) &&
                   type_add(module, &crpy_lock_spec, &state->lock_type) && numbers_add(module);
    return is_good ? 0 : -1;
}

static int module_traverse(PyObject *module, visitproc visit, void *arg)
{
    const struct crpy_state *state = state_of(module);
    Py_VISIT((PyObject *)state->session_type);
    Py_VISIT((PyObject *)state->call_type);
    Py_VISIT((PyObject *)state->core_type);
    Py_VISIT((PyObject *)state->lock_type);
    for (size_t i = 0; i < CRPY_ERROR_COUNT; i++)
        Py_VISIT(state->errors[i]);
    Py_VISIT(state->from_timestamp);
    Py_VISIT(state->utc);
    Py_VISIT(state->json_loads);
    return 0;
}

static int module_clear(PyObject *module)
{
    struct crpy_state *state = state_of(module);
    Py_CLEAR(state->session_type);
    Py_CLEAR(state->call_type);
    Py_CLEAR(state->core_type);
    Py_CLEAR(state->lock_type);
    for (size_t i = 0; i < CRPY_ERROR_COUNT; i++)
        Py_CLEAR(state->errors[i]);
    Py_CLEAR(state->from_timestamp);
    Py_CLEAR(state->utc);
    Py_CLEAR(state->json_loads);
    return 0;
}

static void module_free(void *module)
{
    (void)module_clear(module);
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL},
};

static struct PyModuleDef module_definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_core",
    .m_doc = "libcloakroom as Python sees it. Not public: use cloakroom.Cloakroom.",
    .m_size = sizeof(struct crpy_state),
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__core(void)
{
    return PyModuleDef_Init(&module_definition);
}
