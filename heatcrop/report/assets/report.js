// The gallery: filters, order, keys and the large view. images.js draws the rows.
"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent);
  const form = $("tools"), fields = form.elements, list = $("images"), large = $("large");
  const CHUNK = 12;  // a multiple of 1, 2 and 3 columns, so that no line ends early
  const SPLITS = ["test", "val", "train", "new"];
  const { format } = new Intl.NumberFormat("en");

  const palette = bytes(data.palette);
  const rows = data.tasks.flatMap((task, at) => {
    task.run = task.rule;
    task.version = 0;
    task.colours = heatColours(palette, task.rule.threshold);
    return task.rows.map((row) => {
      const [full, , fused] = row.p, last = fused ? 2 : 0;
      const truth = row.letters.indexOf("y"), class_ = truth >= 0 ? truth : row.top[last];
      return Object.assign(row, {
        task, at, last, truth, class: class_,
        verdict: verdictOf(row, row.top[last]),
        confidence: row.p[last][row.top[last]],
        changed: fused !== null && row.top[2] !== row.top[0],
        same: fused !== null && row.top[2] === row.top[0],
        cropped: isCropped(row.fallback),
        uncropped: !isCropped(row.fallback),
        doubt: row.label === null ? -1 : 1000 - row.label,
        gain: fused ? fused[class_] - full[class_] : 0,
      });
    });
  });

  // ---- filters and order ------------------------------------------------------------------------
  const ORDERS = { sure: ["confidence", -1], unsure: ["confidence", 1], gain: ["gain", -1], loss: ["gain", 1], doubt: ["doubt", -1] };
  let shown = [], open = -1;

  function addOptions(select, texts, values = [...texts.keys()]) {
    texts.forEach((text, i) => select.add(new Option(text, values[i])));
  }

  function reset() {
    form.reset();
    fields.task.selectedIndex = 0;
    fields.split.value = rows.some((row) => row.split === data.split) ? data.split : "";
    setHeat();
    fillClasses();
    trial?.follow();
    filter();
  }

  function fillClasses() {
    const task = data.tasks[fields.task.value];
    fields.class.replaceChildren(new Option(task ? "all" : "pick a task", ""));
    addOptions(fields.class, task ? task.classes : []);
    fields.class.disabled = !task;
  }

  const setHeat = () => document.documentElement.style.setProperty("--heat", fields.heat.value / 100);

  function filter() {
    const wanted = Object.fromEntries(new FormData(form));
    shown = rows.filter((row) =>
      (!wanted.task || row.at === +wanted.task) &&
      (!wanted.class || row.class === +wanted.class) &&
      (!wanted.split || row.split === wanted.split) &&
      (!wanted.verdict || row.verdict === wanted.verdict) &&
      (!wanted.fusion || row[wanted.fusion]) &&
      (!wanted.crop || row[wanted.crop]) &&
      (!wanted.label || row[wanted.label]));
    const [key, sign] = ORDERS[wanted.order] || [];
    if (key) shown.sort((a, b) => sign * (a[key] - b[key]));
    showCounts(wanted);
    fillList();
  }

  function showCounts({ task, split }) {
    const total = { n: 0, labelled: 0, right: 0, fixed: 0, lost: 0, uncropped: 0 };
    const matches = (at, name) => (!task || at === +task) && (!split || name === split);
    data.tasks.forEach(({ counts }, at) => {
      for (const name of Object.keys(counts).filter((name) => matches(at, name))) {
        for (const key in total) total[key] += counts[name][key];
      }
    });
    const inGallery = rows.filter((row) => matches(row.at, row.split)).length;
    const strong = make("b", "", `${format(shown.length)} of ${format(inGallery)} images`);
    let rest = ". ";
    if (inGallery < total.n) {
      rest += `The run has ${format(total.n)} such images; the gallery has those that fusion changed, ${total.labelled ? "the most confident mistakes, " : ""}and a random sample. `;
    }
    if (total.labelled) {
      rest += `Of ${format(total.labelled)} labelled images: ${format(total.right)} right, `;
      rest += `${format(total.fixed)} fixed, ${format(total.lost)} lost by fusion. `;
    }
    rest += `${format(total.uncropped)} not cropped.`;
    $("count").replaceChildren(strong, rest);
    $("empty").hidden = shown.length > 0;
  }

  // ---- the list: a chunk is filled when it comes near; CSS skips the layout of the others -----------
  const nearby = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (isIntersecting) fill(target);
      target.near = isIntersecting;
      if (isIntersecting) target.rows.forEach(redraw);
      for (const canvas of target.querySelectorAll("canvas")) {
        if (isIntersecting) canvas.paint();
        else canvas.width = canvas.height = 0;  // thousands of painted maps would fill the memory
      }
    }
  }, { rootMargin: "1000px" });

  function fillList() {
    nearby.disconnect();
    list.replaceChildren();
    for (let from = 0; from < shown.length; from += CHUNK) {
      const chunk = make("ul", "images");
      chunk.from = from;
      list.append(chunk);
      nearby.observe(chunk);
    }
    estimateHeight();
    if (shown.length) fill(list.firstChild);  // now, so that nothing flickers
  }

  function fill(chunk) {
    if (chunk.firstChild) return;
    chunk.rows = shown.slice(chunk.from, chunk.from + CHUNK);
    for (const row of chunk.rows) {
      row.item ||= card(row);
      chunk.append(row.item);
    }
  }

  const columns = () => Math.max(1, Math.floor((list.clientWidth + 22) / (390 + 22)));  // as in report.css
  const estimateHeight = () => list.style.setProperty("--lines", CHUNK / columns());

  // ---- the large view ---------------------------------------------------------------------------
  function show(index) {
    if (index < 0 || index >= shown.length) return;
    open = index;
    const row = shown[index], body = $("large-body");
    $("large-title").textContent = `${row.task.short}, ${row.split}, ${format(index + 1)} of ${format(shown.length)}`;
    const images = panes(row), facts = make("div", "facts"), name = make("p", "name", row.name);
    images.querySelector("canvas").paint();
    const { box, fallback } = cropOf(row), [, , width, height] = extent(box), side = Math.max(width, height);
    const why = WHY[fallback] || fallback;
    facts.append(headline(row), shares(row), make("p", "name", !isCropped(fallback)
      ? `Not cropped: ${why}.`
      : `Crop of ${side} px, ${Math.round((100 * side) / Math.min(...row.size))}% of the shorter side of ${row.size[0]} × ${row.size[1]}${why && "; " + why}.`), name);
    if (row.original) {
      name.append(" ", make("a", "", "original image", { href: row.original }));
      sharpen(images.querySelectorAll(".pane > img"), row, [[0, 0, ...row.size], box]);
    }
    body.replaceChildren(images, facts);
    $("previous").disabled = index === 0;
    $("next").disabled = index === shown.length - 1;
    if (!large.open) {
      large.showModal();
      large.focus();  // not the first button, which the space bar would press
    }
    body.scrollTop = large.scrollTop = 0;
  }

  // ---- another crop rule, see rule.js ------------------------------------------------------------
  const trial = $("trial") && new Trial($("trial"), data.tasks, palette, {
    shownIn: () => fields.split.value,
    task: () => fields.task.value,
    chooseTask(at) {
      fields.task.value = at;
      fillClasses();
      filter();
    },
    // The cards on the screen now; others when they come near.
    redraw() {
      for (const chunk of list.children) {
        if (!chunk.near) continue;
        for (const row of chunk.rows) {
          const { top, bottom } = row.item.getBoundingClientRect();
          if (bottom > 0 && top < innerHeight) redraw(row);
        }
      }
    },
    redrawNear() {
      for (const chunk of list.children) if (chunk.near) chunk.rows.forEach(redraw);
    },
    counted() {
      if (fields.crop.value === "moved") filter();
    },
  });

  // ---- keys and events --------------------------------------------------------------------------
  const indexOf = (button) => shown.findIndex((row) => row.item === button.parentNode);

  function focus(index) {
    if (index < 0 || index >= shown.length) return;
    fill(list.children[Math.floor(index / CHUNK)]);
    const button = shown[index].item.firstChild;
    button.focus({ preventScroll: true });
    button.scrollIntoView({ block: "nearest" });
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("select, input, textarea, summary, .trial")) return;
    const step = { j: 1, k: -1, ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const down = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const focused = document.activeElement.closest(".card");
    if (!step && !down) return;
    if (!large.open && !focused && !"jk".includes(event.key)) return;
    event.preventDefault();
    if (large.open) show(open + (step || down));
    else focus(focused ? indexOf(focused) + (step || down * columns()) : 0);
  });
  list.addEventListener("click", (event) => {
    const button = event.target.closest(".card");
    if (button) show(indexOf(button));
  });
  large.addEventListener("close", () => focus(open));
  large.addEventListener("click", (event) => { if (event.target === large) large.close(); });
  $("close").addEventListener("click", () => large.close());
  $("previous").addEventListener("click", () => show(open - 1));
  $("next").addEventListener("click", () => show(open + 1));
  $("clear").addEventListener("click", reset);
  form.addEventListener("submit", (event) => event.preventDefault());
  fields.heat.addEventListener("input", setHeat);
  form.addEventListener("change", (event) => {
    if (event.target.name === "heat") return;
    if (event.target.name === "task") fillClasses();
    if (["task", "split"].includes(event.target.name)) trial?.follow();
    filter();
  });
  window.addEventListener("resize", estimateHeight);

  if (data.tasks.length !== 1) addOptions(fields.task, ["all"], [""]);
  addOptions(fields.task, data.tasks.map((task) => task.short));
  const splits = SPLITS.filter((name) => rows.some((row) => row.split === name));
  const labelled = rows.some((row) => row.letters);
  addOptions(fields.split, ["all", ...splits], ["", ...splits]);
  // Filters that could only match all or nothing are hidden.
  fields.split.closest("label").hidden = splits.length < 2;
  fields.verdict.closest("label").hidden = !labelled;
  fields.label.closest("label").hidden = rows.every((row) => row.label === null);
  for (const option of fields.fusion.options) option.hidden = !labelled && ["fixed", "lost"].includes(option.value);
  reset();

  // ---- an address that ends with #<task>/<image>, as contact sheets have it ------------------------
  function openAddressed() {
    let wanted = "";
    try { wanted = decodeURIComponent(location.hash.slice(1)); } catch { return; }  // not one of ours
    const row = rows.find((row) => `${row.task.name}/${row.name}` === wanted);
    if (!row) return;
    reset();
    fields.split.value = "";
    fields.task.value = row.at;
    fillClasses();
    filter();
    show(shown.indexOf(row));
  }
  window.addEventListener("hashchange", openAddressed);
  openAddressed();
})();
