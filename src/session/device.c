/* SPDX-License-Identifier: Apache-2.0 */
#include "session/device.h"

#include <endian.h>
#include <sodium.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"

#define HOUR_MS 3600000LL
#define PREFIX "crd_"
#define PREFIX_CHARS 4
#define MAC_BYTES 16
#define ID_RANDOM_BYTES 12

/* As it is encoded: 36 bytes. */
struct cookie {
    unsigned char key_number;
    unsigned char hour[3];
    unsigned char id[CR_DEVICE_ID_BYTES];
    unsigned char mac[MAC_BYTES];
};
_Static_assert(sizeof(struct cookie) == 36, "no padding, whole groups of base64");
_Static_assert(CR_DEVICE_CHARS == PREFIX_CHARS + sizeof(struct cookie) / 3 * 4, "its text");

/* No secret: the MAC keeps it from being changed. */
static void password_sum(const struct cr_device_id *id, cr_time_ms password_at,
                         unsigned char out[CR_DEVICE_ID_BYTES - ID_RANDOM_BYTES])
{
    const uint64_t at = htole64((uint64_t)password_at);
    unsigned char bytes[ID_RANDOM_BYTES + sizeof at], hash[crypto_generichash_BYTES_MIN];
    memcpy(bytes, id->bytes, ID_RANDOM_BYTES);
    memcpy(bytes + ID_RANDOM_BYTES, &at, sizeof at);
    (void)crypto_generichash(hash, sizeof hash, bytes, sizeof bytes, NULL, 0);
    memcpy(out, hash, CR_DEVICE_ID_BYTES - ID_RANDOM_BYTES);
}

enum cr_status cr_device_id_make(struct cr_random *random, cr_time_ms password_at,
                                 struct cr_device_id *out_id)
{
    enum cr_status st = cr_random_fill(random, out_id->bytes, ID_RANDOM_BYTES);
    if (st == CR_OK)
        password_sum(out_id, password_at, out_id->bytes + ID_RANDOM_BYTES);
    return st;
}

bool cr_device_id_is_of(const struct cr_device_id *id, cr_time_ms password_at)
{
    unsigned char sum[CR_DEVICE_ID_BYTES - ID_RANDOM_BYTES];
    password_sum(id, password_at, sum);
    return memcmp(sum, id->bytes + ID_RANDOM_BYTES, sizeof sum) == 0;
}

/* The keys are those of tokens: what is hashed here begins with a text that no token does. */
static void mac_of(const struct cr_keyring *ring, const struct cr_key *key,
                   const struct cookie *cookie, const struct cr_user *user,
                   unsigned char out[MAC_BYTES])
{
    static const unsigned char what[] = "cloakroom device cookie";
    crypto_generichash_state state;
    int failed = crypto_generichash_init(&state, key->bytes, sizeof key->bytes, MAC_BYTES);
    CR_ASSERT(failed == 0);
    crypto_generichash_update(&state, what, sizeof what);
    crypto_generichash_update(&state, ring->realm, sizeof ring->realm);
    crypto_generichash_update(&state, (const unsigned char *)cookie, offsetof(struct cookie, mac));
    crypto_generichash_update(&state, user->bytes, user->length);
    crypto_generichash_final(&state, out, MAC_BYTES);
    cr_bytes_wipe(&state, sizeof state);
}

void cr_device_write(const struct cr_keyring *ring, const struct cr_user *user,
                     const struct cr_device_id *id, cr_time_ms now, char out[CR_DEVICE_CHARS + 1])
{
    const struct cr_key *key = &ring->keys[ring->signer];
    uint32_t hour = (uint32_t)(now / HOUR_MS);
    struct cookie cookie = {
        .key_number = (unsigned char)key->number,
        .hour = {(unsigned char)(hour >> 16), (unsigned char)(hour >> 8), (unsigned char)hour}};
    memcpy(cookie.id, id->bytes, sizeof cookie.id);
    mac_of(ring, key, &cookie, user, cookie.mac);
    memcpy(out, PREFIX, PREFIX_CHARS);
    cr_base64_encode((const unsigned char *)&cookie, sizeof cookie, out + PREFIX_CHARS);
    out[CR_DEVICE_CHARS] = '\0';
}

bool cr_device_read(const struct cr_keyring *ring, const struct cr_user *user, const void *text,
                    size_t chars, cr_time_ms now, struct cr_device_id *out_id)
{
    struct cookie cookie;
    unsigned char mac[MAC_BYTES];
    const struct cr_key *key = NULL;
    if (chars != CR_DEVICE_CHARS || memcmp(text, PREFIX, PREFIX_CHARS) != 0 ||
        !cr_base64_decode((const char *)text + PREFIX_CHARS, chars - PREFIX_CHARS,
                          (unsigned char *)&cookie))
        return false;
    for (size_t i = 0; i < ring->count; i++)
        if (ring->keys[i].number == cookie.key_number)
            key = &ring->keys[i];
    int64_t hour = cookie.hour[0] << 16 | cookie.hour[1] << 8 | cookie.hour[2];
    int64_t age = now / HOUR_MS - hour;
    if (key == NULL || age > CR_DEVICE_DAYS * 24LL)
        return false;
    mac_of(ring, key, &cookie, user, mac);
    if (!cr_bytes_equal(mac, cookie.mac, sizeof mac))
        return false;
    memcpy(out_id->bytes, cookie.id, sizeof out_id->bytes);
    return true;
}
