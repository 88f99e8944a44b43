// The net's forward pass. Maps are arrays of numbers in the order row, column, channel.

const sigmoid = x => 1 / (1 + Math.exp(-x));
const softplus = x => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
const clip = (x, low, high) => Math.min(Math.max(x, low), high);
const elu = x => x > 0 ? x : Math.expm1(x);
const hardSigmoid = x => clip(x + 3, 0, 6) / 6;

// The error function, to 1.5e-7: Abramowitz and Stegun, formula 7.1.26.
function erf(x) {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const sum = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741
    + t * (-1.453152027 + t * 1.061405429))));
  return Math.sign(x) * (1 - sum * Math.exp(-x * x));
}

const ACTIVATIONS = {
  celu: elu,
  elu,
  exponential: Math.exp,
  gelu: x => x / 2 * (1 + erf(x / Math.SQRT2)),
  hard_sigmoid: hardSigmoid,
  hard_silu: x => x * hardSigmoid(x),
  hard_swish: x => x * hardSigmoid(x),
  hard_tanh: x => clip(x, -1, 1),
  leaky_relu: x => x > 0 ? x : 0.2 * x,
  linear: x => x,
  log_sigmoid: x => -softplus(-x),
  mish: x => x * Math.tanh(softplus(x)),
  relu: x => x > 0 ? x : 0,
  relu6: x => clip(x, 0, 6),
  selu: x => 1.0507009873554805 * (x > 0 ? x : 1.6732632423543772 * Math.expm1(x)),
  sigmoid,
  silu: x => x * sigmoid(x),
  softplus,
  softsign: x => x / (1 + Math.abs(x)),
  squareplus: x => (x + Math.sqrt(x * x + 4)) / 2,
  swish: x => x * sigmoid(x),
  tanh: Math.tanh,
};

// These need all channels of a place at once.
const CHANNEL_ACTIVATIONS = {
  softmax,
  log_softmax: values => softmax(values).map(Math.log),
};

function softmax(values) {
  const most = values.reduce((a, b) => Math.max(a, b));
  const powers = Float64Array.from(values, x => Math.exp(x - most));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map(x => x / sum);
}

function activate(name, maps, channels) {
  const one = ACTIVATIONS[name], all = CHANNEL_ACTIVATIONS[name];
  if (one) return maps.map(one);
  for (let at = 0; at < maps.length; at += channels)
    maps.set(all(maps.subarray(at, at + channels)), at);
  return maps;
}

// A convolution: at each place of the window, inputs times weights, and all of it added up.
// A dense layer is a convolution whose window covers the whole input.
function convolve(input, [height, width, channels], layer, kernel, bias) {
  const [rows, columns, filters] = layer.shape, [high, wide] = layer.window;
  const [down, across] = layer.strides, [[top], [left]] = layer.pads;
  const output = new Float32Array(rows * columns * filters);
  for (let i = 0, o = 0; i < rows; i++) for (let j = 0; j < columns; j++, o += filters) {
    output.set(bias, o);
    for (let a = 0; a < high; a++) for (let b = 0; b < wide; b++) {
      const y = i * down + a - top, x = j * across + b - left;
      if (y < 0 || y >= height || x < 0 || x >= width) continue; // padding is 0
      for (let c = 0; c < channels; c++) {
        const value = input[(y * width + x) * channels + c];
        if (value === 0) continue; // most of a drawing is blank, and relu makes more zeros
        const k = ((a * wide + b) * channels + c) * filters;
        for (let f = 0; f < filters; f++) output[o + f] += value * kernel[k + f];
      }
    }
  }
  return output;
}

// The largest value or the mean of each window; padding does not count.
function pool(input, [height, width, channels], layer) {
  const [rows, columns] = layer.shape, [high, wide] = layer.window;
  const [down, across] = layer.strides, [[top], [left]] = layer.pads;
  const output = new Float32Array(rows * columns * channels);
  for (let i = 0, o = 0; i < rows; i++) for (let j = 0; j < columns; j++)
    for (let c = 0; c < channels; c++, o++) {
      let most = -Infinity, sum = 0, count = 0;
      for (let a = 0; a < high; a++) for (let b = 0; b < wide; b++) {
        const y = i * down + a - top, x = j * across + b - left;
        if (y < 0 || y >= height || x < 0 || x >= width) continue;
        const value = input[(y * width + x) * channels + c];
        most = Math.max(most, value);
        sum += value;
        count++;
      }
      output[o] = layer.pool === "max" ? most : sum / Math.max(count, 1);
    }
  return output;
}

// Each layer's output for an image of 28 × 28 numbers from 0 to 1; the last one has the logits.
function forward(layers, weights, image) {
  let maps = image, shape = [28, 28, 1], at = 0;
  return layers.map(layer => {
    if (layer.pool) {
      maps = pool(maps, shape, layer);
    } else {
      const filters = layer.shape[2];
      const size = layer.window[0] * layer.window[1] * shape[2] * filters;
      const kernel = weights.subarray(at, at += size), bias = weights.subarray(at, at += filters);
      maps = activate(layer.activation, convolve(maps, shape, layer, kernel, bias), filters);
    }
    shape = layer.shape;
    return maps;
  });
}

// The probabilities, the mean over the members (one for each seed), and the first member's maps.
function predict(net, pixels) {
  const image = Float32Array.from(pixels, x => x / 255);
  const outputs = net.members.map(weights => forward(net.layers, weights, image));
  const shares = outputs.map(maps => softmax(maps.at(-1)));
  const mean = shares[0].map((_, i) => shares.reduce((sum, p) => sum + p[i], 0) / shares.length);
  return { probabilities: mean, maps: outputs[0] };
}

// Weights come as base64 text of float32 numbers.
function decode(text) {
  return new Float32Array(Uint8Array.from(atob(text), x => x.charCodeAt(0)).buffer);
}
