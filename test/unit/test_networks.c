/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses and networks: what is taken, what is refused, and which is in which. */
#include "tap.h"

#include <string.h>

#include "base/networks.h"

static bool has(const char *networks, const char *address)
{
    struct cr_networks list;
    struct cr_address at;
    return CHECK(cr_networks_read(networks, &list) == NULL) &&
           CHECK(cr_address_read(address, strlen(address), &at)) && cr_networks_have(&list, &at);
}

static void an_address_is_in_its_networks_and_in_no_other(void)
{
    static const struct {
        const char *networks, *in, *out;
    } rows[] = {
        {"127.0.0.1", "127.0.0.1", "127.0.0.2"},
        {"10.0.0.0/8", "10.255.0.1", "11.0.0.1"},
        {"10.1.2.64/26", "10.1.2.127", "10.1.2.128"},
        {"10.1.2.3/1", "127.0.0.1", "128.0.0.0"},
        {"::1", "::1", "127.0.0.1"},
        {"fd00::/8, 10.0.0.0/8", "fdff::7", "fc00::7"},
        {"2001:db8::/33", "2001:db8:7fff::", "2001:db8:8000::"},
        {"192.0.2.0/24", "::ffff:192.0.2.7", "::192.0.2.7"},
        {"\t1.2.3.4 , 5.6.7.8\t", "5.6.7.8", "1.2.3.5"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        tap_row(rows[i].networks);
        CHECK(has(rows[i].networks, rows[i].in));
        CHECK(!has(rows[i].networks, rows[i].out));
    }
    tap_row(NULL);
    CHECK(!has("", "127.0.0.1"));
}

static void what_is_no_network_is_refused_with_the_reason(void)
{
    static const struct {
        const char *text, *why;
    } rows[] = {
        {"proxy.example", "an address"}, {"127.0.0.1:80", "an address"},
        {"127.0.0.1/", "1 to 32"},       {"127.0.0.1/33", "1 to 32"},
        {"0.0.0.0/0", "everybody"},      {"::/0", "everybody"},
        {"::1/129", "1 to 128"},         {"10.0.0.0/8x", "1 to 32"},
        {"10.0.0.0/+8", "1 to 32"},      {"10.0.0.0/0008", "1 to 32"},
        {"10.0.0.0/8/8", "1 to 32"},     {"10.0.0", "an address"},
        {"1.1.1.1 x", "an address"},     {"::1%lo", "an address"},
        {"1 2 3", "an address"},         {"/8", "an address"},
    };
    struct cr_networks list;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        tap_row(rows[i].text);
        const char *why = cr_networks_read(rows[i].text, &list);
        if (CHECK(why != NULL) && !CHECK(strstr(why, rows[i].why) != NULL))
            tap_note("%s", why);
    }
    tap_row("sixteen and one more");
    static const char one[] = "1.2.3.4 ";
    char many[(CR_NETWORKS_MAX + 1) * (sizeof one - 1) + 1];
    for (size_t i = 0; i <= CR_NETWORKS_MAX; i++)
        memcpy(many + i * (sizeof one - 1), one, sizeof one);
    const char *why = cr_networks_read(many + sizeof one - 1, &list);
    CHECK(why == NULL);
    CHECK_UINT(list.count, CR_NETWORKS_MAX);
    why = cr_networks_read(many, &list);
    CHECK(why != NULL && strstr(why, "more than 16") != NULL);
    tap_row(NULL);
}

static void an_address_is_written_as_people_write_it(void)
{
    static const char *const rows[][2] = {
        {"192.0.2.7", "192.0.2.7"},
        {"::ffff:192.0.2.7", "192.0.2.7"},
        {"2001:0DB8:0:0:0:0:0:7", "2001:db8::7"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct cr_address address;
        char out[INET6_ADDRSTRLEN];
        CHECK(cr_address_read(rows[i][0], strlen(rows[i][0]), &address));
        cr_address_write(&address, out);
        CHECK_STR(out, rows[i][1]);
    }
    struct cr_address address;
    CHECK(!cr_address_read("127.0.0.1\0x", 11, &address)); /* not up to the NUL */
    CHECK(!cr_address_read("", 0, &address));
}

static const struct tap_test tests[] = {
    TAP_TEST(an_address_is_in_its_networks_and_in_no_other),
    TAP_TEST(what_is_no_network_is_refused_with_the_reason),
    TAP_TEST(an_address_is_written_as_people_write_it),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
