
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  if (!table.tHead || body.rows.length < 2) continue;
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    const value = row => {
      const text = row.cells[column].textContent.trim();
      const number = parseFloat(text.replace(/[,+]/g, "").replace(/^[−–-](?=\d)/, "-"));
      return Number.isNaN(number) ? text : number;
    };
    const order = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (typeof x === "number" && typeof y === "number") return x - y;
      return typeof x === typeof y ? x.localeCompare(y) : typeof x === "number" ? -1 : 1;
    };
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") === "descending" || column === 0 && !head.hasAttribute("aria-sort");
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      body.append(...[...body.rows].sort((a, b) => up ? order(a, b) : order(b, a)));
    });
  });
}
