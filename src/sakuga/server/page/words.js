// What the page says, in the language of whoever reads it.
const KNOWN = ["en", "zh", "ja"];
const wanted = [localStorage.getItem("language"), ...navigator.languages.map((one) => one.slice(0, 2)), "en"];
const now = wanted.find((one) => KNOWN.includes(one));
const said = await (await fetch(`page/words.${now}.json`)).json();
document.documentElement.lang = now;

export const language = () => now;

export function setLanguage(to) {
	localStorage.setItem("language", to);
	location.reload();
}

/** What a name is called, else the name itself. */
export const named = (key, name) => said[key] ?? name.replaceAll("_", " ");

/** The text of a key, {0} and so on filled in. */
export const t = (key, ...given) => (said[key] ?? key).replace(/\{(\d)\}/g, (_, at) => given[at]);

/** Puts texts and labels where index.html has only keys. */
export function translate() {
	for (const one of document.querySelectorAll("[data-t]")) one.textContent = t(one.dataset.t);
	for (const one of document.querySelectorAll("[data-tl]")) {
		one.setAttribute("aria-label", t(one.dataset.tl));
		if (one.matches("button")) one.title = t(one.dataset.tl);
	}
}
