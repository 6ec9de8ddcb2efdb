/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several engines on one store: rules 5 (follow), 6 (wait for the others), 7 (silence is not
 * consent), and what rules 8 and 9 owe to them (src/cache/README.md). With -DEXCLUSIVE, at the end
 * of this file: one engine after another on a store that it holds alone.
 *
 * What is modelled. The store: sessions, the log with numbers and identities of its rows, the
 * engines' rows. Followers: each with its table (would it believe the session), one fill and one
 * poll under way (sent, carried out, answered, followed in steps), its registration and its lease;
 * killed at any time, while its workers go on with the segment that it left and a successor starts
 * beside them (-DNO_KILL: not); with requests and replies that are lost (-DNO_LOSS: not); stopped
 * cleanly (-DSTOPS); cut off, to a deposed primary that still answers reads (-DDEPOSED). Waiters:
 * the engines that end session k by log row k, know the other engines by lists that arrive late,
 * and take out the silent ones. A pause, of any process at any point for any time, is a step that
 * is not taken.
 *
 * Safe. Once the ending of a session answered done, or a lease after its commit at the latest (who
 * asked may have died), no validation that begins then accepts it: in no table, no segment left
 * behind, no fill. A strict one (-DSTRICT) that begins after the commit does not, either.
 *
 * Heals (-DHEALING). Faults stop at any moment, and nobody is slow any more. Within two ticks each
 * engine answers again, within a wait and two ticks each ending that is committed is done.
 *
 * What is left out, and why that hides nothing:
 *
 * - Time is in ticks that all share; what differs is how many of them a lease or a wait takes. With
 *   -DFINE a lease lasts 5 ticks where the clock is fast, 6 where it is slow: clocks 20 % apart,
 *   twice what is promised of them. A wait, 1.22 leases, is 6.1 on a fast clock, here 6: rounding
 *   down lets the waiter go early. Without -DFINE a tick is twice as long: 3 and 3. Worst are a
 *   fast waiter and a slow follower; what runs at a rate between, or changes it, lies between. Ages
 *   stop counting where nothing depends on them, so there is no end to time.
 * - A beat is a number that only grows, and is only compared: kept is whether what somebody
 *   remembers is still the present one.
 * - A session's floor and its user's stamp do the same here: a row drops the entry and refuses the
 *   fill under way. How they do it is host.pml's matter, as is the order in which a reader looks,
 *   and the ender's own table (but with -DSELF the ender is a follower, too).
 * - fresh_until is the lease itself, which it never exceeds: segments are believed longer here. Of
 *   the dead engines of one host one at a time has left a segment.
 * - A list forgets a row as soon as anybody takes it out: waiters wait less. A removal is asked for
 *   and carried out in one step: a later one with the same beat is the same removal later. A poll
 *   that is carried out after it was given up changes beat and position as one whose reply is lost.
 * - Rows of engines are as many as ROWS at one time; an engine that finds no room does not start.
 * - One follower is watched, and its lease counted; what the others do is follow and be waited for.
 *
 * A deposed primary asks for more than the others: that the lease is looked at when a fill is asked
 * for, too (MAY_ASK). Else its answer can arrive after the engine came back and has a lease again.
 *
 * run one_follower                                        small holds
 * run one_follower_and_outcomes_that_are_lost             small holds -DOUTCOMES -DNO_KILL -DNO_LOSS
 * run one_follower_and_two_endings                        small holds -DENDINGS=2 -DNO_KILL -DNO_LOSS
 * run a_poll_that_takes_one_row                           small holds -DENDINGS=2 -DONE_ROW -DNO_KILL -DNO_LOSS
 * run a_deposed_primary                                   small holds -DDEPOSED -DSTRICT -DNO_KILL
 * run a_clean_stop                                        small holds -DSTOPS -DNO_KILL
 * run a_store_restored                                    small holds -DENDINGS=2 -DRESTORE -DNO_KILL -DNO_LOSS
 * run an_engine_that_heals                                small holds -DHEALING
 * run one_engine_after_another                            small holds -DEXCLUSIVE
 *
 * run a_lease_counted_from_the_reply                      small fails -DA_LEASE_COUNTED_FROM_THE_REPLY
 * run freshness_before_the_stamps                         small fails -DFRESHNESS_BEFORE_THE_STAMPS
 * run a_position_before_the_stamps                        small fails -DA_POSITION_BEFORE_THE_STAMPS
 * run an_acknowledgement_before_the_stamps                small fails -DAN_ACKNOWLEDGEMENT_BEFORE_THE_STAMPS
 * run a_lease_of_a_poll_that_did_not_reach_the_end        small fails -DENDINGS=2 -DONE_ROW -DNO_KILL -DNO_LOSS -DA_LEASE_OF_A_POLL_THAT_DID_NOT_REACH_THE_END
 * run a_log_whose_numbers_become_visible_out_of_order     small fails -DENDINGS=2 -DNO_KILL -DNO_LOSS -DA_LOG_WHOSE_NUMBERS_BECOME_VISIBLE_OUT_OF_ORDER
 * run a_log_that_is_not_checked_to_go_on                  small fails -DENDINGS=2 -DRESTORE -DNO_KILL -DNO_LOSS -DA_LOG_THAT_IS_NOT_CHECKED_TO_GO_ON
 * run a_table_that_outlives_its_registration              small fails -DNO_KILL -DA_TABLE_THAT_OUTLIVES_ITS_REGISTRATION
 * run a_fill_of_before_the_table_was_dropped              small fails -DNO_KILL -DA_FILL_OF_BEFORE_THE_TABLE_WAS_DROPPED
 * run a_poll_that_is_no_write                             small fails -DDEPOSED -DNO_KILL -DA_POLL_THAT_IS_NO_WRITE
 * run a_poll_that_does_not_compare                        small fails -DENDINGS=2 -DNO_KILL -DNO_LOSS -DA_POLL_THAT_DOES_NOT_COMPARE
 * run an_unregistered_host                                small fails -DNO_KILL -DAN_UNREGISTERED_HOST
 * run waiting_for_nobody                                  small fails -DNO_KILL -DWAITING_FOR_NOBODY
 * run waiting_for_less_than_the_lease                     small fails -DNO_KILL -DFINE -DWAITING_FOR_LESS_THAN_THE_LEASE
 * run clocks_further_apart_than_the_wait_allows           small fails -DNO_KILL -DCLOCKS_FURTHER_APART_THAN_THE_WAIT_ALLOWS
 * run a_list_of_engines_of_before_the_commit              small fails -DNO_KILL -DA_LIST_OF_ENGINES_OF_BEFORE_THE_COMMIT
 * run a_silent_engine_that_is_taken_out_whatever_its_beat small fails -DENDINGS=2 -DNO_KILL -DNO_LOSS -DA_SILENT_ENGINE_THAT_IS_TAKEN_OUT_WHATEVER_ITS_BEAT
 * run a_silent_engine_that_is_never_taken_out             small fails -DHEALING -DA_SILENT_ENGINE_THAT_IS_NEVER_TAKEN_OUT
 * run a_row_that_goes_before_the_table                    small fails -DSTOPS -DNO_KILL -DA_ROW_THAT_GOES_BEFORE_THE_TABLE
 * run a_fill_asked_past_the_lease                         small fails -DDEPOSED -DNO_KILL -DA_FILL_ASKED_PAST_THE_LEASE
 * run a_fill_answered_past_the_lease                      small fails -DDEPOSED -DNO_KILL -DA_FILL_ANSWERED_PAST_THE_LEASE
 * run a_hit_answered_past_the_lease                       small fails -DNO_KILL -DA_HIT_ANSWERED_PAST_THE_LEASE
 * run an_engine_that_does_not_register_anew               small fails -DHEALING -DAN_ENGINE_THAT_DOES_NOT_REGISTER_ANEW
 * run a_strict_read_that_is_no_poll                       small fails -DDEPOSED -DSTRICT -DNO_KILL -DA_STRICT_READ_THAT_IS_NO_POLL
 * run pending_said_to_be_done                             small fails -DOUTCOMES -DNO_KILL -DNO_LOSS -DPENDING_SAID_TO_BE_DONE
 * run an_unknown_outcome_said_to_be_done                  small fails -DOUTCOMES -DNO_KILL -DNO_LOSS -DAN_UNKNOWN_OUTCOME_SAID_TO_BE_DONE
 * run no_wait_for_a_predecessors_segment                  small fails -DEXCLUSIVE -DNO_WAIT_FOR_A_PREDECESSORS_SEGMENT
 * run a_wait_that_is_not_passed_on                        small fails -DEXCLUSIVE -DA_WAIT_THAT_IS_NOT_PASSED_ON
 * run a_predecessors_row_that_goes_before_ours_stands     small fails -DEXCLUSIVE -DA_PREDECESSORS_ROW_THAT_GOES_BEFORE_OURS_STANDS
 *
 * run one_follower_and_fine_time                          large holds -DFINE
 * run two_followers                                       large holds -DFOLLOWERS=2 -DNO_KILL -DNO_LOSS
 * run two_engines_that_end_and_follow                     large holds -DFOLLOWERS=2 -DSELF -DNO_KILL -DNO_LOSS -DWATCHED=1
 * run an_engine_that_ends_and_follows                     large holds -DFOLLOWERS=2 -DSELF -DNO_KILL -DNO_LOSS
 * run two_endings_and_losses                              large holds -DENDINGS=2 -DNO_KILL
 * run two_waiters                                         large holds -DENDINGS=2 -DWAITERS=2 -DNO_KILL -DNO_LOSS
 * run a_deposed_primary_and_kills                         large holds -DDEPOSED -DSTRICT
 * run an_engine_that_heals_and_outcomes_that_are_lost     large holds -DHEALING -DOUTCOMES -DNO_KILL
 */

#ifndef EXCLUSIVE

#ifndef FOLLOWERS
#define FOLLOWERS 1
#endif
#ifndef WAITERS
#define WAITERS 1
#endif
#ifndef ENDINGS
#define ENDINGS 1
#endif
#ifndef WATCHED /* of which follower it is claimed; the others differ from it by name only */
#define WATCHED 0
#endif
#ifndef ROWS
#define ROWS (FOLLOWERS + 1)
#endif
#ifdef FINE
#define LEASE 6
#define WAIT_ENOUGH 6
#define WAIT_ONE_LEASE 5
#else
#define LEASE 3
#define WAIT_ENOUGH 3
#define WAIT_ONE_LEASE 2
#endif
#ifdef CLOCKS_FURTHER_APART_THAN_THE_WAIT_ALLOWS
#define WAIT (WAIT_ENOUGH - 1)
#else
#ifdef WAITING_FOR_LESS_THAN_THE_LEASE
#define WAIT WAIT_ONE_LEASE
#else
#define WAIT WAIT_ENOUGH
#endif
#endif

#define BIT(k) (1 << (k))
#define NOBODY ROWS
#define GONE (ROWS + 1) /* taken out, and the engine has not heard of it: never exists */
#define WAITER_OF(k) ((k) % WAITERS)

/*
 * Sessions 1 to ENDINGS; session k is ended by ending k. Only session 1 is asked for: which of them
 * is ended first is open, so the others differ from it by name only.
 */
byte live = 255;         /* what the store holds */
bool committed[ENDINGS + 1];
byte number[ENDINGS + 1];
byte since;              /* ticks since the commit of session 1's ending, up to LEASE */
mtype:ending = { NOT_BEGUN, ASKED, LOST, WAITING, DONE, NOT_SAID };
mtype:ending ending[ENDINGS + 1] = NOT_BEGUN;
bool unheard[ENDINGS + 1]; /* its caller is gone; the request is still on its way */

/* The log: whose row stands at a number; 0 is the first row, and where there is none (yet). */
byte last;
byte row_of[ENDINGS + 1];

/* The engines' rows. */
bool exists[ROWS + 2];
byte row_position[ROWS];

mtype:poll = { NONE, SENT, REFUSED, CARRIED_OUT, STAMPED };
typedef follower_t {
    byte row;         /* NOBODY: not registered, as far as it knows */
    bool beat;        /* the beat that it remembers is its row's */
    byte position, identity;
    byte lease;       /* ticks that are left of it */
    byte table;       /* sessions that it would believe */
    /* the poll, or registration */
    mtype:poll poll;
    byte age;         /* ticks since it was sent */
    byte new_row;     /* of a registration that was carried out */
    byte rows;        /* what it brings: sessions to drop */
    byte to, to_identity;
    bool at_end;
    /* the fill */
    byte asks;        /* which session, of which the store has said that it is live; 0: none */
    bool outdated;    /* dropped or ended since it was asked for */
    bool too_late;    /* must not be accepted: it was over before it began */
    /* what a killed engine left to its workers */
    byte left_lease, left_table;
    bool stopping;
    bool cut;         /* off, to a deposed primary */
    byte old;         /* what that one holds */
    byte due;         /* (a mutant's) rows not applied yet */
    bool fed;         /* polled to the end in this tick; -DHEALING */
};
follower_t f[FOLLOWERS];

typedef other_t {
    bool known;
    bool same;        /* the beat that is known is still the present one */
    byte position;
    byte silent;      /* ticks since this beat was first seen */
    /* in the list that is on its way */
    bool listed, listed_known, listed_same;
    byte listed_position;
};
typedef waiter_t {
    bool list;        /* on its way */
    byte counts_for;  /* endings that were committed when the list was asked for */
    byte listed;      /* endings for which a list has come that counts */
    other_t o[ROWS];
    bool fed;
};
waiter_t w[WAITERS];

bool calm;            /* -DHEALING: no more faults, and nobody is slow */
byte calm_ticks;

bool restored;        /* -DRESTORE: happened */

hidden byte i, j, others;

/* ---- what must hold */

#define OVER(k) (ending[k] == DONE || (committed[k] && since >= LEASE))

#ifdef A_HIT_ANSWERED_PAST_THE_LEASE
#define HIT(e, k) (f[e].table & BIT(k))
#else
#define HIT(e, k) (f[e].lease > 0 && (f[e].table & BIT(k)))
#endif
#define HIT_LEFT(e, k) (f[e].left_lease > 0 && (f[e].left_table & BIT(k)))

proctype workers(byte e; byte k)
{
    do
    :: d_step { HIT(e, k) || HIT_LEFT(e, k) -> assert(OVER(k) == false) }
    od
}

/* ---- the store */

inline fill_over(e)
{
    f[e].asks = 0;
    f[e].outdated = false;
    f[e].too_late = false
}

inline fill_outdated(e)
{
    if
    :: f[e].too_late -> f[e].outdated = true
    :: else -> fill_over(e)
    fi
}

inline drop(e, mask)
{
    f[e].table = f[e].table & (255 - (mask));
    if
    :: f[e].asks != 0 && (mask & BIT(f[e].asks)) -> fill_outdated(e)
    :: else
    fi
}

inline drop_all(e)
{
    f[e].table = 0;
#ifndef A_FILL_OF_BEFORE_THE_TABLE_WAS_DROPPED
    if
    :: f[e].asks != 0 -> fill_outdated(e)
    :: else
    fi
#endif
}

/* A row's beat has changed: whoever remembers another one finds out. */
inline beat_changes(which)
{
    for (i : 0 .. WAITERS - 1) {
        w[i].o[which].same = false;
        w[i].o[which].listed_same = false;
    }
    i = 0
}

/* A row is gone, and its place free for another identity. */
inline row_remove(which)
{
    exists[which] = false;
    row_position[which] = 0;
    for (i : 0 .. WAITERS - 1) {
        w[i].o[which].known = false;
        w[i].o[which].same = false;
        w[i].o[which].position = 0;
        w[i].o[which].silent = 0;
        w[i].o[which].listed = false;
        w[i].o[which].listed_known = false;
        w[i].o[which].listed_same = false;
        w[i].o[which].listed_position = 0;
    }
    for (i : 0 .. FOLLOWERS - 1) {
        if
        :: f[i].row == which -> f[i].row = GONE; f[i].beat = false
        :: else
        fi
    }
    i = 0
}

#if ROWS == 2
#define ANY_ROW(p, n, x) (p(n, 0, x) || p(n, 1, x))
#define COUNT_ROWS (exists[0] + exists[1])
#else
#if ROWS == 3
#define ANY_ROW(p, n, x) (p(n, 0, x) || p(n, 1, x) || p(n, 2, x))
#define COUNT_ROWS (exists[0] + exists[1] + exists[2])
#else
#define ANY_ROW(p, n, x) (p(n, 0, x) || p(n, 1, x) || p(n, 2, x) || p(n, 3, x))
#define COUNT_ROWS (exists[0] + exists[1] + exists[2] + exists[3])
#endif
#endif
#define REGISTERED(e) (f[e].row != NOBODY)
#if FOLLOWERS == 1
#define COUNT_UNREGISTERED (REGISTERED(0) -> 0 : 1)
#else
#define COUNT_UNREGISTERED ((REGISTERED(0) -> 0 : 1) + (REGISTERED(1) -> 0 : 1))
#endif
/* Room for one more row that nobody uses any more, and for all who are to register. */
#define SPARE (COUNT_ROWS + COUNT_UNREGISTERED < ROWS)
#define ROOM (COUNT_ROWS < ROWS)

inline rows_read(e)
{
    f[e].rows = 0;
    others = 0;
    f[e].to = f[e].position;
    f[e].to_identity = f[e].identity;
    f[e].at_end = true;
    for (i : 1 .. ENDINGS) {
        if
        :: i > f[e].position && i <= last && row_of[i] != 0 ->
            if
#ifdef ONE_ROW
            :: others > 0 -> f[e].at_end = false
#endif
            :: else ->
                f[e].rows = f[e].rows | (BIT(row_of[i]) & BIT(1));
                others++;
                f[e].to = i;
                f[e].to_identity = row_of[i]
            fi
        :: else
        fi
    }
    i = 0
}

inline register_carry_out(e)
{
    i = 0;
    do
    :: i < ROWS && exists[i] -> i++
    :: else -> break
    od;
    f[e].new_row = i;
    exists[i] = true;
    row_position[i] = last;
    f[e].to = last;
    f[e].to_identity = row_of[last];
    f[e].poll = CARRIED_OUT;
    i = 0
}

#if defined(A_POLL_THAT_DOES_NOT_COMPARE) || defined(AN_UNREGISTERED_HOST)
#define ROW_IS_OURS(e) true
#else
#define ROW_IS_OURS(e) (exists[f[e].row] && f[e].beat)
#endif
#ifdef A_LOG_THAT_IS_NOT_CHECKED_TO_GO_ON
#define LOG_GOES_ON(e) true
#else
#define LOG_GOES_ON(e) (f[e].position <= last && row_of[f[e].position] == f[e].identity)
#endif

inline poll_carry_out(e)
{
    if
    :: !ROW_IS_OURS(e) || !LOG_GOES_ON(e) -> f[e].poll = REFUSED
    :: else ->
        rows_read(e);
        if
        :: exists[f[e].row] ->
#ifdef AN_ACKNOWLEDGEMENT_BEFORE_THE_STAMPS
            row_position[f[e].row] = f[e].to;
#else
            row_position[f[e].row] = f[e].position;
#endif
            beat_changes(f[e].row)
        :: else
        fi;
        f[e].beat = false; /* until it knows the new one */
        f[e].poll = CARRIED_OUT
    fi
}

/* ---- a follower */

inline poll_over(e)
{
    f[e].poll = NONE;
    f[e].age = 0;
    f[e].new_row = 0;
    f[e].rows = 0;
    f[e].to = 0;
    f[e].to_identity = 0;
    f[e].at_end = false
}

#ifdef A_LEASE_COUNTED_FROM_THE_REPLY
#define LEASE_LEFT(e) LEASE
#else
#define LEASE_LEFT(e) (LEASE - f[e].age)
#endif

inline lease_extend(e)
{
    if
#ifdef A_LEASE_OF_A_POLL_THAT_DID_NOT_REACH_THE_END
    :: (e) == WATCHED && LEASE_LEFT(e) > f[e].lease -> f[e].lease = LEASE_LEFT(e)
#else
    :: (e) == WATCHED && f[e].at_end && LEASE_LEFT(e) > f[e].lease -> f[e].lease = LEASE_LEFT(e)
#endif
    :: else
    fi
}

inline position_take(e)
{
#ifdef HEALING
    f[e].fed = f[e].at_end && f[e].to == f[e].position;
#endif
    f[e].position = f[e].to;
    f[e].identity = f[e].to_identity
}

inline registration_lost(e)
{
#ifndef A_TABLE_THAT_OUTLIVES_ITS_REGISTRATION
    drop_all(e);
#endif
    f[e].lease = 0;
    f[e].row = NOBODY;
    f[e].beat = false;
    f[e].position = 0;
    f[e].identity = 0;
    poll_over(e)
}

inline registered(e)
{
#ifndef A_TABLE_THAT_OUTLIVES_ITS_REGISTRATION
    drop_all(e);
#endif
    f[e].row = f[e].new_row;
    f[e].beat = true;
    f[e].position = f[e].to;
    f[e].identity = f[e].to_identity;
    poll_over(e)
}

#define STORE_SAYS(e, k) ((f[e].cut -> f[e].old : live) & BIT(k))
#ifdef A_STRICT_READ_THAT_IS_NO_POLL
#define MAY_ASK_STRICTLY(e) MAY_ASK(e)
#else
#define MAY_ASK_STRICTLY(e) (!f[e].cut && REGISTERED(e) && exists[f[e].row] && f[e].beat)
#endif

/* The lease is looked at when the store is asked, and when the answer is given. */
#if defined(A_FILL_ASKED_PAST_THE_LEASE) || defined(A_FILL_ANSWERED_PAST_THE_LEASE)
#define MAY_ASK(e) true
#else
#define MAY_ASK(e) (f[e].lease > 0)
#endif
#ifdef A_FILL_ANSWERED_PAST_THE_LEASE
#define MAY_ANSWER(e) true
#else
#define MAY_ANSWER(e) (f[e].lease > 0)
#endif

#ifdef AN_ENGINE_THAT_DOES_NOT_REGISTER_ANEW
bool had_registered[FOLLOWERS];
#define MAY_REGISTER(e) (!had_registered[e])
#else
#define MAY_REGISTER(e) true
#endif

#ifdef A_POLL_THAT_IS_NO_WRITE
#define REACHES_THE_STORE(e) true
#else
#define REACHES_THE_STORE(e) (!f[e].cut)
#endif

proctype follower(byte e)
{
    do
    /* Poll, or register. */
    :: d_step {
        f[e].poll == NONE && !f[e].stopping && !(calm && f[e].fed) &&
            (REGISTERED(e) || MAY_REGISTER(e)) ->
            f[e].poll = SENT }
    :: d_step {
        f[e].poll == SENT && !REGISTERED(e) && !f[e].cut && ROOM ->
#ifdef AN_UNREGISTERED_HOST
            /* It polls, and nobody knows of it. */
            f[e].new_row = 0;
            f[e].to = last;
            f[e].to_identity = row_of[last];
            f[e].poll = CARRIED_OUT
#else
            register_carry_out(e)
#endif
        }
    :: d_step {
        f[e].poll == SENT && REGISTERED(e) && REACHES_THE_STORE(e) ->
            if
            :: f[e].cut -> /* only a mutant gets here */
                f[e].to = f[e].position;
                f[e].to_identity = f[e].identity;
                f[e].at_end = true;
                f[e].poll = CARRIED_OUT
            :: else -> poll_carry_out(e)
            fi }
    :: d_step { f[e].poll == REFUSED -> registration_lost(e) }
    :: d_step {
        f[e].poll == CARRIED_OUT && !REGISTERED(e) ->
            registered(e);
#ifdef AN_ENGINE_THAT_DOES_NOT_REGISTER_ANEW
            had_registered[e] = true;
#endif
        }
    /* Rule 5: stamps, position, lease, and then the acknowledgement, by another poll. */
    :: d_step {
        f[e].poll == CARRIED_OUT && REGISTERED(e) ->
            f[e].beat = exists[f[e].row];
#ifdef FRESHNESS_BEFORE_THE_STAMPS
            lease_extend(e);
            f[e].poll = STAMPED
#else
#ifdef A_POSITION_BEFORE_THE_STAMPS
            if
            :: f[e].rows == 0 && f[e].due == 0 -> f[e].poll = STAMPED
            :: else ->
                f[e].due = f[e].due | f[e].rows;
                position_take(e);
                poll_over(e)
            fi
#else
            drop(e, f[e].rows);
            f[e].poll = STAMPED
#endif
#endif
        }
    :: d_step {
        f[e].poll == STAMPED ->
            position_take(e);
#ifdef FRESHNESS_BEFORE_THE_STAMPS
            drop(e, f[e].rows);
#else
            lease_extend(e);
#endif
            poll_over(e) }
#ifdef A_POSITION_BEFORE_THE_STAMPS
    :: d_step { f[e].due != 0 -> drop(e, f[e].due); f[e].due = 0 }
#endif
#ifdef STOPS
    /* A clean stop retires the table, then the row. What follows is another engine. */
    :: d_step {
        f[e].poll == NONE && !f[e].stopping && REGISTERED(e) && !calm ->
            f[e].stopping = true;
            fill_over(e);
#ifdef A_ROW_THAT_GOES_BEFORE_THE_TABLE
            if
            :: f[e].beat && exists[f[e].row] -> j = f[e].row; row_remove(j); j = 0
            :: else
            fi
#else
            f[e].lease = 0;
            f[e].table = 0
#endif
        }
    :: d_step {
        f[e].stopping ->
            f[e].stopping = false;
            if
            :: f[e].beat && exists[f[e].row] -> j = f[e].row; row_remove(j); j = 0
            :: else
            fi;
            f[e].lease = 0;
            f[e].table = 0;
            f[e].row = NOBODY;
            f[e].beat = false;
            f[e].position = 0;
            f[e].identity = 0 }
#endif
    od
}

/*
 * Validations that ask the store. The clock of rule 1 is taken and the store asked in one step: who
 * is asked later says yes no sooner. Of a fill that came to be outdated nothing
 * is left but its answer, which matters only where it is too late.
 */
inline ask(e, k, strictly)
{
    if
    :: STORE_SAYS(e, k) ->
        f[e].asks = k;
        f[e].too_late = (strictly -> committed[k] : OVER(k))
    :: else -> /* it says no, and goes on saying it */
        if
        :: f[e].lease > 0 -> f[e].table = f[e].table & (255 - BIT(k))
        :: else
        fi
    fi
}

proctype fills(byte e; byte k)
{
    do
    :: d_step {
        f[e].asks == 0 && !calm && !f[e].stopping && MAY_ASK(e) -> ask(e, k, false) }
#ifdef STRICT
    :: d_step {
        f[e].asks == 0 && !calm && !f[e].stopping && MAY_ASK_STRICTLY(e) -> ask(e, k, true) }
#endif
    :: d_step {
        f[e].asks == k ->
            if
            :: MAY_ANSWER(e) ->
                assert(f[e].too_late == false);
                if
                :: !f[e].outdated -> f[e].table = f[e].table | BIT(k)
                :: else
                fi
            :: else /* unavailable */
            fi;
            fill_over(e) }
    od
}

/* ---- a waiter */

#ifdef SELF /* waiter n is follower n */
#define OWN(n, r) (f[n].row == (r))
#else
#define OWN(n, r) false
#endif

inline ending_drop(k)
{
#ifdef SELF
    drop(WAITER_OF(k), BIT(k));
#endif
    skip
}

inline list_read(n)
{
    for (i : 0 .. ROWS - 1) {
        if
        :: exists[i] && !OWN(n, i) ->
            w[n].o[i].listed = true;
            w[n].o[i].listed_position = row_position[i];
            w[n].o[i].listed_known = w[n].o[i].known && w[n].o[i].same;
            w[n].o[i].listed_same = true
        :: else
        fi
    }
    i = 0
}

inline list_merge(n)
{
    for (i : 0 .. ROWS - 1) {
        if
        :: w[n].o[i].listed ->
#ifdef A_SILENT_ENGINE_THAT_IS_TAKEN_OUT_WHATEVER_ITS_BEAT
            if
            :: !w[n].o[i].known -> w[n].o[i].silent = 0
            :: else
            fi;
#else
            if
            :: !w[n].o[i].listed_known -> w[n].o[i].silent = 0
            :: else
            fi;
#endif
            w[n].o[i].known = true;
            w[n].o[i].same = w[n].o[i].listed_same;
            w[n].o[i].position = w[n].o[i].listed_position
        :: else ->
            w[n].o[i].known = false;
            w[n].o[i].same = false;
            w[n].o[i].silent = 0;
            w[n].o[i].position = 0
        fi;
        w[n].o[i].listed = false;
        w[n].o[i].listed_known = false;
        w[n].o[i].listed_same = false;
        w[n].o[i].listed_position = 0
    }
    i = 0;
    w[n].list = false;
    w[n].listed = w[n].listed | w[n].counts_for;
    w[n].counts_for = 0;
#ifdef HEALING
    w[n].fed = true
#endif
}

#define WAITS(n, k) (ending[k] == WAITING && WAITER_OF(k) == (n))
#if ENDINGS == 1
#define ANY_WAITS(n) WAITS(n, 1)
#define WAITING_SET(n) (WAITS(n, 1) -> BIT(1) : 0)
#define NEEDED(n, p) (WAITS(n, 1) && (p) < number[1])
#else
#define ANY_WAITS(n) (WAITS(n, 1) || WAITS(n, 2))
#define WAITING_SET(n) ((WAITS(n, 1) -> BIT(1) : 0) | (WAITS(n, 2) -> BIT(2) : 0))
#define NEEDED(n, p) ((WAITS(n, 1) && (p) < number[1]) || (WAITS(n, 2) && (p) < number[2]))
#endif

#ifdef A_LIST_OF_ENGINES_OF_BEFORE_THE_COMMIT
#define MAY_LIST(n) true
#define LIST_COUNTS_FOR(n) 255
#else
#define LIST_COUNTS_FOR(n) WAITING_SET(n)
#define MAY_LIST(n) (ANY_WAITS(n) && !(calm && w[n].fed))
#endif

#ifdef A_SILENT_ENGINE_THAT_IS_TAKEN_OUT_WHATEVER_ITS_BEAT
#define MAY_REMOVE(n, r) (exists[r] && w[n].o[r].known && w[n].o[r].silent >= WAIT)
#else
#ifdef A_SILENT_ENGINE_THAT_IS_NEVER_TAKEN_OUT
#define MAY_REMOVE(n, r) false
#else
#define MAY_REMOVE(n, r) (w[n].o[r].known && w[n].o[r].silent >= WAIT && w[n].o[r].same)
#endif
#endif

/* Nothing depends any more on what it knows, when nothing else will be ended. */
#if ENDINGS == 1
#define ALL_SAID (ending[1] == DONE)
#else
#define ALL_SAID (ending[1] == DONE && ending[2] == DONE)
#endif
inline waiter_rests(n)
{
    since = (ending[1] == DONE -> LEASE : since);
    if
    :: ALL_SAID ->
        for (i : 0 .. ROWS - 1) {
            w[n].o[i].known = false;
            w[n].o[i].same = false;
            w[n].o[i].silent = 0;
            w[n].o[i].position = 0;
            w[n].o[i].listed = false;
            w[n].o[i].listed_known = false;
            w[n].o[i].listed_same = false;
            w[n].o[i].listed_position = 0
        }
        i = 0;
        w[n].list = false;
        w[n].listed = 0;
        w[n].counts_for = 0
    :: else
    fi
}

#define GOES(n, r, x) (MAY_REMOVE(n, r) && NEEDED(n, w[n].o[r].position))

/* Asked for, and read by the store, in one step: what counts is that the commit came first. */
proctype waiter(byte n)
{
    do
    :: d_step {
        !w[n].list && MAY_LIST(n) ->
            w[n].list = true;
            w[n].counts_for = LIST_COUNTS_FOR(n);
            list_read(n) }
    :: d_step { w[n].list -> list_merge(n) }
    :: d_step { GOES(n, 0, 0) -> row_remove(0) }
    :: d_step { GOES(n, 1, 0) -> row_remove(1) }
#if ROWS > 2
    :: d_step { GOES(n, 2, 0) -> row_remove(2) }
#endif
#if ROWS > 3
    :: d_step { GOES(n, 3, 0) -> row_remove(3) }
#endif
    od
}

#define IS_BEHIND(n, r, k) (w[n].o[r].known && w[n].o[r].position < number[k])
#ifdef WAITING_FOR_NOBODY
#define ALL_PASSED(n, k) true
#else
#define ALL_PASSED(n, k) (!ANY_ROW(IS_BEHIND, n, k))
#endif
#define IS_DONE(k) (WAITS(WAITER_OF(k), k) && (w[WAITER_OF(k)].listed & BIT(k)) && \
                    ALL_PASSED(WAITER_OF(k), k))

inline commit(k)
{
    committed[k] = true;
    live = live & (255 - BIT(k));
#ifndef A_LOG_WHOSE_NUMBERS_BECOME_VISIBLE_OUT_OF_ORDER
    last++;
    number[k] = last;
#endif
    row_of[number[k]] = k
}

/*
 * Who ends session k. Without -DOUTCOMES its request is carried out and answered in one step: what
 * comes later only waits later, and an ending that is never said to be done claims nothing.
 */
proctype ender(byte k)
{
    do
#ifdef A_LOG_WHOSE_NUMBERS_BECOME_VISIBLE_OUT_OF_ORDER
    :: d_step { ending[k] == NOT_BEGUN -> last++; number[k] = last; ending[k] = ASKED }
    :: d_step { ending[k] == ASKED -> commit(k); ending_drop(k); ending[k] = WAITING }
#else
#ifdef OUTCOMES
    :: d_step { ending[k] == NOT_BEGUN && !calm -> ending[k] = ASKED }
    /* Once: a repetition carries the same identity. */
    :: d_step {
        (ending[k] == ASKED || ending[k] == LOST || unheard[k]) && !committed[k] ->
            commit(k);
            unheard[k] = false }
    :: d_step {
        (ending[k] == ASKED || ending[k] == LOST) && committed[k] ->
            ending_drop(k);
            ending[k] = WAITING }
    :: d_step { ending[k] == ASKED && !calm -> ending_drop(k); ending[k] = LOST }
    :: d_step {
        ending[k] == LOST && !calm ->
#ifdef AN_UNKNOWN_OUTCOME_SAID_TO_BE_DONE
            ending[k] = DONE
#else
            unheard[k] = !committed[k];
            ending[k] = NOT_SAID
#endif
        }
    :: d_step {
        ending[k] == WAITING && !calm ->
#ifdef PENDING_SAID_TO_BE_DONE
            ending[k] = DONE
#else
            ending[k] = NOT_SAID
#endif
        }
#else
#ifdef RESTORE /* session 1 is ended after it, under the number that is free again */
#define MAY_BEGIN(k) (k == 2 || restored)
#else
#define MAY_BEGIN(k) true
#endif
    :: d_step {
        ending[k] == NOT_BEGUN && MAY_BEGIN(k) && !calm ->
            commit(k);
            ending_drop(k);
            ending[k] = WAITING }
#endif
#endif
    :: d_step { IS_DONE(k) -> ending[k] = DONE; waiter_rests(WAITER_OF(k)) }
    od
}

/* Nobody has anything to do before time goes on. */
#define IS_FED(e) (f[e].poll == NONE && f[e].asks == 0 && !f[e].stopping && !f[e].cut && \
                   (f[e].fed || !(REGISTERED(e) || MAY_REGISTER(e))))
#define IS_LISTED(n) (!ANY_WAITS(n) || (w[n].fed && !w[n].list && !ANY_ROW(GOES, n, 0)))
#define IS_ASKED(k) (ending[k] == ASKED || ending[k] == LOST || IS_DONE(k))
#if FOLLOWERS == 1
#define ALL_FED IS_FED(0)
#else
#define ALL_FED (IS_FED(0) && IS_FED(1))
#endif
#if WAITERS == 1
#define ALL_LISTED IS_LISTED(0)
#else
#define ALL_LISTED (IS_LISTED(0) && IS_LISTED(1))
#endif
#if ENDINGS == 1
#define ANY_ASKED IS_ASKED(1)
#define ANY_WAITING (ending[1] == WAITING)
#else
#define ANY_ASKED (IS_ASKED(1) || IS_ASKED(2))
#define ANY_WAITING (ending[1] == WAITING || ending[2] == WAITING)
#endif
#define QUIET (ALL_FED && ALL_LISTED && !ANY_ASKED)

proctype clock()
{
    do
    :: d_step {
        !calm || QUIET ->
            i = WATCHED;
            f[i].lease = (f[i].lease > 0 -> f[i].lease - 1 : 0);
            f[i].left_lease = (f[i].left_lease > 0 -> f[i].left_lease - 1 : 0);
            f[i].left_table = (f[i].left_lease > 0 -> f[i].left_table : 0);
            f[i].age = (f[i].poll != NONE && f[i].age < LEASE -> f[i].age + 1 : f[i].age);
            for (i : 0 .. FOLLOWERS - 1) {
                f[i].fed = false
            }
            for (i : 0 .. WAITERS - 1) {
                for (j : 0 .. ROWS - 1) {
                    w[i].o[j].silent =
                        (w[i].o[j].known && w[i].o[j].silent < WAIT -> w[i].o[j].silent + 1
                                                                   : w[i].o[j].silent)
                }
                w[i].fed = false
            }
            since = (committed[1] && since < LEASE -> since + 1 : since);
            i = 0;
            j = 0;
            if
            :: calm ->
                calm_ticks = (calm_ticks < WAIT + 2 -> calm_ticks + 1 : calm_ticks);
                assert(calm_ticks < 2 || f[WATCHED].lease > 0);
                assert(calm_ticks < WAIT + 2 || ANY_WAITING == false)
            :: else
            fi }
    od
}

proctype faults(byte e)
{
    do
#ifndef NO_LOSS
    /* A request that is lost, and a reply: of a poll, and of a registration. */
    :: d_step { f[e].poll == SENT && !calm -> poll_over(e) }
    :: d_step {
        (f[e].poll == CARRIED_OUT || f[e].poll == REFUSED) && !calm && SPARE -> poll_over(e) }
#endif
#ifndef NO_KILL
    :: d_step {
        f[e].left_lease == 0 && !calm && SPARE ->
            f[e].left_lease = (f[e].table != 0 -> f[e].lease : 0);
            f[e].left_table = (f[e].lease > 0 -> f[e].table : 0);
            f[e].lease = 0;
            f[e].table = 0;
            f[e].row = NOBODY;
            f[e].beat = false;
            f[e].position = 0;
            f[e].identity = 0;
            f[e].stopping = false;
            poll_over(e);
            fill_over(e) }
#endif
#ifdef DEPOSED
    :: d_step { !f[e].cut && !calm -> f[e].cut = true; f[e].old = live }
    :: d_step { f[e].cut -> f[e].cut = false; f[e].old = 0 }
#endif
    :: false
    od
}

#ifdef RESTORE
/* The store as it was before the last row. That its ending is lost, the promise does not cover. */
proctype restorer()
{
    d_step {
        last > 0 && !restored && row_of[last] == 2 ->
            restored = true;
            i = row_of[last];
            row_of[last] = 0;
            last--;
            live = live | BIT(i);
            committed[i] = false;
            number[i] = 0;
            ending[i] = NOT_SAID;
            for (i : 0 .. ROWS - 1) {
                row_position[i] = (row_position[i] > last -> last : row_position[i])
            }
            i = 0 }
}
#endif

#ifdef HEALING
proctype calmer()
{
    d_step { !calm -> calm = true }
}
#endif

init {
    atomic {
        byte e, k;
        for (e : 0 .. FOLLOWERS - 1) {
            f[e].row = NOBODY;
            f[e].poll = NONE;
            run follower(e);
            run faults(e);
        }
        run fills(WATCHED, 1);
#ifndef HEALING
        run workers(WATCHED, 1);
#endif
        for (k : 1 .. ENDINGS) { run ender(k) }
        for (e : 0 .. WAITERS - 1) {
            run waiter(e)
        }
        run clock();
#ifdef RESTORE
        run restorer();
#endif
#ifdef HEALING
        run calmer();
#endif
        e = 0;
        k = 0
    }
}

#else

/*
 * A store that one engine holds at a time: the lock is its lease, and a predecessor that died left
 * at most a segment that is believed for a second. Its row in the store says so. The clock is the
 * host's, so nothing drifts; what is left of the factor goes to waste here, which is the harder
 * case.
 */
#define FRESH 2 /* ticks that a segment is believed ahead */
#define WAIT 2

mtype = { DOWN, HALF_UP, UP, RETIRED };
mtype phase = DOWN;
bool row;             /* a registration stands in the store */
byte waits;           /* ticks until the predecessors' segments are dead */
bool table;           /* would believe the session */
byte fresh;           /* ticks that is left of the table's freshness */
bool asks, outdated;  /* a fill, which the store has answered with yes */
byte left_fresh;      /* of the segments of the dead that would believe the session */
bool committed, done;
bool waiting;         /* the ending is committed, and this engine to answer it */

inline gone()
{
    table = false;
    fresh = 0;
    asks = false;
    outdated = false;
    waiting = false;
    waits = 0;
    phase = DOWN
}

active proctype engine()
{
    do
    /* In one batch: who is there goes, and we stand there. */
#ifdef A_PREDECESSORS_ROW_THAT_GOES_BEFORE_OURS_STANDS
    :: d_step { phase == DOWN -> waits = (row -> WAIT : 0); row = false; phase = HALF_UP }
    :: d_step { phase == HALF_UP -> row = true; phase = UP }
#else
    :: d_step {
        phase == DOWN ->
#ifndef NO_WAIT_FOR_A_PREDECESSORS_SEGMENT
            waits = (row -> WAIT : 0);
#endif
            row = true;
            phase = UP }
#endif
    :: d_step { phase == UP && fresh < FRESH -> fresh = FRESH }
    :: d_step { phase == UP && !asks && !committed -> asks = true } /* so it is never too late */
    :: d_step {
        phase == UP && asks ->
            table = (outdated -> table : true);
            asks = false;
            outdated = false }
    /* The ending, asked for again under its identity by a successor. */
    :: d_step {
        phase == UP && !waiting && !done ->
            committed = true;
            table = false;
            outdated = asks;
            waiting = true }
    :: d_step { phase == UP && waiting && waits == 0 -> done = true; waiting = false }
    /* A clean stop: the table, then the row, unless it stands for a predecessor's, too. */
    :: d_step { phase == UP -> table = false; fresh = 0; asks = false; phase = RETIRED }
    :: d_step {
        phase == RETIRED ->
#ifdef A_WAIT_THAT_IS_NOT_PASSED_ON
            row = false;
#else
            row = waits > 0;
#endif
            gone() }
    /* Killed. */
    :: d_step {
        phase != DOWN ->
            left_fresh = (table && fresh > left_fresh -> fresh : left_fresh);
            gone() }
    od
}

active proctype workers()
{
    do
    :: d_step { (table && fresh > 0) || left_fresh > 0 -> assert(done == false) }
    od
}

active proctype clock()
{
    do
    :: d_step {
        true ->
            fresh = (fresh > 0 -> fresh - 1 : 0);
            left_fresh = (left_fresh > 0 -> left_fresh - 1 : 0);
            waits = (waits > 0 -> waits - 1 : 0) }
    od
}

#endif
