"use strict";
// New decisions come in at the top without moving what somebody looks at: while the page is scrolled,
// or the focus is in the list, they wait behind a button.
(() => {
  const OVERLAP = 30; // seconds: decisions are written a little later than their requests came
  const MOST = 1000;
  const rows = document.getElementById("rows");
  const live = document.getElementById("live");
  const button = document.getElementById("fresh");
  const pause = document.getElementById("pause");
  const told = document.getElementById("told");
  const began = Date.now() / 1000;
  const held = new Map();
  let paused = false;

  const at = (row) => Number(row.dataset.at);
  const newest = () => Math.max(began - OVERLAP, ...[...rows.rows, ...held.values()].map(at)) - OVERLAP;
  const busy = () => paused || scrollY > 150 || rows.contains(document.activeElement);

  function put(row, mark) {
    const known = document.getElementById(row.id);
    if (known) {
      // What has not changed stays, and so does its place.
      if (known.cells.length === row.cells.length && [...row.cells].every((cell, i) => cell.className === known.cells[i].className && plain(cell) === plain(known.cells[i]))) return;
      if (!known.contains(document.activeElement)) known.replaceWith(row);
      return;
    }
    if (mark) row.classList.add("fresh");
    const after = [...rows.rows].find((other) => at(other) < at(row));
    rows.insertBefore(row, after ?? null);
  }

  function plain(cell) {
    const copy = cell.cloneNode(true);
    for (const time of copy.querySelectorAll("time")) time.remove();
    return copy.textContent;
  }

  function show() {
    for (const row of [...held.values()].sort((a, b) => at(a) - at(b))) put(row, true);
    held.clear();
    while (rows.rows.length > MOST) rows.deleteRow(-1);
    document.getElementById("none")?.remove();
    button.hidden = true;
    told.textContent = "";
  }

  live.addEventListener("htmx:configRequest", (event) => {
    event.detail.parameters.since = newest().toFixed(3);
  });
  live.addEventListener("htmx:beforeRequest", (event) => {
    if (paused || document.hidden) event.preventDefault();
  });
  live.addEventListener("htmx:afterRequest", (event) => {
    if (!event.detail.successful) return;
    const holder = document.createElement("template");
    holder.innerHTML = `<table><tbody>${event.detail.xhr.responseText}</tbody></table>`;
    const came = [...holder.content.querySelectorAll("tr")];
    for (const row of came) {
      if (document.getElementById(row.id)) put(row, false);
      else held.set(row.id, row);
    }
    if (held.size === 0) return;
    if (!busy()) return show();
    const count = `${held.size} new`;
    if (button.textContent !== count) told.textContent = `${count} decisions wait`;
    button.textContent = count;
    button.hidden = false;
  });
  button.addEventListener("click", () => {
    show();
    scrollTo({ top: 0 });
    pause.focus();
  });
  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Go on" : "Pause";
    pause.setAttribute("aria-pressed", String(paused));
  });
})();
