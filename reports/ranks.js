// Means, intervals, ranks and ties of a choice of data sets and rows, from what choice.py wrote. The formulas are those
// of spread.py, stats.py and means.py, which say what they mean; a test holds the two against each other.
const Z2 = 1.959963984540054 ** 2;
const sum = (list) => list.reduce((a, b) => a + b, 0);
const dot = (a, b) => sum(a.map((x, i) => x * b[i]));
const places = (list, test) => list.flatMap((one, i) => (test(one, i) ? [i] : [])); // where it holds
const bound = (x, low, high) => Math.min(high, Math.max(low, x));
const variance = (list) => sum(list.map((v) => (v - sum(list) / list.length) ** 2)) / (list.length - 1);
function solve(beyond, low, high) { // where `beyond` turns true, by halving
  for (let turn = 0; turn < 60; turn += 1) {
    const middle = (low + high) / 2;
    if (beyond(middle)) high = middle; else low = middle;
  }
  return low;
}
function lnGamma(z) { // Stirling's series, from a z that is large enough for it
  let shift = 1;
  for (; z < 20; z += 1) shift *= z;
  const rest = 1 / (12 * z) - 1 / (360 * z ** 3) + 1 / (1260 * z ** 5);
  return (z - 0.5) * Math.log(z) - z + Math.log(2 * Math.PI) / 2 + rest - Math.log(shift);
}
function lowerGamma(a, x) { // regularised
  if (x > a + 40 + 10 * Math.sqrt(a)) return 1;
  let term = 1 / a, total = term;
  for (let n = 1; term > total * 1e-16; n += 1) total += term *= x / (a + n);
  return total * Math.exp(a * Math.log(x) - x - lnGamma(a));
}
function beta(x, a, b) { // regularised incomplete beta
  if (x >= 1) return 1;
  if (x > (a + 1) / (a + b + 2)) return 1 - beta(1 - x, b, a);
  let c = 1, d = 1 / (1 - (a + b) * x / (a + 1)), h = d;
  for (let m = 1; m < 1000; m += 1) {
    for (const k of [m * (b - m) * x / ((a - 1 + 2 * m) * (a + 2 * m)),
      -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 1 + 2 * m))]) {
      d = 1 / (1 + k * d);
      c = 1 + k / c;
      h *= d * c;
    }
    if (Math.abs(d * c - 1) < 1e-14) break;
  }
  return h * Math.exp(lnGamma(a + b) - lnGamma(a) - lnGamma(b) + a * Math.log(x) + b * Math.log1p(-x)) / a;
}

const kept = new Map();
function nodes(given) { // f / X at quantiles of chi squared, and their weights
  const f = Math.round(given * 1000) / 1000;
  if (!kept.has(f)) {
    const at = Array.from({ length: 96 }, (_, i) => (i + 0.5) / 96), whole = sum(at.map((v) => v ** 3));
    kept.set(f, [at.map((v) => f / 2 / Math.exp(solve((x) => lowerGamma(f / 2, Math.exp(x)) >= v ** 4, -750,
      Math.log(10 * f + 50)))), at.map((v) => v ** 3 / whole)]);
  }
  return kept.get(f);
}
function tail(gap, [items, shown, chance, freedom, itemFreedom]) {
  const [scale, weight] = freedom > 0 ? nodes(freedom) : [[0], [1]];
  return Math.min(1, dot(weight, scale.map((s) => {
    const square = gap * gap / Math.max(items + Math.max(0, shown * s - chance), 1e-24);
    return itemFreedom > 1000 ? 1 - lowerGamma(0.5, square / 2)
      : beta(itemFreedom / (itemFreedom + square), itemFreedom / 2, 0.5);
  })));
}
function halfWidth(parts) {
  const unit = Math.sqrt(parts[0] + parts[1]);
  return unit > 0 ? solve((gap) => tail(gap, parts) <= 1 - 0.95, 0, unit * 1e4) : 0;
}

// Of every training of these data sets (weights: Map of set -> weight), row by row: its runs, weighted, and the part of
// their spread that is the chance of the items. Sets that one run tests share its seeds.
function trainingsOf(facts, rows, weights) {
  const groups = {};
  for (const d of weights.keys())
    (groups[[facts.sets[d].run, ...rows.map((k) => facts.cells[k][d].values.length)]] ||= []).push(d);
  return Object.values(groups).map((own) => rows.map((k) => {
    const cells = own.map((d) => facts.cells[k][d]), w = own.map((d) => weights.get(d));
    return { runs: cells[0].values.map((_, s) => dot(w, cells.map((cell) => cell.values[s]))),
      chance: sum(cells.map((cell, i) => w[i] ** 2 * cell.chance)) };
  }));
}
function luckOf(trainings, lend) { // what seeds add to each row's variance; a row of one seed may borrow it
  const zero = () => trainings[0].map(() => 0), lent = new Set();
  const chance = zero(), shown = zero(), typical = zero(), own = zero(), ownSquares = zero();
  let pooled = 0, squares = 0, alone = false;
  for (const t of trainings) {
    const known = t.filter(({ runs }) => runs.length > 1), more = sum(known.map(({ runs }) => runs.length - 1));
    const mean = (f) => sum(known.map((row) => f(row) * (row.runs.length - 1))) / more;
    const middle = mean((row) => variance(row.runs)), noise = mean((row) => row.chance);
    if (!known.length) { alone = true; continue; }
    t.forEach(({ runs, chance: part }, k) => {
      const s = runs.length, sure = s > 1;
      if (!sure) lent.add(k);
      if (sure || lend) {
        shown[k] += (sure ? variance(runs) : middle) / s;
        chance[k] += (sure ? part : noise) / s;
        typical[k] += middle / s;
      }
      if (sure) {
        own[k] += middle / s;
        ownSquares[k] += (middle / s) ** 2 / (s - 1);
      }
    });
    const each = middle * known.length / sum(known.map(({ runs }) => runs.length));
    pooled += each;
    squares += each ** 2 / more;
  }
  if (squares === 0) return { shown: zero(), chance: zero(), freedom: 0, lent, alone };
  const ratio = shown.map((v, k) => (typical[k] > 0 ? v / Math.max(typical[k], 1e-24) : 1));
  const each = own.map((v, k) => (ownSquares[k] > 0 ? v ** 2 / Math.max(ownSquares[k], 1e-24) : 0));
  const [factor, freedom] = borrow(ratio, each, pooled ** 2 / squares);
  return { shown: typical.map((v, k) => v * factor[k]), chance, freedom, lent, alone };
}
function borrow(ratio, freedom, total) {
  const known = ratio.filter((_, k) => freedom[k] > 0), own = sum(freedom) / known.length;
  const beyond = known.length < 2 ? 0 : (variance(known) - 2 / own) / (1 + 2 / own), prior = 4 + 2 / beyond;
  if (beyond <= 0) return [ratio.map(() => 1), total];
  return [ratio.map((r, k) => (freedom[k] > 0 ? Math.max(1, (prior + own * r) / (prior + own)) : 1)),
    Math.min(total, prior + own)];
}

// What is known of some rows on some data sets together; null where answers are missing or of other items.
function spreadOf(facts, sets, rows) {
  const weight = 1 / sets.length, blocks = new Map(); // block -> for each of its sets, where the rows' moments stand
  for (const d of sets) {
    const cells = rows.map((k) => facts.cells[k][d]), { block: first, span } = cells[0];
    if (first < 0 || cells.some((cell) => cell.block !== first)) return null;
    for (const block of facts.blocks.slice(first, first + span)) { // one, or one for each class
      const at = Object.assign(rows.map((k) => block.place[k][d]), { share: weight / span });
      blocks.set(block, [...(blocks.get(block) || []), at]);
    }
  }
  const double = (own, f) => sum(own.map((a) => sum(own.map((b) => a.share * b.share * f(a, b) / 2))));
  const sizes = [...blocks].map(([{ one, apart }, own]) => sum(rows.map((_, i) =>
    double(own, (a, b) => one[a[i]] + one[b[i]] - apart(a[i], b[i])))));
  const freedom = sum(sizes) ** 2 / sum([...blocks.keys()].map(({ n }, i) => sizes[i] ** 2 / (n - 1)));
  const items = (i, j) => sum([...blocks].map(([{ apart }, own]) => Math.max(0, double(own, (a, b) =>
    apart(a[i], b[j]) + apart(a[j], b[i]) - apart(a[i], b[i]) - apart(a[j], b[j])))));
  const luck = luckOf(trainingsOf(facts, rows, new Map(sets.map((d) => [d, weight]))), true);
  const answered = (i) => [...blocks].flatMap(([block, own]) => own.map((at) => at.share * block.mean[at[i]]));
  const mean = rows.map((_, i) => sum(answered(i)));
  return { mean, luck, parts: (i, j) => [items(i, j), luck.shown[i] + luck.shown[j], luck.chance[i] + luck.chance[j],
    luck.freedom, freedom || Infinity] };
}

function holm(p) {
  const order = p.map((_, i) => i).sort((a, b) => p[a] - p[b]), adjusted = [];
  let highest = 0;
  order.forEach((i, place) => { adjusted[i] = highest = Math.max(highest, Math.min(1, (p.length - place) * p[i])); });
  return adjusted;
}
function rankingOf({ mean, luck, parts }) {
  const pairs = mean.flatMap((_, i) => mean.slice(0, i).map((__, j) => [i, j]));
  const adjusted = holm(pairs.map(([i, j]) => tail(mean[i] - mean[j], parts(i, j)))), sure = mean.map(() => new Set());
  pairs.forEach(([i, j], place) => { if (adjusted[place] <= 1 - 0.95) { sure[i].add(j); sure[j].add(i); } });
  const count = (i, way) => [...sure[i]].filter((j) => way * (mean[j] - mean[i]) > 0).length;
  return { ranks: mean.map((_, i) => [1 + count(i, 1), mean.length - count(i, -1)]), groups: groupsOf(mean, sure),
    tails: mean.map((_, i) => (luck.alone ? " (runs)" : luck.lent.has(i) ? " (lent)" : "")) };
}
function groupsOf(mean, sure) { // largest sets of rows that are not told apart, the best first (Bron and Kerbosch)
  const order = mean.map((_, i) => i).sort((a, b) => mean[b] - mean[a] || a - b), found = [];
  const tied = (list, v) => list.filter((one) => !sure[v].has(one));
  const grow = (group, more, done) => {
    if (found.length > 200 || done.some((v) => tied(more, v).length === more.length)) return;
    if (!more.length) found.push(group);
    more.forEach((v, at) => grow([...group, v], tied(more.slice(at + 1), v), tied([...done, ...more.slice(0, at)], v)));
  };
  grow([], order, []);
  return found.length > 200 ? [] : found; // none where they are too many
}
const letter = (p) => String.fromCharCode(97 + p % 26) + (p > 25 ? Math.floor(p / 26) + 1 : "");

// Intervals of weighted means (Map of set -> weight) of all rows of a backbone that have these cells: Map of row.
function intervalsOf(facts, weights, backbone) {
  const sets = [...weights.keys()], w = [...weights.values()], found = new Map();
  const rows = places(facts.rows, (row, k) => row.backbone === backbone && sets.every((d) => facts.cells[k][d]));
  const luck = luckOf(trainingsOf(facts, rows, weights), false);
  rows.forEach((k, i) => {
    const cells = sets.map((d) => facts.cells[k][d]), errors = {};
    if (cells.some((cell) => cell.error === null)) return;
    cells.forEach(({ error }, j) => {
      const { family } = facts.sets[sets[j]];
      errors[family] = (errors[family] || 0) + w[j] * error;
    });
    const items = sum(Object.values(errors).map((error) => error ** 2));
    const near = dot(w, cells.map(({ smooth }) => smooth));
    const half = halfWidth([items, luck.shown[i], luck.chance[i], luck.freedom, Infinity]);
    const size = Z2 * near * (1 - near) / half ** 2; // items that would leave it: Wilson's interval of them
    const p = bound(dot(w, cells.map(({ mean }) => mean)), 0, 1), middle = (p * size + Z2 / 2) / (size + Z2);
    const wide = Math.sqrt(Z2 * (size * p * (1 - p) + Z2 / 4)) / (size + Z2);
    found.set(k, [bound(middle - wide, 0, 1), bound(middle + wide, 0, 1)]);
  });
  return found;
}
