// Patients' pages work without this script. It updates the counts while patients choose, and the
// progress of an export.
import { edited, load, notice, revision, swap } from './live.js';

/**
 * Posts the release form for its counts. The server keeps the choices, so that a reload shows
 * them.
 */
function preview(form) {
  const places = new Map([...form.querySelectorAll('[data-count]')].map((e) => [e.dataset.count, e]));
  let timer, latest = 0;
  const ask = async () => {
    const mine = ++latest;
    const body = new URLSearchParams(new FormData(form));
    body.set('do', 'preview');
    try {
      const answer = await fetch(form.action, { method: 'POST', body, headers: { Accept: 'application/json' } });
      if (!answer.ok || mine !== latest) return;
      const { counts, counting, problems } = await answer.json();
      if (counting) timer = setTimeout(ask, 1000); // the server is still counting a large record
      tell(problems ?? []);
      for (const [key, text] of Object.entries(counts)) {
        const place = places.get(key);
        if (place && place.textContent !== text) place.textContent = text;
      }
    } catch {
      // The counts stay as they are. The form works without them.
    }
  };
  const tell = (problems) => {
    for (const place of form.querySelectorAll('[data-wrong]')) {
      const problem = problems.find((p) => p.line === place.dataset.wrong);
      if (place.textContent !== (problem?.text ?? '')) place.textContent = problem?.text ?? '';
    }
    for (const e of form.elements) {
      if (problems.some((p) => p.field === e.id)) e.setAttribute('aria-invalid', 'true');
      else e.removeAttribute('aria-invalid');
    }
  };
  const unfold = () => { // hidden fields are neither sent nor checked
    for (const line of form.querySelectorAll('.choice')) {
      const box = line.querySelector('.tick input');
      for (const e of line.querySelectorAll('.details input')) e.disabled = !box.checked;
    }
  };
  unfold();
  if (form.dataset.counting !== undefined) timer = setTimeout(ask, 1000);
  form.addEventListener('input', () => {
    unfold();
    clearTimeout(timer);
    timer = setTimeout(ask, 400);
  });
  form.addEventListener('submit', (e) => {
    clearTimeout(timer);
    if (e.submitter?.name || form.dataset.sent) {
      if (form.dataset.sent) e.preventDefault(); // a double click sends once
      return;
    }
    form.dataset.sent = 'yes';
  });
  window.addEventListener('pageshow', () => { // after the back button
    delete form.dataset.sent;
    unfold();
  });
}

/** Updates a request until it no longer changes without the patient. */
function follow(main) {
  const every = Number(main.dataset.live);
  const show = (fresh) => {
    const old = document.querySelector('main');
    swap(old, fresh);
    arrange(fresh);
  };
  const again = async () => {
    try {
      const fresh = (await load())?.querySelector('main'), old = document.querySelector('main');
      if (fresh && revision(fresh) === revision(old)) {
        const bar = old.querySelector('[data-progress]'), now = fresh.querySelector('[data-progress]');
        if (bar && now) bar.replaceChildren(...now.childNodes);
      } else if (fresh && edited(old)) {
        notice(async () => show((await load()).querySelector('main')));
        return;
      } else if (fresh) show(fresh);
      if (fresh && fresh.dataset.live === undefined) return;
    } catch {
      // The server or the network is unavailable for a moment.
    }
    setTimeout(again, every);
  };
  setTimeout(again, every);
}

function arrange(root) {
  for (const button of root.querySelectorAll('[data-print]')) {
    button.hidden = false;
    button.addEventListener('click', () => print());
  }
}

arrange(document);
document.getElementById('summary')?.focus();
for (const form of document.querySelectorAll('form[data-preview]')) preview(form);
for (const main of document.querySelectorAll('main[data-live]')) follow(main);
