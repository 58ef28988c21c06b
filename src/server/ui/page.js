// The page: asks the routes that clients ask, and shows what they say. Texts of the server are only ever text.

import { caches } from "./cache.js";
import { bar, bytes, count, funnel, html, latency, parts, seconds, shares, weighed } from "./draw.js";

const STEP_MS = 2000;
const N_STEPS = 60;
// Collections change slower than latencies, and telling what they take costs more.
const STEPS_PER_LISTING = 5;
const QUANTILES = [["p50", 0.5], ["p95", 0.95], ["p99", 0.99]];
const PARTS = ["rows", "codes", "exact_codes", "tree", "graph", "recent", "columns", "places"];
const BASE = new URL(".", location.href);

const at = (id) => document.getElementById(id);
let key = "";
let stopped = false;
let before = null;
let listed = [];
let explained = null;
const steps = [];

// Asks a route; an answer that is no success is an error with what the server says.
async function ask(path, body) {
  const headers = key ? { "api-key": key } : {};
  const options = { headers, cache: "no-store", credentials: "omit" };
  if (body !== undefined) {
    options.method = "POST";
    options.body = JSON.stringify(body);
    headers["content-type"] = "application/json";
  }
  let response;
  try {
    response = await fetch(new URL(path, BASE), options);
  } catch {
    throw new Error("the server does not answer");
  }
  const text = await response.text();
  if (response.ok) return response.headers.get("content-type").startsWith("application/json") ? JSON.parse(text) : text;
  if (response.status === 401) wantKey();
  let said = text;
  try {
    said = JSON.parse(text).status.error;
  } catch {
    // What is between the server and this page speaks for itself.
  }
  throw new Error(`${response.status} ${said}`);
}

const collection = (name, rest = "") => `collections/${encodeURIComponent(name)}${rest}`;

function wantKey() {
  at("key-form").hidden = false;
  // A wrong key that is sent again and again is taken for guessing.
  stopped = true;
}

function show(id, error) {
  at(id).hidden = !error;
  at(id).textContent = error ? error.message : "";
}

// Samples of the text form of Prometheus: name, labels, value.
function samples(text) {
  const all = [];
  for (const line of text.split("\n")) {
    const found = /^nearkin_(\w+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!found) continue;
    const labels = {};
    for (const [, name, value] of (found[2] ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) labels[name] = value;
    all.push({ name: found[1], labels, value: Number(found[3]) });
  }
  return all;
}

// Of all searches together: how many took at most so long, by upper ends; and how many went which way.
function measured(text) {
  const measured = { buckets: new Map(), ways: new Map(), single: {} };
  for (const { name, labels, value } of samples(text)) {
    if (name === "request_seconds_bucket" && labels.plan !== "none") {
      const end = labels.le === "+Inf" ? Infinity : Number(labels.le);
      measured.buckets.set(end, (measured.buckets.get(end) ?? 0) + value);
    } else if (name === "plans_total" && labels.plan !== "none") {
      if (value > 0) measured.ways.set(labels.plan, value);
    } else if (Object.keys(labels).length === 0) {
      measured.single[name] = value;
    }
  }
  return measured;
}

// The seconds within which this share of the searches between two measurements was answered; null without searches.
function quantile(now, then, share) {
  const ends = [...now.buckets.keys()].sort((a, b) => a - b);
  const upTo = (end) => now.buckets.get(end) - (then?.buckets.get(end) ?? 0);
  const n = ends.length ? upTo(Infinity) : 0;
  if (n <= 0) return null;
  let [low, below] = [0, 0];
  for (const end of ends) {
    const own = upTo(end);
    if (own >= share * n) {
      if (end === Infinity) return low;
      return low + ((share * n - below) / (own - below)) * (end - low);
    }
    [low, below] = [end, own];
  }
  return low;
}

const total = (ways) => [...ways.values()].reduce((sum, n) => sum + n, 0);

function fact(name, value) {
  return html("div", {}, html("dt", {}, name), html("dd", {}, value));
}

function showMeasured(now, elapsed) {
  const since = (share) => {
    const value = quantile(now, null, share);
    return value === null ? "–" : seconds(value);
  };
  const rate = before ? (total(now.ways) - total(before.ways)) / elapsed : null;
  at("facts").replaceChildren(
    fact("searches a second", rate === null ? "–" : Number(rate.toPrecision(3)).toString()),
    fact("p50 so far", since(0.5)),
    fact("p99 so far", since(0.99)),
    fact("busy workers", count(now.single.workers_busy ?? 0)),
    fact("waiting requests", count(now.single.queue_depth ?? 0)),
    fact("active users", count(now.single.users_active ?? 0)),
  );
  if (before) steps.push(QUANTILES.map(([, share]) => quantile(now, before, share)));
  steps.splice(0, Math.max(0, steps.length - N_STEPS));
  at("state").textContent = now.single.degraded ? "live, but worse than it should be: see its log" : "live";
  before = now;
  drawMeasured();
}

function drawMeasured() {
  latency(at("latency"), steps, [N_STEPS, STEP_MS], QUANTILES.map(([name]) => name));
  const ways = [...(before?.ways ?? [])].sort((a, b) => b[1] - a[1]);
  shares(at("ways"), ways, "no searches yet");
}

async function measure() {
  const began = performance.now();
  try {
    const now = measured(await ask("metrics"));
    showMeasured(now, before ? (began - before.at) / 1000 : 0);
    before.at = began;
    show("metrics-error", null);
  } catch (error) {
    at("state").textContent = "not measured";
    show("metrics-error", error);
  }
}

async function list() {
  try {
    const { result } = await ask("collections");
    const names = result.collections.map((one) => one.name).sort();
    listed = await Promise.all(names.map(describe));
    show("collections-error", listed.find((one) => one.error)?.error);
    showListed();
  } catch (error) {
    show("collections-error", error);
  }
}

// Caches are told to keys that may know of all tenants; to others there is nothing to see.
async function listCaches() {
  try {
    await caches(ask, at);
    show("cache-error", null);
  } catch (error) {
    show("cache-error", /^40[13] /.test(error.message) ? null : error);
  }
}

// What a collection is, and what it takes if the key may know.
async function describe(name) {
  const own = { name, info: null, stats: null, error: null };
  try {
    own.info = (await ask(collection(name))).result;
    own.stats = (await ask(collection(name, "/stats"))).result;
  } catch (error) {
    own.error = new Error(`${name}: ${error.message}`);
  }
  return own;
}

// The vectors of a collection by name; that of a collection with one alone may have an empty one.
function vectors(own) {
  const all = own.info?.config?.params?.vectors ?? {};
  return typeof all.size === "number" ? [["", all]] : Object.entries(all);
}

function said([name, { size, distance, multivector_config }]) {
  return `${name ? `${name}: ` : ""}${multivector_config ? "rows of " : ""}${size} ${distance}`;
}

// What has no size: values at some indices.
function sparse(own) {
  return Object.keys(own.info?.config?.params?.sparse_vectors ?? {}).map((name) => `${name}: sparse`);
}

// Only vectors of one row have ways to choose from.
function dense(own) {
  return vectors(own).filter(([, vector]) => !vector.multivector_config);
}

function showListed() {
  const most = Math.max(...listed.map((own) => own.stats?.bytes ?? 0), 1);
  const rows = listed.map((own) => {
    const wide = html("td", { class: "wide" });
    const row = html("tr", {},
      html("th", { scope: "row" }, own.name),
      html("td", { class: "n" }, own.info ? count(own.info.points_count) : "–"),
      html("td", {}, [...vectors(own).map(said), ...sparse(own)].join(", ")),
      html("td", { class: "n" }, own.stats ? bytes(own.stats.bytes) : "–"),
      wide);
    return { own, row, wide };
  });
  const none = html("tr", {}, html("td", { colspan: 5, class: "soft" }, "no collections yet"));
  at("collections").tBodies[0].replaceChildren(...(rows.length ? rows.map(({ row }) => row) : [none]));
  for (const { own, wide } of rows) {
    const sizes = own.stats?.bytes_by_part;
    if (sizes) parts(wide, PARTS.map((part, i) => [part, sizes[part] ?? 0, `p${i}`]), most);
  }
  showLegend();
  showTenants();
  showChoices();
}

function showLegend() {
  const of = (part) => listed.reduce((sum, own) => sum + (own.stats?.bytes_by_part[part] ?? 0), 0);
  const own = PARTS.map((part, i) => [part, of(part), i]).filter(([, n]) => n > 0);
  at("parts-legend").replaceChildren(
    ...own.map(([part, n, i]) => html("span", {}, html("i", { class: `p${i}` }), `${part.replace("_", " ")} ${bytes(n)}`)));
}

function showTenants() {
  const all = listed.flatMap((own) => (own.stats?.largest_tenants ?? []).map((one) => ({ ...one, of: own.name })));
  all.sort((a, b) => b.points - a.points);
  if (!all.length) {
    const told = listed.some((own) => own.stats) ? "No collection has tenants." : "A key with the scope admin is told.";
    at("tenants").replaceChildren(html("p", { class: "soft" }, told));
    return;
  }
  const rows = all.slice(0, 10).map(({ tenant, points, of }) => {
    const wide = html("td", { class: "wide" });
    return { points, wide, row: html("tr", {}, html("th", { scope: "row" }, tenant), html("td", {}, of), html("td", { class: "n" }, count(points)), wide) };
  });
  const head = html("tr", {}, ...["tenant", "collection"].map((name) => html("th", { scope: "col" }, name)),
    html("th", { scope: "col", class: "n" }, "points"), html("th", { scope: "col", class: "wide" }, ""));
  const table = html("table", {}, html("thead", {}, head), html("tbody", {}, ...rows.map(({ row }) => row)));
  at("tenants").replaceChildren(table);
  for (const { points, wide } of rows) bar(wide, points, rows[0].points);
}

// Collections and vectors to choose from; what was chosen stays.
function showChoices() {
  const names = listed.map((own) => own.name);
  options(at("collection"), names.map((name) => [name, name]));
  showVectors();
}

function showVectors() {
  const own = listed.find((one) => one.name === at("collection").value);
  options(at("using"), own ? dense(own).map((vector) => [vector[0], said(vector)]) : []);
}

function options(select, pairs) {
  const told = JSON.stringify(pairs);
  if (select.dataset.told === told) return;
  const chosen = select.value;
  select.replaceChildren(...pairs.map(([value, text]) => html("option", { value }, text)));
  if (pairs.some(([value]) => value === chosen)) select.value = chosen;
  select.dataset.told = told;
}

function json(id, what) {
  const text = at(id).value.trim();
  if (!text) return null;
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`${what}: ${error.message}`);
  }
}

// The vector of a point that chance takes of those that have it.
async function randomVector(name, using) {
  const body = { query: { sample: "random" }, limit: 1, with_payload: false, with_vector: using ? [using] : true };
  if (using) body.filter = { must: [{ has_vector: using }] };
  const [point] = (await ask(collection(name, "/points/query"), body)).result.points;
  if (!point) throw new Error(`${name}: there is no point with this vector`);
  return Array.isArray(point.vector) ? point.vector : point.vector[using];
}

async function fillRandom() {
  const vector = await randomVector(at("collection").value, at("using").value);
  at("vector").value = JSON.stringify(vector);
}

async function explain() {
  const [name, using] = [at("collection").value, at("using").value];
  if (!name) throw new Error("there is no collection to ask");
  const filter = json("filter", "the filter");
  if (!at("vector").value.trim()) await fillRandom();
  const body = { vector: json("vector", "the query"), limit: Number(at("limit").value), with_payload: true };
  if (using) body.using = using;
  if (filter) body.filter = filter;
  if (at("exact").checked) body.params = { exact: true };
  const { result } = await ask(collection(name, "/points/explain"), body);
  const { result: info } = await ask(collection(name));
  explained = [result.plan, info.points_count];
  showAnswer(result);
}

function showAnswer({ points, plan }) {
  at("answer").hidden = false;
  // Of rows that came since the index was built nothing is planned.
  const changed = ![undefined, "nothing", plan.way].includes(plan.planned) ? `, after ${plan.planned} found too few` : "";
  at("told").textContent =
    `${count(plan.returned)} of ${count(plan.matches)} matching points in ${seconds(plan.took_us / 1e6)}, by the way “${plan.way}”` +
    `${changed}: ${plan.exact ? "exact" : "near"}.`;
  drawAnswer();
  at("touched").textContent = plan.filter ? touched(plan.filter) : "";
  const rows = points.map(({ id, score, payload }, i) =>
    html("tr", {}, html("td", { class: "n" }, i + 1), html("td", { class: "id" }, id), html("td", { class: "n" }, Number(score.toPrecision(6))),
      html("td", { class: "payload" }, shortened(JSON.stringify(payload ?? null)))));
  const none = html("tr", {}, html("td", { colspan: 4, class: "soft" }, "no points"));
  at("points").tBodies[0].replaceChildren(...(rows.length ? rows : [none]));
}

function drawAnswer() {
  if (!explained) return;
  const [plan, nPoints] = explained;
  weighed(at("weighed"), plan);
  const stages = [["points", nPoints, "bar-main"], ["match", plan.matches, "bar-main"]];
  if (plan.signs) stages.push(["signs", plan.signs, "bar-taken"]);
  if ("compared" in plan) stages.push(["compared", plan.compared, "bar-taken"]);
  stages.push(["returned", plan.returned, "bar-main"]);
  funnel(at("funnel"), stages);
}

function touched({ rows_touched: nRows, payloads_read: nPayloads, read_for: fields }) {
  if (!nRows && !nPayloads) return "The filter touched nothing: every point may be found, or its set was known from an earlier search.";
  const why = nPayloads ? ` for ${fields.join(", ")}, which no index answers` : "";
  return `For the filter, columns looked at ${count(nRows)} rows, and ${count(nPayloads)} payloads were read${why}.`;
}

function shortened(text) {
  return text.length > 300 ? `${text.slice(0, 300)} … (${count(text.length)} characters)` : text;
}

// Runs what a button asks for; meanwhile it cannot be asked again.
async function run(what) {
  const buttons = [...at("ask").querySelectorAll("button")];
  buttons.forEach((button) => (button.disabled = true));
  try {
    await what();
    show("ask-error", null);
  } catch (error) {
    show("ask-error", error);
  } finally {
    buttons.forEach((button) => (button.disabled = false));
  }
}

// What stands after the #: a search that a link asks for.
async function fromLink() {
  const asked = new URLSearchParams(location.hash.slice(1));
  if (!asked.has("collection")) return;
  at("collection").value = asked.get("collection");
  showVectors();
  if (asked.has("using")) at("using").value = asked.get("using");
  for (const name of ["vector", "filter", "limit"]) if (asked.has(name)) at(name).value = asked.get(name);
  at("exact").checked = asked.get("exact") === "true";
  await run(explain);
}

async function step(n) {
  if (!stopped && !document.hidden) {
    await Promise.all([measure(), listCaches(), n % STEPS_PER_LISTING === 0 ? list() : null]);
  }
  setTimeout(() => step(n + 1), STEP_MS);
}

async function showVersion() {
  try {
    const root = await ask("");
    at("version").textContent = root.server.version;
  } catch (error) {
    at("state").textContent = error.message;
  }
}

at("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  key = at("key").value.trim();
  stopped = false;
  before = null;
  await Promise.all([showVersion(), measure(), list(), listCaches()]);
});
at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  run(explain);
});
at("random").addEventListener("click", () => run(fillRandom));
at("collection").addEventListener("change", showVectors);
addEventListener("resize", () => {
  drawMeasured();
  drawAnswer();
  showListed();
});

await Promise.all([showVersion(), measure(), list(), listCaches()]);
await fromLink();
setTimeout(() => step(1), STEP_MS);
