// One stream of server-sent events, and what it has told.

const WAIT_MS = [250, 500, 1000, 2000, 4000];

export class Stream {
  // onFrame(changed: names of parts, frame), onState(live | waiting | lost)
  constructor(onFrame, onState) {
    this.onFrame = onFrame;
    this.onState = onState;
    this.parts = {};
    this.rings = {};
    this.failures = 0;
  }

  open(view, query) {
    this.close();
    this.address = `/stream/${view}?${new URLSearchParams(query)}`;
    this.failures = 0;
    this.connect(true);
  }

  connect(isFresh) {
    this.isFresh = isFresh;
    this.events = new EventSource(this.address);
    this.events.onmessage = event => this.take(JSON.parse(event.data));
    this.events.onopen = () => { this.failures = 0; this.onState("live"); };
    // The browser would come back by itself after a lost connection, but not after a refusal.
    this.events.onerror = () => {
      this.events.close();
      this.onState("lost");
      const wait = WAIT_MS[Math.min(this.failures++, WAIT_MS.length - 1)];
      this.timer = setTimeout(() => this.connect(false), wait);
      // A page that was started again does not know who had logged in.
      if (this.failures === 3) fetch("/catalogue.json").then(answer => { if (answer.status === 401) location.reload(); }, () => {});
    };
    if (isFresh) this.onState("waiting");
  }

  take(frame) {
    // A part that this view does not have any more is gone with the first frame.
    if (frame.is_new) {
      this.parts = {};
      this.rings = frame.rings ?? this.rings;
    }
    const changed = new Set();
    for (const [name, told] of Object.entries(frame.parts)) {
      changed.add(name);
      const limit = this.rings[name];
      this.parts[name] = limit ? (this.parts[name] ?? []).concat(told).slice(-limit) : told;
    }
    this.onFrame(changed, frame);
  }

  close() {
    clearTimeout(this.timer);
    this.events?.close();
    this.events = null;
  }
}
