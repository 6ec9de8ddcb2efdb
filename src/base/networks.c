/* SPDX-License-Identifier: Apache-2.0 */
#include "base/networks.h"

#include <string.h>

#define MAPPED_BYTES 12 /* before the four of IPv4 */
#define BITS_MAX (8 * sizeof(struct cr_address))

static const unsigned char mapped[MAPPED_BYTES] = {[10] = 0xff, [11] = 0xff};

static bool is_four(const struct cr_address *address)
{
    return memcmp(address->bytes, mapped, MAPPED_BYTES) == 0;
}

bool cr_address_read(const char *text, size_t chars, struct cr_address *out)
{
    char copy[INET6_ADDRSTRLEN];
    unsigned char four[sizeof out->bytes - MAPPED_BYTES];
    struct cr_address six;
    if (chars >= sizeof copy || memchr(text, '\0', chars) != NULL)
        return false;
    memcpy(copy, text, chars);
    copy[chars] = '\0';
    if (inet_pton(AF_INET, copy, four) == 1) {
        memcpy(out->bytes, mapped, MAPPED_BYTES);
        memcpy(out->bytes + MAPPED_BYTES, four, sizeof four);
        return true;
    }
    if (inet_pton(AF_INET6, copy, six.bytes) != 1)
        return false;
    *out = six;
    return true;
}

void cr_address_write(const struct cr_address *address, char out[INET6_ADDRSTRLEN])
{
    const char *wrote =
        is_four(address) ? inet_ntop(AF_INET, address->bytes + MAPPED_BYTES, out, INET6_ADDRSTRLEN)
                         : inet_ntop(AF_INET6, address->bytes, out, INET6_ADDRSTRLEN);
    if (wrote == NULL)
        out[0] = '\0';
}

/* The width behind the slash; 0: it is none. */
static unsigned bits_read(const char *text, size_t chars)
{
    unsigned bits = 0;
    if (chars == 0 || chars > 3)
        return 0;
    for (size_t i = 0; i < chars; i++) {
        if (text[i] < '0' || text[i] > '9')
            return 0;
        bits = 10 * bits + (unsigned)(text[i] - '0');
    }
    return bits;
}

static const char *network_read(const char *text, size_t chars, struct cr_network *out)
{
    const char *slash = memchr(text, '/', chars);
    size_t address = slash != NULL ? (size_t)(slash - text) : chars;
    if (!cr_address_read(text, address, &out->of))
        return "an address or a network is expected, such as 127.0.0.1 or 10.0.0.0/24";
    unsigned before = is_four(&out->of) ? 8 * MAPPED_BYTES : 0;
    out->bits = BITS_MAX;
    if (slash == NULL)
        return NULL;
    unsigned bits = bits_read(slash + 1, chars - address - 1);
    if (bits == 0 || bits > BITS_MAX - before)
        return "a network is one of 1 to 32 bits, or 1 to 128 with IPv6: everybody is none";
    out->bits = before + bits;
    return NULL;
}

const char *cr_networks_read(const char *text, struct cr_networks *out)
{
    static const char between[] = " \t,";
    *out = (struct cr_networks){.count = 0};
    while (*(text += strspn(text, between)) != '\0') {
        size_t chars = strcspn(text, between);
        if (out->count == CR_NETWORKS_MAX)
            return "there are more than 16 of them";
        const char *wrong = network_read(text, chars, &out->list[out->count]);
        if (wrong != NULL)
            return wrong;
        out->count++;
        text += chars;
    }
    return NULL;
}

static bool network_has(const struct cr_network *network, const struct cr_address *address)
{
    size_t whole = network->bits / 8;
    unsigned rest = network->bits % 8;
    if (memcmp(network->of.bytes, address->bytes, whole) != 0)
        return false;
    return rest == 0 ||
           ((network->of.bytes[whole] ^ address->bytes[whole]) & (0xff00u >> rest) & 0xffu) == 0;
}

bool cr_networks_have(const struct cr_networks *networks, const struct cr_address *address)
{
    for (size_t i = 0; i < networks->count; i++)
        if (network_has(&networks->list[i], address))
            return true;
    return false;
}
