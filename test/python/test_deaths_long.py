#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: python long timeout=300
"""As test_deaths.py, for longer, under uvicorn, too, and in both Pythons."""

import pathlib
import sys

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent.parent), str(pathlib.Path(__file__).parent)]
sys.dont_write_bytecode = True
import deaths
import tap

tap.main([
    deaths.under_gunicorn_with_asgi_workers,
    deaths.under_gunicorn_whose_application_was_loaded_before_the_fork,
    deaths.under_uvicorn,
])
