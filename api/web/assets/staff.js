// The administrators' pages work without this; with it they follow changes as they happen, take dropped documents, and are quicker by keyboard.
import { edited, load, notice, revision, swap } from './live.js';

const words = {
  'awaiting-input': 'Waits for the patient', requested: 'Running', retrieved: 'Waits for review', approved: 'Approved', rejected: 'Rejected', failed: 'Failed',
};
const state = document.querySelector('[data-live-state]');

/** Says how the page learns of changes; nothing while all is well. */
function say(text) {
  if (!state) return;
  state.textContent = text;
  state.hidden = text === '';
}

/** Says that the session is over. Whoever signs in elsewhere finds everything here as it was. */
function signedOut() {
  if (!state) return;
  const link = Object.assign(document.createElement('a'), { href: '/admin/ui/login', target: '_blank', rel: 'noopener', textContent: 'Sign in in a new tab' });
  state.replaceChildren('You are signed out. What you typed stays here. ', link);
  state.hidden = false;
}

/** The page as the server has it now, as far as it is of interest: null where the session is over, which is said. */
async function fetched() {
  const page = await load();
  if (page) say('');
  else signedOut();
  return page?.querySelector('main');
}

/** Shows what has changed. Where somebody is at work on the page, a notice offers it instead. */
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

/** Shows the documents of an export after an upload; the rest of the page may be in use. */
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

/** Calls f some time after it was asked to, once however often that was, and at most every `rest` ms. */
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
        say('The server does not answer. Trying again.');
      }
    }, Math.max(wait, last + rest - performance.now()));
  };
}

/** Follows the server's events; where they do not come, it asks every ten seconds. */
function follow(onJobs, onAnew) {
  let polls = null, opened = false, source = null;
  const connect = () => {
    source = new EventSource('/admin/ui/events');
    source.addEventListener('open', () => {
      say('');
      clearInterval(polls);
      polls = null;
      if (opened) onAnew(); // what happened meanwhile
      opened = true;
    });
    source.addEventListener('jobs', (e) => onJobs(JSON.parse(e.data)));
    source.addEventListener('error', () => {
      say('Changes are not shown as they happen at the moment.');
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
        other = true; // counts, boxes and ages change with it
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

/** The list by keyboard: arrows or j and k from one export to the next, x ticks; only while the focus is in the list (WCAG 2.1.4). */
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
    const request = new XMLHttpRequest(); // fetch does not tell how much of a body is sent
    request.open('POST', form.action);
    request.setRequestHeader('Accept', 'application/json');
    request.upload.addEventListener('progress', (e) => { if (e.lengthComputable) bar.value = (100 * e.loaded) / e.total; });
    request.addEventListener('loadend', () => {
      bar.hidden = true;
      delete form.dataset.busy;
      if (request.status === 200) {
        text.textContent = '';
        input.value = '';
        renewDocuments().catch(() => say('The server does not answer. Trying again.'));
        return;
      }
      if (request.status === 401) {
        signedOut();
        text.textContent = 'Not uploaded: you are signed out. The files are still chosen: sign in in a new tab, then upload again here.';
        return;
      }
      let why = 'the connection broke off';
      try {
        why = JSON.parse(request.responseText).error;
      } catch {
        // no answer that could be read
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

/** Gives what is new on the page its behaviour. */
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
