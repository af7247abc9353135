// Draw one row: image, heat, box, crop and predictions. Text is only ever added as text nodes.
"use strict";
const BRANCHES = ["full", "crop", "fused"];
const SIGNS = { right: "✓", wrong: "✗", maybe: "≈", unknown: "?" };
const WHY = {
  flat: "the heatmap is almost uniform",
  empty: "no part of the heatmap reaches the threshold",
  tiny: "the component is small enough to be noise",
  huge: "the component is as large as the image",
  invisible: "the full image is classified as not showing it",
  usual: "the full image is classified as not showing it; this is its usual place",
  off: "no crop rule helped this task on validation",
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
  const [, , w, h] = part, flex = Math.min(2, Math.max(0.5, w / h));
  const node = make("span", "pane", undefined, { style: `aspect-ratio: ${w} / ${h}; flex: ${flex} 1 0` });
  const image = make("img", "", undefined, { loading: "lazy", decoding: "async", alt, src: source });
  showPart(image, part, size);
  node.append(image);
  return node;
}

// Bilinear between the positions' centres, as the crop rule upsamples the map.
function paint(canvas, row, grid) {
  const { w, h, v } = row.heat, values = bytes(v);
  canvas.width = canvas.height = grid;
  const context = canvas.getContext("2d"), image = context.createImageData(grid, grid);
  const pixels = new Uint32Array(image.data.buffer);
  const between = (i, n) => Math.min(n - 1, Math.max(0, ((i + 0.5) / grid) * n - 0.5));
  for (let j = 0; j < grid; j++) {
    const y = between(j, h), y0 = Math.floor(y), y1 = Math.min(h - 1, y0 + 1);
    for (let i = 0; i < grid; i++) {
      const x = between(i, w), x0 = Math.floor(x), x1 = Math.min(w - 1, x0 + 1);
      const above = values[y0 * w + x0] * (1 - x + x0) + values[y0 * w + x1] * (x - x0);
      const below = values[y1 * w + x0] * (1 - x + x0) + values[y1 * w + x1] * (x - x0);
      pixels[j * grid + i] = row.task.colours[Math.round(above * (1 - y + y0) + below * (y - y0))];
    }
  }
  context.putImageData(image, 0, 0);
}

function panes(row, grid) {
  const { file, size, panels } = row.thumb;
  const node = make("span", "panes"), truth = row.truth >= 0 ? row.task.classes[row.truth] : "no label";
  const first = pane(file, size, panels[0], `${row.task.short}, ${truth}: image with heatmap`);
  const second = pane(file, size, panels[1], row.uncropped ? "image, not cropped" : "crop");
  const heat = make("canvas", "heat", undefined, { width: 0, height: 0, ariaHidden: "true" });
  heat.paint = () => paint(heat, row, grid);  // on request: thousands of painted maps would fill the memory
  place(heat, extent(row.frame), row.size);
  first.append(heat);
  if (!row.uncropped) {
    first.append(make("span", "box"));
    place(first.lastChild, extent(row.box), row.size);
  }
  if (row.note) second.append(make("span", "pill", row.note));
  node.append(first, second);
  return node;
}

function headline(row) {
  const node = make("span", "headline"), classes = row.task.classes;
  const prediction = make("span", "prediction " + row.verdict);
  const ariaLabel = row.verdict === "unknown" ? "no label" : row.verdict;
  const sign = make("span", "sign", SIGNS[row.verdict], { role: "img", ariaLabel });
  prediction.append(sign, make("span", "word", classes[row.top[row.last]]));
  node.append(prediction, make("span", "truth", row.truth >= 0 ? "true: " + classes[row.truth] : "no label"));
  return node;
}

function branches(row) {
  const node = make("span", "branches");
  BRANCHES.forEach((branch, b) => {
    if (!row.p[b]) return;
    const top = row.top[b], verdict = verdictOf(row, top);
    const line = make("span", "line " + branch), track = make("span", "track");
    track.append(bar(row.p[b][top]));
    line.append(make("span", "who", branch), make("span", "sign " + verdict, SIGNS[verdict]),
      make("span", "word", row.task.classes[top]), track, make("span", "share", percent(row.p[b][top])));
    node.append(line);
  });
  if (row.split === "train") {
    const network = row.trained ? "the network that trained on it" : "a network that did not train on it";
    node.append(make("span", "line note", "training image, predicted by " + network));
  }
  return node;
}

function card(row) {
  const item = make("li"), images = panes(row, 128);
  const button = make("button", "card " + row.verdict, undefined, { type: "button" });
  if (row.fixed) images.append(make("span", "tag up", `fixed ${points(row.gain)}`));
  if (row.lost) images.append(make("span", "tag down", `lost ${points(row.gain)}`));
  button.append(images, headline(row), branches(row));
  item.append(button);
  return item;
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
