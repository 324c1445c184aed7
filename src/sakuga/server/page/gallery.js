// The gallery: thousands of pictures in a list of which few are in the page, searched, opened.
import { api } from "./api.js";
import { $, button, clear, complain, dialogHead, grow, h, later } from "./dom.js";
import { bytes, seconds, when } from "./format.js";
import { actions, altOf, fileOf } from "./stage.js";
import { on, place, tell } from "./state.js";
import { named, t } from "./words.js";

const PAGE = 500;
const MOST = 60; // cards in the page at once
const GAP = 12;
let list, scroller, search, count, dialog, tools;
let pictures = [];
let total = 0;
let next = null;
let loading = false;
let turn = 0;
let focused = 0;
let picked = new Set();
let shape = { columns: 1, cell: 200 };
const cards = new Map(); // index -> its element

export function build(section) {
	search = h("input", { type: "search", id: "search", placeholder: t("search_hint"), label: t("search") });
	search.oninput = later(250, () => { place.set({ q: search.value }); restart(); });
	count = h("span.total", { role: "status" });
	tools = h("span.picked", { hidden: true });
	list = h("ul.wall", { label: t("gallery") });
	scroller = h("div.scroller", { tabindex: "-1" }, list);
	dialog = h("dialog.viewer", { label: t("picture") });
	document.body.append(dialog);
	dialog.onclose = () => { place.set({ picture: undefined }); cards.get(focused)?.querySelector("button").focus(); };
	dialog.onclick = (event) => { if (event.target === dialog) dialog.close(); };
	section.append(h("div.bar.head", {}, search, count, grow(), tools), scroller);
	scroller.onscroll = paint;
	new ResizeObserver(() => { measure(); paint(); }).observe(scroller);
	list.onkeydown = walk;
	on("removed", (ids) => {
		const gone = new Set(ids);
		const before = pictures.length;
		pictures = pictures.filter((one) => !gone.has(one.id));
		total -= before - pictures.length;
		picked = new Set([...picked].filter((id) => !gone.has(id)));
		repaint();
	});
	on("ended", (job) => { if (job.state === "finished") stale = true; });
}
let stale = true;

export function enter() {
	search.value = place.get("q") ?? "";
	if (stale) restart();
	else { measure(); paint(); }
	const id = place.get("picture");
	if (id) api.picture(id).then((picture) => openPicture(picture)).catch(complain);
}

/** What is typed, as the server asks: words, `seed:5`, `tag:red_hair`, `model:chibi`. */
export function asked(text) {
	const given = { tag: [] };
	const rest = text.replace(/\b(seed|tag|model):(\S+)/g, (_, key, value) => {
		if (key === "tag") given.tag.push(value);
		else given[key] = value;
		return "";
	});
	return { q: rest.trim(), ...given };
}

async function restart() {
	stale = false;
	turn++;
	pictures = [];
	next = null;
	total = 0;
	focused = 0;
	loading = false;
	scroller.scrollTop = 0;
	await more();
}

async function more() {
	if (loading) return;
	loading = true;
	const mine = turn;
	const said = await api.pictures({ ...asked(search.value), limit: PAGE, before: next }).catch(complain);
	if (mine !== turn) return;
	loading = false;
	if (!said) return;
	pictures = pictures.concat(said.pictures);
	next = said.next;
	total = Math.max(said.total, pictures.length);
	repaint();
}

function measure() {
	const width = scroller.clientWidth - 2 * GAP;
	if (width <= 0) return;
	let columns = Math.max(2, Math.floor(width / (width < 600 ? 130 : 190)));
	const rows = (each) => Math.ceil(scroller.clientHeight / (width / each)) + 1;
	while (columns > 1 && columns * rows(columns) > MOST) columns--;
	shape = { columns, cell: (width - GAP * (columns - 1)) / columns };
}

function repaint() {
	for (const card of cards.values()) card.remove();
	cards.clear();
	clear(count, t("pictures", total));
	measure();
	paint();
	paintTools();
}

/** Puts into the page the cards that are in sight, and takes out those that are not. */
function paint() {
	const pitch = shape.cell + GAP;
	list.style.height = `${Math.ceil(total / shape.columns) * pitch}px`;
	list.classList.toggle("none", !total && !loading);
	list.dataset.none = t("none_yet");
	const first = Math.max(0, Math.floor(scroller.scrollTop / pitch)) * shape.columns;
	const last = Math.min(total, (Math.ceil((scroller.scrollTop + scroller.clientHeight) / pitch)) * shape.columns, first + MOST);
	for (const [index, card] of cards) {
		if (index < first || index >= last) { card.remove(); cards.delete(index); }
	}
	for (let index = first; index < last; index++) {
		if (!pictures[index]) { if (next && !loading) more(); break; }
		if (!cards.has(index)) {
			const made = cardOf(index);
			cards.set(index, made);
			list.append(made);
		}
		const style = cards.get(index).style;
		const column = index % shape.columns;
		style.width = style.height = `${shape.cell}px`;
		style.transform = `translate(${GAP + column * pitch}px, ${Math.floor(index / shape.columns) * pitch}px)`;
	}
}

function cardOf(index) {
	const picture = pictures[index];
	const pick = h("input", { type: "checkbox", class: "pick", label: `${t("pick")}: ${picture.seed}`, checked: picked.has(picture.id), tabindex: "-1" });
	pick.onchange = () => { pick.checked ? picked.add(picture.id) : picked.delete(picture.id); paintTools(); };
	return h("li.tile", { "aria-setsize": total, "aria-posinset": index + 1, data: { index } },
		h("button", { type: "button", tabindex: index === focused ? "0" : "-1", label: altOf(picture), onclick: () => { focused = index; openPicture(picture, index); }, onfocus: () => { focused = index; } },
			h("img", { src: picture.thumbnail, alt: "", loading: "lazy", decoding: "async" })), pick);
}

/** Arrows move among tiles, space picks, Delete deletes. */
function walk(event) {
	const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -shape.columns, ArrowDown: shape.columns, Home: -Infinity, End: Infinity }[event.key];
	const picture = pictures[focused];
	if (by !== undefined) {
		event.preventDefault();
		const to = Math.min(Math.max(focused + by, 0), pictures.length - 1);
		if (Number.isNaN(to)) return;
		const pitch = shape.cell + GAP;
		const top = Math.floor(to / shape.columns) * pitch;
		if (top < scroller.scrollTop) scroller.scrollTop = top;
		else if (top + pitch > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = top + pitch - scroller.clientHeight;
		cards.get(focused)?.querySelector("button").setAttribute("tabindex", "-1");
		focused = to;
		paint();
		const target = cards.get(to)?.querySelector("button");
		target?.setAttribute("tabindex", "0");
		target?.focus({ preventScroll: true });
	} else if (event.key === " " && picture) {
		event.preventDefault();
		cards.get(focused)?.querySelector(".pick").click();
	} else if (event.key === "Delete" && picture) {
		remove(picked.size ? [...picked] : [picture.id]);
	}
}

async function remove(ids) {
	const said = await api.remove(ids).catch(complain);
	if (said) tell("removed", said.deleted);
}

function paintTools() {
	tools.hidden = !picked.size;
	const ids = [...picked];
	clear(tools, h("span", {}, t("picked", ids.length)),
		h("a.button.soft", { href: api.zip(ids.slice(0, 200)), download: "" }, t("export")),
		ids.length === 2 && button(t("compare"), () => place.go("compare", { a: ids[0], b: ids[1] }), { kind: "soft" }),
		button(t("delete"), () => remove(ids), { kind: "soft danger" }),
		button(t("unpick"), () => { picked.clear(); repaint(); }, "close"));
}

/** One picture, large, with all that its receipt tells. */
export async function openPicture(picture, index = -1) {
	const full = picture.receipt ? picture : await api.picture(picture.id).catch(complain);
	if (!full) return;
	if (place.view() === "gallery") place.set({ picture: full.id });
	const turn = (by) => { const other = pictures[index + by]; if (index >= 0 && other) { focused = index + by; openPicture(other, index + by); } };
	dialog.onkeydown = (event) => {
		if (event.target.closest("input, textarea, pre")) return;
		if (event.key === "ArrowLeft") turn(-1);
		if (event.key === "ArrowRight") turn(1);
	};
	clear(dialog,
		h("div.shown", {}, h("img", { src: fileOf(full), alt: altOf(full), width: full.width, height: full.height })),
		h("div.about", {},
			dialogHead(dialog, `${t("set_seed")} ${full.seed}`),
			actions(full, () => dialog.close()),
			rows(full)));
	if (!dialog.open) dialog.showModal();
}

/** What a receipt tells, as rows of words; `other`: mark what differs. */
export function rows(full, other = null) {
	const told = facts(full);
	const there = other && Object.fromEntries(facts(other));
	return h("dl.receipt", {}, told.map(([key, value]) => h("div", { class: there && there[key] !== value ? "differs" : "" }, h("dt", {}, named(`set_${key}`, key)), h("dd", {}, key === "prompt" || key === "negative" ? h("pre", { tabindex: "0" }, value) : value))));
}

function facts(full) {
	const asked = { ...(full.receipt?.request ?? full.request) };
	const skip = new Set(["prompt", "negative", "seed", "width", "height", "number", "sent", "as_xml"]);
	const rest = Object.entries(asked).filter(([key, value]) => !skip.has(key) && value !== null && value !== "" && value !== false && !(Array.isArray(value) && !value.length) && typeof value !== "object");
	return [
		["prompt", full.prompt], ...(full.negative ? [["negative", full.negative]] : []),
		["size", `${full.width} × ${full.height}`], ["seed", String(full.seed)],
		...rest.map(([key, value]) => [key, String(value).slice(0, 400)]),
		["model", full.model], ["time", seconds(full.seconds)], ["created", when(full.created)], ["file", bytes(full.bytes)],
	].filter(([, value]) => value);
}

export const focusSearch = () => $("#search").focus();
