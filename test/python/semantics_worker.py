# SPDX-License-Identifier: Apache-2.0
"""A worker process of test_semantics.py: it serves requests in the steps in which it is told to.

Usage: semantics_worker.py SOCKET wait|await SECONDS, for how long a call may take. Each line of standard
input is a JSON list, a name from `Worker` and its arguments, and is answered by a line: {"answer": ...} or
{"error": class, "text": ...}.
"""

import asyncio
import json
import sys
from datetime import datetime, timezone

from cloakroom import Cloakroom, Session, Unavailable
from cloakroom._migrate import OldSession, OldSessions, end_one
from cloakroom._state import SessionState, StateSettings
from cloakroom._steps import arun, run


class OldPlace(OldSessions):
    """Its cookie is the session, as a signed one is: user|key=value, and nothing there can end it."""

    broken = False

    def load(self, cookies):
        if self.broken:
            raise OSError("the old database is locked")
        user, _, rest = cookies[self.cookie].partition("|")
        if user == "expired":
            return None
        key, _, value = rest.partition("=")
        return OldSession(cookies[self.cookie].encode(), user or None, {key: value} if key else {})


class Worker:
    def __init__(self, socket, how, seconds):
        self.room = Cloakroom.open(socket, timeout=float(seconds))
        self.loop = asyncio.new_event_loop() if how == "await" else None
        self.requests = {}

    def carry_out(self, steps):
        if self.loop is None:
            return run(self.room, steps)
        return self.loop.run_until_complete(arun(self.room, steps))

    def begin(self, name, token=None, old=None, until=None, **settings):
        """A request arrives: with a token, with the old place's cookie."""
        if old is not None:
            until = until and datetime.fromtimestamp(until, timezone.utc)
            settings["migrate_from"] = OldPlace("old", until=until)
            settings["migrate_from"].broken = settings.pop("broken", False)
        state = SessionState(StateSettings(**settings), token, cookies={"old": old} if old else None,
                             address="192.0.2.1", agent="test")
        self.requests[name] = state
        self.carry_out(state.load())
        return self.see(name)

    def see(self, name):
        state = self.requests[name]
        session = state.session
        return {"user": state.user, "data": state.data, "id": session and session.id,
                "token": state.token, "issued": state.issued is not None, "cleared": state.cleared,
                "ended": state.ended, "new": state.is_new, "version": session and session.version}

    def put(self, name, *path_and_value):
        *path, last, value = path_and_value
        data = self.requests[name].data
        for key in path:
            data = data[key]
        data[last] = value

    def drop(self, name, key):
        del self.requests[name].data[key]

    def steps(self, name, what, *args, **kwargs):
        """save, login, end, cycle, touch"""
        self.carry_out(getattr(self.requests[name], what)(*args, **kwargs))
        return self.see(name)

    def count(self, token, key, times):
        """So many requests that each count one up under a key of their own."""
        again = 0
        for _ in range(times):
            while True:
                state = SessionState(StateSettings(), token)
                self.carry_out(state.load())
                state.data[key] = state.data.get(key, 0) + 1
                try:
                    self.carry_out(state.save())
                    break
                except Exception as error:  # others were quicker each time: the client asks again
                    if "times in a row" not in str(error):
                        raise
                    again += 1
        return again

    def watch(self, token):
        """Validate until it is over: [[began, ended, alive], ...] in seconds of the wall clock."""
        seen = []
        while not seen or seen[-1][2]:
            began = self.room.now.timestamp()
            alive = self.room.validate(token) is not None
            seen = [*seen[-1:], [began, self.room.now.timestamp(), alive]]
        return seen

    def call(self, name, *args, **kwargs):
        """A call of the room, by name."""
        answer = getattr(self.room, name)(*args, **kwargs)
        if isinstance(answer, Session):
            return {"id": answer.id, "user": answer.user, "data": answer.data.decode()}
        if hasattr(answer, "signed_token"):
            return {"token": answer.signed_token, "ends": answer.session.ends_at.timestamp(),
                    "id": answer.session.id}
        return None if answer is None else str(answer)

    def sessions_of(self, user):
        return [[session.id, session.agent] for session in self.room.sessions_of(user)]

    def live(self, session_id):
        """Without using it."""
        return self.room.explain(session_id).live

    def close_user(self, user):
        OldPlace("old").close_user(self.room, user)

    def end_one(self, user, session_id):
        return self.carry_out(end_one(user, session_id, "device"))

    def fail(self, name):
        """The next call of this name finds no store."""
        def gone(*_args, **_kwargs):
            vars(self.room).pop(name)
            raise Unavailable("as told")

        async def gone_awaited(*_args, **_kwargs):
            vars(self.room).pop(name)
            raise Unavailable("as told")

        name = name if self.loop is None else f"a{name}"
        setattr(self.room, name, gone if self.loop is None else gone_awaited)


def main():
    worker = Worker(*sys.argv[1:])
    for line in sys.stdin:
        name, args, kwargs = json.loads(line)
        try:
            answer = {"answer": getattr(worker, name)(*args, **kwargs)}
        except Exception as error:  # whatever it is, the test judges it
            answer = {"error": type(error).__name__, "text": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
