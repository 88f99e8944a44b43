"""Opens a page in a real browser: for tests of the run's report.

    python tests/runs/report/browser_check.py CHROMIUM PAGE.html PICTURE.png

Prints JSON: messages of the console, requests, the natural width of each picture, the visible text,
the background's colour in a light and a dark scheme and on paper, and sizes in windows
of several widths.
"""

import json
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

SIZES = """() => {
  const all = (what, size) => [...document.querySelectorAll(what)].map(size);
  const box = x => x.getBoundingClientRect();
  const lines = x => {
    const range = document.createRange();
    range.selectNodeContents(x);
    return range.getClientRects().length;
  };
  return {
    content: document.documentElement.scrollWidth,
    stretched: Math.max(...all("img", x => Math.abs(
      box(x).width / box(x).height / (x.naturalWidth / x.naturalHeight) - 1))),
    text: Math.min(...all("svg text", x => box(x).height)),
    lines: Math.max(...all("td.number", lines)),
    row: Math.max(...all("table:not(.facts) tbody tr", x => box(x).height)),
  };
}"""


def main(chromium: str, path: str, picture: str) -> None:
    seen = {"console": [], "requests": []}
    background = "getComputedStyle(document.body).backgroundColor"
    with sync_playwright() as playwright:
        options = {"executable_path": chromium, "args": ["--no-sandbox"]}  # root has no sandbox
        browser = playwright.chromium.launch(**options)
        page = browser.new_page(viewport={"width": 1000, "height": 800}, color_scheme="light")
        page.on("console", lambda message: seen["console"].append(message.text))
        page.on("pageerror", lambda error: seen["console"].append(str(error)))
        page.on("request", lambda request: seen["requests"].append(request.url[:40]))
        page.goto(Path(path).resolve().as_uri())
        seen["pictures"] = page.eval_on_selector_all("img", "all => all.map(x => x.naturalWidth)")
        seen["text"] = page.inner_text("body")
        seen["light"] = page.evaluate(background)
        page.screenshot(path=picture, full_page=True)
        page.emulate_media(color_scheme="dark")
        seen["dark"] = page.evaluate(background)
        page.emulate_media(media="print")
        seen["paper"] = page.evaluate(background)
        page.emulate_media(media="screen")
        seen["sizes"] = {}
        for width in (400, 700, 1200):
            page.set_viewport_size({"width": width, "height": 800})
            seen["sizes"][width] = page.evaluate(SIZES)
        seen["pdf"] = len(page.pdf())
        browser.close()
    print(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
