/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions made durably through an agent, as an application makes them, each of a user of its own;
 * their tokens are written down (picks.h).
 *
 *     make_sessions URL TOKENS SESSIONS DATA-BYTES
 *
 * Each is validated once, so that it is in the table.
 */
#include "picks.h"

#define UNDER_WAY 256
#define SPAN_MS 86400000LL /* so long that no use has to be reported: hits are measured */

static void create(struct cr_room *room, size_t number, const struct cr_login_options *options,
                   struct cr_call **out_call)
{
    struct cr_user user;
    char name[17];
    int length = snprintf(name, sizeof name, "user-%011zu", number);
    must_be_ok(cr_user_parse(name, (size_t)length, &user), "user");
    must_be_ok(cr_create_begin(room, &user, options, out_call), "create");
}

static void all_make(struct cr_room *room, FILE *tokens, size_t count,
                     const struct cr_login_options *options)
{
    static struct cr_call *calls[UNDER_WAY];
    static struct cr_login login;
    static struct cr_session session = CR_SESSION_INIT;
    for (size_t i = 0; i < count + UNDER_WAY; i++) {
        struct cr_call **call = &calls[i % UNDER_WAY];
        if (i >= UNDER_WAY && i - UNDER_WAY < count) {
            must_be_ok(cr_create_finish(*call, &login), "create");
            must_be_ok(cr_validate(room, &login.signed_token, &session), "validate");
            must(fwrite(&login.signed_token, sizeof login.signed_token, 1, tokens) == 1, "write");
        }
        if (i < count)
            create(room, i, options, call);
    }
}

int main(int argc, char **argv)
{
    static unsigned char data[CR_DATA_BYTES_MAX];
    must(argc == 5, "usage: make_sessions URL TOKENS SESSIONS DATA-BYTES");
    const struct cr_login_options options = {.size = sizeof options,
                                             .idle = SPAN_MS,
                                             .absolute = SPAN_MS,
                                             .data = data,
                                             .data_bytes = strtoul(argv[4], NULL, 10)};
    must(options.data_bytes <= sizeof data, "DATA-BYTES is too large");
    struct cr_room *room = room_must_open(argv[1]);
    FILE *tokens = fopen(argv[2], "w");
    must(tokens != NULL, argv[2]);
    all_make(room, tokens, strtoul(argv[3], NULL, 10), &options);
    must(fclose(tokens) == 0, argv[2]);
    cr_close(room);
    return EXIT_SUCCESS;
}
