// A viewer for NDJSON files of any size, with search and links from references to their targets.
// It renders only the visible lines.
import { el } from './wire.js';

const height = 28; // height of a row in CSS pixels

/** Summarizes a resource in one line. */
function about(text, n) {
  try {
    const r = JSON.parse(text);
    const said = r.code?.text ?? r.code?.coding?.[0]?.display ?? r.type?.text ?? r.type?.[0]?.text ?? r.vaccineCode?.text ?? r.medicationCodeableConcept?.text ?? (typeof r.name === 'string' ? r.name : r.name?.[0]?.text ?? r.name?.[0]?.family) ?? '';
    const at = r.effectiveDateTime ?? r.onsetDateTime ?? r.period?.start ?? r.authoredOn ?? r.performedPeriod?.start ?? r.created ?? r.date ?? r.birthDate ?? '';
    return [n, `${r.resourceType}/${r.id}`, String(at).slice(0, 10), said].filter(Boolean).join('  ');
  } catch {
    return `${n}  (not JSON) ${text.slice(0, 200)}`;
  }
}

/**
 * Opens the viewer in a section. files are {name, type, load() -> {lines, note}}. The viewer loads a
 * file when it first needs its lines.
 */
export function openViewer(section, files) {
  const loaded = new Map();
  const lines = async (file) => {
    if (!loaded.has(file)) loaded.set(file, file.load());
    return loaded.get(file);
  };
  const title = el('h2', { id: 'viewer-title', tabindex: '-1' });
  const search = el('input', { type: 'search', id: 'viewer-search', placeholder: 'Text in a line', autocomplete: 'off' });
  const found = el('p', { role: 'status', class: 'hint' });
  const space = el('div', {});
  const list = el('div', { class: 'viewer-lines', role: 'listbox', tabindex: '0', 'aria-label': 'Lines of the file' }, space);
  const text = el('pre', { class: 'viewer-text', role: 'region', tabindex: '0', 'aria-label': 'Selected line' });
  const trail = el('p', { class: 'hint' });
  let all = [], shown = [], chosen = -1;

  const rows = () => {
    const first = Math.max(0, Math.floor(list.scrollTop / height) - 5), last = Math.min(shown.length, Math.ceil((list.scrollTop + list.clientHeight) / height) + 5);
    space.replaceChildren(...shown.slice(first, last).map((n, i) => {
      const row = el('div', { class: 'row', role: 'option', id: `line-${n}`, 'aria-selected': String(n === chosen), 'aria-setsize': shown.length, 'aria-posinset': first + i + 1, click: () => choose(n) }, about(all[n], n + 1));
      row.style.top = `${(first + i) * height}px`;
      return row;
    }));
    if (chosen >= 0 && document.getElementById(`line-${chosen}`)) list.setAttribute('aria-activedescendant', `line-${chosen}`);
    else list.removeAttribute('aria-activedescendant');
  };
  const filter = () => {
    const wanted = search.value.toLowerCase();
    shown = all.flatMap((line, n) => (wanted === '' || line.toLowerCase().includes(wanted) ? [n] : []));
    space.style.height = `${shown.length * height}px`;
    found.textContent = `${shown.length} of ${all.length} lines`;
    list.scrollTop = 0;
    rows();
  };
  const choose = (n) => {
    chosen = n;
    const at = shown.indexOf(n) * height;
    if (at < list.scrollTop || at > list.scrollTop + list.clientHeight - height) list.scrollTop = at - list.clientHeight / 2;
    rows();
    render(all[n]);
  };
  const render = (line) => {
    let pretty = line;
    try {
      pretty = JSON.stringify(JSON.parse(line), null, 2);
    } catch {
      // shown unchanged
    }
    text.replaceChildren();
    let at = 0;
    for (const m of pretty.matchAll(/"reference": "([A-Z][A-Za-z]+)\/([A-Za-z0-9.-]{1,64})"/g)) {
      const start = m.index + '"reference": "'.length;
      text.append(pretty.slice(at, start), el('button', { type: 'button', class: 'link', click: () => lead(m[1], m[2]) }, `${m[1]}/${m[2]}`));
      at = start + m[1].length + m[2].length + 1;
    }
    text.append(pretty.slice(at));
  };
  const lead = async (type, id) => {
    for (const file of files.filter((f) => f.type === type)) {
      const { lines: there } = await lines(file);
      const n = there.findIndex((line) => line.includes(`"id":"${id}"`) && JSON.parse(line).id === id);
      if (n >= 0) {
        await show(file);
        choose(n);
        return;
      }
    }
    trail.textContent = `${type}/${id} is not in this export.`;
  };
  const show = async (file) => {
    section.hidden = false;
    title.textContent = file.name;
    trail.textContent = 'Loading…';
    const { lines: there, note } = await lines(file);
    trail.textContent = note ?? '';
    all = there;
    chosen = -1;
    search.value = '';
    text.replaceChildren();
    filter();
    title.focus();
  };

  list.addEventListener('scroll', rows);
  search.addEventListener('input', filter);
  list.addEventListener('keydown', (e) => {
    const at = shown.indexOf(chosen), page = Math.floor(list.clientHeight / height);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: shown.length - 1 }[e.key];
    if (to === undefined || shown.length === 0) return;
    e.preventDefault();
    choose(shown[Math.min(shown.length - 1, Math.max(0, to))]);
  });
  section.replaceChildren(title, trail, el('p', {}, el('label', { for: 'viewer-search' }, 'Search'), ' ', search), found, list, text);
  return show;
}
