// Puts the page together and answers what is clicked on.

const run = JSON.parse(document.getElementById("run").textContent);
const byId = (id) => document.getElementById(id);

// Rows of the file become objects; the file leaves out keys to stay small.
for (const timeline of run.timelines) {
  timeline.ops = timeline.ops.map(([begin, end, op, name, phase, segment]) =>
    ({ kind: "op", begin, end, op, name, phase, segment }));
  for (const [kind, key] of [["out", "outs"], ["in", "ins"]]) {
    timeline[key] = timeline[key].map(([begin, end, row, block, name, size, planned]) =>
      ({ kind, begin, end, row, block, name, bytes: size, planned }));
  }
  timeline.stalls = timeline.stalls.map(([begin, end, op, name, block, cause, why]) =>
    ({ kind: "stall", begin, end, op, name, block, cause, why }));
}

const tip = {
  element: byId("tip"),
  show(event, thing, time) {
    const lines = thing ? this.about(thing) : this.memory(time);
    this.element.textContent = lines.join("\n");
    this.element.hidden = false;
    const { width, height } = this.element.getBoundingClientRect();
    const x = event.clientX + 16 + width > innerWidth ? event.clientX - width - 12 : event.clientX + 16;
    this.element.style.left = `${Math.max(x, 4)}px`;
    this.element.style.top = `${Math.max(Math.min(event.clientY + 14, innerHeight - height - 6), 4)}px`;
  },
  hide() {
    this.element.hidden = true;
  },
  about(thing) {
    const lasted = `${seconds(thing.end - thing.begin)}, from ${seconds(thing.begin)}`;
    if (thing.kind === "op") {
      const what = thing.op === null ? "" : `op ${thing.op}, `;
      return [thing.name, what + thing.phase + (thing.segment ? `, in ${thing.segment}` : ""), lasted];
    }
    if (thing.kind === "stall") return [thing.name || "outside every op", lasted, thing.why];
    const rate = thing.bytes / Math.max(thing.end - thing.begin, 1e-9);
    const way = thing.kind === "out" ? "to the store" : "from the store";
    const lines = [`${thing.name} ${way}`, `${bytes(thing.bytes)} at ${bytes(rate)}/s`, lasted];
    return thing.planned === false ? [...lines, "not planned"] : lines;
  },
  memory(time) {
    const { times, tiers } = shown.memory;
    let low = 0, high = times.length;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (times[middle] <= time) low = middle;
      else high = middle;
    }
    return [`at ${seconds(time)}`, ...tiers.map((tier) => `${tier.name} ${bytes(tier.sizes[low])}`)];
  },
};

const chart = new Chart(byId("chart"), ask, tip);
const table = new BlockTable(byId("blocks"), run.blocks, (block) => askBlock(block.index));
let shown = null;

function show(timeline) {
  shown = timeline;
  for (const button of byId("sources").children) {
    button.setAttribute("aria-pressed", button.textContent === timeline.source);
  }
  const items = shown.memory.tiers.map((tier, i) => [`var(--tier${Math.min(i, 2)})`, tier.label]);
  const phases = ["forward", "backward", "update", "other"];
  const used = phases.filter((phase) => shown.ops.some((op) => op.phase === phase));
  items.push(...used.map((phase) => [`var(--${phase})`, phase]), ["var(--out)", "copy to the store"],
    ["var(--in)", "copy from the store"], ["var(--stall)", "compute waits"]);
  if ([...shown.outs, ...shown.ins].some((copy) => copy.planned === false)) {
    items.push(["none", "copy that was not planned", "unplanned"]);
  }
  byId("legend").replaceChildren(...items.map(([color, text, look = ""]) => {
    const patch = html("i", { className: look });
    patch.style.background = color;
    return html("span", {}, patch, text);
  }));
  chart.chosen = { block: null, ops: new Set(), stall: null };
  chart.show(timeline);
  stallTable(byId("stalls"), timeline, (stall) => {
    const around = Math.max(8 * (stall.end - stall.begin), shown.seconds / 50);
    chart.view(stall.begin - around, stall.end + around);
    ask(stall);
    byId("chart").scrollIntoView({ block: "nearest" });
  });
  ask(null);
}

function link(text, action) {
  const button = html("button", { type: "button" }, text);
  button.addEventListener("click", action);
  return button;
}

function tell(...lines) {
  byId("detail").replaceChildren(...lines.filter(Boolean).map((line) => html("p", {}, ...[line].flat())));
}

function ask(thing) {
  table.mark(null);
  if (thing === null) {
    chart.choose({});
    tell();
  } else if (thing.kind === "op") {
    askOp(thing);
  } else if (thing.kind === "stall") {
    const ops = shown.ops.filter((op) => op.begin <= thing.begin && thing.end <= op.end);
    chart.choose({ stall: thing, block: thing.block, ops: new Set(ops) });
    const block = thing.block === null ? null : ["It waited for ", blockLink(thing.block), "."];
    tell(html("b", {}, `${thing.name || "outside every op"} waited ${seconds(thing.end - thing.begin)}`),
      `${thing.cause}: ${thing.why}`, block);
  } else if (thing.block === null) {
    chart.choose({});
    tell(...tip.about(thing), "The plan does not know this block.");
  } else {
    askBlock(thing.block);
  }
}

function blockLink(index) {
  const block = run.blocks[index];
  return link(`${block.name}, ${bytes(block.bytes)}`, () => askBlock(index));
}

function askOp(op) {
  const touches = op.op === null ? [] : run.touches[op.op];
  chart.choose({ ops: new Set([op]) });
  const links = touches.flatMap((index, i) => (i ? ["; ", blockLink(index)] : [blockLink(index)]));
  const [name, what, lasted] = tip.about(op);
  tell(html("b", {}, name), `${what}; ${lasted}`, links.length ? ["It touches ", ...links, "."] : null);
}

function askBlock(index) {
  const block = run.blocks[index];
  const users = shown.ops.filter((op) => op.op !== null && run.touches[op.op].includes(index));
  const maker = shown.ops.filter((op) => op.op !== null && op.op === block.born);
  chart.choose({ block: index, ops: new Set([...maker, ...users]) });
  table.mark(index);
  const lives = block.lives ? `It lives ${block.lives}.` : "";
  const uses = users.slice(0, 12).flatMap((op, i) =>
    [i ? ", " : "", link(`${op.name} (op ${op.op})`, () => askOp(op))]);
  if (users.length > 12) uses.push(` and ${users.length - 12} more`);
  const copies = [...shown.outs, ...shown.ins].filter((copy) => copy.block === index);
  const moves = copies.map((copy) => `${copy.kind} at ${seconds(copy.begin)} to ${seconds(copy.end)}`);
  tell(html("b", {}, `${block.name}, ${bytes(block.bytes)}`),
    block.reason ? `${block.decision}: ${block.reason}` : block.decision, lives,
    uses.length ? ["Touched by ", ...uses, "."] : "No later op touches it.",
    moves.length ? `Copied ${moves.join("; ")}.` : "It is not copied in this iteration.");
}

byId("tiles").append(...run.tiles.map(([label, value, note]) =>
  html("div", { className: "tile" }, html("span", {}, label), html("b", {}, value), html("span", {}, note))));
byId("sources").append(...run.timelines.map((timeline) => {
  const button = html("button", { type: "button" }, timeline.source);
  button.addEventListener("click", () => show(timeline));
  return button;
}));
byId("zoom-in").addEventListener("click", () => chart.zoom(0.5));
byId("zoom-out").addEventListener("click", () => chart.zoom(2));
byId("zoom-all").addEventListener("click", () => chart.view(0, shown.seconds));
iterationBars(byId("iterations"), run.iterations.seconds, run.iterations.shown,
  run.iterations.planned, run.iterations.bound);
show(run.timelines[0]);
document.body.dataset.ready = "yes";
