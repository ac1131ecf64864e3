/** One query as a row of the list. */

import { el, show } from "./dom.js";
import { modelIsRight } from "./library.js";
import { firstGold } from "./metrics.js";

function goldMark(rank) {
  if (rank === null) return null;
  const text = rank ? `#${rank}` : "–";
  return el("span", { class: rank === 1 ? "mini top" : rank ? "mini" : "mini missed" }, text);
}

function goldWords(ranks) {
  const words = ranks.map((rank) => (rank ? `rank ${rank}` : "not retrieved"));
  return words.length ? el("span", { class: "visually-hidden" }, `, gold ${words.join(", ")}`) : null;
}

/** Draw a query into its row.  shown: the files whose ranks of gold it shows. */
export function drawOption(query, shown, node) {
  const ranks = shown.map((file) => firstGold(query.rows[file.index])).filter((rank) => rank !== null);
  const right = modelIsRight(query);
  show(
    node,
    el("span", { class: "line prompt-line" }, el("bdi", {}, query.prompt)),
    el(
      "span",
      { class: "line" },
      el("span", { class: "target-line" }, el("bdi", {}, query.target)),
      right === false ? el("span", { class: "mini wrong" }, "✗ wrong") : null,
      el("span", { class: "ranks", "aria-hidden": "true" }, ranks.map(goldMark)),
      goldWords(ranks),
    ),
  );
}
