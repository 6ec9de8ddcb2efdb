/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table in front of an application's own store (cloakroom/table.h): what a key is found by, and
 * fills and invalidations without a store of ours. One host only.
 */
#include "engine/engine.h"

#include <string.h>

#include <nettle/sha2.h>

#include "base/bytes.h"
#include "engine/internal.h"

/*
 * SHA-256 of the key: its first 18 bytes take the place of a session id, its last 16 of a token's
 * hash, so that an entry is found only by all of it.
 */
void cr_engine_table_key(const void *key, size_t key_bytes, struct cr_session_id *out_id,
                         struct cr_token_hash *out_hash)
{
    struct sha256_ctx ctx;
    unsigned char digest[SHA256_DIGEST_SIZE];
    sha256_init(&ctx);
    sha256_update(&ctx, key_bytes, key);
    sha256_digest(&ctx, sizeof digest, digest);
    memcpy(out_id->text, "crp_", 4);
    cr_base64_encode(digest, 18, out_id->text + 4);
    out_id->text[CR_SESSION_ID_CHARS] = '\0';
    memset(out_hash, 0, sizeof *out_hash);
    memcpy(out_hash->bytes, digest + 16, 16);
}

uint64_t cr_engine_table_clock(const struct cr_engine *engine)
{
    return cr_engine_clock(engine);
}

void cr_engine_table_fill(struct cr_engine *engine, const struct cr_entry *entry, uint64_t stamp)
{
    engine->fills++;
    if (engine->table != NULL &&
        !cr_table_insert(engine->table, entry, stamp, cr_engine_now(engine)))
        engine->fills_refused++;
}
