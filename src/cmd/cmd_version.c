/* SPDX-License-Identifier: Apache-2.0 */
/* `cloakroom version`. */
#include <stdio.h>

#include "cmd/command.h"

int cr_cmd_version(int argc, char **argv)
{
    static const struct cr_form form = {.text = "Show the version.", .takes_json = true};
    struct cr_place place;
    cr_form_read(&form, argc, argv, &place, NULL);
    if (place.json)
        return cr_json_print(json_pack("{s:s}", "version", CR_VERSION_TEXT));
    puts("cloakroom " CR_VERSION_TEXT);
    return CR_EXIT_OK;
}
