// Elements.  What comes from rows is only ever text: nothing here reads HTML.

export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value == null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter(child => child != null));
  return made;
}

export function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setClass(node, name) {
  if (node.className !== name) node.className = name;
}

// A panel with a heading; `aside` stands at the right of it.
export function panel(width, title, ...children) {
  const note = el("small"), right = el("span", {class: "right"});
  const heading = el("h2", {}, title, note, right);
  const node = el("section", {class: width}, heading, ...children);
  return {node, note: text => setText(note, text), right, heading};
}

// A table whose rows are filled again and again; a cell is text, or [text, class].
// columns: [heading, class]; open(key): what a click on a row does; keys: what each row is.
export class Table {
  constructor(columns, {open = null, empty = "nothing yet", kind = ""} = {}) {
    this.columns = columns;
    this.body = el("tbody");
    this.head = el("thead", {}, el("tr", {}, ...columns.map(([name, kind]) => el("th", {class: kind ?? "", scope: "col"}, name))));
    this.none = el("p", {class: "empty"}, empty);
    const isTold = columns.some(([, kind]) => kind === "why");
    this.table = el("table", {class: `${kind} ${isTold ? "told" : ""}`}, this.head, this.body);
    this.node = el("div", {class: "scroll"}, this.table, this.none);
    this.table.hidden = true;
    this.open = open;
    if (open) {
      const act = event => {
        const row = event.target.closest("tr");
        if (row && row.dataset.key) open(row.dataset.key);
      };
      this.body.addEventListener("click", act);
      this.body.addEventListener("keydown", event => {
        const row = event.target.closest("tr");
        if (event.key === "Enter") act(event);
        else if (event.key === "ArrowDown") row?.nextElementSibling?.focus();
        else if (event.key === "ArrowUp") row?.previousElementSibling?.focus();
        else return;
        event.preventDefault();
      });
    }
  }

  // rows: lists of cells; keys and classes: of each row, where there are any.
  fill(rows, keys = null, classes = null) {
    this.table.hidden = rows.length === 0;
    this.none.hidden = rows.length > 0;
    const body = this.body;
    while (body.rows.length > rows.length) body.deleteRow(-1);
    while (body.rows.length < rows.length) {
      const line = body.insertRow();
      for (const [, kind] of this.columns) line.insertCell().className = kind ?? "";
      if (this.open) line.tabIndex = 0;
    }
    rows.forEach((cells, at) => {
      const line = body.rows[at];
      const name = (this.open ? "open " : "") + (classes?.[at] ?? "");
      setClass(line, name);
      if (keys && line.dataset.key !== keys[at]) line.dataset.key = keys[at];
      cells.forEach((cell, number) => {
        const node = line.cells[number], base = this.columns[number][1] ?? "";
        if (Array.isArray(cell)) {
          setText(node, cell[0]);
          setClass(node, `${base} ${cell[1] ?? ""}`);
        } else if (cell instanceof Node) {
          node.replaceChildren(cell);
        } else {
          setText(node, cell);
          setClass(node, base);
        }
      });
    });
  }
}

export function facts(pairs) {
  return el("dl", {class: "facts"}, ...pairs.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

// A canvas in its own pixels; returns its context and its size in those of the page.
export function fitted(canvas, height) {
  const width = canvas.parentElement.clientWidth, ratio = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.height = `${height}px`;
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return {context, width, height};
}
