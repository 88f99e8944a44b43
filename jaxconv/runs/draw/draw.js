// The page: strokes on a canvas, and what the net says about them.

const $ = id => document.getElementById(id);
const board = $("board"), ink = board.getContext("2d", { willReadFrequently: true });
NET.members = NET.members.map(decode);
let strokes = []; // each a list of points [x, y]
let drawing = false;

function point(event) {
  const box = board.getBoundingClientRect(), scale = board.width / box.width;
  return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
}

// Paints all strokes in the theme's colours, and returns the pixels.
function paint() {
  const { color, backgroundColor } = getComputedStyle(board);
  Object.assign(ink, { fillStyle: backgroundColor, strokeStyle: color, lineWidth: board.width / 12,
    lineCap: "round", lineJoin: "round" });
  ink.fillRect(0, 0, board.width, board.height);
  for (const [start, ...others] of strokes) {
    ink.beginPath();
    ink.moveTo(...start);
    for (const place of others.length ? others : [start]) ink.lineTo(...place);
    ink.stroke();
  }
  return ink.getImageData(0, 0, board.width, board.height);
}

// Shows every `step`th number, from one on, as a grey pixel: black for `low` to white for `high`.
function shade(canvas, values, low, high, from = 0, step = 1) {
  const picture = new ImageData(canvas.width, canvas.height), pixels = picture.data;
  for (let i = from, at = 0; i < values.length; i += step, at += 4) {
    pixels[at] = pixels[at + 1] = pixels[at + 2] = 255 * (values[i] - low) / (high - low || 1);
    pixels[at + 3] = 255;
  }
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

function update() {
  let digit = new Uint8Array(28 * 28), message = "";
  try {
    digit = prepareDigit(paint());
  } catch (error) {
    message = strokes.length ? error.message : "Draw a digit.";
  }
  const { probabilities, maps } = predict(NET, digit);
  const best = probabilities.indexOf(largest(probabilities));
  $("answer").textContent = message || NET.classes[best];
  $("answer").classList.toggle("message", message);
  probabilities.forEach((share, i) => {
    const row = $("bars").children[i];
    row.classList.toggle("best", !message && i === best);
    row.style.setProperty("--share", message ? 0 : share);
    row.lastElementChild.textContent = message ? "" : `${(100 * share).toFixed(1)}%`;
  });
  shade($("seen"), digit, 0, 255);
  const first = maps[0], tiles = [...$("maps").children];
  const low = first.reduce((a, b) => Math.min(a, b)), high = first.reduce((a, b) => Math.max(a, b));
  tiles.forEach((tile, filter) => shade(tile, first, low, high, filter, tiles.length));
}

// At most one update for each frame of the screen, however fast the pen moves.
let waiting = false;
function schedule() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; update(); });
}

function clear() {
  strokes = [];
  drawing = false;
  schedule();
}

board.addEventListener("pointerdown", event => {
  if (event.button !== 0 || !event.isPrimary) return;
  board.setPointerCapture(event.pointerId);
  drawing = true;
  strokes.push([point(event)]);
  schedule();
});
board.addEventListener("pointermove", event => {
  if (!drawing || !event.isPrimary) return;
  const events = event.getCoalescedEvents?.() ?? [];
  strokes.at(-1).push(...(events.length ? events : [event]).map(point));
  schedule();
});
for (const end of ["pointerup", "pointercancel"]) board.addEventListener(end, () => drawing = false);
$("clear").addEventListener("click", clear);
addEventListener("keydown", event => {
  if (["Escape", "Delete", "Backspace"].includes(event.key)) clear();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", schedule);
update();
