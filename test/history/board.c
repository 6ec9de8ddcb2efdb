/* SPDX-License-Identifier: Apache-2.0 */
#include "board.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

struct board *board_map(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return NULL;
    void *memory = MAP_FAILED;
    if (ftruncate(fd, sizeof(struct board)) == 0)
        memory = mmap(NULL, sizeof(struct board), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return memory == MAP_FAILED ? NULL : memory;
}

void board_put(struct board_slot *slot, const struct board_session *session)
{
    uint64_t words[16] = {0};
    uint64_t turn = atomic_load(&slot->turn) | 1;
    memcpy(words, session, sizeof *session);
    atomic_store(&slot->turn, turn);
    for (size_t i = 0; i < 16; i++)
        atomic_store(&slot->words[i], words[i]);
    atomic_store(&slot->turn, turn + 1);
}

bool board_get(struct board_slot *slot, struct board_session *out_session)
{
    uint64_t words[16];
    uint64_t turn = atomic_load(&slot->turn);
    if (turn == 0 || (turn & 1) != 0)
        return false;
    for (size_t i = 0; i < 16; i++)
        words[i] = atomic_load(&slot->words[i]);
    if (atomic_load(&slot->turn) != turn)
        return false;
    memcpy(out_session, words, sizeof *out_session);
    return true;
}

struct cr_user board_user(unsigned number)
{
    char name[16];
    struct cr_user user = {0};
    (void)snprintf(name, sizeof name, "user-%u", number);
    if (cr_user_parse(name, strlen(name), &user) != CR_OK)
        exit(EXIT_FAILURE);
    return user;
}

void board_rest(uint64_t microseconds)
{
    nanosleep(&(struct timespec){.tv_sec = (time_t)(microseconds / 1000000),
                                 .tv_nsec = (long)(microseconds % 1000000) * 1000},
              NULL);
}
