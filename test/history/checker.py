# SPDX-License-Identifier: Apache-2.0
"""Does a history keep the promise? README.md has the lines that a history is made of.

Every operation is an interval on one clock: it happened somewhere between its beginning and its end,
or, where its outcome is not known, perhaps never, perhaps later. Every value is written once, so
whoever names one names its write. From this each rule below is a comparison of times:

- What has *certainly* happened before an acceptance began (its end is before that beginning) must
  be respected by it.
- What can *not* have happened (nothing that could have done it had begun) must not be shown.

Between the two everything is allowed. That is exact: an order of the operations that explains the
history exists for each session, token and value as soon as these hold, since a register whose
writes are told apart is decided by intervals alone.
"""

import bisect
import collections
import pathlib
import sys

NS_PER_MS = 1_000_000
NEVER = float("inf")

# Nothing happened, and nothing will: the call says so. Without an answer, or with another one, it
# may have happened, and may yet.
CERTAINLY_NOT = {"CR_NOT_FOUND", "CR_ENDED", "CR_DENIED", "CR_CONFLICT", "CR_BUSY", "CR_UNAVAILABLE",
                 "CR_UNKNOWN_USER", "CR_E_INVALID", "CR_E_LIMIT", "CR_E_NO_MEMORY"}
# Whoever loses the connection while these are under way is told CR_UNAVAILABLE, and not that the
# outcome is unknown: nobody has the token that was made (room.h). A login has ended others all the
# same.
PERHAPS_WHEN_UNAVAILABLE = {"create", "login", "renew"}
NOT_SHOWN = "?"  # by whoever validated: nothing is known
REFUSALS = {"CR_ENDED", "CR_NOT_FOUND"}
NO_ANSWER = {"CR_UNAVAILABLE", "CR_BUSY"}

ROTATE_GRACE_MS = 10_000  # a token that was renewed is good for this long
SEGMENT_MS = 1220         # a killed agent's table may be believed so long
CLOCK_MS = 3              # ends are counted in whole milliseconds, on two clocks


class Op:
    """One that changes something. `start` and `latest` bound when it happened, if it did; `done`:
    from when on nobody may behave as if it had not (NEVER, where nobody knows that)."""

    __slots__ = ("kind", "words", "start", "end", "status", "answer", "host", "where")

    def __init__(self, kind, words, start, host, where):
        self.kind, self.words, self.start, self.host, self.where = kind, words, start, host, where
        self.end, self.status, self.answer = NEVER, None, {}

    @property
    def may_have_happened(self):
        if self.status == "CR_UNAVAILABLE" and self.kind in PERHAPS_WHEN_UNAVAILABLE:
            return True
        return self.status not in CERTAINLY_NOT

    @property
    def latest(self):
        """Whoever did not wait for the answer, or did not get it, may be done his will later."""
        return self.end if self.status in ("CR_OK", "CR_PENDING") else NEVER

    @property
    def done(self):
        if self.status == "CR_OK":
            return self.end
        if self.status == "CR_PENDING" and "bound" in self.answer:
            return self.end + int(self.answer["bound"]) * NS_PER_MS
        return NEVER

    def __str__(self):
        return f"{self.kind} {' '.join(self.words)} -> {self.status} ({self.where})"


Saw = collections.namedtuple("Saw", "start end count how asked token status content host where")
Content = collections.namedtuple("Content", "session user rights data version created ends")


class Malformed(Exception):
    pass


def number_of(word):
    return None if word == NOT_SHOWN else int(word)


class History:
    """`saws` in the order of their ends; `ops`; `losses`: {host: times at which its agent was
    killed}; `lease_ms` of {host}, where the store has several engines."""

    def __init__(self):
        self.saws, self.ops, self.losses, self.lease_ms = [], [], collections.defaultdict(list), {}

    def read(self, text, where):
        """The lines of one writer."""
        host, open_ops = "?", {}
        for number, line in enumerate(text.splitlines(keepends=True), 1):
            if not line.endswith("\n"):
                break  # its writer was killed in the middle of it
            at = f"{where}:{number}"
            words = line.split()
            try:
                if words[0] == "host":
                    host = words[1]
                    if len(words) > 2:
                        self.lease_ms[host] = int(words[2])
                elif words[0] == "began":
                    open_ops[words[1]] = op = Op(words[3], words[4:], int(words[2]), host, at)
                    self.ops.append(op)
                elif words[0] == "ended":
                    op = open_ops.pop(words[1])
                    op.end, op.status = int(words[2]), words[3]
                    op.answer = dict(word.split("=", 1) for word in words[4:])
                elif words[0] == "saw":
                    content = None
                    if words[7] == "CR_OK":
                        content = Content(*words[8:12], *map(number_of, words[12:15]))
                    self.saws.append(Saw(int(words[1]), int(words[2]), int(words[3]), words[4],
                                         words[5], words[6], words[7], content, host, at))
                elif words[0] == "killed":
                    self.losses[words[1]].append(int(words[2]))
                else:
                    raise Malformed(f"{at}: {line}")
            except (IndexError, ValueError, KeyError, TypeError) as error:
                raise Malformed(f"{at}: {line}") from error
        return self


def read_folder(folder):
    history = History()
    for path in sorted(pathlib.Path(folder).glob("*.history")):
        history.read(path.read_text(encoding="utf-8", errors="replace"), path.name)
    return history


# ---- what is known of one session


class Register:
    """One value of a session, such as its rights: who wrote what."""

    def __init__(self):
        self.writes = {}  # value: Op
        self.spans = None

    def add(self, value, op):
        self.writes[value] = op

    def span(self, value):
        """Between which instants the value can have been the store's: from the beginning of its
        write until somebody else's, which certainly came after it, has answered; with that one."""
        if self.spans is None:
            certain = sorted((op.start, op.done) for op in self.writes.values() if op.done < NEVER)
            starts = [start for start, _ in certain]
            # least[i]: when the first of those which began at starts[i] or later was done.
            least = [NEVER]
            for _, done in reversed(certain):
                least.append(min(least[-1], done))
            least.reverse()
            self.spans = {}
            for name, op in self.writes.items():
                later = bisect.bisect_right(starts, op.latest)
                self.spans[name] = (op.start, least[later])
        return self.spans[value]


class Token:
    def __init__(self, made):
        self.made = made        # the Op that gave it
        self.over = NEVER       # from when on it is certainly over by itself
        self.may_be_over = NEVER  # before this it is certainly not


class Session:
    def __init__(self, name, user, made):
        self.name, self.user, self.made = name, user, made
        self.tokens = {}
        self.rights, self.data = Register(), Register()
        self.endings, self.rotations, self.data_writes = [], [], []
        self.over, self.over_by = NEVER, None
        self.may_be_over = NEVER
        self.versions = {}  # version: value, as writers were told or readers saw

    @property
    def absolute_ms(self):
        return int(self.made.words[3]) if len(self.made.words) > 3 else 0

    def settle(self, endings):
        """`endings`: those of the session, its user and everybody."""
        for op in endings:
            if not op.may_have_happened or op.latest < self.made.start:
                continue
            # One that was asked for before the session certainly was there may have missed it.
            if op.start > self.made.end and op.done < self.over:
                self.over, self.over_by = op.done, op
            self.may_be_over = min(self.may_be_over, op.start)
        if self.absolute_ms:
            ends = self.made.end + (self.absolute_ms + CLOCK_MS) * NS_PER_MS
            if ends < self.over:
                self.over, self.over_by = ends, None
            self.may_be_over = min(self.may_be_over, self.made.start +
                                   (self.absolute_ms - CLOCK_MS) * NS_PER_MS)
        for token in self.tokens.values():
            self.settle_token(token)

    def settle_token(self, token):
        grace = ROTATE_GRACE_MS * NS_PER_MS
        renewals = 0
        for op in sorted(self.rotations, key=lambda rotation: rotation.start):
            if not op.may_have_happened or op is token.made or op.latest < token.made.start:
                continue
            if op.kind == "privilege":
                # All tokens that were there before it are over at once.
                if op.start > token.made.end:
                    token.over = min(token.over, op.done)
                token.may_be_over = min(token.may_be_over, op.start)
                continue
            # The first renewal leaves it its grace, the second takes it: one old token is kept.
            renewals += 1
            token.may_be_over = min(token.may_be_over, op.start if renewals > 1
                                    else op.start + grace)
            # The grace is counted by the store from its commit.
            if op.words[1] == token.name:
                token.over = min(token.over, op.done + grace + CLOCK_MS * NS_PER_MS)


# ---- the check


class Check:
    def __init__(self, history):
        self.history = history
        self.violations = []
        self.sessions = {}
        self.endings_of_user = collections.defaultdict(list)
        self.endings_of_all = []
        self.refused = collections.defaultdict(list)  # (token, host): ends of refusals
        self.counts = collections.Counter()

    def wrong(self, rule, text):
        self.violations.append(f"{rule}: {text}")

    def run(self):
        self.gather()
        for session in self.sessions.values():
            self.settle(session)
        for saw in sorted(self.history.saws, key=lambda one: one.end):
            self.look(saw)
        for session in self.sessions.values():
            self.look_at_writes(session)
        for op in self.history.ops:
            self.look_at_answer(op)
        return self.violations

    def gather(self):
        """What was done, session by session."""
        for op in self.history.ops:
            self.counts[f"{op.kind} {op.status}"] += 1
            if op.kind in ("create", "login") and op.status == "CR_OK":
                session = Session(op.answer["session"], op.words[0], op)
                session.tokens[op.answer["token"]] = token = Token(op)
                token.name = op.answer["token"]
                session.rights.add(op.words[1], op)
                session.data.add(op.words[2], op)
                if session.name in self.sessions:
                    self.wrong("an id is given once", str(op))
                self.sessions[session.name] = session
            if op.kind in ("login", "end-user"):
                self.endings_of_user[op.words[0]].append(op)
            elif op.kind == "end-others":
                self.endings_of_user[op.words[1]].append(op)
            elif op.kind == "end-all":
                self.endings_of_all.append(op)
        for op in self.history.ops:
            session = self.sessions.get(op.words[0]) if op.words else None
            if session is None:
                continue
            if op.kind == "end":
                session.endings.append(op)
            elif op.kind == "rights":
                session.rights.add(op.words[1], op)
            elif op.kind == "data":
                session.data.add(op.words[1], op)
                session.data_writes.append(op)
            elif op.kind in ("renew", "privilege"):
                session.rotations.append(op)
                if op.status == "CR_OK" and op.answer["token"] not in session.tokens:
                    session.tokens[op.answer["token"]] = token = Token(op)
                    token.name = op.answer["token"]

    def settle(self, session):
        """A login ends the others of its user, and one that keeps a session does not end that."""
        endings = [op for op in self.endings_of_user[session.user]
                   if op is not session.made and
                   not (op.kind == "end-others" and op.words[0] == session.name)]
        session.settle(session.endings + endings + self.endings_of_all)

    # -- what was seen

    def look(self, saw):
        self.counts[f"saw {saw.status}"] += saw.count
        session = self.sessions.get(saw.asked)
        if session is None:
            self.wrong("only sessions that were made are asked for", str(saw))
        elif saw.status == "CR_OK":
            self.look_at_acceptance(saw, session)
        elif saw.status in REFUSALS:
            self.look_at_refusal(saw, session)
        elif saw.status not in NO_ANSWER:
            self.wrong("a validation has four answers", str(saw))

    def look_at_acceptance(self, saw, session):
        token = session.tokens.get(saw.token)
        if session.over < saw.start:
            self.wrong("nobody accepts what has ended",
                       f"{saw} {self.late(saw, session.over)} after {session.over_by}")
        if saw.token != "-" and token is None:
            self.wrong("only tokens that were given are accepted", str(saw))
        elif token is not None and token.over < saw.start:
            self.wrong("nobody accepts a token that was replaced",
                       f"{saw} {self.late(saw, token.over)}")
        if saw.content.session != session.name or saw.content.user != session.user:
            self.wrong("an acceptance names the session's own user", f"{saw}: {session.user}")
        for name in ("created", "ends"):
            if name in session.made.answer and \
                    getattr(saw.content, name) not in (None, int(session.made.answer[name])):
                self.wrong("an acceptance names the session's own limits", f"{saw}: {name}")
        self.look_at_content(saw, session)
        if self.was_refused_here(saw):
            self.wrong("a host that said no does not say yes again", str(saw))

    def look_at_content(self, saw, session):
        spans = []
        for name, value, register in (("rights", saw.content.rights, session.rights),
                                      ("data", saw.content.data, session.data)):
            if value == NOT_SHOWN:
                continue
            if value not in register.writes:
                self.wrong("an acceptance is whole, and names what was written", f"{saw}: {name}")
                continue
            write = register.writes[value]
            if not write.may_have_happened:
                self.wrong("what was not written is not seen", f"{saw}: {write}")
            start, until = register.span(value)
            if start > saw.end:
                self.wrong("nothing is seen before it is written", f"{saw}: {write}")
            if until + self.slack(name, saw) < saw.start and not (
                    name == "data" and self.is_of_a_killed_agent(saw, until)):
                self.wrong(f"{name} that were replaced are not seen",
                           f"{saw} {self.late(saw, until)}")
            spans.append((start, until))
        if len(spans) == 2 and max(spans[0][0], spans[1][0]) > min(spans[0][1], spans[1][1]):
            self.wrong("an acceptance names one instant",
                       f"{saw}: these rights and these data never were together")
        if saw.content.version is not None and saw.content.data != NOT_SHOWN:
            self.look_at_version(saw.content.version, saw.content.data, session, str(saw))

    def slack(self, name, saw):
        """Data do not wait for other hosts: those may serve the old ones until their lease ends."""
        return self.history.lease_ms.get(saw.host, 0) * NS_PER_MS * 11 // 10 if name == "data" else 0

    def look_at_version(self, version, value, session, where):
        if session.versions.setdefault(version, value) != value:
            self.wrong("a version is of one value",
                       f"{where}: {version} is of {session.versions[version]}, too")

    def look_at_refusal(self, saw, session):
        token = session.tokens.get(saw.token)
        if token is not None and saw.end < min(session.may_be_over, token.may_be_over):
            self.wrong("nobody refuses what is live", str(saw))
        if saw.status == "CR_NOT_FOUND":
            self.wrong("a token of ours is known for one", str(saw))
        bisect.insort(self.refused[saw.asked, saw.token, saw.host], saw.end)

    def was_refused_here(self, saw):
        """Unless it was another agent of this host, whose predecessor's table may still be believed
        for a moment."""
        ends = self.refused[saw.asked, saw.token, saw.host]
        return any(not self.is_of_a_killed_agent(saw, end)
                   for end in ends[:bisect.bisect_left(ends, saw.start)])

    def is_of_a_killed_agent(self, saw, since):
        """Whether the host's agent was killed before `since`, so short a time before that workers
        which have not heard of it may still believe its table: what does not wait for that, its
        successor has answered by then."""
        return any(loss < since and saw.start < loss + SEGMENT_MS * NS_PER_MS
                   for loss in self.history.losses[saw.host])

    # -- what writers were told

    def look_at_writes(self, session):
        named = {}
        for op in session.data_writes:
            if op.status != "CR_OK" or "version" not in op.answer:
                continue
            self.look_at_version(int(op.answer["version"]), op.words[1], session, str(op))
            if op.words[2] != "0" and named.setdefault(op.words[2], op) is not op:
                self.wrong("of two who saw one version, one writes", f"{op} and {named[op.words[2]]}")
        for op in session.data_writes + session.rotations + \
                [op for op in session.rights.writes.values() if op.kind == "rights"]:
            if op.status == "CR_OK" and session.over < op.start:
                self.wrong("what has ended is not written to",
                           f"{op}, after {session.over_by}")

    def look_at_answer(self, op):
        """A session that is certainly live is no such session to nobody, and its user is known."""
        session = self.sessions.get(op.words[0]) if op.words else None
        if session is not None and op.status in REFUSALS:
            may_be_over = session.may_be_over
            if op.kind == "end":
                # Its own beginning does not excuse it; that of another ending does.
                may_be_over = min([other.start for other in self.endings_about(session)
                                   if other is not op and other.may_have_happened] + [NEVER])
                if session.absolute_ms:
                    may_be_over = min(may_be_over, session.made.start +
                                      (session.absolute_ms - CLOCK_MS) * NS_PER_MS)
            elif op.kind in ("renew", "privilege"):
                token = session.tokens.get(op.words[1])
                may_be_over = NEVER if token is None else min(
                    may_be_over, self.rotated_by_another(session, op))
            if op.end < may_be_over:
                self.wrong("nobody refuses what is live", str(op))
        if op.kind == "end-user" and op.status == "CR_UNKNOWN_USER" and any(
                other.user == op.words[0] and other.made.end < op.start
                for other in self.sessions.values()):
            self.wrong("nobody refuses what is live", str(op))

    def endings_about(self, session):
        return session.endings + self.endings_of_all + [
            op for op in self.endings_of_user[session.user] if op is not session.made]

    @staticmethod
    def rotated_by_another(session, op):
        return min([other.start for other in session.rotations if other is not op] + [NEVER])

    @staticmethod
    def late(saw, since):
        return f"began {(saw.start - since) / NS_PER_MS:.3f} ms"


def check(history):
    """What is wrong with it: texts, each with the rule it breaks."""
    return Check(history).run()


if __name__ == "__main__":
    wrong = check(read_folder(sys.argv[1]))
    print("\n".join([*wrong, f"{len(wrong)} violations"]))
    sys.exit(1 if wrong else 0)
