// The picture that a drawing starts from: chosen, masked with a brush or boxes, made larger.
import { asDataUrl, button, clear, h, head, icon } from "./dom.js";
import { empty, lend, nothingShown } from "./stage.js";
import { draft, on, tell } from "./state.js";
import { t } from "./words.js";

const SIDES = ["left", "top", "right", "bottom"];
const GRID = 16; // pixels by which a canvas grows
let section, file, source;
let picture = null; // the picture as it is shown
let mask = null; // a canvas as large as it, white where it is drawn anew
let tool = "brush";
let brush = 24;
let spot = [0, 0]; // where a brush that is moved by keys stands

const address = (image) => (image.startsWith("picture:") ? `sakuga/v1/pictures/${image.slice(8)}/file` : image);

export function build(host) {
	section = host;
	file = h("input", { type: "file", accept: "image/png,image/jpeg,image/webp,image/avif", class: "hidden", id: "start-file", tabindex: "-1", label: t("start") });
	file.onchange = () => { if (file.files[0]) take(file.files[0]); file.value = ""; };
	on("draft", ({ keys }) => {
		if (keys.has("image")) load();
		else if (["mask", "outpaint", "strength", "only_masked", "mask_invert"].some((key) => keys.has(key)) && !section.contains(document.activeElement)) paint();
		if (keys.has("mask") && !draft.get("mask") && mask) { wipe(); }
	});
	paint();
}

export async function take(blob) {
	startFrom(await asDataUrl(blob));
}

/** Another picture to start from; the drawing keeps its size. */
export const startFrom = (image) => draft.set({ image, mask: undefined, outpaint: undefined, width: undefined, height: undefined });

function load() {
	const image = draft.get("image");
	source = image;
	picture = mask = null;
	if (!image) {
		paint();
		if (nothingShown()) empty();
		else tell("edited");
		return;
	}
	const loaded = new Image();
	loaded.onload = () => {
		if (source !== image) return;
		picture = loaded;
		mask = h("canvas", { width: loaded.naturalWidth, height: loaded.naturalHeight, class: "mask", tabindex: "0", role: "application", label: t("mask_canvas") });
		paint();
		edit();
	};
	loaded.onerror = () => draft.set({ image: undefined });
	loaded.src = address(image);
}

const grown = () => {
	const said = draft.get("outpaint") ?? "";
	if (/^\d+$/.test(said)) return Object.fromEntries(SIDES.map((side) => [side, Number(said)]));
	return Object.fromEntries(SIDES.map((side) => [side, Number(new RegExp(`${side}=(\\d+)`).exec(said)?.[1] ?? 0)]));
};

function enlarge(change) {
	const now = { ...grown(), ...change };
	const said = SIDES.filter((side) => now[side] > 0).map((side) => `${side}=${now[side]}`).join();
	draft.set({ outpaint: said || undefined });
}

function paint() {
	if (!picture) {
		clear(section, head(t("start"), file,
			button(t("choose"), () => file.click(), { symbol: "start", kind: "soft", id: "choose-start" })), h("p.hint", {}, t("start_hint")));
		return;
	}
	const masked = Boolean(draft.get("mask"));
	const strength = draft.get("strength");
	const usual = masked || draft.get("outpaint") ? 1 : 0.6;
	const number = h("output", {}, (strength ?? usual).toFixed(2));
	const range = h("input", { type: "range", id: "strength", min: 0, max: 1, step: 0.05, value: strength ?? usual });
	range.oninput = () => { number.textContent = Number(range.value).toFixed(2); draft.set({ strength: Number(range.value) }); };
	const flag = (key) => {
		const box = h("input", { type: "checkbox", class: "switch", id: `start-${key}`, checked: Boolean(draft.get(key)) });
		box.onchange = () => draft.set({ [key]: box.checked || undefined });
		return h("label.check", { for: box.id }, box, t(`set_${key}`));
	};
	clear(section,
		head(t("start"), file, button(t("choose"), () => file.click(), { kind: "link" }),
			button(`${t("remove")}: ${t("start")}`, () => draft.set({ image: undefined, mask: undefined, outpaint: undefined, strength: undefined, only_masked: undefined, mask_invert: undefined }), "close")),
		h("div.start", {},
			h("img.start-thumb", { src: picture.src, alt: t("start") }),
			h("div.start-more", {},
				h("div.setting.slide", {}, h("label", { for: "strength" }, t("set_strength")), number, range),
				h("div.bar.tight", { role: "group", label: t("mask") },
					[["brush", "brush"], ["eraser", "eraser"], ["box", "box"]].map(([name, symbol]) => h("button", { type: "button", class: "button bare", "aria-pressed": String(tool === name), label: t(`tool_${name}`), title: t(`tool_${name}`), onclick: () => { tool = name; paint(); edit(); } }, icon(symbol))),
					brushSize(),
					button(t("clear_mask"), () => { wipe(); draft.set({ mask: undefined, only_masked: undefined, mask_invert: undefined }); }, { kind: "link", disabled: !masked })),
				masked && h("div.bar.tight", {}, flag("only_masked"), flag("mask_invert")))));
}

function brushSize() {
	const size = h("input", { type: "range", min: 4, max: 128, step: 2, value: brush, label: t("brush_size"), class: "short" });
	size.oninput = () => { brush = Number(size.value); };
	return size;
}

/** The picture on the stage, with its mask above it and handles on its sides. */
export function edit() {
	if (!picture) return;
	const { left, top, right, bottom } = grown();
	const [w, height] = [picture.naturalWidth, picture.naturalHeight];
	const [whole, tall] = [w + left + right, height + top + bottom];
	const percent = (part, all) => `${(part / all) * 100}%`;
	const inner = h("div.inner", { style: { left: percent(left, whole), top: percent(top, tall), width: percent(w, whole), height: percent(height, tall) } },
		h("img", { src: picture.src, alt: t("start"), draggable: "false" }), mask);
	mask.onpointerdown = paintStroke;
	mask.onkeydown = paintByKeys;
	lend(h("div.editor", { data: { tool } }, inner, SIDES.map((side) => handle(side, whole))), whole, tall);
}

function handle(side, whole) {
	const across = side === "left" || side === "right";
	const sign = side === "left" || side === "top" ? -1 : 1;
	const made = h("button", { type: "button", class: `handle ${side}`, label: `${t("outpaint")}: ${t(`side_${side}`)}, ${grown()[side]}`, title: `${t("outpaint")}: ${t(`side_${side}`)}` });
	const step = (by) => { enlarge({ [side]: Math.max(0, grown()[side] + by) }); edit(); document.querySelector(`.handle.${side}`)?.focus(); };
	made.onkeydown = (event) => {
		const by = { ArrowLeft: across ? -1 : 0, ArrowRight: across ? 1 : 0, ArrowUp: across ? 0 : -1, ArrowDown: across ? 0 : 1 }[event.key];
		if (!by) return;
		event.preventDefault();
		step(by * sign * GRID);
	};
	made.onpointerdown = (event) => {
		event.preventDefault();
		const scale = whole / made.parentElement.getBoundingClientRect().width;
		const [from, began] = [across ? event.clientX : event.clientY, grown()[side]];
		const moved = (now) => Math.max(0, Math.round((began + ((across ? now.clientX : now.clientY) - from) * sign * scale) / GRID) * GRID);
		const follow = (now) => { made.dataset.grown = `+${moved(now)}`; };
		addEventListener("pointermove", follow);
		addEventListener("pointerup", (now) => { removeEventListener("pointermove", follow); enlarge({ [side]: moved(now) }); edit(); paint(); }, { once: true });
	};
	return made;
}

function at(event) {
	const box = mask.getBoundingClientRect();
	return [((event.clientX - box.left) / box.width) * mask.width, ((event.clientY - box.top) / box.height) * mask.height];
}

const pen = () => {
	const ink = mask.getContext("2d");
	ink.globalCompositeOperation = tool === "eraser" ? "destination-out" : "source-over";
	ink.strokeStyle = ink.fillStyle = "#e0452b";
	ink.lineCap = ink.lineJoin = "round";
	ink.lineWidth = (brush / 256) * Math.max(mask.width, mask.height) * 0.5;
	return ink;
};

function paintStroke(event) {
	if (event.button) return;
	event.preventDefault();
	mask.setPointerCapture(event.pointerId);
	const ink = pen();
	let from = at(event);
	const before = tool === "box" && ink.getImageData(0, 0, mask.width, mask.height);
	const draw = (now) => {
		const to = at(now);
		if (before) {
			ink.putImageData(before, 0, 0);
			ink.fillRect(from[0], from[1], to[0] - from[0], to[1] - from[1]);
			return;
		}
		ink.beginPath();
		ink.moveTo(...from);
		ink.lineTo(...to);
		ink.stroke();
		from = to;
	};
	if (!before) draw(event);
	mask.onpointermove = draw;
	mask.onpointerup = mask.onpointercancel = () => { mask.onpointermove = mask.onpointerup = null; keep(); };
}

/** Arrow keys move the brush, space paints, E erases, brackets change its size. */
function paintByKeys(event) {
	const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
	if (event.key === "[" || event.key === "]") brush = Math.min(128, Math.max(4, brush + (event.key === "]" ? 8 : -8)));
	else if (event.key === "e" || event.key === "b") tool = event.key === "e" ? "eraser" : "brush";
	else if (move || event.key === " ") {
		const by = Math.max(mask.width, mask.height) / 32;
		const to = move ? [Math.min(mask.width, Math.max(0, spot[0] + move[0] * by)), Math.min(mask.height, Math.max(0, spot[1] + move[1] * by))] : spot;
		if (event.key === " " || event.shiftKey) {
			const ink = pen();
			ink.beginPath();
			ink.moveTo(...spot);
			ink.lineTo(to[0], to[1] + 0.01);
			ink.stroke();
			keep();
		}
		spot = to;
		mask.style.setProperty("--x", `${(spot[0] / mask.width) * 100}%`);
		mask.style.setProperty("--y", `${(spot[1] / mask.height) * 100}%`);
	} else return;
	event.preventDefault();
}

function wipe() {
	mask?.getContext("2d").clearRect(0, 0, mask.width, mask.height);
}

/** The mask as a picture of its own: white on black; none where nothing is painted. */
function keep() {
	const { width, height } = mask;
	const painted = mask.getContext("2d").getImageData(0, 0, width, height).data.some((value, index) => index % 4 === 3 && value > 0);
	if (!painted) return draft.set({ mask: undefined });
	const flat = h("canvas", { width, height });
	const ink = flat.getContext("2d");
	ink.drawImage(mask, 0, 0);
	for (const [how, colour] of [["source-in", "#fff"], ["destination-over", "#000"]]) {
		Object.assign(ink, { globalCompositeOperation: how, fillStyle: colour });
		ink.fillRect(0, 0, width, height);
	}
	draft.set({ mask: flat.toDataURL("image/png") });
	paint();
}
