"use strict";
// Sorting, filtering, tabs, tooltips and the theme. Data come as attributes and leave as text, never as HTML.
const $$ = (query, root = document) => [...root.querySelectorAll(query)];

function sortBy(header, table) {
  const index = header.cellIndex;
  const down = header.getAttribute("aria-sort") === "ascending"
    || (header.dataset.first === "down" && header.getAttribute("aria-sort") !== "descending");
  for (const other of $$("thead th", table)) other.setAttribute("aria-sort", "none");
  header.setAttribute("aria-sort", down ? "descending" : "ascending");
  const key = (row) => {
    const cell = row.cells[index];
    return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
  };
  const missing = (row) => header.dataset.kind === "number" && row.cells[index].dataset.value === undefined;
  const body = table.tBodies[0];
  const rows = [...body.rows].sort((a, b) => {
    if (missing(a) || missing(b)) return missing(a) - missing(b) || a.dataset.order - b.dataset.order;
    const x = key(a), y = key(b);
    const way = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), "en");
    return (down ? -way : way) || a.dataset.order - b.dataset.order;
  });
  body.append(...rows);
}

function applyFilter(world) {
  const words = world.querySelector("input[type=search]").value.toLowerCase().split(/\s+/).filter(Boolean);
  const complete = world.querySelector("input[type=checkbox]").checked;
  let shown = 0;
  for (const row of $$("tbody tr[data-name]", world)) {
    const hit = words.every((word) => row.dataset.name.includes(word)) && (!complete || row.dataset.complete !== "0");
    row.hidden = !hit;
    if (hit && row.closest("[role=tabpanel]").dataset.first === "1") shown += 1;
  }
  world.querySelector(".count").textContent = `${shown} rows`;
  const partial = JSON.parse(world.dataset.partial);
  for (const mark of $$("svg .mark", world)) { // a tooltip begins with the row's name
    const text = mark.dataset.tip.toLowerCase(), first = text.split(/\n| is better than /)[0];
    const whole = !complete || !partial.some((name) => first === name || first.startsWith(`${name} `)
      || first.startsWith(`${name},`));
    mark.classList.toggle("dim", !(whole && words.every((word) => first.includes(word))));
  }
}

function choose(tab) {
  for (const other of $$("[role=tab]", tab.parentElement)) {
    const own = other === tab;
    other.setAttribute("aria-selected", String(own));
    other.tabIndex = own ? 0 : -1;
    document.getElementById(other.getAttribute("aria-controls")).hidden = !own;
  }
}

function step(list, from, key) {
  const at = list.indexOf(from);
  if (key === "Home") return list[0];
  if (key === "End") return list[list.length - 1];
  return list[(at + (key === "ArrowRight" || key === "ArrowDown" ? 1 : list.length - 1)) % list.length];
}

// one cell of a table is in the tab order; arrows move through the others
function moveCell(cell, key) {
  const row = cell.parentElement;
  let target = null;
  if (key === "ArrowRight") target = cell.nextElementSibling;
  else if (key === "ArrowLeft") target = cell.previousElementSibling;
  else if (key === "Home") target = row.cells[1];
  else if (key === "End") target = row.cells[row.cells.length - 1];
  else {
    let next = row;
    do next = key === "ArrowDown" ? next.nextElementSibling : next.previousElementSibling; while (next && next.hidden);
    target = next && next.cells[cell.cellIndex];
  }
  if (!target || target.tagName !== "TD") return;
  cell.tabIndex = -1;
  target.tabIndex = 0;
  target.focus();
}

const tip = document.getElementById("tip");
let current = null; // what the tooltip speaks of
function showTip(mark) {
  current = mark;
  tip.textContent = mark.dataset.tip;
  tip.hidden = false;
  const box = mark.getBoundingClientRect(), own = tip.getBoundingClientRect();
  const left = Math.min(Math.max(8, box.left + box.width / 2 - own.width / 2), innerWidth - own.width - 8);
  const below = box.bottom + own.height + 10 < innerHeight;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${Math.max(8, below ? box.bottom + 6 : box.top - own.height - 6)}px`;
}
const hideTip = () => { current = null; tip.hidden = true; };
const marked = (event) => event.target instanceof Element ? event.target.closest("[data-tip]") : null;
document.addEventListener("mouseover", (event) => { const m = marked(event); if (m) showTip(m); else hideTip(); });
document.addEventListener("focusin", (event) => { const m = marked(event); if (m) showTip(m); else hideTip(); });
document.addEventListener("focusout", hideTip);
// reaching a mark by keyboard scrolls to it, so the tooltip goes along
document.addEventListener("scroll", () => { if (current) showTip(current); }, true);

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") hideTip();
  if (!/^(Arrow|Home$|End$)/.test(event.key) || !(event.target instanceof Element)) return;
  if (event.target.matches("[role=tab]")) {
    const next = step($$("[role=tab]", event.target.parentElement), event.target, event.key);
    choose(next);
    next.focus();
    event.preventDefault();
  } else if (event.target.matches("tbody td")) {
    moveCell(event.target, event.key);
    event.preventDefault();
  }
});

for (const header of $$("thead th")) {
  header.querySelector("button").addEventListener("click", () => sortBy(header, header.closest("table")));
}
for (const tab of $$("[role=tab]")) tab.addEventListener("click", () => choose(tab));
for (const world of $$("section.world")) {
  for (const input of $$("input", world)) input.addEventListener("input", () => applyFilter(world));
  applyFilter(world);
}
for (const select of $$("select[data-pictures]")) {
  const pick = () => {
    for (const one of $$("[data-picture]", select.closest("figure"))) one.hidden = one.dataset.picture !== select.value;
  };
  select.addEventListener("input", pick);
  pick();
}

const theme = document.getElementById("theme");
const themes = ["auto", "light", "dark"];
function setTheme(name) {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  theme.textContent = `Theme: ${name}`;
}
let chosen = "auto";
try { chosen = themes.includes(localStorage.getItem("theme")) ? localStorage.getItem("theme") : "auto"; } catch { /* a file */ }
setTheme(chosen);
theme.addEventListener("click", () => {
  chosen = themes[(themes.indexOf(chosen) + 1) % themes.length];
  setTheme(chosen);
  try { localStorage.setItem("theme", chosen); } catch { /* a page opened as a file may not store */ }
});
