"use strict";
// What the pages of kproxy and of kproxy ingress have in common. What others wrote (names, hosts, reasons) becomes text of
// nodes or an attribute's value, and never markup.
const $ = (id) => document.getElementById(id);

// What cannot be seen, or turns the direction of what is beside it, is shown by its number, as the command line does.
const UNSEEN = /[\p{C}\p{Zl}\p{Zp}]/gu, SHOWN = new Set(["title", "aria-label"]);
const plain = (text) => String(text).replace(UNSEEN, (one) => one === "\n" || one === "\t" ? one : `\\u${one.codePointAt(0).toString(16).padStart(4, "0")}`);

const SVG = "http://www.w3.org/2000/svg", OF_SVG = new Set(["svg", "path", "text", "rect", "g", "title"]);
function make(name, attributes, ...children) {
  const made = OF_SVG.has(name) ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value !== null && value !== undefined && value !== false) made.setAttribute(key, SHOWN.has(key) ? plain(value) : value);
  for (const child of children.flat()) if (child !== null && child !== undefined) made.append(typeof child === "string" ? plain(child) : child);
  return made;
}
const say = (node, text) => { const shown = plain(text); if (node.textContent !== shown) node.textContent = shown; };
const rate = (value) => value === null || value === undefined ? "–" : value === 0 ? "0" : value < 10 ? value.toFixed(1) : Math.round(value).toLocaleString("en");
const percent = (share) => `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`;

const WARNS = "⚠ ";
function verdict(good, text) {
  $("health").className = good ? "health good" : "health bad";
  say($("verdict"), text);
  document.title = `${good ? "" : WARNS}${document.title.replace(WARNS, "")}`;
}
function listFacts(facts) {
  $("facts").replaceChildren(...facts.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
}
function listTrouble(told, most, rest = "") {
  $("trouble").hidden = told.length === 0;
  $("trouble").replaceChildren(...told.slice(0, most).map((text) => make("li", {}, text)), ...(told.length > most ? [make("li", {}, `and ${told.length - most} more${rest}`)] : []));
}
