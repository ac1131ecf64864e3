/** How far a row of a certified trace is what a scan of the full run would find. */

import { el, plain, scored } from "./dom.js";

const COUNTS = ["confidence", "rows", "read", "proponents", "opponents"];

/** The sentence of a row's certificate; null where it has none. */
export function certified({ certificate: found }, proponents, opponents) {
  if (!COUNTS.every((name) => Number.isFinite(found?.[name]))) return null;
  const sure = found.confidence === 1 ? "" : `, with probability ${found.confidence}`;
  const read = `${plain(found.read)} of ${plain(found.rows)} rows were read.`;
  if (found.proponents === proponents && found.opponents === opponents) {
    return note(`Certified${sure}: a scan of the full run finds the same; ${read}`);
  }
  const left = [
    typeof found.above === "number" && found.proponents !== proponents ? `above ${scored(found.above)}` : null,
    typeof found.below === "number" && found.opponents !== opponents ? `below ${scored(found.below)}` : null,
  ].filter(Boolean);
  const first = `the first ${plain(found.proponents)} proponents and ${plain(found.opponents)} opponents are certain`;
  return note(`Stopped early${sure}: ${first}, and no other passage scores ${left.join(" or ")}; ${read}`);
}

const note = (text) => el("p", { class: "certificate muted", role: "note" }, text);
