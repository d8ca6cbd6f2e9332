"""A headless Chromium driven over the WebDriver protocol with the standard library: what the page tests need."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


def require() -> None:
    """Skip with a reason where Debian's chromium and chromium-driver are missing, unless they are demanded."""
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    if missing and os.environ.get("REQUIRE_CHROMIUM") != "1":
        pytest.skip(f"no {' and no '.join(missing)} here: apt-get install chromium chromium-driver")
    assert not missing, f"REQUIRE_CHROMIUM=1, but there is no {' and no '.join(missing)}"


class Browser:
    """One session; close it. `bars`: scroll bars are drawn and take room, as on a desk."""

    def __init__(self, profile: Path, width: int = 1300, height: int = 1000, bars: bool = False) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.driver = subprocess.Popen(["chromedriver", f"--port={self.port}"], stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                 f"--window-size={width},{height}", f"--user-data-dir={profile}",
                 *(() if bars else ("--hide-scrollbars",))]
        options = {"args": flags, "perfLoggingPrefs": {"enableNetwork": True}}
        wanted = {"capabilities": {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options,
                                                   "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}}}
        self.session = ""
        for _ in range(100):
            try:
                self.session = self._send("POST", "/session", wanted)["sessionId"]
                break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
        assert self.session, "chromedriver did not answer"

    def _send(self, verb: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, method=verb,
                                         headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()[:500]) from None

    def send(self, verb: str, path: str, body: Any = None) -> Any:
        return self._send(verb, f"/session/{self.session}{path}", body)

    def open(self, path: Path) -> None:
        self.send("POST", "/url", {"url": path.resolve().as_uri()})

    def run(self, script: str, *args: Any) -> Any:
        return self.send("POST", "/execute/sync", {"script": script, "args": list(args)})

    def resize(self, width: int, height: int = 800) -> None:
        self.send("POST", "/goog/cdp/execute", {"cmd": "Emulation.setDeviceMetricsOverride", "params": {
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}})

    def find(self, query: str) -> str:
        return str(self.send("POST", "/element", {"using": "css selector", "value": query})[ELEMENT])

    def click(self, query: str) -> None:
        self.send("POST", f"/element/{self.find(query)}/click", {})

    def type(self, query: str, text: str) -> None:
        self.send("POST", f"/element/{self.find(query)}/value", {"text": text})

    def hover(self, query: str) -> None:
        self.run("document.querySelector(arguments[0]).scrollIntoView({block: 'center', inline: 'center'})", query)
        # scrolling is told to the page with the next frame, and it hides tooltips
        self.send("POST", "/execute/async", {"args": [], "script": "const done = arguments[0]; "
                                             "requestAnimationFrame(() => requestAnimationFrame(() => done()))"})
        move = {"type": "pointerMove", "origin": {ELEMENT: self.find(query)}, "x": 0, "y": 0, "duration": 0}
        self.send("POST", "/actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": [move]}]})

    def keys(self, *keys: str) -> None:
        """Press and release each key where the focus is."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.send("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def log(self, kind: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.send("POST", "/se/log", {"type": kind})
        return found

    def requests(self) -> list[str]:
        """Every address asked for since the last call."""
        messages = [json.loads(entry["message"])["message"] for entry in self.log("performance")]
        return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]

    def screenshot(self, path: Path) -> None:
        import base64

        path.write_bytes(base64.b64decode(self.send("GET", "/screenshot")))

    def close(self) -> None:
        try:
            if self.session:
                self._send("DELETE", f"/session/{self.session}")
        finally:
            self.driver.terminate()
            self.driver.wait(10)
