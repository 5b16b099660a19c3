// Administrators' pages work without this script. It adds live updates, drag and drop for
// documents,
// and keyboard shortcuts.
import { edited, load, notice, revision, swap } from './live.js';

const words = {
  'awaiting-input': 'Waits for the patient', requested: 'Running', retrieved: 'Waits for review', approved: 'Approved', rejected: 'Rejected', failed: 'Failed',
};
const state = document.querySelector('[data-live-state]');

/** Shows a problem with live updates. An empty text hides the message. */
function say(text) {
  if (!state) return;
  state.textContent = text;
  state.hidden = text === '';
}

/**
 * Shows that the session is over. After signing in in another tab, the person can continue here.
 */
function signedOut() {
  if (!state) return;
  const link = Object.assign(document.createElement('a'), { href: '/admin/ui/login', target: '_blank', rel: 'noopener', textContent: 'Sign in in a new tab' });
  state.replaceChildren('You are signed out. We keep what you typed on this page. ', link);
  state.hidden = false;
}

/** Loads the current main part of the page. Returns null and says so if the session is over. */
async function fetched() {
  const page = await load();
  if (page) say('');
  else signedOut();
  return page?.querySelector('main');
}

/** Shows the changes. If a person is using the page, it offers them in a notice instead. */
async function renew(force) {
  const fresh = await fetched(), old = document.querySelector('main');
  if (!fresh) return;
  if (revision(old) !== undefined && revision(fresh) === revision(old)) {
    const bar = old.querySelector('[data-progress]'), now = fresh.querySelector('[data-progress]');
    if (bar && now) bar.replaceChildren(...now.childNodes);
    return;
  }
  if (!force && edited(old)) {
    notice(() => renew(true));
    return;
  }
  swap(old, fresh);
  arrange(fresh);
}

/** Updates only the documents of an export after an upload, because the rest may be in use. */
async function renewDocuments() {
  const page = await fetched();
  const [old, fresh] = [document.querySelector('main'), page].map((root) => root?.querySelector('[data-documents]'));
  if (!old || !fresh) return;
  const rest = (root) => {
    const copy = root.cloneNode(true);
    for (const e of copy.querySelectorAll('[data-documents], [data-flash]')) e.remove();
    return copy.textContent;
  };
  const [shown, now] = [document.querySelector('main [data-revision]'), page.querySelector('[data-revision]')];
  if (shown && now && rest(document.querySelector('main')) === rest(page)) shown.dataset.revision = now.dataset.revision;
  swap(old, fresh);
  arrange(fresh);
}

/** Returns a function that calls f after `wait` ms, and at most once every `rest` ms. */
function calm(f, wait, rest) {
  let timer = null, last = -rest;
  return () => {
    if (timer) return;
    timer = setTimeout(async () => {
      timer = null;
      last = performance.now();
      try {
        await f();
      } catch {
        say('The server does not respond. Trying again.');
      }
    }, Math.max(wait, last + rest - performance.now()));
  };
}

/** Follows the server's events. Without a connection, it polls every ten seconds. */
function follow(onJobs, onAnew) {
  let polls = null, opened = false, source = null;
  const connect = () => {
    source = new EventSource('/admin/ui/events');
    source.addEventListener('open', () => {
      say('');
      clearInterval(polls);
      polls = null;
      if (opened) onAnew(); // for changes while disconnected
      opened = true;
    });
    source.addEventListener('jobs', (e) => onJobs(JSON.parse(e.data)));
    source.addEventListener('error', () => {
      say('Live updates are not available right now.');
      poll();
    });
  };
  const poll = () => {
    polls ??= setInterval(() => {
      onAnew();
      if (source?.readyState === EventSource.CLOSED) connect(); // a refusal, as without a session, is not tried again by itself
    }, 10000);
  };
  if (!window.EventSource) return poll();
  connect();
  window.addEventListener('pagehide', () => source.close());
}

function followList() {
  const again = calm(renew, 1000 + Math.random() * 1000, 5000);
  follow((news) => {
    let other = Boolean(news.many);
    for (const job of news.jobs ?? []) {
      const row = document.querySelector(`tr[data-job="${CSS.escape(job.id)}"]`);
      if (!row) {
        other = true;
        continue;
      }
      const mark = row.querySelector('[data-state]');
      if (row.dataset.status !== job.status) {
        row.dataset.status = job.status ?? 'aborted';
        mark.className = `mark ${job.status ?? ''}`;
        mark.textContent = words[job.status] ?? 'Deleted';
        other = true; // counts, checkboxes and ages change with the status
      }
      const bar = row.querySelector('progress');
      if (bar && job.percent) bar.value = job.percent;
    }
    if (other) again();
  }, again);
}

function followJob(part) {
  const id = part.dataset.jobPage;
  const again = calm(renew, 300, 1000);
  follow((news) => {
    if (news.many || (news.jobs ?? []).some((job) => job.id === id)) again();
  }, again);
}

/**
 * Keyboard shortcuts: arrows or j and k move, x selects. They work only if the list has the focus
 * (WCAG 2.1.4).
 */
function keys(table) {
  table.addEventListener('keydown', (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const rows = [...table.querySelectorAll('tbody tr[data-job]')];
    const now = rows.indexOf(document.activeElement.closest('tr'));
    const step = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[e.key];
    if (step) {
      rows[Math.min(rows.length - 1, Math.max(0, now + step))]?.querySelector('a').focus();
      e.preventDefault();
    } else if (e.key === 'x' && now >= 0) {
      rows[now].querySelector('input[type=checkbox]')?.click();
      e.preventDefault();
    }
  });
}

function upload(form) {
  const bar = form.querySelector('progress'), text = form.querySelector('[data-upload-state]'), input = form.querySelector('input[type=file]');
  form.querySelector('label').append(', or drop them here');
  const send = (files) => {
    if (!files.length) return;
    const body = new FormData();
    for (const file of files) body.append('attachments', file);
    const request = new XMLHttpRequest(); // fetch does not report upload progress
    request.open('POST', form.action);
    request.setRequestHeader('Accept', 'application/json');
    request.upload.addEventListener('progress', (e) => { if (e.lengthComputable) bar.value = (100 * e.loaded) / e.total; });
    request.addEventListener('loadend', () => {
      bar.hidden = true;
      delete form.dataset.busy;
      if (request.status === 200) {
        text.textContent = '';
        input.value = '';
        renewDocuments().catch(() => say('The server does not respond. Trying again.'));
        return;
      }
      if (request.status === 401) {
        signedOut();
        text.textContent = 'Not uploaded: you are signed out. Sign in in a new tab, then upload again here. The files are still selected.';
        return;
      }
      let why = 'the connection was lost';
      try {
        why = JSON.parse(request.responseText).error;
      } catch {
        // the response is not JSON
      }
      text.textContent = `Not uploaded: ${why}`;
    });
    form.dataset.busy = '';
    bar.value = 0;
    bar.hidden = false;
    text.textContent = `Uploading ${files.length === 1 ? files[0].name : `${files.length} documents`}`;
    request.send(body);
  };
  form.addEventListener('submit', (e) => {
    e.preventDefault();
    send([...input.files]);
  });
  for (const name of ['dragenter', 'dragover']) form.addEventListener(name, (e) => { e.preventDefault(); form.classList.add('over'); });
  for (const name of ['dragleave', 'drop']) form.addEventListener(name, () => form.classList.remove('over'));
  form.addEventListener('drop', (e) => {
    e.preventDefault();
    send([...e.dataTransfer.files]);
  });
}

/** Adds behaviour to new elements of the page. */
function arrange(root) {
  for (const table of root.querySelectorAll('[data-jobs]')) {
    keys(table);
    const all = table.querySelector('[data-all]');
    if (all) {
      all.hidden = false;
      all.addEventListener('change', () => { for (const e of table.querySelectorAll('tbody input[type=checkbox]')) e.checked = all.checked; });
    }
  }
  for (const form of root.querySelectorAll('[data-upload]')) upload(form);
}

arrange(document);
if (document.querySelector('[data-jobs]')) followList();
for (const part of document.querySelectorAll('[data-job-page]')) followJob(part);
for (const part of document.querySelectorAll('[data-again]')) {
  const every = Number(part.dataset.again);
  setInterval(calm(async () => { if (!edited(document.querySelector('main'))) await renew(); }, 0, every), every);
}
