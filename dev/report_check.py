#!/usr/bin/env python3
"""Looks at a page of ./report in a real browser, headless Chromium, which it speaks to over two pipes.

    python3 dev/report_check.py report.html FOLDER [CHROMIUM]

Writes screenshots (1200 and 360 pixels, light and dark) and a PDF into FOLDER, for eyes, and fails if the page logs
anything, asks for anything but itself, is wider than the screen, has a text of too little contrast, a chart without
a description, or lets a style or a script in that the content policy should stop.
"""
import base64
import json
import os
import subprocess
import sys
import tempfile
import time


class Browser:
    """The DevTools protocol over --remote-debugging-pipe: JSON messages that end with a 0 byte."""

    def __init__(self, program, folder):
        down_read, self.down = os.pipe()
        self.up, up_write = os.pipe()

        def pipes():
            os.dup2(down_read, 13), os.dup2(up_write, 14)
            os.dup2(13, 3), os.dup2(14, 4)

        self.process = subprocess.Popen(
            [program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
             "--no-first-run", "--remote-debugging-pipe", "--user-data-dir=" + folder],
            close_fds=False, preexec_fn=pipes, stderr=subprocess.DEVNULL)
        os.close(down_read), os.close(up_write)
        self.buffer, self.number, self.session, self.events = b"", 0, None, []

    def receive(self):
        while b"\0" not in self.buffer:
            more = os.read(self.up, 1 << 20)
            if not more:
                raise SystemExit("the browser has gone")
            self.buffer += more
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.down, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise SystemExit(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def ask(self, expression):
        """The value of an expression in the page, from outside of its content policy."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in result:
            raise SystemExit(result["exceptionDetails"])
        return result["result"].get("value")

    def close(self):
        self.session = None
        self.call("Browser.close")
        self.process.wait(20)


# What text of the page has a contrast below 4.5 to its ground (WCAG 2.2, 1.4.3)
CONTRAST = """(() => {
  const light = c => { const v = c.map(x => (x /= 255) <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
                       return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2]; };
  const parts = s => s.match(/[\\d.]+/g).map(Number);
  const ground = e => { for (; e; e = e.parentElement) { const c = parts(getComputedStyle(e).backgroundColor);
                        if (c.length < 4 || c[3] > 0) return c.slice(0, 3); } return [255, 255, 255]; };
  const bad = [];
  for (const e of document.querySelectorAll('body *')) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || e.closest('title, desc')) continue;
    const style = getComputedStyle(e), svg = e.namespaceURI.endsWith('svg');
    const a = light(parts(svg ? style.fill : style.color).slice(0, 3)), b = light(ground(e));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) bad.push(e.tagName + ' ' + ratio.toFixed(2) + ' ' + e.textContent.trim().slice(0, 30));
  }
  return bad; })()"""
SMALL = """[...document.querySelectorAll('svg.chart')].map(s => s.getBoundingClientRect().width / 640 *
  parseFloat(getComputedStyle(s.querySelector('text')).fontSize)).filter(x => x < 9)"""
# Both must be stopped by the policy: the hash covers neither.
INTRUDE = """(() => { const style = document.createElement('style'); style.textContent = 'body{margin-top:77px}';
  document.head.append(style); const script = document.createElement('script'); script.textContent = 'window.got = 1';
  document.head.append(script); return [getComputedStyle(document.body).marginTop, String(window.got)]; })()"""


def main():
    if len(sys.argv) not in (3, 4):
        raise SystemExit(__doc__)
    page, folder = os.path.abspath(sys.argv[1]), sys.argv[2]
    program = sys.argv[3] if len(sys.argv) == 4 else "chromium"
    os.makedirs(folder, exist_ok=True)
    faults = []

    def check(good, what):
        if not good:
            faults.append(what)

    check(os.path.getsize(page) < 300000, f"{os.path.getsize(page)} bytes, want fewer than 300,000")
    with tempfile.TemporaryDirectory() as profile:
        browser = Browser(program, profile)
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        browser.session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Log", "Runtime", "Network"):
            browser.call(domain + ".enable")
        for width in (1200, 360):
            for scheme in ("light", "dark"):
                browser.call("Emulation.setEmulatedMedia",
                             features=[{"name": "prefers-color-scheme", "value": scheme}])
                browser.call("Emulation.setDeviceMetricsOverride", width=width, height=900,
                             deviceScaleFactor=1 if width > 400 else 2, mobile=width < 400)
                browser.call("Page.navigate", url="file://" + page)
                for _ in range(100):
                    if browser.ask("document.readyState + document.URL").startswith("completefile"):
                        break
                    time.sleep(0.1)
                name = f"{width}-{scheme}"
                wide = browser.ask("document.scrollingElement.scrollWidth")
                check(wide <= width, f"{name}: {wide} pixels wide")
                bad = browser.ask(CONTRAST)
                check(not bad, f"{name}: too little contrast: {bad[:5]}")
                small = browser.ask(SMALL)
                check(not small, f"{name}: letters of {small[:1]} pixels in a chart")
                shot = browser.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
                with open(os.path.join(folder, name + ".png"), "wb") as file:
                    file.write(base64.b64decode(shot))
        said = browser.ask("[...document.querySelectorAll('svg.chart')].filter(s => !s.querySelector('title') || "
                           "!s.querySelector('desc').textContent).length")
        check(said == 0, f"{said} charts without a description")
        ids = browser.ask("(() => { const all = [...document.querySelectorAll('[id]')].map(e => e.id); "
                          "return all.length - new Set(all).size; })()")
        check(ids == 0, f"{ids} names are used twice")
        lost = browser.ask("[...document.querySelectorAll('nav a')].filter(a => !document.querySelector("
                           "a.getAttribute('href'))).map(a => a.textContent)")
        check(not lost, f"links that lead nowhere: {lost}")
        pdf = browser.call("Page.printToPDF", printBackground=False, preferCSSPageSize=True)["data"]
        with open(os.path.join(folder, "print.pdf"), "wb") as file:
            file.write(base64.b64decode(pdf))
        browser.ask("0")
        for event in browser.events:
            method, params = event.get("method"), event.get("params", {})
            if method == "Log.entryAdded":
                faults.append("logged: " + params["entry"]["text"])
            if method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
                faults.append(f"logged: {params}")
            if method == "Network.requestWillBeSent" and params["request"]["url"] not in (
                    "file://" + page, "about:blank"):
                faults.append("asked for " + params["request"]["url"])
        check(any(e.get("method") == "Network.requestWillBeSent" for e in browser.events), "no request was seen")
        margin, got = browser.ask(INTRUDE)
        check(margin != "77px" and got == "undefined", f"the content policy let something in: {margin} {got}")
        browser.close()
    for fault in faults:
        print("FAIL ", fault)
    print(f"{os.path.basename(page)}: {'no fault' if not faults else str(len(faults)) + ' faults'}; pictures in {folder}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
