// The prompt: as cards and as text, kept in step; one document on the server reads and writes both.
import { api } from "./api.js";
import { completes } from "./complete.js";
import { $, button, clear, grow, h, icon, later, offsets } from "./dom.js";
import { draft, on } from "./state.js";
import { named, t } from "./words.js";

const GENERAL = "general_tags";
const CAPTION = "caption";
const STARTING = { character: ["n", "appearance", "clothing", "expression", "action"], general: ["count", "background", "style"] };
const TABS = ["cards", "xml", "both"];

let fieldsOf = { character: [], general: [] };
let blocks = [];
let system = "";
let tab = localStorage.getItem("prompt-tab") ?? "cards";
let findings = [];
let asked = 0;
let pending = Promise.resolve();
let host, cards, raw, mirror, meter, notes, summary;

/** Resolves when cards and text say the same. */
export const settled = () => pending;

export function setFields(words) {
	fieldsOf = { character: words.character_fields, general: words.general_fields };
	drawCards();
}

export function build(section) {
	host = section;
	raw = h("textarea", { id: "raw", spellcheck: "false", rows: "8", wrap: "soft", label: t("prompt_xml"), maxlength: "65536" });
	mirror = h("div.mirror", { "aria-hidden": "true" });
	cards = h("div.cards");
	meter = h("p.tokens");
	summary = h("summary");
	notes = h("details.notes", { open: true }, summary, h("ul"));
	section.append(
		h("div.bar", {},
			h("h2", {}, t("prompt")),
			h("div.segments", { role: "group", label: t("prompt_form") },
				TABS.map((name) => h("button", { type: "button", class: "segment", "aria-pressed": String(tab === name), data: { tab: name }, onclick: () => show(name) }, t(name)))),
			grow(),
			button(t("undo"), draft.undo, { symbol: "undo", quiet: true, kind: "bare", id: "undo", title: `${t("undo")} (Ctrl+Z)` }),
			button(t("redo"), draft.redo, { symbol: "redo", quiet: true, kind: "bare", id: "redo", title: `${t("redo")} (Ctrl+Y)` }),
		),
		cards,
		h("div.raw", {}, mirror, raw),
		h("div.bar.under", {}, meter, grow(),
			button(t("to_flat"), () => convert(), { kind: "link", id: "convert" }),
			button(t("tidy"), tidy, { kind: "link", id: "tidy" })),
		notes,
	);
	raw.oninput = () => draft.set({ prompt: raw.value }, "raw");
	raw.onscroll = () => { mirror.scrollTop = raw.scrollTop; };
	completes(raw, () => /<(\w+)[^<>]*>[^<]*$/.exec(raw.value.slice(0, raw.selectionStart))?.[1] ?? "");
	on("draft", ({ keys, from }) => {
		const { undo, redo } = draft.can();
		$("#undo").disabled = !undo;
		$("#redo").disabled = !redo;
		if (!keys.has("prompt") && !keys.has("as_xml")) return;
		if (from !== "raw") raw.value = draft.get("prompt");
		paintMirror();
		if (from !== "cards") readText();
		lintLater();
	});
	show(tab);
}

function show(name) {
	tab = name;
	localStorage.setItem("prompt-tab", name);
	host.dataset.tab = name;
	for (const one of host.querySelectorAll(".segment")) one.setAttribute("aria-pressed", String(one.dataset.tab === name));
	paintMirror();
}

/** Text to cards. The last answer counts. */
const readText = later(120, () => {
	const turn = ++asked;
	const text = draft.get("prompt");
	pending = api.read(text).then((read) => {
		if (turn !== asked || text !== draft.get("prompt")) return;
		blocks = read.blocks;
		system = read.system;
		drawCards();
	}).catch(() => {});
});

/** Cards to text. Empty fields and cards stay on the desk, and are not written. */
function writeText() {
	const turn = ++asked;
	const said = blocks
		.map((block) => ({ name: block.name, fields: block.fields.filter((part) => part.text.trim()).map(({ name, text, nested, weight }) => ({ name, text, nested, weight })) }))
		.filter((block) => block.fields.length);
	pending = api.write(said, system).then((made) => {
		if (turn !== asked) return;
		place(made.blocks);
		draft.set({ prompt: made.prompt }, "cards");
	}).catch((error) => note(error.message));
}
const writeLater = later(60, writeText);

/** Where the fields of the desk stand in the text that was written of them. */
function place(written) {
	const drawn = blocks.filter((block) => block.fields.some((part) => part.text.trim()));
	drawn.forEach((block, at) => {
		const fields = block.fields.filter((part) => part.text.trim());
		fields.forEach((part, index) => Object.assign(part, { start: written[at]?.fields[index]?.start, end: written[at]?.fields[index]?.end }));
	});
}

const kindOf = (name) => (/^char/i.test(name) ? "character" : name === GENERAL ? "general" : name === CAPTION ? "caption" : name ? "other" : "plain");

function titleOf(block) {
	const kind = kindOf(block.name);
	if (kind === "character") return `${t("character")} ${/\d+/.exec(block.name)?.[0] ?? ""}`;
	return kind === "other" ? block.name : t(kind);
}

const label = (name) => (name ? named(`field_${name}`, name) : "");

function drawCards() {
	if (!cards) return;
	const focus = cards.contains(document.activeElement) ? document.activeElement.dataset.at : null;
	clear(cards, blocks.map(card), adders());
	if (focus) cards.querySelector(`[data-at="${focus}"]`)?.focus();
	paintFields();
}

function card(block, at) {
	const kind = kindOf(block.name);
	const title = titleOf(block);
	const known = fieldsOf[kind] ?? [];
	const missing = known.filter((name) => !block.fields.some((part) => part.name === name));
	return h("fieldset", { class: `card ${kind}`, data: { kind } },
		h("legend", {}, h("span", {}, title)),
		h("div.card-tools", {},
			kind === "character" && at > 0 && button(t("move_up"), () => move(at, -1), "up"),
			kind === "plain" && button(t("to_cards"), () => convert("xml"), { kind: "link" }),
			button(`${t("remove")}: ${title}`, () => { blocks.splice(at, 1); renumber(); drawCards(); writeText(); }, "close")),
		block.fields.map((part, index) => line(block, part, at, index, title)),
		missing.length > 0 && kind !== "caption" && adder(block, missing, title));
}

function line(block, part, at, index, title) {
	const name = label(part.name) || (kindOf(block.name) === "plain" ? t("prompt") : title);
	const id = `f-${at}-${index}`;
	const input = h("textarea", { id, class: "field", rows: "1", spellcheck: "false", value: part.text, data: { at: `${at}-${index}` }, label: `${title}: ${name}` });
	input.oninput = () => { part.text = input.value; writeLater(); };
	if (kindOf(block.name) !== "caption") completes(input, () => part.name);
	input.onkeydown = (event) => {
		if (event.key === "Backspace" && !input.value && block.fields.length > 1) {
			event.preventDefault();
			block.fields.splice(index, 1);
			drawCards();
			cards.querySelector(`[data-at="${at}-${Math.max(index - 1, 0)}"]`)?.focus();
		}
	};
	const weight = part.weight !== 1 && h("span.weight", {}, `×${part.weight}`);
	return h("div.line", { data: { line: `${at}-${index}` } },
		part.name && h("label", { for: id }, name, weight), input);
}

/** Fields that a card has not: chips, each a click. */
function adder(block, missing, title) {
	return h("div.adders", { role: "group", label: `${title}: ${t("add_field")}` },
		missing.map((name) => h("button", { type: "button", class: "add", onclick: () => {
			const order = fieldsOf[kindOf(block.name)];
			const before = block.fields.findIndex((part) => order.indexOf(part.name) > order.indexOf(name));
			const index = before < 0 ? block.fields.length : before;
			block.fields.splice(index, 0, { name, text: "", nested: false, weight: 1 });
			drawCards();
			cards.querySelector(`[data-at="${blocks.indexOf(block)}-${index}"]`)?.focus();
		} }, icon("plus"), label(name))));
}

function adders() {
	const has = (kind) => blocks.some((block) => kindOf(block.name) === kind);
	const add = (name, fields) => {
		const made = { name, fields: fields.map((one) => ({ name: one, text: "", nested: false, weight: 1 })) };
		const kind = kindOf(name);
		const people = blocks.filter((block) => kindOf(block.name) === "character").length;
		const at = kind === "character" ? people : kind === "general" && has("caption") ? blocks.findIndex((block) => block.name === CAPTION) : blocks.length;
		blocks.splice(at, 0, made);
		drawCards();
		cards.querySelector(`[data-at="${at}-0"]`)?.focus();
	};
	const people = blocks.filter((block) => kindOf(block.name) === "character").length;
	return h("div.new-cards", {},
		button(t("character"), () => add(`character_${people + 1}`, STARTING.character), { symbol: "plus", kind: "soft", id: "add-character" }),
		!has("general") && button(t("general"), () => add(GENERAL, STARTING.general), { symbol: "plus", kind: "soft" }),
		!has("caption") && button(t("caption"), () => add(CAPTION, [""]), { symbol: "plus", kind: "soft" }));
}

function move(at, by) {
	const [block] = blocks.splice(at, 1);
	blocks.splice(at + by, 0, block);
	renumber();
	drawCards();
	writeText();
}

function renumber() {
	let number = 0;
	for (const block of blocks) if (kindOf(block.name) === "character") block.name = `character_${++number}`;
}

async function convert(to) {
	await pending;
	const made = await api.convert(draft.get("prompt"), to).catch((error) => note(error.message));
	if (made) draft.set({ prompt: made.prompt.trim() }, "convert");
}

let mended = "";
function tidy() {
	if (mended && mended !== draft.get("prompt")) draft.set({ prompt: mended }, "tidy");
}

const note = (text) => { clear(summary, text); };

let linted = 0;
const lintLater = later(220, async () => {
	const turn = ++linted;
	const text = draft.get("prompt");
	const said = await api.lint(text, draft.get("as_xml")).catch(() => null);
	if (!said || turn !== linted) return;
	const unit = offsets(text);
	findings = said.findings.map((one) => ({
		...one,
		from: unit(one.start),
		to: unit(one.end),
		edits: one.edits.map((edit) => ({ ...edit, start: unit(edit.start), end: unit(edit.end) })),
	}));
	mended = said.mended;
	$("#tidy").hidden = mended === text;
	$("#convert").hidden = !/<\w/.test(text);
	paintTokens(said.length);
	paintNotes(text);
	paintMirror();
	paintFields();
});

function paintTokens(length) {
	clear(meter);
	if (!length) return;
	const share = Math.min(length.tokens / length.limit, 1);
	meter.append(
		h("span.gauge", { role: "img", label: t("tokens", length.tokens, length.limit) }, h("span", { style: { width: `${share * 100}%` } })),
		h("span", { "aria-hidden": "true" }, `${length.exact ? "" : "≈"}${length.tokens} / ${length.limit}`),
	);
	meter.classList.toggle("over", length.tokens > length.limit);
}

function remark(one, text) {
	const word = text.slice(one.from, Math.min(one.to, one.from + 40));
	return h("li", { class: one.severity },
		h("span.sign", { role: "img", label: t(one.severity) }),
		h("span.why", {}, one.reason, " ", h("span.how", {}, one.fix)),
		one.edits.length ? button(t("fix"), () => mend(one), { symbol: "fix", kind: "soft small", label: `${t("fix")}: ${one.rule}` })
			: word && button(t("find"), () => find(one), { kind: "link small", label: `${t("find")}: ${word}` }));
}

function paintNotes(text) {
	const counts = ["error", "warning", "info"].map((severity) => [severity, findings.filter((one) => one.severity === severity).length]).filter(([, n]) => n);
	notes.hidden = !findings.length;
	clear(summary, counts.map(([severity, n]) => h("span", { class: severity }, h("span.sign"), `${t(severity)}: ${n}`)));
	clear(notes.querySelector("ul"), findings.slice(0, 50).map((one) => remark(one, text)));
}

function mend(one) {
	let text = draft.get("prompt");
	for (const edit of [...one.edits].sort((a, b) => b.start - a.start)) text = text.slice(0, edit.start) + edit.replacement + text.slice(edit.end);
	draft.set({ prompt: text }, "mend");
}

function find(one) {
	if (tab === "cards") {
		const at = lineOf(one);
		if (at) return cards.querySelector(`[data-at="${at}"]`)?.focus();
		show("both");
	}
	raw.focus();
	raw.setSelectionRange(one.from, one.to);
}

/** The line of a card in which a finding lies, as `card-field`. */
function lineOf(one) {
	const unit = offsets(draft.get("prompt"));
	for (const [at, block] of blocks.entries()) {
		const index = block.fields.findIndex((part) => part.end && unit(part.start) <= one.from && one.to <= unit(part.end));
		if (index >= 0) return `${at}-${index}`;
	}
	return null;
}

function paintFields() {
	for (const line of cards.querySelectorAll(".line")) line.classList.remove("info", "warning", "error");
	for (const one of findings) {
		const at = lineOf(one);
		if (at) cards.querySelector(`[data-line="${at}"]`)?.classList.add(one.severity);
	}
}

/** The text again, behind the field that is typed in, with what was found underlined. */
function paintMirror() {
	if (tab === "cards") return;
	const text = raw.value;
	const marks = findings.filter((one) => one.to > one.from && one.to <= text.length).sort((a, b) => a.from - b.from);
	const pieces = [];
	let done = 0;
	for (const one of marks) {
		if (one.from < done) continue;
		pieces.push(...tinted(text.slice(done, one.from)), h("mark", { class: one.severity }, text.slice(one.from, one.to)));
		done = one.to;
	}
	clear(mirror, pieces, ...tinted(text.slice(done)), "\n ");
	mirror.scrollTop = raw.scrollTop;
}

/** Markup in another colour than what it holds. */
const tinted = (text) => text.split(/(<\/?[\w-]+[^<>]*>)/).filter(Boolean).map((piece) => (piece.startsWith("<") && piece.endsWith(">") ? h("i", {}, piece) : piece));
