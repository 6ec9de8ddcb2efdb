/* SPDX-License-Identifier: Apache-2.0 */
/* The system's clocks and a fake one. Reading a clock of the system cannot fail. */
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/bytes.h"

#define BOOT_ID_PATH "/proc/sys/kernel/random/boot_id"
#define BOOT_ID_CHARS 36
/* Far enough from 0 that tests can look back. */
#define FAKE_START_NS (1000000 * CR_NS_PER_MS)

static cr_boot_ns system_boot(struct cr_clock *clock)
{
    struct timespec now;
    int failed = clock_gettime(CLOCK_BOOTTIME, &now);
    CR_ASSERT(failed == 0);
    return (cr_boot_ns)now.tv_sec * 1000 * CR_NS_PER_MS + (cr_boot_ns)now.tv_nsec;
}

static cr_time_ms system_wall(struct cr_clock *clock)
{
    struct timespec now;
    int failed = clock_gettime(CLOCK_REALTIME, &now);
    CR_ASSERT(failed == 0);
    return (cr_time_ms)now.tv_sec * 1000 + now.tv_nsec / (long)CR_NS_PER_MS;
}

struct cr_clock *cr_clock_system(void)
{
    static struct cr_clock clock = {.boot = system_boot, .wall = system_wall};
    return &clock;
}

static cr_boot_ns fake_boot(struct cr_clock *clock)
{
    return ((const struct cr_clock_fake *)clock)->now_boot;
}

static cr_time_ms fake_wall(struct cr_clock *clock)
{
    return ((const struct cr_clock_fake *)clock)->now_wall;
}

void cr_clock_fake_init(struct cr_clock_fake *fake, cr_time_ms wall)
{
    *fake = (struct cr_clock_fake){
        .clock = {.boot = fake_boot, .wall = fake_wall},
        .now_boot = FAKE_START_NS,
        .now_wall = wall,
    };
}

void cr_clock_fake_advance(struct cr_clock_fake *fake, cr_span_ms span)
{
    CR_ASSERT(span >= 0);
    fake->now_boot = cr_boot_add(fake->now_boot, span);
    fake->now_wall += span;
}

/* A UUID's text: hex with four dashes. */
static bool uuid_decode(const char text[BOOT_ID_CHARS], unsigned char out_id[16])
{
    char hex[32];
    size_t count = 0;
    for (size_t i = 0; i < BOOT_ID_CHARS; i++) {
        bool is_dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (is_dash != (text[i] == '-'))
            return false;
        if (!is_dash)
            hex[count++] = text[i];
    }
    CR_ASSERT(count == sizeof hex);
    return cr_hex_decode(hex, sizeof hex, out_id);
}

enum cr_status cr_boot_id(unsigned char out_id[16])
{
    int kept_errno = errno;
    enum cr_status st = CR_E_IO;
    char text[BOOT_ID_CHARS];
    int fd = open(BOOT_ID_PATH, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        goto out;
    if (read(fd, text, sizeof text) == (ssize_t)sizeof text && uuid_decode(text, out_id))
        st = CR_OK;
    close(fd);
out:
    errno = kept_errno;
    return st;
}

cr_boot_ns cr_boot_add(cr_boot_ns ns, cr_span_ms span)
{
    if (ns == CR_BOOT_NEVER)
        return ns;
    /* Negating in unsigned arithmetic, where INT64_MIN has a negative. */
    uint64_t span_ms = span < 0 ? 0 - (uint64_t)span : (uint64_t)span;
    uint64_t span_ns = span_ms > UINT64_MAX / CR_NS_PER_MS ? UINT64_MAX : span_ms * CR_NS_PER_MS;
    if (span < 0)
        return ns > span_ns ? ns - span_ns : 0;
    return span_ns < CR_BOOT_NEVER - ns ? ns + span_ns : CR_BOOT_NEVER;
}

cr_span_ms cr_boot_between(cr_boot_ns from, cr_boot_ns to)
{
    /* Rounded down, so that any time past a deadline counts as past it. */
    if (to >= from)
        return (cr_span_ms)((to - from) / CR_NS_PER_MS);
    return -(cr_span_ms)((from - to - 1) / CR_NS_PER_MS) - 1;
}
