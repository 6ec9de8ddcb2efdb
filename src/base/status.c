/* SPDX-License-Identifier: Apache-2.0 */
/* Names and texts of the list in status.h. */
#include <cloakroom/status.h>

const char *cr_status_text(enum cr_status status)
{
    switch (status) {
#define STATUS_TEXT(name, text)                                                                    \
    case name:                                                                                     \
        return text;
        CR_STATUS_LIST(STATUS_TEXT)
#undef STATUS_TEXT
    }
    return "an unknown status";
}

const char *cr_status_name(enum cr_status status)
{
    switch (status) {
#define STATUS_NAME(name, text)                                                                    \
    case name:                                                                                     \
        return #name;
        CR_STATUS_LIST(STATUS_NAME)
#undef STATUS_NAME
    }
    return "CR_?";
}
