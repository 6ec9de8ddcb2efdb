/* SPDX-License-Identifier: Apache-2.0 */
#include "errors.h"

#include <stdarg.h>
#include <string.h>

#include "convert.h"

/* A log-in says no bound; it is that of an engine's lease (5 s) and a part more. */
#define LOGIN_BOUND_MS 6100

static enum crpy_error error_of(enum cr_status status)
{
    switch (status) {
    case CR_NOT_FOUND:
    case CR_ENDED:
        return CRPY_SessionEnded;
    case CR_DENIED:
    case CR_LIMITED:
    case CR_PASSWORD_SHORT:
    case CR_PASSWORD_COMMON:
    case CR_PASSWORD_KNOWN:
    case CR_CHANGE_FIRST:
        return CRPY_Denied;
    case CR_CONFLICT:
        return CRPY_Conflict;
    case CR_PENDING:
        return CRPY_Pending;
    case CR_BUSY:
        return CRPY_Busy;
    case CR_UNAVAILABLE:
    case CR_ASK:
        return CRPY_Unavailable;
    case CR_UNKNOWN_USER:
        return CRPY_UnknownUser;
    case CR_LOST:
        return CRPY_LockLost;
    case CR_E_INVALID:
        return CRPY_InvalidArgument;
    case CR_E_IO:
    case CR_E_CORRUPT:
    case CR_E_PROTOCOL:
        return CRPY_Damaged;
    case CR_E_UNKNOWN_OUTCOME:
        return CRPY_UnknownOutcome;
    case CR_E_VERSION:
        return CRPY_OtherVersion;
    case CR_E_REFUSED:
        return CRPY_Refused;
    case CR_E_LIMIT:
        return CRPY_DataTooLarge;
    case CR_E_NO_MEMORY: /* MemoryError */
    case CR_OK:
        break;
    }
    return CRPY_CloakroomError;
}

/* What was seen and what to do. */
static const char *text_of(enum cr_status status)
{
    switch (status) {
    case CR_NOT_FOUND:
    case CR_ENDED:
        return "the session has ended, or there never was one: nothing was changed";
    case CR_DENIED:
        return "the agent refuses that to who comes by this socket: applications use app.sock, and "
               "what concerns everybody needs operator.sock (man cloakroom-agent)";
    case CR_CONFLICT:
        return "somebody else changed it first: read it again, and repeat the change on that";
    case CR_PENDING:
        return "committed, and not yet everywhere: set no cookie, and answer 503";
    case CR_BUSY:
        return "too much at once: try again in a moment";
    case CR_UNAVAILABLE:
    case CR_ASK:
        return "the store or the agent cannot be asked now: answer 503, and log nobody out";
    case CR_UNKNOWN_USER:
        return "the store has never seen this user, so nothing was ended: is it the text that was "
               "given to login?";
    case CR_E_INVALID:
        return "an argument is outside of what the call takes";
    case CR_E_IO:
        return "input or output failed: the agent's log says more";
    case CR_E_UNKNOWN_OUTCOME:
        return "whether it was committed is not known: ask again";
    case CR_E_CORRUPT:
        return "the store's data are damaged: the agent's log says more";
    case CR_E_VERSION:
        return "the agent is of a version that this package does not understand: upgrade the older "
               "one of the two";
    case CR_E_REFUSED:
        return "CR-102 refused: a room in direct mode belongs to the process that opened it, and "
               "this one was forked from it. Open it after the fork, or, for several workers, "
               "without mode=\"direct\"";
    case CR_E_PROTOCOL:
        return "the agent answered what it may not: is something else listening on its socket?";
    default:
        return cr_status_text(status);
    }
}

static PyObject *raise_text(const struct crpy_state *state, enum crpy_error error,
                            enum cr_status status, PyObject *text)
{
    if (text == NULL)
        return NULL;
    PyObject *exception =
        PyObject_CallFunction(state->errors[error], "Os", text, cr_status_name(status));
    if (exception != NULL)
        PyErr_SetObject(state->errors[error], exception);
    Py_XDECREF(exception);
    Py_DECREF(text);
    return NULL;
}

PyObject *crpy_raise(const struct crpy_state *state, enum cr_status status, const char *text)
{
    if (status == CR_E_NO_MEMORY)
        return PyErr_NoMemory();
    if (status == CR_PENDING || status == CR_E_UNKNOWN_OUTCOME)
        return crpy_raise_open(state, status, NULL);
    if (text == NULL)
        text = text_of(status);
    /* It may name a file, and be cut. */
    return raise_text(state, error_of(status), status, crpy_text_object(text, strlen(text)));
}

PyObject *crpy_raise_open(const struct crpy_state *state, enum cr_status status,
                          const struct cr_ended *ended)
{
    char ending[CRPY_ENDING_CHARS + 1] = "";
    PyObject *exception;
    enum crpy_error error = error_of(status);
    const char *text = text_of(status);
    if (ended != NULL)
        crpy_ending_text(&ended->ending, ending);
    const char *given = ended != NULL ? ending : NULL;
    if (status == CR_PENDING)
        exception = PyObject_CallFunction(
            state->errors[error], "sdz",
            ended != NULL ? "committed, and not yet everywhere: what it ended may be accepted by "
                            "some worker until then"
                          : text,
            (double)(ended != NULL ? ended->bound : LOGIN_BOUND_MS) / 1000, given);
    else
        exception = PyObject_CallFunction(state->errors[error], "sz",
                                          ended != NULL
                                              ? "whether it was committed is not known: ask again "
                                                "with repeat=error.ending, which does it once"
                                              : text,
                                          given);
    if (exception != NULL)
        PyErr_SetObject(state->errors[error], exception);
    Py_XDECREF(exception);
    return NULL;
}

PyObject *crpy_raise_format(const struct crpy_state *state, enum crpy_error error,
                            enum cr_status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    PyObject *text = PyUnicode_FromFormatV(format, args);
    va_end(args);
    return raise_text(state, error, status, text);
}

void crpy_ending_text(const struct cr_ending_id *ending, char out[CRPY_ENDING_CHARS + 1])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < sizeof ending->bytes; i++) {
        out[2 * i] = digits[ending->bytes[i] >> 4];
        out[2 * i + 1] = digits[ending->bytes[i] & 15];
    }
    out[CRPY_ENDING_CHARS] = '\0';
}
