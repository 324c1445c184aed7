// The stage: a sheet with what is drawn, how far it is, and what can be done with it.
import { api } from "./api.js";
import { $, button, clear, complain, grow, h, icon, toast } from "./dom.js";
import { seconds } from "./format.js";
import { effective } from "./settings.js";
import { draft, on, place, tell } from "./state.js";
import { named, t } from "./words.js";

let sheet, frame, caption, strip, status;
let job = null;
let shown = null; // the picture on the sheet
let recent = [];
let previews = new Map();

export const fileOf = (picture) => picture.file ?? `sakuga/v1/pictures/${picture.id}/file`;

export function build(section) {
	frame = h("div.frame-box");
	sheet = h("div.paper", {},
		$(".pegs").cloneNode(true), frame);
	status = h("p.hidden", { role: "status", "aria-live": "polite" });
	caption = h("div.caption");
	strip = h("ul.strip", { label: t("recent") });
	section.append(h("div.easel", {}, sheet), status, caption, strip);
	on("draft", ({ keys }) => { if (!job && !shown && (keys.has("width") || keys.has("height") || keys.has("recipe"))) empty(); });
	on("removed", (ids) => {
		recent = recent.filter((one) => !ids.includes(one.id));
		paintStrip();
		if (shown && ids.includes(shown.id)) { shown = null; empty(); }
	});
	on("ended", () => loadRecent());
	empty();
	loadRecent();
}

/** A blank sheet with a field chart, as animators have under their paper. */
export function empty() {
	const [w, height] = [effective("width") ?? 256, effective("height") ?? 256];
	ratio(w, height);
	const lines = [1, 2, 3, 4].map((n) => h("rect", { x: n * 11, y: n * 11 * (height / w), width: 100 - n * 22, height: (100 - n * 22) * (height / w) }));
	const tall = (100 * height) / w;
	clear(frame, h("svg.chart", { viewBox: `0 0 100 ${tall}`, "aria-hidden": "true" }, lines, h("line", { x1: 50, y1: 0, x2: 50, y2: tall }), h("line", { x1: 0, y1: tall / 2, x2: 100, y2: tall / 2 })));
	clear(caption, h("p.hint", {}, t("empty"), " ", h("kbd", {}, "Ctrl+Enter")));
}

function ratio(w, height) {
	frame.style.aspectRatio = `${w} / ${height}`;
	sheet.style.setProperty("--ratio", w / height);
	sheet.style.setProperty("--most", `${Math.max(w, 640)}px`);
}

/** Gives the sheet to another: the editor of a start picture. */
export function lend(element, w, height) {
	ratio(w, height);
	clear(frame, element);
	delete caption.dataset.job;
	clear(caption, h("p.hint", {}, t("edit_hint")));
}

/** What a job's events do here. */
export function heardBy(note = "") {
	previews = new Map();
	return {
		state: (said) => {
			job = said;
			tell("drawing", said);
			if (said.state === "queued") progress(null, said.position, said.wait, note);
			if (said.state === "running" && said.progress) progress(said.progress, null, null, note);
		},
		position: (said) => progress(null, said.position, said.wait, note),
		progress: (said) => progress(said, null, null, note),
		preview: (said) => {
			previews.set(said.index, said);
			paintPreviews();
		},
		warning: (said) => toast(said.message),
		done: (said) => ended(said, note),
	};
}

function paintPreviews() {
	const [first] = previews.values();
	const many = Math.max(...previews.keys()) + 1;
	const request = job?.request ?? {};
	if (many === 1) ratio(request.width ?? first.width, request.height ?? first.height);
	const kept = frame.querySelectorAll("img.preview");
	if (kept.length === previews.size) {
		[...previews.values()].forEach((one, at) => { kept[at].src = `data:${one.media_type};base64,${one.b64}`; });
		return;
	}
	clear(frame, h("div.contact", { style: { "--many": Math.ceil(Math.sqrt(many)) } },
		[...previews.values()].map((one) => h("img.preview", { alt: t("preview"), src: `data:${one.media_type};base64,${one.b64}` }))));
}

function progress(said, position, wait, note) {
	const share = said?.fraction ?? 0;
	const steps = said?.steps ? `${said.step} / ${said.steps}` : "";
	const text = said
		? [named(`stage_${said.stage}`, said.stage), steps, said.eta !== null && said.eta !== undefined ? t("left", seconds(said.eta)) : ""].filter(Boolean)
		: [position ? t("position", position) : t("next"), wait ? t("starts", seconds(wait)) : ""].filter(Boolean);
	const bar = caption.querySelector("progress");
	if (bar && caption.dataset.job === job?.id) {
		bar.value = share;
		clear(caption.querySelector(".where"), text.map((one) => h("span", {}, one)));
	} else {
		caption.dataset.job = job?.id ?? "";
		clear(caption,
			h("progress", { max: 1, value: share, label: t("progress") }),
			h("div.bar", {}, h("p.where", {}, text.map((one) => h("span", {}, one))), note && h("span.note", {}, note), grow(),
				button(t("cancel"), stopJob, { symbol: "stop", kind: "soft", id: "cancel" })));
		status.textContent = text.join(", ");
	}
}

export async function stopJob() {
	if (job && ["queued", "running"].includes(job.state)) await api.cancel(job.id).catch(complain);
}

function ended(said, note) {
	job = said;
	tell("drawing", said);
	previews = new Map();
	if (said.state === "finished" && said.pictures.length) {
		show(said.pictures[0], said.pictures, note);
		status.textContent = t("finished", seconds(said.finished - said.started));
	} else if (said.state === "failed") {
		clear(caption, h("p.failed", { role: "alert" }, said.error?.message ?? t("failed")));
	} else if (shown) {
		show(shown);
	} else {
		empty();
	}
	job = null;
}

/** A finished picture on the sheet. */
export function show(picture, all = [picture], note = "") {
	shown = picture;
	delete caption.dataset.job;
	ratio(picture.width, picture.height);
	const image = h("img.picture", { alt: altOf(picture), src: fileOf(picture), width: picture.width, height: picture.height, onclick: () => tell("open", picture) });
	clear(frame, image);
	clear(caption,
		h("div.bar", {},
			h("p.facts", {}, h("span", {}, `${picture.width} × ${picture.height}`), picture.seconds && h("span", {}, seconds(picture.seconds)), h("button", { type: "button", class: "add", title: t("keep_seed"), onclick: () => draft.set({ seed: picture.seed }) }, icon("pin"), String(picture.seed)), note && h("span.note", {}, note)),
			grow(), actions(picture)),
		all.length > 1 && h("ul.siblings", {}, all.map((one) => h("li", {}, h("button", { type: "button", "aria-pressed": String(one.id === picture.id), label: altOf(one), onclick: () => show(one, all) }, h("img", { src: one.thumbnail, alt: "", loading: "lazy" }))))));
	for (const one of strip.querySelectorAll("button")) one.setAttribute("aria-pressed", String(one.dataset.id === picture.id));
}

export const altOf = (picture) => `${t("picture")} ${picture.seed}: ${(picture.prompt ?? "").replace(/<[^>]*>/g, " ").replace(/\s+/g, " ").trim().slice(0, 120)}`;

/** What can be done with a finished picture, wherever it is shown. */
export function actions(picture, after = () => {}) {
	const act = (run) => async () => {
		try {
			await run(await api.picture(picture.id));
			after();
		} catch (error) {
			complain(error);
		}
	};
	return h("div.actions", { role: "group", label: t("actions") },
		button(t("again"), act((full) => tell("draw", full.request)), "again"),
		button(t("vary"), act((full) => tell("draw", { ...full.request, image: `picture:${picture.id}`, strength: 0.75, seed: Math.floor(Math.random() * 2 ** 32) })), "vary"),
		button(t("settings_back"), act((full) => { draft.replace(full.request); place.go("draw", full.request); }), "copy"),
		button(t("start_from"), act(async () => { tell("start", `picture:${picture.id}`); if (place.view() !== "draw") place.go("draw", { ...draft.all() }); }), "start"),
		button(t("compare"), () => { after(); tell("compare", picture.id); }, "compare"),
		h("a.button.bare", { href: `${fileOf(picture)}?download=1`, download: "", label: t("save"), title: t("save") }, icon("save")),
		button(t("delete"), act(async () => {
			await api.remove([picture.id]);
			tell("removed", [picture.id]);
		}), "bin"));
}

async function loadRecent() {
	const said = await api.pictures({ limit: 24 }).catch(() => null);
	if (!said) return;
	recent = said.pictures;
	paintStrip();
	tell("pictures", said.total);
}

function paintStrip() {
	clear(strip, recent.map((one) => h("li", {}, h("button", { type: "button", data: { id: one.id }, "aria-pressed": String(shown?.id === one.id), label: altOf(one), onclick: () => show(one) }, h("img", { src: one.thumbnail, alt: "", loading: "lazy", width: 64, height: 64 })))));
}

export const nothingShown = () => !shown && !job;
export const showLast = () => { if (!shown && !job && recent[0]) show(recent[0]); };
