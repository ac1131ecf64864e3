/** Older names of fields in the paper's files: the page knows the newer ones only. */

/** Each older name with what the field is called now; the library has the same table. */
export const OLDER_NAMES = Object.freeze({
  trex_id: "fact_id",
  temperature_samples: "8b_generations",
  model_confidence: "8b_confidence",
  fact_frequency: "c4_frequency",
  frequency_bucket: "c4_frequency_bucket",
  ground_truth: "groundtruth",
});

const given = new WeakMap();

/** A record under the newer names; the record itself where it has no older one. */
export function renamed(record) {
  if (!Object.keys(OLDER_NAMES).some((older) => Object.hasOwn(record, older))) return record;
  const row = {};
  for (const [name, value] of Object.entries(record)) {
    const newer = Object.hasOwn(OLDER_NAMES, name) ? OLDER_NAMES[name] : name;
    if (newer === name || !Object.hasOwn(record, newer)) row[newer] = value;
  }
  given.set(row, record);
  return row;
}

/** The record that a row was in its file. */
export function recordOf(row) {
  return given.get(row) ?? row;
}
