/**
 * The looks of a room: its head, its messages, and the field to write in.
 * @module
 */

export const PANE = `
:host { display: block; height: 32rem; min-width: 0; min-height: 0; color: var(--text); text-align: start; }
:host([hidden]) { display: none; }
:host([theme="light"]) { color-scheme: light; }
:host([theme="dark"]) { color-scheme: dark; }
:host([theme="auto"]) { color-scheme: light dark; }

/* Pane */

.pane { container-type: inline-size; position: relative; height: 100%; transition: border-color 150ms; }
.others, .log { position: relative; } /* parts for screen readers alone stay within them */
.pane[data-slot="a"] { --own: var(--a); --own-fill: var(--a-fill); --own-soft: var(--a-soft); }
.pane[data-slot="b"] { --own: var(--b); --own-fill: var(--b-fill); --own-soft: var(--b-soft); }
.pane[data-slot].attended { border-color: color-mix(in srgb, var(--own) 55%, var(--line)); }
.pane :focus-visible { outline-color: var(--own); }
.pane-head { display: flex; align-items: center; gap: 10px; min-height: 58px; padding: 8px 12px; border-bottom: 1px solid var(--line); }
.pane-title { flex: 1; min-width: 0; }
.pane-names { display: flex; align-items: baseline; gap: 10px; min-width: 0; }
.pane-names h2 { flex: 0 0 auto; max-width: 55%; }
.pane-title h2, .pane-room, .others span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }

.pane-room {
  display: block;
  max-width: 100%;
  margin-left: -5px;
  padding: 0 5px;
  border: 0;
  border-radius: 6px;
  background: none;
  color: var(--muted);
  font-size: 13.5px;
  text-align: start;
}

h2.pane-room { width: fit-content; margin: 0; padding: 0; color: var(--text); font-size: 15px; }
button.pane-room:hover { background: var(--hover); color: var(--text); }
.others { display: flex; flex: 1 100 auto; gap: 9px; min-width: 0; overflow: hidden; color: var(--muted); font-size: 12.5px; }
.others > span { flex: 0 1 auto; min-width: 5ch; max-width: 14ch; }
.others .more { flex: none; }
.others:empty { display: none; }
.pane .button.primary { background: var(--own-fill); }

.state {
  display: inline-flex;
  align-items: center;
  gap: 6px;
  padding: 3px 10px;
  border-radius: 20px;
  background: var(--warn-soft);
  color: var(--warn);
  font-size: 12.5px;
  font-weight: 600;
  white-space: nowrap;
  font-variant-numeric: tabular-nums;
}

.state::before { content: ""; width: 7px; height: 7px; border-radius: 50%; background: currentColor; }
.state[data-state="live"] { background: var(--good-soft); color: var(--good); }
.state[data-state="paused"], .state[data-state="closed"] { background: var(--bad-soft); color: var(--bad); }
.state:is([data-state="connecting"], [data-state="waiting"], [data-state="syncing"])::before { animation: pulse 900ms infinite alternate; }

@keyframes pulse { to { opacity: 0.25; } }

.notice { display: flex; align-items: center; gap: 10px; padding: 9px 12px 9px 16px; border-bottom: 1px solid var(--line); background: var(--warn-soft); font-size: 13.5px; }
.notice p { flex: 1; min-width: 0; overflow-wrap: anywhere; }
.next-try { color: var(--warn); font-weight: 600; white-space: nowrap; font-variant-numeric: tabular-nums; }

@container (max-width: 420px) { .cut-label { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); } }

/* Timeline */

.timeline { position: relative; flex: 1; min-height: 0; }
.log { display: flex; flex-direction: column; height: 100%; padding: 14px 14px 6px; overflow-y: auto; overflow-anchor: none; overscroll-behavior: contain; scrollbar-width: thin; }
.messages { display: block; } /* not a flex box, which would look at each message whenever one of them grows */
.note span { overflow-wrap: anywhere; }
.log > * { flex: none; }
.history-end { min-height: 1px; margin-top: auto; text-align: center; font-size: 13px; }
.beginning { color: var(--muted); font-size: 13.5px; text-align: center; }
.beginning { padding: 4px 12px 12px; }

.message { position: relative; display: flex; align-items: flex-end; gap: 8px; max-width: 100%; margin-top: 12px; outline: 0; }
.message:has(> .reactions:not([hidden])) { flex-wrap: wrap; }
.message.grouped { margin-top: 3px; }
.message.own { flex-direction: row-reverse; }
.message .avatar { width: 26px; height: 26px; font-size: 11.5px; }
.message.grouped .avatar { visibility: hidden; }
.message.grouped .sender { display: none; }

.bubble {
  max-width: min(84%, 46ch);
  padding: 7px 12px 5px;
  border-radius: 16px 16px 16px 5px;
  background: var(--raised);
  overflow-wrap: anywhere;
}

.own .bubble { border-radius: 16px 16px 5px 16px; background: var(--own-fill); color: var(--on-own); }
.message:focus .bubble { outline: 2px solid var(--own); outline-offset: 2px; }
.sender { overflow: hidden; color: var(--muted); font-size: 12.5px; font-weight: 600; text-overflow: ellipsis; white-space: nowrap; }
.message[data-slot="a"] .sender { color: var(--a); }
.message[data-slot="b"] .sender { color: var(--b); }
.content { white-space: pre-wrap; }
.link { color: inherit; text-decoration: underline; text-decoration-color: color-mix(in srgb, currentColor 55%, transparent); text-underline-offset: 2px; unicode-bidi: isolate; }
.mention { border-radius: 4px; font-weight: 600; }
mark.mention { padding: 0 3px; background: var(--warn-soft); color: var(--warn); }
.called .bubble { box-shadow: inset 3px 0 var(--warn); }
.called-mark { color: var(--warn); font-weight: 700; }
.link:hover { text-decoration-color: currentColor; }
.bubble :focus-visible { outline-color: currentColor; border-radius: 3px; }
.unfold { margin: 4px 0 2px; padding: 2px 8px; border: 1px solid currentColor; border-radius: 8px; background: none; font-size: 12.5px; font-weight: 600; }
.seq { margin-inline-end: auto; padding-inline-end: 6px; }
.pane :is(time, .day span, .note span, .typing, .empty, .beginning, .pins summary span) { unicode-bidi: plaintext; } /* English in a page from right to left */
.pane:not([data-slot]) :is(.seq, .state[data-state="live"]) { display: none; }
.meta { display: flex; align-items: center; justify-content: flex-end; gap: 5px; margin-top: 1px; color: var(--muted); font-size: 11.5px; font-variant-numeric: tabular-nums; }
.own .meta { color: var(--on-own); }
.meta .icon { width: 15px; height: 15px; stroke-width: 1.9; }
.message[data-streamed] .meta { min-height: 24px; flex-wrap: wrap; }
.growing { min-height: 1.45em; }
.growing .block { display: block; }
.growing:empty::after, .growing .block:last-child::after { content: ""; border-inline-end: 2px solid; margin-inline: 1px -3px; animation: caret 1.1s infinite; }
.no-text { font-style: italic; opacity: 0.85; }
.stream-state { font-weight: 600; }
.stream-reason { min-width: 0; overflow-wrap: anywhere; }
.other .stream-state[data-stream="failed"] { color: var(--bad); }
.other .stream-state[data-stream="cancelled"] { color: var(--warn); }
.stop { display: inline-flex; align-items: center; gap: 3px; min-height: 24px; padding: 0 9px 0 6px; border: 1px solid currentColor; border-radius: 12px; background: none; color: inherit; font-size: 12px; font-weight: 600; }
.stop:hover { background: color-mix(in srgb, currentColor 14%, transparent); }
.pane:not(.may-post) .stop { display: none; }
.mark { display: inline-flex; }
.mark[data-mark="read"] { color: var(--read); }
.gone .bubble { border: 1px dashed var(--line); background: none; color: var(--muted); }
.gone .content { font-size: 14px; font-style: italic; }
.gone.own .meta { color: var(--muted); }
.pending .bubble { border: 1px dashed var(--own); background: var(--own-soft); color: var(--text); }
.pending.own .meta { color: var(--muted); }
.pending .quote { background: rgb(127 127 127 / 14%); }
.failed .bubble { border-color: var(--bad); background: var(--bad-soft); color: var(--bad); }
.failed.own .meta { color: var(--bad); }
.recovered .bubble { animation: recovered 2.4s; }

@keyframes caret { 0%, 55% { opacity: 1; } 65%, 95% { opacity: 0; } }
@keyframes recovered { from { box-shadow: 0 0 0 1.5px var(--warn); } to { box-shadow: 0 0 0 1.5px transparent; } }

.quote {
  display: grid;
  width: 100%;
  margin: 2px 0 4px;
  padding: 4px 8px;
  border: 0;
  border-inline-start: 3px solid currentColor;
  border-radius: 4px 8px 8px 4px;
  background: rgb(127 127 127 / 14%);
  font-size: 13px;
  text-align: start;
}

.own .quote { background: rgb(255 255 255 / 8%); } /* more would take too much contrast from bob's */
.quote b { font-weight: 600; }
.quote span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }

.tools {
  position: absolute;
  top: -15px;
  inset-inline-end: 4px;
  z-index: 1;
  display: flex;
  padding: 1px;
  border: 1px solid var(--line);
  border-radius: 10px;
  background: var(--surface);
  box-shadow: var(--shadow);
  opacity: 0;
  transition: opacity 100ms;
}

.own .tools { inset-inline: 4px auto; }
.failed .tools { position: static; align-self: center; }
.message:hover .tools, .message:focus-within .tools, .failed .tools { opacity: 1; }
.tools .icon-button { min-width: 28px; height: 28px; padding: 0 5px; }
.tools .icon { width: 16px; height: 16px; }

/* Pins and threads */

.pane:not(.may-pin) .pin-button { display: none; }
.pinned { display: inline-flex; }
.pins { flex: none; border-bottom: 1px solid var(--line); background: var(--raised); font-size: 13.5px; }
.pins summary { display: flex; align-items: center; gap: 8px; padding: 7px 16px; cursor: pointer; font-weight: 600; list-style: none; }
.pins summary:focus-visible { outline-offset: -3px; }
.pins .icon { width: 16px; height: 16px; }
.pin-list { max-height: 32vh; padding: 0 12px 8px; overflow-y: auto; }
.pin { display: flex; align-items: center; gap: 6px; }
.pin .quote { flex: 1; width: 0; color: inherit; }
.thread-link { display: flex; align-items: center; gap: 5px; width: 100%; margin: 3px 0 1px; padding: 3px 0; border: 0; border-top: 1px solid color-mix(in srgb, currentColor 25%, transparent); background: none; color: inherit; font-size: 13px; font-weight: 600; }
.thread-link:hover { text-decoration: underline; }
.thread-link .icon { width: 15px; height: 15px; }
.thread .thread-link, .thread .tools [title="Thread"] { display: none; }
.thread { display: flex; flex: 1; flex-direction: column; min-height: 0; }
.thread-head { display: flex; align-items: center; gap: 8px; padding: 4px 8px 4px 16px; border-bottom: 1px solid var(--line); background: var(--own-soft); }
.thread-head h3 { flex: 1; margin: 0; font-size: 14px; font-weight: 650; }

/* Reactions */

.reactions { display: flex; flex: 0 0 100%; flex-wrap: wrap; gap: 4px; margin: -4px 0 2px; padding-inline-start: 34px; }
.own .reactions { justify-content: flex-end; padding: 0; }

.reaction {
  display: inline-flex;
  align-items: center;
  gap: 5px;
  min-width: 44px;
  max-width: 170px;
  height: 26px;
  padding: 0 8px;
  border: 1px solid var(--line);
  border-radius: 14px;
  background: var(--surface);
  font-size: 14px;
}

.reaction bdi { overflow: hidden; font-family: var(--emoji); text-overflow: ellipsis; white-space: nowrap; }
.reaction-count { color: var(--muted); font-size: 12.5px; font-weight: 600; font-variant-numeric: tabular-nums; }
.reaction:hover { background: var(--hover); }
.reaction[aria-pressed="true"] { border-color: var(--own); background: var(--own-soft); }
.reaction[aria-pressed="true"] .reaction-count { color: var(--own); }
.emoji-grid { display: grid; grid-template-columns: repeat(6, 1fr); gap: 2px; }
.emoji { min-width: 40px; height: 38px; padding: 0; border: 0; border-radius: 9px; background: none; font: 20px/1 var(--emoji); }
.emoji:is(:hover, :focus-visible) { background: var(--hover); outline-offset: -2px; }
.emoji-other { display: flex; gap: 6px; padding: 6px 2px 2px; }
.emoji-other input { flex: 1; width: 0; height: 30px; padding: 0 10px; border: 1px solid var(--line); border-radius: 9px; background: var(--raised); font-size: 13.5px; }

.report-form { display: grid; gap: 8px; width: min(300px, calc(100vw - 26px)); padding: 6px; font-size: 13.5px; overflow-wrap: anywhere; }
.report-form textarea { width: 100%; padding: 7px 10px; border: 1px solid var(--line); border-radius: 9px; background: var(--raised); font-size: 14px; resize: vertical; }
.report-form .button { justify-self: end; }

.day { display: flex; align-items: center; gap: 12px; margin: 16px 4px 0; padding-bottom: 2px; color: var(--muted); font-size: 12.5px; font-weight: 600; }
.day::before, .day::after { content: ""; flex: 1; height: 1px; background: var(--line); }
.note { margin-top: 12px; padding-bottom: 2px; color: var(--muted); font-size: 12.5px; text-align: center; }
.note.recovery span { display: inline-block; padding: 3px 10px; border-radius: 14px; font-size: 12px; text-wrap: balance; background: var(--good-soft); color: var(--good); font-weight: 600; }

.typing { display: flex; align-items: center; gap: 8px; min-height: 26px; padding-top: 4px; color: var(--muted); font-size: 13px; }
.dots { display: inline-flex; gap: 3px; }
.dots i { width: 6px; height: 6px; border-radius: 50%; background: var(--muted); animation: bounce 1s infinite; }
.dots i:nth-child(2) { animation-delay: 150ms; }
.dots i:nth-child(3) { animation-delay: 300ms; }

@keyframes bounce { 30% { transform: translateY(-4px); } 60% { transform: none; } }

.newer {
  position: absolute;
  bottom: 10px;
  left: 50%;
  display: flex;
  align-items: center;
  gap: 6px;
  padding: 6px 14px;
  border: 0;
  border-radius: 20px;
  background: var(--own-fill);
  color: var(--on-own);
  font-size: 13px;
  font-weight: 600;
  box-shadow: var(--shadow);
  translate: -50%;
}

/* Composer */

.composer { padding: 8px 12px 12px; }
.composer { position: relative; }

.mention-list {
  position: absolute;
  right: 12px;
  bottom: 100%;
  left: 12px;
  z-index: 2;
  max-height: 250px;
  padding: 5px;
  overflow-y: auto;
  border: 1px solid var(--line);
  border-radius: 12px;
  background: var(--surface);
  box-shadow: 0 12px 40px light-dark(rgb(20 25 40 / 22%), rgb(0 0 0 / 55%));
}

.mention-option { display: flex; align-items: center; gap: 9px; padding: 5px 8px; border-radius: 8px; cursor: pointer; }
.mention-option .avatar { width: 24px; height: 24px; font-size: 11px; }
.mention-option .member-name { text-align: left; }
.mention-option small { overflow: hidden; max-width: 45%; color: var(--muted); font-size: 12.5px; text-overflow: ellipsis; white-space: nowrap; }
.mention-option[aria-selected="true"] { background: var(--hover); box-shadow: inset 0 0 0 2px var(--own); }
.composer-row { display: flex; align-items: flex-end; gap: 8px; }

.composer textarea {
  flex: 1;
  min-width: 0;
  min-height: 42px;
  max-height: 160px;
  padding: 9px 14px;
  border: 1px solid var(--line);
  border-radius: 20px;
  background: var(--raised);
  line-height: 1.45;
  resize: none;
}

.composer textarea:focus { border-color: var(--own); outline: 1px solid var(--own); outline-offset: 0; }

.send {
  display: grid;
  place-items: center;
  flex: none;
  width: 42px;
  height: 42px;
  border: 0;
  border-radius: 50%;
  background: var(--own-fill);
  color: var(--on-own);
}

.send:hover { filter: brightness(1.12); }
.send:focus-visible { outline-color: var(--own); }
.hint { display: flex; align-items: center; gap: 8px; margin-bottom: 6px; padding: 2px 2px 2px 12px; border-left: 3px solid var(--own); background: var(--own-soft); border-radius: 6px; font-size: 13px; }
.hint b { flex: none; color: var(--own); }
.hint span { flex: 1; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.obstacle-row { display: flex; align-items: stretch; gap: 6px; }
.obstacle-row .button { margin-bottom: 6px; }
.obstacle { display: flex; flex: 1; align-items: center; justify-content: space-between; gap: 10px; min-width: 0; margin-bottom: 6px; padding: 6px 12px; overflow-wrap: anywhere; border-radius: 10px; background: var(--warn-soft); color: var(--warn); font-size: 13.5px; font-weight: 600; }
.obstacle-left { flex: none; font-variant-numeric: tabular-nums; }
.composer textarea[aria-disabled] { border-style: dashed; background: none; color: var(--muted); cursor: not-allowed; }
.composer textarea[aria-disabled]:focus { border-color: var(--muted); outline-color: var(--muted); }
.send:disabled { background: var(--hover); color: var(--muted); cursor: not-allowed; filter: none; }
.outside { display: flex; flex-wrap: wrap; align-items: center; justify-content: center; gap: 10px; padding: 14px; border-top: 1px solid var(--line); font-size: 14px; }

@media (hover: none) {
  .tools { opacity: 0; pointer-events: none; }
  .message:focus-within .tools { opacity: 1; pointer-events: auto; }
}

@container (max-width: 480px) {
  .pane-head .button { padding: 0 8px; }
  .notice { flex-wrap: wrap; }
  .notice p { flex-basis: 100%; }
  .bubble { max-width: 86%; }
}

@media (max-width: 760px) { .composer textarea { font-size: 16px; } } /* with less, phones zoom in */

.pane > .toast { position: absolute; bottom: 76px; width: max-content; max-width: calc(100% - 32px); }
`;
