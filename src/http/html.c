/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pages. They work without script, by keyboard and by screen reader; what they look like is in
 * style.css. Every value goes in through cr_text_html's %s, which escapes it (ASVS F8): names, user
 * agents and addresses are whatever somebody sent.
 */
#include "http/exchange.h"

#include <string.h>

#include "base/bytes.h"
#include "wire/message.h"

static void page_begin(struct cr_text *out, const char *title, const char *kind)
{
    cr_text_html(out,
                 "<!doctype html>\n"
                 "<html lang=\"en\">\n"
                 "<head>\n"
                 "<meta charset=\"utf-8\">\n"
                 "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                 "<meta name=\"color-scheme\" content=\"light dark\">\n"
                 "<title>%s · Cloakroom</title>\n"
                 "<link rel=\"stylesheet\" href=\"/style.css\" referrerpolicy=\"no-referrer\">\n"
                 "<link rel=\"icon\" href=\"/icon.svg\" type=\"image/svg+xml\" "
                 "referrerpolicy=\"no-referrer\">\n"
                 "</head>\n"
                 "<body class=\"%s\">\n",
                 title, kind);
}

static void page_end(struct cr_text *out)
{
    cr_text_str(out, "</body>\n</html>\n");
}

static void brand(struct cr_text *out)
{
    cr_text_str(out, "<a class=\"brand\" href=\"/\" referrerpolicy=\"no-referrer\"><img "
                     "src=\"/icon.svg\" alt=\"\" width=\"28\" height=\"28\" "
                     "referrerpolicy=\"no-referrer\"> Cloakroom</a>\n");
}

void cr_http_html_login(struct cr_http_exchange *x, const char *notice, const char *user,
                        const char *form_token)
{
    struct cr_text *out = &x->body;
    page_begin(out, "Sign in", "narrow");
    cr_text_str(out, "<main>\n");
    brand(out);
    cr_text_str(out, "<h1>Sign in</h1>\n");
    if (notice != NULL)
        cr_text_html(out, "<p class=\"notice\" role=\"status\">%s</p>\n", notice);
    cr_text_html(out,
                 "<form method=\"post\" action=\"/login\" class=\"login\">\n"
                 "<input type=\"hidden\" name=\"" CR_HTTP_FORM_TOKEN_FIELD "\" value=\"%s\">\n"
                 "<label for=\"user\">User</label>\n"
                 "<input id=\"user\" name=\"user\" value=\"%s\" autocomplete=\"username\" "
                 "autocapitalize=\"none\" spellcheck=\"false\" maxlength=\"128\" required%s>\n"
                 "<label for=\"password\">Password</label>\n"
                 "<input id=\"password\" name=\"password\" type=\"password\" "
                 "autocomplete=\"current-password\" maxlength=\"1024\" required%s>\n"
                 "<button class=\"main\">Sign in</button>\n"
                 "</form>\n",
                 form_token, user, user[0] == '\0' ? " autofocus" : "",
                 user[0] != '\0' ? " autofocus" : "");
    if (x->site->on_login == CR_POLICY_REPLACE)
        cr_text_str(out, "<p class=\"aside\">Signing in here ends your sessions on other "
                         "devices.</p>\n");
    cr_text_str(out, "</main>\n");
    page_end(out);
}

/* --- What pages of somebody who is signed in have in common --- */

struct signed_in {
    struct cr_text *out;
    char form_token[CR_HTTP_FORM_TOKEN_CHARS + 1];
    char user[CR_USER_BYTES_MAX + 1];
};

static void signed_in_init(struct signed_in *who, struct cr_http_exchange *x)
{
    who->out = &x->body;
    cr_label_copy(who->user, sizeof who->user, (const char *)x->session.user.bytes,
                  x->session.user.length);
    cr_http_form_token(&x->credential.token, who->form_token);
}

static void form_begin(const struct signed_in *who, const char *action, const char *segment,
                       const char *after, const char *kind)
{
    cr_text_html(who->out,
                 "<form method=\"post\" action=\"%s%s%s\" class=\"%s\"><input type=\"hidden\" "
                 "name=\"" CR_HTTP_FORM_TOKEN_FIELD "\" value=\"%s\">",
                 action, segment, after, kind, who->form_token);
}

/* The way out is on each (ASVS D6). */
static void header(const struct signed_in *who, bool password_link)
{
    cr_text_str(who->out, "<header>\n");
    brand(who->out);
    cr_text_html(who->out, "<p class=\"who\"><span class=\"as\">Signed in as </span>%s</p>\n",
                 who->user);
    if (password_link)
        cr_text_str(who->out, "<a href=\"/password\">Change password</a>\n");
    form_begin(who, "/logout", "", "", "out");
    cr_text_str(who->out, "<button>Sign out</button></form>\n</header>\n");
}

/* --- The password again, and a new one --- */

static void password_input(struct cr_text *out, const char *name, const char *label,
                           const char *complete, const char *more)
{
    cr_text_html(out,
                 "<label for=\"%s\">%s</label>\n"
                 "<input id=\"%s\" name=\"%s\" type=\"password\" autocomplete=\"%s\" "
                 "maxlength=\"1024\" required",
                 name, label, name, name, complete);
    cr_text_str(out, more);
    cr_text_str(out, ">\n");
}

void cr_http_html_password(struct cr_http_exchange *x, bool changes, const char *notice)
{
    struct cr_text *out = &x->body;
    const char *title = changes ? "Change password" : "Confirm that it is you";
    struct signed_in who;
    signed_in_init(&who, x);
    page_begin(out, title, "wide");
    header(&who, false);
    cr_text_html(out, "<main class=\"card\">\n<h1>%s</h1>\n", title);
    if (notice != NULL)
        cr_text_html(out, "<p class=\"notice\" role=\"alert\">%s</p>\n", notice);
    form_begin(&who, changes ? "/password" : "/reauth", "", "", "login");
    /* The name, so that a password manager knows whose. */
    cr_text_html(out,
                 "\n<label for=\"user\">User</label>\n"
                 "<input id=\"user\" value=\"%s\" autocomplete=\"username\" readonly>\n",
                 who.user);
    password_input(out, "password", changes ? "Current password" : "Password", "current-password",
                   " autofocus");
    if (changes)
        password_input(out, "new_password", "New password: long, such as several words",
                       "new-password", "");
    cr_text_html(out, "<button class=\"main\">%s</button>\n</form>\n",
                 changes ? "Change password" : "Confirm");
    if (changes)
        cr_text_str(out, "<p class=\"aside\">This ends your sessions on all other devices.</p>\n");
    cr_text_str(out, "<p class=\"aside\"><a href=\"/\">Back to your devices</a></p>\n</main>\n");
    page_end(out);
    cr_bytes_wipe(&who, sizeof who);
}

void cr_http_html_first(struct cr_http_exchange *x, const char *notice, const char *user,
                        const char *form_token)
{
    struct cr_text *out = &x->body;
    page_begin(out, "Choose a password", "narrow");
    cr_text_str(out, "<main>\n");
    brand(out);
    cr_text_html(
        out,
        "<h1>Choose a password</h1>\n"
        "<p class=\"notice\" role=\"alert\">%s</p>\n"
        "<form method=\"post\" action=\"/login\" class=\"login\">\n"
        "<input type=\"hidden\" name=\"" CR_HTTP_FORM_TOKEN_FIELD "\" value=\"%s\">\n"
        "<label for=\"user\">User</label>\n"
        "<input id=\"user\" name=\"user\" value=\"%s\" autocomplete=\"username\" readonly>\n",
        notice, form_token, user);
    password_input(out, "password", "One-time password", "current-password", " autofocus");
    password_input(out, "new_password", "New password: long, such as several words", "new-password",
                   "");
    cr_text_str(out,
                "<button class=\"main\">Set it and sign in</button>\n</form>\n"
                "<p class=\"aside\"><a href=\"/login\">Back to the sign-in</a></p>\n</main>\n");
    page_end(out);
}

/* The link's token stands in the form, as it does in this page's address: so no request for
 * anything else names that address (referrerpolicy). Of whom it is, the page does not know. */
void cr_http_html_reset(struct cr_http_exchange *x, const char *notice)
{
    struct cr_text *out = &x->body;
    page_begin(out, "Choose a new password", "narrow");
    cr_text_str(out, "<main>\n");
    brand(out);
    cr_text_str(out, "<h1>Choose a new password</h1>\n");
    if (notice != NULL)
        cr_text_html(out, "<p class=\"notice\" role=\"alert\">%s</p>\n", notice);
    cr_text_html(out,
                 "<form method=\"post\" action=\"/reset\" class=\"login\">\n"
                 "<input type=\"hidden\" name=\"link\" value=\"%s\">\n",
                 x->link.text);
    password_input(out, "new_password", "New password: long, such as several words", "new-password",
                   " autofocus");
    cr_text_str(out, "<button class=\"main\">Set it</button>\n</form>\n"
                     "<p class=\"aside\">This ends your sessions on all devices.</p>\n</main>\n");
    page_end(out);
}

/* What happened, in words that a person uses. */
static const char *message_title(unsigned status)
{
    static const struct {
        unsigned status;
        const char *title;
    } titles[] = {
        {202, "It is ended"},           {400, "This cannot be read"}, {403, "This was not done"},
        {404, "There is no such page"}, {405, "Not like this"},       {409, "Somebody was quicker"},
        {429, "Too many attempts"},     {503, "One moment, please"},
    };
    for (size_t i = 0; i < sizeof titles / sizeof titles[0]; i++)
        if (titles[i].status == status)
            return titles[i].title;
    return cr_http_status_title(status);
}

void cr_http_html_message(struct cr_http_exchange *x, unsigned status, const char *text)
{
    struct cr_text *out = &x->body;
    const char *title = message_title(status);
    page_begin(out, title, "narrow");
    cr_text_str(out, "<main>\n");
    brand(out);
    cr_text_html(out, "<h1>%s</h1>\n<p>%s</p>\n", title, text);
    cr_text_str(out, "<p class=\"aside\"><a href=\"/\">Go to your devices</a></p>\n</main>\n");
    page_end(out);
}

/* --- Your devices --- */

#define DEVICE_NAME_BYTES 128

struct home {
    struct signed_in who;
    struct cr_text *out;
    const struct cr_session *current;
    cr_time_ms now;
};

static void ago(struct home *home, cr_time_ms time)
{
    static const struct {
        cr_span_ms span;
        const char *one, *many;
    } units[] = {{86400000, "a day ago", " days ago"},
                 {3600000, "an hour ago", " hours ago"},
                 {60000, "a minute ago", " minutes ago"}};
    cr_span_ms since = home->now - time;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (since < units[i].span)
            continue;
        cr_span_ms count = since / units[i].span;
        if (count > 1)
            cr_text_u64(home->out, (uint64_t)count);
        cr_text_str(home->out, count > 1 ? units[i].many : units[i].one);
        return;
    }
    cr_text_str(home->out, "just now");
}

static void fact_time(struct home *home, const char *name, cr_time_ms time)
{
    cr_text_html(home->out, "<div><dt>%s</dt><dd><time datetime=\"", name);
    cr_text_time(home->out, time);
    cr_text_str(home->out, "\" title=\"");
    cr_text_time(home->out, time);
    cr_text_str(home->out, "\">");
    ago(home, time);
    cr_text_str(home->out, "</time></dd></div>\n");
}

static const char *device_icon(enum cr_device device)
{
    switch (device) {
    case CR_DEVICE_COMPUTER:
        return "<rect x=\"3\" y=\"4.5\" width=\"18\" height=\"12\" rx=\"1.5\"/>"
               "<path d=\"M8.5 20h7M12 16.5V20\"/>";
    case CR_DEVICE_PHONE:
        return "<rect x=\"7\" y=\"3\" width=\"10\" height=\"18\" rx=\"2\"/>"
               "<path d=\"M11 18h2\"/>";
    case CR_DEVICE_PROGRAM:
        return "<rect x=\"3\" y=\"4\" width=\"18\" height=\"16\" rx=\"2\"/>"
               "<path d=\"M7 9l3 3-3 3M12.5 15H17\"/>";
    }
    return "";
}

/* Its icon, and what a person calls it. */
static const char *device_begin(struct cr_text *out, const char *agent,
                                char name[DEVICE_NAME_BYTES])
{
    enum cr_device device = cr_device_describe(agent, name, DEVICE_NAME_BYTES);
    cr_text_str(out, "<svg viewBox=\"0 0 24 24\" aria-hidden=\"true\">");
    cr_text_str(out, device_icon(device));
    cr_text_str(out, "</svg>\n<div class=\"what\">\n");
    return name[0] != '\0' ? name : "An unnamed program";
}

static void fact_address(struct cr_text *out, const char *address)
{
    if (address[0] != '\0')
        cr_text_html(out, "<div><dt>Address</dt><dd>%s</dd></div>\n", address);
}

static void device_row(struct home *home, const struct cr_session *session)
{
    struct cr_text *out = home->out;
    bool current = cr_session_id_equal(&session->id, &home->current->id);
    char name[DEVICE_NAME_BYTES];
    cr_text_str(out, current ? "<li class=\"device current\">\n" : "<li class=\"device\">\n");
    const char *shown = device_begin(out, session->agent, name);
    cr_text_html(out, "<h2 title=\"%s\">%s", session->agent, shown);
    cr_text_str(out, current ? " <span class=\"badge\">This device</span></h2>\n" : "</h2>\n");
    cr_text_str(out, "<dl>\n");
    fact_address(out, session->address);
    fact_time(home, "Signed in", session->created_at);
    fact_time(home, "Last seen", session->seen_at);
    cr_text_str(out, "</dl>\n</div>\n");
    if (!current) {
        form_begin(&home->who, "/sessions/", session->id.text, "/end", "");
        cr_text_html(out, "<button aria-label=\"End the session of %s, %s\">End</button></form>\n",
                     shown, session->address);
    }
    cr_text_str(out, "</li>\n");
}

static void devices(struct home *home, const struct cr_session *list, size_t count)
{
    const struct cr_session *current = home->current;
    for (size_t i = 0; i < count; i++)
        if (cr_session_id_equal(&list[i].id, &home->current->id))
            current = &list[i]; /* with its labels */
    cr_text_str(home->out, "<ul class=\"devices\">\n");
    device_row(home, current);
    for (size_t i = 0; i < count; i++)
        if (&list[i] != current)
            device_row(home, &list[i]);
    cr_text_str(home->out, "</ul>\n");
}

static void home_others(struct home *home, size_t count)
{
    struct cr_text *out = home->out;
    if (count <= 1) {
        cr_text_str(out, "<p class=\"aside\">You are signed in nowhere else.</p>\n");
        return;
    }
    if (count == CR_HTTP_LIST_MAX)
        cr_text_str(out, "<p class=\"aside\">Only the newest are shown.</p>\n");
    form_begin(&home->who, "/sessions/end-others", "", "", "");
    cr_text_str(out, "<button class=\"danger\">End all other sessions</button></form>\n"
                     "<p class=\"aside\">A session that you end is refused everywhere from that "
                     "moment on.</p>\n");
}

/* --- And what they were --- */

static void past_row(struct home *home, const struct cr_past_session *past)
{
    struct cr_text *out = home->out;
    char name[DEVICE_NAME_BYTES], how[CR_HTTP_SENTENCE_CHARS_MAX + 1];
    cr_http_past_sentence(&past->ended, how);
    cr_text_str(out, "<li class=\"device\">\n");
    const char *shown = device_begin(out, past->where.agent, name);
    cr_text_html(out, "<h3 title=\"%s\">%s</h3>\n<p>%s</p>\n<dl>\n", past->where.agent, shown, how);
    fact_address(out, past->where.address);
    if (past->ended.created_at != 0)
        fact_time(home, "Signed in", past->ended.created_at);
    fact_time(home, "Ended", past->ended.at);
    cr_text_str(out, "</dl>\n</div>\n</li>\n");
}

static void past_devices(struct home *home, const struct cr_past_session *list, size_t count)
{
    struct cr_text *out = home->out;
    cr_text_str(out, "<section aria-labelledby=\"ended\">\n<h2 id=\"ended\">Signed out</h2>\n"
                     "<p class=\"aside\">What ended in the last 7 days. If you do not know one of "
                     "these, <a href=\"/password\">change your password</a>.</p>\n"
                     "<ul class=\"devices ended\">\n");
    for (size_t i = 0; i < count; i++)
        past_row(home, &list[i]);
    cr_text_str(out, "</ul>\n");
    if (count == CR_PAST_MAX)
        cr_text_str(out, "<p class=\"aside\">Only those that ended last are shown.</p>\n");
    cr_text_str(out, "</section>\n");
}

void cr_http_html_home(struct cr_http_exchange *x)
{
    struct home home = {
        .out = &x->body,
        .current = &x->session,
        .now = cr_clock_wall(x->site->clock),
    };
    signed_in_init(&home.who, x);
    /* A validation that the table answers does not know the labels. */
    x->session.address[0] = x->session.agent[0] = '\0';
    page_begin(home.out, "Your devices", "wide");
    header(&home.who, true);
    cr_text_str(home.out, "<main>\n<h1>Your devices</h1>\n"
                          "<p class=\"lead\">Each of these can act as you. End what you do not "
                          "know or no longer use.</p>\n");
    devices(&home, x->list, x->list_count);
    home_others(&home, x->list_count);
    if (x->past_count > 0)
        past_devices(&home, x->past, x->past_count);
    else if (!x->past_known)
        cr_text_str(home.out, "<p class=\"aside\">What was signed out lately cannot be shown just "
                              "now.</p>\n");
    cr_text_str(home.out, "</main>\n");
    page_end(home.out);
    cr_bytes_wipe(&home.who, sizeof home.who);
}
