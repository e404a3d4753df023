// Numbers and instants as people read them.  Instants are UTC, always.

export const ms = text => Date.parse(text);

export function clock(at, digits = 0) {
  if (at == null || at <= 0) return "–";
  const text = new Date(typeof at === "number" ? at : ms(at)).toISOString();
  return digits ? text.slice(11, 20 + digits) : text.slice(11, 19);
}

export function instant(at) {
  if (at == null || at <= 0) return "–";
  return new Date(typeof at === "number" ? at : ms(at)).toISOString().slice(0, 19).replace("T", " ") + " UTC";
}

export const date = at => new Date(ms(at)).toLocaleDateString("en-GB", {day: "numeric", month: "short", year: "2-digit", timeZone: "UTC"});

// Seven digits that matter, thousands apart.
export function number(value) {
  if (value == null || value === "") return "–";
  const v = Number(value), size = Math.abs(v);
  if (!Number.isFinite(v)) return String(value);
  if (size >= 1e15 || (size > 0 && size < 1e-6)) return v.toExponential(3);
  const digits = size >= 1000 ? 2 : size >= 1 ? 4 : 6;
  return v.toLocaleString("en-US", {maximumFractionDigits: digits});
}

export const fixed = (value, digits) => value == null ? "–" : Number(value).toLocaleString("en-US", {minimumFractionDigits: digits, maximumFractionDigits: digits});
export const usd = value => value == null ? "–" : fixed(value, Math.abs(value) >= 1e5 ? 0 : 2);
export const percent = (value, digits = 2) => value == null ? "–" : fixed(100 * value, digits) + " %";
export const count = value => value == null ? "–" : Number(value).toLocaleString("en-US");

export function chance(value, error) {
  if (value == null) return "–";
  if (value === 0) return "0 %";
  if (value < 0.0005) return "< 0.1 %";
  return percent(value, 1) + (error ? " ± " + fixed(100 * error, 1) : "");
}

// For axes: 1.2k, 3.4M.
export function short(value) {
  const size = Math.abs(value);
  for (const [unit, letter] of [[1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (size >= unit) return `${+(value / (letter === "k" ? 1e3 : unit)).toPrecision(4)}${letter}`;
  }
  return number(value);
}

export function span(milliseconds) {
  if (milliseconds == null) return "–";
  const sign = milliseconds < 0 ? "-" : "", size = Math.abs(milliseconds);
  if (size < 1000) return `${sign}${Math.round(size)} ms`;
  if (size < 60e3) return `${sign}${(size / 1000).toFixed(1)} s`;
  if (size < 3600e3) return `${sign}${Math.floor(size / 60e3)} min ${Math.floor(size % 60e3 / 1000)} s`;
  if (size < 86400e3) return `${sign}${Math.floor(size / 3600e3)} h ${Math.floor(size % 3600e3 / 60e3)} min`;
  return `${sign}${Math.floor(size / 86400e3)} d ${Math.floor(size % 86400e3 / 3600e3)} h`;
}

export function bytes(value) {
  if (value == null) return "–";
  return value < 1e6 ? `${(value / 1e3).toFixed(0)} kB` : value < 1e9 ? `${(value / 1e6).toFixed(1)} MB` : `${(value / 1e9).toFixed(2)} GB`;
}

// The text in a field of bytes, which stands in JSON as base64.
export function decoded(base64) {
  try {
    return new TextDecoder().decode(Uint8Array.from(atob(base64), letter => letter.charCodeAt(0)));
  } catch {
    return base64;
  }
}
