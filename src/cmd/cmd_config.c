/* SPDX-License-Identifier: Apache-2.0 */
/* `cloakroom config`: what can be set, what is set and by whom, and a file to begin with. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "cmd/command.h"
#include "server/listen.h"

/* ---- show */

static json_t *row_json(const struct cr_setting *row, const char *value, const char *range,
                        bool is_given)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:s?, s:b, s:b, s:s}", "name", row->name, "value", value,
                     "default", row->normal, "range", range, "option", row->option, "reloads",
                     (int)row->reloads, "given", (int)is_given, "text", row->text);
}

int cr_cmd_config_show(int argc, char **argv)
{
    static const char *const none[] = {NULL};
    static const struct cr_form form = {
        .text = "Show every setting with its value, its range and its meaning, as settings file "
                "and environment set them. A file that is not right is told with file and line."
                "\vExamples:\n  cloakroom config show\n  cloakroom config show --config "
                "/srv/app.conf\n\nA settings file:\n  [cache]\n  kind = shared\n  memory = "
                "256M\n\nThe same by the environment: CLOAKROOM__CACHE__MEMORY=256M",
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
        bool is_given = place.settings.origins[i].kind != CR_ORIGIN_DEFAULT;
        cr_setting_show(&place.settings, i, value, sizeof value);
        cr_setting_range(i, range, sizeof range);
        if (place.json) {
            json_array_append_new(json, row_json(&rows[i], value, range, is_given));
            continue;
        }
        printf("%s = %s\n    %s (%s%s%s%s)\n", rows[i].name, value, rows[i].text, range,
               rows[i].option == NULL ? "" : "; option --",
               rows[i].option == NULL ? "" : rows[i].option,
               rows[i].reloads ? "; taken over by SIGHUP" : "");
    }
    return place.json ? cr_json_print(json) : CR_EXIT_OK;
}

/* ---- check */

/* As `serve` reads them. */
static enum cr_status listen_check(const struct cr_settings *settings, struct cr_error *out_error)
{
    char list[CR_SETTING_TEXT_CHARS_MAX + 1];
    char origin[CR_SETTING_TEXT_CHARS_MAX + 32];
    struct cr_listen_address address;
    char *rest = list;
    memcpy(list, settings->listen, sizeof list);
    cr_setting_origin_show(settings, cr_setting_find("server.listen"), origin, sizeof origin);
    for (char *word = strsep(&rest, ","); word != NULL; word = strsep(&rest, ",")) {
        word += strspn(word, " ");
        word[strcspn(word, " ")] = '\0';
        if (cr_listen_parse(word, &address) != CR_OK)
            return cr_setting_refuse(out_error,
                                     "%s: '%s' is not an address and a port in numbers, such as "
                                     "127.0.0.1:8080 or [::1]:8080",
                                     origin, word);
    }
    return CR_OK;
}

static enum cr_status clear_check(const struct cr_settings *settings, struct cr_error *out_error)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ*, ";
    char origin[CR_SETTING_TEXT_CHARS_MAX + 32];
    if (settings->clear_site_data[strspn(settings->clear_site_data, letters)] == '\0')
        return CR_OK;
    cr_setting_origin_show(settings, cr_setting_find("server.clear_site_data"), origin,
                           sizeof origin);
    return cr_setting_refuse(out_error,
                             "%s: '%s' is not a list of what Clear-Site-Data can name, such as "
                             "cookies, storage",
                             origin, settings->clear_site_data);
}

/* With what else is wrong. */
static void server_check(struct cr_place *place)
{
    struct cr_error error = {.size = sizeof error};
    enum cr_status *st = &place->settings_status;
    if (listen_check(&place->settings, &error) != CR_OK)
        *st = cr_settings_wrong_add(&place->settings_wrong, *st, &error, &place->settings_error);
    if (clear_check(&place->settings, &error) != CR_OK)
        *st = cr_settings_wrong_add(&place->settings_wrong, *st, &error, &place->settings_error);
}

static json_t *wrong_json(const struct cr_place *place)
{
    json_t *list = json_array();
    for (size_t i = 0; i < place->settings_wrong.count; i++)
        json_array_append_new(list, json_string(place->settings_wrong.text[i]));
    return json_pack("{s:b, s:s, s:o, s:b}", "ok", 0, "error", place->settings_error.text, "errors",
                     list, "more", (int)place->settings_wrong.more);
}

static void check_print(const struct cr_settings *settings, const char *policy)
{
    size_t count;
    const struct cr_setting *rows = cr_setting_rows(&count);
    for (size_t i = 0; i < count; i++) {
        char value[CR_SETTING_TEXT_CHARS_MAX + 1];
        char origin[CR_SETTING_TEXT_CHARS_MAX + 32];
        char line[2 * CR_SETTING_TEXT_CHARS_MAX];
        cr_setting_show(settings, i, value, sizeof value);
        cr_setting_origin_show(settings, i, origin, sizeof origin);
        snprintf(line, sizeof line, "%s = %s", rows[i].name, value);
        printf("%-39s %s\n", line, origin);
    }
    printf("\n%s\nThe settings are right.\n", policy);
}

static json_t *check_json(const struct cr_settings *settings, const char *policy)
{
    static const char *const kinds[] = {[CR_ORIGIN_DEFAULT] = "default",
                                        [CR_ORIGIN_PROFILE] = "profile",
                                        [CR_ORIGIN_FILE] = "file",
                                        [CR_ORIGIN_CREDENTIAL] = "credential",
                                        [CR_ORIGIN_ENVIRONMENT] = "environment",
                                        [CR_ORIGIN_OPTION] = "option"};
    size_t count;
    const struct cr_setting *rows = cr_setting_rows(&count);
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        char value[CR_SETTING_TEXT_CHARS_MAX + 1];
        char origin[CR_SETTING_TEXT_CHARS_MAX + 32];
        cr_setting_show(settings, i, value, sizeof value);
        cr_setting_origin_show(settings, i, origin, sizeof origin);
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:s, s:s, s:b}", "name", rows[i].name, "value",
                                        value, "source", kinds[settings->origins[i].kind], "origin",
                                        origin, "reloads", (int)rows[i].reloads));
    }
    return json_pack("{s:b, s:s?, s:s, s:o}", "ok", 1, "file",
                     settings->file[0] == '\0' ? NULL : settings->file, "policy", policy,
                     "settings", list);
}

int cr_cmd_config_check(int argc, char **argv)
{
    static const char *names[CR_SETTINGS_MAX + 1];
    static struct cr_form form = {
        .text = "Check the settings as `serve` would take them, with the same options: is "
                "everything right, and where does each value come from? The exit status is 2 when "
                "something is wrong: all of it (up to 20) is told with file and line, variable or "
                "option."
                "\vExamples:\n  cloakroom config check\n  cloakroom config check --config "
                "/srv/app.conf --workers 4\n\nOptions outweigh the environment "
                "(CLOAKROOM__SECTION__KEY), that outweighs the file, and that the defaults.",
        .settings = names,
        .takes_json = true,
        .takes_bad_settings = true};
    struct cr_place place;
    char policy[1024];
    size_t count;
    const struct cr_setting *rows = cr_setting_rows(&count);
    for (size_t i = 0; i < count; i++)
        names[i] = rows[i].name;
    cr_form_read(&form, argc, argv, &place, NULL);
    server_check(&place);
    if (place.settings_status != CR_OK) {
        if (place.json)
            (void)cr_json_print(wrong_json(&place));
        cr_settings_wrong_complain(&place.settings_wrong);
        return CR_EXIT_USAGE;
    }
    cr_settings_policy_show(&place.settings, policy, sizeof policy);
    if (place.json)
        return cr_json_print(check_json(&place.settings, policy));
    check_print(&place.settings, policy);
    return CR_EXIT_OK;
}

/* ---- example */

/* A sentence in lines of comments. */
static void comment_print(const char *text)
{
    size_t column = 1;
    putchar('#');
    while (*text != '\0') {
        size_t length = strcspn(text, " ");
        if (column + 1 + length > 96) {
            printf("\n#");
            column = 1;
        }
        printf(" %.*s", (int)length, text);
        column += 1 + length;
        text += length;
        text += strspn(text, " ");
    }
    putchar('\n');
}

static void example_row_print(size_t index)
{
    size_t count;
    const struct cr_setting *row = &cr_setting_rows(&count)[index];
    char range[128];
    char text[512];
    const bool is_text = row->kind == CR_SETTING_TEXT || row->kind == CR_SETTING_URL;
    cr_setting_range(index, range, sizeof range);
    snprintf(text, sizeof text, "%c%s.%s%s%s%s", toupper((unsigned char)row->text[0]),
             row->text + 1, is_text ? "" : " Takes ", is_text ? "" : range, is_text ? "" : ".",
             row->reloads ? " SIGHUP takes it over." : " A change needs a restart.");
    comment_print(text);
    printf(row->normal[0] == '\0' ? "#%s =\n" : "#%s = %s\n", strchr(row->name, '.') + 1,
           row->normal);
}

int cr_cmd_config_example(int argc, char **argv)
{
    static const struct cr_form form = {
        .text = "Print a settings file in which every setting stands as a comment, with its "
                "meaning, its range and its default."
                "\vExample:\n  cloakroom config example >app.conf"};
    struct cr_place place;
    size_t count;
    size_t section = 0; /* length of the name of the one before */
    const struct cr_setting *rows = cr_setting_rows(&count);
    cr_form_read(&form, argc, argv, &place, NULL);
    printf("# Settings of Cloakroom, each with its default: cloakroom.conf(5). A line that begins\n"
           "# with # or ; is a comment. To see what is right and where each value comes from:\n"
           "#\n"
           "#     cloakroom config check --config FILE\n");
    for (size_t i = 0; i < count; i++) {
        size_t length = strcspn(rows[i].name, ".") + 1;
        if (i == 0 || length != section || strncmp(rows[i].name, rows[i - 1].name, length) != 0)
            printf("\n[%.*s]\n", (int)length - 1, rows[i].name);
        else
            putchar('\n');
        section = length;
        example_row_print(i);
    }
    return CR_EXIT_OK;
}
