// Shows what /events sends: the status every second, and the last 15 minutes every five seconds.
//
// Texts come from brokers and sinks, so they are only ever set as text, never as markup. An element is changed only
// if its content changes: a reader may be selecting it, and a screen reader may be reading it.

const RETRY_MS = 10_000;
// The status comes every second. Without one for so long the connection is lost, whatever the browser believes.
const SILENT_MS = 5_000;
// From here on the headline says so, as the alert Behind does.
const BEHIND_SECONDS = 60;
const SPAN_MS = 15 * 60 * 1000;
const KEYLESS = '-';

const SIGNS = {
  well: 'M20 6 9.5 17.5 4 12',
  behind: 'M12 3v10m0 6v.5',
  bad: 'M6 6 18 18M18 6 6 18',
  lost: 'M4 12h4m4 0h1m5 0h2',
};

let source = null;
let status = null;
let history = { times: [], series: [] };
let heard = 0;
let lostSince = null;
let refused = false;

const byId = (id) => document.getElementById(id);

// ---- Elements ----

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function setAttribute(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

function slot(element, name) {
  return element.querySelector(`[data-slot="${name}"]`);
}

function fill(element, texts) {
  for (const [name, text] of Object.entries(texts)) setText(slot(element, name), text);
}

// Gives `parent` one child for each item. A child is made once from the template, and then only updated.
function list(parent, template, items, update) {
  while (parent.children.length > items.length) parent.lastElementChild.remove();
  items.forEach((item, index) => {
    if (!parent.children[index]) parent.append(byId(template).content.firstElementChild.cloneNode(true));
    update(parent.children[index], item);
  });
}

// ---- Numbers ----

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const oneDigit = new Intl.NumberFormat('en', { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const isNumber = (value) => typeof value === 'number';
const sum = (values) => values.reduce((total, value) => total + value, 0);

const UNKNOWN = '–';
const rate = (value) => (isNumber(value) ? (value && value < 9.95 ? oneDigit : whole).format(value) : UNKNOWN);
const plural = (count, one, many) => `${whole.format(count)} ${count === 1 ? one : many}`;

function duration(seconds) {
  if (!isNumber(seconds)) return UNKNOWN;
  if (seconds < 0) return `−${duration(-seconds)}`;
  if (seconds > 0 && seconds < 0.0995) return `${whole.format(Math.ceil(seconds * 1000))} ms`;
  if (seconds < 59.5) return `${(seconds && seconds < 9.95 ? oneDigit : whole).format(seconds)} s`;
  const rest = Math.round(seconds);
  const [days, hours, minutes] = [rest / 86400, (rest / 3600) % 24, (rest / 60) % 60].map(Math.floor);
  const [large, small] = days ? [`${days} d`, hours && `${hours} h`]
    : hours ? [`${hours} h`, minutes && `${minutes} min`]
    : [`${minutes} min`, rest % 60 && `${rest % 60} s`];
  return small ? `${large} ${small}` : large;
}

const wholeSeconds = (seconds) => (seconds < 60 ? `${seconds} s` : duration(seconds));

function bytes(count) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  for (; count >= 1024 && unit < units.length - 1; unit += 1) count /= 1024;
  return `${count < 9.95 && unit ? oneDigit.format(count) : whole.format(count)} ${units[unit]}`;
}

// ---- The headline ----

function worst(queues) {
  const known = queues.map((queue) => queue.behind_seconds).filter(isNumber);
  return known.length ? Math.max(...known) : null;
}

// What the bridge says at this moment: a word, and a state for its sign and colour.
function verdict() {
  if (lostSince) return ['lost', 'Connection lost'];
  const { ready, parts, queues } = status;
  if (!ready) {
    const troubled = parts.filter((part) => part.state !== 'ready').map((part) => part.part);
    return ['bad', troubled.length ? `Not ready: ${troubled.join(', ')}` : 'Not ready'];
  }
  if (worst(queues) > BEHIND_SECONDS) return ['behind', 'Ready, but behind'];
  if (queues.every((queue) => queue.replica === 'standby')) return ['well', 'Ready, standing by'];
  return ['well', 'Ready'];
}

function summary({ queues }) {
  const received = sum(queues.map((queue) => queue.received_per_second ?? 0));
  const behind = worst(queues);
  const last = Math.max(...queues.map((queue) => Date.parse(queue.last_received ?? 0)));
  const ago = (Date.now() - last) / 1000;
  const flow = received > 0 ? `${rate(received)} events/s`
    : last === 0 ? 'No events yet'
    : ago < 60 ? 'No events now'
    : `No events for ${duration(ago)}`;
  return isNumber(behind) ? `${flow}, ${duration(behind)} behind` : `${flow}; how far behind is not known`;
}

function showHeadline() {
  if (!status && !lostSince) return;
  const [state, word] = verdict();
  const headline = byId('headline');
  setAttribute(headline, 'data-state', state);
  setAttribute(headline.querySelector('.sign path'), 'd', SIGNS[state]);
  setText(byId('word'), word);
  document.title = `${word} · atdata-bridge`;
  setText(byId('summary'), status && !lostSince ? summary(status) : '');
  const lost = byId('lost');
  lost.hidden = !lostSince;
  if (lostSince) {
    const why = refused
      ? 'It is refused: too many pages are open, or a proxy before the bridge can’t reach it.'
      : 'The bridge has stopped, restarts, or is out of reach.';
    const below = status ? ' What follows is from then.' : '';
    setText(lost, `Since ${lostSince.toLocaleTimeString()}. ${why} This page tries again by itself.${below}`);
  }
  const reasons = status && !lostSince ? status.not_ready : [];
  list(byId('reasons'), 'reason', reasons, (element, reason) => setText(element, reason));
}

// ---- What is below it ----

function showFacts({ queues, in_flight_bytes: used, in_flight_bytes_limit: limit }) {
  const inFlight = sum(queues.map((queue) => queue.in_flight));
  const most = sum(queues.map((queue) => queue.in_flight_limit));
  const sessions = sum(queues.map((queue) => queue.sessions));
  const reconnects = sum(queues.map((queue) => sum(Object.values(queue.reconnects))));
  const letters = sum(deadLetters(queues).map((letter) => letter.count));
  const facts = [
    { name: 'In flight', value: whole.format(inFlight), unit: `of ${plural(most, 'event', 'events')}`, part: inFlight / most },
    { name: 'Memory of events', value: bytes(used), unit: `of ${bytes(limit)}`, part: used / limit },
    { name: 'Reconnects', value: whole.format(reconnects), unit: `in ${plural(sessions, 'session', 'sessions')}` },
    { name: 'Dead letters', value: whole.format(letters), unit: 'since the start' },
  ];
  list(byId('facts'), 'fact', facts, (element, { name, value, unit, part }) => {
    fill(element, { name, value, unit });
    const bar = slot(element, 'bar');
    bar.hidden = part === undefined;
    bar.firstElementChild.style.width = `${Math.min(100, 100 * (part || 0))}%`;
    bar.classList.toggle('full', part >= 0.95);
  });
}

function sessionText(queue) {
  const causes = Object.entries(queue.reconnects).map(([cause, count]) => `${cause} ${whole.format(count)}`);
  return [
    `connection id ${queue.connection_id}`,
    queue.subscribed ? 'subscribed' : 'not subscribed',
    ...(queue.replica === 'active' ? ['the active replica'] : []),
    ...(queue.replica === 'standby' ? ['nothing received in this session: standing by, or the queue is empty'] : []),
    ...(causes.length ? [`reconnects: ${causes.join(', ')}`] : []),
    `${whole.format(queue.in_flight)} of ${whole.format(queue.in_flight_limit)} events in flight`,
  ].join(' · ');
}

function flowsOf(queue, parts) {
  const sinks = queue.sinks.filter((sink) => sink.sink !== KEYLESS);
  const keyless = queue.sinks.filter((sink) => sink.sink === KEYLESS && sink.settled > 0);
  // A queue of its own for each sink has parts with the name of the sink.
  const stateOf = (name) =>
    parts.find(({ part }) => part === name || part === `${name} ${sinks[0]?.sink}`)?.state ?? '';
  const counted = (count, what) => (count ? [`${whole.format(count)} ${what}`] : []);
  const received = {
    name: 'From the queue',
    state: stateOf('source'),
    counts: [`${whole.format(queue.received)} received`, `${whole.format(queue.acknowledged)} acknowledged`],
    rate: { title: 'Received', sink: null, measure: 'received' },
    age: { title: 'Behind', sink: null, measure: 'behind' },
  };
  const settled = [...sinks, ...keyless].map((sink) => ({
    name: sink.sink === KEYLESS ? 'Without a usable key' : `To ${sink.sink}`,
    state: stateOf(sink.sink === KEYLESS ? 'dead letters' : `sink ${sink.sink}`),
    counts: [
      `${whole.format(sink.settled)} settled`,
      ...counted(sink.suppressed, 'it held already'),
      ...counted(sink.retried, 'retried'),
    ],
    rate: { title: 'Settled', sink: sink.sink, measure: 'settled' },
    age: { title: 'Age when durable', sink: sink.sink, measure: 'age' },
  }));
  return [received, ...settled];
}

function showQueues({ queues, parts }) {
  list(byId('queues'), 'queue', queues, (element, queue) => {
    fill(element, { queue: queue.queue, session: sessionText(queue) });
    list(slot(element, 'flows'), 'flow', flowsOf(queue, parts), (flow, { name, state, counts }) => {
      fill(flow, { name, state, counts: counts.join(' · ') });
      setAttribute(slot(flow, 'state'), 'data-state', state);
    });
  });
}

function showParts({ parts }) {
  const order = ['held', 'retrying', 'starting', 'ready'];
  const sorted = [...parts].sort((one, other) => order.indexOf(one.state) - order.indexOf(other.state));
  list(byId('parts'), 'part', sorted, (row, { part, state, reason, since_seconds: since, next_try_seconds: next }) => {
    fill(row, {
      part,
      state,
      since: wholeSeconds(since),
      next: isNumber(next) && state !== 'ready' ? `in ${wholeSeconds(Math.max(1, next))}` : '',
      cause: reason,
    });
    setAttribute(slot(row, 'state'), 'data-state', state);
  });
}

function deadLetters(queues) {
  return queues.flatMap((queue) => queue.sinks.flatMap((sink) =>
    Object.entries(sink.dead_letters).map(([reason, { count, newest }]) => ({
      reason,
      sink: sink.sink === KEYLESS ? 'none' : sink.sink,
      queue: queue.queue,
      count,
      newest,
    }))));
}

function showLetters({ queues }) {
  const letters = deadLetters(queues);
  byId('no-letters').hidden = letters.length > 0;
  byId('some-letters').hidden = letters.length === 0;
  list(byId('letters'), 'letter', letters, (row, { reason, sink, queue, count, newest }) => {
    fill(row, { reason, sink: queues.length > 1 ? `${sink}, ${queue}` : sink, count: whole.format(count), newest });
  });
}

// ---- Plots ----

// The next larger number that is easy to read on an axis.
function roundUp(value, steps) {
  const found = steps.find((step) => value <= step);
  if (found) return found;
  const magnitude = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 3, 4, 5, 6, 8, 10].map((step) => step * magnitude).find((step) => value <= step);
}

const RATES = [10];
const AGES = [1, 2, 5, 10, 15, 20, 30, 60, 120, 180, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400];

function showPlots() {
  if (!status) return;
  status.queues.forEach((queue, index) => {
    const series = history.series.filter((of) => of.queue === queue.queue);
    const flows = flowsOf(queue, status.parts);
    const shown = [...slot(byId('queues').children[index], 'flows').children];
    for (const [column, steps, written, unit] of [['rate', RATES, rate, 'events/s'], ['age', AGES, duration, '']]) {
      const values = flows.map(({ [column]: { sink, measure } }) =>
        series.find((of) => of.sink === sink && of.measure === measure)?.values ?? []);
      // One scale for the whole column, so that the plots can be compared.
      const most = roundUp(Math.max(0, ...values.flat().filter(isNumber)), steps);
      flows.forEach((flow, row) => {
        const title = flow[column].title;
        plot(slot(shown[row], column), { title, of: flow.name, values: values[row], most, written, unit });
      });
    }
  });
}

function plot(figure, { title, of, values, most, written, unit }) {
  list(figure, 'plot', [null], (element) => {
    const known = values.filter(isNumber);
    const latest = values.at(-1);
    const withUnit = (value) => (isNumber(value) ? `${written(value)} ${unit}`.trim() : UNKNOWN);
    fill(element, { title, now: withUnit(latest), most: written(most) });
    const range = known.length
      ? `from ${withUnit(Math.min(...known))} to ${withUnit(Math.max(...known))} in the last 15 minutes`
      : 'no values in the last 15 minutes';
    const now = isNumber(latest) ? `now ${withUnit(latest)}` : 'not known now';
    setAttribute(element.querySelector('svg'), 'aria-label', `${of}, ${title.toLowerCase()}: ${now}, ${range}`);
    const { line, area } = paths(values, most);
    setAttribute(element.querySelector('.line'), 'd', line);
    setAttribute(element.querySelector('.area'), 'd', unit ? area : '');
  });
}

// Where a value is unknown the line is interrupted.
function paths(values, most) {
  const end = history.times.at(-1) ?? 0;
  const runs = [];
  let previous = null;
  values.forEach((value, index) => {
    if (isNumber(value)) {
      const x = 180 * (1 - (end - history.times[index]) / SPAN_MS);
      const point = `${x.toFixed(1)} ${(100 - 100 * Math.max(0, Math.min(1, value / most))).toFixed(1)}`;
      if (isNumber(previous)) runs.at(-1).push(point);
      else runs.push([point]);
    }
    previous = value;
  });
  const first = (run) => run[0].split(' ')[0];
  const last = (run) => run.at(-1).split(' ')[0];
  return {
    // `h0` makes a dot of a single point.
    line: runs.map((run) => `M${run.join('L')}h0`).join(''),
    area: runs.map((run) => `M${first(run)} 100L${run.join('L')}L${last(run)} 100Z`).join(''),
  };
}

// ---- Configuration ----

async function showConfiguration() {
  if (!byId('config').open) return;
  const answer = await fetch('/config').catch(() => null);
  if (!answer?.ok) return;
  const options = (await answer.json()).filter((option) => option.value !== null);
  list(byId('options'), 'option', options, fill);
}

// ---- The connection ----

function showStatus() {
  const running = (Date.now() - Date.parse(status.started)) / 1000;
  setText(byId('about'), `version ${status.version}, running for ${wholeSeconds(Math.max(0, Math.floor(running)))}`);
  for (const show of [showFacts, showQueues, showParts, showLetters]) show(status);
}

function connect() {
  source?.close();
  if (document.hidden) return;
  source = new EventSource('/events');
  heard = Date.now();
  source.addEventListener('status', (event) => {
    const isNew = lostSince !== null || status === null;
    status = JSON.parse(event.data);
    heard = Date.now();
    lostSince = null;
    refused = false;
    showHeadline();
    showStatus();
    showPlots();
    // A bridge that has come back may have another configuration.
    if (isNew) showConfiguration();
  });
  source.addEventListener('history', (event) => {
    history = JSON.parse(event.data);
    showPlots();
  });
  source.addEventListener('error', () => {
    // The browser tries again by itself, unless the answer was no stream.
    refused = source.readyState === EventSource.CLOSED;
    lose();
    if (refused) setTimeout(connect, RETRY_MS);
  });
}

function lose() {
  lostSince ??= new Date();
  showHeadline();
}

setInterval(() => {
  if (document.hidden || refused || Date.now() - heard < SILENT_MS) return;
  lose();
  // Otherwise the browser is trying already.
  if (source.readyState === EventSource.OPEN) connect();
}, 1000);

// A page that nobody sees holds no connection.
document.addEventListener('visibilitychange', connect);
byId('config').addEventListener('toggle', showConfiguration);
connect();
