/** Small plots, drawn as SVG; each is shown beside its numbers. */

import { el, svg } from "./dom.js";

/** A bar in [0, 1] with its interval.  estimate: `{mean, half}`. */
export function bar({ mean, half }) {
  const x = (value) => 100 * Math.min(1, Math.max(0, value));
  return svg(
    "svg",
    { class: "plot bar-plot", viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { class: "track", x: 0, y: 2, width: 100, height: 6 }),
    svg("rect", { class: "value", x: 0, y: 2, width: x(mean), height: 6 }),
    svg("rect", { class: "interval", x: x(mean - half), y: 4, width: x(mean + half) - x(mean - half), height: 2 }),
  );
}

/** Columns of counts under their labels.  title: says in words what the plot shows. */
export function columns(title, labels, counts) {
  const most = Math.max(...counts, 1);
  const step = 300 / counts.length;
  const bars = counts.map((count, n) =>
    svg(
      "rect",
      { class: n === counts.length - 1 ? "miss" : "value", x: n * step + 2, y: 78 - (70 * count) / most, width: step - 4, height: (70 * count) / most },
      svg("title", {}, `${labels[n]}: ${count}`),
    ),
  );
  const names = labels.map((label, n) => svg("text", { x: n * step + step / 2, y: 92, "text-anchor": "middle" }, label));
  return svg("svg", { class: "plot", viewBox: "0 0 300 96", role: "img", "aria-label": title }, bars, names);
}

/** Several distributions over one axis as outlined areas, each scaled to its own greatest count. */
export function areas(title, series, [low, high], format) {
  const outline = (counts) => {
    const most = Math.max(...counts, 1);
    const step = 300 / counts.length;
    return counts.map((count, n) => `H${(n * step).toFixed(1)}V${(78 - (70 * count) / most).toFixed(1)}`).join("");
  };
  return svg(
    "svg",
    { class: "plot", viewBox: "0 0 300 96", role: "img", "aria-label": title },
    series.map(({ name, counts }) => svg("path", { class: `area ${name}`, d: `M0 78${outline(counts)}H300V78Z` })),
    svg("line", { x1: 0, y1: 78, x2: 300, y2: 78 }),
    svg("text", { x: 0, y: 92 }, format(low)),
    svg("text", { x: 300, y: 92, "text-anchor": "end" }, format(high)),
  );
}

/** The names of distributions with their colours. */
export function keyOf(series) {
  return el("p", { class: "key" }, series.map(({ name, label }) => el("span", { class: `swatch ${name}` }, label)));
}
