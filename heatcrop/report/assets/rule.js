// Try another crop rule: controls, a table of what it changes, and the command that applies it.
"use strict";
const CONTROLS = ["threshold", "margin", "prior_weight", "by", "invisible"];

// In the shell, and numbers as YAML 1.1 knows them: 1.0e-7 is a number, 1e-7 is text.
const quoted = (text) => (/^[\w./=:@%+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
const yaml = (value) => JSON.stringify(value).replace(/([[:,]-?\d)e-/g, "$1.0e-");

// The folder above the page's: it may have been moved since the page was written.
function runFolder() {
  let path = location.pathname;
  try { path = decodeURIComponent(path); } catch { /* a name that is not in UTF-8 */ }
  path = path.replace(/^\/(?=[A-Za-z]:)/, "");
  return path.split("/").slice(0, -2).join("/");
}

function commandOf({ name, section, rule, first }) {
  const settings = ({ zoom, ...others }) => Object.fromEntries(Object.entries(others).filter(([, v]) => v !== null));
  const crop = { zoom: rule.zoom, rule: settings(rule), first: rule.zoom && first ? settings(first) : null };
  const words = ["--config", `${runFolder()}/config.yaml`, "--out", runFolder(), "--task", name];
  words.push("--set", `tasks=${yaml({ [section]: { crop } })}`);
  return ["python pipeline.py stage crop", ...words.map(quoted)].join(" ");
}

const contains = ([x0, y0, x1, y1], [a, b, c, d]) => x0 <= a && y0 <= b && x1 >= c && y1 >= d;

// Count what the rule of a task does to some of its rows.
function effects(rows, crops) {
  const known = rows.filter((row) => row.region);
  return {
    n: rows.length,
    known: known.length,
    moved: rows.filter((row) => isMoved(row, crops(row))).length,
    uncropped: rows.filter((row) => !isCropped(crops(row).fallback)).length,
    inside: known.filter((row) => contains(crops(row).box, row.region)).length,
  };
}

// Let a filter act as if it had been changed by hand.
const announce = (filter) => filter.dispatchEvent(new Event("change", { bubbles: true }));

class Trial {
  // `filters` are the fields of the gallery's form.
  constructor(section, tasks, palette, gallery, filters) {
    Object.assign(this, { tasks, palette, gallery, filters, fields: section.querySelector("form").elements, choice: 0 });
    this.body = section.querySelector("tbody");
    this.lines = tasks.map((task, at) => {
      const line = this.body.insertRow(), name = make("th", "", task.short, { scope: "row" });
      line.append(name, ...["moved", "uncropped", "inside"].map(() => make("td")));
      line.onclick = () => this.choose(at);
      return line;
    });
    tasks.forEach(({ short }, at) => this.fields.of.add(new Option(short, at)));
    this.fields.of.closest("label").hidden = tasks.length < 2;
    section.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
    this.fields.of.addEventListener("change", () => this.choose(+this.fields.of.value));
    for (const name of CONTROLS) this.fields[name].addEventListener("input", () => this.change(name));
    this.fields.restore.addEventListener("click", () => this.set(this.task.run));
    this.fields.copy.addEventListener("click", () => this.copy());
  }

  get task() { return this.tasks[this.choice]; }

  choose(at) {
    this.filters.task.value = at;
    announce(this.filters.task);
  }

  // The gallery's filters have changed.
  follow() {
    if (this.filters.task.value !== "") this.choice = +this.filters.task.value;
    this.show();
    this.tasks.forEach((_, at) => this.count(at));
  }

  show() {
    const { fields, task } = this, { rule } = task;
    fields.of.value = this.choice;
    for (const name of CONTROLS) fields[name].value = rule[name];
    fields.prior_weight.disabled = !rule.prior;
    fields.invisible.disabled = !task.invisible;
    fields.invisible.querySelector("[value=usual]").disabled = !rule.usual;
    fields.restore.disabled = fields.copy.disabled = rule === task.run;
    for (const name of ["threshold", "margin", "prior_weight"]) {
      const percent = name !== "prior_weight";
      fields[name + "_value"].value = percent ? Math.round(100 * rule[name]) + "%" : String(rule[name]);
    }
    fields.command.value = rule === task.run ? "" : commandOf(task);
    fields.command.hidden = rule === task.run;
    fields.copy.textContent = "Copy the command";
    document.getElementById("zoom-note").hidden = !rule.zoom;
    this.lines.forEach((line, at) => line.classList.toggle("chosen", at === this.choice));
  }

  change(name) {
    const { rule } = this.task, { value, type } = this.fields[name];
    const tried = { ...rule, enabled: true, [name]: type === "range" ? +value : value };
    if (rule.place === "fixed") tried.place = "heatmap";  // else no control would change anything
    this.set(tried);
  }

  set(rule) {
    const { task } = this;
    task.rule = rule;
    task.version++;
    task.colours = heatColours(this.palette, rule.threshold);
    this.show();
    this.gallery.visible().forEach(redraw);  // the others when they come near
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => {
      this.gallery.near().forEach(redraw);
      this.count(this.choice);
    }, 30);
  }

  // Count in steps, so that the controls stay fluid; a newer count of the task replaces an older one.
  async count(at) {
    const task = this.tasks[at], split = this.filters.split.value, number = (task.counting = (task.counting || 0) + 1);
    const rows = task.rows.filter((row) => !split || row.split === split);
    if (task.rule !== task.run) {
      for (let i = 0, began = performance.now(); i < rows.length; i++) {
        cropOf(rows[i]);
        if (performance.now() - began < 12) continue;
        await new Promise((done) => setTimeout(done));
        if (task.counting !== number) return;
        began = performance.now();
      }
    }
    const tried = task.rule !== task.run, was = effects(rows, (row) => row);
    const now = tried ? effects(rows, cropOf) : was;
    let changed = false;
    for (const row of task.rows) {
      const moved = tried && (!split || row.split === split) && isMoved(row, cropOf(row));
      changed ||= moved !== Boolean(row.moved);
      row.moved = moved;
    }
    const share = (part, all) => (all ? `${Math.round((100 * part) / all)}%` : "–");
    const [, moved, uncropped, inside] = this.lines[at].cells;
    moved.textContent = tried ? `${now.moved} of ${now.n}` : "–";
    const change = (cell, key, all) => {
      const before = share(was[key], all), after = share(now[key], all);
      cell.replaceChildren(before === after ? before : `${before} → `, before === after ? "" : make("b", "", after));
    };
    change(uncropped, "uncropped", now.n);
    change(inside, "inside", now.known);
    if (changed && this.filters.crop.value === "moved") announce(this.filters.crop);
  }

  async copy() {
    const { command, copy } = this.fields;
    try {
      await navigator.clipboard.writeText(command.value);
    } catch {  // not allowed: the text is selected, for Ctrl+C
      command.select();
      document.execCommand("copy");
    }
    copy.textContent = "Copied";
  }
}
