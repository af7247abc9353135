// The gallery of a comparison: images whose fused prediction turned right or wrong from run A to run B.
"use strict";
(() => {
  const data = JSON.parse($("data").textContent);
  const palette = bytes(data.palette);
  const CHANGES = { fixed: "wrong → right", lost: "right → wrong" };
  const FUSED = 2;

  // A row is one image in both runs.
  const rows = data.tasks.flatMap((task, at) => {
    const [a, b] = task.runs.map((run) => openTask(run, at, palette));
    return a.map((first, i) => {
      const runs = [first, b[i]], [before, after] = runs.map((row) => row.p[FUSED][row.truth]);
      // Within one run, fixed and lost are the work of its fusion.
      for (const row of runs) Object.assign(row, { fixed: false, lost: false });
      return { runs, at, change: task.changes[i], class: first.truth, gain: after - before };
    });
  });

  function pairCard(row) {
    const item = make("li"), [a, b] = row.runs;
    const button = make("button", "card " + b.verdict, undefined, { type: "button" });
    const crops = make("span", "panes"), lines = make("span", "branches");
    for (const [i, run] of row.runs.entries()) {
      const crop = cropPane(run);
      crop.append(make("span", "run", data.sides[i]));
      crops.append(crop);
      lines.append(predictionLine(data.sides[i], run, FUSED));
    }
    const up = row.change === "fixed";
    crops.append(make("span", "tag " + (up ? "up" : "down"), `now ${up ? "right" : "wrong"} ${points(row.gain)}`));
    const title = make("span", "headline");
    title.append(make("span", "prediction", a.task.classes[a.truth]), make("span", "truth", a.task.short));
    button.append(crops, title, lines);
    item.append(button);
    return item;
  }

  const gallery = new Gallery({
    card: pairCard,
    title: (row) => `${row.runs[0].task.short}, ${CHANGES[row.change]}`,
    details: (row) => row.runs.map((run, i) => {
      const section = make("section", "of-run"), images = panes(run);
      section.append(make("h3", "", `${data.sides[i]}: ${data.names[i]}`), headline(run), images, shares(run),
        cropNote(run), originalNote(run, images));
      return section;
    }),
  });

  // ---- filters and order ------------------------------------------------------------------------
  function filter() {
    const wanted = Object.fromEntries(new FormData($("tools")));
    const shown = rows.filter((row) =>
      (!wanted.task || row.at === +wanted.task) &&
      (!wanted.change || row.change === wanted.change) &&
      (!wanted.class || row.class === +wanted.class));
    if (wanted.order === "size") shown.sort((a, b) => Math.abs(b.gain) - Math.abs(a.gain));
    showCounts(wanted, shown.length);
    gallery.set(shown);
  }

  function showCounts({ task }, count) {
    const chosen = data.tasks.filter((_, at) => !task || at === +task);
    const sum = (key) => chosen.reduce((total, one) => total + one[key], 0);
    const changed = sum("fixed") + sum("lost"), inGallery = chosen.reduce((n, one) => n + one.changes.length, 0);
    let rest = `. Of ${counted(sum("n"), "common image")}, ${format(sum("fixed"))} changed from wrong to right and `;
    rest += `${format(sum("lost"))} from right to wrong.`;
    if (inGallery < changed) rest += " The page has those that changed most; comparison.json lists all.";
    $("count").replaceChildren(make("b", "", `${format(count)} of ${counted(inGallery, "image")}`), rest);
  }

  new Filters(data.tasks.map((task) => task.runs[0]), filter).reset();
})();
