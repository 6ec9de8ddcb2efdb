#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: timeout=240
"""The pages in a browser, as a person meets them: what they say, that they work without script and
without a mouse, in dark and light, narrow and wide, and that nothing breaks their own rules
(ASVS B9, B10, D6, F1, F3, F4, F8).

One Chromium for all; a person is a device with cookies of its own.
"""

import atexit
import http.client
import json
import os
import pathlib
import re
import signal
import sys

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent.parent), str(pathlib.Path(__file__).parent)]
sys.dont_write_bytecode = True
import browser
import scratch
import tap

PASSWORD = scratch.Server.password
FIREFOX = "Mozilla/5.0 (Windows NT 10.0; rv:140.0) Gecko/20100101 Firefox/140.0"
PHONE = ("Mozilla/5.0 (Linux; Android 16) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0 "
         "Mobile Safari/537.36")
# Each would do something, were it not text.
HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "' autofocus onfocus=alert(1) x='",
    "</title></h2><svg onload=alert(1)>",
    "<!--<iframe srcdoc='<script>alert(1)</script>'>",
    "javascript:alert(1)//%0a{{7*7}}${7*7}",
    "&lt;b&gt;&#60;script&#62;alert(1)",
    "<style>*{display:none}</style><base href=//evil.example>",
]
started = []


def chromium():
    if not started:
        started.append(browser.Browser())
        atexit.register(started[0].close)
    return started[0]


def home(**login):
    """A folder with these [login] settings."""
    made = scratch.folder("pages")
    lines = [f"{name} = {value}" for name, value in login.items()]
    (made / "conf").write_text("[login]\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return made


def server(*arguments, **login):
    place = home(**login)
    return scratch.Server(workers=1, home=place,
                          arguments=("--config", str(place / "conf"), *arguments))


def login_from(address, port, agent, user="alice", password=PASSWORD):
    """A program's login, with any label."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20,
                                            source_address=(address, 0))
    connection.request("POST", "/login", json.dumps({"user": user, "password": password}),
                       {"Content-Type": "application/json", "User-Agent": agent})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    assert answer.status == 200, answer.status


def looks(person, seen):
    """The page as it is now, in every way that a person may have it."""
    where = f"{person.at()} {person.status}"
    assert person.js("document.querySelectorAll('script, [style], style, [onclick]').length") == 0, where
    assert person.js("document.querySelectorAll('h1').length") == 1, where
    assert person.js("document.title") != "" and person.js("document.documentElement.lang") == "en"
    for scheme in ("light", "dark"):
        person.scheme(scheme)
        for width in (360, 1280):
            person.width(width)
            wide = person.overflows()
            assert not wide, f"{where}, {width} px wide: {wide}"
        if browser.AXE.exists():
            # The scheme changes colours, and nothing else.
            found = person.axe() if scheme == "light" else person.axe("color-contrast")
            assert not found, f"{where}, {scheme}: " + "\n".join(found)
    grounds = []
    for scheme in ("light", "dark"):
        person.scheme(scheme)
        grounds.append(person.js("getComputedStyle(document.body).backgroundColor"))
    assert grounds[0] != grounds[1], f"{where}: {grounds}"
    assert not person.complaints, f"{where}: {person.complaints}"
    assert person.js("document.forms.length === 0 || document.querySelector('h1') !== null")
    seen.append(where)


def kept_in_the_browser(person):
    """What pages have put into it, beside cookies (ASVS B10)."""
    return person.js("localStorage.length + sessionStorage.length")


def the_looking_glass_is_not_blind():
    """What the other tests say is not there would be seen."""
    with server() as its:
        person = chromium().person(its.url)
        person.go("/login")
        person.js("document.body.append(Object.assign(document.createElement('img'),"
                  "{src: 'https://elsewhere.example/', alt: ''}))")
        scratch.until(lambda: person.js("1") and person.complaints, "a breach of the policy")
        person.complaints.clear()
        person.js("document.body.setAttribute('style', 'width: 2000px')")
        scratch.until(lambda: person.js("1") and person.complaints, "a style of its own")
        person.js("document.body.style.width = '2000px'")
        assert person.overflows()
        if browser.AXE.exists():
            person.js("document.querySelector('label').remove()")
            assert any(word.startswith("label") for word in person.axe()), person.axe()


def axe_core_is_here():
    if not browser.AXE.exists():
        tap.skip("axe-core is not here: no package registry was within reach")


def every_page_is_in_order():
    """Without script: what is said, and how it looks."""
    with server("--on-login", "keep", "--ops-listen", f"127.0.0.1:{scratch.free_port()}") as its:
        seen = []
        login_from("127.0.0.9", its.port, FIREFOX)
        person = chromium().person(its.url, script=False, agent=PHONE)
        assert person.go("/") == 200 and person.at() == "/login"
        looks(person, seen)
        person.login("alice", "wrong")
        assert person.status == 401 and "The user or the password is wrong." in person.text()
        assert person.js("document.querySelector('#user').value") == "alice"
        looks(person, seen)
        person.login("alice", PASSWORD)
        assert (person.at(), person.status) == ("/", 200)
        # This device first; what, where, since when, last seen.
        rows = person.js("[...document.querySelectorAll('.devices:not(.ended) .device')].map(e => e.innerText)")
        assert len(rows) == 2, rows
        assert "Chrome on Android" in rows[0] and "This device" in rows[0], rows
        assert "Firefox on Windows" in rows[1] and "This device" not in rows[1], rows
        assert "127.0.0.1" in rows[0] and "127.0.0.9" in rows[1], rows
        assert all("Signed in" in row and "Last seen" in row and "just now" in row for row in rows), rows
        assert not person.js("document.querySelector('section')"), "nothing has ended yet"
        looks(person, seen)
        # D6: out in one step, from each page of somebody who is in.
        for path in ("/", "/password", "/reauth"):
            assert person.go(path) == 200 and person.at() == path
            assert person.js("!!document.querySelector('form[action=\"/logout\"] button')"), path
        person.go("/password")
        looks(person, seen)
        person.go("/reauth")
        looks(person, seen)
        person.fill("#password", "not it")
        person.enter()
        assert person.status == 403 and "The password is wrong." in person.text()
        looks(person, seen)
        assert person.go("/nothing/here") == 404 and "no such page" in person.text()
        looks(person, seen)
        # A change of the password: the other device is out, this one stays in.
        person.go("/password")
        person.fill("#password", PASSWORD)
        person.fill("#new_password", "another horse battery")
        person.enter()
        assert (person.at(), person.status) == ("/", 200)
        assert "Firefox" not in person.js("document.querySelector('.devices').innerText")
        ended = ended_rows(person)
        assert len(ended) == 2, ended  # the other's, and the one in whose place this is
        assert any("Firefox on Windows" in row and "127.0.0.9" in row for row in ended), ended
        assert all("Your password was changed, and that ended it." in row for row in ended), ended
        looks(person, seen)
        assert kept_in_the_browser(person) == 0
        assert len(seen) == 8, seen


def ended_rows(person):
    return person.js("[...document.querySelectorAll('section .ended .device')].map(e => e.innerText)")


def a_link_for_a_new_password_is_enough():
    """ASVS E13: without script; to look at it, reload it or go back to it spends nothing."""
    with server() as its:
        seen = []
        made = json.loads(scratch.run([scratch.PROGRAM, "user", "reset", "alice", "--json",
                                       "--store", its.store, "--state", str(its.state)]))
        person = chromium().person(its.url, script=False, agent=PHONE)
        for _ in range(3):
            assert person.go(made["link"]) == 200
        looks(person, seen)
        # The address has the link's token: no request of the page names it.
        assert person.js("[...document.querySelectorAll('link, img, a')]"
                         ".every(e => e.referrerPolicy === 'no-referrer')")
        person.fill("#new_password", "too short")
        person.enter()
        assert (person.at(), person.status) == ("/reset", 400) and "15 characters" in person.text()
        looks(person, seen)
        person.fill("#new_password", "another horse battery")
        person.enter()
        assert person.status == 200 and "Your password was changed: sign in." in person.text()
        looks(person, seen)
        assert person.go("/") == 200 and person.at() == "/login", "nobody was signed in"
        person.login("alice", "another horse battery")
        assert (person.at(), person.status) == ("/", 200)
        assert person.go(made["link"]) == 200
        person.fill("#new_password", "a third horse battery")
        person.enter()
        assert person.status == 403 and "This link is not good" in person.text()
        looks(person, seen)
        assert kept_in_the_browser(person) == 0


def who_was_replaced_reads_when_and_from_where():
    with server() as its:
        phone = chromium().person(its.url, script=False, agent=PHONE)
        laptop = chromium().person(its.url, script=False, agent=FIREFOX)
        phone.login("alice", PASSWORD)
        laptop.login("alice", PASSWORD)
        assert laptop.at() == "/" and "You are signed in nowhere else." in laptop.text()
        # Beneath what is live, as a part of its own that has a name for who only hears it.
        ended = ended_rows(laptop)
        assert len(ended) == 1 and "Chrome on Android" in ended[0] and "127.0.0.1" in ended[0], ended
        assert re.search(r"You signed in on another device: at \d{4}-\d\d-\d\d \d\d:\d\d UTC, with "
                         r"Firefox on Windows, from 127\.0\.0\.1\.", ended[0]), ended
        assert "Signed in" in ended[0] and "Ended" in ended[0] and "just now" in ended[0], ended
        assert laptop.js("document.getElementById(document.querySelector('section')"
                         ".getAttribute('aria-labelledby')).innerText") == "Signed out"
        assert laptop.js("[...document.querySelectorAll('h1, h2, h3')].map(e => e.tagName).join(' ')") \
            == "H1 H2 H2 H3"
        assert laptop.js("document.querySelectorAll('.ended form, .ended button').length") == 0
        looks(laptop, [])
        phone.go("/")
        notice = phone.js("document.querySelector('[role=status]').innerText")
        assert phone.at() == "/login" and re.match(
            r"You were signed out because you signed in on another device: at \d{4}-\d\d-\d\d "
            r"\d\d:\d\d UTC, with Firefox on Windows, from 127\.0\.0\.1\.", notice), notice
        looks(phone, [])
        phone.go("/login")
        assert not phone.js("document.querySelector('[role=status]')"), "it is said once"


def a_keyboard_is_enough():
    """Tab and Enter alone, in the order of the page, and one sees where one is."""
    def visible():
        return person.js("(() => { const s = getComputedStyle(document.activeElement);"
                         " return s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2; })()")

    def where():
        return person.js("(() => { const e = document.activeElement;"
                         " return e === document.body ? '' : e.id || e.innerText; })()").strip()

    with server("--on-login", "keep") as its:
        login_from("127.0.0.9", its.port, FIREFOX)
        person = chromium().person(its.url, script=False)
        person.go("/login")
        assert where() == "user", where()
        person.type("alice")
        person.press("Tab")
        assert where() == "password" and visible()
        person.type(PASSWORD)
        person.press("Tab")
        assert where() == "Sign in" and visible()
        person.enter()
        assert person.at() == "/"
        order = []
        for _ in range(8):
            person.press("Tab")
            if not where():
                break
            assert visible(), where()
            order.append(where())
        assert order == ["Cloakroom", "Change password", "Sign out", "End",
                         "End all other sessions"], order
        # Its name says which, also to who only hears it.
        label = person.js("document.querySelector('[action$=\"/end\"] button').getAttribute('aria-label')")
        assert "Firefox on Windows" in label and "127.0.0.9" in label, label
        person.go("/")
        person.press("Tab", 4)
        person.enter()
        assert person.at() == "/" and "nowhere else" in person.text()
        person.press("Tab", 3)
        assert where() == "Sign out"
        person.enter()
        assert person.at() == "/login", f"{person.at()} {person.status} {person.text()}"
        assert not person.complaints, person.complaints


def back_after_sign_out_shows_the_login_page():
    """ASVS B9: nothing of the pages before is shown from any cache."""
    with server() as its:
        person = chromium().person(its.url)
        person.login("alice", PASSWORD)
        person.go("/password")
        person.go("/")
        person.click("form[action='/logout'] button")
        assert person.at() == "/login"
        for _ in range(2):
            person.back()
            assert person.at() == "/login", f"{person.at()}: {person.text()}"
            assert "alice" not in person.text() and "Sign in" in person.text()
        cookies = person.do("Network.getCookies")["cookies"]
        assert [each["name"] for each in cookies] == ["cloakroom-dev-form"], cookies
        assert kept_in_the_browser(person) == 0


def pages_use_no_storage_of_the_browser():
    """ASVS B10, in what is sent."""
    words = re.compile(r"localStorage|sessionStorage|indexedDB|<script|document\.cookie", re.I)
    for path in sorted((scratch.ROOT / "src" / "http").iterdir()):
        found = words.findall(path.read_text(encoding="utf-8"))
        assert not found, f"{path.name}: {found}"


def another_site_signs_nobody_in():
    """ASVS F3: login CSRF. Another site is another host name: what the browser says of it is as for
    any other. And a form with the right words from the right site, without the token."""
    with server() as its:
        person = chromium().person(its.url)
        form = ("(() => {{ const f = document.createElement('form'); f.method = 'post';"
                " f.action = '{}/login'; f.innerHTML = '<input name=user value=alice>"
                "<input name=password value=\"" + PASSWORD + "\"><input name=form_token value={}>';"
                " document.body.append(f); f.submit(); }})()")
        person.go("/login")
        token = person.js("document.querySelector('[name=form_token]').value")
        elsewhere = its.url.replace("127.0.0.1", "localhost")
        # A page of another site, without our policy for forms.
        person.loaded(lambda: person.do("Page.navigate", url=elsewhere + "/icon.svg"))
        person.loaded(lambda: person.do("Page.navigate", url="about:blank"))
        person.loaded(lambda: person.js(form.format(its.url, token)))
        assert person.status == 403, f"{person.status} {person.text()}"
        assert "not done" in person.text()
        person.go("/login")
        person.loaded(lambda: person.js(form.format(its.url, "A" * 32)))
        assert person.status == 403 and "Nothing was done" in person.text(), person.text()
        names = [each["name"] for each in person.do("Network.getCookies")["cookies"]]
        assert names == ["cloakroom-dev-form"], names


def hostile_text_stays_text():
    """ASVS F8: in every field that is kept and shown, with script switched on."""
    with server("--on-login", "keep") as its:
        person = chromium().person(its.url)
        for hostile in HOSTILE[:3]:
            # As it was typed, in the form that comes back.
            person.login(hostile, "wrong")
            assert person.js("document.querySelector('#user').value") == hostile
            assert not person.complaints, person.complaints
        hostile = HOSTILE[1]
        scratch.run([str(scratch.PROGRAM), "user", "add", hostile, "--store", its.store,
                     "--state", str(its.state)], input=f"{PASSWORD}\n")
        for number, text in enumerate(HOSTILE):
            # A program's name is shown as it is, a browser's is told from its words.
            agent = text if number % 2 else f"Mozilla/5.0 {text} Firefox/1"
            login_from(f"127.0.0.{number + 10}", its.port, agent, hostile)
        person.login(hostile, PASSWORD)
        assert person.at() == "/", person.text()
        shown = person.js("document.querySelector('.who').innerText")
        assert hostile in shown, shown
        names = person.js("[...document.querySelectorAll('.device h2')].map(e => e.innerText + e.title)")
        assert all(any(text in name for name in names) for text in HOSTILE), names
        looks(person, [])
        person.go("/password")
        assert person.js("document.querySelector('#user').value") == hostile
        looks(person, [])
        other = chromium().person(its.url, agent=HOSTILE[0])
        other.login(hostile, PASSWORD)
        other.click("form[action='/sessions/end-others'] button")
        assert "nowhere else" in other.text()
        # What they were is text, too.
        names = other.js("[...document.querySelectorAll('.ended h3')].map(e => e.innerText + e.title)")
        assert all(any(text in name for name in names) for text in HOSTILE), names
        looks(other, [])
        person.go("/")
        looks(person, [])
        looks(other, [])


def who_guesses_too_often_is_told_so():
    with server(limit_pair="2/1h") as its:
        person = chromium().person(its.url, script=False)
        for _ in range(2):
            person.login("alice", "wrong")
            assert person.status == 401
        person.login("alice", "wrong")
        assert person.status == 429 and "Too many attempts" in person.text(), person.text()
        looks(person, [])


def without_an_agent_the_page_says_so_and_signs_nobody_out():
    with server() as its:
        person = chromium().person(its.url, script=False)
        person.login("alice", PASSWORD)
        agent = its.agent_pid()
        os.kill(agent, signal.SIGSTOP)
        try:
            scratch.until(lambda: person.go("/") == 503, "the table runs out")
            assert "Nobody was" in person.text(), person.text()
            looks(person, [])
        finally:
            os.kill(agent, signal.SIGCONT)
        scratch.until(lambda: person.go("/") == 200 and person.at() == "/", "the agent goes on")


tap.main([
    axe_core_is_here,
    the_looking_glass_is_not_blind,
    every_page_is_in_order,
    a_link_for_a_new_password_is_enough,
    who_was_replaced_reads_when_and_from_where,
    a_keyboard_is_enough,
    back_after_sign_out_shows_the_login_page,
    pages_use_no_storage_of_the_browser,
    another_site_signs_nobody_in,
    hostile_text_stays_text,
    who_guesses_too_often_is_told_so,
    without_an_agent_the_page_says_so_and_signs_nobody_out,
])
