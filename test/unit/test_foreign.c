/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hashes of other systems (ASVS E6). Those here were made by bcrypt 4.0.1, passlib 1.7.4, Django
 * 5.2.19, argon2-cffi 25.1.0 and Werkzeug 3.1.9 (PyPI), at low cost; $2y$ is bcrypt's own with the
 * prefix that PHP and htpasswd write.
 */
#include "auth/foreign.h"

#include <stdbool.h>
#include <string.h>

#include "tap.h"

#define PASSWORD "correct horse, gr\xc3\xbcn"

static void hashes_of_other_systems_are_verified(void)
{
    static const struct {
        const char *name, *hash;
    } rows[] = {
        {"bcrypt2b", "$2b$04$LVQNwyA0JYQCNpq41GV8m.S5dTav2Wbz9BYjpe4q8pBYPnQ.bbio2"},
        {"bcrypt2a", "$2a$04$0czXfo2hcqvhM01JBbR8rOTG4OPfcWfvVI0NB.Xblq9WasxLIWeYO"},
        {"bcrypt2y", "$2y$04$LVQNwyA0JYQCNpq41GV8m.S5dTav2Wbz9BYjpe4q8pBYPnQ.bbio2"},
        {"django-bcrypt", "bcrypt$$2b$04$d1bBOGkBukjLCvYjHwIuGucbCnINzbMbNtTKYR3v2zvx0dsO8pWSG"},
        {"django-pbkdf2",
         "pbkdf2_sha256$1000$saltSALTsalt0123$GQdmuS2ybZgHOhkwZQtxpEWpkgDL1xzKqIdIAoqRo4U="},
        {"passlib256",
         "$pbkdf2-sha256$1000$GeMcw3hvzfnfuxeCUIqx1g$xLEBr7JLiL6lp8q5idXXVsrYyKRFvZL8JYVPcUQzxow"},
        {"passlib512", "$pbkdf2-sha512$1000$REhpbe2dk7L2vjcGwPh/Lw$3/C3pnWZOB2ApoRw/"
                       "ieIvVwUNBKk8G.UVY99qqSGQQ9q.xzME7eO8tyQVJ9E4MPnCkdktufghgprbqe1UbHWng"},
        {"werkzeug", "pbkdf2:sha256:1000$4e1tNnql1Bcqm58J$"
                     "f7f78544cc2eb9d892feb7562173586a1d7c78c716645d1deb72a91856fa5401"},
        {"argon2i", "$argon2i$v=19$m=256,t=3,p=1$niLp8KQHbbpKKNyuUq9KRw$"
                    "VLOUJLS5Eo9ICIeooRGlVDC2vbhAj8xfyPkkC510rr0"},
        {"argon2id", "$argon2id$v=19$m=256,t=3,p=4$PVPswWsN+xAeuV7U6JmmuQ$"
                     "0FCLigjRjxzeQNz58pSJlccoOhrJ+6IxMQAzwLBYa1c"},
        {"argon2id-p1", "$argon2id$v=19$m=64,t=2,p=1$ArXnhuLbVp/"
                        "Dzob22q7bng$Isf0sNNBjk9m2pclNryLF71SvM9lcb5A05+6EBjv91g"},
        {"django-argon2", "argon2$argon2id$v=19$m=512,t=2,p=8$c2FsdFNBTFRzYWx0MDEyMw$"
                          "f2Icuf4FdH6LvXwkcR3hzbID6kkrMDjA/LXaO+ScR94"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *why = cr_foreign_unfit(rows[i].hash);
        char damaged[256];
        tap_row(rows[i].name);
        CHECK_STR(why, NULL);
        CHECK_STATUS(cr_foreign_verify(rows[i].hash, PASSWORD, strlen(PASSWORD)), CR_OK);
        CHECK_STATUS(cr_foreign_verify(rows[i].hash, PASSWORD, strlen(PASSWORD) - 1), CR_DENIED);
        CHECK_STATUS(cr_foreign_verify(rows[i].hash, PASSWORD "\0", strlen(PASSWORD) + 1),
                     CR_DENIED);
        CHECK_STATUS(cr_foreign_verify(rows[i].hash, "", 0), CR_DENIED);
        /* Shorter by one, it is none; nothing is read past its end (the sanitizers look). */
        size_t length = strlen(rows[i].hash);
        memcpy(damaged, rows[i].hash, length + 1);
        bool any_length = strstr(rows[i].hash, "argon2") != NULL; /* of the sum, from 16 bytes on */
        for (size_t cut = 0; cut + (any_length ? 24 : 1) < length; cut++) {
            damaged[cut] = '\0';
            CHECK(cr_foreign_unfit(damaged) != NULL);
            damaged[cut] = rows[i].hash[cut];
        }
    }
}

/* Every one of these would cost whoever tries to log in, or us, more than it may. */
static void costs_without_bound_and_other_forms_are_refused(void)
{
    static const char *const rows[] = {
        "",
        "$",
        "plain text",
        "$1$salt$hash",
        "$6$rounds=5000$salt$hash",
        "scrypt:32768:8:1$salt$00",
        "$2b$31$LVQNwyA0JYQCNpq41GV8m.S5dTav2Wbz9BYjpe4q8pBYPnQ.bbio2",
        "$2b$16$LVQNwyA0JYQCNpq41GV8m.S5dTav2Wbz9BYjpe4q8pBYPnQ.bbio2",
        "$2b$03$LVQNwyA0JYQCNpq41GV8m.S5dTav2Wbz9BYjpe4q8pBYPnQ.bbio2",
        "$2b$04$LVQNwyA0JYQCNpq41GV8m!S5dTav2Wbz9BYjpe4q8pBYPnQ.bbio2",
        "$2b$04$LVQNwyA0JYQCNpq41GV8m.S5dTav2Wbz9BYjpe4q8pBYPnQ.bbio22",
        "$2x$04$LVQNwyA0JYQCNpq41GV8m.S5dTav2Wbz9BYjpe4q8pBYPnQ.bbio2",
        "pbkdf2_sha256$5000001$s$GQdmuS2ybZgHOhkwZQtxpEWpkgDL1xzKqIdIAoqRo4U=",
        "pbkdf2_sha256$99999999999999999999$s$GQdmuS2ybZgHOhkwZQtxpEWpkgDL1xzKqIdIAoqRo4U=",
        "pbkdf2_sha256$-1$s$GQdmuS2ybZgHOhkwZQtxpEWpkgDL1xzKqIdIAoqRo4U=",
        "pbkdf2_sha256$0$s$GQdmuS2ybZgHOhkwZQtxpEWpkgDL1xzKqIdIAoqRo4U=",
        "pbkdf2_sha256$1000$$GQdmuS2ybZgHOhkwZQtxpEWpkgDL1xzKqIdIAoqRo4U=",
        "pbkdf2_sha256$1000$s$GQdmuS2y",
        "pbkdf2_sha512$1000$s$GQdmuS2ybZgHOhkwZQtxpEWpkgDL1xzKqIdIAoqRo4U=",
        "pbkdf2:sha256:1000$s$f7f7",
        "$argon2d$v=19$m=64,t=2,p=1$ArXnhuLbVp/Dzob22q7bng$Isf0sNNBjk9m2pclNryLF71SvM9lcb5A05+"
        "6EBjv91g",
        "$argon2id$v=16$m=64,t=2,p=1$ArXnhuLbVp/Dzob22q7bng$Isf0sNNBjk9m2pclNryLF71SvM9lcb5A05+"
        "6EBjv91g",
        "$argon2id$v=19$m=4294967295,t=2,p=1$ArXnhuLbVp/Dzob22q7bng$Isf0sNNBjk9m2pclNryLF71SvM9l"
        "cb5A05+6EBjv91g",
        "$argon2id$v=19$m=262145,t=1,p=1$ArXnhuLbVp/Dzob22q7bng$Isf0sNNBjk9m2pclNryLF71SvM9lcb5A"
        "05+6EBjv91g",
        "$argon2id$v=19$m=64,t=4294967295,p=1$ArXnhuLbVp/Dzob22q7bng$Isf0sNNBjk9m2pclNryLF71SvM9"
        "lcb5A05+6EBjv91g",
        "$argon2id$v=19$m=65536,t=1,p=4294967295$ArXnhuLbVp/Dzob22q7bng$Isf0sNNBjk9m2pclNryLF71S"
        "vM9lcb5A05+6EBjv91g",
        "$argon2id$v=19$m=64,t=2,p=1$ArXnhuLbVp/Dzob22q7bng$",
        "$argon2id$v=19$m=64,t=2,p=1$$Isf0sNNBjk9m2pclNryLF71SvM9lcb5A05+6EBjv91g",
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        tap_row(rows[i]);
        CHECK(cr_foreign_unfit(rows[i]) != NULL);
        CHECK_STATUS(cr_foreign_verify(rows[i], PASSWORD, strlen(PASSWORD)), CR_DENIED);
    }
}

/* The other system never looked at more either; what it is replaced by at log-in does (E8). */
static void bcrypt_knows_72_bytes_and_no_nul(void)
{
    static const char hash[] = "$2b$04$shZOtiOpVNELrFsx0RmLzeDWFOCGfGVQ09ey5QWONy3RZ5EjNPsr6";
    char password[80];
    memset(password, 'x', sizeof password);
    CHECK_STATUS(cr_foreign_verify(hash, password, 72), CR_OK);
    CHECK_STATUS(cr_foreign_verify(hash, password, 80), CR_OK);
    CHECK_STATUS(cr_foreign_verify(hash, password, 71), CR_DENIED);
    password[75] = '\0';
    CHECK_STATUS(cr_foreign_verify(hash, password, 80), CR_DENIED);
}

static const struct tap_test tests[] = {
    TAP_TEST(hashes_of_other_systems_are_verified),
    TAP_TEST(costs_without_bound_and_other_forms_are_refused),
    TAP_TEST(bcrypt_knows_72_bytes_and_no_nul),
};

int main(int argc, char **argv)
{
    return TAP_MAIN(tests, argc, argv);
}
