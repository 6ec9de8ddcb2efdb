#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: python timeout=120
"""With a table in the worker's own process, servers of several workers serve no request at all, and end;
one worker serves, and its successor waits for it (CR-101). All ways to start them: test_single_worker_long."""

import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "proc")]
sys.dont_write_bytecode = True
import tap
from single_worker import (
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


def several_workers_serve_no_request_at_all():
    check_statuses(all_at_once([
        case("uvicorn --workers 4", uvicorn("--workers", "4"), "sqlite", "import"),
        case("uvicorn.run(workers=4)", script(4), "memory:", "lifespan"),
        case("gunicorn -w 4", gunicorn("-w", "4"), "sqlite", "import"),
        case("gunicorn -w 4, a cache", gunicorn("-w", "4"), "", "cache"),
        case("gunicorn -w 4, uvicorn's workers", gunicorn_uvicorn("-w", "4"), "memory:", "lifespan"),
    ], refused))


def one_worker_serves():
    all_at_once([
        case("uvicorn --workers 1", uvicorn("--workers", "1"), "sqlite", "import"),
        case("gunicorn -w 1", gunicorn("-w", "1"), "memory:", "import"),
        case("gunicorn -w 1, a cache", gunicorn("-w", "1"), "", "cache"),
    ], serves)


def the_next_worker_waits_for_the_one_before_it():
    all_at_once([
        case("HUP", gunicorn("-w", "1"), "sqlite", "import"),
        case("--max-requests", gunicorn("-w", "1", "--max-requests", "3"), "memory:", "import", None),
    ], is_replaced)


tap.main([
    several_workers_serve_no_request_at_all,
    one_worker_serves,
    the_next_worker_waits_for_the_one_before_it,
])
