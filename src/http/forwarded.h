/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a request came from before it came to a proxy (ASVS G1).
 *
 * X-Forwarded-For is a list to which each proxy adds whom it heard it from, at the end. It is read
 * from there: from the other end of the connection back, as long as that is one of `proxies`. What
 * stands before the first address that is none of them is whatever somebody sent.
 */
#ifndef HTTP_FORWARDED_H
#define HTTP_FORWARDED_H

#include "base/networks.h"
#include "http/http.h"

/* The address, as people write it: request->peer, or written to `out`. Where a proxy says nothing
 * that can be read, it is the proxy's. */
const char *cr_http_forwarded(const struct cr_networks *proxies,
                              const struct cr_http_request *request, char out[INET6_ADDRSTRLEN]);

#endif
