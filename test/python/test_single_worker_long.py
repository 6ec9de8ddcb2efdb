#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: python long timeout=600
"""test_single_worker, in all ways in which an application may be started."""

import itertools
import os
import pathlib
import signal
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "proc")]
sys.dont_write_bytecode = True
import scratch
import tap
import variants
from single_worker import (
    Server,
    all_at_once,
    case,
    check_statuses,
    gunicorn,
    gunicorn_uvicorn,
    is_replaced,
    refused,
    script,
    serves,
    uvicorn,
)

URLS = ("sqlite", "memory:")
PART = 5  # times as many of them as of the broken builds, in CI
# Where a WSGI application opens its room there is no life: it is imported.
ASGI = {
    "uvicorn --workers 4": (uvicorn("--workers", "4"), {}),
    "uvicorn --workers=4": (uvicorn("--workers=4"), {}),
    "WEB_CONCURRENCY=4 uvicorn": (uvicorn(), {"WEB_CONCURRENCY": "4"}),
    "uvicorn.run(workers=4)": (script(4), {}),
    "uvicorn --workers 4, Starlette's life": (uvicorn("--workers", "4", app="star:app"), {}),
    "gunicorn -w 4, uvicorn's workers": (gunicorn_uvicorn("-w", "4"), {}),
    "gunicorn -w 4 --preload, uvicorn's workers": (gunicorn_uvicorn("-w", "4", "--preload"), {}),
    "gunicorn -w 4, Starlette's life": (gunicorn_uvicorn("-w", "4", app="star:app"), {}),
}
WSGI = {
    "gunicorn -w 4": (gunicorn("-w", "4"), {}),
    "gunicorn --workers=4": (gunicorn("--workers=4"), {}),
    "gunicorn -w 4 --threads 2": (gunicorn("-w", "4", "--threads", "2"), {}),
    "gunicorn -w 4 --preload": (gunicorn("-w", "4", "--preload"), {}),
    "gunicorn -c conf4.py": (gunicorn("-c", "conf4.py"), {}),
    "gunicorn -c conf4.py --preload": (gunicorn("-c", "conf4.py", "--preload"), {}),
    "WEB_CONCURRENCY=4 gunicorn": (gunicorn(), {"WEB_CONCURRENCY": "4"}),
    "GUNICORN_CMD_ARGS='-w 4' gunicorn": (gunicorn(), {"GUNICORN_CMD_ARGS": "-w 4"}),
}


def several_workers_serve_no_request_at_all():
    cases = []
    for url, where in itertools.product(URLS, ("import", "lifespan")):
        cases += [case(f"{name}: {url} at {where}", command, url, where, **more)
                  for name, (command, more) in ASGI.items() if "star" not in name or where == "lifespan"]
    cases += [case(f"{name}: {url}", command, url, "import", **more)
              for name, (command, more) in WSGI.items() for url in URLS]
    check_statuses(all_at_once(variants.part(cases, PART), refused))


def one_worker_serves():
    one = {
        "uvicorn": (uvicorn(), "lifespan", {}),
        "uvicorn --workers 1": (uvicorn("--workers", "1"), "import", {"WEB_CONCURRENCY": "4"}),
        "uvicorn.run(workers=1)": (script(1), "lifespan", {}),
        "gunicorn": (gunicorn(), "import", {}),
        "gunicorn -w 1": (gunicorn("-w", "1"), "import", {"WEB_CONCURRENCY": "4"}),
        "gunicorn -c conf1.py": (gunicorn("-c", "conf1.py"), "import", {"WEB_CONCURRENCY": "4"}),
        "gunicorn -w 1, uvicorn's workers": (gunicorn_uvicorn("-w", "1"), "lifespan", {}),
        "gunicorn -w 1 --threads 4": (gunicorn("-w", "1", "--threads", "4"), "import", {}),
    }
    all_at_once(variants.part([case(f"{name}: {url}", command, url, where, **more)
                               for name, (command, where, more) in one.items() for url in URLS], PART), serves)


def the_next_worker_waits_for_the_one_before_it():
    ways = {
        "HUP": (gunicorn("-w", "1"), "import", 1),
        "HUP, uvicorn's worker": (gunicorn_uvicorn("-w", "1"), "lifespan", 1),
        "HUP, uvicorn's worker, imported": (gunicorn_uvicorn("-w", "1"), "import", 1),
        "HUP --threads": (gunicorn("-w", "1", "--threads", "4"), "import", 1),
        "--max-requests": (gunicorn("-w", "1", "--max-requests", "3"), "import", None),
        "--max-requests, uvicorn's worker": (gunicorn_uvicorn("-w", "1", "--max-requests", "3"), "lifespan", None),
    }
    all_at_once(variants.part([case(f"{name}: {url}", command, url, where, how)
                               for name, (command, where, how) in ways.items() for url in URLS], PART), is_replaced)


def who_goes_on_without_it_is_left_alone():
    """A supervisor is stopped by workers that ended, not by those that caught it and serve."""
    with Server(uvicorn("--workers", "2"), "sqlite", "caught") as server:
        workers = set()

        def both_answer():
            workers.add(server.is_up())
            return len(workers - {None}) == 2

        scratch.until(both_answer, "two workers serve", 60)
        ends, survivor = sorted(workers - {None})
        os.kill(ends, signal.SIGTERM)  # it served
        # Until it is gone, a connection may reach it too late.
        scratch.until(lambda: not scratch.arguments(ends), "it is gone", 60)
        for _ in range(50):
            assert server.is_up(), server.said()
        scratch.until(lambda: server.is_up() == survivor, "the other one serves")
        assert server.process.poll() is None


tap.main([
    several_workers_serve_no_request_at_all,
    one_worker_serves,
    the_next_worker_waits_for_the_one_before_it,
    who_goes_on_without_it_is_left_alone,
])
