// What is asked of the server. Every address is relative, so that a proxy may put it anywhere.
const BASE = "sakuga/v1/";
const client = (() => {
	const known = sessionStorage.getItem("client") ?? crypto.getRandomValues(new Uint32Array(3)).join("-");
	sessionStorage.setItem("client", known);
	return known;
})();

class Refused extends Error {
	constructor(status, problem) {
		super(problem.message ?? `HTTP ${status}`);
		Object.assign(this, { status, code: problem.code, rule: problem.rule, got: problem.got, fix: problem.fix, wait: problem.wait });
	}
}

async function ask(method, path, body, signal) {
	const headers = { "X-Sakuga-Client": client };
	if (body !== undefined) headers["Content-Type"] = "application/json";
	let answer;
	try {
		answer = await fetch(BASE + path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), signal });
	} catch (error) {
		if (error.name === "AbortError") throw error;
		throw new Refused(0, { code: "unreachable", message: "" });
	}
	if (answer.ok) return answer.status === 204 ? null : answer.json();
	const problem = (await answer.json().catch(() => ({}))).error ?? {};
	throw new Refused(answer.status, { ...problem, wait: Number(answer.headers.get("Retry-After")) || null });
}

const query = (given) => {
	const pairs = new URLSearchParams();
	for (const [key, value] of Object.entries(given)) {
		for (const one of [value].flat()) if (one !== undefined && one !== null && one !== "") pairs.append(key, one);
	}
	return pairs.size ? `?${pairs}` : "";
};

export const api = {
	models: () => ask("GET", "models"),
	words: () => ask("GET", "words"),
	tags: (q, field, signal) => ask("GET", `tags${query({ q, field, limit: 8 })}`, undefined, signal),
	lint: (prompt, as_xml = null) => ask("POST", "lint", { prompt, as_xml }),
	read: (prompt) => ask("POST", "document", { prompt }),
	write: (blocks, system) => ask("POST", "document", { blocks, system }),
	convert: (prompt, to) => ask("POST", "convert-prompt", { prompt, to }),
	plan: (request) => ask("POST", "plan", { request }),
	draw: (request, { priority = "normal", replaces } = {}) => ask("POST", "jobs", { request, priority, ...(replaces ? { replaces } : {}) }),
	job: (id) => ask("GET", `jobs/${id}`),
	jobs: (given) => ask("GET", `jobs${query(given)}`),
	cancel: (id) => ask("DELETE", `jobs/${id}`),
	first: (id, priority) => ask("PATCH", `jobs/${id}`, { priority }),
	pictures: (given) => ask("GET", `pictures${query(given)}`),
	picture: (id) => ask("GET", `pictures/${id}`),
	remove: (ids) => ask("POST", "pictures/delete", { ids }),
	said: (image) => ask("POST", "pictures/read", { image }),
	zip: (ids) => `${BASE}pictures/zip${query({ ids: ids.join(",") })}`,
};

/** Follows a job to its end; returns what stops the following. */
export function follow(id, heard) {
	const source = new EventSource(`${BASE}jobs/${id}/events`);
	for (const kind of ["state", "position", "progress", "preview", "warning", "done"]) {
		source.addEventListener(kind, (event) => {
			if (kind === "done") source.close();
			heard[kind]?.(JSON.parse(event.data));
		});
	}
	return () => source.close();
}
