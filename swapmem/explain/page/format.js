// Figures as people read them, and elements of the page.

function bytes(size) {
  const units = ["B", "KiB", "MiB", "GiB"];
  for (const unit of units) {
    if (Math.abs(size) < 1024) return unit === "B" ? `${size} B` : `${size.toFixed(1)} ${unit}`;
    size /= 1024;
  }
  return `${size.toFixed(1)} TiB`;
}

function seconds(time) {
  if (Math.abs(time) >= 1) return `${time.toFixed(3)} s`;
  return Math.abs(time) >= 1e-3 ? `${(time * 1e3).toFixed(1)} ms` : `${(time * 1e6).toFixed(0)} \u00b5s`;
}

function share(part) {
  return `${(100 * part).toFixed(part > 0.995 && part < 1 ? 1 : 0)} %`;
}

// An HTML element with properties and children; text is never taken for markup.
function html(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

const SVG = "http://www.w3.org/2000/svg";
function svg(tag, attributes = {}, text = null) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== null) element.textContent = text;
  return element;
}

// Round figures between two values, about `count` of them; a step is 1, 2 or 5 times a power of ten.
function ticks(from, to, count) {
  const rough = Math.max((to - from) / count, 1e-12);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const found = [];
  for (let k = Math.ceil(from / step - 1e-9); k * step <= to * (1 + 1e-9); k++) found.push(k * step);
  return { step, values: found };
}
