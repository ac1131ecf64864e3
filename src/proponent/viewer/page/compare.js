/** Several methods side by side for one query, with the passages that more than one retrieved linked. */

import { counted, el, show, svg } from "./dom.js";
import { goldIds, termsOfQuery } from "./library.js";
import { methodLine } from "./method.js";
import { firstGold } from "./metrics.js";
import { largestScore, passageCard } from "./results.js";
import { passagesOf } from "./row.js";

/** The rank of a file's first gold proponent, in words. */
export function goldInWords(row) {
  const rank = row ? firstGold(row) : null;
  if (rank === null) return "not judged";
  return rank ? `gold at rank ${rank}` : "no gold";
}

/** A file's name without what all result files end in. */
export function shortName(name) {
  return name.replace(/\.jsonl(\.gz|\.zst)?$/, "");
}

/** The card of a passage in another column: scrolled to, focused and lit for a moment. */
function goTo(card) {
  card.scrollIntoView({ block: "center", behavior: "auto" });
  card.focus({ preventScroll: true });
}

function linkTo(element, passage, other, columns) {
  const match = other.passages.find(({ id }) => id === passage.id);
  if (!match) return null;
  const label = `also at rank ${match.rank} in ${shortName(other.file.name)}`;
  return el(
    "button",
    {
      type: "button",
      class: "also",
      title: label,
      "aria-label": label,
      onclick: () => goTo(element.querySelector(`[data-column="${other.number}"] [data-rank="${match.rank}"]`)),
    },
    `⇄ #${match.rank}${columns > 2 ? ` ${shortName(other.file.name)}` : ""}`,
  );
}

function card(element, column, columns, passage, context) {
  const links = columns
    .filter((other) => other !== column)
    .map((other) => linkTo(element, passage, other, columns.length));
  const made = passageCard(passage, { ...context, largest: column.largest }, ...links);
  made.dataset.rank = passage.rank;
  if (links.some(Boolean)) made.classList.add("shared");
  const light = (on) => {
    for (const same of element.querySelectorAll(".passage.shared, path")) {
      same.classList.toggle("lit", on && same.dataset.id === passage.id);
    }
  };
  made.addEventListener("pointerenter", () => light(true));
  made.addEventListener("pointerleave", () => light(false));
  made.addEventListener("focusin", () => light(true));
  made.addEventListener("focusout", () => light(false));
  return made;
}

function columnOf(file, number, row, role, known) {
  const passages = row ? passagesOf(row, role, known) : [];
  return { file, number, row, role, passages, largest: largestScore(passages) };
}

function columnElement(element, column, columns, context) {
  const { file, row, role, passages } = column;
  const shared = passages.filter(({ id }) => columns.some((c) => c !== column && c.passages.some((p) => p.id === id)));
  const facts = [goldInWords(row), `${counted(shared.length, "passage")} shared`];
  const nothing = row ? `This file holds no ${role}s.` : "This file does not have this query.";
  return el(
    "section",
    { class: "column", "aria-label": shortName(file.name), "data-column": column.number },
    el("h3", {}, shortName(file.name), el("span", { class: "muted" }, ` ${facts.join(" · ")}`)),
    methodLine(row ?? file),
    passages.length
      ? el("ol", { class: "passages" }, passages.map((passage) => card(element, column, columns, passage, context)))
      : el("p", { class: "muted empty" }, nothing),
  );
}

/** Curves from each shared passage to the same one in the next column; the buttons say so in words. */
function drawCurves(grid, columns) {
  const lines = grid.querySelector("svg.links");
  const box = grid.getBoundingClientRect();
  lines.setAttribute("width", box.width);
  lines.setAttribute("height", box.height);
  const wide = getComputedStyle(grid).gridTemplateColumns.split(" ").length > 1;
  const paths = columns.slice(1).flatMap((right) => {
    const left = columns[right.number - 1];
    return left.passages.flatMap((passage) => {
      const twin = right.passages.find(({ id }) => id === passage.id);
      return twin && wide ? [curve(grid, box, [left.number, passage.rank], [right.number, twin.rank], passage)] : [];
    });
  });
  show(lines, paths);
}

function curve(grid, box, from, to, passage) {
  const at = ([column, rank]) => grid.querySelector(`[data-column="${column}"] [data-rank="${rank}"]`).getBoundingClientRect();
  const [one, other] = [at(from), at(to)];
  const [x, y] = [one.right - box.left, one.top - box.top + 22];
  const [toX, toY] = [other.left - box.left, other.top - box.top + 22];
  const bend = (toX - x) * 0.6;
  return svg("path", {
    d: `M${x} ${y}C${x + bend} ${y} ${toX - bend} ${toY} ${toX} ${toY}`,
    class: passage.gold ? "gold" : null,
    "data-id": passage.id,
  });
}

let observer = null;

/** Fill an element with one query's passages of several files.  role: "proponent" or "opponent". */
export function showComparison(library, query, shown, element, { role, tokens }) {
  const { terms } = termsOfQuery(library, query);
  const known = goldIds(query);
  const columns = shown.map((file, n) => columnOf(file, n, query.rows[file.index], role, known));
  const grid = el("div", { class: "columns compared" });
  grid.style.setProperty("--columns", columns.length);
  grid.append(svg("svg", { class: "links", "aria-hidden": "true" }));
  for (const column of columns) grid.append(columnElement(grid, column, columns, { terms, tokens }));
  show(element, grid);
  observer?.disconnect();
  observer = new ResizeObserver(() => drawCurves(grid, columns));
  observer.observe(grid);
}
