// How one row is drawn: picture, heat, square, crop and predictions. Text only ever enters as text nodes.
"use strict";
const draw = ((branchNames) => {
  const SIGNS = { right: "✓", wrong: "✗", maybe: "≈", unknown: "?" };
  const WHY = {
    flat: "the heatmap hardly tells one place from another",
    empty: "no place is warm enough",
    tiny: "the warm place is too small to be more than noise",
    huge: "the warm place is as large as the picture",
    invisible: "the full image says that it is not in the picture",
    usual: "the full image says that it is not in the picture; this is where it usually lies",
    off: "no crop served this task on validation",
  };

  const verdictOf = (row, top) =>
    top === null || !row.letters ? "unknown" : { y: "right", m: "maybe", n: "wrong" }[row.letters[top]];

  function bytes(hex) {
    const out = new Uint8ClampedArray(hex.length / 2);
    for (let i = 0; i < out.length; i++) out[i] = parseInt(hex.substr(2 * i, 2), 16);
    return out;
  }

  // ---- small makers -----------------------------------------------------------------------------
  function make(tag, name, text) {
    const node = document.createElement(tag);
    if (name) node.className = name;
    if (text !== undefined) node.textContent = text;
    return node;
  }
  // One decimal near both ends, where a whole percent would claim certainty.
  const percent = (thousandths) => {
    const near = (thousandths > 0 && thousandths < 10) || (thousandths > 990 && thousandths < 1000);
    return (thousandths / 10).toFixed(near ? 1 : 0) + "%";
  };
  const points = (thousandths) => (thousandths < 0 ? "−" : "+") + Math.abs(thousandths / 10).toFixed(0);

  function place(node, left, top, width, height) {
    Object.assign(node.style, { left: left + "%", top: top + "%", width: width + "%", height: height + "%" });
  }

  // A window on a part of an image file: the image is larger than the window and moved behind it.
  function pane(source, size, part, alt) {
    const node = make("span", "pane"), image = make("img");
    const [x, y, w, h] = part;
    node.style.aspectRatio = w + " / " + h;
    node.style.flex = Math.min(2, Math.max(0.5, w / h)) + " 1 0";
    image.loading = "lazy";
    image.decoding = "async";
    image.alt = alt;
    place(image, (-100 * x) / w, (-100 * y) / h, (100 * size[0]) / w, (100 * size[1]) / h);
    image.src = source;
    node.append(image);
    return node;
  }

  // Bilinear between the positions' centres, as the crop rule sees the map.
  function paint(canvas, row, grid) {
    const { w, h, v } = row.heat, values = bytes(v), lut = row.task.lut;
    canvas.width = canvas.height = grid;
    const context = canvas.getContext("2d"), picture = context.createImageData(grid, grid), out = picture.data;
    const between = (i, n) => Math.min(n - 1, Math.max(0, ((i + 0.5) / grid) * n - 0.5));
    for (let j = 0; j < grid; j++) {
      const y = between(j, h), y0 = Math.floor(y), y1 = Math.min(h - 1, y0 + 1);
      for (let i = 0; i < grid; i++) {
        const x = between(i, w), x0 = Math.floor(x), x1 = Math.min(w - 1, x0 + 1);
        const above = values[y0 * w + x0] * (1 - x + x0) + values[y0 * w + x1] * (x - x0);
        const below = values[y1 * w + x0] * (1 - x + x0) + values[y1 * w + x1] * (x - x0);
        const at = 4 * Math.round(above * (1 - y + y0) + below * (y - y0));
        out.set(lut.subarray(at, at + 4), 4 * (j * grid + i));
      }
    }
    context.putImageData(picture, 0, 0);
  }

  // Painted when its owner asks for it: thousands of painted canvases would fill the memory.
  function heatLayer(row, grid) {
    const canvas = make("canvas", "heat"), [width, height] = row.size, side = Math.max(width, height);
    canvas.width = canvas.height = 0;
    canvas.setAttribute("aria-hidden", "true");
    canvas.paint = () => paint(canvas, row, grid);
    // The network saw the picture stretched to its square, or the square around the picture.
    if (row.task.fit === "pad") {
      place(canvas, (50 * (width - side)) / width, (50 * (height - side)) / height, (100 * side) / width, (100 * side) / height);
    } else place(canvas, 0, 0, 100, 100);
    return canvas;
  }

  function panes(row, grid) {
    const { file: source, size, panels: parts } = row.thumb;
    const node = make("span", "panes"), truth = row.truth >= 0 ? row.task.classes[row.truth] : "not labelled";
    const first = pane(source, size, parts[0], `${row.task.short}, ${truth}: picture with heatmap`);
    first.append(heatLayer(row, grid));
    const second = pane(source, size, parts[1], row.whole ? "whole picture" : "crop");
    if (row.whole) second.append(make("span", "pill", "whole picture: " + row.fallback));
    else {
      if (row.fallback) second.append(make("span", "pill", "usual place"));
      const square = make("span", "square"), [x0, y0, x1, y1] = row.box, [w, h] = row.size;
      place(square, (100 * x0) / w, (100 * y0) / h, (100 * (x1 - x0)) / w, (100 * (y1 - y0)) / h);
      first.append(square);
    }
    node.append(first, second);
    return node;
  }

  function headline(row) {
    const node = make("span", "headline"), classes = row.task.classes;
    const said = make("span", "said " + row.verdict), sign = make("span", "sign", SIGNS[row.verdict]);
    sign.setAttribute("role", "img");
    sign.setAttribute("aria-label", row.verdict === "unknown" ? "answer not known" : row.verdict);
    said.append(sign, make("span", "word", classes[row.top[row.last]]));
    node.append(said);
    const truth = row.truth >= 0 ? "true: " + classes[row.truth] : "no answer";
    node.append(make("span", "truth", truth));
    return node;
  }

  function branches(row) {
    const node = make("span", "branches");
    branchNames.forEach((branch, b) => {
      if (!row.p[b]) return;
      const top = row.top[b], line = make("span", "line " + branch), bar = make("span", "bar");
      const fill = make("span", "fill");
      fill.style.width = row.p[b][top] / 10 + "%";
      bar.append(fill);
      const verdict = verdictOf(row, top);
      line.append(make("span", "who", branch), make("span", "sign " + verdict, SIGNS[verdict]),
        make("span", "word", row.task.classes[top]), bar, make("span", "share", percent(row.p[b][top])));
      node.append(line);
    });
    if (row.split === "train") {
      const who = row.trained ? "the network that trained on it" : "a network that did not train on it";
      node.append(make("span", "line note", "training picture, seen by " + who));
    }
    return node;
  }

  function tag(row) {
    if (row.mended) return make("span", "tag up", `mended ${points(row.gain)}`);
    if (row.broken) return make("span", "tag down", `broken ${points(row.gain)}`);
    return null;
  }

  function card(row, index) {
    const item = make("li"), button = make("button", "card " + row.verdict);
    button.type = "button";
    button.dataset.index = index;
    const pictures = panes(row, 128), mark = tag(row);
    if (mark) pictures.append(mark);
    button.append(pictures, headline(row), branches(row));
    item.append(button);
    return item;
  }

  function shares(row) {
    const table = make("table", "shares"), head = make("tr"), body = make("tbody");
    head.append(make("th", "", "class"), ...branchNames.map((b) => make("th", b, b)));
    table.append(make("caption", "", "Probability of each class"));
    table.append(make("thead"), body);
    table.tHead.append(head);
    const order = row.task.classes.map((_, i) => i).sort((a, b) => row.p[row.last][b] - row.p[row.last][a]);
    for (const i of order) {
      const line = make("tr", i === row.truth ? "true" : ""), name = make("th", "", row.task.classes[i]);
      name.scope = "row";
      if (i === row.truth) name.append(make("span", "tag", "true"));
      else if (row.letters[i] === "m") name.append(make("span", "tag", "maybe"));
      line.append(name);
      branchNames.forEach((branch, b) => {
        const cell = make("td", branch), value = row.p[b] ? row.p[b][i] : null;
        if (value !== null) {
          cell.append(make("span", "fill"), make("span", "share", percent(value)));
          cell.firstChild.style.width = value / 10 + "%";
        } else cell.textContent = "–";
        line.append(cell);
      });
      body.append(line);
    }
    return table;
  }

  return { bytes, card, headline, make, panes, place, shares, verdictOf, WHY };
})(["full", "crop", "fused"]);
