// The gallery: filters, order, keys and the large view. pictures.js draws the rows.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { bytes, card, headline, make, panes, place, shares, verdictOf, WHY } = draw;
  const $ = (id) => document.getElementById(id);
  const form = $("tools"), list = $("pictures"), large = $("large");
  const CHUNK = 24;  // a multiple of 1, 2, 3 and 4 columns, so that no line ends early
  const SPLITS = ["test", "val", "train", "new"];
  const number = new Intl.NumberFormat("en");

  // ---- what is known of each row ----------------------------------------------------------------
  const rows = [];
  data.tasks.forEach((task, at) => {
    task.lut = bytes(task.colours);
    task.rows.forEach((row) => {
      const [full, , fused] = row.top;
      row.task = task;
      row.at = at;
      row.last = row.p[2] ? 2 : 0;
      row.truth = row.letters.indexOf("y");
      row.verdict = verdictOf(row, row.top[row.last]);
      row.confidence = row.p[row.last][row.top[row.last]];
      const before = verdictOf(row, full);
      row.changed = fused !== null && fused !== full;
      row.mended = fused !== null && row.truth >= 0 && before !== "right" && row.verdict === "right";
      row.broken = fused !== null && row.truth >= 0 && before === "right" && row.verdict !== "right";
      row.class = row.truth >= 0 ? row.truth : row.top[row.last];
      row.gain = row.p[2] ? row.p[2][row.class] - row.p[0][row.class] : 0;
      rows.push(row);
    });
  });

  // ---- filters and order ------------------------------------------------------------------------
  let shown = [], open = -1;

  function option(select, value, text) {
    const node = make("option", "", text);
    node.value = value;
    select.append(node);
  }

  function fillClasses() {
    const select = form.elements.class, task = data.tasks[form.elements.task.value];
    select.replaceChildren();
    option(select, "", task ? "all" : "pick a task");
    if (task) task.classes.forEach((name, i) => option(select, i, name));
    select.disabled = !task;
  }

  function setUp() {
    const { task, split } = form.elements;
    if (data.tasks.length !== 1) option(task, "", "all");
    data.tasks.forEach((t, i) => option(task, i, t.short));
    option(split, "", "all");
    const splits = SPLITS.filter((name) => rows.some((row) => row.split === name));
    splits.forEach((name) => option(split, name, name));
    // What could only ever give all or nothing is not asked.
    const asked = { split: splits.length > 1, verdict: rows.some((row) => row.letters) };
    for (const name in asked) form.elements[name].closest("label").hidden = !asked[name];
    for (const value of ["mended", "broken"]) {
      form.elements.fusion.querySelector(`[value=${value}]`).hidden = !asked.verdict;
    }
    reset();
  }

  function reset() {
    form.reset();
    form.elements.task.selectedIndex = 0;
    form.elements.split.value = rows.some((row) => row.split === data.split) ? data.split : "";
    fillClasses();
    choose();
  }

  const ORDERS = {
    file: null,
    sure: (a, b) => b.confidence - a.confidence,
    unsure: (a, b) => a.confidence - b.confidence,
    gain: (a, b) => b.gain - a.gain,
    loss: (a, b) => a.gain - b.gain,
  };

  function choose() {
    const ask = Object.fromEntries(new FormData(form));
    shown = rows.filter((row) =>
      (!ask.task || row.at === +ask.task) &&
      (!ask.class || row.class === +ask.class) &&
      (!ask.split || row.split === ask.split) &&
      (!ask.verdict || row.verdict === ask.verdict) &&
      (!ask.square || row.whole === (ask.square === "whole")) &&
      (!ask.fusion || (ask.fusion === "same" ? row.p[2] && !row.changed : row[ask.fusion])));
    if (ORDERS[ask.order]) shown.sort(ORDERS[ask.order]);
    tell(ask);
    lay();
  }

  function tell(ask) {
    const total = { n: 0, labelled: 0, right: 0, mended: 0, broken: 0, fallback: 0 };
    let inGallery = 0;
    data.tasks.forEach((task, at) => {
      if (ask.task && at !== +ask.task) return;
      for (const [split, counts] of Object.entries(task.counts)) {
        if (ask.split && split !== ask.split) continue;
        for (const key in total) total[key] += counts[key];
      }
      inGallery += task.rows.filter((row) => !ask.split || row.split === ask.split).length;
    });
    const strong = make("b", "", `${number.format(shown.length)} of ${number.format(inGallery)} pictures`);
    let rest = ". ";
    if (inGallery < total.n) {
      rest += `The run has ${number.format(total.n)} of the kind; here are those that fusion changed, ${total.labelled ? "the most confident mistakes, " : ""}and a random sample. `;
    }
    if (total.labelled) {
      rest += `Of ${number.format(total.labelled)} with an answer: ${number.format(total.right)} right, `;
      rest += `${number.format(total.mended)} mended, ${number.format(total.broken)} broken. `;
    }
    rest += `${number.format(total.fallback)} shown whole.`;
    $("count").replaceChildren(strong, rest);
    $("empty").hidden = shown.length > 0;
  }

  // ---- the list: of all chunks of pictures only those near the window hold any ---------------------
  const near = new Set(), filled = new Set();
  let cardHeight = 330;  // until one has been measured

  const columns = () => getComputedStyle(list.firstChild).gridTemplateColumns.split(" ").length;

  // An empty chunk is as high as it will be, so that the scroll bar tells the truth.
  function stretch(chunk, inLine = columns()) {
    const lines = Math.ceil(Math.min(CHUNK, shown.length - chunk.from) / inLine);
    chunk.style.height = lines * (cardHeight + 22) - 22 + "px";
  }

  function fill(chunk) {
    if (filled.has(chunk)) return;
    filled.add(chunk);
    shown.slice(chunk.from, chunk.from + CHUNK).forEach((row, i) => {
      const item = card(row, chunk.from + i);
      canvases.observe(item);
      chunk.append(item);
    });
    chunk.style.height = "";
    cardHeight = chunk.firstChild.offsetHeight || cardHeight;
  }

  function sweep() {
    for (const chunk of filled) {
      if (near.has(chunk) || chunk.contains(document.activeElement)) continue;
      chunk.style.height = chunk.offsetHeight + "px";
      for (const item of chunk.children) canvases.unobserve(item);
      chunk.replaceChildren();
      filled.delete(chunk);
    }
  }

  function lay() {
    chunks.disconnect();
    canvases.disconnect();
    near.clear();
    filled.clear();
    list.replaceChildren();
    for (let from = 0; from < shown.length; from += CHUNK) {
      const chunk = make("ul", "pictures");
      chunk.from = from;
      chunk.setAttribute("aria-label", `Pictures ${from + 1} to ${Math.min(from + CHUNK, shown.length)}`);
      list.append(chunk);
    }
    if (!shown.length) return;
    fill(list.firstChild);
    const inLine = columns();
    for (const chunk of list.children) {
      if (!filled.has(chunk)) stretch(chunk, inLine);
      chunks.observe(chunk);
    }
  }

  // ---- the large view ---------------------------------------------------------------------------
  function show(index) {
    if (index < 0 || index >= shown.length) return;
    open = index;
    const row = shown[index], body = $("large-body");
    $("large-title").textContent = `${row.task.short}, ${row.split}, ${number.format(index + 1)} of ${number.format(shown.length)}`;
    const pictures = panes(row, 400);
    pictures.querySelector("canvas").paint();
    const facts = make("div", "facts"), words = make("p", "name", row.name);
    const [x0, y0, x1, y1] = row.box, side = Math.max(x1 - x0, y1 - y0);
    facts.append(headline(row), shares(row));
    const why = WHY[row.fallback] || row.fallback;
    facts.append(make("p", "name", row.whole
      ? `Whole picture: ${why}.`
      : `Square of ${side} px, ${Math.round((100 * side) / Math.min(...row.size))}% of the shorter side of ${row.size[0]} × ${row.size[1]}${why && "; " + why}.`), words);
    if (row.original) {
      const link = make("a", "", "original picture");
      link.href = row.original;
      words.append(" ", link);
      sharpen(pictures, row, index);
    }
    body.replaceChildren(pictures, facts);
    $("previous").disabled = index === 0;
    $("next").disabled = index === shown.length - 1;
    if (!large.open) {
      large.showModal();
      large.focus();  // not the first button, which a space bar would press
    }
    body.scrollTop = large.scrollTop = 0;
  }

  // The original, where the run still lies beside it, is sharper than the small copy; if it is gone, nothing happens.
  function sharpen(pictures, row, index) {
    const image = new Image();
    image.onload = () => {
      const ratio = (image.naturalWidth / image.naturalHeight) * (row.size[1] / row.size[0]);
      if (open !== index || Math.abs(ratio - 1) > 0.02) return;
      const [x0, y0, x1, y1] = row.box;
      [[0, 0, ...row.size], [x0, y0, x1 - x0, y1 - y0]].forEach(([x, y, w, h], i) => {
        const old = pictures.querySelectorAll(".pane > img")[i];
        place(old, (-100 * x) / w, (-100 * y) / h, (100 * row.size[0]) / w, (100 * row.size[1]) / h);
        old.src = row.original;
      });
    };
    image.src = row.original;
  }

  // ---- keys and events --------------------------------------------------------------------------
  function focus(index) {
    if (index < 0 || index >= shown.length) return;
    const chunk = list.children[Math.floor(index / CHUNK)];
    fill(chunk);
    const button = chunk.children[index - chunk.from].firstChild;
    button.focus({ preventScroll: true });
    button.scrollIntoView({ block: "nearest" });
    sweep();
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("select, input, textarea, summary")) return;
    const step = { j: 1, k: -1, ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const down = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step && !down) return;
    if (large.open) {
      event.preventDefault();
      show(open + (step || down));
      return;
    }
    const here = document.activeElement.closest(".card");
    if (!here && step && !"jk".includes(event.key)) return;
    if (!here && down) return;
    event.preventDefault();
    if (!here) focus(0);
    else focus(+here.dataset.index + (step || down * columns()));
  });

  list.addEventListener("click", (event) => {
    const button = event.target.closest(".card");
    if (button) show(+button.dataset.index);
  });
  large.addEventListener("close", () => focus(open));
  large.addEventListener("click", (event) => { if (event.target === large) large.close(); });
  $("close").addEventListener("click", () => large.close());
  $("previous").addEventListener("click", () => show(open - 1));
  $("next").addEventListener("click", () => show(open + 1));
  form.addEventListener("submit", (event) => event.preventDefault());
  $("clear").addEventListener("click", () => { reset(); heat(); });
  form.addEventListener("change", (event) => {
    if (event.target.name === "heat") return;
    if (event.target.name === "task") fillClasses();
    choose();
  });
  const heat = () => document.documentElement.style.setProperty("--heat", form.elements.heat.value / 100);
  form.addEventListener("input", (event) => { if (event.target.name === "heat") heat(); });
  const chunks = new IntersectionObserver((seen) => {
    for (const { isIntersecting, target } of seen) {
      if (!isIntersecting) {
        near.delete(target);
        continue;
      }
      near.add(target);
      fill(target);
    }
    sweep();
  }, { rootMargin: "1500px" });
  // Heat is painted a little before it is seen: two dozen maps at once would be felt.
  const canvases = new IntersectionObserver((seen) => {
    for (const { isIntersecting, target } of seen) {
      if (!isIntersecting) continue;
      target.querySelector("canvas").paint();
      canvases.unobserve(target);
    }
  }, { rootMargin: "600px" });
  window.addEventListener("resize", () => {
    if (!shown.length) return;
    const inLine = columns();
    for (const chunk of list.children) if (!filled.has(chunk)) stretch(chunk, inLine);
  });

  setUp();
})();
