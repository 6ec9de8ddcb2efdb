# SPDX-License-Identifier: Apache-2.0
"""Chromium without a window, driven over a pipe (the DevTools protocol), by nothing but Python itself.

One browser holds many persons: each `person` is a browser context, with cookies of its own, and so a
device of its own. What a page breaks of its own rules, and what the browser logs, is in
`person.complaints`.
"""

import base64
import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import time

import scratch

KEYS = {"Tab": ("Tab", 9, None), "Enter": ("Enter", 13, "\r"), "Space": ("Space", 32, " ")}
AXE = scratch.ROOT / "build-axe" / "axe.min.js"  # `./dev setup` brings it


class Browser:
    """A process of Chromium with a profile in a scratch folder. Context manager."""

    def __init__(self):
        self.home = scratch.folder("chromium")
        theirs_in, our_out = os.pipe()
        our_in, theirs_out = os.pipe()
        # It reads commands from descriptor 3 and writes to 4.
        command = ["bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "bash",
                   shutil.which("chromium") or "chromium", "--headless=new",
                   "--remote-debugging-pipe", f"--user-data-dir={self.home}", "--no-first-run",
                   "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
                   "--disable-component-update", "--disable-default-apps", "--disable-extensions",
                   "--disable-sync", "--no-proxy-server", "--hide-scrollbars",
                   "--font-render-hinting=none", "--force-color-profile=srgb"]
        if os.geteuid() == 0:
            command.append("--no-sandbox")  # which Chromium does not set up for root
        self.said = open(self.home / "stderr", "wb")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.said,
                                        stderr=self.said, pass_fds=(theirs_in, theirs_out),
                                        start_new_session=True,
                                        env={**os.environ, "HOME": str(self.home)})
        os.close(theirs_in)
        os.close(theirs_out)
        self.to, self.of = our_out, our_in
        self.numbers = itertools.count(1)
        self.buffer = b""
        self.answers, self.persons = {}, {}

    def take(self, seconds):
        """One message, to where it belongs."""
        end = time.monotonic() + seconds
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.of], [], [], max(0, end - time.monotonic()))
            assert ready, f"Chromium says nothing within {seconds} s"
            piece = os.read(self.of, 1 << 20)
            assert piece, f"Chromium ended:\n{(self.home / 'stderr').read_text(errors='replace')}"
            self.buffer += piece
        text, _, self.buffer = self.buffer.partition(b"\0")
        message = json.loads(text)
        if "id" in message:
            self.answers[message["id"]] = message
        elif message.get("sessionId") in self.persons:
            self.persons[message["sessionId"]].happened(message["method"], message["params"])

    def do(self, method, session=None, **parameters):
        """What the browser answers to a command."""
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while number not in self.answers:
            self.take(30)
        answer = self.answers.pop(number)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def person(self, url, **more):
        return Person(self, url, **more)

    def close(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.said.close()
        os.close(self.to)
        os.close(self.of)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Person:
    """One page with cookies of its own. `url` is where paths begin."""

    def __init__(self, browser, url, script=True, agent=None):
        self.browser, self.url, self.script = browser, url, script
        self.loads, self.complaints, self.status = 0, [], None
        self.context = browser.do("Target.createBrowserContext")["browserContextId"]
        target = browser.do("Target.createTarget", url="about:blank",
                            browserContextId=self.context)["targetId"]
        self.session = browser.do("Target.attachToTarget", targetId=target,
                                  flatten=True)["sessionId"]
        browser.persons[self.session] = self
        for domain in ("Page", "Runtime", "Log", "Audits", "Network", "DOM"):
            self.do(f"{domain}.enable")
        self.width(1280)
        self.do("Emulation.setScriptExecutionDisabled", value=not script)
        if agent:
            self.do("Emulation.setUserAgentOverride", userAgent=agent)

    def do(self, method, **parameters):
        return self.browser.do(method, self.session, **parameters)

    def happened(self, method, about):
        if method == "Page.loadEventFired":
            self.loads += 1
        elif method == "Log.entryAdded":
            entry = about["entry"]
            # That a page's status is 404 is no news.
            if entry["source"] != "network" and entry["level"] in ("warning", "error"):
                self.complaints.append(entry["text"])
        elif method == "Audits.issueAdded" and "Policy" in about["issue"]["code"]:
            self.complaints.append(json.dumps(about["issue"]))
        elif method in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
            self.complaints.append(json.dumps(about))
        elif method == "Page.javascriptDialogOpening":
            self.complaints.append(f"a dialog: {about['message']}")
            number = next(self.browser.numbers)
            os.write(self.browser.to, json.dumps(
                {"id": number, "method": "Page.handleJavaScriptDialog", "sessionId": self.session,
                 "params": {"accept": False}}).encode() + b"\0")
        elif method == "Network.responseReceived" and about["type"] == "Document":
            self.status = about["response"]["status"]

    def loaded(self, act, seconds=30):
        """Do it, and wait for the page that comes of it."""
        before, end = self.loads, time.monotonic() + seconds
        act()
        while self.loads == before:
            self.browser.take(max(0.1, end - time.monotonic()))

    def go(self, path):
        self.loaded(lambda: self.do("Page.navigate", url=self.url + path))
        return self.status

    def js(self, expression):
        """The value of an expression, in the page but not of it: also where it may run no script."""
        answer = self.do("Runtime.evaluate", expression=expression, returnByValue=True,
                         awaitPromise=True)
        assert "exceptionDetails" not in answer, f"{expression[:200]}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    def text(self):
        return self.js("document.body.innerText")

    def at(self):
        """The path of the page."""
        return self.js("location.pathname")

    # --- What a person does ---

    def press(self, key, times=1):
        code, number, text = KEYS[key]
        for _ in range(times):
            down = {"text": text} if text else {}
            self.do("Input.dispatchKeyEvent", type="keyDown", key=text or key, code=code,
                    windowsVirtualKeyCode=number, **down)
            self.do("Input.dispatchKeyEvent", type="keyUp", key=text or key, code=code,
                    windowsVirtualKeyCode=number)

    def type(self, text):
        self.do("Input.insertText", text=text)

    def enter(self):
        """Enter, and the page that comes of it."""
        self.loaded(lambda: self.press("Enter"))

    def fill(self, selector, text):
        self.do("DOM.focus", nodeId=self.node(selector))
        self.js(f"document.querySelector({json.dumps(selector)}).select()")
        self.type(text)

    def node(self, selector):
        root = self.do("DOM.getDocument", depth=0)["root"]["nodeId"]
        node = self.do("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        assert node, f"{self.at()}: no {selector}"
        return node

    def click(self, selector):
        """With the mouse, and the page that comes of it."""
        node = self.node(selector)
        self.do("DOM.scrollIntoViewIfNeeded", nodeId=node)
        quad = self.do("DOM.getContentQuads", nodeId=node)["quads"][0]
        place = {"x": sum(quad[0::2]) / 4, "y": sum(quad[1::2]) / 4, "button": "left",
                 "clickCount": 1}
        self.loaded(lambda: [self.do("Input.dispatchMouseEvent", type=kind, **place)
                             for kind in ("mousePressed", "mouseReleased")])

    def login(self, user, password):
        self.go("/login")
        self.fill("#user", user)
        self.fill("#password", password)
        self.enter()

    def back(self):
        history = self.do("Page.getNavigationHistory")
        entry = history["entries"][history["currentIndex"] - 1]
        self.loaded(lambda: self.do("Page.navigateToHistoryEntry", entryId=entry["id"]))

    # --- How it looks ---

    def scheme(self, name):
        """dark or light"""
        self.do("Emulation.setEmulatedMedia",
                features=[{"name": "prefers-color-scheme", "value": name}])

    def width(self, pixels, height=800, scale=1):
        self.do("Emulation.setDeviceMetricsOverride", width=pixels, height=height,
                deviceScaleFactor=scale, mobile=False)

    def overflows(self):
        """What is wider than the window."""
        return self.js("""(() => {
            const wide = document.documentElement.clientWidth;
            const found = [...document.querySelectorAll('body *')]
                .filter(e => e.getBoundingClientRect().right > wide + 0.5)
                .map(e => e.tagName + '.' + e.className);
            return document.documentElement.scrollWidth > wide
                ? ['the page', ...found] : found;
        })()""")

    def axe(self, *rules):
        """What axe-core finds wrong: by these rules, or by all."""
        only = list(rules) or ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa",
                               "best-practice"]
        if not self.js("typeof axe === 'object'"):
            self.js(AXE.read_text(encoding="utf-8") + "; 0")
        # It waits for promises, which a page without script has not.
        self.do("Emulation.setScriptExecutionDisabled", value=False)
        found = self.js("axe.run(document, {preload: false, resultTypes: ['violations'], runOnly: "
                        + json.dumps(only) + """})
            .then(r => r.violations.map(v => v.id + ': ' + v.nodes.map(
                n => n.html + ' ' + n.failureSummary).join('; ')))""")
        self.do("Emulation.setScriptExecutionDisabled", value=not self.script)
        return found

    def picture(self):
        """The page as PNG."""
        return base64.b64decode(self.do("Page.captureScreenshot", format="png",
                                        captureBeyondViewport=False)["data"])
