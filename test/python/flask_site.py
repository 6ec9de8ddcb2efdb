# SPDX-License-Identifier: Apache-2.0
"""The application that test_flask.py asks, over Cloakroom and over what was there before. As a WSGI
application it opens the room that SITE_URL names."""

import os
from datetime import UTC, datetime

from cloakroom import Cloakroom
from cloakroom.flask import (
    CloakroomSessions,
    CookieSettings,
    FlaskSessions,
    current_session,
    current_user,
    login_user,
    logout_user,
    require_fresh,
    require_user,
)
from flask import Flask, current_app, jsonify, request, session

SECRET = "of this test " * 3
BORN = datetime(2020, 2, 3, 4, 5, 6, tzinfo=UTC)

MOMENT = []  # what is to happen in the middle of a request


def happen():
    while MOMENT:
        MOMENT.pop()()


def make(room, *, secure=False, **more):
    """With its sessions in a cloakroom."""
    app = Flask("site")
    app.secret_key = SECRET
    CloakroomSessions(app, room, cookie=CookieSettings(secure=secure), **more)
    common(app)

    @app.post("/sign_in")
    def sign_in():
        login_user(request.form["name"])
        happen()
        return "signed in"

    @app.get("/sign_out")
    def sign_out():
        logout_user()
        return "signed out"

    @app.get("/me")
    @require_user
    def me():
        return current_user()

    @app.get("/fresh")
    @require_fresh(5)
    def fresh():
        return current_user()

    @app.get("/awaited")
    @require_user
    async def awaited():
        return current_user()

    @app.get("/show")
    def show():
        found = current_session()
        return jsonify(user=current_user(), keys=dict(session), pid=os.getpid(),
                       id=found.id if found is not None else None)

    @app.get("/cycle")
    def cycle():
        session.cycle()
        return "cycled"

    @app.get("/permanent/<int:value>")
    def permanent(value):
        session.permanent = bool(value)
        return "set"

    @app.get("/thing")
    def thing():
        session["thing"] = {1, 2} if "set" in request.args else "x" * 70000
        return "put"

    return app


def make_old(configure=None):
    """With its sessions where they were before: Flask's signed cookies, or what `configure` does."""
    app = Flask("site")
    app.secret_key = SECRET
    if configure is not None:
        configure(app)
    common(app)

    @app.post("/sign_in")
    def sign_in():
        session["user_id"] = request.form["name"]
        return "signed in"

    @app.get("/sign_out")
    def sign_out():
        session.clear()
        return "signed out"

    @app.get("/show")
    def show():
        return jsonify(user=session.get("user_id"), keys=dict(session))

    return app


def common(app):
    @app.get("/put")
    def put():
        session.get("x")
        happen()
        session.update(request.args.to_dict())
        return "put"

    @app.get("/deep")
    def deep():
        session.setdefault("deep", []).append(len(session["deep"]))
        return "deep"

    @app.get("/rich")
    def rich():
        session["rich"] = {"when": BORN, "pair": (1, 2), "bytes": b"\x00\xff"}
        return "rich"

    @app.get("/rich/look")
    def look():
        assert session["rich"] == {"when": BORN, "pair": (1, 2), "bytes": b"\x00\xff"}, session["rich"]
        return "rich"

    @app.get("/clear")
    def clear():
        session.clear()
        return "cleared"

    @app.get("/plain")
    def plain():
        return "plain"

    @app.errorhandler(500)
    def failed(_):
        return current_app.response_class("failed", 500)


application = None
if "SITE_URL" in os.environ:
    application = make(Cloakroom.open(os.environ["SITE_URL"], timeout=1), policy="keep_n", keep_count=2,
                       migrate_from=FlaskSessions(user="user_id"))
