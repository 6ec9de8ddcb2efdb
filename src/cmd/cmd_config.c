/* SPDX-License-Identifier: Apache-2.0 */
/* `cloakroom config`: what can be set, and whether a settings file is right. */
#include <stdio.h>
#include <string.h>

#include "cmd/command.h"

static json_t *row_json(const struct cr_setting *row, const char *value, const char *range,
                        bool is_given)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:s?, s:b, s:b, s:s}", "name", row->name, "value", value,
                     "default", row->normal, "range", range, "option", row->option, "reloads",
                     (int)row->reloads, "given", (int)is_given, "text", row->text);
}

int cr_cmd_config(int argc, char **argv)
{
    static const char *const none[] = {NULL};
    static const struct cr_form form = {
        .text = "Show every setting with its value, its range and its meaning. With --config, as "
                "that file sets them; a file that is not right is told with file and line."
                "\vExamples:\n  cloakroom config\n  cloakroom config --config "
                "/etc/cloakroom.conf\n\nA settings file:\n  [cache]\n  kind = shared\n  memory = "
                "256M",
        .settings = none,
        .takes_json = true};
    struct cr_place place;
    size_t count;
    const struct cr_setting *rows = cr_setting_rows(&count);
    cr_form_read(&form, argc, argv, &place, NULL);
    json_t *json = place.json ? json_array() : NULL;
    for (size_t i = 0; i < count; i++) {
        char value[CR_SETTING_TEXT_CHARS_MAX + 1];
        char range[128];
        cr_setting_write(&place.settings, i, value, sizeof value);
        cr_setting_range(i, range, sizeof range);
        if (place.json) {
            json_array_append_new(json, row_json(&rows[i], value, range, place.settings.given[i]));
            continue;
        }
        printf("%s = %s\n    %s (%s%s%s%s)\n", rows[i].name, value, rows[i].text, range,
               rows[i].option == NULL ? "" : "; option --",
               rows[i].option == NULL ? "" : rows[i].option,
               rows[i].reloads ? "; taken over by SIGHUP" : "");
    }
    return place.json ? cr_json_print(json) : CR_EXIT_OK;
}
