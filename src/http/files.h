/* SPDX-License-Identifier: Apache-2.0 */
/* Files of this directory that are served as they are; the build turns them into C. */
#ifndef HTTP_FILES_H
#define HTTP_FILES_H

#include <stddef.h>

extern const char cr_file_style[]; /* style.css */
extern const size_t cr_file_style_bytes;
extern const char cr_file_icon[]; /* icon.svg */
extern const size_t cr_file_icon_bytes;

#endif
