// Means, intervals, ranks and ties of a choice of data sets and rows, from what choice.py wrote. The formulas are those
// of spread.py, stats.py and means.py, which say what they mean; a test holds the two against each other.
const Z2 = 1.959963984540054 ** 2;
const sum = (list) => list.reduce((a, b) => a + b, 0);
const LANCZOS = [0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059,
  12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7];

function lnGamma(z) { // Lanczos' sum, z > 0
  const x = z - 1, t = x + 7.5;
  const series = LANCZOS.reduce((a, c, i) => a + (i ? c / (x + i) : c), 0);
  return 0.5 * Math.log(2 * Math.PI) + (x + 0.5) * Math.log(t) - t + Math.log(series);
}

function lowerGamma(a, x) { // regularised; a series below the middle, a continued fraction above it
  const front = Math.exp(a * Math.log(x) - x - lnGamma(a));
  if (x < a + 1) {
    let term = 1 / a, total = term;
    for (let n = 1; term > total * 1e-15; n += 1) total += term *= x / (a + n);
    return front * total;
  }
  let b = x + 1 - a, c = 1e300, d = 1 / b, h = d;
  for (let i = 1; i < 1e4; i += 1) {
    const an = -i * (i - a);
    b += 2;
    d = 1 / (an * d + b);
    c = b + an / c;
    h *= d * c;
    if (Math.abs(d * c - 1) < 1e-15) break;
  }
  return 1 - front * h;
}

function beta(x, a, b) { // regularised incomplete beta
  if (x >= 1) return 1;
  if (x > (a + 1) / (a + b + 2)) return 1 - beta(1 - x, b, a);
  const front = Math.exp(lnGamma(a + b) - lnGamma(a) - lnGamma(b) + a * Math.log(x) + b * Math.log1p(-x)) / a;
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
  return front * h;
}

function erfc(z) { // Chebyshev fit, 1.2e-7 of itself everywhere (Numerical Recipes 6.2)
  const t = 1 / (1 + z / 2);
  const c = [-1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807, -1.13520398, 1.48851587,
    -0.82215223, 0.17087277];
  return t * Math.exp(-z * z + c.reduceRight((a, b) => a * t + b, 0));
}

const kept = new Map();
function nodes(given) { // f / X at quantiles of chi squared, and their weights
  const f = Math.round(given * 1000) / 1000;
  if (!kept.has(f)) {
    const scale = [], weight = [];
    for (let i = 0; i < 96; i += 1) {
      const v = (i + 0.5) / 96;
      let low = -750, high = Math.log(10 * f + 50);
      for (let turn = 0; turn < 60; turn += 1) {
        const middle = (low + high) / 2;
        if (lowerGamma(f / 2, Math.exp(middle)) < v ** 4) low = middle; else high = middle;
      }
      scale.push(f / 2 / Math.exp(low));
      weight.push(v ** 3);
    }
    const whole = sum(weight);
    kept.set(f, [scale, weight.map((w) => w / whole)]);
  }
  return kept.get(f);
}

function tail(gap, [items, shown, chance, freedom, itemFreedom]) {
  const [scale, weight] = freedom > 0 ? nodes(freedom) : [[0], [1]];
  return Math.min(1, sum(scale.map((s, i) => {
    const error = Math.abs(gap) / Math.sqrt(Math.max(items + Math.max(0, shown * s - chance), 1e-24));
    return weight[i] * (itemFreedom > 1000 ? erfc(error / Math.SQRT2)
      : beta(itemFreedom / (itemFreedom + error * error), itemFreedom / 2, 0.5));
  })));
}

function halfWidth(parts) {
  const unit = Math.sqrt(parts[0] + parts[1]);
  let low = 0, high = unit * 1e4;
  for (let turn = 0; turn < 50; turn += 1) {
    const middle = (low + high) / 2;
    if (tail(middle, parts) > 1 - 0.95) low = middle; else high = middle;
  }
  return unit > 0 ? high : 0;
}

const variance = (list) => {
  const middle = sum(list) / list.length;
  return sum(list.map((v) => (v - middle) ** 2)) / (list.length - 1);
};

function luckOf(trainings, lend) { // trainings: {seeds, variance, chance} by row; NaN where a row has one seed
  const rows = trainings[0].seeds.length, zero = () => new Array(rows).fill(0);
  const shown = zero(), chance = zero(), typical = zero(), own = zero(), ownSquares = zero(), lent = new Set();
  let pooled = 0, squares = 0, alone = false;
  for (const t of trainings) {
    const known = t.seeds.map((s) => s > 1);
    if (!known.includes(true)) { alone = true; continue; }
    const more = sum(t.seeds.map((s, k) => (known[k] ? s - 1 : 0)));
    const mean = (list) => sum(list.map((v, k) => (known[k] ? v * (t.seeds[k] - 1) : 0))) / more;
    const middle = mean(t.variance), noise = mean(t.chance);
    t.seeds.forEach((s, k) => {
      if (!known[k]) lent.add(k);
      if (known[k] || lend) {
        shown[k] += (known[k] ? t.variance[k] : middle) / s;
        chance[k] += (known[k] ? t.chance[k] : noise) / s;
        typical[k] += middle / s;
      }
      if (known[k]) {
        own[k] += middle / s;
        ownSquares[k] += (middle / s) ** 2 / (s - 1);
      }
    });
    const each = middle / (sum(t.seeds.filter((s, k) => known[k])) / known.filter(Boolean).length);
    pooled += each;
    squares += each ** 2 / more;
  }
  if (squares === 0) return { shown: zero(), chance: zero(), freedom: 0, lent, alone };
  const ratio = shown.map((v, k) => (typical[k] > 0 ? v / Math.max(typical[k], 1e-24) : 1));
  const freedom = own.map((v, k) => (ownSquares[k] > 0 ? v ** 2 / Math.max(ownSquares[k], 1e-24) : 0));
  const [factor, total] = borrow(ratio, freedom, pooled ** 2 / squares);
  return { shown: typical.map((v, k) => v * factor[k]), chance, freedom: total, lent, alone };
}

function borrow(ratio, freedom, total) {
  const known = freedom.map((f) => f > 0), count = known.filter(Boolean).length, factor = ratio.map(() => 1);
  if (count < 2) return [factor, total];
  const own = sum(freedom) / count;
  const beyond = (variance(ratio.filter((r, k) => known[k])) - 2 / own) / (1 + 2 / own);
  if (beyond <= 0) return [factor, total];
  const prior = 4 + 2 / beyond;
  return [ratio.map((r, k) => (known[k] ? Math.max(1, (prior + own * r) / (prior + own)) : 1)),
    Math.min(total, prior + own)];
}

// What is known of some rows on some data sets together; null where answers are missing or of other items.
function spreadOf(facts, sets, rows) {
  const weight = 1 / sets.length, cell = (d, k) => facts.cells[k][d], told = new Map(), sums = new Map();
  const mean = rows.map(() => 0);
  for (const d of sets) {
    const block = cell(d, rows[0])[7];
    if (block < 0 || rows.some((k) => cell(d, k)[7] !== block)) return null;
    const places = rows.map((k) => facts.blocks[block].place[k][d]);
    rows.forEach((k, i) => { mean[i] += weight * facts.blocks[block].mean[places[i]]; });
    told.set(block, [...(told.get(block) || []), places]);
    const key = `${facts.sets[d][3]} ${rows.map((k) => cell(d, k)[0].length)}`;
    if (!sums.has(key)) sums.set(key, { runs: rows.map((k) => cell(d, k)[0].map(() => 0)), chance: rows.map(() => 0) });
    const own = sums.get(key);
    rows.forEach((k, i) => {
      own.runs[i] = own.runs[i].map((v, s) => v + weight * cell(d, k)[0][s]);
      own.chance[i] += weight ** 2 * cell(d, k)[4];
    });
  }
  let total = 0, squares = 0;
  for (const [block, places] of told) {
    const { n, one, apart } = facts.blocks[block];
    const size = n === 1 ? rows.length * (weight * places.length) ** 2 * 0.25 : weight ** 2 * sum(rows.map((_, i) =>
      sum(places.map((a) => sum(places.map((b) => (one[a[i]] + one[b[i]] - apart(a[i], b[i])) / 2))))));
    total += size;
    squares += size ** 2 / Math.max(1, n - 1);
  }
  const items = (i, j) => sum([...told].map(([block, places]) => {
    const { n, apart } = facts.blocks[block];
    if (n === 1) return 0.5 * (weight * places.length) ** 2;
    return weight ** 2 * Math.max(0, sum(places.map((a) => sum(places.map((b) => (apart(a[i], b[j])
      + apart(a[j], b[i]) - apart(a[i], b[i]) - apart(a[j], b[j])) / 2)))));
  }));
  const luck = luckOf([...sums.values()].map(({ runs, chance }) => ({ seeds: runs.map((r) => r.length), chance,
    variance: runs.map((r) => (r.length > 1 ? variance(r) : NaN)) })), true);
  const freedom = squares > 0 ? total ** 2 / squares : Infinity;
  return { mean, luck, parts: (i, j) => [items(i, j), luck.shown[i] + luck.shown[j], luck.chance[i] + luck.chance[j],
    luck.freedom, freedom] };
}

function holm(p) {
  const order = p.map((_, i) => i).sort((a, b) => p[a] - p[b]), adjusted = p.map(() => 1);
  let highest = 0;
  order.forEach((i, place) => { adjusted[i] = highest = Math.max(highest, Math.min(1, (p.length - place) * p[i])); });
  return adjusted;
}

function rankingOf(spread) {
  const { mean, luck } = spread, k = mean.length, pairs = [];
  for (let i = 0; i < k; i += 1) for (let j = i + 1; j < k; j += 1) pairs.push([i, j]);
  const adjusted = holm(pairs.map(([i, j]) => tail(mean[i] - mean[j], spread.parts(i, j))));
  const sure = mean.map(() => new Set());
  pairs.forEach(([i, j], place) => { if (adjusted[place] <= 1 - 0.95) { sure[i].add(j); sure[j].add(i); } });
  const count = (i, way) => [...sure[i]].filter((j) => way * (mean[j] - mean[i]) > 0).length;
  return { ranks: mean.map((_, i) => [1 + count(i, 1), k - count(i, -1)]), letters: lettersOf(mean, sure),
    tails: mean.map((_, i) => (luck.alone ? " (runs)" : luck.lent.has(i) ? " (lent)" : "")), sure };
}

function lettersOf(mean, sure) { // groups as bits
  const k = mean.length, bit = (i) => 1n << BigInt(i);
  let groups = [(1n << BigInt(k)) - 1n];
  for (let i = 0; i < k; i += 1) {
    for (const j of [...sure[i]].filter((one) => one > i).sort((a, b) => a - b)) {
      const both = bit(i) | bit(j);
      const split = [...new Set(groups.flatMap((g) => ((g & both) === both ? [g & ~bit(i), g & ~bit(j)] : [g])))];
      groups = split.filter((g) => !split.some((other) => g !== other && (g & other) === g));
      if (groups.length > 200) return mean.map(() => "");
    }
  }
  const order = mean.map((_, i) => i).sort((a, b) => mean[b] - mean[a] || a - b);
  const members = (g) => order.flatMap((i, place) => (g & bit(i) ? [place] : []));
  const less = (a, b) => { for (let i = 0; i < a.length && i < b.length; i += 1) if (a[i] !== b[i]) return a[i] - b[i];
    return a.length - b.length; };
  const named = groups.map((g) => [g, members(g)]).sort((a, b) => less(a[1], b[1]));
  const letter = (p) => String.fromCharCode(97 + p % 26) + (p > 25 ? Math.floor(p / 26) + 1 : "");
  return mean.map((_, i) => named.map(([g], p) => (g & bit(i) ? letter(p) : "")).join(""));
}

// Intervals of weighted means (Map of set -> weight) of all rows of a backbone that have these cells: Map of row.
function intervalsOf(facts, weights, backbone) {
  const sets = [...weights.keys()], found = new Map();
  const rows = facts.rows.flatMap((r, k) => (r[1] === backbone && sets.every((d) => facts.cells[k][d]) ? [k] : []));
  const cell = (d, k) => facts.cells[k][d], groups = new Map();
  for (const d of sets) groups.set(facts.sets[d][3], [...(groups.get(facts.sets[d][3]) || []), d]);
  const trainings = [...groups.values()].flatMap((own) => (rows.every((k) =>
    new Set(own.map((d) => cell(d, k)[0].length)).size === 1) ? [own] : own.map((d) => [d])));
  const luck = luckOf(trainings.map((own) => ({ seeds: rows.map((k) => cell(own[0], k)[0].length),
    variance: rows.map((k) => (cell(own[0], k)[0].length < 2 ? NaN : variance(cell(own[0], k)[0].map((_, s) =>
      sum(own.map((d) => weights.get(d) * cell(d, k)[0][s])))))),
    chance: rows.map((k) => (cell(own[0], k)[0].length < 2 ? NaN
      : sum(own.map((d) => weights.get(d) ** 2 * (cell(d, k)[4] || 0))))) })), false);
  rows.forEach((k, i) => {
    const errors = new Map();
    let near = 0, mean = 0;
    for (const d of sets) {
      const [values, , , n, chance] = cell(d, k), w = weights.get(d), share = sum(values) / values.length;
      if (n === null) return;
      const smooth = (share * n + Z2 / 2) / (n + Z2), whole = smooth * (1 - smooth) / n;
      const own = Math.max(whole / values.length, whole - (chance || 0) * (values.length - 1) / values.length);
      errors.set(facts.sets[d][4], (errors.get(facts.sets[d][4]) || 0) + w * Math.sqrt(own));
      near += w * smooth;
      mean += w * share;
    }
    const half = halfWidth([sum([...errors.values()].map((e) => e * e)), luck.shown[i], luck.chance[i], luck.freedom,
      Infinity]);
    const size = Z2 * near * (1 - near) / half ** 2, p = Math.min(1, Math.max(0, mean));
    const middle = (p * size + Z2 / 2) / (size + Z2);
    const wide = Math.sqrt(Z2 * (size * p * (1 - p) + Z2 / 4)) / (size + Z2);
    found.set(k, [Math.max(0, middle - wide), Math.min(1, middle + wide)]);
  });
  return found;
}
