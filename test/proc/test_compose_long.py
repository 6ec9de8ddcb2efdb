#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: long timeout=2400
"""The other compose files, and the images where something can build them."""

import pathlib
import shutil
import subprocess
import sys

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent.parent), str(pathlib.Path(__file__).parent)]
sys.dont_write_bytecode = True
import containers
import scratch
import tap


def four_workers_agree():
    containers.a_stack_works([])


def four_workers_agree_while_debugged():
    containers.a_stack_works(["compose.debug.yaml"])


def the_images_are_built():
    builder = next((tool for tool in ("docker", "podman", "buildah")
                    if shutil.which(tool) and subprocess.run([tool, "info"], capture_output=True, timeout=60,
                                                             check=False).returncode == 0), None)
    if builder is None:
        tap.skip("no daemon builds images here")
    for target in ("cloakroom", "app"):
        scratch.run([builder, "build", "-f", containers.FOLDER / "Dockerfile", "--target", target, scratch.ROOT], timeout=1800)


tap.main([four_workers_agree, four_workers_agree_while_debugged, the_images_are_built])
