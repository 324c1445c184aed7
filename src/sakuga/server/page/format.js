// Numbers as people say them.
import { language } from "./words.js";

export function seconds(value) {
	if (value === null || value === undefined || !Number.isFinite(value)) return "";
	if (value < 10) return `${value.toFixed(1)} s`;
	if (value < 100) return `${Math.round(value)} s`;
	const minutes = Math.round(value / 60);
	return minutes < 100 ? `${minutes} min` : `${(minutes / 60).toFixed(1)} h`;
}

export function bytes(value) {
	if (!value) return "";
	const units = ["B", "KiB", "MiB", "GiB", "TiB"];
	const at = Math.min(Math.floor(Math.log2(value) / 10), 4);
	return `${(value / 2 ** (10 * at)).toFixed(at > 2 ? 1 : 0)} ${units[at]}`;
}

export const when = (stamp) => new Date(stamp * 1000).toLocaleString(language(), { dateStyle: "medium", timeStyle: "short" });
