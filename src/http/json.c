/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions as JSON. Written by hand: GET /session is the route that must cost nothing. */
#include "http/exchange.h"

#include <string.h>

void cr_http_json_time(struct cr_text *out, const char *name, cr_time_ms time)
{
    cr_text_str(out, name);
    if (time == 0) {
        cr_text_str(out, "null");
        return;
    }
    cr_text_put(out, "\"", 1);
    cr_text_time(out, time);
    cr_text_put(out, "\"", 1);
}

void cr_http_json_session(struct cr_text *out, const struct cr_session *session,
                          const struct cr_session_id *current)
{
    cr_text_str(out, "{\"id\":\"");
    cr_text_put(out, session->id.text, CR_SESSION_ID_CHARS);
    cr_text_str(out, "\",\"user\":");
    if (session->user.length == 0)
        cr_text_str(out, "null");
    else
        cr_text_json(out, (const char *)session->user.bytes, session->user.length);
    cr_http_json_time(out, ",\"created_at\":", session->created_at);
    cr_http_json_time(out, ",\"authenticated_at\":", session->authenticated_at);
    cr_http_json_time(out, ",\"seen_at\":", session->seen_at);
    cr_http_json_time(out, ",\"expires_at\":", session->expires_at);
    cr_http_json_time(out, ",\"ends_at\":", session->ends_at);
    if (current != NULL) {
        cr_text_str(out, cr_session_id_equal(&session->id, current) ? ",\"current\":true"
                                                                    : ",\"current\":false");
        cr_text_str(out, ",\"address\":");
        cr_text_json(out, session->address, strlen(session->address));
        cr_text_str(out, ",\"agent\":");
        cr_text_json(out, session->agent, strlen(session->agent));
    }
    cr_text_put(out, "}", 1);
}
