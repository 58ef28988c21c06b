// The part of the page about answers from memory: caches, how often they hit, and what was decided lately and why.

import { count, html } from "./draw.js";

const share = (x) => `${(100 * x).toFixed(1)} %`;
const cosine = (x) => (typeof x === "number" ? x.toFixed(4) : "–");

// What a policy lets pass: the least cosine, and the share of wrong answers that was chosen, if one was.
function chosen(policy) {
  const bound = policy.verified === null ? "" : `, wrong at most ${share(policy.verified)}`;
  return `${policy.mode}, cosine at least ${cosine(policy.threshold)}${bound}, for a ${policy.scope}`;
}

function row(cells, head) {
  return html("tr", {}, ...cells.map(([text, kind], i) => (i === 0 && head ? html("th", { scope: "row" }, text) : html("td", kind ? { class: kind } : {}, text))));
}

async function described(ask, name) {
  const path = `v1/cache/${encodeURIComponent(name)}`;
  const [stats, policy, decisions] = await Promise.all(["stats", "policy", "decisions"].map((what) => ask(`${path}/${what}`)));
  return { name, stats: stats.result, policy: policy.result, decisions: decisions.result.decisions };
}

function showCaches(at, all) {
  const rows = all.flatMap(({ name, stats, policy }) => {
    const told = (label, own, rules) =>
      row([[label], [own.entries === undefined ? "–" : count(own.entries), "n"], [count(own.lookups), "n"], [own.lookups ? share(own.hit_rate) : "–", "n"],
        [own.break_even_hit_rate === null ? "–" : share(own.break_even_hit_rate), "n"], [count(own.saved_tokens), "n"], [chosen(rules)]], true);
    const own = Object.entries(policy.category).map(([category, rules]) => {
      const of = stats.categories[category] ?? { lookups: 0, hit_rate: 0, break_even_hit_rate: null, saved_tokens: 0 };
      return told(`${name} / ${category}`, of, rules);
    });
    return [told(name, stats, policy.default), ...own];
  });
  at("caches").tBodies[0].replaceChildren(...rows);
}

function showDecisions(at, all) {
  const latest = all.flatMap((own) => own.decisions).slice(0, 20);
  const none = html("tr", {}, html("td", { colspan: 6, class: "soft" }, "nothing was asked yet"));
  const rows = latest.map((own) => {
    const stored = own.stored ? `${own.reason}; answer: ${own.stored}` : own.reason;
    return row([[own.time.slice(11, 19)], [own.outcome], [stored], [cosine(own.similarity), "n"], [cosine(own.threshold), "n"], [own.question, "payload"]], false);
  });
  at("decisions").tBodies[0].replaceChildren(...(rows.length ? rows : [none]));
}

// Asks for all caches and shows them; a server without any shows nothing of it.
export async function caches(ask, at) {
  const { result } = await ask("v1/cache");
  at("cache").hidden = result.caches.length === 0;
  const all = await Promise.all(result.caches.map((name) => described(ask, name)));
  showCaches(at, all);
  showDecisions(at, all);
}
