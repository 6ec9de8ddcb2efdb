/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses, and the networks that they are in. IPv4 stands as IPv6, mapped (RFC 4291, 2.5.5.2).
 * Nothing here allocates or waits; safe from any thread. */
#ifndef BASE_NETWORKS_H
#define BASE_NETWORKS_H

#include <arpa/inet.h>
#include <stdbool.h>
#include <stddef.h>

#define CR_NETWORKS_MAX 16

struct cr_address {
    unsigned char bytes[16];
};

struct cr_networks {
    size_t count;
    struct cr_network {
        struct cr_address of;
        unsigned bits; /* 1 to 128: how many of them count */
    } list[CR_NETWORKS_MAX];
};

/* `text` of `chars` characters as an address, IPv4 or IPv6. False: it is none; nothing is written.
 */
bool cr_address_read(const char *text, size_t chars, struct cr_address *out);
/* As people write it. */
void cr_address_write(const struct cr_address *address, char out[INET6_ADDRSTRLEN]);

/* Addresses and networks such as "127.0.0.1 10.0.0.0/24, fd00::/8", with blanks or commas between;
 * none at all is right, too. NULL, or what is wrong, as the end of a sentence: then *out means
 * nothing. */
const char *cr_networks_read(const char *text, struct cr_networks *out);
bool cr_networks_have(const struct cr_networks *networks, const struct cr_address *address);

#endif
