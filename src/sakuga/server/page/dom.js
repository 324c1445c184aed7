// Elements made and found; text is only ever text.
import { t } from "./words.js";

export const $ = (selector, root = document) => root.querySelector(selector);
export const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

const SVG = new Set(["svg", "path", "circle", "rect", "line", "g"]);

/** An element "tag.class": props are attributes, `on*` listeners, `label`, `data`, `style`. */
export function h(what, props = {}, ...children) {
	const [tag, ...classes] = what.split(".");
	const made = SVG.has(tag)
		? document.createElementNS("http://www.w3.org/2000/svg", tag)
		: document.createElement(tag);
	if (classes.length) made.setAttribute("class", classes.join(" "));
	for (const [key, value] of Object.entries(props)) {
		if (value === undefined || value === null || value === false) continue;
		if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
		else if (key === "label") made.setAttribute("aria-label", value);
		else if (key === "data") Object.assign(made.dataset, value);
		else if (key === "style") for (const [name, how] of Object.entries(value)) made.style.setProperty(name, how);
		else if (key === "value" || key === "checked") made[key] = value;
		else made.setAttribute(key, value === true ? "" : value);
	}
	made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
	return made;
}

const ICONS = {
	undo: "M8 5 4 9l4 4M4 9h9a6 6 0 0 1 0 12h-3",
	redo: "M16 5l4 4-4 4M20 9h-9a6 6 0 0 0 0 12h3",
	plus: "M12 5v14M5 12h14",
	close: "M6 6l12 12M18 6 6 18",
	dice: "M5 5h14v14H5zM9 9h.01M15 9h.01M12 12h.01M9 15h.01M15 15h.01",
	pin: "M12 3v8M7 11h10l-1 4H8zM12 15v6",
	again: "M20 12a8 8 0 1 1-2.5-5.8M20 3v4h-4",
	vary: "M4 18c4 0 4-12 8-12s4 12 8 12",
	brush: "M14 4l6 6-9 9H5v-6z",
	box: "M5 5h14v14H5z",
	compare: "M4 5h7v14H4zM13 5h7v14h-7z",
	save: "M12 4v11M7 11l5 5 5-5M5 20h14",
	bin: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
	copy: "M8 8h12v12H8zM4 16V4h12",
	up: "M12 19V6M6 11l6-6 6 6",
	start: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4",
	eraser: "M9 20h11M4 14l8-9 7 6-8 9H7z",
	fix: "M5 13l4 4L19 7",
	stop: "M7 7h10v10H7z",
};

export function icon(name) {
	return h("svg.i", { viewBox: "0 0 24 24", "aria-hidden": "true" }, h("path", { d: ICONS[name] }));
}

/** A button: its label, what it does, how it looks; the name of an icon makes it that alone. */
export function button(label, onclick, how = {}) {
	const { symbol, kind = "", title, quiet, ...rest } = typeof how === "string" ? { symbol: how, kind: "bare", quiet: true } : how;
	return h(
		"button",
		{ type: "button", class: `button ${kind}`, onclick, title: title ?? (quiet ? label : null), "aria-label": quiet ? label : null, ...rest },
		symbol && icon(symbol),
		!quiet && h("span", {}, label),
	);
}

/** A row with a title, then what is on its right. */
export const head = (title, ...rest) => h("div.bar", {}, h("h2", {}, title), grow(), ...rest);

/** The same above what a dialog shows. */
export const dialogHead = (dialog, title) => h("div.bar", {}, h("h2", {}, title), grow(), button(t("close"), () => dialog.close(), "close"));

export const grow = () => h("span.grow");

export const clear = (element, ...children) => element.replaceChildren(...children.flat().filter(Boolean));

/** Calls no sooner than `wait` ms after the last call. */
export function later(wait, action) {
	let timer = 0;
	const called = (...given) => {
		clearTimeout(timer);
		timer = setTimeout(() => action(...given), wait);
	};
	called.cancel = () => clearTimeout(timer);
	return called;
}

export const complain = (error) => { toast(error.message); };

let toasting = 0;
export function toast(text, action) {
	const host = $("#toasts");
	const made = h("p.toast", {}, h("span", {}, text), action && button(action.label, () => { action.run(); made.remove(); }, { kind: "link" }));
	host.append(made);
	while (host.children.length > 3) host.firstChild.remove();
	clearTimeout(toasting);
	toasting = setTimeout(() => clear(host), action ? 9000 : 5000);
}

/** Offsets of characters (code points), as the server counts, to those of JavaScript's texts. */
export function offsets(text) {
	if (!/[\ud800-\udbff]/.test(text)) return (at) => at;
	const map = [];
	let unit = 0;
	for (const point of text) { map.push(unit); unit += point.length; }
	map.push(unit);
	return (at) => map[Math.min(at, map.length - 1)];
}

export const asDataUrl = (blob) => new Promise((done, failed) => {
	const reader = new FileReader();
	reader.onload = () => done(reader.result);
	reader.onerror = () => failed(reader.error);
	reader.readAsDataURL(blob);
});
