// The draft: fields of a Request, as far as somebody has set them. It lives in the address.
import { later } from "./dom.js";

const heard = new EventTarget();
const BULKY = (value) => typeof value === "string" && value.startsWith("data:");
const TYPING = 900; // ms within which changes of one field are undone as one
const FIRST = {
	prompt: "<character_1>\n<n>hatsune_miku</n>\n<gender>1girl</gender>\n<appearance>aqua_hair, twintails, aqua_eyes</appearance>\n<clothing>hoodie</clothing>\n<expression>smile</expression>\n</character_1>\n<general_tags>\n<count>1girl</count>\n<background>beach</background>\n</general_tags>",
};

let fields = {};
let view = "draw";
let params = {};
const past = [];
const future = [];
let last = { key: "", at: 0 };

export const on = (kind, listener) => heard.addEventListener(kind, (event) => listener(event.detail));
export const tell = (kind, detail) => heard.dispatchEvent(new CustomEvent(kind, { detail }));

export const draft = {
	get: (key) => fields[key],
	all: () => ({ ...fields }),
	/** Sets fields; undefined unsets one. `from`: who did, so that it does not redraw itself. */
	set(change, from = "") {
		const changed = Object.keys(change).filter((key) => fields[key] !== change[key]);
		if (!changed.length) return;
		const key = changed.join() + from;
		if (key !== last.key || Date.now() - last.at > TYPING) {
			past.push(fields);
			if (past.length > 200) past.shift();
		}
		last = { key, at: Date.now() };
		future.length = 0;
		apply({ ...fields, ...change }, from);
	},
	replace: (all) => {
		past.push(fields);
		future.length = 0;
		last.key = "";
		apply({ ...all }, "replace");
	},
	undo: () => travel(past, future),
	redo: () => travel(future, past),
	can: () => ({ undo: past.length > 0, redo: future.length > 0 }),
};

function travel(from, to) {
	if (!from.length) return;
	to.push(fields);
	last.key = "";
	apply(from.pop(), "travel");
}

function apply(next, from) {
	const keys = new Set([...Object.keys(next), ...Object.keys(fields)].filter((key) => next[key] !== fields[key]));
	fields = Object.fromEntries(Object.entries(next).filter(([, value]) => value !== undefined && value !== ""));
	if (!("prompt" in fields)) fields.prompt = "";
	tell("draft", { keys, from });
	if (view === "draw") write();
}

/** Where one is: a view and its parameters. */
export const place = {
	view: () => view,
	get: (key) => params[key],
	go(to, given = {}) {
		location.hash = `#${to}${pairs(given)}`;
	},
	set(given) {
		params = { ...params, ...given };
		history.replaceState(null, "", `#${view}${pairs(params)}`);
	},
};

function pairs(given) {
	const all = new URLSearchParams();
	for (const [key, value] of Object.entries(given)) {
		if (value === undefined || value === "" || value === null) continue;
		all.set(key, typeof value === "string" ? value : JSON.stringify(value));
	}
	return all.size ? `?${all}` : "";
}

const write = later(300, () => {
	if (view !== "draw") return;
	const kept = Object.fromEntries(Object.entries(fields).filter(([, value]) => !BULKY(value)));
	history.replaceState(null, "", `#draw${pairs(kept)}`);
});

function value(key, text) {
	if (key === "prompt" || key === "negative") return text;
	try {
		return JSON.parse(text);
	} catch {
		return text;
	}
}

/** Reads the address: at the start, and when somebody goes back or follows a link. */
export function readAddress() {
	const [, name, rest] = /^#(\w*)\??(.*)$/s.exec(location.hash) ?? [];
	view = ["draw", "gallery", "grid", "compare"].includes(name) ? name : "draw";
	const given = Object.fromEntries(new URLSearchParams(rest ?? ""));
	if (view === "draw") {
		const asked = Object.fromEntries(Object.entries(given).map(([key, text]) => [key, value(key, text)]));
		if (Object.keys(asked).length || !("prompt" in fields)) apply({ ...FIRST, ...keptBulk(), ...asked }, "address");
		else write();
	} else {
		params = given;
		if (!("prompt" in fields)) apply(FIRST, "address");
	}
	tell("place", { view });
}

const keptBulk = () => Object.fromEntries(Object.entries(fields).filter(([, one]) => BULKY(one)));

addEventListener("hashchange", readAddress);
