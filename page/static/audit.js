// Audit: a place for what will come.

import {el, panel} from "./dom.js";

export const title = "Audit";

const PARTS = [
  ["Audit log", "Each topic's records in batches, each batch under one hash (RFC 6962), and signed checkpoints: whether a record is in the log, and whether nothing before it was changed."],
  ["Reports", "Reports of transactions and margin, as they were sent, with what was answered."],
  ["Reconciliation", "What accounts, venues and the ledger say, side by side, and where they differ."],
];

export function build(root) {
  root.append(el("div", {class: "grid"}, ...PARTS.map(([name, words]) => panel("w4 place", name, el("p", {class: "empty"}, words), el("p", {class: "empty"}, "Its job is not there yet.")).node)),
    el("p", {class: "dim"}, "Until then: gammaflow explain tells the story of an account or an order, and the archive has every record."));
  return {update() {}};
}
