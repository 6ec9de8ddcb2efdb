/* SPDX-License-Identifier: Apache-2.0 */
/* A program with a store of its own: logs in on two devices, and ends what it must. */
#include <stdio.h>
#include <string.h>

#include <cloakroom/cloakroom.h>

#include "list_store.h"

static int said(const char *what, enum cr_status got, enum cr_status want)
{
    printf("%-28s %s\n", what, cr_status_text(got));
    return got == want ? 0 : 1;
}

/* A store that was built for another contract is refused. */
static int old_store(void)
{
    struct cr_store store;
    const struct cr_store_ops ops = {.name = "old", .contract = CR_STORE_CONTRACT - 1};
    return said("a store of another contract", cr_store_init(&store, &ops), CR_E_VERSION);
}

static int use(struct cr_room *room)
{
    int wrong = 0;
    struct cr_user anna;
    struct cr_login phone = {.session = CR_SESSION_INIT}, laptop = {.session = CR_SESSION_INIT};
    struct cr_session session = CR_SESSION_INIT;
    struct cr_login_options options = {.size = sizeof options, .policy = CR_POLICY_REPLACE};
    uint64_t version = 0;
    if (cr_user_parse("anna", 4, &anna) != CR_OK)
        return 1;
    wrong += said("log in on the phone", cr_login(room, &anna, &options, &phone), CR_OK);
    wrong += said("validate the phone", cr_validate(room, &phone.signed_token, &session), CR_OK);
    wrong +=
        said("write data", cr_data_write(room, &phone.session.id, 1, "hello", 5, &version), CR_OK);
    wrong += said("write it again, late",
                  cr_data_write(room, &phone.session.id, 1, "later", 5, &version), CR_CONFLICT);
    wrong += said("log in on the laptop", cr_login(room, &anna, &options, &laptop), CR_OK);
    wrong += said("validate the phone", cr_validate(room, &phone.signed_token, &session), CR_ENDED);
    wrong += said("validate the laptop", cr_validate(room, &laptop.signed_token, &session), CR_OK);
    wrong += said("end all of anna", cr_invalidate_by_user(room, &anna, NULL, NULL), CR_OK);
    wrong += said("validate the laptop", cr_validate_strict(room, &laptop.signed_token, &session),
                  CR_ENDED);
    cr_token_wipe(&phone.signed_token);
    cr_token_wipe(&laptop.signed_token);
    return wrong;
}

int main(void)
{
    struct cr_store *store;
    struct cr_room *room;
    struct cr_error error = {.size = sizeof error};
    int wrong = old_store();
    if (list_store_create(NULL, &store) != CR_OK)
        return 2;
    if (cr_open_store(store, NULL, &room, &error) != CR_OK) {
        fprintf(stderr, "%s\n", error.text);
        return 2;
    }
    wrong += use(room);
    cr_close(room);
    return wrong == 0 ? 0 : 1;
}
