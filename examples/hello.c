/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a session. In this directory, with Cloakroom installed:
 *
 *     cc hello.c $(pkg-config --cflags --libs cloakroom) -o hello
 *     ./hello sqlite:///tmp/hello.db
 */
#include <stdio.h>
#include <stdlib.h>

#include <cloakroom/cloakroom.h>

static void expect(enum cr_status wanted, const char *step, enum cr_status got)
{
    printf("%-22s %s\n", step, cr_status_text(got));
    if (got != wanted)
        exit(EXIT_FAILURE);
}

int main(int argc, char **argv)
{
    struct cr_error error = {.size = sizeof(error)};
    struct cr_room *room = NULL;
    if (argc != 2 || cr_open(argv[1], NULL, &room, &error) != CR_OK) {
        fprintf(stderr, "%s\n", argc == 2 ? error.text : "usage: hello URL-OF-A-STORE");
        return EXIT_FAILURE;
    }
    struct cr_user alice;
    expect(CR_OK, "alice is a user", cr_user_parse("alice", 5, &alice));

    /* What a log-in does to alice's earlier sessions: this one ends them. */
    struct cr_login_options options = {.size = sizeof(options), .policy = CR_POLICY_REPLACE};
    struct cr_login login;
    expect(CR_OK, "log in", cr_login(room, &alice, &options, &login));

    struct cr_session session = CR_SESSION_INIT;
    expect(CR_OK, "validate", cr_validate(room, &login.signed_token, &session));
    expect(CR_OK, "invalidate_by_user", cr_invalidate_by_user(room, &alice, NULL, NULL));
    expect(CR_ENDED, "validate again", cr_validate(room, &login.signed_token, &session));

    cr_token_wipe(&login.signed_token);
    cr_close(room);
    return EXIT_SUCCESS;
}
