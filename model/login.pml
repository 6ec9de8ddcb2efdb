/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What makes, changes and ends the sessions of one user in the store: logins, rotation of a token,
 * data written, "seen", the ending of one session, and a change of the password; rules 2, 3 and 9
 * (src/cache/README.md), and that nothing revives what has ended.
 *
 * Modelled. The user's row (password, generation) and the rows of three sessions: session 0 stood
 * there at the start, 1 and 2 are made by two logins. A login reads password and generation in one
 * read, hashes for as long as it likes, and inserts only if the generation is still the one read;
 * with -DREPLACE it ends the earlier ones in the same transaction. A change of the password sets it
 * and raises the generation in one transaction; when its outcome is lost it is asked for again by
 * its identity. On session 0 two rotations (renewal or change of privilege), two writes of data, a
 * report of use that waits to be written, and an ending run at the same time.
 *
 * An agent that dies between two steps, and a caller who gives up, are steps that are never taken.
 *
 * Claims. After the change answered done, no session that a login with the old password made is
 * live, nor any of before. A session that was ended by itself stays ended. A session that somebody
 * logged in to with the new password is not ended by that change. A write that succeeds found a
 * live session and the version that it had read. A token that was rotated away is accepted neither
 * past its grace nor after a change of privilege answered. Two who renew the same token get the
 * same successor.
 *
 * Left out, and why that is sound.
 * - A transaction of the store is one step: that is its contract (test/contract). Reads that
 *   precede it are steps of their own.
 * - Tables: a session that the store holds for ended stays in one until its stamp or floor is
 *   raised (host.pml) there and elsewhere (engines.pml). Here a validation asks the store.
 * - Everybody's generation is compared and raised as the user's is. An account that is disabled or
 *   removed is a changed password without a new one.
 * - The grace has no length: it ends at any time after it began.
 * - Each login, rotation and write happens once; one more would find what the first one found.
 *
 * run logins_that_keep                                    small holds
 * run logins_that_replace                                 small holds -DREPLACE
 * run one_session_and_its_tokens                          small holds -DROTATIONS
 * run one_session_and_its_data                             small holds -DDATA
 *
 * run a_login_with_the_generation_of_before               small fails -DA_LOGIN_WITH_THE_GENERATION_OF_BEFORE
 * run a_generation_read_after_the_hash                    small fails -DA_GENERATION_READ_AFTER_THE_HASH
 * run a_generation_raised_before_the_password_changes     small fails -DA_GENERATION_RAISED_BEFORE_THE_PASSWORD_CHANGES
 * run a_change_of_password_that_ends_nothing              small fails -DA_CHANGE_OF_PASSWORD_THAT_ENDS_NOTHING
 * run an_unknown_change_of_password_said_to_be_done       small fails -DAN_UNKNOWN_CHANGE_OF_PASSWORD_SAID_TO_BE_DONE
 * run a_repetition_that_ends_anew                         small fails -DA_REPETITION_THAT_ENDS_ANEW
 * run seen_by_upsert                                      small fails -DDATA -DSEEN_BY_UPSERT
 * run a_write_by_upsert                                   small fails -DDATA -DA_WRITE_BY_UPSERT
 * run a_write_that_revives                                small fails -DDATA -DA_WRITE_THAT_REVIVES
 * run a_write_that_does_not_look_at_the_version           small fails -DDATA -DA_WRITE_THAT_DOES_NOT_LOOK_AT_THE_VERSION
 * run a_rotation_by_upsert                                small fails -DROTATIONS -DA_ROTATION_BY_UPSERT
 * run a_rotation_that_does_not_look_at_the_token          small fails -DROTATIONS -DA_ROTATION_THAT_DOES_NOT_LOOK_AT_THE_TOKEN
 * run a_renewal_that_makes_another_successor              small fails -DROTATIONS -DA_RENEWAL_THAT_MAKES_ANOTHER_SUCCESSOR
 * run an_old_token_with_a_grace_at_a_change_of_privilege  small fails -DROTATIONS -DAN_OLD_TOKEN_WITH_A_GRACE_AT_A_CHANGE_OF_PRIVILEGE
 * run an_old_token_past_its_grace                         small fails -DROTATIONS -DAN_OLD_TOKEN_PAST_ITS_GRACE
 *
 * run one_session_and_all_of_it                           large holds -DROTATIONS -DDATA
 * run logins_beside_writes                                large holds -DDATA -DLOGINS
 * run logins_that_replace_beside_writes                   large holds -DDATA -DLOGINS -DREPLACE
 */

#if !defined(ROTATIONS) && !defined(DATA)
#define LOGINS
#endif

#define SESSIONS 3
#define TOKENS 4 /* 1: session 0's at the start; 2 and 3: what the two rotations make */

/* The store. */
bool new_password;
byte generation;
typedef session_t {
    bool is_there;
    byte generation;
};
session_t s[SESSIONS];
byte version;              /* of session 0's data */
byte token = 1;            /* of session 0 */
byte old_token;            /* before the last renewal; 0: none */
bool grace_over;
bool change_is_known;      /* its row is in the log, by which a repetition is known */
bool end_is_known;

#define IS_LIVE(n) (s[n].is_there && s[n].generation == generation)
#ifdef AN_OLD_TOKEN_PAST_ITS_GRACE
#define IN_GRACE(t) (old_token == (t))
#else
#define IN_GRACE(t) (old_token == (t) && !grace_over)
#endif
#define IS_ACCEPTED(t) (IS_LIVE(0) && (token == (t) || IN_GRACE(t)))

/* What has happened, for the claims. */
bool changed;              /* the change of the password answered done */
bool ended;                /* the ending of session 0 answered done */
bool of_old[SESSIONS];     /* its login was right about the old password */
bool of_new[SESSIONS];     /* about the new one */
bool rotated_away[TOKENS]; /* a change of privilege that took this token answered done */
bool was_old[TOKENS];      /* was in its grace, which is over */
byte successor[2];         /* what a renewal of token 1 answered */

proctype claims()
{
end:
    do
    :: d_step { changed && of_old[0] -> assert(IS_LIVE(0) == false) }
    :: d_step { changed && of_old[1] -> assert(IS_LIVE(1) == false) }
    :: d_step { changed && of_old[2] -> assert(IS_LIVE(2) == false) }
    :: d_step { ended -> assert(IS_LIVE(0) == false) }
#ifndef REPLACE
    :: d_step { of_new[1] -> assert(IS_LIVE(1)) }
    :: d_step { of_new[2] -> assert(IS_LIVE(2)) }
#endif
    :: d_step { rotated_away[1] -> assert(IS_ACCEPTED(1) == false) }
    :: d_step { rotated_away[2] -> assert(IS_ACCEPTED(2) == false) }
    :: d_step { rotated_away[3] -> assert(IS_ACCEPTED(3) == false) }
    :: d_step { was_old[1] -> assert(IS_ACCEPTED(1) == false) }
    :: d_step { was_old[2] -> assert(IS_ACCEPTED(2) == false) }
    :: d_step { was_old[3] -> assert(IS_ACCEPTED(3) == false) }
    :: d_step {
        successor[0] != 0 && successor[1] != 0 -> assert(successor[0] == successor[1]) }
    od
}

/* ---- logins, and a change of the password */

proctype login(byte n) /* makes session n */
{
    bool knows_new;        /* which password it is given */
    bool read_new;
    byte read_generation;

    if
    :: knows_new = false
    :: knows_new = true
    fi;
    d_step { read_new = new_password; read_generation = generation };
    /* The hash takes its time. A wrong password goes no further. */
    if
    :: knows_new == read_new -> skip
    :: else -> goto over
    fi;
#ifdef A_GENERATION_READ_AFTER_THE_HASH
    read_generation = generation;
#endif
    d_step {
        if
#ifndef A_LOGIN_WITH_THE_GENERATION_OF_BEFORE
        :: read_generation != generation -> skip /* denied: the password is not that any more */
#endif
        :: else ->
#ifdef REPLACE
            generation++;
#endif
            s[n].is_there = true;
            s[n].generation = generation;
            of_old[n] = !knows_new;
            of_new[n] = knows_new
        fi
    };
over:
    atomic { knows_new = false; read_new = false; read_generation = 0 }
}

inline password_change()
{
    if
#ifndef A_REPETITION_THAT_ENDS_ANEW
    :: change_is_known -> skip
#endif
    :: else ->
        new_password = true;
#ifndef A_CHANGE_OF_PASSWORD_THAT_ENDS_NOTHING
        generation++;
#endif
        change_is_known = true
    fi
}

proctype password()
{
#ifdef A_GENERATION_RAISED_BEFORE_THE_PASSWORD_CHANGES
    generation++;
    d_step { new_password = true; change_is_known = true };
    changed = true
#else
    do
    :: d_step { password_change() }; break
    :: d_step { generation < 4 -> password_change() } /* carried out, and the outcome lost */
#ifdef AN_UNKNOWN_CHANGE_OF_PASSWORD_SAID_TO_BE_DONE
    :: break
#else
    :: goto over /* never carried out, or given up: nobody is told that it is done */
#endif
    od;
    changed = true;
over:
    skip
#endif
}

/* ---- session 0 */

proctype ender()
{
    do
    :: d_step {
        if
        :: end_is_known -> skip
        :: else -> s[0].is_there = false; end_is_known = true
        fi }; break
    :: goto over
    od;
    ended = true;
over:
    skip
}

/* Used while it was live; written when it pleases. */
proctype seen()
{
#ifdef SEEN_BY_UPSERT
    byte remembered = s[0].generation;
    d_step { s[0].is_there = true; s[0].generation = remembered; remembered = 0 }
#else
    skip /* last use moves on, where the session is live; no claim is about that */
#endif
}

proctype writer()
{
    byte read_version, read_generation;
    d_step { read_version = version; read_generation = s[0].generation };
    d_step {
        if
#ifdef A_WRITE_BY_UPSERT
        :: read_version == version ->
            s[0].is_there = true;
            s[0].generation = read_generation;
            version++
#else
#ifdef A_WRITE_THAT_REVIVES
        :: read_version == version ->
            assert(IS_LIVE(0));
            version++
#else
#ifdef A_WRITE_THAT_DOES_NOT_LOOK_AT_THE_VERSION
        :: IS_LIVE(0) ->
#else
        :: IS_LIVE(0) && read_version == version ->
#endif
            assert(read_version == version);
            version++
#endif
#endif
        :: else -> skip /* conflict, or ended */
        fi;
        read_version = 0;
        read_generation = 0
    }
}

/* Rotates token 1, or, the second, what is then the token. It makes token `mine`. */
proctype rotation(byte n; byte mine)
{
    bool privilege, is_renewed;
    byte presented, read_token, read_generation, answer;

    if
    :: privilege = false
    :: privilege = true
    fi;
    if
    :: presented = 1
    :: d_step { presented = token }
    fi;
again:
    atomic {
        answer = 0;
        read_token = 0;
        if
        :: IS_LIVE(0) && token == presented -> read_token = token
#ifndef A_RENEWAL_THAT_MAKES_ANOTHER_SUCCESSOR
        :: IS_LIVE(0) && token != presented && IN_GRACE(presented) && !privilege ->
            answer = token /* which this one opens */
#endif
        :: else ->
            if
            :: IS_LIVE(0) && IN_GRACE(presented) -> read_token = token
            :: else -> skip
            fi
        fi;
        read_generation = s[0].generation
    };
    if
    :: answer != 0 -> goto said
    :: answer == 0 && read_token == 0 -> goto over /* ended */
    :: else
    fi;
    d_step {
        if
#ifdef A_ROTATION_BY_UPSERT
        :: token == read_token ->
            s[0].is_there = true;
            s[0].generation = read_generation;
#else
#ifdef A_ROTATION_THAT_DOES_NOT_LOOK_AT_THE_TOKEN
        :: IS_LIVE(0) ->
#else
        :: IS_LIVE(0) && token == read_token ->
#endif
#endif
#ifdef AN_OLD_TOKEN_WITH_A_GRACE_AT_A_CHANGE_OF_PRIVILEGE
            old_token = token;
#else
            old_token = (privilege -> 0 : token);
#endif
            grace_over = false;
            token = mine;
            answer = mine
        :: else -> skip
        fi
    };
    if
    :: answer != 0 -> skip
    :: answer == 0 && IS_LIVE(0) -> goto again /* somebody was first */
    :: answer == 0 && !IS_LIVE(0) -> goto over
    fi;
said:
    atomic {
        if
        :: privilege ->
            rotated_away[presented] = true;
            rotated_away[read_token] = true;
            rotated_away[0] = false
        :: !privilege && presented == 1 -> successor[n] = answer
        :: else
        fi
    };
over:
    atomic {
        privilege = false;
        presented = 0;
        read_token = 0;
        read_generation = 0;
        answer = 0
    }
}

proctype grace()
{
end:
    do
    :: d_step {
        old_token != 0 && !grace_over ->
            grace_over = true;
            was_old[old_token] = true }
    od
}

init {
    atomic {
        s[0].is_there = true;
        of_old[0] = true;
        run claims();
        run password();
#ifdef LOGINS
        run login(1);
        run login(2);
#endif
        run ender();
        run seen();
#ifdef DATA
        run writer();
        run writer();
#endif
#ifdef ROTATIONS
        run rotation(0, 2);
        run rotation(1, 3);
        run grace()
#endif
    }
}
