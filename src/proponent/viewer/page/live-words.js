/** What the model would say: a list of words and names with bars of their probability. */

import { el, plain } from "./dom.js";
import { textNodes } from "./passage.js";

const RARE = 0.001;
const AT_LEAST = 3;

/** A share in percent, with more digits where it is small. */
export function percent(share) {
  const value = 100 * share;
  return value > 0 && value < 0.01 ? "under 0.01%" : `${plain(value, value < 1 ? 2 : value < 99.95 ? 1 : 0)}%`;
}

/**
 * A list of continuations.  chosen: called with the text of the one to trace.  added: called with the
 * text of the one to put behind the prompt.
 */
export function wordList(continuations, chosen, added) {
  const kept = continuations.filter(({ probability }, place) => place < AT_LEAST || probability >= RARE);
  return el(
    "ol",
    { class: "live-words" },
    kept.map(({ text, probability }) => {
      const word = el(
        "button",
        { type: "button", class: "live-word", onclick: () => chosen(text) },
        el("span", { class: "visually-hidden" }, "Trace "),
        el("bdi", {}, textNodes(text)),
        el("span", { class: "live-share" }, percent(probability)),
      );
      word.style.setProperty("--part", `${(100 * probability).toFixed(2)}%`);
      const add = el("button", { type: "button", class: "icon live-add", title: "Put it behind the prompt and ask again", onclick: () => added(text) }, "+");
      add.setAttribute("aria-label", `Put “${text}” behind the prompt and ask again`);
      return el("li", {}, word, add);
    }),
  );
}
