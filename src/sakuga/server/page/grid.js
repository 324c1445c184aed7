// A grid: one parameter against another, words and fields of the prompt among them.
import { api } from "./api.js";
import { button, clear, h, later, toast } from "./dom.js";
import { lastPlan, refused, request } from "./foot.js";
import { seconds } from "./format.js";
import { drawQuietly } from "./jobs.js";
import { effective } from "./settings.js";
import { altOf } from "./stage.js";
import { draft, on, place, tell } from "./state.js";
import { named, t } from "./words.js";

const MOST = 64;
const NUMBERS = ["steps", "guidance", "shift", "seed", "strength", "renorm", "truncation"];
const CHOICES = ["solver", "schedule", "recipe", "weighting", "encoding", "size", "word"];
const EXAMPLES = { steps: "4, 8, 12", guidance: "1, 3, 5, 7", seed: "1, 2, 3, 4", shift: "1, 3, 6", solver: "euler, midpoint, dpm2", size: "256x256, 256x384", strength: "0.4, 0.6, 0.8" };
let form, board, price, axes, run;
let blank = true; // until a grid was drawn on the board

export function build(section) {
	axes = ["x", "y"].map((name) => axis(name));
	price = h("p.cost", { id: "grid-cost" });
	run = button(t("draw_grid"), start, { kind: "go", "aria-describedby": "grid-cost" });
	form = h("div.axes", {}, axes.map((one) => one.element), h("div.axes-go", {}, price, run));
	board = h("div.board", { tabindex: "0", role: "region", label: t("picture") });
	section.append(form, board);
	on("plan", paintPrice);
}

function axis(name) {
	const what = h("select", { id: `axis-${name}` });
	const values = h("input", { id: `values-${name}`, type: "text", label: `${t(`axis_${name}`)}: ${t("values")}` });
	const keep = later(200, () => { place.set({ [name]: what.value, [`${name}v`]: values.value }); paintPrice(); });
	what.onchange = () => { values.value = suggestion(what.value); keep(); };
	values.oninput = keep;
	return { name, what, values, element: h("div.axis", {}, h("label", { for: what.id }, t(`axis_${name}`)), what, values) };
}

/** What could be written for an axis: for a field of a card, what it says now. */
function suggestion(key) {
	if (key.startsWith("<")) return fieldText(key) ? `${fieldText(key)}; ` : "";
	if (key === "word") return "blue_hair, red_hair";
	return EXAMPLES[key] ?? "";
}

let cards = [];
const fieldText = (key) => {
	const [block, field] = key.slice(1).split(".");
	return cards.find((one) => one.name === block)?.fields.find((part) => part.name === field)?.text ?? "";
};

export async function enter() {
	cards = (await api.read(draft.get("prompt") ?? "").catch(() => ({ blocks: [] }))).blocks;
	const fields = cards.flatMap((block) => block.fields.filter((part) => block.name && !part.nested).map((part) => `<${block.name}.${part.name}`));
	for (const [index, { name, what, values }] of axes.entries()) {
		clear(what, h("option", { value: "" }, t("nothing")), [...NUMBERS, ...CHOICES].map((key) => h("option", { value: key }, named(`set_${key}`, key))),
			fields.length ? h("optgroup", { title: t("prompt") }, fields.map((key) => h("option", { value: key }, key.slice(1).replace(".", " › ").replace(/ › $/, "")))) : null);
		what.value = place.get(name) ?? ["guidance", "seed"][index];
		values.value = place.get(`${name}v`) ?? (index ? "1, 2" : EXAMPLES.guidance);
	}
	paintPrice();
}

/** The values of an axis; those of a card's field are parted by semicolons, as they hold commas. */
function valuesOf({ what, values }) {
	if (!what.value) return [null];
	const found = values.value.split(what.value.startsWith("<") ? ";" : ",").map((one) => one.trim()).filter(Boolean);
	return found.length ? found : [null];
}

/** The change that a value of an axis makes to a request. */
async function change(asked, key, value, first) {
	if (value === null || !key) return asked;
	if (key === "size") {
		const [width, height] = value.split(/[x×]/).map(Number);
		return { ...asked, width, height: height || width };
	}
	if (key === "word") return { ...asked, prompt: asked.prompt.replaceAll(first, value) };
	if (key.startsWith("<")) {
		const [block, field] = key.slice(1).split(".");
		const read = await api.read(asked.prompt);
		const blocks = read.blocks.map((one) => (one.name !== block ? one : { ...one, fields: one.fields.map((part) => (part.name === field ? { ...part, text: value } : part)) }));
		return { ...asked, prompt: (await api.write(blocks, read.system)).prompt };
	}
	return { ...asked, [key]: NUMBERS.includes(key) ? Number(value) : value };
}

function paintPrice() {
	const cells = valuesOf(axes[0]).length * valuesOf(axes[1]).length;
	const each = lastPlan()?.seconds ?? 0;
	run.disabled = cells > MOST;
	if (blank) ghost();
	clear(price, h("strong", {}, t("cells", cells)), h("span", {}, cells > MOST ? t("too_many", MOST) : `≈ ${seconds(cells * each)}`));
}

/** The table with empty sheets, and its cells. */
function ghost(kind = "blank") {
	const [columns, lines] = axes.map((one) => valuesOf(one).slice(0, MOST));
	const cells = lines.map(() => columns.map(() => h("td", {}, h("span", { class: kind, style: { "aspect-ratio": `${effective("width")} / ${effective("height")}` } }))));
	clear(board, h("table", {},
		h("thead", {}, h("tr", {}, h("td"), columns.map((value) => h("th", { scope: "col" }, value ?? "")))),
		h("tbody", {}, lines.map((line, row) => h("tr", {}, h("th", { scope: "row" }, line ?? ""), cells[row])))));
	return cells;
}

async function start() {
	const [columns, lines] = axes.map(valuesOf);
	const [x, y] = axes.map((one) => one.what.value);
	const seed = draft.get("seed") ?? Math.floor(Math.random() * 2 ** 32);
	const cells = ghost("waiting");
	blank = false;
	for (const [row, line] of lines.entries()) {
		for (const [column, value] of columns.entries()) {
			try {
				const base = request({ seed, number: 1 });
				const asked = await change(await change(base, x, value, columns[0]), y, line, lines[0]);
				await drawQuietly(asked, (job) => fill(cells[row][column], job));
			} catch (error) {
				clear(cells[row][column], h("span.failed", {}, error.message));
				if (error.status === 429 || !error.status) return refused(error);
			}
		}
	}
}

function fill(cell, job) {
	const [picture] = job.pictures ?? [];
	if (!picture) return clear(cell, h("span.failed", {}, job.error?.message ?? named(job.state, job.state)));
	clear(cell, h("button", { type: "button", class: "cell", label: altOf(picture), onclick: () => tell("open", picture) }, h("img", { src: picture.file, alt: "", width: picture.width, height: picture.height })));
	if (!board.querySelector(".waiting")) toast(t("grid_done"));
}
