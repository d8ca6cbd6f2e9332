// What the page draws itself: critical differences, two rows data set by data set, and what a name or a cell opens.
const maker = (space) => (name, attributes, ...inside) => {
  const made = document.createElementNS(space, name);
  for (const [key, given] of Object.entries(attributes)) made.setAttribute(key, given);
  made.append(...inside);
  return made;
};
const svg = maker("http://www.w3.org/2000/svg"), html = maker("http://www.w3.org/1999/xhtml");
const word = (x, y, anchor, text) => svg("text", { x, y, "text-anchor": anchor }, text);
const stroke = (x1, x2, y1, y2, ink, width = 1) => svg("line", { x1, x2, y1, y2, stroke: `var(--${ink})`, "stroke-width": width });
const disc = (cx, cy, r, ink, more = {}) => svg("circle", { cx, cy, r, fill: `var(--${ink})`, ...more });
const telling = (tip) => ({ class: "mark", tabindex: 0, role: "img", "aria-label": tip, "data-tip": tip });
const short = (text) => (text.length < 35 ? text : `${text.slice(0, 16)}…${text.slice(-17)}`);

function axis(low, high, left, right, height, unit) { // x -> place; a scale with round steps
  const wide = high - low || 1, ten = 10 ** Math.floor(Math.log10(wide / 5)), step = ten * [1, 2, 5, 10].find((f) => f * ten >= wide / 5);
  const at = (x) => left + (right - left) * (x - low) / wide, parts = [word((left + right) / 2, height - 4, "middle", unit)];
  for (let x = Math.ceil(low / step) * step; x <= high + 1e-9; x += step)
    parts.push(stroke(at(x), at(x), 8, height - 34, "faint"), word(at(x), height - 20, "middle", Number(x.toPrecision(6))));
  return [at, parts];
}

const frame = (width, height, title, parts) => svg("svg", { role: "group", "aria-label": title, viewBox: `0 0 ${width} ${height}`,
  "font-size": 12, fill: "var(--ink)", style: `max-width: ${1.3 * width}px` }, ...parts);

// A line for each name; draw(i, at, y) gives what stands on it. Null where a figure has nothing to show.
function chart(section, what, shown, names, ends, unit, right, draw) {
  const figure = section.querySelector(`[data-live=${what}]`), height = 22 * names.length + 50;
  figure.hidden = !shown;
  if (!shown) return null;
  const low = Math.min(...ends), high = Math.max(...ends), pad = 0.05 * (high - low) || 1;
  const [at, parts] = axis(low - pad, high + pad, 230, right, height, unit);
  figure.querySelector(".picture").replaceChildren(frame(720, height, figure.querySelector("h3").textContent, [...parts,
    ...names.flatMap((name, i) => [word(222, 24 + 22 * i, "end", short(name)), ...draw(i, at, 20 + 22 * i)])]));
  return figure;
}

function drawTies(section, facts) { // rows by their mean, and a bar over those of each tie group
  const { found, chosen } = section.found, lines = found.flatMap((one) => one.rows.map((k, i) => ({ one, i, k, mean: 100 * one.mean[i] }))
    .sort((a, b) => b.mean - a.mean || a.i - b.i));
  const bars = found.flatMap((one) => one.groups.map((own) => lines.flatMap((at, n) => (at.one === one && own.includes(at.i) ? [n] : []))));
  const column = (g) => 540 + g * Math.min(16, 180 / bars.length);
  chart(section, "ties", found.length, lines.map(({ k }) => facts.rows[k].label), lines.map(({ mean }) => mean),
    `mean of ${chosen.sets.length} data sets, %`, 520, (n, at, y) => {
      const { one, i, k, mean } = lines[n], { label } = facts.rows[k], own = bars.flatMap((bar, g) => (bar.includes(n) ? [[bar, column(g)]] : []));
      const tip = `${label}\nmean ${fixed(mean)} %\nrank ${range(one.ranks[i])}${one.tails[i]}\ntie group ${letters(one, i)}`;
      return [...own.map(([bar, x]) => stroke(x, x, y, 20 + 22 * (bar[0] === n ? bar.at(-1) : n), "bar", 4)), ...own.map(([, x]) => disc(x, y, 3.5, "point")),
        disc(at(mean), y, 6, "point", { ...telling(tip), "data-row": k, "data-name": label.toLowerCase() })];
    });
}

// two rows, data set by data set: as pairs.py compares, with the peers' spread over seeds
function differences(facts, { chosen, place }, a, b) {
  const ranked = place.get(a)?.one.rows, peers = ranked?.includes(b) ? ranked : [a, b];
  const found = chosen.sets.filter((d) => facts.cells[a][d] && facts.cells[b][d]).map((d) => {
    const { block } = facts.cells[a][d], own = peers.filter((k) => facts.cells[k][d]?.block === block);
    const spread = own.includes(b) && !chosen.seeds ? spreadOf(facts, [d], own) : null;
    const [x, y] = [a, b].map((k) => cellOf(facts, k, d, chosen.seeds).mean), gap = x - y;
    if (!spread) return { d, x, y, gap };
    const parts = spread.parts(own.indexOf(a), own.indexOf(b)), half = halfWidth(parts), runs = spread.luck.alone;
    return { d, x, y, gap, interval: [gap - half, gap + half], runs, p: runs ? signTest(gap, parts[0], facts.blocks[block].n) : tail(gap, parts) };
  });
  const tested = found.filter((one) => one.interval), adjusted = holm(tested.map((one) => one.p));
  tested.forEach((one, i) => { one.p = adjusted[i]; });
  return found;
}

function signTest(gap, moved, n) { // of one run each: the items where they differ follow from gap and variance
  const differ = Math.round(moved * n * (n - 1) + n * gap * gap), few = Math.round((differ - Math.abs(n * gap)) / 2);
  let p = 0;
  for (let i = 0; i <= few; i += 1) p += Math.exp(lnGamma(differ + 1) - lnGamma(i + 1) - lnGamma(differ - i + 1) - differ * Math.LN2);
  return differ ? Math.min(1, 2 * p) : 1;
}

function drawPair(section, facts) {
  const two = boxes(section, "pair").filter((box) => box.checked).map((box) => Number(box.closest("tr").dataset.row));
  const [a, b] = two.map((k) => facts.rows[k].label), found = two[1] === undefined ? [] : differences(facts, section.found, ...two);
  const told = found.map(({ d, gap, interval, p, runs }) => ({ title: facts.sets[d].title, p: interval ? p.toPrecision(2) : "–",
    gap: signed(gap) + (interval ? ` ${bracket(interval, signed)}` : ""),
    verdict: (!interval ? "not on the same items" : p > 1 - 0.95 ? "not told apart" : gap > 0 ? "better" : "worse") + (runs ? " (runs)" : "") }));
  const figure = chart(section, "pair", found.length, told.map(({ title }) => title), [0, ...found.flatMap(({ gap, interval }) =>
    (interval || [gap]).map((x) => 100 * x))], `${short(a || "")} − ${short(b || "")}, points`, 700, (i, at, y) => {
    const { gap, interval } = found[i], { title, verdict } = told[i], sure = /^(better|worse)/.test(verdict);
    return [stroke(at(0), at(0), y - 11, y + 11, "ink"), ...(interval ? [stroke(at(100 * interval[0]), at(100 * interval[1]), y, y, "bar", 3)] : []),
      disc(at(100 * gap), y, 5, sure ? "point" : "bar", telling(`${title}\n${told[i].gap} points, ${verdict}`))];
  });
  if (!figure) return;
  figure.querySelector("h3").textContent = `${a} and ${b}, data set by data set`;
  $$("thead span", figure).forEach((head, i) => { head.textContent = [head.textContent, a, b][i] || head.textContent; });
  figure.querySelector("tbody").replaceChildren(...found.map(({ d, x, y }, i) => html("tr", { "data-set": facts.sets[d].name },
    html("th", { scope: "row" }, told[i].title), ...[fixed(100 * x), fixed(100 * y), told[i].gap, told[i].p].map((text) =>
      html("td", { class: "num" }, text)), html("td", {}, told[i].verdict))));
}

// ---- what a name or a cell opens
const box = document.getElementById("box");
const paragraphs = (list) => list.map((text) => html("p", {}, text));
function open(title, ...inside) {
  box.querySelector("h2").textContent = title;
  box.querySelector("div").replaceChildren(...inside);
  box.showModal();
}
function about(facts, k) {
  const [parts, own] = facts.about.rows[k];
  open(facts.rows[k].row, ...[...parts.map((part) => [part, facts.about.parts[part]]), ...own].flatMap(([title, list]) =>
    [html("h3", {}, title), ...paragraphs(list)]));
}
function record(facts, k, d, tip) {
  const [told, title, most, last, curves] = facts.told?.[`${k},${d}`] || [[], "", 0, 0, []], inside = [];
  if (curves.length) { // drawn by told.py, 500 wide and 150 high
    const scale = [word(46, 14, "end", most), word(46, 164, "end", 0), word(550, 180, "end", last), stroke(50, 550, 160, 160, "faint")];
    inside.push(html("h3", {}, title), frame(560, 185, title, [...scale, ...curves.map((points, i) => svg("polyline", { points, fill: "none",
      transform: "translate(50 10)", stroke: `var(--${["point", "front", "ink"][i % 3]})`, "stroke-width": 1.8 }))]));
  }
  open(`${facts.rows[k].label} on ${facts.sets[d].title}`, html("p", { class: "lines" }, tip), ...paragraphs(told), ...inside);
}
