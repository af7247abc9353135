// The report's gallery: filters, order, and what is shown of a row. images.js draws the rows.
"use strict";
(() => {
  const data = JSON.parse($("data").textContent);
  const form = $("tools"), fields = form.elements;
  const SPLITS = ["test", "val", "train", "new"];

  const palette = bytes(data.palette);
  const rows = data.tasks.flatMap((task, at) => openTask(task, at, palette).map((row) => {
    const [full, , fused] = row.top;
    return Object.assign(row, {
      changed: fused !== null && fused !== full,
      same: fused !== null && fused === full,
      cropped: isCropped(row.fallback),
      uncropped: !isCropped(row.fallback),
      doubt: row.label === null ? -1 : 1000 - row.label,
    });
  }));

  const gallery = new Gallery({
    card: (row) => card(row, data.tasks.length > 1 && row.task.short),
    comesNear: redraw,
    title: (row) => `${row.task.short}, ${row.split}`,
    details(row) {
      const images = panes(row), facts = make("div", "facts");
      facts.append(headline(row), shares(row), cropNote(row), originalNote(row, images));
      return [images, facts];
    },
  });

  // ---- filters and order ------------------------------------------------------------------------
  const ORDERS = { sure: ["confidence", -1], unsure: ["confidence", 1], gain: ["gain", -1], loss: ["gain", 1], doubt: ["doubt", -1] };

  const filters = new Filters(data.tasks, filter, () => {
    fields.split.value = rows.some((row) => row.split === data.split) ? data.split : "";
    setHeat();
    trial?.follow();
  });

  const setHeat = () => document.documentElement.style.setProperty("--heat", fields.heat.value / 100);

  function filter() {
    const wanted = Object.fromEntries(new FormData(form));
    const shown = rows.filter((row) =>
      (!wanted.task || row.at === +wanted.task) &&
      (!wanted.class || row.class === +wanted.class) &&
      (!wanted.split || row.split === wanted.split) &&
      (!wanted.verdict || row.verdict === wanted.verdict) &&
      (!wanted.fusion || row[wanted.fusion]) &&
      (!wanted.crop || row[wanted.crop]) &&
      (!wanted.label || row[wanted.label]));
    const [key, sign] = ORDERS[wanted.order] || [];
    if (key) shown.sort((a, b) => sign * (a[key] - b[key]));
    showCounts(wanted, shown.length);
    gallery.set(shown);
  }

  function showCounts({ task, split }, count) {
    const total = { n: 0, labelled: 0, right: 0, fixed: 0, lost: 0, uncropped: 0 };
    const absent = { train: 0, others: 0 }, part = (name) => (name === "train" ? "train" : "others");
    const matches = (at, name) => (!task || at === +task) && (!split || name === split);
    data.tasks.forEach(({ counts }, at) => {
      for (const name of Object.keys(counts).filter((name) => matches(at, name))) {
        for (const key in total) total[key] += counts[name][key];
        absent[part(name)] += counts[name].n;
      }
    });
    const inGallery = rows.filter((row) => matches(row.at, row.split));
    for (const row of inGallery) absent[part(row.split)]--;
    const strong = make("b", "", `${format(count)} of ${counted(inGallery.length, "image")}`);
    let rest = ". ";
    if (absent.train || absent.others) rest += `${data.split ? "The run has" : "There are"} ${counted(total.n, "such image")}. `;
    if (absent.others) {
      rest += `Of ${data.split ? "validation and test images" : "these"} the gallery has those that fusion changed most, ${total.labelled ? "the most confident mistakes, " : ""}and a random sample. `;
    }
    if (absent.train) rest += "Of training images the gallery has a random sample and the most doubtful labels. ";
    if (total.labelled) {
      rest += `Of ${counted(total.labelled, "labelled image")}: ${format(total.right)} right, `;
      rest += `${format(total.fixed)} fixed, ${format(total.lost)} lost by fusion. `;
    }
    rest += `${format(total.uncropped)} not cropped.`;
    $("count").replaceChildren(strong, rest);
  }

  // ---- another crop rule, see rule.js ------------------------------------------------------------
  const trial = $("trial") && new Trial($("trial"), data.tasks, palette, gallery, fields);

  // ---- events -----------------------------------------------------------------------------------
  fields.heat.addEventListener("input", setHeat);
  for (const name of ["task", "split"]) fields[name].addEventListener("change", () => trial?.follow());
  // Labels of test images are never doubtful.
  for (const name of ["label", "order"]) fields[name].addEventListener("change", ({ target }) => {
    if (fields.split.value !== "test" || !["suspect", "doubt"].includes(target.value)) return;
    fields.split.value = "";
    trial?.follow();
  });

  const splits = SPLITS.filter((name) => rows.some((row) => row.split === name));
  const labelled = rows.some((row) => row.letters);
  addOptions(fields.split, ["all", ...splits], ["", ...splits]);
  // Filters that could only match all or nothing are hidden.
  fields.split.closest("label").hidden = splits.length < 2;
  fields.verdict.closest("label").hidden = !labelled;
  fields.label.closest("label").hidden = rows.every((row) => row.label === null);
  for (const option of [...fields.fusion.options, ...fields.order.options]) {
    option.hidden = !labelled && ["fixed", "lost", "gain", "loss", "doubt"].includes(option.value);
  }
  filters.reset();

  // ---- an address that ends with #<task>/<image>, as contact sheets have it ------------------------
  function openAddressed() {
    let wanted = "";
    try { wanted = decodeURIComponent(location.hash.slice(1)); } catch { return; }  // not one of ours
    const row = rows.find((row) => `${row.task.name}/${row.name}` === wanted);
    if (!row) return;
    filters.reset();
    fields.split.value = "";
    fields.task.value = row.at;
    filters.fillClasses();
    filter();
    gallery.show(gallery.shown.indexOf(row));
  }
  window.addEventListener("hashchange", openAddressed);
  openAddressed();
})();
