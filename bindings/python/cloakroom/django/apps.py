# SPDX-License-Identifier: Apache-2.0
"""The application "cloakroom.django": its checks, and the endings that follow what becomes of users."""

from __future__ import annotations

from django.apps import AppConfig
from django.core.checks import register


class CloakroomConfig(AppConfig):
    name = "cloakroom.django"
    label = "cloakroom"
    verbose_name = "Cloakroom"

    def ready(self) -> None:
        from . import _endings
        from .checks import check_cloakroom

        register(check_cloakroom)
        _endings.connect()
