// The bar below the desk: what it will cost, the button, live mode.
import { api } from "./api.js";
import { button, clear, h, later, toast } from "./dom.js";
import { bytes, seconds } from "./format.js";
import { draw, look, queue } from "./jobs.js";
import { settled } from "./prompt.js";
import { currentModel, effective } from "./settings.js";
import { heardBy } from "./stage.js";
import { draft, on, tell } from "./state.js";
import { t } from "./words.js";

const QUICK = 1.6; // seconds that a picture may take while somebody types
const PAUSE = 2500; // ms without a key after which live mode draws in full
let cost, go, live;
let plan = null;
let planned = 0;
let lastLive = null;
let isLive = false;

/** What would be sent now. */
export function request(change = {}) {
	const all = { ...draft.all(), ...change };
	return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined && value !== ""));
}

export function build(foot) {
	cost = h("p.cost", { id: "cost", "aria-live": "off" });
	go = button(t("draw_it"), () => drawNow(), { kind: "go", id: "go", "aria-describedby": "cost", title: `${t("draw_it")} (Ctrl+Enter)` });
	live = h("input", { type: "checkbox", class: "switch", id: "live" });
	live.onchange = () => setLive(live.checked);
	foot.append(h("label.live", { for: "live" }, live, h("span", {}, t("live"))), cost, go);
	on("draft", ({ from }) => {
		planLater();
		if (isLive && from !== "address") liveLater();
	});
	on("queue", paint);
}

const planLater = later(250, async () => {
	const turn = ++planned;
	try {
		const said = await api.plan(request());
		if (turn === planned) plan = said;
	} catch (error) {
		if (turn === planned) plan = { refused: error.message, fix: error.fix };
	}
	if (turn !== planned) return;
	paint();
	tell("plan", plan);
});

export const lastPlan = () => plan;

function paint() {
	clear(cost);
	cost.classList.toggle("refused", Boolean(plan?.refused));
	if (plan?.refused) return cost.append(plan.refused);
	if (!plan) return;
	const waiting = queue().jobs.filter((job) => ["queued", "running"].includes(job.state));
	const wait = waiting.reduce((sum, job) => sum + (job.progress?.eta ?? job.seconds ?? 0), 0);
	cost.append(h("strong", {}, `≈ ${seconds(plan.seconds)}`), h("span", {}, bytes(plan.peak_bytes)), h("span", { title: plan.rungs?.join("\n") ?? "" }, plan.rung));
	if (waiting.length) cost.append(h("span.wait", {}, t("behind", waiting.length, seconds(wait))));
	if (queue().paused) cost.append(h("span.wait", {}, queue().paused));
}

/** Draws what is on the desk. */
export async function drawNow(change = {}, options = {}) {
	await settled();
	try {
		await draw(request(change), heardBy(), options);
		document.body.dataset.side = "stage";
	} catch (error) {
		refused(error);
	}
}

export function refused(error) {
	const text = error.code === "unreachable" ? t("unreachable") : error.message;
	toast(error.wait ? `${text} (${t("retry", seconds(error.wait))})` : text);
	look();
}

function setLive(wanted) {
	isLive = wanted;
	document.body.classList.toggle("live", wanted);
	if (!wanted) return inFull.cancel();
	if (draft.get("seed") === undefined) draft.set({ seed: Math.floor(Math.random() * 2 ** 32) });
	liveLater();
}

/** Fewer steps, then a smaller size, until it is quick enough. */
function reduced() {
	const [width, height, steps] = [effective("width"), effective("height"), effective("steps")];
	const { drawing } = currentModel();
	const small = (side) => Math.max(drawing.min_side, Math.round((side * 0.75) / drawing.size_multiple) * drawing.size_multiple);
	const ways = [[width, height, steps], [width, height, 6], [width, height, 4], [small(width), small(height), 5], [small(width), small(height), 4]];
	const time = (w, hh, n) => ((plan?.seconds ?? 5) * (w * hh * n)) / (width * height * steps);
	const [w, hh, n] = ways.find((way) => way[2] <= steps && time(...way) <= QUICK) ?? ways.at(-1);
	const change = { steps: n, number: 1 };
	if (!draft.get("image")) Object.assign(change, { width: w, height: hh });
	return change;
}

const liveLater = later(280, async () => {
	inFull.cancel();
	await settled();
	const change = reduced();
	const less = change.steps < effective("steps") || (change.width ?? 0) < effective("width");
	try {
		lastLive = (await draw(request(change), heardBy(less ? t("live_less", change.steps, `${change.width ?? effective("width")}×${change.height ?? effective("height")}`) : t("live")), { priority: "high", replaces: lastLive ?? undefined })).id;
		if (less) inFull();
	} catch (error) {
		refused(error);
	}
});

const inFull = later(PAUSE, async () => {
	if (!isLive) return;
	lastLive = (await draw(request({ number: 1 }), heardBy(), { priority: "high", replaces: lastLive ?? undefined }).catch(refused))?.id ?? null;
});

export const toggleLive = () => { live.checked = !live.checked; setLive(live.checked); };
