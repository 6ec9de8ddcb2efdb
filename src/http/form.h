/* SPDX-License-Identifier: Apache-2.0 */
/* What clients send: application/x-www-form-urlencoded, and JSON objects of a few strings. */
#ifndef HTTP_FORM_H
#define HTTP_FORM_H

#include "http/http.h"

#define CR_HTTP_FORM_FIELDS_MAX 8

struct cr_http_form_field {
    const char *name;
    char *bytes; /* NULL: not there. Ended by a NUL, but may hold others */
    size_t count;
};

/*
 * Values for the fields named in `fields`; others are passed over. The text is copied and belongs
 * to the form. Wiped by fini: passwords come this way.
 */
struct cr_http_form {
    struct cr_http_form_field fields[CR_HTTP_FORM_FIELDS_MAX];
    size_t count;
    char *memory;
    size_t memory_bytes;
    char wrong[160]; /* with CR_E_INVALID: what is, for the client; quotes nothing of the text */
};

/* `names` ends with NULL, at most CR_HTTP_FORM_FIELDS_MAX. */
void cr_http_form_init(struct cr_http_form *form, const char *const *names);
void cr_http_form_fini(struct cr_http_form *form); /* accepts zeroed */

/* CR_E_INVALID: not of the form (broken %XX, a named field twice, not a JSON object of strings),
 * and form->wrong says which; CR_E_NO_MEMORY. */
CR_MUST_CHECK enum cr_status cr_http_form_urlencoded(struct cr_http_form *form,
                                                     struct cr_http_text text);
CR_MUST_CHECK enum cr_status cr_http_form_json(struct cr_http_form *form, struct cr_http_text text);

/* NULL: it is not there. */
const struct cr_http_form_field *cr_http_form_get(const struct cr_http_form *form,
                                                  const char *name);

#endif
