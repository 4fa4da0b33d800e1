"use strict";
// The list of Services, and the picture of one; what base.js has is used here.
const ROW = 34, SPARE = 8, POINTS = 60, FEW = 20, LATELY = 600, MOST_DRAWN = 40, MOST_LISTED = 500, POLL_OPEN = 2;
const bad = { "refusing": "bad", "left out": "bad", "contested": "warn", "no local endpoints": "warn", "serving": "" };

const services = new Map();  // by id: {row, words, totals, rate, turned, points}
let shown = [], sort = { by: "id", down: false }, open = null, openTag = "", openSeen = null;
let boot = "", number = 0, tag = "", offset = 0, counted = null, timer = 0, failures = 0, drawn = "";

const now = () => Date.now() / 1000 + offset;
function span(seconds) {
  if (seconds < 60) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${(seconds / 3600).toFixed(1)} h` : `${Math.round(seconds / 86400)} days`;
}

// --- asking ---------------------------------------------------------------------------------------------------------

async function get(query, seen) {
  const answer = await fetch(`page.json?${new URLSearchParams(query)}`, { headers: seen ? { "If-None-Match": seen } : {}, cache: "no-store" });
  const body = answer.status === 304 ? null : await answer.json();
  return { status: answer.status, body, tag: answer.headers.get("ETag") || "" };
}

async function poll() {
  clearTimeout(timer);
  if (document.hidden) return;
  let wait = 3;
  try {
    const got = await get(boot ? { boot, since: number } : {}, tag);
    if (got.status === 503) { verdict(false, got.body.error); wait = 1; }
    else {
      if (got.body) take(got.body);
      tag = got.tag;
      wait = Math.max(POLL_OPEN, got.body ? Math.min(got.body.interval, 15) : 2);
      if (open !== null) await look();
    }
    if (failures) { failures = 0; if (status) health(status); }
  } catch (error) {
    failures += 1;
    wait = Math.min(30, 2 * failures);
    verdict(false, "kproxy does not answer; what is below may be old");
  }
  clearTimeout(timer);
  timer = setTimeout(poll, wait * 1000);
}
document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });

let status = null;
function take(news) {
  const first = boot !== news.boot;
  if (first) counted = null;
  if (news.full) services.clear();
  offset = Math.max(offset && !first ? offset : -Infinity, news.now - Date.now() / 1000);
  for (const row of news.services) {
    const known = services.get(row.id) || { totals: null, rate: null, turned: 0, points: [], fresh: 0 };
    known.row = { state: "serving", why: "", changed: 0, ...row };
    known.words = [row.id, ...row.ports, ...row.addresses].join(" ").toLowerCase();
    if (!news.full) known.fresh = performance.now();
    services.set(row.id, known);
  }
  for (const id of news.gone) services.delete(id);
  count(news);
  boot = news.boot; number = news.number; status = news.status;
  health(status);
  say($("pace"), `Looks for changes every ${span(news.interval)}, counts connections every ${span(news.counting)}, and stops while nobody looks.`);
  namespaces();
  arrange();
}

function count(news) {
  if (news.counted === null || news.counted === counted) return;
  const seconds = counted === null ? 0 : news.counted - counted;
  for (const [id, known] of services) {
    const total = news.totals[id] || known.totals || [0, 0, 0];
    if (seconds > 0) {
      const before = known.totals || [0, 0, 0];
      known.rate = Math.max(0, total[0] - before[0]) / seconds;
      known.turned = Math.max(0, total[1] + total[2] - before[1] - before[2]) / seconds;
      if (known.rate || known.points.length) { known.points.push(known.rate); if (known.points.length > POINTS) known.points.shift(); }
    }
    known.totals = total;
  }
  counted = news.counted;
}

// --- the node -------------------------------------------------------------------------------------------------------

function health(it) {
  const good = it.healthy && it.ready;
  document.title = plain(`kproxy on ${it.node}`);
  verdict(good, good ? "well" : it.healthy ? "not ready" : "not well");
  say($("node"), `on ${it.node}`);
  const facts = [["mode", it.mode], ["up", span(now() - Date.parse(it.since) / 1000)], ["version", it.version]];
  for (const family of it.families) {
    const last = family.lastSync ? `${family.services} ports, ${family.endpoints} endpoints, ${family.rules} rules; synced ${span(now() - Date.parse(family.lastSync) / 1000)} ago in ${Math.max(1, Math.round(family.syncSeconds * 1000))} ms` : "never synced";
    if (family.services || !family.lastSync) facts.push([family.family, family.pending ? `${last}; changes wait` : last]);
  }
  const deaf = it.watches.filter((watch) => !watch.synced || watch.error);
  facts.push(["watches", `${it.watches.length - deaf.length} of ${it.watches.length} well`]);
  listFacts(facts);
  const trouble = [...it.reasons, ...it.problems, ...deaf.map((watch) => `watching ${watch.kind}: ${watch.error || "no list yet"}`),
    ...it.refused.map((one) => `${one.service} is left out: ${one.reason}`), ...it.conflicts.map((one) => `${one.service}: ${one.reason}`)];
  listTrouble([...new Set(trouble)], 8, ": kproxy status");
}

// --- the list -------------------------------------------------------------------------------------------------------

let spaces = "";
function namespaces() {
  const names = [...new Set([...services.keys()].map((id) => id.split("/")[0]))].sort();
  if (names.join("\n") === spaces) return;
  spaces = names.join("\n");
  const chosen = $("namespace").value;
  $("namespace").replaceChildren(make("option", { value: "" }, "all"), ...names.map((name) => make("option", { value: name }, name)));
  $("namespace").value = names.includes(chosen) ? chosen : "";
}
function fits(known, words, space, filter) {
  const row = known.row;
  if (space && !row.id.startsWith(`${space}/`)) return false;
  if (filter === "changed" && !(row.changed && now() - row.changed < LATELY)) return false;
  if (filter === "trouble" && row.state === "serving") return false;
  if (filter === "refusing" && row.state !== "refusing" && !known.turned) return false;
  if (filter === "no local endpoints" && row.state !== filter) return false;
  return words.every((word) => known.words.includes(word));
}
const ranks = { "left out": 0, "refusing": 1, "contested": 2, "no local endpoints": 3, "serving": 4 };
const keys = { id: (k) => k.row.id, endpoints: (k) => k.row.endpoints, rate: (k) => (k.rate || 0) + (k.turned || 0) / 1e3, state: (k) => ranks[k.row.state] };
function arrange() {
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const space = $("namespace").value, filter = $("filter").value, key = keys[sort.by];
  shown = [...services.values()].filter((known) => fits(known, words, space, filter));
  shown.sort((a, b) => { const x = key(a), y = key(b); return (x < y ? -1 : x > y ? 1 : 0) * (sort.down ? -1 : 1) || (a.row.id < b.row.id ? -1 : 1); });
  say($("count"), `${shown.length === services.size ? "" : `${shown.length.toLocaleString("en")} of `}${services.size.toLocaleString("en")} Services`);
  for (const button of document.querySelectorAll("[data-sort]")) {
    const head = button.closest("th");
    if (button.dataset.sort === sort.by) head.setAttribute("aria-sort", sort.down ? "descending" : "ascending"); else head.removeAttribute("aria-sort");
  }
  $("table").setAttribute("aria-rowcount", shown.length + 1);
  draw();
}
function plot(points) {
  if (points.length < 2) return null;
  const wide = Math.max(points.length, FEW), top = Math.max(...points, 1e-9), x = (i) => (100 * (i + wide - points.length) / (wide - 1)).toFixed(1), y = (v) => (22 - 20 * v / top).toFixed(1);
  const line = points.map((value, i) => `${i ? "L" : "M"}${x(i)} ${y(value)}`).join("");
  return make("svg", { class: "plot", viewBox: "0 0 100 24", preserveAspectRatio: "none", role: "img", "aria-label": `at most ${rate(top)} a second` },
    make("path", { class: "area", d: `${line}L100 24L${x(0)} 24Z` }), make("path", { d: line }));
}
function tr(known, index) {
  const row = known.row, kind = bad[row.state];
  const fresh = performance.now() - known.fresh < 2500 && known.fresh;
  const turned = known.turned ? `, ${rate(known.turned)}/s turned away` : "";
  return make("tr", { "data-id": row.id, "aria-rowindex": index + 2, "aria-current": row.id === open ? "true" : null, class: fresh ? "fresh" : null },
    make("th", { scope: "row" }, make("button", { type: "button", title: row.id, dir: "auto" }, row.id)),
    make("td", { class: "roomy", title: [...row.kinds, ...row.addresses].join(", ") }, row.ports.join(", ")),
    make("td", { class: "number" }, String(row.endpoints)),
    make("td", { class: "number" }, rate(known.rate)),
    make("td", { class: "roomy" }, plot(known.points)),
    make("td", { class: `state ${kind || (known.turned ? "warn" : "")}`, title: row.why + turned }, make("span", { class: "clamp" }, row.state + turned)));
}
function draw() {
  const list = $("services"), height = list.clientHeight || 600;
  const from = Math.max(0, Math.floor(list.scrollTop / ROW) - SPARE), to = Math.min(shown.length, from + Math.ceil(height / ROW) + 2 * SPARE);
  const focused = document.activeElement && document.activeElement.closest ? document.activeElement.closest("#rows tr[data-id]") : null;
  const back = focused && focused.dataset.id;
  const space = (rows) => rows > 0 ? [make("tr", { class: "space", "aria-hidden": "true" }, make("td", { colspan: 6, height: rows * ROW }))] : [];
  const rows = shown.slice(from, to).map((known, i) => tr(known, from + i));
  $("rows").replaceChildren(...space(from), ...(rows.length ? rows : [make("tr", {}, make("td", { colspan: 6, class: "dim" }, services.size ? "No Service is like that." : "There are no Services yet."))]), ...space(shown.length - to));
  if (back) { const again = [...$("rows").children].find((one) => one.dataset.id === back); if (again) again.querySelector("button").focus({ preventScroll: true }); }
}
let waiting = false;
$("services").addEventListener("scroll", () => { if (!waiting) { waiting = true; requestAnimationFrame(() => { waiting = false; draw(); }); } }, { passive: true });
addEventListener("resize", () => { draw(); if (open !== null && isNarrow() !== wasNarrow) { wasNarrow = isNarrow(); openTag = drawn = ""; look().catch(() => {}); } });
for (const id of ["search", "namespace", "filter"]) $(id).addEventListener("input", () => { $("services").scrollTop = 0; arrange(); });
$("table").addEventListener("click", (event) => {
  const button = event.target.closest("[data-sort]");
  if (button) { sort = { by: button.dataset.sort, down: sort.by === button.dataset.sort ? !sort.down : ["rate", "endpoints"].includes(button.dataset.sort) }; arrange(); return; }
  const row = event.target.closest("tr[data-id]");
  if (row) choose(row.dataset.id, true);
});

// --- one Service ----------------------------------------------------------------------------------------------------

function choose(id, focus) {
  open = id; openTag = ""; openSeen = null; drawn = "";
  $("split").classList.toggle("open", id !== null);
  $("detail").hidden = id === null;
  try { history.replaceState(null, "", id === null ? location.pathname : `#${encodeURIComponent(id)}`); } catch { /* too often */ }
  draw();
  if (id === null) return;
  say($("detail-title"), id);
  $("pictures").replaceChildren();
  if (focus) $("detail-title").focus();
  look().catch(() => {});
}
$("close").addEventListener("click", () => leave());
function leave() {
  const was = open;
  choose(null);
  const index = shown.findIndex((known) => known.row.id === was);
  if (index >= 0) goTo(index);
}
async function look() {
  const id = open, got = await get({ service: id }, openTag);
  if (id !== open || got.status === 304) return;
  openTag = got.tag;
  const known = services.get(id);
  $("detail-state").className = `state ${known ? bad[known.row.state] : "warn"}`;
  say($("detail-state"), known ? (known.row.why || `serving${known.row.changed ? `; changed ${span(now() - known.row.changed)} ago` : ""}`) : "this Service is gone");
  if (got.status !== 200) { $("pictures").replaceChildren(make("p", {}, got.body.error)); return; }
  const text = JSON.stringify(got.body);
  if (text === drawn) return;
  drawn = text;
  const listed = [...$("pictures").querySelectorAll("details")].map((one) => one.open);
  const seen = new Map();
  $("pictures").replaceChildren(...got.body.service.ports.flatMap((port, i) => {
    const key = (endpoint) => `${i} ${endpoint.address}`;
    const rates = port.endpoints.map((one) => {
      const before = openSeen && openSeen.totals.get(key(one)), seconds = openSeen ? got.body.counted - openSeen.counted : 0;
      if (one.total !== null) seen.set(key(one), one.total);
      if (openSeen && seconds === 0) return openSeen.rates.get(key(one)) ?? null;
      return before === undefined || before === null || one.total === null || seconds <= 0 ? null : Math.max(0, one.total - before) / seconds;
    });
    port.endpoints.forEach((one, j) => seen.set(`r${key(one)}`, rates[j]));
    const name = `${port.port ? `${port.port}, ` : ""}${port.protocol}, ${port.family}`;
    return [make("h3", { dir: "auto" }, name), scene(port, rates, name), ...[...port.routes.filter((r) => r.verdict !== "forward").map((r) => r.reason), ...port.notes,
      ...(port.affinitySeconds ? [`A client stays at its endpoint for ${span(port.affinitySeconds)}.`] : [])].map((text) => make("p", { class: "dim" }, text)), table(port, rates, listed[i])];
  }));
  if (!openSeen || openSeen.counted !== got.body.counted) openSeen = got.body.counted === null ? null : { counted: got.body.counted, totals: seen, rates: new Map([...seen].filter(([k]) => k.startsWith("r")).map(([k, v]) => [k.slice(1), v])) };
}
const isNarrow = () => innerWidth < 640;
let wasNarrow = isNarrow();
function scene(port, rates, name) {
  const narrow = isNarrow(), [wide, left, right, bend] = narrow ? [340, 128, 172, 16] : [760, 205, 270, 120], step = 46, box = 38;
  const order = port.endpoints.map((one, i) => ({ ...one, rate: rates[i], share: Math.max(0, ...one.shares) })).sort((a, b) => b.share - a.share || (b.rate || 0) - (a.rate || 0));
  const ends = order.slice(0, MOST_DRAWN), more = order.length - ends.length;
  const rows = Math.max(port.frontends.length, ends.length + (more > 0 ? 1 : 0), 1), height = rows * step + 6;
  const at = (i, n) => 4 + (height - n * step) / 2 + i * step;
  const lines = make("g", {}), boxes = make("g", {});
  const cut = (text, most) => text.length > most ? `${text.slice(0, most - 1)}…` : text;
  const label = (x, y, text, cls, most) => make("text", { x, y, class: cls }, cut(text, most), make("title", {}, text));
  port.frontends.forEach((front, f) => {
    const y = at(f, port.frontends.length), route = port.routes[front.route], stop = route.verdict !== "forward";
    const group = make("g", { class: "way" });
    ends.forEach((one, e) => {
      const share = one.shares[front.route] || 0;
      if (!share && one.share) return;
      const a = y + box / 2, b = at(e, ends.length + (more > 0 ? 1 : 0)) + box / 2, x = left, z = wide - right;
      group.append(make("path", { class: share ? "used" : "unused", d: `M${x} ${a}C${x + bend} ${a} ${z - bend} ${b} ${z} ${b}`, "stroke-width": share ? Math.max(1.2, share * 16).toFixed(2) : 1, "data-share": share },
        make("title", {}, share ? `${front.address} → ${one.address}: ${percent(share)}` : `${one.address}: ${one.reason}`)));
    });
    lines.append(group);
    const sources = front.sources.length ? `, from ${front.sources.join(" ")}` : "";
    boxes.append(make("g", { class: stop ? "stop" : "" }, make("rect", { x: 1, y, width: left - 1, height: box, rx: 6 }), label(10, y + 16, front.address, "", narrow ? 17 : 27),
      label(10, y + 31, (stop ? `${front.kind}: ${route.verdict === "reject" ? "refused" : "dropped"}` : front.kind) + sources, stop ? "stop small" : "small", narrow ? 20 : 30)));
  });
  ends.forEach((one, e) => {
    const y = at(e, ends.length + (more > 0 ? 1 : 0)), x = wide - right;
    const second = one.share ? `${[...new Set(one.shares.filter(Boolean).map(percent))].join(" / ")}${one.local ? ", on this node" : ""}` : one.reason || "unused";
    boxes.append(make("g", { class: one.share ? "end" : "end unused" }, make("rect", { x, y, width: right - 1, height: box, rx: 6 }), label(x + 10, y + 16, one.address, "", narrow ? 17 : one.share ? 26 : 36),
      one.share ? make("text", { x: wide - 12, y: y + 16, "text-anchor": "end" }, `${rate(one.rate)}/s`) : null, label(x + 10, y + 31, second, "small", narrow ? 26 : 42)));
  });
  if (more > 0) boxes.append(make("text", { x: wide - right + 10, y: at(ends.length, ends.length + 1) + 22, class: "small" }, `and ${more} more, listed below`));
  if (!ends.length) boxes.append(make("text", { x: wide - right + 10, y: height / 2 + 4, class: "stop" }, "no endpoint"));
  const used = order.filter((one) => one.share).length;
  return make("svg", { class: "scene", viewBox: `0 0 ${wide} ${height}`, role: "img", "aria-label": `${name}: ${port.frontends.length} frontends, ${used} of ${order.length} endpoints used; the table below has the same` }, lines, boxes);
}
function table(port, rates, isOpen) {
  const list = port.endpoints.slice(0, MOST_LISTED).map((one, i) => make("tr", {}, make("th", { scope: "row" }, one.address),
    make("td", {}, one.shares.map(percent).join(" / ")), make("td", {}, `${rate(rates[i])}/s`), make("td", {}, one.total === null ? "–" : one.total.toLocaleString("en")), make("td", {}, one.reason || (one.local ? "on this node" : ""))));
  return make("details", { open: isOpen ? "" : null }, make("summary", {}, `${port.endpoints.length} endpoints as a table`),
    make("table", {}, make("thead", {}, make("tr", {}, ...["Endpoint", port.routes.length > 1 ? "Share inside / outside" : "Share", "conn/s", "so far", ""].map((text) => make("th", { scope: "col" }, text)))), make("tbody", {}, list)));
}

// --- explain --------------------------------------------------------------------------------------------------------

$("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = event.target.querySelector("button");
  button.disabled = true;
  try {
    const got = await get({ explain: $("to").value, from: $("from").value, protocol: $("protocol").value });
    explained(got.status === 200 ? got.body : null, got.body.error);
  } catch { explained(null, "kproxy does not answer"); }
  button.disabled = false;
});
function explained(it, error) {
  const parts = [];
  if (!it) parts.push(make("p", {}, make("strong", {}, error)));
  else {
    const words = { forward: "forwarded", reject: "refused", drop: "dropped", none: "no Service" };
    parts.push(make("p", {}, make("strong", { class: it.verdict }, words[it.verdict] || it.verdict), ` ${it.service ? `by ${it.service}` : ""}${it.address ? ` at ${it.address}` : ""}: ${it.reason}`));
    if (it.masqueradeReason) parts.push(make("p", { class: "dim" }, `Source address ${it.masquerade === true ? "replaced" : it.masquerade ? "replaced for hairpins only" : "kept"}: ${it.masqueradeReason}`));
    const list = [...it.near, ...it.notes, ...it.endpoints.map((one) => `${one.address}: ${one.share ? percent(one.share) : one.reason}`)];
    if (list.length) parts.push(make("ul", {}, list.slice(0, 30).map((text) => make("li", {}, text)), list.length > 30 ? make("li", {}, `and ${list.length - 30} more`) : null));
    if (it.kernel) parts.push(make("p", {}, "The kernel's rules: ", make("strong", { class: it.kernel === "as planned" ? "forward" : "" }, it.kernel)));
    for (const one of it.differences || []) parts.push(make("pre", {}, typeof one === "string" ? one : one.what));
    if ((it.rules || []).length) parts.push(make("details", {}, make("summary", {}, `${it.rules.length} rules it passes`), make("pre", {}, it.rules.map((one) => `${one.packets ?? "–"}\t${one.table} ${one.chain}: ${one.rule}`).join("\n"))));
  }
  $("answer").replaceChildren(...parts);
  $("answer").hidden = false;
}

// --- keys -----------------------------------------------------------------------------------------------------------

function goTo(index) {
  const list = $("services"), top = index * ROW;
  if (top < list.scrollTop) list.scrollTop = top;
  else if (top + 2 * ROW + 10 > list.scrollTop + list.clientHeight) list.scrollTop = top - list.clientHeight + 2 * ROW + 10;
  draw();
  const row = [...$("rows").children].find((one) => one.dataset.id === shown[index].row.id);
  if (row) row.querySelector("button").focus({ preventScroll: true });
}
document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input, select, textarea");
  if (event.key === "/" && !typing) { event.preventDefault(); $("search").focus(); }
  else if (event.key === "Escape" && open !== null) { event.preventDefault(); leave(); }
  else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && shown.length && !event.target.matches("select, #from, #to")) {
    const row = event.target.closest("#rows tr[data-id]");
    if (!row && event.target !== $("search")) return;
    event.preventDefault();
    const index = row ? shown.findIndex((known) => known.row.id === row.dataset.id) : -1;
    goTo(Math.max(0, Math.min(shown.length - 1, index + (event.key === "ArrowDown" ? 1 : -1))));
  }
});
if (location.hash.length > 1) { try { choose(decodeURIComponent(location.hash.slice(1)), false); } catch { /* not ours */ } }
poll();
