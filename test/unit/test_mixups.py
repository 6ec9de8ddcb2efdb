#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A session id, a user and a token are not taken for one another: the compiler refuses it.

Each refused call has its twin that differs in one word and compiles, so that nothing here is refused
for another reason.
"""

import os
import pathlib
import shlex
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import tap

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent

CODE = """
#include <cloakroom/cloakroom.h>
enum cr_status call(struct cr_room *room, const struct cr_session_id *id,
                    const struct cr_token *token, const struct cr_user *user,
                    const struct cr_login_options *options, struct cr_session *session,
                    struct cr_login *login, struct cr_explanation *explanation);
enum cr_status call(struct cr_room *room, const struct cr_session_id *id,
                    const struct cr_token *token, const struct cr_user *user,
                    const struct cr_login_options *options, struct cr_session *session,
                    struct cr_login *login, struct cr_explanation *explanation)
{
    (void)room, (void)id, (void)token, (void)user;
    (void)options, (void)session, (void)login, (void)explanation;
    return %s;
}
"""

# A call, and which of id, user and token it takes.
CALLS = [
    ("cr_invalidate_by_user(room, {}, 0, 0)", "user"),
    ("cr_login(room, {}, options, login)", "user"),
    ("cr_create(room, {}, options, login)", "user"),
    ("cr_login_password(room, {}, \"secret\", 6, options, login)", "user"),
    ("cr_account_add(room, {}, \"secret\", 6)", "user"),
    ("cr_account_remove(room, {})", "user"),
    ("cr_sessions_of(room, {}, token, 0, session, 1, 0)", "user"),
    ("cr_sessions_of(room, user, {}, 0, session, 1, 0)", "token"),
    ("cr_validate(room, {}, session)", "token"),
    ("cr_validate_cached(room, {}, session)", "token"),
    ("cr_validate_strict(room, {}, session)", "token"),
    ("cr_validate_many(room, {}, 1, session, 0)", "token"),
    ("cr_touch(room, {})", "token"),
    ("cr_rotate(room, {}, CR_ROTATE_RENEW, login)", "token"),
    ("cr_end(room, {}, 0, 0)", "id"),
    ("cr_end_others(room, {}, 0, 0)", "id"),
    ("cr_explain(room, {}, NULL, explanation)", "id"),
    ("cr_data_read(room, {}, 0, 0, 0, 0)", "id"),
    ("cr_rights_write(room, {}, 0, 0)", "id"),
]
KINDS = ["id", "user", "token"]

# A pointer to another type breaks a constraint of C: every compiler must say so, and with this
# option none goes on. In C++ it is an error without one.
C_COMPILER = shlex.split(os.environ.get("CC", "cc")) + ["-std=c17", "-pedantic-errors"]
CXX_COMPILER = ["clang++", "-std=c++17"]


def compiles(compiler, language, expression):
    run = subprocess.run(
        compiler + ["-fsyntax-only", f"-I{ROOT / 'include'}", f"-x{language}", "-"],
        input=CODE % expression, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        check=False,
    )
    return run.returncode == 0, run.stdout


def check(compiler, language):
    right = " + ".join("(int)" + call.format(kind) for call, kind in CALLS)
    good, output = compiles(compiler, language, f"(enum cr_status)({right})")
    assert good, f"the right calls do not compile:\n{output}"
    for call, kind in CALLS:
        for other in KINDS:
            if other == kind:
                continue
            good, output = compiles(compiler, language, call.format(other))
            assert not good, f"this compiles: {call.format(other)}"
            assert call.split("(")[0] in output, f"refused for another reason:\n{output}"


def c_refuses_an_id_a_user_or_a_token_in_place_of_another():
    check(C_COMPILER, "c")


def cxx_refuses_an_id_a_user_or_a_token_in_place_of_another():
    check(CXX_COMPILER, "c++")


def a_warning_is_given_without_any_option():
    run = subprocess.run(
        shlex.split(os.environ.get("CC", "cc")) + ["-fsyntax-only", f"-I{ROOT / 'include'}", "-xc", "-"],
        input=CODE % "cr_invalidate_by_user(room, id, 0, 0)", stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False,
    )
    assert "incompatible-pointer-types" in run.stdout, run.stdout


tap.main([
    c_refuses_an_id_a_user_or_a_token_in_place_of_another,
    cxx_refuses_an_id_a_user_or_a_token_in_place_of_another,
    a_warning_is_given_without_any_option,
])
