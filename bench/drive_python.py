# SPDX-License-Identifier: Apache-2.0
"""What finding a session costs a Python process, by several means, on the core that it is put on.

    drive_python.py URL TOKENS REDIS-SOCKET FOLDER COUNT

takes COUNT sessions of each kind (all of ours for `validate_all`), and prints 0 when it is ready. For each "QUESTION SECONDS" on a line of its input it asks so long, after a
warm-up of a quarter of that, and prints the nanoseconds of one answer. Each answer is looked at.
"""

import json
import os
import pathlib
import random
import sys
import time
from base64 import b64encode

import django
import redis
from django.conf import settings
from starlette.middleware.sessions import SessionMiddleware

import cloakroom

TOKEN_BYTES = 86  # with the NUL that ends it
DATA = {"user": 123456, "cart": [f"article {number}" for number in range(12)], "csrf": "x" * 32}


def tokens_of(path):
    raw = pathlib.Path(path).read_bytes()
    tokens = [raw[at:at + TOKEN_BYTES - 1].decode() for at in range(0, len(raw), TOKEN_BYTES)]
    random.Random(1).shuffle(tokens)
    return tokens


def through(keys, get, seconds):
    """Nanoseconds of one get(); the loop around it counts, too."""
    end, count = time.perf_counter() + seconds, 0
    begun = time.perf_counter()
    while time.perf_counter() < end:
        for key in keys:
            if not get(key):
                raise RuntimeError("a session is not found any more")
        count += len(keys)
    return (time.perf_counter() - begun) / count * 1e9


def of_redis(path, count, value_bytes):
    client = redis.Redis(unix_socket_path=path)
    keys = [f"session:{number:032x}" for number in range(count)]
    for key in keys:
        client.set(key, os.urandom(value_bytes))
    return keys, client.get


def of_django(redis_socket, folder, count):
    settings.configure(
        INSTALLED_APPS=["django.contrib.sessions"], SECRET_KEY="x" * 50, USE_TZ=True,
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{folder}/django.db"}},
        CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache",
                            "OPTIONS": {"MAX_ENTRIES": 10 * count}},
                "redis": {"BACKEND": "django.core.cache.backends.redis.RedisCache",
                          "LOCATION": f"unix://{redis_socket}"}})
    django.setup()
    from django.contrib.sessions.backends import cached_db, signed_cookies
    from django.core.management import call_command
    call_command("migrate", verbosity=0)

    def made(kind):
        keys = []
        for _ in range(count):
            session = kind.SessionStore()
            session.update(DATA)
            session.save()
            keys.append(session.session_key)
        return keys

    class Shared(cached_db.SessionStore):
        cache_key_prefix = "shared"

        def __init__(self, key=None):
            super().__init__(key)
            from django.core.cache import caches
            self._cache = caches["redis"]

    Shared.__qualname__ = cached_db.SessionStore.__qualname__  # what signs the rows is named after it
    own = made(cached_db)
    for key in own:  # so that both caches have it
        Shared(key).load()
    return {"cached_db": (own, lambda key: cached_db.SessionStore(key).load()),
            "cached_db_redis": (own, lambda key: Shared(key).load()),
            "signed_cookies": (made(signed_cookies), lambda key: signed_cookies.SessionStore(key).load())}


def of_starlette(count):
    """What the middleware does with the cookie."""
    import base64
    middleware = SessionMiddleware(None, "x" * 50)
    cookies = [middleware.signer.sign(b64encode(json.dumps(DATA | {"n": number}).encode()))
               for number in range(count)]

    def load(cookie):
        return json.loads(base64.b64decode(middleware.signer.unsign(cookie, max_age=middleware.max_age)))
    return cookies, load


def main():
    url, tokens, redis_socket, folder, count = sys.argv[1:]
    count = int(count)
    room = cloakroom.Cloakroom.open(url)
    ours = tokens_of(tokens)
    value_bytes = len(room.validate(ours[0]).data)
    means = {"validate": (ours[:count], room.validate), "validate_all": (ours, room.validate),
             "redis": of_redis(redis_socket, count, value_bytes),
             **of_django(redis_socket, folder, count), "starlette": of_starlette(count)}
    for name, (keys, get) in means.items():
        if not all(map(get, keys)):
            raise RuntimeError(f"{name}: a session was not found")
    print(0, flush=True)
    for line in sys.stdin:
        question, seconds = line.split()
        keys, get = means[question]
        through(keys, get, float(seconds) / 4)
        print(f"{through(keys, get, float(seconds)):.1f}", flush=True)


if __name__ == "__main__":
    main()
