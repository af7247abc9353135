// Draw one row: image, heat, boxes, crop and predictions. Text is only ever added as text nodes.
"use strict";
const BRANCHES = ["full", "crop", "fused"];
const SIGNS = { right: "✓", wrong: "✗", maybe: "≈", unknown: "?" };
const WHY = {
  flat: "the heatmap is almost uniform",
  empty: "no part of the heatmap reaches the threshold",
  tiny: "the component is small enough to be noise",
  huge: "the crop would be as large as the image",
  invisible: "the full image is classified as not showing it",
  usual: "the full image is classified as not showing it; this is its usual place",
  off: "no crop helped this task in the search, or the rule is set so",
};

const verdictOf = (row, top) =>
  top === null || !row.letters ? "unknown" : { y: "right", m: "maybe", n: "wrong" }[row.letters[top]];

const bytes = (hex) => Uint8Array.from(hex.match(/../g), (pair) => parseInt(pair, 16));

function make(tag, name, text, properties) {
  const node = Object.assign(document.createElement(tag), properties);
  if (name) node.className = name;
  if (text !== undefined) node.textContent = text;
  return node;
}

const bar = (thousandths) => make("span", "fill", undefined, { style: `width: ${thousandths / 10}%` });

// One decimal near both ends, which would otherwise read 0% and 100%.
const percent = (thousandths) => {
  const near = (thousandths > 0 && thousandths < 10) || (thousandths > 990 && thousandths < 1000);
  return (thousandths / 10).toFixed(near ? 1 : 0) + "%";
};
const points = (thousandths) => (thousandths < 0 ? "−" : "+") + Math.abs(thousandths / 10).toFixed(0);

// Place a node over a part of its parent, whose size is [w, h].
function place(node, [x, y, width, height], [w, h]) {
  const shares = { left: x / w, top: y / h, width: width / w, height: height / h };
  for (const name in shares) node.style[name] = 100 * shares[name] + "%";
}

// From corners x0, y0, x1, y1 to x, y, width, height.
const extent = ([x0, y0, x1, y1]) => [x0, y0, x1 - x0, y1 - y0];

// Show a part of an image in its window: the image is larger than the window and moved behind it.
const showPart = (image, [x, y, w, h], size) => place(image, [-x, -y, ...size], [w, h]);

function pane(source, size, part, alt) {
  const [, , w, h] = part, flex = Math.min(2, w / h);
  const node = make("span", "pane", undefined, { style: `aspect-ratio: ${w} / ${h}; flex: ${flex} 1 0` });
  const image = make("img", "", undefined, { loading: "lazy", decoding: "async", alt, src: source });
  showPart(image, part, size);
  node.append(image);
  return node;
}

// Colour and opacity of 256 heats, as heat_colours in drawing.py.
function heatColours(palette, threshold) {
  const bytes = new Uint8ClampedArray(4 * 256);
  for (let i = 0; i < 256; i++) {
    const heat = i / 255, above = (heat - threshold) / Math.max(1e-6, 1 - threshold);
    const opacity = heat >= threshold ? 0.42 + 0.26 * above : 0.24 * (heat / Math.max(threshold, 1e-6)) ** 1.5;
    bytes.set([...palette.subarray(3 * i, 3 * i + 3), 255 * opacity], 4 * i);
  }
  return new Uint32Array(bytes.buffer);
}

// Prepare a task and its rows to be drawn; return the rows. `at` is the task's place in its list.
function openTask(task, at, palette) {
  Object.assign(task, { run: task.rule, version: 0, colours: heatColours(palette, task.rule.threshold) });
  for (const row of task.rows) {
    const last = row.p[2] ? 2 : 0, truth = row.letters.indexOf("y"), top = row.top[last];
    Object.assign(row, { task, at, last, truth, class: truth >= 0 ? truth : top });
    Object.assign(row, { verdict: verdictOf(row, top), confidence: row.p[last][top] });
  }
  return task.rows;
}

function openMaps(row) {
  const { task, maps: [full, zoomed], size, invisible } = row, [w, h] = task.map;
  const open = (text) => text && { values: decodeMap(text), w, h };
  return { size, fit: task.fit, invisible, region: row.zoomed, full: open(full), zoomed: open(zoomed) };
}

// A row's crop by its task's rule: the run's, or the one that is tried.
function cropOf(row) {
  const { task } = row;
  if (row.cropVersion !== task.version) {
    row.heatmaps ||= openMaps(row);
    row.crop = decide(row.heatmaps, task.rule);
    row.cropVersion = task.version;
  }
  return row.crop;
}

const isCropped = (fallback) => ["", "usual"].includes(fallback);
const noteOf = (fallback) => (isCropped(fallback) ? fallback && "usual place" : "not cropped: " + fallback);
const isSame = (box, other) => box.every((v, i) => v === other[i]);
const isMoved = (row, crop) =>
  !isSame(crop.box, row.box) || isCropped(crop.fallback) !== isCropped(row.fallback);

function paint(canvas, row) {
  const { map, frame } = cropOf(row), { rule, colours } = row.task;
  const heat = weighHeat(map, frame, ...row.size, rule), scale = 255 / Math.max(1e-12, greatestOf(heat));
  canvas.width = canvas.height = GRID;
  const context = canvas.getContext("2d"), image = context.createImageData(GRID, GRID);
  const pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < pixels.length; i++) pixels[i] = colours[Math.round(heat[i] * scale)];
  context.putImageData(image, 0, 0);
}

// Why a row is not cropped where its heatmap points, and what its crop prediction is averaged with.
function reasonOf({ rule }, fallback) {
  if (fallback === "usual" && rule.place === "fixed") return "at the usual place, as in every image";
  const both = rule.place === "both" && rule.usual && !["usual", "off"].includes(fallback);
  return [WHY[fallback] || fallback, both && "the crop prediction is averaged with that of the usual place"]
    .filter(Boolean).join("; ");
}

function outline(name, box, size) {
  const node = make("span", name);
  place(node, extent(box), size);
  return node;
}

function cropPane(row) {
  const { file, size, panels } = row.thumb, [, , w, h] = panels[0], crop = cropOf(row);
  // The run's crop is in the file; another one is a part of the small image until sharpen() has the original.
  const scaled = extent(crop.box).map((v, i) => (v * (i % 2 ? h / row.size[1] : w / row.size[0])));
  const part = isMoved(row, crop) ? scaled : panels[1];
  const node = pane(file, size, part, isCropped(crop.fallback) ? "crop" : "image, not cropped");
  if (crop.fallback) node.append(make("span", "pill", noteOf(crop.fallback), { title: reasonOf(row.task, crop.fallback) }));
  return node;
}

function panes(row) {
  const { file, size, panels } = row.thumb, crop = cropOf(row);
  const node = make("span", "panes"), truth = row.truth >= 0 ? row.task.classes[row.truth] : "no label";
  const first = pane(file, size, panels[0], `${row.task.short}, ${truth}: image with heatmap`);
  const heat = make("canvas", "heat", undefined, { width: 0, height: 0, ariaHidden: "true" });
  heat.paint = () => paint(heat, row);  // on request: thousands of painted maps would fill the memory
  place(heat, extent(crop.frame), row.size);
  first.append(heat);
  if (row.region) first.append(outline("box region", row.region, row.size));
  if (isCropped(crop.fallback)) first.append(outline("box", crop.box, row.size));
  node.append(first, cropPane(row));
  if (row.fixed) node.append(make("span", "tag up", `fixed ${points(row.gain)}`));
  if (row.lost) node.append(make("span", "tag down", `lost ${points(row.gain)}`));
  return node;
}

// Show parts of the original, which is sharper than the small copy, where it still exists.
function sharpen(images, row, parts) {
  if (!row.original) return;
  const original = new Image();
  original.onload = () => {
    const ratio = (original.naturalWidth / original.naturalHeight) * (row.size[1] / row.size[0]);
    if (Math.abs(ratio - 1) > 0.02) return;
    images.forEach((copy, i) => {
      showPart(copy, extent(parts[i]), row.size);
      copy.src = row.original;
    });
  };
  original.src = row.original;
}

function headline(row, task) {
  const node = make("span", "headline"), classes = row.task.classes;
  const prediction = make("span", "prediction " + row.verdict);
  const ariaLabel = row.verdict === "unknown" ? "no label" : row.verdict;
  const sign = make("span", "sign", SIGNS[row.verdict], { role: "img", ariaLabel });
  prediction.append(sign, make("span", "word", classes[row.top[row.last]]));
  const truth = row.truth >= 0 ? "true: " + classes[row.truth] : "no label";
  node.append(prediction, make("span", "truth", task ? `${task} · ${truth}` : truth));
  return node;
}

// One prediction in a line, under the name of who made it.
function predictionLine(who, row, b) {
  const top = row.top[b], verdict = verdictOf(row, top);
  const line = make("span", "line " + BRANCHES[b]), track = make("span", "track");
  track.append(bar(row.p[b][top]));
  line.append(make("span", "who", who), make("span", "sign " + verdict, SIGNS[verdict]),
    make("span", "word", row.task.classes[top]), track, make("span", "share", percent(row.p[b][top])));
  return line;
}

function branches(row) {
  const node = make("span", "branches");
  BRANCHES.forEach((branch, b) => {
    if (row.p[b]) node.append(predictionLine(branch, row, b));
  });
  if (row.suspect) node.append(make("span", "line note doubt", `doubtful label: networks that did not see it give it ${percent(row.label)}`));
  if (row.split === "train") {
    const network = row.trained ? "the network that trained on it" : "a network that did not train on it";
    node.append(make("span", "line note", "training image, predicted by " + network));
  }
  return node;
}

// The list of several tasks names the task in each card.
function card(row, task) {
  const item = make("li"), button = make("button", "card " + row.verdict, undefined, { type: "button" });
  button.append(panes(row), headline(row, task), branches(row));
  row.drawn = row.task.version;
  item.append(button);
  return item;
}

// Draw a card's images again where another rule is tried since it was drawn.
function redraw(row) {
  if (row.drawn === row.task.version) return;
  const old = row.item.querySelector(".panes"), images = panes(row), crop = cropOf(row);
  images.querySelector("canvas").paint();
  old.replaceWith(images);
  row.drawn = row.task.version;
  if (isMoved(row, crop)) sharpen([images.querySelectorAll(".pane > img")[1]], row, [crop.box]);
}

function shares(row) {
  const table = make("table", "shares"), head = table.createTHead().insertRow(), body = table.createTBody();
  table.createCaption().textContent = "Probability of each class";
  head.append(make("th", "", "class"), ...BRANCHES.map((branch) => make("th", branch, branch)));
  const last = row.p[row.last], order = [...last.keys()].sort((a, b) => last[b] - last[a]);
  for (const i of order) {
    const line = body.insertRow(), name = make("th", "", row.task.classes[i], { scope: "row" });
    line.className = i === row.truth ? "true" : "";
    if (row.letters[i] === "m" || i === row.truth) name.append(make("span", "tag", i === row.truth ? "true" : "maybe"));
    line.append(name);
    BRANCHES.forEach((branch, b) => {
      const cell = make("td", branch, row.p[b] ? "" : "–");
      if (row.p[b]) cell.append(bar(row.p[b][i]), make("span", "share", percent(row.p[b][i])));
      line.append(cell);
    });
  }
  return table;
}

function cropNote(row) {
  const { box, fallback } = cropOf(row), side = Math.max(...extent(box).slice(2)), why = reasonOf(row.task, fallback);
  const share = Math.round((100 * side) / Math.min(...row.size)), [, , w, h] = extent(box);
  return make("p", "name", !isCropped(fallback)
    ? `Not cropped: ${why}.`
    : `Crop of ${w === h ? "" : `${w} × `}${h} px, ${share}% of the shorter side of ${row.size[0]} × ${row.size[1]}${why && "; " + why}.`);
}

// The row's name with a link to the original, which also replaces the small copies in its panes.
function originalNote(row, images) {
  const note = make("p", "name", row.name);
  if (row.original) {
    note.append(" ", make("a", "", "original image", { href: row.original }));
    sharpen(images.querySelectorAll(".pane > img"), row, [[0, 0, ...row.size], cropOf(row).box]);
  }
  return note;
}
