// The gallery: filters, order, keys and the large view. pictures.js draws the rows.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { bytes, card, headline, make, panes, place, shares, verdictOf, WHY } = draw;
  const $ = (id) => document.getElementById(id);
  const form = $("tools"), list = $("pictures"), end = $("end"), large = $("large");
  const CHUNK = 48;
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
      const speaks = row.truth >= 0 ? row.truth : row.top[row.last];
      row.gain = row.p[2] ? row.p[2][speaks] - row.p[0][speaks] : 0;
      rows.push(row);
    });
  });

  // ---- filters and order ------------------------------------------------------------------------
  let shown = [], drawn = 0, open = -1;

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
    for (const name of ["test", "val", "train"]) {
      if (rows.some((row) => row.split === name)) option(split, name, name);
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
      (!ask.class || row.truth === +ask.class) &&
      (!ask.split || row.split === ask.split) &&
      (!ask.verdict || row.verdict === ask.verdict) &&
      (!ask.square || (row.fallback === "") === (ask.square === "cut")) &&
      (!ask.fusion || (ask.fusion === "same" ? row.p[2] && !row.changed : row[ask.fusion])));
    if (ORDERS[ask.order]) shown.sort(ORDERS[ask.order]);
    tell(ask);
    nearby.disconnect();
    list.replaceChildren();
    drawn = 0;
    more();
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
      rest += `The run has ${number.format(total.n)} of the kind; here are those that fusion changed, the most confident mistakes, and a random sample. `;
    }
    if (total.labelled) {
      rest += `Of ${number.format(total.labelled)} with an answer: ${number.format(total.right)} right, `;
      rest += `${number.format(total.mended)} mended, ${number.format(total.broken)} broken. `;
    }
    rest += `${number.format(total.fallback)} shown whole.`;
    $("count").replaceChildren(strong, rest);
    $("empty").hidden = shown.length > 0;
  }

  function more(until = drawn + CHUNK) {
    const part = document.createDocumentFragment();
    for (; drawn < Math.min(until, shown.length); drawn++) {
      const item = card(shown[drawn], drawn);
      item.classList.toggle("far", drawn >= 2 * CHUNK);
      nearby.observe(item);
      part.append(item);
    }
    list.append(part);
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
    facts.append(make("p", "name", row.fallback
      ? `Whole picture: ${WHY[row.fallback] || row.fallback}.`
      : `Square of ${side} px, ${Math.round((100 * side) / Math.min(...row.size))}% of the shorter side of ${row.size[0]} × ${row.size[1]}.`), words);
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
    if (index >= drawn) more(index + CHUNK);
    const button = list.children[index].firstChild;
    button.focus({ preventScroll: true });
    button.scrollIntoView({ block: "nearest" });
  }

  function columns() {
    const first = list.children[0];
    let n = 1;
    while (list.children[n] && list.children[n].offsetTop === first.offsetTop) n++;
    return n;
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
  const nearby = new IntersectionObserver((seen) => {
    for (const { isIntersecting, target } of seen) {
      const canvas = target.querySelector("canvas");
      if (isIntersecting) canvas.paint();
      else canvas.width = canvas.height = 0;
    }
  }, { rootMargin: "1500px" });
  const watch = new IntersectionObserver((seen) => {
    if (!seen.some((entry) => entry.isIntersecting) || drawn >= shown.length) return;
    more();
    // Watched anew: an end that never left the screen would not be told again.
    watch.unobserve(end);
    watch.observe(end);
  }, { rootMargin: "1200px" });

  setUp();
  watch.observe(end);
})();
