// Turns a drawing into a digit like MNIST's: grey, crop, fit into 20 × 20, centre in 28 × 28.
// It computes what `jaxconv.data.prepare_digit` does, to the pixel. The whole drawing is one array,
// for speed; the digit in it is a list of rows.

const total = values => { let sum = 0; for (const x of values) sum += x; return sum; };
const largest = values => { let most = 0; for (const x of values) most = Math.max(most, x); return most; };
const quantile = (values, q) => Float64Array.from(values).sort()[Math.floor(q * values.length)];
const median = values => quantile(values, 1 / 2);
const rounded = x => Math.max(1, Math.floor(x + 0.5));
const transposed = rows => grid(rows[0].length, rows.length, (y, x) => rows[x][y]);

function grid(height, width, value) {
  return Array.from({ length: height }, (_, y) => {
    const row = new Float64Array(width);
    for (let x = 0; x < width; x++) row[x] = value(y, x);
    return row;
  });
}

// `data` holds red, green, blue and alpha of each pixel. Returns 28 * 28 numbers from 0 to 255.
function prepareDigit({ data, width, height }) {
  const { ink, noise } = inkOf(greyOf(data), width, height);
  const most = largest(ink), least = Math.min(Math.max(2 * noise, most / 32), most / 4);
  const clear = x => x > least ? x : 0; // without haze and shadows, which do not widen the crop
  const down = new Float64Array(height), across = new Float64Array(width);
  for (let y = 0, at = 0; y < height; y++) for (let x = 0; x < width; x++, at++) {
    down[y] += clear(ink[at]);
    across[x] += clear(ink[at]);
  }
  const [rows, columns] = [down, across].map(sums => Array.from(sums, x => x > 3 * noise));
  const [top, bottom] = span(rows), [left, right] = span(columns);
  if (most < 25 || top === bottom || left === right)
    throw new Error("The picture is blank: draw a digit.");
  const digit = grid(bottom - top, right - left, (y, x) => ink[(top + y) * width + left + x]);
  checkSingle(digit.map(row => row.map(clear)), columns.slice(left, right));
  const longer = Math.max(bottom - top, right - left);
  const tall = resized(digit, rounded(20 * (bottom - top) / longer));
  return centred(transposed(resized(transposed(tall), rounded(20 * (right - left) / longer))));
}

// The brightness, from 0 to 255, of a picture that lies on white.
function greyOf(data) {
  const grey = new Float64Array(data.length / 4);
  for (let i = 0, at = 0; i < grey.length; i++, at += 4) {
    const luma = 0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2];
    grey[i] = Math.floor(255 + (luma - 255) * data[at + 3] / 255 + 0.5);
  }
  return grey;
}

// How far each pixel is from the background: a plane through the medians of the four sides.
function inkOf(grey, width, height) {
  const column = (all, x) => Array.from({ length: height }, (_, y) => all[y * width + x]);
  const sides = all => [[...all.subarray(0, width)], [...all.subarray(-width)],
    column(all, 0), column(all, width - 1)];
  const [top, bottom, left, right] = sides(grey).map(median);
  const middle = (top + bottom + left + right) / 4, ink = new Float64Array(grey.length);
  let cubes = 0;
  for (let y = 0, at = 0; y < height; y++) for (let x = 0; x < width; x++, at++) {
    const down = top + (bottom - top) * y / (height - 1);
    const across = left + (right - left) * x / (width - 1);
    const difference = grey[at] - Math.floor(down + across - middle + 0.5);
    ink[at] = difference;
    cubes += difference * difference * difference;
  }
  // Dark on light, or light on dark? Cubes, since the digit is few pixels that differ much.
  const sign = cubes > 0 ? 1 : -1;
  for (let at = 0; at < ink.length; at++) ink[at] = Math.max(sign * ink[at], 0);
  const noise = 6 * quantile(sides(ink).flat(), 3 / 4);
  for (let at = 0; at < ink.length; at++) if (ink[at] <= noise) ink[at] = 0;
  return { ink, noise };
}

// Where the filled rows or columns begin, and where they end.
function span(filled) {
  return filled.includes(true) ? [filled.indexOf(true), filled.lastIndexOf(true) + 1] : [0, 0];
}

// Digits side by side have an empty column between them, and each is nearly as high as the whole.
function checkSingle(clear, columns) {
  const parts = [[]];
  transposed(clear).forEach((column, x) => {
    if (columns[x]) parts.at(-1).push(column);
    else if (parts.at(-1).length) parts.push([]);
  });
  const spans = parts.map(part => span(transposed(part).map(row => largest(row) > 0)));
  const digits = spans.filter(([start, end]) => end - start >= 0.6 * clear.length).length;
  if (digits > 1) throw new Error(`The picture has ${digits} digits side by side: draw one.`);
  if (clear[0].length > 3 * clear.length) throw new Error("The picture is too wide for a digit.");
}

// Another height: each new row is the mean of the old ones that it covers, times their number.
function resized(rows, count) {
  const old = rows.length;
  return grid(count, rows[0].length, (i, x) => {
    let sum = 0;
    for (let y = Math.floor(i * old / count); y * count < (i + 1) * old; y++) {
      const share = Math.min((i + 1) * old, (y + 1) * count) - Math.max(i * old, y * count);
      sum += share * rows[y][x];
    }
    return sum;
  });
}

// Puts a digit's centre of mass into the middle of 28 × 28, and makes its largest pixel 255.
function centred(fitted) {
  const most = largest(fitted.map(largest)), digit = new Uint8Array(28 * 28);
  const rows = fitted.map(row => row.map(x => Math.floor(255 * x / most + 0.5)));
  const top = offset(rows.map(total)), left = offset(transposed(rows).map(total));
  rows.forEach((row, y) => digit.set(row, (top + y) * 28 + left));
  return digit;
}

function offset(mass) {
  const centre = total(mass.map((x, i) => x * i)) / total(mass);
  return Math.min(Math.max(Math.ceil(13.5 - centre), 0), 28 - mass.length);
}
