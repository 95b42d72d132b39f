// Questions to the server. Whatever goes wrong is an Error whose message a person can read; again: whether asking once
// more may help.

const token = new URLSearchParams(location.search).get('token');
const PATIENCE = 8; // times that one asks again when too many ask at once, or one asks for long

async function send(path, options = {}) {
  const headers = { ...options.headers, ...(token ? { 'X-Vfmerge-Token': token } : {}) };
  for (let again = 0; ; again++) {
    let reply;
    try {
      reply = await fetch(path, { ...options, headers });
    } catch {
      throw trouble('The server does not answer. Is “vfmerge demo” still running?', true);
    }
    if (reply.ok) return reply;
    if ((reply.status === 429 || reply.status === 503) && again < PATIENCE) {
      await new Promise(done => setTimeout(done, 1000 * (Number(reply.headers.get('Retry-After')) || 1)));
      continue;
    }
    throw trouble(await told(reply), reply.status >= 500 || reply.status === 429);
  }
}

const trouble = (text, again) => Object.assign(new Error(text), { again });

async function told(reply) {
  try {
    const text = (await reply.json()).error;
    return text[0].toUpperCase() + text.slice(1) + '.';
  } catch {
    return `The server refused (${reply.status}).`;
  }
}

const json = reply => reply.json();

export const about = () => send('/about').then(json);

export const picture = id => send(`/pictures/${encodeURIComponent(id)}`).then(reply => reply.blob());

export const upload = file =>
  send('/pictures', { method: 'POST', body: file, headers: { 'Content-Type': 'application/octet-stream' } }).then(json);

export const question = (kind, body) =>
  send(`/${kind}`, { method: 'POST', body, headers: { 'Content-Type': 'application/json' } }).then(json);
