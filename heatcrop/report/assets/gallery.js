// A gallery: a list that is filled in chunks, a large view, and keys. Each page draws its own cards.
"use strict";
const CHUNK = 12;  // a multiple of 1, 2 and 3 columns, so that no line ends early
const { format } = new Intl.NumberFormat("en");
const counted = (n, noun) => `${format(n)} ${noun}${n === 1 ? "" : "s"}`;
const $ = (id) => document.getElementById(id);

function addOptions(select, texts, values = [...texts.keys()]) {
  texts.forEach((text, i) => select.add(new Option(text, values[i])));
}

// The form of filters: tasks, and the classes of the chosen one. `filter` shows what matches, `reset` gives the
// page's own fields their first values.
class Filters {
  constructor(tasks, filter, reset = () => {}) {
    const form = $("tools"), fields = form.elements;
    Object.assign(this, { form, fields, tasks, filter, resetOwn: reset });
    if (tasks.length !== 1) addOptions(fields.task, ["all"], [""]);
    addOptions(fields.task, tasks.map((task) => task.short));
    $("clear").addEventListener("click", () => this.reset());
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("change", (event) => {
      if (event.target.name === "heat") return;
      if (event.target.name === "task") this.fillClasses();
      filter();
    });
  }

  fillClasses() {
    const { fields } = this, task = this.tasks[fields.task.value];
    fields.class.replaceChildren(new Option(task ? "all" : "pick a task", ""));
    addOptions(fields.class, task ? task.classes : []);
    fields.class.disabled = !task;
  }

  reset() {
    this.form.reset();
    this.fields.task.selectedIndex = 0;
    this.resetOwn();
    this.fillClasses();
    this.filter();
  }
}

class Gallery {
  // `page` has card(row), which returns an item with a button; title(row) and details(row), a list of nodes, of
  // the large view; and comesNear(row), called when a row is about to be seen.
  constructor(page) {
    Object.assign(this, { page, list: $("images"), large: $("large"), shown: [], open: -1 });
    const { list, large } = this;
    // A chunk is filled when it comes near; CSS skips the layout of the others.
    this.nearby = new IntersectionObserver((entries) => {
      for (const { isIntersecting, target } of entries) {
        if (isIntersecting) this.fill(target);
        target.near = isIntersecting;
        if (isIntersecting) target.rows.forEach((row) => page.comesNear?.(row));
        for (const canvas of target.querySelectorAll("canvas")) {
          if (isIntersecting) canvas.paint();
          else canvas.width = canvas.height = 0;  // thousands of painted maps would fill the memory
        }
      }
    }, { rootMargin: "1000px" });
    document.addEventListener("keydown", (event) => this.press(event));
    list.addEventListener("click", (event) => {
      const button = event.target.closest(".card");
      if (button) this.show(this.indexOf(button));
    });
    large.addEventListener("close", () => this.focus(this.open));
    large.addEventListener("click", (event) => { if (event.target === large) large.close(); });
    $("close").addEventListener("click", () => large.close());
    $("previous").addEventListener("click", () => this.show(this.open - 1));
    $("next").addEventListener("click", () => this.show(this.open + 1));
    window.addEventListener("resize", () => this.estimateHeight());
  }

  // Show these rows instead.
  set(rows) {
    const { list, nearby } = this;
    this.shown = rows;
    nearby.disconnect();
    list.replaceChildren();
    for (let from = 0; from < rows.length; from += CHUNK) {
      const chunk = make("ul", "images");
      chunk.from = from;
      list.append(chunk);
      nearby.observe(chunk);
    }
    this.estimateHeight();
    if (rows.length) this.fill(list.firstChild);  // now, so that nothing flickers
    $("empty").hidden = rows.length > 0;
  }

  fill(chunk) {
    if (chunk.firstChild) return;
    chunk.rows = this.shown.slice(chunk.from, chunk.from + CHUNK);
    for (const row of chunk.rows) {
      row.item ||= this.page.card(row);
      chunk.append(row.item);
    }
  }

  // The rows of chunks near the screen, and those of them that are on it.
  near() { return [...this.list.children].filter((chunk) => chunk.near).flatMap((chunk) => chunk.rows); }
  visible() {
    return this.near().filter((row) => {
      const { top, bottom } = row.item.getBoundingClientRect();
      return bottom > 0 && top < innerHeight;
    });
  }

  columns() { return Math.max(1, Math.floor((this.list.clientWidth + 22) / (390 + 22))); }  // as in report.css
  estimateHeight() { this.list.style.setProperty("--lines", CHUNK / this.columns()); }
  indexOf(button) { return this.shown.findIndex((row) => row.item === button.parentNode); }

  focus(index) {
    if (index < 0 || index >= this.shown.length) return;
    this.fill(this.list.children[Math.floor(index / CHUNK)]);
    const button = this.shown[index].item.firstChild;
    button.focus({ preventScroll: true });
    button.scrollIntoView({ block: "nearest" });
  }

  // ---- the large view ---------------------------------------------------------------------------
  show(index) {
    const { shown, large } = this;
    if (index < 0 || index >= shown.length) return;
    this.open = index;
    const row = shown[index], body = $("large-body");
    $("large-title").textContent = `${this.page.title(row)}, ${format(index + 1)} of ${format(shown.length)}`;
    body.replaceChildren(...this.page.details(row));
    for (const canvas of body.querySelectorAll("canvas")) canvas.paint();
    $("previous").disabled = index === 0;
    $("next").disabled = index === shown.length - 1;
    if (!large.open) {
      large.showModal();
      large.focus();  // not the first button, which the space bar would press
    }
    body.scrollTop = large.scrollTop = 0;
  }

  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("select, input, textarea, summary, .trial")) return;
    const step = { j: 1, k: -1, ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const down = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const focused = document.activeElement.closest(".card");
    if (!step && !down) return;
    if (!this.large.open && !focused && !"jk".includes(event.key)) return;
    event.preventDefault();
    if (this.large.open) this.show(this.open + (step || down));
    else this.focus(focused ? this.indexOf(focused) + (step || down * this.columns()) : 0);
  }
}
