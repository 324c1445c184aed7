// Tag completion: a list under the field that is typed in, with uses, slot and what the model knows.
import { api } from "./api.js";
import { clear, h, later } from "./dom.js";
import { t } from "./words.js";

const list = h("ul.completion", { id: "completion", role: "listbox", hidden: true });
document.body.append(list);
list.setAttribute("aria-label", t("completion"));

let field = null; // the one that is typed in
let found = [];
let at = -1;
let asking = null;

const many = new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 1 });
const PARTS = /[,，、\n>|]/;

/** What is being typed: from the last sign that parts tags to the caret. */
function begun(input) {
	const before = input.value.slice(0, input.selectionStart);
	let start = before.length;
	while (start > 0 && !PARTS.test(before[start - 1])) start--;
	while (start < before.length && /\s/.test(before[start])) start++;
	return { start, text: before.slice(start) };
}

export function completes(input, slot) {
	input.setAttribute("aria-autocomplete", "list");
	input.setAttribute("aria-controls", "completion");
	const ask = later(90, async () => {
		const { text } = begun(input);
		if (document.activeElement !== input || text.length < 2 || text.length > 60 || text.includes("<")) return close();
		asking?.abort();
		asking = new AbortController();
		try {
			const said = await api.tags(text, slot(), asking.signal);
			if (document.activeElement === input) open(input, said.tags.filter((one) => one.tag !== text));
		} catch {
			close();
		}
	});
	input.addEventListener("input", ask);
	input.onblur = () => setTimeout(() => { if (field === input) close(); }, 120);
	input.addEventListener("keydown", (event) => {
		if (event.key === " " && event.ctrlKey) {
			event.preventDefault();
			api.tags(begun(input).text, slot()).then((said) => open(input, said.tags)).catch(close);
			return;
		}
		if (list.hidden || field !== input || event.isComposing) return;
		if (event.key === "ArrowDown") choose(at + 1);
		else if (event.key === "ArrowUp") choose(at - 1);
		else if ((event.key === "Enter" || event.key === "Tab") && at >= 0 && !event.ctrlKey) take(found[at]);
		else if (event.key === "Escape") close();
		else return;
		event.preventDefault();
		event.stopPropagation();
	}, true);
}

function open(input, tags) {
	if (!tags.length) return close();
	field = input;
	found = tags;
	clear(list, tags.map((one, index) => h("li", { role: "option", id: `completion-${index}`, "aria-selected": "false", onmousedown: (event) => { event.preventDefault(); take(one); } },
		h("span.tag", {}, one.tag, one.typed && h("small", {}, ` ← ${one.typed}`)),
		h("span.slot", {}, one.slot || one.field),
		one.taught ? h("span.taught", { title: t("taught") }, "●") : h("span.uses", {}, one.uses ? many.format(one.uses) : ""))));
	const box = input.getBoundingClientRect();
	const width = Math.min(Math.max(box.width, 260), innerWidth - 16);
	const below = innerHeight - box.bottom;
	const top = below > 230 || below > box.top ? Math.min(box.bottom, innerHeight - 40) + 4 : Math.max(8, box.top - Math.min(list.scrollHeight, 300) - 8);
	Object.assign(list.style, { left: `${Math.min(box.left, innerWidth - width - 8) + scrollX}px`, top: `${top + scrollY}px`, width: `${width}px` });
	list.hidden = false;
	choose(0);
}

function choose(index) {
	at = (index + found.length) % found.length;
	[...list.children].forEach((one, each) => one.setAttribute("aria-selected", String(each === at)));
	field.setAttribute("aria-activedescendant", `completion-${at}`);
	list.children[at].scrollIntoView({ block: "nearest" });
}

function take(one) {
	const input = field;
	const { start } = begun(input);
	const rest = input.value.slice(input.selectionStart);
	const joint = /^\s*(,|$|\n|<)/.test(rest) ? "" : ", ";
	input.setRangeText(one.tag + joint, start, input.selectionStart, "end");
	close();
	input.dispatchEvent(new Event("input", { bubbles: true }));
	close();
}

function close() {
	list.hidden = true;
	field?.removeAttribute("aria-activedescendant");
	field = null;
	at = -1;
}
