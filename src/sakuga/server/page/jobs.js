// Jobs of this page: asked for, followed, shown as a queue.
import { api, follow } from "./api.js";
import { tell } from "./state.js";

const LATEST = 1000; // ms between two looks at the queue
const waiting = new Map(); // id -> what to do with the finished job
let stop = null;
let looking = 0;
let seen = { jobs: [], counts: {}, paused: null };

export const queue = () => seen;

/** Asks for a drawing; `heard` as in `follow`. Only one job is followed by events at a time. */
export async function draw(request, heard, options) {
	const job = await api.draw(request, options);
	stop?.();
	stop = follow(job.id, {
		...heard,
		done: (ended) => { heard.done?.(ended); tell("ended", ended); },
	});
	heard.state?.(job);
	look();
	return job;
}

/** Asks for a drawing that is looked after without events: many at once. */
export async function drawQuietly(request, done) {
	const job = await api.draw(request, { priority: "low" });
	waiting.set(job.id, done);
	look();
	return job;
}

/** The queue, again and again while anything is in it. */
export async function look() {
	clearTimeout(looking);
	const said = await api.jobs({ state: "queued,running", limit: 50 }).catch(() => null);
	if (said) {
		seen = said;
		tell("queue", said);
		const open = new Set(said.jobs.map((job) => job.id));
		for (const [id, done] of [...waiting]) {
			if (open.has(id)) continue;
			const job = await api.job(id).catch(() => null);
			if (!job || ["queued", "running"].includes(job.state)) continue;
			waiting.delete(id);
			done(job);
			tell("ended", job);
		}
	}
	clearTimeout(looking);
	if (!said || said.jobs.length || waiting.size) looking = setTimeout(look, LATEST);
}
