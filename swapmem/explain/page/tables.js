// Tables of stalls and of blocks, and the bars of iterations.

const PAGE_ROWS = 25;

function row(cells, choose) {
  const line = html("tr", { tabIndex: 0 });
  for (const cell of cells) {
    const { look = "", node = cell } = cell && cell.node !== undefined ? cell : {};
    line.append(html("td", { className: look }, node));
  }
  line.addEventListener("click", choose);
  line.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      choose();
    }
  });
  return line;
}

const figure = (text) => ({ look: "figure", node: text });

function stallTable(place, timeline, choose) {
  place.replaceChildren();
  if (!timeline.longest.length) {
    place.append(html("p", { className: "note" }, "Compute never waited."));
    return;
  }
  const body = html("tbody");
  timeline.longest.forEach((i, rank) => {
    const stall = timeline.stalls[i];
    const name = stall.op === null ? stall.name : `${stall.name} (op ${stall.op})`;
    const cells = [figure(`${rank + 1}`), figure(seconds(stall.end - stall.begin)),
      figure(seconds(stall.begin)), { look: "op", node: name || "outside every op" },
      { look: "op", node: stall.cause }, stall.why];
    body.append(row(cells, () => choose(stall)));
  });
  const titles = ["", "waited", "at", "op", "cause", "why"];
  const head = html("tr", {}, ...titles.map((title, i) =>
    html("th", { className: i < 3 ? "figure" : "" }, title)));
  place.append(html("table", {}, html("thead", {}, head), body));
  const count = timeline.stalls.length;
  if (count > timeline.longest.length) {
    place.append(html("p", { className: "note" }, `${count} stalls in all, ${seconds(timeline.waited)}.`));
  }
}

class BlockTable {
  constructor(place, blocks, choose) {
    this.place = place;
    this.blocks = blocks;
    this.choose = choose;
    this.decision = null;
    this.search = "";
    this.order = { key: "bytes", down: true };
    this.shown = PAGE_ROWS;
    this.chosen = null;
    this.controls();
    this.draw();
  }

  controls() {
    const usual = ["swapped", "recomputed", "kept", "not eligible"];
    const kinds = new Map(usual.map((kind) => [kind, 0]));
    for (const block of this.blocks) kinds.set(block.decision, (kinds.get(block.decision) || 0) + 1);
    const some = [...kinds].filter(([, count]) => count > 0);
    const buttons = [[null, this.blocks.length], ...some].map(([kind, count]) => {
      const button = html("button", { type: "button" }, `${kind === null ? "all" : kind} ${count}`);
      button.setAttribute("aria-pressed", kind === this.decision);
      button.addEventListener("click", () => {
        for (const other of buttons) other.setAttribute("aria-pressed", other === button);
        this.change({ decision: kind });
      });
      return button;
    });
    document.getElementById("decisions").append(...buttons);
    const input = document.getElementById("search");
    input.addEventListener("input", () => this.change({ search: input.value.toLowerCase() }));
  }

  change(what) {
    Object.assign(this, { shown: PAGE_ROWS }, what);
    this.draw();
  }

  found() {
    const { key, down } = this.order;
    const list = this.blocks.filter((block) =>
      (this.decision === null || block.decision === this.decision) &&
      (block.name + " " + block.reason).toLowerCase().includes(this.search));
    const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b) : a - b);
    return list.sort((a, b) => (down ? -1 : 1) * compare(a[key], b[key]) || a.index - b.index);
  }

  draw() {
    const list = this.found();
    const total = list.reduce((sum, block) => sum + block.bytes, 0);
    document.getElementById("count").textContent =
      `${list.length} blocks, together ${bytes(total)}`;
    const body = html("tbody");
    for (const block of list.slice(0, this.shown)) {
      const tag = html("span", { className: `tag ${block.decision.split(" ")[0]}` }, block.decision);
      const cells = [block.name, figure(bytes(block.bytes)), tag, block.reason,
        figure(block.moved ? bytes(block.moved) : ""), figure(block.waited ? seconds(block.waited) : "")];
      const line = row(cells, () => this.choose(block));
      line.dataset.block = block.index;
      if (block.index === this.chosen) line.className = "chosen";
      body.append(line);
    }
    this.place.replaceChildren(html("table", {}, html("thead", {}, this.head()), body));
    if (list.length > this.shown) {
      const more = html("button", { type: "button" }, `show ${list.length - this.shown} more`);
      more.addEventListener("click", () => this.change({ shown: list.length }));
      this.place.append(html("div", { className: "choice more" }, more));
    }
  }

  head() {
    const columns = [["name", "block"], ["bytes", "size"], ["decision", ""], ["reason", "because"],
      ["moved", "copied"], ["waited", "waited for"]];
    return html("tr", {}, ...columns.map(([key, title]) => {
      const mark = this.order.key === key ? (this.order.down ? " \u25be" : " \u25b4") : "";
      const button = html("button", { type: "button" }, (title || "decision") + mark);
      button.addEventListener("click", () => {
        const down = this.order.key === key ? !this.order.down : key !== "name" && key !== "reason";
        this.change({ order: { key, down } });
      });
      return html("th", { className: ["bytes", "moved", "waited"].includes(key) ? "figure" : "" }, button);
    }));
  }

  mark(index) {
    this.chosen = index;
    for (const line of this.place.querySelectorAll("tbody tr")) {
      line.className = Number(line.dataset.block) === index ? "chosen" : "";
    }
  }
}

function iterationBars(place, times, shown, planned, bound) {
  if (!times.length) {
    place.append(html("p", { className: "note" }, "No events were kept of this run."));
    return;
  }
  const height = 90, wide = Math.max(6, Math.min(40, 900 / times.length));
  const most = Math.max(...times, planned || 0) * 1.05, width = wide * times.length + 80;
  const picture = svg("svg", { height: height + 24, viewBox: `0 0 ${Math.max(width, 960)} ${height + 24}`,
    preserveAspectRatio: "xMinYMin meet" });
  times.forEach((time, i) => {
    const tall = (time / most) * height;
    const bar = svg("rect", { x: i * wide + 70, y: height - tall, width: wide * 0.8, height: tall,
      class: i === shown ? "forward" : "tier0" });
    bar.append(svg("title", {}, `iteration ${i}: ${seconds(time)}`));
    picture.append(bar);
  });
  for (const [time, text] of [[planned, "planned"], [bound, "bound"]]) {
    if (!time) continue;
    const y = height * (1 - time / most);
    picture.append(svg("line", { class: "budget", x1: 70, x2: 70 + wide * times.length, y1: y, y2: y }));
    if (text === "bound" && Math.abs(time - planned) < most * 0.12) continue;
    const at = { x: 64, y: y + 4, class: "quiet", "text-anchor": "end" };
    picture.append(svg("text", at, text));
  }
  const range = `${times.length} iterations, ${seconds(Math.min(...times))} to ${seconds(Math.max(...times))}; `;
  const which = shown === null ? "" : `the timeline shows number ${shown}, the dark one.`;
  place.append(picture, html("p", { className: "note" }, range + which));
}
