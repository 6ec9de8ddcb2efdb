# SPDX-License-Identifier: Apache-2.0
"""What ends sessions besides log-out: log-in, another password, a user who is switched off or deleted.

Django has no signal for "the password was changed". What is reliable is the row: before a user is
saved, the password and `is_active` in the database are compared with what is about to be written, and
once that is committed the sessions end. In the request that changes one's own password, as
PasswordChangeView does, the session of that request stays, and all others end.

`QuerySet.update`, `bulk_update`, fixtures and SQL say nothing: call `room().invalidate_by_user(str(user.pk))` beside them.
Django's own check at each request (`get_session_auth_hash`, `is_active`) stays in force, too.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Final, Literal

from django.apps import apps
from django.contrib.auth import SESSION_KEY, get_user_model
from django.contrib.auth.signals import user_logged_in
from django.core.exceptions import FieldDoesNotExist
from django.db import transaction
from django.db.models import Model
from django.db.models.signals import post_delete, post_save, pre_save
from django.http import HttpRequest

from ..errors import UnknownUser
from . import SessionStore
from ._options import options, room

__all__ = ["connect", "of_this_request"]

of_this_request: ContextVar[SessionStore | None] = ContextVar("of_this_request", default=None)
"""The session of the request that is being served here, set by the middleware."""

_MARK: Final = "_cloakroom_ends"

Why = Literal["password", "disabled"]


def connect() -> None:
    """Listen to log-ins and to the user model, with its proxies and descendants. Once is enough."""
    user_logged_in.connect(_logged_in, dispatch_uid="cloakroom.logged_in")
    if not apps.is_installed("django.contrib.auth"):
        return
    users = get_user_model()
    for model in apps.get_models():
        if issubclass(model, users):
            pre_save.connect(_before_save, sender=model, dispatch_uid="cloakroom.before_save")
            post_save.connect(_after_save, sender=model, dispatch_uid="cloakroom.after_save")
            post_delete.connect(_after_delete, sender=model, dispatch_uid="cloakroom.after_delete")


def _logged_in(request: HttpRequest, **_: Any) -> None:
    session = getattr(request, "session", None)
    if isinstance(session, SessionStore):
        session.attach(request)
        session.log_in(session[SESSION_KEY])


def _before_save(instance: Model, using: str, update_fields: Any = None, raw: bool = False, **_: Any) -> None:
    instance.__dict__.pop(_MARK, None)
    fields = [
        name
        for name in ("password", "is_active")
        if _has(instance, name) and (update_fields is None or name in update_fields)
    ]
    if raw or not fields or instance.pk is None:
        return
    deferred = instance.get_deferred_fields()
    fields = [name for name in fields if name not in deferred]
    if not fields:
        return
    before = type(instance)._base_manager.using(using).filter(pk=instance.pk).values(*fields).first()
    if before is None:
        return
    if before.get("is_active") and not getattr(instance, "is_active", True):
        instance.__dict__[_MARK] = "disabled"
    elif "password" in before and before["password"] != getattr(instance, "password", None):
        instance.__dict__[_MARK] = "password"


def _after_save(instance: Model, using: str, **_: Any) -> None:
    why: Why | None = instance.__dict__.pop(_MARK, None)
    if why is not None:
        _end_later(instance, why, using)


def _after_delete(instance: Model, using: str, **_: Any) -> None:
    _end_later(instance, "disabled", using)


def _end_later(instance: Model, why: Why, using: str) -> None:
    """Once it is committed: a log-in with the old password cannot come in between."""
    user = instance._meta.pk.value_to_string(instance)
    own = of_this_request.get()
    transaction.on_commit(lambda: _end(user, why, own), using=using)


def _end(user: str, why: Why, own: SessionStore | None) -> None:
    here, old = room(), options().state.migrate_from
    if old is not None:
        old.close_user(here, user)
    kept = own.current if own is not None and why == "password" else None
    try:
        if kept is not None and kept.user == user:
            here.end_others(kept, reason=why, by="django")
        else:
            here.invalidate_by_user(user, reason=why, by="django")
    except UnknownUser:
        pass  # never logged in


def _has(instance: Model, name: str) -> bool:
    try:
        return bool(instance._meta.get_field(name).concrete)
    except FieldDoesNotExist:
        return False
