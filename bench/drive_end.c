/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole call that ends all sessions of a user, through the agent, commit included.
 *
 *     drive_end URL
 *
 * Each line of its input names a user as make_store.c names them; answered with how many
 * nanoseconds it took until the call had answered "done".
 */
#include "drive.h"

int main(int argc, char **argv)
{
    char name[64];
    must(argc == 2, "usage: drive_end URL");
    struct cr_room *room = room_must_open(argv[1]);
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("0\n"); /* ready */
    while (scanf("%63s", name) == 1) {
        struct cr_user user;
        must_be_ok(cr_user_parse(name, strlen(name), &user), "user");
        double start = seconds_now();
        must_be_ok(cr_invalidate_by_user(room, &user, NULL, NULL), "end");
        printf("%.0f\n", (seconds_now() - start) * 1e9);
    }
    cr_close(room);
    return EXIT_SUCCESS;
}
