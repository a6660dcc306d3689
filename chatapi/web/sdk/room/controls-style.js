/**
 * The colours, and the looks of small parts: buttons, menus, pictures. For the shadow root of a room, and for the playground's page around it.
 * A page chooses colours by the variables that begin with `--chatapi`, which docs/web-component.md lists.
 * @module
 */

export const CONTROLS = `
:host { all: initial; color-scheme: inherit; } /* no letter spacing, no capitals of the page around it */

:root, :host {
  --surface: var(--chatapi-surface, light-dark(#ffffff, #14181f));
  --raised: var(--chatapi-raised, light-dark(#f5f6f9, #1b2029));
  --hover: var(--chatapi-hover, light-dark(#e9ecf2, #232a35));
  --line: var(--chatapi-line, light-dark(#dde1e8, #272e3a));
  --text: var(--chatapi-text, light-dark(#161a22, #e8ebf0));
  --muted: var(--chatapi-muted, light-dark(#586071, #98a2b3));
  --own: var(--chatapi-accent, light-dark(#5b4be0, #8f84ff));
  --own-fill: var(--chatapi-accent-fill, var(--chatapi-accent, light-dark(#5b4be0, #5546d6)));
  --own-soft: var(--chatapi-accent-soft, color-mix(in srgb, var(--own) 14%, var(--surface)));
  --on-own: var(--chatapi-on-accent, #fff);
  --good: light-dark(#127a3e, #4ccb83);
  --warn: light-dark(#96600a, #f0b54a);
  --bad: light-dark(#bb2d3b, #ff7b86);
  --good-soft: light-dark(#ddf3e6, #12301f);
  --warn-soft: light-dark(#fbefd7, #362a10);
  --bad-soft: light-dark(#fbe3e5, #3c191d);
  --read: var(--chatapi-read, #9fe0ff);
  --radius: var(--chatapi-radius, 14px);
  --shadow: 0 1px 2px light-dark(rgb(20 25 40 / 6%), rgb(0 0 0 / 40%)), 0 8px 24px light-dark(rgb(20 25 40 / 5%), rgb(0 0 0 / 25%));
  --mono: ui-monospace, "SF Mono", "Cascadia Code", "JetBrains Mono", Menlo, Consolas, monospace;
  --emoji: "Apple Color Emoji", "Segoe UI Emoji", "Noto Color Emoji", system-ui, sans-serif;
  font: var(--chatapi-font, 15px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif);
}

*, *::before, *::after { box-sizing: border-box; }
[hidden] { display: none !important; }

h1, h2, p, ol, ul, fieldset { margin: 0; padding: 0; border: 0; }
ol, ul { list-style: none; }
h2 { font-size: 15px; font-weight: 650; letter-spacing: -0.01em; }
button, input, select, textarea { font: inherit; color: inherit; }
button { cursor: pointer; -webkit-tap-highlight-color: transparent; }
a { color: inherit; }
::placeholder { color: var(--muted); opacity: 1; }
.muted { color: var(--muted); }
.grow { flex: 1; }
.offscreen { position: fixed; top: 0; left: -100vw; }
.sr { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }

:focus-visible { outline: 2px solid var(--own); outline-offset: 2px; }
.log:focus-visible, .frame-list:focus-visible { outline-offset: -3px; }

.icon {
  width: 18px;
  height: 18px;
  flex: none;
  fill: none;
  stroke: currentColor;
  stroke-width: 1.6;
  stroke-linecap: round;
  stroke-linejoin: round;
}

.icon[data-icon="stop"] path { fill: currentColor; }
.icon[data-icon="more"] path { stroke-width: 2.6; }

/* Controls */

.icon-button {
  display: inline-flex;
  align-items: center;
  justify-content: center;
  gap: 4px;
  min-width: 34px;
  height: 34px;
  padding: 0 8px;
  border: 0;
  border-radius: 9px;
  background: none;
  color: var(--muted);
}

.icon-button:hover { background: var(--hover); color: var(--text); }

.button {
  display: inline-flex;
  align-items: center;
  justify-content: center;
  gap: 6px;
  min-height: 38px;
  padding: 0 16px;
  border: 1px solid var(--line);
  border-radius: 10px;
  background: var(--surface);
  font-weight: 550;
  text-decoration: none;
  white-space: nowrap;
}

.button:hover { background: var(--hover); }
.button.primary { border-color: transparent; background: var(--own-fill); color: var(--on-own); }
.button.primary:hover { filter: brightness(1.1); }
.button.small { min-height: 30px; padding: 0 10px; font-size: 13px; }
.text-button { padding: 0; border: 0; background: none; color: inherit; font-weight: 600; text-decoration: underline; text-underline-offset: 2px; }
.button.small .icon { width: 15px; height: 15px; }

.badge {
  display: inline-block;
  min-width: 20px;
  padding: 0 6px;
  border-radius: 10px;
  background: var(--hover);
  color: var(--muted);
  font-size: 12px;
  font-weight: 600;
  line-height: 20px;
  text-align: center;
  font-variant-numeric: tabular-nums;
}

.badge[data-slot="a"], [data-slot="a"] > .pane-head .badge { background: var(--a-fill); color: #fff; }
.badge[data-slot="b"], [data-slot="b"] > .pane-head .badge { background: var(--b-fill); color: #fff; }

.avatar {
  display: inline-grid;
  place-items: center;
  flex: none;
  width: 34px;
  height: 34px;
  border-radius: 50%;
  background: hsl(var(--hue, 0) 45% 40%);
  color: #fff;
  font-size: 14px;
  font-weight: 650;
  line-height: 1;
}

.avatar:has(img) { position: relative; overflow: hidden; }
.avatar img { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: cover; background: var(--surface); }
.avatar[data-slot="a"] { background: var(--a-fill); }
.avatar[data-slot="b"] { background: var(--b-fill); }

.presence::before { content: ""; display: inline-block; width: 7px; height: 7px; margin-inline-end: 5px; border-radius: 50%; background: var(--line); box-shadow: inset 0 0 0 1.5px var(--muted); }
.presence[data-online="true"]::before { background: var(--good); box-shadow: none; }

.empty { padding: 24px 12px; color: var(--muted); font-size: 13.5px; text-align: center; }

.panel {
  display: flex;
  flex-direction: column;
  min-width: 0;
  min-height: 0;
  overflow: hidden;
  border: 1px solid var(--line);
  border-radius: var(--radius);
  background: var(--surface);
  box-shadow: var(--shadow);
}

/* Menus */

.menu {
  position: fixed;
  inset: auto;
  min-width: 190px;
  max-width: min(340px, calc(100vw - 8px));
  max-height: 80vh;
  margin: 0;
  padding: 5px;
  overflow-y: auto;
  border: 1px solid var(--line);
  border-radius: 12px;
  background: var(--surface);
  color: var(--text);
  box-shadow: 0 12px 40px light-dark(rgb(20 25 40 / 22%), rgb(0 0 0 / 55%));
}

.menu-item { display: grid; width: 100%; padding: 7px 11px; border: 0; border-radius: 8px; background: none; font-size: 14px; text-align: start; }
.menu-item small { overflow: hidden; color: var(--muted); font: 11.5px/1.4 var(--mono); text-overflow: ellipsis; white-space: nowrap; }
.menu-item:is(:hover, :focus-visible) { background: var(--hover); outline-offset: -2px; }
.menu-item[data-danger] { color: var(--bad); }

/* A text to be copied by hand */

dialog { width: min(460px, calc(100vw - 24px)); padding: 0; border: 1px solid var(--line); border-radius: 18px; background: var(--surface); color: inherit; box-shadow: 0 24px 80px rgb(0 0 0 / 35%); }
dialog::backdrop { background: light-dark(rgb(20 24 34 / 38%), rgb(0 0 0 / 62%)); }
.sheet { display: grid; gap: 16px; padding: 24px; }
.sheet h2 { font-size: 19px; }
.actions { display: flex; justify-content: flex-end; gap: 10px; }
.by-hand { border-radius: 10px; font: 12.5px/1.5 var(--mono); }

.toast { pointer-events: none; position: fixed; bottom: 24px; left: 50%; z-index: 10; max-width: min(560px, calc(100vw - 32px)); padding: 10px 18px; border-radius: 12px; background: light-dark(#1b2029, #e8ebf0); color: light-dark(#fff, #14181f); font-size: 14px; box-shadow: var(--shadow); translate: -50%; }

@media (prefers-reduced-motion: reduce) {
  *, *::before, *::after { animation-duration: 1ms !important; animation-iteration-count: 1 !important; transition: none !important; }
}
`;
