/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One host: an agent with its table, what readers see of it, and the store. Rules 1 to 5, and what
 * a dead agent's successor owes (rule 6).
 *
 * What is modelled. Two users and up to three sessions in one bucket, so under one floor; each
 * user has a stamp. The content of a session only grows: absent, live with its first rights, live
 * with changed ones, ended. Each access to what is shared is a step of its own, and the steps of
 * all parts interleave:
 *
 *     fill      clock (others may join); read by the store; answered and inserted. Or a create
 *     ending    of a user or of a session, or a change of rights: commit with its log row; clock;
 *               stamp, or floor and drop, and the answer. Or it is committed elsewhere
 *     follower  the store reads a poll, perhaps not to the end of the log; each row: clock and
 *               stamp, or floor and drop, then position and acknowledgement; lease
 *     reader    lease; entry; stamp; clock
 *     agent     dies between any two steps, and what it was doing is lost. A successor comes with
 *               a new table. Or a living agent replaces its table
 *
 * Safe. `said` is what an ending answered done for, or what the host said no to (unless a dead
 * agent's segment was still in use); `late` is what was committed a lease ago or earlier. Nobody
 * who begins a validation accepts less than `said` was then; nobody who ends one in the table
 * accepts less than `late` is then.
 *
 * Heals (-DHEALING). Activity ends at any moment, and what is under way comes to its end, in every
 * order. After one more poll the table shows of no session less than the store holds, and of each
 * live one a fill is not refused, so that the next lookup accepts it.
 *
 * What is left out, and why that hides nothing:
 *
 * - Time is what is left of each lease: a tick takes one off all that counts down. One host has
 *   one clock, so nothing else of it can be seen. LEASE is the ticks in one. That the table's
 *   lease is published in pieces of a second only ends it sooner.
 * - A store reads a poll when it was sent, and a fill's request when it was written: had it read
 *   later, the lease would be shorter, and the fill one that waited longer before its request was
 *   written. A request that is repeated with its old clock is one that waited, too.
 * - An answer comes at once, and so does an acknowledgement: what is asked of readers begins
 *   earlier.
 * - A commit under way when its agent dies is one that never was, or one made elsewhere; and who
 *   asks for an outcome again is told by the follower. So is who ended something elsewhere, once
 *   nothing is left of the lease of a dead agent's segment. Which others are waited for, and how,
 *   is in engines.pml.
 * - A dropped entry and its floor are one step: a fill that comes between is refused, or dropped.
 *   So are the follower's clock and stamp: it applies a row as an ending does, which takes two.
 * - Readers write nothing and fills begin unasked: one reader sees what any of several can see. A
 *   look whose lease has run out will be a miss, and ends there.
 * - A copy of an entry is whole. That it is, and why loads are not reordered, is argued in
 *   src/cache/README.md and tested there; Spin knows no weak memory.
 * - Deadlines and evictions: a missing entry is a miss. `all` is a stamp like a user's.
 *
 * Runs, as README.md explains. NO_OTHERS: nothing is committed elsewhere. NO_CREATE, NO_TIME: no
 * session is made, no lease runs out. NO_ENDING_OF_…: of users, of sessions. ONE_USER has all
 * sessions.
 *
 * run as_designed                                  small holds
 * run an_agent_that_dies_alone                     small holds -DDEATHS=1 -DNO_CREATE -DNO_OTHERS -DNO_ENDING_OF_SESSIONS
 * run an_agent_that_dies                           large holds -DDEATHS=1
 * run a_table_that_is_replaced_alone               small holds -DREPLACED=1 -DNO_CREATE -DNO_OTHERS -DNO_TIME -DNO_ENDING_OF_USERS
 * run a_table_that_is_replaced                     large holds -DREPLACED=1
 * run two_endings_of_one_user                      small holds -DENDINGS=2 -DONE_USER -DNO_TIME -DNO_ENDING_OF_SESSIONS
 * run two_endings_of_sessions                      large holds -DENDINGS=2 -DNO_CREATE -DNO_TIME -DNO_ENDING_OF_USERS
 * run it_heals                                     small holds -DHEALING -DNO_CREATE
 *
 * run a_clock_read_after_the_store                 small fails -DA_CLOCK_READ_AFTER_THE_STORE
 * run no_floor                                     small fails -DNO_FLOOR
 * run fills_of_before_a_users_stamp                small fails -DFILLS_OF_BEFORE_A_USERS_STAMP
 * run a_read_of_an_older_snapshot                  small fails -DA_READ_OF_AN_OLDER_SNAPSHOT
 * run joining_a_read_that_was_sent_already         small fails -DJOINING_A_READ_THAT_WAS_SENT_ALREADY
 * run a_created_session_stamped_with_the_new_clock small fails -DA_CREATED_SESSION_STAMPED_WITH_THE_NEW_CLOCK
 * run a_host_that_says_yes_after_it_said_no        small fails -DA_HOST_THAT_SAYS_YES_AFTER_IT_SAID_NO
 * run a_new_table_whose_clock_starts_anew          small fails -DREPLACED=1 -DNO_CREATE -DNO_OTHERS -DNO_TIME -DNO_ENDING_OF_USERS -DA_NEW_TABLE_WHOSE_CLOCK_STARTS_ANEW
 * run a_stamp_before_the_commit                    small fails -DA_STAMP_BEFORE_THE_COMMIT
 * run no_stamp_after_an_ending                     small fails -DNO_STAMP_AFTER_AN_ENDING
 * run a_stamp_that_is_not_raised_to_the_clock      small fails -DA_STAMP_THAT_IS_NOT_RAISED_TO_THE_CLOCK
 * run a_stamp_that_is_not_raised_to_the_maximum    small fails -DENDINGS=2 -DONE_USER -DNO_TIME -DNO_ENDING_OF_SESSIONS -DA_STAMP_THAT_IS_NOT_RAISED_TO_THE_MAXIMUM
 * run a_floor_that_is_not_raised_to_the_maximum    small fails -DENDINGS=2 -DNO_CREATE -DNO_TIME -DNO_ENDING_OF_USERS -DA_FLOOR_THAT_IS_NOT_RAISED_TO_THE_MAXIMUM
 * run a_floor_above_the_clock                      small fails -DHEALING -DNO_CREATE -DA_FLOOR_ABOVE_THE_CLOCK
 * run an_entry_that_is_not_dropped                 small fails -DAN_ENTRY_THAT_IS_NOT_DROPPED
 * run changes_that_drop_nothing                    small fails -DCHANGES_THAT_DROP_NOTHING
 * run a_reader_that_looks_at_no_stamps             small fails -DA_READER_THAT_LOOKS_AT_NO_STAMPS
 * run a_reader_that_looks_at_no_lease              small fails -DA_READER_THAT_LOOKS_AT_NO_LEASE
 * run stamps_read_before_the_lease                 small fails -DSTAMPS_READ_BEFORE_THE_LEASE
 * run a_clock_that_a_reader_looks_at_first         small fails -DA_CLOCK_THAT_A_READER_LOOKS_AT_FIRST
 * run a_lease_counted_from_the_reply               small fails -DA_LEASE_COUNTED_FROM_THE_REPLY
 * run freshness_before_the_stamps                  small fails -DFRESHNESS_BEFORE_THE_STAMPS
 * run a_position_before_the_stamps                 small fails -DA_POSITION_BEFORE_THE_STAMPS
 * run an_acknowledgement_before_the_stamps         small fails -DAN_ACKNOWLEDGEMENT_BEFORE_THE_STAMPS
 * run a_lease_of_a_poll_that_did_not_reach_the_end small fails -DENDINGS=2 -DA_LEASE_OF_A_POLL_THAT_DID_NOT_REACH_THE_END
 * run no_wait_for_a_predecessors_segment           small fails -DDEATHS=1 -DNO_CREATE -DNO_OTHERS -DNO_ENDING_OF_SESSIONS -DNO_WAIT_FOR_A_PREDECESSORS_SEGMENT
 * run an_answer_before_the_stamp                   small fails -DAN_ANSWER_BEFORE_THE_STAMP
 *
 * run it_heals_from_deaths                         large holds -DHEALING -DDEATHS=1 -DNO_OTHERS
 * run a_lease_of_two_ticks                         large holds -DLEASE=2
 * run two_fills                                    large holds -DFILLS=2
 * run three_sessions                               large holds -DSESSIONS=3
 * run two_endings                                  large holds -DENDINGS=2
 */

#ifndef SESSIONS
#define SESSIONS 2 /* at most 3 */
#endif
#ifndef FILLS
#define FILLS 1
#endif
#ifndef ENDERS
#define ENDERS 1 /* at once; any number elsewhere */
#endif
#ifndef ENDINGS
#define ENDINGS 1 /* in all */
#endif
#ifndef DEATHS
#define DEATHS 0
#endif
#ifndef REPLACED
#define REPLACED 0 /* how often a living agent replaces its table */
#endif
#ifndef LEASE
#define LEASE 1
#endif
#ifdef ONE_USER
#define USER(s) 0
#else
#define USER(s) ((s) & 1) /* 0 and 2 are of one user */
#endif
#if defined(NO_CREATE)
#define CREATED 3
#elif SESSIONS > 2
#define CREATED 2
#else
#define CREATED 1 /* the session that does not exist at first */
#endif

#define TABLES (1 + DEATHS + REPLACED)

/* What the store holds of a session. */
#define ABSENT 0
#define LIVE 1
#define CHANGED 2
#define ENDED 3
#define is_live(v) ((v) == LIVE || (v) == CHANGED)

/* Kinds of log rows. */
#define END_USER 0
#define END_SESSION 1
#define CHANGE 2

/* States. Each part is IDLE at first. */
#define IDLE 0
/* A fill; OPENED is a mutant's. */
#define QUEUED 1
#define READ 2
#define OPENED 3
/* An ending */
#define COMMITTED 1
#define CLOCKED 2
#define APPLIED 3
/* The follower */
#define APPLYING 1
/* A reader */
#define LOADED 1
#define COPIED 2
#define ALLOWED 3

#define raise(x, v) x = ((v) > (x) -> (v) : (x))
#define lower_one(x) x = ((x) > 0 -> (x) - 1 : 0)

/* ---- the store */

byte store[3];
byte rows; /* in the log */
byte row_kind[ENDINGS + 1];
byte row_target[ENDINGS + 1]; /* a user or a session */
byte row_hit[ENDINGS + 1];    /* a bit for each session that it ended or changed */
byte begun;                   /* endings, in all */

/* ---- what must be seen */

byte said[3];
byte told; /* rows whose callers were answered by way of the log */
byte late[3];
#if LEASE > 1
byte later[3]; /* committed a tick ago or earlier */
#endif
#define need(s) ((said[s] > late[s] -> said[s] : late[s]))

/* ---- the agent */

typedef table {
    byte lease; /* what is left of it */
    byte floor;
    byte stamp[2];
    byte entry_stamp[3];
    byte entry[3]; /* the content; ABSENT where there is no entry */
};
table tables[TABLES];
byte now_table; /* the newest */
byte clock = 1;
byte applied; /* rows */
#ifdef A_POSITION_BEFORE_THE_STAMPS
byte position;
#else
#define position applied
#endif
byte wait; /* the successor's, before endings answer */
bool alive = true;
byte deaths, replaced;

typedef fill {
    byte state;
    byte s;
    byte stamp;
    byte content;
    bool creates;
};
fill fills[FILLS];

typedef ending {
    byte state;
    byte kind, target, hit;
    byte clock;
};
ending endings[ENDERS];

typedef follow {
    byte state;
    byte lease; /* left of what the poll brings */
    byte end;   /* of what it read */
};
follow poll;

typedef look {
    byte state;
    byte s, t;
    byte lease;
    byte need;
    byte stamp;
    byte content;
#ifdef STAMPS_READ_BEFORE_THE_LEASE
    byte user_stamp;
#endif
};
look reads;

bool quiet, last_poll, healed;

/* Whatever is spoken of below. */
#define T tables[now_table]
#define F fills[f]
#define E endings[e]
#define L reads

#define begins (alive && !quiet)

/* What is left of the segments of agents that are gone. */
#if TABLES == 1
#define old_leases 0
#elif TABLES == 2
#define old_leases (now_table == 0 -> 0 : tables[0].lease)
#else
#define old_leases ((now_table > 0 -> tables[0].lease : 0) + (now_table > 1 -> tables[1].lease : 0))
#endif
#define settled (wait == 0 && old_leases == 0)

/* ---- steps that several parts share */

#define change_one(s, kind, target)                                                                \
    if                                                                                             \
    :: kind == END_USER && USER(s) == target && is_live(store[s]) ->                               \
        store[s] = ENDED;                                                                          \
        row_hit[rows] = row_hit[rows] | (1 << (s))                                                 \
    :: kind == END_SESSION && (s) == target && is_live(store[s]) ->                                \
        store[s] = ENDED;                                                                          \
        row_hit[rows] = row_hit[rows] | (1 << (s))                                                 \
    :: kind == CHANGE && (s) == target && store[s] == LIVE ->                                      \
        store[s] = CHANGED;                                                                        \
        row_hit[rows] = row_hit[rows] | (1 << (s))                                                 \
    :: else                                                                                        \
    fi

/* The change and its row, at once. */
inline commit(what, whom)
{
    rows++;
    row_kind[rows] = what;
    row_target[rows] = whom;
    change_one(0, what, whom);
    change_one(1, what, whom);
#if SESSIONS > 2
    change_one(2, what, whom);
#endif
    printf("store: row %d, kind %d of %d\n", rows, what, whom)
}

/* Whether there is anything to change. */
#define is_users(s, u) (USER(s) == (u) && is_live(store[s]))
#define finds_user(u) (is_users(0, u) || is_users(1, u) || is_users(2, u))

#define said_one(s, hit, kind)                                                                     \
    if                                                                                             \
    :: ((hit) & (1 << (s))) != 0 -> raise(said[s], ((kind) == CHANGE -> CHANGED : ENDED))          \
    :: else                                                                                        \
    fi

inline say_done(which, what)
{
    said_one(0, which, what);
    said_one(1, which, what)
#if SESSIONS > 2
    ; said_one(2, which, what)
#endif
}

/* Who waits for this host's acknowledgement elsewhere is told. */
inline tell(known)
{
    do
    :: told < known && old_leases == 0 ->
        told++;
        say_done(row_hit[told], row_kind[told]);
        printf("store: row %d is done\n", told)
    :: else -> break
    od
}

/* Rows are forgotten when all know them. */
inline forget_rows()
{
    if
    :: told == rows && applied == rows && poll.state == IDLE ->
        do
        :: rows > 0 ->
            row_kind[rows] = 0;
            row_target[rows] = 0;
            row_hit[rows] = 0;
            rows--
        :: else -> break
        od;
        told = 0;
        applied = 0
    :: else
    fi
}

inline forget_ending(e)
{
    endings[e].state = IDLE;
    endings[e].kind = 0;
    endings[e].target = 0;
    endings[e].hit = 0;
    endings[e].clock = 0
}

inline forget_fill(f)
{
    fills[f].state = IDLE;
    fills[f].s = 0;
    fills[f].stamp = 0;
    fills[f].content = 0;
    fills[f].creates = false
}

inline forget_look()
{
    L.state = IDLE;
    L.s = 0;
    L.t = 0;
    L.lease = 0;
    L.need = 0;
    L.stamp = 0;
#ifdef STAMPS_READ_BEFORE_THE_LEASE
    L.user_stamp = 0;
#endif
    L.content = 0
}

#ifdef AN_ENTRY_THAT_IS_NOT_DROPPED
#define drop(which) skip
#else
#define drop(which)                                                                                \
    T.entry[which] = ABSENT;                                                                       \
    T.entry_stamp[which] = 0
#endif

#if defined(NO_STAMP_AFTER_AN_ENDING)
#define raise_stamp(whom, at) skip
#elif defined(A_STAMP_THAT_IS_NOT_RAISED_TO_THE_CLOCK)
#define raise_stamp(whom, at) raise(T.stamp[whom], at - 1)
#elif defined(A_STAMP_THAT_IS_NOT_RAISED_TO_THE_MAXIMUM)
#define raise_stamp(whom, at) T.stamp[whom] = at
#else
#define raise_stamp(whom, at) raise(T.stamp[whom], at)
#endif

#if defined(NO_FLOOR)
#define raise_floor(at) skip
#elif defined(A_FLOOR_THAT_IS_NOT_RAISED_TO_THE_MAXIMUM)
#define raise_floor(at) T.floor = at
#elif defined(A_FLOOR_ABOVE_THE_CLOCK)
#define raise_floor(at) raise(T.floor, at + 1)
#else
#define raise_floor(at) raise(T.floor, at)
#endif

/* Rules 2 and 3, after the clock. */
inline apply(what, whom, at)
{
    if
    :: what == END_USER -> raise_stamp(whom, at)
#ifdef CHANGES_THAT_DROP_NOTHING
    :: what == CHANGE
#endif
    :: else ->
        raise_floor(at);
        drop(whom)
    fi
}

/* ---- fills, and creates */

#ifdef FILLS_OF_BEFORE_A_USERS_STAMP
#define refused(s, c) ((c) < T.floor)
#else
#define refused(s, c) ((c) < T.floor || (c) < T.stamp[USER(s)])
#endif

proctype filler(byte f)
{
end:
    do
    /* Rule 1: the clock first. */
    :: atomic {
        begins && F.state == IDLE ->
            if
            :: store[0] != ABSENT
            :: store[1] != ABSENT -> F.s = 1
#if SESSIONS > 2
            :: store[2] != ABSENT -> F.s = 2
#endif
#ifndef NO_CREATE
            :: store[CREATED] == ABSENT -> F.s = CREATED; F.creates = true
#endif
            fi;
#ifdef A_READ_OF_AN_OLDER_SNAPSHOT
            F.content = store[F.s];
            F.state = OPENED;
            printf("fill %d: a transaction is open, session %d is %d in it\n", f, F.s, F.content)
       }
    :: d_step {
        F.state == OPENED ->
#endif
            F.stamp = clock;
            F.state = QUEUED;
            printf("fill %d: session %d missed, clock %d\n", f, F.s, F.stamp)
       }
    /* Who asked before the request was written may be asking only now. */
    :: d_step {
        F.state == QUEUED ->
            if
            :: F.creates && store[F.s] == ABSENT ->
                store[F.s] = LIVE;
                F.content = LIVE
            :: F.creates && store[F.s] != ABSENT
            :: !F.creates ->
#ifndef A_READ_OF_AN_OLDER_SNAPSHOT
                F.content = store[F.s];
#endif
                assert(!is_live(F.content) || F.content >= need(F.s))
            fi;
            F.state = READ;
            printf("fill %d: the store says %d for session %d\n", f, F.content, F.s)
       }
#ifdef JOINING_A_READ_THAT_WAS_SENT_ALREADY
    :: d_step {
        F.state == READ && !F.creates ->
            printf("fill %d: joined, and answered %d\n", f, F.content);
            assert(!is_live(F.content) || F.content >= need(F.s))
       }
#endif
    :: d_step {
        F.state == READ ->
#ifdef A_CLOCK_READ_AFTER_THE_STORE
            F.stamp = (F.creates -> F.stamp : clock);
#endif
#ifdef A_CREATED_SESSION_STAMPED_WITH_THE_NEW_CLOCK
            F.stamp = (F.creates -> clock : F.stamp);
#endif
            if
            :: is_live(F.content) && !refused(F.s, F.stamp) ->
                T.entry[F.s] = F.content;
                T.entry_stamp[F.s] = F.stamp;
                printf("fill %d: session %d inserted\n", f, F.s)
            /*
             * The host has said no, so it must not say yes: the row may not be here yet. (A dead
             * agent's segment may, while it lasts: nobody was told done.)
             */
            :: F.content == ENDED && said[F.s] != ENDED && settled ->
#ifndef A_HOST_THAT_SAYS_YES_AFTER_IT_SAID_NO
                clock++;
                apply(END_SESSION, F.s, clock);
#endif
                said[F.s] = ENDED;
                printf("fill %d: session %d has ended\n", f, F.s)
            :: else -> printf("fill %d: not inserted\n", f)
            fi;
            forget_fill(f)
       }
    od
}

/* ---- endings and changes */

proctype ender(byte e)
{
end:
    do
    :: atomic {
        begins && E.state == IDLE && begun < ENDINGS && (finds_user(0) || finds_user(1)) ->
            if
#ifndef NO_ENDING_OF_USERS
            :: finds_user(0) -> E.kind = END_USER
            :: finds_user(1) -> E.kind = END_USER; E.target = 1
#endif
#ifndef NO_ENDING_OF_SESSIONS
            :: is_live(store[0]) -> E.kind = END_SESSION
            :: is_live(store[1]) -> E.kind = END_SESSION; E.target = 1
            :: store[0] == LIVE -> E.kind = CHANGE
            :: store[1] == LIVE -> E.kind = CHANGE; E.target = 1
#endif
#if SESSIONS > 2
            :: is_live(store[2]) -> E.kind = END_SESSION; E.target = 2
            :: store[2] == LIVE -> E.kind = CHANGE; E.target = 2
#endif
            fi;
            begun++;
#ifndef A_STAMP_BEFORE_THE_COMMIT
            commit(E.kind, E.target);
            E.hit = row_hit[rows];
#endif
#ifdef AN_ANSWER_BEFORE_THE_STAMP
            say_done(E.hit, E.kind);
#endif
            E.state = COMMITTED
       }
    :: d_step {
        E.state == COMMITTED ->
            clock++;
            E.clock = clock;
            E.state = CLOCKED;
            printf("ending %d: clock %d\n", e, clock)
       }
    :: d_step {
        E.state == CLOCKED ->
            apply(E.kind, E.target, E.clock);
            E.clock = 0;
            E.state = APPLIED;
            printf("ending %d: applied\n", e);
#ifndef A_STAMP_BEFORE_THE_COMMIT
            if
            :: wait == 0 ->
                say_done(E.hit, E.kind);
                forget_ending(e);
                printf("ending %d: done\n", e)
            :: else
            fi
#endif
       }
    :: d_step {
        E.state == APPLIED && wait == 0 ->
#ifdef A_STAMP_BEFORE_THE_COMMIT
            commit(E.kind, E.target);
            E.hit = row_hit[rows];
#endif
            say_done(E.hit, E.kind);
            forget_ending(e);
            printf("ending %d: done\n", e)
       }
    od
}

/* By another host, by an agent that died, by one that was asked before. */
#define elsewhere(condition, what, whom)                                                           \
    d_step {                                                                                       \
        !quiet && begun < ENDINGS && condition ->                                                  \
            begun++;                                                                               \
            commit(what, whom)                                                                     \
    }

proctype others()
{
end:
    do
    :: false
#ifndef NO_ENDING_OF_USERS
    :: elsewhere(finds_user(0), END_USER, 0)
    :: elsewhere(finds_user(1), END_USER, 1)
#endif
#ifndef NO_ENDING_OF_SESSIONS
    :: elsewhere(is_live(store[0]), END_SESSION, 0)
    :: elsewhere(is_live(store[1]), END_SESSION, 1)
    :: elsewhere(store[0] == LIVE, CHANGE, 0)
    :: elsewhere(store[1] == LIVE, CHANGE, 1)
#endif
#if SESSIONS > 2
    :: elsewhere(is_live(store[2]), END_SESSION, 2)
    :: elsewhere(store[2] == LIVE, CHANGE, 2)
#endif
    od
}

/* ---- the follower */

#define endings_idle (endings[0].state == IDLE && endings[ENDERS - 1].state == IDLE)
#define fills_idle (fills[0].state == IDLE && fills[FILLS - 1].state == IDLE)

/* At rest it polls until all rows are here and nothing is waited for, and once more. */
#define polls (!quiet || (applied < rows || (endings_idle && settled)) && !last_poll)

inline publish()
{
    raise(T.lease, poll.lease);
    printf("follower: lease published, %d left\n", poll.lease)
}

proctype follower()
{
end:
    do
    :: atomic {
        alive && poll.state == IDLE && polls ->
            if
            :: poll.end = rows; poll.lease = LEASE
            :: rows > applied + 1 && !quiet ->
                poll.end = applied + 1;
#ifdef A_LEASE_OF_A_POLL_THAT_DID_NOT_REACH_THE_END
                poll.lease = LEASE
#endif
            fi;
            last_poll = quiet && applied == rows && endings_idle && settled;
            poll.state = APPLYING;
            printf("follower: a poll reads rows to %d\n", poll.end)
       }
#ifdef A_LEASE_COUNTED_FROM_THE_REPLY
    :: d_step { poll.state == APPLYING && poll.lease < LEASE -> poll.lease = LEASE }
#endif
#ifdef FRESHNESS_BEFORE_THE_STAMPS
    :: d_step { poll.state == APPLYING && poll.lease > T.lease -> publish() }
#endif
#ifdef AN_ACKNOWLEDGEMENT_BEFORE_THE_STAMPS
    :: d_step { poll.state == APPLYING && told < poll.end -> tell(poll.end); skip }
#endif
#ifdef A_POSITION_BEFORE_THE_STAMPS
    :: d_step {
        poll.state == APPLYING && position < poll.end ->
            position = poll.end;
            tell(position);
            skip
       }
#endif
    :: d_step {
        poll.state == APPLYING && applied < poll.end ->
            clock++;
            apply(row_kind[applied + 1], row_target[applied + 1], clock);
            applied++;
            tell(position);
            printf("follower: row %d applied, clock %d\n", applied, clock)
       }
    :: d_step {
        poll.state == APPLYING && applied == poll.end ->
            publish();
            poll.lease = 0;
            poll.end = 0;
            poll.state = IDLE;
            forget_rows();
            skip
       }
    od
}

/* ---- readers: rule 4 */

#if defined(A_READER_THAT_LOOKS_AT_NO_STAMPS) || defined(FILLS_OF_BEFORE_A_USERS_STAMP)
#define stamps_allow true
#elif defined(STAMPS_READ_BEFORE_THE_LEASE)
#define stamps_allow (L.stamp >= L.user_stamp)
#else
#define stamps_allow (L.stamp >= tables[L.t].stamp[USER(L.s)])
#endif

/* A look without a lease is a miss, whatever comes after, and not worth its steps. */
#if defined(A_READER_THAT_LOOKS_AT_NO_LEASE)
#define worth_it(table) true
#define lease_lasts true
#define may_fail false
#elif defined(A_CLOCK_THAT_A_READER_LOOKS_AT_FIRST)
#define worth_it(table) (tables[table].lease > 0)
#define lease_lasts true
#define may_fail false
#elif defined(STAMPS_READ_BEFORE_THE_LEASE)
#define worth_it(table) true
#define lease_lasts (L.lease > 0)
#define may_fail (L.state > LOADED)
#else
#define worth_it(table) (tables[table].lease > 0)
#define lease_lasts (L.lease > 0)
#define may_fail (L.state > IDLE)
#endif

/* The newest table, or the one before it: the reader has not heard yet. */
#if TABLES > 1
#define may_look_at_old (now_table > 0 && worth_it(now_table - 1))
#else
#define may_look_at_old false
#endif

proctype reader()
{
end:
    do
    :: atomic {
        !quiet && L.state == IDLE && (worth_it(now_table) || may_look_at_old) ->
            if
            :: worth_it(now_table) -> L.t = now_table
            :: may_look_at_old -> L.t = now_table - 1
            fi;
            if
            :: L.s = 0
            :: L.s = 1
#if SESSIONS > 2
            :: L.s = 2
#endif
            fi;
            L.need = said[L.s];
#ifdef STAMPS_READ_BEFORE_THE_LEASE
            L.user_stamp = tables[L.t].stamp[USER(L.s)];
#else
            L.lease = tables[L.t].lease;
#endif
            L.state = LOADED;
            printf("reader: session %d in table %d, lease %d\n", L.s, L.t, L.lease)
       }
    :: d_step {
        L.state == LOADED ->
#ifdef STAMPS_READ_BEFORE_THE_LEASE
            L.lease = tables[L.t].lease;
#endif
            L.content = tables[L.t].entry[L.s];
            L.stamp = tables[L.t].entry_stamp[L.s];
            L.state = COPIED;
            printf("reader: copied %d, stamp %d\n", L.content, L.stamp);
            if
            :: L.content == ABSENT -> forget_look()
            :: else
            fi
       }
    :: d_step {
        L.state == COPIED ->
            if
            :: stamps_allow ->
                L.stamp = 0;
                L.t = 0;
                L.state = ALLOWED
            :: else -> forget_look()
            fi
       }
    :: d_step {
        L.state == ALLOWED ->
            if
            :: lease_lasts ->
                printf("reader: accepts %d of session %d\n", L.content, L.s);
                assert(L.content >= L.need);
                assert(L.content >= late[L.s])
            :: else
            fi;
            forget_look()
       }
    od
}

/* ---- time */

#if LEASE > 1
#define pass(s)                                                                                    \
    late[s] = later[s];                                                                            \
    later[s] = store[s]
#else
#define pass(s) late[s] = store[s]
#endif

proctype time()
{
end:
    do
    :: d_step {
        !quiet || !settled ->
            lower_one(tables[0].lease);
#if TABLES > 1
            lower_one(tables[1].lease);
#endif
#if TABLES > 2
            lower_one(tables[2].lease);
#endif
            lower_one(L.lease);
            if
            :: may_fail && L.lease == 0 -> forget_look()
            :: else
            fi;
            lower_one(poll.lease);
            lower_one(wait);
            pass(0);
            pass(1);
#if SESSIONS > 2
            pass(2);
#endif
            tell(position);
            printf("time: a tick\n")
       }
    od
}

/* ---- the agent's life */

inline new_table(c)
{
    now_table++;
    T.floor = c;
    T.stamp[0] = c;
    T.stamp[1] = c
}

/* What the table would say now is right; a fill is not refused, so the next lookup accepts. */
#define heal(s)                                                                                    \
    assert(T.entry[s] == ABSENT || T.entry_stamp[s] < T.stamp[USER(s)] || T.entry[s] == store[s]); \
    assert(!is_live(store[s]) || !refused(s, clock));                                              \
    assert(!is_live(store[s]) || clock >= T.stamp[USER(s)])

proctype life()
{
end:
    do
    :: false /* in some runs nothing happens to it */
#if DEATHS > 0
    :: d_step {
        begins && deaths < DEATHS ->
            alive = false;
            deaths++;
            forget_fill(0);
            forget_ending(0);
#if FILLS > 1
            forget_fill(1);
#endif
#if ENDERS > 1
            forget_ending(1);
#endif
            poll.state = IDLE;
            poll.lease = 0;
            poll.end = 0;
            wait = 0;
            clock = 0;
            T.floor = 0;
            printf("agent: dead\n")
       }
    /* Registered before its first fill, at the log's end; its clock knows nothing of the old. */
    :: d_step {
        !alive ->
            alive = true;
            clock = 1;
            new_table(1);
            applied = rows;
#ifdef A_POSITION_BEFORE_THE_STAMPS
            position = rows;
#endif
#ifndef NO_WAIT_FOR_A_PREDECESSORS_SEGMENT
            wait = LEASE;
#endif
            tell(position);
            printf("agent: a successor, table %d\n", now_table)
       }
#endif
#if REPLACED > 0
    :: d_step {
        begins && replaced < REPLACED ->
            replaced++;
            T.lease = 0;
            T.floor = 0;
#ifdef A_NEW_TABLE_WHOSE_CLOCK_STARTS_ANEW
            clock = 1;
#else
            clock++;
#endif
            new_table(clock);
            printf("agent: table %d replaces the last one, clock %d\n", now_table, clock)
       }
#endif
#ifdef HEALING
    :: d_step {
        !quiet ->
            quiet = true;
            printf("rest: nothing begins any more\n")
       }
    :: d_step {
        quiet && !healed && alive && last_poll && poll.state == IDLE && endings_idle &&
            fills_idle && L.state == IDLE ->
            assert(T.lease > 0 && applied == rows && told == rows);
            heal(0);
            heal(1);
#if SESSIONS > 2
            heal(2);
#endif
            healed = true;
            printf("rest: healed\n")
       }
#endif
    od
}

init
{
    d_step {
        store[0] = (CREATED == 0 -> ABSENT : LIVE);
        store[1] = (CREATED == 1 -> ABSENT : LIVE);
#if SESSIONS > 2
        store[2] = (CREATED == 2 -> ABSENT : LIVE);
#endif
        T.floor = clock;
        T.stamp[0] = clock;
        T.stamp[1] = clock
    }
    atomic {
        run filler(0);
#if FILLS > 1
        run filler(1);
#endif
        run ender(0);
#if ENDERS > 1
        run ender(1);
#endif
#ifndef NO_OTHERS
        run others();
#endif
        run follower();
        run reader();
#ifndef NO_TIME
        run time();
#endif
        run life()
    }
}

#ifdef HEALING
ltl heals { [] (quiet -> <> healed) }
#endif
