"""Draws on pages in a real browser: for tests of `draw.html`.

    python tests/runs/draw/browser_check.py CHROMIUM QUESTIONS.json

The file names `pages` (the first is drawn on), and holds `images` (lists of 784 levels), `drawings`
(lists of strokes, lists of points in 0..1 of the board), one more drawing `by_mouse`, `pictures`
(their pixels) to prepare, and `numbers` for the activations. Prints what the pages say to each.
"""

import json
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

PROBABILITIES = """images => images.map(
  pixels => [...predict(NET, pixels).probabilities])"""
ACTIVATIONS = """numbers => Object.fromEntries(
  [...Object.keys(ACTIVATIONS), ...Object.keys(CHANNEL_ACTIVATIONS)].map(
    name => [name, [...activate(name, Float32Array.from(numbers), 4)]]))"""
PREPARED = """pictures => pictures.map(picture => [...prepareDigit(picture)])"""
DRAWN = """() => {
  const [picture, seen] = [board, $("seen")].map(x => x.toDataURL().split(",")[1]);
  const shares = [...$("bars").children].map(x => x.lastElementChild.textContent);
  return { picture, seen, shares, answer: $("answer").textContent };
}"""
DRAW_ALL = f"""drawings => drawings.map(drawing => {{
  strokes = drawing.map(stroke => stroke.map(point => point.map(x => x * board.width)));
  update();
  return ({DRAWN})();
}})"""


def draw(page, drawing) -> None:
    box = page.locator("#board").bounding_box()
    for stroke in drawing:
        for i, (x, y) in enumerate(stroke):
            page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
            if i == 0:
                page.mouse.down()
        page.mouse.up()
    page.evaluate("new Promise(requestAnimationFrame)")


def main(chromium: str, path: str) -> None:
    asked = json.loads(Path(path).read_text())
    seen = {"console": [], "requests": [], "probabilities": [], "drawings": []}
    with sync_playwright() as playwright:
        options = {"executable_path": chromium, "args": ["--no-sandbox"]}  # root has no sandbox
        browser = playwright.chromium.launch(**options)
        context = browser.new_context(has_touch=True, color_scheme="light")
        page = context.new_page()
        page.on("console", lambda message: seen["console"].append(message.text))
        page.on("pageerror", lambda error: seen["console"].append(str(error)))
        page.on("request", lambda request: seen["requests"].append(request.url[:40]))
        for name in reversed(asked["pages"]):
            page.goto(Path(name).resolve().as_uri())
            seen["probabilities"].insert(0, page.evaluate(PROBABILITIES, asked["images"]))
        seen["activations"] = page.evaluate(ACTIVATIONS, asked["numbers"])
        seen["prepared"] = page.evaluate(PREPARED, asked["pictures"])
        for i, scheme in enumerate(("light", "dark")):
            page.emulate_media(color_scheme=scheme)
            seen["drawings"] += page.evaluate(DRAW_ALL, asked["drawings"][i::2])
        page.keyboard.press("Escape")
        draw(page, asked["by_mouse"])
        seen["by_mouse"] = page.evaluate(DRAWN)
        page.keyboard.press("Escape")
        page.evaluate("new Promise(requestAnimationFrame)")
        seen["cleared"] = page.evaluate(DRAWN)
        page.set_viewport_size({"width": 400, "height": 800})
        seen["width"] = page.evaluate("document.documentElement.scrollWidth")
        page.touchscreen.tap(200, 300)
        seen["tapped"] = page.evaluate("strokes.length")
        page.get_by_role("button").press("Enter")
        seen["pressed"] = page.evaluate("strokes.length")
        browser.close()
    print(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
