// What is asked for besides the prompt: negative, size, recipe, numbers, LoRA, presets.
import { button, clear, h, head } from "./dom.js";
import { draft, on } from "./state.js";
import { named, t } from "./words.js";

const PLAIN = ["steps", "guidance", "seed", "number"]; // shown at once
const ELSEWHERE = new Set(["prompt", "negative", "width", "height", "recipe", "lora", "image", "mask", "strength", "outpaint", "mask_invert", "mask_grow", "mask_feather", "only_masked", "mask_padding", "sent", "long", "lora_partial", "verbatim", ...PLAIN]);
const MOST_SEED = 2 ** 48;

let model = null;
const shown = [];

/** The value that is drawn with: set, else the recipe's, else the model's. */
export function effective(key) {
	const asked = draft.get(key);
	if (asked !== undefined && asked !== null) return asked;
	return model?.recipes[draft.get("recipe")]?.values[key] ?? model?.drawing[key] ?? model?.schema.properties[key]?.default;
}

export const currentModel = () => model;

export function build(parts) {
	const id = "negative";
	const input = h("textarea", { id, class: "field", rows: "1", spellcheck: "false" });
	input.oninput = () => draft.set({ negative: input.value || undefined }, "negative");
	shown.push(({ from }) => { if (from !== "negative") input.value = draft.get("negative") ?? ""; });
	parts.negative.append(h("div.line", {}, h("label", { for: id }, t("negative")), input));
	on("draft", (change) => shown.forEach((paint) => paint(change)));
}

export function setModel(given, parts) {
	model = given;
	buildFrame(parts.frame);
	buildNumbers(parts.settings);
	buildPresets(parts.presets);
	shown.forEach((paint) => paint({ keys: new Set(), from: "" }));
}

/** Sizes of training as frames to choose from, then free numbers. */
function buildFrame(section) {
	const { drawing } = model;
	const sizes = (drawing.trained_sizes?.length ? [].concat(drawing.trained_sizes) : [`${drawing.width}x${drawing.height}`]).map((text) => text.split("x").map(Number));
	const area = (w, height) => Math.abs(Math.log((w * height) / (drawing.width * drawing.height)));
	const usual = [...sizes].sort((a, b) => area(...a) - area(...b)).slice(0, 7).sort((a, b) => a[0] / a[1] - b[0] / b[1]);
	const frames = usual.map(([w, height]) => {
		const scale = 22 / Math.max(w, height);
		return h("button", { type: "button", class: "frame", data: { size: `${w}x${height}` }, "aria-pressed": "false", label: `${w} × ${height}`, onclick: () => draft.set({ width: w, height }) },
			h("span.sheet", { style: { width: `${w * scale}px`, height: `${height * scale}px` } }), h("span.dims", { "aria-hidden": "true" }, `${w}×${height}`));
	});
	const side = (key) => {
		const made = h("input", { id: `size-${key}`, type: "number", min: drawing.min_side, max: drawing.max_side, step: drawing.size_multiple, inputmode: "numeric", label: t(key) });
		made.onchange = () => draft.set({ [key]: made.value ? Number(made.value) : undefined });
		return made;
	};
	const [wide, high] = [side("width"), side("height")];
	clear(section,
		head(t("size"),
			h("span.sides", {}, wide, button(t("swap"), () => draft.set({ width: effective("height"), height: effective("width") }), { kind: "bare times", quiet: true, symbol: "close" }), high)),
		h("div.frames", { role: "group", label: t("size") }, frames));
	shown.push(() => {
		const own = draft.get("image") && !draft.get("width"); // the size of the start picture
		const [w, height] = own ? ["", ""] : [effective("width"), effective("height")];
		if (document.activeElement !== wide) wide.value = w;
		if (document.activeElement !== high) high.value = height;
		for (const one of frames) one.setAttribute("aria-pressed", String(one.dataset.size === `${w}x${height}`));
	});
}

const typed = (kind) => [kind.type].flat().find((one) => one !== "null");

/** A field of a Request by its schema: a choice, a switch, a number or a text. */
function control(key) {
	const kind = model.schema.properties[key];
	const id = `set-${key}`;
	const type = typed(kind);
	let input;
	const say = (value) => draft.set({ [key]: value }, key);
	if (kind.enum) {
		input = h("select", { id }, h("option", { value: "" }, t("open")), kind.enum.filter(Boolean).map((one) => h("option", { value: one }, one)));
		input.onchange = () => say(input.value || undefined);
	} else if (type === "boolean") {
		input = h("input", { id, type: "checkbox", class: "switch" });
		input.onchange = () => say(input.checked || undefined);
	} else if (type === "integer" || type === "number") {
		input = h("input", { id, type: "number", min: kind.minimum ?? kind.exclusiveMinimum, max: kind.maximum, step: type === "integer" ? 1 : "any", inputmode: "decimal" });
		input.oninput = () => say(input.value === "" ? undefined : Number(input.value));
	} else {
		input = h("input", { id, type: "text" });
		input.oninput = () => say(input.value || undefined);
	}
	shown.push(({ from }) => {
		if (from === key) return;
		const asked = draft.get(key);
		if (type === "boolean") input.checked = Boolean(asked);
		else input.value = asked ?? "";
		if (!kind.enum && type !== "boolean") input.placeholder = key === "seed" ? t("random") : (effective(key) ?? "");
	});
	return { input, id, key };
}

const row = ({ input, id, key }) => h("div.setting", { title: model.schema.properties[key].description }, h("label", { for: id }, named(`set_${key}`, key)), input);

/** A number with a slider above its usual range. */
function slider(key, low, high, step) {
	const { input, id } = control(key);
	const range = h("input", { type: "range", min: low, max: high, step, label: named(`set_${key}`, key), tabindex: "-1" });
	range.oninput = () => draft.set({ [key]: Number(range.value) });
	shown.push(() => { range.value = effective(key); });
	return h("div.setting.slide", { title: model.schema.properties[key].description }, h("label", { for: id }, named(`set_${key}`, key)), input, range);
}

function buildNumbers(section) {
	const recipe = control("recipe");
	const seed = control("seed");
	const more = Object.keys(model.schema.properties).filter((key) => !ELSEWHERE.has(key) && SIMPLE.has(typed(model.schema.properties[key])));
	const count = h("span.count");
	shown.push(() => {
		const set = more.filter((key) => draft.get(key) !== undefined).length;
		clear(count, set ? String(set) : "");
	});
	clear(section,
		h("div.settings", {},
			slider("steps", 1, Math.max(50, 2 * model.drawing.steps), 1),
			slider("guidance", 0, 12, 0.5),
			h("div.setting", {}, h("label", { for: seed.id }, t("set_seed")), h("span.joined", {}, seed.input,
				button(t("new_seed"), () => draft.set({ seed: Math.floor(Math.random() * MOST_SEED) }), "dice"),
				button(t("random"), () => draft.set({ seed: undefined }), "close"))),
			row(control("number")),
			row(recipe)),
		h("details.more", {}, h("summary", {}, t("all_settings"), count), h("div.settings", {}, more.map((key) => row(control(key))))),
		loras());
}
const SIMPLE = new Set(["string", "boolean", "integer", "number"]);

/** Adapters with strengths: NAME:STRENGTH, those that the server knows. */
function loras() {
	const adapters = model.adapters ?? [];
	const list = h("ul.loras");
	const pick = h("select", { id: "lora-pick", label: t("add_lora") }, h("option", { value: "" }, adapters.length ? t("add_lora") : t("no_lora")), adapters.map((one) => h("option", { value: one.name }, one.name)));
	pick.disabled = !adapters.length;
	const chosen = () => (draft.get("lora") ?? []).map((text) => text.split(":"));
	const say = (all) => draft.set({ lora: all.length ? all.map((one) => one.join(":")) : undefined });
	pick.onchange = () => {
		if (pick.value) say([...chosen(), [pick.value, "1"]]);
		pick.value = "";
	};
	shown.push(({ from }) => {
		if (from === "lora") return;
		clear(list, chosen().map((one, at) => {
			const strength = h("input", { type: "number", step: "0.05", min: "-2", max: "2", value: one[1] ?? "1", label: `${one[0]}: ${t("set_strength")}` });
			strength.onchange = () => say(chosen().map((each, index) => (index === at ? [each[0], strength.value || "1", ...each.slice(2)] : each)));
			return h("li", {}, h("span.tag", {}, one[0]), strength, button(`${t("remove")}: ${one[0]}`, () => say(chosen().filter((_, index) => index !== at)), "close"));
		}));
	});
	return h("div.lora", {}, head("LoRA", pick), list);
}

/** Settings under a name, kept in this browser. */
function buildPresets(section) {
	const read = () => JSON.parse(localStorage.getItem("presets") ?? "{}");
	const list = h("div.presets", { role: "group", label: t("presets") });
	const name = h("input", { type: "text", id: "preset-name", maxlength: "40", placeholder: t("preset_name"), label: t("preset_name") });
	const keep = (all) => { localStorage.setItem("presets", JSON.stringify(all)); paint(); };
	const paint = () => {
		const all = read();
		clear(list, Object.keys(all).map((one) => h("span.preset", {},
			h("button", { type: "button", class: "add", onclick: () => draft.set({ ...Object.fromEntries(Object.keys(model.schema.properties).filter((key) => !["prompt", "image", "mask"].includes(key)).map((key) => [key, undefined])), ...all[one] }) }, one),
			button(`${t("remove")}: ${one}`, () => { delete all[one]; keep(all); }, "close"))));
	};
	const save = () => {
		if (!name.value.trim()) return name.focus();
		const { prompt: _, image: __, mask: ___, seed: ____, ...rest } = draft.all();
		keep({ ...read(), [name.value.trim()]: rest });
		name.value = "";
	};
	name.onkeydown = (event) => { if (event.key === "Enter" && !event.ctrlKey) { event.preventDefault(); save(); } };
	clear(section, head(t("presets"), h("span.joined", {}, name, button(t("keep"), save, "plus"))), list);
	paint();
}
