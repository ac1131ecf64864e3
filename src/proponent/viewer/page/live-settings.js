/** How a trace is ranked: method, λ, how many; every change is told at once. */

import { el, plain } from "./dom.js";

const STEPS = 300;
const LARGEST = 0.999;
const COUNTS = [5, 10, 20, 50, 100];
const METHODS = {
  trackstar: "TrackStar",
  cosine: "gradient cosine",
  dot: "gradient dot product",
  trak: "TRAK",
};

/** Each third of the slider takes 1 − λ down tenfold: 0, 0.9, 0.99, 0.999. */
const mixAt = (step) => (step >= STEPS ? LARGEST : 1 - 10 ** ((-3 * step) / STEPS));
const stepOf = (mix) => Math.round((STEPS * Math.log10(1 / Math.max(1 - LARGEST, 1 - mix))) / 3);
/** λ with as many digits as tell it from 1. */
export const mixText = (mix) => (mix === 0 ? "0" : plain(mix, mix < 0.9 ? 2 : 3));

/**
 * The controls.  run: as the server tells of it.  changed: called with `{method, mix, k}` when a person
 * changes one.  Returns `{node, get, set}`.
 */
export function liveSettings(run, changed) {
  const tell = () => changed(get());
  const method = el(
    "select",
    { id: "live-method", onchange: () => (showMix(), tell()) },
    run.methods.map((name) => el("option", { value: name }, METHODS[name] ?? name)),
  );
  const counts = [...new Set([...COUNTS.filter((count) => count < run.k_max), run.k_max])].slice(0, COUNTS.length);
  const k = el("select", { id: "live-k", onchange: tell }, counts.map((count) => el("option", { value: count }, plain(count))));
  const slider = el("input", { id: "live-mix", type: "range", min: 0, max: STEPS, step: 1, oninput: () => choose(mixAt(Number(slider.value))) });
  const shown = el("output", { id: "live-mix-value", for: "live-mix" });
  const auto = el("button", { type: "button", class: "live-auto", onclick: () => choose("auto") }, "auto");
  const note = el("p", { class: "muted live-mix-note" });
  let mix = run.task ? "auto" : null;

  function choose(value) {
    mix = value;
    showMix();
    tell();
  }

  function showMix() {
    const mixed = run.mixed_methods.includes(method.value);
    slider.disabled = auto.disabled = !mixed;
    const value = mix === "auto" ? run.mix_default : (mix ?? 0);
    if (mix === "auto" || Number(slider.value) !== stepOf(value)) slider.value = stepOf(value);
    shown.textContent = mixed ? mixText(value) : "–";
    slider.setAttribute("aria-valuetext", mixed ? `lambda ${mixText(value)}${mix === "auto" ? ", automatic" : ""}` : "not used");
    auto.setAttribute("aria-pressed", String(mixed && mix === "auto"));
    note.textContent = noteOn(run, method.value, mixed);
  }

  function get() {
    const mixed = run.mixed_methods.includes(method.value);
    return { method: method.value, mix: mixed ? mix : null, k: Number(k.value) };
  }

  function set(wanted) {
    if (run.methods.includes(wanted.method)) method.value = wanted.method;
    if (run.task && (wanted.mix === "auto" || (wanted.mix >= 0 && wanted.mix < 1 && wanted.mix !== null))) mix = wanted.mix;
    if (counts.includes(Number(wanted.k))) k.value = wanted.k;
    showMix();
  }

  k.value = counts.includes(10) ? 10 : counts.at(-1);
  showMix();
  const node = el(
    "div",
    { class: "live-settings", role: "group", "aria-label": "Ranking" },
    el("div", { class: "live-field" }, el("label", { for: "live-method" }, "Method"), method),
    el(
      "div",
      { class: "live-field live-mix" },
      el("label", { for: "live-mix" }, "Task mix λ"),
      el("div", { class: "live-mix-row" }, slider, shown, auto),
    ),
    el("div", { class: "live-field" }, el("label", { for: "live-k" }, "Passages"), k),
    note,
  );
  return { node, get, set };
}

function noteOn(run, method, mixed) {
  if (mixed) return `λ takes out what the ${plain(run.task_queries)} queries of the task share, such as their template.`;
  if (!run.task) return "Start the viewer with --task QUERIES to mix out what all queries of a task share.";
  return `${METHODS[method] ?? method} has no task mix.`;
}
