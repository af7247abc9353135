// The crop rule: a port of component.py, square.py, rule.py and boxes.py in stage2_crop, for one image.
// Numbers are rounded to 32 bits where NumPy and OpenCV round them, so that the boxes are the same.
"use strict";
const GRID = 112, LEAST_PRIOR = 1e-6, NO_CROP = ["flat", "empty", "tiny", "huge"];
const f32 = Math.fround;

// Base64 of little-endian 32-bit floats.
function decodeMap(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)), view = new DataView(bytes.buffer);
  return Float32Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
}

function greatestOf(heat) {
  let greatest = 0;
  for (let i = 0; i < heat.length; i++) if (heat[i] > greatest) greatest = heat[i];
  return greatest;
}

// ---- component.py ---------------------------------------------------------------------------------
function scaleHeat(map, percentile) {
  const heat = map.map((v) => (Number.isFinite(v) && v > 0 ? v : 0));
  const greatest = greatestOf(heat);
  const chosen = percentile >= 100 ? greatest : percentileOf(heat, percentile);
  const reference = chosen > 0 ? chosen : greatest;
  return reference > 0 ? heat.map((v) => Math.min(v / reference, 1)) : heat;
}

// Linear between the two nearest values, as numpy.percentile.
function percentileOf(values, percentile) {
  const sorted = values.slice().sort(), at = (percentile / 100) * (sorted.length - 1);
  const low = Math.floor(at), t = at - low, a = sorted[low], b = sorted[Math.min(low + 1, sorted.length - 1)];
  return f32(t < 0.5 ? a + f32(b - a) * t : b - f32(b - a) * (1 - t));
}

// For each of GRID positions: the two positions of n between whose centres it is, and the second one's weight.
function between(n) {
  const low = new Int32Array(GRID), high = new Int32Array(GRID), weight = new Float32Array(GRID);
  for (let i = 0; i < GRID; i++) {
    const at = (i + 0.5) * (n / GRID) - 0.5;
    low[i] = Math.min(n - 1, Math.max(0, Math.floor(at)));
    high[i] = Math.min(n - 1, low[i] + 1);
    weight[i] = at < 0 || at >= n - 1 ? 0 : at - low[i];
  }
  return { low, high, weight };
}
const betweens = {};
const betweenOf = (n) => (betweens[n] ||= between(n));

// cv2.resize with INTER_LINEAR: along the rows, then across them, rounding the difference and the result.
function upsample(heat, w, h) {
  const rows = new Float32Array(GRID * h), out = new Float32Array(GRID * GRID), along = betweenOf(w), across = betweenOf(h);
  for (let y = 0, at = 0; y < h; y++) {
    for (let x = 0; x < GRID; x++, at++) {
      const value = heat[y * w + along.low[x]];
      rows[at] = value + f32(heat[y * w + along.high[x]] - value) * along.weight[x];
    }
  }
  for (let y = 0, at = 0; y < GRID; y++) {
    const low = across.low[y] * GRID, high = across.high[y] * GRID, weight = across.weight[y];
    for (let x = 0; x < GRID; x++, at++) out[at] = rows[low + x] + f32(rows[high + x] - rows[low + x]) * weight;
  }
  return out;
}

// The 8-connected components of the positions that reach the threshold, in reading order.
function components(heat, threshold) {
  const labels = new Int16Array(GRID * GRID), found = [], waiting = [], least = f32(threshold);
  let total = 0;
  for (let start = 0; start < heat.length; start++) {
    total += heat[start];
    if (!(heat[start] >= least)) continue;
    if (!labels[start]) {
      const one = { box: [GRID, GRID, 0, 0], area: 0, mass: 0 };
      found.push(one);
      labels[start] = found.length;
      waiting.push(start);
      while (waiting.length) {
        const at = waiting.pop(), x = at % GRID, y = (at - x) / GRID, { box } = one;
        one.area++;
        box[0] = Math.min(box[0], x); box[1] = Math.min(box[1], y);
        box[2] = Math.max(box[2], x + 1); box[3] = Math.max(box[3], y + 1);
        for (let v = Math.max(0, y - 1); v <= Math.min(GRID - 1, y + 1); v++) {
          for (let u = Math.max(0, x - 1); u <= Math.min(GRID - 1, x + 1); u++) {
            const next = v * GRID + u;
            if (labels[next] || !(heat[next] >= least)) continue;
            labels[next] = found.length;
            waiting.push(next);
          }
        }
      }
    }
    found[labels[start] - 1].mass += heat[start];  // in reading order, as numpy.bincount adds
  }
  for (const one of found) {
    one.area /= heat.length;
    one.mass /= total;
  }
  return found;
}

// The largest; ties go to the first.
function choose(found, by, together) {
  if (!found.length) return null;
  const largest = found.reduce((best, one) => (one[by] > best[by] ? one : best));
  if (together <= 0) return largest;
  const kept = found.filter((one) => one[by] >= together * largest[by]);
  const extreme = (pick, i) => pick(...kept.map((one) => one.box[i]));
  return {
    box: [extreme(Math.min, 0), extreme(Math.min, 1), extreme(Math.max, 2), extreme(Math.max, 3)],
    area: kept.reduce((sum, one) => sum + one.area, 0),
    mass: kept.reduce((sum, one) => sum + one.mass, 0),
  };
}

// ---- square.py ------------------------------------------------------------------------------------
const centred = ([x0, y0, x1, y1], half) =>
  [(x0 + x1) / 2 - half, (y0 + y1) / 2 - half, (x0 + x1) / 2 + half, (y0 + y1) / 2 + half];
const circumscribedSquare = (box) => centred(box, Math.max(box[2] - box[0], box[3] - box[1]) / 2);
const widen = (square, margin, leastPx) =>
  centred(square, Math.max((square[2] - square[0]) * (1 + 2 * margin), leastPx) / 2);

// Halves go to the even neighbour, as in Python.
function roundToEven(value) {
  const low = Math.floor(value), rest = value - low;
  return rest > 0.5 || (rest === 0.5 && low % 2) ? low + 1 : low;
}

function moveInside([x0, y0, x1, y1], width, height) {
  const side = Math.max(1, Math.ceil(Number(Math.max(x1 - x0, y1 - y0).toFixed(6))));
  const wide = Math.min(side, width), high = Math.min(side, height);
  const left = Math.min(Math.max(roundToEven((x0 + x1 - wide) / 2), 0), width - wide);
  const top = Math.min(Math.max(roundToEven((y0 + y1 - high) / 2), 0), height - high);
  return [left, top, left + wide, top + high];
}

// ---- rule.py --------------------------------------------------------------------------------------
function isFlat(map, leastContrast) {
  const heat = map.slice().sort(), n = heat.length, low = heat[0], top = heat[n - 1];
  const middle = f32(heat[(n - 1) >> 1] + heat[n >> 1]) / 2;
  const spread = Math.abs(top) > Math.abs(low) ? Math.abs(top) : Math.abs(low);  // Math.max passes NaN on
  return !Number.isFinite(spread) || spread <= 1e-12 || top - middle < leastContrast * spread;
}

// What a position's centre is along one axis, as pixels of the image.
const centresOf = (from, to) => Array.from({ length: GRID }, (_, i) => from + ((i + 0.5) / GRID) * (to - from));

// Scaled, upsampled, 0 outside the image, and multiplied by the location prior.
function weighHeat({ values, w, h }, [x0, y0, x1, y1], width, height, rule) {
  const heat = upsample(scaleHeat(values, rule.percentile), w, h), across = centresOf(x0, x1), down = centresOf(y0, y1);
  const weighs = Boolean(rule.prior && rule.prior_weight);
  const [meanX, meanY, spreadX, spreadY] = rule.prior || [];
  const along = (share, mean, spread) => Math.exp(-(((share - mean) / spread) ** 2) / 2);
  const alongX = weighs && across.map((x) => along(x / width, meanX, spreadX));
  const alongY = weighs && down.map((y) => along(y / height, meanY, spreadY));
  const power = { 1: (v) => v, 2: (v) => f32(v * v), 0.5: (v) => f32(Math.sqrt(v)) }[rule.prior_weight] ||
    ((v) => f32(v ** rule.prior_weight));
  for (let j = 0, at = 0; j < GRID; j++) {
    for (let i = 0; i < GRID; i++, at++) {
      if (heat[at] === 0) continue;
      if (across[i] < 0 || across[i] > width || down[j] < 0 || down[j] > height) heat[at] = 0;
      else if (weighs) heat[at] *= power(f32(Math.max(alongY[j] * alongX[i], LEAST_PRIOR)));
    }
  }
  return heat;
}

const usualBox = ([x, y, side], width, height) =>
  moveInside(centred([x * width, y * height, x * width, y * height], (side * Math.min(width, height)) / 2), width, height);

function findCrop(map, frame, width, height, rule, invisible) {
  const none = (fallback) => ({ box: [0, 0, width, height], fallback });
  if (!rule.enabled) return none("off");
  const gone = invisible && rule.invisible !== "crop";
  if (gone && (rule.invisible === "whole" || !rule.usual)) return none("invisible");
  if (rule.usual && (gone || rule.place === "fixed")) return { box: usualBox(rule.usual, width, height), fallback: "usual" };
  if (isFlat(map.values, rule.least_contrast)) return none("flat");
  const heat = weighHeat(map, frame, width, height, rule);
  const threshold = rule.threshold * greatestOf(heat);
  if (threshold <= 0) return none("empty");
  const [fx0, fy0, fx1, fy1] = frame, stepX = (fx1 - fx0) / GRID, stepY = (fy1 - fy0) / GRID;
  const chosen = choose(components(heat, threshold), rule.by, rule.together);
  if (!chosen) return none("empty");
  if (chosen.area < rule.least_area) return none("tiny");
  const [x0, y0, x1, y1] = chosen.box;
  const box = [fx0 + x0 * stepX, fy0 + y0 * stepY, fx0 + x1 * stepX, fy0 + y1 * stepY];
  const square = widen(circumscribedSquare(box), rule.margin, rule.least_side * Math.min(width, height));
  const inside = moveInside(square, width, height), [left, top, right, bottom] = inside;
  if (Math.sqrt(((right - left) * (bottom - top)) / (width * height)) > rule.greatest_side) return none("huge");
  return { box: inside, fallback: "" };
}

// ---- boxes.py -------------------------------------------------------------------------------------
// The rectangle that the map of a box covers.
const frameOf = (box, fit) => (fit === "stretch" ? box : circumscribedSquare(box));

// `heatmaps`: size [width, height], fit, invisible, full and, where the rule zooms, zoomed and region; the
// maps are { values, w, h }. Returned is the crop, and the map that it came from with its frame.
function decide({ size, fit, invisible, full, zoomed, region }, rule) {
  if (rule.zoom && zoomed) {
    const frame = frameOf(region, fit), crop = findCrop(zoomed, frame, ...size, rule, invisible);
    if (!NO_CROP.includes(crop.fallback)) return { ...crop, map: zoomed, frame };
  }
  const frame = frameOf([0, 0, ...size], fit);
  return { ...findCrop(full, frame, ...size, rule, invisible), map: full, frame };
}
