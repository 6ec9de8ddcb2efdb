/* SPDX-License-Identifier: Apache-2.0 */
#include "http/forwarded.h"

#include <string.h>
#include <strings.h>

static bool is_forwarded_for(struct cr_http_text name)
{
    static const char known[] = "x-forwarded-for";
    return name.count == sizeof known - 1 && strncasecmp(name.bytes, known, name.count) == 0;
}

/* Cuts the last of a list off; without the blanks around it. */
static struct cr_http_text last_take(struct cr_http_text *list)
{
    size_t from = list->count;
    while (from > 0 && list->bytes[from - 1] != ',')
        from--;
    struct cr_http_text last = {list->bytes + from, list->count - from};
    list->count = from > 0 ? from - 1 : 0;
    while (last.count > 0 && (*last.bytes == ' ' || *last.bytes == '\t')) {
        last.bytes++;
        last.count--;
    }
    while (last.count > 0 && strchr(" \t", last.bytes[last.count - 1]) != NULL)
        last.count--;
    return last;
}

/* Some proxies add the port: 192.0.2.7:4711, [2001:db8::7]:4711. */
static bool hop_read(struct cr_http_text hop, struct cr_address *out)
{
    const char *end = hop.bytes + hop.count;
    const char *colon = memchr(hop.bytes, ':', hop.count);
    if (hop.count > 0 && hop.bytes[0] == '[') {
        const char *close = memchr(hop.bytes, ']', hop.count);
        return close != NULL && (close + 1 == end || close[1] == ':') &&
               cr_address_read(hop.bytes + 1, (size_t)(close - hop.bytes) - 1, out);
    }
    if (colon != NULL && memchr(colon + 1, ':', (size_t)(end - colon) - 1) == NULL)
        hop.count = (size_t)(colon - hop.bytes);
    return cr_address_read(hop.bytes, hop.count, out);
}

const char *cr_http_forwarded(const struct cr_networks *proxies,
                              const struct cr_http_request *request, char out[INET6_ADDRSTRLEN])
{
    struct cr_address at;
    bool readable = true;
    if (proxies->count == 0 || !cr_address_read(request->peer, strlen(request->peer), &at))
        return request->peer;
    /* A field that comes twice is one list (RFC 9110, 5.3); some proxies add one of their own. */
    for (size_t i = request->header_count; i-- > 0;) {
        struct cr_http_text list = request->headers[i].value;
        if (!is_forwarded_for(request->headers[i].name))
            continue;
        while (readable && list.count > 0 && cr_networks_have(proxies, &at))
            readable = hop_read(last_take(&list), &at);
    }
    cr_address_write(&at, out);
    return out;
}
