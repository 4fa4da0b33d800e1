"use strict";
// The list of routes, and what becomes of a request; what base.js has is used here.
const looks = { "invalid": "bad", "no endpoints": "bad", "partly": "warn" };
let news = null, counted = null, before = new Map(), rates = new Map(), boot = "", failures = 0, timer = 0;

// --- asking ---------------------------------------------------------------------------------------------------------

async function get(query) {
  const answer = await fetch(`page.json?${new URLSearchParams(query)}`, { cache: "no-store" });
  return { status: answer.status, body: await answer.json() };
}

async function poll() {
  clearTimeout(timer);
  if (document.hidden) return;
  let wait = 3;
  try {
    const got = await get({});
    if (got.status === 200) { take(got.body); wait = Math.max(2, news.interval); }
    else verdict(false, got.body.error);
    failures = 0;
  } catch (error) {
    failures += 1;
    wait = Math.min(30, 2 * failures);
    verdict(false, "kproxy does not answer; what is below may be old");
  }
  clearTimeout(timer);
  timer = setTimeout(poll, wait * 1000);
}
document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });

function take(body) {
  news = body;
  if (boot !== news.boot) { boot = news.boot; counted = null; before = new Map(); }
  const seconds = counted === null ? 0 : news.counted - counted;
  if (counted === null || seconds > 0) {
    const now = new Map();
    for (const one of news.totals) {
      const sum = now.get(one.rule) || { requests: 0, errors: 0 };
      sum.requests += one.codes.reduce((all, number) => all + number, 0);
      sum.errors += one.errors + one.codes[4];
      now.set(one.rule, sum);
    }
    if (seconds > 0) rates = new Map([...now].map(([rule, sum]) => [rule, Math.max(0, sum.requests - (before.get(rule) || { requests: 0 }).requests) / seconds]));
    before = now;
    counted = news.counted;
  }
  health();
  arrange();
  say($("pace"), `Looks again every ${news.interval} s, and stops while nobody looks.`);
}

// --- the program ----------------------------------------------------------------------------------------------------

function health() {
  const good = news.ready && news.healthy;
  verdict(good, good ? "well" : news.healthy ? "not ready" : "not well");
  listFacts([...news.facts, ["version", news.version]]);
  listTrouble([...news.reasons, ...news.problems], 50);
}

// --- routes ---------------------------------------------------------------------------------------------------------

function wanted(row) {
  const words = $("search").value.trim().toLowerCase().split(/\s+/).filter(Boolean);
  const text = [row.host, row.match, row.rule, ...(row.owners || []), ...row.targets.map((one) => one.service || "")].join(" ").toLowerCase();
  if (!words.every((word) => text.includes(word))) return false;
  if ($("filter").value === "trouble") return row.state in looks;
  return $("filter").value !== "busy" || (rates.get(row.rule) || 0) > 0;
}
function target(one) {
  const share = one.share < 1 ? `${percent(one.share)} ` : "";
  if (!one.service) return make("div", { class: "bad" }, `${share}no valid backend: 500`);
  const draining = one.draining ? `, ${one.draining} draining` : "";
  return make("div", {}, `${share}${one.service} `, make("span", { class: one.ready ? "dim" : "bad" }, `${one.ready || 0} ready${draining}`));
}
function arrange() {
  if (news === null) return;
  const rows = news.routes.map((row) => ({ state: "serving", targets: [], ...row })).filter(wanted);
  $("rows").replaceChildren(...rows.map((row) => make("tr", {},
    make("th", { scope: "row" }, row.host), make("td", {}, row.match),
    make("td", { class: "roomy dim" }, row.rule), make("td", { class: "roomy dim" }, [...row.ports, ...(row.owners || [])].join(", ")),
    make("td", {}, row.does ? row.does : row.targets.map(target)),
    make("td", { class: "number" }, rate(rates.get(row.rule))),
    make("td", { class: "number" }, ((before.get(row.rule) || {}).errors || 0).toLocaleString("en")),
    make("td", {}, make("span", { class: `state ${looks[row.state] || ""}` }, row.state)))));
  say($("count"), `${rows.length} of ${news.routes.length + news.more}${news.more ? `; ${news.more} are not listed here` : ""}`);
}
$("search").addEventListener("input", arrange);
$("filter").addEventListener("change", arrange);
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !["INPUT", "SELECT"].includes(document.activeElement.tagName)) { event.preventDefault(); $("search").focus(); }
});

// --- what becomes of a request --------------------------------------------------------------------------------------

function told(way) {
  const lines = [make("p", { class: "dim" }, `comes in at ${way.binds.join(", ")} (${way.protocol})${way.owners && way.owners.length ? `, listener of ${way.owners.join(", ")}` : ""}`)];
  if (way.kind) lines.push(make("p", {}, `${way.host}, ${way.match}: ${way.kind} ${way.object}, ${way.rule === -1 ? "its default backend" : `rule ${way.rule}`}`));
  const says = { forward: "is forwarded", redirect: `is answered ${way.status}: go to ${way.location}`, refuse: `is answered ${way.status || "with an error"}`, none: `is answered ${way.status}: no rule is met` };
  lines.push(make("p", {}, make("strong", { class: way.verdict }, says[way.verdict] || way.verdict)));
  const details = [...(way.changes || []), ...(way.near || [])];
  for (const choice of way.choices || []) {
    const ends = (choice.endpoints || []).slice(0, 40).map((one) => `${one.address}${one.draining ? " (draining)" : ""}`).join(", ");
    details.push(choice.service ? `${percent(choice.share)} to Service ${choice.service}: ${ends || `no endpoint is ready, ${choice.status}`}` : `${percent(choice.share)} leads to no valid backend: ${choice.status}`);
    details.push(...(choice.changes || []));
  }
  if (details.length) lines.push(make("ul", {}, details.map((text) => make("li", {}, text))));
  return lines;
}
$("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  let lines;
  try {
    const query = { url: $("url").value, method: $("method").value || "GET" };
    if ($("header").value.trim()) query.header = $("header").value;
    const { body } = await get(query);
    const reason = body.error || (body.answer ? "" : "there is no answer");
    lines = reason ? [make("p", { class: "bad" }, reason)] : [...(body.answer.notes || []).map((note) => make("p", { class: "bad" }, note)), ...(body.answer.ways || []).flatMap(told)];
  } catch (error) { lines = [make("p", { class: "bad" }, "kproxy does not answer")]; }
  $("answer").replaceChildren(...lines);
  $("answer").hidden = false;
  $("answer").focus();
});
poll();
