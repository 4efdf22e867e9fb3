// The timeline: memory by tier above, lanes of compute, copies and stalls below.

const LEFT = 112, RIGHT = 14, MEMORY = 230, GAP = 22, AXIS = 26, TOP = 10;

class Chart {
  constructor(place, ask, tip) {
    this.place = place;
    this.ask = ask;
    this.tip = tip;
    this.chosen = { block: null, ops: new Set(), stall: null };
    this.svg = svg("svg", { role: "img" });
    place.append(this.svg);
    this.listen();
    new ResizeObserver(() => this.draw()).observe(place);
  }

  show(timeline) {
    this.timeline = timeline;
    this.view(0, timeline.seconds);
  }

  view(from, to) {
    const whole = this.timeline.seconds;
    const width = Math.min(Math.max(to - from, whole * 1e-5), whole);
    this.from = Math.min(Math.max(from, 0), whole - width);
    this.to = this.from + width;
    this.draw();
  }

  zoom(factor, around = (this.from + this.to) / 2) {
    this.view(around - (around - this.from) * factor, around + (this.to - around) * factor);
  }

  move(part) {
    const by = (this.to - this.from) * part;
    this.view(this.from + by, this.to + by);
  }

  choose(chosen) {
    this.chosen = { block: null, ops: new Set(), stall: null, ...chosen };
    this.draw();
  }

  x(time) {
    return LEFT + ((time - this.from) / (this.to - this.from)) * this.width;
  }

  time(x) {
    return this.from + ((x - LEFT) / this.width) * (this.to - this.from);
  }

  draw() {
    if (!this.timeline) return;
    const all = this.place.clientWidth;
    this.width = Math.max(all - LEFT - RIGHT, 50);
    const asking = this.chosen.block !== null || this.chosen.ops.size || this.chosen.stall !== null;
    this.svg.setAttribute("class", asking ? "asking" : "");
    this.svg.replaceChildren(this.clip());
    this.inside = svg("g", { "clip-path": "url(#plot)" });
    this.labels = svg("g");
    this.svg.append(this.inside, this.labels);
    this.memory();
    const bottom = this.lanes(TOP + MEMORY + GAP);
    this.bands(bottom);
    this.axis(bottom);
    this.cursor = svg("line", { class: "cursor", y1: TOP, y2: bottom, visibility: "hidden" });
    this.brush = svg("rect", { class: "brush", y: TOP, height: bottom - TOP, visibility: "hidden" });
    this.svg.append(this.cursor, this.brush);
    this.svg.setAttribute("height", bottom + AXIS + 18);
    this.svg.querySelector("#plot rect").setAttribute("height", bottom);
  }

  clip() {
    const clip = svg("clipPath", { id: "plot" });
    clip.append(svg("rect", { x: LEFT, y: 0, width: this.width, height: 10 }));
    return clip;
  }

  memory() {
    const { times, tiers, budget } = this.timeline.memory;
    const tops = tiers[0].sizes.map(() => 0);
    const layers = tiers.map((tier) => tier.sizes.map((size, i) => (tops[i] += size)));
    const most = Math.max(...tops, budget || 0, 1) * 1.06;
    const y = (size) => TOP + MEMORY * (1 - size / most);
    const unit = most >= 4 * 2 ** 30 ? 2 ** 30 : 2 ** 20;
    for (const value of ticks(0, most / unit, 5).values) {
      const at = y(value * unit);
      this.inside.append(svg("line", { class: "grid", x1: LEFT, x2: LEFT + this.width, y1: at, y2: at }));
      this.label(LEFT - 8, at + 4, `${value} ${unit === 2 ** 30 ? "GiB" : "MiB"}`, "quiet");
    }
    // The highest layer first: each covers what lies below it.
    for (let k = layers.length - 1; k >= 0; k--) {
      const path = this.area(times, layers[k], y);
      this.inside.append(svg("path", { class: `tier${Math.min(k, 2)}`, d: path }));
    }
    if (budget !== null) {
      const at = y(budget);
      this.inside.append(svg("line", { class: "budget", x1: LEFT, x2: LEFT + this.width, y1: at, y2: at }));
      const text = svg("text", { x: LEFT + 6, y: at - 6, id: "budget" }, `budget ${bytes(budget)}`);
      this.inside.append(text);
    }
    this.svg.append(svg("rect", { class: "frame", x: LEFT, y: TOP, width: this.width, height: MEMORY }));
  }

  // Steps; of several in one pixel the highest.
  area(times, sizes, y) {
    let first = 0;
    while (first + 1 < times.length && times[first + 1] <= this.from) first++;
    let path = `M${LEFT} ${y(0)}`, column = LEFT, top = sizes[first];
    for (let i = first + 1; i < times.length && times[i] < this.to; i++) {
      const x = Math.floor(this.x(times[i]) * 2) / 2;
      if (x > column) {
        path += `L${column} ${y(top).toFixed(1)}H${x}`;
        if (top !== sizes[i - 1]) path += `V${y(sizes[i - 1]).toFixed(1)}`;
        column = x;
        top = sizes[i];
      } else {
        top = Math.max(top, sizes[i]);
      }
    }
    const end = LEFT + this.width;
    return `${path}L${column} ${y(top).toFixed(1)}H${end}V${y(0)}Z`;
  }

  lanes(y) {
    const { ops, outs, ins, stalls } = this.timeline;
    this.label(LEFT - 8, y + 21, "compute");
    this.bars(ops, y, 34, 1, (op, i) => [op.phase + (i % 2 ? " odd" : ""), "op"], (op) => op.name);
    this.waits(y, 34);
    y += 46;
    for (const [label, kind, copies] of [["out", "out", outs], ["in", "in", ins]]) {
      const count = copies.reduce((most, copy) => Math.max(most, copy.row + 1), 1);
      const height = Math.min(Math.max(28, 9 * count), 110);
      this.label(LEFT - 8, y + height / 2 + 4, `copies ${label}`);
      const mark = (copy) => [kind + (copy.planned === false ? " unplanned" : ""), kind];
      this.bars(copies, y, height, count, mark, () => "");
      y += height + 12;
    }
    y += 8;
    this.label(LEFT - 8, y + 16, "stalls");
    this.bars(stalls, y, 22, 1, () => ["stall", "stall"], () => "");
    this.numbers(y - 3);
    return y + 30;
  }

  // What is narrower than a pixel is drawn as wide as one, and only the first of those in a pixel.
  bars(things, y, height, rows, mark, name) {
    const tall = height / rows;
    const drawn = new Array(rows).fill(-Infinity);
    things.forEach((thing, i) => {
      if (thing.end <= this.from || thing.begin >= this.to) return;
      const x = this.x(thing.begin), wide = Math.max(this.x(thing.end) - x, 1), row = thing.row || 0;
      const chosen = this.isChosen(thing);
      if (!chosen && x + wide < drawn[row] + 0.75) return;
      drawn[row] = x + wide;
      const [look, kind] = mark(thing, i);
      this.inside.append(svg("rect", {
        x: x.toFixed(2), y: (y + row * tall).toFixed(1), width: wide.toFixed(2),
        height: Math.max(tall - (rows > 1 ? 1 : 0), 1).toFixed(1),
        class: look + (chosen ? " chosen" : ""), "data-kind": kind, "data-i": i,
      }));
      const text = name(thing);
      if (text && wide > 6.2 * text.length + 8) {
        const middle = (Math.max(x, LEFT) + Math.min(x + wide, LEFT + this.width)) / 2;
        const at = { class: "name", x: middle, y: y + height / 2 + 4, "text-anchor": "middle" };
        this.inside.append(svg("text", at, text));
      }
    });
  }

  isChosen(thing) {
    const { block, ops, stall } = this.chosen;
    if (thing.kind === "stall") return thing === stall || (block !== null && thing.block === block);
    if (thing.kind === "op") return ops.has(thing);
    return block !== null && thing.block === block;
  }

  waits(y, height) {
    for (const [begin, end] of this.timeline.waits) {
      if (end <= this.from || begin >= this.to) continue;
      const x = this.x(begin), width = Math.max(this.x(end) - x, 0.5);
      this.inside.append(svg("rect", { class: "waiting", x, y, width, height }));
    }
  }

  bands(bottom) {
    for (const [begin, end] of this.timeline.waits) {
      if (end <= this.from || begin >= this.to) continue;
      const x = this.x(begin), width = Math.max(this.x(end) - x, 0.5);
      this.inside.append(svg("rect", { class: "band", x, y: TOP, width, height: bottom - TOP }));
    }
  }

  // The longest stalls, numbered as in the table; where they are too close, the longest one.
  numbers(y) {
    const taken = [];
    this.timeline.longest.forEach((i, rank) => {
      const stall = this.timeline.stalls[i], x = this.x((stall.begin + stall.end) / 2);
      if (x < LEFT || x > LEFT + this.width || taken.some((other) => Math.abs(other - x) < 13)) return;
      taken.push(x);
      this.inside.append(svg("text", { class: "number", x, y, "text-anchor": "middle" }, `${rank + 1}`));
    });
  }

  axis(y) {
    const { step, values } = ticks(this.from, this.to, Math.max(this.width / 110, 2));
    const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    this.svg.append(svg("line", { class: "frame", x1: LEFT, x2: LEFT + this.width, y1: y, y2: y }));
    for (const value of values) {
      const x = this.x(value);
      this.svg.append(svg("line", { class: "frame", x1: x, x2: x, y1: y, y2: y + 5 }));
      const at = { class: "quiet", x, y: y + 18, "text-anchor": "middle" };
      this.svg.append(svg("text", at, value.toFixed(digits)));
    }
    const at = { class: "quiet", x: LEFT + this.width / 2, y: y + 36, "text-anchor": "middle" };
    this.svg.append(svg("text", at, `seconds since the iteration began, ${this.timeline.source}`));
  }

  label(x, y, text, look = "") {
    this.labels.append(svg("text", { x, y, class: look, "text-anchor": "end" }, text));
  }

  thing(element) {
    const { kind, i } = element.dataset || {};
    const lists = { op: "ops", out: "outs", in: "ins", stall: "stalls" };
    return kind ? this.timeline[lists[kind]][Number(i)] : null;
  }

  listen() {
    let pressed = null;
    const at = (event) => {
      const x = event.clientX - this.svg.getBoundingClientRect().left;
      return Math.min(Math.max(x, LEFT), LEFT + this.width);
    };
    this.svg.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      pressed = { x: at(event), target: event.target };
      this.svg.setPointerCapture(event.pointerId);
    });
    this.svg.addEventListener("pointermove", (event) => {
      const x = at(event);
      this.cursor.setAttribute("visibility", "visible");
      this.cursor.setAttribute("x1", x);
      this.cursor.setAttribute("x2", x);
      if (pressed) {
        this.brush.setAttribute("visibility", Math.abs(x - pressed.x) > 4 ? "visible" : "hidden");
        this.brush.setAttribute("x", Math.min(x, pressed.x));
        this.brush.setAttribute("width", Math.abs(x - pressed.x));
        this.tip.hide();
      } else {
        this.tip.show(event, this.thing(event.target), this.time(x));
      }
    });
    this.svg.addEventListener("pointerup", (event) => {
      if (!pressed) return;
      const { x, target } = pressed, end = at(event);
      pressed = null;
      this.brush.setAttribute("visibility", "hidden");
      if (Math.abs(end - x) > 4) this.view(...[this.time(x), this.time(end)].sort((a, b) => a - b));
      else if (target.dataset.kind) this.ask(this.thing(target));
    });
    this.svg.addEventListener("pointerleave", () => {
      this.tip.hide();
      this.cursor.setAttribute("visibility", "hidden");
    });
    this.svg.addEventListener("dblclick", () => this.view(0, this.timeline.seconds));
    this.place.addEventListener("keydown", (event) => {
      const keys = {
        "+": () => this.zoom(0.5), "=": () => this.zoom(0.5), "-": () => this.zoom(2),
        0: () => this.view(0, this.timeline.seconds), Escape: () => this.ask(null),
        ArrowLeft: () => this.move(-0.25), ArrowRight: () => this.move(0.25),
      };
      if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      keys[event.key]();
    });
  }
}
