// Two pictures side by side, and what differs between them.
import { api } from "./api.js";
import { button, clear, complain, grow, h, toast } from "./dom.js";
import { rows } from "./gallery.js";
import { actions, altOf, fileOf } from "./stage.js";
import { place } from "./state.js";
import { t } from "./words.js";

let body;
let one = null; // the first of two that were chosen

export function build(section) {
	body = h("div.pair");
	section.append(body);
}

/** The first of two, then the second. */
export function choose(id) {
	if (one && one !== id) {
		place.go("compare", { a: one, b: id });
		one = null;
	} else {
		one = id;
		toast(t("compare_next"));
	}
}

export async function enter() {
	const ids = [place.get("a"), place.get("b")];
	if (!ids[0] || !ids[1]) {
		const said = await api.pictures({ limit: 2 }).catch(() => null);
		if (said?.pictures.length === 2) return place.set({ a: said.pictures[1].id, b: said.pictures[0].id }), enter();
		return clear(body, h("p.hint", {}, t("compare_hint")));
	}
	const [a, b] = await Promise.all(ids.map((id) => api.picture(id).catch(complain)));
	if (!a || !b) return clear(body, h("p.hint", {}, t("compare_hint")));
	const side = (full, other, name) => h("article", { label: `${name}: ${altOf(full)}` },
		h("div.shown", {}, h("img", { src: fileOf(full), alt: altOf(full), width: full.width, height: full.height })),
		h("div.bar", {}, h("h2", {}, name), grow(), actions(full)), rows(full, other));
	clear(body, side(a, b, "A"), button(t("swap"), () => { place.set({ a: ids[1], b: ids[0] }); enter(); }, { symbol: "again", kind: "soft round", quiet: true }), side(b, a, "B"));
}
