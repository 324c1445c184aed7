// The page: its parts put together, its keys, what is dropped on it.
import { api } from "./api.js";
import { $, $$, asDataUrl, button, clear, complain, dialogHead, h, toast } from "./dom.js";
import * as foot from "./foot.js";
import { seconds } from "./format.js";
import { draw, look } from "./jobs.js";
import * as prompt from "./prompt.js";
import * as settings from "./settings.js";
import * as stage from "./stage.js";
import * as start from "./start.js";
import { draft, on, place, readAddress } from "./state.js";
import { language, setLanguage, t, translate } from "./words.js";

const VIEWS = ["gallery", "grid", "compare"];
const built = {};
const parts = Object.fromEntries(["prompt", "negative", "frame", "settings", "start", "presets"].map((name) => [name, $(`#part-${name}`)]));

function appearance() {
	const kept = localStorage.getItem("theme");
	if (kept) document.documentElement.dataset.theme = kept;
	$("#theme").addEventListener("click", () => {
		const dark = document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
		document.documentElement.dataset.theme = dark ? "light" : "dark";
		localStorage.setItem("theme", document.documentElement.dataset.theme);
	});
	$("#language").value = language();
	$("#language").onchange = (event) => setLanguage(event.target.value);
}

on("place", ({ view }) => {
	for (const section of $$(".view")) section.hidden = section.id !== `view-${view}`;
	for (const link of $$(".views a")) link.toggleAttribute("aria-current", link.dataset.view === view);
	document.title = view === "draw" ? "sakuga" : `${t(view)} – sakuga`;
	document.body.dataset.view = view;
	if (VIEWS.includes(view)) load(view).then((module) => place.view() === view && module.enter());
});

/** A view besides the desk: fetched and built when it is first wanted. */
function load(view) {
	built[view] ??= import(`./${view}.js`).then((module) => { module.build($(`#view-${view}`)); return module; });
	return built[view];
}

on("open", (picture) => load("gallery").then((gallery) => gallery.openPicture(picture)));
on("start", start.startFrom);
on("compare", (id) => load("compare").then((compare) => compare.choose(id)));

on("draw", async (request) => {
	try {
		await draw(request, stage.heardBy());
		if (place.view() !== "draw") place.go("draw", draft.all());
		document.body.dataset.side = "stage";
	} catch (error) {
		foot.refused(error);
	}
});

on("queue", ({ jobs, paused }) => {
	const chip = $("#queue-chip");
	chip.hidden = !jobs.length && !paused;
	chip.textContent = paused ? "❚❚" : String(jobs.length);
	chip.setAttribute("aria-label", paused ?? t("in_queue", jobs.length));
	if (queueDialog.open) paintQueue(jobs);
	$("#banner").hidden = !paused;
	$("#banner").textContent = paused ?? "";
});

const queueDialog = h("dialog.sheet-dialog", { label: t("queue") });
function paintQueue(jobs) {
	clear(queueDialog, dialogHead(queueDialog, t("queue")),
		jobs.length ? h("ol.queue", {}, [...jobs].reverse().map((job) => h("li", {},
			h("span.tag", {}, (job.request.prompt ?? "").replace(/<[^>]*>/g, " ").trim().slice(0, 60)),
			h("span.slot", {}, job.state === "running" ? `${Math.round((job.progress?.fraction ?? 0) * 100)} %` : t("position", (job.position ?? 0) + 1), " · ", seconds(job.seconds)),
			job.state === "queued" && button(t("first"), () => api.first(job.id, "high").then(look).catch(complain), "up"),
			button(t("cancel"), () => api.cancel(job.id).then(look).catch(complain), "stop"))))
			: h("p.hint", {}, t("queue_empty")));
}

const KEYS = [["Ctrl+Enter", "draw_it"], ["Esc", "cancel"], ["Ctrl+Z / Ctrl+Y", "undo_redo"], ["Ctrl+Space", "completion"], ["Alt+1 … 4", "views"], ["Alt+L", "live"], ["Alt+N", "new_seed"], ["/", "search"], ["← → ↑ ↓", "key_walk"], ["Space, [ ], E", "key_mask"], ["?", "keys"]];
const keysDialog = h("dialog.sheet-dialog", { label: t("keys") });
function showKeys() {
	clear(keysDialog, dialogHead(keysDialog, t("keys")),
		h("dl.keys", {}, KEYS.map(([key, name]) => h("div", {}, h("dt", {}, h("kbd", {}, key)), h("dd", {}, t(name))))));
	keysDialog.showModal();
}

addEventListener("keydown", (event) => {
	const typing = event.target.closest("input:not([type=checkbox],[type=range]), textarea, select");
	if (event.ctrlKey || event.metaKey) {
		if (event.key === "Enter") { event.preventDefault(); foot.drawNow(); }
		else if (event.key.toLowerCase() === "z" && !event.shiftKey) { event.preventDefault(); draft.undo(); }
		else if (event.key.toLowerCase() === "y" || (event.key.toLowerCase() === "z" && event.shiftKey)) { event.preventDefault(); draft.redo(); }
		return;
	}
	if (event.altKey) {
		const view = ["draw", "gallery", "grid", "compare"][Number(event.code.replace("Digit", "")) - 1];
		if (view) { event.preventDefault(); place.go(view, view === "draw" ? draft.all() : {}); }
		if (event.code === "KeyL") { event.preventDefault(); foot.toggleLive(); }
		if (event.code === "KeyN") { event.preventDefault(); draft.set({ seed: Math.floor(Math.random() * 2 ** 48) }); }
		return;
	}
	if (event.key === "Escape" && !$("dialog[open]")) stage.stopJob();
	if (typing) return;
	if (event.key === "?") showKeys();
	if (event.key === "/") { event.preventDefault(); if (place.view() !== "gallery") place.go("gallery"); load("gallery").then((gallery) => setTimeout(gallery.focusSearch)); }
});

/** A picture that is dropped or pasted: its settings, or the start of another. */
function drops() {
	const over = $("#drop");
	const picture = (event) => [...(event.dataTransfer?.items ?? event.clipboardData?.items ?? [])].find((one) => one.kind === "file" && one.type.startsWith("image/"))?.getAsFile();
	let depth = 0;
	addEventListener("dragenter", (event) => { if ([...event.dataTransfer.types].includes("Files")) { depth++; over.hidden = false; } });
	addEventListener("dragleave", () => { if (--depth <= 0) { depth = 0; over.hidden = true; } });
	addEventListener("dragover", (event) => {
		event.preventDefault();
		for (const zone of over.children) zone.classList.toggle("over", zone.contains(event.target));
	});
	addEventListener("drop", async (event) => {
		event.preventDefault();
		depth = 0;
		over.hidden = true;
		const file = picture(event);
		if (!file) return;
		if (event.target.closest("[data-drop=start]")) start.take(file);
		else restore(file);
	});
	addEventListener("paste", (event) => { const file = picture(event); if (file) restore(file); });
}

async function restore(file) {
	try {
		const said = await api.said(await asDataUrl(file));
		const { image: _, mask: __, ...fields } = said.request ?? {};
		draft.replace({ ...fields });
		if (place.view() !== "draw") place.go("draw", fields);
		toast(said.left?.length ? t("restored_less", said.kind, said.left.slice(0, 3).join("; ")) : t("restored", said.kind));
	} catch (error) {
		toast(error.message, { label: t("drop_start"), run: () => start.take(file) });
	}
}

async function begin() {
	translate();
	appearance();
	document.body.append(queueDialog, keysDialog);
	$("#keys").onclick = showKeys;
	$("#queue-chip").onclick = () => { paintQueue([]); queueDialog.showModal(); look(); };
	$("#desk").addEventListener("submit", (event) => { event.preventDefault(); });
	$(".skip").onclick = (event) => { event.preventDefault(); $("#main").focus(); };
	prompt.build(parts.prompt);
	settings.build(parts);
	start.build(parts.start);
	foot.build($("#foot"));
	stage.build($("#stage"));
	on("edited", () => { stage.empty(); stage.showLast(); });
	drops();
	sides();
	try {
		const [models, words] = await Promise.all([api.models(), api.words()]);
		const model = models.models.find((one) => one.default) ?? models.models[0];
		settings.setModel(model, parts);
		prompt.setFields(words);
		clear($("#model-chip"), h("strong", {}, model.id), h("span", {}, model.device ?? ""));
	} catch (error) {
		$("#banner").hidden = false;
		$("#banner").textContent = error.code === "unreachable" ? t("unreachable") : error.message;
	}
	readAddress();
	stage.empty();
	look();
	document.body.dataset.ready = "1";
}

/** On a narrow screen the desk and the stage take turns. */
function sides() {
	const bar = h("div.turns", { role: "group", label: t("views") }, ["desk", "stage"].map((name) => h("button", { type: "button", class: "segment", data: { side: name }, onclick: () => { document.body.dataset.side = name; } }, t(name === "desk" ? "prompt" : "picture"))));
	$("#view-draw").prepend(bar);
	const paint = () => { for (const one of bar.children) one.setAttribute("aria-pressed", String(one.dataset.side === document.body.dataset.side)); };
	new MutationObserver(paint).observe(document.body, { attributeFilter: ["data-side"] });
	document.body.dataset.side = "desk";
}

begin();
